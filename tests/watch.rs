//! What a run tells while it goes, and what it leaves to look at, is what it did.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::io::Write as _;

use serde_json::{Map, Value};
use tempfile::{TempDir, tempdir};
use tiny::tiny;
use twelvefold::report::metrics::each;
use twelvefold::report::{Observer, Progress, RunReport};
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

/// Keeps every moment.
#[derive(Default)]
struct Moments {
    steps: Vec<Progress>,
    samples: Vec<(u64, String)>,
    notes: Vec<String>,
    stop: Option<(u64, Cancel)>,
}

impl Observer for Moments {
    fn step(&mut self, progress: &Progress) {
        self.steps.push(progress.clone());
        if let Some((step, cancel)) = &self.stop
            && *step == progress.step
        {
            cancel.request();
        }
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn sample(&mut self, text: &str) {
        let step = self.steps.last().map_or(0, |progress| progress.step);
        self.samples.push((step, text.to_owned()));
    }

    fn sample_at(&mut self, step: u64, text: &str) {
        self.samples.push((step, text.to_owned()));
    }
}

/// Runs and looks.
fn watched(options: &Options) -> (RunReport, Moments) {
    let mut moments = Moments::default();
    (run(options, &Cancel::new(), &mut moments).unwrap(), moments)
}

/// Runs up to a step, and stops there as Ctrl-C does.
fn stopped(options: &Options, step: u64) -> Moments {
    let cancel = Cancel::new();
    let mut moments = Moments { stop: Some((step, cancel.clone())), ..Moments::default() };
    assert_eq!(run(options, &cancel, &mut moments).unwrap().steps, step);
    moments
}

/// The objects in a file of lines, each of which must be whole.
fn objects(options: &Options, name: &str) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(options.out.join(name)).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn steps_of(lines: &[Map<String, Value>]) -> Vec<u64> {
    lines.iter().map(|line| line["step"].as_u64().unwrap()).collect()
}

/// The steps whose lines hold a validation.
fn validated(lines: &[Map<String, Value>]) -> Vec<u64> {
    let with: Vec<_> = lines.iter().filter(|l| l.contains_key("val_loss")).cloned().collect();
    steps_of(&with)
}

/// What does not depend on the time that a run took.
fn losses(lines: &[Map<String, Value>]) -> Vec<Vec<Value>> {
    let names = ["step", "loss", "val_loss", "lr", "grad_norm", "tokens", "skipped_steps"];
    let known = |line: &Map<String, Value>| {
        names.iter().map(|name| line.get(*name).cloned().unwrap_or_default()).collect()
    };
    lines.iter().map(known).collect()
}

fn short(out: &TempDir) -> Options {
    Options { out: out.path().join("out"), steps: 12, eval_interval: 3, spheres: 3, ..tiny() }
}

#[test]
fn each_step_tells_tokens_memory_peak_and_what_every_stage_and_the_spheres_do() {
    let _watchdog = watchdog("a run that is looked at");
    let out = tempdir().unwrap();
    let (report, moments) = watched(&short(&out));
    let steps = &moments.steps;
    assert_eq!(steps.len(), 12);
    assert_eq!(steps[11].tokens, report.tokens);
    assert!(report.peak_flops.unwrap() > 1e6 && report.peak_share.unwrap() > 0.0);
    for pair in steps.windows(2) {
        let (one, two) = (&pair[0], &pair[1]);
        assert!(one.tokens < two.tokens && one.seconds < two.seconds);
        assert!(one.spheres.tasks < two.spheres.tasks);
        assert!(one.spheres.busy_seconds < two.spheres.busy_seconds);
    }
    for progress in steps {
        assert!(progress.peak_share.unwrap() > 0.0);
        assert!(progress.memory_bytes.unwrap() > 1 << 20);
        let names: Vec<&str> = progress.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["load", "tokenize", "batch"]);
        // Two tokenizers, each with a ring of four on either side.
        let rooms = progress.stages.iter().map(|stage| stage.queue.map(|(_, room)| room));
        assert_eq!(rooms.collect::<Vec<_>>(), [None, Some(8), Some(8)]);
        let workers = progress.stages.iter().map(|stage| stage.workers);
        assert_eq!(workers.collect::<Vec<_>>(), [1, 2, 1]);
        for stage in &progress.stages {
            let shares = stage.busy_share + stage.starved_share + stage.blocked_share;
            assert!((0.0..=1.0 + 1e-9).contains(&shares), "{stage:?}");
        }
        let spheres = &progress.spheres;
        assert_eq!((spheres.leaves, spheres.queue.unwrap().1), (3, 2));
        assert!(spheres.busy_share > 0.0 && spheres.busy_share <= 1.0, "{spheres:?}");
    }
    // Validations come after the last step, and their tasks with them.
    let (tasks, last) = (report.spheres.iter().map(|s| s.tasks).sum::<u64>(), &steps[11].spheres);
    assert!(last.tasks < tasks && last.stolen <= last.tasks);
    // Every stage's time was booked, and the spheres' too.
    let busy = |name: &str| report.stages.iter().find(|s| s.name == name).unwrap().busy_seconds;
    assert!(steps[11].stages.iter().all(|stage| stage.busy_seconds <= busy(stage.name)));
    assert!(busy("spheres") > 0.0 && busy("batch") > 0.0);
    assert!(!report.bottleneck().contains("nothing"), "{}", report.bottleneck());
}

/// Files are read by threads that have a row of their own, before the loader's.
#[test]
fn where_files_are_read_their_readers_have_a_row() {
    let _watchdog = watchdog("a run on files that is looked at");
    let (out, text) = (tempdir().unwrap(), tempdir().unwrap());
    for i in 0..40 {
        fs::write(text.path().join(format!("{i}")), "some words of text ".repeat(100)).unwrap();
    }
    let options = Options { paths: vec![text.path().to_path_buf()], ..short(&out) };
    let (report, moments) = watched(&options);
    for progress in &moments.steps {
        let rows = progress.stages.iter();
        let rows = rows.map(|row| (row.name, row.workers, row.queue.map(|(_, room)| room)));
        let expected = [
            ("read", 2, Some(8)),
            ("load", 1, None),
            ("tokenize", 2, Some(8)),
            ("batch", 1, Some(8)),
        ];
        assert_eq!(rows.collect::<Vec<_>>(), expected);
    }
    let read = report.stages.iter().find(|stage| stage.name == "read").unwrap();
    assert!(read.workers == 2 && read.items >= 1 && read.busy_seconds > 0.0, "{read:?}");
}

#[test]
fn each_step_has_one_line_with_what_the_observer_was_told() {
    let _watchdog = watchdog("a run that is written down");
    let out = tempdir().unwrap();
    let options = short(&out);
    let (report, moments) = watched(&options);
    let lines = objects(&options, "metrics.jsonl");
    assert_eq!(steps_of(&lines), (1..=12).collect::<Vec<_>>());
    for (line, progress) in lines.iter().zip(&moments.steps) {
        let mut count = 0;
        each(progress, &mut |name, value| {
            // The reader of JSON rounds the last bit as it likes.
            let read = line[name].as_f64().unwrap();
            assert!((read - value).abs() <= 1e-15 * value.abs(), "{name}: {read}, {value}");
            count += 1;
        });
        let beside = 1 + usize::from(line.contains_key("val_loss"));
        assert_eq!(line.len(), count + beside, "{line:?}");
    }
    assert!(lines.windows(2).all(|two| two[0]["time"].as_f64() <= two[1]["time"].as_f64()));
    assert_eq!(validated(&lines), [3, 6, 9, 12]);
    assert_eq!(lines[11]["val_loss"].as_f64(), report.val_loss);
    // A few words at a tenth and at half of the run, and at its end.
    let samples = objects(&options, "samples.jsonl");
    assert_eq!(steps_of(&samples), [3, 6, 12]);
    let texts: Vec<(u64, String)> = samples
        .iter()
        .map(|s| (s["step"].as_u64().unwrap(), s["text"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(texts, moments.samples);
    // Another run in its place leaves nothing of it.
    let options = Options { overwrite: true, steps: 2, ..options };
    watched(&options);
    assert_eq!(steps_of(&objects(&options, "metrics.jsonl")), [1, 2]);
    assert_eq!(steps_of(&objects(&options, "samples.jsonl")), [2]);
}

/// Stopped between a step and its validation, and between two others.
#[test]
fn a_run_that_was_stopped_goes_on_with_the_same_lines_and_the_same_weights() {
    let _watchdog = watchdog("lines of a run that was stopped");
    let out = tempdir().unwrap();
    let (whole, _) = watched(&short(&out));
    let (lines, samples) =
        (losses(&objects(&short(&out), "metrics.jsonl")), objects(&short(&out), "samples.jsonl"));
    for step in [6, 7] {
        let out = tempdir().unwrap();
        let options = short(&out);
        stopped(&options, step);
        let part = objects(&options, "metrics.jsonl");
        assert_eq!(steps_of(&part), (1..=step).collect::<Vec<_>>());
        assert_eq!(validated(&part).contains(&6), step == 7);
        let (report, _) = watched(&Options { resume: true, ..options.clone() });
        assert_eq!(losses(&objects(&options, "metrics.jsonl")), lines, "stopped after {step}");
        assert_eq!(objects(&options, "samples.jsonl"), samples, "stopped after {step}");
        assert_eq!(report.weights_sha256, whole.weights_sha256);
    }
}

/// What a killed process leaves: a checkpoint, and lines beyond it of which the last is not whole.
#[test]
fn a_run_that_was_killed_goes_on_with_each_step_once() {
    let _watchdog = watchdog("lines of a run that was killed");
    let out = tempdir().unwrap();
    let (whole, _) = watched(&short(&out));
    let lines = losses(&objects(&short(&out), "metrics.jsonl"));
    let folder = tempdir().unwrap();
    let options = Options { checkpoint_every: 4, ..short(&folder) };
    stopped(&options, 7);
    let model = ["config.json", "model.safetensors", "optimizer.safetensors", "report.json"];
    model.iter().for_each(|name| fs::remove_file(options.out.join(name)).unwrap());
    let mut file =
        fs::OpenOptions::new().append(true).open(options.out.join("metrics.jsonl")).unwrap();
    file.write_all(b"{\"time\":1,\"step\":8,\"lo").unwrap();
    let (report, moments) = watched(&Options { resume: true, ..options.clone() });
    assert_eq!((report.resumed_from, moments.steps[0].step), (Some(6), 7));
    assert_eq!(losses(&objects(&options, "metrics.jsonl")), lines);
    assert_eq!(report.weights_sha256, whole.weights_sha256);
}

#[test]
fn records_change_no_weight_and_one_that_cannot_be_written_ends_no_run() {
    let _watchdog = watchdog("records that cannot be written");
    let out = tempdir().unwrap();
    let (whole, _) = watched(&short(&out));
    let without = tempdir().unwrap();
    let silent = Options { eval_interval: 0, ..short(&without) };
    let (quiet, moments) = watched(&silent);
    assert_eq!(quiet.weights_sha256, whole.weights_sha256, "without validations and samples");
    assert_eq!(moments.samples.len(), 1);
    let blocked = tempdir().unwrap();
    let options = short(&blocked);
    for name in ["metrics.jsonl", ".metrics.jsonl.before"] {
        fs::create_dir_all(options.out.join(name)).unwrap();
    }
    let (report, moments) = watched(&options);
    assert_eq!(report.weights_sha256, whole.weights_sha256);
    let note = "metrics.jsonl cannot be written, and the run goes on without it: ";
    assert_eq!(moments.notes.iter().filter(|n| n.starts_with(note)).count(), 1);
}
