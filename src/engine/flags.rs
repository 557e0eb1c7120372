//! Flags that workers raise and one thread takes down: which parts of a shared work are ready.
//!
//! ```text
//! worker                                 taker
//!   writes the part                        announces that it is about to sleep
//!   flag := up           (Release)         fence
//!   count := count + 1   (Release)         looks at the count  (Acquire)
//!   wakes the taker      (fence)           looks at each flag  (Acquire), uses the part
//! ```
//!
//! A flag may be seen before it is counted, so it has orderings of its own; the count is what the taker
//! sleeps on, and who has seen it finds the flags that it counts (models in loom-tests, `flags::`).

use super::wait::Event;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, ordering_at, planted};

/// A fixed number of flags, and the event of the thread that takes them down.
///
/// ```
/// use twelvefold::engine::flags::Flags;
/// use twelvefold::engine::wait::Event;
/// use twelvefold::sync::Arc;
///
/// let event = Arc::new(Event::new());
/// let flags = Flags::new(3, event.clone());
/// std::thread::scope(|scope| {
///     scope.spawn(|| flags.raise(1)); // After the work on part 1.
///     event.wait(|| flags.raised() > 0);
/// });
/// assert!(!flags.take(0) && flags.take(1) && !flags.take(1));
/// ```
#[derive(Debug)]
pub struct Flags {
    flags: Box<[AtomicBool]>,
    raised: AtomicU64,
    taker: Arc<Event>,
}

impl Flags {
    /// So many flags, all down. `taker` is woken at each that is raised.
    pub fn new(count: usize, taker: Arc<Event>) -> Self {
        let flags = (0..count).map(|_| AtomicBool::new(false)).collect();
        Flags { flags, raised: AtomicU64::new(0), taker }
    }

    /// Raises a flag: the calling thread has done what it says, and leaves the part to the taker.
    ///
    /// # Panics
    /// When there is no such flag.
    pub fn raise(&self, flag: usize) {
        // Release: hands the part to the thread that sees the flag in `take`.
        self.flags[flag].store(true, ordering_at("flags.raise", Ordering::Release));
        // Release: who sees the count sees the flag too, and so finds it. Otherwise it could look in
        // vain and then sleep on a count that holds the flag already. A read-modify-write: each count
        // continues the release sequences of those before it, so it stands for their flags as well.
        self.raised.fetch_add(1, ordering_at("flags.count", Ordering::Release));
        if !planted("flags.wake") {
            self.taker.wake();
        }
    }

    /// How often a flag was raised so far: what the taker sleeps on. It looks at the count first, then at
    /// the flags, and where none is up sleeps until the count is another; the other way round a raise
    /// between the two looks would be slept through.
    ///
    /// ```
    /// # use twelvefold::{engine::{flags::Flags, wait::Event}, sync::Arc};
    /// # let event = Arc::new(Event::new());
    /// # let flags = Flags::new(2, event.clone());
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| (0..2).for_each(|part| flags.raise(part)));
    ///     let mut left = 2;
    ///     while left > 0 {
    ///         let told = flags.raised();
    ///         let taken = (0..2).filter(|&part| flags.take(part)).count();
    ///         left -= taken;
    ///         if taken == 0 {
    ///             event.wait(|| flags.raised() != told);
    ///         }
    ///     }
    /// });
    /// ```
    pub fn raised(&self) -> u64 {
        // Acquire: pairs with the count in `raise`.
        self.raised.load(ordering_at("flags.raised", Ordering::Acquire))
    }

    /// Takes a flag down; whether it was up. By one thread alone, and a flag is raised again only after
    /// it was taken, by a thread that was told so.
    ///
    /// # Panics
    /// When there is no such flag.
    pub fn take(&self, flag: usize) -> bool {
        // Acquire: pairs with the store in `raise`.
        let up = self.flags[flag].load(ordering_at("flags.take", Ordering::Acquire));
        if up {
            // A load and a store are enough for one taker. Relaxed: nobody reads it but this thread, and
            // what tells a worker to raise it again orders it.
            self.flags[flag].store(false, Ordering::Relaxed);
        }
        up
    }
}
