//! A cell that is filled once: `once_cell`'s, or under a model checker a stand-in that it can see into.
//! The stand-in is weaker: there is one Release and one Acquire, and no read-modify-write. The standard
//! library's would do as well; but its Release is in code that no sanitizer sees.

use std::fmt;

#[cfg(not(any(loom, shuttle)))]
use real::Cell;
#[cfg(any(loom, shuttle))]
use stand_in::Cell;

/// Filled by one thread; looked at by any.
pub(crate) struct SetOnce<T>(Cell<T>);

impl<T> SetOnce<T> {
    pub(crate) fn new() -> Self {
        SetOnce(Cell::new())
    }

    /// Fills it, or gives `value` back where it is full.
    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.0.set(value)
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.get()
    }
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for SetOnce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetOnce(..)")
    }
}

#[cfg(not(any(loom, shuttle)))]
mod real {
    use once_cell::race::OnceBox;

    pub(super) struct Cell<T>(OnceBox<T>);

    impl<T> Cell<T> {
        pub(super) fn new() -> Self {
            Cell(OnceBox::new())
        }

        pub(super) fn set(&self, value: T) -> Result<(), T> {
            self.0.set(Box::new(value)).map_err(|value| *value)
        }

        #[inline]
        pub(super) fn get(&self) -> Option<&T> {
            self.0.get()
        }
    }
}

#[cfg(any(loom, shuttle))]
mod stand_in {
    #![expect(unsafe_code, reason = "a cell whose accesses loom checks")]

    use crate::sync::{AtomicBool, Ordering, UnsafeCell};

    pub(super) struct Cell<T> {
        is_set: AtomicBool,
        value: UnsafeCell<Option<T>>,
    }

    // SAFETY: the value is written once, before the Release store of `is_set`, and from then on only
    // read, by whoever saw that store.
    unsafe impl<T: Send + Sync> Sync for Cell<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Send for Cell<T> {}

    impl<T> Cell<T> {
        pub(super) fn new() -> Self {
            Cell { is_set: AtomicBool::new(false), value: UnsafeCell::new(None) }
        }

        pub(super) fn set(&self, value: T) -> Result<(), T> {
            if self.is_set.load(Ordering::Acquire) {
                return Err(value);
            }
            // SAFETY: nobody reads before the store below, and nobody else writes: one thread fills it.
            self.value.with_mut(|cell| unsafe { *cell = Some(value) });
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }

        pub(super) fn get(&self) -> Option<&T> {
            // Acquire: pairs with the store in `set`.
            if !self.is_set.load(Ordering::Acquire) {
                return None;
            }
            // SAFETY: the value is there, and nobody writes it any more.
            self.value.with(|cell| unsafe { (*cell).as_ref() })
        }
    }
}
