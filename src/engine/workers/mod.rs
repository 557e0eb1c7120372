//! The pool alone: threads that run the tasks of one step after another.
//!
//! [`Workers`] starts the threads, hands out groups of tasks, waits until all of a group are done,
//! and joins every thread when it is closed or dropped. The thread that waits runs tasks too, unless
//! the builder says that it sleeps. Tasks may spawn tasks of the same step.
//!
//! A task that panics or returns an error stops the pool: each worker leaves after the task at
//! hand, [`Workers::step`] says [`Stopped`], and [`Workers::close`] gives the first fault, with the
//! worker, the task's number and the panic's own payload. Tasks are numbered from 0 in the order in
//! which they were made.
//!
//! Bounded: no more than the builder's limit of tasks are unfinished at once. A longer step is
//! handed out in parts; [`Worker::spawn`] gives a task back where there is no room.
//!
//! Tasks must not wait for each other, unless [`Builder::awake`] lets as many threads be awake as
//! there are tasks that wait.

mod builder;
mod side;

pub use builder::Builder;

use super::crew::{Crew, first};
use super::error::{BoxError, Cause, Error, Fault};
use super::pin::Pins;
use super::pool::{Leaf, LeafCount, Pool, PoolLedger};
use super::shutdown::Shutdown;
use super::wait::census;
use crate::sync::Arc;
use side::Side;
use std::{error, fmt};

#[cfg(not(any(loom, shuttle)))]
use super::crew::ScopedCrew;

/// A task and its number.
#[derive(Debug)]
struct Job<T> {
    number: u64,
    task: T,
}

/// The pool was stopped by a fault or a cancel before the step was complete; which of them,
/// [`Workers::close`] says.
///
/// ```
/// use twelvefold::engine::workers::{Stopped, Workers};
///
/// let mut workers = Workers::new(1, |_, n: u32| if n < 3 { Ok(()) } else { Err("too many".into()) })?;
/// assert_eq!(workers.step(0..4), Err(Stopped)); // What happened,
/// let reason = workers.close().unwrap_err(); // and why.
/// assert!(reason.to_string().ends_with("failed at item 3: too many"), "{reason}");
/// # Ok::<(), twelvefold::engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool was stopped")
    }
}

impl error::Error for Stopped {}

/// What a closed pool did.
///
/// ```
/// use twelvefold::engine::workers::{PoolReport, Workers};
///
/// let mut workers = Workers::new(2, |_, _task: u32| Ok(()))?;
/// workers.step(0..100).expect("nobody stops it");
/// let PoolReport { ledger, workers, cancelled, .. } = workers.close()?;
/// assert_eq!((ledger.made, ledger.finished, cancelled), (100, 100, false));
/// assert_eq!(workers.len(), 3); // The thread that waited is the last.
/// assert_eq!(workers.iter().map(|worker| worker.finished).sum::<u64>(), 100);
/// # Ok::<(), twelvefold::engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReport {
    /// All tasks; `made = finished + lost + abandoned`, or there is no report.
    pub ledger: PoolLedger,
    /// Each thread's, and last the waiter's own.
    pub workers: Vec<LeafCount>,
    /// Whether the pool was cancelled.
    pub cancelled: bool,
    /// The core that each thread was pinned to: none unless asked for (feature `pin`), or if the
    /// system refused.
    pub pinned: Vec<Option<usize>>,
}

/// Where a task runs: the worker's own state, and the way to spawn tasks.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use twelvefold::engine::workers::{Worker, Workers};
///
/// /// Counts the folders of a tree, in which each has two below it, down to a depth.
/// fn visit(worker: &mut Worker<'_, u32>, depth: u32, folders: &AtomicU32) {
///     folders.fetch_add(1, Ordering::Relaxed);
///     for _ in 0..if depth == 0 || worker.is_stopped() { 0 } else { 2 } {
///         if let Err(depth) = worker.spawn(depth - 1) {
///             visit(worker, depth, folders); // No room: here and now.
///         }
///     }
/// }
///
/// let folders = AtomicU32::new(0);
/// let run = |worker: &mut Worker<'_, u32>, depth| Ok(visit(worker, depth, &folders));
/// Workers::scope(2, run, |workers| workers.step([5]).expect("nobody stops it"))?;
/// assert_eq!(folders.into_inner(), 63);
/// # Ok::<(), twelvefold::engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Worker<'a, T, S = ()> {
    /// What [`Builder::state`] made on this thread.
    pub state: &'a mut S,
    leaf: &'a Leaf<Job<T>>,
    limit: usize,
}

impl<T: Send, S> Worker<'_, T, S> {
    /// The worker's number, from 0; the waiter's is the number of threads.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use twelvefold::engine::workers::Workers;
    ///
    /// let counts: [AtomicU32; 3] = Default::default(); // Of two threads, and of the waiter.
    /// Workers::scope(
    ///     2,
    ///     |worker, n| {
    ///         counts[worker.id()].fetch_add(n, Ordering::Relaxed);
    ///         Ok(())
    ///     },
    ///     |workers| workers.step(1..11).expect("nobody stops it"),
    /// )?;
    /// assert_eq!(counts.map(AtomicU32::into_inner).iter().sum::<u32>(), 55);
    /// # Ok::<(), twelvefold::engine::Error>(())
    /// ```
    pub fn id(&self) -> usize {
        self.leaf.id()
    }

    /// Adds a task to the open step.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use twelvefold::engine::workers::Workers;
    ///
    /// let sum = AtomicU32::new(0);
    /// let ((), report) = Workers::scope(
    ///     2,
    ///     |worker, n: u32| {
    ///         sum.fetch_add(n, Ordering::Relaxed);
    ///         if n > 0 {
    ///             worker.spawn(n - 1).map_err(|_| "the pool is full")?;
    ///         }
    ///         Ok(())
    ///     },
    ///     |workers| workers.step([3, 4]).expect("nobody stops it"),
    /// )?;
    /// assert_eq!((sum.into_inner(), report.ledger.made), (16, 9));
    /// # Ok::<(), twelvefold::engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// The task, when as many are unfinished as the pool may hold. Run it here and now, or keep it
    /// in a list of your own until this task ends.
    pub fn spawn(&mut self, task: T) -> Result<(), T> {
        match self.leaf.reserve(self.limit) {
            Some(number) => {
                self.leaf.push_reserved(Job { number, task });
                Ok(())
            }
            None => Err(task),
        }
    }

    /// Whether the pool was stopped: a long task may look now and then, and leave.
    pub fn is_stopped(&self) -> bool {
        self.leaf.pool().is_stopped()
    }
}

enum Threads<'scope> {
    Own(Crew),
    #[cfg(not(any(loom, shuttle)))]
    Scoped(ScopedCrew<'scope>),
    #[cfg(any(loom, shuttle))]
    #[expect(dead_code, reason = "loom has no scopes")]
    Scoped(std::marker::PhantomData<&'scope ()>),
}

impl Threads<'_> {
    fn join(&mut self) -> Vec<Option<Fault>> {
        match self {
            Threads::Own(crew) => crew.join_faults(),
            #[cfg(not(any(loom, shuttle)))]
            Threads::Scoped(crew) => crew.join_faults(),
            #[cfg(any(loom, shuttle))]
            Threads::Scoped(_) => Vec::new(),
        }
    }
}

/// A pool of threads that run the tasks of one step after another; see the module's text.
///
/// Dropped without [`Workers::close`], it is cancelled; its threads are joined all the same.
pub struct Workers<'scope, T> {
    /// Present until the close.
    side: Option<Box<dyn Side<T> + 'scope>>,
    threads: Threads<'scope>,
    pool: Arc<Pool<Job<T>>>,
    shutdown: Arc<Shutdown>,
    pins: Arc<Pins>,
    name: String,
    limit: usize,
    /// The waiter's own.
    fault: Option<Fault>,
    /// A waiter that helps is one of the engine's threads.
    _member: Option<census::Member>,
}

impl<T> fmt::Debug for Workers<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Workers<'static, ()> {
    /// Settings: how many threads, their name and state, whether the waiter helps.
    ///
    /// ```
    /// use twelvefold::engine::workers::Workers;
    ///
    /// // Each worker counts in its own state; nothing is shared.
    /// let mut workers = Workers::builder()
    ///     .name("count")
    ///     .threads(2)
    ///     .waiter_sleeps()
    ///     .state(|_worker| Vec::new())
    ///     .start(|worker, word: &str| {
    ///         worker.state.push(word.len());
    ///         Ok(())
    ///     })?;
    /// workers.step(["a", "task", "a", "word"]).expect("nobody stops it");
    /// assert_eq!(workers.close()?.ledger.finished, 4);
    /// # Ok::<(), twelvefold::engine::Error>(())
    /// ```
    pub fn builder() -> Builder<fn(usize)> {
        Builder::default()
    }
}

impl<T: Send + 'static> Workers<'static, T> {
    /// Starts `threads` threads that run `run` on each task, as the waiter does too.
    ///
    /// ```
    /// use twelvefold::engine::{Cause, Error, workers::{Stopped, Workers}};
    ///
    /// let mut workers = Workers::new(2, |_, n: u32| {
    ///     assert!(n < 12, "{n} is too many");
    ///     Ok(())
    /// })?;
    /// workers.step(0..12).expect("all are small enough");
    /// assert_eq!(workers.step([12]), Err(Stopped));
    /// let Err(Error::Fault(fault)) = workers.close() else { panic!("the fault is lost") };
    /// assert_eq!((fault.item, fault.cause.message()), (Some(12), "12 is too many".to_owned()));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Spawn`].
    ///
    /// # Panics
    /// When there are to be 0 threads.
    pub fn new(
        threads: usize,
        run: impl Fn(&mut Worker<'_, T>, T) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Workers::builder().threads(threads).start(run)
    }
}

impl<T: Send> Workers<'_, T> {
    /// Starts threads that may borrow, gives the pool to `control`, and closes it when that returns.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use twelvefold::engine::workers::Workers;
    ///
    /// let numbers: Vec<u64> = (1..=1000).collect();
    /// let sum = AtomicU64::new(0);
    /// Workers::scope(
    ///     2,
    ///     |_, part: &[u64]| {
    ///         sum.fetch_add(part.iter().sum(), Ordering::Relaxed);
    ///         Ok(())
    ///     },
    ///     |workers| workers.step(numbers.chunks(100)).expect("nobody stops it"),
    /// )?;
    /// assert_eq!(sum.into_inner(), 500_500);
    /// # Ok::<(), twelvefold::engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Workers::new`] and [`Workers::close`].
    ///
    /// # Panics
    /// When there are to be 0 threads, and with `control`'s own panic, after all threads have been
    /// joined.
    #[cfg(not(any(loom, shuttle)))]
    pub fn scope<R>(
        threads: usize,
        run: impl Fn(&mut Worker<'_, T>, T) -> Result<(), BoxError> + Send + Sync,
        control: impl FnOnce(&mut Workers<'_, T>) -> R,
    ) -> Result<(R, PoolReport), Error> {
        Workers::builder().threads(threads).scope(run, control)
    }

    /// Hands out `tasks` and waits until they and all that they spawned are done. No tasks are done
    /// at once.
    ///
    /// # Errors
    /// [`Stopped`] when a task failed or the pool was cancelled; [`Workers::close`] says why.
    pub fn step<I>(&mut self, tasks: I) -> Result<(), Stopped>
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: ExactSizeIterator,
    {
        // Not complete only where the iterator of a step before this one panicked.
        self.wait()?;
        let mut tasks = tasks.into_iter();
        let mut left = tasks.len();
        while left > 0 {
            let mut made = self.pool.made();
            let mut part = tasks.by_ref().take(self.limit).map(|task| {
                made += 1;
                Job { number: made - 1, task }
            });
            if let Some(side) = &mut self.side {
                side.publish(&mut part);
            }
            self.wait()?;
            // An iterator that does not keep to its length ends the step.
            left = if tasks.len() < left { tasks.len() } else { 0 };
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Stopped> {
        let Some(side) = &mut self.side else { return Err(Stopped) };
        if !side.is_complete()
            && let Err((item, cause)) = side.wait()
        {
            let worker = self.pool.leaves();
            self.shutdown.poison(worker);
            self.fault = Some(Fault { stage: self.name.clone(), worker, item: Some(item), cause });
        }
        if side.is_complete() && !self.shutdown.is_stopped() { Ok(()) } else { Err(Stopped) }
    }

    /// The pool's state, by which any thread may cancel it: each worker leaves after its task.
    ///
    /// ```
    /// # use twelvefold::engine::workers::{Stopped, Workers};
    /// let mut workers = Workers::new(1, |_, _task: u32| Ok(()))?;
    /// let shutdown = workers.shutdown().clone();
    /// std::thread::spawn(move || shutdown.cancel()).join().unwrap();
    /// assert_eq!(workers.step(0..3), Err(Stopped));
    /// assert!(workers.close()?.cancelled);
    /// # Ok::<(), twelvefold::engine::Error>(())
    /// ```
    pub fn shutdown(&self) -> &Arc<Shutdown> {
        &self.shutdown
    }

    /// What each thread has done so far, and last the waiter itself.
    ///
    /// ```
    /// # use twelvefold::engine::workers::Workers;
    /// let mut workers = Workers::new(2, |_, _task: u32| Ok(()))?;
    /// workers.step(0..10).expect("nobody stops it");
    /// let counts = workers.counts();
    /// assert_eq!(counts.iter().map(|count| count.taken).sum::<u64>(), 10);
    /// # workers.close()?;
    /// # Ok::<(), twelvefold::engine::Error>(())
    /// ```
    pub fn counts(&self) -> Vec<LeafCount> {
        (0..=self.pool.leaves()).map(|id| self.pool.count(id)).collect()
    }

    /// Joins the threads and checks the ledger.
    ///
    /// # Errors
    /// The first fault in time: a task's panic or error.
    pub fn close(mut self) -> Result<PoolReport, Error> {
        self.end()
    }
}

impl<T> Workers<'_, T> {
    fn end(&mut self) -> Result<PoolReport, Error> {
        // Its drop closes the pool: the leaves leave.
        drop(self.side.take());
        let mut faults = self.threads.join();
        faults.push(self.fault.take());
        let ledger = self.pool.abandon();
        first(&self.shutdown, faults)?;
        if ledger.made != ledger.finished + ledger.lost + ledger.abandoned {
            let cause = Cause::Error(format!("tasks are missing: {ledger:?}").into());
            let (stage, worker) = (self.name.clone(), self.pool.leaves());
            return Err(Error::Fault(Fault { stage, worker, item: None, cause }));
        }
        let workers = (0..=self.pool.leaves()).map(|id| self.pool.count(id)).collect();
        let (cancelled, pinned) = (self.shutdown.is_cancelled(), self.pins.cores());
        Ok(PoolReport { ledger, workers, cancelled, pinned })
    }
}

impl<T> Drop for Workers<'_, T> {
    fn drop(&mut self) {
        if self.side.is_some() {
            self.shutdown.cancel();
            // Nobody is left to tell of a fault.
            drop(self.end());
        }
    }
}
