//! The whole road from files to sequences, and what the tests of several modules share.

use super::batcher::{Batcher, Next, Sequences, Settings};
use super::files::FileSource;
use super::tokenizer::learn::{Learner, train};
use super::tokenizer::{Encoder, Tokenizer};
use super::{CHUNK_BYTES, Chunk, Source, Span, Token, TokenChunk};

/// Files with bad bytes on both sides of each chunk's border, with and without a space near it.
fn texts_with_bad_borders() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (filler, bad) in [
        (&b"word "[..], &b"\xE2\x82"[..]),
        (b"x", b"\xF0\x9F\x98"),
        (b"\xE4\xB8\xAD", b"\x80\xFF"),
        (b" \r\n", b"\xC3"),
        (b"a \xC2\xA0 b", b"\xED\xA0\x80"),
    ] {
        let mut text: Vec<u8> =
            filler.iter().copied().cycle().take(3 * CHUNK_BYTES - 100).collect();
        for border in [65_536, CHUNK_BYTES, 2 * CHUNK_BYTES] {
            for (at, &byte) in (border - 20..border + 20).zip(bad.iter().cycle()) {
                text[at] = byte;
            }
        }
        all.push(text);
    }
    all
}

/// Each file in a chunk of its own, however large.
fn whole(texts: &[Vec<u8>]) -> Vec<Chunk> {
    let chunk = |(index, bytes): (usize, &Vec<u8>)| {
        let (index, range) = (index as u64, 0..bytes.len());
        let span = Span { document: index, range, offset: 0, ends_document: true, bits: 0.0 };
        Chunk { index, bytes: bytes.clone(), spans: vec![span], ends_pass: false }
    };
    texts.iter().enumerate().map(chunk).collect()
}

fn tokens_of(tokenizer: &Tokenizer, chunks: &[Chunk]) -> (Vec<Token>, u64) {
    let (mut encoder, mut out, mut all, mut bad) =
        (Encoder::default(), TokenChunk::default(), Vec::new(), 0);
    for chunk in chunks {
        tokenizer.encode(chunk, &mut encoder, &mut out);
        all.extend_from_slice(&out.tokens);
        bad += out.invalid.iter().map(|invalid| invalid.count).sum::<u64>();
    }
    (all, bad)
}

#[test]
fn a_file_that_was_cut_gives_the_tokens_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let texts = texts_with_bad_borders();
    for (number, text) in texts.iter().enumerate() {
        std::fs::write(folder.path().join(number.to_string()), text).unwrap();
    }
    let mut source = FileSource::new([folder.path()]).unwrap();
    let mut chunks = vec![Chunk::default()];
    while source.fill(chunks.last_mut().unwrap()).unwrap() {
        chunks.push(Chunk::default());
    }
    assert!(chunks.len() > 12);
    for spec in ["bpe:270", "words:20"] {
        let mut learner = Learner::new(spec.parse().unwrap());
        chunks.iter().for_each(|chunk| drop(learner.learn(chunk)));
        let tokenizer = train(vec![learner]).tokenizer;
        let expected = tokens_of(&tokenizer, &whole(&texts));
        assert!(expected.1 > 100, "the bad parts are counted");
        assert!(tokens_of(&tokenizer, &chunks) == expected, "{spec}");
    }
}

/// The least that is enough: as many tokens as two sequences have targets.
#[test]
fn fifteen_bytes_make_a_training_and_a_validation_sequence_of_eight_and_fourteen_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (vocab, end_of_document) = (257, 256);
    let settings = Settings { context: 8, window: 4, seed: 0, vocab, end_of_document };
    let batched = |text: &str| {
        std::fs::write(folder.path().join("text"), text).unwrap();
        let mut source = FileSource::new([folder.path()]).unwrap();
        let (mut chunk, mut tokens) = (Chunk::default(), TokenChunk::default());
        assert!(source.fill(&mut chunk).unwrap());
        Tokenizer::Bytes.encode(&chunk, &mut Encoder::default(), &mut tokens);
        let mut batcher = Batcher::new(settings).unwrap();
        batcher.push(&tokens);
        batcher
    };
    assert!(batched("abcdefghijklmn").finish().is_err());
    let mut batcher = batched("abcdefghijklmno");
    let mut out = Sequences::new(8, 2);
    assert_eq!(batcher.next(&mut out), Next::NeedMore);
    batcher.finish().unwrap();
    assert_eq!(batcher.next(&mut out), Next::Ready);
    assert_eq!((out.trained_targets(), batcher.validation_totals().tokens), (15, 1));
}

/// A small generator, so that a failing case comes again.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// A number below `n`; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}

/// About `len` bytes of text with what trips tokenizers: spaces of all kinds, apostrophes, numbers,
/// CJK, combining marks, emoji, CRLF, and now and then the spelling of a special token.
pub(crate) fn nasty_text(rng: &mut Rng, len: usize) -> String {
    const PARTS: &[&str] = &[
        " ",
        " ",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u{b}",
        "\u{c}",
        "\u{85}",
        "\u{a0}",
        "\u{3000}",
        "\u{2028}",
        "\u{1680}",
        "'s",
        "'t",
        "'re",
        "'ve",
        "'m",
        "'ll",
        "'d",
        "'S",
        "'",
        "’",
        "don't",
        "the",
        "The",
        "quick",
        "a",
        "b",
        "Straße",
        "ΣΑΣ",
        "İ",
        "é",
        "e\u{301}",
        "\u{301}",
        "中文字",
        "日本",
        "。",
        "1",
        "23",
        "½",
        "Ⅷ",
        "٣",
        "x1y2",
        "!",
        "...",
        "_",
        "-",
        "😀",
        "\u{200d}",
        "\u{feff}",
        "<|endoftext|>",
        "[UNK]",
        "\u{1c}",
        "\u{180e}",
        "ǅ",
        "ʰ",
        "ª",
        "²",
    ];
    let mut text = String::new();
    while text.len() < len {
        text.push_str(PARTS[rng.below(PARTS.len())]);
    }
    text
}
