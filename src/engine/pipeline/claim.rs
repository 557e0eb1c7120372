//! Who steps a serial stage: one thread at a time, and no step is lost.
//!
//! | state   | who finds it                | does                                                   |
//! |---------|-----------------------------|--------------------------------------------------------|
//! | IDLE    | a thread that wants to step | -> RUNNING, and steps                                  |
//! | RUNNING | a thread that wants to step | -> DIRTY, and goes on: the holder will look again      |
//! | RUNNING | the holder, at the end      | -> IDLE                                                |
//! | DIRTY   | a thread that wants to step | goes on                                                |
//! | DIRTY   | the holder, at the end      | -> IDLE, and looks at the stage once more              |
//!
//! Without the dirty mark a step is lost: one thread fails the claim and sleeps while the holder has
//! already looked for the last time. The mark also carries what the other thread published: its
//! read-modify-write releases, the holder's acquires.

#![expect(unsafe_code, reason = "a cell that the claim guards")]

use crate::sync::{AtomicU32, Ordering, UnsafeCell, ordering_at, planted};

const IDLE: u32 = 0;
const RUNNING: u32 = 1;
const DIRTY: u32 = 2;

/// A stage's state that any thread may step, one at a time.
#[derive(Debug)]
pub(super) struct Claim<S> {
    state: AtomicU32,
    stage: UnsafeCell<S>,
}

// SAFETY: the cell is reached only through a `Claimed`, of which there is one at a time: it is made by
// the one thread whose read-modify-write turned IDLE into RUNNING, and nobody else turns RUNNING or
// DIRTY into IDLE. The stage moves between threads, hence `S: Send`.
unsafe impl<S: Send> Sync for Claim<S> {}

impl<S> Claim<S> {
    pub(super) fn new(stage: S) -> Self {
        Claim { state: AtomicU32::new(IDLE), stage: UnsafeCell::new(stage) }
    }

    /// The stage, unless another thread is stepping it: that one then looks again.
    pub(super) fn acquire(&self) -> Option<Claimed<'_, S>> {
        // Acquire: pairs with the holder's Release, so that this thread sees its writes.
        let acquire = ordering_at("claim.acquire", Ordering::Acquire);
        // AcqRel: what this thread published before is visible to the holder that finds the mark.
        let mark = ordering_at("claim.mark", Ordering::AcqRel);
        loop {
            match self.state.compare_exchange(IDLE, RUNNING, acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Claimed { claim: self, released: false }),
                Err(DIRTY) => {
                    // As for RUNNING: this thread's publications must reach the holder, too.
                    if self.state.compare_exchange(DIRTY, DIRTY, mark, Ordering::Relaxed).is_ok() {
                        return None;
                    }
                }
                Err(_) if planted("claim.dirty") => return None,
                Err(_) => {
                    if self.state.compare_exchange(RUNNING, DIRTY, mark, Ordering::Relaxed).is_ok()
                    {
                        return None;
                    }
                }
            }
        }
    }
}

/// A stage that this thread alone steps now.
#[derive(Debug)]
pub(super) struct Claimed<'a, S> {
    claim: &'a Claim<S>,
    released: bool,
}

impl<S> Claimed<'_, S> {
    /// Works on the stage.
    pub(super) fn with<R>(&mut self, work: impl FnOnce(&mut S) -> R) -> R {
        // SAFETY: this value is the one claim there is; `&mut self` makes it the only access.
        self.claim.stage.with_mut(|stage| work(unsafe { &mut *stage }))
    }

    /// Lets the stage go. True when somebody wanted it meanwhile: look at it once more.
    pub(super) fn release(mut self) -> bool {
        // Release: the next holder sees what was done here. Acquire: pairs with the mark.
        let order = ordering_at("claim.release", Ordering::AcqRel);
        let before = self.claim.state.swap(IDLE, order);
        self.released = true;
        before == DIRTY && !planted("claim.look_again")
    }
}

impl<S> Drop for Claimed<'_, S> {
    fn drop(&mut self) {
        if !self.released {
            // On the way out of a panic; the run is poisoned, and nobody looks again.
            self.claim.state.swap(IDLE, Ordering::AcqRel);
        }
    }
}
