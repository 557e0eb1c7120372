//! Phase B: the gradient of each parameter, tile by tile, over all sequences of a micro-batch.
//!
//! The tiles are a function of the sizes alone. Whoever computes a tile, its sums run over the slots
//! in their order and within a slot over the positions in rising order.

use super::Config;
use super::gemm::{Mat, MatMut, PANEL, Right, Write, matmul_sum};
use super::gpt::part;
use super::head::{TILE, head_weight_gradient};
use super::layout::{VECTORS, block_ranges, final_norm_ranges, place, wpe_range, wte_range};
use super::panels::{MATRICES, PanelPart, parts};
use super::slot::{Scratch, Slot, row_stride, sequences};
use std::ops::Range;

/// Parameters that a tile holds at most, save for its least number of rows: half a megabyte of
/// gradients stays in the second-level cache, and a model of ten million parameters has about a
/// hundred tiles.
const LARGEST: usize = 128 * 1024;
/// Rows of a tile of `wte`: a part of a [`TILE`] of the head.
const WTE_ROWS: Range<usize> = 64..TILE + 1;
/// Rows of a tile of a matrix.
const MATRIX_ROWS: Range<usize> = 64..257;
/// Positions in a tile of `wpe`.
const WPE_ROWS: usize = 128;

/// A fixed part of the flat parameter vector, owned by one task of phase B.
///
/// ```
/// use twelvefold::model::{Config, Tile, tiles};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let is_whole = |tile: &Tile| tile.ranges(&config).map(|r| r.len()).sum::<usize>() == tile.len();
/// assert!(tiles(&config).iter().all(is_whole));
/// assert!(!tiles(&config).iter().all(Tile::decays), "biases and norms do not");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    kind: Kind,
    len: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Rows of the token embedding, which is also the head.
    Wte { rows: Range<usize> },
    /// Rows of the position embedding.
    Wpe { rows: Range<usize> },
    /// Rows of a linear weight, by its place in the block.
    Matrix { layer: usize, place: usize, rows: Range<usize>, columns: usize },
    /// The biases and norms of a block.
    Vectors { layer: usize },
    /// The final norm.
    FinalNorm,
}

impl Tile {
    /// Parameters in the tile.
    #[expect(clippy::len_without_is_empty, reason = "a tile is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where they lie in the flat vector, in the order of the tile's gradient.
    pub fn ranges(&self, config: &Config) -> impl Iterator<Item = Range<usize>> + use<> {
        let c = config.width;
        let rows = |start: usize, rows: &Range<usize>, columns: usize| {
            start + rows.start * columns..start + rows.end * columns
        };
        let mut ranges: [Range<usize>; 8] = Default::default();
        match &self.kind {
            Kind::Wte { rows: r } => ranges[0] = rows(wte_range(config).start, r, c),
            Kind::Wpe { rows: r } => ranges[0] = rows(wpe_range(config).start, r, c),
            Kind::Matrix { layer, place, rows: r, columns } => {
                ranges[0] = rows(block_ranges(config, *layer)[*place].start, r, *columns);
            }
            Kind::Vectors { layer } => {
                let block = block_ranges(config, *layer);
                ranges = place::VECTORS.map(|i| block[i].clone());
            }
            Kind::FinalNorm => {
                let [weight, bias] = final_norm_ranges(config);
                ranges[0] = weight.start..bias.end;
            }
        }
        ranges.into_iter().filter(|range| !range.is_empty())
    }

    /// The parts of the panels that the tile's parameters fill.
    pub fn panels(&self, config: &Config) -> impl Iterator<Item = PanelPart> + use<> {
        let matrix = match &self.kind {
            Kind::Matrix { layer, place, rows, columns } => {
                Some(parts(config, *layer, *place, rows.clone(), *columns))
            }
            _ => None,
        };
        matrix.into_iter().flatten()
    }

    /// Whether weight decay applies: to matrices and embeddings, not to biases and norms.
    pub fn decays(&self) -> bool {
        !matches!(self.kind, Kind::Vectors { .. } | Kind::FinalNorm)
    }
}

/// The tiles of a model, the heaviest kinds first. Together they cover every parameter exactly once.
///
/// ```
/// use twelvefold::model::{Config, Layout, tiles};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let covered: usize = tiles(&config).iter().map(|tile| tile.len()).sum();
/// assert_eq!(covered, Layout::new(&config).len());
/// ```
pub fn tiles(config: &Config) -> Vec<Tile> {
    let c = config.width;
    let mut tiles = Vec::new();
    for layer in 0..config.layers {
        for (place, ic, oc) in MATRICES {
            let columns = oc * c;
            for rows in matrix_rows(ic * c, columns) {
                let len = rows.len() * columns;
                tiles.push(Tile { kind: Kind::Matrix { layer, place, rows, columns }, len });
            }
        }
    }
    for rows in split(config.padded_vocab(), wte_rows(c)) {
        let len = rows.len() * c;
        tiles.push(Tile { kind: Kind::Wte { rows }, len });
    }
    for rows in split(config.context, WPE_ROWS) {
        let len = rows.len() * c;
        tiles.push(Tile { kind: Kind::Wpe { rows }, len });
    }
    for layer in 0..config.layers {
        tiles.push(Tile { kind: Kind::Vectors { layer }, len: VECTORS * c });
    }
    tiles.push(Tile { kind: Kind::FinalNorm, len: 2 * c });
    tiles
}

/// 0..n in pieces of `size`.
fn split(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(size).map(move |start| start..(start + size).min(n))
}

/// The rows of a matrix in pieces of nearly one size, whole panels of its transpose.
fn matrix_rows(rows: usize, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (LARGEST / columns).clamp(MATRIX_ROWS.start, MATRIX_ROWS.end - 1);
    split(rows, rows.div_ceil(rows.div_ceil(most)).next_multiple_of(PANEL))
}

/// Rows of a tile of `wte` of this width: a power of two, so that a whole number of them is a [`TILE`].
fn wte_rows(width: usize) -> usize {
    let most = (LARGEST / width).clamp(WTE_ROWS.start, WTE_ROWS.end - 1);
    1 << most.ilog2()
}

/// Writes the tile's gradient over all sequences of the micro-batch, in the order of `slots`.
///
/// `grad`: `tile.len()` values, the tile's ranges one after another; what it held is not read.
/// Without slots the gradient is 0. Allocates nothing.
///
/// # Panics
/// Where `grad` has another length than the tile.
pub fn weight_gradient<'a>(
    config: &Config,
    tile: &Tile,
    slots: impl Iterator<Item = &'a Slot> + Clone,
    grad: &mut [f32],
    scratch: &mut Scratch,
) {
    assert!(grad.len() == tile.len, "a gradient of {} for a tile of {}", grad.len(), tile.len);
    let (c, isa) = (config.width, scratch.isa);
    if slots.clone().next().is_none()
        || !matches!(tile.kind, Kind::Matrix { .. } | Kind::Wte { .. })
    {
        grad.fill(0.0);
    }
    match &tile.kind {
        Kind::Wte { rows } => wte_gradient(config, rows, slots, grad, scratch),
        Kind::Matrix { layer, place, rows, columns } => {
            let pairs = slots.map(|slot| operands(config, (*layer, *place), rows, *columns, slot));
            let grad = MatMut::new(grad, rows.len(), *columns, *columns);
            if pairs.clone().next().is_some() {
                matmul_sum(isa, grad, Write::Set, pairs);
            }
        }
        Kind::Wpe { rows } => {
            for slot in slots {
                for sequence in sequences(&slot.ends) {
                    let at = |position: usize| (sequence.start + position).min(sequence.end) * c;
                    add(grad, &slot.residual[at(rows.start)..at(rows.end)]);
                }
            }
        }
        Kind::Vectors { layer } => {
            for slot in slots {
                add(grad, &slot.dvectors[layer * VECTORS * c..(layer + 1) * VECTORS * c]);
            }
        }
        Kind::FinalNorm => {
            slots.for_each(|slot| add(grad, &slot.dvectors[config.layers * VECTORS * c..]));
        }
    }
}

/// Rows of `wte`, as the head and as the embedding; padded rows get 0.
fn wte_gradient<'a>(
    config: &Config,
    rows: &Range<usize>,
    slots: impl Iterator<Item = &'a Slot> + Clone,
    grad: &mut [f32],
    scratch: &mut Scratch,
) {
    let valid = rows.end.min(config.vocab).saturating_sub(rows.start) * config.width;
    let (grad, padding) = grad.split_at_mut(valid);
    padding.fill(0.0);
    if valid > 0 {
        let (isa, slots, scaled) = (scratch.isa, slots.clone(), &mut scratch.scaled);
        head_weight_gradient(isa, config, grad, rows.start, slots, scaled);
    }
    slots.for_each(|slot| embedding_gradient(config, grad, rows, slot));
}

/// grad += part, as far as `part` goes.
fn add(grad: &mut [f32], part: &[f32]) {
    for (g, p) in grad.iter_mut().zip(part) {
        *g += p;
    }
}

/// The rows of `wte` that the sequences read: each gets the gradient of its embedding.
fn embedding_gradient(config: &Config, grad: &mut [f32], rows: &Range<usize>, slot: &Slot) {
    let c = config.width;
    for (&token, d) in slot.inputs.iter().zip(slot.residual.chunks_exact(c)) {
        if rows.contains(&(token as usize)) {
            add(&mut grad[(token as usize - rows.start) * c..][..c], d);
        }
    }
}

/// x^T and dy of one slot: their product is its part of dW, (rows of IC, OC).
fn operands<'a>(
    config: &Config,
    (layer, place): (usize, usize),
    rows: &Range<usize>,
    columns: usize,
    slot: &'a Slot,
) -> (Mat<'a>, Right<'a>) {
    let (c, t) = (config.width, slot.len());
    let (three, four) = (row_stride(3 * c), row_stride(4 * c));
    let (x, ic, dy, oc) = match place {
        place::ATTN_W => (
            &slot.normed[part(slot.room, 2 * layer, c, t)],
            c,
            &slot.qkv[part(slot.room, layer, three, t)],
            three,
        ),
        place::ATTN_PROJ_W => (
            &slot.heads[part(slot.room, layer, c, t)],
            c,
            &slot.residual[part(slot.room, 2 * layer + 1, c, t)],
            c,
        ),
        place::FC_W => (
            &slot.normed[part(slot.room, 2 * layer + 1, c, t)],
            c,
            &slot.hidden[part(slot.room, layer, four, t)],
            four,
        ),
        _ => (
            &slot.active[part(slot.room, layer, four, t)],
            four,
            &slot.residual[part(slot.room, 2 * layer + 2, c, t)],
            c,
        ),
    };
    let x = if t == 0 { x } else { &x[rows.start..] };
    (Mat::new(x, t, rows.len(), ic).t(), Mat::new(dy, t, columns, oc).into())
}
