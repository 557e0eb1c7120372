//! Training steps on one process with two spheres, beside two processes with a sphere each.
//!
//! A round runs each way once, so that what changes on the machine falls on all; the ratio is taken within
//! a round. A run's figure is that of its median step. Checked: all runs have the same weights, to the bit.

use super::mpirun;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use twelvefold::model::{Config, Layout};
use twelvefold::ranks::Link;
use twelvefold::ranks::mpi::{Mpi, is_launched};
use twelvefold::report::RunReport;
use twelvefold::train::{Cancel, Options, run, run_among, run_as_rank};
use twelvefold_benches::training::{SIZES, Size};

/// The first argument of a process that trains, before the folder, the spheres and the steps.
pub(crate) const ROLE: &str = "--train";

/// What is trained.
const M: Size = SIZES[1];

/// Rounds, and steps in each run: about 13 seconds.
const ROUNDS: usize = 3;
const STEPS: u64 = 4;

/// Bytes of text: more tokens than a run needs, and a short validation at its end.
const TEXT: usize = 400_000;
/// Words that occur in it: enough for 4,096 tokens.
const WORDS: u64 = 3_000;

/// What a process printed of its run.
struct Ran {
    tokens_per_second: f64,
    /// The part of a second in which each rank waited for the other, with nothing to compute.
    waited: Vec<f64>,
    weights: String,
}

/// Every way that is measured: its name, its spheres in a process, and how its ranks speak.
struct Way<'a> {
    name: String,
    spheres: usize,
    over: Option<&'a [&'a str]>,
}

/// Prints the table. `over` says how ranks speak, by Open MPI's parameters.
pub(crate) fn compare(over: &[(&str, &[&str])], is_test: bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("text.txt"), text(TEXT)).expect("room for the text");
    let alone = Way { name: "1 process, 2 spheres".to_owned(), spheres: 2, over: None };
    let among = over.iter().map(|&(name, over)| Way {
        name: format!("2 ranks, 1 sphere each, {name}"),
        spheres: 1,
        over: Some(over),
    });
    let ways: Vec<Way<'_>> = std::iter::once(alone).chain(among).collect();
    let (rounds, steps) = if is_test { (1, 0) } else { (ROUNDS, STEPS) };
    let mut ran: Vec<Vec<Ran>> = ways.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for nth in 0..ways.len() {
            // Another begins each round.
            let nth = (round + nth) % ways.len();
            tell(&format!("round {} of {rounds}: {}", round + 1, ways[nth].name));
            ran[nth].push(job(&ways[nth], folder.path(), steps));
        }
    }
    let first = &ran[0][0].weights;
    for (way, ran) in ways.iter().zip(&ran) {
        assert!(ran.iter().all(|ran| ran.weights == *first), "{}: other weights", way.name);
    }
    if !is_test {
        table(&ways, &ran);
    }
}

/// Says what is waited for: the table comes at the end.
#[expect(clippy::print_stderr, reason = "a run takes half a minute, and minutes on a busy machine")]
fn tell(what: &str) {
    eprintln!("{what}");
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn table(ways: &[Way<'_>], ran: &[Vec<Ran>]) {
    println!("\n| M, 8 micro-batches | tokens/s | to 1 process | the rounds | ranks waited |");
    println!("|---|---|---|---|---|");
    for (way, runs) in ways.iter().zip(ran) {
        let rate = super::median(runs.iter().map(|ran| ran.tokens_per_second).collect());
        let ratios: Vec<f64> = runs
            .iter()
            .zip(&ran[0])
            .map(|(ran, alone)| ran.tokens_per_second / alone.tokens_per_second)
            .collect();
        let rounds: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
        let waited: Vec<String> = (0..runs[0].waited.len())
            .map(|rank| super::median(runs.iter().map(|ran| ran.waited[rank]).collect()))
            .map(|share| format!("{:.1} %", share * 100.0))
            .collect();
        println!(
            "| {} | {rate:.0} | {:.3} | {} | {} |",
            way.name,
            super::median(ratios),
            rounds.join(", "),
            waited.join(", ")
        );
    }
}

/// Starts a run and waits for what rank 0 says of it.
fn job(way: &Way<'_>, folder: &Path, steps: u64) -> Ran {
    let program = std::env::current_exe().expect("this program has a path");
    let (spheres, steps) = (way.spheres.to_string(), steps.to_string());
    let role: [&OsStr; 4] = [ROLE.as_ref(), folder.as_os_str(), spheres.as_ref(), steps.as_ref()];
    let output = match way.over {
        None => Command::new(program).args(role).output().expect("this program runs"),
        Some(over) => mpirun::output(super::launcher(2, over).arg(program).args(role)),
    };
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {why}", way.name);
    let said = String::from_utf8_lossy(&output.stdout);
    let mut said = said.split_whitespace();
    let mut next = || said.next().expect("a run says its figures");
    let (weights, rate) = (next().to_owned(), next().parse().expect("a number"));
    let waited = said.map(|share| share.parse().expect("a number")).collect();
    Ran { tokens_per_second: rate, waited, weights }
}

/// The run of one process, alone or a rank.
#[expect(clippy::print_stdout, reason = "its figures go to the process that compares them")]
pub(crate) fn play(arguments: &[String]) {
    let [folder, spheres, steps] = arguments else {
        panic!("{ROLE} FOLDER SPHERES STEPS");
    };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let options = options(Path::new(folder), number(spheres) as usize, number(steps));
    let report = if is_launched() {
        let link = Mpi::join().expect("MPI works");
        assert_eq!(link.ranks(), 2, "as many as were started");
        if link.rank() != 0 {
            run_as_rank(Box::new(link), options.spheres).expect("rank 1 ends well");
            return;
        }
        run_among(Box::new(link), &options, &Cancel::new(), &mut ())
    } else {
        run(&options, &Cancel::new(), &mut ())
    };
    let report = report.expect("the run ends well");
    check(&report, &options);
    print!("{} {}", report.weights_sha256, report.tokens_per_second);
    let seconds = report.tokens as f64 / report.tokens_per_second;
    report.ranks.iter().for_each(|rank| print!(" {}", rank.waited_seconds / seconds));
    println!();
}

/// The run was of the size that it is called.
fn check(report: &RunReport, options: &Options) {
    let per_step = options.sequences_per_step() * options.context;
    assert_eq!(report.tokens, options.steps * per_step as u64, "whole steps");
    if report.steps == STEPS {
        let wanted = Layout::new(&M.config).len() as u64;
        assert_eq!(report.parameters, wanted, "the text gives the whole vocabulary");
    }
}

/// The size M of the other figures; of 0 steps, a step of a small one.
fn options(folder: &Path, spheres: usize, steps: u64) -> Options {
    let common = Options {
        paths: vec![folder.join("text.txt")],
        out: folder.join("run"),
        overwrite: true,
        spheres,
        tokenizers: 1,
        micro_batches: 8,
        eval_interval: 0,
        checkpoint_every: 0,
        checkpoint_minutes: 0,
        ..Options::default()
    };
    if steps == 0 {
        let (tokenizer, steps) = ("bytes".to_owned(), 1);
        let (layers, heads, width, context) = (1, 1, 8, 16);
        return Options { steps, tokenizer, layers, heads, width, context, ..common };
    }
    let Config { vocab, layers, heads, width, context } = M.config;
    let (tokenizer, batch) = (format!("bpe:{vocab}"), M.batch);
    Options { steps, tokenizer, layers, heads, width, context, batch, ..common }
}

/// Words of three to ten letters in random order, always the same.
fn text(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let mut word = (state >> 33) % WORDS;
        word = (word + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..3 + word % 8 {
            word = word.rotate_left(9).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            text.push(char::from(b'a' + ((word >> 40) % 26) as u8));
        }
        text.push(if (state >> 20).is_multiple_of(12) { '\n' } else { ' ' });
    }
    text
}
