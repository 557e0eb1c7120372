//! Matrix products of our own: c = a b, or c += a b, on one thread.
//!
//! An element of c is a sum over k in rising order: within a block of at most [`DEPTH`] terms one chain of
//! fused multiply-adds that begins at 0, and the blocks' sums added one after the other. The order knows
//! neither the tile nor the vector width nor the shape around the element, so the paths with fused
//! multiply-adds give the same bits as each other and as a plain loop (`portable` rounds each product
//! first).
//!
//! | operand | how it may lie |
//! |---|---|
//! | a (M, K) | rows or columns contiguous: single elements are read and spread over a register |
//! | b (K, N) | rows contiguous, or [`Panels`] of [`PANEL`] columns |
//! | c (M, N) | rows contiguous |
//!
//! Nothing is packed here and nothing is allocated. A b whose columns are contiguous is turned into
//! panels beforehand ([`pack_transposed`]), once for all the products that read it.
//!
//! | file | what it is |
//! |---|---|
//! | `mod` | the matrices, and the loops over blocks |
//! | `pack` | panels |
//! | `kernel` | one tile of c, in registers; unsafe |
//! | `lanes` | a vector register per path; unsafe |

mod kernel;
mod lanes;
mod pack;
#[cfg(test)]
mod tests;

pub(crate) use pack::{pack_transposed, panels_len};

use super::isa::Isa;
use kernel::{Segment, Tiles, most_rows, run};

/// Columns of a panel of b: what a tile of the widest path covers.
pub(crate) const PANEL: usize = 32;

/// Terms of a chain of multiply-adds. A panel of this depth, 64 KiB, stays in the second-level cache.
pub(crate) const DEPTH: usize = 512;

/// Products whose terms may share a block.
const SEGMENTS: usize = 16;

/// Rows of a and c that pass a panel before the next panel is taken: their share of a stays in the
/// second-level cache.
const ROWS: usize = 256;

/// A matrix in a slice: element (i, j) at `i * row_stride + j * column_stride`, one of which is 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Mat<'a> {
    /// `rows` rows of `columns` elements, row i at `data[i * stride]`.
    ///
    /// # Panics
    /// Where the last element lies outside `data`.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Mat<'a> {
        check(data.len(), rows, columns, stride);
        Mat { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// Columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The same elements with rows and columns exchanged; nothing is moved.
    pub(crate) fn t(self) -> Mat<'a> {
        Mat {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A matrix (K, N) as panels of [`PANEL`] columns, one after the other; a panel holds its rows of
/// `PANEL` elements one after the other. Columns beyond N are there and count for nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
}

impl<'a> Panels<'a> {
    /// A matrix of `rows` rows and `columns` columns as [`pack_transposed`] left it in `data`.
    ///
    /// # Panics
    /// Where `data` is too short.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Panels<'a> {
        let needed = panels_len(rows, columns);
        assert!(needed <= data.len(), "panels need {needed} elements, have {}", data.len());
        Panels { data, rows, columns }
    }
}

/// The right operand of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    panel_stride: usize,
}

impl<'a> From<Mat<'a>> for Right<'a> {
    /// # Panics
    /// Where the rows are not contiguous.
    fn from(m: Mat<'a>) -> Right<'a> {
        assert!(m.column_stride == 1, "a right operand has contiguous rows");
        let Mat { data, rows, columns, row_stride, .. } = m;
        Right { data, rows, columns, row_stride, panel_stride: PANEL }
    }
}

impl<'a> From<Panels<'a>> for Right<'a> {
    fn from(p: Panels<'a>) -> Right<'a> {
        let Panels { data, rows, columns } = p;
        Right { data, rows, columns, row_stride: PANEL, panel_stride: rows * PANEL }
    }
}

/// A matrix to write to: row i at `data[i * stride]`.
#[derive(Debug)]
pub(crate) struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatMut<'a> {
    /// `rows` rows of `columns` elements, row i at `data[i * stride]`.
    ///
    /// # Panics
    /// Where the last element lies outside `data`, or rows overlap.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(data.len(), rows, columns, stride);
        MatMut { data, rows, columns, stride }
    }

    /// Columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
}

/// An out-of-range matrix would be undefined behaviour in the kernel, so this is checked in every
/// build.
fn check(len: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride || rows <= 1, "rows of {columns} overlap at stride {stride}");
    let end = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(end <= len, "({rows}, {columns}) at stride {stride} needs {end} elements, has {len}");
}

/// What becomes of the product.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write<'a> {
    /// c = a b. The old content is not read.
    Set,
    /// c += a b.
    Add,
    /// c = a b + bias (N) on each row.
    Bias(&'a [f32]),
    /// c = a b + residual (M, N) + bias (N) on each row.
    BiasResidual(&'a [f32], &'a [f32]),
}

/// c (M, N) = or += a (M, K) b (K, N).
///
/// # Panics
/// Where the shapes do not fit each other.
pub(crate) fn matmul<'a>(
    isa: Isa,
    c: MatMut<'_>,
    write: Write<'_>,
    a: Mat<'a>,
    b: impl Into<Right<'a>>,
) {
    let b = b.into();
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(b.rows == k, "({m}, {k}) by ({}, {n})", b.rows);
    matmul_sum(isa, c, write, std::iter::once((a, b)));
}

/// c (M, N) = or += the sum of the products a (M, K) b (K, N) of all pairs: as one product whose terms
/// are those of the first pair, then those of the second, and so on.
///
/// Terms of several pairs share a block of the depth as long as it has no more than [`DEPTH`].
///
/// # Panics
/// Where the shapes do not fit each other, or two pairs lie in different ways.
pub(crate) fn matmul_sum<'a>(
    isa: Isa,
    mut c: MatMut<'_>,
    mut write: Write<'_>,
    pairs: impl Iterator<Item = (Mat<'a>, Right<'a>)>,
) {
    let (m, n) = (c.rows, c.columns);
    if let Write::Bias(bias) | Write::BiasResidual(bias, _) = write {
        assert!(bias.len() == n, "a bias of {} for rows of {n}", bias.len());
    }
    if let Write::BiasResidual(_, residual) = write {
        assert!(residual.len() == m * n, "a residual of {} for ({m}, {n})", residual.len());
    }
    let mut block = [Segment::EMPTY; SEGMENTS];
    let (mut held, mut depth, mut are_empty) = (0, 0, false);
    for (a, b) in pairs {
        assert!(a.rows == m && a.columns == b.rows && b.columns == n, "a sum of ({m}, {n})");
        for piece in 0..a.columns.div_ceil(DEPTH) {
            let terms = piece * DEPTH..((piece + 1) * DEPTH).min(a.columns);
            let segment = Segment::new(&a, &b, terms);
            if held > 0 && (held == SEGMENTS || depth + segment.depth() > DEPTH) {
                product(isa, &mut c, write, &block[..held]);
                (held, depth, write) = (0, 0, Write::Add);
            }
            block[held] = segment;
            (held, depth) = (held + 1, depth + segment.depth());
        }
        if held == 0 {
            // An empty sum is written too.
            block[0] = Segment::new(&a, &b, 0..0);
            are_empty = true;
        }
    }
    assert!(held > 0 || are_empty, "a sum of no products");
    product(isa, &mut c, write, &block[..held.max(1)]);
}

/// c = or += the terms of one block.
fn product(isa: Isa, c: &mut MatMut<'_>, write: Write<'_>, segments: &[Segment<'_>]) {
    let (m, n, most) = (c.rows, c.columns, most_rows(isa));
    for first in (0..m).step_by(ROWS) {
        let rows = ROWS.min(m - first);
        // Tiles of two heights that differ by one: a low one leaves multiply-adds idle.
        let tiles = rows.div_ceil(most);
        let (low, high) = (rows / tiles, rows % tiles);
        let middle = first + high * (low + 1);
        for column in (0..n).step_by(PANEL) {
            let columns = column..(column + PANEL).min(n);
            for (rows, height) in [(first..middle, low + 1), (middle..first + rows, low)] {
                if !rows.is_empty() {
                    let rows = (rows, height);
                    run(isa, &Tiles::new(c, write, segments, rows, columns.clone()));
                }
            }
        }
    }
}
