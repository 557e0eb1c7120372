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

#[cfg(not(any(loom, shuttle)))]
pub use std::thread::{Scope, ScopedJoinHandle, scope};

/// [`spawn_named`] for a thread that may borrow what outlives `scope`.
///
/// ```
/// use twelvefold::sync::{scope, spawn_scoped};
///
/// let text = String::from("borrowed");
/// let length = scope(|threads| spawn_scoped(threads, "tf-len", || text.len()).unwrap().join());
/// assert_eq!(length.unwrap(), 8);
/// ```
///
/// # Errors
/// The system's reason when it refuses another thread.
#[cfg(not(any(loom, shuttle)))]
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, body)
}

/// The calling thread's id, as the system shows it in `ps -eLf`; where there is no Linux, a number of
/// this process's own. Never 0.
///
/// ```
/// use twelvefold::sync::{spawn_named, thread_id};
///
/// let other = spawn_named("other", thread_id)?.join().unwrap();
/// assert!(other != thread_id() && other != 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[cfg(not(any(loom, shuttle)))]
pub fn thread_id() -> u32 {
    #[cfg(target_os = "linux")]
    {
        rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        thread_local! {
            // Relaxed: numbers that differ, and nothing else.
            static ID: u32 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        ID.with(|id| *id)
    }
}
