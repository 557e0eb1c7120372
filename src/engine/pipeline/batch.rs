//! Tokens, and the batches that they carry.
//!
//! A column holds one batch a token for one edge. [`Held`] is the right to a token: whoever has it is
//! alone with the token's batches in every column. It is moved, never copied; a [`Track`] hands it on.
//!
//! [`Track`]: super::track::Track

#![expect(
    unsafe_code,
    reason = "cells that the possession of a token guards, and items read in place"
)]

use crate::sync::UnsafeCell;
use std::sync::OnceLock;
use std::vec::Drain;

/// The right to one token of a run.
#[derive(Debug)]
pub(super) struct Held(u32);

impl Held {
    /// The right to token `id`.
    ///
    /// # Safety
    /// There is no other `Held` of this token in the run, on a track or in a thread's hands, and what
    /// its last holder did happens before this.
    pub(super) unsafe fn mint(id: u32) -> Self {
        Held(id)
    }

    pub(super) fn id(&self) -> usize {
        self.0 as usize
    }

    pub(super) fn into_id(self) -> u32 {
        self.0
    }
}

/// What a token carries on one edge.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) items: Vec<T>,
    /// Where an item of the edge before may have become none or several: the number of items here
    /// after each of those. Empty where each became one.
    pub(super) ends: Vec<u32>,
    /// A number of this very publication, for the ledger; 0 once taken.
    pub(super) stamp: u64,
}

impl<T> Batch<T> {
    const fn new() -> Self {
        Batch { items: Vec::new(), ends: Vec::new(), stamp: 0 }
    }
}

/// Gives the next `limit` items to `work` one by one, until one fails.
///
/// Items that need no drop are read by an index that lives in a register; those that `work` does not
/// get to, because it fails or panics, are gone, which for such items is all that a drop would do.
#[inline]
pub(super) fn each<T, E>(
    items: &mut Drain<'_, T>,
    limit: usize,
    mut work: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    if std::mem::needs_drop::<T>() {
        return items.by_ref().take(limit).try_for_each(work);
    }
    let count = limit.min(items.len());
    let first = items.as_slice().as_ptr();
    // The drain moves on first: it never gives these items out itself.
    items.by_ref().take(count).for_each(drop);
    for index in 0..count {
        // SAFETY: `index` is below the number of items that stood here, and the vector's memory stays
        // as it is until the drain ends.
        let item = unsafe { first.add(index) };
        // SAFETY: the item is initialised, and is read once: the drain has passed it, and dropping
        // it there did nothing.
        work(unsafe { item.read() })?;
    }
    Ok(())
}

/// One edge's batches, a token each.
#[derive(Debug)]
pub(super) struct Column<T> {
    cells: OnceLock<Box<[UnsafeCell<Batch<T>>]>>,
}

// SAFETY: a cell is reached only with the `Held` of its token, which one thread has at a time and which
// is handed on with Release and Acquire. Items move between threads, hence `T: Send`.
unsafe impl<T: Send> Sync for Column<T> {}

impl<T> Column<T> {
    pub(super) const fn new() -> Self {
        Column { cells: OnceLock::new() }
    }

    /// Makes the cells; before the first thread starts.
    pub(super) fn allocate(&self, tokens: usize) {
        let made = self.cells.set((0..tokens).map(|_| UnsafeCell::new(Batch::new())).collect());
        assert!(made.is_ok(), "a pipeline runs once");
    }

    fn cell(&self, held: &Held) -> &UnsafeCell<Batch<T>> {
        &self.cells.get().expect("the cells are made before the threads")[held.id()]
    }

    /// The token's batch.
    pub(super) fn at<'a>(&'a self, held: &'a mut Held) -> &'a mut Batch<T> {
        // SAFETY: `held` is the one right to this token, and it is borrowed for as long as the batch.
        self.cell(held).with_mut(|batch| unsafe { &mut *batch })
    }

    /// The token's batches in two columns.
    pub(super) fn pair<'a, U>(
        &'a self,
        other: &'a Column<U>,
        held: &'a mut Held,
    ) -> (&'a mut Batch<T>, &'a mut Batch<U>) {
        assert!(
            !std::ptr::addr_eq(std::ptr::from_ref(self), std::ptr::from_ref(other)),
            "a stage reads one edge and writes another"
        );
        // SAFETY: as in `at`.
        let first = self.cell(held).with_mut(|batch| unsafe { &mut *batch });
        // SAFETY: as in `at`; another column, so another cell.
        let second = other.cell(held).with_mut(|batch| unsafe { &mut *batch });
        (first, second)
    }
}

/// Maps an item of a batch back to the source's item that it came from.
pub(super) trait Origin: Send + Sync {
    /// The index in the source's batch of what became item `index` here.
    fn source_index(&self, held: &mut Held, index: usize) -> usize;
}

/// An edge's column and what came before it.
pub(super) struct Traced<'env, T> {
    pub(super) column: Column<T>,
    pub(super) before: Option<std::sync::Arc<dyn Origin + 'env>>,
}

impl<T: Send> Origin for Traced<'_, T> {
    fn source_index(&self, held: &mut Held, index: usize) -> usize {
        let Some(before) = &self.before else { return index };
        let ends = &self.column.at(held).ends;
        let index = if ends.is_empty() {
            index
        } else {
            ends.partition_point(|&end| end as usize <= index)
        };
        before.source_index(held, index)
    }
}
