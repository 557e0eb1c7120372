//! A step played message by message.
//!
//! A rank has cores, which do one thing after another; a thread for messages, its *hands*; and a wire in
//! each direction. A message passes, first come first served:
//!
//! ```text
//! sender's hands ─▶ its wire out ─▶ latency ─▶ receiver's wire in ─▶ its hands ─▶ what it causes
//!      o              bytes / beta    alpha        bytes / beta          o
//! ```
//!
//! The wire in is busy with a message from its first byte on, which comes `alpha` after it left, and while
//! other messages are on it the message waits in the network. Events are taken by their time, and of
//! one time in the order in which they were noted.

use super::{FLOAT, Network, Parts, SMALL, Step, TOKEN};
use crate::ranks::Shares;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// In which order ranks take the tiles of the last phase B, and send an updated tile to the others. No sum
/// has other bits for it.
///
/// ```
/// use twelvefold::ranks::forecast::{Costs, Network, Order, Step, simulate};
///
/// let costs = Costs { phase_a: 0.4, phase_b: 0.2, add: 0.0, square: 0.0, update: 0.0, adopt: 0.0 };
/// let step = Step { tiles: &[100_000; 64], micro_batches: 16, tokens: 1024, costs };
/// let seconds = |order| simulate(&step, 16, &Network::PRESETS[2], order).total();
/// assert!(seconds(Order::Staggered) < seconds(Order::Numbered)); // Owners are sent to in turns.
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// As a run does: each rank begins with the tiles of the rank after it and ends with its own, and sends
    /// in that order too.
    #[default]
    Staggered,
    /// By number, for comparison: all ranks do the same at the same time.
    Numbered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Carries {
    Tokens,
    /// A node of this tile.
    Node(usize),
    Tally,
    Verdict,
    /// This tile's new parameters.
    Params(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    from: usize,
    to: usize,
    carries: Carries,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// It is given to the sender's hands.
    Post(Message),
    /// They have given it to the wire.
    Leave(Message),
    /// Its first byte is at the receiver.
    Arrive(Message),
    /// All of it is there.
    Taken(Message),
    /// The receiver's hands have dealt with it.
    Deliver(Message),
    /// A rank's last phase B has ended.
    Computed(usize),
    /// A rank's cores have summed a tile of its own, or updated it.
    Summed(usize),
    Updated(usize, usize),
}

/// When each of a rank's parts is free again.
#[derive(Debug, Clone, Copy, Default)]
struct Rank {
    cores: f64,
    hands: f64,
    wire_out: f64,
    wire_in: f64,
    /// Own tiles, and the end of the own phase B, before the tally.
    unsummed: usize,
}

/// Takes a part for so long, from `now` on or when it is free; the end.
fn occupy(part: &mut f64, now: f64, seconds: f64) -> f64 {
    *part = part.max(now) + seconds;
    *part
}

#[derive(Debug)]
struct Simulation<'a> {
    step: &'a Step<'a>,
    network: &'a Network,
    order: Order,
    shares: Shares,
    /// Of each rank.
    nodes: Vec<usize>,
    ranks: Vec<Rank>,
    /// Nodes of other ranks that a tile's owner has not got; and 1 more until it has computed its own.
    missing: Vec<usize>,
    tallies: usize,
    /// Times are kept as their bits, which are ordered as they are: none is negative.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    noted: u64,
    /// The last time that tokens came, computing ended, a node came, a tile was summed, the verdict came, a
    /// tile was updated, and anything was done.
    marks: [f64; 7],
}

const FED: usize = 0;
const COMPUTED: usize = 1;
const RECEIVED: usize = 2;
const SUMMED: usize = 3;
const TOLD: usize = 4;
const UPDATED: usize = 5;
const DONE: usize = 6;

/// The step as its messages run. About four events a message: 1,024 ranks with a hundred tiles are done in
/// a second.
///
/// ```
/// use twelvefold::ranks::forecast::{Costs, Network, Order, Step, simulate};
///
/// let costs = Costs { phase_a: 0.5, phase_b: 0.25, add: 0.0, square: 0.0, update: 0.0, adopt: 0.0 };
/// let step = Step { tiles: &[100_000; 64], micro_batches: 12, tokens: 1024, costs };
/// let parts = simulate(&step, 5, &Network::IDEAL, Order::default());
/// assert_eq!(parts.total(), 3.0 * 0.75); // 12 micro-batches on 5 ranks: some have three.
/// ```
///
/// # Panics
/// When a rank would have no micro-batch.
pub fn simulate(step: &Step<'_>, ranks: usize, network: &Network, order: Order) -> Parts {
    let shares = Shares::new(0, ranks, step.micro_batches, step.tiles);
    let mut nodes = vec![0; ranks];
    shares.nodes().iter().for_each(|node| nodes[node.rank] += 1);
    let missing = |tile| shares.nodes().len() - nodes[shares.owner(tile)] + 1;
    let unsummed = |rank| Rank { unsummed: shares.owned(rank).len() + 1, ..Rank::default() };
    let mut simulation = Simulation {
        missing: (0..step.tiles.len()).map(missing).collect(),
        ranks: (0..ranks).map(unsummed).collect(),
        step,
        network,
        order,
        nodes,
        tallies: 0,
        events: BinaryHeap::new(),
        noted: 0,
        marks: [0.0; 7],
        shares,
    };
    for to in 1..ranks {
        simulation.post(0.0, Message { from: 0, to, carries: Carries::Tokens });
    }
    simulation.compute(0, 0.0);
    while let Some(Reverse((bits, _, event))) = simulation.events.pop() {
        simulation.happen(f64::from_bits(bits), event);
    }
    Parts::of_marks(simulation.marks)
}

impl Simulation<'_> {
    fn note(&mut self, at: f64, event: Event) {
        self.noted += 1;
        self.events.push(Reverse((at.to_bits(), self.noted, event)));
    }

    fn post(&mut self, at: f64, message: Message) {
        self.note(at, Event::Post(message));
    }

    fn mark(&mut self, mark: usize, at: f64) {
        self.marks[mark] = self.marks[mark].max(at);
        self.marks[DONE] = self.marks[DONE].max(at);
    }

    /// Seconds that a message keeps a wire busy.
    fn wire(&self, message: Message) -> f64 {
        let bytes = match message.carries {
            Carries::Tokens => {
                TOKEN * (self.shares.block(message.to).len() * self.step.tokens) as f64
            }
            Carries::Node(tile) | Carries::Params(tile) => FLOAT * self.step.tiles[tile] as f64,
            Carries::Tally | Carries::Verdict => SMALL,
        };
        bytes / self.network.bandwidth
    }

    fn happen(&mut self, now: f64, event: Event) {
        let overhead = self.network.overhead;
        match event {
            Event::Post(message) => {
                let at = occupy(&mut self.ranks[message.from].hands, now, overhead);
                self.note(at, Event::Leave(message));
            }
            Event::Leave(message) => {
                let seconds = self.wire(message);
                let wire = &mut self.ranks[message.from].wire_out;
                let begin = wire.max(now);
                occupy(wire, now, seconds);
                self.note(begin + self.network.latency, Event::Arrive(message));
            }
            Event::Arrive(message) => {
                let seconds = self.wire(message);
                let end = occupy(&mut self.ranks[message.to].wire_in, now, seconds);
                self.note(end, Event::Taken(message));
            }
            Event::Taken(message) => {
                let at = occupy(&mut self.ranks[message.to].hands, now, overhead);
                self.note(at, Event::Deliver(message));
            }
            Event::Deliver(message) => self.deliver(now, message),
            Event::Computed(rank) => {
                self.mark(COMPUTED, now);
                for tile in self.shares.owned(rank) {
                    self.node_came(now, tile);
                }
                self.one_summed(now, rank);
            }
            Event::Summed(rank) => {
                self.mark(SUMMED, now);
                self.one_summed(now, rank);
            }
            Event::Updated(rank, tile) => {
                self.mark(UPDATED, now);
                for to in self.others(rank) {
                    self.post(now, Message { from: rank, to, carries: Carries::Params(tile) });
                }
            }
        }
    }

    fn deliver(&mut self, now: f64, Message { to, carries, .. }: Message) {
        match carries {
            Carries::Tokens => self.compute(to, now),
            Carries::Node(tile) => {
                self.mark(RECEIVED, now);
                self.node_came(now, tile);
            }
            Carries::Tally => self.tallied(now),
            Carries::Verdict => self.update(to, now),
            Carries::Params(tile) => {
                let seconds = self.step.tiles[tile] as f64 * self.step.costs.adopt;
                let end = occupy(&mut self.ranks[to].cores, now, seconds);
                self.mark(DONE, end);
            }
        }
    }

    /// The other ranks in the order in which a tile is sent to them.
    fn others(&self, rank: usize) -> Vec<usize> {
        let ranks = self.ranks.len();
        match self.order {
            Order::Numbered => (0..ranks).filter(|&to| to != rank).collect(),
            Order::Staggered => (1..ranks).map(|by| (rank + by) % ranks).collect(),
        }
    }

    /// A rank has its tokens: when it computes, and when the nodes of its tiles leave.
    fn compute(&mut self, rank: usize, now: f64) {
        self.mark(FED, now);
        let costs = self.step.costs;
        let micro_batches = self.shares.block(rank).len() as f64;
        let end = now + micro_batches * costs.micro_batch();
        self.ranks[rank].cores = end;
        let tiles = self.step.tiles.len();
        let first = match self.order {
            Order::Numbered => 0,
            Order::Staggered => self.shares.owned(rank).end,
        };
        let seconds = costs.phase_b / self.step.parameters();
        let mut at = end - costs.phase_b;
        for tile in (first..tiles).chain(0..first) {
            at += self.step.tiles[tile] as f64 * seconds;
            let to = self.shares.owner(tile);
            for _ in 0..if to == rank { 0 } else { self.nodes[rank] } {
                // Sums of times may round to behind the end.
                self.post(at.min(end), Message { from: rank, to, carries: Carries::Node(tile) });
            }
        }
        self.note(end, Event::Computed(rank));
    }

    /// A node of a tile is at its owner, or all of the owner's own.
    fn node_came(&mut self, now: f64, tile: usize) {
        self.missing[tile] -= 1;
        if self.missing[tile] == 0 {
            let owner = self.shares.owner(tile);
            let seconds = self.step.tiles[tile] as f64 * self.step.sum(self.shares.nodes().len());
            let end = occupy(&mut self.ranks[owner].cores, now, seconds);
            self.note(end, Event::Summed(owner));
        }
    }

    /// One thing less before the tally.
    fn one_summed(&mut self, now: f64, rank: usize) {
        self.ranks[rank].unsummed -= 1;
        if self.ranks[rank].unsummed > 0 {
            return;
        }
        if rank == 0 {
            self.tallied(now);
        } else {
            self.post(now, Message { from: rank, to: 0, carries: Carries::Tally });
        }
    }

    /// A tally is at rank 0, which answers when it has all.
    fn tallied(&mut self, now: f64) {
        self.tallies += 1;
        if self.tallies == self.ranks.len() {
            for to in 1..self.ranks.len() {
                self.post(now, Message { from: 0, to, carries: Carries::Verdict });
            }
            self.update(0, now);
        }
    }

    fn update(&mut self, rank: usize, now: f64) {
        self.mark(TOLD, now);
        for tile in self.shares.owned(rank) {
            let seconds = self.step.tiles[tile] as f64 * self.step.costs.update;
            let end = occupy(&mut self.ranks[rank].cores, now, seconds);
            self.note(end, Event::Updated(rank, tile));
        }
    }
}
