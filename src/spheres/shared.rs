//! What the spheres share without a lock: which accesses may meet is decided by the step's phases.
//!
//! Phases follow each other, each opened by the last arriver of the one before
//! ([`crate::engine::latch`]): what a phase wrote is visible to the next, and no two phases overlap.
//! Within a phase every slot and every tile is one task.
//!
//! | | phase A, evaluation | phase B | update, adoption |
//! |---|---|---|---|
//! | [`Shared`] parameters and panels | read by all | - | each range written by its tile's task |
//! | [`Phased`] slots | each written by its task | read by all | - |
//!
//! Adoption, where other ranks have updated some tiles, is a phase of its own: the control thread opens it
//! when the update has ended, and the next step when it has ended in turn.

#![expect(unsafe_code, reason = "disjoint parts of shared memory are written by several spheres")]

use crate::model::Floats;
use std::cell::UnsafeCell;
use std::ops::Range;

/// One value, written by one task of a phase or read by all of them.
#[derive(Debug)]
pub(super) struct Phased<T>(UnsafeCell<T>);

// SAFETY: the value is reached only through `read` and `write`, whose callers promise that no
// write meets another access; it is handed from thread to thread, hence `Send`, and read by
// several, hence `Sync`.
unsafe impl<T: Send + Sync> Sync for Phased<T> {}

impl<T> Phased<T> {
    /// A cell with its first value.
    pub(super) fn new(value: T) -> Self {
        Phased(UnsafeCell::new(value))
    }

    /// The value.
    ///
    /// # Safety
    /// Only in a phase in which nobody writes it.
    pub(super) unsafe fn read(&self) -> &T {
        // SAFETY: the caller promises that nobody writes meanwhile.
        unsafe { &*self.0.get() }
    }

    /// The value, for writing.
    ///
    /// # Safety
    /// Only in the one task of the phase that owns it.
    #[expect(clippy::mut_from_ref, reason = "the caller promises exclusive use")]
    pub(super) unsafe fn write(&self) -> &mut T {
        // SAFETY: the caller promises that this task alone uses the value.
        unsafe { &mut *self.0.get() }
    }
}

/// A vector that tiles own range by range: the parameters, or their panels.
#[derive(Debug)]
pub(super) struct Shared {
    /// The owner's, which is not touched again: all access is through this pointer.
    first: *mut f32,
    len: usize,
    _owner: Floats,
}

// SAFETY: `first` points into the buffer that the value owns; moving it moves no f32.
unsafe impl Send for Shared {}

// SAFETY: the values are read only through `read` and written only through `tile`, whose callers
// promise that no write meets another access to the same values.
unsafe impl Sync for Shared {}

impl Shared {
    /// Takes the first values.
    pub(super) fn new(mut values: Floats) -> Self {
        Shared { first: values.as_mut_ptr(), len: values.len(), _owner: values }
    }

    /// All values.
    ///
    /// # Safety
    /// Nothing that [`Shared::tile`] gave may be alive while the result is: only in tasks of a
    /// reading phase, or while no step is open.
    pub(super) unsafe fn read(&self) -> &[f32] {
        // SAFETY: pointer and length are the owned buffer's. The caller promises that nobody writes
        // meanwhile.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }

    /// The values in `range`, for writing.
    ///
    /// # Safety
    /// Only in the task, of an update or an adoption, of the tile that owns `range`: tiles are disjoint,
    /// each is one task, and no reading phase overlaps these.
    ///
    /// # Panics
    /// When the range lies outside.
    #[expect(clippy::mut_from_ref, reason = "the caller promises exclusive use of the range")]
    pub(super) unsafe fn tile(&self, range: Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        let first = self.first.wrapping_add(range.start);
        // SAFETY: the range lies in the owned buffer, as was just checked; the caller promises
        // exclusive use.
        unsafe { std::slice::from_raw_parts_mut(first, range.len()) }
    }
}
