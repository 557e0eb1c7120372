//! GELU in its tanh form (Hendrycks and Gimpel, 2016):
//! g(u) = u / 2 (1 + tanh(sqrt(2 / pi) (u + 0.044715 u^3))).

use super::isa::dispatch;
use super::math::{fma, tanh};

/// sqrt(2 / pi)
const SCALE: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

dispatch! {
    /// u += bias on each row, then out = g(u).
    ///
    /// `out`, `u`: (T, N). `u` is kept for [`gelu_backward`]. `bias`: (N).
    pub(crate) fn bias_gelu_forward(out: &mut [f32], u: &mut [f32], bias: &[f32]) = forward;
}

#[inline(always)]
fn forward<const FMA: bool>(out: &mut [f32], u: &mut [f32], bias: &[f32]) {
    let n = bias.len();
    for (out, u) in out.chunks_exact_mut(n).zip(u.chunks_exact_mut(n)) {
        for ((out, u), b) in out.iter_mut().zip(u).zip(bias) {
            *u += b;
            let t = tanh::<FMA>(inner::<FMA>(*u));
            *out = 0.5 * *u * (1.0 + t);
        }
    }
}

dispatch! {
    /// d *= g'(u), in place: from the gradient of the output to that of the input.
    ///
    /// `d`, `u`: (T, N).
    pub(crate) fn gelu_backward(d: &mut [f32], u: &[f32]) = backward;
}

#[inline(always)]
fn backward<const FMA: bool>(d: &mut [f32], u: &[f32]) {
    for (d, &u) in d.iter_mut().zip(u) {
        let t = tanh::<FMA>(inner::<FMA>(u));
        // d inner / du = SCALE (1 + 3 CUBIC u^2); d tanh = 1 - t^2
        let slope = SCALE * fma::<FMA>(3.0 * CUBIC * u, u, 1.0);
        *d *= 0.5 * fma::<FMA>(u * (1.0 - t * t), slope, 1.0 + t);
    }
}

#[inline(always)]
fn inner<const FMA: bool>(u: f32) -> f32 {
    SCALE * fma::<FMA>(CUBIC * u * u, u, u)
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::super::twin::{self, assert_close, differences, narrow, normal};
    use super::*;

    #[test]
    fn gelu_and_its_gradient_are_those_of_the_plain_twin() {
        let (t, n) = (5, 37);
        let (x, bias, dout) = (normal(t * n, 3.0, 1), normal(n, 1.0, 2), normal(t * n, 1.0, 3));
        for isa in Isa::available() {
            let mut u = narrow(&x);
            let mut out = vec![f32::NAN; t * n];
            bias_gelu_forward(isa, &mut out, &mut u, &narrow(&bias));
            let want_u: Vec<f64> = x.iter().enumerate().map(|(i, x)| x + bias[i % n]).collect();
            assert_close("u", &u, &want_u, 1e-7);
            let want: Vec<f64> = want_u.iter().map(|&u| twin::gelu(u)).collect();
            assert_close("out", &out, &want, 3e-7);
            let mut d = narrow(&dout);
            gelu_backward(isa, &mut d, &u);
            let slope = |u: f64| differences(&[u], |u| twin::gelu(u[0]))[0];
            let want: Vec<f64> = want_u.iter().zip(&dout).map(|(&u, d)| d * slope(u)).collect();
            assert_close("d", &d, &want, 1e-6);
        }
    }
}
