//! How long a step would take on more ranks, and on other networks, than are at hand.
//!
//! Two ways to the same parts ([`Parts`]), from costs that are measured on one rank ([`Costs`]) and from
//! what a [`Network`] is said to do: [`paper`] puts them together by formulas in which every transfer
//! hides behind work where it can, so no run is faster; [`simulate`] plays the messages of a step, one
//! by one. Both use the [`Shares`] and the tiles that a run uses. Nothing here is random: the same
//! numbers give the same bits.
//!
//! Seconds, bytes and parameters throughout, as `f64` where they are multiplied. `r` is a rank of `R`,
//! `own` the parameters that it owns of `n`, `N` the nodes of all ranks, `N_r` its own, `a` and `b` the
//! seconds of the two phases of a micro-batch; `alpha` is a network's latency, `beta` its bandwidth,
//! `o` its overhead.
//!
//! What both leave out: a rank sums its tiles, and adopts those of others, only when all have come, a
//! sender is held up by a busy receiver, links inside the network are busy, messages take cores from the
//! spheres, and not all cores are of one speed.

mod simulate;
#[cfg(test)]
mod tests;

pub use simulate::{Order, simulate};

use super::Shares;

/// Bytes of a parameter, or of its gradient, in a message.
const FLOAT: f64 = 4.0;
/// Bytes of a token in a message: itself, and the one to be foretold.
const TOKEN: f64 = 8.0;
/// Bytes of a tally, and of the verdict.
const SMALL: f64 = 64.0;

/// What one rank's cores need, all spheres together.
///
/// ```
/// use twelvefold::ranks::forecast::Costs;
///
/// let core = Costs { phase_a: 0.4, phase_b: 0.2, add: 4e-10, square: 1e-10, update: 1e-9, adopt: 1e-9 };
/// let machine = core.sped_up(16.0); // Sixteen such cores, if all of it is shared evenly.
/// assert_eq!((machine.phase_a, machine.phase_b), (0.025, 0.0125));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Seconds of phase A, forward and backward, for a micro-batch.
    pub phase_a: f64,
    /// Seconds of phase B, the gradients of the weights, for a micro-batch. Each tile takes as much of
    /// them as it has of the parameters.
    pub phase_b: f64,
    /// Seconds to add a parameter's gradient of one node to that of another.
    pub add: f64,
    /// Seconds to square a parameter's gradient, for the norm.
    pub square: f64,
    /// Seconds to update a parameter, and to pack it.
    pub update: f64,
    /// Seconds to copy and pack a parameter that another rank has updated.
    pub adopt: f64,
}

impl Costs {
    /// Those of a rank that is so many times as fast.
    pub fn sped_up(self, times: f64) -> Costs {
        Costs {
            phase_a: self.phase_a / times,
            phase_b: self.phase_b / times,
            add: self.add / times,
            square: self.square / times,
            update: self.update / times,
            adopt: self.adopt / times,
        }
    }

    /// A micro-batch.
    fn micro_batch(&self) -> f64 {
        self.phase_a + self.phase_b
    }
}

/// What ties the ranks together, as each of them sees it.
///
/// ```
/// use twelvefold::ranks::forecast::Network;
///
/// let slow = Network { name: "assumed", latency: 1e-4, bandwidth: 1e8, overhead: 1e-5 };
/// assert!(Network::PRESETS.iter().all(|network| network.bandwidth > slow.bandwidth));
/// assert_eq!(Network::IDEAL.latency, 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// What tables call it.
    pub name: &'static str,
    /// Seconds from the sender's first byte to the receiver's.
    pub latency: f64,
    /// Bytes a second that a rank can send, and as many that it can receive meanwhile.
    pub bandwidth: f64,
    /// Seconds that a rank's one thread for messages needs for each, at either end.
    pub overhead: f64,
}

impl Network {
    /// Round numbers to begin with; measure your own. Bandwidths are the line rates of the standards
    /// (10 Gb/s of IEEE 802.3ae, four lanes of InfiniBand EDR) less a twentieth for headers, and assumed
    /// for the two inside a machine, as are all latencies and overheads.
    pub const PRESETS: [Network; 4] = [
        Network { name: "shared-memory", latency: 0.5e-6, bandwidth: 5e9, overhead: 0.5e-6 },
        Network { name: "loopback-tcp", latency: 15e-6, bandwidth: 2e9, overhead: 5e-6 },
        Network { name: "10gbe", latency: 30e-6, bandwidth: 1.18e9, overhead: 5e-6 },
        Network { name: "infiniband-100g", latency: 1.5e-6, bandwidth: 11.8e9, overhead: 0.5e-6 },
    ];

    /// One that costs nothing: what compute alone allows.
    pub const IDEAL: Network =
        Network { name: "ideal", latency: 0.0, bandwidth: f64::INFINITY, overhead: 0.0 };
}

/// What a step has to do, whoever does it.
///
/// ```
/// use twelvefold::ranks::forecast::{Costs, Network, Order, Step, paper, simulate};
///
/// let costs = Costs { phase_a: 0.4, phase_b: 0.2, add: 1e-9, square: 1e-9, update: 1e-9, adopt: 1e-9 };
/// let step = Step { tiles: &[100_000; 40], micro_batches: 64, tokens: 1024, costs };
/// let seconds = |ranks| simulate(&step, ranks, &Network::PRESETS[2], Order::default()).total();
/// assert!(seconds(16) < seconds(4) && seconds(4) < seconds(1));
/// assert!(seconds(16) >= paper(&step, 16, &Network::PRESETS[2]).total());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step<'a> {
    /// Parameters of each tile.
    pub tiles: &'a [usize],
    /// Micro-batches, of all ranks.
    pub micro_batches: usize,
    /// Tokens of a micro-batch.
    pub tokens: usize,
    /// What a rank needs for its part.
    pub costs: Costs,
}

impl Step<'_> {
    /// n: all parameters.
    fn parameters(&self) -> f64 {
        self.tiles.iter().sum::<usize>() as f64
    }

    /// The smallest of these tiles.
    fn smallest(&self, tiles: std::ops::Range<usize>) -> f64 {
        self.tiles[tiles].iter().copied().min().unwrap_or(0) as f64
    }

    /// Parameters of the tiles that a rank owns.
    fn own(&self, shares: &Shares, rank: usize) -> f64 {
        self.tiles[shares.owned(rank)].iter().sum::<usize>() as f64
    }

    /// Seconds in which an owner sums and squares a parameter over so many nodes.
    fn sum(&self, nodes: usize) -> f64 {
        (nodes - 1) as f64 * self.costs.add + self.costs.square
    }
}

/// A step's seconds, by what the last rank to come through did; each part is what it adds to those before
/// it, so that what is hidden behind another does not count twice.
///
/// ```
/// use twelvefold::ranks::forecast::Parts;
///
/// let parts = Parts { compute: 8.0, gradients: 0.5, params: 1.5, ..Parts::default() };
/// assert_eq!((parts.total(), parts.limit()), (10.0, "parameters"));
/// assert_eq!(parts.named()[1], ("compute", 8.0));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parts {
    /// Until rank 0 has given everybody the tokens.
    pub feed: f64,
    /// Then until everybody has computed the own micro-batches.
    pub compute: f64,
    /// Then until the owners have the nodes of all.
    pub gradients: f64,
    /// Then until these are summed.
    pub sum: f64,
    /// Then until everybody has the verdict of rank 0.
    pub tally: f64,
    /// Then until the owners have updated their tiles.
    pub update: f64,
    /// Then until everybody has these.
    pub params: f64,
}

impl Parts {
    /// From clock times, each at least as late as the one before it.
    fn of_marks(marks: [f64; 7]) -> Parts {
        let mut before = 0.0f64;
        let [feed, compute, gradients, sum, tally, update, params] = marks.map(|mark| {
            let mark = mark.max(before);
            let part = mark - before;
            before = mark;
            part
        });
        Parts { feed, compute, gradients, sum, tally, update, params }
    }

    /// With names, in the order of a step.
    pub fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("feed", self.feed),
            ("compute", self.compute),
            ("gradients", self.gradients),
            ("sum", self.sum),
            ("tally", self.tally),
            ("update", self.update),
            ("parameters", self.params),
        ]
    }

    /// The whole step.
    pub fn total(&self) -> f64 {
        self.named().iter().map(|(_, seconds)| seconds).sum()
    }

    /// The largest part beside computing; computing itself where all others together are less than a tenth
    /// of the step.
    pub fn limit(&self) -> &'static str {
        if self.compute > 0.9 * self.total() {
            return "compute";
        }
        let others = self.named().into_iter().filter(|(name, _)| *name != "compute");
        others.max_by(|a, b| a.1.total_cmp(&b.1)).map_or("compute", |(name, _)| name)
    }
}

/// What a rank sends and receives in one of the two exchanges.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Parameters that come, and that leave.
    came: f64,
    left: f64,
    messages: usize,
}

impl Load {
    /// The least seconds from the first message's begin until so many parameters are through a wire and
    /// the last of them in other hands. 0 where there are none.
    fn wire(parameters: f64, network: &Network) -> f64 {
        let bytes = FLOAT * parameters;
        let way = 2.0 * network.overhead + network.latency;
        if bytes > 0.0 { way + bytes / network.bandwidth } else { 0.0 }
    }

    /// The least seconds from the first message's begin until somebody has the last: the fuller wire is
    /// busy for all bytes, or the hands for all messages.
    fn seconds(&self, network: &Network) -> f64 {
        let hands = network.overhead * self.messages as f64;
        Load::wire(self.came.max(self.left), network).max(hands)
    }
}

/// The step by formulas. No step of [`simulate`] is shorter; one that is longer says that messages stood
/// in each other's way.
///
/// ```text
/// blocks      the largest has ceil(M / R) micro-batches, the smallest floor(M / R)
/// feed        max((R - 1) o + block / beta, o + all others' blocks / beta) + alpha + o
/// compute     ceil(M / R) (a + b)
/// gradients   from the first tile that anybody has: 2 o + alpha + 4 max(own (N - N_r), (n - own) N_r) / beta,
///             or o for each message; as far as that ends later than the computing
/// sum         own ((N - 1) add + square); before the last rank has computed only where others are done
/// tally       2 o + alpha to rank 0, (R - 1) o + alpha + o back
/// update      own update
/// parameters  from the first tile on: 2 o + alpha + 4 max(own (R - 1), n - own) / beta, or o for each
///             message; and (n - own) adopt
/// ```
///
/// Where the greatest over all ranks is meant it is taken over the real blocks, nodes and tiles.
///
/// ```
/// use twelvefold::ranks::forecast::{Costs, Network, Step, paper};
///
/// let costs = Costs { phase_a: 0.4, phase_b: 0.2, add: 0.0, square: 0.0, update: 0.0, adopt: 0.0 };
/// let step = Step { tiles: &[1 << 18; 8], micro_batches: 64, tokens: 1024, costs };
/// // 8 MiB of parameters, of which a rank gets three quarters; the gradients hide behind phase B.
/// let network = Network { bandwidth: 64.0 * 1048576.0, ..Network::IDEAL };
/// let parts = paper(&step, 4, &network);
/// assert!((parts.params - 0.75 / 8.0).abs() < 1e-9 && parts.gradients == 0.0);
/// ```
///
/// # Panics
/// When a rank would have no micro-batch.
pub fn paper(step: &Step<'_>, ranks: usize, network: &Network) -> Parts {
    let shares = Shares::new(0, ranks, step.micro_batches, step.tiles);
    let block = |rank: usize| shares.block(rank).len() as f64 * step.costs.micro_batch();
    let fed = feed(step, &shares, network);
    // The last rank has a largest block, and gets its tokens last.
    let computed = fed + block(ranks - 1);
    let phase_b = step.costs.phase_b / step.parameters();
    let first = step.smallest(0..step.tiles.len()) * phase_b;
    let fewest = (step.micro_batches / ranks) as f64 * step.costs.micro_batch();
    let begun = fewest - step.costs.phase_b + first;
    let mut marks = Marks::default();
    let each = step.sum(shares.nodes().len());
    for rank in 0..ranks {
        let own = step.own(&shares, rank);
        let load = gradient_load(step, &shares, rank);
        if load.messages > 0 {
            // Somebody has then at least one tile to sum.
            marks.received = marks.received.max(begun + load.seconds(network));
            marks.sum(network, 0, marks.received + step.smallest(0..step.tiles.len()) * each);
        }
        let came = if load.came > 0.0 { begun + Load::wire(load.came, network) } else { 0.0 };
        let end = block(rank) + if rank + 1 == ranks { fed } else { 0.0 };
        // What the last rank adds comes in its last phase B at the earliest.
        let free = end.max(if own > 0.0 { computed - step.costs.phase_b } else { 0.0 });
        let least = step.smallest(shares.owned(rank)) * each;
        marks.sum(network, rank, (free + own * each).max(came + least));
    }
    let answers = (ranks - 1) as f64 * network.overhead;
    let way = network.latency + network.overhead;
    let told = marks.verdict + if ranks > 1 { answers + way } else { 0.0 };
    let updated = (0..ranks).map(|rank| {
        let told = if rank == 0 { marks.verdict } else { marks.verdict + network.overhead + way };
        told + step.own(&shares, rank) * step.costs.update
    });
    let updated = updated.fold(told, f64::max);
    let done = (0..ranks).map(|rank| spread(step, &shares, rank, network) + marks.verdict);
    let done = done.fold(updated, f64::max);
    Parts::of_marks([fed, computed, marks.received, marks.summed, told, updated, done])
}

/// A step by another way of summing, for comparison, on paper: after the computing, recursive halving. Ranks
/// exchange halves of what they still have with the rank 1, 2, 4, ... further, and after the update the
/// same backwards. Each rank then owns n / R parameters, and sends log2 R messages where the tiles'
/// owners get and send R - 1. The sums run along the same tree, and so have the same bits, where the
/// micro-batches of each rank are one power of two.
///
/// ```text
/// gradients, parameters    log2 R (2 o + alpha) + 4 n (R - 1) / R / beta
/// sum, update, adopt       n (R - 1) / R add + n / R square, n / R update, n (R - 1) / R adopt
/// tally                    2 log2 R (2 o + alpha)
/// ```
///
/// ```
/// use twelvefold::ranks::forecast::{Costs, Network, Step, halving};
///
/// let costs = Costs { phase_a: 0.4, phase_b: 0.2, add: 0.0, square: 0.0, update: 0.0, adopt: 0.0 };
/// let step = Step { tiles: &[1 << 20; 2], micro_batches: 64, tokens: 1024, costs };
/// let network = Network { bandwidth: 8.0 * 1048576.0, ..Network::IDEAL };
/// assert_eq!(halving(&step, 4, &network).gradients, 0.75); // Of 8 MiB, three quarters.
/// ```
///
/// # Panics
/// When a rank would have no micro-batch.
pub fn halving(step: &Step<'_>, ranks: usize, network: &Network) -> Parts {
    let shares = Shares::new(0, ranks, step.micro_batches, step.tiles);
    let rounds = f64::from(ranks.next_power_of_two().ilog2());
    let way = rounds * (2.0 * network.overhead + network.latency);
    let n = step.parameters();
    let own = n / ranks as f64;
    let exchange = way + FLOAT * (n - own) / network.bandwidth;
    let costs = &step.costs;
    Parts {
        feed: feed(step, &shares, network),
        compute: shares.block(ranks - 1).len() as f64 * costs.micro_batch(),
        gradients: exchange,
        sum: (n - own) * costs.add + own * costs.square,
        tally: 2.0 * way,
        update: own * costs.update,
        params: exchange + (n - own) * costs.adopt,
    }
}

#[derive(Debug, Default)]
struct Marks {
    received: f64,
    summed: f64,
    verdict: f64,
}

impl Marks {
    /// A rank has summed its tiles, and tells rank 0.
    fn sum(&mut self, network: &Network, rank: usize, at: f64) {
        self.summed = self.summed.max(at);
        let way = if rank == 0 { 0.0 } else { 2.0 * network.overhead + network.latency };
        self.verdict = self.verdict.max(at + way);
    }
}

/// Until the last rank has its tokens.
fn feed(step: &Step<'_>, shares: &Shares, network: &Network) -> f64 {
    let last = shares.ranks() - 1;
    if last == 0 {
        return 0.0;
    }
    let seconds = |blocks: usize| TOKEN * (blocks * step.tokens) as f64 / network.bandwidth;
    let all = network.overhead + seconds(step.micro_batches - shares.block(0).len());
    let hands = last as f64 * network.overhead + seconds(shares.block(last).len());
    all.max(hands) + network.latency + network.overhead
}

/// Nodes to and from a rank.
fn gradient_load(step: &Step<'_>, shares: &Shares, rank: usize) -> Load {
    let nodes = shares.nodes().len();
    let of_rank = shares.nodes().iter().filter(|node| node.rank == rank).count();
    let (own, tiles) = (step.own(shares, rank), shares.owned(rank).len());
    Load {
        came: own * (nodes - of_rank) as f64,
        left: (step.parameters() - own) * of_rank as f64,
        messages: tiles * (nodes - of_rank) + (step.tiles.len() - tiles) * of_rank,
    }
}

/// From the verdict until a rank has sent its tiles, has those of others, and has adopted these.
fn spread(step: &Step<'_>, shares: &Shares, rank: usize, network: &Network) -> f64 {
    let others = shares.ranks() - 1;
    let (own, tiles) = (step.own(shares, rank), shares.owned(rank).len());
    let foreign = step.parameters() - own;
    let messages = tiles * others + (step.tiles.len() - tiles) * others.min(1);
    let load = Load { came: foreign, left: own * others as f64, messages };
    let first = step.smallest(0..step.tiles.len()) * step.costs.update;
    let cores = own * step.costs.update + foreign * step.costs.adopt;
    let wires = if messages > 0 { first + load.seconds(network) } else { 0.0 };
    cores.max(wires)
}
