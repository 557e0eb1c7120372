//! What the matrix products reach on this machine when nothing holds them up.

use std::time::{Duration, Instant};

use super::gemm::{Mat, MatMut, Write, matmul};
use super::isa::Isa;

/// Rows, terms and columns of the product that is timed: its operands stay in the second-level cache, and
/// it takes some tens of microseconds.
const SHAPE: (usize, usize, usize) = (96, 256, 64);

/// Floating-point operations a second of this thread in a matrix product whose operands are in its nearest
/// caches, multiplications and additions counted one each: the median over products for about `time`.
///
/// It is what these kernels reach and not what the processor's data sheet says. Threads that run it at the
/// same time share what their cores share, as a step does.
///
/// ```
/// use std::time::Duration;
/// use twelvefold::model::{Isa, product_rate};
///
/// let rate = product_rate(Isa::detect()?, Duration::from_millis(1));
/// assert!(rate.is_finite() && rate > 1e6);
/// # Ok::<(), twelvefold::Error>(())
/// ```
pub fn product_rate(isa: Isa, time: Duration) -> f64 {
    let (m, k, n) = SHAPE;
    let (a, b) = (vec![0.5_f32; m * k], vec![0.25_f32; k * n]);
    let mut c = vec![0.0_f32; m * n];
    let begun = Instant::now();
    let mut seconds = Vec::new();
    while seconds.is_empty() || begun.elapsed() < time {
        let started = Instant::now();
        let out = MatMut::new(&mut c, m, n, n);
        matmul(isa, out, Write::Set, Mat::new(&a, m, k, k), Mat::new(&b, k, n, n));
        seconds.push(started.elapsed().as_secs_f64());
    }
    // Read, so that the products are not left out.
    debug_assert!(std::hint::black_box(&c)[0] == 32.0);
    seconds.sort_by(f64::total_cmp);
    (2 * m * k * n) as f64 / seconds[seconds.len() / 2].max(1e-9)
}
