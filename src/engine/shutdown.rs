//! One-way shutdown, and the first fault.
//!
//! ```text
//! RUNNING ──cancel──▶ CANCELLED          nobody is to blame, or a thread did not start
//!    │                    │ poison
//!    └─────poison───▶ POISONED           a stage panicked or failed
//! ```
//!
//! A run that drains never leaves RUNNING: its edges close one after the other, each after
//! its last item (draining), and its threads return. Cancel and poison wake every sleeper
//! registered here; each thread leaves after the item it is working on; what is left in the queues
//! is counted as abandoned. The word never goes back, and the first poisoner's number is kept.

use super::pool::WakeAll;
use super::wait::Event;
use crate::sync::{Arc, AtomicUsize, Ordering, SetOnce, fence, ordering_at, planted};
use std::fmt;
use std::sync::Weak;

const RUNNING: usize = 0;
const CANCELLED: usize = 1;
/// POISONED by thread `n` is stored as `FAULTS + n`: state and culprit are one word.
const FAULTS: usize = 2;

/// The state of a run, shared by all of its threads.
///
/// ```
/// use twelvefold::engine::shutdown::{Shutdown, Wake};
/// use twelvefold::engine::wait::Event;
/// use twelvefold::sync::Arc;
///
/// let shutdown = Shutdown::new();
/// shutdown.register(vec![Wake::Event(Arc::new(Event::new()))]);
/// shutdown.cancel();
/// assert!(shutdown.is_stopped() && shutdown.is_cancelled());
/// // A fault counts even then, and the first one is kept.
/// assert!(shutdown.poison(3));
/// assert!(!shutdown.poison(5));
/// assert_eq!(shutdown.first_fault(), Some(3));
/// ```
#[derive(Debug, Default)]
pub struct Shutdown {
    state: AtomicUsize,
    sleepers: SetOnce<Vec<Sleeping>>,
}

/// What is kept of a [`Wake`]. A pool holds the run's state and so must not be held by it; one that
/// has gone has nobody asleep.
#[derive(Debug)]
enum Sleeping {
    Event(Arc<Event>),
    Pool(Weak<dyn WakeAll>),
}

/// Somebody to be woken when the run is stopped.
///
/// ```
/// use twelvefold::engine::{pool::pool, shutdown::{Shutdown, Wake}, wait::Event};
/// use twelvefold::sync::Arc;
///
/// let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
/// let (mut publisher, _leaves) = pool::<u32>(2, 2, control.clone(), shutdown.clone());
/// shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
/// publisher.publish(0..5); // Nobody works on them.
/// let canceller = std::thread::spawn(move || shutdown.cancel());
/// assert!(!publisher.wait(), "woken, and not because the step is complete");
/// canceller.join().unwrap();
/// ```
#[derive(Clone)]
pub enum Wake {
    /// One thread.
    Event(Arc<Event>),
    /// All workers of a pool.
    Pool(Arc<dyn WakeAll>),
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Wake::Event(_)) { "Event" } else { "Pool" })
    }
}

impl Shutdown {
    /// A running state without sleepers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names everybody who may sleep in this run. Once, before the first thread starts.
    ///
    /// # Panics
    /// When called twice.
    pub fn register(&self, sleepers: Vec<Wake>) {
        let sleepers = sleepers.into_iter().map(|wake| match wake {
            Wake::Event(event) => Sleeping::Event(event),
            Wake::Pool(pool) => Sleeping::Pool(Arc::downgrade(&pool)),
        });
        let set = self.sleepers.set(sleepers.collect());
        assert!(set.is_ok(), "the sleepers of a run are named once");
    }

    /// Whether every thread is to leave after its present item.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        // Acquire: who leaves because of a fault sees what was written before the poison.
        self.state.load(ordering_at("shutdown.is_stopped.acquire", Ordering::Acquire)) != RUNNING
    }

    /// Whether the run was cancelled, as opposed to running or poisoned.
    pub fn is_cancelled(&self) -> bool {
        // Acquire: as in `is_stopped`.
        self.state.load(ordering_at("shutdown.is_cancelled.acquire", Ordering::Acquire))
            == CANCELLED
    }

    /// Asks all threads to leave. No effect on a run that is already stopped.
    pub fn cancel(&self) {
        self.stop(CANCELLED);
    }

    /// Records that thread number `thread` failed, and asks all to leave. True for the first
    /// fault: the one that the run reports. A fault during a cancel is a fault.
    pub fn poison(&self, thread: usize) -> bool {
        self.stop(FAULTS + thread)
    }

    /// The number of the thread that failed first.
    pub fn first_fault(&self) -> Option<usize> {
        // Acquire: as in `is_stopped`.
        let order = ordering_at("shutdown.first_fault.acquire", Ordering::Acquire);
        self.state.load(order).checked_sub(FAULTS)
    }

    fn stop(&self, to: usize) -> bool {
        // Release: pairs with the Acquire in `is_stopped`.
        let order = ordering_at("shutdown.stop.release", Ordering::Release);
        let mut from = RUNNING;
        let mut won = true;
        while let Err(now) = self.state.compare_exchange(from, to, order, Ordering::Relaxed) {
            if now >= FAULTS || to == CANCELLED {
                won = false;
                break;
            }
            from = now;
        }
        // A cancel may come while the run's sleepers are being named. Orders the state before the look at
        // them; pairs with the fence of a sleeper's announcement, which comes after the naming: of the
        // two one sees the other.
        if !planted("shutdown.stop.fence") {
            fence(Ordering::SeqCst);
        }
        // Also for the loser: the winner may not have come to its wakes yet, and its caller may
        // rely on them.
        if !planted("shutdown.stop.wake") {
            for sleeper in self.sleepers.get().into_iter().flatten() {
                match sleeper {
                    Sleeping::Event(event) => event.wake(),
                    Sleeping::Pool(pool) => {
                        if let Some(pool) = pool.upgrade() {
                            pool.wake_all();
                        }
                    }
                }
            }
        }
        won
    }
}
