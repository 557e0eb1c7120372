//! Nothing is lost on the way, nothing is trained twice, and nobody stays behind.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tiny::{on, tiny, train};
use twelvefold::corpus::batcher::{Batcher, IGNORE, Next, Sequences, Settings};
use twelvefold::corpus::files::FileSource;
use twelvefold::corpus::tokenizer::{Encoder, Tokenizer};
use twelvefold::corpus::{Chunk, Source, TokenChunk};
use twelvefold::report::{Observer, Progress, RunReport};
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

/// One test at a time: the threads of another one's run would be counted.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of runs that are there now.
fn threads() -> Vec<String> {
    let names = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        let name = fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        name.starts_with("tf-").then(|| name.trim().to_owned())
    });
    names.collect()
}

/// A thread that was joined may still be listed for a moment.
fn assert_no_threads() {
    let end = Instant::now() + Duration::from_secs(60);
    while !threads().is_empty() {
        assert!(Instant::now() < end, "left behind: {:?}", threads());
        std::thread::yield_now();
    }
}

fn assert_balanced(report: &RunReport) {
    assert!(report.edges.len() >= 4, "{:?}", report.edges);
    for edge in &report.edges {
        assert_eq!(edge.items_in, edge.items_out + edge.abandoned, "{edge:?}");
    }
    let tasks: u64 = report.spheres.iter().map(|sphere| sphere.tasks).sum();
    let edge = report.edges.iter().find(|edge| edge.name == "sphere-tasks").unwrap();
    assert_eq!((edge.items_in, edge.items_out), (tasks, tasks));
}

/// A window as wide as the corpus: the first step needs all of it.
fn whole() -> Options {
    Options { shuffle_window: 1 << 20, ..tiny() }
}

#[test]
fn where_the_corpus_is_consumed_nothing_is_abandoned() {
    let _alone = alone();
    let _watchdog = watchdog("a consumed corpus");
    for tokenizer in ["bytes", "bpe:300", "words:50"] {
        for (spheres, tokenizers) in [(1, 1), (3, 4)] {
            let learns = tokenizer != "bytes";
            let (tokenizer, story_bytes) = (tokenizer.to_owned(), 1_200_000);
            let options = Options { tokenizer, spheres, tokenizers, story_bytes, ..whole() };
            let report = train(&options).unwrap();
            assert_no_threads();
            assert_balanced(&report);
            assert!(report.edges.iter().all(|edge| edge.abandoned == 0), "{:?}", report.edges);
            // Each chunk goes over one edge of each kind, once.
            let over = |start: &str| {
                let edges = report.edges.iter().filter(|edge| edge.name.starts_with(start));
                edges.map(|edge| edge.items_out).sum::<u64>()
            };
            assert!(over("load-tok-") >= 5);
            // The end of the text is an item as well: the loader's, or the word of a tokenizer that
            // learned and has given all that it kept.
            let learned = u64::from(learns);
            assert_eq!(over("load-tok-") + learned, over("tok-"));
        }
    }
}

/// A batch of files goes to one reader and comes back from it, whoever of them is faster.
#[test]
fn any_number_of_readers_hands_on_every_file_once_in_the_same_order() {
    let _alone = alone();
    let _watchdog = watchdog("readers");
    let folder = folder(900, 3_000);
    for tokenizer in ["bytes", "bpe:300"] {
        let mut digests = Vec::new();
        for tokenizers in [1, 2, 3, 9] {
            let tokenizer = tokenizer.to_owned();
            let options = Options { tokenizer, tokenizers, ..whole() };
            let report = train(&on(&[folder.path()], options)).unwrap();
            assert_no_threads();
            assert_balanced(&report);
            let reads = report.edges.iter().filter(|edge| edge.name.starts_with("load-read-"));
            let batches: Vec<u64> = reads.clone().map(|edge| edge.items_out).collect();
            assert_eq!(batches.len(), tokenizers.min(8));
            assert!(batches.iter().sum::<u64>() >= 14, "{batches:?}");
            assert!(reads.map(|edge| edge.abandoned).sum::<u64>() == 0, "{:?}", report.edges);
            let corpus = &report.corpus;
            assert_eq!((corpus.files, corpus.opened, corpus.documents), (900, 900, 900));
            assert_eq!(corpus.bytes, 2_700_000);
            digests.push(report.weights_sha256);
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{tokenizer}");
    }
}

#[test]
fn where_the_run_ends_before_the_corpus_what_is_left_is_counted() {
    let _alone = alone();
    let _watchdog = watchdog("an abandoned corpus");
    // A run may also end before the loader has come to run again, with every ring empty.
    loop {
        let report = train(&Options { story_bytes: 20_000_000, ..tiny() }).unwrap();
        assert_no_threads();
        assert_balanced(&report);
        if report.edges.iter().any(|edge| edge.abandoned > 0) {
            return;
        }
    }
}

/// A folder of small texts.
fn folder(files: usize, bytes: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..files {
        let text = format!("text number {i} ").repeat(bytes / 14 + 1);
        fs::write(folder.path().join(format!("{i:05}.txt")), &text[..bytes]).unwrap();
    }
    folder
}

/// What the batcher says of a folder, without any thread.
fn batched(folder: &Path, options: &Options) -> Batcher {
    let tokenizer = Tokenizer::Bytes;
    let mut batcher = Batcher::new(Settings {
        context: options.context,
        window: options.shuffle_window,
        seed: options.seed,
        vocab: tokenizer.vocab(),
        end_of_document: tokenizer.end_of_document(),
    })
    .unwrap();
    let mut source = FileSource::new([folder]).unwrap();
    let (mut chunk, mut tokens) = (Chunk::default(), TokenChunk::default());
    while source.fill(&mut chunk).unwrap() {
        tokenizer.encode(&chunk, &mut Encoder::default(), &mut tokens);
        batcher.push(&tokens);
    }
    batcher.finish().unwrap();
    batcher
}

#[test]
fn every_token_is_trained_exactly_once_per_epoch() {
    let _alone = alone();
    let _watchdog = watchdog("an epoch");
    let folder = folder(40, 333);
    let base = Options { batch: 1, micro_batches: 1, ..tiny() };
    let mut batcher = batched(folder.path(), &base);
    let (sequences, totals) = (batcher.sequences_per_epoch().unwrap(), batcher.train_totals());
    assert!(sequences > 100 && totals.tokens % 16 != 0, "the last sequence is a short one");

    // The batcher's own word for it: the targets of an epoch are the tokens of the stream.
    let mut counts = HashMap::<u32, i64>::new();
    for token in batcher.train_tokens().iter().skip(1) {
        *counts.entry(token).or_default() += 1;
    }
    let mut out = Sequences::new(base.context, 1);
    for _ in 0..sequences {
        assert_eq!(batcher.next(&mut out), Next::Ready);
        for token in out.targets().iter().filter(|&&token| token != IGNORE) {
            *counts.entry(*token).or_default() -= 1;
        }
        out.clear();
    }
    assert!(counts.values().all(|&left| left == 0));

    for epochs in [1, 2] {
        for (spheres, tokenizers) in [(1, 1), (3, 2)] {
            let steps = epochs * sequences;
            let options =
                on(&[folder.path()], Options { steps, spheres, tokenizers, ..base.clone() });
            let report = train(&options).unwrap();
            assert_eq!(report.steps, steps);
            assert_eq!(report.tokens, epochs * totals.tokens);
            assert_eq!(report.corpus.documents, 40);
            assert_eq!(report.corpus.bytes, 40 * 333);
            assert_eq!(report.corpus.tokens, 40 * 334);
        }
    }
}

#[test]
fn any_number_of_spheres_runs_ends_and_leaves_no_thread() {
    let _alone = alone();
    let _watchdog = watchdog("many spheres");
    let mut digests = Vec::new();
    for spheres in [1, 2, 12, 13, 157, 158, 1728] {
        let report = train(&Options { spheres, steps: 2, ..tiny() }).unwrap();
        assert_no_threads();
        assert_balanced(&report);
        assert_eq!(report.spheres.len(), spheres);
        digests.push(report.weights_sha256);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

/// Looks at the threads while the run goes, and then ends it in its own way.
struct Ending<'a> {
    cancel: &'a Cancel,
    stop_at: u64,
    expected: &'a [&'static str],
    seen: Vec<String>,
}

impl Observer for Ending<'_> {
    fn step(&mut self, progress: &Progress) {
        if progress.step == 1 {
            // A thread takes its name when it first runs, and one sphere may have done the whole
            // step before another came to run at all.
            let end = Instant::now() + Duration::from_secs(60);
            while self.seen != self.expected && Instant::now() < end {
                std::thread::yield_now();
                self.seen = threads();
                self.seen.sort();
            }
        }
        if progress.step == self.stop_at {
            self.cancel.request();
        }
    }
}

#[test]
fn all_threads_are_named_and_joined_on_success_on_error_and_on_a_stop() {
    let _alone = alone();
    let _watchdog = watchdog("the threads");
    assert_no_threads();
    let out = tempfile::tempdir().unwrap();
    let expected = ["tf-batch", "tf-load", "tf-sphere-00", "tf-sphere-01", "tf-tok-0", "tf-tok-1"];
    let all = |stop_at, options: &Options| {
        let cancel = Cancel::new();
        let readers: &[&str] =
            if options.paths.is_empty() { &[] } else { &["tf-read-0", "tf-read-1"] };
        let mut expected = [&expected[..], readers].concat();
        expected.sort_unstable();
        let expected = &expected;
        let mut ending = Ending { cancel: &cancel, stop_at, expected, seen: Vec::new() };
        let result = run(options, &cancel, &mut ending);
        assert_no_threads();
        (result, ending.seen)
    };
    // Long enough that no thread has ended at the first step.
    let long = Options { story_bytes: 20_000_000, ..tiny() };
    let options = |name: &str| Options { out: out.path().join(name), ..long.clone() };

    let (result, seen) = all(u64::MAX, &options("success"));
    assert!(!result.unwrap().interrupted);
    assert_eq!(seen, expected);

    let (result, _) = all(2, &Options { steps: 1_000_000, ..options("stop") });
    let report = result.unwrap();
    assert!(report.interrupted && report.steps == 2);
    assert_balanced(&report);

    // Stopped while files are read.
    let folder = folder(4_000, 5_000);
    let options_of =
        |name: &str| Options { steps: 1_000_000, ..on(&[folder.path()], options(name)) };
    let (result, seen) = all(2, &options_of("stopped-reading"));
    let report = result.unwrap();
    assert!(report.interrupted && report.steps == 2 && report.corpus.opened < 4_000);
    assert_balanced(&report);
    assert!(seen.contains(&"tf-read-0".to_owned()) && seen.contains(&"tf-read-1".to_owned()));

    let short = out.path().join("two-bytes");
    fs::write(&short, "a").unwrap();
    for tokenizer in ["bytes", "bpe:300"] {
        let tokenizer = tokenizer.to_owned();
        let (result, _) = all(u64::MAX, &on(&[&short], Options { tokenizer, ..options("error") }));
        let message = result.unwrap_err().to_string();
        assert!(message.contains("too few tokens"), "{message}");
    }
    let none = Options { steps: u64::MAX >> 1, ..options("setting") };
    assert!(all(u64::MAX, &none).0.is_err());
}

/// The counter is read after the loader has been joined: it shows all that was opened during all
/// steps, and the first of them ended before that.
#[test]
fn the_first_step_ends_before_the_last_file_is_opened() {
    let _alone = alone();
    let _watchdog = watchdog("the stages overlap");
    let folder = folder(4_000, 5_000);
    for steps in [1, 3] {
        let report = train(&on(&[folder.path()], Options { steps, ..tiny() })).unwrap();
        assert_eq!(report.steps, steps);
        let opened = report.corpus.opened;
        // What the rings hold, and no more: it does not grow with the corpus.
        assert!((1..2_000).contains(&opened), "{opened} of 4,000 files");
        assert_eq!(report.corpus.documents, opened);
    }
}
