//! What a stage does with one batch.

use super::batch::{Batch, each};
use super::core::Core;
use crate::engine::error::BoxError;
use std::vec::Drain;

/// A stage's own work on a batch. A batch is left early where the run is stopped, or where an item
/// fails; what is left in `items` is then abandoned.
pub(super) trait Body<T> {
    type Output;
    /// Whether every item that is done has become exactly one.
    const ONE_TO_ONE: bool = false;
    /// Whether an item that fails may have sent something already, which then is behind the last end.
    const SENDS: bool = false;

    /// Works on `items` one by one, and counts in `run`.
    fn run(
        &mut self,
        items: &mut Drain<'_, T>,
        out: &mut Batch<Self::Output>,
        run: &mut Run<'_>,
    ) -> Result<(), BoxError>;

    /// What the worker still has to say when no item will come.
    fn finish(
        &mut self,
        _out: &mut Batch<Self::Output>,
        _run: &mut Run<'_>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

/// How far a worker has come in its batch.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) core: &'a Core,
    /// The source's number of the first item.
    pub(super) first: u64,
    /// Whether the items here are the source's own, one for one.
    pub(super) exact: bool,
    pub(super) done: usize,
    /// Failures, where they are collected: the item's index, and its error.
    pub(super) failures: Vec<(usize, BoxError)>,
    pub(super) collects: bool,
    pub(super) bytes: u64,
    /// Items between two looks at the run's state, where a body can work on several at once.
    pub(super) stride: usize,
}

impl Run<'_> {
    /// Whether to leave the batch before its next item.
    #[inline]
    fn is_stopped(&self) -> bool {
        let index = self.done + self.failures.len();
        self.core.is_stopped_at(if self.exact { self.first + index as u64 } else { self.first })
    }

    /// An item has failed: `Err` ends the run.
    fn refuse(&mut self, error: BoxError) -> Result<(), BoxError> {
        if !self.collects {
            return Err(error);
        }
        self.failures.push((self.done + self.failures.len(), error));
        Ok(())
    }
}

/// Counts items done, and tells the run in the end.
struct Done<'a, 'b> {
    run: &'a mut Run<'b>,
    count: usize,
}

impl Done<'_, '_> {
    #[cold]
    fn refuse(&mut self, error: BoxError) -> Result<(), BoxError> {
        self.run.done += std::mem::take(&mut self.count);
        self.run.refuse(error)
    }
}

impl Drop for Done<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        self.run.done += self.count;
    }
}

/// One item in, one out.
#[derive(Debug)]
pub(super) struct Map<F>(pub(super) F);

impl<T, U, F: FnMut(T) -> U> Body<T> for Map<F> {
    type Output = U;
    const ONE_TO_ONE: bool = true;

    #[inline]
    fn run(
        &mut self,
        items: &mut Drain<'_, T>,
        out: &mut Batch<U>,
        run: &mut Run<'_>,
    ) -> Result<(), BoxError> {
        while items.len() > 0 {
            run.done = out.items.len();
            if run.is_stopped() {
                break;
            }
            // The length is known, so this writes without looking for room; where the function panics,
            // the batch holds what was done before.
            out.items.extend(items.by_ref().take(run.stride).map(&mut self.0));
        }
        Ok(())
    }
}

/// One item in, one out or an error.
#[derive(Debug)]
pub(super) struct TryMap<F>(pub(super) F);

impl<T, U, E: Into<BoxError>, F: FnMut(T) -> Result<U, E>> Body<T> for TryMap<F> {
    type Output = U;

    fn run(
        &mut self,
        items: &mut Drain<'_, T>,
        out: &mut Batch<U>,
        run: &mut Run<'_>,
    ) -> Result<(), BoxError> {
        while items.len() > 0 && !run.is_stopped() {
            let Some(item) = items.next() else { break };
            match (self.0)(item) {
                Ok(made) => {
                    out.items.push(made);
                    run.done += 1;
                }
                Err(error) => run.refuse(error.into())?,
            }
            if run.collects {
                out.ends.push(out.items.len() as u32);
            }
        }
        Ok(())
    }
}

/// Where a stage puts what it makes of an item.
///
/// ```
/// use twelvefold::engine::pipeline::Pipeline;
///
/// let mut words = Vec::new();
/// Pipeline::from_iter("lines", ["to be", "or not"])
///     .flat_map("split", |line, out| line.split(' ').for_each(|word| out.send(word)))
///     .sink("gather", |word| words.push(word))
///     .run()?;
/// assert_eq!(words, ["to", "be", "or", "not"]);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug)]
pub struct Out<'a, U> {
    items: &'a mut Vec<U>,
    bytes: &'a mut u64,
}

impl<U> Out<'_, U> {
    /// Gives an item to the next stage.
    #[inline]
    pub fn send(&mut self, item: U) {
        self.items.push(item);
    }

    /// Counts `bytes` as worked on by this stage, for [`WorkerCount::bytes`](super::WorkerCount::bytes).
    ///
    /// ```
    /// # use twelvefold::engine::pipeline::Pipeline;
    /// let report = Pipeline::from_iter("lines", ["to be", "or not"])
    ///     .flat_map("split", |line, out| {
    ///         out.count_bytes(line.len() as u64); // For the throughput in bytes.
    ///         line.split(' ').for_each(|word| out.send(word));
    ///     })
    ///     .sink("drop", drop)
    ///     .run()?;
    /// assert_eq!(report.ledger.flow.stages[1].total().bytes, 11);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    #[inline]
    pub fn count_bytes(&mut self, bytes: u64) {
        *self.bytes += bytes;
    }
}

/// One item in, any number out.
#[derive(Debug)]
pub(super) struct FlatMap<F, U>(pub(super) F, pub(super) std::marker::PhantomData<fn() -> U>);

impl<T, U, F: FnMut(T, &mut Out<'_, U>)> Body<T> for FlatMap<F, U> {
    type Output = U;
    const SENDS: bool = true;

    fn run(
        &mut self,
        items: &mut Drain<'_, T>,
        out: &mut Batch<U>,
        run: &mut Run<'_>,
    ) -> Result<(), BoxError> {
        while items.len() > 0 && !run.is_stopped() {
            let Some(item) = items.next() else { break };
            (self.0)(item, &mut Out { items: &mut out.items, bytes: &mut run.bytes });
            out.ends.push(out.items.len() as u32);
            run.done += 1;
        }
        Ok(())
    }
}

/// A stage with a state of its own.
///
/// ```
/// use twelvefold::engine::BoxError;
/// use twelvefold::engine::pipeline::{Out, Pipeline, Stage};
///
/// /// Adds neighbours in pairs; an odd one at the end is left alone.
/// #[derive(Default)]
/// struct Pairs(Option<u32>);
///
/// impl Stage<u32> for Pairs {
///     type Output = u32;
///
///     fn process(&mut self, item: u32, out: &mut Out<'_, u32>) -> Result<(), BoxError> {
///         match self.0.take() {
///             None => self.0 = Some(item),
///             Some(first) => out.send(first.checked_add(item).ok_or("the sum is too large")?),
///         }
///         Ok(())
///     }
///
///     fn finish(&mut self, out: &mut Out<'_, u32>) -> Result<(), BoxError> {
///         self.0.take().into_iter().for_each(|item| out.send(item));
///         Ok(())
///     }
/// }
///
/// let mut sums = Vec::new();
/// Pipeline::from_iter("numbers", 1..=5)
///     .serial("pairs", Pairs::default())
///     .sink("gather", |sum| sums.push(sum))
///     .run()?;
/// assert_eq!(sums, [3, 7, 5]);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
pub trait Stage<T> {
    /// What it gives to the next stage.
    type Output;

    /// Works on one item, and gives away any number.
    ///
    /// # Errors
    /// Whatever is wrong with the item. It ends the run, and what was sent for this item is dropped;
    /// or it is collected ([`OnError`](super::OnError)), and what was sent goes on.
    fn process(&mut self, item: T, out: &mut Out<'_, Self::Output>) -> Result<(), BoxError>;

    /// Called once, after the last item that this worker gets: what is still held goes out here. Not
    /// called where the run ends before its time.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn finish(&mut self, out: &mut Out<'_, Self::Output>) -> Result<(), BoxError> {
        let _ = out;
        Ok(())
    }
}

/// A [`Stage`]'s work.
#[derive(Debug)]
pub(super) struct Staged<S>(pub(super) S);

impl<T, S: Stage<T>> Body<T> for Staged<S> {
    type Output = S::Output;
    const SENDS: bool = true;

    fn run(
        &mut self,
        items: &mut Drain<'_, T>,
        out: &mut Batch<S::Output>,
        run: &mut Run<'_>,
    ) -> Result<(), BoxError> {
        while items.len() > 0 && !run.is_stopped() {
            let Some(item) = items.next() else { break };
            let mut sends = Out { items: &mut out.items, bytes: &mut run.bytes };
            match self.0.process(item, &mut sends) {
                Ok(()) => run.done += 1,
                Err(error) => run.refuse(error)?,
            }
            out.ends.push(out.items.len() as u32);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Batch<S::Output>, run: &mut Run<'_>) -> Result<(), BoxError> {
        self.0.finish(&mut Out { items: &mut out.items, bytes: &mut run.bytes })
    }
}

/// The end of a pipeline.
#[derive(Debug)]
pub(super) struct Sink<F>(pub(super) F);

impl<T, E: Into<BoxError>, F: FnMut(T) -> Result<(), E>> Body<T> for Sink<F> {
    type Output = ();

    fn run(
        &mut self,
        items: &mut Drain<'_, T>,
        _out: &mut Batch<()>,
        run: &mut Run<'_>,
    ) -> Result<(), BoxError> {
        while items.len() > 0 && !run.is_stopped() {
            // Counted in a register, and written down also on the way out of a panic.
            let mut done = Done { run, count: 0 };
            each(items, done.run.stride, |item| match (self.0)(item) {
                Ok(()) => {
                    done.count += 1;
                    Ok(())
                }
                Err(error) => done.refuse(error.into()),
            })?;
        }
        Ok(())
    }
}
