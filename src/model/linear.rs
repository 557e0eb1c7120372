//! y = x W + b on rows, with W stored as (in, out) and read as panels.

use super::gemm::{Mat, MatMut, Panels, Write, matmul};
use super::isa::{Isa, dispatch};

/// y (T, OC) = x (T, IC) W (IC, OC) + b (OC), and what else `write` says. `weight`: panels of W.
pub(crate) fn linear_forward(
    isa: Isa,
    y: MatMut<'_>,
    write: Write<'_>,
    x: Mat<'_>,
    weight: &[f32],
) {
    let (ic, oc) = (x.columns(), y.columns());
    matmul(isa, y, write, x, Panels::new(weight, ic, oc));
}

/// dx (T, IC) = dy (T, OC) W^T. `weight`: panels of W^T. The weight's own gradient belongs to phase B.
pub(crate) fn linear_backward(isa: Isa, dx: MatMut<'_>, dy: Mat<'_>, weight: &[f32]) {
    let (ic, oc) = (dx.columns(), dy.columns());
    matmul(isa, dx, Write::Set, dy, Panels::new(weight, oc, ic));
}

dispatch! {
    /// The gradient of a bias: dbias (N) += the rows of dy (T, N), from the first to the last.
    ///
    /// Row i of dy at `dy[i * stride]`.
    pub(crate) fn bias_backward(dbias: &mut [f32], dy: &[f32], stride: usize) = bias_backward_body;
}

#[inline(always)]
fn bias_backward_body<const FMA: bool>(dbias: &mut [f32], dy: &[f32], stride: usize) {
    for row in dy.chunks(stride) {
        for (db, d) in dbias.iter_mut().zip(row) {
            *db += d;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::super::gemm::{pack_transposed, panels_len};
    use super::super::twin::{self, assert_close, differences, inner, narrow, normal};
    use super::*;

    /// Panels of W and of W^T. `w`: (IC, OC).
    fn packed(w: &[f32], ic: usize, oc: usize) -> (Vec<f32>, Vec<f32>) {
        let transposed: Vec<f32> = (0..ic * oc).map(|i| w[i % ic * oc + i / ic]).collect();
        let mut both = (vec![0.0; panels_len(ic, oc)], vec![0.0; panels_len(oc, ic)]);
        pack_transposed(&mut both.0, &transposed, oc, ic, ic);
        pack_transposed(&mut both.1, w, ic, oc, oc);
        both
    }

    #[test]
    fn a_linear_layer_and_its_gradients_are_those_of_the_plain_twin() {
        let (t, ic, oc) = (5, 19, 37);
        let (x, w, b) = (normal(t * ic, 1.0, 1), normal(ic * oc, 1.0, 2), normal(oc, 1.0, 3));
        let (dy, residual) = (normal(t * oc, 1.0, 4), normal(t * oc, 1.0, 5));
        let want = twin::linear(&x, &w, &b);
        let (forward, backward) = packed(&narrow(&w), ic, oc);
        for isa in Isa::available() {
            let (x32, b32) = (narrow(&x), narrow(&b));
            let rows = Mat::new(&x32, t, ic, ic);
            let mut y = vec![f32::NAN; t * oc];
            let write = Write::Bias(&b32);
            linear_forward(isa, MatMut::new(&mut y, t, oc, oc), write, rows, &forward);
            assert_close("y", &y, &want, 1e-6);
            let residual32 = narrow(&residual);
            let write = Write::BiasResidual(&b32, &residual32);
            linear_forward(isa, MatMut::new(&mut y, t, oc, oc), write, rows, &forward);
            let sum: Vec<f64> = want.iter().zip(&residual).map(|(y, r)| y + r).collect();
            assert_close("y + residual", &y, &sum, 1e-6);
            let mut dx = vec![f32::NAN; t * ic];
            let dy32 = narrow(&dy);
            let rows = Mat::new(&dy32, t, oc, oc);
            linear_backward(isa, MatMut::new(&mut dx, t, ic, ic), rows, &backward);
            let loss = |x: &[f64], b: &[f64]| inner(&dy, &twin::linear(x, &w, b));
            assert_close("dx", &dx, &differences(&x, |x| loss(x, &b)), 1e-6);
            let mut db = vec![1.0; oc];
            bias_backward(isa, &mut db, &dy32, oc);
            let want: Vec<f64> = differences(&b, |b| loss(&x, b)).iter().map(|d| d + 1.0).collect();
            assert_close("db", &db, &want, 1e-6);
        }
    }
}
