//! The short pieces that are one token, for all workers: most of what a worker meets for the first
//! time.

use super::cache::Key;
use crate::corpus::Token;

/// Pieces by their keys, with open addressing.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// A power of two of them, at most half of which are taken.
    keys: Vec<Key>,
    tokens: Vec<Token>,
    likely: Likely,
}

impl Known {
    /// Pieces that differ, and have a key of their own each.
    pub(super) fn new(pieces: &[(Key, Token)]) -> Self {
        let size = (pieces.len() * 2).next_power_of_two().max(2);
        let likely = Likely::new(pieces.len(), pieces.iter().map(|(key, _)| key.mixed()));
        let mut known = Known { keys: vec![Key::NONE; size], tokens: vec![0; size], likely };
        for &(key, token) in pieces {
            let at = known.find(key);
            (known.keys[at], known.tokens[at]) = (key, token);
        }
        known
    }

    /// Where the piece stands, or would.
    fn find(&self, key: Key) -> usize {
        let mask = self.keys.len() - 1;
        let mut at = (key.mixed() >> 32) as usize & mask;
        while self.keys[at] != key && self.keys[at] != Key::NONE {
            at = (at + 1) & mask;
        }
        at
    }

    #[inline]
    pub(super) fn get(&self, key: Key) -> Option<Token> {
        if !self.likely.has(key.mixed()) {
            return None;
        }
        let at = self.find(key);
        (self.keys[at] == key).then(|| self.tokens[at])
    }
}

/// What has no hash in this set of bits is not in a table; it stays nearer than the table.
#[derive(Debug, Clone)]
pub(super) struct Likely {
    /// A power of two of them.
    words: Vec<u64>,
}

impl Likely {
    /// With sixteen bits for each of so many hashes: of the others, one in sixteen seems to be there.
    pub(super) fn new(count: usize, hashes: impl Iterator<Item = u64>) -> Self {
        let mut words = vec![0; (count / 4).next_power_of_two()];
        for hash in hashes {
            let (word, bit) = place(hash, words.len());
            words[word] |= 1 << bit;
        }
        Likely { words }
    }

    #[inline]
    pub(super) fn has(&self, hash: u64) -> bool {
        let (word, bit) = place(hash, self.words.len());
        self.words[word] >> bit & 1 != 0
    }
}

/// The word, of a power of two of them, and the bit in it.
#[inline]
fn place(hash: u64, words: usize) -> (usize, u32) {
    ((hash >> 34) as usize & (words - 1), (hash >> 58) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tests::Rng;

    #[test]
    fn each_piece_that_was_given_is_known_and_no_other() {
        let mut rng = Rng(4);
        for count in [0, 1, 2, 100, 5000] {
            let key = |number: usize| Key::of_piece(&number.to_le_bytes()[..1 + number % 8]);
            let mut all: Vec<usize> = (0..count * 2).map(|_| rng.below(usize::MAX)).collect();
            all.sort_unstable_by_key(|&number| key(number).mixed());
            all.dedup_by_key(|number| key(*number));
            let (given, others) = all.split_at(all.len() / 2);
            let pieces = given.iter().map(|&number| (key(number), number as Token));
            let known = Known::new(&pieces.collect::<Vec<_>>());
            assert!(given.iter().all(|&n| known.get(key(n)) == Some(n as Token)), "{count}");
            assert!(others.iter().all(|&n| known.get(key(n)).is_none()), "{count}");
            let wrong = others.iter().filter(|&&n| known.likely.has(key(n).mixed())).count();
            assert!(wrong * 4 <= others.len(), "{wrong} of {count}");
        }
    }
}
