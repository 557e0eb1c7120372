//! Flags that workers raise and one thread takes down: which parts of a shared work are ready.
//!
//! ```text
//! worker                                 taker
//!   writes the part                        announces that it is about to sleep
//!   flag := up           (Release)         fence
//!   count := count + 1   (Release)         looks at the count  (Acquire)
//!   wakes the taker      (fence)           looks at each flag  (Acquire), uses the part
//! ```

use super::wait::Event;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, planted};

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
        let order = if planted("flags.raise") { Ordering::Relaxed } else { Ordering::Release };
        self.flags[flag].store(true, order);
        // Release: who sees the count sees the flag too, and so looks for it.
        self.raised.fetch_add(1, Ordering::Release);
        if !planted("flags.wake") {
            self.taker.wake();
        }
    }

    /// How often a flag was raised so far: what the taker sleeps on.
    pub fn raised(&self) -> u64 {
        // Acquire: pairs with the count in `raise`.
        self.raised.load(Ordering::Acquire)
    }

    /// Takes a flag down; whether it was up. By one thread alone, and a flag is raised again only after
    /// it was taken, by a thread that was told so.
    ///
    /// # Panics
    /// When there is no such flag.
    pub fn take(&self, flag: usize) -> bool {
        // Acquire: pairs with the store in `raise`.
        let up = self.flags[flag].load(Ordering::Acquire);
        if up {
            // A load and a store are enough for one taker. Relaxed: nobody reads it but this thread, and
            // what tells a worker to raise it again orders it.
            self.flags[flag].store(false, Ordering::Relaxed);
        }
        up
    }
}
