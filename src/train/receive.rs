//! How the control thread waits for an item: it is woken by the item, by the sender's going, by the
//! user's wish to stop and by a fault elsewhere.

use super::Cancel;
use crate::engine::edge::{Receiver, RecvError};
use crate::engine::shutdown::Shutdown;
use crate::error::Error;

/// A stage ended without its result and without a fault: a bug, and no reason to hang or panic.
pub(super) fn unfinished(who: &str) -> Error {
    Error::input(format!("{who} ended without its result"), "please report this")
}

/// What a wait of the control thread gave.
pub(super) enum Received<T> {
    Item(T),
    /// The sender has gone.
    Ended,
    Cancelled,
}

/// Receives for the control thread, which the user's wish to stop and a fault elsewhere wake too.
pub(super) fn receive<T: Send>(
    rx: &mut Receiver<T>,
    cancel: &Cancel,
    shutdown: &Shutdown,
) -> Received<T> {
    cancel.control().wait(|| {
        !rx.is_empty() || rx.is_closed() || cancel.is_requested() || shutdown.is_stopped()
    });
    if cancel.is_requested() {
        return Received::Cancelled;
    }
    match rx.try_recv() {
        Ok(item) => Received::Item(item),
        Err(RecvError::Closed | RecvError::Empty) => Received::Ended,
    }
}
