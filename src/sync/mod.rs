//! The one door to atomics, fences, cells and threads, to rtrb and to crossbeam-deque.
//!
//! In a normal build these are the standard library's types and the two queue crates. Under
//! `--cfg loom` they are loom's, under `--cfg shuttle` shuttle's, and the queue crates, which neither
//! can see into, are replaced by stand-ins that promise *less* (see [`ring`] and [`deque`]), so that
//! the model checkers explore the hand-off code that ships. Nothing else in the crate may name `std::sync::atomic` or
//! `std::thread::{spawn, park}`, but for the fault map of large files, which a signal handler writes;
//! a test reads the tree and keeps it so.
//!
//! `Arc` stays the standard one under both: no argument of the protocol rests on its counts.

mod barrier;
pub mod deque;
mod exclusive;
mod latest;
mod mutation;
mod once;
mod park;
pub mod ring;
mod spawn;

pub(crate) use barrier::{heavy_fence, light_fence, prepare};
pub use exclusive::Exclusive;
pub use latest::{LatestReader, LatestWriter, latest};
pub use mutation::{ordering_at, planted};
pub(crate) use once::SetOnce;
pub use park::Parker;
pub use spawn::{JoinHandle, spawn_named};
#[cfg(not(any(loom, shuttle)))]
pub use spawn::{Scope, ScopedJoinHandle, scope, spawn_scoped, thread_id};
pub use std::sync::Arc;

#[cfg(not(any(loom, shuttle)))]
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(shuttle)]
pub use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub use loom::cell::UnsafeCell;
#[cfg(not(loom))]
pub use std_cell::UnsafeCell;

#[cfg(not(loom))]
mod std_cell {
    //! `std::cell::UnsafeCell` with the access methods of loom's.

    /// A cell whose accesses loom checks in a model; free in a normal build.
    ///
    /// ```
    /// let cell = twelvefold::sync::UnsafeCell::new(1);
    /// // SAFETY: nobody else reaches the cell.
    /// cell.with_mut(|value| unsafe { *value += 1 });
    /// // SAFETY: as above.
    /// assert_eq!(cell.with(|value| unsafe { *value }), 2);
    /// ```
    #[derive(Debug, Default)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        /// A cell holding `value`.
        pub const fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        /// Calls `f` with a pointer for reading.
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Calls `f` with a pointer for writing.
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

/// Tells the processor that this thread is polling. Under loom a no-op, since nobody polls there; under
/// shuttle others run meanwhile.
///
/// ```
/// use twelvefold::sync::{AtomicBool, Ordering, spin_hint};
///
/// let ready = AtomicBool::new(true);
/// while !ready.load(Ordering::Acquire) {
///     spin_hint();
/// }
/// ```
#[inline]
pub fn spin_hint() {
    #[cfg(not(any(loom, shuttle)))]
    std::hint::spin_loop();
    #[cfg(shuttle)]
    shuttle::hint::spin_loop();
}

/// Gives the rest of the time slice away.
///
/// ```
/// twelvefold::sync::yield_now(); // The machine may run somebody else meanwhile.
/// ```
#[inline]
pub fn yield_now() {
    #[cfg(not(any(loom, shuttle)))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
}

/// How many threads the machine runs at once, at least 1. Asked once.
///
/// ```
/// assert!(twelvefold::sync::cores() >= 1);
/// ```
pub fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
