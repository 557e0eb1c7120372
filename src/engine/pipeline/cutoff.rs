//! How an ordered run ends at a fault: as if its items had come one after the other.
//!
//! Where every stage keeps the order, a token has the same position on every edge. A fault has the
//! position of its token, and does this:
//!
//! 1. It lowers the cutoff to that position, and to its item's number.
//! 2. The token goes on with what was made of the items before the failed one, be it nothing.
//! 3. The source gives nothing more, and no stage takes a token beyond the cutoff. A worker that holds
//!    one leaves it. All others run on as ever; an item that fails among them lowers the cutoff again.
//! 4. The sink gets the tokens in order. Once it has had the one at the cutoff, nothing that could
//!    still fail is left, and it ends the run.
//!
//! So the fault with the lowest item is always met, and the sink has had what comes before that item and
//! nothing else. It takes no more time than the items that were in flight, and a cancel ends it at once.
//!
//! A worker that cannot be made fails before the first item of the batch that it was made for, and one
//! that fails at its end does so after all items: these faults have a position and no item. Without an
//! order there is no cutoff: the first fault in time stops all.

use crate::sync::{AtomicU64, Ordering};

/// From where on nothing is worked on; see the module's text.
///
/// Relaxed all: the token that carries the cutoff's position is published after it was lowered, so
/// whoever takes that token sees it, the sink at last. To all others it is a hint that spares work.
#[derive(Debug)]
pub(super) struct Cutoff {
    /// The last position that is needed.
    position: AtomicU64,
    /// The lowest number of an item that failed.
    item: AtomicU64,
}

impl Cutoff {
    /// Everything is worked on.
    pub(super) fn new() -> Self {
        Cutoff { position: AtomicU64::new(u64::MAX), item: AtomicU64::new(u64::MAX) }
    }

    /// Something failed at `position`; nothing from `item` on is needed.
    pub(super) fn lower(&self, position: u64, item: u64) {
        self.item.fetch_min(item, Ordering::Relaxed);
        self.position.fetch_min(position, Ordering::Relaxed);
    }

    /// Whether something has failed.
    pub(super) fn is_set(&self) -> bool {
        self.position() != u64::MAX
    }

    /// The last position that is needed.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Whether item `number` is not needed any more.
    #[inline]
    pub(super) fn is_behind(&self, number: u64) -> bool {
        number >= self.item.load(Ordering::Relaxed)
    }
}
