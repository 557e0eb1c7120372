//! Who steps a serial stage: one thread at a time.
//!
//! | state   | who finds it                | does                    |
//! |---------|-----------------------------|-------------------------|
//! | IDLE    | a thread that wants to step | -> RUNNING, and steps   |
//! | RUNNING | a thread that wants to step | goes on                 |
//! | RUNNING | the holder, at the end      | -> IDLE                 |
//!
//! Who finds it RUNNING leaves no mark. No step is lost all the same: a holder never sleeps without a
//! new announcement and a new look, even if it found nothing to do ([`drive`](super::drive)).

#![expect(unsafe_code, reason = "a cell that the claim guards")]

use crate::sync::{AtomicU32, Ordering, UnsafeCell, ordering_at};

const IDLE: u32 = 0;
const RUNNING: u32 = 1;

/// A stage's state that any thread may step, one at a time.
#[derive(Debug)]
pub(super) struct Claim<S> {
    state: AtomicU32,
    stage: UnsafeCell<S>,
}

// SAFETY: the cell is reached only through a `Claimed`, of which there is one at a time: it is made by
// the one thread whose read-modify-write turned IDLE into RUNNING, and nobody else turns RUNNING into
// IDLE. The stage moves between threads, hence `S: Send`.
unsafe impl<S: Send> Sync for Claim<S> {}

impl<S> Claim<S> {
    pub(super) fn new(stage: S) -> Self {
        Claim { state: AtomicU32::new(IDLE), stage: UnsafeCell::new(stage) }
    }

    /// The stage, unless another thread is stepping it.
    pub(super) fn acquire(&self) -> Option<Claimed<'_, S>> {
        // Acquire: pairs with the last holder's Release, so that this thread sees what it did to the
        // stage. Relaxed where it fails: nothing is read because of it.
        let order = ordering_at("claim.acquire", Ordering::Acquire);
        let won = self.state.compare_exchange(IDLE, RUNNING, order, Ordering::Relaxed);
        // Made only where it won: dropping it lets the stage go.
        won.is_ok().then(|| Claimed(self))
    }
}

/// A stage that this thread alone steps now; dropping it lets the stage go, in a panic too.
#[derive(Debug)]
pub(super) struct Claimed<'a, S>(&'a Claim<S>);

impl<S> Claimed<'_, S> {
    /// Works on the stage.
    pub(super) fn with<R>(&mut self, work: impl FnOnce(&mut S) -> R) -> R {
        // SAFETY: this value is the one claim there is; `&mut self` makes it the only access.
        self.0.stage.with_mut(|stage| work(unsafe { &mut *stage }))
    }
}

impl<S> Drop for Claimed<'_, S> {
    fn drop(&mut self) {
        // Release: the next holder sees what was done here. A store will do: nobody else writes RUNNING
        // over.
        self.0.state.store(IDLE, ordering_at("claim.release", Ordering::Release));
    }
}
