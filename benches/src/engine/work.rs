//! What the items of the benchmarks cost, and the sink that checks the answers.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const KEY: u64 = 0x9E37_79B9_7F4A_7C15;

/// A chain of dependent multiplications: its time depends on the rounds alone. `tbb/pipeline.cpp`
/// runs the same.
#[inline(never)]
pub fn chain(rounds: u64) -> u64 {
    (0..rounds)
        .fold(1, |x: u64, _| black_box(x).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31))
}

/// Rounds of [`chain`] that take `time`, by the fastest of many runs.
pub fn rounds(time: Duration) -> u64 {
    const PROBE: u64 = 100_000;
    static NANOSECONDS: OnceLock<f64> = OnceLock::new();
    let per_round = NANOSECONDS.get_or_init(|| {
        let run = |_| {
            let started = Instant::now();
            black_box(chain(PROBE));
            started.elapsed().as_nanos() as f64 / PROBE as f64
        };
        (0..50).map(run).fold(f64::INFINITY, f64::min)
    });
    (time.as_nanos() as f64 / per_round) as u64
}

/// Mixes the bits of `number`.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(KEY);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One item in a hundred, spread as by chance.
#[inline]
pub fn is_heavy(item: u64) -> bool {
    mix(item).is_multiple_of(100)
}

/// The map stage without work: one operation that the compiler cannot fold into the sink.
#[inline]
pub fn nothing(item: u64) -> u64 {
    black_box(item) ^ KEY
}

/// The map stage with the same work for every item.
#[inline]
pub fn even(rounds: u64) -> impl Fn(u64) -> u64 + Copy + Send + Sync + 'static {
    move |item| {
        black_box(chain(rounds));
        item ^ KEY
    }
}

/// The map stage with one item in a hundred a hundred times heavier.
#[inline]
pub fn skewed(rounds: u64) -> impl Fn(u64) -> u64 + Copy + Send + Sync + 'static {
    move |item| {
        black_box(chain(if is_heavy(item) { 100 * rounds } else { rounds }));
        item ^ KEY
    }
}

/// What comes out of the map stage, counted.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sink {
    count: u64,
    sum: u64,
    squares: u64,
    next: u64,
    out_of_order: u64,
}

impl Sink {
    /// Takes one mapped item.
    #[inline]
    pub fn take(&mut self, mapped: u64) {
        let item = mapped ^ KEY;
        self.count += 1;
        self.sum = self.sum.wrapping_add(item);
        self.squares = self.squares.wrapping_add(item.wrapping_mul(item));
        self.out_of_order += u64::from(item != self.next);
        self.next = item.wrapping_add(1);
    }

    /// Every number below `items` came exactly once, and in order where that was promised.
    ///
    /// # Panics
    /// When not.
    pub fn check(&self, items: u64, ordered: bool) {
        let n = u128::from(items);
        let sum = (n * n.saturating_sub(1) / 2) as u64;
        let squares = (n * n.saturating_sub(1) * (2 * n).saturating_sub(1) / 6) as u64;
        let got = (self.count, self.sum, self.squares);
        assert_eq!(got, (items, sum, squares), "count, sum and sum of squares at the sink");
        assert!(!ordered || self.out_of_order == 0, "{} items out of order", self.out_of_order);
    }
}

#[cfg(test)]
mod tests {
    use super::{Sink, nothing};
    use std::panic::catch_unwind;

    fn passes(items: &[u64], ordered: bool) -> bool {
        let mut sink = Sink::default();
        items.iter().for_each(|item| sink.take(nothing(*item)));
        catch_unwind(|| sink.check(4, ordered)).is_ok()
    }

    #[test]
    fn the_sink_accepts_every_item_once() {
        assert!(passes(&[0, 1, 2, 3], true) && passes(&[3, 1, 0, 2], false));
    }

    #[test]
    fn the_sink_refuses_what_is_lost_doubled_or_out_of_order() {
        let wrong: [&[u64]; 4] = [&[0, 1, 2], &[0, 1, 2, 3, 3], &[0, 2, 2, 2], &[0, 0, 3, 3]];
        for items in wrong {
            assert!(!passes(items, false), "{items:?}");
        }
        assert!(!passes(&[0, 2, 1, 3], true));
    }
}
