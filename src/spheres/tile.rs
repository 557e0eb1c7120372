//! What belongs to one output tile: its gradient, summed along the fixed tree, and its moments.

use crate::model::adamw::sum_of_squares;
use crate::model::{Isa, Tile};

/// The gradient of one tile over the micro-batches of a step, and AdamW's moments for it.
///
/// Micro-batches are added along a binary tree over their index, as a binary counter carries:
/// after micro-batch `k` the sums of complete subtrees are merged, the left one first. The tree is
/// a function of the number of micro-batches alone, so the bits do not depend on who computes.
#[derive(Debug)]
pub(super) struct TileState {
    /// The gradient at hand; after the last micro-batch, the step's.
    grad: Vec<f32>,
    /// Sums of complete subtrees, by height. `full` says which hold one.
    levels: Vec<Vec<f32>>,
    full: u32,
    /// AdamW's first and second moments.
    pub(super) m: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// The step's gradient squared and summed.
    pub(super) squares: f64,
    /// The sphere that computed the gradient at hand.
    pub(super) computed_by: usize,
}

impl TileState {
    /// Room for `tile` and for a tree over `micro_batches`; one micro-batch needs no tree.
    pub(super) fn new(tile: &Tile, micro_batches: usize) -> Self {
        let heights = usize::BITS - (micro_batches - 1).leading_zeros();
        let room = || vec![0.0; tile.len()];
        TileState {
            grad: room(),
            levels: (0..heights).map(|_| room()).collect(),
            full: 0,
            m: room(),
            v: room(),
            squares: 0.0,
            computed_by: 0,
        }
    }

    /// Where the next micro-batch's gradient is to be written.
    pub(super) fn gradient_mut(&mut self) -> &mut [f32] {
        &mut self.grad
    }

    /// The step's gradient, after [`TileState::fold`] of its last micro-batch.
    #[cfg(test)]
    fn gradient(&self) -> &[f32] {
        &self.grad
    }

    /// Parameter by parameter: the step's gradient beside the moments.
    pub(super) fn parts(&mut self) -> (&[f32], &mut [f32], &mut [f32]) {
        (&self.grad, &mut self.m, &mut self.v)
    }

    /// Adds the micro-batch whose gradient has just been written to the tree; `last` says that it
    /// is the step's last one and leaves the whole sum in `grad`.
    pub(super) fn fold(&mut self, isa: Isa, last: bool) {
        let mut height = 0;
        // The carry of a binary counter; at the end, whatever subtrees are left.
        while height < self.levels.len() && (last || self.full & 1 << height != 0) {
            if self.full & 1 << height != 0 {
                add_left(&mut self.grad, &self.levels[height]);
                self.full &= !(1 << height);
            }
            height += 1;
        }
        if last {
            self.squares = sum_of_squares(isa, &self.grad);
        } else {
            std::mem::swap(&mut self.grad, &mut self.levels[height]);
            self.full |= 1 << height;
        }
    }
}

/// right = left + right.
fn add_left(right: &mut [f32], left: &[f32]) {
    for (r, l) in right.iter_mut().zip(left) {
        *r += l;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, Isa, tiles};

    /// The tree written down: left half (the largest power of two below n), right half.
    fn tree(parts: &[f32]) -> f32 {
        if parts.len() == 1 {
            return parts[0];
        }
        let half = parts.len().next_power_of_two() / 2;
        tree(&parts[..half]) + tree(&parts[half..])
    }

    #[test]
    fn micro_batches_are_summed_along_the_same_tree_whatever_their_number() {
        let config = Config { vocab: 5, layers: 1, heads: 1, width: 4, context: 2 };
        let (tile, isa) = (&tiles(&config)[0], Isa::available()[0]);
        for n in 1..=17 {
            // Numbers whose sum depends on the order.
            let parts: Vec<f32> =
                (0..n).map(|k| 1.0 / (k * k + 3) as f32 * 1e3f32.powi(k % 3)).collect();
            let mut state = TileState::new(tile, n as usize);
            for round in 0..2 {
                for (k, part) in parts.iter().enumerate() {
                    state.gradient_mut().fill(*part);
                    state.fold(isa, k + 1 == parts.len());
                }
                let sum = state.gradient()[0];
                assert_eq!(sum.to_bits(), tree(&parts).to_bits(), "{n} parts, round {round}");
            }
        }
    }
}
