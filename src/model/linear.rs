//! y = x W + b on rows, with W stored as (in, out), and what follows a product: bias and residual.

use super::isa::dispatch;
use super::matmul::{Mat, MatMut, Write, matmul};

/// y (T, OC) = x (T, IC) W (IC, OC), without the bias.
pub(crate) fn linear_forward(y: &mut [f32], x: &[f32], weight: &[f32], ic: usize, oc: usize) {
    let t = x.len() / ic;
    let y = MatMut::new(y, t, oc, oc);
    matmul(y, Write::Set, Mat::new(x, t, ic, ic), Mat::new(weight, ic, oc, oc));
}

/// dx (T, IC) = dy (T, OC) W^T, W (IC, OC). The weight's own gradient belongs to phase B.
pub(crate) fn linear_backward(dx: &mut [f32], dy: &[f32], weight: &[f32], ic: usize, oc: usize) {
    let t = dy.len() / oc;
    let dx = MatMut::new(dx, t, ic, ic);
    matmul(dx, Write::Set, Mat::new(dy, t, oc, oc), Mat::new(weight, ic, oc, oc).t());
}

dispatch! {
    /// y (T, N) += bias (N) on each row.
    pub(crate) fn add_bias(y: &mut [f32], bias: &[f32]) = add_bias_body;
}

#[inline(always)]
fn add_bias_body<const FMA: bool>(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        for (y, b) in row.iter_mut().zip(bias) {
            *y += b;
        }
    }
}

dispatch! {
    /// y (T, C) += bias (C) + residual (T, C).
    pub(crate) fn add_bias_residual(y: &mut [f32], bias: &[f32], residual: &[f32])
        = add_bias_residual_body;
}

#[inline(always)]
fn add_bias_residual_body<const FMA: bool>(y: &mut [f32], bias: &[f32], residual: &[f32]) {
    let c = bias.len();
    for (y, residual) in y.chunks_exact_mut(c).zip(residual.chunks_exact(c)) {
        for ((y, b), r) in y.iter_mut().zip(bias).zip(residual) {
            *y += b + r;
        }
    }
}

dispatch! {
    /// The gradient of a bias: dbias (N) += the rows of dy (T, N), from the first to the last.
    pub(crate) fn bias_backward(dbias: &mut [f32], dy: &[f32]) = bias_backward_body;
}

#[inline(always)]
fn bias_backward_body<const FMA: bool>(dbias: &mut [f32], dy: &[f32]) {
    for row in dy.chunks_exact(dbias.len()) {
        for (db, d) in dbias.iter_mut().zip(row) {
            *db += d;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::super::twin::{self, assert_close, differences, inner, narrow, normal};
    use super::*;

    #[test]
    fn a_linear_layer_and_its_gradients_are_those_of_the_plain_twin() {
        let (t, ic, oc) = (5, 19, 23);
        let (x, w, b) = (normal(t * ic, 1.0, 1), normal(ic * oc, 1.0, 2), normal(oc, 1.0, 3));
        let (dy, residual) = (normal(t * oc, 1.0, 4), normal(t * oc, 1.0, 5));
        let want = twin::linear(&x, &w, &b);
        for isa in Isa::available() {
            let mut y = vec![f32::NAN; t * oc];
            linear_forward(&mut y, &narrow(&x), &narrow(&w), ic, oc);
            let mut with_residual = y.clone();
            add_bias(isa, &mut y, &narrow(&b));
            assert_close("y", &y, &want, 1e-6);
            add_bias_residual(isa, &mut with_residual, &narrow(&b), &narrow(&residual));
            let sum: Vec<f64> = want.iter().zip(&residual).map(|(y, r)| y + r).collect();
            assert_close("y + residual", &with_residual, &sum, 1e-6);
            let mut dx = vec![f32::NAN; t * ic];
            linear_backward(&mut dx, &narrow(&dy), &narrow(&w), ic, oc);
            let loss = |x: &[f64], b: &[f64]| inner(&dy, &twin::linear(x, &w, b));
            assert_close("dx", &dx, &differences(&x, |x| loss(x, &b)), 1e-6);
            let mut db = vec![1.0; oc];
            bias_backward(isa, &mut db, &narrow(&dy));
            let want: Vec<f64> = differences(&b, |b| loss(&x, b)).iter().map(|d| d + 1.0).collect();
            assert_close("db", &db, &want, 1e-6);
        }
    }
}
