//! Tokens per second of text that is generated, by the length of the text: with the keys and values of
//! the tokens before, and by the whole forward pass for each token.
//!
//! ```text
//! cargo bench --bench generate [-- SIZE..]    # where none is named: default, M, N, small
//! cargo bench --bench generate -- --test      # a few tokens each
//! ```
//!
//! One thread. Checked first: both give the same bits. `benches/torch/generate.py` measures the same
//! models in transformers.

use std::time::Instant;
use twelvefold::model::{
    Cache, Config, Isa, Layout, Scratch, Slot, Weights, forward_logits, forward_next, pack,
};

/// Beside the sizes that are trained, GPT-2's smallest.
const SIZES: [(&str, Config); 4] = [
    ("default", Config { vocab: 1024, layers: 2, heads: 4, width: 64, context: 256 }),
    ("N", Config { vocab: 65, layers: 4, heads: 4, width: 128, context: 64 }),
    ("M", Config { vocab: 4096, layers: 6, heads: 6, width: 384, context: 256 }),
    ("small", Config { vocab: 50257, layers: 12, heads: 12, width: 768, context: 1024 }),
];

/// The longest text for which the whole forward pass is run for each token.
const WHOLE: usize = 32;

/// The likeliest token.
fn best(logits: &[f32]) -> u32 {
    let likelier =
        |best: usize, (i, logit): (usize, &f32)| if *logit > logits[best] { i } else { best };
    logits.iter().enumerate().fold(0, likelier) as u32
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn measure(name: &str, config: &Config, isa: Isa, longest: usize) {
    let params = Layout::new(config).init(1);
    let panels = pack(config, &params);
    let weights = Weights::new(config, &params, &panels);
    let (mut cache, mut logits) = (Cache::new(config, isa), vec![0.0; config.vocab]);
    let mut cached = |n: usize| -> (Vec<u32>, f64) {
        cache.clear();
        let (started, mut tokens) = (Instant::now(), vec![1]);
        while tokens.len() <= n {
            forward_next(config, weights, &tokens[tokens.len() - 1..], &mut logits, &mut cache);
            tokens.push(best(&logits));
        }
        (tokens, started.elapsed().as_secs_f64())
    };
    let (tokens, _) = cached(longest.min(WHOLE)); // Pages are touched here, and not below.
    let mut lengths = vec![longest.min(config.context - 1)];
    while lengths[0] > 2 * WHOLE {
        lengths.insert(0, lengths[0] / 2);
    }
    for n in lengths {
        let seconds = cached(n).1;
        println!("| {name} | cached, {n} tokens | {:.0} |", n as f64 / seconds);
    }
    let prompt: Vec<u32> =
        (0..config.context.min(longest)).map(|i| (i % config.vocab) as u32).collect();
    cache.clear();
    let started = Instant::now();
    forward_next(config, weights, &prompt, &mut logits, &mut cache);
    let rate = prompt.len() as f64 / started.elapsed().as_secs_f64();
    println!("| {name} | a prompt of {} tokens | {rate:.0} |", prompt.len());

    let (mut slot, mut scratch) = (Slot::new(config, 1), Scratch::new(config, 1, isa));
    let started = Instant::now();
    for n in 1..tokens.len() {
        forward_logits(config, weights, &tokens[..n], &mut logits, &mut slot, &mut scratch);
        assert_eq!(best(&logits), tokens[n], "{name}: token {n}");
    }
    let rate = (tokens.len() - 1) as f64 / started.elapsed().as_secs_f64();
    println!("| {name} | whole pass, {} tokens | {rate:.0} |", tokens.len() - 1);
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() -> Result<(), twelvefold::Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_test = arguments.iter().any(|a| a == "--test");
    let names: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    println!("| size | what | tokens/s |\n|---|---|---|");
    for (name, config) in SIZES {
        if names.is_empty() || names.iter().any(|n| *n == name) {
            measure(name, &config, Isa::detect()?, if is_test { 4 } else { config.context });
        }
    }
    Ok(())
}
