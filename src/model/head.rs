//! The tied head and the softmax cross-entropy, over tiles of the vocabulary.
//!
//! Logits are never held as a whole row. Per tile of [`TILE`] tokens: the product, exp(logit - running
//! maximum), its sum, and its share of the gradient to the head's input. When a later tile raises the
//! maximum, what was summed is scaled down. What stays is `prob`, from which phase B makes the
//! gradient of `wte` with one factor per tile and position:
//! dlogit = prob * factor - (1 at the target) * scale.

use super::isa::{Isa, dispatch};
use super::layout::wte_range;
use super::math::{exp, ln, max, sum};
use super::matmul::{Mat, MatMut, Write, matmul};
use super::slot::{Scratch, Slot};
use super::{Config, IGNORE};
use std::ops::Range;

/// Tokens of a tile: its rows of `wte` stay in the second-level cache for three products.
pub(crate) const TILE: usize = 512;

/// Tiles of the padded vocabulary.
pub(crate) fn tile_count(config: &Config) -> usize {
    config.padded_vocab().div_ceil(TILE)
}

/// The rows of `wte` that tile `k` covers.
pub(crate) fn tile_rows(config: &Config, k: usize) -> Range<usize> {
    k * TILE..((k + 1) * TILE).min(config.padded_vocab())
}

/// The loss of a sequence, and the gradient to the final norm's output in `scratch.dnormed`.
///
/// Fills `slot.prob` and `slot.factor`. Returns the sum over the trained targets of -ln p, in nats.
pub(crate) fn head_forward_backward(
    config: &Config,
    params: &[f32],
    slot: &mut Slot,
    scratch: &mut Scratch,
) -> f64 {
    let (t, c) = (slot.len(), config.width);
    let wte = &params[wte_range(config)];
    let at = 2 * config.layers * config.context * c;
    let normed = &slot.normed[at..at + t * c];
    let dnormed = &mut scratch.dnormed[..t * c];
    let mut rows = Rows::start(&mut scratch.largest, &mut scratch.total, &slot.targets);
    for k in 0..tile_count(config) {
        let Range { start: v0, end: v1 } = tile_rows(config, k);
        let n = v1 - v0;
        let weight = Mat::new(&wte[v0 * c..v1 * c], n, c, c);
        let prob = &mut slot.prob[v0 * t..v1 * t];
        matmul(MatMut::new(prob, t, n, n), Write::Set, Mat::new(normed, t, c, c), weight.t());
        pick_targets(&mut scratch.target_logit, &slot.targets, prob, v0..v1);
        let valid = n.min(config.vocab.saturating_sub(v0));
        let factor = &mut slot.factor[k * t..(k + 1) * t];
        exp_tile(scratch.isa, prob, valid, factor, rows.reborrow(), dnormed);
        let write = if k == 0 { Write::Set } else { Write::Add };
        matmul(MatMut::new(dnormed, t, c, c), write, Mat::new(prob, t, n, n), weight);
    }
    let loss = loss(&slot.targets, &rows, &scratch.target_logit);
    finish_factors(scratch.isa, &mut slot.factor[..tile_count(config) * t], rows, slot.scale);
    for (i, &target) in slot.targets.iter().enumerate() {
        let row = &mut dnormed[i * c..(i + 1) * c];
        if target == IGNORE {
            row.fill(0.0);
            continue;
        }
        let norm = slot.scale / scratch.total[i] as f32;
        let weight = &wte[target as usize * c..][..c];
        for (d, w) in row.iter_mut().zip(weight) {
            *d = *d * norm - w * slot.scale;
        }
    }
    loss
}

/// The loss of a sequence as [`head_forward_backward`] gives it, without any gradient.
pub(crate) fn head_loss(
    config: &Config,
    params: &[f32],
    slot: &mut Slot,
    scratch: &mut Scratch,
) -> f64 {
    let (t, c) = (slot.len(), config.width);
    let wte = &params[wte_range(config)];
    let at = 2 * config.layers * config.context * c;
    let normed = Mat::new(&slot.normed[at..at + t * c], t, c, c);
    let mut rows = Rows::start(&mut scratch.largest, &mut scratch.total, &slot.targets);
    for k in 0..tile_count(config) {
        let Range { start: v0, end: v1 } = tile_rows(config, k);
        let n = v1 - v0;
        let logits = &mut scratch.logits[..t * n];
        let weight = Mat::new(&wte[v0 * c..v1 * c], n, c, c);
        matmul(MatMut::new(logits, t, n, n), Write::Set, normed, weight.t());
        pick_targets(&mut scratch.target_logit, &slot.targets, logits, v0..v1);
        let valid = n.min(config.vocab.saturating_sub(v0));
        let unused = &mut slot.factor[..t];
        exp_tile(scratch.isa, logits, valid, unused, rows.reborrow(), &mut []);
    }
    loss(&slot.targets, &rows, &scratch.target_logit)
}

/// Keeps the logits (T, tile) of the targets that lie in this tile.
fn pick_targets(kept: &mut [f32], targets: &[u32], logits: &[f32], tile: Range<usize>) {
    for (i, &target) in targets.iter().enumerate() {
        if target != IGNORE && tile.contains(&(target as usize)) {
            kept[i] = logits[i * tile.len() + target as usize - tile.start];
        }
    }
}

/// Sum of -ln p(target) = ln(total) + largest - logit over the trained targets.
fn loss(targets: &[u32], rows: &Rows<'_>, target_logit: &[f32]) -> f64 {
    let mut loss = 0.0;
    for (i, &target) in targets.iter().enumerate() {
        if target != IGNORE {
            loss += ln(rows.total[i]) + f64::from(rows.largest[i]) - f64::from(target_logit[i]);
        }
    }
    loss
}

/// What is known of each row of logits so far: (T) each.
#[derive(Debug)]
struct Rows<'a> {
    largest: &'a mut [f32],
    /// Sum of exp(logit - largest).
    total: &'a mut [f64],
    targets: &'a [u32],
}

impl<'a> Rows<'a> {
    fn start(largest: &'a mut [f32], total: &'a mut [f64], targets: &'a [u32]) -> Rows<'a> {
        let t = targets.len();
        let (largest, total) = (&mut largest[..t], &mut total[..t]);
        largest.fill(f32::MIN);
        total.fill(0.0);
        Rows { largest, total, targets }
    }

    fn reborrow(&mut self) -> Rows<'_> {
        Rows { largest: self.largest, total: self.total, targets: self.targets }
    }
}

dispatch! {
    /// logits -> exp(logit - largest so far), 0 from column `valid` on; keeps `rows` up to date.
    ///
    /// `logits`: (T, n). `factor`: (T), gets the maximum used. `dnormed`: (T, C), scaled down where
    /// the maximum rises; may be empty.
    fn exp_tile(
        logits: &mut [f32],
        valid: usize,
        factor: &mut [f32],
        rows: Rows<'_>,
        dnormed: &mut [f32],
    ) = exp_tile_body;
}

#[inline(always)]
fn exp_tile_body<const FMA: bool>(
    logits: &mut [f32],
    valid: usize,
    factor: &mut [f32],
    rows: Rows<'_>,
    dnormed: &mut [f32],
) {
    let t = factor.len();
    if t == 0 {
        return;
    }
    let (n, c) = (logits.len() / t, dnormed.len() / t);
    for (i, row) in logits.chunks_exact_mut(n).enumerate() {
        let (row, padding) = row.split_at_mut(valid);
        let (largest, total) = (&mut rows.largest[i], &mut rows.total[i]);
        let m = max(row);
        if m > *largest {
            if *total > 0.0 {
                let down = exp::<FMA>(*largest - m);
                *total *= f64::from(down);
                for d in &mut dnormed[i * c..(i + 1) * c] {
                    *d *= down;
                }
            }
            *largest = m;
        }
        let m = *largest;
        for x in row.iter_mut() {
            *x = exp::<FMA>(*x - m);
        }
        padding.fill(0.0);
        *total += f64::from(sum(row));
        factor[i] = m;
    }
}

dispatch! {
    /// From the maximum that each tile used to the factor that makes dlogit of its `prob`:
    /// exp(maximum of the tile - maximum) * scale / total, 0 where the target is ignored.
    ///
    /// `factor`: (tiles, T).
    fn finish_factors(factor: &mut [f32], rows: Rows<'_>, scale: f32) = finish_factors_body;
}

#[inline(always)]
fn finish_factors_body<const FMA: bool>(factor: &mut [f32], rows: Rows<'_>, scale: f32) {
    let t = rows.targets.len();
    if t == 0 {
        return;
    }
    for tile in factor.chunks_exact_mut(t) {
        for (i, f) in tile.iter_mut().enumerate() {
            let norm = scale / rows.total[i] as f32;
            let trained = rows.targets[i] != IGNORE;
            *f = if trained { exp::<FMA>(*f - rows.largest[i]) * norm } else { 0.0 };
        }
    }
}

/// The gradient of the rows `v0..` of `wte` as the head sees them, from one sequence.
///
/// `dwte`: (n, C), within one tile. `scaled`: scratch of (T, C).
pub(crate) fn head_weight_gradient(
    isa: Isa,
    config: &Config,
    dwte: &mut [f32],
    write: Write,
    v0: usize,
    slot: &Slot,
    scaled: &mut [f32],
) {
    let (t, c) = (slot.len(), config.width);
    let n = dwte.len() / c;
    let tile = tile_rows(config, v0 / TILE);
    let at = 2 * config.layers * config.context * c;
    let normed = &slot.normed[at..at + t * c];
    let factor = &slot.factor[v0 / TILE * t..][..t];
    let scaled = &mut scaled[..t * c];
    scale_rows(isa, scaled, normed, factor, c);
    let columns = &slot.prob[tile.start * t..tile.end * t];
    let prob = if t == 0 { columns } else { &columns[v0 - tile.start..] };
    let prob = Mat::new(prob, t, n, tile.len());
    matmul(MatMut::new(dwte, n, c, c), write, prob.t(), Mat::new(scaled, t, c, c));
    for (i, &target) in slot.targets.iter().enumerate() {
        let row = (target as usize).wrapping_sub(v0);
        if target != IGNORE && row < n {
            for (d, x) in dwte[row * c..][..c].iter_mut().zip(&normed[i * c..]) {
                *d -= x * slot.scale;
            }
        }
    }
}

dispatch! {
    /// out = x * factor, one factor per row of `C`.
    ///
    /// `out`, `x`: (T, C). `factor`: (T).
    fn scale_rows(out: &mut [f32], x: &[f32], factor: &[f32], c: usize) = scale_rows_body;
}

#[inline(always)]
fn scale_rows_body<const FMA: bool>(out: &mut [f32], x: &[f32], factor: &[f32], c: usize) {
    for ((out, x), f) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(factor) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = x * f;
        }
    }
}
