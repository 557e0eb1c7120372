//! A step in flat numbers: a line of `metrics.jsonl`, and the same names wherever else they are told.
//!
//! The names are stable: scripts read them. A number that is not known is left out of its line.
//!
//! | name | what it is |
//! |---|---|
//! | `step` | steps done, from 1; each stands once, and they rise |
//! | `time` | when the step ended: seconds since 1970, of the machine's clock |
//! | `seconds` | since the process began the run; a resume begins anew, as all counters of a process do |
//! | `loss` | training loss of this step, nats a token; none where the step was left out |
//! | `val_loss` | validation loss, where one was measured after this step; after the last step over all validation text |
//! | `lr`, `grad_norm` | learning rate; global norm of the gradient before clipping |
//! | `tokens` | targets trained, over all steps |
//! | `tokens_per_second` | of the last 20 steps |
//! | `skipped_steps` | steps left out, over all steps |
//! | `peak_share` | see [`Progress::peak_share`] |
//! | `memory_bytes` | that the process holds |
//! | `stage_NAME_busy_seconds`, `…_starved_seconds`, `…_blocked_seconds` | of each stage (`load`, `tokenize`, `batch`), over all its workers, since the process began |
//! | `stage_NAME_queue`, `…_room` | items that wait for the stage, and room for them |
//! | `spheres_busy_seconds`, `spheres_tasks`, `spheres_stolen` | of all spheres, since the process began |
//! | `spheres_busy_share` | of the last 20 steps' time of the spheres that are kept awake |
//! | `spheres_queue`, `spheres_room` | steps and validations that wait for them, and room for those |
//!
//! ```
//! use twelvefold::report::Progress;
//! use twelvefold::report::metrics::{Point, line};
//!
//! let progress = Progress { step: 7, loss: 2.5, val_loss: Some(3.0), ..Progress::default() };
//! let mut text = String::new();
//! line(&progress, 1.8e9, &mut text);
//! let point = Point::parse(&text).unwrap();
//! assert_eq!((point.step, point.loss, point.val_loss), (7, Some(2.5), None));
//! ```

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::Progress;

/// A number with its name.
///
/// ```
/// use twelvefold::report::metrics::{Kind, Metric};
///
/// let metric = Metric { name: "step", kind: Kind::Counter, value: 7.0 };
/// assert_eq!(format!("{}", metric.value), "7");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric<'a> {
    /// As in the module's table.
    pub name: &'a str,
    /// Whether it only rises.
    pub kind: Kind,
    /// It is finite. Counts are whole numbers, exact up to 2^53.
    pub value: f64,
}

/// What becomes of a number over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises while the process lives.
    Counter,
    /// It rises and falls.
    Gauge,
}

/// Calls `visit` with every number of a step that is known, always in the same order; not with `time` and
/// `val_loss`, which are not of the step alone.
///
/// ```
/// use twelvefold::report::Progress;
/// use twelvefold::report::metrics::each;
///
/// let progress = Progress { step: 7, loss: f64::NAN, tokens: 900, ..Progress::default() };
/// let mut names = Vec::new();
/// each(&progress, &mut |metric| names.push(metric.name.to_owned()));
/// assert!(names.starts_with(&["step".to_owned()]) && !names.contains(&"loss".to_owned()));
/// ```
pub fn each(progress: &Progress, visit: &mut dyn FnMut(Metric<'_>)) {
    let mut tell = |name: &str, kind: Kind, value: f64| {
        if value.is_finite() {
            visit(Metric { name, kind, value });
        }
    };
    let queue = |queue: Option<(usize, usize)>| {
        queue.map_or((f64::NAN, f64::NAN), |(held, room)| (held as f64, room as f64))
    };
    tell("step", Kind::Counter, progress.step as f64);
    tell("seconds", Kind::Counter, progress.seconds);
    tell("loss", Kind::Gauge, progress.loss);
    tell("lr", Kind::Gauge, short(progress.lr));
    tell("grad_norm", Kind::Gauge, progress.grad_norm);
    tell("tokens", Kind::Counter, progress.tokens as f64);
    tell("tokens_per_second", Kind::Gauge, progress.tokens_per_second);
    tell("skipped_steps", Kind::Counter, progress.skipped_steps as f64);
    tell("peak_share", Kind::Gauge, progress.peak_share.unwrap_or(f64::NAN));
    let memory = progress.memory_bytes.map_or(f64::NAN, |bytes| bytes as f64);
    tell("memory_bytes", Kind::Gauge, memory);
    let mut name = String::new();
    for stage in &progress.stages {
        let (held, room) = queue(stage.queue);
        for (what, kind, value) in [
            ("busy_seconds", Kind::Counter, stage.busy_seconds),
            ("starved_seconds", Kind::Counter, stage.starved_seconds),
            ("blocked_seconds", Kind::Counter, stage.blocked_seconds),
            ("queue", Kind::Gauge, held),
            ("room", Kind::Gauge, room),
        ] {
            name.clear();
            let _ = write!(name, "stage_{}_{what}", stage.name);
            tell(&name, kind, value);
        }
    }
    let spheres = &progress.spheres;
    let (held, room) = queue(spheres.queue);
    tell("spheres_busy_seconds", Kind::Counter, spheres.busy_seconds);
    tell("spheres_busy_share", Kind::Gauge, spheres.busy_share);
    tell("spheres_tasks", Kind::Counter, spheres.tasks as f64);
    tell("spheres_stolen", Kind::Counter, spheres.stolen as f64);
    tell("spheres_queue", Kind::Gauge, held);
    tell("spheres_room", Kind::Gauge, room);
}

/// The f64 that is written as the f32 is: 0.005 and not 0.004999999888.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Writes the line of a step to `text`, in place of what was there: without `val_loss`, and without a
/// line end. `time`: seconds since 1970.
pub fn line(progress: &Progress, time: f64, text: &mut String) {
    text.clear();
    let _ = write!(text, "{{\"time\":{time:.3}");
    each(progress, &mut |Metric { name, value, .. }| {
        let _ = write!(text, ",\"{name}\":{value}");
    });
    text.push('}');
}

/// What stands before `val_loss`, the last key of its line.
const VAL_LOSS: &str = ",\"val_loss\":";

/// Sets `val_loss` in a line that [`line()`] wrote; it may be there already.
///
/// ```
/// use twelvefold::report::metrics::set_val_loss;
///
/// let mut text = r#"{"step":7,"val_loss":3}"#.to_owned();
/// set_val_loss(&mut text, 2.5);
/// assert_eq!(text, r#"{"step":7,"val_loss":2.5}"#);
/// ```
pub fn set_val_loss(text: &mut String, loss: f64) {
    if !loss.is_finite() {
        return;
    }
    let end = text.find(VAL_LOSS).or_else(|| text.rfind('}')).unwrap_or(text.len());
    text.truncate(end);
    let _ = write!(text, "{VAL_LOSS}{loss}}}");
}

/// A line of `metrics.jsonl` as the curves of a report need it; of a line that stands for several steps the
/// last step, and the mean of the others.
///
/// ```
/// use twelvefold::report::metrics::Point;
///
/// let point = Point::parse(r#"{"step":7,"loss":2.5,"spheres_tasks":900}"#).unwrap();
/// assert_eq!((point.step, point.loss), (7, Some(2.5)));
/// assert!(Point::parse(r#"{"step":7,"lo"#).is_none());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// The step.
    pub step: u64,
    /// Training loss.
    pub loss: Option<f64>,
    /// Validation loss, where one was measured.
    pub val_loss: Option<f64>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Norm of the gradient.
    pub grad_norm: Option<f64>,
    /// Speed.
    pub tokens_per_second: Option<f64>,
    /// Share of the peak.
    pub peak_share: Option<f64>,
    /// Memory held.
    pub memory_bytes: Option<f64>,
}

impl Point {
    /// Reads a line; none where it is not whole, or says no step.
    pub fn parse(line: &str) -> Option<Self> {
        let point: Point = serde_json::from_str(line).ok()?;
        (point.step > 0).then_some(point)
    }

    /// Several steps as one.
    fn merged(points: &[Point]) -> Point {
        let mean = |get: fn(&Point) -> Option<f64>| {
            let known: Vec<f64> = points.iter().filter_map(get).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        Point {
            step: points.last().map_or(0, |point| point.step),
            loss: mean(|p| p.loss),
            val_loss: points.iter().rev().find_map(|p| p.val_loss),
            lr: mean(|p| p.lr),
            grad_norm: mean(|p| p.grad_norm),
            tokens_per_second: mean(|p| p.tokens_per_second),
            peak_share: mean(|p| p.peak_share),
            memory_bytes: mean(|p| p.memory_bytes),
        }
    }
}

/// The points of a run of any length in bounded memory: of a long run each stands for several steps.
///
/// ```
/// use twelvefold::report::metrics::{Point, Thinned};
///
/// let mut thinned = Thinned::new(100);
/// for step in 1..=100_000 {
///     thinned.push(Point { step, loss: Some(1.0), ..Point::default() });
/// }
/// let points = thinned.points();
/// assert!(points.len() <= 200 && points.last().unwrap().step == 100_000);
/// ```
#[derive(Debug, Clone)]
pub struct Thinned {
    most: usize,
    points: Vec<Point>,
    /// Steps that a point stands for.
    each: usize,
    group: Vec<Point>,
}

impl Thinned {
    /// Keeps `most` to twice as many points where there are more steps.
    pub fn new(most: usize) -> Self {
        Thinned { most: most.max(1), points: Vec::new(), each: 1, group: Vec::new() }
    }

    /// Takes the next step.
    pub fn push(&mut self, point: Point) {
        self.group.push(point);
        if self.group.len() < self.each {
            return;
        }
        self.points.push(Point::merged(&self.group));
        self.group.clear();
        if self.points.len() == 2 * self.most {
            self.points = self.points.chunks(2).map(Point::merged).collect();
            self.each *= 2;
        }
    }

    /// All of them.
    pub fn points(mut self) -> Vec<Point> {
        if !self.group.is_empty() {
            self.points.push(Point::merged(&self.group));
        }
        self.points
    }
}

#[cfg(test)]
mod tests {
    use super::{Metric, Point, Thinned, each, line, set_val_loss};
    use crate::report::Progress;
    use crate::report::progress::{SpheresState, StageState};
    use serde_json::Value;

    fn progress() -> Progress {
        let stage = StageState { name: "batch", queue: Some((3, 8)), ..StageState::default() };
        let spheres = SpheresState { tasks: 1 << 40, ..SpheresState::default() };
        Progress {
            step: 3,
            loss: 0.1 + 0.2,
            lr: 5e-3,
            stages: vec![stage],
            spheres,
            ..Progress::default()
        }
    }

    #[test]
    fn a_line_holds_every_number_to_its_last_bit() {
        let (progress, mut text) = (progress(), "what was there".to_owned());
        line(&progress, 1_800_000_000.5, &mut text);
        set_val_loss(&mut text, 1.0 / 3.0);
        let Value::Object(object) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        let mut count = 2;
        each(&progress, &mut |Metric { name, value, .. }| {
            // The reader of JSON rounds the last bit as it likes.
            assert!(text.contains(&format!("\"{name}\":{value}")), "{name}");
            assert!(format!("{value}").parse() == Ok(value) && object[name].is_number(), "{name}");
            count += 1;
        });
        assert_eq!(object.len(), count, "time and val_loss beside them: {text}");
        assert_eq!(object["val_loss"], 1.0 / 3.0);
        assert_eq!(
            (&object["lr"], &object["stage_batch_queue"]),
            (&Value::from(0.005), &Value::from(3))
        );
        assert_eq!(object["spheres_tasks"], 1_u64 << 40);
    }

    #[test]
    fn a_number_that_is_none_is_left_out() {
        let progress = Progress { loss: f64::NAN, grad_norm: f64::INFINITY, ..progress() };
        let mut text = String::new();
        line(&progress, 0.0, &mut text);
        set_val_loss(&mut text, f64::NAN);
        for name in ["loss", "grad_norm", "val_loss", "memory_bytes", "spheres_room"] {
            assert!(!text.contains(&format!("\"{name}\"")), "{name} in {text}");
        }
        assert_eq!(Point::parse(&text).unwrap().step, 3);
    }

    #[test]
    fn what_is_thinned_keeps_the_mean_and_the_validations() {
        let mut thinned = Thinned::new(4);
        for step in 1..=21 {
            let val_loss = (step == 8).then_some(9.0);
            thinned.push(Point { step, loss: Some(step as f64), val_loss, ..Point::default() });
        }
        let points = thinned.points();
        let seen: Vec<(u64, f64)> = points.iter().map(|p| (p.step, p.loss.unwrap())).collect();
        assert_eq!(seen, [(4, 2.5), (8, 6.5), (12, 10.5), (16, 14.5), (20, 18.5), (21, 21.0)]);
        assert_eq!(points[1].val_loss, Some(9.0));
    }
}
