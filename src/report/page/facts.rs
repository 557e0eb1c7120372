//! The sections that are words and numbers: losses, samples, what was read, settings, digests.

use serde_json::Value;

use super::axis::Axis;
use super::chart::{Bar, Bars, Part};
use super::markup::{
    Markup, count, element, grouped, nothing, number, paragraph, table, text, with,
};
use super::recorded::{Recorded, Samples};
use super::{Material, digits};
use crate::report::summary::{RunReport, SkippedFile};
use crate::report::units;

/// Files and records that are named; all are in report.json.
const NAMED: usize = 100;
/// Letters of a sample, of a path, of a setting.
const LETTERS: usize = 4_000;

pub(super) fn losses(report: &RunReport) -> Markup {
    let above = report.above_floor();
    let rows = [
        ("training, the last 20 steps", "nats a token", digits(report.train_loss, 4)),
        ("validation", "nats a token", digits(report.val_loss, 4)),
        ("validation", "bits a byte", digits(report.val_bits_per_byte, 4)),
        ("floor of the text", "bits a byte", digits(report.floor_bits_per_byte, 4)),
        (
            "validation above the floor",
            "",
            above.map_or(text("–"), |v| number(v, &units::percent(v))),
        ),
        ("counting single tokens", "bits a byte", digits(report.unigram_bits_per_byte, 4)),
        ("counting pairs of tokens", "bits a byte", digits(report.bigram_bits_per_byte, 4)),
    ];
    let rows = rows.map(|(name, unit, value)| vec![text(name), value, text(unit)]).to_vec();
    let all = table("Losses at the end", &["loss", "value", "unit"], rows);
    let words = match report.floor_bits_per_byte {
        Some(_) => "No model can do better than the floor on these very bytes.",
        None => "The floor of a text is known for the built-in stories only.",
    };
    let lead = paragraph("lead", words);
    let Some(bars) = reached(report) else { return [lead, all].into_iter().collect() };
    let beside = with("div", &[], [all]);
    [lead, with("div", &[("class", "pair")], [bars.draw(), beside])].into_iter().collect()
}

/// What each way of guessing reaches.
fn reached(report: &RunReport) -> Option<Bars> {
    let all = [
        ("single tokens", "room", report.unigram_bits_per_byte),
        ("pairs", "room", report.bigram_bits_per_byte),
        ("this model", "busy", Some(report.val_bits_per_byte?)),
        ("floor", "room", report.floor_bits_per_byte),
    ];
    let known: Vec<_> =
        all.into_iter().filter_map(|(name, class, bits)| Some((name, class, bits?))).collect();
    let bar = |&(name, class, value): &(&str, &'static str, f64)| Bar {
        name: name.to_owned(),
        parts: vec![Part { class, value, tip: format!("{name}: {value}") }],
        end: format!("{value:.4}"),
    };
    Some(Bars {
        title: "Bits a byte",
        note: "of the validation text; less is better".to_owned(),
        legend: Vec::new(),
        axis: Axis::from_zero(known.iter().map(|(_, _, value)| *value).collect::<Vec<_>>()),
        unit: "bits a byte",
        bars: known.iter().map(bar).collect(),
    })
}

pub(super) fn samples(samples: &Recorded<Samples>) -> Markup {
    let held = &samples.held;
    let mut parts: Vec<Markup> =
        samples.fault.iter().map(|words| paragraph("word", words)).collect();
    if held.lines == 0 && parts.is_empty() {
        parts.push(paragraph("word", "samples.jsonl holds no sample."));
    }
    if held.broken > 0 {
        let broken = grouped(held.broken);
        let words = format!("Lines of samples.jsonl that are none, and left out: {broken}.");
        parts.push(paragraph("word", &words));
    }
    if held.lines > held.kept.len() as u64 {
        let (kept, lines) = (held.kept.len(), grouped(held.lines));
        parts.push(paragraph("word", &format!("The first and the last {kept} of {lines}.")));
    }
    parts.extend(held.kept.iter().map(|sample| {
        let step = [text("after step "), count(sample.step)];
        let words = with("blockquote", &[("dir", "auto")], [text(&shortened(&sample.text))]);
        with("figure", &[("class", "sample")], [element("figcaption", step), words])
    }));
    parts.into_iter().collect()
}

fn shortened(words: &str) -> String {
    match words.char_indices().nth(LETTERS) {
        Some((at, _)) => format!("{} …", &words[..at]),
        None => words.to_owned(),
    }
}

pub(super) fn corpus(report: &RunReport) -> Markup {
    let corpus = &report.corpus;
    let tokens = match corpus.tokens {
        0 => text("not counted: the run was stopped early"),
        tokens => count(tokens),
    };
    let mut rows = Vec::new();
    if corpus.files > 0 {
        rows.push(vec![text("files"), count(corpus.files)]);
        rows.push(vec![text("times that a file was opened"), count(corpus.opened)]);
        rows.push(vec![text("files left out"), count(corpus.skipped.len() as u64)]);
    } else {
        rows.push(vec![text("text"), text("the built-in stories")]);
    }
    rows.push(vec![text("documents"), count(corpus.documents)]);
    let bytes = [count(corpus.bytes), text(&format!(" ({})", units::bytes(corpus.bytes)))];
    rows.push(vec![text("bytes"), bytes.into_iter().collect()]);
    rows.push(vec![text("tokens"), tokens]);
    rows.push(vec![text("times that the text was read again"), count(corpus.rewound)]);
    rows.push(vec![text("bad records"), count(corpus.bad_records)]);
    rows.push(vec![text("files that are not all UTF-8"), count(corpus.invalid.len() as u64)]);
    let named = |caption, list: &[SkippedFile], all: u64| {
        let row = |one: &SkippedFile| vec![path(&one.path), text(&shortened(&one.reason))];
        let rows = list.iter().take(NAMED).map(row).collect();
        left_out(table(caption, &["where", "why"], rows), all)
    };
    let row = |bad: &crate::report::summary::InvalidText| {
        vec![path(&bad.path), count(bad.count), count(bad.byte)]
    };
    let invalid = corpus.invalid.iter().take(NAMED).map(row).collect();
    let header = ["where", "bad parts", "first at byte"];
    let invalid = table("Text that is not all UTF-8", &header, invalid);
    [
        table("The text of the run", &["what", "how many"], rows),
        named("Files that were left out", &corpus.skipped, corpus.skipped.len() as u64),
        named("Bad records", &corpus.bad, corpus.bad_records),
        left_out(invalid, corpus.invalid.len() as u64),
    ]
    .into_iter()
    .collect()
}

/// A table of the first ones, and how many more there are.
fn left_out(table: Markup, all: u64) -> Markup {
    let more = match all.saturating_sub(NAMED as u64) {
        0 => nothing(),
        more => paragraph("word", &format!("And {} more; see report.json.", grouped(more))),
    };
    [table, more].into_iter().collect()
}

fn path(path: &str) -> Markup {
    element("code", [text(&shortened(path))])
}

pub(super) fn settings(material: &Material) -> Markup {
    let fault = material.settings.fault.iter().map(|words| {
        paragraph("word", &format!("{words} What report.json says of them is shown."))
    });
    let shown = material.settings.held.as_ref().unwrap_or(&material.report.settings);
    let Some(all) = shown.as_object().filter(|all| !all.is_empty()) else {
        let none = paragraph("word", "No settings are known.");
        return fault.chain([none]).collect();
    };
    let value = |value: &Value| match value {
        Value::String(words) => element("code", [text(&shortened(words))]),
        Value::Number(n) => number(n.as_f64().unwrap_or(f64::NAN), &n.to_string()),
        other => element("code", [text(&shortened(&other.to_string()))]),
    };
    let rows: Vec<Vec<Markup>> =
        all.iter().map(|(name, held)| vec![element("code", [text(name)]), value(held)]).collect();
    let half = rows.len().div_ceil(2);
    let halves = rows
        .chunks(half)
        .map(|rows| table("Settings of the run", &["setting", "value"], rows.to_vec()));
    fault.chain([with("div", &[("class", "pair")], halves)]).collect()
}

pub(super) fn digests(report: &RunReport) -> Markup {
    let code = |words: &str| element("code", [text(words)]);
    let checkpoints = &report.checkpoints;
    let mut rows = vec![
        vec![text("SHA-256 of model.safetensors"), code(&report.weights_sha256)],
        vec![text("receipt of all that was trained"), code(&report.receipt)],
        vec![text("seed"), text(&report.seed.to_string())],
        vec![text("kernels"), text(&report.kernels)],
        vec![text("steps left out"), count(report.skipped_steps)],
        vec![text("checkpoints saved"), count(checkpoints.saved)],
        vec![text("checkpoints that could not be saved"), count(checkpoints.failed)],
    ];
    rows.extend(checkpoints.best.map(|step| vec![text("best checkpoint, step"), count(step)]));
    let peak = report.peak_flops.map(|flops| {
        let shown = format!("{} operations/s", units::count(flops));
        vec![text("matrix products at their best"), number(flops, &shown)]
    });
    rows.extend(peak);
    table("What tells this run from others", &["what", "value"], rows)
}
