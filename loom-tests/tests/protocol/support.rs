//! What the models share.

#![expect(unsafe_code, reason = "a cell that loom checks for races")]

use twelvefold::engine::BoxError;
use twelvefold::engine::pipeline::{Out, Stage};
use twelvefold::engine::pool::Leaf;
use twelvefold::engine::wait::Event;
use twelvefold::sync::{Arc, AtomicUsize, JoinHandle, Ordering, UnsafeCell, spawn_named};

#[expect(clippy::unwrap_used, reason = "a thread that does not start is a failed test")]
pub(crate) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn_named("model", body).unwrap()
}

/// Plain memory that tasks write without synchronisation of their own: under loom an access that
/// the protocol does not order is reported as a race.
#[derive(Debug, Default)]
pub(crate) struct Plain(UnsafeCell<u32>);

// SAFETY: the tests order the accesses through the protocol; loom checks that they are.
unsafe impl Sync for Plain {}

impl Plain {
    pub(crate) fn shared() -> Arc<Self> {
        Arc::new(Plain(UnsafeCell::new(0)))
    }

    pub(crate) fn add(&self, n: u32) {
        // SAFETY: see the type; loom fails the model if another access is concurrent.
        self.0.with_mut(|p| unsafe { *p += n });
    }

    pub(crate) fn get(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|p| unsafe { *p })
    }
}

/// The loop of a worker whose step has a single phase.
pub(crate) fn work<T: Send>(leaf: &mut Leaf<T>, mut run: impl FnMut(&mut Leaf<T>, T)) {
    let pool = leaf.pool().clone();
    while let Some(task) = leaf.claim() {
        run(leaf, task);
        if let Some(last) = leaf.finish(&pool) {
            leaf.complete(last);
        }
    }
}

/// Where `n` tasks wait until all of them have started, sleeping on events of their own.
#[derive(Debug)]
pub(crate) struct Meeting {
    arrived: AtomicUsize,
    events: Vec<Event>,
}

impl Meeting {
    pub(crate) fn new(n: usize) -> Arc<Self> {
        let events = (0..n).map(|_| Event::new()).collect();
        Arc::new(Meeting { arrived: AtomicUsize::new(0), events })
    }

    pub(crate) fn meet(&self, me: usize) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        for (other, event) in self.events.iter().enumerate() {
            if other != me {
                event.wake();
            }
        }
        self.events[me].wait(|| self.arrived.load(Ordering::Acquire) == self.events.len());
    }
}

/// Gives what it got at the end.
#[derive(Debug)]
pub(crate) struct Last(pub(crate) Option<u32>);

impl Stage<u32> for Last {
    type Output = u32;

    fn process(&mut self, item: u32, _out: &mut Out<'_, u32>) -> Result<(), BoxError> {
        self.0 = Some(item);
        Ok(())
    }

    fn finish(&mut self, out: &mut Out<'_, u32>) -> Result<(), BoxError> {
        self.0.take().into_iter().for_each(|item| out.send(item));
        Ok(())
    }
}
