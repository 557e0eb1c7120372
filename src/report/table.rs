//! The run as text tables, printed at its end. Pure functions to `String`, each line ended.
//!
//! ```
//! use std::path::Path;
//! use twelvefold::report::{RunReport, table};
//!
//! let (report, out) = (RunReport { steps: 300, ..RunReport::default() }, Path::new("my-model"));
//! let parts = [table::stages(&report), table::edges(&report), table::spheres(&report)];
//! assert_eq!(table::ranks(&report), ""); // It was one process.
//! let all = table::all(&report, out);
//! assert!(parts.iter().all(|part| all.contains(part.as_str())));
//! assert!(all.contains(&table::corpus(&report)) && all.ends_with(&table::results(&report, out)));
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::summary::{RunReport, SphereReport};
use super::units;

/// Up to this many spheres have a line each; more are summed by group and level.
const SPHERE_LINES: usize = 16;
/// Skipped files that are named.
const SKIPPED_LINES: usize = 10;

/// All tables, with an empty line between two.
pub fn all(report: &RunReport, out: &Path) -> String {
    let parts = [
        stages(report),
        edges(report),
        spheres(report),
        ranks(report),
        corpus(report),
        results(report, out),
    ];
    let shown: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    shown.join("\n")
}

/// Each stage: workers, items, and where its time went.
pub fn stages(report: &RunReport) -> String {
    let rows = report.stages.iter().map(|stage| {
        vec![
            stage.name.clone(),
            stage.workers.to_string(),
            stage.items.to_string(),
            units::seconds(stage.busy_seconds),
            units::seconds(stage.starved_seconds),
            units::seconds(stage.blocked_seconds),
        ]
    });
    columns(&["stage", "workers", "items", "busy", "starved", "blocked"], rows)
}

/// Each hand-off and its ledger.
pub fn edges(report: &RunReport) -> String {
    let rows = report.edges.iter().map(|edge| {
        vec![
            edge.name.clone(),
            edge.items_in.to_string(),
            edge.items_out.to_string(),
            edge.abandoned.to_string(),
            edge.high_water.to_string(),
        ]
    });
    columns(&["edge", "in", "out", "abandoned", "high water"], rows)
}

/// Each sphere, or for many of them each group and each level; and the cores kept busy.
pub fn spheres(report: &RunReport) -> String {
    let mut text = if report.spheres.len() <= SPHERE_LINES {
        let rows = report.spheres.iter().map(|s| {
            let place = [s.id, s.level, s.group, s.parent].map(|n| n.to_string());
            place.into_iter().chain(work(&Sum::of([s]))).collect()
        });
        columns(&["sphere", "level", "group", "parent", "tasks", "stolen", "busy"], rows)
    } else {
        let header = |what| [what, "spheres", "tasks", "stolen", "busy"];
        let groups = columns(&header("group"), grouped(&report.spheres, |s| s.group));
        groups + "\n" + &columns(&header("level"), grouped(&report.spheres, |s| s.level))
    };
    if let Some(busy) = report.cores_busy.filter(|_| !text.is_empty()) {
        let cores = report.cores;
        let share = units::percent(busy / cores as f64);
        let _ = writeln!(text, "{busy:.2} of {cores} cores kept busy during the steps ({share})");
    }
    text
}

/// Each process of a run that several shared; else nothing.
pub fn ranks(report: &RunReport) -> String {
    let rows = report.ranks.iter().map(|rank| {
        vec![
            rank.rank.to_string(),
            rank.host.clone(),
            rank.spheres.to_string(),
            rank.micro_batches.to_string(),
            rank.tasks.to_string(),
            units::seconds(rank.busy_seconds),
            units::seconds(rank.waited_seconds),
            units::bytes(rank.sent_bytes),
        ]
    });
    let header = ["rank", "host", "spheres", "micro-batches", "tasks", "busy", "waited", "sent"];
    columns(&header, rows)
}

/// What was read: how many files were opened how often, and what was left out.
pub fn corpus(report: &RunReport) -> String {
    let corpus = &report.corpus;
    let mut text = String::new();
    if corpus.files > 0 {
        let per_file = corpus.opened as f64 / corpus.files as f64;
        let _ = writeln!(
            text,
            "{} files, opened {} times ({per_file:.2} a file), {} skipped",
            corpus.files,
            corpus.opened,
            corpus.skipped.len(),
        );
    }
    if corpus.rewound > 0 {
        let _ = writeln!(
            text,
            "the text was read again {} times: its tokens are more than --token-memory keeps",
            corpus.rewound,
        );
    }
    // A run that was stopped early has not counted its tokens.
    let tokens = match corpus.tokens {
        0 => String::new(),
        tokens => format!(", {} tokens", units::count(tokens as f64)),
    };
    let bytes = units::bytes(corpus.bytes);
    let _ = writeln!(text, "{} documents, {bytes}{tokens}", corpus.documents);
    for skipped in corpus.skipped.iter().take(SKIPPED_LINES) {
        let _ = writeln!(text, "  skipped {}: {}", skipped.path, skipped.reason);
    }
    if let more @ 1.. = corpus.skipped.len().saturating_sub(SKIPPED_LINES) {
        let _ = writeln!(text, "  and {more} more, all named in report.json");
    }
    if corpus.bad_records > 0 {
        let _ = writeln!(text, "{} bad records", corpus.bad_records);
    }
    for bad in corpus.bad.iter().take(SKIPPED_LINES) {
        let _ = writeln!(text, "  bad record {}: {}", bad.path, bad.reason);
    }
    for bad in corpus.invalid.iter().take(SKIPPED_LINES) {
        let (path, count, byte) = (&bad.path, bad.count, bad.byte);
        let _ = writeln!(text, "  {path}: {count} parts are not UTF-8, the first at byte {byte}");
    }
    if let more @ 1.. = corpus.invalid.len().saturating_sub(SKIPPED_LINES) {
        let _ = writeln!(text, "  and {more} more files that are not all UTF-8, see report.json");
    }
    text
}

/// The losses, the speed, and where the outputs are.
pub fn results(report: &RunReport, out: &Path) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
    let mut text = String::new();
    if report.interrupted {
        let _ = writeln!(text, "stopped after step {}; what was trained is saved", report.steps);
    }
    let _ = writeln!(
        text,
        "train loss {}, validation loss {} nats a token, {} bits a byte",
        number(report.train_loss),
        number(report.val_loss),
        number(report.val_bits_per_byte),
    );
    if let Some(above) = report.above_floor() {
        let floor = number(report.floor_bits_per_byte);
        let _ = writeln!(text, "{} above the floor of {floor} bits a byte", units::percent(above));
    }
    if report.unigram_bits_per_byte.is_some() || report.bigram_bits_per_byte.is_some() {
        let (one, two) = (report.unigram_bits_per_byte, report.bigram_bits_per_byte);
        let _ = writeln!(
            text,
            "counting single tokens reaches {} bits a byte, pairs {}",
            number(one),
            number(two),
        );
    }
    let _ = writeln!(
        text,
        "{} steps, {} tokens in {}; median step {} tok/s",
        report.steps,
        units::count(report.tokens as f64),
        units::seconds(report.seconds),
        units::count(report.tokens_per_second),
    );
    if let Some(share) = report.peak_share {
        let share = units::percent(share);
        let _ = writeln!(text, "{share} of what the matrix products reach on all cores");
        let _ = writeln!(text, "{}", report.bottleneck());
    }
    if report.skipped_steps > 0 {
        let _ = writeln!(
            text,
            "{} of these steps left out: a loss or a gradient was no number",
            report.skipped_steps
        );
    }
    if let Some(peak) = report.peak_memory_bytes {
        let _ = writeln!(text, "peak memory {}", units::bytes(peak));
    }
    let _ = writeln!(text, "outputs in {}:", out.display());
    let _ = writeln!(text, "  model.safetensors config.json tokenizer.json tokenizer_config.json");
    let _ = writeln!(text, "  optimizer.safetensors settings.json");
    let _ = writeln!(text, "  report.html report.json metrics.jsonl samples.jsonl log.txt");
    text
}

/// Work of several spheres.
#[derive(Default)]
struct Sum {
    spheres: usize,
    tasks: u64,
    stolen: u64,
    busy: f64,
}

impl Sum {
    fn of<'a>(spheres: impl IntoIterator<Item = &'a SphereReport>) -> Self {
        let mut sum = Self::default();
        for sphere in spheres {
            sum.add(sphere);
        }
        sum
    }

    fn add(&mut self, sphere: &SphereReport) {
        self.spheres += 1;
        self.tasks += sphere.tasks;
        self.stolen += sphere.stolen;
        self.busy += sphere.busy_seconds;
    }
}

fn work(sum: &Sum) -> [String; 3] {
    [sum.tasks.to_string(), sum.stolen.to_string(), units::seconds(sum.busy)]
}

fn grouped(spheres: &[SphereReport], key: impl Fn(&SphereReport) -> usize) -> Vec<Vec<String>> {
    let mut sums: BTreeMap<usize, Sum> = BTreeMap::new();
    for sphere in spheres {
        sums.entry(key(sphere)).or_default().add(sphere);
    }
    let row = |(key, sum): (usize, Sum)| {
        [key.to_string(), sum.spheres.to_string()].into_iter().chain(work(&sum)).collect()
    };
    sums.into_iter().map(row).collect()
}

/// A header, a line, and the rows: the first column to the left, the others to the right. Nothing
/// where there is no row.
fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    if rows.is_empty() {
        return String::new();
    }
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.chain([header[i].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).enumerate().map(|(i, (cell, width))| match i {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let padded: Vec<String> = padded.collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut header.iter().copied());
    let _ = writeln!(text, "{}", "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
    for row in &rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}
