//! An order of numbers that looks random, is decided by a seed, and takes no memory.
//!
//! A Feistel network of four rounds permutes the numbers below a power of four; those that fall on
//! `n` or above are sent through again until they fall below it (cycle walking: Black and Rogaway,
//! "Ciphers with Arbitrary Finite Domains", 2002). The power of four is at most 4 n, so that takes
//! four turns on average at most. Good enough to shuffle files; no cipher.

/// A permutation of the numbers below `n`.
///
/// ```
/// use twelvefold::corpus::order::Permutation;
///
/// let order = Permutation::new(1000, 7);
/// let mut numbers: Vec<u64> = (0..1000).map(|place| order.at(place)).collect();
/// assert!(!numbers.is_sorted());
/// numbers.sort();
/// assert!(numbers.into_iter().eq(0..1000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permutation {
    n: u64,
    seed: u64,
    /// Bits of each half of a number.
    half: u32,
}

const ROUNDS: u64 = 4;

impl Permutation {
    /// The permutation of the numbers below `n` that `seed` decides.
    pub fn new(n: u64, seed: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Permutation { n, seed, half: bits.div_ceil(2).max(1) }
    }

    /// The number at a place.
    ///
    /// # Panics
    /// The place is not below `n`.
    pub fn at(&self, place: u64) -> u64 {
        assert!(place < self.n, "place {place} of {}", self.n);
        let mut number = self.scramble(place);
        while number >= self.n {
            number = self.scramble(number);
        }
        number
    }

    fn scramble(&self, number: u64) -> u64 {
        let mask = (1_u64 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for round in 0..ROUNDS {
            let key = self.seed.wrapping_add(round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mixed = mix(mix(key) ^ right);
            (left, right) = (right, left ^ (mixed & mask));
        }
        left << self.half | right
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::Permutation;

    fn numbers(n: u64, seed: u64) -> Vec<u64> {
        let order = Permutation::new(n, seed);
        (0..n).map(|place| order.at(place)).collect()
    }

    #[test]
    fn every_number_has_one_place_for_every_size_and_seed() {
        for n in (0..300).chain([1023, 1024, 1025, 70_001]) {
            for seed in [0, 1, u64::MAX] {
                let mut all = numbers(n, seed);
                all.sort_unstable();
                assert!(all.into_iter().eq(0..n), "{n}, {seed}");
            }
        }
    }

    #[test]
    fn the_largest_sizes_do_not_overflow() {
        for n in [u64::MAX, 1 << 63, (1 << 62) + 1] {
            let order = Permutation::new(n, 3);
            assert!((0..50).all(|place| order.at(place) < n && order.at(n - 1 - place) < n));
        }
    }

    #[test]
    fn another_seed_is_another_order_and_neighbours_do_not_stay_together() {
        let (one, two) = (numbers(10_000, 1), numbers(10_000, 2));
        assert_ne!(one, two);
        let stay = |all: &[u64]| all.windows(2).filter(|w| w[0].abs_diff(w[1]) < 100).count();
        // Two random numbers are so near in 2 of 100 cases.
        assert!(stay(&one) < 300 && stay(&two) < 300, "{} {}", stay(&one), stay(&two));
        let fixed = one.iter().zip(0..).filter(|(number, place)| **number == *place).count();
        assert!(fixed < 10, "{fixed} stay where they were");
    }
}
