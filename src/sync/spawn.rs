//! Threads with names.

use std::io;

#[cfg(loom)]
pub use loom::thread::JoinHandle;
#[cfg(not(loom))]
pub use std::thread::JoinHandle;

/// Starts a thread called `name` (at most 15 bytes show in `ps -eLf` and `htop`).
///
/// ```
/// use twelvefold::sync::spawn_named;
///
/// let thread = spawn_named("adder", || 1 + 1)?;
/// assert_eq!(thread.thread().name(), Some("adder"));
/// assert_eq!(thread.join().unwrap(), 2);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The system's reason when it refuses another thread.
pub fn spawn_named<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    #[cfg(not(loom))]
    {
        std::thread::Builder::new().name(name.to_owned()).spawn(body)
    }
    #[cfg(loom)]
    {
        loom::thread::Builder::new().name(name.to_owned()).spawn(body)
    }
}
