//! What runs tasks: a thread of the pool, or the thread that waits for a step.

use super::{Job, Worker};
use crate::engine::crew::{Seat, catch};
use crate::engine::error::{BoxError, Cause, Payload};
use crate::engine::pool::{Helper, Leaf, Publisher};
use std::cell::Cell;

/// The body of a thread: runs tasks until the pool ends.
pub(super) fn work<T: Send, S>(
    mut leaf: Leaf<Job<T>>,
    seat: &Seat,
    limit: usize,
    init: &impl Fn(usize) -> S,
    run: &impl Fn(&mut Worker<'_, T, S>, T) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    let mut state = init(leaf.id());
    while let Some(Job { number, task }) = leaf.claim() {
        seat.at(number);
        run(&mut Worker { state: &mut state, leaf: &leaf, limit }, task)?;
        leaf.done();
    }
    Ok(())
}

/// The end that hands out steps and waits for them.
pub(super) trait Side<T> {
    /// Opens a step; the one before is complete.
    fn publish(&mut self, tasks: &mut dyn ExactSizeIterator<Item = Job<T>>);

    /// Waits until the step is complete or the pool stopped. The error is a fault of this thread's
    /// own, with the number of its task.
    fn wait(&mut self) -> Result<(), (u64, Cause)>;

    /// Whether the step is complete.
    fn is_complete(&self) -> bool;
}

/// Sleeps while it waits.
pub(super) struct Sleeping<T>(pub(super) Publisher<Job<T>>);

impl<T: Send> Side<T> for Sleeping<T> {
    fn publish(&mut self, tasks: &mut dyn ExactSizeIterator<Item = Job<T>>) {
        self.0.publish(tasks);
    }

    fn wait(&mut self) -> Result<(), (u64, Cause)> {
        self.0.wait();
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }
}

/// Runs tasks while it waits.
pub(super) struct Helping<T, S, F> {
    pub(super) helper: Helper<Job<T>>,
    pub(super) state: S,
    pub(super) limit: usize,
    pub(super) run: F,
}

impl<T, S, F> Side<T> for Helping<T, S, F>
where
    T: Send,
    F: Fn(&mut Worker<'_, T, S>, T) -> Result<(), BoxError>,
{
    fn publish(&mut self, tasks: &mut dyn ExactSizeIterator<Item = Job<T>>) {
        self.helper.publish(tasks);
    }

    fn wait(&mut self) -> Result<(), (u64, Cause)> {
        let Helping { helper, state, limit, run } = self;
        let at = Cell::new(0);
        let cause = match catch(|| {
            while let Some(Job { number, task }) = helper.claim() {
                at.set(number);
                run(&mut Worker { state, leaf: helper.leaf(), limit: *limit }, task)?;
                helper.done();
            }
            Ok(())
        }) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Cause::Error(error),
            Err(payload) => Cause::Panic(Payload::new(payload)),
        };
        Err((at.get(), cause))
    }

    fn is_complete(&self) -> bool {
        self.helper.is_complete()
    }
}
