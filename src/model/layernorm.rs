//! LayerNorm over the width (Ba, Kiros, Hinton, 2016).

use super::isa::dispatch;
use super::math::{LANES, add_lanes, fma, sum};

/// Added to the variance, as in GPT-2.
const EPSILON: f32 = 1e-5;

dispatch! {
    /// y = (x - mean) * rstd * weight + bias, one row of `C` at a time.
    ///
    /// `out`, `x`: (T, C). `mean`, `rstd`: (T), kept for [`layernorm_backward`]. `weight`, `bias`: (C).
    pub(crate) fn layernorm_forward(
        out: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
    ) = forward;
}

#[inline(always)]
fn forward<const FMA: bool>(
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
) {
    let c = weight.len();
    let rows = out.chunks_exact_mut(c).zip(x.chunks_exact(c));
    for ((out, x), (mean, rstd)) in rows.zip(mean.iter_mut().zip(rstd)) {
        let m = sum(x) / c as f32;
        let r = 1.0 / (squares::<FMA>(x, m) / c as f32 + EPSILON).sqrt();
        for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *out = fma::<FMA>((x - m) * r, *w, *b);
        }
        (*mean, *rstd) = (m, r);
    }
}

/// Sum of (x - mean)^2, in the order of [`sum`].
#[inline(always)]
fn squares<const FMA: bool>(x: &[f32], mean: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            let d = chunk[i] - mean;
            lanes[i] = fma::<FMA>(d, d, lanes[i]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(tail) {
        let d = x - mean;
        *lane = fma::<FMA>(d, d, *lane);
    }
    add_lanes(lanes)
}

/// What [`layernorm_forward`] kept, `mean` and `rstd` (T), and its `weight` (C).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) mean: &'a [f32],
    pub(crate) rstd: &'a [f32],
    pub(crate) weight: &'a [f32],
}

dispatch! {
    /// From x to dx, in place: dx = dresidual + the gradient through the norm; dweight and dbias are
    /// added to.
    ///
    /// `x`, `dresidual`, `dout`: (T, C). `dresidual` is the gradient that passes the norm by.
    /// `dweight`, `dbias`: (C).
    pub(crate) fn layernorm_backward(
        x: &mut [f32],
        dweight: &mut [f32],
        dbias: &mut [f32],
        dresidual: &[f32],
        dout: &[f32],
        norm: Norm<'_>,
    ) = backward;
}

#[inline(always)]
fn backward<const FMA: bool>(
    x: &mut [f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
    dresidual: &[f32],
    dout: &[f32],
    norm: Norm<'_>,
) {
    let weight = norm.weight;
    let c = weight.len();
    let gradients = dresidual.chunks_exact(c).zip(dout.chunks_exact(c));
    let inputs = x.chunks_exact_mut(c).zip(norm.mean.iter().zip(norm.rstd));
    for ((dresidual, dout), (x, (&m, &r))) in gradients.zip(inputs) {
        let (mean_g, mean_gn) = means::<FMA>(weight, dout, x, m, r);
        let parameters = dweight.iter_mut().zip(dbias.iter_mut()).zip(weight);
        let rows = x.iter_mut().zip(dresidual).zip(dout);
        for (((x, residual), &d), ((dw, db), w)) in rows.zip(parameters) {
            let n = (*x - m) * r;
            *dw = fma::<FMA>(n, d, *dw);
            *db += d;
            *x = fma::<FMA>(fma::<FMA>(-n, mean_gn, fma::<FMA>(*w, d, -mean_g)), r, *residual);
        }
    }
}

/// Means over a row of g = weight * dout and of g * n, where n = (x - m) * r.
#[inline(always)]
fn means<const FMA: bool>(weight: &[f32], dout: &[f32], x: &[f32], m: f32, r: f32) -> (f32, f32) {
    let (mut g_lanes, mut gn_lanes) = ([0.0; LANES], [0.0; LANES]);
    let mut add = |i: usize, w: f32, d: f32, x: f32| {
        let g = w * d;
        g_lanes[i] += g;
        gn_lanes[i] = fma::<FMA>(g, (x - m) * r, gn_lanes[i]);
    };
    let (ws, w_tail) = weight.as_chunks::<LANES>();
    let (ds, d_tail) = dout.as_chunks::<LANES>();
    let (xs, x_tail) = x.as_chunks::<LANES>();
    for ((w, d), x) in ws.iter().zip(ds).zip(xs) {
        for i in 0..LANES {
            add(i, w[i], d[i], x[i]);
        }
    }
    for (i, ((&w, &d), &x)) in w_tail.iter().zip(d_tail).zip(x_tail).enumerate() {
        add(i, w, d, x);
    }
    let c = weight.len() as f32;
    (add_lanes(g_lanes) / c, add_lanes(gn_lanes) / c)
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::super::twin::{self, assert_close, differences, inner, narrow, normal};
    use super::*;

    #[test]
    fn layernorm_and_its_gradients_are_those_of_the_plain_twin() {
        for (t, c) in [(1, 1), (3, 5), (2, 16), (4, 37)] {
            let (x, dout) = (normal(t * c, 2.0, 1), normal(t * c, 1.0, 2));
            let (w, b, residual) = (normal(c, 1.0, 3), normal(c, 1.0, 4), normal(t * c, 1.0, 5));
            let loss = |x: &[f64], w: &[f64], b: &[f64]| inner(&dout, &twin::layernorm(x, w, b));
            let mut want_dx = differences(&x, |x| loss(x, &w, &b));
            want_dx.iter_mut().zip(&residual).for_each(|(d, r)| *d += r);
            for isa in Isa::available() {
                let (x, w, b, dout) = (narrow(&x), narrow(&w), narrow(&b), narrow(&dout));
                let (mut y, mut mean, mut rstd) = (vec![0.0; t * c], vec![0.0; t], vec![0.0; t]);
                layernorm_forward(isa, &mut y, &mut mean, &mut rstd, &x, &w, &b);
                let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
                assert_close("y", &y, &twin::layernorm(&wide(&x), &wide(&w), &wide(&b)), 2e-6);
                let norm = Norm { mean: &mean, rstd: &rstd, weight: &w };
                // dweight and dbias are added to.
                let (mut dx, mut dw, mut db) = (x.clone(), vec![1.0; c], vec![2.0; c]);
                let residual = narrow(&residual);
                layernorm_backward(isa, &mut dx, &mut dw, &mut db, &residual, &dout, norm);
                let plus = |d: Vec<f64>, n: f64| d.iter().map(|d| d + n).collect::<Vec<_>>();
                let (x, w, b) = (wide(&x), wide(&w), wide(&b));
                assert_close("dx", &dx, &want_dx, 2e-5);
                assert_close("dw", &dw, &plus(differences(&w, |w| loss(&x, w, &b)), 1.0), 1e-5);
                assert_close("db", &db, &plus(differences(&b, |b| loss(&x, &w, b)), 2.0), 1e-5);
            }
        }
    }
}
