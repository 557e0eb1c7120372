//! AdamW (Loshchilov and Hutter, 2019) on slices, tile by tile.

use super::Isa;
use super::isa::dispatch;
use super::math::fma;

/// The constants of AdamW. Weight decay is decoupled and applies where the caller says so: to
/// matrices and embeddings, not to biases and norms.
///
/// ```
/// use twelvefold::model::Isa;
/// use twelvefold::model::adamw::{AdamW, Update};
/// let adamw = AdamW::default();
/// let update = Update { lr: 0.1, clip: 1.0, step: 1, decay: false };
/// let (mut p, mut m, mut v) = ([1.0], [0.0], [0.0]);
/// adamw.update(Isa::detect()?, &update, &mut p, &[5.0], &mut m, &mut v);
/// assert!((p[0] - 0.9).abs() < 1e-6); // the first step has the length of the learning rate
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients. Default 0.9.
    pub beta1: f64,
    /// Decay of the mean of squared gradients. Default 0.95, as GPT-3's.
    pub beta2: f64,
    /// Added to the root of the mean of squares. Default 1e-8.
    pub eps: f64,
    /// Share of a decaying parameter that a step at learning rate 1 would take away. Default 0.1.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 }
    }
}

/// What a step does to one tile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Learning rate of this step.
    pub lr: f64,
    /// Factor on the gradient from [`clip_factor`]; 1 for none.
    pub clip: f64,
    /// Number of this step, counted from 1, for the bias corrections.
    pub step: u64,
    /// Whether weight decay applies to the tile.
    pub decay: bool,
}

impl AdamW {
    /// One step on a slice: with g = clip * grad,
    /// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
    /// p = p (1 - lr decay) - lr m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps).
    ///
    /// All slices have the length of `params`. Allocates nothing.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn update(
        &self,
        isa: Isa,
        update: &Update,
        params: &mut [f32],
        grad: &[f32],
        m: &mut [f32],
        v: &mut [f32],
    ) {
        let n = params.len();
        assert!(grad.len() == n && m.len() == n && v.len() == n, "slices of one length");
        let correction1 = 1.0 - power(self.beta1, update.step);
        let correction2 = 1.0 - power(self.beta2, update.step);
        let decay = if update.decay { update.lr * self.weight_decay } else { 0.0 };
        let factors = Factors {
            clip: update.clip as f32,
            beta1: self.beta1 as f32,
            rest1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            rest2: (1.0 - self.beta2) as f32,
            // lr m / c1 / (sqrt(v / c2) + eps) = (lr / c1) m / (sqrt(v) / sqrt(c2) + eps)
            length: (update.lr / correction1) as f32,
            root: (1.0 / correction2.sqrt()) as f32,
            eps: self.eps as f32,
            keep: (1.0 - decay) as f32,
        };
        kernel(isa, factors, params, grad, m, v);
    }
}

/// x^n by repeated squaring, the same on every machine; the system's `powi` need not be.
fn power(x: f64, n: u64) -> f64 {
    let (mut base, mut n, mut result) = (x, n, 1.0);
    while n > 0 {
        if n & 1 == 1 {
            result *= base;
        }
        base *= base;
        n >>= 1;
    }
    result
}

/// The constants of one step, rounded once.
#[derive(Debug, Clone, Copy)]
struct Factors {
    clip: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    length: f32,
    root: f32,
    eps: f32,
    keep: f32,
}

dispatch! {
    /// One step on slices of one length.
    fn kernel(f: Factors, params: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32])
        = kernel_body;
}

#[inline(always)]
fn kernel_body<const FMA: bool>(
    f: Factors,
    params: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    for (((p, g), m), v) in params.iter_mut().zip(grad).zip(m).zip(v) {
        let g = g * f.clip;
        *m = fma::<FMA>(f.beta1, *m, f.rest1 * g);
        *v = fma::<FMA>(f.beta2, *v, f.rest2 * (g * g));
        let step = f.length * *m / fma::<FMA>(v.sqrt(), f.root, f.eps);
        *p = fma::<FMA>(*p, f.keep, -step);
    }
}

dispatch! {
    /// Sum of the squares of a gradient, in f64, in one order: element i goes to lane i mod 16.
    ///
    /// The same bits on every path: the square of an f32 is exact in f64.
    ///
    /// ```
    /// use twelvefold::model::Isa;
    /// use twelvefold::model::adamw::sum_of_squares;
    /// assert_eq!(sum_of_squares(Isa::detect()?, &[3.0, 4.0]), 25.0);
    /// # Ok::<(), twelvefold::Error>(())
    /// ```
    pub fn sum_of_squares(grad: &[f32]) -> f64 = sum_of_squares_body;
}

#[inline(always)]
fn sum_of_squares_body<const FMA: bool>(grad: &[f32]) -> f64 {
    let mut lanes = [0.0; 16];
    let (chunks, tail) = grad.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &g) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(g) * f64::from(g);
        }
    }
    for (lane, &g) in lanes.iter_mut().zip(tail) {
        *lane += f64::from(g) * f64::from(g);
    }
    lanes.iter().sum()
}

/// The factor that brings a gradient of this norm down to `max_norm`; 1 where it is shorter.
///
/// A norm that is not a number gives a factor that is not one either.
///
/// ```
/// use twelvefold::model::adamw::clip_factor;
/// assert_eq!(clip_factor(4.0, 1.0), 0.25);
/// assert_eq!(clip_factor(0.5, 1.0), 1.0);
/// assert!(clip_factor(f64::NAN, 1.0).is_nan());
/// ```
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if norm <= max_norm { 1.0 } else { max_norm / norm }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten steps of the formula in f64, beside ours.
    #[test]
    fn adamw_follows_its_formula_on_every_path() {
        let n = 37;
        let start: Vec<f32> = (0..n).map(|i| (i as f32 - 18.0) * 0.1).collect();
        let gradient = |step: u64, i: usize| ((step * 7 + i as u64 * 5) % 13) as f32 * 0.3 - 1.5;
        let adamw = AdamW { beta1: 0.8, beta2: 0.9, eps: 1e-3, weight_decay: 0.3 };
        for (isa, decay) in Isa::available().into_iter().flat_map(|i| [(i, false), (i, true)]) {
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
            for step in 1..=10 {
                let grad: Vec<f32> = (0..n).map(|i| gradient(step, i)).collect();
                let update = Update { lr: 0.05, clip: 0.5, step, decay };
                adamw.update(isa, &update, &mut p, &grad, &mut m, &mut v);
            }
            for i in 0..n {
                let (mut q, mut m, mut v) = (f64::from(start[i]), 0.0, 0.0);
                for step in 1..=10 {
                    let g = 0.5 * f64::from(gradient(step, i));
                    (m, v) = (0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g);
                    let (c1, c2) = (1.0 - 0.8f64.powi(step as i32), 1.0 - 0.9f64.powi(step as i32));
                    if decay {
                        q *= 1.0 - 0.05 * 0.3;
                    }
                    q -= 0.05 * (m / c1) / ((v / c2).sqrt() + 1e-3);
                }
                let off = (f64::from(p[i]) - q).abs();
                assert!(off < 2e-6, "{} {decay} [{i}]: {} for {q}", isa.name(), p[i]);
            }
        }
    }

    #[test]
    fn the_sum_of_squares_takes_every_element_and_does_not_overflow() {
        for isa in Isa::available() {
            for n in 0..40 {
                let grad: Vec<f32> = (0..n).map(|i| i as f32).collect();
                let want: f64 = (0..n).map(|i| f64::from(i * i)).sum();
                assert_eq!(sum_of_squares(isa, &grad), want);
            }
            assert!((sum_of_squares(isa, &[1e30; 3]) / 3e60 - 1.0).abs() < 1e-6);
            assert!(sum_of_squares(isa, &[1.0, f32::NAN]).is_nan());
        }
    }

    #[test]
    #[should_panic(expected = "slices of one length")]
    fn slices_of_different_lengths_are_refused() {
        let update = Update { lr: 0.1, clip: 1.0, step: 1, decay: true };
        let isa = Isa::available()[0];
        AdamW::default().update(
            isa,
            &update,
            &mut [0.0; 2],
            &[0.0; 3],
            &mut [0.0; 2],
            &mut [0.0; 2],
        );
    }
}
