//! Phase A: one sequence through the model and back, and what evaluation and sampling need of it.

use super::Config;
use super::attention::{attention_backward, attention_forward};
use super::gelu::{bias_gelu_forward, gelu_backward};
use super::head::{head_forward_backward, head_loss};
use super::isa::Isa;
use super::layernorm::{Norm, layernorm_backward, layernorm_forward};
use super::layout::{VECTORS, block_ranges, final_norm_ranges, wpe_range, wte_range};
use super::linear::{add_bias, add_bias_residual, bias_backward, linear_backward, linear_forward};
use super::matmul::{Mat, MatMut, Write, matmul};
use super::slot::{Scratch, Slot};

/// Forward, head and backward to the activations for one sequence.
///
/// `params`: the flat vector of [`Layout`](super::Layout). `inputs`, `targets`: (T), T at most
/// `config.context`; a target of [`IGNORE`](super::IGNORE) is not trained. The gradients that `slot`
/// holds afterwards are those of `scale` times the sum of the targets' losses. Returns that sum, in
/// nats, not scaled. Allocates nothing but what a matrix product packs.
///
/// # Panics
/// Where there are more tokens than `config.context`, not as many targets as inputs, or a token
/// outside the vocabulary.
///
/// ```
/// use twelvefold::model::{Config, Isa, Layout, Scratch, Slot, forward_backward};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let (mut slot, mut scratch) = (Slot::new(&config), Scratch::new(&config, Isa::detect()?));
/// let (inputs, targets) = ([1, 2, 3], [2, 3, 4]);
/// let loss =
///     forward_backward(&config, &params, &inputs, &targets, 1.0 / 3.0, &mut slot, &mut scratch);
/// assert!((loss / 3.0 - 10f64.ln()).abs() < 0.1); // an untrained model knows nothing
/// # Ok::<(), twelvefold::Error>(())
/// ```
pub fn forward_backward(
    config: &Config,
    params: &[f32],
    inputs: &[u32],
    targets: &[u32],
    scale: f32,
    slot: &mut Slot,
    scratch: &mut Scratch,
) -> f64 {
    slot.load(config, inputs, targets, scale);
    trunk_forward(config, params, slot, scratch.isa);
    let loss = head_forward_backward(config, params, slot, scratch);
    trunk_backward(config, params, slot, scratch);
    loss
}

/// The sum of the targets' losses in nats, without gradients. `slot` lends its activations.
///
/// ```
/// use twelvefold::model::{Config, Isa, Layout, Scratch, Slot, forward_loss};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let (mut slot, mut scratch) = (Slot::new(&config), Scratch::new(&config, Isa::detect()?));
/// let loss = forward_loss(&config, &params, &[1, 2], &[2, 3], &mut slot, &mut scratch);
/// assert!((loss / 2.0 - 10_f64.ln()).abs() < 0.1); // It knows nothing yet.
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Panics
/// As [`forward_backward`].
pub fn forward_loss(
    config: &Config,
    params: &[f32],
    inputs: &[u32],
    targets: &[u32],
    slot: &mut Slot,
    scratch: &mut Scratch,
) -> f64 {
    slot.load(config, inputs, targets, 0.0);
    trunk_forward(config, params, slot, scratch.isa);
    head_loss(config, params, slot, scratch)
}

/// The logits of the token that follows `inputs`, for sampling. `logits`: (V).
///
/// ```
/// use twelvefold::model::{Config, Isa, Layout, Scratch, Slot, forward_logits};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let (mut slot, mut scratch) = (Slot::new(&config), Scratch::new(&config, Isa::detect()?));
/// let mut logits = [f32::NAN; 10];
/// forward_logits(&config, &params, &[1, 2], &mut logits, &mut slot, &mut scratch);
/// assert!(logits.iter().all(|logit| logit.is_finite()));
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Panics
/// As [`forward_backward`], and where `inputs` is empty or `logits` is not `config.vocab` long.
pub fn forward_logits(
    config: &Config,
    params: &[f32],
    inputs: &[u32],
    logits: &mut [f32],
    slot: &mut Slot,
    scratch: &mut Scratch,
) {
    assert!(!inputs.is_empty(), "logits follow at least one token");
    let (c, v) = (config.width, config.vocab);
    slot.load(config, inputs, inputs, 0.0);
    trunk_forward(config, params, slot, scratch.isa);
    let at = (2 * config.layers * config.context + inputs.len() - 1) * c;
    let last = Mat::new(&slot.normed[at..at + c], 1, c, c);
    let wte = Mat::new(&params[wte_range(config)], v, c, c);
    matmul(MatMut::new(logits, 1, v, v), Write::Set, last, wte.t());
}

/// From tokens to the output of the final norm.
fn trunk_forward(config: &Config, params: &[f32], slot: &mut Slot, isa: Isa) {
    embed(config, params, slot);
    for layer in 0..config.layers {
        attention_part_forward(config, params, slot, isa, layer);
        mlp_part_forward(config, params, slot, isa, layer);
    }
    let [weight, bias] = final_norm_ranges(config).map(|r| &params[r]);
    norm_forward(config, slot, isa, 2 * config.layers, weight, bias);
}

/// residual[0] (T, C) = wte[token] + wpe[position].
fn embed(config: &Config, params: &[f32], slot: &mut Slot) {
    let c = config.width;
    let (wte, wpe) = (&params[wte_range(config)], &params[wpe_range(config)]);
    let rows = slot.residual.chunks_exact_mut(c).zip(wpe.chunks_exact(c));
    for ((x, position), &token) in rows.zip(&slot.inputs) {
        let embedding = &wte[token as usize * c..][..c];
        for ((x, e), p) in x.iter_mut().zip(embedding).zip(position) {
            *x = e + p;
        }
    }
}

/// normed[i] = LayerNorm(residual[i]), with its statistics.
fn norm_forward(config: &Config, slot: &mut Slot, isa: Isa, i: usize, w: &[f32], b: &[f32]) {
    let t = slot.len();
    let rows = part(config, i, config.width, t);
    let (mean, rstd) = slot.norms[i * 2 * config.context..].split_at_mut(config.context);
    let x = &slot.residual[rows.clone()];
    layernorm_forward(isa, &mut slot.normed[rows], &mut mean[..t], &mut rstd[..t], x, w, b);
}

/// residual[2l + 1] = residual[2l] + attention(norm(residual[2l])).
fn attention_part_forward(
    config: &Config,
    params: &[f32],
    slot: &mut Slot,
    isa: Isa,
    layer: usize,
) {
    let (c, t) = (config.width, slot.len());
    let [ln_w, ln_b, attn_w, attn_b, proj_w, proj_b, ..] =
        block_ranges(config, layer).map(|r| &params[r]);
    norm_forward(config, slot, isa, 2 * layer, ln_w, ln_b);
    let qkv = &mut slot.qkv[part(config, layer, 3 * c, t)];
    linear_forward(qkv, &slot.normed[part(config, 2 * layer, c, t)], attn_w, c, 3 * c);
    add_bias(isa, qkv, attn_b);
    let heads = &mut slot.heads[part(config, layer, c, t)];
    let att = &mut slot.att[part(config, layer, config.heads * config.context, config.context)];
    attention_forward(isa, config, heads, att, qkv);
    let (before, after) = pair(config, &mut slot.residual, 2 * layer, t);
    linear_forward(after, heads, proj_w, c, c);
    add_bias_residual(isa, after, proj_b, before);
}

/// residual[2l + 2] = residual[2l + 1] + mlp(norm(residual[2l + 1])).
fn mlp_part_forward(config: &Config, params: &[f32], slot: &mut Slot, isa: Isa, layer: usize) {
    let (c, t) = (config.width, slot.len());
    let [.., ln_w, ln_b, fc_w, fc_b, proj_w, proj_b] =
        block_ranges(config, layer).map(|r| &params[r]);
    norm_forward(config, slot, isa, 2 * layer + 1, ln_w, ln_b);
    let hidden = &mut slot.hidden[part(config, layer, 4 * c, t)];
    let active = &mut slot.active[part(config, layer, 4 * c, t)];
    linear_forward(hidden, &slot.normed[part(config, 2 * layer + 1, c, t)], fc_w, c, 4 * c);
    bias_gelu_forward(isa, active, hidden, fc_b);
    let (before, after) = pair(config, &mut slot.residual, 2 * layer + 1, t);
    linear_forward(after, active, proj_w, 4 * c, c);
    add_bias_residual(isa, after, proj_b, before);
}

/// From the gradient of the final norm's output, in `scratch.dnormed`, to that of the embedding.
fn trunk_backward(config: &Config, params: &[f32], slot: &mut Slot, scratch: &mut Scratch) {
    let (c, t, last) = (config.width, slot.len(), 2 * config.layers);
    slot.dvectors.fill(0.0);
    let [weight, _] = final_norm_ranges(config).map(|r| &params[r]);
    let (dw, db) = slot.dvectors[VECTORS * config.layers * c..].split_at_mut(c);
    let norm = norm_of(config, &slot.residual, &slot.norms, last, weight, t);
    let dx = &mut slot.dresidual[part(config, last, c, t)];
    // Nothing passes the final norm by. `dheads` is free until the first block's attention.
    let zero = &mut scratch.dheads[..t * c];
    zero.fill(0.0);
    layernorm_backward(scratch.isa, dx, dw, db, zero, &scratch.dnormed[..t * c], norm);
    for layer in (0..config.layers).rev() {
        mlp_part_backward(config, params, slot, scratch, layer);
        attention_part_backward(config, params, slot, scratch, layer);
    }
}

/// From dresidual[2l + 2] to dresidual[2l + 1].
fn mlp_part_backward(
    config: &Config,
    params: &[f32],
    slot: &mut Slot,
    scratch: &mut Scratch,
    layer: usize,
) {
    let (c, t, isa) = (config.width, slot.len(), scratch.isa);
    let [.., ln_w, _, fc_w, _, proj_w, _] = block_ranges(config, layer).map(|r| &params[r]);
    let [_, _, _, _, dln_w, dln_b, dfc_b, dproj_b] = vectors(config, &mut slot.dvectors, layer);
    let (dx, dout) = pair(config, &mut slot.dresidual, 2 * layer + 1, t);
    let dhidden = &mut slot.dhidden[part(config, layer, 4 * c, t)];
    bias_backward(isa, dproj_b, dout);
    linear_backward(dhidden, dout, proj_w, 4 * c, c);
    gelu_backward(isa, dhidden, &slot.hidden[part(config, layer, 4 * c, t)]);
    bias_backward(isa, dfc_b, dhidden);
    let dnormed = &mut scratch.dnormed[..t * c];
    linear_backward(dnormed, dhidden, fc_w, c, 4 * c);
    let norm = norm_of(config, &slot.residual, &slot.norms, 2 * layer + 1, ln_w, t);
    layernorm_backward(isa, dx, dln_w, dln_b, dout, dnormed, norm);
}

/// From dresidual[2l + 1] to dresidual[2l].
fn attention_part_backward(
    config: &Config,
    params: &[f32],
    slot: &mut Slot,
    scratch: &mut Scratch,
    layer: usize,
) {
    let (c, t, isa) = (config.width, slot.len(), scratch.isa);
    let [ln_w, _, attn_w, _, proj_w, ..] = block_ranges(config, layer).map(|r| &params[r]);
    let [dln_w, dln_b, dattn_b, dproj_b, ..] = vectors(config, &mut slot.dvectors, layer);
    let (dx, dout) = pair(config, &mut slot.dresidual, 2 * layer, t);
    bias_backward(isa, dproj_b, dout);
    let dheads = &mut scratch.dheads[..t * c];
    linear_backward(dheads, dout, proj_w, c, c);
    let dqkv = &mut slot.dqkv[part(config, layer, 3 * c, t)];
    let att = &slot.att[part(config, layer, config.heads * config.context, config.context)];
    let qkv = &slot.qkv[part(config, layer, 3 * c, t)];
    attention_backward(isa, config, dqkv, &mut scratch.datt, dheads, att, qkv);
    bias_backward(isa, dattn_b, dqkv);
    let dnormed = &mut scratch.dnormed[..t * c];
    linear_backward(dnormed, dqkv, attn_w, c, 3 * c);
    let norm = norm_of(config, &slot.residual, &slot.norms, 2 * layer, ln_w, t);
    layernorm_backward(isa, dx, dln_w, dln_b, dout, dnormed, norm);
}

/// Where the first `t` rows of part `i` lie in a buffer of parts of (context, width).
pub(crate) fn part(config: &Config, i: usize, width: usize, t: usize) -> std::ops::Range<usize> {
    let start = i * config.context * width;
    start..start + t * width
}

/// Parts `i` and `i + 1` of a buffer of parts of (context, C), `t` rows of each.
fn pair<'a>(
    config: &Config,
    buffer: &'a mut [f32],
    i: usize,
    t: usize,
) -> (&'a mut [f32], &'a mut [f32]) {
    let next = part(config, i + 1, config.width, t);
    let (first, second) = buffer.split_at_mut(next.start);
    (&mut first[part(config, i, config.width, t)], &mut second[..next.len()])
}

/// What the norm that reads residual `i` worked on.
fn norm_of<'a>(
    config: &Config,
    residual: &'a [f32],
    norms: &'a [f32],
    i: usize,
    weight: &'a [f32],
    t: usize,
) -> Norm<'a> {
    let (mean, rstd) = norms[i * 2 * config.context..].split_at(config.context);
    let x = &residual[part(config, i, config.width, t)];
    Norm { x, mean: &mean[..t], rstd: &rstd[..t], weight }
}

/// The gradients of the eight vectors of a block, in their order.
fn vectors<'a>(config: &Config, dvectors: &'a mut [f32], layer: usize) -> [&'a mut [f32]; 8] {
    let c = config.width;
    let mut rest = &mut dvectors[layer * VECTORS * c..];
    [1, 1, 3, 1, 1, 1, 4, 1].map(|columns| {
        let (vector, tail) = std::mem::take(&mut rest).split_at_mut(columns * c);
        rest = tail;
        vector
    })
}
