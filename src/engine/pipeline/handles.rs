//! Those who watch a run, wake its source or end it, from any thread.

use super::core::Core;
use super::cutoff::Cutoff;
use super::gate::Gate;
use super::report::Snapshot;
use crate::engine::shutdown::Shutdown;
use crate::sync::{Arc, Ordering, SetOnce, fence, planted};

/// Ends a run from any thread; see [`Pipeline::canceller`](super::Pipeline::canceller).
///
/// ```
/// # use twelvefold::engine::pipeline::Pipeline;
/// let pipeline = Pipeline::from_iter("for ever", 0u64..).sink("drop", drop);
/// let canceller = pipeline.canceller();
/// let other = canceller.clone();
/// std::thread::spawn(move || other.cancel()); // From any thread, at any time.
/// assert!(pipeline.run()?.cancelled);
/// assert!(canceller.is_stopped());
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Canceller {
    pub(super) shutdown: Arc<Shutdown>,
    pub(super) cutoff: Arc<Cutoff>,
}

impl Canceller {
    pub(super) fn new() -> Self {
        Canceller { shutdown: Arc::new(Shutdown::new()), cutoff: Arc::new(Cutoff::new()) }
    }

    /// Asks the run to end: each worker leaves after the item it is at. Where items have taken less than
    /// 50 ns each, it looks after every 256 of them.
    pub fn cancel(&self) {
        self.shutdown.cancel();
    }

    /// Whether the run is to end, by a cancel or a fault. A source that waits in a loop of its own asks
    /// this.
    pub fn is_stopped(&self) -> bool {
        self.shutdown.is_stopped() || self.cutoff.is_set()
    }
}

/// Looks at the counters of a run from any thread; see [`Pipeline::watch`](super::Pipeline::watch).
///
/// ```
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # use std::{thread, time::Duration};
/// # use twelvefold::engine::pipeline::Pipeline;
/// let pipeline = Pipeline::from_iter("numbers", 0..10_000).sink("drop", drop);
/// let (watch, over) = (pipeline.watch(), AtomicBool::new(false));
/// let report = thread::scope(|scope| {
///     scope.spawn(|| {
///         while !over.load(Ordering::Relaxed) {
///             let now = watch.snapshot(); // For a progress bar.
///             assert!(now.edges.iter().all(|edge| edge.taken <= edge.made));
///             thread::sleep(Duration::from_millis(1));
///         }
///     });
///     let report = pipeline.run();
///     over.store(true, Ordering::Relaxed);
///     report
/// })?;
/// assert_eq!(report.ledger.flow, watch.snapshot());
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Watch(pub(super) Arc<SetOnce<Arc<Core>>>);

impl Watch {
    pub(super) fn new() -> Self {
        Watch(Arc::new(SetOnce::new()))
    }

    /// The counters now; nothing before the run has begun. Takes no lock and holds nobody up.
    pub fn snapshot(&self) -> Snapshot {
        self.0.get().map(|core| core.snapshot()).unwrap_or_default()
    }
}

/// Tells a source that said [`Pull::Later`](super::Pull::Later) to be asked again at once; see
/// [`Builder::bell`](super::Builder::bell).
///
/// ```
/// use std::{sync::mpsc::{TryRecvError, channel}, thread, time::Duration};
/// use twelvefold::engine::pipeline::{Pipeline, Pull};
///
/// let (tx, rx) = channel();
/// let source = Pipeline::source("received", move || match rx.try_recv() {
///     Ok(item) => Pull::Item(item),
///     Err(TryRecvError::Empty) => Pull::Later(Duration::MAX), // Until the bell rings.
///     Err(TryRecvError::Disconnected) => Pull::End,
/// });
/// let bell = source.bell();
/// thread::spawn(move || {
///     (0..3).for_each(|n| { tx.send(n).unwrap(); bell.ring() });
///     drop(tx); // The end is something, too:
///     bell.ring();
/// });
/// assert_eq!(source.sink("drop", drop).run()?.items, 3);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bell(pub(super) Arc<SetOnce<Arc<Gate>>>);

impl Bell {
    pub(super) fn new() -> Self {
        Bell(Arc::new(SetOnce::new()))
    }

    /// Rings. Without effect before the run: the source is asked at its beginning anyway.
    pub fn ring(&self) {
        // Orders what the ring is for before the look at whether there is a run; pairs with the fence in
        // `Pipeline::plan`. So a ring that finds none is for what the run's first question sees. And
        // releases it to the question that finds the ring; pairs with the Acquire in `Gate::ask`.
        if !planted("handles.ring.fence") {
            fence(Ordering::SeqCst);
        }
        if let Some(gate) = self.0.get() {
            gate.ring();
        }
    }
}
