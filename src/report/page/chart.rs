//! Pictures: lines over steps, and bars, as SVG.
//!
//! Colours and sizes of letters are the style sheet's, by class, so that one picture serves light, dark, print
//! and a phone. All are [`WIDTH`] wide, and all line charts have the same margins, so that equal steps stand
//! below each other.

use std::fmt::Write as _;

use super::axis::Axis;
use super::markup::{Markup, element, nothing, text, with};

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 250.0;
/// Of a line chart: left, right, above, below.
const MARGINS: (f64, f64, f64, f64) = (52.0, 84.0, 24.0, 34.0);
/// Between the lines of two labels.
const LABEL_GAP: f64 = 15.0;
/// Of bars: the room for names, for words at the end, and the height of a row.
const BARS: (f64, f64, f64) = (96.0, 92.0, 30.0);

/// A curve of a chart.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
    /// At its end; none where it is empty.
    pub(super) label: String,
    /// Each point is a dot that tells its value.
    pub(super) dots: bool,
}

/// Curves over steps.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) note: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// What the numbers at the left are.
    pub(super) unit: String,
    pub(super) series: Vec<Series>,
    /// Lines across, with their names.
    pub(super) levels: Vec<(f64, &'static str)>,
    /// Lines upright: where another process went on.
    pub(super) marks: Vec<f64>,
}

impl Chart {
    pub(super) fn draw(&self) -> Markup {
        let mut parts = self.frame();
        for series in &self.series {
            let class = if series.dots { "curve dotted" } else { "curve" };
            let class = format!("{class} {}", series.class);
            parts.extend([with("path", &[("class", &class), ("d", &self.path(series))], [])]);
            for &(step, value) in series.points.iter().filter(|_| series.dots) {
                let (x, y) = self.place(step, value);
                let tip = element("title", [text(&format!("step {step}: {value}"))]);
                let (x, y) = (short(x), short(y));
                let class = format!("dot {}", series.class);
                let at = [("class", &*class), ("cx", &x), ("cy", &y), ("r", "3.2")];
                parts.extend([with("circle", &at, [tip])]);
            }
        }
        parts.extend([self.labels()]);
        figure(self.title, text(&self.note), svg(&self.words(), HEIGHT, parts))
    }

    /// What one hears who cannot see it.
    fn words(&self) -> String {
        let names: Vec<&str> = self.series.iter().map(|series| &*series.label).collect();
        let curves = match names.iter().filter(|name| !name.is_empty()).count() {
            0 | 1 => String::new(),
            _ => format!(": {}", names.join(" ").trim()),
        };
        format!("{} by step{curves}. The numbers stand in the table below the curves.", self.title)
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, right, above, below) = MARGINS;
        let x = left + self.x.place(x) * (WIDTH - left - right);
        (x, HEIGHT - below - self.y.place(y) * (HEIGHT - above - below))
    }

    fn path(&self, series: &Series) -> String {
        let mut path = String::new();
        for &(x, y) in &series.points {
            let (x, y) = self.place(x, y);
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{} {}", short(x), short(y));
        }
        path
    }

    /// Axes, ticks, lines across and upright.
    fn frame(&self) -> Markup {
        let (left, right, above, below) = MARGINS;
        let (end, foot) = (WIDTH - right, HEIGHT - below);
        let mut parts = nothing();
        for (value, words) in &self.y.ticks {
            let y = foot - self.y.place(*value) * (foot - above);
            parts.extend([line("grid", (left, y), (end, y))]);
            parts.extend([label("end", (left - 6.0, y + 4.0), words)]);
        }
        for (value, words) in &self.x.ticks {
            let x = left + self.x.place(*value) * (end - left);
            parts.extend([line("tick", (x, foot), (x, foot + 4.0))]);
            parts.extend([label("middle", (x, foot + 17.0), words)]);
        }
        parts.extend([line("axis", (left, foot), (end, foot))]);
        parts.extend([label("unit", (6.0, above - 12.0), &self.unit)]);
        parts.extend([label("unit", (end + 28.0, foot + 17.0), "step")]);
        for &mark in &self.marks {
            let (x, _) = self.place(mark, 0.0);
            let tip = element("title", [text(&format!("resumed after step {mark}"))]);
            parts.extend([element("g", [tip, line("mark", (x, above), (x, foot))])]);
        }
        for &(value, _) in &self.levels {
            let (_, y) = self.place(0.0, value);
            parts.extend([line("level", (left, y), (end, y))]);
        }
        parts
    }

    /// The names at the right, each as near to its curve's end as the others leave room.
    fn labels(&self) -> Markup {
        let (_, right, above, below) = MARGINS;
        let of_series = self.series.iter().filter(|series| !series.label.is_empty());
        let of_series = of_series
            .filter_map(|series| Some((series.points.last()?.1, series.class, &*series.label)));
        let of_levels = self.levels.iter().map(|&(value, name)| (value, "quiet", name));
        let mut all: Vec<(f64, &str, &str)> = of_series
            .chain(of_levels)
            .map(|(value, class, name)| (self.place(0.0, value).1 + 4.0, class, name))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        spread(&mut all, (above + 4.0, HEIGHT - below + 2.0));
        let drawn = all.into_iter().map(|(y, class, name)| {
            let class = format!("name {class}");
            let (x, y) = (short(WIDTH - right + 8.0), short(y));
            with("text", &[("class", &class), ("x", &x), ("y", &y)], [text(name)])
        });
        drawn.collect()
    }
}

/// Moves labels apart, downwards first, and back up where the last ones would leave the picture.
fn spread(labels: &mut [(f64, &str, &str)], (top, bottom): (f64, f64)) {
    let mut least = top;
    for label in labels.iter_mut() {
        label.0 = label.0.max(least);
        least = label.0 + LABEL_GAP;
    }
    let mut most = bottom;
    for label in labels.iter_mut().rev() {
        label.0 = label.0.min(most);
        most = label.0 - LABEL_GAP;
    }
}

/// A part of a bar.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) class: &'static str,
    pub(super) value: f64,
    pub(super) tip: String,
}

/// A bar: its name, its parts, and what stands at its end.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: Vec<Part>,
    pub(super) end: String,
}

/// Bars below each other.
#[derive(Debug)]
pub(super) struct Bars {
    pub(super) title: &'static str,
    pub(super) note: String,
    /// Colour and name.
    pub(super) legend: Vec<(&'static str, String)>,
    pub(super) axis: Axis,
    pub(super) unit: &'static str,
    pub(super) bars: Vec<Bar>,
}

impl Bars {
    pub(super) fn draw(&self) -> Markup {
        let (left, right, row) = BARS;
        let (end, foot) = (WIDTH - right, 8.0 + row * self.bars.len() as f64);
        let mut parts = nothing();
        for (value, words) in &self.axis.ticks {
            let x = left + self.axis.place(*value) * (end - left);
            parts.extend([line("grid", (x, 4.0), (x, foot))]);
            parts.extend([label("middle", (x, foot + 17.0), words)]);
        }
        parts.extend([label("unit", (end + 20.0, foot + 17.0), self.unit)]);
        for (at, bar) in self.bars.iter().enumerate() {
            let y = 8.0 + row * at as f64;
            parts.extend([label("end name", (left - 8.0, y + 18.0), &bar.name)]);
            let mut before = 0.0;
            for Part { class, value, tip } in &bar.parts {
                let from = left + self.axis.place(before) * (end - left);
                before += value.max(0.0);
                let to = left + self.axis.place(before) * (end - left);
                let box_ = [from, y + 4.0, (to - from).max(0.0), row - 8.0].map(short);
                let class = format!("bar {class}");
                let at = [("class", &*class), ("x", &box_[0]), ("y", &box_[1])];
                let at = [&at[..], &[("width", &box_[2]), ("height", &box_[3])]].concat();
                parts.extend([with("rect", &at, [element("title", [text(tip)])])]);
            }
            let x = left + self.axis.place(before) * (end - left);
            parts.extend([label("value", (x + 6.0, y + 18.0), &bar.end)]);
        }
        parts.extend([line("axis", (left, 4.0), (left, foot))]);
        let keys = self.legend.iter().map(|(class, name)| {
            let class = format!("swatch {class}");
            let swatch = with("span", &[("class", &class)], []);
            [text(" "), with("span", &[("class", "key")], [swatch, text(name)])]
        });
        let note = [text(&self.note)].into_iter().chain(keys.flatten()).collect();
        let words = format!("{}, as bars. The numbers stand in the table beside it.", self.title);
        figure(self.title, note, svg(&words, foot + 26.0, parts))
    }
}

fn figure(title: &str, note: Markup, picture: Markup) -> Markup {
    let caption = [element("strong", [text(title)]), text(" "), note];
    element("figure", [element("figcaption", caption), picture])
}

fn svg(words: &str, height: f64, parts: Markup) -> Markup {
    let view = format!("0 0 {WIDTH} {}", short(height));
    let attributes = [
        ("xmlns", "http://www.w3.org/2000/svg"),
        ("viewBox", &view),
        ("role", "img"),
        ("aria-label", words),
    ];
    with("svg", &attributes, [parts])
}

fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> Markup {
    let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(short);
    with("line", &[("class", class), ("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)], [])
}

fn label(class: &str, (x, y): (f64, f64), words: &str) -> Markup {
    with("text", &[("class", class), ("x", &short(x)), ("y", &short(y))], [text(words)])
}

/// A place in a picture, to a tenth.
fn short(place: f64) -> String {
    let text = format!("{place:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{Chart, LABEL_GAP, Series, short, spread};
    use crate::report::page::axis::Axis;

    #[test]
    fn labels_keep_their_order_and_do_not_cover_each_other() {
        let mut labels = [(50.0, "", "a"), (51.0, "", "b"), (209.0, "", "c"), (210.0, "", "d")];
        spread(&mut labels, (28.0, 218.0));
        assert!(labels.windows(2).all(|two| two[1].0 - two[0].0 >= LABEL_GAP), "{labels:?}");
        assert!(labels[0].0 >= 28.0 && labels[3].0 <= 218.0 && labels[0].0 == 50.0);
    }

    /// The highest value of the axis is drawn at the top, the last step at the right, a spike as high as it is.
    #[test]
    fn a_point_is_drawn_where_its_numbers_are() {
        let points = vec![(0.0, 0.0), (5.0, 4.0), (10.0, 2.0)];
        let chart = Chart {
            title: "t",
            note: String::new(),
            x: Axis::steps(10),
            y: Axis::from_zero([4.0]),
            unit: String::new(),
            series: vec![Series { class: "a", points, label: "x".to_owned(), dots: true }],
            levels: Vec::new(),
            marks: vec![5.0],
        };
        let drawn = chart.draw().to_string();
        assert!(drawn.contains(" d=\"M52 216L204 24L356 120\""), "{drawn}");
        assert!(drawn.contains("<title>step 5: 4</title>"), "{drawn}");
        assert!(drawn.contains("resumed after step 5") && drawn.contains("x1=\"204\""), "{drawn}");
        assert_eq!([short(1.0), short(0.25), short(-0.01)], ["1", "0.2", "-0"]);
    }
}
