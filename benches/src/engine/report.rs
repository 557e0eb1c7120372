//! The table of the comparisons, as text, Markdown, CSV and a plot.

use super::row::{Line, Measured, Outcome, Reach};
use plotters::prelude::{
    BLACK, IntoDrawingArea as _, PathElement, RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::{Color as _, IntoFont as _, TextStyle};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The table's head.
pub const HEAD: &str = "| case | ours | peer | ratio | reach | met? |\n|---|---|---|---|---|---|\n";

/// One line of the table.
pub fn table_line(line: &Line) -> String {
    let ours = format!("{} {}", line.ours, value(line.ours_value, line.unit));
    let peer = match line.peer_value {
        Some(peer) => format!("{} {}", line.peer, value(peer, line.unit)),
        None => "–".to_owned(),
    };
    let met = match line.is_met() {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "–",
    };
    let (ratio, reach) = (compared(line), reach(line));
    format!("| {} | {ours} | {peer} | {ratio} | {reach} | {met} |\n", line.case)
}

fn compared(line: &Line) -> String {
    match line.reach {
        Reach::Over(_) => format!("{:+.2}", line.compared),
        Reach::Most(_) => number(line.compared),
        Reach::Told if line.peer_value.is_none() => number(line.compared),
        _ => format!("{} x", number(line.compared)),
    }
}

fn reach(line: &Line) -> String {
    match line.reach {
        Reach::Times(least) => format!("≥ {least} x as fast"),
        Reach::Within(most) => format!("≤ {most:.3} x the time"),
        Reach::Over(most) => format!("≤ +{most} {}", line.unit),
        Reach::Most(most) => format!("≤ {most} {}", line.unit).trim_end().to_owned(),
        Reach::Told => "–".to_owned(),
    }
}

/// A value with a unit that suits its size.
fn value(value: f64, unit: &str) -> String {
    let Some(per) = unit.strip_prefix("ns") else {
        return format!("{} {unit}", number(value)).trim_end().to_owned();
    };
    let (value, prefix) = match value.abs() {
        large if large >= 1e7 => (value / 1e6, "ms"),
        large if large >= 1e4 => (value / 1e3, "µs"),
        _ => (value, "ns"),
    };
    format!("{} {prefix}{per}", number(value))
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        large if large >= 100.0 => format!("{value:.1}"),
        large if large >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes `engine.md`, `engine.csv`, `engine-medians.csv` and `engine.svg` into `folder`.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write(folder: &Path, outcomes: &[Outcome]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let lines: Vec<&Line> = outcomes.iter().flat_map(|outcome| &outcome.lines).collect();
    let mut table = HEAD.to_owned();
    lines.iter().for_each(|line| table.push_str(&table_line(line)));
    for (who, why) in outcomes.iter().flat_map(|outcome| &outcome.skipped) {
        writeln!(table, "\nSkipped: {who}: {why}")?;
    }
    fs::write(folder.join("engine.md"), table)?;
    fs::write(folder.join("engine.csv"), comparisons_csv(&lines)?)?;
    let measured = outcomes.iter().flat_map(|outcome| &outcome.measured);
    fs::write(folder.join("engine-medians.csv"), medians_csv(measured)?)?;
    let asked: Vec<&Line> = lines.into_iter().filter(|line| line.margin().is_some()).collect();
    if !asked.is_empty() {
        plot(&folder.join("engine.svg"), &asked)?;
    }
    Ok(())
}

fn comparisons_csv(lines: &[&Line]) -> Result<String, Box<dyn Error>> {
    let mut csv =
        String::from("case,unit,ours,ours_median,peer,peer_median,kind,value,reach,met\n");
    for line in lines {
        let (kind, limit) = match line.reach {
            Reach::Times(least) => ("times_as_fast_at_least", least.to_string()),
            Reach::Within(most) => ("times_the_time_at_most", most.to_string()),
            Reach::Over(most) => ("more_than_the_peer_at_most", most.to_string()),
            Reach::Most(most) => ("at_most", most.to_string()),
            Reach::Told if line.peer_value.is_none() => ("told", String::new()),
            Reach::Told => ("times_as_fast", String::new()),
        };
        let peer = line.peer_value.map_or(String::new(), |value| value.to_string());
        let met = line.is_met().map_or(String::new(), |met| met.to_string());
        writeln!(
            csv,
            "{},{},{},{},{},{peer},{kind},{},{limit},{met}",
            quoted(&line.case),
            line.unit,
            line.ours,
            line.ours_value,
            quoted(&line.peer),
            line.compared,
        )?;
    }
    Ok(csv)
}

fn medians_csv<'a>(measured: impl Iterator<Item = &'a Measured>) -> Result<String, Box<dyn Error>> {
    let mut csv = String::from("case,implementation,unit,median,least,most\n");
    for row in measured {
        let (case, who) = (quoted(&row.case), &row.implementation);
        writeln!(csv, "{case},{who},{},{},{},{}", row.unit, row.median, row.least, row.most)?;
    }
    Ok(csv)
}

/// Names may hold a comma, never a quote.
fn quoted(text: &str) -> String {
    if text.contains(',') { format!("\"{text}\"") } else { text.to_owned() }
}

const BAR: i32 = 22;
const LEFT: i32 = 470;
const WIDTH: i32 = 420;
const RIGHT: i32 = 310;
const TOP: i32 = 60;
/// The axis spans this many times the reach, both ways.
const SPAN: f64 = 10.0;

/// A bar for each comparison with something to reach: how far beyond it, on a logarithmic axis
/// whose middle is "just reached".
fn plot(path: &Path, lines: &[&Line]) -> Result<(), Box<dyn Error>> {
    let height = TOP + BAR * lines.len() as i32 + 20;
    let size = ((LEFT + WIDTH + RIGHT) as u32, height as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let style = |size: i32| TextStyle::from(("sans-serif", size).into_font()).color(&BLACK);
    let at = |margin: f64| {
        let share = (margin.log10() / SPAN.log10()).clamp(-1.0, 1.0);
        LEFT + (WIDTH as f64 * (share + 1.0) / 2.0) as i32
    };
    let title = "How far beyond what was to be reached (1 = just reached; the axis ends at 10 x)";
    area.draw(&Text::new(title, (10, 10), style(16)))?;
    for tick in [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0] {
        let x = at(tick);
        area.draw(&Text::new(tick.to_string(), (x - 8, TOP - 20), style(12)))?;
        let shade = if tick == 1.0 { BLACK } else { RGBColor(215, 215, 215) };
        area.draw(&PathElement::new([(x, TOP), (x, height - 20)], shade.stroke_width(1)))?;
    }
    for (index, line) in lines.iter().enumerate() {
        let top = TOP + BAR * index as i32;
        let peer = if line.peer.is_empty() { String::new() } else { format!(" : {}", line.peer) };
        let name = format!("{} – {}{peer}", line.case, line.ours);
        area.draw(&Text::new(name, (10, top + 5), style(11)))?;
        let is_met = line.is_met() == Some(true);
        let color = if is_met { RGBColor(46, 125, 80) } else { RGBColor(190, 70, 50) };
        let x = at(line.margin().unwrap_or(1.0));
        let bar = [(at(1.0).min(x), top + 4), (at(1.0).max(x).max(at(1.0) + 1), top + BAR - 4)];
        area.draw(&Rectangle::new(bar, color.filled()))?;
        let text = format!("{} (to reach: {})", compared(line), reach(line));
        area.draw(&Text::new(text, (LEFT + WIDTH + 10, top + 5), style(11)))?;
    }
    area.present()?;
    Ok(())
}
