//! "This step is complete": counts finished work, not work handed out.
//!
//! The publisher opens a step with its number of tasks; each finished task arrives; the one that
//! arrives last holds a [`Last`], which is the evidence that nobody else works on the step. It
//! either opens the step's next phase or completes the step, and only a completed step wakes the
//! publisher, once. The latch lives as long as the pool, so the last arriver never touches freed
//! memory, and a second step reuses it under the next number.
//!
//! | state             | word  | who moves it               | to                                     |
//! |-------------------|-------|----------------------------|----------------------------------------|
//! | idle, step e done | 0     | publisher: [`Latch::open`] | n tasks missing of step e + 1          |
//! | n tasks missing   | n + 1 | worker: [`Latch::arrive`]  | n - 1 missing                          |
//! | 1 task missing    | 2     | worker: [`Latch::arrive`]  | held by [`Last`]                       |
//! | held              | 1     | [`Last::reopen`]           | n tasks missing, same step             |
//! | held              | 1     | [`Last::complete`]         | idle, step e + 1 done; publisher woken |
//!
//! Between two phases the word is 1, not 0: a step is not over because nobody works on it just now.

use super::wait::Event;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering, fence, ordering_at, planted};
use crossbeam_utils::CachePadded;

/// The part of the word that stands for the step itself.
const HELD: usize = 1;

/// Counts a step's unfinished tasks; see the module's text.
///
/// ```
/// use twelvefold::engine::latch::Latch;
/// use twelvefold::engine::wait::Event;
/// use twelvefold::sync::Arc;
///
/// let latch = Latch::new(Arc::new(Event::new()));
/// latch.open(2);
/// assert!(latch.arrive().is_none());
/// let last = latch.arrive().expect("nobody else works on the step");
/// last.reopen(1); // A second phase of one task.
/// assert_eq!(latch.completed(), 0);
/// latch.arrive().expect("it was alone").complete();
/// assert!(latch.is_idle() && latch.completed() == 1);
/// ```
#[derive(Debug)]
pub struct Latch {
    missing: CachePadded<AtomicUsize>,
    completed: CachePadded<AtomicU64>,
    waiter: Arc<Event>,
}

/// Evidence that a phase has ended and that no task of the step is running.
///
/// ```
/// # use twelvefold::{engine::{latch::Latch, wait::Event}, sync::Arc};
/// let latch = Latch::new(Arc::new(Event::new()));
/// latch.open(1);
/// let last = latch.arrive().expect("it was alone");
/// assert!(!latch.is_idle(), "between two phases the step is open");
/// last.reopen(1);
/// latch.arrive().expect("it was alone").complete();
/// assert!(latch.is_idle());
/// ```
///
/// Dropping it without a decision (a panic while the next phase is being made) leaves the step
/// incomplete; the publisher then learns of the end from the poison.
#[derive(Debug)]
#[must_use = "the step goes on or completes only by a decision of its last arriver"]
pub struct Last<'a>(&'a Latch);

impl Latch {
    /// A latch whose step 0 is complete; `waiter` is the publisher's event.
    pub fn new(waiter: Arc<Event>) -> Self {
        Latch {
            missing: CachePadded::new(AtomicUsize::new(0)),
            completed: CachePadded::new(AtomicU64::new(0)),
            waiter,
        }
    }

    /// Opens a step of `tasks` tasks, before the first of them is pushed. Only the publisher calls
    /// it, and only while no step is open.
    ///
    /// # Panics
    /// When a step is open, or `tasks` is 0: nobody would arrive.
    pub fn open(&self, tasks: usize) {
        assert!(tasks > 0, "a step without tasks never completes");
        // A read-modify-write and Relaxed: the pushes that follow publish it to the workers.
        let before = self.missing.fetch_add(tasks + HELD, Ordering::Relaxed);
        assert_eq!(before, 0, "the step before this one is still open");
    }

    /// Adds a task to the open step, before it is pushed. Only a worker inside a task of this step
    /// may call it: its own task keeps the step open meanwhile.
    ///
    /// ```
    /// # use twelvefold::{engine::{latch::Latch, wait::Event}, sync::Arc};
    /// let latch = Latch::new(Arc::new(Event::new()));
    /// latch.open(1);
    /// latch.add(1);
    /// assert!(latch.arrive().is_none(), "the added task is missing");
    /// latch.arrive().expect("none is missing").complete();
    /// ```
    pub fn add(&self, tasks: usize) {
        self.missing.fetch_add(tasks, Ordering::Relaxed);
    }

    /// Adds a task as [`Latch::add`] does, unless the step then had more than `limit` unfinished
    /// ones; whether it did.
    ///
    /// ```
    /// # use twelvefold::{engine::{latch::Latch, wait::Event}, sync::Arc};
    /// let latch = Latch::new(Arc::new(Event::new()));
    /// latch.open(1);
    /// assert!(latch.try_add(2)); // Inside the first task: now two are unfinished,
    /// assert!(!latch.try_add(2)); // and a third would be too many.
    /// latch.arrive_many(2).expect("both are finished").complete();
    /// ```
    pub fn try_add(&self, limit: usize) -> bool {
        // Both Relaxed, as in `add`; the step cannot end in between, so undoing is no arrival.
        let missing = self.missing.fetch_add(1, Ordering::Relaxed) - HELD;
        if missing >= limit {
            self.missing.fetch_sub(1, Ordering::Relaxed);
        }
        missing < limit
    }

    /// One task is finished. `Some` for the last one.
    pub fn arrive(&self) -> Option<Last<'_>> {
        self.arrive_many(1)
    }

    /// `tasks` tasks are finished, 1 at least. `Some` when the last one is among them.
    pub fn arrive_many(&self, tasks: usize) -> Option<Last<'_>> {
        // Release: what this task wrote is visible to the last arriver. Acquire: the last arriver
        // sees what all wrote. Either half missing lets the next phase read old gradients.
        let order = if planted("latch.arrive.release") {
            Ordering::Acquire
        } else if planted("latch.arrive.acquire") {
            Ordering::Release
        } else {
            Ordering::AcqRel
        };
        (self.missing.fetch_sub(tasks, order) == HELD + tasks).then_some(Last(self))
    }

    /// How many steps are complete.
    pub fn completed(&self) -> u64 {
        // Pairs with the Release in `Last::complete`: the publisher sees the step's results.
        self.completed.load(ordering_at("latch.completed.acquire", Ordering::Acquire))
    }

    /// Whether no step is open.
    pub fn is_idle(&self) -> bool {
        // Pairs with the Release of the arrivals, whose sequence `Last::complete` continues.
        self.missing.load(ordering_at("latch.is_idle.acquire", Ordering::Acquire)) == 0
    }
}

impl<'a> Last<'a> {
    /// Opens the step's next phase, before the first of its `tasks` is pushed.
    ///
    /// # Panics
    /// When `tasks` is 0.
    pub fn reopen(self, tasks: usize) {
        assert!(tasks > 0, "a phase without tasks never ends");
        self.0.missing.fetch_add(tasks, Ordering::Relaxed);
    }

    /// Completes the step and wakes the publisher, once.
    pub fn complete(self) {
        // First, so that the publisher that sees the step completed may open the next one. Relaxed:
        // the read-modify-write continues the release sequence of the arrivals, so whoever leaves
        // because the latch is idle sees what the tasks did.
        self.0.missing.fetch_sub(HELD, Ordering::Relaxed);
        // Release: pairs with the Acquire in `completed`. One writer at a time: steps follow each
        // other, and each has one last arriver.
        let order = ordering_at("latch.complete.release", Ordering::Release);
        self.0.completed.fetch_add(1, order);
        // Orders the completion before the look at the publisher, and before what the caller looks at
        // next (`closed`, a helper's berth): three parties, so a fence of its own.
        if !planted("latch.complete.fence") {
            fence(Ordering::SeqCst);
        }
        if !planted("latch.complete.wake") {
            self.0.waiter.wake_fenced();
        }
    }
}
