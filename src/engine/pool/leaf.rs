//! A worker's end: claim, steal, finish, spawn.

use super::{FANOUT, Pool};
use crate::engine::latch::Last;
use crate::engine::wait::Waiter;
use crate::sync::deque::{Steal, Worker};
use crate::sync::{Arc, Ordering, ordering_at, planted};

/// One worker's end.
///
/// ```
/// # use twelvefold::{engine::{pool::pool, shutdown::Shutdown, wait::Event}, sync::Arc};
/// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
/// let (mut publisher, mut leaves) = pool(1, 1, control, shutdown);
/// publisher.publish(["parent"].into_iter());
/// publisher.close(); // The open step is still worked off.
/// let leaf = &mut leaves[0];
/// let (pool, mut seen) = (leaf.pool().clone(), Vec::new());
/// while let Some(task) = leaf.claim() {
///     seen.push((leaf.id(), task));
///     if task == "parent" {
///         leaf.spawn(["child"].into_iter());
///     }
///     if let Some(last) = leaf.finish(&pool) {
///         leaf.complete(last); // Nothing is missing. Or open the step's next phase.
///     }
/// }
/// assert_eq!(seen, [(0, "parent"), (0, "child")]);
/// ```
#[derive(Debug)]
pub struct Leaf<T> {
    pub(super) id: usize,
    pub(super) deque: Worker<T>,
    pub(super) pool: Arc<Pool<T>>,
    /// Tasks that are done and have not arrived at the latch.
    pub(super) unsettled: usize,
}

/// What one look at the deques gave.
pub(super) enum Look<T> {
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
        if self.pool.shutdown.is_stopped() {
            return None;
        }
        if let Some(task) = self.deque.pop() {
            return Some(self.taken(task));
        }
        self.settle();
        let berth = self.pool.sleepers.berth(self.id);
        let mut waiter = Waiter::new(&berth);
        loop {
            if self.pool.shutdown.is_stopped() {
                return None;
            }
            match self.look() {
                Look::Found(task) => return Some(self.taken(task)),
                Look::Retry if !planted("pool.claim.retry") => crate::sync::spin_hint(),
                _ if self.is_over() => return None,
                _ => waiter.pause_after(self.look_cost()),
            }
        }
    }

    pub(super) fn taken(&self, task: T) -> T {
        let meter = &self.pool.meters[self.id];
        // One writer, so load and store; Relaxed: see `Pool::count`.
        meter.taken.store(meter.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        task
    }

    /// In pauses: a look visits every deque, and two of them cost about as much as one.
    pub(super) fn look_cost(&self) -> u32 {
        1 + self.pool.leaves() as u32 / 2
    }

    fn count_finished(&self) {
        let meter = &self.pool.meters[self.id];
        // Release: see `Pool::count`.
        let order = ordering_at("pool.finish.release", Ordering::Release);
        meter.finished.store(meter.finished.load(Ordering::Relaxed) + 1, order);
    }

    /// The claimed task is finished, and its step has one phase only: the step completes by itself
    /// when its last task is done. Cheaper than [`Leaf::finish`], since tasks from this leaf's own
    /// deque arrive together.
    pub fn done(&mut self) {
        self.count_finished();
        self.unsettled += 1;
    }

    /// Those that are done arrive; the last arriver of a step completes it.
    pub(super) fn settle(&mut self) {
        let arrived = std::mem::take(&mut self.unsettled);
        if arrived > 0
            && let Some(last) = self.pool.latch.arrive_many(arrived)
        {
            last.complete();
            self.completed();
        }
    }

    /// The claimed task is finished. `Some` when it was the phase's last.
    ///
    /// The evidence borrows from `pool`, a clone of the shared side that the caller keeps.
    pub fn finish<'a>(&mut self, pool: &'a Pool<T>) -> Option<Last<'a>> {
        self.settle();
        self.count_finished();
        pool.latch.arrive()
    }

    /// The step has no further phase: completes it and wakes the publisher.
    pub fn complete(&mut self, last: Last<'_>) {
        last.complete();
        self.completed();
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

    /// Adds a task to the open step, inside a task of it, unless the step then had more than
    /// `limit` unfinished ones.
    ///
    /// ```
    /// # use twelvefold::{engine::{pool::*, shutdown::Shutdown, wait::Event}, sync::Arc};
    /// # let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    /// let (mut publisher, mut leaves) = pool::<u32>(1, 1, control, shutdown);
    /// publisher.publish(0..1);
    /// publisher.close();
    /// let leaf = &mut leaves[0];
    /// assert_eq!(leaf.claim(), Some(0));
    /// assert_eq!(leaf.spawn_one(1, 2), Ok(()));
    /// assert_eq!(leaf.spawn_one(2, 2), Err(2), "two tasks are unfinished");
    /// leaf.done();
    /// assert_eq!(leaf.claim(), Some(1));
    /// leaf.done();
    /// assert_eq!(leaf.claim(), None); // By now all that is done has arrived.
    /// assert!(publisher.is_complete());
    /// ```
    ///
    /// # Errors
    /// The task, when there is no room.
    pub fn spawn_one(&self, task: T, limit: usize) -> Result<(), T> {
        match self.reserve(limit) {
            Some(_) => {
                self.push_reserved(task);
                Ok(())
            }
            None => Err(task),
        }
    }

    /// Room for one more task among `limit` unfinished ones: its number. The caller pushes it.
    pub(in crate::engine) fn reserve(&self, limit: usize) -> Option<u64> {
        self.pool.latch.try_add(limit).then(|| self.pool.count_made(1))
    }

    /// Pushes a task for which [`Leaf::reserve`] found room.
    pub(in crate::engine) fn push_reserved(&self, task: T) {
        self.deque.push(task);
        if !planted("pool.spawn.wake") {
            self.pool.sleepers.wake(1);
        }
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

    /// A step is complete.
    pub(super) fn completed(&self) {
        // A helping publisher sleeps in the last berth. The completion is ordered before the look at
        // its bit by the fence in `Last::complete`.
        if self.pool.helped && !planted("pool.complete.helper") {
            self.pool.sleepers.wake_at(self.pool.leaves());
        }
        self.wake_leavers();
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
    pub(super) fn look(&self) -> Look<T> {
        if let Some(task) = self.deque.pop() {
            return Look::Found(task);
        }
        let leaves = self.pool.leaves();
        if self.id == leaves {
            // The publisher's own: it is near to nobody.
            return self.steal_from(0..leaves);
        }
        let mut retry = false;
        let mut inner = self.id..self.id + 1;
        let mut span = FANOUT;
        let mut asked_the_publisher = false;
        while inner.len() < leaves {
            let start = self.id / span * span;
            let outer = start..(start + span).min(leaves);
            match self.steal_from((outer.start..inner.start).chain(inner.end..outer.end)) {
                Look::Found(task) => return Look::Found(task),
                Look::Retry => retry = true,
                Look::Nothing => {}
            }
            inner = outer;
            span = span.saturating_mul(FANOUT);
            // Before the far leaves, of which there may be thousands.
            if !asked_the_publisher && inner.len() < leaves {
                asked_the_publisher = true;
                match self.carry_off() {
                    Steal::Success(task) => return Look::Found(task),
                    Steal::Retry => retry = true,
                    Steal::Empty => {}
                }
            }
        }
        if !asked_the_publisher {
            match self.carry_off() {
                Steal::Success(task) => return Look::Found(task),
                Steal::Retry => retry = true,
                Steal::Empty => {}
            }
        }
        if retry { Look::Retry } else { Look::Nothing }
    }

    fn steal_from(&self, victims: impl Iterator<Item = usize>) -> Look<T> {
        let mut look = Look::Nothing;
        for victim in victims {
            match self.pool.stealers[victim].steal() {
                Steal::Success(task) => {
                    self.count_stolen();
                    return Look::Found(task);
                }
                Steal::Retry => look = Look::Retry,
                Steal::Empty => {}
            }
        }
        look
    }

    /// Takes a batch from the publisher's deque: one task to run, the rest into this leaf's own
    /// deque, where its siblings find them.
    fn carry_off(&self) -> Steal<T> {
        let pool = &self.pool;
        let batch = pool.batch.load(Ordering::Relaxed);
        if batch == 0 {
            return Steal::Empty;
        }
        let claim = pool.stealers[pool.leaves()].steal_batch_and_pop(&self.deque, batch);
        let moved = self.deque.len();
        // While they were on their way, the tasks were in no deque: a sleeper that looked just
        // then saw nothing, so it is woken now. (`wake` begins with the fence this needs.)
        if moved > 0 && !planted("pool.carry_off.wake") {
            pool.sleepers.wake(moved);
        }
        claim
    }

    fn count_stolen(&self) {
        let meter = &self.pool.meters[self.id];
        meter.stolen.store(meter.stolen.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}
