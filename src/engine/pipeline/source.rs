//! Where items come from.

use super::batch::Held;
use super::batch::Traced;
use super::claim::Claim;
use super::core::{Core, Head};
use super::drive::{Hand, Me, Node};
use crate::engine::crew::catch;
use crate::engine::error::{BoxError, Cause, Payload};
use crate::sync::{Arc, Ordering, planted};
use std::time::Duration;

/// What a source says when it is asked.
///
/// ```
/// use std::time::Duration;
/// use twelvefold::engine::pipeline::{Pipeline, Pull};
///
/// let (mut asked, mut sum) = (0, 0);
/// Pipeline::source("every other time", || {
///     asked += 1;
///     match asked {
///         7.. => Pull::End,
///         odd if odd % 2 == 1 => Pull::Item(odd),
///         _ => Pull::Later(Duration::from_micros(50)),
///     }
/// })
/// .sink("sum", |item| sum += item)
/// .run()?;
/// assert_eq!(sum, 1 + 3 + 5);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull<T> {
    /// An item.
    Item(T),
    /// Nothing for now: what was given before goes on at once, and the source is asked again after this
    /// time, or when its [`Bell`](super::Bell) rings. [`Duration::MAX`]: only then.
    Later(Duration),
    /// Nothing will ever come.
    End,
}

/// How a source fills a batch.
pub(super) trait Feed<T> {
    /// Appends `wanted` items at most, looking at `stopped` every `stride` of them.
    fn fill(
        &mut self,
        items: &mut Vec<T>,
        wanted: usize,
        stride: usize,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Pull<()>, BoxError>;
}

/// An iterator.
#[derive(Debug)]
pub(super) struct Iter<I>(pub(super) I);

impl<I: Iterator> Feed<I::Item> for Iter<I> {
    fn fill(
        &mut self,
        items: &mut Vec<I::Item>,
        wanted: usize,
        stride: usize,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Pull<()>, BoxError> {
        items.reserve(wanted);
        while items.len() < wanted && !stopped() {
            let (before, some) = (items.len(), stride.min(wanted - items.len()));
            items.extend(self.0.by_ref().take(some));
            if items.len() - before < some {
                return Ok(Pull::End);
            }
        }
        Ok(Pull::Item(()))
    }
}

/// A function that is asked item by item.
#[derive(Debug)]
pub(super) struct Asked<F>(pub(super) F);

impl<T, E: Into<BoxError>, F: FnMut() -> Result<Pull<T>, E>> Feed<T> for Asked<F> {
    fn fill(
        &mut self,
        items: &mut Vec<T>,
        wanted: usize,
        _stride: usize,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Pull<()>, BoxError> {
        while items.len() < wanted && !stopped() {
            match (self.0)().map_err(Into::into)? {
                Pull::Item(item) => items.push(item),
                Pull::Later(wait) => return Ok(Pull::Later(wait)),
                Pull::End => return Ok(Pull::End),
            }
        }
        Ok(Pull::Item(()))
    }
}

/// The source as a stage.
pub(super) struct Source<'env, T, F> {
    out: Arc<Traced<'env, T>>,
    state: Claim<State<F>>,
}

struct State<F> {
    feed: F,
    /// Tokens that wait for items, the one that came back last on top: its buffers are warm.
    spare: Vec<Held>,
    made: u64,
    position: u64,
    batch: u64,
    ended: bool,
}

/// A batch takes its dearest stage about this long, so that what a batch costs is little beside it and
/// no worker is left alone with a long one.
const BATCH_NS: u64 = 50_000;

impl<'env, T: Send, F: Feed<T> + Send> Source<'env, T, F> {
    pub(super) fn new(feed: F, out: Arc<Traced<'env, T>>) -> Self {
        let state = State { feed, spare: Vec::new(), made: 0, position: 0, batch: 0, ended: false };
        Source { out, state: Claim::new(state) }
    }

    /// Gives one batch.
    fn give(&self, me: &Me<'_>, worker: usize, state: &mut State<F>) -> bool {
        let core = me.core;
        state.spare.extend(std::iter::from_fn(|| core.reclaim()));
        // Before the look: what has just been reclaimed is on no track any more. Relaxed: this thread's
        // own look; for others a hint, as `Core::room` is.
        core.spare.store(state.spare.len(), Ordering::Relaxed);
        let room = core.room();
        if state.ended || !core.admits() || room == 0 {
            return false;
        }
        let Some(mut held) = state.spare.pop() else { return false };
        if !core.reserve(0) {
            state.spare.push(held);
            return false;
        }
        core.spare.store(state.spare.len(), Ordering::Relaxed);
        let wanted = core.items_for(BATCH_NS).min((2 * state.batch).max(1)).min(room);
        me.before(core.estimate(0, wanted), Some(0));
        core.gate.ask();
        let batch = self.out.column.at(&mut held);
        let stopped = || core.is_source_stopped();
        let stride = me.stride(core.estimate(0, 1));
        let items = &mut batch.items;
        let result = catch(|| state.feed.fill(items, wanted as usize, stride, &stopped));
        let given = batch.items.len() as u64;
        let meter = &core.posts[0].meters[worker];
        if given > 0 || !matches!(result, Ok(Ok(_))) {
            batch.stamp = meter.makes(given, me.salt(0));
        }
        meter.took(given, 0);
        core.set_head(&mut held, Head { first: state.made, len: given });
        state.made += given;
        // Relaxed: see `Core::room`.
        core.admitted.store(state.made, Ordering::Relaxed);
        let cause = match result {
            Ok(Ok(said)) => {
                meter.ended(given, 0, 0);
                self.pass_on(core, state, held, given);
                state.batch = wanted;
                match said {
                    Pull::Item(()) => {}
                    Pull::Later(wait) => core.postpone(wait),
                    Pull::End => {
                        state.ended = true;
                        core.close(state.position);
                    }
                }
                me.worked(0, worker, given);
                return true;
            }
            Ok(Err(error)) => Cause::Error(error),
            Err(payload) => Cause::Panic(Payload::new(payload)),
        };
        meter.took(1, 0);
        meter.ended(given, 1, 0);
        state.ended = true;
        me.fault((0, worker), (state.position, state.made), Some(state.made), cause);
        // What came before goes on. It may be nothing: the sink is told all the same.
        core.publish(0, Some(state.position), held, given);
        true
    }

    fn pass_on(&self, core: &Core, state: &mut State<F>, held: Held, given: u64) {
        if given > 0 {
            if !planted("source.publish") {
                core.publish(0, Some(state.position), held, given);
            }
            state.position += 1;
        } else {
            core.unreserve(0);
            state.spare.push(held);
            core.spare.store(state.spare.len(), Ordering::Relaxed);
        }
    }
}

impl<T: Send, F: Feed<T> + Send> Node for Source<'_, T, F> {
    fn allocate(&self, core: &Core, tokens: &mut Vec<Held>) {
        self.out.column.allocate(core.all());
        if let Some(mut state) = self.state.acquire() {
            state.with(|state| {
                // Lowest on top.
                state.spare = std::mem::take(tokens);
                state.spare.reverse();
            });
        }
    }

    fn hand<'a>(&'a self, worker: usize) -> Box<dyn Hand + 'a> {
        Box::new(SourceHand { source: self, worker })
    }

    fn is_ready(&self, core: &Core) -> bool {
        core.admits()
    }

    fn sweep(&self, _held: &mut Held) -> (u64, u64) {
        (0, 0)
    }
}

struct SourceHand<'a, T, F> {
    source: &'a Source<'a, T, F>,
    worker: usize,
}

impl<T: Send, F: Feed<T> + Send> Hand for SourceHand<'_, T, F> {
    fn step(&mut self, me: &Me<'_>) -> bool {
        if !me.core.admits() {
            return false;
        }
        let Some(mut state) = self.source.state.acquire() else { return false };
        let worked = state.with(|state| self.source.give(me, self.worker, state));
        // In vain or not: others may have passed the source because it was claimed, or its last token
        // just reclaimed.
        worked || !planted("source.in_vain")
    }
}
