//! The 12-fold hierarchy of workers that computes a step.
//!
//! A *sphere* is a worker: a leaf of the tree, with a thread of its own (`tf-sphere-00`, ...). The
//! control sphere, at the root, is the thread that holds [`Spheres`]: it opens steps, sleeps until
//! they are complete, and never computes.

mod plan;
mod serve;
mod shared;
mod step;
mod tally;
mod task;
mod team;
#[cfg(test)]
mod tests;
mod tile;
mod tree;

pub use plan::{Job, Outcome, Plan};
pub(crate) use serve::{RankCount, Start, dismiss};
pub use task::Task;
pub(crate) use task::documents;
pub use tree::{Inner, MAX_LEAVES, Place, Tree};

use crate::engine::crew::Seat;
use crate::engine::pool::{Leaf, LeafCount, Pool, PoolLedger, Publisher, pool};
use crate::engine::shutdown::Shutdown;
use crate::engine::trace::{Flow, Mark};
use crate::engine::wait::Event;
use crate::model::{Part, Scratch, Tile, Weights};
use crate::ranks::Link;
use crate::sync::{Arc, AtomicU64, Ordering, cores};
use crossbeam_utils::CachePadded;
use std::time::Instant;
use step::Work;
use task::{Next, REDUCE};
use team::Team;

/// The control sphere's hold on a run's spheres.
#[derive(Debug)]
pub struct Spheres {
    publisher: Publisher<Task>,
    work: Arc<Work>,
    tree: Tree,
    busy: Arc<[CachePadded<Busy>]>,
    control: Arc<Event>,
    shutdown: Arc<Shutdown>,
    /// The other ranks, where there are some.
    team: Option<Team>,
}

/// One leaf, to be run by a thread of its own.
#[derive(Debug)]
pub struct Sphere {
    leaf: Leaf<Task>,
    work: Arc<Work>,
    busy: Arc<[CachePadded<Busy>]>,
}

/// Nanoseconds that a leaf has spent in tasks: in all, and by part of the step. One writer, read as
/// totals for people.
#[derive(Debug, Default)]
struct Busy {
    all: AtomicU64,
    parts: [AtomicU64; Part::ALL.len()],
}

/// What a leaf has done so far.
///
/// ```
/// use twelvefold::engine::pool::LeafCount;
/// use twelvefold::spheres::{SphereCount, Tree};
///
/// let tasks = LeafCount { taken: 8, finished: 8, stolen: 3 };
/// let count = SphereCount { place: Tree::new(14).place(13), tasks, busy_seconds: 0.5 };
/// assert_eq!((count.place.group, count.tasks.stolen), (1, 3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SphereCount {
    /// Where it is in the tree.
    pub place: Place,
    /// Its tasks.
    pub tasks: LeafCount,
    /// Time inside tasks, in seconds.
    pub busy_seconds: f64,
}

/// Makes the spheres of a run. `control` is the calling thread's event; at most as many leaves as
/// there are cores are kept awake at once, unless `awake` says otherwise.
///
/// ```
/// use twelvefold::engine::crew::Crew;
/// use twelvefold::engine::shutdown::{Shutdown, Wake};
/// use twelvefold::engine::wait::Event;
/// use twelvefold::model::adamw::AdamW;
/// use twelvefold::model::{Config, Isa, Layout};
/// use twelvefold::spheres::{Job, Plan, spheres};
/// use twelvefold::sync::Arc;
///
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let (adamw, isa) = (AdamW::default(), Isa::detect()?);
/// let plan = Plan { config, batch: 2, micro_batches: 1, clip: 1.0, adamw, isa, separator: None };
/// let params = Layout::new(&config).init(1);
///
/// let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
/// let (mut spheres, leaves) =
///     spheres(plan, params, 3, None, control.clone(), shutdown.clone());
/// shutdown.register(vec![Wake::Event(control), Wake::Pool(spheres.pool())]);
/// let mut crew = Crew::new(shutdown);
/// for mut leaf in leaves {
///     crew.spawn(&format!("tf-sphere-{:02}", leaf.id()), "sphere", leaf.id(), move |seat| {
///         leaf.run(seat);
///         Ok(())
///     })?;
/// }
///
/// // Two sequences of four tokens, each to be followed by the next number.
/// let (inputs, targets) = (vec![1, 2, 3, 4, 5, 6, 7, 8], vec![2, 3, 4, 5, 6, 7, 8, 9]);
/// let mut job = Job { inputs, targets, lr: 1e-2, step: 1 };
/// let mut losses = Vec::new();
/// for step in 1..=5 {
///     job.step = step;
///     spheres.begin(&mut job); // Returns before it is done.
///     let outcome = spheres.wait(&mut job).expect("nobody stops this run");
///     losses.push(outcome.loss());
/// }
/// assert!(losses[4] < losses[0]);
/// spheres.close();
/// crew.join()?;
/// assert_eq!(spheres.ledger().lost, 0);
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Panics
/// When `leaves` is not in 1..=[`MAX_LEAVES`].
pub fn spheres(
    plan: Plan,
    params: Vec<f32>,
    leaves: usize,
    awake: Option<usize>,
    control: Arc<Event>,
    shutdown: Arc<Shutdown>,
) -> (Spheres, Vec<Sphere>) {
    spheres_of(None, plan, params, (leaves, awake), control, shutdown)
}

/// [`spheres`] of a rank: `link` leads to the others, of which there are some.
pub(crate) fn spheres_of(
    link: Option<Box<dyn Link>>,
    plan: Plan,
    params: Vec<f32>,
    (leaves, awake): (usize, Option<usize>),
    control: Arc<Event>,
    shutdown: Arc<Shutdown>,
) -> (Spheres, Vec<Sphere>) {
    let tree = Tree::new(leaves);
    let ranks = link.as_ref().map_or((0, 1), |link| (link.rank(), link.ranks()));
    let work = Arc::new(Work::new(plan, &params, ranks, control.clone()));
    let awake = awake.unwrap_or_else(cores);
    let (publisher, leaves) = pool(leaves, awake, control.clone(), shutdown.clone());
    let busy: Arc<[_]> = leaves.iter().map(|_| CachePadded::new(Busy::default())).collect();
    let sphere = |leaf| Sphere { leaf, work: work.clone(), busy: busy.clone() };
    let leaves = leaves.into_iter().map(sphere).collect();
    let team = link.map(Team::new);
    (Spheres { publisher, work, tree, busy, control, shutdown, team }, leaves)
}

impl Spheres {
    /// Opens a training step and returns before it is done. `job`'s buffers come back from
    /// [`Spheres::wait`].
    ///
    /// # Panics
    /// When a step is open, or the job has no sequences.
    pub fn begin(&mut self, job: &mut Job) {
        assert!(self.is_done(), "a step is open");
        let targets = job.count_targets();
        if self.team.is_some() {
            self.hand_out(job, targets);
        }
        self.open_step(job, targets);
    }

    /// Opens this rank's part of a step.
    fn open_step(&mut self, job: &mut Job, targets: u64) {
        let tasks = self.work.open_step(job, targets);
        self.publisher.publish(tasks);
    }

    /// Opens an evaluation of at most a micro-batch of sequences.
    ///
    /// # Panics
    /// As [`Spheres::begin`].
    pub fn begin_evaluation(&mut self, job: &mut Job) {
        assert!(self.is_done(), "a step is open");
        let tasks = self.work.open_evaluation(job);
        self.publisher.publish(tasks);
    }

    /// Waits for the open step or evaluation. `None`: the run was stopped before its end.
    pub fn wait(&mut self, job: &mut Job) -> Option<Outcome> {
        let is_done = if self.is_shared() { self.share() } else { self.publisher.wait() };
        is_done.then(|| self.work.close(job))
    }

    /// Whether what was begun is done.
    pub fn is_done(&self) -> bool {
        self.publisher.is_complete()
    }

    /// No further step: the spheres' threads end.
    pub fn close(&self) {
        self.publisher.close();
    }

    /// The shared side of the pool, for the run's list of sleepers.
    pub fn pool(&self) -> Arc<Pool<Task>> {
        self.publisher.pool().clone()
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What each leaf has done so far.
    pub fn counts(&self) -> Vec<SphereCount> {
        (0..self.tree.leaves()).map(|id| self.count(id)).collect()
    }

    /// What one leaf has done so far.
    pub(crate) fn count(&self, id: usize) -> SphereCount {
        SphereCount {
            place: self.tree.place(id),
            tasks: self.publisher.pool().count(id),
            busy_seconds: self.busy[id].all.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }

    /// The time inside tasks by part of the step, all leaves together, in seconds.
    ///
    /// ```
    /// use twelvefold::engine::shutdown::Shutdown;
    /// use twelvefold::engine::wait::Event;
    /// use twelvefold::model::adamw::AdamW;
    /// use twelvefold::model::{Config, Isa, Layout, Part};
    /// use twelvefold::spheres::{Plan, spheres};
    /// use twelvefold::sync::Arc;
    ///
    /// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
    /// let (adamw, isa) = (AdamW::default(), Isa::detect()?);
    /// let plan = Plan { config, batch: 2, micro_batches: 1, clip: 1.0, adamw, isa, separator: None };
    /// let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    /// let (spheres, _) = spheres(plan, Layout::new(&config).init(1), 2, None, control, shutdown);
    /// assert_eq!(spheres.part_seconds()[0], (Part::Embedding, 0.0)); // No step so far.
    /// # Ok::<(), twelvefold::Error>(())
    /// ```
    pub fn part_seconds(&self) -> Vec<(Part, f64)> {
        let nanoseconds = |part: Part| {
            self.busy.iter().map(|b| b.parts[part as usize].load(Ordering::Relaxed)).sum::<u64>()
        };
        Part::ALL.map(|part| (part, nanoseconds(part) as f64 / 1e9)).to_vec()
    }

    /// Accounts for every task, after the threads have been joined.
    pub fn ledger(&self) -> PoolLedger {
        self.publisher.pool().abandon()
    }

    /// Spans that one leaf may record in a step: it may take every task, and each phase ends once.
    pub(crate) fn spans_per_step(&self) -> usize {
        // With other ranks two more than the update.
        let phases = 2 * self.work.plan().micro_batches + 3;
        phases * (self.work.largest_phase() + 1)
    }

    /// The most tasks that are queued at once.
    pub fn largest_phase(&self) -> usize {
        self.work.largest_phase()
    }

    /// Calls `read` with the parameters.
    ///
    /// # Panics
    /// When a step is open.
    pub fn with_params<R>(&self, read: impl FnOnce(&[f32]) -> R) -> R {
        assert!(self.is_done(), "the parameters are being written");
        read(self.work.weights().params())
    }

    /// Calls `read` with the parameters and their panels.
    ///
    /// # Panics
    /// When a step is open.
    pub(crate) fn with_weights<R>(&self, read: impl FnOnce(Weights<'_>) -> R) -> R {
        assert!(self.is_done(), "the parameters are being written");
        read(self.work.weights())
    }

    /// Calls `visit` with every tile and AdamW's first and second moments of it, in the tiles' order. Of
    /// several ranks each sends those that it owns.
    ///
    /// # Panics
    /// When a step is open.
    pub fn visit_moments(&mut self, mut visit: impl FnMut(&Tile, &[f32], &[f32])) {
        assert!(self.is_done(), "the moments are being written");
        self.ask_for_moments();
        for number in 0..self.work.tiles().len() {
            if self.work.shares().owner(number) != self.work.shares().rank() {
                let (m, v) = self.moments_of(number);
                visit(&self.work.tiles()[number], &m, &v);
            } else {
                let tile = &self.work.tiles()[number];
                self.work.with_state(number, |state| visit(tile, &state.m, &state.v));
            }
        }
    }

    /// Sets AdamW's moments, each as long as the parameters: for a run that goes on.
    ///
    /// ```
    /// use twelvefold::engine::shutdown::Shutdown;
    /// use twelvefold::engine::wait::Event;
    /// use twelvefold::model::adamw::AdamW;
    /// use twelvefold::model::{Config, Isa, Layout};
    /// use twelvefold::spheres::{Plan, spheres};
    /// use twelvefold::sync::Arc;
    ///
    /// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
    /// let (adamw, isa) = (AdamW::default(), Isa::detect()?);
    /// let plan = Plan { config, batch: 2, micro_batches: 1, clip: 1.0, adamw, isa, separator: None };
    /// let params = Layout::new(&config).init(1);
    /// let (m, v) = (vec![0.5; params.len()], vec![0.25; params.len()]);
    /// let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    /// let (mut spheres, _leaves) = spheres(plan, params, 1, None, control, shutdown);
    /// spheres.set_moments(&m, &v);
    /// spheres.visit_moments(|_, m, v| assert_eq!((m[0], v[0]), (0.5, 0.25)));
    /// # Ok::<(), twelvefold::Error>(())
    /// ```
    ///
    /// # Panics
    /// When a step is open, or they are shorter.
    pub fn set_moments(&mut self, m: &[f32], v: &[f32]) {
        assert!(self.is_done(), "the moments are being written");
        self.work.set_moments(m, v);
    }
}

impl Sphere {
    /// The leaf's number.
    pub fn id(&self) -> usize {
        self.leaf.id()
    }

    /// Takes tasks until the pool ends.
    pub fn run(&mut self, seat: &Seat) {
        let pool = self.leaf.pool().clone();
        let id = self.id();
        // Most leaves of a large tree never run on a small machine: scratch is made when needed.
        let mut scratch = None;
        let mut item = 0;
        while let Some(task) = self.leaf.claim() {
            seat.at(item);
            let stage = if matches!(task, Task::Update(_)) { "optimizer" } else { "sphere" };
            seat.lend(Some(stage));
            crate::inject::hit(stage, id, item);
            let started = Instant::now();
            let plan = self.work.plan();
            let new = || Scratch::new(&plan.config, plan.sequences_per_task(), plan.isa);
            let scratch = scratch.get_or_insert_with(new);
            self.work.run(task, id, scratch);
            // The task's place is known while its phase lasts.
            let mark = seat.is_recording().then(|| self.work.mark(task));
            match task {
                Task::Gradient(_) => scratch.times_mut().add_since(Part::WeightGradients, started),
                Task::Sum(_) => scratch.times_mut().add_since(Part::WeightGradients, started),
                Task::Update(_) | Task::Adopt(_) => {
                    scratch.times_mut().add_since(Part::Optimizer, started);
                }
                Task::Sequences(_) | Task::Losses(_) => {}
            }
            item += 1;
            let next = self.leaf.finish(&pool).map(|last| (last, self.next_phase(task, seat)));
            let ended = Instant::now();
            if let Some(mark) = mark {
                seat.record(started, ended, mark);
            }
            // Relaxed: one writer, read as a total for people.
            let spent = ended.duration_since(started).as_nanos() as u64;
            let busy = &self.busy[id];
            busy.all.store(busy.all.load(Ordering::Relaxed) + spent, Ordering::Relaxed);
            for part in Part::ALL {
                // Relaxed: as above.
                let spent = scratch.times().nanoseconds(part);
                busy.parts[part as usize].store(spent, Ordering::Relaxed);
            }
            if let Some((last, next)) = next {
                match next.tasks() {
                    Some(tasks) => self.leaf.open(last, tasks),
                    None => self.leaf.complete(last),
                }
            }
        }
    }

    /// What follows the phase that `done` was the last task of.
    fn next_phase(&self, done: Task, seat: &Seat) -> Next {
        let begun = seat.is_recording().then(Instant::now);
        let next = self.work.next_phase(done);
        if let Some(begun) = begun {
            let mark = Mark { label: &REDUCE, args: [0, 0], flow: Flow::NONE };
            seat.record(begun, Instant::now(), mark);
        }
        next
    }
}
