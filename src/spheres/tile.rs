//! What belongs to one output tile: its gradient, summed along the fixed tree, and its moments.

use crate::model::adamw::sum_of_squares;
use crate::model::{Isa, Tile};
use crate::ranks::Shares;

/// The gradient of one tile over the micro-batches of a step, and AdamW's moments for it.
///
/// Micro-batches are added along a binary tree over their index, as a binary counter carries:
/// after micro-batch `k` the sums of complete subtrees are merged, the left one first. The tree is
/// a function of the number of micro-batches alone, so the bits do not depend on who computes.
///
/// Of several ranks each folds the micro-batches of its nodes; the tile's owner sums the nodes of all.
#[derive(Debug)]
pub(super) struct TileState {
    /// The gradient at hand; after the last micro-batch, the step's.
    grad: Vec<f32>,
    /// Sums of complete subtrees, by height. `full` says which hold one.
    levels: Vec<Vec<f32>>,
    full: u32,
    /// The sums of nodes, where there are several ranks: this rank's own, and for an owned tile all.
    nodes: Vec<Vec<f32>>,
    /// AdamW's first and second moments, of a tile that this rank owns.
    pub(super) m: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// The step's gradient squared and summed.
    pub(super) squares: f64,
    /// The sphere that computed the gradient at hand.
    pub(super) computed_by: usize,
}

impl TileState {
    /// Room for the tile with this number; one micro-batch needs no tree.
    pub(super) fn new(number: usize, tile: &Tile, shares: &Shares) -> Self {
        let rank = shares.rank();
        let is_owned = shares.owner(number) == rank;
        let own = shares.nodes().iter().filter(|node| node.rank == rank);
        let longest = own.map(|node| node.span.len()).max().unwrap_or(1);
        let heights = usize::BITS - (longest - 1).leading_zeros();
        let room = || vec![0.0; tile.len()];
        let room_if = |needed| if needed { room() } else { Vec::new() };
        let nodes: &[_] = if shares.is_alone() { &[] } else { shares.nodes() };
        TileState {
            grad: room(),
            levels: (0..heights).map(|_| room()).collect(),
            full: 0,
            nodes: nodes.iter().map(|node| room_if(is_owned || node.rank == rank)).collect(),
            m: room_if(is_owned),
            v: room_if(is_owned),
            squares: 0.0,
            computed_by: 0,
        }
    }

    /// Where the next micro-batch's gradient is to be written.
    pub(super) fn gradient_mut(&mut self) -> &mut [f32] {
        &mut self.grad
    }

    /// The step's gradient, after [`TileState::fold`] of its last micro-batch, or the sum over ranks.
    #[cfg(test)]
    fn gradient(&self) -> &[f32] {
        &self.grad
    }

    /// Parameter by parameter: the step's gradient beside the moments.
    pub(super) fn parts(&mut self) -> (&mut [f32], &mut [f32], &mut [f32]) {
        (&mut self.grad, &mut self.m, &mut self.v)
    }

    /// The buffer of the gradient, while it is away as a message's.
    pub(super) fn gradient_buffer(&mut self) -> &mut Vec<f32> {
        &mut self.grad
    }

    /// The buffer of a node's sum, as above.
    pub(super) fn node_buffer(&mut self, node: usize) -> &mut Vec<f32> {
        &mut self.nodes[node]
    }

    /// Adds the micro-batch whose gradient has just been written to the tree; `last` says that it
    /// is the last one of the step, or of a rank's node, and leaves the whole sum in `grad`.
    pub(super) fn fold(&mut self, last: bool) {
        let mut height = 0;
        // The carry of a binary counter; at the end, whatever subtrees are left.
        while height < self.levels.len() && (last || self.full & 1 << height != 0) {
            if self.full & 1 << height != 0 {
                add_left(&mut self.grad, &self.levels[height]);
                self.full &= !(1 << height);
            }
            height += 1;
        }
        if !last {
            std::mem::swap(&mut self.grad, &mut self.levels[height]);
            self.full |= 1 << height;
        }
    }

    /// Puts the sum of a node aside.
    pub(super) fn keep(&mut self, node: usize) {
        std::mem::swap(&mut self.grad, &mut self.nodes[node]);
    }

    /// Sums the nodes of all ranks, along the tree above them.
    pub(super) fn sum_nodes(&mut self, sums: &[(usize, usize)]) {
        for &(into, left) in sums {
            // The left one stands before.
            let (before, from) = self.nodes.split_at_mut(into);
            add_left(&mut from[0], &before[left]);
        }
        self.keep(self.nodes.len() - 1);
    }

    /// Squares the step's gradient.
    pub(super) fn square(&mut self, isa: Isa) {
        self.squares = sum_of_squares(isa, &self.grad);
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
    use crate::model::{Config, tiles};

    /// The tree written down: left half (the largest power of two below n), right half.
    fn tree(parts: &[f32]) -> f32 {
        if parts.len() == 1 {
            return parts[0];
        }
        let half = parts.len().next_power_of_two() / 2;
        tree(&parts[..half]) + tree(&parts[half..])
    }

    /// Numbers whose sum depends on the order.
    fn parts(n: i32) -> Vec<f32> {
        (0..n).map(|k| 1.0 / (k * k + 3) as f32 * 1e3f32.powi(k % 3)).collect()
    }

    const CONFIG: Config = Config { vocab: 5, layers: 1, heads: 1, width: 4, context: 2 };

    #[test]
    fn micro_batches_are_summed_along_the_same_tree_whatever_their_number() {
        let tile = &tiles(&CONFIG)[0];
        for n in 1..=17 {
            let parts = parts(n);
            let mut state = TileState::new(0, tile, &Shares::new(0, 1, n as usize, &[tile.len()]));
            for round in 0..2 {
                for (k, part) in parts.iter().enumerate() {
                    state.gradient_mut().fill(*part);
                    state.fold(k + 1 == parts.len());
                }
                let sum = state.gradient()[0];
                assert_eq!(sum.to_bits(), tree(&parts).to_bits(), "{n} parts, round {round}");
            }
        }
    }

    #[test]
    fn ranks_fold_their_nodes_and_the_owner_sums_them_to_the_bits_of_one() {
        let tile = &tiles(&CONFIG)[0];
        for (n, ranks) in [(2, 2), (8, 3), (7, 2), (12, 4), (17, 5), (6, 6)] {
            let parts = parts(n);
            let shares = |rank| Shares::new(rank, ranks, n as usize, &[tile.len()]);
            let owner = shares(0).owner(0);
            let mut states: Vec<_> =
                (0..ranks).map(|rank| TileState::new(0, tile, &shares(rank))).collect();
            for (rank, state) in states.iter_mut().enumerate() {
                let shares = shares(rank);
                assert_eq!(state.m.is_empty(), rank != owner, "moments are the owner's");
                for k in shares.block(rank) {
                    let node = shares.node_of(k);
                    let last = k + 1 == shares.nodes()[node].span.end;
                    state.gradient_mut().fill(parts[k]);
                    state.fold(last);
                    if last {
                        state.keep(node);
                    }
                }
            }
            for (number, node) in shares(0).nodes().iter().enumerate() {
                let sum = std::mem::take(states[node.rank].node_buffer(number));
                *states[owner].node_buffer(number) = sum;
            }
            states[owner].sum_nodes(shares(owner).sums());
            let sum = states[owner].gradient()[0];
            assert_eq!(sum.to_bits(), tree(&parts).to_bits(), "{n} parts on {ranks} ranks");
        }
    }

    #[test]
    fn the_squares_are_those_of_the_gradient() {
        let tile = &tiles(&CONFIG)[0];
        let mut state = TileState::new(0, tile, &Shares::new(0, 1, 1, &[tile.len()]));
        state.gradient_mut().fill(0.5);
        state.fold(true);
        state.square(Isa::available()[0]);
        assert_eq!(state.squares, 0.25 * tile.len() as f64);
    }
}
