//! A pair of fences whose cost is all on one side.
//!
//! A hand-off that may meet a sleeper needs a full fence on both sides: the waker's between its
//! publication and its look at "asleep", the sleeper's between its announcement and its last look
//! ([`wait`](crate::engine::wait)). The waker pays it with each item, the sleeper once a sleep. Where
//! Linux lends a hand the waker's fence is one for the compiler only: the sleeper's asks the kernel
//! (`membarrier`, private expedited) to make every core that runs a thread of this process pass
//! through a full fence before the call returns. Each waker is then either past its look, or before
//! it, and so passes a full fence in between just as if it had one of its own:
//!
//! ```text
//! sleeper                               waker
//!   asleep := yes                         publish the item
//!   heavy: every core fences     ───▶     light: nothing may cross it in the compiler
//!   look again for the item               look at `asleep`
//! ```
//!
//! If the forced fence falls before the look, the look comes after the announcement and sees it; if
//! it falls after, the publication, which stands before the look in program order, is visible to the
//! sleeper's second look. On x86 that is worth most of the price of sending a single item.
//!
//! Where the call is missing (another system, an old kernel, a sandbox) both are full fences. Which of
//! the two is decided once, before the first place to sleep is made, and never changes.
//!
//! A light fence orders nothing between two wakers: whoever needs a third party to see the order has a
//! full fence of its own, and calls [`Event::wake_fenced`](crate::engine::wait::Event). What an item itself needs is in the Release and
//! Acquire of its queue. Under a model checker both are full fences, which models the pair as it is
//! used here, and nothing else.
//!
//! The guarantee is that of `membarrier(2)`: "all running threads of the process ... pass through a
//! state where all memory accesses to user-space addresses match program order between entry to and
//! return from the system call".

#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::{heavy_fence, light_fence, prepare};
#[cfg(any(loom, shuttle))]
pub(crate) use stand_in::{heavy_fence, light_fence, prepare};

#[cfg(not(any(loom, shuttle)))]
mod real {
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

    static DECIDED: Once = Once::new();
    /// Whether the kernel fences for the light side.
    static LENT: AtomicBool = AtomicBool::new(false);

    /// Decides between the two kinds. Whoever makes a place to sleep calls it first, so that all who
    /// can reach that place know the same answer.
    pub(crate) fn prepare() {
        // Relaxed: `Once` orders it before whoever comes back from here.
        DECIDED.call_once(|| LENT.store(kernel::register(), Ordering::Relaxed));
    }

    /// The frequent side's: between a publication and the look at who sleeps.
    #[inline]
    pub(crate) fn light_fence() {
        // Relaxed: written once, before the place to sleep was made that the caller holds.
        if LENT.load(Ordering::Relaxed) {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// The sleeper's: between its announcement and its last look.
    #[inline]
    pub(crate) fn heavy_fence() {
        // Relaxed: as above.
        if LENT.load(Ordering::Relaxed) {
            kernel::fence_every_core();
        } else {
            fence(Ordering::SeqCst);
        }
    }

    #[cfg(target_os = "linux")]
    mod kernel {
        use rustix::thread::{MembarrierCommand, membarrier};

        pub(super) fn register() -> bool {
            membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        }

        #[cold]
        pub(super) fn fence_every_core() {
            if membarrier(MembarrierCommand::PrivateExpedited).is_err() {
                // A registered process is refused where the kernel is out of memory, or where a filter
                // was put on later. Then time is the fence: a store leaves its core's buffer within
                // microseconds, and a thread that is off its core has been through a fence.
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    mod kernel {
        pub(super) fn register() -> bool {
            false
        }

        pub(super) fn fence_every_core() {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
    }
}

#[cfg(any(loom, shuttle))]
mod stand_in {
    use crate::sync::{Ordering, fence};

    pub(crate) fn prepare() {}

    pub(crate) fn light_fence() {
        fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy_fence() {
        fence(Ordering::SeqCst);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Each side writes its own word and looks at the other's. Were one of the fences missing, both
    /// would look too early within a few hundred rounds.
    #[test]
    fn of_a_waker_and_a_sleeper_one_sees_the_other() {
        const ROUNDS: usize = 20_000;
        prepare();
        let pairs: Vec<_> = (0..ROUNDS).map(|_| [AtomicU32::new(0), AtomicU32::new(0)]).collect();
        let (gate, turn) = (Barrier::new(2), AtomicU32::new(0));
        let meet = |round: usize| {
            // Both come to each round at the same time, to within a line's way between two cores.
            turn.fetch_add(1, Ordering::AcqRel);
            while (turn.load(Ordering::Acquire) as usize) < 2 * (round + 1) {
                std::hint::spin_loop();
            }
        };
        let waker = || {
            gate.wait();
            let look = |(round, [item, asleep]): (usize, &[AtomicU32; 2])| {
                meet(round);
                item.store(1, Ordering::Relaxed);
                light_fence();
                asleep.load(Ordering::Relaxed)
            };
            pairs.iter().enumerate().map(look).collect::<Vec<_>>()
        };
        let sleeper = || {
            gate.wait();
            let look = |(round, [item, asleep]): (usize, &[AtomicU32; 2])| {
                meet(round);
                asleep.store(1, Ordering::Relaxed);
                heavy_fence();
                item.load(Ordering::Relaxed)
            };
            pairs.iter().enumerate().map(look).collect::<Vec<_>>()
        };
        let (woke, slept) = std::thread::scope(|scope| {
            let waker = scope.spawn(waker);
            (sleeper(), waker.join().unwrap())
        });
        let missed = woke.iter().zip(&slept).filter(|sides| matches!(sides, (0, 0))).count();
        assert_eq!(missed, 0, "of {ROUNDS} rounds");
    }
}
