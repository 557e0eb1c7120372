//! The run as one page: the contents of `OUT/report.html`.
//!
//! A page is made of what the files of a run hold and of nothing else: the same files give the same bytes. It
//! is one file that asks for no other, runs no script and tells the browser to allow none; HTML that is
//! well-formed XML too. Each number stands in a `<data>` element as the files have it, and as people read it
//! beside that; each picture has a table. What a file lacks is said in its section.
//!
//! | file | what it is |
//! |---|---|
//! | `markup` | text that is well-formed, by its type |
//! | `recorded` | the lines of `metrics.jsonl` and `samples.jsonl`, in bounded memory |
//! | `curve` | a long curve by about a thousand points, with every peak |
//! | `axis` | round ticks |
//! | `chart` | pictures |
//! | `curves`, `work`, `facts` | the sections |
//!
//! Pure, as all of `report`: who reads the files and writes the page is `train::page`.

mod axis;
mod chart;
mod curve;
mod curves;
mod facts;
mod markup;
mod recorded;
mod work;

pub(crate) use recorded::{Metrics, Recorded, Samples};

use serde_json::Value;

use super::summary::RunReport;
use super::units;
use markup::{Markup, element, grouped, nothing, number, paragraph, text, with};

/// Light and dark, wide and narrow, screen and paper. Without `<` and `&`, which XML would not take.
const STYLE: &str = include_str!("style.css");

/// Nothing but this page and the style in it: a browser that follows it runs and loads nothing.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// What a page is made of.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) report: RunReport,
    pub(crate) settings: Recorded<Option<Value>>,
    pub(crate) metrics: Recorded<Metrics>,
    pub(crate) samples: Recorded<Samples>,
}

/// The page.
pub(crate) fn page(material: &Material) -> String {
    let title = format!("{}: {}", name(material), result(&material.report));
    let policy = [("http-equiv", "Content-Security-Policy"), ("content", POLICY)];
    let view = [("name", "viewport"), ("content", "width=device-width, initial-scale=1")];
    let sections = [
        section("Curves", curves::curves(material)),
        section("What it says", facts::samples(&material.samples)),
        section("Loss", facts::losses(&material.report)),
        section("Where the time went", work::stages(&material.report)),
        section("Spheres", work::spheres(&material.report)),
        section("Hand-offs", work::edges(&material.report)),
        section("What was read", facts::corpus(&material.report)),
        section("Settings", facts::settings(material)),
        section("Digests", facts::digests(&material.report)),
    ];
    format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n\
         <meta charset=\"utf-8\"/>\n<meta {}/>\n<meta {}/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         {}\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}<main>\n{}</main>\n{}</body>\n</html>\n",
        attributes(&policy),
        attributes(&view),
        element("title", [text(&title)]),
        header(material),
        sections.into_iter().collect::<Markup>(),
        footer(),
    )
}

/// Of our own constants.
fn attributes(all: &[(&str, &str)]) -> String {
    let all: Vec<String> = all.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    all.join(" ")
}

fn section(title: &'static str, content: Markup) -> Markup {
    element("section", [element("h2", [text(title)]), content])
}

/// The run's folder when it was trained, without the way to it.
fn name(material: &Material) -> String {
    let settings = material.settings.held.as_ref().unwrap_or(&material.report.settings);
    let out = settings.get("out").and_then(Value::as_str).unwrap_or_default();
    let last = out.rsplit('/').find(|part| !part.is_empty() && *part != ".");
    last.unwrap_or("run").to_owned()
}

/// What became of the run, in one line.
fn result(report: &RunReport) -> String {
    let mut line =
        format!("{} steps in {}", grouped(report.steps), units::seconds(report.seconds),);
    if let Some(loss) = report.train_loss {
        line += &format!(", training loss {loss:.4}");
    }
    if let Some(loss) = report.val_loss {
        line += &format!(", validation loss {loss:.4} nats a token");
    }
    line += &format!(", {} tokens/s", units::count(report.tokens_per_second));
    if let Some(share) = report.peak_share {
        line += &format!(", {} of the peak", units::percent(share));
    }
    line
}

fn header(material: &Material) -> Markup {
    let report = &material.report;
    let mut notes = nothing();
    if report.interrupted {
        let steps = report.settings.get("steps").and_then(Value::as_u64);
        let of = steps.map_or(String::new(), |steps| format!(" of {}", grouped(steps)));
        let step = grouped(report.steps);
        let line = format!("Stopped after step {step}{of}; what was trained is saved.");
        notes.extend([paragraph("word", &line)]);
    }
    if let Some(step) = report.resumed_from {
        let line = format!(
            "Resumed after step {}: time, stages, hand-offs and spheres are those of the last process.",
            grouped(step)
        );
        notes.extend([paragraph("word", &line)]);
    }
    let ended = material.metrics.held.last.and_then(|line| line.time).and_then(units::moment);
    let ended = ended.map_or(nothing(), |at| paragraph("soft", &format!("Last step at {at}")));
    let line = format!("{}.", upper(&report.bottleneck()));
    let parts = [
        element("h1", [text(&name(material))]),
        paragraph("result", &format!("{}.", result(report))),
        notes,
        ended,
        tiles(report),
        paragraph("bottleneck", &line),
    ];
    element("header", parts)
}

fn upper(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The numbers that one looks for first.
fn tiles(report: &RunReport) -> Markup {
    let four = |value: f64| number(value, &format!("{value:.4}"));
    let share = |value: f64| number(value, &units::percent(value));
    let cores = report.cores_busy.map(|busy| {
        let of = text(&format!(" of {}", report.cores));
        [number(busy, &format!("{busy:.2}")), of].into_iter().collect()
    });
    let memory = report.peak_memory_bytes;
    let all: [(&str, Option<Markup>); 10] = [
        ("validation loss", report.val_loss.map(four)),
        ("bits a byte", report.val_bits_per_byte.map(four)),
        ("above the floor", report.above_floor().map(share)),
        ("tokens/s", Some(counted(report.tokens_per_second))),
        ("share of the peak", report.peak_share.map(share)),
        ("cores busy", cores),
        ("time", Some(time(report.seconds))),
        ("peak memory", memory.map(|bytes| number(bytes as f64, &units::bytes(bytes)))),
        ("parameters", Some(counted(report.parameters as f64))),
        ("tokens trained", Some(counted(report.tokens as f64))),
    ];
    let tile = |(name, value): (&str, Option<Markup>)| {
        let pair = [element("dt", [text(name)]), element("dd", [value?])];
        Some(element("div", pair))
    };
    with("dl", &[("class", "tiles")], all.into_iter().filter_map(tile))
}

fn footer() -> Markup {
    let line = "Made from report.json, settings.json, metrics.jsonl and samples.jsonl of the run; \
                twelvefold report DIR --html FILE makes it anew.";
    element("footer", [paragraph("soft", line)])
}

fn counted(value: f64) -> Markup {
    number(value, &units::count(value))
}

fn time(seconds: f64) -> Markup {
    number(seconds, &units::seconds(seconds))
}

/// A number that may be none, with so many digits behind the point.
fn digits(value: Option<f64>, digits: usize) -> Markup {
    value.map_or(text("–"), |value| number(value, &format!("{value:.digits$}")))
}
