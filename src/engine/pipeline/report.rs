//! What a pipeline says of itself: snapshots while it runs, a report or an error at the end.

pub use super::meter::{EdgeFlow, WorkerCount};
use crate::engine::error::{BoxError, Fault};
use std::time::Duration;
use std::{error, fmt, io};

/// One stage's counters.
///
/// ```
/// use twelvefold::engine::pipeline::{Pipeline, StageFlow};
///
/// /// Where most of the time went.
/// fn dearest(stages: &[StageFlow]) -> Option<&StageFlow> {
///     stages.iter().max_by_key(|stage| stage.total().busy_ns)
/// }
///
/// let adds = Pipeline::from_iter("numbers", 0..100).map("add", |n: u64| (0..n).sum::<u64>());
/// let report = adds.sink("drop", drop).run()?;
/// let dearest = dearest(&report.ledger.flow.stages).expect("there are stages");
/// assert_eq!(dearest.total().finished, 100);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageFlow {
    /// The stage's name.
    pub name: String,
    /// Each worker's counters.
    pub workers: Vec<WorkerCount>,
}

impl StageFlow {
    /// The sum over the workers.
    pub fn total(&self) -> WorkerCount {
        let mut total = WorkerCount::default();
        self.workers.iter().for_each(|worker| total.add(worker));
        total
    }
}

/// One thread's counters.
///
/// ```
/// use twelvefold::engine::pipeline::{Pipeline, ThreadFlow};
///
/// let report = Pipeline::from_iter("numbers", 0..100).sink("drop", drop).threads(2).run()?;
/// let idle = |thread: &ThreadFlow| thread.idle_ns as f64 / report.elapsed.as_nanos() as f64;
/// assert!(report.ledger.flow.threads.iter().all(|thread| idle(thread) <= 1.0));
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadFlow {
    /// Steps that moved something.
    pub steps: u64,
    /// Looks at the stages that found nothing to do.
    pub looks: u64,
    /// How often the thread went to sleep.
    pub sleeps: u64,
    /// How often it woke another one.
    pub wakes: u64,
    /// Time without anything to do, in nanoseconds.
    pub idle_ns: u64,
    /// The core that the thread is pinned to: none unless asked for (feature `pin`), or if the system
    /// refused.
    pub pinned: Option<usize>,
}

/// The counters of a pipeline at one moment. Each only grows from one snapshot to the next, depths
/// apart, and no edge shows more out than in.
///
/// ```
/// use twelvefold::engine::pipeline::{Pipeline, Snapshot};
///
/// /// How many items have come through.
/// fn done(now: &Snapshot) -> u64 {
///     now.stages.last().map_or(0, |sink| sink.total().finished)
/// }
///
/// let pipeline = Pipeline::from_iter("numbers", 0..100).sink("drop", drop);
/// let watch = pipeline.watch();
/// assert_eq!(done(&watch.snapshot()), 0);
/// pipeline.run()?;
/// assert_eq!(done(&watch.snapshot()), 100);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The stages, from the source to the sink.
    pub stages: Vec<StageFlow>,
    /// The edges between them.
    pub edges: Vec<EdgeFlow>,
    /// The threads.
    pub threads: Vec<ThreadFlow>,
}

/// What became of every item: each stage's `taken = finished + failed + abandoned`, each edge's `made
/// = taken + abandoned`, and the stamps of all batches.
///
/// ```
/// use twelvefold::engine::pipeline::{Pipeline, RunError};
///
/// let check = |n| if n < 500 { Ok(n) } else { Err("too large") };
/// let run = Pipeline::from_iter("numbers", 0..1_000).try_map("check", check).sink("drop", drop).run();
/// let Err(RunError::Fault { ledger, .. }) = run else { panic!("the fault is lost") };
/// let check = ledger.flow.stages[1].total();
/// assert!(ledger.balances && check.failed >= 1);
/// assert_eq!(check.taken, check.finished + check.failed + check.abandoned);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The counters after all threads have been joined.
    pub flow: Snapshot,
    /// Whether everything balances.
    pub balances: bool,
}

/// An item that failed, where failures are collected.
///
/// ```
/// use twelvefold::engine::pipeline::{Failure, OnError, Pipeline};
///
/// let report = Pipeline::from_iter("lines", ["1", "x", "3"])
///     .try_map("parse", str::parse::<u32>)
///     .sink("drop", drop)
///     .on_error(OnError::Collect(10))
///     .run()?;
/// let Failure { stage, item: Some(line), error } = &report.failures[0] else { panic!() };
/// assert_eq!((stage.as_str(), *line), ("parse", 1)); // From 0: the second.
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug)]
pub struct Failure {
    /// The stage's name.
    pub stage: String,
    /// The number of the source's item, from 0; none where a worker made it of itself at the end
    /// ([`Stage::finish`](super::Stage::finish)).
    pub item: Option<u64>,
    /// The stage's error.
    pub error: BoxError,
}

/// A run that ended as it should, or was cancelled; its ledger balances.
///
/// ```
/// use twelvefold::engine::pipeline::{Pipeline, Report};
///
/// let run = Pipeline::from_iter("numbers", 0..100).sink("drop", drop).run();
/// let Report { items, cancelled, elapsed, .. } = run?;
/// assert_eq!((items, cancelled), (100, false));
/// println!("{:.0} items a second", items as f64 / elapsed.as_secs_f64());
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug)]
pub struct Report {
    /// Items that the source gave.
    pub items: u64,
    /// Whether the run was cancelled before its end.
    pub cancelled: bool,
    /// From the start of the first thread to the join of the last.
    pub elapsed: Duration,
    /// What became of every item.
    pub ledger: Ledger,
    /// How many items failed, where failures are collected.
    pub failed: u64,
    /// The failures by item number, as many as were to be kept.
    pub failures: Vec<Failure>,
}

/// A run that did not end as it should. All of its threads have been joined.
///
/// ```
/// use twelvefold::engine::{Cause, pipeline::{Pipeline, RunError}};
///
/// let share = |n: u32| 100 / n; // Panics at 0.
/// let run = Pipeline::from_iter("numbers", [2, 1, 0]).map("share", share).sink("drop", drop).run();
/// match run.expect_err("it divides by 0") {
///     RunError::Fault { fault, ledger, .. } => {
///         assert_eq!((fault.stage.as_str(), fault.item), ("share", Some(2)));
///         assert!(matches!(fault.cause, Cause::Panic(_)) && ledger.balances);
///     }
///     other => panic!("{other}"),
/// }
/// ```
#[derive(Debug)]
pub enum RunError {
    /// A stage panicked or returned an error.
    Fault {
        /// The fault with the lowest item number, whatever the timing. One without an item comes before
        /// the batch that a worker was to be made for, or after all items ([`Stage::finish`]). Where a
        /// stage is [unordered](super::Builder::unordered) it is the first in time.
        ///
        /// [`Stage::finish`]: super::Stage::finish
        fault: Fault,
        /// How many more were met. It depends on the timing.
        others: u64,
        /// What became of every item.
        ledger: Box<Ledger>,
    },
    /// The system refused a thread.
    Spawn {
        /// The thread's name.
        thread: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Items were lost or doubled: a bug of this library.
    Unbalanced(Box<Ledger>),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Fault { fault, others: 0, .. } => fault.fmt(f),
            RunError::Fault { fault, others, .. } => write!(f, "{fault} (and {others} more)"),
            RunError::Spawn { thread, source } => write!(
                f,
                "cannot start thread {thread}: {source}\nhint: fewer threads, or a higher limit (`ulimit -u`, `ulimit -v`)"
            ),
            RunError::Unbalanced(ledger) => {
                write!(f, "items were lost or doubled, please report it: {ledger:?}")
            }
        }
    }
}

impl error::Error for RunError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            RunError::Fault { fault, .. } => Some(fault),
            RunError::Spawn { source, .. } => Some(source),
            RunError::Unbalanced(_) => None,
        }
    }
}
