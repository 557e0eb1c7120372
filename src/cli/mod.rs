//! The command line as a library: what the command `twelvefold` and the example `pipeline` share.
//!
//! | module | what it is |
//! |---|---|
//! | [`flags`] | the flags of a training run |
//! | [`settings`] | flags over environment over a file over defaults |
//! | [`view`] | a moment of a run as lines under the bar |
//! | [`terminal`] | what a run tells, as a bar, as lines or as JSON; with the feature `tui`, on the whole screen |
//! | [`signals`] | Ctrl-C, SIGTERM and SIGUSR1 |
//!
//! Only here, and in the program itself, something is printed. Exit codes: 0 done, 1 failed, 2 a setting
//! was refused, 130 stopped by Ctrl-C or SIGTERM ([`code_of`]).

#[cfg(feature = "tui")]
mod dashboard;
pub mod flags;
#[cfg(feature = "tui")]
mod panels;
pub mod settings;
pub mod signals;
pub mod terminal;
pub mod view;

use std::io::{self, IsTerminal, Write};

use crate::corpus::files::is_stdin;
use crate::corpus::map::install_sigbus_handler;
use crate::error::Error;
use crate::train::Options;

/// The exit code of a refused setting.
pub const REFUSED: u8 = 2;
/// The exit code after Ctrl-C or SIGTERM, as shells have it for SIGINT.
pub const STOPPED: u8 = 130;

/// The exit code for an error.
///
/// ```
/// use twelvefold::cli::{REFUSED, STOPPED, code_of};
/// use twelvefold::{Error, train::Options};
///
/// let refused = Options { heads: 5, ..Options::default() }.validate().unwrap_err();
/// assert_eq!(code_of(&refused), REFUSED);
/// assert_eq!(code_of(&Error::Interrupted), STOPPED);
/// assert_eq!(code_of(&Error::input("empty", "")), 1);
/// ```
pub fn code_of(error: &Error) -> u8 {
    match error {
        Error::Setting { .. } => REFUSED,
        Error::Interrupted => STOPPED,
        _ => 1,
    }
}

/// Prints. A reader that went away (`twelvefold ... | head`) ends nothing.
///
/// ```
/// twelvefold::cli::say("a line\n");
/// ```
pub fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Prints to stderr, where nobody may be left to tell.
///
/// ```
/// twelvefold::cli::complain("error: no such file\n");
/// ```
pub fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Makes a mapped file that shrinks an error that names it, and not the end of the process; for the whole
/// process, before anything is read.
///
/// ```
/// twelvefold::cli::guard_maps()?;
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Errors
/// The system refuses the handler.
pub fn guard_maps() -> Result<(), Error> {
    install_sigbus_handler()
        .map_err(|e| Error::input(format!("cannot guard the maps of large files: {e}"), ""))
}

/// Says what is waited for where text is typed: a terminal that shows nothing looks like a hang.
///
/// ```
/// use twelvefold::cli::say_where_typed;
/// use twelvefold::train::Options;
///
/// say_where_typed(&Options { paths: vec!["notes".into()], ..Options::default() }); // Says nothing.
/// ```
pub fn say_where_typed(options: &Options) {
    if options.paths.iter().any(|path| is_stdin(path)) && io::stdin().is_terminal() {
        complain("the text is read from this terminal; Ctrl-D on a line of its own ends it\n");
    }
}
