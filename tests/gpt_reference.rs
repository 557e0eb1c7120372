//! Ten training steps against the losses of an independent implementation.
//!
//! The figures come from `tests/reference/gpt_losses.py` (PyTorch 1.13, f64; its f32 losses lie
//! within 3e-7 of them, relative). Weights and tokens are made by the formula that both share.
#![cfg(feature = "train")]

use twelvefold::model::adamw::{AdamW, Update, clip_factor, sum_of_squares};
use twelvefold::model::{
    Config, Isa, Layout, Scratch, Slot, Weights, forward_backward, pack, tiles, weight_gradient,
};

/// Relative distance allowed to the figures: f32 against f64 over ten steps.
const TOLERANCE: f64 = 2e-6;
const LR: f64 = 1e-2;
const MAX_NORM: f64 = 1.0;

const ODD: [f64; 10] = [
    4.294591, 3.9059112, 3.9718787, 3.926325, 3.8829603, 3.9438802, 3.8462886, 3.9975273,
    3.9498487, 3.853921,
];
const ODD_NORMS: [f64; 10] =
    [2.86542, 1.24981, 0.84514, 0.89984, 0.87647, 0.75859, 0.73881, 0.92636, 0.77956, 0.76863];
const MEDIUM: [f64; 10] = [
    7.0774563, 6.9938545, 6.8967142, 6.9010428, 6.9453792, 6.7259964, 6.8897836, 6.8716103,
    6.7729007, 6.8525513,
];
const MEDIUM_NORMS: [f64; 10] =
    [1.54579, 0.69125, 0.64917, 0.58734, 0.65058, 0.53654, 0.5913, 0.5357, 0.65802, 0.53733];

/// The finalizer of SplitMix64.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A multiple of 2^-23 in [-1, 1).
fn uniform(tensor: u64, i: u64) -> f32 {
    ((mix(i + (tensor << 32)) >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
}

/// Token i of the stream: skewed to small numbers, so that there is something to learn.
fn token(i: u64, vocab: u64) -> u32 {
    let u = mix(i + (1 << 60)) >> 40;
    ((((u * u) >> 24) * vocab) >> 24) as u32
}

fn parameters(layout: &Layout) -> Vec<f32> {
    let mut params = vec![0.0; layout.len()];
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let gain = tensor.name.contains("ln_") && tensor.name.ends_with("weight");
        for (i, p) in params[tensor.range.clone()].iter_mut().enumerate() {
            *p = uniform(index as u64, i as u64) * 0.125 + if gain { 1.0 } else { 0.0 };
        }
    }
    params
}

/// Loss per token and gradient norm of each of ten steps, with so many sequences in a group.
fn train(config: &Config, batch: usize, group: usize, isa: Isa) -> Vec<(f64, f64)> {
    let layout = Layout::new(config);
    let mut params = parameters(&layout);
    let (mut m, mut v) = (vec![0.0; params.len()], vec![0.0; params.len()]);
    let mut slots: Vec<Slot> =
        (0..batch).step_by(group).map(|_| Slot::new(config, group)).collect();
    let mut scratch = Scratch::new(config, group, isa);
    let (adamw, t) = (AdamW::default(), config.context);
    let mut history = Vec::new();
    for step in 0..10 {
        let start = step * batch * t;
        let stream: Vec<u32> =
            (start..=start + batch * t).map(|i| token(i as u64, config.vocab as u64)).collect();
        let scale = 1.0 / (batch * t) as f32;
        let mut loss = 0.0;
        let panels = pack(config, &params);
        let weights = Weights::new(config, &params, &panels);
        for (i, slot) in slots.iter_mut().enumerate() {
            let places = i * group..((i + 1) * group).min(batch);
            let group = places.map(|i| (&stream[i * t..][..t], &stream[i * t + 1..][..t]));
            loss += forward_backward(config, weights, group, scale, slot, &mut scratch);
        }
        let gradients: Vec<_> = tiles(config)
            .into_iter()
            .map(|tile| {
                let mut grad = vec![0.0; tile.len()];
                weight_gradient(config, &tile, slots.iter(), &mut grad, &mut scratch);
                (tile, grad)
            })
            .collect();
        let squares: f64 = gradients.iter().map(|(_, grad)| sum_of_squares(isa, grad)).sum();
        let (norm, lr) = (squares.sqrt(), LR);
        let clip = clip_factor(norm, MAX_NORM);
        for (tile, grad) in gradients {
            let update = Update { lr, clip, step: step as u64 + 1, decay: tile.decays() };
            let mut rest = &grad[..];
            for range in tile.ranges(config) {
                let (grad, tail) = rest.split_at(range.len());
                let (p, m) = (&mut params[range.clone()], &mut m[range.clone()]);
                adamw.update(isa, &update, p, grad, m, &mut v[range]);
                rest = tail;
            }
        }
        history.push((loss / (batch * t) as f64, norm));
    }
    history
}

fn compare(config: &Config, batch: usize, losses: &[f64], norms: &[f64]) {
    let crews = Isa::available().into_iter().flat_map(|isa| [1, 2, batch].map(|g| (isa, g)));
    for (isa, group) in crews {
        let history = train(config, batch, group, isa);
        for (step, (loss, norm)) in history.into_iter().enumerate() {
            let (want, want_norm) = (losses[step], norms[step]);
            let off = (loss / want - 1.0).abs();
            assert!(off < TOLERANCE, "{} step {step}: loss {loss} for {want}", isa.name());
            let off = (norm / want_norm - 1.0).abs();
            assert!(off < 5e-5, "{} step {step}: norm {norm} for {want_norm}", isa.name());
        }
    }
}

#[test]
fn ten_steps_of_an_odd_model_lose_what_pytorch_loses() {
    let config = Config { vocab: 61, layers: 2, heads: 3, width: 33, context: 19 };
    compare(&config, 3, &ODD, &ODD_NORMS);
}

#[test]
fn ten_steps_of_a_medium_model_lose_what_pytorch_loses() {
    let config = Config { vocab: 1000, layers: 3, heads: 4, width: 64, context: 64 };
    compare(&config, 4, &MEDIUM, &MEDIUM_NORMS);
}
