//! The one call into the matrix crate: c = a b or c += a b, single-threaded, strided.
//!
//! `matrixmultiply` picks its kernel (AVX-512, AVX2 with FMA, portable) by the processor and blocks
//! the inner dimension by a constant of its own, 256, whatever the caches are: an element is a sum
//! over k in rising order, in blocks of 256. It allocates one packing buffer per call (at most about
//! 1.1 MB) and keeps a buffer of 1 KiB per thread for the edges.
#![expect(unsafe_code, reason = "the matrix crate takes pointers and strides")]

/// A matrix in a slice: element (i, j) at `i * row_stride + j * column_stride`.
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
    /// Where the last element lies outside `data`.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(data.len(), rows, columns, stride);
        MatMut { data, rows, columns, stride }
    }
}

/// An out-of-range matrix would be undefined behaviour below, so this is checked in every build.
fn check(len: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride || rows <= 1, "rows of {columns} overlap at stride {stride}");
    let end = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(end <= len, "({rows}, {columns}) at stride {stride} needs {end} elements, has {len}");
}

/// What happens to the old content of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// c = a b. The old content is not read.
    Set,
    /// c += a b.
    Add,
}

/// c (M, N) = or += a (M, K) b (K, N).
///
/// # Panics
/// Where the shapes do not fit each other.
pub(crate) fn matmul(c: MatMut<'_>, write: Write, a: Mat<'_>, b: Mat<'_>) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(c.rows == m && b.rows == k && c.columns == n, "({m}, {k}) by ({}, {n})", b.rows);
    let beta = if write == Write::Add { 1.0 } else { 0.0 };
    // SAFETY: `check` ran on each matrix: every element that the shapes and strides reach lies in
    // its slice, and distinct (i, j) of c are distinct elements. `c` is borrowed mutably, so a and b
    // do not overlap it. With beta 0 the crate does not read c; f32 has no invalid values anyway.
    // Strides fit isize because slices do.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            beta,
            c.data.as_mut_ptr(),
            c.stride as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 17) as f32 - 8.0).collect()
    }

    #[test]
    fn a_product_is_the_sum_over_k_for_odd_shapes_strides_and_transposes() {
        for (m, k, n) in [(1, 1, 1), (5, 3, 7), (17, 33, 9), (64, 1, 65), (3, 300, 2), (4, 0, 3)] {
            for (at, bt) in [(false, false), (true, false), (false, true), (true, true)] {
                let (pad_a, pad_b, pad_c) = (3, 1, 2);
                let (ar, ac) = if at { (k, m) } else { (m, k) };
                let (br, bc) = if bt { (n, k) } else { (k, n) };
                let a = values(ar * (ac + pad_a), 1);
                let b = values(br * (bc + pad_b), 2);
                let (a, b) = (Mat::new(&a, ar, ac, ac + pad_a), Mat::new(&b, br, bc, bc + pad_b));
                let (a, b) = (if at { a.t() } else { a }, if bt { b.t() } else { b });
                let old = values(m * (n + pad_c), 3);
                for write in [Write::Set, Write::Add] {
                    let mut c = old.clone();
                    matmul(MatMut::new(&mut c, m, n, n + pad_c), write, a, b);
                    for i in 0..m {
                        for j in 0..n + pad_c {
                            let before = old[i * (n + pad_c) + j];
                            let product: f32 = (0..k)
                                .filter(|_| j < n)
                                .map(|p| {
                                    a.data[i * a.row_stride + p * a.column_stride]
                                        * b.data[p * b.row_stride + j * b.column_stride]
                                })
                                .sum();
                            let kept = j >= n || write == Write::Add;
                            let want = product + if kept { before } else { 0.0 };
                            assert_eq!(c[i * (n + pad_c) + j], want, "{m} {k} {n} ({i}, {j})");
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "needs 10 elements, has 9")]
    fn a_matrix_that_leaves_its_slice_is_refused() {
        Mat::new(&[0.0; 9], 2, 4, 6);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn rows_that_overlap_are_refused() {
        MatMut::new(&mut [0.0; 9], 2, 4, 3);
    }
}
