//! A step that several ranks share, as each of them sees it.
//!
//! ```text
//! rank 0 ─tokens─▶ A, B of the own block ─nodes─▶ sum, squares ─tally─▶ rank 0 ─verdict─▶ update ─tiles─▶ adopt
//!                  a rank's micro-batches    by the tile's owner                      by its owner     by all others
//! ```
//!
//! The control thread alone speaks to the other ranks. While its spheres compute it sleeps, and the first
//! to wake it are the tiles of the last phase B: their nodes leave while the others are computed, and so do
//! the parameters of each tile that is updated. What is summed, and in what order, is a function of the
//! number of micro-batches alone ([`Shares`](crate::ranks::Shares)).

use super::Spheres;
use super::plan::Job;
use super::serve::STEP;
use super::task::Task;
use crate::ranks::{Done, Key, Link, Patience, Words, Write};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Commands of rank 0, and its verdict.
pub(super) const COMMAND: u32 = 0;
/// What the others answer.
pub(super) const ANSWER: u32 = 1;
/// Parameters of a run that begins.
pub(super) const BEGINNING: u32 = 2;
/// Moments of owned tiles.
pub(super) const MOMENTS: u32 = 3;
/// From here on a tag for the nodes and one for the parameters of each tile.
const TILES: u32 = 16;

/// A sleep between looks at the messages while the spheres compute and something is being sent.
const SHORT: Duration = Duration::from_micros(200);
/// The same while nothing is.
const LONG: Duration = Duration::from_millis(2);

/// What a message was begun for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// A message that is kept for who asks.
    Message,
    /// The sum of a node, of a tile.
    Node { tile: usize, node: usize },
    /// A tile's new parameters.
    Params { tile: usize },
}

impl For {
    fn key(self) -> Key {
        let pack =
            |kind: u64, tile: usize, more: usize| kind << 60 | (tile as u64) << 32 | more as u64;
        match self {
            For::Message => 0,
            For::Node { tile, node } => pack(1, tile, node),
            For::Params { tile } => pack(2, tile, 0),
        }
    }

    fn of(key: Key) -> For {
        let (tile, more) = ((key >> 32 & 0xfff_ffff) as usize, key as u32 as usize);
        match key >> 60 {
            0 => For::Message,
            1 => For::Node { tile, node: more },
            _ => For::Params { tile },
        }
    }
}

/// A rank's hold on the others.
#[derive(Debug)]
pub(super) struct Team {
    link: Box<dyn Link>,
    /// Messages that have come, with their senders, in no order.
    messages: VecDeque<(usize, Words)>,
    /// Buffers of messages, for the next.
    spare: Vec<Words>,
    /// Sends that are begun and not done.
    sending: usize,
    /// Of the step: nodes and parameters that have not come, and tiles that have not been sent.
    missing: usize,
    unsent: usize,
    /// Nodes that are being sent.
    nodes_out: usize,
    /// Nodes that have come while spheres are at work on their tiles.
    nodes_in: Vec<(usize, usize, Words)>,
    /// A step or an evaluation of all ranks is open.
    pub(super) is_shared: bool,
    /// The run is over for all ranks.
    pub(super) is_dismissed: bool,
    /// Waited for other ranks, with nothing to compute.
    pub(super) waited: Duration,
    /// Words sent.
    pub(super) sent: u64,
}

impl Team {
    pub(super) fn new(link: Box<dyn Link>) -> Self {
        Team {
            link,
            messages: VecDeque::new(),
            spare: Vec::new(),
            sending: 0,
            missing: 0,
            unsent: 0,
            nodes_out: 0,
            nodes_in: Vec::new(),
            is_shared: false,
            is_dismissed: false,
            waited: Duration::ZERO,
            sent: 0,
        }
    }

    /// Waits for the others to do the same.
    pub(super) fn close(self) {
        self.link.close();
    }

    pub(super) fn host(&self) -> String {
        self.link.host()
    }

    /// An empty buffer.
    pub(super) fn buffer(&mut self) -> Write {
        Write::into_buffer(self.spare.pop().unwrap_or_default())
    }

    /// A buffer that is given back.
    pub(super) fn give_back(&mut self, words: Words) {
        self.spare.push(words);
    }

    /// Frees the buffers that were given back: a large message is not kept for small ones.
    pub(super) fn drop_buffers(&mut self) {
        self.spare.clear();
    }

    /// Begins to send a message.
    pub(super) fn send(&mut self, to: usize, tag: u32, message: Write) {
        self.begin_send(to, tag, For::Message, message.words());
    }

    fn begin_send(&mut self, to: usize, tag: u32, what: For, words: Words) {
        self.sent += words.len() as u64;
        self.sending += 1;
        self.link.send(to, tag, what.key(), words);
    }

    pub(super) fn send_all(&mut self, tag: u32, message: Write) {
        self.begin_send_all(tag, For::Message, message.words());
    }

    fn begin_send_all(&mut self, tag: u32, what: For, words: Words) {
        self.sent += words.len() as u64 * (self.link.ranks() as u64 - 1);
        self.sending += 1;
        self.link.send_all(tag, what.key(), words);
    }

    /// Begins to receive a message of at most so many words.
    pub(super) fn expect(&mut self, from: usize, tag: u32, most: usize) {
        let mut room = self.spare.pop().unwrap_or_default();
        room.resize(most, 0);
        self.begin_receive(from, tag, For::Message, room);
    }

    fn begin_receive(&mut self, from: usize, tag: u32, what: For, room: Words) {
        self.link.receive(from, tag, what.key(), room);
    }

    /// Whether all that was begun to be sent has left.
    pub(super) fn is_quiet(&self) -> bool {
        self.sending == 0
    }

    /// Messages that have come and were not taken.
    pub(super) fn messages(&self) -> usize {
        self.messages.len()
    }

    /// The next message that has come.
    pub(super) fn message(&mut self) -> Option<(usize, Words)> {
        self.messages.pop_front()
    }
}

fn words(floats: &mut Vec<f32>) -> Words {
    bytemuck::allocation::cast_vec(std::mem::take(floats))
}

fn floats(words: Words) -> Vec<f32> {
    bytemuck::allocation::cast_vec(words)
}

/// Waits and messages.
impl Spheres {
    pub(super) fn is_shared(&self) -> bool {
        self.team.as_ref().is_some_and(|team| team.is_shared)
    }

    /// The other ranks.
    ///
    /// # Panics
    /// Where there are none.
    #[expect(clippy::expect_used, reason = "called where there are other ranks")]
    pub(super) fn team(&mut self) -> &mut Team {
        self.team.as_mut().expect("a rank among others")
    }

    /// Moves messages and the open phase on until `until`. False when this rank was stopped before.
    pub(super) fn drive(&mut self, until: impl Fn(&Spheres, &Team) -> bool) -> bool {
        self.drive_while(|spheres| !spheres.shutdown.is_stopped(), until)
    }

    /// Moves messages on until `until`, where no sphere of this rank has to do anything for it: a stop of
    /// the run ends no exchange half-way.
    pub(super) fn exchange(&mut self, until: impl Fn(&Team) -> bool) {
        self.drive_while(|_| true, |_, team| until(team));
    }

    fn drive_while(
        &mut self,
        goes_on: impl Fn(&Spheres) -> bool,
        until: impl Fn(&Spheres, &Team) -> bool,
    ) -> bool {
        let Some(mut team) = self.team.take() else {
            return false;
        };
        let reached = self.drive_with(&mut team, goes_on, until);
        self.team = Some(team);
        reached
    }

    fn drive_with(
        &self,
        team: &mut Team,
        goes_on: impl Fn(&Spheres) -> bool,
        until: impl Fn(&Spheres, &Team) -> bool,
    ) -> bool {
        let mut patience = Patience::default();
        let mut idle = None;
        loop {
            let told = self.work.ready().raised();
            let moved = self.advance(team);
            let reached = until(self, team);
            if moved || reached {
                patience.reset();
                team.waited += idle.take().map_or(Duration::ZERO, |since: Instant| since.elapsed());
            }
            if reached || !goes_on(self) {
                return reached;
            }
            if moved {
                continue;
            }
            if self.publisher.is_complete() || self.shutdown.is_stopped() {
                // Nothing wakes this thread now.
                idle.get_or_insert_with(Instant::now);
                patience.pause();
            } else {
                let nap = if team.sending > 0 { SHORT } else { LONG };
                let ready = || {
                    self.work.ready().raised() != told
                        || self.publisher.is_complete()
                        || self.shutdown.is_stopped()
                };
                self.control.nap(nap, ready);
            }
        }
    }

    /// Sends what is ready, and files what has come; whether there was anything.
    fn advance(&self, team: &mut Team) -> bool {
        let mut moved = false;
        if team.unsent > 0 {
            for tile in 0..self.work.tiles().len() {
                if self.work.ready().take(tile) {
                    self.send_tile(team, tile);
                    moved = true;
                }
            }
        }
        while let Some(done) = team.link.progress() {
            self.file(team, done);
            moved = true;
        }
        moved
    }

    /// Sends the nodes of another's tile, or the parameters of an own one.
    fn send_tile(&self, team: &mut Team, tile: usize) {
        let (shares, rank) = (self.work.shares(), self.work.shares().rank());
        let owner = shares.owner(tile);
        let tag = TILES + 2 * tile as u32;
        if owner == rank {
            let params = self.work.with_state(tile, |state| words(state.gradient_buffer()));
            team.begin_send_all(tag + 1, For::Params { tile }, params);
        } else {
            for (node, _) in shares.nodes().iter().enumerate().filter(|(_, n)| n.rank == rank) {
                let sum = self.work.with_state(tile, |state| words(state.node_buffer(node)));
                team.begin_send(owner, tag, For::Node { tile, node }, sum);
                team.nodes_out += 1;
            }
        }
        team.unsent -= 1;
    }

    /// Puts what has left or come where it belongs.
    fn file(&self, team: &mut Team, done: Done) {
        match done {
            Done::Sent { key, words } => {
                team.sending -= 1;
                match For::of(key) {
                    For::Message => team.spare.push(words),
                    // Its task has ended, and the next one that uses the buffer is opened when it is back.
                    For::Node { tile, node } => {
                        team.nodes_out -= 1;
                        self.work.with_state(tile, |s| *s.node_buffer(node) = floats(words));
                    }
                    For::Params { tile } => {
                        self.work.with_state(tile, |s| *s.gradient_buffer() = floats(words));
                    }
                }
            }
            Done::Received { key, from, words } => match For::of(key) {
                For::Message => team.messages.push_back((from, words)),
                For::Node { tile, node } => {
                    team.nodes_in.push((tile, node, words));
                    team.missing -= 1;
                }
                // No task uses another's tile between the last phase B and the adoption.
                For::Params { tile } => {
                    self.work.with_state(tile, |s| *s.gradient_buffer() = floats(words));
                    team.missing -= 1;
                }
            },
        }
    }

    /// Gets ready for a step, before its tasks are open: nodes may come from now on.
    pub(super) fn expect_nodes(&mut self) {
        let Some(mut team) = self.team.take() else {
            return;
        };
        let (shares, rank) = (self.work.shares(), self.work.shares().rank());
        for tile in shares.owned(rank) {
            let others = shares.nodes().iter().enumerate().filter(|(_, n)| n.rank != rank);
            for (node, from) in others {
                let room = self.work.with_state(tile, |state| words(state.node_buffer(node)));
                let tag = TILES + 2 * tile as u32;
                team.begin_receive(from.rank, tag, For::Node { tile, node }, room);
                team.missing += 1;
            }
        }
        team.unsent = self.work.tiles().len() - shares.owned(rank).len();
        team.is_shared = true;
        self.team = Some(team);
    }

    /// Gives every other rank its part of a step, and leaves the own one in the job.
    pub(super) fn hand_out(&mut self, job: &mut Job, targets: u64) {
        let Some(mut team) = self.team.take() else {
            return;
        };
        let (shares, plan) = (self.work.shares(), self.work.plan());
        let row = plan.batch * plan.config.context;
        let all = shares.micro_batches() * row;
        assert_eq!(job.inputs.len(), all, "ranks share whole steps");
        let answer = self.tally_words();
        for rank in 1..shares.ranks() {
            let block = shares.block(rank);
            let part = block.start * row..block.end * row;
            let mut message = team.buffer();
            message.number(STEP).number(job.step).float(job.lr).number(targets);
            message.number(part.len() as u64);
            message.all(&job.inputs[part.clone()]).all(&job.targets[part]);
            team.send(rank, COMMAND, message);
            team.expect(rank, ANSWER, answer);
        }
        let own = shares.block(0).len() * row;
        job.inputs.truncate(own);
        job.targets.truncate(own);
        self.team = Some(team);
        self.expect_nodes();
    }

    /// The rest of a step of which this rank's part has been opened. False: the rank was stopped.
    pub(super) fn share(&mut self) -> bool {
        let computed =
            |s: &Spheres, t: &Team| s.publisher.is_complete() && t.missing == 0 && t.unsent == 0;
        let is_done = self.drive(computed)
            && self.sum()
            && match self.agree() {
                None => false,
                Some(outcome) if self.work.decide(outcome) => self.update(),
                Some(_) => self.drive(|_, t| t.sending == 0),
            };
        // A step that was stopped stays open: the others wait in it.
        self.team().is_shared = !is_done;
        is_done
    }

    /// The sums over all ranks of the tiles that this one owns.
    fn sum(&mut self) -> bool {
        for (tile, node, words) in std::mem::take(&mut self.team().nodes_in) {
            self.work.with_state(tile, |state| *state.node_buffer(node) = floats(words));
        }
        let owned = self.owned();
        self.open(owned, Task::Sum)
    }

    pub(super) fn owned(&self) -> std::ops::Range<usize> {
        self.work.shares().owned(self.work.shares().rank())
    }

    /// A phase over some tiles; waits for its end.
    fn open(&mut self, tiles: std::ops::Range<usize>, task: fn(u32) -> Task) -> bool {
        if !tiles.is_empty() {
            self.publisher.publish((tiles.start as u32..tiles.end as u32).map(task));
        }
        self.drive(|s, _| s.publisher.is_complete())
    }

    /// Updates the owned tiles, and takes the others from their owners.
    fn update(&mut self) -> bool {
        let Some(mut team) = self.team.take() else {
            return false;
        };
        let (owned, tiles) = (self.owned(), self.work.tiles().len());
        let others = || (0..owned.start).chain(owned.end..tiles);
        for tile in others() {
            let room = self.work.with_state(tile, |state| words(state.gradient_buffer()));
            let tag = TILES + 2 * tile as u32 + 1;
            let owner = self.work.shares().owner(tile);
            team.begin_receive(owner, tag, For::Params { tile }, room);
            team.missing += 1;
        }
        team.unsent = owned.len();
        self.team = Some(team);
        let have_come = |_: &Spheres, t: &Team| t.missing == 0 && t.unsent == 0 && t.nodes_out == 0;
        self.open(owned.clone(), Task::Update)
            && self.drive(have_come)
            && self.open(0..owned.start, Task::Adopt)
            && self.open(owned.end..tiles, Task::Adopt)
            && self.drive(|_, t| t.sending == 0)
    }

    /// Waits for a message; `None` when this rank was stopped.
    pub(super) fn next_message(&mut self) -> Option<Words> {
        if !self.drive(|_, team| !team.messages.is_empty()) {
            return None;
        }
        self.team().message().map(|(_, words)| words)
    }

    /// Waits for a message of which it does not matter whether this rank was stopped.
    pub(super) fn message(&mut self) -> Words {
        self.exchange(|team| !team.messages.is_empty());
        self.team().message().map(|(_, words)| words).unwrap_or_default()
    }
}
