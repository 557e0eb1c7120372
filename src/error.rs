//! The one error type of the trainer.
//!
//! A message says what was tried, on what, why it failed and what to do: lower case, no full stop,
//! the hint on a line of its own. The engine has an error type of its own
//! ([`crate::engine::Error`]), which this one carries.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong, in words a user can act on.
///
/// ```
/// use twelvefold::Error;
/// use twelvefold::train::Options;
///
/// let error = Options { heads: 5, ..Options::default() }.validate().unwrap_err();
/// assert!(matches!(error, Error::Setting { name: "--heads", .. }));
/// assert_eq!(
///     Error::input("the file is empty", "leave it out").to_string(),
///     "the file is empty\nhint: leave it out"
/// );
/// ```
#[derive(Debug)]
pub enum Error {
    /// A setting is outside its range, or does not fit another setting.
    Setting {
        /// The setting as the user names it, for example `--heads`.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// The operating system refused something.
    Io {
        /// What was tried, for example `open` or `write`.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
        /// What the user can do about it; may be empty.
        hint: String,
    },
    /// The input cannot be used as it is.
    Input {
        /// What is wrong, with the path, line or byte where there is one.
        what: String,
        /// What the user can do about it; may be empty.
        hint: String,
    },
    /// A loss or a gradient stopped being a number.
    NonFinite {
        /// What was not finite, for example `loss`.
        what: &'static str,
        /// The optimizer step, counted from 1.
        step: u64,
        /// Where in the step, for example `micro-batch 0, sequence 3, on sphere 1`.
        at: String,
    },
    /// The user asked to stop before there was anything to save.
    Interrupted,
    /// A stage panicked or failed, or a thread could not be started.
    Engine(crate::engine::Error),
}

impl Error {
    /// An [`Error::Io`] without a hint.
    ///
    /// ```
    /// use twelvefold::Error;
    ///
    /// let error = Error::io("open", "notes.txt", std::io::Error::other("no floor"));
    /// assert_eq!(error.to_string(), "cannot open notes.txt: no floor");
    /// ```
    pub fn io(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Error::Io { doing, path: path.as_ref().to_path_buf(), source, hint: String::new() }
    }

    /// An [`Error::Input`].
    pub fn input(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Input { what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self {
            Error::Setting { name, value, allowed } => {
                return write!(f, "{name} {value} is not possible: {allowed}");
            }
            Error::NonFinite { what, step, at } => {
                return write!(
                    f,
                    "{what} is not finite at step {step}, {at}\nhint: lower --lr, or look at the input there"
                );
            }
            Error::Interrupted => {
                return f.write_str("stopped before the first step; nothing was saved");
            }
            Error::Engine(e) => return e.fmt(f),
            Error::Io { doing, path, source, hint } => {
                write!(f, "cannot {doing} {}: {source}", path.display())?;
                hint
            }
            Error::Input { what, hint } => {
                f.write_str(what)?;
                hint
            }
        };
        if hint.is_empty() { Ok(()) } else { write!(f, "\nhint: {hint}") }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Engine(e) => Some(e),
            _ => None,
        }
    }
}

impl From<crate::engine::Error> for Error {
    fn from(e: crate::engine::Error) -> Self {
        Error::Engine(e)
    }
}
