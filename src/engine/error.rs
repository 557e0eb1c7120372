//! What can end a run before its time.

use crate::sync::Exclusive;
use std::any::Any;
use std::{error, fmt, io};

/// Any error a stage may return.
///
/// ```
/// use twelvefold::engine::BoxError;
///
/// fn parse(text: &str) -> Result<u64, BoxError> {
///     if text.is_empty() {
///         return Err("there is no text".into());
///     }
///     Ok(text.parse()?)
/// }
/// assert!(parse("12").is_ok() && parse("").is_err() && parse("x").is_err());
/// ```
pub type BoxError = Box<dyn error::Error + Send + Sync + 'static>;

/// Why a stage ended early.
///
/// ```
/// use twelvefold::engine::Cause;
///
/// assert_eq!(Cause::Error("no floor".into()).message(), "no floor");
/// ```
pub enum Cause {
    /// It panicked; the payload is the panic's own.
    Panic(Payload),
    /// It returned an error.
    Error(BoxError),
}

/// A panic's payload and its message.
///
/// ```
/// use twelvefold::engine::{Cause, Error, crew::Crew, shutdown::Shutdown};
/// use twelvefold::sync::Arc;
///
/// let mut crew = Crew::new(Arc::new(Shutdown::new()));
/// crew.spawn("tf-sum", "sum", 0, |_| panic!("no floor"))?;
/// let Err(Error::Fault(fault)) = crew.join() else { panic!("the fault is lost") };
/// let Cause::Panic(payload) = fault.cause else { panic!("it was a panic") };
/// assert_eq!(payload.message(), Some("no floor"));
/// assert!(payload.into_inner().is::<&str>()); // Or `resume_unwind` with it.
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Payload {
    message: Option<String>,
    /// The standard library gives payloads as `Send` alone; an error must be `Sync` too to travel
    /// in a [`BoxError`].
    payload: Exclusive<Box<dyn Any + Send + 'static>>,
}

impl Payload {
    pub(super) fn new(payload: Box<dyn Any + Send + 'static>) -> Self {
        let text = payload.downcast_ref::<&'static str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Payload { message, payload: Exclusive::new(payload) }
    }

    /// The payload itself, for example for [`std::panic::resume_unwind`].
    pub fn into_inner(self) -> Box<dyn Any + Send + 'static> {
        self.payload.into_inner()
    }

    /// The panic's message where it has one.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// Which stage failed, at which item, and why.
///
/// ```
/// use twelvefold::engine::{Cause, Fault};
///
/// let cause = Cause::Error("no floor".into());
/// let fault = Fault { stage: "sum".to_owned(), worker: 2, item: Some(40), cause };
/// assert_eq!(fault.to_string(), "stage sum, worker 2, failed at item 40: no floor");
/// ```
#[derive(Debug)]
pub struct Fault {
    /// The stage's name.
    pub stage: String,
    /// The worker within the stage, from 0.
    pub worker: usize,
    /// The item the worker was at, from 0: in a [pipeline](super::pipeline) the source's number, else
    /// the worker's own count. None before its first item and after its last one.
    pub item: Option<u64>,
    /// Why it ended.
    pub cause: Cause,
}

/// What can end a run before its time.
///
/// ```
/// use std::{error::Error as _, io};
/// use twelvefold::engine::Error;
///
/// let source = io::Error::from(io::ErrorKind::WouldBlock);
/// let error = Error::Spawn { thread: "tf-tok-1".to_owned(), source };
/// assert!(error.to_string().starts_with("cannot start thread tf-tok-1: "));
/// assert!(error.source().is_some());
/// ```
#[derive(Debug)]
pub enum Error {
    /// A stage panicked or returned an error.
    Fault(Fault),
    /// The system refused a thread. Those started before it have been stopped and joined.
    Spawn {
        /// The name of the thread that did not start.
        thread: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl Cause {
    /// The error's text, or the panic's message where it has one.
    pub fn message(&self) -> String {
        match self {
            Cause::Error(error) => error.to_string(),
            Cause::Panic(payload) => {
                payload.message().unwrap_or("a panic without a message").to_owned()
            }
        }
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self, Cause::Panic(_)) { "Panic" } else { "Error" };
        f.debug_tuple(kind).field(&self.message()).finish()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if matches!(self.cause, Cause::Panic(_)) { "panicked" } else { "failed" };
        write!(f, "stage {}, worker {}, {verb} ", self.stage, self.worker)?;
        match self.item {
            Some(item) => write!(f, "at item {item}: {}", self.cause.message()),
            None => write!(f, "at no item: {}", self.cause.message()),
        }
    }
}

impl error::Error for Fault {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.cause {
            Cause::Error(error) => Some(&**error),
            Cause::Panic(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Fault(fault) => fault.fmt(f),
            Error::Spawn { thread, source } => write!(
                f,
                "cannot start thread {thread}: {source}\nhint: fewer threads, or a higher limit (`ulimit -u`, `ulimit -v`)"
            ),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Fault(fault) => Some(fault),
            Error::Spawn { source, .. } => Some(source),
        }
    }
}
