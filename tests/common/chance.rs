//! Chance that comes again with its seed, work, and quiet panics.

/// SplitMix64: numbers that look like chance and come again with the seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// Work of `rounds` dependent multiplications.
pub(crate) fn spin(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x: u64, _| std::hint::black_box(x).wrapping_mul(0xBF58_476D_1CE4_E5B9))
}

/// Keeps planted panics quiet, where a test makes thousands of them.
pub(crate) fn quiet_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.to_string().contains("planted") {
            before(info);
        }
    }));
}
