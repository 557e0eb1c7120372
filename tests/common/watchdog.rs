//! No test hangs.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Ends the test program with a message where it is not dropped in time.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

/// For hangs only: nothing here takes a hundredth of it on two free cores.
const LIMIT: Duration = Duration::from_secs(1800);

/// Watches until the result is dropped.
pub(crate) fn watchdog(what: &'static str) -> Watchdog {
    let (_alive, gone) = channel();
    std::thread::spawn(move || {
        if gone.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            let _ = writeln!(std::io::stderr(), "watchdog: {what} hangs");
            std::process::abort();
        }
    });
    Watchdog { _alive }
}
