//! Ctrl-C, SIGTERM and SIGUSR1.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::STOPPED;
use crate::error::Error;
use crate::sync::spawn_named;
use crate::train::Cancel;

/// A signal that has come.
///
/// ```
/// use twelvefold::cli::signals::Heard;
/// assert_eq!(Heard::Save.words(), "saving after this step");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// SIGUSR1.
    Save,
    /// SIGINT or SIGTERM, the first.
    Stop,
}

impl Heard {
    /// What is said of it.
    pub fn words(self) -> &'static str {
        match self {
            Heard::Save => "saving after this step",
            Heard::Stop => "stopping after this step; press Ctrl-C again to leave at once",
        }
    }
}

/// Listens to signals from now on: SIGINT and SIGTERM ask the run to stop after its step, a second one
/// ends the process at once with exit code 130; SIGUSR1 asks for a checkpoint after the step. A file
/// beyond `ulimit -f` then is an error that names it, not the end of the process. `announce` says that a
/// signal has come ([`Terminal::announcer`](super::terminal::Terminal::announcer)).
///
/// ```
/// use twelvefold::train::Cancel;
///
/// twelvefold::cli::signals::listen(&Cancel::new(), |heard| eprintln!("{}", heard.words()))?;
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Errors
/// The system refuses a handler or a thread.
pub fn listen(cancel: &Cancel, announce: impl Fn(Heard) + Send + 'static) -> Result<(), Error> {
    handle(cancel.clone(), announce)
        .map_err(|e| Error::input(format!("cannot listen to signals: {e}"), ""))
}

fn handle(cancel: Cancel, announce: impl Fn(Heard) + Send + 'static) -> io::Result<()> {
    let stopping = std::sync::Arc::default();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down and raises it, the second finds it up.
        let (stopped, stopping) = (i32::from(STOPPED), std::sync::Arc::clone(&stopping));
        flag::register_conditional_shutdown(signal, stopped, std::sync::Arc::clone(&stopping))?;
        flag::register(signal, stopping)?;
    }
    flag::register(SIGXFSZ, std::sync::Arc::default())?;
    let listen = move || {
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                announce(Heard::Save);
                cancel.request_save();
            } else {
                announce(Heard::Stop);
                cancel.request();
                break;
            }
        }
    };
    spawn_named("tf-signals", listen).map(|_| ())
}
