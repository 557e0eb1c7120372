//! Every token of the corpus is delivered once an epoch, whoever delivers it: runs of many shapes
//! against plain sequential code that says what they must have served.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/chance.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod chance;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chance::Rng;
use tempfile::tempdir;
use tiny::{on, tiny, train};
use twelvefold::corpus::batcher::{Batcher, IGNORE, Next, Receipt, Sequences, Settings};
use twelvefold::corpus::files::FileSource;
use twelvefold::corpus::tokenizer::{Encoder, Tokenizer};
use twelvefold::corpus::{Chunk, Source, TokenChunk};
use twelvefold::train::Options;
use watchdog::watchdog;

/// What a run must have served: its receipt and its tokens. And what the first epoch must hold.
struct Served {
    receipt: String,
    tokens: u64,
    per_epoch: u64,
}

/// One thread, one chunk after the other.
fn expected(options: &Options) -> Served {
    let mut source = FileSource::new(options.paths.clone()).unwrap().shuffled(options.seed);
    let (mut chunk, mut tokens) = (Chunk::default(), TokenChunk::default());
    let mut batcher = Batcher::new(Settings {
        context: options.context,
        window: options.shuffle_window,
        seed: options.seed,
        vocab: 257,
        end_of_document: 256,
    })
    .unwrap();
    while source.fill(&mut chunk).unwrap() {
        Tokenizer::Bytes.encode(&chunk, &mut Encoder::default(), &mut tokens);
        batcher.push(&tokens);
    }
    batcher.finish().unwrap();
    let per_epoch = batcher.sequences_per_epoch().unwrap();
    let mut pairs: BTreeMap<(u32, u32), i64> = BTreeMap::new();
    let mut out = Sequences::new(options.context, options.batch);
    let (mut receipt, mut trained) = (Receipt::default(), 0);
    for _ in 0..options.steps * options.micro_batches as u64 {
        out.clear();
        assert_eq!(batcher.next(&mut out), Next::Ready);
        receipt.add(out.inputs(), out.targets());
        trained += out.trained_targets() as u64;
        let rows = out.inputs().chunks(options.context).zip(out.targets().chunks(options.context));
        for ((inputs, targets), origin) in rows.zip(out.origins()) {
            if origin.epoch == 0 {
                let pairs_of = inputs.iter().zip(targets).filter(|(_, target)| **target != IGNORE);
                pairs_of.for_each(|(i, t)| *pairs.entry((*i, *t)).or_default() += 1);
            }
        }
    }
    // Where the run has seen the first epoch whole, that is each pair of neighbours once.
    if options.steps * options.sequences_per_step() as u64 >= per_epoch {
        let stream: Vec<u32> = batcher.train_tokens().iter().collect();
        stream.windows(2).for_each(|w| *pairs.entry((w[0], w[1])).or_default() -= 1);
        assert!(pairs.values().all(|count| *count == 0), "a token is lost or doubled");
    }
    Served { receipt: receipt.to_string(), tokens: trained, per_epoch }
}

fn write(folder: &Path, name: &str, bytes: usize, rng: &mut Rng) {
    let text: Vec<u8> = (0..bytes).map(|_| b'a' + rng.below(20) as u8).collect();
    fs::write(folder.join(name), text).unwrap();
}

/// Batches larger than the corpus, more spheres and tokenizers than batches or files, primes, contexts
/// of one token, several epochs.
#[test]
fn a_run_of_any_shape_serves_every_token_once_an_epoch() {
    let _watchdog = watchdog("shapes");
    let mut rng = Rng(77);
    for case in 0..40 {
        let folder = tempdir().unwrap();
        for file in 0..1 + rng.below(9) {
            write(folder.path(), &file.to_string(), 1 + rng.below(300) as usize, &mut rng);
        }
        write(folder.path(), "last", 64, &mut rng);
        let mut one_of = |all: &[usize]| all[rng.below(all.len() as u64) as usize];
        let options = Options {
            context: one_of(&[1, 2, 7, 16, 31]),
            batch: one_of(&[1, 2, 3, 13, 64]),
            micro_batches: one_of(&[1, 2, 5]),
            spheres: one_of(&[1, 2, 3, 7, 37]),
            tokenizers: one_of(&[1, 2, 3, 11, 23]),
            shuffle_window: one_of(&[1, 5, 4096]),
            token_memory: if case % 3 == 0 { 4096 } else { 1 << 30 },
            ..on(&[folder.path()], tiny())
        };
        let per_epoch = expected(&Options { steps: 1, ..options.clone() }).per_epoch;
        let epoch = per_epoch.div_ceil(options.sequences_per_step() as u64);
        let steps = (epoch + rng.below(epoch + 2)).clamp(1, 400);
        let options = Options { steps, ..options };
        let expected = expected(&options);
        let report = train(&options).unwrap();
        assert_eq!(
            (report.receipt, report.tokens),
            (expected.receipt, expected.tokens),
            "{options:?}"
        );
    }
}

/// A document of n bytes is n + 1 tokens, and 2 T are needed for a context of T.
#[test]
fn a_corpus_just_too_small_is_refused_with_the_numbers_and_one_just_large_enough_is_trained() {
    let _watchdog = watchdog("small corpora");
    let mut rng = Rng(5);
    for context in [1, 2, 5, 64, 1000] {
        for crew in [1, 7] {
            let folder = tempdir().unwrap();
            let options = Options { context, spheres: crew, tokenizers: crew, batch: 9, ..tiny() };
            let options = on(&[folder.path()], options);
            write(folder.path(), "text", 2 * context - 1, &mut rng);
            let report = train(&options).unwrap();
            assert_eq!((report.steps, report.corpus.tokens), (2, 2 * context as u64));
            assert_eq!(report.receipt, expected(&options).receipt);
            write(folder.path(), "text", 2 * context - 2, &mut rng);
            let message = train(&options).unwrap_err().to_string();
            // Of a context of one, the file is empty.
            let tokens = if context == 1 { 0 } else { 2 * context - 1 };
            assert!(message.contains(&format!("too few tokens: {tokens}, in")), "{message}");
            let needed = format!("--context {context} take {}", 2 * context);
            assert!(message.contains(&needed), "{message}");
        }
    }
}
