//! The loop of a thread: it steps whichever of its stages is ready, the one furthest down first, and
//! sleeps only when none is.
//!
//! # No step is lost
//!
//! Before it sleeps a thread announces that, fences and looks at all stages that it may step, at whether
//! the run is stopped, and at whether it is finished. A look that wrote something, be it in vain, counts
//! as a step: it claimed a stage or reserved room, or reclaimed a token, and somebody else was faster.
//! Others may have passed the stage just because of that. So it is followed by a new announcement, and
//! **between its last announcement and its sleep a thread writes nothing.**
//!
//! After a step a thread fences, and looks at the neighbours that the step may have made ready. Where it may step such
//! a stage itself, it will look at it again anyway; where not, it wakes a thread that may ([`Me::pass`]).
//!
//! Suppose that all sleep, and that stage S is ready. Let L be, among the threads that may step S, the
//! last fence of the one whose last fence comes last. What those threads wrote, they wrote before it. Some
//! of what makes S ready may have been written by others, who fenced after that; let W be the last of
//! these fences.
//!
//! - W comes before L, or there is none: the look after L sees all that makes S ready, and no claim on it.
//! - L comes before W: the look after W sees all that makes S ready, and that all who may step it sleep.
//!   It wakes one of them.
//!
//! Either contradicts that all sleep. The end of the input, the end of the run and a stop are looked at in
//! the same way; who brings them about wakes everybody.
//!
//! Waking others only to share the work ([`Me::before`]) is a question of speed, and needs no order.

use super::batch::Held;
use super::core::{Core, Post, ThreadMeter};
#[cfg(not(any(loom, shuttle)))]
use super::gate::Gate;
use super::report::Failure;
use crate::engine::drop_guarded;
use crate::engine::error::{BoxError, Cause, Fault};
use crate::engine::sleepers::Berth;
use crate::engine::wait::{Sleeper, Waiter, census};
use crate::sync::{AtomicU64, Ordering, fence, planted};
use std::cell::{Cell, RefCell};

/// One stage of a run, shared by its threads.
pub(super) trait Node: Send + Sync {
    /// Makes room for all tokens; the source also gets those that wait for items.
    fn allocate(&self, core: &Core, tokens: &mut Vec<Held>);

    /// What worker `worker` steps; made on its thread.
    fn hand<'a>(&'a self, worker: usize) -> Box<dyn Hand + 'a>;

    /// Whether a step would do something, as far as loads can tell.
    fn is_ready(&self, core: &Core) -> bool;

    /// Drops what the token still holds on the edge before this stage: how many items, and the stamp.
    fn sweep(&self, held: &mut Held) -> (u64, u64);
}

/// A stage as one thread steps it.
pub(super) trait Hand {
    /// Does a bounded piece of work without waiting. False: there was nothing to do, and nothing was
    /// written that others could see.
    fn step(&mut self, me: &Me<'_>) -> bool;
}

/// The stages of a run.
pub(super) type Nodes<'env> = [Box<dyn Node + 'env>];

/// What a thread brings home.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Each with its place among all: its position, or without an order 0 for the first in time.
    pub(super) faults: Vec<(u64, Fault)>,
    pub(super) failures: Vec<Failure>,
    pub(super) failed: u64,
}

/// A thread among the others.
pub(super) struct Me<'a> {
    pub(super) core: &'a Core,
    nodes: &'a Nodes<'a>,
    thread: usize,
    /// Whether failures are collected, and how many are kept.
    keep: Option<usize>,
    outcome: &'a RefCell<Outcome>,
    berth: Berth<'a>,
    /// Whether the berth says that this thread sleeps, or is about to.
    announced: Cell<bool>,
    /// When the last step ended.
    last: Cell<u64>,
    /// Since when the thread has been busy without waking another.
    busy_since: Cell<u64>,
}

/// A look at all stages takes about as long as this many pauses.
const LOOK_PAUSES: u32 = 4;
/// A thread that will be busy for this long, or has been, shares what else is ready.
const SHARE_NS: u64 = 10_000;
const BUSY_NS: u64 = 50_000;

impl<'a> Me<'a> {
    pub(super) fn new(
        (core, nodes): (&'a Core, &'a Nodes<'a>),
        thread: usize,
        keep: Option<usize>,
        outcome: &'a RefCell<Outcome>,
    ) -> Self {
        Me {
            core,
            nodes,
            thread,
            keep,
            outcome,
            berth: core.gate.sleepers.berth(thread),
            announced: Cell::new(false),
            last: Cell::new(core.now()),
            busy_since: Cell::new(core.now()),
        }
    }
}

impl Me<'_> {
    fn meter(&self) -> &ThreadMeter {
        &self.core.threads[self.thread]
    }

    /// Items that it has taken as a worker of stage `s`.
    #[cfg(any(loom, shuttle))]
    pub(super) fn took(&self, s: usize) -> u64 {
        let post = &self.core.posts[s];
        post.meters[self.thread - post.threads.start].count().taken
    }

    /// One writer: load and store.
    fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(super) fn collects(&self) -> bool {
        self.keep.is_some()
    }

    /// Sets this thread's publications for stage `stage` apart from all others.
    pub(super) fn salt(&self, stage: usize) -> u64 {
        (stage as u64) << 12 ^ self.thread as u64
    }

    /// Items between two looks at the run's state, where one takes `ns`.
    pub(super) fn stride(&self, ns: u64) -> usize {
        if ns < 50 { 256 } else { 1 }
    }

    /// Called before something that will take about `ns`: when other work is ready and somebody
    /// sleeps who may do it, one of those is woken. `claimed` is the stage that nobody else can step
    /// meanwhile.
    pub(super) fn before(&self, ns: u64, claimed: Option<usize>) {
        if self.announced.get() {
            // Not asleep after all: a wake that comes now is for somebody who is free.
            self.stay_awake();
        }
        // Sharing is a question of speed alone: a model checker has nothing to gain from it but states.
        if cfg!(any(loom, shuttle)) || self.core.gate.sleepers.asleep() == 0 {
            return;
        }
        let busy = self.last.get().saturating_sub(self.busy_since.get());
        if ns < SHARE_NS && busy < BUSY_NS || !self.core.gains_by_sharing() {
            return;
        }
        // A source that wants to be asked soon needs somebody to keep the time.
        let mut nodes = self.nodes.iter().enumerate();
        let first = nodes.position(|(s, node)| Some(s) != claimed && node.is_ready(self.core));
        let forgotten = claimed != Some(0) && self.core.gate.is_forgotten();
        if let Some(s) = first.or(forgotten.then_some(0)) {
            self.wake(&self.core.posts[s]);
            // A wake takes microseconds, which are not the stage's: counted as its own they would make
            // it look dear, and lead to the next wake.
            self.last.set(self.core.now());
            self.busy_since.set(self.last.get());
        }
    }

    /// Takes the announcement of sleep back.
    fn stay_awake(&self) {
        self.announced.set(false);
        if !self.berth.retract() && !planted("drive.withdraw.pass_on") {
            // A wake was spent on this thread, which found something by itself: what the wake was for
            // may be something else. The fence orders the loss of the bit before the look at that: the
            // waker has published it and fenced.
            if !planted("drive.withdraw.fence") {
                fence(Ordering::SeqCst);
            }
            for (s, node) in self.nodes.iter().enumerate() {
                if node.is_ready(self.core) {
                    self.wake(&self.core.posts[s]);
                }
            }
        }
    }

    fn wake(&self, post: &Post) {
        let woken = self.core.gate.sleepers.wake_among(&post.threads, 1);
        Self::add(&self.meter().wakes, woken as u64);
    }

    /// A batch that began as `items` items has been worked on.
    pub(super) fn worked(&self, stage: usize, worker: usize, items: u64) {
        let now = self.core.now();
        let ns = now - self.last.get();
        self.last.set(now);
        self.core.posts[stage].meters[worker].worked(ns);
        self.core.spent(stage, ns, items);
    }

    /// The token at `position`, whose first item is `first`, ends the run: at item `item` if at one.
    pub(super) fn fault(
        &self,
        (stage, worker): (usize, usize),
        (position, first): (u64, u64),
        item: Option<u64>,
        cause: Cause,
    ) {
        let fault = Fault { stage: self.core.posts[stage].name.clone(), worker, item, cause };
        let place = self.core.fail(self.thread, position, item.unwrap_or(first));
        self.outcome.borrow_mut().faults.push((place, fault));
    }

    /// Item `item` failed, and the run goes on.
    pub(super) fn failure(&self, stage: usize, item: Option<u64>, error: BoxError) {
        let mut outcome = self.outcome.borrow_mut();
        outcome.failed += 1;
        if outcome.failures.len() < self.keep.unwrap_or(0) {
            let stage = self.core.posts[stage].name.clone();
            outcome.failures.push(Failure { stage, item, error });
        } else {
            drop_guarded(error);
        }
    }

    /// After a step of stage `s`: wakes those who alone may do what became ready.
    fn pass(&self, s: usize) {
        let next = (s + 1) % self.nodes.len();
        let before = Some(s.saturating_sub(1)).filter(|&before| before != next);
        // Orders what the step wrote before the looks at those stages and at who sleeps; pairs with the
        // fence of an announcement.
        if !planted("drive.pass.fence") {
            fence(Ordering::SeqCst);
        }
        for c in [Some(next), before].into_iter().flatten() {
            let post = &self.core.posts[c];
            let alone = c != s && !post.threads.contains(&self.thread);
            if alone && self.nodes[c].is_ready(self.core) && !planted("drive.pass.wake") {
                self.wake(post);
            }
        }
    }
}

/// Steps the stages of thread `thread` until the run is over; what it brings home is in `outcome` even
/// if this panics.
pub(super) fn drive(
    core: &Core,
    nodes: &Nodes<'_>,
    thread: usize,
    keep: Option<usize>,
    outcome: &RefCell<Outcome>,
) {
    let _awake = census::Member::enter();
    let me = Me::new((core, nodes), thread, keep, outcome);
    let mut hands = Hands::new(&me);
    let bunk = me.bunk();
    let mut waiter = Waiter::new(&bunk);
    let mut idle = false;
    // Acquire, by `is_stopped`. Looked at after every announcement too, as in `stage::drive`.
    while !core.shutdown.is_stopped() || waiter.is_announced() && planted("drive.loop.stopped") {
        if hands.look(&me) {
            if idle {
                idle = false;
                waiter.reset();
            }
            continue;
        }
        // After every announcement too.
        if core.is_finished() && !(waiter.is_announced() && planted("drive.loop.finished")) {
            break;
        }
        idle = true;
        if cfg!(not(any(loom, shuttle))) && !waiter.is_announced() && bunk.all_others_sleep() {
            waiter.skip_spinning();
        }
        waiter.pause_after(LOOK_PAUSES);
        me.waited();
    }
}

/// What one thread steps, furthest down first: what is nearly done is done, and buffers go back warm.
pub(super) struct Hands<'a>(Vec<(usize, Box<dyn Hand + 'a>)>);

impl<'a> Hands<'a> {
    pub(super) fn new(me: &Me<'a>) -> Self {
        let (core, nodes, thread) = (me.core, me.nodes, me.thread);
        let own = |s: &usize| core.posts[*s].threads.contains(&thread);
        let hand = |s: usize| (s, nodes[s].hand(thread - core.posts[s].threads.start));
        Hands((0..nodes.len()).rev().filter(own).map(hand).collect())
    }

    /// Looks at all stages, and steps the first that is ready. False: none is.
    fn look(&mut self, me: &Me<'_>) -> bool {
        self.step(me, |_| true)
    }

    /// [`Hands::look`] at those stages that `wanted` names.
    pub(super) fn step(&mut self, me: &Me<'_>, wanted: impl Fn(usize) -> bool) -> bool {
        let mut hands = self.0.iter_mut().filter(|(s, _)| wanted(*s));
        let stepped = hands.find_map(|(s, hand)| hand.step(me).then_some(*s));
        if let Some(s) = stepped {
            Me::add(&me.meter().steps, 1);
            me.pass(s);
        }
        stepped.is_some()
    }
}

impl<'a> Me<'a> {
    /// Where it sleeps.
    pub(super) fn bunk(&'a self) -> Bunk<'a> {
        Bunk { me: self }
    }
}

impl Me<'_> {
    /// Time has passed without a step.
    fn waited(&self) {
        let now = self.core.now();
        Self::add(&self.meter().looks, 1);
        Self::add(&self.meter().idle_ns, now - self.last.get());
        self.last.set(now);
        self.busy_since.set(now);
    }
}

/// A thread's sleeping place in a run.
pub(super) struct Bunk<'a> {
    me: &'a Me<'a>,
}

impl Bunk<'_> {
    /// Nobody else could make anything ready: then spinning waits for nothing.
    fn all_others_sleep(&self) -> bool {
        let core = self.me.core;
        core.gate.sleepers.asleep() + 1 >= core.threads.len()
    }
}

impl Sleeper for Bunk<'_> {
    fn announce(&self) {
        self.me.berth.announce();
        self.me.announced.set(true);
    }

    fn sleep(&self) {
        Me::add(&self.me.meter().sleeps, 1);
        self.me.announced.set(false);
        #[cfg(not(any(loom, shuttle)))]
        if self.me.core.posts[0].threads.contains(&self.me.thread) && self.keep_time() {
            return;
        }
        self.me.berth.sleep();
    }

    fn withdraw(&self) {
        if self.me.announced.get() {
            self.me.stay_awake();
        }
    }
}

#[cfg(not(any(loom, shuttle)))]
impl Bunk<'_> {
    /// Sleeps until the source is to be asked again, if it is and nobody else does.
    fn keep_time(&self) -> bool {
        let core = self.me.core;
        // Relaxed: only a time is read.
        let due = core.gate.due.load(Ordering::Relaxed);
        let kept = core.gate.kept.load(Ordering::Relaxed);
        if !Gate::is_postponed(due) || due >= kept {
            return false;
        }
        // Relaxed, here and below: who keeps the time is a question of cost. A thread that loses this
        // race leaves it to one that wakes no later.
        let own = core.gate.kept.compare_exchange(kept, due, Ordering::Relaxed, Ordering::Relaxed);
        if own.is_err() {
            return false;
        }
        self.me.berth.sleep_for(std::time::Duration::from_nanos(due.saturating_sub(core.now())));
        let gone = Ordering::Relaxed;
        let _ = core.gate.kept.compare_exchange(due, u64::MAX, gone, gone);
        true
    }
}
