//! Which thread of a run or a pool is pinned to which core.
//!
//! Only the engine's own threads are pinned, each by itself before its first step, so that nothing of
//! it is left when they have ended. The system's word is final: a thread whose core is refused runs
//! where it may, and counts as not pinned. Without the feature `pin` nobody is pinned.

use std::sync::OnceLock;

/// The cores for a set of threads, and what became of each.
#[derive(Debug)]
pub(super) struct Pins {
    /// In the order in which threads get them; none where nobody is to be pinned.
    cores: Vec<usize>,
    /// Each thread's core, written by that thread alone.
    pinned: Box<[OnceLock<usize>]>,
}

impl Pins {
    /// For `threads` threads, which are pinned only if `wanted`.
    pub(super) fn new(threads: usize, wanted: bool) -> Self {
        let cores = if wanted { allowed() } else { Vec::new() };
        Pins { cores, pinned: (0..threads).map(|_| OnceLock::new()).collect() }
    }

    /// Called by thread `thread` on itself: round robin over the cores.
    pub(super) fn pin(&self, thread: usize) {
        if let Some(turn) = thread.checked_rem(self.cores.len())
            && set(self.cores[turn])
        {
            // The first call stands; there is one.
            let _ = self.pinned[thread].set(self.cores[turn]);
        }
    }

    /// The core of thread `thread`, if it is pinned.
    pub(super) fn core(&self, thread: usize) -> Option<usize> {
        self.pinned[thread].get().copied()
    }

    /// The cores of all threads.
    pub(super) fn cores(&self) -> Vec<Option<usize>> {
        (0..self.pinned.len()).map(|thread| self.core(thread)).collect()
    }
}

/// The cores that the calling thread may use; none where that cannot be known.
#[cfg(all(feature = "pin", not(any(loom, shuttle))))]
fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Moves the calling thread to `core` for good; false where the system refuses.
#[cfg(all(feature = "pin", not(any(loom, shuttle))))]
fn set(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

#[cfg(not(all(feature = "pin", not(any(loom, shuttle)))))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(all(feature = "pin", not(any(loom, shuttle)))))]
fn set(_core: usize) -> bool {
    false
}

#[cfg(all(test, feature = "pin", not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// No machine of the tests has a thousand cores; the thread that asks for the last of them stays
    /// where it is, and the others get theirs.
    #[test]
    fn a_refused_core_is_passed_over_and_told() {
        let first = allowed()[0];
        let cores = vec![first, 1_000];
        let pins = Pins { cores, pinned: (0..4).map(|_| OnceLock::new()).collect() };
        let seen: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let pins = &pins;
            let thread = |n| {
                move || {
                    pins.pin(n);
                    allowed()
                }
            };
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(thread(n))).collect();
            threads.into_iter().map(|thread| thread.join().expect("joined")).collect()
        });
        assert_eq!(pins.cores(), [Some(first), None, Some(first), None]);
        let all = allowed();
        assert_eq!(seen, [vec![first], all.clone(), vec![first], all]);
    }
}
