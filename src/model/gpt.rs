//! Phase A: a group of sequences through the model and back, and what evaluation and sampling need of
//! it.
//!
//! All is done row by row, over the rows of all sequences; only attention, and the embedding of positions,
//! know where one ends and the next begins. So no row's bits depend on the sequences beside it.

use super::attention::{attention_backward, attention_forward};
use super::gelu::{gelu_backward, gelu_forward};
use super::gemm::{Mat, MatMut, Panels, Write, matmul, pack_transposed};
use super::head::{head_forward_backward, head_loss};
use super::isa::Isa;
use super::layernorm::{Norm, layernorm_backward, layernorm_forward};
use super::layout::{VECTORS, block_ranges, final_norm_ranges, place, wpe_range, wte_range};
use super::linear::{bias_backward, linear_backward, linear_forward};
use super::slot::{Scratch, Sequence, Slot, attended, row_stride, sequences};
use super::{Config, Part, Weights};
use std::ops::Range;
use std::time::Instant;

/// Forward, head and backward to the activations for some sequences.
///
/// A target of [`IGNORE`](super::IGNORE) is not trained. The gradients that `slot` holds afterwards are
/// those of `scale` times the sum of the targets' losses. Returns that sum, in nats, not scaled;
/// [`Slot::losses`] has it by sequence. Allocates nothing.
///
/// # Panics
/// Where there are more tokens than `slot` or `scratch` has room for, more than `config.context` in one
/// sequence, not as many targets as inputs, or a token outside the vocabulary.
///
/// ```
/// use twelvefold::model::{
///     Config, Isa, Layout, Scratch, Sequence, Slot, Weights, forward_backward, pack,
/// };
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let panels = pack(&config, &params);
/// let weights = Weights::new(&config, &params, &panels);
/// let (mut slot, mut scratch) = (Slot::new(&config, 1), Scratch::new(&config, 1, Isa::detect()?));
/// let sequence: Sequence<'_> = (&[1, 2, 3], &[2, 3, 4]);
/// let loss =
///     forward_backward(&config, weights, [sequence], 1.0 / 3.0, &mut slot, &mut scratch);
/// assert!((loss / 3.0 - 10f64.ln()).abs() < 0.1); // an untrained model knows nothing
/// # Ok::<(), twelvefold::Error>(())
/// ```
pub fn forward_backward<'a>(
    config: &Config,
    weights: Weights<'_>,
    sequences: impl IntoIterator<Item = Sequence<'a>>,
    scale: f32,
    slot: &mut Slot,
    scratch: &mut Scratch,
) -> f64 {
    slot.load(config, sequences, scale);
    trunk_forward(config, weights, slot, scratch);
    let started = Instant::now();
    let loss = head_forward_backward(config, weights.params(), slot, scratch);
    scratch.times.add_since(Part::Head, started);
    trunk_backward(config, weights, slot, scratch);
    loss
}

/// The sum of the targets' losses in nats, without gradients. `slot` lends its activations.
///
/// ```
/// use twelvefold::model::{
///     Config, Isa, Layout, Scratch, Sequence, Slot, Weights, forward_loss, pack,
/// };
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let panels = pack(&config, &params);
/// let weights = Weights::new(&config, &params, &panels);
/// let (mut slot, mut scratch) = (Slot::new(&config, 1), Scratch::new(&config, 1, Isa::detect()?));
/// let sequence: Sequence<'_> = (&[1, 2], &[2, 3]);
/// let loss = forward_loss(&config, weights, [sequence], &mut slot, &mut scratch);
/// assert!((loss / 2.0 - 10_f64.ln()).abs() < 0.1); // It knows nothing yet.
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Panics
/// As [`forward_backward`].
pub fn forward_loss<'a>(
    config: &Config,
    weights: Weights<'_>,
    sequences: impl IntoIterator<Item = Sequence<'a>>,
    slot: &mut Slot,
    scratch: &mut Scratch,
) -> f64 {
    slot.load(config, sequences, 0.0);
    trunk_forward(config, weights, slot, scratch);
    head_loss(config, weights.params(), slot, scratch)
}

/// The logits of the token that follows `inputs`, for sampling. `logits`: (V).
///
/// ```
/// use twelvefold::model::{Config, Isa, Layout, Scratch, Slot, Weights, pack, forward_logits};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let panels = pack(&config, &params);
/// let weights = Weights::new(&config, &params, &panels);
/// let (mut slot, mut scratch) = (Slot::new(&config, 1), Scratch::new(&config, 1, Isa::detect()?));
/// let mut logits = [f32::NAN; 10];
/// forward_logits(&config, weights, &[1, 2], &mut logits, &mut slot, &mut scratch);
/// assert!(logits.iter().all(|logit| logit.is_finite()));
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Panics
/// As [`forward_backward`], and where `inputs` is empty or `logits` is not `config.vocab` long.
pub fn forward_logits(
    config: &Config,
    weights: Weights<'_>,
    inputs: &[u32],
    logits: &mut [f32],
    slot: &mut Slot,
    scratch: &mut Scratch,
) {
    assert!(!inputs.is_empty(), "logits follow at least one token");
    let (c, v) = (config.width, config.vocab);
    slot.load(config, [(inputs, inputs)], 0.0);
    trunk_forward(config, weights, slot, scratch);
    let at = (2 * config.layers * slot.room + inputs.len() - 1) * c;
    pack_transposed(&mut scratch.panels, &slot.normed[at..at + c], 1, c, c);
    let wte = Mat::new(&weights.params()[wte_range(config)], v, c, c);
    let last = Panels::new(&scratch.panels, c, 1);
    matmul(scratch.isa, MatMut::new(logits, v, 1, 1), Write::Set, wte, last);
}

/// From tokens to the output of the final norm.
fn trunk_forward(config: &Config, weights: Weights<'_>, slot: &mut Slot, scratch: &mut Scratch) {
    let started = Instant::now();
    embed(config, weights.params(), slot);
    scratch.times.add_since(Part::Embedding, started);
    for layer in 0..config.layers {
        attention_part_forward(config, weights, slot, scratch, layer);
        mlp_part_forward(config, weights, slot, scratch, layer);
    }
    let started = Instant::now();
    let [weight, bias] = final_norm_ranges(config).map(|r| &weights.params()[r]);
    norm_forward(config, slot, scratch.isa, 2 * config.layers, weight, bias);
    scratch.times.add_since(Part::Head, started);
}

/// residual[0] (T, C) = wte[token] + wpe[position].
fn embed(config: &Config, params: &[f32], slot: &mut Slot) {
    let c = config.width;
    let (wte, wpe) = (&params[wte_range(config)], &params[wpe_range(config)]);
    for rows in sequences(&slot.ends) {
        let x = slot.residual[rows.start * c..rows.end * c].chunks_exact_mut(c);
        for ((x, position), &token) in x.zip(wpe.chunks_exact(c)).zip(&slot.inputs[rows]) {
            let embedding = &wte[token as usize * c..][..c];
            for ((x, e), p) in x.iter_mut().zip(embedding).zip(position) {
                *x = e + p;
            }
        }
    }
}

/// normed[i] = LayerNorm(residual[i]), with its statistics.
fn norm_forward(config: &Config, slot: &mut Slot, isa: Isa, i: usize, w: &[f32], b: &[f32]) {
    let t = slot.len();
    let rows = part(slot.room, i, config.width, t);
    let (mean, rstd) = slot.norms[i * 2 * slot.room..].split_at_mut(slot.room);
    let x = &slot.residual[rows.clone()];
    layernorm_forward(isa, &mut slot.normed[rows], &mut mean[..t], &mut rstd[..t], x, w, b);
}

/// residual[2l + 1] = residual[2l] + attention(norm(residual[2l])).
fn attention_part_forward(
    config: &Config,
    weights: Weights<'_>,
    slot: &mut Slot,
    scratch: &mut Scratch,
    layer: usize,
) {
    let started = Instant::now();
    let (c, t, isa) = (config.width, slot.len(), scratch.isa);
    let [ln_w, ln_b, _, attn_b, _, proj_b, ..] =
        block_ranges(config, layer).map(|r| &weights.params()[r]);
    let [attn_w, proj_w] =
        [place::ATTN_W, place::ATTN_PROJ_W].map(|place| weights.forward(config, layer, place));
    norm_forward(config, slot, isa, 2 * layer, ln_w, ln_b);
    let normed = Mat::new(&slot.normed[part(slot.room, 2 * layer, c, t)], t, c, c);
    let stride = row_stride(3 * c);
    let qkv = &mut slot.qkv[part(slot.room, layer, stride, t)];
    let out = MatMut::new(qkv, t, 3 * c, stride);
    linear_forward(isa, out, Write::Bias(attn_b), normed, attn_w);
    let heads = &mut slot.heads[part(slot.room, layer, c, t)];
    for (rows, att) in attended(config, &slot.ends, layer, slot.most) {
        let heads = &mut heads[rows.start * c..rows.end * c];
        let qkv = &qkv[rows.start * stride..rows.end * stride];
        let att = &mut slot.att[att];
        attention_forward(isa, config, heads, att, qkv, &mut scratch.panels);
    }
    let (before, after) = pair(slot.room, c, &mut slot.residual, 2 * layer, t);
    let write = Write::BiasResidual(proj_b, before);
    linear_forward(isa, MatMut::new(after, t, c, c), write, Mat::new(heads, t, c, c), proj_w);
    scratch.times.add_since(Part::Attention, started);
}

/// residual[2l + 2] = residual[2l + 1] + mlp(norm(residual[2l + 1])).
fn mlp_part_forward(
    config: &Config,
    weights: Weights<'_>,
    slot: &mut Slot,
    scratch: &mut Scratch,
    layer: usize,
) {
    let started = Instant::now();
    let (c, t, isa) = (config.width, slot.len(), scratch.isa);
    let [.., ln_w, ln_b, _, fc_b, _, proj_b] =
        block_ranges(config, layer).map(|r| &weights.params()[r]);
    let [fc_w, proj_w] =
        [place::FC_W, place::FC_PROJ_W].map(|place| weights.forward(config, layer, place));
    norm_forward(config, slot, isa, 2 * layer + 1, ln_w, ln_b);
    let stride = row_stride(4 * c);
    let hidden = &mut slot.hidden[part(slot.room, layer, stride, t)];
    let active = &mut slot.active[part(slot.room, layer, stride, t)];
    let normed = Mat::new(&slot.normed[part(slot.room, 2 * layer + 1, c, t)], t, c, c);
    let out = MatMut::new(hidden, t, 4 * c, stride);
    linear_forward(isa, out, Write::Bias(fc_b), normed, fc_w);
    gelu_forward(isa, active, hidden, 4 * c, stride);
    let (before, after) = pair(slot.room, c, &mut slot.residual, 2 * layer + 1, t);
    let write = Write::BiasResidual(proj_b, before);
    let active = Mat::new(active, t, 4 * c, stride);
    linear_forward(isa, MatMut::new(after, t, c, c), write, active, proj_w);
    scratch.times.add_since(Part::Mlp, started);
}

/// From the gradient of the final norm's output, in `scratch.dnormed`, to that of the embedding. The
/// gradients of the residual stream take its place, and so do those of `qkv` and `hidden`.
fn trunk_backward(config: &Config, weights: Weights<'_>, slot: &mut Slot, scratch: &mut Scratch) {
    let started = Instant::now();
    let (c, t, last) = (config.width, slot.len(), 2 * config.layers);
    slot.dvectors.fill(0.0);
    let [weight, _] = final_norm_ranges(config).map(|r| &weights.params()[r]);
    let (dw, db) = slot.dvectors[VECTORS * config.layers * c..].split_at_mut(c);
    let norm = norm_of(slot.room, &slot.norms, last, weight, t);
    let x = &mut slot.residual[part(slot.room, last, c, t)];
    // Nothing passes the final norm by. `dheads` is free until the first block's attention.
    let zero = &mut scratch.dheads[..t * c];
    zero.fill(0.0);
    layernorm_backward(scratch.isa, x, dw, db, zero, &scratch.dnormed[..t * c], norm);
    scratch.times.add_since(Part::Head, started);
    for layer in (0..config.layers).rev() {
        mlp_part_backward(config, weights, slot, scratch, layer);
        attention_part_backward(config, weights, slot, scratch, layer);
    }
}

/// residual[2l + 1], from its value to its gradient; residual[2l + 2] holds its own already.
fn mlp_part_backward(
    config: &Config,
    weights: Weights<'_>,
    slot: &mut Slot,
    scratch: &mut Scratch,
    layer: usize,
) {
    let started = Instant::now();
    let (c, t, isa) = (config.width, slot.len(), scratch.isa);
    let [.., ln_w, _, _, _, _, _] = block_ranges(config, layer).map(|r| &weights.params()[r]);
    let [fc_w, proj_w] =
        [place::FC_W, place::FC_PROJ_W].map(|place| weights.backward(config, layer, place));
    let [_, _, _, _, dln_w, dln_b, dfc_b, dproj_b] = vectors(config, &mut slot.dvectors, layer);
    let (x, dout) = pair(slot.room, c, &mut slot.residual, 2 * layer + 1, t);
    let stride = row_stride(4 * c);
    let dactive = &mut scratch.dactive[..t * stride];
    bias_backward(isa, dproj_b, dout, c);
    let out = MatMut::new(dactive, t, 4 * c, stride);
    linear_backward(isa, out, Mat::new(dout, t, c, c), proj_w);
    let dhidden = &mut slot.hidden[part(slot.room, layer, stride, t)];
    gelu_backward(isa, dhidden, dactive, dfc_b, stride);
    let dnormed = &mut scratch.dnormed[..t * c];
    let out = MatMut::new(dnormed, t, c, c);
    linear_backward(isa, out, Mat::new(dhidden, t, 4 * c, stride), fc_w);
    let norm = norm_of(slot.room, &slot.norms, 2 * layer + 1, ln_w, t);
    layernorm_backward(isa, x, dln_w, dln_b, dout, dnormed, norm);
    scratch.times.add_since(Part::Mlp, started);
}

/// residual[2l], from its value to its gradient; residual[2l + 1] holds its own already.
fn attention_part_backward(
    config: &Config,
    weights: Weights<'_>,
    slot: &mut Slot,
    scratch: &mut Scratch,
    layer: usize,
) {
    let started = Instant::now();
    let (c, t, isa) = (config.width, slot.len(), scratch.isa);
    let [ln_w, ..] = block_ranges(config, layer).map(|r| &weights.params()[r]);
    let [attn_w, proj_w] =
        [place::ATTN_W, place::ATTN_PROJ_W].map(|place| weights.backward(config, layer, place));
    let [dln_w, dln_b, dattn_b, dproj_b, ..] = vectors(config, &mut slot.dvectors, layer);
    let (x, dout) = pair(slot.room, c, &mut slot.residual, 2 * layer, t);
    bias_backward(isa, dproj_b, dout, c);
    let dheads = &mut scratch.dheads[..t * c];
    linear_backward(isa, MatMut::new(dheads, t, c, c), Mat::new(dout, t, c, c), proj_w);
    let stride = row_stride(3 * c);
    let dqkv = &mut slot.qkv[part(slot.room, layer, stride, t)];
    let Scratch { panels, attention, .. } = scratch;
    for (rows, att) in attended(config, &slot.ends, layer, slot.most) {
        let dheads = &dheads[rows.start * c..rows.end * c];
        let dqkv = &mut dqkv[rows.start * stride..rows.end * stride];
        let att = &mut slot.att[att];
        attention_backward(isa, config, dqkv, att, dheads, panels, attention);
    }
    bias_backward(isa, dattn_b, dqkv, stride);
    let dnormed = &mut scratch.dnormed[..t * c];
    let out = MatMut::new(dnormed, t, c, c);
    linear_backward(isa, out, Mat::new(dqkv, t, 3 * c, stride), attn_w);
    let norm = norm_of(slot.room, &slot.norms, 2 * layer, ln_w, t);
    layernorm_backward(isa, x, dln_w, dln_b, dout, dnormed, norm);
    scratch.times.add_since(Part::Attention, started);
}

/// Where the first `t` rows of part `i` lie in a buffer of parts of (`room`, width).
pub(crate) fn part(room: usize, i: usize, width: usize, t: usize) -> Range<usize> {
    let start = i * room * width;
    start..start + t * width
}

/// Parts `i` and `i + 1` of a buffer of parts of (`room`, C), `t` rows of each.
fn pair(room: usize, c: usize, buffer: &mut [f32], i: usize, t: usize) -> (&mut [f32], &mut [f32]) {
    let next = part(room, i + 1, c, t);
    let (first, second) = buffer.split_at_mut(next.start);
    (&mut first[part(room, i, c, t)], &mut second[..next.len()])
}

/// What the norm that reads residual `i` kept.
fn norm_of<'a>(room: usize, norms: &'a [f32], i: usize, weight: &'a [f32], t: usize) -> Norm<'a> {
    let (mean, rstd) = norms[i * 2 * room..].split_at(room);
    Norm { mean: &mean[..t], rstd: &rstd[..t], weight }
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
