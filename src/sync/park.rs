//! One wake token for the thread that sleeps here.
//!
//! [`Parker::park_while`] sleeps as long as the caller's word says "asleep"; a waker changes that
//! word and then calls [`Parker::unpark`]. One thread at a time sleeps here, and it need not always
//! be the same: whoever sleeps leaves its handle first. Neither call takes a lock (the standard
//! library's `park` is one futex word on Linux).
//!
//! ```text
//! sleeper                               waker
//!   handle := mine        (swap)          word := awake
//!   look at the word                      take the handle   (swap)
//!   park                                  unpark it
//! ```
//!
//! Both swap the same word, so one comes first. If the waker's does, it finds no handle, and the
//! sleeper's swap reads from it and so sees "awake" in its look. If the sleeper's does, the waker
//! finds the handle, and its token is kept even if the sleeper has not parked yet. A handle is
//! taken once; so after a park that ended for another reason (an earlier waker was slow) the sleeper
//! leaves it again and looks again.

use super::{Ordering, ordering_at, planted};

#[cfg(loom)]
use stand_in::Token;
#[cfg(not(loom))]
use token::Token;

/// Where a thread sleeps; see the module's text.
#[derive(Debug, Default)]
pub struct Parker {
    token: Token,
}

impl Parker {
    /// A place where nobody sleeps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sleeps while `asleep`, the caller's look at its word, says so.
    pub fn park_while(&self, asleep: impl Fn() -> bool) {
        self.token.leave();
        while asleep() {
            self.token.park();
            if !planted("park.leave_again") {
                self.token.leave();
            }
        }
    }

    /// [`Parker::park_while`], but no longer than until `deadline`.
    #[cfg(not(loom))]
    pub fn park_while_until(&self, asleep: impl Fn() -> bool, deadline: std::time::Instant) {
        self.token.leave();
        while asleep() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
            self.token.leave();
        }
    }

    /// Wakes the sleeper, after the word was changed. Where nobody has left a handle, nobody sleeps.
    pub fn unpark(&self) {
        self.token.unpark();
    }
}

/// The order of the sleeper's swap. Release: whoever takes the handle may use it. Acquire: a waker
/// that came first and found nothing has changed the word, and the look that follows sees it.
fn leave_order() -> Ordering {
    ordering_at("park.leave.order", Ordering::AcqRel)
}

/// The order of the waker's swap: the other half of both.
fn take_order() -> Ordering {
    ordering_at("park.take.order", Ordering::AcqRel)
}

#[cfg(not(loom))]
mod token {
    #![expect(unsafe_code, reason = "a thread's handle is handed over through one atomic pointer")]

    use super::{leave_order, take_order};
    use std::ptr;
    use std::sync::Arc;
    use std::sync::atomic::AtomicPtr;
    use std::thread::{self, Thread};

    thread_local! {
        /// Made once a thread, so that going to sleep allocates nothing.
        static MINE: Arc<Thread> = Arc::new(thread::current());
    }

    /// The handle of the thread that sleeps, or null: `Arc::into_raw`, one count of it.
    #[derive(Debug, Default)]
    pub(super) struct Token(AtomicPtr<Thread>);

    impl Token {
        /// Leaves the calling thread's handle for a waker.
        pub(super) fn leave(&self) {
            // Past the end of the thread's own values a fresh handle does as well.
            let mine = MINE.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(thread::current()));
            drop(self.swap(Arc::into_raw(mine).cast_mut(), true));
        }

        pub(super) fn park(&self) {
            thread::park();
        }

        pub(super) fn unpark(&self) {
            if let Some(sleeper) = self.swap(ptr::null_mut(), false) {
                sleeper.unpark();
            }
        }

        /// Puts `handle` in, which is null or came from `Arc::into_raw`, and takes out what was there.
        fn swap(&self, handle: *mut Thread, leaves: bool) -> Option<Arc<Thread>> {
            let order = if leaves { leave_order() } else { take_order() };
            let before = self.0.swap(handle, order);
            // SAFETY: every pointer put in is null or an `Arc::into_raw` whose count it carries, and
            // a swap takes each out once; the AcqRel swaps order its making before this use.
            (!before.is_null()).then(|| unsafe { Arc::from_raw(before) })
        }
    }

    impl Drop for Token {
        fn drop(&mut self) {
            drop(self.swap(ptr::null_mut(), false));
        }
    }
}

#[cfg(loom)]
mod stand_in {
    //! A flag stands for the handle: whoever does not find it wakes nobody, as in the real one.

    use super::{leave_order, take_order};

    #[derive(Debug, Default)]
    pub(super) struct Token {
        left: loom::sync::atomic::AtomicBool,
        token: loom::sync::Notify,
    }

    impl Token {
        pub(super) fn leave(&self) {
            self.left.swap(true, leave_order());
        }

        pub(super) fn park(&self) {
            self.token.wait();
        }

        pub(super) fn unpark(&self) {
            if self.left.swap(false, take_order()) {
                self.token.notify();
            }
        }
    }
}
