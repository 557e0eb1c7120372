//! Threads with names.

use std::io;

#[cfg(loom)]
pub use loom::thread::JoinHandle;
#[cfg(shuttle)]
pub use shuttle::thread::JoinHandle;
#[cfg(not(any(loom, shuttle)))]
pub use std::thread::JoinHandle;

/// Starts a thread called `name` (at most 15 bytes show in `ps -eLf` and `htop`).
///
/// # Errors
/// The system's reason when it refuses another thread.
pub fn spawn_named<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    #[cfg(not(any(loom, shuttle)))]
    {
        std::thread::Builder::new().name(name.to_owned()).spawn(body)
    }
    #[cfg(loom)]
    {
        loom::thread::Builder::new().name(name.to_owned()).spawn(body)
    }
    #[cfg(shuttle)]
    {
        shuttle::thread::Builder::new().name(name.to_owned()).spawn(body)
    }
}
