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

use super::{Ordering, planted};
use token::Token;

#[cfg(not(any(loom, shuttle)))]
use real::{AtomicPtr, Handle, Place};
#[cfg(any(loom, shuttle))]
use stand_in::{AtomicPtr, Handle, Place};

/// Where a thread sleeps; see the module's text.
///
/// ```
/// use twelvefold::sync::{Arc, AtomicBool, Ordering, Parker};
///
/// let (parker, asleep) = (Arc::new(Parker::new()), Arc::new(AtomicBool::new(true)));
/// let waker = std::thread::spawn({
///     let (parker, asleep) = (parker.clone(), asleep.clone());
///     move || {
///         asleep.store(false, Ordering::Release);
///         parker.unpark();
///     }
/// });
/// parker.park_while(|| asleep.load(Ordering::Acquire));
/// waker.join().unwrap();
/// ```
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
    #[cfg(not(any(loom, shuttle)))]
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
    if planted("park.leave.release") {
        Ordering::Acquire
    } else if planted("park.leave.acquire") {
        Ordering::Release
    } else {
        Ordering::AcqRel
    }
}

/// The order of the waker's swap: the other half of both.
fn take_order() -> Ordering {
    if planted("park.take.release") {
        Ordering::Acquire
    } else if planted("park.take.acquire") {
        Ordering::Release
    } else {
        Ordering::AcqRel
    }
}

mod token {
    #![expect(unsafe_code, reason = "a thread's handle is handed over through one atomic pointer")]

    use super::{AtomicPtr, Handle, Place, leave_order, take_order};
    use std::ptr;

    /// The handle of the thread that sleeps, or null.
    #[derive(Debug, Default)]
    pub(super) struct Token {
        handle: AtomicPtr<Handle>,
        place: Place,
    }

    impl Token {
        /// Leaves the calling thread's handle for a waker.
        pub(super) fn leave(&self) {
            let before = self.handle.swap(self.place.mine(), leave_order());
            // SAFETY: it is null or came from `mine`, and a swap takes each out once; the AcqRel swaps
            // order its making before this use.
            unsafe { Place::forget(before) };
        }

        pub(super) fn park(&self) {
            self.place.park();
        }

        pub(super) fn unpark(&self) {
            let sleeper = self.handle.swap(ptr::null_mut(), take_order());
            if !sleeper.is_null() {
                // SAFETY: as above.
                unsafe { Place::unpark(sleeper) };
            }
        }
    }

    // loom sees no order by the counts of an `Arc`, so there nothing is swapped in a drop.
    #[cfg(not(any(loom, shuttle)))]
    impl Drop for Token {
        fn drop(&mut self) {
            // SAFETY: as above.
            unsafe { Place::forget(*self.handle.get_mut()) };
        }
    }
}

#[cfg(not(any(loom, shuttle)))]
mod real {
    #![expect(unsafe_code, reason = "a handle's count goes through an atomic pointer")]

    use std::sync::Arc;
    pub(super) use std::sync::atomic::AtomicPtr;
    pub(super) use std::thread::Thread as Handle;
    use std::thread::{self, Thread};

    thread_local! {
        /// Made once a thread, so that going to sleep allocates nothing.
        static MINE: Arc<Thread> = Arc::new(thread::current());
    }

    /// The standard library's place: each thread has it with it.
    #[derive(Debug, Default)]
    pub(super) struct Place;

    impl Place {
        /// The calling thread's handle, with a count of it.
        pub(super) fn mine(&self) -> *mut Handle {
            // Past the end of the thread's own values a fresh handle does as well.
            let mine = MINE.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(thread::current()));
            Arc::into_raw(mine).cast_mut()
        }

        /// # Safety
        /// `handle` is null, or came from `mine` and is given up once.
        pub(super) unsafe fn forget(handle: *mut Handle) {
            if !handle.is_null() {
                // SAFETY: it came from `Arc::into_raw` and carries its count.
                drop(unsafe { Arc::from_raw(handle) });
            }
        }

        /// Wakes the thread and gives its handle up.
        ///
        /// # Safety
        /// As `forget`, and it is not null.
        pub(super) unsafe fn unpark(handle: *mut Handle) {
            // SAFETY: as in `forget`.
            unsafe { Arc::from_raw(handle) }.unpark();
        }

        pub(super) fn park(&self) {
            thread::park();
        }
    }
}

#[cfg(any(loom, shuttle))]
mod stand_in {
    //! A handle that is made anew each time, and read by whoever uses it: loom sees whether its making
    //! is ordered before.

    #![expect(unsafe_code, reason = "a cell that loom checks for races")]

    use crate::sync::UnsafeCell;
    use std::sync::{Arc, Mutex};

    #[cfg(loom)]
    use loom::sync::Notify;
    #[cfg(loom)]
    pub(super) use loom::sync::atomic::AtomicPtr;
    #[cfg(shuttle)]
    use notify::Notify;
    #[cfg(shuttle)]
    pub(super) use shuttle::sync::atomic::AtomicPtr;

    #[derive(Debug)]
    pub(super) struct Handle(UnsafeCell<Option<Arc<Notify>>>);

    /// Where a thread sleeps, and the handles that it has made, which live as long.
    #[derive(Debug, Default)]
    pub(super) struct Place {
        token: Arc<Notify>,
        made: Mutex<Vec<Made>>,
    }

    /// A box that is reached by pointers into it as well.
    #[derive(Debug)]
    struct Made(*mut Handle);

    // SAFETY: what is shared of it is a cell that loom watches.
    unsafe impl Send for Made {}

    impl Drop for Made {
        fn drop(&mut self) {
            // SAFETY: it came from `Box::into_raw`, and its place is gone.
            drop(unsafe { Box::from_raw(self.0) });
        }
    }

    impl Place {
        pub(super) fn mine(&self) -> *mut Handle {
            let handle = Box::new(Handle(UnsafeCell::new(None)));
            // SAFETY: nobody else has it yet.
            handle.0.with_mut(|token| unsafe { *token = Some(self.token.clone()) });
            let handle = Box::into_raw(handle);
            self.made.lock().expect("nobody panics in here").push(Made(handle));
            handle
        }

        /// # Safety
        /// None is needed here.
        pub(super) unsafe fn forget(_handle: *mut Handle) {}

        /// # Safety
        /// `handle` came from the `mine` of a place that is still there.
        pub(super) unsafe fn unpark(handle: *mut Handle) {
            // SAFETY: by the contract.
            let handle = unsafe { &*handle };
            // SAFETY: written where it was made, and never after.
            let token = handle.0.with(|token| unsafe { (*token).clone() });
            token.expect("written before it was left").notify();
        }

        pub(super) fn park(&self) {
            self.token.wait();
        }
    }

    #[cfg(shuttle)]
    mod notify {
        //! loom's `Notify` for shuttle: one token, kept until it is taken. Its lock stands for what the
        //! system's own park does inside.

        use shuttle::sync::{Condvar, Mutex};

        #[derive(Debug, Default)]
        pub(super) struct Notify {
            token: Mutex<bool>,
            left: Condvar,
        }

        impl Notify {
            pub(super) fn wait(&self) {
                let token = self.token.lock().expect("nobody panics in here");
                let there = self.left.wait_while(token, |token| !*token);
                *there.expect("nobody panics in here") = false;
            }

            pub(super) fn notify(&self) {
                *self.token.lock().expect("nobody panics in here") = true;
                self.left.notify_one();
            }
        }
    }
}
