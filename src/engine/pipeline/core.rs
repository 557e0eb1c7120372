//! What the threads of a run share that knows no item type: tracks, tokens, admission, sleepers.
//!
//! **Bound.** The source may hold `in_flight` items in the pipeline and no more than there are tokens;
//! the sink gives both back. **Waking.** Who steps a stage looks after those whose stages may have
//! become ready by it: see [`drive`](super::drive).

use super::batch::Held;
use super::cutoff::Cutoff;
use super::gate::{ASKED, Gate};
use super::meter::PaddedMeter;
use super::track::Track;
use crate::engine::pin::Pins;
use crate::engine::shutdown::Shutdown;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell, ordering_at, planted,
};
use crossbeam_utils::CachePadded;
use std::ops::Range;

/// What a token says of its batch, whatever the edge.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Head {
    /// The number of the source's first item in it, or [`NO_ITEM`].
    pub(super) first: u64,
    /// How many items of the source it began with.
    pub(super) len: u64,
}

/// The number where what a batch holds comes from no item of the source: a worker's last words. Behind
/// all items that there are, and before a [`Cutoff`] that knows of none.
pub(super) const NO_ITEM: u64 = u64::MAX - 1;

/// One edge without its items.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) track: Track,
    /// Items waiting: raised before a publication, lowered after a take.
    pub(super) depth: CachePadded<AtomicU64>,
    pub(super) high_water: AtomicU64,
    /// Batches that may be made for this edge and not yet taken.
    limit: usize,
    reserved: CachePadded<AtomicUsize>,
    /// The number of positions, once the source has ended.
    end: AtomicU64,
}

/// One stage without its types.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) name: String,
    /// The threads that may step it.
    pub(super) threads: Range<usize>,
    /// Whether one thread at a time steps it.
    pub(super) serial: bool,
    /// The workers' meters; worker `w` is thread `threads.start + w`, or any thread for a serial one.
    pub(super) meters: Box<[PaddedMeter]>,
    /// Nanoseconds an item of the source, a running mean in sixteenths; 0 when not known.
    pub(super) cost: AtomicU64,
    /// Tokens of its own for the batch that each worker makes at the end, and their first number.
    pub(super) farewells: Range<usize>,
    bidden: AtomicUsize,
}

/// What a thread counts of itself.
#[derive(Debug, Default)]
pub(super) struct ThreadMeter {
    pub(super) steps: AtomicU64,
    pub(super) looks: AtomicU64,
    pub(super) sleeps: AtomicU64,
    pub(super) wakes: AtomicU64,
    pub(super) idle_ns: AtomicU64,
}

/// What the threads of a run share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) lanes: Vec<Lane>,
    pub(super) posts: Vec<Post>,
    pub(super) gate: Arc<Gate>,
    pub(super) shutdown: Arc<Shutdown>,
    pub(super) cutoff: Arc<Cutoff>,
    pub(super) threads: Box<[CachePadded<ThreadMeter>]>,
    pub(super) pins: Pins,
    /// Tokens on their way back to the source.
    free: Track,
    pub(super) tokens: usize,
    heads: Box<[UnsafeCell<Head>]>,
    in_flight: u64,
    /// Whether every stage keeps the order.
    ordered: bool,
    pub(super) batch_limit: u64,
    /// Items that have left the pipeline.
    retired: CachePadded<AtomicU64>,
    finished: AtomicBool,
    begun: AtomicUsize,
    /// Items that the source has given, and tokens that it keeps for itself: for looks from outside.
    pub(super) admitted: CachePadded<AtomicU64>,
    pub(super) spare: AtomicUsize,
    #[cfg(not(any(loom, shuttle)))]
    pub(super) started: std::time::Instant,
}

/// What a stage is made from.
#[derive(Debug)]
pub(super) struct PostShape {
    pub(super) name: String,
    pub(super) threads: Range<usize>,
    pub(super) serial: bool,
    /// How many batches it makes of itself at the end.
    pub(super) farewells: usize,
}

/// What a run is made from.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) stages: Vec<PostShape>,
    /// Each edge's capacity in items, where it has one.
    pub(super) capacities: Vec<Option<usize>>,
    pub(super) threads: usize,
    pub(super) pin: bool,
    pub(super) in_flight: usize,
    pub(super) batch_limit: usize,
    pub(super) ordered: bool,
}

mod heads {
    #![expect(unsafe_code, reason = "cells that the possession of a token guards")]

    use super::{Core, Head, Held};
    use crate::sync::Ordering;

    // SAFETY: a head is reached only with its token's `Held`, as the batches are; all else is Sync.
    unsafe impl Sync for Core {}

    impl Core {
        /// What the token says.
        pub(in super::super) fn head(&self, held: &Held) -> Head {
            // SAFETY: whoever has the `Held` is alone with the token.
            self.heads[held.id()].with(|head| unsafe { *head })
        }

        /// Writes it.
        pub(in super::super) fn set_head(&self, held: &mut Held, new: Head) {
            // SAFETY: as above.
            self.heads[held.id()].with_mut(|head| unsafe { *head = new });
        }

        /// The tokens that a run begins with. Once, before the first thread.
        pub(in super::super) fn first_tokens(&self) -> Vec<Held> {
            assert_eq!(self.begun.fetch_add(1, Ordering::Relaxed), 0, "a pipeline runs once");
            let ids = 0..self.tokens as u32;
            // SAFETY: nobody has any yet; the counter says that this is the first call.
            ids.map(|id| unsafe { Held::mint(id) }).collect()
        }

        /// All tokens, to empty them after the last thread has been joined.
        pub(in super::super) fn last_tokens(&self) -> Vec<Held> {
            // SAFETY: nobody steps a stage any more (`Plan::settle` owns the nodes, which every
            // thread borrowed), so no other `Held` is ever used again.
            (0..self.heads.len() as u32).map(|id| unsafe { Held::mint(id) }).collect()
        }

        /// A token that a worker of stage `stage` says goodbye with; each worker has one.
        pub(in super::super) fn farewell(&self, stage: usize) -> Option<Held> {
            let post = &self.posts[stage];
            // Relaxed: it hands out numbers.
            let nth = post.bidden.fetch_add(1, Ordering::Relaxed);
            let id = post.farewells.clone().nth(nth)?;
            // SAFETY: no other stage's range holds this number, the source's tokens are below all
            // ranges, and the counter gives each number once.
            Some(unsafe { Held::mint(id as u32) })
        }
    }
}

impl Core {
    pub(super) fn new(shape: Shape, shutdown: Arc<Shutdown>, cutoff: Arc<Cutoff>) -> Self {
        let tokens = shape.in_flight.clamp(1, MOST_TOKENS);
        let mut all = tokens;
        let post = |stage: PostShape| {
            let from = all;
            all += stage.farewells;
            Post {
                name: stage.name,
                meters: stage.threads.clone().map(|_| CachePadded::default()).collect(),
                threads: stage.threads,
                serial: stage.serial,
                cost: AtomicU64::new(0),
                farewells: from..all,
                bidden: AtomicUsize::new(0),
            }
        };
        let posts: Vec<Post> = shape.stages.into_iter().map(post).collect();
        let lane = |(e, capacity): (usize, Option<usize>)| Lane {
            name: format!("{} -> {}", posts[e].name, posts[e + 1].name),
            track: Track::new(all),
            depth: CachePadded::new(AtomicU64::new(0)),
            high_water: AtomicU64::new(0),
            limit: capacity.map_or(usize::MAX, |items| (items / shape.batch_limit).max(1)),
            reserved: CachePadded::new(AtomicUsize::new(0)),
            end: AtomicU64::new(u64::MAX),
        };
        let lanes = shape.capacities.into_iter().enumerate().map(lane).collect();
        Core {
            lanes,
            gate: Arc::new(Gate::new(shape.threads, posts[0].threads.clone())),
            posts,
            shutdown,
            cutoff,
            threads: (0..shape.threads).map(|_| CachePadded::default()).collect(),
            pins: Pins::new(shape.threads, shape.pin),
            free: Track::new(tokens),
            tokens,
            heads: (0..all).map(|_| UnsafeCell::new(Head::default())).collect(),
            in_flight: shape.in_flight as u64,
            batch_limit: shape.batch_limit as u64,
            retired: CachePadded::new(AtomicU64::new(0)),
            finished: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
            ordered: shape.ordered,
            admitted: CachePadded::new(AtomicU64::new(0)),
            spare: AtomicUsize::new(tokens),
            #[cfg(not(any(loom, shuttle)))]
            started: std::time::Instant::now(),
        }
    }

    /// How many tokens there are, those for the end included.
    pub(super) fn all(&self) -> usize {
        self.heads.len()
    }

    // --- admission ---

    /// A token that has come back. Only the source takes them.
    pub(super) fn reclaim(&self) -> Option<Held> {
        self.free.take().map(|(_, held)| held)
    }

    /// Items the source may still put in.
    pub(super) fn room(&self) -> u64 {
        // Relaxed: only the source's holder raises it; others get a hint that is never too low a number
        // of items given, or one that the claim then corrects.
        let made = self.admitted.load(Ordering::Relaxed);
        // Acquire: what the sink did with the items that left is over.
        let order = ordering_at("core.room.acquire", Ordering::Acquire);
        (self.in_flight + self.retired.load(order)).saturating_sub(made)
    }

    /// Whether the source could give an item now, as far as one can see without asking it.
    pub(super) fn admits(&self) -> bool {
        let wanted = || {
            // Relaxed: a hint; what a ring brings is acquired by `Gate::ask`.
            let due = self.gate.due.load(Ordering::Relaxed);
            due <= ASKED || (due != u64::MAX && self.now() >= due)
        };
        self.end(0) == u64::MAX
            && !self.cutoff.is_set()
            && self.room() > 0
            && (self.spare.load(Ordering::Relaxed) > 0 || self.free.is_ready())
            && self.has_room(0)
            && wanted()
    }

    /// The source has nothing for `wait`, unless somebody has rung since it was asked.
    pub(super) fn postpone(&self, wait: std::time::Duration) {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let due = self.now().saturating_add(wait).max(ASKED + 1);
        // Relaxed: nothing is read because of it, and where somebody has rung, the next question
        // acquires that. As a read-modify-write it goes on with a ring's release sequence.
        let order = Ordering::Relaxed;
        if planted("core.postpone.rung") {
            self.gate.due.swap(due, order);
        } else {
            let _ = self.gate.due.compare_exchange(ASKED, due, order, order);
        }
    }

    /// The sink is done with a token.
    pub(super) fn retire(&self, held: Held) {
        let items = self.head(&held).len;
        // Release: see `room`. A read-modify-write, since sinks of several threads follow each other.
        self.retired.fetch_add(items, ordering_at("core.retire.release", Ordering::Release));
        if held.id() < self.tokens {
            let position = self.free.draw();
            self.free.publish(position, held);
        }
    }

    // --- edges ---

    /// Hands a token with `items` items on to edge `e`.
    pub(super) fn publish(&self, e: usize, position: Option<u64>, held: Held, items: u64) {
        let lane = &self.lanes[e];
        // Relaxed: a figure for people; it is raised before the items can be taken.
        let depth = lane.depth.fetch_add(items, Ordering::Relaxed) + items;
        if depth > lane.high_water.load(Ordering::Relaxed) {
            lane.high_water.fetch_max(depth, Ordering::Relaxed);
        }
        let position = position.unwrap_or_else(|| lane.track.draw());
        lane.track.publish(position, held);
    }

    /// Items of a token were taken from edge `e`.
    pub(super) fn took(&self, e: usize, items: u64) {
        self.lanes[e].depth.fetch_sub(items, Ordering::Relaxed);
        if self.lanes[e].limit != usize::MAX {
            // Relaxed: it is a number, and the track carries the data.
            self.lanes[e].reserved.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a batch may be made for edge `e`; it then counts until it is taken.
    pub(super) fn reserve(&self, e: usize) -> bool {
        let lane = &self.lanes[e];
        if lane.limit == usize::MAX {
            return true;
        }
        // Relaxed: a number. One more than the limit never stands, so the bound holds at all times.
        let more = |reserved| (reserved < lane.limit).then_some(reserved + 1);
        lane.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts a batch that is made whatever the limit.
    pub(super) fn reserve_anyway(&self, e: usize) {
        if self.lanes[e].limit != usize::MAX {
            self.lanes[e].reserved.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a reservation back.
    pub(super) fn unreserve(&self, e: usize) {
        if self.lanes[e].limit != usize::MAX {
            self.lanes[e].reserved.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a reservation would succeed.
    pub(super) fn has_room(&self, e: usize) -> bool {
        let lane = &self.lanes[e];
        lane.limit == usize::MAX || lane.reserved.load(Ordering::Relaxed) < lane.limit
    }

    /// How many positions edge `e` has, if the source has ended.
    pub(super) fn end(&self, e: usize) -> u64 {
        // Relaxed: it is a number. Whoever concludes from it that nothing will come has seen all
        // positions before it taken, and reads nothing of what the source did.
        self.lanes[e].end.load(Ordering::Relaxed)
    }

    /// The source has ended after `positions` batches.
    pub(super) fn close(&self, positions: u64) {
        let mut end = positions;
        for (e, lane) in self.lanes.iter().enumerate() {
            if e > 0 {
                end += self.posts[e].farewells.len() as u64;
            }
            // Relaxed: see `end`; the wake fences.
            lane.end.store(end, Ordering::Relaxed);
        }
        if !planted("core.close.wake") {
            self.gate.sleepers.wake_all();
        }
    }

    // --- the end ---

    /// The sink has had everything.
    pub(super) fn finish(&self) {
        // Relaxed: who leaves because of it reads nothing before it is joined; the wake fences.
        self.finished.store(true, Ordering::Relaxed);
        if !planted("core.finish.wake") {
            self.gate.sleepers.wake_all();
        }
    }

    /// Whether every stage keeps the order of its input.
    pub(super) fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// Whether the threads may leave.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Thread `thread` met a fault in the token at `position`, and nothing from item `number` on is
    /// needed. The fault's place among all.
    pub(super) fn fail(&self, thread: usize, position: u64, number: u64) -> u64 {
        if !self.ordered {
            return u64::from(!self.shutdown.poison(thread));
        }
        self.cutoff.lower(position, number);
        position
    }

    /// Whether the token at `position` of an edge is beyond what a fault has left to do.
    pub(super) fn is_cut(&self, position: u64) -> bool {
        position > self.cutoff.position()
    }

    /// Whether a worker that has come to item `number` of its batch is to leave it.
    #[inline]
    pub(super) fn is_stopped_at(&self, number: u64) -> bool {
        self.shutdown.is_stopped() || self.cutoff.is_behind(number)
    }

    /// Whether the source is to leave its batch: nothing that it gives now is needed.
    pub(super) fn is_source_stopped(&self) -> bool {
        self.shutdown.is_stopped() || self.cutoff.is_set()
    }
}

/// Tokens a run has at most: beyond this the items in flight are in larger batches.
const MOST_TOKENS: usize = 1024;
