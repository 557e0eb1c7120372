//! The end of a thread that hands out steps and runs tasks itself while it waits.
//!
//! It is a leaf whose deque the others empty last, so a step ends even where no leaf ever wakes.
//! That is why it may spare wakes: a step that costs less than a wake is done before a sleeper would
//! have looked. What a step will cost is guessed from those before it. While anybody sleeps, the
//! clock is read after every eighth task, and after the first where the step is not held to be very
//! short, in which case the leaves that are awake leave it alone too; when 10 µs have been spent and
//! tasks are left, the wakes are sent. A wrong guess so costs the time of eight tasks at most. Where more threads may be awake than there are cores, tasks may be
//! made to wait for something, and every wake is sent at once.
//!
//! It sleeps in the last berth: woken by whoever publishes tasks, and by the leaf that completes
//! the step.

use super::leaf::Look;
use super::{BATCH, Leaf, Pace, Pool, Time, now, ns_since};
use crate::engine::wait::Waiter;
use crate::sync::{Arc, Ordering, cores, planted};

/// A step expected to take less than this wakes nobody: a wake costs its sender 6 to 10 µs, and the
/// sleeper runs 21 to 28 µs later (measured with every primitive; README, figures).
const WORTH_A_WAKE_NS: u64 = 20_000;
/// In a step expected to take less than this the helper is left alone: with a leaf at the same deque
/// each claim moves its cache lines from core to core.
const ALONE_NS: u64 = 2_000;
/// Tasks between two looks at the clock, which cost 25 ns each. A model's clock costs nothing.
const CLOCK_EVERY: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 8 };
/// After this time in a step that was thought to be short, what is left is worth a wake.
const LONG_NS: u64 = 10_000;

/// The publishing end of a pool made by [`helped`](super::helped): hands out steps, runs tasks,
/// closes.
///
/// ```
/// use twelvefold::engine::{pool::helped, shutdown::Shutdown};
/// # use twelvefold::sync::Arc;
///
/// let (mut helper, _leaves) = helped::<u32>(1, 2, Arc::new(Shutdown::new()));
/// helper.expect_short(); // Not worth a wake.
/// helper.publish(0..3);
/// let mut sum = 0;
/// while let Some(task) = helper.claim() {
///     if task == 2 {
///         helper.leaf().spawn([10].into_iter()); // One more task of this step.
///     }
///     sum += task;
///     helper.done();
/// }
/// assert!(helper.is_complete());
/// helper.close();
/// assert_eq!((sum, helper.pool().abandon().finished), (13, 4));
/// ```
#[derive(Debug)]
pub struct Helper<T> {
    leaf: Leaf<T>,
    steps: u64,
    pace: Pace,
    /// When the step was handed out.
    since: Time,
    /// Tasks claimed by this end in this step.
    claimed: u32,
    /// Whether the leaves leave this step alone.
    alone: bool,
    /// Whether the open step's cost has been learnt.
    learnt: bool,
}

impl<T: Send> Helper<T> {
    pub(super) fn new(leaf: Leaf<T>) -> Self {
        Helper {
            leaf,
            steps: 0,
            pace: Pace::default(),
            since: now(),
            claimed: 0,
            alone: false,
            learnt: true,
        }
    }

    /// The shared side, for counters and the ledger.
    pub fn pool(&self) -> &Arc<Pool<T>> {
        &self.leaf.pool
    }

    /// Opens a step and hands out its tasks, then returns; [`Helper::claim`] gives them to this
    /// thread as well.
    ///
    /// # Panics
    /// When there are no tasks, the step before is not complete, or the pool is closed.
    pub fn publish(&mut self, tasks: impl ExactSizeIterator<Item = T>) {
        let pool = &self.leaf.pool;
        assert_eq!(pool.latch.completed(), self.steps, "wait for the step before");
        self.steps += 1;
        (self.since, self.claimed, self.learnt) = (now(), 0, false);
        self.alone = self.is_short(ALONE_NS);
        let count = pool.hand_out(&self.leaf.deque, tasks, !self.alone);
        // One of them runs here.
        if !self.is_short(WORTH_A_WAKE_NS) && !planted("pool.publish.helped") {
            pool.sleepers.wake(count - 1);
        }
    }

    /// A task for this thread, or `None` when the step is complete or the run was stopped. Sleeps
    /// while others run the last tasks.
    pub fn claim(&mut self) -> Option<T> {
        if self.leaf.pool.shutdown.is_stopped() {
            return None;
        }
        if let Some(task) = self.leaf.deque.pop() {
            self.look_at_the_clock();
            return Some(self.leaf.taken(task));
        }
        self.leaf.settle();
        let task = self.wait();
        if task.is_none() && !self.learnt {
            self.learnt = true;
            self.pace.learn(ns_since(self.since));
        }
        task
    }

    fn wait(&self) -> Option<T> {
        let leaf = &self.leaf;
        let berth = leaf.pool.sleepers.berth(leaf.id);
        let mut waiter = Waiter::new(&berth);
        loop {
            if self.is_complete() || leaf.pool.shutdown.is_stopped() {
                return None;
            }
            match leaf.look() {
                Look::Found(task) => return Some(leaf.taken(task)),
                Look::Retry if !planted("pool.claim.retry") => crate::sync::spin_hint(),
                _ => waiter.pause_after(leaf.look_cost()),
            }
        }
    }

    /// The claimed task is finished.
    pub fn done(&mut self) {
        self.leaf.done();
    }

    /// Whether the published step is complete. Not before [`Helper::claim`] said `None` where this
    /// thread ran the last task.
    pub fn is_complete(&self) -> bool {
        self.leaf.pool.latch.completed() == self.steps
    }

    /// This end as a leaf, which can add tasks to the open step.
    pub fn leaf(&mut self) -> &mut Leaf<T> {
        &mut self.leaf
    }

    /// The next step is known to be short: its publication wakes nobody. What is known of those
    /// before it is forgotten.
    pub fn expect_short(&mut self) {
        self.pace.expected = Some(0);
    }

    /// No further step will come: leaves leave when no step is open. Tasks that this end has not claimed
    /// are theirs.
    pub fn close(&self) {
        self.leave_to_the_leaves();
    }

    /// Whether the step is over before a sleeper would have looked.
    fn is_short(&self, than: u64) -> bool {
        // Nothing is known of the first step, so it is held to be long. Where more may be awake than
        // there are cores, tasks may wait for each other.
        self.pace.expected.is_some_and(|ns| ns < than) && self.leaf.pool.sleepers.limit() <= cores()
    }

    /// Shares and wakes for what is left of a step that takes longer than was thought.
    fn look_at_the_clock(&mut self) {
        self.claimed += 1;
        let pool = &self.leaf.pool;
        let due = self.claimed.is_multiple_of(CLOCK_EVERY) || (self.claimed == 2 && !self.alone);
        if due && (self.alone || pool.sleepers.asleep() > 0) && ns_since(self.since) > LONG_NS {
            self.alone = false;
            pool.batch.store(BATCH, Ordering::Relaxed);
            // Begins with a fence: a leaf that goes to sleep sees the batch, or is woken.
            if !planted("pool.share.wake") {
                pool.sleepers.wake(self.leaf.deque.len());
            }
        }
    }
}

impl<T> Helper<T> {
    /// Closes the pool, and gives up what is left of a step that the leaves were to leave alone.
    fn leave_to_the_leaves(&self) {
        if self.alone {
            // Relaxed: the close fences before it wakes: a leaf that goes to sleep sees it, or is woken.
            self.leaf.pool.batch.store(BATCH, Ordering::Relaxed);
        }
        self.leaf.pool.close();
    }
}

impl<T> Drop for Helper<T> {
    fn drop(&mut self) {
        // As a publisher that is dropped.
        self.leave_to_the_leaves();
    }
}
