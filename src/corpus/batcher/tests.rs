use std::collections::BTreeMap;

use super::*;
use crate::corpus::tests::Rng;

const END: Token = 0;

fn settings(context: usize, window: usize, seed: u64) -> Settings {
    Settings { context, window, seed, vocab: 1 << 20, end_of_document: END }
}

/// Documents of these lengths, each token different, each document closed by END, cut into spans and
/// chunks at random. A document of more than 50 tokens has units of 50.
fn chunks(lengths: &[usize], rng: &mut Rng) -> Vec<TokenChunk> {
    let (mut out, mut next) = (vec![TokenChunk::default()], 1);
    for (document, &length) in lengths.iter().enumerate() {
        let mut at = 0;
        loop {
            let unit = at / 50;
            let part = (1 + rng.below(40)).min(length - at).min(50 * (unit + 1) - at);
            at += part;
            if rng.below(3) == 0 {
                out.push(TokenChunk { index: out.len() as u64, ..TokenChunk::default() });
            }
            let chunk = out.last_mut().unwrap();
            let start = chunk.tokens.len();
            chunk.tokens.extend((next..).take(part));
            next += part as Token;
            let ends_document = at == length;
            chunk.tokens.extend(ends_document.then_some(END));
            chunk.spans.push(TokenSpan {
                document: document as u64,
                unit: unit as u64,
                range: start..chunk.tokens.len(),
                ends_document,
                bytes: part as u64,
                bits: part as f64,
            });
            if ends_document {
                break;
            }
        }
    }
    out
}

/// All of the stream's tokens in corpus order, without the opening END.
fn stream(lengths: &[usize]) -> Vec<Token> {
    chunks(lengths, &mut Rng(0)).into_iter().flat_map(|chunk| chunk.tokens).collect()
}

/// Pushes the chunks, draws at random in between, and in the end until `epochs` epochs are through.
fn run(batcher: &mut Batcher, chunks: &[TokenChunk], epochs: u64, rng: &mut Rng) -> Vec<Sequences> {
    let (mut out, mut buffer) = (Vec::new(), Sequences::new(batcher.settings.context, 1));
    let mut take = |batcher: &mut Batcher, n: u64| {
        for _ in 0..n {
            if batcher.next(&mut buffer) == Next::Ready {
                out.push(buffer.clone());
                buffer.clear();
            }
        }
        out.len() as u64
    };
    for chunk in chunks {
        batcher.push(chunk);
        take(batcher, rng.below(5) as u64);
    }
    if batcher.finish().is_ok() {
        let total = batcher.sequences_per_epoch().unwrap() * epochs;
        let drawn = take(batcher, 0);
        assert_eq!(take(batcher, total - drawn), total);
    }
    out
}

/// The pairs of input and target that are trained, in the order in which they come.
fn pairs(sequences: &[Sequences]) -> Vec<(Token, Token)> {
    let all = sequences.iter().flat_map(|s| s.inputs().iter().zip(s.targets()));
    all.filter(|&(_, &target)| target != IGNORE).map(|(&i, &t)| (i, t)).collect()
}

fn neighbours(stream: &[Token]) -> Vec<(Token, Token)> {
    stream.windows(2).map(|w| (w[0], w[1])).collect()
}

fn corpora() -> Vec<Vec<usize>> {
    let mut rng = Rng(77);
    let mut all = vec![vec![], vec![0], vec![1], vec![2], vec![1; 2], vec![3; 30], vec![700]];
    all.push(vec![0; 40]);
    for _ in 0..25 {
        let longest = [3, 20, 400][rng.below(3)];
        let documents = rng.below(60);
        all.push((0..documents).map(|_| rng.below(longest)).collect());
    }
    all
}

#[test]
fn every_token_is_a_target_once_per_epoch_and_the_rest_is_validation() {
    let mut rng = Rng(1);
    for lengths in corpora() {
        for (context, window) in [(1, 1), (2, 3), (7, 1), (8, 1024), (64, 4), (5000, 2)] {
            let mut batcher = Batcher::new(settings(context, window, 9)).unwrap();
            let chunks = chunks(&lengths, &mut rng);
            let sequences = run(&mut batcher, &chunks, 3, &mut rng);
            let train: Vec<Token> = batcher.train.iter().collect();
            let validation: Vec<Token> = batcher.validation.iter().collect();

            let mut expected = stream(&lengths);
            let mut kept = [&train[1..], &validation[1..]].concat();
            expected.sort();
            kept.sort();
            assert_eq!(kept, expected, "{lengths:?}: no token lost or doubled");
            if expected.len() < 2 {
                assert!(sequences.is_empty());
                continue;
            }
            let per_epoch = batcher.sequences_per_epoch().unwrap() as usize;
            assert_eq!(per_epoch, (train.len() - 1).div_ceil(context));
            for (epoch, sequences) in sequences.chunks(per_epoch).enumerate() {
                assert!(sequences.iter().all(|s| s.origins()[0].epoch == epoch as u64));
                let mut found = pairs(sequences);
                let mut expected = neighbours(&train);
                found.sort();
                expected.sort();
                assert_eq!(found, expected, "{lengths:?} {context} {window} epoch {epoch}");
            }
            let mut out = Sequences::new(context, 1 + rng.below(1000));
            let mut found = Vec::new();
            while (found.len() as u64) < batcher.validation_sequences() {
                batcher.validation(found.len() as u64, usize::MAX, &mut out);
                found.extend(out.origins().iter().map(|o| o.sequence));
                out.clear();
            }
            batcher.validation(0, usize::MAX, &mut Sequences::new(context, 0));
            let mut whole = Sequences::new(context, found.len());
            batcher.validation(0, usize::MAX, &mut whole);
            assert_eq!(pairs(&[whole]), neighbours(&validation));
        }
    }
}

#[test]
fn the_order_does_not_depend_on_how_the_tokens_came() {
    for lengths in corpora() {
        let mut runs = Vec::new();
        for way in 0..4 {
            let mut rng = Rng(1000 + way);
            let mut batcher = Batcher::new(settings(6, 5, 4)).unwrap();
            let chunks = chunks(&lengths, &mut rng);
            let sequences = run(&mut batcher, &chunks, 2, &mut rng);
            let origins: Vec<Origin> = sequences.iter().map(|s| s.origins()[0]).collect();
            let totals = (batcher.train_totals(), batcher.validation_totals());
            runs.push((origins, pairs(&sequences), totals));
        }
        assert!(runs.iter().all(|run| *run == runs[0]), "{lengths:?}");
    }
}

#[test]
fn another_seed_and_another_epoch_give_another_order() {
    let lengths = [10; 200];
    let order = |seed| {
        let mut batcher = Batcher::new(settings(4, 64, seed)).unwrap();
        let mut rng = Rng(0);
        let sequences = run(&mut batcher, &chunks(&lengths, &mut rng), 2, &mut rng);
        let order: Vec<u64> = sequences.iter().map(|s| s.origins()[0].sequence).collect();
        let (first, second) = order.split_at(order.len() / 2);
        (first.to_vec(), second.to_vec())
    };
    let (first, second) = order(1);
    assert_ne!(first, second);
    assert_ne!(first, order(2).0);
    assert_eq!(first, order(1).0);
    assert!(!first.is_sorted());
    let early = first.iter().enumerate().all(|(place, &n)| n < place as u64 + 64);
    assert!(early, "no sequence comes more than a window early");
}

#[test]
fn a_window_of_one_keeps_the_order_and_the_last_short_sequence_is_padded() {
    let mut batcher = Batcher::new(settings(4, 1, 0)).unwrap();
    let mut rng = Rng(0);
    let sequences = run(&mut batcher, &chunks(&[2; 6], &mut rng), 1, &mut rng);
    // Unit 5 is validation: five documents of three tokens, in sequences of four.
    assert_eq!(sequences.len(), 4);
    assert_eq!(sequences[0].inputs(), [END, 1, 2, END]);
    assert_eq!(sequences[0].targets(), [1, 2, END, 3]);
    assert_eq!(sequences[3].inputs(), [END, 9, 10, END]);
    assert_eq!(sequences[3].targets(), [9, 10, END, IGNORE]);
    assert_eq!(sequences[3].trained_targets(), 3);
}

#[test]
fn the_first_sequences_come_before_the_last_chunk() {
    let mut rng = Rng(2);
    let chunks = chunks(&[20; 500], &mut rng);
    let mut batcher = Batcher::new(settings(8, 16, 0)).unwrap();
    let mut out = Sequences::new(8, 4);
    let ready = chunks.iter().position(|chunk| {
        batcher.push(chunk);
        batcher.next(&mut out) == Next::Ready
    });
    assert!(ready.unwrap() < chunks.len() / 20, "{ready:?} of {}", chunks.len());
}

/// The buffer is filled in two goes.
#[test]
fn a_buffer_that_was_half_filled_is_filled_up_later() {
    let mut rng = Rng(2);
    let chunks = chunks(&[20; 500], &mut rng);
    let mut batcher = Batcher::new(settings(8, 16, 0)).unwrap();
    let mut out = Sequences::new(8, 1000);
    let mut seen = Vec::new();
    for chunk in &chunks {
        batcher.push(chunk);
        if batcher.next(&mut out) == Next::Ready {
            break;
        }
        seen.push(out.len());
    }
    assert!(out.is_full() && seen.is_sorted() && seen.iter().any(|&n| n > 0));
    assert_eq!((out.inputs().len(), out.targets().len()), (8000, 8000));
}

#[test]
fn too_few_tokens_is_an_error_that_gives_the_numbers() {
    // A document of n tokens counts one more for its end.
    for lengths in [vec![], vec![0], vec![6], vec![1, 1, 2]] {
        let mut batcher = Batcher::new(settings(4, 4, 0)).unwrap();
        chunks(&lengths, &mut Rng(0)).iter().for_each(|chunk| batcher.push(chunk));
        let error = batcher.finish().unwrap_err().to_string();
        let (tokens, bytes) =
            (lengths.iter().map(|n| n + 1).sum::<usize>(), lengths.iter().sum::<usize>());
        let documents = lengths.len();
        let expected = format!("{tokens}, in {documents} documents with {bytes} bytes; one");
        assert!(error.contains(&expected) && error.contains("--context 4 take 8"), "{error}");
    }
    for lengths in [vec![7], vec![1, 1, 3]] {
        let mut batcher = Batcher::new(settings(4, 4, 0)).unwrap();
        chunks(&lengths, &mut Rng(0)).iter().for_each(|chunk| batcher.push(chunk));
        batcher.finish().unwrap();
    }
}

#[test]
fn the_last_tenth_is_validation_where_no_unit_was_chosen() {
    let mut batcher = Batcher::new(settings(4, 4, 0)).unwrap();
    chunks(&[29, 29, 4, 4], &mut Rng(0)).iter().for_each(|chunk| batcher.push(chunk));
    batcher.finish().unwrap();
    let (train, validation) = (batcher.train_totals(), batcher.validation_totals());
    // 70 tokens: the last 7 are all of document 3 (5) and two of document 2.
    assert_eq!((train.tokens, validation.tokens), (63, 7));
    assert_eq!((train.units, validation.units), (3, 2));
    assert_eq!((train.documents, validation.documents), (3, 1));
    assert_eq!(train.bytes + validation.bytes, 66);
    assert_eq!(validation.bytes, 4 + 4 * 2 / 5);
    assert_eq!(batcher.validation.iter().collect::<Vec<_>>()[3..], [63, 64, 65, 66, END]);
}

#[test]
fn about_one_unit_in_16_is_validation_and_one_of_the_first_8() {
    let chosen: Vec<u64> = (0..16_000).filter(|&unit| is_validation(unit)).collect();
    assert!((1..8).contains(&chosen[0]));
    assert!((900..1100).contains(&chosen.len()), "{}", chosen.len());
}

#[test]
fn totals_follow_the_units() {
    let lengths: Vec<usize> = (0..300).map(|i| i % 120).collect();
    let mut batcher = Batcher::new(settings(4, 4, 0)).unwrap();
    chunks(&lengths, &mut Rng(3)).iter().for_each(|chunk| batcher.push(chunk));
    batcher.finish().unwrap();
    let mut expected: BTreeMap<bool, Totals> = BTreeMap::new();
    let mut unit = 0;
    for &length in &lengths {
        for start in (0..length.max(1)).step_by(50) {
            let totals = expected.entry(is_validation(unit)).or_default();
            let bytes = (length - start).min(50) as u64;
            let ends = start + 50 >= length;
            totals.units += 1;
            totals.documents += u64::from(start == 0);
            totals.tokens += bytes + u64::from(ends);
            totals.bytes += bytes;
            totals.bits += bytes as f64;
            unit += 1;
        }
    }
    assert_eq!(batcher.train_totals(), expected[&false]);
    assert_eq!(batcher.validation_totals(), expected[&true]);
}

#[test]
fn a_context_or_window_of_zero_is_refused() {
    assert!(Batcher::new(settings(0, 1, 0)).is_err());
    assert!(Batcher::new(settings(1, 0, 0)).is_err());
}

/// Kept whole, and streamed with every pass pushed anew: the same sequences, over several epochs, a
/// window and blocks that are given back.
#[test]
fn a_batcher_that_streams_serves_what_one_that_keeps_all_tokens_serves() {
    let mut rng = Rng(8);
    let lengths: Vec<usize> = (0..700).map(|_| rng.below(7000)).collect();
    let chunks = chunks(&lengths, &mut rng);
    for (context, window) in [(64, 50), (1000, 1), (17, 4096)] {
        let settings = settings(context, window, 3);
        let mut keeps = Batcher::new(settings).unwrap();
        let mut streams = Batcher::new(settings).unwrap().keeping(4096);
        chunks.iter().for_each(|chunk| keeps.push(chunk));
        keeps.finish().unwrap();
        let mut source = chunks.iter();
        let (mut one, mut two) = (Sequences::new(context, 7), Sequences::new(context, 7));
        let wanted = 5 * keeps.sequences_per_epoch().unwrap() / 2 / 7;
        for _ in 0..wanted {
            one.clear();
            two.clear();
            assert_eq!(keeps.next(&mut one), Next::Ready);
            while streams.next(&mut two) == Next::NeedMore {
                match source.next() {
                    Some(chunk) => streams.push(chunk),
                    None if streams.pass() == 0 || two.is_empty() || !streams.finished => {
                        streams.finish().unwrap();
                        source = chunks.iter();
                    }
                    None => source = chunks.iter(),
                }
            }
            assert!(one.inputs() == two.inputs() && one.targets() == two.targets());
            assert_eq!(one.origins(), two.origins());
        }
        assert!(streams.streams() && streams.pass() == 2 && !keeps.streams());
        assert_eq!(streams.train_totals(), keeps.train_totals());
        assert_eq!(streams.validation_totals(), keeps.validation_totals());
        assert!(streams.validation.iter().eq(keeps.validation.iter()));
        // What lies before the oldest sequence of the window has been given back.
        assert!(streams.train.held() < keeps.train.held(), "{} blocks", streams.train.held());
    }
}

#[test]
fn a_text_that_is_another_one_when_it_comes_again_is_an_error() {
    let mut rng = Rng(8);
    let chunks = chunks(&[300; 40], &mut rng);
    let mut batcher = Batcher::new(settings(16, 4, 3)).unwrap().keeping(4096);
    chunks.iter().for_each(|chunk| batcher.push(chunk));
    batcher.finish().unwrap();
    let mut out = Sequences::new(16, 1);
    while batcher.next(&mut out) == Next::Ready {
        out.clear();
    }
    assert_eq!(batcher.pass(), 1);
    chunks.iter().skip(1).for_each(|chunk| batcher.push(chunk));
    let message = batcher.finish().unwrap_err().to_string();
    assert!(message.contains("the text was not the same when it was read again"), "{message}");
}

/// Beyond the bound every unit is trained on.
#[test]
fn validation_text_is_bounded() {
    let mut batcher = Batcher::new(settings(64, 4, 0)).unwrap();
    let (unit, units) = (20_000, 2_000);
    for document in 0..units {
        let tokens: Vec<Token> = vec![1; unit];
        let range = 0..unit;
        let (bytes, bits) = (unit as u64, 0.0);
        let span = TokenSpan { document, unit: 0, range, ends_document: true, bytes, bits };
        batcher.push(&TokenChunk { tokens, spans: vec![span], ..TokenChunk::default() });
    }
    batcher.finish().unwrap();
    let validation = batcher.validation_totals().tokens;
    assert!((VALIDATION_TOKENS..VALIDATION_TOKENS + unit as u64).contains(&validation));
    let all = batcher.train_totals().tokens + validation;
    assert_eq!(all, units * unit as u64);
}
