//! What a run shows elsewhere is what it wrote down: TensorBoard's events and the page for Prometheus
//! against `metrics.jsonl`.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/events.rs"]
mod events;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use events::{Event, events, file};
use tempfile::{TempDir, tempdir};
use tiny::tiny;
use twelvefold::report::metrics::{each, read};
use twelvefold::report::progress::{SpheresState, StageState};
use twelvefold::report::tensorboard::{SAMPLE, tag};
use twelvefold::report::{Observer, Progress};
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

/// Asks for the page at each step and after each validation.
#[derive(Default)]
struct Scraper {
    address: String,
    pages: BTreeMap<u64, String>,
    texts: Vec<(u64, String)>,
    step: u64,
    stop: Option<(u64, Cancel)>,
}

impl Scraper {
    fn scrape(&mut self, progress: &Progress) {
        self.step = progress.step;
        if !self.address.is_empty() {
            self.pages.insert(progress.step, page(&self.address));
        }
    }
}

impl Observer for Scraper {
    fn plan(&mut self, text: &str) {
        let told = text.lines().find_map(|line| line.strip_prefix("prometheus http://"));
        if let Some(told) = told {
            self.address = told.strip_suffix("/metrics").unwrap().to_owned();
            let page = page(&self.address);
            assert!(page.contains("build_info") && !page.contains("steps_total"), "{page}");
        }
    }

    fn step(&mut self, progress: &Progress) {
        self.scrape(progress);
        if let Some((step, cancel)) = &self.stop
            && *step == progress.step
        {
            cancel.request();
        }
    }

    fn validated(&mut self, progress: &Progress) {
        self.scrape(progress);
    }

    fn sample(&mut self, text: &str) {
        self.texts.push((self.step, text.to_owned()));
    }

    fn sample_at(&mut self, step: u64, text: &str) {
        self.texts.push((step, text.to_owned()));
    }
}

fn page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4;"),
        "{head}"
    );
    page.to_owned()
}

fn run_with(options: &Options, stop: Option<u64>) -> Scraper {
    let cancel = Cancel::new();
    let stop = stop.map(|step| (step, cancel.clone()));
    let mut scraper = Scraper { stop, ..Scraper::default() };
    run(options, &cancel, &mut scraper).unwrap();
    scraper
}

fn short(out: &TempDir) -> Options {
    Options {
        out: out.path().join("out"),
        steps: 12,
        eval_interval: 3,
        tensorboard: true,
        ..tiny()
    }
}

/// The lines of a run, each a number under its name.
fn lines(out: &Path) -> Vec<BTreeMap<String, f64>> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let numbers = |line: &str| {
        read(line).unwrap().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    text.lines().map(numbers).collect()
}

/// Asserts that the event file has each number of each line once, and nothing else; its texts by their
/// steps.
fn assert_events_are_the_lines(out: &Path) -> Vec<(u64, String)> {
    let (all, lines) = (events(out), lines(out));
    assert_eq!(all[0].version, "brain.Event:2");
    assert!(all[1].is_start && all[1].step == 0, "{:?}", all[1]);
    let mut by_step: BTreeMap<u64, BTreeMap<String, f32>> = BTreeMap::new();
    let mut texts = Vec::new();
    for Event { time, step, scalars, texts: words, .. } in all.into_iter().skip(2) {
        let line = &lines[step as usize - 1];
        assert_eq!((line["step"], line["time"]), (step as f64, time));
        for (tag, value) in scalars {
            let before = by_step.entry(step).or_default().insert(tag.clone(), value);
            assert_eq!(before, None, "{tag} of step {step} stands twice");
        }
        for (tag, text) in words {
            assert_eq!(tag, SAMPLE);
            texts.push((step, text));
        }
    }
    assert_eq!(by_step.len(), lines.len());
    for (line, scalars) in lines.iter().zip(by_step.values()) {
        let numbers = line.iter().filter(|(name, _)| !["step", "time"].contains(&name.as_str()));
        let expected: BTreeMap<String, f32> =
            numbers.map(|(name, value)| (tag(name), *value as f32)).collect();
        assert_eq!(*scalars, expected);
    }
    texts
}

/// The name on the page. These are stable, so they are said once more here.
fn series(name: &str) -> String {
    let of_a_stage = [
        ("_busy_seconds", "busy_seconds_total"),
        ("_starved_seconds", "starved_seconds_total"),
        ("_blocked_seconds", "blocked_seconds_total"),
        ("_queue", "queue_items"),
        ("_room", "queue_room_items"),
    ];
    if let Some(rest) = name.strip_prefix("stage_") {
        let found = of_a_stage.iter().find_map(|(end, to)| Some((rest.strip_suffix(end)?, to)));
        let (stage, to) = found.unwrap();
        return format!("twelvefold_stage_{to}{{stage=\"{stage}\"}}");
    }
    let others = [
        ("step", "steps_total"),
        ("time", "step_timestamp_seconds"),
        ("seconds", "run_seconds"),
        ("val_loss", "validation_loss"),
        ("lr", "learning_rate"),
        ("grad_norm", "gradient_norm"),
        ("tokens", "tokens_total"),
        ("skipped_steps", "skipped_steps_total"),
        ("peak_share", "peak_ratio"),
        ("spheres_busy_seconds", "spheres_busy_seconds_total"),
        ("spheres_busy_share", "spheres_busy_ratio"),
        ("spheres_tasks", "spheres_tasks_total"),
        ("spheres_stolen", "spheres_stolen_tasks_total"),
        ("spheres_queue", "spheres_queue_items"),
        ("spheres_room", "spheres_queue_room_items"),
    ];
    let to = others.iter().find(|(from, _)| *from == name).map_or(name, |(_, to)| to);
    format!("twelvefold_{to}")
}

/// Scraped in the middle of a step's callback, and the same once more after its validation.
#[test]
fn lines_events_and_pages_hold_the_same_numbers_under_all_known_names() {
    let _watchdog = watchdog("numbers in three forms");
    let out = tempdir().unwrap();
    let options = Options { prometheus: Some(([127, 0, 0, 1], 0).into()), ..short(&out) };
    let scraper = run_with(&options, None);
    assert_eq!(assert_events_are_the_lines(&options.out), scraper.texts);
    let steps: Vec<u64> = scraper.texts.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [3, 6, 12]);

    let mut known = BTreeSet::from(["time".to_owned(), "val_loss".to_owned()]);
    let (queue, peak_share) = (Some((1, 2)), Some(1.0));
    let stage = |name| StageState { name, queue, ..StageState::default() };
    let progress = Progress {
        peak_share,
        memory_bytes: Some(1),
        stages: ["tokenize", "batch"].map(stage).to_vec(),
        spheres: SpheresState { queue, ..SpheresState::default() },
        ..Progress::default()
    };
    each(&progress, &mut |name, value| {
        assert!(value.is_finite() || name == "tokens_per_second");
        known.insert(name.to_owned());
    });
    let lines = lines(&options.out);
    let last: BTreeSet<String> = lines[11].keys().cloned().collect();
    assert!(known.is_subset(&last), "{:?}", known.difference(&last));

    assert_eq!(scraper.pages.len(), 12);
    for (line, page) in lines.iter().zip(scraper.pages.values()) {
        let mut found: BTreeMap<&str, f64> = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        assert_eq!(found.remove("twelvefold_build_info{version=\"0.1.0\"}"), Some(1.0));
        for (name, value) in line {
            let series = series(name);
            assert_eq!(found.remove(&*series), Some(*value), "{series} in {page}");
        }
        // The last validation stays on the page until the next.
        found.remove("twelvefold_validation_loss");
        assert!(found.is_empty(), "{found:?}");
    }
    // The run has ended, and nobody listens any more.
    assert!(TcpStream::connect(&scraper.address).is_err());
}

/// Stopped between a step and its validation, between two others, and after a checkpoint.
#[test]
fn events_of_a_run_that_was_stopped_or_killed_have_each_step_once() {
    let _watchdog = watchdog("events of a resumed run");
    let whole = tempdir().unwrap();
    let texts = run_with(&short(&whole), None).texts;
    for (stop, is_killed) in [(6, false), (7, false), (8, true), (9, true)] {
        let folder = tempdir().unwrap();
        let options = Options { checkpoint_every: 4, ..short(&folder) };
        let out = &options.out;
        run_with(&options, Some(stop));
        assert_events_are_the_lines(out);
        let before = file(out);
        if is_killed {
            let model =
                ["config.json", "model.safetensors", "optimizer.safetensors", "report.json"];
            model.iter().for_each(|name| fs::remove_file(out.join(name)).unwrap());
            let mut torn = fs::OpenOptions::new().append(true).open(&before).unwrap();
            torn.write_all(&[9, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
            // Readers stop there.
            assert_events_are_the_lines(out);
        }
        run_with(&Options { resume: true, ..options.clone() }, None);
        assert_eq!(assert_events_are_the_lines(out), texts, "{stop}");
        assert!(before < file(out), "a reader goes on with the file whose name comes next");
    }
}

/// The validation of the step that a run goes on from is written, lost to a kill, and written again.
#[test]
fn a_validation_that_comes_twice_stands_once() {
    let _watchdog = watchdog("events of a run that was resumed twice");
    let folder = tempdir().unwrap();
    let options = Options { checkpoint_every: 0, ..short(&folder) };
    let texts = run_with(&Options { checkpoint_every: 0, ..options.clone() }, Some(6)).texts;
    assert_eq!(texts.len(), 1);
    let keep = |names: &[&str], from: &Path, to: &Path| {
        for name in names {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    };
    let model = ["config.json", "model.safetensors", "optimizer.safetensors", "tokenizer.json"];
    let kept = tempdir().unwrap();
    keep(&model, &options.out, kept.path());
    run_with(&Options { resume: true, ..options.clone() }, Some(8));
    keep(&model, kept.path(), &options.out);
    let lines_before = lines(&options.out);
    assert!(lines_before[5].contains_key("val_loss"), "of the step that it goes on from");
    run_with(&Options { resume: true, ..options.clone() }, None);
    let steps: Vec<u64> =
        assert_events_are_the_lines(&options.out).iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [3, 6, 12]);
}

#[test]
fn events_may_be_asked_for_later_and_go_with_the_run_that_they_are_of() {
    let _watchdog = watchdog("events that come later");
    let folder = tempdir().unwrap();
    let options = short(&folder);
    let (out, silent) = (&options.out, Options { tensorboard: false, ..options.clone() });
    run_with(&silent, Some(7));
    assert!(!out.join("tensorboard").exists());
    let asked = Options { resume: true, ..options.clone() };
    run_with(&asked, None);
    assert_events_are_the_lines(out);
    // The run is over.
    fs::remove_dir_all(out.join("tensorboard")).unwrap();
    run_with(&asked, None);
    let texts = assert_events_are_the_lines(out);
    assert_eq!(texts.len(), 3);
    // Another run in its place, with events and without.
    let other = Options { overwrite: true, steps: 5, ..options.clone() };
    run_with(&other, None);
    assert_events_are_the_lines(out);
    fs::write(out.join("tensorboard/notes"), "of the user").unwrap();
    run_with(&Options { tensorboard: false, ..other }, None);
    let left: Vec<_> = fs::read_dir(out.join("tensorboard")).unwrap().collect();
    assert_eq!(left[0].as_ref().unwrap().file_name(), "notes");
    assert_eq!(left.len(), 1);
}

#[test]
fn an_address_that_is_taken_ends_a_run_before_it_begins() {
    let folder = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options { prometheus: Some(taken.local_addr().unwrap()), ..short(&folder) };
    let error = run(&options, &Cancel::new(), &mut ()).unwrap_err().to_string();
    assert!(error.contains("--prometheus") && error.contains("give another port"), "{error}");
    assert!(!options.out.exists());
}

#[test]
fn neither_changes_a_weight_and_events_that_cannot_be_written_end_no_run() {
    let _watchdog = watchdog("events that cannot be written");
    let weights = |options: &Options| run(options, &Cancel::new(), &mut ()).unwrap().weights_sha256;
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let silent = weights(&Options { tensorboard: false, ..short(&one) });
    let options = Options { prometheus: Some(([127, 0, 0, 1], 0).into()), ..short(&two) };
    fs::create_dir_all(&options.out).unwrap();
    fs::write(options.out.join("tensorboard"), "a file").unwrap();
    assert_eq!(weights(&options), silent);
    assert_eq!(fs::read(options.out.join("tensorboard")).unwrap(), b"a file");
}
