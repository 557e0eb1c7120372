//! When a checkpoint is saved, and what becomes of a failure to.

use std::time::{Duration, Instant};

use super::checkpoints::Checkpoints;
use super::files::write_settings;
use super::options::Options;
use super::outcome::Results;
use super::training::Training;
use super::{snapshot, tracer};
use crate::report::Observer;

/// Saves checkpoints between steps.
pub(super) struct Saver<'a> {
    pub(super) checkpoints: &'a mut Checkpoints,
    pub(super) options: &'a Options,
    /// When the last one was saved, or tried.
    pub(super) last: Instant,
    /// The user asked for one.
    pub(super) asked: bool,
}

impl Saver<'_> {
    /// Whether one is due after this step, of which no validation follows: that comes first, so that
    /// the checkpoint knows its loss.
    pub(super) fn is_due_after(&self, step: u64) -> bool {
        let interval = self.options.eval_interval;
        self.is_due(step) && !(interval > 0 && step.is_multiple_of(interval))
    }

    /// Whether one is due after the validation of the last step: also where it is the best.
    pub(super) fn is_due_validated(&self, results: &Results) -> bool {
        let step = results.steps();
        let best = self.options.checkpoint_every > 0 && results.best() == Some(step);
        (self.is_due(step) || best) && !self.checkpoints.holds(step)
    }

    fn is_due(&self, step: u64) -> bool {
        let Options { checkpoint_every: every, checkpoint_minutes: minutes, .. } = *self.options;
        let late = minutes > 0 && self.last.elapsed() >= Duration::from_secs(60 * minutes);
        let regular = every > 0 && (step.is_multiple_of(every) || late);
        // After the last step come the outputs themselves.
        step < self.options.steps && (regular || self.asked)
    }

    /// Saves one. Where that fails, a full disk for example, the ones before stand, and the training
    /// goes on: what cannot be saved now may be later.
    pub(super) fn save(
        &mut self,
        training: &mut Training<'_>,
        results: &mut Results,
        observer: &mut dyn Observer,
    ) {
        observer.saving();
        let step = results.steps();
        let state = results.standing(self.options).to_state(
            self.options,
            &training.digests,
            training.isa.name(),
        );
        let begun = training.tracer.now();
        let saved = self.checkpoints.save(step, results.best(), |folder| {
            let Training { spheres, config, tokenizer, .. } = training;
            snapshot::write(folder, spheres, config, tokenizer, &state).map(|_| ())
        });
        training.tracer.span(begun, &tracer::CHECKPOINT, step);
        (self.last, self.asked) = (Instant::now(), false);
        results.checkpoint(saved.is_ok());
        if saved.is_ok()
            && let Err(error) = write_settings(&self.options.out, self.options)
        {
            observer.note(&format!("the settings could not be saved beside it: {error}"));
        }
        observer.note(&match saved {
            Ok(folder) => format!("checkpoint at step {step} saved in {}", folder.display()),
            Err(error) => format!(
                "the checkpoint at step {step} could not be saved, the one before stands: {error}"
            ),
        });
    }
}
