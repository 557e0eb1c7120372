//! The tied head and the softmax cross-entropy, over tiles of the vocabulary.
//!
//! Logits are held transposed, a row for each token of the vocabulary and a column for each position,
//! and never all at once. Per tile of [`TILE`] tokens: the product, exp(logit - running maximum), its
//! sum, and its share of the gradient to the head's input. Each position has a lane of a register, so
//! maxima and sums run down the rows and no lane is ever added to another; and `wte` is read as it
//! lies, by all three products. When a later tile raises the maximum, what was summed is scaled down.
//! What stays is `prob`, from which phase B makes the gradient of `wte` with one factor per tile and
//! position: dlogit = prob * factor - (1 at the target) * scale.

use super::gemm::{DEPTH, Mat, MatMut, Panels, Write, matmul, matmul_sum, pack_transposed};
use super::isa::{Isa, dispatch};
use super::layout::wte_range;
use super::math::{LANES, exp_down, ln};
use super::slot::{Scratch, Slot, lanes_stride, sequences};
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

/// The loss of the slot's sequences, and the gradient to the final norm's output in `scratch.dnormed`.
///
/// Fills `slot.prob`, `slot.factor` and `slot.losses`. Returns the sum over the trained targets of -ln p, in nats.
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
    positions.losses(slot)
}

/// The loss as [`head_forward_backward`] gives it, without any gradient.
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
    positions.losses(slot)
}

/// The output of the final norm: (T, C).
fn final_normed<'a>(config: &Config, slot: &'a Slot) -> &'a [f32] {
    let at = 2 * config.layers * slot.room * config.width;
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
    /// Room for `t` rows.
    pub(crate) fn new(t: usize) -> Positions {
        let room = || vec![0.0; lanes_stride(t)];
        let total = vec![0.0; lanes_stride(t)];
        Positions { largest: room(), total, down: room(), target_logit: room() }
    }

    /// Memory of the buffers.
    pub(crate) fn bytes(&self) -> usize {
        // Three of f32, one of f64.
        (3 * 4 + 8) * self.total.len()
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

    /// Sums of -ln p(target) = ln(total) + largest - logit over the trained targets, by sequence; gives
    /// their sum.
    fn losses(&self, slot: &mut Slot) -> f64 {
        slot.losses.clear();
        for rows in sequences(&slot.ends) {
            let mut loss = 0.0;
            for i in rows {
                if slot.targets[i] != IGNORE {
                    let logit = f64::from(self.target_logit[i]);
                    loss += ln(self.total[i]) + f64::from(self.largest[i]) - logit;
                }
            }
            slot.losses.push(loss);
        }
        slot.losses.iter().sum()
    }
}

dispatch! {
    /// logits -> exp(logit - largest so far), down the columns; keeps `positions` up to date.
    ///
    /// `logits`: (n, `ts`). `factor`: (`ts`), gets the maximum used.
    fn exp_tile(logits: &mut [f32], factor: &mut [f32], positions: Lanes<'_>) = exp_tile_body;
}

/// Rows that are worked on at once: they stay in the first-level cache, and their f32 sums are added
/// before they go into the f64 total.
const GROUP: usize = 16;

#[inline(always)]
fn exp_tile_body<const FMA: bool>(logits: &mut [f32], factor: &mut [f32], positions: Lanes<'_>) {
    let Lanes { largest, total, down } = positions;
    let ts = factor.len();
    if ts == 0 {
        return;
    }
    factor.copy_from_slice(largest);
    for group in logits.chunks(GROUP * ts) {
        for (at, factor) in factor.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for row in group.chunks_exact(ts) {
                for (m, &x) in factor.iter_mut().zip(&row[at * LANES..][..LANES]) {
                    // NaNs are passed over; they show in the sum.
                    *m = if x > *m { x } else { *m };
                }
            }
        }
    }
    for ((down, total), (m, largest)) in
        down.iter_mut().zip(total.iter_mut()).zip(factor.iter().zip(largest))
    {
        *down = exp_down::<FMA>(*largest - *m);
        *total *= f64::from(*down);
        *largest = *m;
    }
    for group in logits.chunks_mut(GROUP * ts) {
        let lanes = factor.as_chunks::<LANES>().0.iter().zip(total.as_chunks_mut::<LANES>().0);
        for (at, (factor, total)) in lanes.enumerate() {
            let mut sum = [0.0; LANES];
            for row in group.chunks_exact_mut(ts) {
                let row = row[at * LANES..][..LANES].iter_mut();
                for ((x, m), sum) in row.zip(factor).zip(&mut sum) {
                    *x = exp_down::<FMA>(*x - m);
                    *sum += *x;
                }
            }
            for (total, sum) in total.iter_mut().zip(sum) {
                *total += f64::from(sum);
            }
        }
    }
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

/// The gradient of the rows `v0..` of `wte` as the head sees them, over all sequences.
///
/// `dwte`: (n, C), within one tile. `scaled`: scratch of [`scaled_len`].
pub(crate) fn head_weight_gradient<'a>(
    isa: Isa,
    config: &Config,
    dwte: &mut [f32],
    v0: usize,
    mut slots: impl Iterator<Item = &'a Slot> + Clone,
    scaled: &mut [f32],
) {
    let c = config.width;
    let Some(room) = slots.clone().map(|slot| slot.room).max() else { return };
    let (n, at_once) = (dwte.len() / c, slots_at_once(room));
    let all = slots.clone();
    let mut write = Write::Set;
    while slots.clone().next().is_some() {
        let some = slots.clone().take(at_once);
        slots.nth(at_once - 1);
        for (slot, scaled) in some.clone().zip(scaled.chunks_exact_mut(room * c)) {
            let factor = &slot.factor[v0 / TILE * lanes_stride(slot.len())..][..slot.len()];
            scale_rows(isa, &mut scaled[..slot.len() * c], final_normed(config, slot), factor, c);
        }
        // The rows of a product lie alike: those of a slot with fewer are closer to each other.
        let mut parts = some.zip(scaled.chunks_exact(room * c)).peekable();
        while let Some((first, _)) = parts.peek() {
            let (t, ts) = (first.len(), lanes_stride(first.len()));
            let alike = std::iter::from_fn(|| parts.next_if(|(slot, _)| slot.len() == t));
            let pairs = alike.map(|(slot, scaled)| {
                let prob = Mat::new(&slot.prob[v0 * ts..], n, t, ts);
                (prob, Mat::new(scaled, t, c, c).into())
            });
            matmul_sum(isa, MatMut::new(dwte, n, c, c), write, pairs);
            write = Write::Add;
        }
    }
    for slot in all {
        let normed = final_normed(config, slot);
        for (i, &target) in slot.targets.iter().enumerate() {
            let row = (target as usize).wrapping_sub(v0);
            if target != IGNORE && row < n {
                for (d, x) in dwte[row * c..][..c].iter_mut().zip(&normed[i * c..]) {
                    *d -= x * slot.scale;
                }
            }
        }
    }
}

/// Slots of so many rows whose terms share a block of the product's depth.
fn slots_at_once(room: usize) -> usize {
    (DEPTH / room).clamp(1, 4)
}

/// Elements of the scratch of [`head_weight_gradient`], for slots of `room` rows.
pub(crate) fn scaled_len(config: &Config, room: usize) -> usize {
    slots_at_once(room) * room * config.width
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
