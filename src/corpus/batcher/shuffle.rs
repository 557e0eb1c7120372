//! A shuffle within a window, whose order depends on the seed alone.

/// Mixes the bits of a number: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Draws the numbers 0, 1, 2, … of one epoch, each once.
///
/// A window of numbers is kept full, in order; each draw takes one of them by a generator keyed by
/// (seed, epoch), and the next number takes its place. At the end of the epoch the window runs
/// empty. A number is never drawn more than `window - 1` places early.
///
/// ```
/// use twelvefold::corpus::batcher::shuffle::Shuffle;
/// let mut shuffle = Shuffle::new(3, 1, 0);
/// assert_eq!(shuffle.draw(2, false), None); // the window is not full
/// let mut drawn: Vec<u64> = std::iter::from_fn(|| shuffle.draw(5, true)).collect();
/// drawn.sort();
/// assert_eq!(drawn, [0, 1, 2, 3, 4]);
/// ```
#[derive(Debug, Clone)]
pub struct Shuffle {
    window: Vec<u64>,
    size: usize,
    /// The first number that has not been in the window.
    next: u64,
    state: u64,
}

impl Shuffle {
    /// The order of one epoch.
    ///
    /// # Panics
    /// `size` is 0.
    pub fn new(size: usize, seed: u64, epoch: u64) -> Self {
        assert!(size > 0, "a window of 0 holds nothing to draw from");
        let state = mix(mix(seed) ^ epoch);
        Shuffle { window: Vec::new(), size, next: 0, state }
    }

    /// The next number, when the numbers below `available` may be drawn; `complete` says that there
    /// will be no more. `None`: more must become available, or all were drawn.
    pub fn draw(&mut self, available: u64, complete: bool) -> Option<u64> {
        while self.window.len() < self.size && self.next < available {
            self.window.push(self.next);
            self.next += 1;
        }
        if self.window.is_empty() || (self.window.len() < self.size && !complete) {
            return None;
        }
        let chosen = self.below(self.window.len());
        Some(self.window.swap_remove(chosen))
    }

    /// No number below this one is still to come.
    pub fn oldest(&self) -> u64 {
        self.window.iter().copied().fold(self.next, u64::min)
    }

    /// A number below `n`, by the high part of a product; the bias is below n / 2^64.
    fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((u128::from(mix(self.state)) * n as u128) >> 64) as usize
    }
}
