//! The tokens of pieces that have many, and the bytes of long ones, one after the other.

use super::cache::Draft;
use crate::corpus::Token;

/// It is full with this many bytes.
const FULL: usize = 8 << 20;
/// How many tokens are copied at a time.
const STEP: usize = 8;
/// The bytes of a token.
const WORD: usize = size_of::<Token>();

/// Grows until it is full, and is then emptied by its owner.
#[derive(Debug, Default)]
pub(super) struct Store {
    bytes: Vec<u8>,
}

impl Store {
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Keeps tokens and the bytes of their piece, and gives the place where they stand.
    pub(super) fn put(&mut self, tokens: &[Token], piece: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        self.bytes.extend_from_slice(piece);
        at
    }

    /// Whether this piece stands behind so many tokens; it has [`STEP`] bytes at least.
    #[inline]
    pub(super) fn holds(&self, at: usize, count: usize, piece: &[u8]) -> bool {
        let kept = &self.bytes[at + count * WORD..][..piece.len()];
        let differ =
            |a: &[u8; STEP], b: &[u8; STEP]| u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        let (pairs, last) = (kept.as_chunks().0.iter().zip(piece.as_chunks().0), kept.last_chunk());
        let ends = last.zip(piece.last_chunk()).map_or(1, |(a, b)| differ(a, b));
        pairs.fold(ends, |all, (a, b)| all | differ(a, b)) == 0
    }

    /// Adds the tokens that stand there to `out`.
    #[inline]
    pub(super) fn copy(&self, mut at: usize, mut count: usize, out: &mut Draft) {
        while let Some(words) = self.bytes[at..].first_chunk::<{ STEP * WORD }>() {
            let tokens: [Token; STEP] = std::array::from_fn(|i| {
                Token::from_le_bytes(std::array::from_fn(|j| words[i * WORD + j]))
            });
            out.push_some(tokens, count.min(STEP));
            if count <= STEP {
                return;
            }
            (at, count) = (at + STEP * WORD, count - STEP);
        }
        for word in self.bytes[at..].as_chunks().0.iter().take(count) {
            out.push_some([Token::from_le_bytes(*word)], 1);
        }
    }

    /// Where a place is in memory.
    pub(super) fn place(&self, at: usize) -> Option<&u8> {
        self.bytes.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_differs_in_one_byte_is_another() {
        let mut store = Store::default();
        for length in 8..70_u8 {
            let piece: Vec<u8> = (0..length).collect();
            let tokens: Vec<Token> = (0..Token::from(length)).map(|i| i * 1001).collect();
            let (at, mut draft, mut out) =
                (store.put(&tokens, &piece), Draft::default(), Vec::new());
            assert!(store.holds(at, tokens.len(), &piece));
            for place in 0..piece.len() {
                let mut other = piece.clone();
                other[place] ^= 1 << (place % 8);
                assert!(!store.holds(at, tokens.len(), &other), "{place} of {length}");
            }
            store.copy(at, tokens.len(), &mut draft);
            draft.flush(&mut out);
            assert_eq!(out, tokens);
        }
        store.clear();
        assert!(!store.is_full() && store.place(0).is_none());
    }
}
