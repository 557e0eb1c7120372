//! Stages between the source and the end: several workers side by side, or one after the other.

use super::batch::{Batch, Column, Held, Traced};
use super::claim::Claim;
use super::core::{Core, Head, NO_ITEM};
use super::drive::{Hand, Me, Node};
use super::work::{Body, Run};
use crate::engine::crew::catch;
use crate::engine::drop_guarded;
use crate::engine::error::{BoxError, Cause, Payload};
use crate::sync::{Arc, AtomicBool, Ordering, fence, planted};
use std::marker::PhantomData;

/// A stage's place: what it reads and writes, whoever steps it.
pub(super) struct Place<'env, T, U> {
    /// The number of the stage; it reads edge `stage - 1` and writes edge `stage`.
    pub(super) stage: usize,
    pub(super) input: Arc<Traced<'env, T>>,
    /// None for the end of the pipeline.
    pub(super) output: Option<Arc<Traced<'env, U>>>,
    pub(super) ordered: bool,
    pub(super) exact: bool,
    /// The stage's number, where one thread at a time steps it.
    pub(super) claimed: Option<usize>,
    /// Whether each worker makes a batch of itself at the end.
    pub(super) says_goodbye: bool,
    nothing: Column<U>,
}

impl<'env, T: Send, U: Send> Place<'env, T, U> {
    pub(super) fn new(
        stage: usize,
        input: Arc<Traced<'env, T>>,
        output: Option<Arc<Traced<'env, U>>>,
    ) -> Self {
        Place {
            stage,
            input,
            output,
            ordered: true,
            exact: true,
            claimed: None,
            says_goodbye: false,
            nothing: Column::new(),
        }
    }

    fn out(&self) -> &Column<U> {
        self.output.as_ref().map_or(&self.nothing, |output| &output.column)
    }

    fn allocate(&self, core: &Core) {
        self.out().allocate(core.all());
    }

    fn reserve(&self, core: &Core) -> bool {
        self.output.is_none() || core.reserve(self.stage)
    }

    fn has_room(&self, core: &Core) -> bool {
        self.output.is_none() || core.has_room(self.stage)
    }

    /// Whether a token could be taken now, as far as loads can tell.
    fn is_ready(&self, core: &Core) -> bool {
        let track = &core.lanes[self.stage - 1].track;
        track.is_ready() && !core.is_cut(track.position()) && self.has_room(core)
    }

    /// Takes the next token, with room for what becomes of it.
    fn take(&self, core: &Core) -> Option<(u64, Held)> {
        if !self.is_ready(core) || !self.reserve(core) {
            return None;
        }
        let taken = core.lanes[self.stage - 1].track.take();
        if taken.is_none() && self.output.is_some() {
            core.unreserve(self.stage);
        }
        if let Some((position, _)) = &taken
            && self.says_goodbye
        {
            self.look_for_the_end(core, *position);
        }
        taken
    }

    /// The token at `position` has been taken: where it was the last, each worker has a batch of its own
    /// to make, and may sleep.
    fn look_for_the_end(&self, core: &Core, position: u64) {
        // A worker that found no room for this token sleeps, although the source has ended. It may be
        // ending just now, and wakes all, too. Orders the taking before the look at the end: either that
        // look sees it, or whom the source wakes sees the taking.
        if !planted("node.goodbye.fence") {
            fence(Ordering::SeqCst);
        }
        if position + 1 == core.end(self.stage - 1) && !planted("node.goodbye.wake") {
            core.gate.sleepers.wake_all();
        }
    }

    /// Whether all that will ever come has been taken.
    fn is_exhausted(&self, core: &Core) -> bool {
        core.lanes[self.stage - 1].track.position() >= core.end(self.stage - 1)
    }

    /// Works on one token and hands it on, also where an item fails: with what was made before it.
    fn work<B: Body<T, Output = U>>(
        &self,
        me: &Me<'_>,
        worker: usize,
        body: Manned<'_, B>,
        (position, mut held): (u64, Held),
    ) {
        let core = me.core;
        let head = core.head(&held);
        let cost = core.estimate(self.stage, head.len);
        me.before(cost, self.claimed);
        let mut run = self.run(me, head);
        run.stride = me.stride(cost / head.len.max(1));
        let (input, output) = self.input.column.pair(self.out(), &mut held);
        let taken = input.items.len() as u64;
        core.took(self.stage - 1, taken);
        let meter = &core.posts[self.stage].meters[worker];
        meter.took(taken, std::mem::take(&mut input.stamp));
        output.items.clear();
        output.ends.clear();
        let mut items = input.items.drain(..);
        // Where there is no body, no item was touched.
        let touched = body.is_ok();
        let result = body.and_then(|body| catch(|| body.run(&mut items, output, &mut run)));
        if B::ONE_TO_ONE {
            run.done = output.items.len();
        }
        items.for_each(drop_guarded);
        let index = run.done + run.failures.len();
        let broke = !matches!(result, Ok(Ok(())));
        if broke && B::SENDS {
            cut_short(output);
        }
        let lost = u64::from(broke && touched);
        let left = taken - index as u64 - lost;
        meter.ended(run.done as u64, run.failures.len() as u64 + lost, left);
        self.settle(
            me,
            (worker, position),
            &mut run,
            &mut held,
            (result, touched.then_some(index)),
        );
        self.pass_on(core, position, held);
        me.worked(self.stage, worker, head.len);
    }

    fn run<'a>(&self, me: &Me<'a>, head: Head) -> Run<'a> {
        Run {
            core: me.core,
            first: head.first,
            exact: self.exact,
            done: 0,
            failures: Vec::new(),
            collects: me.collects(),
            bytes: 0,
            stride: 1,
        }
    }

    /// Counts what was made, and reports what went wrong: at the item with that index, if at one.
    fn settle(
        &self,
        me: &Me<'_>,
        (worker, position): (usize, u64),
        run: &mut Run<'_>,
        held: &mut Held,
        (result, index): (std::thread::Result<Result<(), BoxError>>, Option<usize>),
    ) {
        let meter = &me.core.posts[self.stage].meters[worker];
        if run.bytes > 0 {
            meter.bytes(run.bytes);
        }
        let number = |held: &mut Held, index| {
            let head = me.core.head(held);
            let source = super::batch::Origin::source_index(&*self.input, held, index) as u64;
            (head.first != NO_ITEM).then(|| head.first + source.min(head.len.saturating_sub(1)))
        };
        for (index, error) in run.failures.drain(..) {
            let item = number(held, index);
            me.failure(self.stage, item, error);
        }
        if self.output.is_some() {
            let output = self.out().at(held);
            output.stamp = meter.makes(output.items.len() as u64, me.salt(self.stage));
        }
        let cause = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => Cause::Error(error),
            Err(payload) => Cause::Panic(Payload::new(payload)),
        };
        let item = index.and_then(|index| number(held, index));
        let first = me.core.head(held).first;
        me.fault((self.stage, worker), (position, first), item, cause);
    }

    fn pass_on(&self, core: &Core, position: u64, mut held: Held) {
        if self.output.is_none() {
            core.retire(held);
            if position >= core.cutoff.position() {
                // Nothing is left that could still fail before what has failed.
                core.finish();
            }
        } else if !planted("node.publish") {
            let items = self.out().at(&mut held).items.len() as u64;
            core.publish(self.stage, self.ordered.then_some(position), held, items);
        }
    }

    /// What a worker still holds, after its last item.
    fn say_goodbye<B: Body<T, Output = U>>(
        &self,
        me: &Me<'_>,
        worker: usize,
        body: Manned<'_, B>,
        (position, mut held): (u64, Held),
    ) {
        let core = me.core;
        let head = Head { first: NO_ITEM, len: 0 };
        core.set_head(&mut held, head);
        if self.output.is_some() {
            core.reserve_anyway(self.stage);
        }
        let mut run = self.run(me, head);
        let output: &mut Batch<U> = self.out().at(&mut held);
        let result = body.and_then(|body| catch(|| body.finish(output, &mut run)));
        if !matches!(result, Ok(Ok(()))) {
            cut_short(output);
        }
        self.settle(me, (worker, position), &mut run, &mut held, (result, None));
        self.pass_on(core, position, held);
        me.worked(self.stage, worker, 0);
    }

    /// The position of the last batch that worker `nth` makes, unless it is not needed.
    fn farewell(&self, core: &Core, nth: usize) -> Option<(u64, Held)> {
        let position = core.end(self.stage - 1) + nth as u64;
        if core.is_cut(position) {
            return None;
        }
        core.farewell(self.stage).map(|held| (position, held))
    }

    fn sweep(&self, held: &mut Held) -> (u64, u64) {
        let batch = self.input.column.at(held);
        let left = batch.items.len() as u64;
        batch.items.drain(..).for_each(drop_guarded);
        (left, std::mem::take(&mut batch.stamp))
    }
}

/// A worker's body, or what its making ended in.
type Manned<'a, B> = std::thread::Result<&'a mut B>;

/// Drops what the call that failed last has sent.
fn cut_short<U>(output: &mut Batch<U>) {
    let whole = output.ends.last().map_or(0, |&end| end as usize);
    output.items.drain(whole..).for_each(drop_guarded);
}

/// Workers side by side, each with a body of its own that was made on its thread.
pub(super) struct Parallel<'env, T, U, B, M> {
    place: Place<'env, T, U>,
    make: M,
    bodies: PhantomData<fn() -> B>,
}

impl<'env, T, U, B, M: Fn(usize) -> B> Parallel<'env, T, U, B, M> {
    pub(super) fn new(place: Place<'env, T, U>, make: M) -> Self {
        Parallel { place, make, bodies: PhantomData }
    }
}

impl<T, U, B, M> Node for Parallel<'_, T, U, B, M>
where
    T: Send,
    U: Send,
    B: Body<T, Output = U>,
    M: Fn(usize) -> B + Send + Sync,
{
    fn allocate(&self, core: &Core, _tokens: &mut Vec<Held>) {
        self.place.allocate(core);
    }

    fn hand<'a>(&'a self, worker: usize) -> Box<dyn Hand + 'a> {
        Box::new(ParallelHand { node: self, worker, body: None, said: false })
    }

    fn is_ready(&self, core: &Core) -> bool {
        self.place.is_ready(core)
    }

    fn sweep(&self, held: &mut Held) -> (u64, u64) {
        self.place.sweep(held)
    }
}

struct ParallelHand<'a, T, U, B, M> {
    node: &'a Parallel<'a, T, U, B, M>,
    worker: usize,
    body: Option<B>,
    said: bool,
}

impl<T, U, B, M> ParallelHand<'_, T, U, B, M>
where
    T: Send,
    U: Send,
    B: Body<T, Output = U>,
    M: Fn(usize) -> B + Send + Sync,
{
    /// The body, made if it is not there.
    fn man(&mut self) -> Manned<'_, B> {
        match &mut self.body {
            Some(body) => Ok(body),
            none => catch(|| (self.node.make)(self.worker)).map(|body| none.insert(body)),
        }
    }
}

impl<T, U, B, M> Hand for ParallelHand<'_, T, U, B, M>
where
    T: Send,
    U: Send,
    B: Body<T, Output = U>,
    M: Fn(usize) -> B + Send + Sync,
{
    fn step(&mut self, me: &Me<'_>) -> bool {
        let (node, core) = (self.node, me.core);
        if !node.is_ready(core) {
            if !node.place.says_goodbye || self.said || !node.place.is_exhausted(core) {
                return false;
            }
            self.said = true;
            let Some(farewell) = node.place.farewell(core, self.worker) else { return false };
            let worker = self.worker;
            node.place.say_goodbye(me, worker, self.man(), farewell);
            return true;
        }
        let Some(taken) = node.place.take(core) else {
            // Somebody was faster. Room was reserved meanwhile, which others may have missed.
            return !planted("node.parallel.in_vain");
        };
        let worker = self.worker;
        node.place.work(me, worker, self.man(), taken);
        true
    }
}

impl<T, U, B, M> Drop for ParallelHand<'_, T, U, B, M> {
    fn drop(&mut self) {
        drop_guarded(self.body.take());
    }
}

/// One body that any of the stage's threads steps, one at a time and in order; the end of the pipeline
/// is one of these.
pub(super) struct Serial<'env, T, U, B> {
    pub(super) place: Place<'env, T, U>,
    pub(super) body: Claim<B>,
    /// Whether it has ended; written by the claim's holder.
    pub(super) over: AtomicBool,
}

impl<T, U, B> Serial<'_, T, U, B>
where
    T: Send,
    U: Send,
    B: Body<T, Output = U> + Send,
{
    /// Whether the end is all that is left to do. Relaxed: a hint, which the claim makes certain.
    fn is_at_the_end(&self, core: &Core) -> bool {
        (self.place.says_goodbye || self.place.output.is_none())
            && !self.over.load(Ordering::Relaxed)
            && self.place.is_exhausted(core)
    }

    fn work(&self, me: &Me<'_>, worker: usize, body: &mut B) -> bool {
        let core = me.core;
        if let Some(taken) = self.place.take(core) {
            self.place.work(me, worker, Ok(body), taken);
            return true;
        }
        // Whoever held the claim before may have left the last batch because of a cancel, which the
        // claim has made visible here: that is not the end.
        if !self.is_at_the_end(core) || core.shutdown.is_stopped() {
            return false;
        }
        self.over.store(true, Ordering::Relaxed);
        if self.place.says_goodbye
            && let Some(farewell) = self.place.farewell(core, 0)
        {
            self.place.say_goodbye(me, worker, Ok(body), farewell);
        }
        if self.place.output.is_none() {
            core.finish();
        }
        true
    }
}

impl<T, U, B> Node for Serial<'_, T, U, B>
where
    T: Send,
    U: Send,
    B: Body<T, Output = U> + Send,
{
    fn allocate(&self, core: &Core, _tokens: &mut Vec<Held>) {
        self.place.allocate(core);
    }

    fn hand<'a>(&'a self, worker: usize) -> Box<dyn Hand + 'a> {
        Box::new(SerialHand { node: self, worker })
    }

    fn is_ready(&self, core: &Core) -> bool {
        self.place.is_ready(core)
    }

    fn sweep(&self, held: &mut Held) -> (u64, u64) {
        self.place.sweep(held)
    }
}

struct SerialHand<'a, T, U, B> {
    node: &'a Serial<'a, T, U, B>,
    worker: usize,
}

impl<T, U, B> Hand for SerialHand<'_, T, U, B>
where
    T: Send,
    U: Send,
    B: Body<T, Output = U> + Send,
{
    fn step(&mut self, me: &Me<'_>) -> bool {
        if !self.node.is_ready(me.core) && !self.node.is_at_the_end(me.core) {
            return false;
        }
        let Some(mut body) = self.node.body.acquire() else { return false };
        let worked = body.with(|body| self.node.work(me, self.worker, body));
        // In vain or not: others may have passed the stage because it was claimed.
        worked || !planted("node.serial.in_vain")
    }
}
