//! The machine's f32 peak: independent multiply-adds on registers, nothing else.
//!
//! Takes the widest vectors of the machine. Sixteen accumulators: a multiply-add takes 4 cycles and
//! two start in each, so eight would do, and sixteen leave no doubt.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Multiply-adds on each accumulator in one measurement: about 60 ms at 117 GFLOP/s.
const ROUNDS: u64 = 14_000_000;

/// Multiply-adds per second, two operations each, of `threads` threads that start together; in
/// GFLOP/s.
///
/// # Panics
/// When a thread cannot be started.
pub fn gflops(threads: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let lane = || {
        barrier.wait();
        let started = Instant::now();
        let operations = multiply_add(ROUNDS);
        operations as f64 / started.elapsed().as_nanos() as f64
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (1..threads).map(|_| scope.spawn(lane)).collect();
        let here = lane();
        lanes.into_iter().fold(here, |sum, lane| sum + lane.join().expect("a loop of sums ends"))
    })
}

#[cfg(target_arch = "x86_64")]
use x86::multiply_add;

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![expect(unsafe_code, reason = "calls into functions compiled for a detected processor")]

    use std::arch::x86_64::{
        _mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
    };
    use std::hint::black_box;

    pub(super) fn multiply_add(rounds: u64) -> u64 {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: AVX-512F was detected in the line above.
            unsafe { avx512(rounds) }
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: AVX2 and FMA were detected in the line above.
            unsafe { avx2(rounds) }
        } else {
            super::portable(rounds)
        }
    }

    #[target_feature(enable = "avx512f")]
    fn avx512(rounds: u64) -> u64 {
        let (x, y) = (_mm512_set1_ps(black_box(0.999_999)), _mm512_set1_ps(black_box(1e-7)));
        let mut sums = [_mm512_set1_ps(1.0); 16];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        for sum in sums {
            black_box(_mm512_reduce_add_ps(sum));
        }
        rounds * 16 * 16 * 2
    }

    /// Twelve accumulators: with two operands they fit the sixteen registers.
    #[target_feature(enable = "avx2,fma")]
    fn avx2(rounds: u64) -> u64 {
        let (x, y) = (_mm256_set1_ps(black_box(0.999_999)), _mm256_set1_ps(black_box(1e-7)));
        let mut sums = [_mm256_set1_ps(1.0); 12];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
        rounds * 12 * 8 * 2
    }
}

#[cfg(not(target_arch = "x86_64"))]
use portable as multiply_add;

/// Whatever the compiler makes of eight vectors of four.
fn portable(rounds: u64) -> u64 {
    use std::hint::black_box;

    let (x, y) = (black_box(0.999_999_f32), black_box(1e-7_f32));
    let mut sums = [[1.0_f32; 4]; 8];
    for _ in 0..rounds {
        for sum in sums.as_flattened_mut() {
            *sum = *sum * x + y;
        }
    }
    black_box(sums);
    rounds * 8 * 4 * 2
}
