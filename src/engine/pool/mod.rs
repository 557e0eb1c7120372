//! Work-stealing pool: claim, steal, sleep, wake, close.
//!
//! One [`Publisher`] (the control thread, which never computes) or one [`Helper`] (which runs tasks
//! while it waits) pushes a step's tasks to its own
//! deque; [`Leaf`]s, one a thread, take tasks from their own deque, then from their
//! siblings', then from the publisher's, from which they carry off a batch, and then from their
//! parent's siblings', outward until the whole tree has been asked. Leaves are numbered so that every
//! subtree is a range: the children of one parent are twelve neighbours.
//!
//! Who sleeps: a leaf that found every deque empty, after announcing it and looking at all of them
//! again. Who wakes: the publisher and a leaf that spawns, for each task; a leaf that opens a phase,
//! for all but one, which it takes itself; a leaf that moved a batch into its own deque, for what it
//! moved; a leaf that withdrew from sleep with its wake already spent. A steal that lost a race ("retry") is not an empty deque and never leads to
//! sleep.
//!
//! End: [`Publisher::close`] says that no further step comes. A leaf leaves when the pool is closed
//! *and* no step is open (a task may still spawn others, a phase may still follow), or when the run is stopped. Tasks
//! left behind by a stop are counted by [`Pool::abandon`] after the threads are joined.

mod helper;
mod leaf;
mod publisher;

pub use helper::Helper;
pub use leaf::Leaf;
pub use publisher::Publisher;

use super::latch::Latch;
use super::shutdown::Shutdown;
use super::sleepers::Sleepers;
use super::wait::Event;
use crate::sync::deque::{Steal, Stealer, Worker};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, ordering_at, planted};
use crossbeam_utils::CachePadded;

/// Children of one parent.
///
/// ```
/// use twelvefold::engine::pool::FANOUT;
///
/// /// Whether leaf `other` is asked for work before more distant ones.
/// let is_near = |leaf: usize, other: usize| leaf / FANOUT == other / FANOUT;
/// assert!(is_near(0, 11) && !is_near(11, 12));
/// ```
pub const FANOUT: usize = 12;

/// Something with workers that can all be woken.
///
/// ```
/// use twelvefold::engine::{pool::WakeAll, shutdown::{Shutdown, Wake}, wait::Event};
/// use twelvefold::sync::Arc;
///
/// struct Watchers(Vec<Event>);
///
/// impl WakeAll for Watchers {
///     fn wake_all(&self) {
///         self.0.iter().for_each(Event::wake);
///     }
/// }
///
/// let watchers = Arc::new(Watchers(vec![Event::new(), Event::new()]));
/// Shutdown::new().register(vec![Wake::Pool(watchers)]); // A stop wakes them.
/// ```
pub trait WakeAll: Send + Sync {
    /// Wakes every worker; each looks at the run's state before it sleeps again.
    fn wake_all(&self);
}

/// What a leaf counted; written by its own thread alone, read by anyone.
#[derive(Debug, Default)]
pub struct LeafMeter {
    taken: AtomicU64,
    finished: AtomicU64,
    stolen: AtomicU64,
}

/// A leaf's counters at one moment.
///
/// ```
/// # use twelvefold::{engine::{pool::pool, shutdown::Shutdown, wait::Event}, sync::Arc};
/// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
/// use twelvefold::engine::pool::LeafCount;
///
/// let (mut publisher, mut leaves) = pool::<u32>(2, 2, control, shutdown);
/// publisher.publish(0..4);
/// leaves[0].claim(); // Carries two more off to its own deque,
/// leaves[1].claim(); // where its sibling steals one.
/// let count = publisher.pool().count(1);
/// assert_eq!(count, LeafCount { taken: 1, finished: 0, stolen: 1 });
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeafCount {
    /// Tasks claimed.
    pub taken: u64,
    /// Tasks finished.
    pub finished: u64,
    /// Tasks that came out of another leaf's deque.
    pub stolen: u64,
}

/// What the pool's threads share.
///
/// ```
/// # use twelvefold::{engine::{pool::pool, shutdown::Shutdown, wait::Event}, sync::Arc};
/// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
/// let (mut publisher, mut leaves) = pool::<u32>(1, 1, control, shutdown);
/// publisher.publish(0..2);
/// let pool = publisher.pool().clone();
/// leaves[0].claim();
/// leaves[0].finish(&pool);
/// assert_eq!((pool.count(0).taken, pool.count(0).finished), (1, 1));
/// drop((publisher, leaves)); // Nobody is left.
/// assert_eq!((pool.abandon().abandoned, pool.abandon().abandoned), (1, 0));
/// ```
#[derive(Debug)]
pub struct Pool<T> {
    /// The leaves' deques, then the publisher's.
    stealers: Box<[Stealer<T>]>,
    /// The leaves', then the publisher's, which counts only where it helps.
    meters: Box<[CachePadded<LeafMeter>]>,
    made: CachePadded<AtomicU64>,
    /// How many tasks a leaf carries off from the publisher at once; 0: none.
    batch: CachePadded<AtomicUsize>,
    /// Whether the publisher runs tasks, and so has the last berth among the sleepers.
    helped: bool,
    sleepers: Arc<Sleepers>,
    latch: Latch,
    closed: AtomicBool,
    shutdown: Arc<Shutdown>,
}

/// What became of a pool's tasks: `made = finished + lost + abandoned`.
///
/// ```
/// # use twelvefold::{engine::{pool::pool, shutdown::Shutdown, wait::Event}, sync::Arc};
/// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
/// let (mut publisher, mut leaves) = pool::<u32>(1, 1, control, shutdown.clone());
/// publisher.publish(0..3);
/// let leaf = &mut leaves[0];
/// let pool = leaf.pool().clone();
/// leaf.claim();
/// assert!(leaf.finish(&pool).is_none());
/// leaf.claim(); // Not finished: as if its leaf had failed.
/// shutdown.cancel();
/// assert_eq!(leaf.claim(), None);
/// let ledger = pool.abandon();
/// assert_eq!((ledger.made, ledger.finished, ledger.lost, ledger.abandoned), (3, 1, 1, 1));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolLedger {
    /// Tasks pushed.
    pub made: u64,
    /// Tasks that ran to their end.
    pub finished: u64,
    /// Tasks that were claimed and did not end: their leaf failed inside them.
    pub lost: u64,
    /// Tasks still queued when the threads had gone.
    pub abandoned: u64,
}

/// Makes a pool of `leaves` leaves, of which at most `awake` are kept awake at once.
///
/// `control` is the event on which the publisher's thread waits. Every leaf must be run by a thread:
/// one that is not counts as awake.
///
/// ```
/// use twelvefold::engine::{pool::pool, shutdown::Shutdown, wait::Event};
/// use twelvefold::sync::Arc;
///
/// let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
/// let (mut publisher, mut leaves) = pool::<u32>(1, 1, control, shutdown);
/// let mut leaf = leaves.remove(0);
/// let worker = std::thread::spawn(move || {
///     let pool = leaf.pool().clone();
///     let mut sum = 0;
///     while let Some(task) = leaf.claim() {
///         sum += task;
///         if let Some(last) = leaf.finish(&pool) {
///             leaf.complete(last);
///         }
///     }
///     sum
/// });
/// for step in 0..3 {
///     publisher.publish([step, 10 * step].into_iter());
///     assert!(publisher.wait());
/// }
/// publisher.close();
/// assert_eq!(worker.join().unwrap(), 33);
/// ```
///
/// # Panics
/// When `leaves` is 0.
pub fn pool<T: Send>(
    leaves: usize,
    awake: usize,
    control: Arc<Event>,
    shutdown: Arc<Shutdown>,
) -> (Publisher<T>, Vec<Leaf<T>>) {
    let sleepers = Sleepers::new(leaves, awake);
    let (deque, pool, leaves) = build(leaves, sleepers, false, control.clone(), shutdown);
    (Publisher { deque, pool, control, steps: 0, last_ns: 0, since: now() }, leaves)
}

/// Makes a pool whose publishing thread runs tasks itself while it waits for a step.
///
/// `awake` counts that thread too: of the leaves one fewer is kept awake.
///
/// ```
/// use twelvefold::engine::{pool::helped, shutdown::Shutdown};
/// use twelvefold::sync::Arc;
///
/// let (mut helper, leaves) = helped::<u32>(1, 2, Arc::new(Shutdown::new()));
/// drop(leaves); // Even with nobody else there:
/// helper.publish(0..3);
/// let mut sum = 0;
/// while let Some(task) = helper.claim() {
///     sum += task;
///     helper.done();
/// }
/// assert!(helper.is_complete());
/// assert_eq!(sum, 3);
/// ```
///
/// # Panics
/// When `leaves` is 0.
pub fn helped<T: Send>(
    leaves: usize,
    awake: usize,
    shutdown: Arc<Shutdown>,
) -> (Helper<T>, Vec<Leaf<T>>) {
    // The event of a pool that is not helped; nobody sleeps on it here.
    let control = Arc::new(Event::new());
    let sleepers = Sleepers::new(leaves + 1, awake.max(2));
    let (deque, pool, leaves) = build(leaves, sleepers, true, control, shutdown);
    (Helper::new(Leaf { id: leaves.len(), deque, pool, unsettled: 0 }), leaves)
}

type Parts<T> = (Worker<T>, Arc<Pool<T>>, Vec<Leaf<T>>);

fn build<T: Send>(
    leaves: usize,
    sleepers: Sleepers,
    helped: bool,
    control: Arc<Event>,
    shutdown: Arc<Shutdown>,
) -> Parts<T> {
    assert!(leaves > 0, "a pool needs a leaf");
    let deques: Vec<Worker<T>> = (0..=leaves).map(|_| Worker::new()).collect();
    let pool = Arc::new(Pool {
        stealers: deques.iter().map(Worker::stealer).collect(),
        meters: (0..=leaves).map(|_| CachePadded::default()).collect(),
        made: CachePadded::new(AtomicU64::new(0)),
        batch: CachePadded::new(AtomicUsize::new(BATCH)),
        helped,
        sleepers: Arc::new(sleepers),
        latch: Latch::new(control),
        closed: AtomicBool::new(false),
        shutdown,
    });
    let mut deques = deques.into_iter();
    let leaves = deques
        .by_ref()
        .take(leaves)
        .enumerate()
        .map(|(id, deque)| Leaf { id, deque, pool: pool.clone(), unsettled: 0 })
        .collect();
    let deque = deques.next().expect("the publisher's deque was made last");
    (deque, pool, leaves)
}

impl<T> Pool<T> {
    /// How many leaves there are.
    ///
    /// ```
    /// # use twelvefold::{engine::{pool::*, shutdown::Shutdown, wait::Event}, sync::Arc};
    /// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    /// let (publisher, leaves) = pool::<u32>(3, 2, control, shutdown);
    /// assert_eq!((publisher.pool().leaves(), leaves.len()), (3, 3));
    /// ```
    pub fn leaves(&self) -> usize {
        self.meters.len() - 1
    }

    /// Leaf `id`'s counters; those of a helping publisher behind the last leaf's.
    ///
    /// # Panics
    /// When there is no such leaf.
    pub fn count(&self, id: usize) -> LeafCount {
        let meter = &self.meters[id];
        // Finished before taken, and Acquire with the leaf's Release: a snapshot never shows more
        // finished than taken.
        let order = ordering_at("pool.count.acquire", Ordering::Acquire);
        let finished = meter.finished.load(order);
        LeafCount {
            finished,
            taken: meter.taken.load(Ordering::Relaxed),
            stolen: meter.stolen.load(Ordering::Relaxed),
        }
    }

    /// Empties the deques after all threads have left, dropping what is in them, and accounts for
    /// every task ever pushed. A queued task's `Drop` that panics is counted like the others.
    pub fn abandon(&self) -> PoolLedger {
        // Relaxed: the joins ordered every push before this.
        let mut ledger =
            PoolLedger { made: self.made.load(Ordering::Relaxed), ..Default::default() };
        for id in 0..self.meters.len() {
            let count = self.count(id);
            ledger.finished += count.finished;
            ledger.lost += count.taken - count.finished;
        }
        for stealer in &self.stealers {
            loop {
                match stealer.steal() {
                    Steal::Success(task) => {
                        ledger.abandoned += 1;
                        super::drop_guarded(task);
                    }
                    Steal::Retry => {}
                    Steal::Empty => break,
                }
            }
        }
        ledger
    }

    /// The sleeping places, which outlive what the tasks borrow.
    pub(super) fn sleepers(&self) -> Arc<Sleepers> {
        self.sleepers.clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.shutdown.is_stopped()
    }

    /// How many tasks were made so far.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Counts tasks that are about to be pushed; how many were made before.
    fn count_made(&self, tasks: usize) -> u64 {
        // Relaxed: read after the join, or as a running total by an observer.
        self.made.fetch_add(tasks as u64, Ordering::Relaxed)
    }

    /// Opens a step and pushes its tasks to `deque`, the publisher's; how many they were. An
    /// iterator that ends before its length, or panics, leaves a step of those that it gave.
    /// Where they are not `shared`, the leaves leave them to the publisher.
    fn hand_out(
        &self,
        deque: &Worker<T>,
        tasks: impl ExactSizeIterator<Item = T>,
        shared: bool,
    ) -> usize {
        let count = tasks.len();
        // Relaxed: the publisher alone closes.
        assert!(!self.closed.load(Ordering::Relaxed), "the pool is closed");
        self.latch.open(count);
        let share =
            if shared { (count / (4 * self.meters.len())).clamp(BATCH, BATCH_MAX) } else { 0 };
        // Relaxed: a matter of speed alone.
        if self.batch.load(Ordering::Relaxed) != share {
            self.batch.store(share, Ordering::Relaxed);
        }
        self.count_made(count);
        let mut handing = Handing { pool: self, count, pushed: 0 };
        for task in tasks.take(count) {
            deque.push(task);
            handing.pushed += 1;
        }
        handing.pushed
    }
}

/// Corrects the step and the ledger by what was announced and never came.
struct Handing<'a, T> {
    pool: &'a Pool<T>,
    count: usize,
    pushed: usize,
}

impl<T> Drop for Handing<'_, T> {
    fn drop(&mut self) {
        let missing = self.count - self.pushed;
        if missing > 0 {
            self.pool.made.fetch_sub(missing as u64, Ordering::Relaxed);
            if let Some(last) = self.pool.latch.arrive_many(missing) {
                last.complete();
            }
        }
    }
}

impl<T> Pool<T> {
    fn close(&self) {
        // Release: pairs with the Acquire in `Leaf::is_over`.
        self.closed.store(true, ordering_at("pool.close.release", Ordering::Release));
        if !planted("pool.close.wake") {
            self.sleepers.wake_all();
        }
    }
}

impl WakeAll for Sleepers {
    fn wake_all(&self) {
        Sleepers::wake_all(self);
    }
}

impl<T: Send> WakeAll for Pool<T> {
    fn wake_all(&self) {
        self.sleepers.wake_all();
    }
}

/// How many tasks are carried off at once: few enough that the others' first look still finds some
/// at the publisher's. More where a step has many, so that a claim costs less.
const BATCH: usize = 8;
const BATCH_MAX: usize = 32;

/// What a step is expected to cost, by what the ones before it did: a matter of speed alone.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// Nanoseconds, up at once and down by an eighth a step; `None` before the first.
    expected: Option<u64>,
}

impl Pace {
    fn learn(&mut self, ns: u64) {
        self.expected = Some(self.expected.map_or(ns, |before| ns.max(before - before / 8)));
    }
}

/// Now, in a form that subtracts to nanoseconds.
#[cfg(not(any(loom, shuttle)))]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(not(any(loom, shuttle)))]
fn ns_since(then: std::time::Instant) -> u64 {
    u64::try_from(then.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(any(loom, shuttle))]
fn now() {}

/// A model has no time: every step is long, and every wake is sent.
#[cfg(any(loom, shuttle))]
fn ns_since((): ()) -> u64 {
    u64::MAX
}

#[cfg(not(any(loom, shuttle)))]
type Time = std::time::Instant;
#[cfg(any(loom, shuttle))]
type Time = ();
