//! What a run writes down while it goes: a line a step in `metrics.jsonl`, and what the model says at a few
//! moments in `samples.jsonl`.
//!
//! [`Records`] stands between the run and its observer: each word goes to the observer first and is then
//! written down. A record that cannot be written is no reason to end a training: the observer is told
//! once, and that record ends there.
//!
//! The line of a step waits for the validation after it, where one is due, so that both stand in one line.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

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
        observer: &'a mut dyn Observer,
    ) -> Self {
        Records {
            observer,
            metrics: Some(StepLog::new(out, METRICS, resumed)),
            samples: Some(StepLog::new(out, SAMPLES, resumed)),
            steps: options.steps,
            eval_interval: options.eval_interval,
            step: resumed.unwrap_or(0),
        }
    }

    /// The run was over before: where another run had begun to replace it and left nothing, its records
    /// are put back.
    pub(super) fn restore(out: &Path) {
        for name in [METRICS, SAMPLES] {
            // Nobody is harmed by a record that is missing.
            let _ = StepLog::new(out, name, None).restore();
        }
    }

    /// The run has ended well: all that was written is in the files.
    pub(super) fn end(mut self) {
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

    fn lost(&mut self, name: &str, error: &io::Error) {
        self.observer
            .note(&format!("{name} cannot be written, and the run goes on without it: {error}"));
    }

    fn keep_sample(&mut self, step: u64, text: &str) {
        let line = serde_json::json!({ "step": step, "text": text });
        self.samples(|log| log.put(step, |held| *held = line.to_string()));
    }
}

impl Observer for Records<'_> {
    fn plan(&mut self, text: &str) {
        self.observer.plan(text);
    }

    fn step(&mut self, progress: &Progress) {
        self.observer.step(progress);
        self.step = progress.step;
        let waits = self.is_validated_after(progress.step);
        self.metrics(|log| {
            log.put(progress.step, |held| line(progress, now(), held))?;
            if waits { Ok(()) } else { log.settle() }
        });
    }

    fn validated(&mut self, progress: &Progress) {
        self.observer.validated(progress);
        let loss = progress.val_loss.filter(|_| progress.val_step == Some(progress.step));
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

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}
