//! The sum of a vector over several ranks: along our tree, beside MPI's own. And training steps of ranks.
//!
//! ```text
//! cargo bench -p twelvefold-benches --features mpi --bench ranks
//! … -- sums --tile 65536   # these alone, with other tiles
//! … -- steps               # these alone
//! … -- --test              # the smallest once, and no figures
//! ```
//!
//! It starts itself under Open MPI's `mpirun`, with 2 ranks, and with 4 however few the cores are; over shared
//! memory and over TCP. Ours is what a training step does with gradients: each rank sends its part of each
//! tile to the tile's owner, who sums the parts along the tree and sends the sum to all. Theirs is
//! `MPI_Allreduce` of f32, whose order of the sum is MPI's own. A row is the median of rounds that take
//! turns; a round takes as long as its slowest rank; the ratio is taken within a round.
//! Checked before and after: every rank has the bits of the tree.

#![expect(unsafe_code, reason = "MPI's own sum is C")]
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod ranks_steps;

#[path = "../../tests/common/mpirun.rs"]
mod mpirun;

use mpi::ffi;
use std::ffi::c_void;
use std::process::Command;
use std::time::Instant;
use twelvefold::ranks::mpi::{Mpi, is_launched};
use twelvefold::ranks::{Done, Key, Link, Patience, Shares, Words};
use twelvefold_benches::engine::measure::Others;

/// Numbers in a tile, at most.
const TILE: usize = 131_072;
/// Numbers in the vector, and rounds.
const SIZES: [(usize, usize); 3] = [(100_000, 301), (1_000_000, 151), (10_000_000, 31)];
/// How ranks speak, by Open MPI's parameters.
const WAYS: [(&str, &[&str]); 2] = [
    ("shared memory", &["--mca", "btl", "vader,self"]),
    ("TCP, loopback", &["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"]),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((ranks_steps::ROLE, rest)) = arguments.split_first().map(|(a, rest)| (&**a, rest)) {
        return ranks_steps::play(rest);
    }
    let has = |name: &str| arguments.iter().any(|a| a == name);
    let is_test = has("--test");
    if is_launched() {
        let tile = arguments.iter().skip_while(|a| *a != "--tile").nth(1);
        let tile = tile.map_or(TILE, |tile| tile.parse().expect("--tile is a number"));
        return play(tile, is_test);
    }
    let others = Others::watch();
    if !has("steps") {
        sums(&arguments);
    }
    if !has("sums") {
        ranks_steps::compare(&WAYS, is_test);
    }
    if let Some(share) = others.share() {
        println!("\nothers used {:.0} % of the processors meanwhile", share * 100.0);
    }
}

fn sums(arguments: &[String]) {
    println!("| ranks | over | f32 | ours, ms | GB/s | MPI_Allreduce, ms | GB/s | times as fast |");
    println!("|---|---|---|---|---|---|---|---|");
    for ranks in [2, 4] {
        for (name, way) in WAYS {
            for row in job(ranks, way, arguments).lines() {
                println!("| {ranks} | {name} | {row}");
            }
        }
    }
}

/// `mpirun` for so many ranks, without the program.
fn launcher(ranks: usize, way: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-np", &ranks.to_string()]).args(way);
    command
}

/// What so many ranks print.
fn job(ranks: usize, way: &[&str], arguments: &[String]) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let output = mpirun::output(launcher(ranks, way).arg(program).args(arguments));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{ranks} ranks {way:?}: {why}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One rank of a job.
fn play(tile: usize, is_test: bool) {
    let mut link = Mpi::join().expect("MPI works");
    let sizes = if is_test { &SIZES[..1] } else { &SIZES[..] };
    for &(len, rounds) in sizes {
        let rounds = if is_test { 1 } else { rounds };
        let mut ours = Ours::new(&link, len, tile);
        let mut theirs = Theirs::new(len);
        let (mut taken, mut taken_by_mpi) = (Vec::new(), Vec::new());
        for round in 0..rounds + 3 {
            ours.fill(link.rank());
            theirs.fill(link.rank());
            let first = if round % 2 == 0 { ours.round(&mut link) } else { theirs.round() };
            let second = if round % 2 == 0 { theirs.round() } else { ours.round(&mut link) };
            let (ours_took, theirs_took) =
                if round % 2 == 0 { (first, second) } else { (second, first) };
            // The first rounds are not counted: buffers are touched for the first time.
            if is_test || round >= 3 {
                taken.push(ours_took);
                taken_by_mpi.push(theirs_took);
            }
            if round == 0 || round + 1 == rounds + 3 {
                ours.check(link.ranks());
                theirs.check(link.ranks());
            }
        }
        if link.rank() == 0 {
            let ratios = taken.iter().zip(&taken_by_mpi).map(|(ours, theirs)| theirs / ours);
            let ratio = median(ratios.collect());
            let (ours, theirs) = (median(taken), median(taken_by_mpi));
            let rate = |seconds: f64| (4 * len) as f64 / seconds / 1e9;
            println!(
                "{len} | {:.3} | {:.2} | {:.3} | {:.2} | {ratio:.2} |",
                ours * 1e3,
                rate(ours),
                theirs * 1e3,
                rate(theirs)
            );
        }
    }
    Box::new(link).close();
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The number that a rank puts in, of three magnitudes, so that the order of a sum shows in its bits.
fn value(rank: usize, at: usize) -> f32 {
    let hash = ((at * 8 + rank) as u32).wrapping_mul(0x9E37_79B1).rotate_left(13);
    let scale = [1.0, 1e-3, 1e3][hash as usize % 3];
    (hash >> 8) as f32 / (1 << 24) as f32 * scale
}

/// The tree written down, of the ranks from one to another.
fn tree(ranks: std::ops::Range<usize>, at: usize) -> f32 {
    if ranks.len() == 1 {
        return value(ranks.start, at);
    }
    let middle = ranks.start + ranks.len().next_power_of_two() / 2;
    tree(ranks.start..middle, at) + tree(middle..ranks.end, at)
}

/// Seconds from when all are there until the last rank is done.
fn timed(run: impl FnOnce()) -> f64 {
    // SAFETY: a constant.
    let world = unsafe { ffi::RSMPI_COMM_WORLD };
    // SAFETY: all ranks call it, and MPI is initialised while their links live.
    unsafe { ffi::MPI_Barrier(world) };
    let start = Instant::now();
    run();
    let (took, mut longest) = (start.elapsed().as_secs_f64(), 0.0_f64);
    let (from, to) = ((&raw const took).cast::<c_void>(), (&raw mut longest).cast::<c_void>());
    // SAFETY: two constants.
    let (double, max) = (unsafe { ffi::RSMPI_DOUBLE }, unsafe { ffi::RSMPI_MAX });
    // SAFETY: both places hold one f64, and all ranks call it.
    unsafe { ffi::MPI_Allreduce(from, to, 1, double, max, world) };
    longest
}

struct Theirs {
    own: Vec<f32>,
    sum: Vec<f32>,
}

impl Theirs {
    fn new(len: usize) -> Self {
        Theirs { own: vec![0.0; len], sum: vec![0.0; len] }
    }

    fn fill(&mut self, rank: usize) {
        self.own.iter_mut().enumerate().for_each(|(at, x)| *x = value(rank, at));
    }

    fn round(&mut self) -> f64 {
        let (from, to) = (self.own.as_ptr().cast(), self.sum.as_mut_ptr().cast());
        // SAFETY: constants.
        let (float, sum) = (unsafe { ffi::RSMPI_FLOAT }, unsafe { ffi::RSMPI_SUM });
        // SAFETY: a constant.
        let world = unsafe { ffi::RSMPI_COMM_WORLD };
        let count = self.own.len() as i32;
        timed(|| {
            // SAFETY: both places hold `count` f32, and all ranks call it.
            unsafe { ffi::MPI_Allreduce(from, to, count, float, sum, world) };
        })
    }

    /// The bits may be others than the tree's.
    fn check(&self, ranks: usize) {
        for (at, &sum) in self.sum.iter().enumerate() {
            let wanted = tree(0..ranks, at);
            assert!((sum - wanted).abs() <= wanted * 1e-5, "{sum} at {at}, not {wanted}");
        }
    }
}

/// A vector in tiles, and what one rank needs to sum it with the others.
struct Ours {
    shares: Shares,
    lens: Vec<usize>,
    /// By tile: what this rank puts in, and what comes out.
    own: Vec<Words>,
    sums: Vec<Words>,
    /// By tile that is owned: the parts that have come, by rank.
    parts: Vec<Vec<Words>>,
    missing: Vec<usize>,
    /// Buffers for what comes.
    spare: Vec<Words>,
}

/// The part of a tile, or the sum of it: tags, and keys with the sender beside.
const SUM: u32 = 1 << 15;

impl Ours {
    fn new(link: &Mpi, len: usize, tile: usize) -> Self {
        let ranks = link.ranks();
        let tiles = len.div_ceil(tile).max(ranks);
        let cut = |tile: usize| tile * len / tiles;
        let lens: Vec<usize> = (0..tiles).map(|tile| cut(tile + 1) - cut(tile)).collect();
        let shares = Shares::new(link.rank(), ranks, ranks, &lens);
        let owned = shares.owned(link.rank()).len();
        Ours {
            own: lens.iter().map(|&len| vec![0; len]).collect(),
            sums: vec![Words::new(); tiles],
            parts: vec![vec![Words::new(); ranks]; tiles],
            missing: vec![0; tiles],
            spare: vec![vec![0; len.div_ceil(tiles)]; owned * (ranks - 1) + tiles - owned],
            lens,
            shares,
        }
    }

    fn fill(&mut self, rank: usize) {
        let mut at = 0;
        for (tile, &len) in self.own.iter_mut().zip(&self.lens) {
            tile.resize(len, 0);
            for word in tile {
                *word = value(rank, at).to_bits();
                at += 1;
            }
        }
    }

    fn check(&self, ranks: usize) {
        let sums = self.sums.iter().flatten();
        for (at, (&sum, wanted)) in sums.zip((0..).map(|at| tree(0..ranks, at))).enumerate() {
            assert_eq!(sum, wanted.to_bits(), "at {at}");
        }
        assert_eq!(self.sums.iter().map(Vec::len).sum::<usize>(), self.lens.iter().sum::<usize>());
    }

    fn round(&mut self, link: &mut Mpi) -> f64 {
        // What came out the last time is room again.
        self.spare.extend(self.sums.iter_mut().map(std::mem::take).filter(|sum| !sum.is_empty()));
        timed(|| self.reduce(link))
    }

    fn room(&mut self, tile: usize) -> Words {
        let mut room = self.spare.pop().unwrap_or_default();
        room.resize(self.lens[tile], 0);
        room
    }

    fn reduce(&mut self, link: &mut Mpi) {
        let (me, ranks, tiles) = (link.rank(), link.ranks(), self.lens.len());
        for tile in 0..tiles {
            let owner = self.shares.owner(tile);
            if owner == me {
                for from in (0..ranks).filter(|&from| from != me) {
                    let room = self.room(tile);
                    link.receive(from, tile as u32, key(0, tile), room);
                }
                self.missing[tile] = ranks - 1;
            } else {
                let room = self.room(tile);
                link.receive(owner, SUM + tile as u32, key(SUM, tile), room);
            }
        }
        // The first tile of each owner, then the second, each rank with another owner first.
        let mut order: Vec<(usize, usize, usize)> = Vec::new();
        for step in 1..ranks {
            let owner = (me + step) % ranks;
            let owned = self.shares.owned(owner).enumerate();
            order.extend(owned.map(|(nth, tile)| (nth, step, tile)));
        }
        order.sort_unstable();
        for (_, step, tile) in order {
            let part = std::mem::take(&mut self.own[tile]);
            link.send((me + step) % ranks, tile as u32, key(0, tile), part);
        }
        self.finish(link);
    }

    fn finish(&mut self, link: &mut Mpi) {
        let owned = self.shares.owned(link.rank()).len();
        let others = self.lens.len() - owned;
        // Parts that go and come, sums that go and come.
        let mut left = others + owned * (link.ranks() - 1) + owned + others;
        let mut patience = Patience::default();
        while left > 0 {
            let Some(done) = link.progress() else {
                patience.pause();
                continue;
            };
            patience.reset();
            left -= 1;
            match done {
                Done::Sent { key, words } if key & Key::from(SUM) == 0 => {
                    self.own[key as usize] = words;
                }
                Done::Sent { key, words } | Done::Received { key, words, .. }
                    if key & Key::from(SUM) != 0 =>
                {
                    self.sums[(key & !Key::from(SUM)) as usize] = words;
                }
                Done::Received { key, from, words } => self.take(link, key as usize, from, words),
                Done::Sent { .. } => {}
            }
        }
    }

    /// A part has come: with the last one, the sum goes out.
    fn take(&mut self, link: &mut Mpi, tile: usize, from: usize, words: Words) {
        let parts = &mut self.parts[tile];
        parts[from] = words;
        self.missing[tile] -= 1;
        if self.missing[tile] > 0 {
            return;
        }
        parts[link.rank()] = std::mem::take(&mut self.own[tile]);
        for &(into, left) in self.shares.sums() {
            let (before, after) = parts.split_at_mut(into);
            add(&mut after[0], &before[left]);
        }
        let sum = parts.last_mut().map(std::mem::take).unwrap_or_default();
        link.send_all(SUM + tile as u32, key(SUM, tile), sum);
        let mut free = parts.iter_mut().map(std::mem::take).filter(|part| !part.is_empty());
        // One of them is the rank's own part of the next round.
        self.own[tile] = free.next().unwrap_or_default();
        self.spare.extend(free);
    }
}

fn key(kind: u32, tile: usize) -> Key {
    Key::from(kind) | tile as Key
}

/// into = into + left, on f32 as bits; the sum of two has the same bits either way round.
fn add(into: &mut [u32], left: &[u32]) {
    for (into, &left) in into.iter_mut().zip(left) {
        *into = (f32::from_bits(left) + f32::from_bits(*into)).to_bits();
    }
}
