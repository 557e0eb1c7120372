//! The machine's f32 peak: independent multiply-adds on registers, nothing else.
//!
//! Takes the widest vectors of the machine. Eight accumulators: a multiply-add takes 4 cycles and at most
//! two start in each.

use std::sync::atomic::{AtomicUsize, Ordering};
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
    // They meet at work: the system puts two threads that slept on one core and parts them later.
    let ready = AtomicUsize::new(0);
    let lane = || {
        multiply_add(ROUNDS);
        ready.fetch_add(1, Ordering::Relaxed);
        while ready.load(Ordering::Relaxed) < threads {
            std::hint::spin_loop();
        }
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
        let mut sums = [_mm512_set1_ps(1.0); 8];
        for _ in 0..2 * rounds {
            // One by one: a loop over the array was compiled to loads and stores of it.
            sums[0] = _mm512_fmadd_ps(sums[0], x, y);
            sums[1] = _mm512_fmadd_ps(sums[1], x, y);
            sums[2] = _mm512_fmadd_ps(sums[2], x, y);
            sums[3] = _mm512_fmadd_ps(sums[3], x, y);
            sums[4] = _mm512_fmadd_ps(sums[4], x, y);
            sums[5] = _mm512_fmadd_ps(sums[5], x, y);
            sums[6] = _mm512_fmadd_ps(sums[6], x, y);
            sums[7] = _mm512_fmadd_ps(sums[7], x, y);
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
