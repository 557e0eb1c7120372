//! exp and ln of our own, and sums in a fixed order.
//!
//! The system's functions differ from machine to machine in the last bit and do not vectorise; these
//! are a few multiplications and additions, the same on every machine. A loop over them compiles to
//! vector code.

/// Lanes of every sum: one AVX-512 register, two of AVX2. Fixed, so that no path changes the order.
pub(crate) const LANES: usize = 16;

/// a * b + c, rounded once where the path has the instruction.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Below this [`exp`] is 0: the last power of two that its scaling reaches.
const EXP_MIN: f32 = -86.6;
/// The largest argument whose exponential is finite.
const EXP_MAX: f32 = 88.722_83;

/// e^x within 2 ulp; 0 below -86.6 (true value under 2.5e-38); held at e^88.72 above that; NaN stays.
///
/// x = n ln 2 + r with |r| <= ln(2) / 2; e^r by the polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let held = x.clamp(EXP_MIN, EXP_MAX);
    let shifted = fma::<FMA>(held, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let e = exp_rest::<FMA>(n, held);
    // 2^(n - 1), then twice: n = 128 has no exponent of its own.
    let exponent = shifted.to_bits().wrapping_add(126).wrapping_sub(ROUND.to_bits());
    let y = e * f32::from_bits(exponent << 23) * 2.0;
    if x < EXP_MIN { 0.0 } else { y }
}

/// e^x of an x that is not above 0, as [`exp`]; a little cheaper: no exponent can be too large.
#[inline(always)]
pub(crate) fn exp_down<const FMA: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let held = if x < EXP_MIN { EXP_MIN } else { x };
    let shifted = fma::<FMA>(held, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let e = exp_rest::<FMA>(n, held);
    // n is added to e's exponent; the low bits of `ROUND` are 0.
    let y = f32::from_bits(e.to_bits().wrapping_add(shifted.to_bits() << 23));
    let outside = if x < EXP_MIN { 0.0 } else { x };
    if x >= EXP_MIN { y } else { outside }
}

/// e^(x - n ln 2), in [0.7, 1.5].
#[inline(always)]
fn exp_rest<const FMA: bool>(n: f32, x: f32) -> f32 {
    // ln 2 in two parts; the first has 9 bits, so n times it is exact.
    let r = fma::<FMA>(n, -0.693_359_4, x);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let p = fma::<FMA>(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = fma::<FMA>(p, r, 8.333_452e-3);
    let p = fma::<FMA>(p, r, 4.166_579_6e-2);
    let p = fma::<FMA>(p, r, 1.666_666_5e-1);
    let p = fma::<FMA>(p, r, 0.5);
    fma::<FMA>(p * r, r, r) + 1.0
}

/// Natural logarithm of a positive, normal number, within 2 ulp of f64; NaN and infinity stay.
///
/// x = m 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh((m - 1) / (m + 1)) by its series, whose
/// terms fall by a factor of at least 33.
pub(crate) fn ln(x: f64) -> f64 {
    if !x.is_finite() {
        // A sum that overflowed or was never a number must not come out as a loss.
        return x;
    }
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut sum = 0.0;
    for k in (1..12).rev() {
        sum = (sum + 1.0 / f64::from(2 * k + 1)) * z;
    }
    // ln 2 in two parts, the first short enough that its product with the exponent is exact.
    let (high, low) = (0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10);
    let e = exponent as f64;
    e * high + (2.0 * s + (2.0 * s * sum + e * low))
}

/// The lanes added up: the upper half to the lower, until one is left.
#[inline(always)]
pub(crate) fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (lower, upper) = lanes.split_at_mut(half);
        for (lower, upper) in lower.iter_mut().zip(upper) {
            *lower += *upper;
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of a row: element i goes to lane i mod 16, then the lanes are added.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, tail) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(tail) {
        *lane += x;
    }
    add_lanes(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance from the true value in units of the last place of the f32 nearest to it.
    fn ulps(got: f32, want: f64) -> f64 {
        let near = want as f32;
        let ulp = f64::from(f32::from_bits(near.abs().to_bits() + 1)) - f64::from(near.abs());
        (f64::from(got) - want).abs() / ulp
    }

    fn worst(range: (f32, f32), f: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> f64 {
        let n = 400_000;
        (0..=n)
            .map(|i| range.0 + (range.1 - range.0) * (i as f32 / n as f32))
            .map(|x| ulps(f(x), truth(f64::from(x))))
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_within_two_ulps() {
        for range in [(-86.5, 88.72), (-1.0, 1.0), (-20.0, 0.0)] {
            let fused = worst(range, exp::<true>, f64::exp);
            let plain = worst(range, exp::<false>, f64::exp);
            assert!(fused < 2.0 && plain < 2.0, "{range:?}: {fused} {plain}");
        }
    }

    #[test]
    fn exp_ends_at_zero_and_keeps_nan() {
        assert_eq!(exp::<true>(0.0), 1.0);
        assert_eq!(exp::<true>(-87.0), 0.0);
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
        assert!(exp::<true>(f32::INFINITY) > 3.4e38);
        assert!(exp::<true>(f32::NAN).is_nan() && exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn exp_of_what_is_not_above_0_is_exp() {
        for i in 0..=4_000_000 {
            let x = -90.0 * (i as f32 / 4e6);
            assert_eq!(exp_down::<true>(x), exp::<true>(x), "{x}");
            assert_eq!(exp_down::<false>(x), exp::<false>(x), "{x}");
        }
        assert_eq!(exp_down::<true>(-0.0), 1.0);
        for x in [f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp_down::<true>(x), 0.0);
        }
        for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7fc1_2345), f32::from_bits(0xffff_ffff)] {
            assert!(exp_down::<true>(nan).is_nan() && exp_down::<false>(nan).is_nan());
        }
    }

    #[test]
    fn ln_is_within_two_ulps_of_f64() {
        for i in 1..400_000u32 {
            for x in [f64::from(i) * 1e-5, f64::from(i) * 1e3, 1.0 / f64::from(i)] {
                let (got, want) = (ln(x), x.ln());
                let ulp = f64::EPSILON * want.abs().max(f64::MIN_POSITIVE);
                assert!((got - want).abs() <= 2.0 * ulp, "ln {x}: {got} {want}");
            }
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn sums_take_every_element_whatever_the_length() {
        for n in 0..70 {
            let x: Vec<f32> = (0..n).map(|i| (i * i % 23) as f32 - 7.0).collect();
            assert_eq!(sum(&x), x.iter().sum::<f32>());
        }
    }
}
