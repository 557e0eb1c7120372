//! The trace of a run says what the run did, and changes nothing of it.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::{TempDir, tempdir};
use tiny::tiny;
use twelvefold::report::{Observer, Progress, RunReport};
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

/// Times in nanoseconds.
#[derive(Debug, Clone)]
struct Span {
    thread: u64,
    name: String,
    begun: u64,
    ended: u64,
    args: Value,
}

#[derive(Debug)]
struct Arrow {
    kind: String,
    thread: u64,
    at: u64,
    id: u64,
}

/// What a file holds.
#[derive(Debug, Default)]
struct Trace {
    threads: BTreeMap<u64, String>,
    spans: Vec<Span>,
    arrows: Vec<Arrow>,
    counters: BTreeMap<String, Vec<u64>>,
    missing: u64,
}

/// A time in the file, which has three digits behind the point: read from its text, to the nanosecond.
fn nanoseconds(value: &Value) -> u64 {
    let text = value.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
    whole.parse::<u64>().unwrap() * 1000 + format!("{part:0<3}").parse::<u64>().unwrap()
}

fn read(path: &Path) -> Trace {
    let mut trace = Trace::default();
    let events: Vec<Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for event in events {
        assert_eq!(event["pid"], std::process::id());
        let name = event["name"].as_str().unwrap().to_owned();
        let thread = event["tid"].as_u64().unwrap_or(0);
        match event["ph"].as_str().unwrap() {
            "M" if name == "thread_name" => {
                let name = event["args"]["name"].as_str().unwrap().to_owned();
                assert!(trace.threads.insert(thread, name).is_none(), "two threads with one id");
            }
            "M" => assert_eq!(event["args"]["name"], "twelvefold"),
            "X" => {
                let begun = nanoseconds(&event["ts"]);
                let ended = begun + nanoseconds(&event["dur"]);
                trace.spans.push(Span { thread, name, begun, ended, args: event["args"].clone() });
            }
            "C" => {
                let items = event["args"]["items"].as_u64().unwrap();
                trace.counters.entry(name).or_default().push(items);
            }
            "i" => trace.missing += event["args"]["events"].as_u64().unwrap(),
            kind @ ("s" | "t" | "f") => trace.arrows.push(Arrow {
                kind: kind.to_owned(),
                thread,
                at: nanoseconds(&event["ts"]),
                id: event["id"].as_u64().unwrap(),
            }),
            other => panic!("an event of kind {other}"),
        }
    }
    trace
}

impl Trace {
    fn thread(&self, name: &str) -> u64 {
        *self.threads.iter().find(|(_, known)| *known == name).unwrap().0
    }

    /// The time at work of all threads of a name's beginning.
    fn busy(&self, prefix: &str) -> u64 {
        let is_of = |span: &&Span| self.threads[&span.thread].starts_with(prefix);
        let works = |span: &&Span| span.name != "reduce";
        self.spans.iter().filter(is_of).filter(works).map(|span| span.ended - span.begun).sum()
    }

    /// The innermost span at an arrow's place.
    fn at(&self, arrow: &Arrow) -> &Span {
        let holds = |span: &&Span| {
            span.thread == arrow.thread
                && span.begun <= arrow.at
                && arrow.at < span.ended.max(span.begun + 1)
        };
        self.spans.iter().filter(holds).max_by_key(|span| span.begun).unwrap()
    }

    /// Spans of one thread lie one behind the other or one inside the other.
    fn assert_nested(&self) {
        for thread in self.threads.keys() {
            let mut open: Vec<u64> = Vec::new();
            for span in self.spans.iter().filter(|span| span.thread == *thread) {
                while open.last().is_some_and(|end| *end <= span.begun) {
                    open.pop();
                }
                assert!(open.last().is_none_or(|end| span.ended <= *end), "{span:?} juts out");
                open.push(span.ended);
            }
        }
    }

    /// Each road begins once, passes one place at most, and ends once, in the order of time.
    fn roads(&self) -> BTreeMap<u64, Vec<&Arrow>> {
        let mut roads: BTreeMap<u64, Vec<&Arrow>> = BTreeMap::new();
        self.arrows.iter().for_each(|arrow| roads.entry(arrow.id).or_default().push(arrow));
        for road in roads.values_mut() {
            road.sort_by_key(|arrow| (arrow.kind != "s", arrow.kind == "f"));
            let kinds: String = road.iter().map(|arrow| &*arrow.kind).collect();
            assert!(["sf", "stf"].contains(&&*kinds), "{road:?}");
            assert!(road.windows(2).all(|two| two[0].at <= two[1].at), "{road:?}");
        }
        roads
    }
}

fn traced(out: &TempDir) -> Options {
    Options {
        out: out.path().join("out"),
        steps: 12,
        eval_interval: 4,
        checkpoint_every: 6,
        spheres: 3,
        trace: Some(PathBuf::new()),
        ..tiny()
    }
}

/// Stops at a step, and keeps notes.
#[derive(Default)]
struct Watch {
    notes: Vec<String>,
    stop: Option<(u64, Cancel)>,
}

impl Observer for Watch {
    fn step(&mut self, progress: &Progress) {
        if let Some((_, cancel)) = self.stop.as_ref().filter(|(step, _)| *step == progress.step) {
            cancel.request();
        }
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

fn trained(options: &Options) -> (RunReport, Trace) {
    let report = run(options, &Cancel::new(), &mut ()).unwrap();
    (report, read(&options.out.join("trace.json")))
}

fn busy_of(report: &RunReport, stages: &[&str]) -> u64 {
    let of = |stage: &&twelvefold::report::summary::StageReport| stages.contains(&&*stage.name);
    let ns = |seconds: f64| (seconds * 1e9).round() as u64;
    report.stages.iter().filter(of).map(|stage| ns(stage.busy_seconds)).sum()
}

#[test]
fn every_task_and_every_step_of_a_stage_is_a_span_as_long_as_the_report_says() {
    let _watchdog = watchdog("a run that is traced");
    for tokenizer in ["bytes", "bpe:300"] {
        let out = tempdir().unwrap();
        let options = Options { tokenizer: tokenizer.to_owned(), ..traced(&out) };
        let (report, trace) = trained(&options);
        assert_eq!(trace.missing, 0);
        trace.assert_nested();
        let tasks = |span: &&Span| span.args.get("sphere").is_some() && span.name != "reduce";
        for sphere in &report.spheres {
            let thread = trace.thread(&format!("tf-sphere-{:02}", sphere.id));
            let own: Vec<&Span> =
                trace.spans.iter().filter(tasks).filter(|span| span.thread == thread).collect();
            assert_eq!(own.len() as u64, sphere.tasks, "sphere {}", sphere.id);
            for span in own {
                let place = ["sphere", "level", "group"].map(|name| span.args[name].as_u64());
                let known = [sphere.id, sphere.level, sphere.group].map(|n| Some(n as u64));
                assert_eq!(place, known);
            }
        }
        // Both are taken from the same readings of the clock, so nothing is lost but what a report's
        // seconds round: less than a nanosecond for each stage.
        assert!(trace.busy("tf-sphere").abs_diff(busy_of(&report, &["spheres"])) <= 1);
        assert!(trace.busy("tf-load").abs_diff(busy_of(&report, &["load"])) <= 1);
        assert!(trace.busy("tf-tok").abs_diff(busy_of(&report, &["learn", "tokenize"])) <= 2);
        assert!(trace.busy("tf-batch").abs_diff(busy_of(&report, &["batch"])) <= 1);
    }
}

#[test]
fn what_the_control_thread_does_has_spans_and_every_edge_has_a_level() {
    let _watchdog = watchdog("a run that is traced");
    let out = tempdir().unwrap();
    let (report, trace) = trained(&traced(&out));
    let control = trace.thread("control");
    let count = |name: &str| {
        trace.spans.iter().filter(|span| span.thread == control && span.name == name).count()
    };
    assert_eq!(
        ["step", "checkpoint", "outputs"].map(count),
        [12, report.checkpoints.saved as usize, 1]
    );
    assert!(count("validation") >= 3 && count("sample") >= 1);
    let names: Vec<&str> = trace.counters.keys().map(String::as_str).collect();
    let edges = ["batch-spheres", "load-tok-0", "load-tok-1", "tok-0-batch", "tok-1-batch"];
    assert_eq!(names, edges);
    assert!(trace.counters.values().all(|levels| levels.windows(2).all(|two| two[0] != two[1])));
    // Every step's phases end once: two micro-batches of two phases, and the update; the validations' once.
    let reduced = trace.spans.iter().filter(|span| span.name == "reduce").count();
    assert_eq!(reduced, 12 * 5 + count("validation"));
}

#[test]
fn threads_have_their_own_ids_and_names() {
    let _watchdog = watchdog("a run that is traced");
    let out = tempdir().unwrap();
    let (_, trace) = trained(&traced(&out));
    let names: BTreeSet<&str> = trace.threads.values().map(String::as_str).collect();
    let stages = ["control", "tf-batch", "tf-load", "tf-sphere-00", "tf-sphere-01", "tf-sphere-02"];
    assert_eq!(names, stages.into_iter().chain(["tf-tok-0", "tf-tok-1"]).collect());
    // On Linux this thread's own is the last part of a link.
    if let Ok(link) = fs::read_link("/proc/thread-self") {
        let own: u64 = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert_eq!(trace.thread("control"), own);
    }
    let process = u64::from(std::process::id());
    let others = trace.threads.iter().filter(|(_, name)| *name != "control");
    assert!(others.map(|(id, _)| *id).all(|id| id != process && id != 0));
}

#[test]
fn a_micro_batch_goes_from_the_batcher_over_a_sphere_to_the_optimizer_and_a_chunk_to_the_batcher() {
    let _watchdog = watchdog("a run that is traced");
    for tokenizer in ["bytes", "bpe:300"] {
        let out = tempdir().unwrap();
        let options = Options { tokenizer: tokenizer.to_owned(), ..traced(&out) };
        let (_, trace) = trained(&options);
        let mut kinds: BTreeMap<Vec<&str>, u64> = BTreeMap::new();
        let mut steps = Vec::new();
        for road in trace.roads().values() {
            let spans: Vec<&Span> = road.iter().map(|arrow| trace.at(arrow)).collect();
            let mut names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
            // The last task of the update holds the end of its phase too.
            names.iter_mut().filter(|name| **name == "reduce").for_each(|name| *name = "optimizer");
            if names[0] == "pack a step" {
                steps.push((
                    spans[0].args["step"].as_u64().unwrap(),
                    spans[1].args["micro_batch"].as_u64().unwrap(),
                ));
            } else {
                let chunks: BTreeSet<_> =
                    spans.iter().map(|span| span.args["chunk"].as_u64().unwrap()).collect();
                assert_eq!(chunks.len(), 1, "one chunk on its road: {spans:?}");
            }
            *kinds.entry(names).or_default() += 1;
        }
        steps.sort_unstable();
        steps.dedup();
        let expected: Vec<(u64, u64)> = (1..=12).flat_map(|step| [(step, 0), (step, 1)]).collect();
        assert_eq!(steps, expected, "each micro-batch of each step");
        // A slot is a sequence here: two of each micro-batch.
        let road = vec!["pack a step", "forward and backward", "optimizer"];
        assert_eq!(kinds.remove(&road), Some(12 * 2 * 2));
        let road: &[&str] = if tokenizer == "bytes" {
            &["load", "tokenize", "take tokens"]
        } else {
            &["load", "learn"]
        };
        // The chunk that says where the text ends may be on its way yet when the run ends.
        assert!(kinds.remove(road).is_some());
        assert!(kinds.keys().all(|way| road.starts_with(way)), "{kinds:?}");
    }
}

#[test]
fn a_trace_changes_no_weight_and_is_no_setting_that_a_resume_refuses() {
    let _watchdog = watchdog("runs with a trace and without");
    let out = tempdir().unwrap();
    let (with, _) = trained(&traced(&out));
    let silent = tempdir().unwrap();
    let options = Options { trace: None, ..traced(&silent) };
    let without = run(&options, &Cancel::new(), &mut ()).unwrap();
    assert_eq!(with.weights_sha256, without.weights_sha256);
    assert!(!options.out.join("trace.json").exists());
    let halved = tempdir().unwrap();
    let options = Options { trace: None, ..traced(&halved) };
    let cancel = Cancel::new();
    let mut watch = Watch { stop: Some((7, cancel.clone())), ..Watch::default() };
    run(&options, &cancel, &mut watch).unwrap();
    let path = halved.path().join("other.json");
    let options = Options { resume: true, trace: Some(path.clone()), ..options };
    let rest = run(&options, &Cancel::new(), &mut watch).unwrap();
    assert_eq!(rest.weights_sha256, with.weights_sha256);
    let steps: Vec<u64> = read(&path)
        .spans
        .iter()
        .filter(|span| span.name == "step")
        .map(|span| span.args["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [8, 9, 10, 11, 12]);
    assert!(watch.notes.last().unwrap().contains("https://ui.perfetto.dev"), "{:?}", watch.notes);
}

#[test]
fn a_run_that_is_stopped_leaves_a_whole_trace() {
    let _watchdog = watchdog("a run that is stopped");
    let out = tempdir().unwrap();
    let options = Options { steps: 1_000_000, ..traced(&out) };
    let cancel = Cancel::new();
    let mut watch = Watch { stop: Some((7, cancel.clone())), ..Watch::default() };
    let report = run(&options, &cancel, &mut watch).unwrap();
    let trace = read(&options.out.join("trace.json"));
    assert!(report.interrupted && trace.missing == 0);
    assert_eq!(trace.spans.iter().filter(|span| span.name == "step").count(), 7);
    trace.assert_nested();
    trace.roads();
    let left = fs::read_dir(&options.out).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_str().unwrap().ends_with(".tmp")));
}

#[test]
fn a_run_that_replaces_another_leaves_no_trace_of_it() {
    let _watchdog = watchdog("runs that replace each other");
    let out = tempdir().unwrap();
    let options = Options { steps: 2, ..traced(&out) };
    trained(&options);
    let options = Options { overwrite: true, steps: 3, ..options };
    let (_, trace) = trained(&options);
    assert_eq!(trace.spans.iter().filter(|span| span.name == "step").count(), 3);
    let options = Options { trace: None, ..options };
    run(&options, &Cancel::new(), &mut ()).unwrap();
    assert!(!options.out.join("trace.json").exists());
}

#[test]
fn a_trace_that_cannot_be_made_is_refused_before_anything_is_trained() {
    let out = tempdir().unwrap();
    let path = out.path().join("missing").join("trace.json");
    let options = Options { trace: Some(path.clone()), ..traced(&out) };
    let error = run(&options, &Cancel::new(), &mut ()).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("cannot create"), "{error}");
    assert!(!options.out.join("model.safetensors").exists());
}
