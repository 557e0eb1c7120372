//! Tiles of c in registers: a few rows and up to [`PANEL`] columns, over one block of the depth.
#![expect(unsafe_code, reason = "reads and writes by pointer; the constructor checks the matrices")]

use super::lanes::{Lanes, Plain};
#[cfg(target_arch = "x86_64")]
use super::lanes::{Ymm, Zmm};
use super::{Mat, MatMut, PANEL, Right, Write};
use crate::model::isa::{Isa, Path};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

/// Terms of the sum: columns of an a, and the rows of a b that belong to them.
///
/// A value is the evidence that both matrices have these terms: [`Segment::new`] makes the only ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    /// The first of them in row 0 of a, and in column 0 of b.
    a: *const f32,
    b: *const f32,
    depth: usize,
    /// What the pointers are valid for.
    shape: Shape,
    matrices: PhantomData<&'a f32>,
}

/// What the segments of one sum have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    rows: usize,
    columns: usize,
    /// Distance of rows of a, and of terms; one of them is 1.
    a_row: usize,
    a_depth: usize,
    /// Distance of terms of b, and of panels.
    b_depth: usize,
    b_panel: usize,
}

impl<'a> Segment<'a> {
    /// No terms of empty matrices.
    pub(super) const EMPTY: Segment<'static> = Segment {
        a: ptr::null(),
        b: ptr::null(),
        depth: 0,
        shape: Shape { rows: 0, columns: 0, a_row: 1, a_depth: 1, b_depth: 0, b_panel: 0 },
        matrices: PhantomData,
    };

    /// These terms of a b.
    ///
    /// # Panics
    /// Where a or b has fewer.
    pub(super) fn new(a: &Mat<'a>, b: &Right<'a>, terms: Range<usize>) -> Segment<'a> {
        assert!(terms.start <= terms.end && terms.end <= a.columns && terms.end <= b.rows);
        let shape = Shape {
            rows: a.rows,
            columns: b.columns,
            a_row: a.row_stride,
            a_depth: a.column_stride,
            b_depth: b.row_stride,
            b_panel: b.panel_stride,
        };
        Segment {
            a: a.data.as_ptr().wrapping_add(terms.start * a.column_stride),
            b: b.data.as_ptr().wrapping_add(terms.start * b.row_stride),
            depth: terms.len(),
            shape,
            matrices: PhantomData,
        }
    }

    /// How many terms.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }
}

/// What a column of tiles reads and writes: tiles of one height, below each other.
///
/// A value is the evidence that every pointer is valid for the rows, columns and terms that it
/// stands for: [`Tiles::new`] makes the only ones.
#[derive(Debug)]
pub(super) struct Tiles<'a> {
    /// Of one term at least, each; none in an empty sum.
    segments: &'a [Segment<'a>],
    shape: Shape,
    /// Where the tiles begin in the a and the b of each segment.
    a_at: usize,
    b_at: usize,
    /// Row i at `c + i * c_row`.
    c: *mut f32,
    c_row: usize,
    /// What is added to the product: row i at `added + i * added_row`, and one row to all of them.
    /// Null where there is none.
    added: *const f32,
    added_row: usize,
    bias: *const f32,
    /// Rows of a tile, and how many tiles there are.
    rows: usize,
    count: usize,
    columns: usize,
}

impl<'a> Tiles<'a> {
    /// The tiles of `c` of `height` rows each at these rows and columns, for the terms of `segments`.
    /// `columns` lie in one panel.
    pub(super) fn new(
        c: &'a mut MatMut<'_>,
        write: Write<'a>,
        segments: &'a [Segment<'a>],
        (rows, height): (Range<usize>, usize),
        columns: Range<usize>,
    ) -> Tiles<'a> {
        let shape = segments[0].shape;
        assert!(segments.iter().all(|s| s.shape == shape), "segments of different matrices");
        let segments = if segments[0].depth == 0 { &[] } else { segments };
        assert!(segments.iter().all(|s| s.depth > 0), "a segment of no terms among others");
        assert!(rows.end <= c.rows.min(shape.rows) && columns.end <= c.columns.min(shape.columns));
        assert!(rows.len().is_multiple_of(height), "tiles of {height} in {rows:?}");
        assert!(columns.start.is_multiple_of(PANEL) && columns.len() <= PANEL);
        let at = rows.start * c.stride + columns.start;
        let to = c.data.as_mut_ptr().wrapping_add(at);
        let (added, added_row, bias) = match write {
            Write::Set => (ptr::null(), 0, ptr::null()),
            Write::Add => (to.cast_const(), c.stride, ptr::null()),
            Write::Bias(bias) => (ptr::null(), 0, bias[columns.clone()].as_ptr()),
            Write::BiasResidual(bias, residual) => (
                residual[rows.start * c.columns + columns.start..].as_ptr(),
                c.columns,
                bias[columns.clone()].as_ptr(),
            ),
        };
        Tiles {
            segments,
            shape,
            a_at: rows.start * shape.a_row,
            b_at: columns.start / PANEL * shape.b_panel,
            c: to,
            c_row: c.stride,
            added,
            added_row,
            bias,
            rows: height,
            count: rows.len() / height,
            columns: columns.len(),
        }
    }
}

/// The most rows of a tile: what the path's registers hold beside a row of b.
pub(super) fn most_rows(isa: Isa) -> usize {
    match isa.path() {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => 14,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => 6,
        Path::Portable => 6,
    }
}

/// Computes tiles of at most [`most_rows`].
pub(super) fn run(isa: Isa, tiles: &Tiles<'_>) {
    match isa.path() {
        // SAFETY: an `Isa` of this path is the evidence of avx512f, avx2 and fma.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => unsafe { avx512(tiles) },
        // SAFETY: an `Isa` of this path is the evidence of avx2 and fma.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { avx2(tiles) },
        Path::Portable => portable(tiles),
    }
}

/// Writes the function of a path: it takes the tiles in strips of two registers' columns, and calls the
/// strip that was compiled for the number of rows and for what the columns and a's strides are.
macro_rules! path {
    ($name:ident, $lanes:ty, [$($rows:literal)*] $(, $features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        fn $name(tiles: &Tiles<'_>) {
            // Not inlined: in one function, so many tiles leave no registers to any of them.
            #[inline(never)]
            $(#[target_feature(enable = $features)])?
            fn strip<const R: usize, const W: usize, const FULL: bool, const BY_ROW: bool>(
                tiles: &Tiles<'_>,
                from: usize,
            ) {
                // SAFETY: the path's instructions are there, as this function's features say.
                unsafe { product::<$lanes, R, W, FULL, BY_ROW>(tiles, from) }
            }
            for from in (0..tiles.columns).step_by(2 * <$lanes>::N) {
                let (columns, n) = (tiles.columns - from, <$lanes>::N);
                let full = columns == n || columns >= 2 * n;
                match (tiles.rows, columns > n, full, tiles.shape.a_depth == 1) {
                    $(
                        ($rows, true, true, true) => strip::<$rows, 2, true, true>(tiles, from),
                        ($rows, true, true, false) => strip::<$rows, 2, true, false>(tiles, from),
                        ($rows, true, false, true) => strip::<$rows, 2, false, true>(tiles, from),
                        ($rows, true, false, false) => strip::<$rows, 2, false, false>(tiles, from),
                        ($rows, false, true, true) => strip::<$rows, 1, true, true>(tiles, from),
                        ($rows, false, true, false) => strip::<$rows, 1, true, false>(tiles, from),
                        ($rows, false, false, true) => strip::<$rows, 1, false, true>(tiles, from),
                        ($rows, false, false, false) => strip::<$rows, 1, false, false>(tiles, from),
                    )*
                    (rows, ..) => unreachable!("a tile of {rows} rows"),
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
path!(avx512, Zmm, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], "avx512f,avx2,fma");
#[cfg(target_arch = "x86_64")]
path!(avx2, Ymm, [1 2 3 4 5 6], "avx2,fma");
path!(portable, Plain<false>, [1 2 3 4 5 6]);

/// Tiles of `R` rows, of each at most `W` registers of columns from column `from` on. `FULL`: all lanes
/// count. `BY_ROW`: a's rows are contiguous, else its columns.
///
/// # Safety
/// The processor has the instructions of `V`. `R` is the tiles' number of rows.
#[inline(always)]
unsafe fn product<
    V: Lanes,
    const R: usize,
    const W: usize,
    const FULL: bool,
    const BY_ROW: bool,
>(
    tiles: &Tiles<'_>,
    from: usize,
) {
    // The lanes that count in the last register.
    let last = if FULL { V::N } else { tiles.columns - from - (W - 1) * V::N };
    let (mut c, mut added) = (tiles.c.wrapping_add(from), tiles.added);
    for index in 0..tiles.count {
        // Where c is not in a cache, its lines come while the sums are made.
        for i in 0..R {
            for j in 0..W {
                V::fetch(c.wrapping_add(i * tiles.c_row + j * V::N));
            }
        }
        // SAFETY: the caller promises the instructions.
        let mut sums = [[unsafe { V::zero() }; W]; R];
        for segment in tiles.segments {
            let at = (index, from, last);
            // SAFETY: as above; the tiles have as many of `R` rows.
            unsafe { chains::<V, R, W, FULL, BY_ROW>(&mut sums, tiles, segment, at) };
        }
        if !added.is_null() {
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = added.wrapping_add(i * tiles.added_row + from);
                // SAFETY: `added` has the rows and columns of the tiles.
                let row: [V; W] = unsafe { load_row::<V, W, FULL>(row, last) };
                for (sum, x) in sums.iter_mut().zip(&row) {
                    *sum = sum.plus(*x);
                }
            }
            added = added.wrapping_add(R * tiles.added_row);
        }
        if !tiles.bias.is_null() {
            let row = tiles.bias.wrapping_add(from);
            // SAFETY: `bias` has the columns of the tiles.
            let row: [V; W] = unsafe { load_row::<V, W, FULL>(row, last) };
            for sums in &mut sums {
                for (sum, x) in sums.iter_mut().zip(&row) {
                    *sum = sum.plus(*x);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                let to = c.wrapping_add(i * tiles.c_row + j * V::N);
                if FULL || j + 1 < W {
                    // SAFETY: the row and all lanes of this register lie in c.
                    unsafe { sum.store(to) }
                } else {
                    // SAFETY: the row and the lanes that count lie in c.
                    unsafe { sum.store_part(to, last) }
                }
            }
        }
        c = c.wrapping_add(R * tiles.c_row);
    }
}

/// Terms between a fetch of b and its use: a tile's multiply-adds of one term take 28 cycles, and a line
/// of the third-level cache about 200.
const TERMS_AHEAD: usize = 8;

/// Continues the chains of a tile by the terms of a segment. `at`: the tile's index, the first column
/// and the lanes of the last register.
///
/// # Safety
/// As [`product`]; there is a tile of this index.
#[inline(always)]
unsafe fn chains<V: Lanes, const R: usize, const W: usize, const FULL: bool, const BY_ROW: bool>(
    sums: &mut [[V; W]; R],
    tiles: &Tiles<'_>,
    segment: &Segment<'_>,
    (index, from, last): (usize, usize, usize),
) {
    let Shape { a_row, a_depth, b_depth, b_panel, .. } = tiles.shape;
    let mut a = segment.a.wrapping_add(tiles.a_at + index * R * a_row);
    let mut b = segment.b.wrapping_add(tiles.b_at + from);
    // While a tile is computed, a's rows for the next one come nearer, a line with each term; with the
    // first tile b's rows of some terms later, with the second the next panel of b.
    let mut ahead = a.wrapping_add(R * a_row);
    let apart = if BY_ROW { R * a_row / segment.depth } else { a_depth };
    let mut next = b.wrapping_add(match index {
        0 => TERMS_AHEAD * b_depth,
        1 => b_panel,
        _ => 0,
    });
    let mut left = segment.depth;
    // There is a first term, and no way round the loop: where such a way meets the loop's end again, the
    // compiler may give the sums other registers behind it, of which there are none, and store all of them
    // with each term.
    loop {
        V::fetch(ahead);
        ahead = ahead.wrapping_add(apart);
        for j in 0..W {
            V::fetch(next.wrapping_add(j * V::N));
        }
        next = next.wrapping_add(b_depth);
        // SAFETY: a row of b has the tiles' columns.
        let row: [V; W] = unsafe { load_row::<V, W, FULL>(b, last) };
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = a.wrapping_add(if BY_ROW { i * a_row } else { i });
            // SAFETY: row i and this term lie in a; the caller promises the instructions.
            let x = unsafe { V::spread(x) };
            for (sum, y) in sums.iter_mut().zip(&row) {
                *sum = sum.add_product(x, *y);
            }
        }
        a = a.wrapping_add(if BY_ROW { 1 } else { a_depth });
        b = b.wrapping_add(b_depth);
        left -= 1;
        if left == 0 {
            break;
        }
    }
}

/// `W` registers from `at` on; of the last one the first `last` lanes where it is not `FULL`.
///
/// # Safety
/// The processor has the instructions of `V`, and what is read lies in one slice.
#[inline(always)]
unsafe fn load_row<V: Lanes, const W: usize, const FULL: bool>(
    at: *const f32,
    last: usize,
) -> [V; W] {
    // SAFETY: the caller promises the instructions.
    let mut row = [unsafe { V::zero() }; W];
    for (j, lanes) in row.iter_mut().enumerate() {
        let at = at.wrapping_add(j * V::N);
        *lanes = if FULL || j + 1 < W {
            // SAFETY: as the caller promises.
            unsafe { V::load(at) }
        } else {
            // SAFETY: as the caller promises.
            unsafe { V::load_part(at, last) }
        };
    }
    row
}
