//! The user's wishes: to stop, to save.

use crate::engine::wait::Event;
use crate::sync::{Arc, AtomicBool, Ordering};

/// Asks a run to stop: it finishes its step, saves and returns.
///
/// ```
/// use twelvefold::train::Cancel;
/// let cancel = Cancel::new();
/// let from_elsewhere = cancel.clone();
/// from_elsewhere.request();
/// assert!(cancel.is_requested());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    requested: AtomicBool,
    save: AtomicBool,
    control: Arc<Event>,
}

impl Cancel {
    /// Nobody has asked yet. For one run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks, and wakes the run's control thread where it waits. From any thread, any number of
    /// times; not from a signal handler (let a thread wait for the signal).
    pub fn request(&self) {
        // Relaxed: nothing is read because of it; `wake` orders it before the look at the sleeper.
        self.0.requested.store(true, Ordering::Relaxed);
        self.0.control.wake();
    }

    /// Whether somebody has asked.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Relaxed)
    }

    /// Asks for a checkpoint after the step, whatever the interval; the run goes on. From any thread.
    ///
    /// ```
    /// use twelvefold::train::Cancel;
    /// let cancel = Cancel::new();
    /// cancel.request_save();
    /// assert!(!cancel.is_requested());
    /// ```
    pub fn request_save(&self) {
        // Relaxed: nothing is read because of it, and the control thread looks after each step.
        self.0.save.store(true, Ordering::Relaxed);
    }

    /// Whether a checkpoint was asked for since the last call.
    pub(super) fn take_save(&self) -> bool {
        // A load first, so that the line stays shared between steps. Relaxed as above.
        self.0.save.load(Ordering::Relaxed) && self.0.save.swap(false, Ordering::Relaxed)
    }

    /// The control thread's event.
    pub(super) fn control(&self) -> &Arc<Event> {
        &self.0.control
    }
}
