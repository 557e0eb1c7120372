//! What a running pipeline counts, and what its ledger must say.
//!
//! Each worker of each stage has a meter of its own, which it alone writes and anyone may read. A
//! ledger is a count and a sum of stamps, so that one batch lost and one doubled do not balance.

use crate::sync::{AtomicU64, Ordering, ordering_at};
use crossbeam_utils::CachePadded;

/// The counters of one worker of one stage.
#[derive(Debug, Default)]
pub(super) struct WorkMeter {
    taken: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
    made: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    busy_ns: AtomicU64,
    taken_stamps: AtomicU64,
    made_stamps: AtomicU64,
}

/// A meter on a cache line of its own.
pub(super) type PaddedMeter = CachePadded<WorkMeter>;

/// What one worker of a stage has done, at one moment.
///
/// ```
/// use twelvefold::engine::pipeline::{Pipeline, WorkerCount};
///
/// /// How long an item takes, in nanoseconds.
/// fn mean_ns(count: &WorkerCount) -> u64 {
///     count.busy_ns / count.finished.max(1)
/// }
///
/// let report = Pipeline::from_iter("numbers", 0..100).sink("drop", drop).run()?;
/// let sink = report.ledger.flow.stages[1].total();
/// assert!(sink.balances() && sink.finished == 100);
/// assert!(u128::from(mean_ns(&sink)) <= report.elapsed.as_nanos());
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerCount {
    /// Items taken from the edge before; of a source: items that it gave.
    pub taken: u64,
    /// Items worked on to the end.
    pub finished: u64,
    /// Items that ended in an error or a panic.
    pub failed: u64,
    /// Items taken and dropped unworked, because the run was stopped.
    pub abandoned: u64,
    /// Items given to the edge after.
    pub made: u64,
    /// Bytes, as far as the stage counted them ([`Out::count_bytes`](super::Out::count_bytes)).
    pub bytes: u64,
    /// Batches worked on.
    pub batches: u64,
    /// Time spent in the stage, in nanoseconds.
    pub busy_ns: u64,
}

impl WorkerCount {
    /// Whether every item taken came to an end: true for every stage after a run.
    pub fn balances(&self) -> bool {
        self.taken == self.finished + self.failed + self.abandoned
    }

    pub(super) fn add(&mut self, other: &WorkerCount) {
        self.taken += other.taken;
        self.finished += other.finished;
        self.failed += other.failed;
        self.abandoned += other.abandoned;
        self.made += other.made;
        self.bytes += other.bytes;
        self.batches += other.batches;
        self.busy_ns += other.busy_ns;
    }
}

/// One writer: load and store are enough, and Relaxed where nothing is concluded from it.
fn add(counter: &AtomicU64, n: u64, order: Ordering) {
    counter.store(counter.load(Ordering::Relaxed) + n, order);
}

impl WorkMeter {
    /// A batch of `items` with `stamp` came from the edge before.
    pub(super) fn took(&self, items: u64, stamp: u64) {
        // Release: whoever reads it also sees that the items were made: the token's hand-off brought
        // that here. So no snapshot shows more taken than made.
        let order = ordering_at("meter.took.release", Ordering::Release);
        add(&self.taken, items, order);
        let stamps = self.taken_stamps.load(Ordering::Relaxed).wrapping_add(stamp);
        self.taken_stamps.store(stamps, Ordering::Relaxed);
    }

    /// A batch of `items` is about to be published; the stamp is its own.
    pub(super) fn makes(&self, items: u64, salt: u64) -> u64 {
        // Relaxed: the publication that follows is a Release.
        add(&self.made, items, Ordering::Relaxed);
        let batches = self.batches.load(Ordering::Relaxed);
        let stamp = mixed(salt << 40 ^ batches).max(1);
        let stamps = self.made_stamps.load(Ordering::Relaxed).wrapping_add(stamp);
        self.made_stamps.store(stamps, Ordering::Relaxed);
        stamp
    }

    /// What became of a batch's items.
    pub(super) fn ended(&self, finished: u64, failed: u64, abandoned: u64) {
        // Release, all: pairs with the Acquire in `count`; the items were counted as taken before.
        let release = Ordering::Release;
        add(&self.finished, finished, ordering_at("meter.finished.release", release));
        add(&self.failed, failed, ordering_at("meter.failed.release", release));
        add(&self.abandoned, abandoned, ordering_at("meter.abandoned.release", release));
    }

    /// A batch took `ns`.
    pub(super) fn worked(&self, ns: u64) {
        add(&self.batches, 1, Ordering::Relaxed);
        add(&self.busy_ns, ns, Ordering::Relaxed);
    }

    /// The stage counted `bytes`.
    pub(super) fn bytes(&self, bytes: u64) {
        add(&self.bytes, bytes, Ordering::Relaxed);
    }

    /// The counters now. Ends are read before beginnings, so that no worker shows more ended than taken.
    pub(super) fn count(&self) -> WorkerCount {
        // Acquire, all: pairs with the Release in `ended` and in `took`.
        let acquire = Ordering::Acquire;
        WorkerCount {
            finished: self.finished.load(ordering_at("meter.count.finished", acquire)),
            failed: self.failed.load(ordering_at("meter.count.failed", acquire)),
            abandoned: self.abandoned.load(ordering_at("meter.count.abandoned", acquire)),
            taken: self.taken.load(ordering_at("meter.count.taken", acquire)),
            made: self.made.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            busy_ns: self.busy_ns.load(Ordering::Relaxed),
        }
    }

    pub(super) fn stamps(&self) -> (u64, u64) {
        (self.taken_stamps.load(Ordering::Relaxed), self.made_stamps.load(Ordering::Relaxed))
    }
}

/// SplitMix64's finaliser (Steele, Lea and Flood, 2014): no two inputs give one output.
fn mixed(input: u64) -> u64 {
    let z = input.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What one edge has carried.
///
/// ```
/// # use twelvefold::engine::pipeline::Pipeline;
/// let report = Pipeline::from_iter("numbers", 0..100).sink("drop", drop).in_flight(8).run()?;
/// let edge = &report.ledger.flow.edges[0];
/// assert_eq!((edge.name.as_str(), edge.made, edge.taken), ("numbers -> drop", 100, 100));
/// assert!(edge.balances() && edge.high_water <= 8);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeFlow {
    /// The names of the stages at its two ends.
    pub name: String,
    /// Items that went in.
    pub made: u64,
    /// Items that came out.
    pub taken: u64,
    /// Items that were inside when the run had ended; 0 while it goes.
    pub abandoned: u64,
    /// Items waiting now.
    pub depth: u64,
    /// The most that ever waited.
    pub high_water: u64,
}

impl EdgeFlow {
    /// Whether every item made was taken or abandoned: true for every edge after a run.
    pub fn balances(&self) -> bool {
        self.made == self.taken + self.abandoned
    }
}
