//! Threads with names.

use std::io;

#[cfg(loom)]
pub use loom::thread::JoinHandle;
#[cfg(not(loom))]
pub use std::thread::JoinHandle;

/// Starts a thread called `name` (at most 15 bytes show in `ps -eLf` and `htop`).
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

/// [`spawn_named`] inside a scope of [`std::thread::scope`]: the body may borrow what outlives that.
///
/// # Errors
/// The system's reason when it refuses another thread.
#[cfg(not(loom))]
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<std::thread::ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, body)
}
