//! One wake token per thread.
//!
//! `unpark` makes the token available; `park` takes it, sleeping until it is there. A wake that
//! arrives first is kept, two wakes count as one, `park` may also return for no reason, and
//! neither call takes a lock (the standard library's `park` is one futex word on Linux).

/// The token of one thread, which alone may park on it.
#[derive(Debug, Default)]
pub struct Parker {
    #[cfg(not(loom))]
    owner: std::sync::OnceLock<std::thread::Thread>,
    #[cfg(loom)]
    token: loom::sync::Notify,
    /// Stands for `owner`: whoever does not see it set wakes nobody, as in the real one.
    #[cfg(loom)]
    owned: loom::sync::atomic::AtomicBool,
}

impl Parker {
    /// A token that is not yet owned.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the calling thread the owner; later calls by the same thread change nothing.
    ///
    /// # Panics
    /// When another thread is the owner.
    ///
    /// Must come before the word that tells others "asleep", so that whoever reads that word finds
    /// the owner too.
    #[inline]
    pub fn register(&self) {
        #[cfg(not(loom))]
        {
            let owner = self.owner.get_or_init(std::thread::current);
            assert_eq!(owner.id(), std::thread::current().id(), "a second thread parks here");
        }
        // Relaxed: the announcement that follows publishes it.
        #[cfg(loom)]
        self.owned.store(true, loom::sync::atomic::Ordering::Relaxed);
    }

    /// Sleeps until the token is there and takes it; may return earlier, so call it in a loop.
    pub fn park(&self) {
        #[cfg(not(loom))]
        std::thread::park();
        #[cfg(loom)]
        self.token.wait();
    }

    /// [`Parker::park`] for `limit` at most.
    #[cfg(not(loom))]
    pub fn park_timeout(&self, limit: std::time::Duration) {
        std::thread::park_timeout(limit);
    }

    /// Leaves the token and wakes the owner if it sleeps. Without an owner there is nobody to wake.
    pub fn unpark(&self) {
        #[cfg(not(loom))]
        if let Some(owner) = self.owner.get() {
            owner.unpark();
        }
        // Relaxed: whoever has read the announcement sees it.
        #[cfg(loom)]
        if self.owned.load(loom::sync::atomic::Ordering::Relaxed) {
            self.token.notify();
        }
    }
}
