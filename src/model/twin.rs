//! A plain twin for the tests: the same model in f64, one loop per formula, and central differences.

use super::{Config, IGNORE, Layout, Random};

/// n normal numbers of deviation `scale`, that f32 holds exactly.
pub(crate) fn normal(n: usize, scale: f64, stream: u64) -> Vec<f64> {
    let mut random = Random::new(99, stream);
    (0..n).map(|_| f64::from((random.normal() * scale) as f32)).collect()
}

pub(crate) fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// The derivative of `f` by each element of `x`, by central differences.
pub(crate) fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let h = 1e-5;
    let mut moved = x.to_vec();
    let mut gradient = Vec::with_capacity(x.len());
    for i in 0..x.len() {
        moved[i] = x[i] + h;
        let above = f(&moved);
        moved[i] = x[i] - h;
        let below = f(&moved);
        moved[i] = x[i];
        gradient.push((above - below) / (2.0 * h));
    }
    gradient
}

/// Panics where `got` is further from `want` than `tolerance` times the largest of `want`.
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
    for (i, (&got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= tolerance * largest, "{what}[{i}]: {got} for {want} of {largest}");
    }
}

pub(crate) fn inner(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// y (T, OC) = x (T, IC) W (IC, OC) + b (OC).
pub(crate) fn linear(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let oc = b.len();
    let ic = w.len() / oc;
    let mut y = Vec::new();
    for row in x.chunks(ic) {
        for o in 0..oc {
            y.push(b[o] + (0..ic).map(|i| row[i] * w[i * oc + o]).sum::<f64>());
        }
    }
    y
}

pub(crate) fn layernorm(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let c = w.len();
    let mut y = Vec::new();
    for row in x.chunks(c) {
        let mean = row.iter().sum::<f64>() / c as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / c as f64;
        let rstd = 1.0 / (variance + 1e-5).sqrt();
        y.extend((0..c).map(|i| (row[i] - mean) * rstd * w[i] + b[i]));
    }
    y
}

pub(crate) fn gelu(u: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (u + 0.044715 * u.powi(3));
    0.5 * u * (1.0 + inner.tanh())
}

/// y (T, C) of qkv (T, 3C).
pub(crate) fn attention(qkv: &[f64], c: usize, heads: usize) -> Vec<f64> {
    let (t, hs) = (qkv.len() / (3 * c), c / heads);
    let mut y = vec![0.0; t * c];
    for h in 0..heads {
        let row = |i: usize, part: usize| &qkv[i * 3 * c + part * c + h * hs..][..hs];
        for i in 0..t {
            let scores: Vec<f64> =
                (0..=i).map(|j| inner(row(i, 0), row(j, 1)) / (hs as f64).sqrt()).collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (j, weight) in weights.iter().enumerate() {
                for (y, v) in y[i * c + h * hs..][..hs].iter_mut().zip(row(j, 2)) {
                    *y += weight / total * v;
                }
            }
        }
    }
    y
}

/// Sum of -ln p(target) over the trained targets, from logits (T, V).
pub(crate) fn cross_entropy(logits: &[f64], targets: &[u32]) -> f64 {
    let v = logits.len() / targets.len();
    let mut loss = 0.0;
    for (row, &target) in logits.chunks(v).zip(targets) {
        if target != IGNORE {
            let largest = row.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = row.iter().map(|x| (x - largest).exp()).sum();
            loss += total.ln() + largest - row[target as usize];
        }
    }
    loss
}

/// Logits (T, V) of the whole model; tensors are found by their names.
pub(crate) fn logits(config: &Config, params: &[f64], inputs: &[u32]) -> Vec<f64> {
    let layout = Layout::new(config);
    let get = |name: String| {
        let tensor = layout.tensors().iter().find(|t| t.name == format!("transformer.{name}"));
        &params[tensor.unwrap().range.clone()]
    };
    let c = config.width;
    let (wte, wpe) = (get("wte.weight".into()), get("wpe.weight".into()));
    let mut x: Vec<f64> = Vec::new();
    for (t, &token) in inputs.iter().enumerate() {
        x.extend((0..c).map(|i| wte[token as usize * c + i] + wpe[t * c + i]));
    }
    for l in 0..config.layers {
        let get = |name: &str| get(format!("h.{l}.{name}"));
        let dense = |x: &[f64], name: &str| {
            linear(x, get(&format!("{name}.weight")), get(&format!("{name}.bias")))
        };
        let n = layernorm(&x, get("ln_1.weight"), get("ln_1.bias"));
        let y = attention(&dense(&n, "attn.c_attn"), c, config.heads);
        x = add(&x, &dense(&y, "attn.c_proj"));
        let n = layernorm(&x, get("ln_2.weight"), get("ln_2.bias"));
        let u: Vec<f64> = dense(&n, "mlp.c_fc").into_iter().map(gelu).collect();
        x = add(&x, &dense(&u, "mlp.c_proj"));
    }
    let x = layernorm(&x, get("ln_f.weight".into()), get("ln_f.bias".into()));
    x.chunks(c).flat_map(|x| wte.chunks(c).map(move |w| inner(x, w))).collect()
}

fn add(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}
