//! How a thread waits: look, spin, yield, announce, look again, sleep.
//!
//! A waiter alternates between looking for what it needs and [`Waiter::pause`]. A pause spins at
//! first, then yields, then *announces* that the thread is about to sleep and returns, so that the
//! caller looks once more, and only the pause after that sleeps. The announcement ends with a
//! fence, and so does the publication on the waking side ([`Event::wake`],
//! [`super::sleepers::Sleepers::wake`]):
//!
//! ```text
//! sleeper                               waker
//!   asleep := yes         (swap)          publish the item      (Release)
//!   fence                                 fence
//!   look again for the item               look at `asleep`
//! ```
//!
//! Among sleepers of a pool both are SeqCst fences. An event, which is looked at with every item sent,
//! has a pair of which the waker's costs next to nothing, and the sleeper's makes up for it
//! ([`barrier`](crate::sync)).
//!
//! The two fences are totally ordered. If the sleeper's comes first, the waker sees `asleep` and
//! wakes it; if the waker's comes first, the sleeper's second look sees the item. A wake cannot
//! fall between the two (model `a_wake_between_the_last_look_and_the_sleep_is_kept` in loom-tests).
//!
//! Spinning pays only while the thread waited for is running: a pause spins for about 50 µs at
//! most, and only while the engine's awake threads fit the cores.

use crate::sync::{self, AtomicU32, Ordering, Parker, heavy_fence, light_fence, planted};

/// `pause` instructions before the first yield: 25 ns each on Zen 4, so about 50 µs.
#[cfg(not(any(loom, shuttle)))]
const SPINS: u32 = 2_000;
/// Time slices given away between spinning and sleeping: where others want the core, what is waited for is
/// often there after a few, each of which is a short system call; a wake takes both sides some 20 µs.
#[cfg(not(any(loom, shuttle)))]
const YIELDS: u32 = 12;
#[cfg(any(loom, shuttle))]
const SPINS: u32 = 0;
#[cfg(any(loom, shuttle))]
const YIELDS: u32 = 0;

/// A place where one thread at a time sleeps.
///
/// ```
/// use twelvefold::engine::wait::{Event, Sleeper};
///
/// let event = Event::new();
/// event.announce();
/// // The last look comes here. A wake between announcement and sleep is kept:
/// event.wake();
/// event.sleep(); // returns at once.
/// ```
pub trait Sleeper {
    /// Says "about to sleep", then fences: what is published from now on comes with a wake.
    fn announce(&self);
    /// Sleeps while the announcement stands.
    fn sleep(&self);
    /// Takes the announcement back.
    ///
    /// ```
    /// use twelvefold::engine::wait::{Event, Sleeper};
    ///
    /// let event = Event::new();
    /// event.announce();
    /// // The last look found something.
    /// event.withdraw();
    /// event.wake(); // Nobody is about to sleep: nothing to do.
    /// ```
    fn withdraw(&self);
}

/// One round of waiting; see the module's text.
///
/// Dropping it takes a standing announcement back.
///
/// ```
/// use twelvefold::engine::wait::{Event, Waiter};
///
/// let event = Event::new();
/// let mut waiter = Waiter::new(&event);
/// while !waiter.is_announced() {
///     waiter.pause(); // Spins, yields, and announces at last; the one after that sleeps.
/// }
/// waiter.reset(); // Something was found: no sleep.
/// assert!(!waiter.is_announced());
/// ```
#[derive(Debug)]
pub struct Waiter<'a, S: Sleeper> {
    sleeper: &'a S,
    pauses: u32,
    announced: bool,
}

impl<'a, S: Sleeper> Waiter<'a, S> {
    /// A waiter that has not paused yet.
    pub fn new(sleeper: &'a S) -> Self {
        Waiter { sleeper, pauses: 0, announced: false }
    }

    /// Whether the next pause sleeps. What a caller does between looks may depend on it, for
    /// example flush what it holds back.
    pub fn is_announced(&self) -> bool {
        self.announced
    }

    /// Waits a little, or a lot; the caller looks again after every pause.
    pub fn pause(&mut self) {
        self.pause_after(1);
    }

    /// [`Waiter::pause`] after a look that took as long as `cost` pauses: the time spent spinning
    /// is bounded, whatever a look costs.
    ///
    /// ```
    /// # use twelvefold::engine::wait::{Event, Waiter};
    /// let event = Event::new();
    /// let mut waiter = Waiter::new(&event);
    /// let looks = (0..).take_while(|_| {
    ///     waiter.pause_after(1_000); // Each look takes as long as so many pauses.
    ///     !waiter.is_announced()
    /// });
    /// assert!(looks.count() < 20); // And not two thousand.
    /// ```
    pub fn pause_after(&mut self, cost: u32) {
        if self.announced {
            self.sleeper.sleep();
            self.announced = false;
            self.pauses = 0;
        } else if self.pauses < SPINS && census::may_spin(self.pauses) {
            self.pauses = self.pauses.saturating_add(cost.max(1));
            sync::spin_hint();
        } else if self.pauses < SPINS + YIELDS {
            self.pauses = self.pauses.max(SPINS) + 1;
            sync::yield_now();
        } else {
            self.sleeper.announce();
            self.announced = true;
            if planted("wait.look_again") {
                self.sleeper.sleep();
            }
        }
    }

    /// Spinning would be in vain: the next pause announces.
    pub(super) fn skip_spinning(&mut self) {
        self.pauses = self.pauses.max(SPINS + YIELDS);
    }

    /// Something was found: the next pause starts from the beginning.
    pub fn reset(&mut self) {
        if self.announced {
            self.sleeper.withdraw();
            self.announced = false;
        }
        self.pauses = 0;
    }
}

impl<S: Sleeper> Drop for Waiter<'_, S> {
    fn drop(&mut self) {
        self.reset();
    }
}

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// The sleeping place of one thread at a time, the owner, which any number of others may wake. What
/// waits on an event may move to another thread between two waits.
///
/// | state  | owner                            | others ([`Event::wake`])            |
/// |--------|----------------------------------|-------------------------------------|
/// | AWAKE  | announces: -> ASLEEP             | nothing to do                       |
/// | ASLEEP | withdraws: -> AWAKE; or sleeps   | the first swaps -> AWAKE and unparks |
///
/// ```
/// use twelvefold::engine::wait::Event;
/// use twelvefold::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let (event, ready) = (Arc::new(Event::new()), Arc::new(AtomicBool::new(false)));
/// let waker = std::thread::spawn({
///     let (event, ready) = (event.clone(), ready.clone());
///     move || {
///         ready.store(true, Ordering::Release); // First publish,
///         event.wake(); // then wake.
///     }
/// });
/// event.wait(|| ready.load(Ordering::Acquire));
/// waker.join().unwrap();
/// ```
#[derive(Debug)]
pub struct Event {
    state: AtomicU32,
    parker: Parker,
}

impl Event {
    /// An event on which nobody waits.
    pub fn new() -> Self {
        sync::prepare();
        Event { state: AtomicU32::new(AWAKE), parker: Parker::new() }
    }

    /// Wakes the owner if it sleeps or is about to. Call it after publishing what it waits for.
    #[inline]
    pub fn wake(&self) {
        // Orders the caller's publication before the look at `state`; pairs with the fence in
        // `announce`. Without it both sides can miss each other (the store may still sit in this
        // core's buffer): the owner sleeps for ever.
        if !planted("event.wake.fence") {
            light_fence();
        }
        self.wake_fenced();
    }

    /// [`Event::wake`] after a SeqCst fence that the caller has executed itself, because another party
    /// than the owner relies on it too.
    #[inline]
    pub(super) fn wake_fenced(&self) {
        // Relaxed: the caller's fence ordered it. A stale AWAKE is excluded by the two fences; a
        // stale ASLEEP costs one swap.
        if self.state.load(Ordering::Relaxed) == ASLEEP {
            self.wake_sleeper();
        }
    }

    #[cold]
    fn wake_sleeper(&self) {
        // A read-modify-write, so that one of several wakers unparks. Relaxed: what was published has
        // a pair of its own, and the parker's handle orders this word.
        if self.state.swap(AWAKE, Ordering::Relaxed) == ASLEEP && !planted("event.wake.unpark") {
            self.parker.unpark();
        }
    }

    /// Waits until `ready` says so. By one thread at a time: a second one would be woken in place of
    /// the first.
    #[inline]
    pub fn wait(&self, mut ready: impl FnMut() -> bool) {
        let mut waiter = Waiter::new(self);
        while !ready() {
            waiter.pause();
        }
    }

    /// [`Event::wait`] after a look that found nothing: each look takes a line from the thread that
    /// is waited for, so the pause comes first.
    #[inline]
    pub(super) fn wait_again(&self, mut ready: impl FnMut() -> bool) {
        let mut waiter = Waiter::new(self);
        waiter.pause();
        while !ready() {
            waiter.pause();
        }
    }

    /// [`Event::wait`] for what is known to take longer than a wake: sleeps after the first look.
    ///
    /// ```
    /// # use std::sync::atomic::{AtomicU32, Ordering};
    /// # use twelvefold::engine::wait::Event;
    /// let (event, done) = (Event::new(), AtomicU32::new(0));
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         done.store((1..=1_000).fold(1, |x: u32, n| x.wrapping_mul(7) ^ n), Ordering::Release);
    ///         event.wake();
    ///     });
    ///     event.wait_without_spinning(|| done.load(Ordering::Acquire) != 0); // Takes no core meanwhile.
    /// });
    /// ```
    pub fn wait_without_spinning(&self, mut ready: impl FnMut() -> bool) {
        let mut waiter = Waiter::new(self);
        while !ready() {
            waiter.skip_spinning();
            waiter.pause();
        }
    }

    /// [`Event::wait`], but no longer than `timeout`; whether it became ready.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twelvefold::engine::wait::Event;
    ///
    /// let event = Event::new();
    /// assert!(!event.wait_for(Duration::from_millis(1), || false), "nobody came in time");
    /// assert!(event.wait_for(Duration::MAX, || true));
    /// ```
    #[cfg(not(any(loom, shuttle)))]
    pub fn wait_for(&self, timeout: std::time::Duration, ready: impl FnMut() -> bool) -> bool {
        self.wait_until(timeout, true, ready)
    }

    /// [`Event::wait_for`] that sleeps after the first look, as [`Event::wait_without_spinning`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use twelvefold::engine::wait::Event;
    ///
    /// assert!(!Event::new().nap(Duration::from_millis(1), || false));
    /// ```
    #[cfg(not(any(loom, shuttle)))]
    pub fn nap(&self, timeout: std::time::Duration, ready: impl FnMut() -> bool) -> bool {
        self.wait_until(timeout, false, ready)
    }

    #[cfg(not(any(loom, shuttle)))]
    fn wait_until(
        &self,
        timeout: std::time::Duration,
        spins: bool,
        mut ready: impl FnMut() -> bool,
    ) -> bool {
        let Some(deadline) = std::time::Instant::now().checked_add(timeout) else {
            self.wait(ready);
            return true;
        };
        let mut waiter = Waiter::new(self);
        loop {
            if ready() {
                return true;
            }
            if std::time::Instant::now() >= deadline {
                return false;
            }
            if waiter.is_announced() {
                census::parked();
                let asleep = || self.state.load(Ordering::Relaxed) == ASLEEP;
                self.parker.park_while_until(asleep, deadline);
                census::unparked();
                waiter.reset();
            } else {
                if !spins {
                    waiter.skip_spinning();
                }
                waiter.pause();
            }
        }
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl Sleeper for Event {
    fn announce(&self) {
        if planted("event.announce") {
            heavy_fence();
        }
        // Relaxed: the fence below orders it, and it publishes nothing else.
        self.state.swap(ASLEEP, Ordering::Relaxed);
        // Orders the announcement before the owner's second look; pairs with the fence in `wake`.
        if !planted("event.announce.fence") && !planted("event.announce") {
            heavy_fence();
        }
    }

    fn sleep(&self) {
        census::parked();
        // Relaxed: see `Parker`; what was published has a pair of its own.
        self.parker.park_while(|| self.state.load(Ordering::Relaxed) == ASLEEP);
        census::unparked();
    }

    fn withdraw(&self) {
        // A read-modify-write, like every write to this word: a waker may swap it at this moment.
        // Its unpark then leaves a token, which the loop in `Parker` absorbs. Relaxed: it publishes
        // nothing.
        self.state.swap(AWAKE, Ordering::Relaxed);
    }
}

pub(crate) mod census {
    //! How many of the engine's threads are awake: decides whether spinning can pay.
    //!
    //! A heuristic only: no hand-off depends on it, so every access is Relaxed, and under a model
    //! checker it is not there at all.

    #[cfg(not(any(loom, shuttle)))]
    use crate::sync::{AtomicUsize, Ordering, cores};
    #[cfg(not(any(loom, shuttle)))]
    use std::cell::Cell;

    #[cfg(not(any(loom, shuttle)))]
    static AWAKE: AtomicUsize = AtomicUsize::new(0);

    #[cfg(not(any(loom, shuttle)))]
    thread_local! {
        static COUNTED: Cell<bool> = const { Cell::new(false) };
    }

    /// Counts the calling thread as the engine's while it lives; once, if it is counted already.
    #[derive(Debug)]
    pub(crate) struct Member {
        #[cfg(not(any(loom, shuttle)))]
        first: bool,
        /// It belongs to its thread.
        _here: std::marker::PhantomData<*const ()>,
    }

    impl Member {
        pub(crate) fn enter() -> Self {
            #[cfg(not(any(loom, shuttle)))]
            let first = !COUNTED.replace(true);
            #[cfg(not(any(loom, shuttle)))]
            if first {
                AWAKE.fetch_add(1, Ordering::Relaxed);
            }
            Member {
                #[cfg(not(any(loom, shuttle)))]
                first,
                _here: std::marker::PhantomData,
            }
        }
    }

    impl Drop for Member {
        fn drop(&mut self) {
            #[cfg(not(any(loom, shuttle)))]
            if self.first {
                COUNTED.set(false);
                AWAKE.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn parked() {
        #[cfg(not(any(loom, shuttle)))]
        if COUNTED.get() {
            AWAKE.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn unparked() {
        #[cfg(not(any(loom, shuttle)))]
        if COUNTED.get() {
            AWAKE.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cfg(not(any(loom, shuttle)))]
    thread_local! {
        /// The membership of a thread that is none of the engine's and waits here all the same.
        static GUEST: Cell<Option<Member>> = const { Cell::new(None) };
    }

    /// Counts the calling thread from its first wait to its end, if it is not counted already: the ends
    /// of an edge are on any threads.
    #[cfg(not(any(loom, shuttle)))]
    #[cold]
    fn welcome() {
        // Past the end of the thread's own values it is about to end.
        let _ = GUEST.try_with(|guest| guest.set(Some(Member::enter())));
    }

    /// Looked up every 64 pauses: the line is shared, and the answer changes slowly.
    pub(crate) fn may_spin(pauses: u32) -> bool {
        #[cfg(not(any(loom, shuttle)))]
        {
            if pauses == 0 && !COUNTED.get() {
                welcome();
            }
            !pauses.is_multiple_of(64) || AWAKE.load(Ordering::Relaxed) <= cores()
        }
        #[cfg(any(loom, shuttle))]
        {
            let _ = pauses;
            true
        }
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    mod tests {
        use super::super::{Event, Waiter};
        use super::COUNTED;

        /// Uncounted, three threads on two cores would spin for each other's cores.
        #[test]
        fn any_thread_counts_from_its_first_wait_on() {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let event = Event::new();
                    assert!(!COUNTED.get());
                    Waiter::new(&event).pause();
                    assert!(COUNTED.get());
                });
            });
        }
    }
}
