//! Where the threads of a run sleep, and when its source wants to be asked again.

use crate::engine::pool::WakeAll;
use crate::engine::sleepers::Sleepers;
use crate::sync::{AtomicU64, Ordering, fence, ordering_at, planted};
use std::ops::Range;

/// Where the threads sleep, and when the source wants to be asked again.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) sleepers: Sleepers,
    /// Nanoseconds of the run's clock; 0: somebody rang; [`ASKED`]: it has been asked since.
    pub(super) due: AtomicU64,
    /// Until when a thread sleeps that will then ask it; `u64::MAX`: no thread does.
    pub(super) kept: AtomicU64,
    source: Range<usize>,
}

impl Gate {
    /// Nobody sleeps, and the source is to be asked. `source`: the threads that may ask it.
    pub(super) fn new(threads: usize, source: Range<usize>) -> Self {
        Gate {
            sleepers: Sleepers::new(threads, usize::MAX),
            due: AtomicU64::new(0),
            kept: AtomicU64::new(u64::MAX),
            source,
        }
    }

    /// Whether the source is to be asked at some time, and nobody will wake up for it.
    pub(super) fn is_forgotten(&self) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        Gate::is_postponed(due) && self.kept.load(Ordering::Relaxed) == u64::MAX
    }

    /// Whether `due` is a time.
    pub(super) fn is_postponed(due: u64) -> bool {
        due > ASKED && due != u64::MAX
    }

    /// The source is being asked: a ring from now on is for the time after this question.
    pub(super) fn ask(&self) {
        // Acquire: pairs with the fence in `Bell::ring`; what was done before the ring is seen by the
        // source. The swap finds the ring that led to this question, or one after it.
        self.due.swap(ASKED, ordering_at("gate.ask.acquire", Ordering::Acquire));
    }

    /// The source has something: it is asked at once. The caller has fenced.
    pub(super) fn ring(&self) {
        // Relaxed: that fence releases what the ring is for. Every write is a read-modify-write: a ring
        // between question and answer makes the exchange in `Core::postpone` fail, and the source is
        // asked again.
        self.due.swap(0, Ordering::Relaxed);
        // Orders the ring before the look at who sleeps; pairs with the fence of an announcement.
        if !planted("gate.ring.fence") {
            fence(Ordering::SeqCst);
        }
        if !planted("gate.ring.wake") {
            self.sleepers.wake_among(&self.source, 1);
        }
    }
}

/// The source has been asked and has not said "later" since.
pub(super) const ASKED: u64 = 1;

impl WakeAll for Gate {
    fn wake_all(&self) {
        self.sleepers.wake_all();
    }
}
