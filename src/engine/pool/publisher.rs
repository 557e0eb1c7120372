//! The end of the thread that hands out steps and does not compute.

use super::{Pool, Time, now, ns_since};
use crate::engine::wait::Event;
use crate::sync::deque::Worker;
use crate::sync::{Arc, planted};

/// A step expected to take longer is slept through: a wake at its end costs 20 to 30 µs.
const SPIN_NS: u64 = 40_000;
const WAKE_NS: u64 = 30_000;

/// The control thread's end: hands out steps, waits for them, closes. It never computes.
///
/// ```
/// # use twelvefold::{engine::{pool::pool, shutdown::Shutdown, wait::Event}, sync::Arc};
/// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
/// let (mut publisher, mut leaves) = pool::<u32>(1, 1, control, shutdown.clone());
/// let mut leaf = leaves.remove(0);
/// let worker = std::thread::spawn(move || leaf.claim()); // It does not finish the task.
/// publisher.publish(7..8);
/// assert_eq!(worker.join().unwrap(), Some(7));
/// shutdown.cancel();
/// assert!(!publisher.wait() && !publisher.is_complete());
/// publisher.close();
/// assert_eq!(publisher.pool().abandon().lost, 1);
/// ```
#[derive(Debug)]
pub struct Publisher<T> {
    pub(super) deque: Worker<T>,
    pub(super) pool: Arc<Pool<T>>,
    pub(super) control: Arc<Event>,
    pub(super) steps: u64,
    /// What the step before took, in nanoseconds.
    pub(super) last_ns: u64,
    /// When the step was handed out.
    pub(super) since: Time,
}

impl<T: Send> Publisher<T> {
    /// The shared side, for counters and the ledger.
    pub fn pool(&self) -> &Arc<Pool<T>> {
        &self.pool
    }

    /// Opens a step and hands out its tasks; returns before they end.
    ///
    /// ```
    /// # use twelvefold::{engine::{pool::pool, shutdown::Shutdown, wait::Event}, sync::Arc};
    /// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    /// let (mut publisher, mut leaves) = pool::<u32>(1, 1, control, shutdown);
    /// publisher.publish(0..1);
    /// assert!(!publisher.is_complete());
    /// let leaf = &mut leaves[0];
    /// let pool = leaf.pool().clone();
    /// assert_eq!(leaf.claim(), Some(0));
    /// let last = leaf.finish(&pool).expect("it was the only task");
    /// leaf.complete(last);
    /// assert!(publisher.is_complete() && publisher.wait());
    /// ```
    ///
    /// # Panics
    /// When there are no tasks, the step before has not been waited for, or the pool is closed.
    pub fn publish(&mut self, tasks: impl ExactSizeIterator<Item = T>) {
        assert_eq!(self.pool.latch.completed(), self.steps, "wait for the step before");
        self.steps += 1;
        self.since = now();
        let count = self.pool.hand_out(&self.deque, tasks, true);
        if !planted("pool.publish.wake") {
            self.pool.sleepers.wake(count);
        }
    }

    /// Whether the published step is complete.
    pub fn is_complete(&self) -> bool {
        self.pool.latch.completed() == self.steps
    }

    /// Waits for the published step. False when the run was stopped before it was complete.
    pub fn wait(&mut self) -> bool {
        let ready = || self.is_complete() || self.pool.shutdown.is_stopped();
        // Spinning would take a core from the leaves: it pays only where the step ends before a
        // sleeper could wake up. As long as the last one is this one held to be.
        if self.last_ns < SPIN_NS {
            self.control.wait(ready);
            self.last_ns = ns_since(self.since);
        } else {
            self.control.wait_without_spinning(ready);
            // Without the wake, or a short step that was slept through would look like a long one.
            self.last_ns = ns_since(self.since).saturating_sub(WAKE_NS);
        }
        self.is_complete()
    }
}

impl<T> Publisher<T> {
    /// No further step will come: leaves leave when no step is open.
    pub fn close(&self) {
        self.pool.close();
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        // A publisher that unwinds between steps leaves nobody behind; one that unwinds with a step
        // open relies on the stop of the run.
        self.close();
    }
}
