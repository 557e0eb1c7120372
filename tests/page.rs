//! `report.html` is a page that asks for nothing, tells what the files of its run hold and no more, and is right
//! however the run ended.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node, ParsingOptions};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tiny::tiny;
use twelvefold::report::summary::{
    CheckpointReport, CorpusReport, EdgeReport, InvalidText, RunReport, SkippedFile, SphereReport,
    StageReport,
};
use twelvefold::report::{Observer, Progress};
use twelvefold::train::page::write;
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

const EVIL: &str = "<script>alert(1)</script>\"'&]]>\u{0}\u{1b}[2J\u{202e}";
const EVIL_SEEN: &str = "<script>alert(1)</script>\"'&]]>␀␛[2J\u{fffd}";

/// A folder of a run that never was.
struct Folder(TempDir);

impl Folder {
    /// With these files beside a report.
    fn of(report: &RunReport, files: &[(&str, &[u8])]) -> Self {
        let folder = Folder(tempdir().unwrap());
        folder.write("report.json", report.to_json().as_bytes());
        files.iter().for_each(|(name, bytes)| folder.write(name, bytes));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn page(&self) -> String {
        write(self.0.path(), &self.path("page.html")).unwrap();
        fs::read_to_string(self.path("page.html")).unwrap()
    }
}

/// A report with something in every place.
fn report() -> RunReport {
    let file = |n: usize| SkippedFile { path: format!("{EVIL}{n}"), reason: EVIL.to_owned() };
    let stage = |name: &str, busy_seconds| StageReport {
        name: name.to_owned(),
        workers: 2,
        items: 1_234,
        busy_seconds,
        starved_seconds: 2.5,
        blocked_seconds: 0.125,
    };
    let edge = |name: &str, abandoned| EdgeReport {
        name: name.to_owned(),
        items_in: 70_000 + abandoned,
        items_out: 70_000,
        abandoned,
        high_water: 8,
    };
    let sphere = |id: usize| SphereReport {
        id,
        level: 1 + id / 12,
        group: id % 12,
        parent: id / 12,
        tasks: 400 + id as u64,
        stolen: id as u64,
        busy_seconds: 3.0 + id as f64 / 7.0,
    };
    RunReport {
        steps: 40,
        tokens: 81_920,
        seconds: 12.5,
        tokens_per_second: 6_553.6,
        peak_flops: Some(2.3e11),
        peak_share: Some(0.61),
        train_loss: Some(1.0 / 3.0),
        val_loss: Some(0.7),
        val_bits_per_byte: Some(0.55),
        floor_bits_per_byte: Some(0.45),
        unigram_bits_per_byte: Some(2.2),
        bigram_bits_per_byte: Some(0.97),
        weights_sha256: "be01a7af".repeat(8),
        receipt: "0f".repeat(32),
        parameters: 182_016,
        cores: 2,
        cores_busy: Some(1.91),
        peak_memory_bytes: Some(47_837_184),
        kernels: "avx2".to_owned(),
        checkpoints: CheckpointReport { saved: 3, failed: 1, best: Some(30) },
        corpus: CorpusReport {
            files: 900,
            opened: 901,
            bytes: 4_000_575,
            documents: 880,
            tokens: 1_095_368,
            skipped: (0..150).map(file).collect(),
            bad_records: 2_000,
            bad: (0..7).map(file).collect(),
            invalid: vec![InvalidText { path: EVIL.to_owned(), byte: 17, count: 3 }],
            ..CorpusReport::default()
        },
        stages: vec![stage("load", 0.5), stage("spheres", 20.0)],
        edges: vec![edge("load-tok-0", 0), edge("sphere-tasks", 5)],
        spheres: (0..14).map(sphere).collect(),
        settings: json!({ "out": "somewhere/my-model", "steps": 50, "lr": 0.005, "paths": [EVIL] }),
        ..RunReport::default()
    }
}

fn metrics(steps: u64, change: impl Fn(u64, &mut Value)) -> String {
    let mut text = String::new();
    for step in 1..=steps {
        let mut line = json!({
            "time": 1_735_689_600.0 + step as f64, "step": step, "seconds": 0.25 * step as f64,
            "loss": (64 - step % 64) as f64 / 8.0, "lr": 0.001, "grad_norm": 1.5 + (step % 7) as f64,
            "tokens_per_second": 6_000.0 + step as f64, "memory_bytes": 40_000_000 + step,
            "spheres_tasks": step * 10,
        });
        change(step, &mut line);
        writeln!(text, "{line}").unwrap();
    }
    text
}

fn settings() -> Vec<u8> {
    let settings = json!({ "out": format!("far/{EVIL}"), "seed": 7, "text": EVIL, "none": null });
    settings.to_string().into_bytes()
}

fn samples() -> Vec<u8> {
    let line = |step: u64| json!({ "step": step, "text": format!("{EVIL} {step}\nsecond line") });
    format!("{}\n{}\n", line(4), line(40)).into_bytes()
}

fn full() -> Folder {
    let validated = |step: u64, line: &mut Value| {
        if step.is_multiple_of(10) {
            line["val_loss"] = json!(6.0 / step as f64);
        }
    };
    let lines = metrics(40, validated);
    let files = [("metrics.jsonl", lines.as_bytes()), ("samples.jsonl", &samples())];
    let folder = Folder::of(&report(), &files);
    folder.write("settings.json", &settings());
    folder
}

fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|e| panic!("{e} in {page}"))
}

/// All words below an element.
fn words(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|n| n.text().filter(|_| n.is_text())).collect()
}

/// The rows of the tables with this caption: of each cell its number as the files have it, or its words.
fn rows(document: &Document<'_>, caption: &str) -> Vec<Vec<String>> {
    let named = |n: &Node<'_, '_>| {
        n.has_tag_name("table") && words(n.first_element_child().unwrap()) == caption
    };
    let cell = |n: Node<'_, '_>| {
        let held = n.descendants().find_map(|n| n.attribute("value"));
        held.map_or_else(|| words(n), str::to_owned)
    };
    let tables = document.descendants().filter(named);
    let body = tables.flat_map(|t| t.descendants().filter(|n| n.has_tag_name("tbody")));
    let all = body.flat_map(|b| b.children().filter(Node::is_element));
    all.map(|row| row.children().filter(Node::is_element).map(cell).collect()).collect()
}

fn paragraphs(document: &Document<'_>) -> String {
    document.descendants().filter(|n| n.has_tag_name("p")).map(|n| words(n) + "\n").collect()
}

fn texts<const N: usize>(values: [&dyn ToString; N]) -> Vec<String> {
    values.map(ToString::to_string).to_vec()
}

#[test]
fn a_page_is_well_formed_asks_for_nothing_and_holds_nothing_from_outside_but_as_text() {
    let page = full().page();
    let document = parsed(&page);
    let spaces = ["http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"];
    let rest = spaces.iter().fold(page.clone(), |page, space| page.replace(space, ""));
    assert!(!rest.contains("://") && !rest.contains("url(") && !rest.contains("@import"));
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    let meta = document.descendants().find(|n| n.attribute("http-equiv").is_some()).unwrap();
    assert_eq!(meta.attribute("content"), Some(policy));
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        assert!(
            !["script", "link", "img", "iframe", "object", "use", "a"].contains(&name),
            "{name}"
        );
        for attribute in node.attributes() {
            let name = attribute.name();
            assert!(!name.starts_with("on") && !["href", "src", "style"].contains(&name), "{name}");
        }
    }
    // What is evil is read as it is, with its controls made visible; the folder's name too.
    let quotes = document.descendants().filter(|n| n.has_tag_name("blockquote"));
    let seen = |step: u64| format!("{EVIL_SEEN} {step}\nsecond line");
    assert_eq!(quotes.map(words).collect::<Vec<_>>(), [seen(4), seen(40)]);
    let title = document.descendants().find(|n| n.has_tag_name("title")).unwrap();
    assert!(words(title).starts_with("script>\"'&]]>␀␛[2J\u{fffd}: 40 steps in 13 s"), "{page}");
    assert_eq!(
        rows(&document, "Files that were left out")[3],
        [&format!("{EVIL_SEEN}3"), EVIL_SEEN]
    );
    assert_eq!(rows(&document, "Text that is not all UTF-8"), [[EVIL_SEEN, "3", "17"]]);
    // Every picture has words, and every one of its sizes is a number.
    let pictures: Vec<_> = document.descendants().filter(|n| n.has_tag_name("svg")).collect();
    assert_eq!(pictures.len(), 9);
    assert!(pictures.iter().all(|svg| svg.attribute("aria-label").is_some_and(|l| l.len() > 20)));
    assert!(!page.contains("NaN") && !page.contains("inf "), "{page}");
}

#[test]
fn every_number_of_the_report_stands_in_the_page_as_it_is() {
    let (folder, report) = (full(), report());
    let page = folder.page();
    let document = parsed(&page);
    let stage = |s: &StageReport| {
        let busy = s.busy_seconds / (2.0 * report.seconds);
        let times = [s.busy_seconds, s.starved_seconds, s.blocked_seconds, busy];
        let times = times.map(|time| time.to_string());
        [texts([&s.name, &s.workers, &s.items]), times.to_vec()].concat()
    };
    let stages: Vec<_> = report.stages.iter().map(stage).collect();
    assert_eq!(rows(&document, "Times over all workers of a stage"), stages);
    let edge =
        |e: &EdgeReport| texts([&e.name, &e.items_in, &e.items_out, &e.abandoned, &e.high_water]);
    let edges: Vec<_> = report.edges.iter().map(edge).collect();
    assert_eq!(rows(&document, "What each hand-off carried"), edges);
    let sphere = |s: &SphereReport| {
        texts([&s.id, &s.level, &s.group, &s.parent, &s.tasks, &s.stolen, &s.busy_seconds])
    };
    let spheres: Vec<_> = report.spheres.iter().map(sphere).collect();
    assert_eq!(rows(&document, "Each sphere"), spheres);
    let of = |caption: &str, at: usize| -> Vec<String> {
        rows(&document, caption).into_iter().map(|row| row[at].clone()).collect()
    };
    let above = report.above_floor().unwrap();
    let losses = texts([&(1.0 / 3.0), &0.7, &0.55, &0.45, &above, &2.2, &0.97]);
    assert_eq!(of("Losses at the end", 1), losses);
    let corpus = ["900", "901", "150", "880", "4000575", "1095368", "0", "2000", "1"];
    assert_eq!(of("The text of the run", 1), corpus);
    assert_eq!(of("Files that were left out", 0).len(), 100);
    let said = paragraphs(&document);
    assert!(
        said.contains("And 50 more; see report.json.") && said.contains("And 1,900 more"),
        "{said}"
    );
    let digests = of("What tells this run from others", 1);
    assert_eq!(digests[..2], [report.weights_sha256.clone(), report.receipt.clone()]);
    let tiles = document.descendants().filter(|n| n.has_tag_name("dd"));
    let tiles: Vec<f64> = tiles
        .map(|n| n.first_element_child().unwrap().attribute("value").unwrap().parse().unwrap())
        .collect();
    let expected = [0.7, 0.55, above, 6_553.6, 0.61, 1.91, 12.5, 47_837_184.0, 182_016.0, 81_920.0];
    assert_eq!(tiles, expected);
    let line = "40 steps in 13 s, training loss 0.3333, validation loss 0.7000 nats a token, \
                6.6 k tokens/s, 61.0 % of the peak.";
    assert!(said.starts_with(line), "{said}");
    let sentence = report.bottleneck();
    assert!(said.contains(&sentence[1..]) && sentence.starts_with('t'), "{said}");
    let settings = rows(&document, "Settings of the run");
    assert_eq!(settings.len(), 4);
    assert!(settings.contains(&vec!["text".to_owned(), EVIL_SEEN.to_owned()]), "{settings:?}");
}

#[test]
fn the_moments_and_the_ends_of_the_curves_are_those_of_the_lines() {
    let page = full().page();
    let document = parsed(&page);
    let moments = rows(&document, "Some moments");
    let steps: Vec<&str> = moments.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(steps, ["1", "4", "8", "12", "16", "20", "24", "28", "32", "36", "40"]);
    // The loss of this step, the validation last before it, and the rest.
    assert_eq!(moments[6], texts([&24, &5, &0.3, &0.001, &4.5, &6_024.0, &40_000_024]));
    let reached = rows(&document, "How far the curves reach");
    assert_eq!(reached[0], texts([&"training loss", &3, &40, &7.875, &1, &3, &40]));
    assert_eq!(reached[1], texts([&"validation loss", &0.15, &40, &0.6, &10, &0.15, &4]));
    assert!(page.contains("Last step at 2025-01-01 00:00:40 UTC"));
    assert!(!paragraphs(&document).contains("metrics.jsonl tells"));
}

/// Numbers of all paths of a class.
fn drawn(document: &Document<'_>, class: &str) -> Vec<String> {
    let paths = document.descendants().filter(|n| n.attribute("class") == Some(class));
    paths.map(|n| n.attribute("d").unwrap().to_owned()).collect()
}

#[test]
fn a_long_run_is_drawn_by_a_thousand_points_and_no_spike_is_lost() {
    let report = RunReport { steps: 30_000, ..report() };
    let lines = metrics(30_000, |step, line| {
        if step == 17_321 {
            line["grad_norm"] = json!(12.0);
        }
    });
    let folder = Folder::of(&report, &[("metrics.jsonl", lines.as_bytes())]);
    let page = folder.page();
    let document = parsed(&page);
    let reached = rows(&document, "How far the curves reach");
    let norm = texts([&"gradient norm", &1.5, &7, &12, &17_321, &6.5, &30_000]);
    assert_eq!(reached[2], norm, "there was no validation");
    let path = drawn(&document, "curve c pale").pop().unwrap();
    let points: Vec<&str> = path.split(['M', 'L']).skip(1).collect();
    assert!((500..=1_030).contains(&points.len()), "{}", points.len());
    // The axis goes to 12; the top of the picture is at 24.
    let top: Vec<_> = points.iter().filter(|point| point.ends_with(" 24")).collect();
    assert_eq!(top.len(), 1, "{path}");
    assert!(page.len() < 300_000, "{}", page.len());
}

#[test]
fn what_is_not_there_is_said_in_its_place() {
    let bare = Folder::of(&RunReport { steps: 3, ..RunReport::default() }, &[]);
    let said = paragraphs(&parsed(&bare.page()));
    for word in [
        "There is no metrics.jsonl in the folder of the run.",
        "There is no samples.jsonl in the folder of the run.",
        "There is no settings.json in the folder of the run.",
        "report.json names no stage.",
        "report.json names no sphere.",
        "report.json names no hand-off.",
    ] {
        assert!(said.contains(word), "{word} in {said}");
    }
    // A report from before there were receipts, peaks and resumes.
    let mut old = serde_json::to_value(report()).unwrap();
    for name in ["peak_flops", "peak_share", "receipt", "checkpoints", "resumed_from"] {
        old.as_object_mut().unwrap().remove(name).unwrap();
    }
    let folder = full();
    folder.write("report.json", old.to_string().as_bytes());
    parsed(&folder.page());
    let nothing = [("metrics.jsonl", &b""[..]), ("samples.jsonl", b""), ("settings.json", b"[")];
    let empty = Folder::of(&report(), &nothing);
    let page = empty.page();
    let (document, said) = (parsed(&page), paragraphs(&parsed(&page)));
    for word in ["metrics.jsonl holds no step.", "samples.jsonl holds no sample.", "is damaged."] {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(rows(&document, "Settings of the run").iter().any(|row| row[1] == "0.005"));
    // Only without its report there is no page.
    fs::remove_file(empty.path("report.json")).unwrap();
    assert!(write(empty.0.path(), &empty.path("none.html")).is_err());
    assert!(!empty.path("none.html").exists());
    fs::create_dir(bare.path("metrics.jsonl")).unwrap();
    assert!(bare.page().contains("metrics.jsonl cannot be read: it is no regular file."));
}

#[test]
fn broken_lines_are_counted_and_the_others_shown() {
    let lines = metrics(40, |_, _| ());
    let lines: Vec<&str> = lines.lines().collect();
    // One in the middle is lost, one is no text, one is cut off.
    let text = [
        lines[..20].join("\n").as_bytes(),
        b"\n{\"step\":21,\"lo\n\xff\xfe\n",
        lines[21..].join("\n").as_bytes(),
        b"\n{\"st",
    ]
    .concat();
    let files =
        [("metrics.jsonl", &*text), ("samples.jsonl", b"{}\n{\"step\":3,\"text\":\"a\"}\n")];
    let page = Folder::of(&report(), &files).page();
    let said = paragraphs(&parsed(&page));
    assert!(said.contains("Lines of metrics.jsonl that are none, and left out: 3."), "{said}");
    assert!(said.contains("tells of 39 steps between 1 and 40; 1 are missing."), "{said}");
    assert!(said.contains("Lines of samples.jsonl that are none, and left out: 1."), "{said}");
    assert_eq!(rows(&parsed(&page), "How far the curves reach")[0][6], "39");
}

#[test]
fn a_file_that_is_no_page_is_not_replaced() {
    let folder = full();
    let before = fs::read(folder.path("settings.json")).unwrap();
    let error = write(folder.0.path(), &folder.path("settings.json")).unwrap_err().to_string();
    assert!(error.contains("settings.json is there and is no page"), "{error}");
    assert_eq!(fs::read(folder.path("settings.json")).unwrap(), before);
    assert_eq!(folder.page(), folder.page(), "the same files, the same page; and it is replaced");
}

/// Stops at a step; keeps what it is told.
#[derive(Default)]
struct Watch {
    stop: Option<(u64, Cancel)>,
    notes: Vec<String>,
    /// Becomes a folder when the model has written its sample.
    block: Option<PathBuf>,
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

    fn sample(&mut self, _text: &str) {
        self.block.iter().for_each(|path| fs::create_dir_all(path.join("full")).unwrap());
    }
}

fn options(folder: &TempDir) -> Options {
    let out = folder.path().join("out");
    Options { out, steps: 12, eval_interval: 3, checkpoint_every: 4, ..tiny() }
}

fn page_in(out: &Path) -> String {
    fs::read_to_string(out.join("report.html")).unwrap()
}

/// The page that a run left is what its files give, and tells of this many steps.
fn assert_page(options: &Options, report: &RunReport) -> String {
    let (page, again) = (page_in(&options.out), options.out.with_file_name("again.html"));
    write(&options.out, &again).unwrap();
    assert!(page == fs::read_to_string(again).unwrap(), "made anew it is another");
    let document = parsed(&page);
    assert_eq!(rows(&document, "How far the curves reach")[0][6], report.steps.to_string());
    assert_eq!(rows(&document, "What tells this run from others")[0][1], report.weights_sha256);
    drop(document);
    page
}

#[test]
fn a_run_that_is_stopped_resumed_and_resumed_again_has_the_page_of_its_files_each_time() {
    let _watchdog = watchdog("pages of a run");
    let folder = tempdir().unwrap();
    let begun = options(&folder);
    let cancel = Cancel::new();
    let mut watch = Watch { stop: Some((7, cancel.clone())), ..Watch::default() };
    let stopped = run(&begun, &cancel, &mut watch).unwrap();
    let page = assert_page(&begun, &stopped);
    assert!(page.contains("Stopped after step 7 of 12; what was trained is saved."), "{page}");
    let resume = Options { resume: true, ..begun };
    let whole = run(&resume, &Cancel::new(), &mut ()).unwrap();
    assert_eq!((whole.steps, whole.resumed_from), (12, Some(7)));
    let page = assert_page(&resume, &whole);
    assert!(page.contains("Resumed after step 7") && !page.contains("Stopped after"), "{page}");
    // The samples of the end, which come after the report, are in it too.
    assert!(page.contains("after step <data value=\"12\">"), "{page}");
    let processes = rows(&parsed(&page), "Processes that trained");
    let steps: Vec<_> = processes.iter().map(|row| [&*row[0], &*row[1]]).collect();
    assert_eq!(steps, [["1", "7"], ["8", "12"]]);
    assert!(page.contains("resumed after step 7"), "the line in the charts");
    // It is over: the same page, also where it was lost or is not whole.
    for lost in [None, Some("<!DOCTYPE html>\nhalf")] {
        fs::remove_file(resume.out.join("report.html")).unwrap();
        lost.iter().for_each(|half| fs::write(resume.out.join("report.html"), half).unwrap());
        run(&resume, &Cancel::new(), &mut ()).unwrap();
        assert!(assert_page(&resume, &whole) == page);
    }
    let names = fs::read_dir(&resume.out).unwrap().map(|e| e.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().ends_with(".tmp")));
}

#[test]
fn a_page_that_cannot_be_written_is_a_word_and_no_failure() {
    let _watchdog = watchdog("a page that cannot be written");
    let folder = tempdir().unwrap();
    let options = options(&folder);
    let block = Some(options.out.join("report.html"));
    let mut watch = Watch { block, ..Watch::default() };
    let report = run(&options, &Cancel::new(), &mut watch).unwrap();
    assert_eq!((report.steps, report.interrupted), (12, false));
    let note = "report.html cannot be written, and the run is whole without it: cannot replace ";
    assert_eq!(watch.notes.iter().filter(|n| n.starts_with(note)).count(), 1, "{:?}", watch.notes);
    fs::remove_dir_all(options.out.join("report.html")).unwrap();
    write(&options.out, &options.out.join("report.html")).unwrap();
    assert_page(&options, &report);
}
