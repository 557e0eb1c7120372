//! GELU in its tanh form (Hendrycks and Gimpel, 2016):
//! g(u) = u / 2 (1 + tanh(z)) = u s, where z = sqrt(2 / pi) (u + 0.044715 u^3) and s = 1 / (1 + e^(-2z)).

use super::isa::dispatch;
use super::math::{exp, fma};

/// 2 sqrt(2 / pi)
const SCALE: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044_715;

dispatch! {
    /// out = g(u) and u = g'(u), row by row: the slope is all that [`gelu_backward`] needs.
    ///
    /// `out`, `u`: (T, N), row i at `i * stride`.
    pub(crate) fn gelu_forward(out: &mut [f32], u: &mut [f32], n: usize, stride: usize) = forward;
}

#[inline(always)]
fn forward<const FMA: bool>(out: &mut [f32], u: &mut [f32], n: usize, stride: usize) {
    for (out, u) in out.chunks_mut(stride).zip(u.chunks_mut(stride)) {
        for (out, u) in out[..n].iter_mut().zip(&mut u[..n]) {
            (*out, *u) = value_and_slope::<FMA>(*u);
        }
    }
}

/// g(u), and g'(u) = s + u s (1 - s) 2 dz/du.
#[inline(always)]
fn value_and_slope<const FMA: bool>(u: f32) -> (f32, f32) {
    let square = u * u;
    let z = -SCALE * fma::<FMA>(CUBIC * square, u, u);
    let e = exp::<FMA>(z);
    let s = 1.0 / (1.0 + e);
    let g = u * s;
    // 2 dz/du = SCALE (1 + 3 CUBIC u^2)
    let slope = fma::<FMA>(3.0 * CUBIC * SCALE, square, SCALE);
    // 1 - s = e s, which keeps its digits where s is nearly 1.
    (g, fma::<FMA>(g * (e * s), slope, s))
}

dispatch! {
    /// d = dout * slope in the slope's place: from the gradient of the output to that of the input.
    /// dbias (N) += the rows of that, from the first to the last.
    ///
    /// `slope`, `dout`: (T, N), row i at `i * stride`.
    pub(crate) fn gelu_backward(slope: &mut [f32], dout: &[f32], dbias: &mut [f32], stride: usize)
        = backward;
}

#[inline(always)]
fn backward<const FMA: bool>(slope: &mut [f32], dout: &[f32], dbias: &mut [f32], stride: usize) {
    for (slope, dout) in slope.chunks_mut(stride).zip(dout.chunks(stride)) {
        for ((slope, dout), db) in slope.iter_mut().zip(dout).zip(dbias.iter_mut()) {
            *slope *= dout;
            *db += *slope;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::super::twin::{self, assert_close, differences, narrow, normal};
    use super::*;

    #[test]
    fn gelu_and_its_gradient_are_those_of_the_plain_twin() {
        let (t, n, stride) = (5, 37, 40);
        let (x, dout) = (normal(t * stride, 3.0, 1), normal(t * stride, 1.0, 3));
        let rows = |x: &[f32]| x.chunks(stride).flat_map(|row| &row[..n]).copied().collect();
        let wide = |x: &[f64]| x.chunks(stride).flat_map(|row| &row[..n]).copied().collect();
        let (x_rows, dout_rows): (Vec<f64>, Vec<f64>) = (wide(&x), wide(&dout));
        let slopes: Vec<f64> =
            x_rows.iter().map(|&u| differences(&[u], |u| twin::gelu(u[0]))[0]).collect();
        for isa in Isa::available() {
            let mut u = narrow(&x);
            let mut out = vec![f32::NAN; t * stride];
            gelu_forward(isa, &mut out, &mut u, n, stride);
            let want: Vec<f64> = x_rows.iter().map(|&u| twin::gelu(u)).collect();
            let got: Vec<f32> = rows(&out);
            assert_close("out", &got, &want, 3e-7);
            let got: Vec<f32> = rows(&u);
            assert_close("slope", &got, &slopes, 1e-6);
            let mut db = vec![1.0; n];
            gelu_backward(isa, &mut u, &narrow(&dout), &mut db, stride);
            let want: Vec<f64> =
                slopes.iter().zip(&dout_rows).map(|(slope, d)| d * slope).collect();
            let got: Vec<f32> = rows(&u);
            assert_close("d", &got, &want, 1e-6);
            let sums: Vec<f64> =
                (0..n).map(|j| 1.0 + want.iter().skip(j).step_by(n).sum::<f64>()).collect();
            assert_close("dbias", &db, &sums, 1e-6);
        }
    }

    /// Relative to the true value, so that the far left, where it is nearly 0, counts too.
    #[test]
    fn gelu_is_within_a_few_ulps_until_it_leaves_the_numbers() {
        for fused in [true, false] {
            for i in -90_000..=90_000 {
                let u = i as f32 * 1e-4;
                let truth = f64::from(u);
                let z =
                    2.0 * (2.0 / std::f64::consts::PI).sqrt() * (truth + 0.044_715 * truth.powi(3));
                let want = truth / (1.0 + (-z).exp());
                let value = if fused { value_and_slope::<true> } else { value_and_slope::<false> };
                let (g, slope) = value(u);
                let error = (f64::from(g) - want).abs() / want.abs().max(1e-30);
                // z itself is rounded: its error grows with it, and the left end amplifies it.
                let allowed = (4.0 + 3.0 * (-z).max(0.0)) * f64::from(f32::EPSILON);
                assert!(error <= allowed, "{u}: {g} for {want}, {error:e}");
                assert!((-0.2..1.2).contains(&slope), "{u}: slope {slope}");
            }
            let value = if fused { value_and_slope::<true> } else { value_and_slope::<false> };
            assert_eq!(value(50.0), (50.0, 1.0));
            assert!(value(f32::NAN).0.is_nan() && value(f32::NAN).1.is_nan());
        }
    }
}
