//! What a run writes down while it goes: a line a step in `metrics.jsonl`, what the model says at a few
//! moments in `samples.jsonl`, and on request both as events for TensorBoard and the last numbers for
//! Prometheus.
//!
//! [`Records`] stands between the run and its observer: each word goes to the endpoint, to the observer,
//! and is then written down, all from one [`Progress`]. A record that cannot be written is no reason to
//! end a training: the observer is told once, and that record ends there.
//!
//! The line of a step waits for the validation after it, where one is due, so that both stand in one line.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::endpoint::Publisher;
use super::event_log::{self, EventLog};
use super::options::Options;
use super::step_log::StepLog;
use crate::report::metrics::{line, set_val_loss};
use crate::report::{Observer, Progress};

/// The numbers of each step.
pub(super) const METRICS: &str = "metrics.jsonl";
/// What the model wrote.
pub(super) const SAMPLES: &str = "samples.jsonl";

/// See the module.
pub(super) struct Records<'a> {
    observer: &'a mut dyn Observer,
    /// None where it could not be written.
    metrics: Option<StepLog>,
    samples: Option<StepLog>,
    /// Behind the lines, which are set right first where the run fails.
    events: Option<EventLog>,
    publisher: Option<Publisher>,
    steps: u64,
    eval_interval: u64,
    /// The last step that was told.
    step: u64,
}

impl<'a> Records<'a> {
    /// Of a new run, or of one that goes on after a step. Nothing is written yet.
    pub(super) fn new(
        out: &Path,
        options: &Options,
        resumed: Option<u64>,
        publisher: Option<Publisher>,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Records {
            observer,
            metrics: Some(StepLog::new(out, METRICS, resumed)),
            samples: Some(StepLog::new(out, SAMPLES, resumed)),
            events: Some(EventLog::new(out, options.tensorboard, resumed)),
            publisher,
            steps: options.steps,
            eval_interval: options.eval_interval,
            step: resumed.unwrap_or(0),
        }
    }

    /// The run was over before: where another run had begun to replace it and left nothing, its records
    /// are put back. Events are made from its lines where they are asked for, or are there and may be of
    /// the other run.
    pub(super) fn restore(out: &Path, options: &Options) {
        // Nobody is harmed by a record that is missing.
        for name in [METRICS, SAMPLES] {
            let _ = StepLog::new(out, name, None).restore();
        }
        if options.tensorboard || event_log::is_there(out) {
            let _ = event_log::rewrite(out);
        }
    }

    /// The run has ended well: all that was written is in the files.
    pub(super) fn end(mut self) {
        if let Some(Err(error)) = self.events.take().map(EventLog::end) {
            self.lost(event_log::FOLDER, &error);
        }
        for (log, name) in [(self.metrics.take(), METRICS), (self.samples.take(), SAMPLES)] {
            if let Some(Err(error)) = log.map(StepLog::end) {
                self.lost(name, &error);
            }
        }
    }

    /// Whether a validation follows on this step.
    fn is_validated_after(&self, step: u64) -> bool {
        step == self.steps || self.eval_interval > 0 && step.is_multiple_of(self.eval_interval)
    }

    fn metrics(&mut self, write: impl FnOnce(&mut StepLog) -> io::Result<()>) {
        if let Some(Err(error)) = self.metrics.as_mut().map(write) {
            self.metrics = None;
            self.lost(METRICS, &error);
        }
    }

    fn samples(&mut self, write: impl FnOnce(&mut StepLog) -> io::Result<()>) {
        if let Some(Err(error)) = self.samples.as_mut().map(write) {
            self.samples = None;
            self.lost(SAMPLES, &error);
        }
    }

    fn events(&mut self, write: impl FnOnce(&mut EventLog) -> io::Result<()>) {
        if let Some(Err(error)) = self.events.as_mut().map(write) {
            self.events = None;
            self.lost(event_log::FOLDER, &error);
        }
    }

    fn lost(&mut self, name: &str, error: &io::Error) {
        self.observer
            .note(&format!("{name} cannot be written, and the run goes on without it: {error}"));
    }

    fn keep_sample(&mut self, step: u64, text: &str) {
        self.events(|log| log.sample(step, text));
        let line = serde_json::json!({ "step": step, "text": text });
        self.samples(|log| log.put(step, |held| *held = line.to_string()));
    }
}

impl Observer for Records<'_> {
    fn plan(&mut self, text: &str) {
        self.observer.plan(text);
    }

    fn step(&mut self, progress: &Progress) {
        let time = now();
        self.step = progress.step;
        if let Some(publisher) = &mut self.publisher {
            publisher.step(progress, time);
        }
        self.observer.step(progress);
        // Before the lines: it makes its beginning from those that are there.
        self.events(|log| log.step(progress, time));
        let waits = self.is_validated_after(progress.step);
        self.metrics(|log| {
            log.put(progress.step, |held| line(progress, time, held))?;
            if waits { Ok(()) } else { log.settle() }
        });
    }

    fn validated(&mut self, progress: &Progress) {
        let loss = progress.val_loss.filter(|_| progress.val_step == Some(progress.step));
        if let (Some(publisher), Some(loss)) = (&mut self.publisher, loss) {
            publisher.validated(loss);
        }
        self.observer.validated(progress);
        if let Some(loss) = loss {
            self.events(|log| log.validated(progress.step, loss));
        }
        self.metrics(|log| {
            if let (Some(held), Some(loss)) = (log.held(progress.step)?, loss) {
                set_val_loss(held, loss);
            }
            log.settle()
        });
    }

    fn note(&mut self, text: &str) {
        self.observer.note(text);
    }

    fn saving(&mut self) {
        self.observer.saving();
        self.events(EventLog::save);
        self.metrics(StepLog::save);
        self.samples(StepLog::save);
    }

    fn sample(&mut self, text: &str) {
        self.observer.sample(text);
        self.keep_sample(self.step, text);
    }

    fn sample_at(&mut self, step: u64, text: &str) {
        self.observer.sample_at(step, text);
        self.keep_sample(step, text);
    }
}

/// Seconds since 1970, to the millisecond that a line has.
pub(super) fn now() -> f64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    passed.as_millis() as f64 / 1e3
}
