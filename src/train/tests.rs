//! What a run leaves behind when it does not go as planned: a word, and nothing else.

use super::records::{METRICS, SAMPLES};
use super::{Cancel, Options, run};
use crate::engine;
use crate::error::Error;
use crate::inject::{ANY, Fault, plant, quiet};
use crate::report::{Observer, Progress, RunReport};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Aborts the test program with a message where it is not dropped in time.
struct Watchdog(#[expect(dead_code, reason = "held")] Sender<()>);

fn watchdog(what: &'static str) -> Watchdog {
    let (alive, gone) = channel();
    thread::spawn(move || {
        if gone.recv_timeout(Duration::from_secs(1800)) == Err(RecvTimeoutError::Timeout) {
            // Not `eprintln`: what a test prints is kept for its end, which does not come.
            let _ = writeln!(std::io::stderr(), "watchdog: {what} hangs");
            std::process::abort();
        }
    });
    Watchdog(alive)
}

/// Five chunks of stories, all of which the batcher wants before the first step: every stage is
/// reached at once.
pub(super) fn tiny(out: &impl AsRef<Path>) -> Options {
    Options {
        out: out.as_ref().join("out"),
        spheres: 3,
        tokenizers: 2,
        steps: 2,
        tokenizer: "bytes".to_owned(),
        layers: 1,
        heads: 2,
        width: 8,
        context: 16,
        batch: 3,
        micro_batches: 2,
        eval_interval: 0,
        shuffle_window: 1 << 20,
        story_bytes: 1_200_000,
        checkpoint_every: 0,
        ..Options::default()
    }
}

/// A run that only a fault ends.
fn endless(out: &TempDir) -> Options {
    Options { steps: 1_000_000, ..tiny(out) }
}

/// The threads of a run that are there now.
fn threads() -> Vec<String> {
    let names = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        let name = fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        Some(name.trim().to_owned())
    });
    let ours = ["tf-load", "tf-read-", "tf-tok-", "tf-batch", "tf-sphere-"];
    names.filter(|name| ours.iter().any(|start| name.starts_with(start))).collect()
}

/// A thread that was joined may still be listed for a moment.
fn assert_no_threads() {
    let end = Instant::now() + Duration::from_secs(60);
    while !threads().is_empty() {
        assert!(Instant::now() < end, "left behind: {:?}", threads());
        thread::yield_now();
    }
}

/// The files of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(|entry| file(entry.unwrap())).collect()
}

/// Runs what is to fail; checks that nobody and nothing is left.
fn failure(options: &Options) -> Error {
    let before = files(&options.out);
    let error = run(options, &Cancel::new(), &mut ()).unwrap_err();
    assert_no_threads();
    let mut after = files(&options.out);
    // The steps that were done are told of, where no run before is.
    if !before.contains_key(METRICS)
        && let Some(lines) = after.remove(METRICS)
    {
        fs::remove_file(options.out.join(METRICS)).unwrap();
        let steps = String::from_utf8(lines).unwrap();
        let step =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64();
        let steps = steps.lines().map(|line| step(line).unwrap());
        assert!(steps.clone().eq(1..=steps.count() as u64), "{error}");
    }
    assert_eq!(after, before, "{error}");
    error
}

/// Stage, worker, the item from which on it fails, and the tokenizer whose run has the stage.
const PLACES: [(&str, usize, u64, &str); 13] = [
    ("load", 0, 0, "bytes"),
    ("load", 0, 3, "bytes"),
    ("load", 0, 3, "bpe:300"),
    ("learn", 0, 0, "bpe:300"),
    ("learn", 1, 1, "words:50"),
    ("tokenize", 0, 0, "bytes"),
    ("tokenize", 1, 1, "bytes"),
    ("tokenize", 1, 1, "bpe:300"),
    ("batch", 0, 0, "bytes"),
    ("batch", 0, 4, "words:50"),
    ("sphere", ANY, 0, "bytes"),
    ("sphere", ANY, 100, "bytes"),
    ("optimizer", ANY, 0, "bytes"),
];

fn fault_at_each_place(fault: &Fault, verb: &str, stages: &[&str]) {
    for (stage, worker, item, tokenizer) in PLACES {
        if !stages.contains(&stage) {
            continue;
        }
        let out = tempfile::tempdir().unwrap();
        let options = Options { tokenizer: tokenizer.to_owned(), ..endless(&out) };
        let guard = plant(stage, worker, item, fault.clone());
        let error = failure(&options);
        drop(guard);
        let Error::Engine(engine::Error::Fault(fault)) = &error else {
            panic!("{stage} {worker} {item}: {error}");
        };
        let (worker, is_sphere) =
            if worker == ANY { (fault.worker, true) } else { (worker, false) };
        assert!(fault.worker == worker && worker < 3, "{error}");
        // A sphere counts its tasks of all phases: an update is never its first.
        let at = fault.item.expect("it was planted at an item");
        assert!(at == item || is_sphere && at > item, "{error}");
        let expected = format!(
            "stage {stage}, worker {worker}, {verb} at item {at}: planted in {stage} {worker} at {at}"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_panic_in_each_stage_ends_the_run_with_its_place() {
    let _watchdog = watchdog("a panic in each stage");
    let all = ["load", "learn", "tokenize", "batch", "sphere", "optimizer"];
    fault_at_each_place(&Fault::Panic, "panicked", &all);
}

#[test]
fn an_error_in_each_stage_ends_the_run_with_its_place() {
    let _watchdog = watchdog("an error in each stage");
    fault_at_each_place(&Fault::Error, "failed", &["load", "learn", "tokenize", "batch"]);
}

/// The trace goes beside the run's folder, which must stay as it was.
#[test]
fn a_panic_leaves_a_whole_trace_of_what_came_before_it() {
    let _watchdog = watchdog("a panic in a run that is traced");
    let places = [
        ("learn", 1, "words:50"),
        ("batch", 1, "bytes"),
        ("sphere", 100, "bytes"),
        ("optimizer", 0, "bytes"),
    ];
    for (stage, item, tokenizer) in places {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("trace.json");
        let trace = Some(path.clone());
        let options = Options { tokenizer: tokenizer.to_owned(), trace, ..endless(&out) };
        let guard = plant(stage, ANY, item, Fault::Panic);
        failure(&options);
        drop(guard);
        let text = fs::read_to_string(path).unwrap();
        let events: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let loaded = events.iter().filter(|event| event["name"] == "load" && event["ph"] == "X");
        assert!(loaded.count() >= 1, "{stage}");
    }
}

/// Small files are read by threads of their own; the loader that waits for one does not wait for ever.
#[test]
fn a_fault_of_a_reader_ends_the_run_with_its_place() {
    let _watchdog = watchdog("a fault of a reader");
    let (out, text) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for i in 0..700 {
        fs::write(text.path().join(format!("{i}")), "some words of text ".repeat(150)).unwrap();
    }
    for (fault, verb) in [(Fault::Panic, "panicked"), (Fault::Error, "failed")] {
        for (worker, item, tokenizer) in
            [(0, 0, "bytes"), (1, 0, "bytes"), (1, 2, "bytes"), (1, 2, "bpe:300")]
        {
            let (paths, tokenizer) = (vec![text.path().to_path_buf()], tokenizer.to_owned());
            let _guard = plant("read", worker, item, fault.clone());
            let error = failure(&Options { paths, tokenizer, ..endless(&out) }).to_string();
            let expected = format!(
                "stage read, worker {worker}, {verb} at item {item}: planted in read {worker} at {item}"
            );
            assert_eq!(error, expected);
        }
    }
}

/// The edges of a stage that fails close with it, and what came before is not the whole text.
#[test]
fn a_fault_is_seen_before_the_end_of_the_stream_that_it_cuts_off() {
    let _watchdog = watchdog("a stream cut off");
    let out = tempfile::tempdir().unwrap();
    let options = Options { tokenizers: 1, story_bytes: 20_000, ..endless(&out) };
    for round in 0..100 {
        let stage = ["load", "tokenize"][round % 2];
        let _guard = plant(stage, 0, 0, Fault::Error);
        let error = failure(&options).to_string();
        assert!(
            error.starts_with(&format!("stage {stage}, worker 0, failed at item 0")),
            "{error}"
        );
    }
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_its_place() {
    let _watchdog = watchdog("a loss that is no number");
    let out = tempfile::tempdir().unwrap();
    let _guard = plant("", 1, 3, Fault::NotANumber);
    let message = failure(&endless(&out)).to_string();
    let start = "loss is not finite at step 3, micro-batch 0, sequence 1, on sphere ";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn a_step_that_is_no_number_is_left_out_and_counted_where_the_user_asked_for_that() {
    let _watchdog = watchdog("a step left out");
    let out = tempfile::tempdir().unwrap();
    let options = |spheres| Options {
        skip_non_finite: true,
        overwrite: true,
        steps: 5,
        spheres,
        ..tiny(&out)
    };
    let run = |spheres| run(&options(spheres), &Cancel::new(), &mut ()).unwrap();
    let guard = quiet();
    let whole = run(2);
    drop(guard);
    let _guard = plant("", 1, 3, Fault::NotANumber);
    let (one, three) = (run(1), run(3));
    assert_eq!((whole.steps, whole.skipped_steps), (5, 0));
    assert_eq!((one.steps, one.skipped_steps), (5, 1));
    assert!(one.train_loss.unwrap().is_finite() && one.tokens < whole.tokens);
    assert_eq!(one.weights_sha256, three.weights_sha256, "the others are trained as ever");
    assert_ne!(one.weights_sha256, whole.weights_sha256);
}

/// Asks for a stop after step 4.
struct StopAtFour(Cancel);

impl Observer for StopAtFour {
    fn step(&mut self, progress: &Progress) {
        if progress.step == 4 {
            self.0.request();
        }
    }
}

#[test]
fn a_step_that_was_left_out_before_a_stop_is_still_counted_after_it() {
    let _watchdog = watchdog("a step left out before a stop");
    let out = tempfile::tempdir().unwrap();
    let options = Options { skip_non_finite: true, steps: 6, ..tiny(&out) };
    let _guard = plant("", 1, 3, Fault::NotANumber);
    let whole = Options { out: out.path().join("whole"), ..options.clone() };
    let whole = run(&whole, &Cancel::new(), &mut ()).unwrap();
    let cancel = Cancel::new();
    let part = run(&options, &cancel, &mut StopAtFour(cancel.clone())).unwrap();
    assert_eq!((part.steps, part.skipped_steps), (4, 1));
    let options = Options { resume: true, spheres: 1, ..options };
    let rest = run(&options, &Cancel::new(), &mut ()).unwrap();
    assert_eq!((rest.resumed_from, rest.steps, rest.skipped_steps), (Some(4), 6, 1));
    assert_eq!((rest.tokens, rest.train_loss), (whole.tokens, whole.train_loss));
    assert_eq!(rest.weights_sha256, whole.weights_sha256);
}

#[test]
fn the_run_that_was_there_stands_when_the_one_to_replace_it_fails() {
    let _watchdog = watchdog("the run that was there");
    let out = tempfile::tempdir().unwrap();
    let guard = quiet();
    run(&tiny(&out), &Cancel::new(), &mut ()).unwrap();
    drop(guard);
    assert!(files(&out.path().join("out")).len() >= 5);
    for stage in ["load", "optimizer"] {
        let _guard = plant(stage, ANY, 0, Fault::Panic);
        failure(&Options { overwrite: true, ..endless(&out) });
    }
}

/// The names of the threads whose refusal the k-th start meets, up to the run in which none is.
fn refused(options: &Options) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let _guard = plant("", 0, names.len() as u64, Fault::Spawn);
        match run(options, &Cancel::new(), &mut ()) {
            Ok(_) => return names,
            Err(Error::Engine(engine::Error::Spawn { thread, source })) => {
                assert_no_threads();
                assert!(files(&options.out).is_empty());
                let message = engine::Error::Spawn { thread: thread.clone(), source }.to_string();
                let start = format!("cannot start thread {thread}: refused by a test\nhint: ");
                assert!(message.starts_with(&start), "{message}");
                names.push(thread);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_thread_that_is_refused_leaves_none_of_those_before_it() {
    let _watchdog = watchdog("a refused thread");
    let out = tempfile::tempdir().unwrap();
    let spheres = ["tf-sphere-00", "tf-sphere-01", "tf-sphere-02"];
    let road = [&["tf-load", "tf-tok-0", "tf-tok-1", "tf-batch"][..], &spheres].concat();
    assert_eq!(refused(&tiny(&out)), road);
    let text = tempfile::tempdir().unwrap();
    fs::write(text.path().join("a"), "some words of text ".repeat(1_000)).unwrap();
    let out = tempfile::tempdir().unwrap();
    let files = Options { paths: vec![text.path().to_path_buf()], ..tiny(&out) };
    assert_eq!(refused(&files), [&["tf-read-0", "tf-read-1"][..], &road].concat());
    // The first pass has a crew of its own; the second one is larger, so all but its first three
    // threads are refused in turn.
    let bpe = Options { tokenizer: "bpe:300".to_owned(), ..tiny(&tempfile::tempdir().unwrap()) };
    let passes = [&["tf-load", "tf-tok-0", "tf-tok-1", "tf-batch"][..], &spheres].concat();
    assert_eq!(refused(&bpe), passes);
}

/// Calls a function at every step.
struct AtStep<F>(F);

impl<F: FnMut(u64)> Observer for AtStep<F> {
    fn step(&mut self, progress: &Progress) {
        (self.0)(progress.step);
    }
}

/// What stands in the folder fits what the run says of itself.
fn assert_outputs_fit(options: &Options, result: &Result<RunReport, Error>) {
    let files = files(&options.out);
    match result {
        Ok(report) => {
            let expected = [
                "config.json",
                "log.txt",
                "metrics.jsonl",
                "model.safetensors",
                "optimizer.safetensors",
                "report.html",
                "report.json",
                "settings.json",
                "tokenizer.json",
                "tokenizer_config.json",
            ];
            let names: Vec<&String> = files.keys().filter(|name| *name != SAMPLES).collect();
            assert_eq!(names, expected);
            // The model writes where the run came to its end, or to a validation.
            let lines = String::from_utf8(files[METRICS].clone()).unwrap();
            assert_eq!(lines.lines().count() as u64, report.steps);
            assert!(report.interrupted || files.contains_key(SAMPLES));
            assert!(report.steps >= 1);
            assert_eq!(report.interrupted, report.steps < options.steps);
            for edge in &report.edges {
                assert_eq!(edge.items_in, edge.items_out + edge.abandoned, "{edge:?}");
            }
        }
        Err(Error::Interrupted) => assert!(files.is_empty(), "{:?}", files.keys()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_wish_to_stop_at_a_step_is_heard_after_it_and_what_was_learned_is_saved() {
    let _quiet = quiet();
    let _watchdog = watchdog("a stop at a step");
    for (tokenizer, step) in [("bytes", 1), ("bytes", 2), ("bytes", 7), ("bpe:300", 3)] {
        let out = tempfile::tempdir().unwrap();
        let options = Options { tokenizer: tokenizer.to_owned(), ..endless(&out) };
        let cancel = Cancel::new();
        let mut observer = AtStep(|now| {
            if now == step {
                cancel.request();
            }
        });
        let result = run(&options, &cancel, &mut observer);
        assert_no_threads();
        assert_outputs_fit(&options, &result);
        let report = result.unwrap();
        assert_eq!((report.steps, report.interrupted), (step, true));
    }
}

#[test]
fn a_wish_to_stop_before_the_first_step_saves_nothing() {
    let _quiet = quiet();
    let _watchdog = watchdog("a stop before the first step");
    for tokenizer in ["bytes", "bpe:300", "words:50"] {
        let out = tempfile::tempdir().unwrap();
        let options = Options { tokenizer: tokenizer.to_owned(), ..endless(&out) };
        let cancel = Cancel::new();
        cancel.request();
        let error = run(&options, &cancel, &mut ()).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_no_threads();
        assert!(files(&options.out).is_empty());
    }
}

#[test]
fn a_wish_to_stop_is_heard_at_any_moment() {
    let _quiet = quiet();
    let _watchdog = watchdog("a stop at any moment");
    let to_first_step = time_to_first_step();
    let mut saved = 0;
    for round in 0..42_u64 {
        let out = tempfile::tempdir().unwrap();
        let tokenizer = ["bytes", "bpe:300", "words:50"][round as usize % 3].to_owned();
        let options = Options { tokenizer, shuffle_window: 64, ..endless(&out) };
        let cancel = Cancel::new();
        let stop = cancel.clone();
        // From the very start to some steps in, on a slow machine too.
        let delay = to_first_step * round as u32 / 21;
        let stopper = thread::spawn(move || {
            thread::sleep(delay);
            stop.request();
        });
        let result = run(&options, &cancel, &mut ());
        stopper.join().unwrap();
        assert_no_threads();
        assert_outputs_fit(&options, &result);
        saved += u64::from(result.is_ok());
    }
    // Not a condition: the machine decides. Both sides have tests of their own above.
    println!("{saved} of 42 came after the first step");
}

/// As it is on this machine just now.
fn time_to_first_step() -> Duration {
    let out = tempfile::tempdir().unwrap();
    let options = Options { shuffle_window: 64, ..endless(&out) };
    let (cancel, started, mut took) = (Cancel::new(), Instant::now(), Duration::ZERO);
    let mut observer = AtStep(|_| {
        took = started.elapsed();
        cancel.request();
    });
    run(&options, &cancel, &mut observer).unwrap();
    took
}

/// A wish while a stage sleeps inside an item, at every stage in turn.
#[test]
fn a_wish_to_stop_is_heard_while_a_stage_is_slow() {
    let _watchdog = watchdog("a stop beside a slow stage");
    for (stage, worker, item, tokenizer) in PLACES {
        let out = tempfile::tempdir().unwrap();
        let options = Options { tokenizer: tokenizer.to_owned(), ..endless(&out) };
        let _guard = plant(stage, worker, item, Fault::Slow(Duration::from_millis(30)));
        let cancel = Cancel::new();
        let stop = cancel.clone();
        let stopper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(80));
            stop.request();
        });
        let result = run(&options, &cancel, &mut ());
        stopper.join().unwrap();
        assert_no_threads();
        assert_outputs_fit(&options, &result);
    }
}

#[test]
fn a_fault_beside_a_wish_to_stop_is_still_the_error_or_comes_too_late() {
    let _watchdog = watchdog("a fault beside a stop");
    for (stage, worker, ..) in PLACES {
        let out = tempfile::tempdir().unwrap();
        let options = endless(&out);
        let _guard = plant(stage, worker, 0, Fault::Panic);
        let cancel = Cancel::new();
        let stop = cancel.clone();
        let stopper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(3));
            stop.request();
        });
        let result = run(&options, &cancel, &mut ());
        stopper.join().unwrap();
        assert_no_threads();
        if !matches!(result, Err(Error::Engine(_))) {
            assert_outputs_fit(&options, &result);
        }
    }
}

#[test]
fn an_observer_that_panics_leaves_no_thread_behind() {
    let _quiet = quiet();
    let _watchdog = watchdog("an observer that panics");
    let out = tempfile::tempdir().unwrap();
    let options = endless(&out);
    let body = || run(&options, &Cancel::new(), &mut AtStep(|_| panic!("the observer's")));
    let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"the observer's"));
    assert_no_threads();
    assert!(files(&options.out).is_empty());
}
