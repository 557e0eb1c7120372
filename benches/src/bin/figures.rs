//! Tokens per second of a training step, as a share of the machine's f32 peak in the same run.
//!
//! ```text
//! cargo run --release -p twelvefold-benches --bin figures [ROUNDS]
//! ```
//!
//! A round measures the peak on 1 and 2 threads and steps every model with 1 and 2 spheres; rounds
//! follow each other, so that a change in the machine's load meets all rows alike. The table gives
//! medians. Checked first: the loss of the untrained model is ln V, it falls, and it is the same on
//! 1 and on 2 spheres, bit for bit.

use std::process::ExitCode;
use twelvefold_benches::training::{SIZES, Trainer, useful_flops};
use twelvefold_benches::{median, peak};

/// Threads, and spheres.
const WIDTHS: [usize; 2] = [1, 2];
/// Steps of each model in a round.
const STEPS: usize = 4;

struct Row {
    size: &'static str,
    spheres: usize,
    flops_per_token: f64,
    trainer: Trainer,
    seconds: Vec<f64>,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (size, config) in SIZES {
        let mut seen = None;
        for spheres in WIDTHS {
            let mut trainer = Trainer::new(config, spheres);
            let losses = [trainer.step().0, trainer.step().0];
            assert!((losses[0] - (config.vocab as f64).ln()).abs() < 0.2, "{size}: {losses:?}");
            assert!(losses[1] < losses[0], "{size}: {losses:?}");
            let bits = losses.map(f64::to_bits);
            assert_eq!(*seen.get_or_insert(bits), bits, "{size}: {spheres} spheres");
            let flops_per_token = useful_flops(&config);
            rows.push(Row { size, spheres, flops_per_token, trainer, seconds: Vec::new() });
        }
    }
    rows
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(peaks: &[f64], rows: &mut [Row]) {
    println!(
        "| size | spheres | median step, ms | tokens/s | useful GFLOP/s | f32 peak, GFLOP/s | share |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        let seconds = median(&mut row.seconds);
        let rate = row.trainer.tokens() as f64 / seconds;
        let gflops = rate * row.flops_per_token / 1e9;
        let peak = peaks[row.spheres - 1];
        println!(
            "| {} | {} | {:.1} | {rate:.0} | {gflops:.1} | {peak:.1} | {:.0} % |",
            row.size,
            row.spheres,
            seconds * 1e3,
            gflops / peak * 100.0,
        );
    }
}

#[expect(clippy::print_stderr, reason = "how to call it")]
fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).map_or(Ok(5), |rounds| rounds.parse::<usize>());
    let Ok(rounds @ 1..) = rounds else {
        eprintln!("usage: figures [ROUNDS]: a whole number from 1");
        return ExitCode::from(2);
    };
    let mut rows = rows();
    let mut peaks = WIDTHS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (threads, seen) in WIDTHS.iter().zip(&mut peaks) {
            seen.push(peak::gflops(*threads));
        }
        for row in &mut rows {
            row.seconds.extend((0..STEPS).map(|_| row.trainer.step().1));
        }
    }
    // A peak is what the machine can do: the best round, not the median one.
    let best = |seen: Vec<f64>| seen.into_iter().fold(0.0, f64::max);
    print(&peaks.map(best), &mut rows);
    ExitCode::SUCCESS
}
