//! Work-stealing pool: claim, steal, sleep, wake, close.
//!
//! One [`Publisher`] (the control thread, which never computes) pushes a step's tasks to its own
//! deque and returns; [`Leaf`]s, one a thread, take tasks from their own deque, then from their
//! siblings', then from their parent's siblings', outward until the whole tree has been asked, and
//! then from the publisher's, from which they carry off a batch. Leaves are numbered so that every
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

use super::latch::{Last, Latch};
use super::shutdown::Shutdown;
use super::sleepers::Sleepers;
use super::wait::{Event, Waiter};
use crate::sync::deque::{Steal, Stealer, Worker};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, ordering_at, planted};
use crossbeam_utils::CachePadded;

/// Children of one parent.
pub const FANOUT: usize = 12;

/// Something with workers that can all be woken.
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
#[derive(Debug)]
pub struct Pool<T> {
    /// The leaves' deques, then the publisher's.
    stealers: Box<[Stealer<T>]>,
    meters: Box<[CachePadded<LeafMeter>]>,
    made: CachePadded<AtomicU64>,
    sleepers: Sleepers,
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
    assert!(leaves > 0, "a pool needs a leaf");
    let deques: Vec<Worker<T>> = (0..=leaves).map(|_| Worker::new()).collect();
    let pool = Arc::new(Pool {
        stealers: deques.iter().map(Worker::stealer).collect(),
        meters: (0..leaves).map(|_| CachePadded::default()).collect(),
        made: CachePadded::new(AtomicU64::new(0)),
        sleepers: Sleepers::new(leaves, awake),
        latch: Latch::new(control.clone()),
        closed: AtomicBool::new(false),
        shutdown,
    });
    let mut deques = deques.into_iter();
    let leaves = deques
        .by_ref()
        .take(leaves)
        .enumerate()
        .map(|(id, deque)| Leaf { id, deque, pool: pool.clone() })
        .collect();
    let deque = deques.next().expect("the publisher's deque was made last");
    (Publisher { deque, pool, control, steps: 0 }, leaves)
}

impl<T> Pool<T> {
    /// Leaf `id`'s counters.
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

    fn count_made(&self, tasks: usize) {
        // Relaxed: read after the join, or as a running total by an observer.
        self.made.fetch_add(tasks as u64, Ordering::Relaxed);
    }
}

impl<T: Send> WakeAll for Pool<T> {
    fn wake_all(&self) {
        self.sleepers.wake_all();
    }
}

/// The control thread's end: hands out steps, waits for them, closes. It never computes.
#[derive(Debug)]
pub struct Publisher<T> {
    deque: Worker<T>,
    pool: Arc<Pool<T>>,
    control: Arc<Event>,
    steps: u64,
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
        let count = tasks.len();
        // Relaxed: this end alone closes.
        assert!(!self.pool.closed.load(Ordering::Relaxed), "the pool is closed");
        assert_eq!(self.pool.latch.completed(), self.steps, "wait for the step before");
        self.pool.latch.open(count);
        self.steps += 1;
        self.pool.count_made(count);
        for task in tasks {
            self.deque.push(task);
        }
        if !planted("pool.publish.wake") {
            self.pool.sleepers.wake(count);
        }
    }

    /// Whether the published step is complete.
    pub fn is_complete(&self) -> bool {
        self.pool.latch.completed() == self.steps
    }

    /// Waits for the published step. False when the run was stopped before it was complete.
    pub fn wait(&self) -> bool {
        self.control.wait(|| self.is_complete() || self.pool.shutdown.is_stopped());
        self.is_complete()
    }
}

impl<T> Publisher<T> {
    /// No further step will come: leaves leave when no step is open.
    pub fn close(&self) {
        // Release: pairs with the Acquire in `Leaf::is_over`.
        self.pool.closed.store(true, ordering_at("pool.close.release", Ordering::Release));
        if !planted("pool.close.wake") {
            self.pool.sleepers.wake_all();
        }
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        // A publisher that unwinds between steps leaves nobody behind; one that unwinds with a step
        // open relies on the stop of the run.
        self.close();
    }
}

/// One worker's end.
#[derive(Debug)]
pub struct Leaf<T> {
    id: usize,
    deque: Worker<T>,
    pool: Arc<Pool<T>>,
}

/// What one look at the deques gave.
enum Look<T> {
    Found(T),
    /// Every deque was empty.
    Nothing,
    /// A race was lost: there may be something.
    Retry,
}

impl<T: Send> Leaf<T> {
    /// This leaf's number, from 0.
    pub fn id(&self) -> usize {
        self.id
    }

    /// The next task, sleeping until there is one. `None`: the pool has ended.
    pub fn claim(&mut self) -> Option<T> {
        let pool = self.pool.clone();
        let berth = pool.sleepers.berth(self.id);
        let mut waiter = Waiter::new(&berth);
        // A look visits every deque: two of them cost about as much as a pause.
        let cost = 1 + pool.meters.len() as u32 / 2;
        loop {
            if pool.shutdown.is_stopped() {
                return None;
            }
            match self.look() {
                Look::Found(task) => {
                    let meter = &pool.meters[self.id];
                    // One writer, so load and store; Relaxed: see `Pool::count`.
                    meter.taken.store(meter.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    return Some(task);
                }
                Look::Retry if !planted("pool.claim.retry") => crate::sync::spin_hint(),
                _ if self.is_over() => return None,
                _ => waiter.pause_after(cost),
            }
        }
    }

    /// The claimed task is finished. `Some` when it was the phase's last.
    ///
    /// The evidence borrows from `pool`, a clone of the shared side that the caller keeps.
    pub fn finish<'a>(&mut self, pool: &'a Pool<T>) -> Option<Last<'a>> {
        let meter = &pool.meters[self.id];
        // Release: see `Pool::count`.
        let order = ordering_at("pool.finish.release", Ordering::Release);
        meter.finished.store(meter.finished.load(Ordering::Relaxed) + 1, order);
        pool.latch.arrive()
    }

    /// The step has no further phase: completes it and wakes the publisher.
    pub fn complete(&mut self, last: Last<'_>) {
        last.complete();
        self.wake_leavers();
    }

    /// Opens the next phase of the step with `tasks`, from this leaf's deque.
    ///
    /// ```
    /// # use twelvefold::{engine::{pool::pool, shutdown::Shutdown, wait::Event}, sync::Arc};
    /// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    /// let (mut publisher, mut leaves) = pool(1, 1, control, shutdown);
    /// publisher.publish(["first phase"].into_iter());
    /// let leaf = &mut leaves[0];
    /// let pool = leaf.pool().clone();
    /// leaf.claim();
    /// let last = leaf.finish(&pool).expect("it was the only task");
    /// leaf.open(last, ["second phase"].into_iter());
    /// assert!(!publisher.is_complete());
    /// assert_eq!(leaf.claim(), Some("second phase"));
    /// ```
    ///
    /// # Panics
    /// When there are no tasks.
    pub fn open(&mut self, last: Last<'_>, tasks: impl ExactSizeIterator<Item = T>) {
        let count = tasks.len();
        last.reopen(count);
        // This leaf takes one itself.
        self.push(count, count - 1, tasks);
    }

    /// Adds tasks to the open step; only inside a task of it.
    pub fn spawn(&mut self, tasks: impl ExactSizeIterator<Item = T>) {
        let count = tasks.len();
        self.pool.latch.add(count);
        // All of them: the task at hand goes on, and may even wait for these.
        self.push(count, count, tasks);
    }

    /// The shared side.
    pub fn pool(&self) -> &Arc<Pool<T>> {
        &self.pool
    }

    fn push(&mut self, count: usize, wakes: usize, tasks: impl Iterator<Item = T>) {
        self.pool.count_made(count);
        for task in tasks {
            self.deque.push(task);
        }
        if !planted("pool.open.wake") {
            self.pool.sleepers.wake(wakes);
        }
    }

    /// The last step of a closed pool ended: those who slept until then leave.
    fn wake_leavers(&self) {
        // The completion is ordered before this look by the fence with which `Last::complete` wakes
        // the publisher; it pairs with the one that `close` runs through in `wake_all`, and with
        // the sleepers' announcement.
        if self.pool.closed.load(Ordering::Relaxed) && !planted("pool.complete.wake") {
            self.pool.sleepers.wake_all();
        }
    }

    fn is_over(&self) -> bool {
        // Acquire: pairs with the Release in `close`. Closed is looked at first: a step cannot be
        // opened after it, so idle then means idle for ever.
        self.pool.closed.load(ordering_at("pool.is_over.acquire", Ordering::Acquire))
            && (planted("pool.is_over.pending") || self.pool.latch.is_idle())
    }

    /// Looks at every deque once, near ones first.
    fn look(&mut self) -> Look<T> {
        if let Some(task) = self.deque.pop() {
            return Look::Found(task);
        }
        let mut retry = false;
        let leaves = self.pool.meters.len();
        let mut inner = self.id..self.id + 1;
        let mut span = FANOUT;
        while inner.len() < leaves {
            let start = self.id / span * span;
            let outer = start..(start + span).min(leaves);
            for victim in (outer.start..inner.start).chain(inner.end..outer.end) {
                match self.pool.stealers[victim].steal() {
                    Steal::Success(task) => {
                        self.count_stolen();
                        return Look::Found(task);
                    }
                    Steal::Retry => retry = true,
                    Steal::Empty => {}
                }
            }
            inner = outer;
            span = span.saturating_mul(FANOUT);
        }
        match self.carry_off() {
            Steal::Success(task) => Look::Found(task),
            Steal::Retry => Look::Retry,
            Steal::Empty if retry => Look::Retry,
            Steal::Empty => Look::Nothing,
        }
    }

    /// Takes a batch from the publisher's deque: one task to run, the rest into this leaf's own
    /// deque, where its siblings find them.
    fn carry_off(&mut self) -> Steal<T> {
        let leaves = self.pool.meters.len();
        let claim = self.pool.stealers[leaves].steal_batch_and_pop(&self.deque, BATCH);
        let moved = self.deque.len();
        // While they were on their way, the tasks were in no deque: a sleeper that looked just
        // then saw nothing, so it is woken now. (`wake` begins with the fence this needs.)
        if moved > 0 && !planted("pool.carry_off.wake") {
            self.pool.sleepers.wake(moved);
        }
        claim
    }

    fn count_stolen(&self) {
        let meter = &self.pool.meters[self.id];
        meter.stolen.store(meter.stolen.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// At most this many tasks are carried off at once: few enough that the others' first look still
/// finds some at the publisher's.
const BATCH: usize = 8;
