//! Tokens per second of a training step, as a share of the machine's f32 peak in the same run.
//!
//! ```text
//! cargo run --release -p twelvefold-benches --bin figures -- [ROUNDS] [sizes] [crowds] [shapes]
//! … --bin figures -- list [sizes] [shapes]    # what they are, for benches/torch/compare
//! ```
//!
//! `sizes` (the default): S, M and N with 1 and 2 spheres. `crowds`: S, M and N with 2, 12 and 64
//! spheres, and micro-batches of 64 sequences to feed them. `shapes`: sizes that no kernel was made
//! for.
//!
//! A round measures the peak on 1 and 2 threads and steps every model once or more; rounds follow each
//! other, so that a change in the machine's load meets all rows alike. The table gives medians.
//! Checked first: the loss of the untrained model is ln V, it falls, and it is the same for every
//! number of spheres, bit for bit.

use std::process::ExitCode;
use twelvefold::model::Config;
use twelvefold_benches::training::{SHAPES, SIZES, Size, Trainer, useful_flops};
use twelvefold_benches::{median, peak};

/// Steps of each model in a round: about as long as this, and at least one.
const ROUND_SECONDS: f64 = 0.3;
/// Sequences in a micro-batch where there are many spheres.
const CROWD: usize = 64;

struct Row {
    size: Size,
    spheres: usize,
    trainer: Trainer,
    steps: usize,
    seconds: Vec<f64>,
}

/// Trainers of a size, one for each number of spheres; their first losses agree.
fn rows(size: Size, widths: &[usize], rows: &mut Vec<Row>) {
    let mut seen = None;
    for &spheres in widths {
        let mut trainer = Trainer::new(size.config, size.batch, 1, spheres);
        let [(first, _), (second, seconds)] = [trainer.step(), trainer.step()];
        let ln = (size.config.vocab as f64).ln();
        assert!((first - ln).abs() < 0.3, "{}: {first} for {ln}", size.name);
        assert!(second < first, "{}: {second} after {first}", size.name);
        let bits = [first, second].map(f64::to_bits);
        assert_eq!(*seen.get_or_insert(bits), bits, "{}: {spheres} spheres", size.name);
        let steps = (ROUND_SECONDS / seconds).max(1.0) as usize;
        rows.push(Row { size, spheres, trainer, steps, seconds: Vec::new() });
    }
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(peaks: [f64; 2], rows: &mut [Row]) {
    println!(
        "| size | spheres | median step, ms | tokens/s | useful GFLOP/s | f32 peak, GFLOP/s | share |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        let seconds = median(&mut row.seconds);
        let rate = row.trainer.tokens() as f64 / seconds;
        let gflops = rate * useful_flops(&row.size.config) / 1e9;
        let peak = peaks[row.spheres.min(2) - 1];
        println!(
            "| {} | {} | {:.2} | {rate:.0} | {gflops:.1} | {peak:.1} | {:.1} % |",
            row.size.name,
            row.spheres,
            seconds * 1e3,
            gflops / peak * 100.0,
        );
    }
}

/// Name, vocabulary, layers, heads, width, context and batch of each size.
#[expect(clippy::print_stdout, reason = "the list was asked for")]
fn list(sizes: &[Size]) {
    for Size { name, config, batch } in sizes {
        let Config { vocab, layers, heads, width, context } = config;
        println!("{name}\t{vocab}\t{layers}\t{heads}\t{width}\t{context}\t{batch}");
    }
}

#[expect(clippy::print_stderr, reason = "how to call it")]
fn main() -> ExitCode {
    let (mut rounds, mut only_list) = (7, false);
    let mut tables = Vec::new();
    for argument in std::env::args().skip(1) {
        match (argument.as_str(), argument.parse::<usize>()) {
            (_, Ok(n @ 1..)) => rounds = n,
            ("list", _) => only_list = true,
            (name @ ("sizes" | "crowds" | "shapes"), _) => tables.push(name.to_owned()),
            _ => {
                eprintln!("usage: figures [ROUNDS] [sizes] [crowds] [shapes]");
                return ExitCode::from(2);
            }
        }
    }
    if tables.is_empty() {
        tables.push("sizes".to_owned());
    }
    for table in tables {
        if only_list {
            list(if table == "shapes" { &SHAPES } else { &SIZES });
            continue;
        }
        let mut all = Vec::new();
        match table.as_str() {
            "sizes" => SIZES.iter().for_each(|&size| rows(size, &[1, 2], &mut all)),
            "shapes" => SHAPES.iter().for_each(|&size| rows(size, &[1, 2], &mut all)),
            _ => {
                for size in SIZES {
                    // The probabilities of 64 sequences of S would be 1.6 GB.
                    let batch = if size.name == "S" { CROWD / 4 } else { CROWD };
                    rows(Size { batch, ..size }, &[2, 12, 64], &mut all);
                }
            }
        }
        let mut peaks = [0.0_f64; 2];
        for _ in 0..rounds {
            for (threads, best) in peaks.iter_mut().enumerate() {
                // A peak is what the machine can do: the best round, not the median one.
                *best = best.max(peak::gflops(threads + 1));
            }
            for row in &mut all {
                row.seconds.extend((0..row.steps).map(|_| row.trainer.step().1));
            }
        }
        print(peaks, &mut all);
    }
    ExitCode::SUCCESS
}
