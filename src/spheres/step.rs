//! One step: phase A by group of sequences, phase B by output tile, the update by tile.
//!
//! ```text
//! publish ─▶ A: a group a task ─▶ B: a tile a task ─┬─▶ update: a tile a task ─▶ complete
//!            ▲                                      │
//!            └────────── next micro-batch ◀─────────┘
//! ```
//!
//! The last to finish a phase opens the next ([`Work::next_phase`]); the control sphere sleeps
//! until the step is complete. Where several ranks share the step, it is complete here after the last
//! phase B, and the control sphere opens the others as messages come ([`super::team`]). Every sum has an order fixed by the sizes alone, so the bits do not
//! depend on the number of spheres or on who took which task.

use super::plan::{Job, Outcome, Plan};
use super::shared::{Phased, Shared};
use super::task::{
    ADOPT, FORWARD_BACKWARD, GRADIENT, LOSSES, MicroBatch, Next, SUM, Task, UPDATE, documents,
};
use super::tile::TileState;
use crate::engine::flags::Flags;
use crate::engine::trace::{Flow, Mark};
use crate::engine::wait::Event;
use crate::model::adamw::{Update, clip_factor};
use crate::model::{
    Floats, Scratch, Sequence, Slot, Tile, Weights, forward_backward, forward_loss, pack, tiles,
    weight_gradient,
};
use crate::ranks::Shares;
use crate::sync::Arc;
use atomic_refcell::AtomicRefCell;
use std::ops::Range;

#[derive(Debug, Default)]
struct Open {
    job: Job,
    /// The micro-batch at hand, counted from this rank's first.
    micro: usize,
    targets: u64,
    clip: f64,
    outcome: Outcome,
    /// What this rank's micro-batches gave.
    micros: Vec<MicroBatch>,
}

/// What all spheres share of a run's steps.
#[derive(Debug)]
pub(super) struct Work {
    plan: Plan,
    params: Shared,
    /// The matrices among them once more, as phase A's products read them.
    panels: Shared,
    tiles: Vec<Tile>,
    slots: Vec<Phased<Slot>>,
    /// The loss of each sequence, and the sphere that computed it.
    losses: Vec<AtomicRefCell<(f64, usize)>>,
    states: Vec<AtomicRefCell<TileState>>,
    open: AtomicRefCell<Open>,
    shares: Shares,
    ready: Flags,
}

impl Work {
    /// Takes the first parameters and reserves all memory of the run. `control` is told of tiles that
    /// other ranks wait for.
    pub(super) fn new(
        plan: Plan,
        params: &[f32],
        ranks: (usize, usize),
        control: Arc<Event>,
    ) -> Self {
        let tiles = tiles(&plan.config);
        let lens: Vec<usize> = tiles.iter().map(Tile::len).collect();
        let shares = Shares::new(ranks.0, ranks.1, plan.micro_batches, &lens);
        let state = |(number, tile)| AtomicRefCell::new(TileState::new(number, tile, &shares));
        let group = plan.sequences_per_task();
        let slot = |first| Phased::new(Slot::new(&plan.config, group.min(plan.batch - first)));
        Work {
            states: tiles.iter().enumerate().map(state).collect(),
            ready: Flags::new(tiles.len(), control),
            shares,
            tiles,
            slots: (0..plan.batch).step_by(group).map(slot).collect(),
            losses: (0..plan.batch).map(|_| AtomicRefCell::new((0.0, 0))).collect(),
            params: Shared::new(Floats::from(params)),
            panels: Shared::new(Floats::from(&pack(&plan.config, params)[..])),
            open: AtomicRefCell::new(Open::default()),
            plan,
        }
    }

    /// What the steps have in common.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Tasks of the largest phase.
    pub(super) fn largest_phase(&self) -> usize {
        self.tiles.len().max(self.slots.len())
    }

    /// Who does what.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The tiles that wait to be sent.
    pub(super) fn ready(&self) -> &Flags {
        &self.ready
    }

    /// Calls `with` with what is kept of a tile; its task must have ended.
    pub(super) fn with_state<R>(&self, tile: usize, with: impl FnOnce(&mut TileState) -> R) -> R {
        with(&mut self.states[tile].borrow_mut())
    }

    /// Opens a training step; gives its first tasks. Nothing else may be open. `targets` are those of
    /// the whole step.
    pub(super) fn open_step(
        &self,
        job: &mut Job,
        targets: u64,
    ) -> impl ExactSizeIterator<Item = Task> + use<> {
        self.open_job(job, targets);
        (0..self.tasks(0) as u32).map(Task::Sequences)
    }

    /// Opens an evaluation of at most a micro-batch of sequences; gives its tasks.
    pub(super) fn open_evaluation(
        &self,
        job: &mut Job,
    ) -> impl ExactSizeIterator<Item = Task> + use<> {
        let targets = job.count_targets();
        self.open_job(job, targets);
        (0..self.tasks(0) as u32).map(Task::Losses)
    }

    fn open_job(&self, job: &mut Job, targets: u64) {
        let mut open = self.open.borrow_mut();
        std::mem::swap(&mut open.job, job);
        open.micro = 0;
        open.micros.clear();
        open.targets = targets;
        open.outcome = Outcome { targets, ..Outcome::default() };
    }

    /// Ends a step: what it gave. `job` gets its buffers back.
    pub(super) fn close(&self, job: &mut Job) -> Outcome {
        let mut open = self.open.borrow_mut();
        std::mem::swap(&mut open.job, job);
        open.outcome
    }

    /// What a task of the open step is about, for a trace: before it is finished.
    pub(super) fn mark(&self, task: Task) -> Mark {
        let open = self.open.borrow();
        let (micro, step) = (open.micro as u64, open.job.step);
        let per_step = self.plan.roads();
        let (label, number, flow) = match task {
            Task::Sequences(slot) => {
                let slots = self.plan.tasks(self.plan.batch) as u64;
                let road = step * u64::from(per_step) + micro * slots + u64::from(slot);
                (&FORWARD_BACKWARD, slot, Flow::step(road, 1))
            }
            Task::Gradient(tile) => (&GRADIENT, tile, Flow::NONE),
            Task::Update(0) => (&UPDATE, 0, Flow::end(step * u64::from(per_step), per_step)),
            Task::Update(tile) => (&UPDATE, tile, Flow::NONE),
            Task::Losses(slot) => (&LOSSES, slot, Flow::NONE),
            Task::Sum(tile) => (&SUM, tile, Flow::NONE),
            Task::Adopt(tile) => (&ADOPT, tile, Flow::NONE),
        };
        Mark { label, args: [micro, number.into()], flow }
    }

    /// Does one task on sphere `leaf`. `scratch` is the calling thread's own.
    pub(super) fn run(&self, task: Task, leaf: usize, scratch: &mut Scratch) {
        match task {
            Task::Sequences(slot) => self.sequences(slot as usize, leaf, scratch),
            Task::Gradient(tile) => self.gradient(tile as usize, leaf, scratch),
            Task::Update(tile) => self.update(tile as usize),
            Task::Losses(slot) => self.evaluate(slot as usize, leaf, scratch),
            Task::Sum(tile) => {
                let mut state = self.states[tile as usize].borrow_mut();
                state.sum_nodes(self.shares.sums());
                state.square(self.plan.isa);
            }
            Task::Adopt(tile) => self.adopt(tile as usize),
        }
    }

    /// Decides what follows the phase that `done` was the last task of. Only its last arriver
    /// calls it.
    pub(super) fn next_phase(&self, done: Task) -> Next {
        let mut open = self.open.borrow_mut();
        match done {
            Task::Sequences(_) => {
                let rows = self.rows_of(&open, open.micro);
                let bad = self.losses[..rows].iter().position(|loss| !loss.borrow().0.is_finite());
                let bad = bad.map(|sequence| (sequence, self.losses[sequence].borrow().1));
                open.micros.push(MicroBatch { loss: self.sum_losses(rows), bad });
                // Other ranks wait for theirs: the first, of the rank after this one, are sent while the
                // rest is computed, and not all ranks send to one at a time.
                let is_last = open.micro + 1 == self.micro_batches(&open);
                let own = self.shares.owned(self.shares.rank());
                let first = if is_last { own.end as u32 } else { 0 };
                Next::Gradients { tiles: self.tiles.len() as u32, first }
            }
            Task::Gradient(_) if open.micro + 1 < self.micro_batches(&open) => {
                open.micro += 1;
                Next::Sequences(self.plan.tasks(self.rows_of(&open, open.micro)) as u32)
            }
            // The sum over the ranks comes first.
            Task::Gradient(_) if !self.shares.is_alone() => Next::Complete,
            Task::Gradient(_) => {
                let mut outcome = open.outcome;
                outcome.add(0, 0, &open.micros);
                let squares = self.states.iter().map(|state| state.borrow().squares);
                outcome.grad_norm = squares.sum::<f64>().sqrt();
                if self.decide_in(&mut open, outcome) {
                    return Next::Updates(self.tiles.len() as u32);
                }
                let bad = self.states.iter().find(|state| !state.borrow().squares.is_finite());
                let sphere = bad.map(|state| state.borrow().computed_by);
                open.outcome.bad_sphere = open.outcome.bad_sphere.or(sphere);
                Next::Complete
            }
            Task::Losses(_) => {
                open.outcome.loss_sum += self.sum_losses(self.rows_of(&open, 0));
                Next::Complete
            }
            Task::Update(_) | Task::Sum(_) | Task::Adopt(_) => Next::Complete,
        }
    }

    /// What this rank's micro-batches gave, after its last phase B.
    pub(super) fn micros(&self) -> Vec<MicroBatch> {
        self.open.borrow().micros.clone()
    }

    /// The step's outcome so far.
    pub(super) fn outcome(&self) -> Outcome {
        self.open.borrow().outcome
    }

    /// Takes the outcome over all ranks; whether the step is to change the parameters.
    pub(super) fn decide(&self, outcome: Outcome) -> bool {
        self.decide_in(&mut self.open.borrow_mut(), outcome)
    }

    fn decide_in(&self, open: &mut Open, outcome: Outcome) -> bool {
        open.outcome = outcome;
        open.clip = clip_factor(outcome.grad_norm, self.plan.clip);
        outcome.non_finite().is_none()
    }

    /// The tiles.
    pub(super) fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// Sets the moments of the tiles that this rank owns, from vectors as long as the parameters.
    pub(super) fn set_moments(&self, m: &[f32], v: &[f32]) {
        for tile in self.shares.owned(self.shares.rank()) {
            let mut state = self.states[tile].borrow_mut();
            self.gather(tile, m, &mut state.m);
            self.gather(tile, v, &mut state.v);
        }
    }

    /// A tile's part of a vector as long as the parameters.
    pub(super) fn gather(&self, tile: usize, all: &[f32], part: &mut [f32]) {
        let mut at = 0;
        for range in self.tiles[tile].ranges(&self.plan.config) {
            let here = at..at + range.len();
            at = here.end;
            part[here].copy_from_slice(&all[range]);
        }
    }

    /// The parameters and their panels.
    #[expect(unsafe_code, reason = "the weights are shared; the phases keep readers from writers")]
    pub(super) fn weights(&self) -> Weights<'_> {
        // SAFETY: callers are tasks of phase A or an evaluation, which never overlap the update
        // (the latch opens it after their last arriver and the next step after its own), or the
        // control thread while no step is open.
        let params = unsafe { self.params.read() };
        // SAFETY: as above.
        let panels = unsafe { self.panels.read() };
        Weights::new(&self.plan.config, params, panels)
    }

    /// The slot of the calling task.
    #[expect(unsafe_code, reason = "the task owns its slot")]
    #[expect(clippy::mut_from_ref, reason = "the task owns its slot")]
    fn slot(&self, slot: usize) -> &mut Slot {
        // SAFETY: called by a slot's one task of phase A or of an evaluation, once; phase B,
        // which reads the slots, is opened by phase A's last arriver.
        unsafe { self.slots[slot].write() }
    }

    fn sequences(&self, slot: usize, leaf: usize, scratch: &mut Scratch) {
        let open = self.open.borrow();
        let rows = self.documents(&open, slot);
        let scale = 1.0 / open.targets.max(1) as f32;
        let activations = self.slot(slot);
        forward_backward(&self.plan.config, self.weights(), rows, scale, activations, scratch);
        let planted = |place, loss| crate::inject::loss(open.job.step, place, loss);
        self.note_losses(&open, slot, leaf, activations.losses(), planted);
    }

    fn evaluate(&self, slot: usize, leaf: usize, scratch: &mut Scratch) {
        let open = self.open.borrow();
        let rows = self.documents(&open, slot);
        let activations = self.slot(slot);
        forward_loss(&self.plan.config, self.weights(), rows, activations, scratch);
        self.note_losses(&open, slot, leaf, activations.losses(), |_, loss| loss);
    }

    /// What a slot's sequences fall into: themselves, where documents are not kept apart.
    fn documents<'a>(
        &'a self,
        open: &'a Open,
        slot: usize,
    ) -> impl Iterator<Item = Sequence<'a>> + use<'a> {
        let rows = self.places(open, slot).map(|place| self.row(&open.job, open.micro, place));
        rows.flat_map(|row| documents(self.plan.separator, row))
    }

    /// Notes the loss of each of a slot's sequences: the sum over its documents.
    fn note_losses(
        &self,
        open: &Open,
        slot: usize,
        leaf: usize,
        losses: &[f64],
        note: impl Fn(usize, f64) -> f64,
    ) {
        let mut losses = losses.iter();
        for place in self.places(open, slot) {
            let row = self.row(&open.job, open.micro, place);
            let parts = documents(self.plan.separator, row).count();
            let loss = losses.by_ref().take(parts).sum();
            *self.losses[place].borrow_mut() = (note(place, loss), leaf);
        }
    }

    /// The places in the open micro-batch that slot `slot` takes.
    fn places(&self, open: &Open, slot: usize) -> Range<usize> {
        let group = self.plan.sequences_per_task();
        slot * group..((slot + 1) * group).min(self.rows_of(open, open.micro))
    }

    fn gradient(&self, tile: usize, leaf: usize, scratch: &mut Scratch) {
        let open = self.open.borrow();
        let tasks = self.plan.tasks(self.rows_of(&open, open.micro));
        let is_last = open.micro + 1 == self.micro_batches(&open);
        let mut state = self.states[tile].borrow_mut();
        let slots = self.slots[..tasks].iter().map(read_slot);
        let grad = state.gradient_mut();
        weight_gradient(&self.plan.config, &self.tiles[tile], slots, grad, scratch);
        state.computed_by = leaf;
        if self.shares.is_alone() {
            state.fold(is_last);
            if is_last {
                state.square(self.plan.isa);
            }
            return;
        }
        let global = self.shares.block(self.shares.rank()).start + open.micro;
        let node = self.shares.node_of(global);
        let completes = global + 1 == self.shares.nodes()[node].span.end;
        state.fold(completes);
        if completes {
            state.keep(node);
        }
        drop(state);
        if is_last && self.shares.owner(tile) != self.shares.rank() {
            self.ready.raise(tile);
        }
    }

    #[expect(unsafe_code, reason = "the task owns its tile of the shared weights")]
    fn update(&self, tile: usize) {
        let open = self.open.borrow();
        let mut state = self.states[tile].borrow_mut();
        let number = tile;
        let tile = &self.tiles[tile];
        let update =
            Update { lr: open.job.lr, clip: open.clip, step: open.job.step, decay: tile.decays() };
        let (grad, m, v) = state.parts();
        let mut at = 0;
        for range in tile.ranges(&self.plan.config) {
            let part = at..at + range.len();
            at = part.end;
            // SAFETY: this is the tile's one update task (its state is borrowed mutably above),
            // tiles are disjoint, and the phase was opened by phase B's last arriver, so no task
            // reads the weights now.
            let params = unsafe { self.params.tile(range.clone()) };
            let (grad, m, v) = (&mut grad[part.clone()], &mut m[part.clone()], &mut v[part]);
            self.plan.adamw.update(self.plan.isa, &update, params, grad, m, v);
            if !self.shares.is_alone() {
                // From here they go to the other ranks.
                grad.copy_from_slice(params);
            }
            // A matrix is one range, and its values are in the cache now.
            for part in tile.panels(&self.plan.config) {
                debug_assert_eq!(part.source(), range, "a panel of other parameters");
                // SAFETY: as above; the parts of the panels are the tiles' as the parameters are.
                part.write(unsafe { self.panels.tile(part.range()) }, params);
            }
        }
        drop(state);
        if !self.shares.is_alone() {
            self.ready.raise(number);
        }
    }

    /// Takes a tile's parameters as they came from its owner.
    #[expect(unsafe_code, reason = "the task owns its tile of the shared weights")]
    fn adopt(&self, tile: usize) {
        let mut state = self.states[tile].borrow_mut();
        let tile = &self.tiles[tile];
        let mut at = 0;
        for range in tile.ranges(&self.plan.config) {
            let part = at..at + range.len();
            at = part.end;
            // SAFETY: as in `update`: this is the tile's one task (its state is borrowed mutably), and
            // this phase, which the control thread opens after the update, has no reader.
            let params = unsafe { self.params.tile(range) };
            params.copy_from_slice(&state.gradient_mut()[part]);
            for part in tile.panels(&self.plan.config) {
                // SAFETY: as above; the parts of the panels are the tiles' as the parameters are.
                part.write(unsafe { self.panels.tile(part.range()) }, params);
            }
        }
    }

    /// The row of a job at this place of micro-batch `micro`, cut behind its last target.
    fn row<'a>(&self, job: &'a Job, micro: usize, place: usize) -> Sequence<'a> {
        let context = self.plan.config.context;
        let first = (micro * self.plan.batch + place) * context;
        let targets = &job.targets[first..first + context];
        let trained = targets.iter().rposition(|&t| t != crate::model::IGNORE);
        let len = trained.map_or(0, |last| last + 1);
        (&job.inputs[first..first + len], &targets[..len])
    }

    /// Tasks of phase A in micro-batch `micro`.
    fn tasks(&self, micro: usize) -> usize {
        self.plan.tasks(self.rows_of(&self.open.borrow(), micro))
    }

    /// Sequences in micro-batch `micro`: all but a job's last are full.
    fn rows_of(&self, open: &Open, micro: usize) -> usize {
        let rows = open.job.inputs.len() / self.plan.config.context;
        (rows - micro * self.plan.batch).min(self.plan.batch)
    }

    fn micro_batches(&self, open: &Open) -> usize {
        (open.job.inputs.len() / self.plan.config.context).div_ceil(self.plan.batch)
    }

    /// The losses of the first `rows` sequences, added in their order.
    fn sum_losses(&self, rows: usize) -> f64 {
        self.losses[..rows].iter().map(|loss| loss.borrow().0).sum()
    }
}

#[expect(unsafe_code, reason = "phase B reads what phase A wrote")]
fn read_slot(slot: &Phased<Slot>) -> &Slot {
    // SAFETY: called by tasks of phase B, in which nobody writes a slot.
    unsafe { slot.read() }
}
