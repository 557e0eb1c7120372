//! The section of what changed from step to step: six charts, and the numbers of some moments.

use super::axis::Axis;
use super::chart::{Chart, Series};
use super::curve::{Curve, Point};
use super::markup::{Markup, count, grouped, nothing, number, paragraph, table, text, with};
use super::recorded::{Metrics, Process};
use super::{Material, digits, time};
use crate::report::summary::RunReport;
use crate::report::units;

/// Validations up to which each is a dot.
const DOTS: u64 = 60;
/// Parts whose means are the strong line.
const PARTS: usize = 100;

pub(super) fn curves(material: &Material) -> Markup {
    let (report, metrics) = (&material.report, &material.metrics.held);
    let words: Markup = words(material).iter().map(|words| paragraph("word", words)).collect();
    if metrics.lines == 0 {
        return words;
    }
    let charts = [
        loss(report, metrics),
        loss_log(report, metrics),
        rate(report, metrics),
        norm(report, metrics),
        speed(report, metrics),
        memory(report, metrics),
    ];
    let drawn = charts.iter().map(Chart::draw);
    let grid = with("div", &[("class", "grid")], drawn);
    [words, grid, moments(metrics), reached(metrics), processes(metrics)].into_iter().collect()
}

/// What is to be said of the file.
fn words(material: &Material) -> Vec<String> {
    let (metrics, steps) = (&material.metrics.held, material.report.steps);
    let mut words: Vec<String> = material.metrics.fault.iter().cloned().collect();
    if metrics.lines == 0 && words.is_empty() {
        words.push("metrics.jsonl holds no step.".to_owned());
    }
    if metrics.broken > 0 {
        let broken = grouped(metrics.broken);
        words.push(format!("Lines of metrics.jsonl that are none, and left out: {broken}."));
    }
    let Some((first, last)) = metrics.first.zip(metrics.last) else { return words };
    if last.step > steps {
        words.push(format!(
            "metrics.jsonl goes on to step {}: the run went on after its report of step {}.",
            grouped(last.step),
            grouped(steps),
        ));
    }
    let missing = last.step.max(steps).saturating_sub(metrics.lines);
    if missing > 0 {
        words.push(format!(
            "metrics.jsonl tells of {} steps between {} and {}; {} are missing.",
            grouped(metrics.lines),
            grouped(first.step),
            grouped(last.step),
            grouped(missing),
        ));
    }
    words
}

/// Without its curves.
fn chart(title: &'static str, report: &RunReport, metrics: &Metrics) -> Chart {
    Chart {
        title,
        note: String::new(),
        x: Axis::steps(last_step(report, metrics)),
        y: Axis::from_zero([]),
        unit: String::new(),
        series: Vec::new(),
        levels: Vec::new(),
        marks: metrics.processes.iter().skip(1).map(|p| (p.first - 1) as f64).collect(),
    }
}

fn last_step(report: &RunReport, metrics: &Metrics) -> u64 {
    metrics.last.map_or(0, |line| line.step).max(report.steps)
}

/// The points that are drawn, in parts of `unit`.
fn drawn(curve: &Curve, unit: f64) -> Vec<(f64, f64)> {
    curve.points().iter().map(|point| (point.step as f64, point.value / unit)).collect()
}

/// A curve that jumps from step to step: pale as it is, and strong the means of its parts; and the words
/// for that.
fn smoothed(
    curve: &Curve,
    class: (&'static str, &'static str),
    label: &str,
) -> (Vec<Series>, String) {
    let series =
        |class, points, label: &str| Series { class, points, label: label.to_owned(), dots: false };
    match curve.means(PARTS) {
        None => (vec![series(class.0, drawn(curve, 1.0), label)], String::new()),
        Some((width, means)) => {
            let note = format!("pale: each step; strong: means of {}", grouped(width));
            (vec![series(class.1, drawn(curve, 1.0), ""), series(class.0, means, label)], note)
        }
    }
}

/// Both losses.
fn losses(metrics: &Metrics) -> (Vec<Series>, String) {
    let (mut series, note) = smoothed(&metrics.loss, ("a", "a pale"), "training");
    if metrics.val_loss.count() > 0 {
        series.push(Series {
            class: "b",
            points: drawn(&metrics.val_loss, 1.0),
            label: "validation".to_owned(),
            dots: metrics.val_loss.count() <= DOTS,
        });
    }
    (series, note)
}

/// What frequencies reach, and the floor: in nats a token, as the losses are.
fn levels(report: &RunReport) -> Vec<(f64, &'static str)> {
    let Some((loss, bits)) = report.val_loss.zip(report.val_bits_per_byte) else {
        return Vec::new();
    };
    let all = [
        (report.unigram_bits_per_byte, "singles"),
        (report.bigram_bits_per_byte, "pairs"),
        (report.floor_bits_per_byte, "floor"),
    ];
    let level = |(level, name): (Option<f64>, _)| Some((level? * loss / bits, name));
    all.into_iter().filter_map(level).filter(|(level, _)| level.is_finite()).collect()
}

fn values<'a>(series: &'a [Series]) -> impl Iterator<Item = f64> + Clone + 'a {
    series.iter().flat_map(|series| series.points.iter().map(|(_, value)| *value))
}

fn loss(report: &RunReport, metrics: &Metrics) -> Chart {
    let ((series, note), levels) = (losses(metrics), levels(report));
    let y = Axis::linear(values(&series).chain(levels.iter().map(|(level, _)| *level)));
    let unit = "nats a token".to_owned();
    Chart { note, y, unit, series, levels, ..chart("Loss", report, metrics) }
}

fn loss_log(report: &RunReport, metrics: &Metrics) -> Chart {
    let ((mut series, _), mut levels) = (losses(metrics), levels(report));
    // Of the first steps, which have most of the room here, there is no mean.
    if let Some(means) = series.iter_mut().find(|series| series.class == "a") {
        let first = means.points.first().map_or(0.0, |(step, _)| *step);
        let mut all = drawn(&metrics.loss, 1.0);
        all.retain(|(step, _)| *step < first);
        means.points.splice(0..0, all);
    }
    levels.retain(|(_, name)| *name == "floor");
    let y = Axis::log(values(&series).chain(levels.iter().map(|(level, _)| *level)));
    let x = Axis::log_steps(last_step(report, metrics));
    let note = "the same, both axes logarithmic".to_owned();
    let unit = "nats a token".to_owned();
    Chart { note, x, y, unit, series, levels, ..chart("Loss, early and late", report, metrics) }
}

/// One curve, its last value at its end.
fn single(class: &'static str, points: Vec<(f64, f64)>, last: String) -> Vec<Series> {
    vec![Series { class, points, label: last, dots: false }]
}

fn rate(report: &RunReport, metrics: &Metrics) -> Chart {
    let last = metrics.lr.last().map_or(String::new(), |point| significant(point.value));
    let series = single("c", drawn(&metrics.lr, 1.0), last);
    let y = Axis::from_zero(values(&series));
    Chart { y, series, ..chart("Learning rate", report, metrics) }
}

fn norm(report: &RunReport, metrics: &Metrics) -> Chart {
    let curve = &metrics.grad_norm;
    let last = curve.last().map_or(String::new(), |point| significant(point.value));
    let (series, mut note) = smoothed(curve, ("c", "c pale"), &last);
    let ends = curve.lowest().zip(curve.highest());
    let wide = ends.is_some_and(|(low, high)| low.value > 0.0 && high.value > 20.0 * low.value);
    let y = if wide { Axis::log(values(&series)) } else { Axis::from_zero(values(&series)) };
    let before = if note.is_empty() { "" } else { "; " };
    note = format!("before clipping{before}{note}");
    Chart { note, y, series, ..chart("Gradient norm", report, metrics) }
}

fn speed(report: &RunReport, metrics: &Metrics) -> Chart {
    let curve = &metrics.tokens_per_second;
    let (unit, name) = scale(curve, &["tokens/s", "k tokens/s", "M tokens/s", "G tokens/s"]);
    let last = curve.last().map_or(String::new(), |point| units::count(point.value));
    let series = single("a", drawn(curve, unit), last);
    let y = Axis::from_zero(values(&series));
    let note = "of the last 20 steps".to_owned();
    Chart { note, y, unit: name, series, ..chart("Speed", report, metrics) }
}

fn memory(report: &RunReport, metrics: &Metrics) -> Chart {
    let (unit, name) = scale(&metrics.memory, &["B", "kB", "MB", "GB", "TB"]);
    let last = metrics.memory.last();
    let last = last.map_or(String::new(), |point| units::bytes(point.value as u64));
    let series = single("d", drawn(&metrics.memory, unit), last);
    let y = Axis::from_zero(values(&series));
    let note = "that the process holds".to_owned();
    Chart { note, y, unit: name, series, ..chart("Memory", report, metrics) }
}

/// The unit in which the highest value has one to three digits.
fn scale(curve: &Curve, names: &[&str]) -> (f64, String) {
    let highest = curve.highest().map_or(0.0, |point| point.value);
    let (mut unit, mut at) = (1.0, 0);
    while highest / unit >= 1000.0 && at + 1 < names.len() {
        unit *= 1000.0;
        at += 1;
    }
    (unit, names[at].to_owned())
}

/// Four digits that count.
fn significant(value: f64) -> String {
    let short: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    format!("{short}")
}

fn four(value: Option<f64>) -> Markup {
    value.map_or(text("–"), |value| number(value, &significant(value)))
}

fn bytes(value: Option<f64>) -> Markup {
    value.map_or(text("–"), |value| number(value, &units::bytes(value as u64)))
}

fn speed_of(value: Option<f64>) -> Markup {
    value.map_or(text("–"), |value| number(value, &units::count(value)))
}

fn moments(metrics: &Metrics) -> Markup {
    let validation = |last: Option<Point>, step: u64| match last {
        Some(point) if point.step == step => digits(Some(point.value), 4),
        Some(point) => {
            let after = text(&format!(" after {}", grouped(point.step)));
            [digits(Some(point.value), 4), with("small", &[], [after])].into_iter().collect()
        }
        None => text("–"),
    };
    let row = |(line, last): (super::recorded::Line, Option<Point>)| {
        vec![
            count(line.step),
            digits(line.loss, 4),
            validation(last, line.step),
            four(line.lr),
            four(line.grad_norm),
            speed_of(line.tokens_per_second),
            bytes(line.memory_bytes),
        ]
    };
    let header = [
        "step",
        "training loss",
        "validation loss",
        "learning rate",
        "gradient norm",
        "tokens/s",
        "memory",
    ];
    table("Some moments", &header, metrics.moments().into_iter().map(row).collect())
}

/// How the values of a curve are shown.
type Shown = fn(Option<f64>) -> Markup;

/// The ends of each curve, of all steps and not of those drawn alone.
fn reached(metrics: &Metrics) -> Markup {
    let loss: Shown = |value| digits(value, 4);
    let curves: [(&str, &Curve, Shown); 6] = [
        ("training loss", &metrics.loss, loss),
        ("validation loss", &metrics.val_loss, loss),
        ("learning rate", &metrics.lr, four),
        ("gradient norm", &metrics.grad_norm, four),
        ("tokens/s", &metrics.tokens_per_second, speed_of),
        ("memory", &metrics.memory, bytes),
    ];
    let row = |(name, curve, shown): (&str, &Curve, Shown)| {
        let (low, high, last) = (curve.lowest()?, curve.highest()?, curve.last()?);
        Some(vec![
            text(name),
            shown(Some(low.value)),
            count(low.step),
            shown(Some(high.value)),
            count(high.step),
            shown(Some(last.value)),
            count(curve.count()),
        ])
    };
    let header = ["curve", "lowest", "at step", "highest", "at step", "last", "points"];
    table("How far the curves reach", &header, curves.into_iter().filter_map(row).collect())
}

/// Where more than one process trained: each with its steps and its time.
fn processes(metrics: &Metrics) -> Markup {
    if metrics.processes.len() < 2 {
        return nothing();
    }
    let row = |process: &Process| {
        let ended = process.ended.and_then(units::moment).unwrap_or_else(|| "–".to_owned());
        let Process { first, last, seconds, .. } = *process;
        vec![count(first), count(last), time(seconds), text(&ended)]
    };
    let rows = metrics.processes.iter().map(row).collect();
    let header = ["first step", "last step", "time to it", "last step at"];
    let all = table("Processes that trained", &header, rows);
    let before = match metrics.earlier {
        0 => nothing(),
        more => paragraph("word", &format!("{} processes before these.", grouped(more))),
    };
    [all, before].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::significant;

    #[test]
    fn four_digits_count() {
        let cases =
            [(0.005, "0.005"), (0.003_141_592, "0.003142"), (12_345.6, "12350"), (0.0, "0")];
        cases.into_iter().for_each(|(value, shown)| assert_eq!(significant(value), shown));
    }
}
