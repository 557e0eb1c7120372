use super::learn::{Learner, PieceChunk, train};
use super::*;
use crate::corpus::Span;
use crate::corpus::tests::{Rng, nasty_text};

/// The documents in chunks, each cut at random where [`runs::cut`] allows.
fn chunks(documents: &[Vec<u8>], rng: &mut Rng) -> Vec<Chunk> {
    let mut out = vec![Chunk::default()];
    for (number, document) in documents.iter().enumerate() {
        let mut at = 0;
        while at < document.len() {
            if rng.below(2) == 0 {
                out.push(Chunk { index: out.len() as u64, ..Chunk::default() });
            }
            let window = (66_000 + rng.below(200_000)).min(document.len() - at);
            let window = if rng.below(2) == 0 { window } else { window.min(300) };
            let last = at + window == document.len();
            let taken = match runs::cut(&document[at..at + window], last) {
                0 => continue,
                taken => taken,
            };
            let chunk = out.last_mut().unwrap();
            let start = chunk.bytes.len();
            chunk.bytes.extend(&document[at..at + taken]);
            chunk.spans.push(Span {
                document: number as u64,
                range: start..start + taken,
                offset: at as u64,
                ends_document: last,
                bits: taken as f64,
            });
            at += taken;
        }
    }
    out
}

/// The tokens of each (document, unit) with its bytes, and the invalid parts of each document.
type Whole = (Vec<(u64, u64, Vec<Token>, u64)>, Vec<(u64, u64, u64)>);

fn whole(chunks: &[TokenChunk]) -> Whole {
    let (mut units, mut invalid) = (Vec::<(u64, u64, Vec<Token>, u64)>::new(), Vec::new());
    for (index, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.index, index as u64);
        let mut at = 0;
        for span in &chunk.spans {
            assert_eq!(span.range.start, at);
            at = span.range.end;
            let same = |u: &&mut (u64, u64, _, _)| (u.0, u.1) == (span.document, span.unit);
            let tokens = &chunk.tokens[span.range.clone()];
            match units.last_mut().filter(same) {
                Some(unit) => {
                    unit.2.extend(tokens);
                    unit.3 += span.bytes;
                }
                None => units.push((span.document, span.unit, tokens.to_vec(), span.bytes)),
            }
        }
        assert_eq!(at, chunk.tokens.len());
        for bad in &chunk.invalid {
            match invalid.last_mut() {
                Some((document, _, count)) if *document == bad.document => *count += bad.count,
                _ => invalid.push((bad.document, bad.offset, bad.count)),
            }
        }
    }
    (units, invalid)
}

/// Text of all kinds, long lines, blocks of space, bytes that are no text, and hardly anything.
fn documents(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..20).map(|i| nasty_text(rng, i * i * 20).into()).collect();
    all.retain(|document| !document.is_empty());
    all.extend([b"ab".to_vec(), b" ".to_vec(), vec![b' '; 150_000], vec![b'\n'; 70_001]]);
    all.push("中文字符".repeat(30_000).into());
    all.push(format!("a{}", "e\u{301}\u{302}".repeat(30_000)).into());
    all.push("line one\r\nline two\r\n".repeat(9_000).into());
    all.push((0..200_000).map(|_| rng.below(256) as u8).collect());
    let mut mixed = nasty_text(rng, 100_000).into_bytes();
    for _ in 0..200 {
        let at = rng.below(mixed.len());
        mixed[at] = rng.below(256) as u8;
    }
    all.push(mixed);
    all.push((0..300_000).map(|_| b'a' + rng.below(4) as u8).collect());
    all
}

fn learned(spec: &str, chunks: &[Chunk], workers: usize, rng: &mut Rng) -> (Tokenizer, Whole) {
    let spec: TokenizerSpec = spec.parse().unwrap();
    let mut learners: Vec<Learner> = (0..workers).map(|_| Learner::new(spec.clone())).collect();
    let mut kept: Vec<(usize, PieceChunk)> = Vec::new();
    for chunk in chunks {
        let worker = rng.below(workers);
        kept.push((worker, learners[worker].learn(chunk)));
    }
    let trained = train(learners);
    let expand = |(worker, chunk): &(usize, PieceChunk)| {
        let mut out = TokenChunk::default();
        trained.expansions[*worker].expand(chunk, &mut out);
        out
    };
    let out = whole(&kept.iter().map(expand).collect::<Vec<_>>());
    (trained.tokenizer, out)
}

fn encoded(tokenizer: &Tokenizer, chunks: &[Chunk]) -> Whole {
    let mut encoder = Encoder::default();
    let encode = |chunk| {
        let mut out = TokenChunk::default();
        tokenizer.encode(chunk, &mut encoder, &mut out);
        out
    };
    whole(&chunks.iter().map(encode).collect::<Vec<_>>())
}

#[test]
fn tokens_do_not_depend_on_the_chunks_the_workers_or_the_way() {
    let mut rng = Rng(31);
    let documents = documents(&mut rng);
    for spec in ["bpe:600", "words:300"] {
        let first = chunks(&documents, &mut rng);
        let (tokenizer, expected) = learned(spec, &first, 1, &mut rng);
        let vocab = tokenizer.to_json();
        for workers in [1, 2, 5] {
            let chunks = chunks(&documents, &mut rng);
            let (tokenizer, tokens) = learned(spec, &chunks, workers, &mut rng);
            assert!(tokenizer.to_json() == vocab, "{spec} {workers}");
            assert!(tokens == expected, "{spec} {workers}: the expanded pieces");
            assert!(encoded(&tokenizer, &chunks) == expected, "{spec} {workers}: encoded live");
        }
        let replaced = expected.1.iter().map(|bad| bad.2).sum::<u64>();
        assert!(replaced > 1000);
    }
    let expected = encoded(&Tokenizer::Bytes, &chunks(&documents, &mut rng));
    assert!(encoded(&Tokenizer::Bytes, &chunks(&documents, &mut rng)) == expected);
    assert!(expected.1.is_empty(), "bytes are taken as they are");
    let text: Vec<Token> = expected.0.iter().flat_map(|unit| unit.2.clone()).collect();
    let end =
        |d: &Vec<u8>| [&d.iter().map(|&b| Token::from(b)).collect::<Vec<_>>()[..], &[256]].concat();
    assert_eq!(text, documents.iter().flat_map(end).collect::<Vec<_>>());
}

#[test]
fn the_unit_of_text_is_about_32_kib_and_bits_go_with_bytes() {
    let document = "word ".repeat(20_000).into_bytes();
    let chunks = chunks(&[document], &mut Rng(0));
    let (units, _) = encoded(&Tokenizer::Bytes, &chunks);
    let found: Vec<(u64, u64)> = units.iter().map(|unit| (unit.1, unit.3)).collect();
    // Runs begin at 4, 9, 14, …: the first from 32768 on is at 32769, from 65536 on at 65539.
    assert_eq!(found, [(0, 32_769), (1, 32_770), (2, 32_765), (3, 1_696)]);
    let mut out = TokenChunk::default();
    for chunk in &chunks {
        Tokenizer::Bytes.encode(chunk, &mut Encoder::default(), &mut out);
        let off = |span: &TokenSpan| (span.bits - span.bytes as f64).abs() > 1e-6;
        assert!(!out.spans.iter().any(off), "here a byte is a bit");
    }
}

fn trained_on(spec: &str, text: &str) -> Tokenizer {
    let chunks = chunks(&[text.as_bytes().to_vec()], &mut Rng(0));
    learned(spec, &chunks, 1, &mut Rng(0)).0
}

#[test]
fn decoding_gives_back_valid_text() {
    let mut rng = Rng(5);
    let bpe = trained_on("bpe:500", &nasty_text(&mut rng, 50_000));
    let mut encoder = Encoder::default();
    for _ in 0..300 {
        let text = nasty_text(&mut rng, 300);
        for tokenizer in [&bpe, &Tokenizer::Bytes] {
            let tokens = tokenizer.encode_text(&text, &mut Encoder::default());
            assert_eq!(tokenizer.decode_to_string(&tokens), text);
        }
        // A cache that has seen other text gives the same.
        let tokens = bpe.encode_text(&text, &mut encoder);
        assert_eq!(tokens, bpe.encode_text(&text, &mut Encoder::default()));
        assert!(!tokens.contains(&bpe.end_of_document()));
    }
}

/// Merges by the definition: the pair of lowest rank, leftmost, over and over.
fn merged_plainly(bpe: &Bpe, piece: &[u8]) -> Vec<Token> {
    let token = |b: &u8| Token::from(bpe::BYTE_TOKEN[usize::from(*b)]);
    let mut tokens: Vec<Token> = piece.iter().map(token).collect();
    for &(left, right) in bpe.merges() {
        let spelled = [bpe.token_bytes(left), bpe.token_bytes(right)].concat();
        let merged = (0..bpe.end_of_document()).find(|&t| bpe.token_bytes(t) == spelled).unwrap();
        let mut at = 0;
        while at + 1 < tokens.len() {
            if (tokens[at], tokens[at + 1]) == (left, right) {
                tokens.splice(at..at + 2, [merged]);
            }
            at += 1;
        }
    }
    tokens
}

#[test]
fn short_and_long_pieces_are_merged_by_rank() {
    let mut rng = Rng(6);
    let letters =
        |rng: &mut Rng, n| (0..n).map(|_| ['a', 'b', 'c'][rng.below(3)]).collect::<String>();
    let corpus: Vec<String> = (0..400).map(|_| letters(&mut rng, 12)).collect();
    let Tokenizer::Bpe(bpe) = trained_on("bpe:400", &corpus.join(" ")) else { unreachable!() };
    let mut scratch = merge::Long::default();
    for length in (1..120).chain([500, 2000]) {
        let piece = letters(&mut rng, length);
        let mut tokens = Vec::new();
        bpe.encode_piece(piece.as_bytes(), &mut scratch, &mut tokens);
        assert_eq!(tokens, merged_plainly(&bpe, piece.as_bytes()), "{piece}");
    }
    let mut tokens = Vec::new();
    bpe.encode_piece(&[b'a'; 777], &mut scratch, &mut tokens);
    assert_eq!(tokens, merged_plainly(&bpe, &[b'a'; 777]));
}

#[test]
fn a_vocabulary_has_the_size_asked_for_or_what_the_corpus_gives() {
    let text = nasty_text(&mut Rng(1), 100_000);
    assert_eq!(trained_on("bpe:300", &text).vocab(), 300);
    assert_eq!(trained_on("bpe:257", &text).vocab(), 257);
    assert_eq!(trained_on("words:50", &text).vocab(), 50);
    assert_eq!(trained_on("bpe:300", "to be to be").vocab(), 260);
    assert_eq!(trained_on("words:50", "To be TO be not").vocab(), 8);
    assert_eq!(trained_on("bpe:300", "").vocab(), 257);
}

#[test]
fn words_are_lower_cased_and_ordered_by_frequency() {
    let words = trained_on("words:8", "b a\u{3000}B c a\nA d ΣΑΣ");
    let names: Vec<String> = (0..8).map(|t| words.decode_to_string(&[t])).collect();
    assert_eq!(names, ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "a", "b", "c"]);
    let tokens = words.encode_text("C  a\td [eos]", &mut Encoder::default());
    assert_eq!(tokens, [7, 5, 1, 1]);
    assert_eq!(words.decode_to_string(&tokens), "c a [UNK] [UNK]");
    assert_eq!(words.end_of_document(), 3);
    let sigma = trained_on("words:8", "ΣΑΣ");
    assert_eq!(sigma.decode_to_string(&[5]), "σασ");
}

#[test]
fn a_wrong_tokenizer_is_refused_with_the_range() {
    for text in ["", "byte", "bytes:3", "bpe", "bpe:", "bpe:256", "bpe:-1", "bpe:+300", "words:5"] {
        let error = text.parse::<TokenizerSpec>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("--tokenizer {text} is not possible")), "{error}");
        assert!(error.contains("bpe:N with N from 257 to 1000000"), "{error}");
    }
    for text in ["bytes", "words:6", "bpe:1000000"] {
        assert_eq!(text.parse::<TokenizerSpec>().unwrap().to_string(), text);
    }
}

/// 20 MB without a space: blocks bound the memory, and the time stays linear: seconds, where the
/// square of the length would take days.
#[test]
fn one_long_line_takes_time_in_proportion() {
    let mut rng = Rng(2);
    let line: Vec<u8> = (0..20_000_000).map(|_| b'a' + rng.below(20) as u8).collect();
    let chunks = chunks(&[line], &mut rng);
    let start = std::time::Instant::now();
    let (tokenizer, (units, _)) = learned("bpe:300", &chunks, 1, &mut rng);
    assert_eq!(tokenizer.vocab(), 300);
    assert_eq!(units.iter().map(|unit| unit.3).sum::<u64>(), 20_000_000);
    assert!(start.elapsed().as_secs() < 3_600, "{:?}", start.elapsed());
}
