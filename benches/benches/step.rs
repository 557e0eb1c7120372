//! Where the time of a training step goes: milliseconds and GFLOP/s by part, for each number of
//! spheres.
//!
//! ```text
//! cargo bench --bench step [-- SIZE.. SPHERES..]    # where none is named: S, M, N and 1, 2
//! cargo bench --bench step -- --test                # one step each
//! ```
//!
//! A part's time is that of all spheres together; what is left to the step's time is waiting. Its
//! operations are the useful ones: attention counts half of the scores, the embedding, the optimizer
//! and all that is done to single elements count nothing. Checked first: the loss of the untrained model is
//! ln V, and it falls.

use twelvefold::model::{Config, Part};
use twelvefold_benches::training::{SIZES, Size, Trainer, useful_flops};

/// Steps that are timed, after two that are not.
const STEPS: usize = 20;

/// Useful operations of a part for a token.
fn flops(config: &Config, part: Part) -> f64 {
    let (v, c) = (config.vocab, config.width);
    let (l, t) = (config.layers, config.context);
    // Forward and backward to the activations are two of three passes; phase B is the third.
    (match part {
        Part::Attention => 4 * 4 * l * c * c + 6 * l * c * t,
        Part::Mlp => 4 * 8 * l * c * c,
        Part::Head => 4 * v * c,
        Part::WeightGradients => 2 * (v * c + 12 * l * c * c),
        Part::Embedding | Part::Optimizer => 0,
    }) as f64
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(size: &Size, spheres: usize, steps: usize) {
    let mut trainer = Trainer::new(size.config, size.batch, 1, spheres);
    let (first, second) = (trainer.step().0, trainer.step().0);
    let ln = (size.config.vocab as f64).ln();
    assert!((first - ln).abs() < 0.2, "{}: first loss {first}", size.name);
    assert!(second < first, "{}: {second} after {first}", size.name);
    let before = trainer.part_seconds();
    let seconds: f64 = (0..steps).map(|_| trainer.step().1).sum();
    let per_step = 1e3 / steps as f64;
    println!("\n{}, {spheres} spheres: {:.2} ms a step\n", size.name, seconds * per_step);
    println!("| part | ms, all spheres | useful GFLOP/s a sphere |\n|---|---|---|");
    let mut busy = 0.0;
    for ((part, after), (_, before)) in trainer.part_seconds().into_iter().zip(before) {
        let spent = after - before;
        busy += spent;
        let work = flops(&size.config, part) * (trainer.tokens() * steps) as f64;
        let rate = if work > 0.0 { format!("{:.1}", work / spent / 1e9) } else { "–".to_owned() };
        println!("| {} | {:.2} | {rate} |", part.name(), spent * per_step);
    }
    let waited = seconds * spheres as f64 - busy;
    let all = useful_flops(&size.config) * (trainer.tokens() * steps) as f64 / seconds / 1e9;
    println!("| waiting | {:.2} | – |", waited * per_step);
    println!("| step | {:.2} | {:.1} |", seconds * per_step * spheres as f64, all / spheres as f64);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let steps = if arguments.iter().any(|a| a == "--test") { 1 } else { STEPS };
    let named: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let (numbers, names): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|name| name.parse::<usize>().is_ok());
    let mut widths: Vec<usize> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
    if widths.is_empty() {
        widths = vec![1, 2];
    }
    for size in SIZES {
        if names.is_empty() || names.iter().any(|name| *name == size.name) {
            for &spheres in &widths {
                print(&size, spheres, steps);
            }
        }
    }
}
