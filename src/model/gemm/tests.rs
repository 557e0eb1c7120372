//! The products beside a plain loop of the same order, which they must equal to the bit.

use super::super::isa::Isa;
use super::super::math::fma;
use super::*;

/// Numbers whose products and sums are rounded.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut random = super::super::Random::new(seed, 0);
    (0..n).map(|_| random.normal() as f32).collect()
}

/// c (M, N) by the definition: chains over blocks of [`DEPTH`], then what `write` adds.
fn plain<const FMA: bool>(
    (m, k, n): (usize, usize, usize),
    old: impl Fn(usize, usize) -> f32,
    write: Write<'_>,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    let mut c = Vec::new();
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let mut element = None;
        for block in 0..k.div_ceil(DEPTH).max(1) {
            let mut sum = 0.0;
            for p in block * DEPTH..k.min((block + 1) * DEPTH) {
                sum = fma::<FMA>(a(i, p), b(p, j), sum);
            }
            element = Some(match (element, write) {
                (Some(before), _) => sum + before,
                (None, Write::Set) => sum,
                (None, Write::Add) => sum + old(i, j),
                (None, Write::Bias(bias)) => sum + bias[j],
                (None, Write::BiasResidual(bias, residual)) => sum + residual[i * n + j] + bias[j],
            });
        }
        c.extend(element);
    }
    c
}

/// Every way in which the operands may lie, on one path.
fn check_shape(isa: Isa, (m, k, n): (usize, usize, usize)) {
    let (pad_a, pad_b, pad_c) = (3, 1, 2);
    for at in [false, true] {
        let (rows, columns) = if at { (k, m) } else { (m, k) };
        let a = values(rows * (columns + pad_a), 1);
        let get_a = |i, p| if at { a[p * (m + pad_a) + i] } else { a[i * (k + pad_a) + p] };
        let left = Mat::new(&a, rows, columns, columns + pad_a);
        let left = if at { left.t() } else { left };
        let b = values(k * (n + pad_b), 2);
        let get_b = |p: usize, j: usize| b[p * (n + pad_b) + j];
        let columns_of_b: Vec<f32> = (0..n * k).map(|i| get_b(i % k, i / k)).collect();
        // Beyond the last column a panel may hold anything.
        let mut packed = vec![f32::NAN; panels_len(k, n)];
        pack_transposed(&mut packed, &columns_of_b, n, k, k);
        let old = values(m * (n + pad_c), 3);
        let (bias, residual) = (values(n, 4), values(m * n, 5));
        for write in
            [Write::Set, Write::Add, Write::Bias(&bias), Write::BiasResidual(&bias, &residual)]
        {
            let get_old = |i: usize, j: usize| old[i * (n + pad_c) + j];
            let want = if isa.name() == "portable" {
                plain::<false>((m, k, n), get_old, write, get_a, get_b)
            } else {
                plain::<true>((m, k, n), get_old, write, get_a, get_b)
            };
            let rows = Right::from(Mat::new(&b, k, n, n + pad_b));
            for right in [rows, Panels::new(&packed, k, n).into()] {
                let mut c = old.clone();
                matmul(isa, MatMut::new(&mut c, m, n, n + pad_c), write, left, right);
                for (i, (row, before)) in c.chunks(n + pad_c).zip(old.chunks(n + pad_c)).enumerate()
                {
                    let what = format!("{} {m} {k} {n} row {i}, {write:?}", isa.name());
                    let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&row[..n]), bits(&want[i * n..][..n]), "{what}");
                    assert_eq!(bits(&row[n..]), bits(&before[n..]), "{what}: beside c");
                }
            }
        }
    }
}

#[test]
fn a_product_has_the_bits_of_the_plain_loop_on_every_path_and_shape() {
    let widths = [1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 50, 63, 65];
    for isa in Isa::available() {
        for rows in 1..=29 {
            check_shape(isa, (rows, 5, widths[rows % widths.len()]));
        }
        for columns in widths {
            check_shape(isa, (7, 3, columns));
        }
        // More than one block of the depth and of the rows; an empty sum.
        for shape in [(3, DEPTH, 5), (5, DEPTH + 1, 33), (2, 2 * DEPTH + 7, 17), (4, 0, 20)] {
            check_shape(isa, shape);
        }
        check_shape(isa, (ROWS + 3, 2, 35));
    }
}

/// Pairs share a block while they have [`DEPTH`] terms at most and are no more than [`SEGMENTS`].
#[test]
fn a_sum_of_products_is_the_product_of_their_terms_in_a_row() {
    let (m, n) = (15, 37);
    for isa in Isa::available() {
        for (depths, exact) in [
            (vec![3, 5], true),
            (vec![DEPTH / 2, DEPTH / 2, DEPTH / 2, DEPTH / 2], true),
            (vec![DEPTH], true),
            (vec![1; SEGMENTS], true),
            (vec![1; 2 * SEGMENTS + 1], false),
            (vec![DEPTH + 1, 0, 7], false),
            (vec![0, 0, 3, 5], true),
        ] {
            let k: usize = depths.iter().sum();
            let (a, b) = (values(k * m, 1), values(k * n, 2));
            let mut at = 0;
            let pairs: Vec<_> = depths
                .iter()
                .map(|&depth| {
                    let from = at;
                    at += depth;
                    let a = Mat::new(&a[from * m..at * m], depth, m, m).t();
                    (a, Right::from(Mat::new(&b[from * n..at * n], depth, n, n)))
                })
                .collect();
            let mut sum = vec![f32::NAN; m * n];
            matmul_sum(isa, MatMut::new(&mut sum, m, n, n), Write::Set, pairs.into_iter());
            let mut whole = sum.clone();
            let (a, b) = (Mat::new(&a, k, m, m).t(), Mat::new(&b, k, n, n));
            matmul(isa, MatMut::new(&mut whole, m, n, n), Write::Set, a, b);
            for (sum, whole) in sum.iter().zip(&whole) {
                let off = (sum - whole).abs();
                assert!(off <= 1e-4 && (!exact || off == 0.0), "{} {depths:?}", isa.name());
            }
        }
    }
}

#[test]
fn an_empty_matrix_is_no_error() {
    for isa in Isa::available() {
        for (m, n) in [(0, 5), (5, 0), (0, 0)] {
            let (a, b) = (vec![0.0; m * 3], vec![0.0; 3 * n]);
            let mut c = vec![0.0; m * n];
            let (a, b) = (Mat::new(&a, m, 3, 3), Mat::new(&b, 3, n, n));
            matmul(isa, MatMut::new(&mut c, m, n, n), Write::Set, a, b);
        }
    }
}

/// What is not a number must not be lost, whichever lane it is in.
#[test]
fn what_is_no_number_shows_in_its_row_and_column_only() {
    let (m, k, n) = (5, 9, 37);
    for isa in Isa::available() {
        let (mut a, b) = (values(m * k, 1), values(k * n, 2));
        a[2 * k + 8] = f32::NAN;
        let mut c = vec![0.0; m * n];
        let (left, right) = (Mat::new(&a, m, k, k), Mat::new(&b, k, n, n));
        matmul(isa, MatMut::new(&mut c, m, n, n), Write::Set, left, right);
        for (i, row) in c.chunks(n).enumerate() {
            assert!(row.iter().all(|x| x.is_nan() == (i == 2)), "{} row {i}", isa.name());
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

#[test]
#[should_panic(expected = "panels need 96 elements, have 95")]
fn panels_that_are_too_short_are_refused() {
    Panels::new(&[0.0; 95], 3, 5);
}

#[test]
#[should_panic(expected = "contiguous rows")]
fn a_right_operand_with_contiguous_columns_is_refused() {
    let (x, isa) = ([0.0; 9], Isa::available()[0]);
    let square = Mat::new(&x, 3, 3, 3);
    matmul(isa, MatMut::new(&mut [0.0; 9], 3, 3, 3), Write::Set, square, square.t());
}
