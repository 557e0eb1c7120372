//! A pipeline taken apart, for the models: they play its threads step by step where whole threads have
//! too many states.
//!
//! It is there under a model checker only and is no part of the crate's interface. What it steps is
//! what ships; on real threads whole pipelines run through the same windows, in their tests.

use super::core::Core;
use super::drive::{Hands, Me};
use super::meter::{WorkMeter, WorkerCount};
use super::report::Snapshot;
use super::run::{Pipeline, Plan};
use crate::engine::wait::Sleeper;
use crate::sync::Arc;
use std::cell::RefCell;
use std::fmt;

/// A pipeline that is built and that nothing runs; one for all who play its threads.
#[derive(Clone)]
pub struct Bench(Arc<Plan<'static>>);

impl fmt::Debug for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bench(..)")
    }
}

impl Bench {
    /// Builds `pipeline`.
    pub fn new(pipeline: Pipeline<'static>) -> Self {
        let (ranges, names) = pipeline.place();
        Bench(Arc::new(pipeline.plan(ranges, names.len())))
    }

    fn core(&self) -> &Core {
        &self.0.core
    }

    /// Plays thread `thread`.
    pub fn seat<R>(&self, thread: usize, play: impl FnOnce(&mut Seat<'_>) -> R) -> R {
        let outcome = RefCell::default();
        let me = Me::new((self.core(), self.0.nodes()), thread, None, &outcome);
        let hands = Hands::new(&me);
        play(&mut Seat { me, hands })
    }

    /// Whether a step of `stage` would do something.
    pub fn is_ready(&self, stage: usize) -> bool {
        self.0.nodes()[stage].is_ready(self.core())
    }

    /// Items the source may still put in.
    pub fn room(&self) -> u64 {
        self.core().room()
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        self.core().snapshot()
    }

    /// How many threads sleep, or are about to.
    pub fn asleep(&self) -> usize {
        self.core().gate.sleepers.asleep()
    }
}

/// One thread of a [`Bench`].
pub struct Seat<'a> {
    me: Me<'a>,
    hands: Hands<'a>,
}

impl fmt::Debug for Seat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seat(..)")
    }
}

impl Seat<'_> {
    /// Steps `stage` if it is ready, and wakes whom that concerns.
    pub fn step(&mut self, stage: usize) -> bool {
        self.hands.step(&self.me, |s| s == stage)
    }

    /// Items that this thread has taken as a worker of `stage`.
    pub fn took(&self, stage: usize) -> u64 {
        self.me.took(stage)
    }

    /// Announces, and looks at `stage` as every thread does before it sleeps. Where that was a step the
    /// announcement is taken back, where not the thread is left as one that sleeps.
    pub fn last_look(&mut self, stage: usize) -> bool {
        self.me.bunk().announce();
        let stepped = self.step(stage);
        if stepped {
            self.me.bunk().withdraw();
        }
        stepped
    }
}

/// The counters of a worker.
#[derive(Debug, Default)]
pub struct Meter(WorkMeter);

impl Meter {
    /// So many items came.
    pub fn took(&self, items: u64) {
        self.0.took(items, 0);
    }

    /// So many were finished, failed, were abandoned.
    pub fn ended(&self, finished: u64, failed: u64, abandoned: u64) {
        self.0.ended(finished, failed, abandoned);
    }

    /// The counters now.
    pub fn count(&self) -> WorkerCount {
        self.0.count()
    }
}
