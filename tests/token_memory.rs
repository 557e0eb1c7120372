//! Tokens beyond the budget are not kept: the text is read again for each epoch, and nothing else
//! changes.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/mixed.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod mixed;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;

use tempfile::{TempDir, tempdir};
use tiny::{on, tiny, train};
use twelvefold::corpus::batcher::{Batcher, Next, Sequences, Settings};
use twelvefold::corpus::stories::StorySource;
use twelvefold::corpus::tokenizer::{Encoder, Tokenizer};
use twelvefold::corpus::{Chunk, Source, TokenChunk};
use twelvefold::report::{Observer, Progress};
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

const FILES: u64 = 20;

/// Twenty files of about 60 kB in all.
fn text() -> TempDir {
    let folder = tempdir().unwrap();
    for i in 0..FILES {
        fs::write(folder.path().join(format!("{i:02}")), mixed::prose(i, 3_000)).unwrap();
    }
    folder
}

/// Two epochs and a half of it, whatever the tokenizer.
fn options(folder: &TempDir, tokenizer: &str) -> Options {
    let steps = match tokenizer {
        "bytes" => 550,
        "bpe:300" => 285,
        _ => 95,
    };
    let options =
        Options { tokenizer: tokenizer.to_owned(), steps, context: 32, batch: 4, ..tiny() };
    on(&[folder.path()], Options { shuffle_window: 16, eval_interval: 77, ..options })
}

#[test]
fn any_budget_gives_the_same_weights_and_is_counted() {
    let _watchdog = watchdog("budgets");
    let folder = text();
    for (tokenizer, learns) in [("words:50", 1), ("bpe:300", 1), ("bytes", 0)] {
        let options = options(&folder, tokenizer);
        let whole = train(&options).unwrap();
        assert_eq!((whole.corpus.opened, whole.corpus.rewound), (FILES, 0));
        let mut read = Vec::new();
        for (token_memory, spheres, tokenizers) in [(4096, 3, 1), (20_000, 1, 3), (30_000, 2, 5)] {
            let budget = Options { token_memory, spheres, tokenizers, ..options.clone() };
            let report = train(&budget).unwrap();
            assert_eq!(report.weights_sha256, whole.weights_sha256, "{tokenizer}, {token_memory}");
            assert_eq!(report.receipt, whole.receipt);
            assert_eq!(report.val_bits_per_byte, whole.val_bits_per_byte);
            let corpus = report.corpus;
            assert_eq!(corpus.opened, FILES * (corpus.rewound + 1), "{tokenizer}, {token_memory}");
            assert_eq!((corpus.documents, corpus.files), (FILES, FILES));
            assert_eq!((corpus.bytes, corpus.tokens), (whole.corpus.bytes, whole.corpus.tokens));
            read.push(corpus.rewound);
        }
        // Once an epoch: three begin. A tokenizer that learns has read it once before, and what it
        // kept of that spares a pass where it fits.
        assert_eq!(read[0], 2 + learns, "{tokenizer}");
        assert!(read.is_sorted_by(|a, b| a >= b), "{tokenizer}: {read:?}");
    }
}

#[test]
fn the_built_in_text_is_written_again() {
    let _watchdog = watchdog("built-in text");
    let whole = Options { story_bytes: 20_000, steps: 700, context: 32, ..tiny() };
    let streamed = Options { token_memory: 4096, ..whole.clone() };
    let (whole, streamed) = (train(&whole).unwrap(), train(&streamed).unwrap());
    assert_eq!(streamed.weights_sha256, whole.weights_sha256);
    assert!(streamed.corpus.rewound >= 2 && whole.corpus.rewound == 0);
    assert_eq!(streamed.corpus.documents, whole.corpus.documents);
    assert_eq!(streamed.floor_bits_per_byte, whole.floor_bits_per_byte);
    // Counting pairs takes all tokens at once.
    assert!(streamed.bigram_bits_per_byte.is_none() && whole.bigram_bits_per_byte.is_some());
}

/// Stops after a step, and may do something else there.
struct At<F>(u64, F);

impl<F: FnMut()> Observer for At<F> {
    fn step(&mut self, progress: &Progress) {
        if progress.step == self.0 {
            (self.1)();
        }
    }
}

#[test]
fn a_run_that_goes_on_may_have_another_budget() {
    let _watchdog = watchdog("another budget");
    let folder = text();
    for tokenizer in ["bytes", "bpe:300"] {
        let options = options(&folder, tokenizer);
        let expected = train(&options).unwrap();
        let out = tempdir().unwrap();
        let out = out.path().join("out");
        // Well within the second epoch, and within the third.
        for (stop, token_memory) in [(options.steps / 2, 4096), (options.steps - 9, 1 << 30)] {
            let cancel = Cancel::new();
            let mut stop = At(stop, || cancel.request());
            let (out, resume) = (out.clone(), true);
            let part = Options { out, resume, token_memory, ..options.clone() };
            assert!(run(&part, &cancel, &mut stop).unwrap().interrupted);
        }
        let last = Options { out, resume: true, token_memory: 20_000, ..options };
        let report = run(&last, &Cancel::new(), &mut ()).unwrap();
        assert_eq!(report.weights_sha256, expected.weights_sha256, "{tokenizer}");
        assert_eq!(report.receipt, expected.receipt);
    }
}

#[test]
fn text_that_changes_between_two_epochs_is_an_error() {
    let _watchdog = watchdog("changed between epochs");
    let (folder, out) = (text(), tempdir().unwrap());
    let file = folder.path().join("07");
    let mut text = fs::read(&file).unwrap();
    text[100] ^= 1;
    let options = Options {
        out: out.path().join("out"),
        token_memory: 4096,
        checkpoint_every: 0,
        ..options(&folder, "bytes")
    };
    let mut change = At(3, || fs::write(&file, &text).unwrap());
    let error = run(&options, &Cancel::new(), &mut change).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("the text was not the same when it was read again"), "{message}");
    // Nothing but what was told of the steps that were done.
    let left = fs::read_dir(out.path().join("out")).unwrap().map(|e| e.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["metrics.jsonl", "samples.jsonl"]);
}

/// By hand, in a release build: two gigabytes of stories as bytes, two passes of them.
#[test]
#[ignore = "minutes; prints how much memory was held"]
fn two_gigabytes_take_no_more_than_the_budget_and_a_few_windows() {
    let settings =
        Settings { context: 256, window: 4096, seed: 1, vocab: 257, end_of_document: 256 };
    let budget = 64 << 20;
    let mut batcher = Batcher::new(settings).unwrap().keeping(budget);
    let mut source = StorySource::new(1, 2_000_000_000).unwrap();
    let (mut chunk, mut tokens) = (Chunk::default(), TokenChunk::default());
    let (mut encoder, mut out) = (Encoder::default(), Sequences::new(256, 4));
    let mut served = 0_u64;
    while batcher.pass() < 2 {
        if batcher.next(&mut out) == Next::Ready {
            served += out.trained_targets() as u64;
            out.clear();
        } else if batcher.pass() > source.summary().rewound {
            source.rewind().unwrap();
        } else if source.fill(&mut chunk).unwrap() {
            Tokenizer::Bytes.encode(&chunk, &mut encoder, &mut tokens);
            batcher.push(&tokens);
        } else {
            batcher.finish().unwrap();
        }
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("{served} tokens served, {line}");
    let held: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(1024 * held < budget + (64 << 20), "{line}");
}
