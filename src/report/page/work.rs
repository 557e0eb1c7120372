//! The sections of who worked how long: stages, spheres, and the edges between stages.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::chart::{Bar, Bars, Part};
use super::markup::{Markup, count, nothing, number, paragraph, table, text, with};
use super::time;
use crate::report::summary::{EdgeReport, RunReport, SphereReport, StageReport};
use crate::report::units;

/// Up to this many spheres are a part of a bar each; of more, those of a level are one.
const SPHERE_PARTS: usize = 288;
/// Up to this many have a row each; more are summed by group and by level.
const SPHERE_ROWS: usize = 24;
/// Colours of the levels, in turn.
const LEVELS: [&str; 4] = ["first", "second", "third", "fourth"];

fn pair(picture: Markup, beside: Markup) -> Markup {
    with("div", &[("class", "pair")], [picture, with("div", &[], [beside])])
}

fn share(part: f64) -> Markup {
    number(part, &units::percent(part))
}

pub(super) fn stages(report: &RunReport) -> Markup {
    if report.stages.is_empty() {
        return paragraph("word", "report.json names no stage.");
    }
    // Those that are kept awake: the others sleep for want of a core and not of work.
    let awake = |stage: &StageReport| match stage.name.as_str() {
        "spheres" => stage.workers.min(report.cores).max(1) as f64,
        _ => stage.workers.max(1) as f64,
    };
    let parts = |stage: &StageReport| {
        let times = [stage.busy_seconds, stage.starved_seconds, stage.blocked_seconds];
        let named = ["busy", "input", "room"].into_iter().zip([
            "busy",
            "waits for input",
            "waits for room",
        ]);
        let part = |((class, name), seconds): ((&'static str, &str), f64)| Part {
            class,
            value: seconds / awake(stage),
            tip: format!("{}: {name} {}", stage.name, units::seconds(seconds / awake(stage))),
        };
        named.zip(times).map(part).collect::<Vec<_>>()
    };
    let busy = |stage: &StageReport| stage.busy_seconds / (awake(stage) * report.seconds);
    let bars: Vec<Bar> = report
        .stages
        .iter()
        .map(|stage| Bar {
            name: stage.name.clone(),
            parts: parts(stage),
            end: format!("{} busy", units::percent(busy(stage))),
        })
        .collect();
    let longest = bars.iter().map(|bar| bar.parts.iter().map(|part| part.value).sum::<f64>());
    let legend = [("busy", "busy"), ("input", "waits for input"), ("room", "waits for room")];
    let picture = Bars {
        title: "Stages",
        note: "seconds, the mean of a stage's workers".to_owned(),
        legend: legend.map(|(class, name)| (class, name.to_owned())).to_vec(),
        axis: Axis::from_zero(longest.collect::<Vec<_>>()),
        unit: "seconds",
        bars,
    };
    let row = |stage: &StageReport| {
        vec![
            text(&stage.name),
            count(stage.workers as u64),
            count(stage.items),
            time(stage.busy_seconds),
            time(stage.starved_seconds),
            time(stage.blocked_seconds),
            share(busy(stage)),
        ]
    };
    let header =
        ["stage", "workers", "items", "busy", "waits for input", "waits for room", "busy share"];
    let rows = report.stages.iter().map(row).collect();
    pair(picture.draw(), table("Times over all workers of a stage", &header, rows))
}

/// What spheres did together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    spheres: u64,
    tasks: u64,
    stolen: u64,
    busy: f64,
}

fn sums<K: Ord>(spheres: &[SphereReport], key: impl Fn(&SphereReport) -> K) -> BTreeMap<K, Sum> {
    let mut sums: BTreeMap<K, Sum> = BTreeMap::new();
    for sphere in spheres {
        let sum = sums.entry(key(sphere)).or_default();
        sum.spheres += 1;
        sum.tasks += sphere.tasks;
        sum.stolen += sphere.stolen;
        sum.busy += sphere.busy_seconds;
    }
    sums
}

pub(super) fn spheres(report: &RunReport) -> Markup {
    let spheres = &report.spheres;
    if spheres.is_empty() {
        return paragraph("word", "report.json names no sphere.");
    }
    let mut words = format!(
        "{} leaves of the 12-fold tree: time at work, by symmetry group (number mod 12) and level.",
        spheres.len()
    );
    if let Some(busy) = report.cores_busy {
        let percent = units::percent(busy / report.cores as f64);
        words += &format!(
            " {busy:.2} of {} cores were kept busy during the steps ({percent}).",
            report.cores
        );
    }
    let tables = if spheres.len() <= SPHERE_ROWS {
        each(spheres)
    } else {
        let groups = summed("By symmetry group", "group", sums(spheres, |s| s.group));
        [groups, summed("By level", "level", sums(spheres, |s| s.level))].into_iter().collect()
    };
    let lead = paragraph("lead", &words);
    [lead, pair(by_group(spheres).draw(), tables)].into_iter().collect()
}

/// A bar for each group, of its spheres in the colour of their level.
fn by_group(spheres: &[SphereReport]) -> Bars {
    let class = |level: usize| LEVELS[level.saturating_sub(1) % LEVELS.len()];
    let told = |who: String, tasks: u64, stolen: u64, busy: f64| {
        format!("{who}: {} in {tasks} tasks, {stolen} of them stolen", units::seconds(busy))
    };
    let mut parts: BTreeMap<usize, Vec<Part>> = BTreeMap::new();
    if spheres.len() <= SPHERE_PARTS {
        for s in spheres {
            let who = format!("sphere {} on level {} under {}", s.id, s.level, s.parent);
            let tip = told(who, s.tasks, s.stolen, s.busy_seconds);
            let part = Part { class: class(s.level), value: s.busy_seconds, tip };
            parts.entry(s.group).or_default().push(part);
        }
    } else {
        for ((group, level), sum) in sums(spheres, |s| (s.group, s.level)) {
            let who = format!("{} spheres on level {level}", sum.spheres);
            let tip = told(who, sum.tasks, sum.stolen, sum.busy);
            parts.entry(group).or_default().push(Part {
                class: class(level),
                value: sum.busy,
                tip,
            });
        }
    }
    let bar = |(group, parts): (usize, Vec<Part>)| {
        let busy = parts.iter().map(|part| part.value).sum::<f64>();
        Bar { name: format!("group {group}"), parts, end: units::seconds(busy) }
    };
    let bars: Vec<Bar> = parts.into_iter().map(bar).collect();
    let longest: Vec<f64> =
        bars.iter().map(|bar| bar.parts.iter().map(|part| part.value).sum()).collect();
    let legend = sums(spheres, |s| s.level).into_keys();
    Bars {
        title: "Spheres",
        note: "each a part of its group's bar".to_owned(),
        legend: legend.map(|level| (class(level), format!("level {level}"))).collect(),
        axis: Axis::from_zero(longest),
        unit: "seconds",
        bars,
    }
}

fn each(spheres: &[SphereReport]) -> Markup {
    let row = |s: &SphereReport| {
        vec![
            count(s.id as u64),
            count(s.level as u64),
            count(s.group as u64),
            count(s.parent as u64),
            count(s.tasks),
            count(s.stolen),
            time(s.busy_seconds),
        ]
    };
    let header = ["sphere", "level", "group", "parent", "tasks", "stolen", "busy"];
    table("Each sphere", &header, spheres.iter().map(row).collect())
}

fn summed(caption: &str, what: &str, sums: BTreeMap<usize, Sum>) -> Markup {
    let row = |(key, sum): (usize, Sum)| {
        let Sum { spheres, tasks, stolen, busy } = sum;
        vec![count(key as u64), count(spheres), count(tasks), count(stolen), time(busy)]
    };
    let header = [what, "spheres", "tasks", "stolen", "busy"];
    table(caption, &header, sums.into_iter().map(row).collect())
}

pub(super) fn edges(report: &RunReport) -> Markup {
    if report.edges.is_empty() {
        return paragraph("word", "report.json names no hand-off.");
    }
    let row = |edge: &EdgeReport| {
        let EdgeReport { name, items_in, items_out, abandoned, high_water } = edge;
        let numbers = [items_in, items_out, abandoned, high_water].map(|n| count(*n));
        [text(name)].into_iter().chain(numbers).collect()
    };
    let header = ["edge", "in", "out", "abandoned", "high water"];
    let lead = "What went into each ring came out or was abandoned, where the run was stopped early; high \
                water is the most that was in it at once.";
    let lead = paragraph("lead", lead);
    let rows = report.edges.iter().map(row).collect();
    let all = table("What each hand-off carried", &header, rows);
    [lead, all, nothing()].into_iter().collect()
}
