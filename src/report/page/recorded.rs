//! What a run's files of lines hold, as far as a page tells it: line by line, in bounded memory.
//!
//! A line of ours is a whole JSON object of a later step than the one before. Anything else is counted and
//! passed over: a page is made of what is there.

use serde::Deserialize;

use super::curve::{Curve, Point};

/// Rows of the table of moments, beside the last line.
const MOMENTS: u64 = 10;
/// Processes that are told of; of more, the last ones.
const PROCESSES: usize = 64;
/// Samples that are shown: so many of the first ones, and of the last.
const FIRST_SAMPLES: usize = 4;
const LAST_SAMPLES: usize = 12;

/// What was read of a file, and what is to be said of it where it is not all well.
#[derive(Debug, Default)]
pub(crate) struct Recorded<T> {
    pub(crate) held: T,
    pub(crate) fault: Option<String>,
}

/// The numbers of a line of `metrics.jsonl` that a page shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Line {
    pub(super) step: u64,
    pub(super) time: Option<f64>,
    pub(super) seconds: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) val_loss: Option<f64>,
    pub(super) lr: Option<f64>,
    pub(super) grad_norm: Option<f64>,
    pub(super) tokens_per_second: Option<f64>,
    pub(super) memory_bytes: Option<f64>,
    pub(super) spheres_tasks: Option<f64>,
}

/// The steps of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Process {
    pub(super) first: u64,
    pub(super) last: u64,
    /// From its begin to its last step.
    pub(super) seconds: f64,
    /// When its last step ended.
    pub(super) ended: Option<f64>,
}

/// What `metrics.jsonl` holds.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Steps of the run, for the moments.
    steps: u64,
    pub(super) lines: u64,
    pub(super) broken: u64,
    pub(super) first: Option<Line>,
    pub(super) last: Option<Line>,
    pub(super) loss: Curve,
    pub(super) val_loss: Curve,
    pub(super) lr: Curve,
    pub(super) grad_norm: Curve,
    pub(super) tokens_per_second: Curve,
    pub(super) memory: Curve,
    /// Lines at a tenth of the run each, and the last validation before.
    moments: Vec<(Line, Option<Point>)>,
    pub(super) processes: Vec<Process>,
    /// Processes before those.
    pub(super) earlier: u64,
}

impl Metrics {
    /// Of a run of so many steps; no line yet.
    pub(crate) fn new(steps: u64) -> Self {
        Metrics { steps, ..Metrics::default() }
    }

    /// The next line, without its end; None is one that was too long to be ours.
    pub(crate) fn take(&mut self, line: Option<&[u8]>) {
        let read = line.and_then(|line| serde_json::from_slice::<Line>(line).ok());
        let before = self.last.map_or(0, |line| line.step);
        match read.filter(|line| line.step > before) {
            Some(line) => self.line(line),
            None => self.broken += 1,
        }
    }

    fn line(&mut self, line: Line) {
        self.lines += 1;
        let curves = [
            (&mut self.loss, line.loss),
            (&mut self.val_loss, line.val_loss),
            (&mut self.lr, line.lr),
            (&mut self.grad_norm, line.grad_norm),
            (&mut self.tokens_per_second, line.tokens_per_second),
            (&mut self.memory, line.memory_bytes),
        ];
        for (curve, value) in curves {
            curve.add(line.step, value.unwrap_or(f64::NAN));
        }
        self.process(&line);
        let next = (self.steps / MOMENTS).max(1).saturating_mul(self.moments.len() as u64).max(1);
        if line.step >= next && (self.moments.len() as u64) < MOMENTS {
            self.moments.push((line, self.val_loss.last()));
        }
        self.first = self.first.or(Some(line));
        self.last = Some(line);
    }

    /// The counters of a process only rise; where they did not, another one went on.
    fn process(&mut self, line: &Line) {
        let fell = |now: Option<f64>, before: Option<f64>| {
            now.zip(before).is_some_and(|(now, before)| now <= before)
        };
        let begins = self.last.is_none_or(|last| {
            fell(line.seconds, last.seconds) || fell(line.spheres_tasks, last.spheres_tasks)
        });
        if begins {
            if self.processes.len() == PROCESSES {
                self.processes.remove(0);
                self.earlier += 1;
            }
            let first = line.step;
            self.processes.push(Process { first, last: first, seconds: 0.0, ended: None });
        }
        if let Some(process) = self.processes.last_mut() {
            process.last = line.step;
            process.seconds = line.seconds.unwrap_or(process.seconds);
            process.ended = line.time.or(process.ended);
        }
    }

    /// A line about every tenth of the run and the last one, each with the last validation before it.
    pub(super) fn moments(&self) -> Vec<(Line, Option<Point>)> {
        let last =
            self.last.filter(|last| self.moments.last().is_none_or(|m| m.0.step < last.step));
        let last = last.map(|line| (line, self.val_loss.last()));
        self.moments.iter().copied().chain(last).collect()
    }
}

/// What the model wrote after a step.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sample {
    pub(super) step: u64,
    pub(super) text: String,
}

/// What `samples.jsonl` holds.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(super) kept: Vec<Sample>,
    pub(super) lines: u64,
    pub(super) broken: u64,
}

impl Samples {
    /// The next line, without its end; None is one that was too long to be ours.
    pub(crate) fn take(&mut self, line: Option<&[u8]>) {
        let Some(sample) = line.and_then(|line| serde_json::from_slice(line).ok()) else {
            self.broken += 1;
            return;
        };
        self.lines += 1;
        if self.kept.len() == FIRST_SAMPLES + LAST_SAMPLES {
            self.kept.remove(FIRST_SAMPLES);
        }
        self.kept.push(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, MOMENTS, Metrics, PROCESSES, Samples};

    fn metrics(steps: u64, lines: &[&str]) -> Metrics {
        let mut metrics = Metrics::new(steps);
        lines.iter().for_each(|line| metrics.take(Some(line.as_bytes())));
        metrics
    }

    #[test]
    fn a_line_that_is_none_is_counted_and_the_others_are_taken() {
        let mut read = metrics(
            9,
            &[
                r#"{"step":1,"loss":5.5,"new_name":[1]}"#,
                "",
                "{\"step\":2,\"lo",
                r#"{"loss":5}"#,
                r#"{"step":1,"loss":4}"#,
                r#"{"step":-3}"#,
                r#"{"step":2,"loss":"4"}"#,
                "\u{0}\u{1}",
                "[]",
                r#"{"step":3,"loss":null,"val_loss":4.5}"#,
            ],
        );
        read.take(Some(&[0xff, 0xfe]));
        read.take(None);
        assert_eq!((read.lines, read.broken), (2, 10));
        assert_eq!((read.loss.count(), read.val_loss.last().unwrap().value), (1, 4.5));
        let mut samples = Samples::default();
        samples.take(Some(b"{\"step\":7,\"text\":\"a\"}"));
        samples.take(Some(b"{\"step\":7}"));
        samples.take(None);
        assert_eq!((samples.lines, samples.broken, samples.kept[0].step), (1, 2, 7));
    }

    #[test]
    fn a_process_that_goes_on_is_seen_by_its_counters() {
        let line = |step: u64, seconds: f64, tasks: u64| {
            format!("{{\"step\":{step},\"seconds\":{seconds},\"spheres_tasks\":{tasks}}}")
        };
        // The second begins later in its own time than the first had come to; the third earlier.
        let lines = [line(1, 1.0, 10), line(2, 2.0, 20), line(3, 8.0, 10), line(4, 0.5, 900)];
        let read = metrics(4, &lines.each_ref().map(String::as_str));
        let found: Vec<_> = read.processes.iter().map(|p| (p.first, p.last, p.seconds)).collect();
        assert_eq!(found, [(1, 2, 2.0), (3, 3, 8.0), (4, 4, 0.5)]);
        let many: Vec<String> = (1..200).map(|step| line(step, 1.0, 1)).collect();
        let many = metrics(200, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((many.processes.len(), many.earlier), (PROCESSES, 199 - PROCESSES as u64));
        assert_eq!(many.processes.last().unwrap().last, 199);
    }

    #[test]
    fn moments_are_spread_over_the_run_and_hold_its_first_and_its_last_line() {
        for (steps, gap) in [(1, 1), (3, 1), (10, 1), (99, 1), (2_000, 1), (2_000, 170)] {
            let mut read = Metrics::new(steps);
            let all = (1..=steps).step_by(gap);
            let last = all.clone().last().unwrap();
            all.for_each(|step| read.take(Some(format!("{{\"step\":{step}}}").as_bytes())));
            let found: Vec<u64> = read.moments().iter().map(|(line, _)| line.step).collect();
            assert_eq!((found[0], *found.last().unwrap()), (1, last), "{steps}");
            assert!(found.is_sorted_by(|a, b| a < b) && found.len() as u64 <= MOMENTS + 1);
            assert!(found.len() as u64 >= (last / gap as u64).min(MOMENTS), "{found:?}");
        }
        assert!(Metrics::new(9).moments().is_empty());
        assert_eq!(Line::default().step, 0);
    }

    #[test]
    fn of_many_samples_the_first_and_the_last_are_kept() {
        let mut samples = Samples::default();
        for step in 1..=100 {
            samples.take(Some(format!("{{\"step\":{step},\"text\":\"\"}}").as_bytes()));
        }
        let steps: Vec<u64> = samples.kept.iter().map(|sample| sample.step).collect();
        assert_eq!((steps[0], steps[3], steps[4], steps.len()), (1, 4, 89, 16));
        assert_eq!((samples.lines, *steps.last().unwrap()), (100, 100));
    }
}
