//! Who does what: the blocks of micro-batches, the tree over them, and the tiles that a rank owns.
//!
//! ```text
//! micro-batches      0   1   2   3   4   5     6 micro-batches on 3 ranks: each computes two.
//!                     \ /     \ /     \ /
//! nodes of ranks       0       1       2       What a rank sums alone.
//!                       \     /       /
//!                        \   /       /         The tree above them, summed by the owner of a
//!                          o        /          tile, who gets the nodes of all.
//!                           \      /
//!                            \    /
//!                              o               The step's gradient.
//! ```
//!
//! The tree over `n` micro-batches has the largest power of two below `n` on its left. A rank's block is a
//! few whole subtrees, its *nodes*: one where the micro-batches of each rank are the same power of two.
//! Each tile of the parameters has an owner, who sums the tree above the nodes, keeps AdamW's moments of
//! the tile and updates it.

use std::ops::Range;

/// A subtree over micro-batches of one rank, as large as can be.
///
/// ```
/// use twelvefold::ranks::{Node, Shares};
///
/// let shares = Shares::new(0, 2, 6, &[100]); // Three each: 0, 1, 2 and 3, 4, 5.
/// let first = &shares.nodes()[0];
/// assert_eq!(*first, Node { rank: 0, span: 0..2 }); // Then 2 alone, 3 alone, and 4..6.
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Whose they are.
    pub rank: usize,
    /// The micro-batches.
    pub span: Range<usize>,
}

/// Who does what, as one rank sees it.
///
/// ```
/// use twelvefold::ranks::Shares;
///
/// // Rank 1 of 3, 8 micro-batches, 4 tiles.
/// let shares = Shares::new(1, 3, 8, &[100, 100, 100, 50]);
/// assert_eq!(shares.block(1), 2..5);
/// let own = shares.nodes().iter().filter(|node| node.rank == 1);
/// assert_eq!(own.map(|node| node.span.clone()).collect::<Vec<_>>(), [2..4, 4..5]);
/// assert_eq!((0..3).map(|rank| shares.owned(rank)).collect::<Vec<_>>(), [0..1, 1..2, 2..4]);
/// assert_eq!((shares.rank(), shares.ranks(), shares.micro_batches()), (1, 3, 8));
/// assert_eq!((shares.owner(3), shares.node_of(4)), (2, 2));
///
/// // The tree above the nodes of 0..2, 2..4, 4..5, 5..6 and 6..8.
/// let mut sums = [0.1f32, 0.2, 0.3, 0.4, 0.5];
/// for &(into, left) in shares.sums() {
///     sums[into] += sums[left];
/// }
/// assert_eq!(sums[4], (0.1 + 0.2) + ((0.3 + 0.4) + 0.5));
///
/// let one = Shares::new(0, 1, 8, &[100]);
/// assert!(one.is_alone() && one.sums().is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    rank: usize,
    micro_batches: usize,
    blocks: Vec<Range<usize>>,
    nodes: Vec<Node>,
    owned: Vec<Range<usize>>,
    sums: Vec<(usize, usize)>,
}

impl Shares {
    /// Of one of `ranks`, which may be 1, for a model whose tiles have so many parameters.
    ///
    /// # Panics
    /// When a rank would have no micro-batch, or there is no such rank.
    pub fn new(rank: usize, ranks: usize, micro_batches: usize, tiles: &[usize]) -> Self {
        assert!(rank < ranks && ranks <= micro_batches, "{micro_batches} micro-batches of {ranks}");
        let from = |rank: usize| rank * micro_batches / ranks;
        let blocks: Vec<_> = (0..ranks).map(|rank| from(rank)..from(rank + 1)).collect();
        let mut nodes = Vec::new();
        for (rank, block) in blocks.iter().enumerate() {
            let spans = spans(0..micro_batches, block);
            nodes.extend(spans.into_iter().map(|span| Node { rank, span }));
        }
        let mut sums = Vec::new();
        let all = nodes.len();
        sum(&nodes, 0..micro_batches, 0..all, &mut sums);
        Shares { rank, micro_batches, blocks, nodes, owned: owned(ranks, tiles), sums }
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn ranks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether nobody else is there.
    pub fn is_alone(&self) -> bool {
        self.blocks.len() == 1
    }

    /// Micro-batches of a step, of all ranks.
    pub fn micro_batches(&self) -> usize {
        self.micro_batches
    }

    /// The micro-batches that a rank computes.
    pub fn block(&self, rank: usize) -> Range<usize> {
        self.blocks[rank].clone()
    }

    /// The nodes of all ranks, in the order of their micro-batches.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that the micro-batch with this global number belongs to.
    pub fn node_of(&self, micro_batch: usize) -> usize {
        self.nodes.partition_point(|node| node.span.end <= micro_batch)
    }

    /// The tiles that a rank owns.
    pub fn owned(&self, rank: usize) -> Range<usize> {
        self.owned[rank].clone()
    }

    /// Who owns a tile.
    pub fn owner(&self, tile: usize) -> usize {
        self.owned.partition_point(|owned| owned.end <= tile)
    }

    /// The tree above the nodes, from its leaves on: in each pair the first node's sum takes the second's
    /// in, which stands to its left. The last node's sum is then that of the step.
    pub fn sums(&self) -> &[(usize, usize)] {
        &self.sums
    }
}

/// The left part of a node over `n` micro-batches: the largest power of two below `n`.
fn left(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// The largest subtrees of `tree` that lie in `block`.
fn spans(tree: Range<usize>, block: &Range<usize>) -> Vec<Range<usize>> {
    if tree.start >= block.start && tree.end <= block.end {
        return vec![tree];
    }
    if tree.end <= block.start || tree.start >= block.end {
        return Vec::new();
    }
    let middle = tree.start + left(tree.len());
    let mut found = spans(tree.start..middle, block);
    found.extend(spans(middle..tree.end, block));
    found
}

/// Notes the sums of the subtree `tree`, which `nodes[these]` make up.
fn sum(nodes: &[Node], tree: Range<usize>, these: Range<usize>, sums: &mut Vec<(usize, usize)>) {
    if these.len() < 2 {
        return;
    }
    let middle = tree.start + left(tree.len());
    let split = these.start + nodes[these.clone()].partition_point(|n| n.span.end <= middle);
    sum(nodes, tree.start..middle, these.start..split, sums);
    sum(nodes, middle..tree.end, split..these.end, sums);
    sums.push((these.end - 1, split - 1));
}

/// Tiles in runs of nearly one number of parameters.
fn owned(ranks: usize, tiles: &[usize]) -> Vec<Range<usize>> {
    let all: usize = tiles.iter().sum();
    let mut before = 0;
    let owner = |&len: &usize| {
        let middle = before + len / 2;
        before += len;
        middle * ranks / all.max(1)
    };
    let owners: Vec<usize> = tiles.iter().map(owner).collect();
    let from = |rank: usize| owners.partition_point(|&owner| owner < rank);
    (0..ranks).map(|rank| from(rank)..from(rank + 1)).collect()
}
