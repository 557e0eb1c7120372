//! The tied head and the softmax cross-entropy, over tiles of the vocabulary.
//!
//! Logits are held transposed, a row for each token of the vocabulary and a column for each position,
//! and never all at once. Per tile of [`TILE`] tokens: the product, exp(logit - running maximum), its
//! sum, and its share of the gradient to the head's input. Each position has a lane of a register, so
//! maxima and sums run down the rows and no lane is ever added to another; and `wte` is read as it
//! lies, by all three products. When a later tile raises the maximum, what was summed is scaled down.
//! What stays is `prob`, from which phase B makes the gradient of `wte` with one factor per tile and
//! position: dlogit = prob * factor - (1 at the target) * scale.

use super::gemm::{Mat, MatMut, Panels, Write, matmul, pack_transposed};
use super::isa::{Isa, dispatch};
use super::layout::wte_range;
use super::math::{LANES, exp_down, ln};
use super::slot::{Scratch, Slot, lanes_stride};
use super::{Config, IGNORE};
use std::ops::Range;

/// Tokens of a tile: its rows of `wte` and its probabilities stay in the second-level cache for two
/// products.
pub(crate) const TILE: usize = 512;

/// Tiles of the vocabulary.
pub(crate) fn tile_count(config: &Config) -> usize {
    config.vocab.div_ceil(TILE)
}

/// The rows of `wte` that tile `k` covers; padded rows belong to none.
pub(crate) fn tile_rows(config: &Config, k: usize) -> Range<usize> {
    k * TILE..((k + 1) * TILE).min(config.vocab)
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
    let (t, c, isa) = (slot.len(), config.width, scratch.isa);
    let ts = lanes_stride(t);
    let wte = &params[wte_range(config)];
    let Scratch { dnormed, panels, positions, .. } = scratch;
    let dnormed = &mut dnormed[..t * c];
    pack_transposed(panels, final_normed(config, slot), t, c, c);
    positions.start(ts);
    for k in 0..tile_count(config) {
        let rows = tile_rows(config, k);
        let n = rows.len();
        let weight = Mat::new(&wte[rows.start * c..rows.end * c], n, c, c);
        let prob = &mut slot.prob[rows.start * ts..rows.end * ts];
        let logits = MatMut::new(prob, n, t, ts);
        matmul(isa, logits, Write::Set, weight, Panels::new(panels, c, t));
        positions.pick_targets(&slot.targets, prob, rows);
        let factor = &mut slot.factor[k * ts..(k + 1) * ts];
        exp_tile(isa, prob, factor, positions.lanes(ts));
        let write = if k == 0 { Write::Set } else { Write::Add };
        if k > 0 {
            positions.lower(dnormed, t);
        }
        let prob = Mat::new(prob, n, t, ts);
        matmul(isa, MatMut::new(dnormed, t, c, c), write, prob.t(), weight);
    }
    finish_factors(
        isa,
        &mut slot.factor[..tile_count(config) * ts],
        &slot.targets,
        positions.lanes(ts),
        slot.scale,
    );
    for (i, &target) in slot.targets.iter().enumerate() {
        let row = &mut dnormed[i * c..(i + 1) * c];
        if target == IGNORE {
            row.fill(0.0);
            continue;
        }
        let norm = slot.scale / positions.total[i] as f32;
        let weight = &wte[target as usize * c..][..c];
        for (d, w) in row.iter_mut().zip(weight) {
            *d = *d * norm - w * slot.scale;
        }
    }
    positions.loss(&slot.targets)
}

/// The loss of a sequence as [`head_forward_backward`] gives it, without any gradient.
pub(crate) fn head_loss(
    config: &Config,
    params: &[f32],
    slot: &mut Slot,
    scratch: &mut Scratch,
) -> f64 {
    let (t, c, isa) = (slot.len(), config.width, scratch.isa);
    let ts = lanes_stride(t);
    let wte = &params[wte_range(config)];
    let Scratch { panels, positions, .. } = scratch;
    pack_transposed(panels, final_normed(config, slot), t, c, c);
    positions.start(ts);
    for k in 0..tile_count(config) {
        let rows = tile_rows(config, k);
        let n = rows.len();
        // The tiles follow each other in the same place: nothing of them is kept.
        let logits = &mut slot.prob[..n * ts];
        let weight = Mat::new(&wte[rows.start * c..rows.end * c], n, c, c);
        let write = MatMut::new(logits, n, t, ts);
        matmul(isa, write, Write::Set, weight, Panels::new(panels, c, t));
        positions.pick_targets(&slot.targets, logits, rows);
        exp_tile(isa, logits, &mut slot.factor[..ts], positions.lanes(ts));
    }
    positions.loss(&slot.targets)
}

/// The output of the final norm: (T, C).
fn final_normed<'a>(config: &Config, slot: &'a Slot) -> &'a [f32] {
    let at = 2 * config.layers * config.context * config.width;
    &slot.normed[at..at + slot.len() * config.width]
}

/// What is known of each position's logits so far; a lane beyond the last position counts for nothing.
#[derive(Debug)]
pub(crate) struct Positions {
    largest: Vec<f32>,
    /// Sum of exp(logit - largest).
    total: Vec<f64>,
    /// By what the last tile scaled the sums before it.
    down: Vec<f32>,
    target_logit: Vec<f32>,
}

/// The parts of [`Positions`] that a tile works on, of [`lanes_stride`] elements each.
#[derive(Debug)]
struct Lanes<'a> {
    largest: &'a mut [f32],
    total: &'a mut [f64],
    down: &'a mut [f32],
}

impl Positions {
    /// Room for sequences of up to `t` tokens.
    pub(crate) fn new(t: usize) -> Positions {
        let room = || vec![0.0; lanes_stride(t)];
        let total = vec![0.0; lanes_stride(t)];
        Positions { largest: room(), total, down: room(), target_logit: room() }
    }

    /// Memory of the buffers.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.largest.len() + self.down.len() + self.target_logit.len()) + 8 * self.total.len()
    }

    fn start(&mut self, ts: usize) {
        self.largest[..ts].fill(f32::MIN);
        self.total[..ts].fill(0.0);
    }

    fn lanes(&mut self, ts: usize) -> Lanes<'_> {
        let Positions { largest, total, down, .. } = self;
        Lanes { largest: &mut largest[..ts], total: &mut total[..ts], down: &mut down[..ts] }
    }

    /// Keeps the logits (tile, `ts`) of the targets that lie in this tile.
    fn pick_targets(&mut self, targets: &[u32], logits: &[f32], tile: Range<usize>) {
        let ts = lanes_stride(targets.len());
        for (i, &target) in targets.iter().enumerate() {
            if target != IGNORE && tile.contains(&(target as usize)) {
                self.target_logit[i] = logits[(target as usize - tile.start) * ts + i];
            }
        }
    }

    /// Scales the rows of what was summed before the last tile, (T, C), where that raised the maximum.
    fn lower(&self, sums: &mut [f32], t: usize) {
        let c = sums.len().checked_div(t).unwrap_or(1);
        for (row, &down) in sums.chunks_exact_mut(c).zip(&self.down) {
            if down != 1.0 {
                row.iter_mut().for_each(|x| *x *= down);
            }
        }
    }

    /// Sum of -ln p(target) = ln(total) + largest - logit over the trained targets.
    fn loss(&self, targets: &[u32]) -> f64 {
        let mut loss = 0.0;
        for (i, &target) in targets.iter().enumerate() {
            if target != IGNORE {
                let logit = f64::from(self.target_logit[i]);
                loss += ln(self.total[i]) + f64::from(self.largest[i]) - logit;
            }
        }
        loss
    }
}

dispatch! {
    /// logits -> exp(logit - largest so far), down the columns; keeps `positions` up to date.
    ///
    /// `logits`: (n, `ts`). `factor`: (`ts`), gets the maximum used.
    fn exp_tile(logits: &mut [f32], factor: &mut [f32], positions: Lanes<'_>) = exp_tile_body;
}

/// Rows whose f32 sums are added before they go into the f64 total: four chains of 16 each.
const GROUP: usize = 64;

#[inline(always)]
fn exp_tile_body<const FMA: bool>(logits: &mut [f32], factor: &mut [f32], positions: Lanes<'_>) {
    let ts = factor.len();
    for first in (0..ts).step_by(LANES) {
        let mut largest = [0.0; LANES];
        largest.copy_from_slice(&positions.largest[first..first + LANES]);
        let before = largest;
        for row in logits.chunks_exact(ts) {
            let x = &row[first..first + LANES];
            for l in 0..LANES {
                // NaNs are passed over; they show in the sum.
                largest[l] = if x[l] > largest[l] { x[l] } else { largest[l] };
            }
        }
        let mut total = [0.0; LANES];
        for group in logits.chunks_mut(GROUP * ts) {
            let sums = exp_group::<FMA>(group, ts, first, &largest);
            for l in 0..LANES {
                total[l] += f64::from(sums[l]);
            }
        }
        for l in 0..LANES {
            let down = exp_down::<FMA>(before[l] - largest[l]);
            positions.down[first + l] = down;
            positions.total[first + l] = positions.total[first + l] * f64::from(down) + total[l];
        }
        positions.largest[first..first + LANES].copy_from_slice(&largest);
        factor[first..first + LANES].copy_from_slice(&largest);
    }
}

/// x = exp(x - largest) on the lanes from `first` on of each row; their sums, row r in chain r mod 4.
#[inline(always)]
fn exp_group<const FMA: bool>(
    rows: &mut [f32],
    ts: usize,
    first: usize,
    largest: &[f32; LANES],
) -> [f32; LANES] {
    let mut sums = [[0.0; LANES]; 4];
    let one = |row: &mut [f32], sum: &mut [f32; LANES]| {
        let (x, _) = row[first..].as_chunks_mut::<LANES>();
        let x = &mut x[0];
        for l in 0..LANES {
            x[l] = exp_down::<FMA>(x[l] - largest[l]);
            sum[l] += x[l];
        }
    };
    let mut fours = rows.chunks_exact_mut(4 * ts);
    for four in &mut fours {
        for (row, sum) in four.chunks_exact_mut(ts).zip(&mut sums) {
            one(row, sum);
        }
    }
    for (row, sum) in fours.into_remainder().chunks_exact_mut(ts).zip(&mut sums) {
        one(row, sum);
    }
    let [mut sum, second, third, fourth] = sums;
    for l in 0..LANES {
        sum[l] = (sum[l] + second[l]) + (third[l] + fourth[l]);
    }
    sum
}

dispatch! {
    /// From the maximum that each tile used to the factor that makes dlogit of its `prob`:
    /// exp(maximum of the tile - maximum) * scale / total, 0 where the target is ignored.
    ///
    /// `factor`: (tiles, [`lanes_stride`]).
    fn finish_factors(factor: &mut [f32], targets: &[u32], positions: Lanes<'_>, scale: f32)
        = finish_factors_body;
}

#[inline(always)]
fn finish_factors_body<const FMA: bool>(
    factor: &mut [f32],
    targets: &[u32],
    positions: Lanes<'_>,
    scale: f32,
) {
    for tile in factor.chunks_exact_mut(positions.largest.len().max(1)) {
        for (i, (f, &target)) in tile.iter_mut().zip(targets).enumerate() {
            let norm = scale / positions.total[i] as f32;
            let down = exp_down::<FMA>(*f - positions.largest[i]);
            *f = if target == IGNORE { 0.0 } else { down * norm };
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
    write: Write<'_>,
    v0: usize,
    slot: &Slot,
    scaled: &mut [f32],
) {
    let (t, c) = (slot.len(), config.width);
    let ts = lanes_stride(t);
    let n = dwte.len() / c;
    let normed = final_normed(config, slot);
    let scaled = &mut scaled[..t * c];
    scale_rows(isa, scaled, normed, &slot.factor[v0 / TILE * ts..][..t], c);
    let prob = Mat::new(&slot.prob[v0 * ts..], n, t, ts);
    matmul(isa, MatMut::new(dwte, n, c, c), write, prob, Mat::new(scaled, t, c, c));
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
