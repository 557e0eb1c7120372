//! The tokens of pieces that were met before: tables of fixed size, of one worker alone.
//!
//! Short pieces of few tokens have two places, which share a cache line; a new one takes the first, and
//! what stood there moves to the second. Longer ones, and those of more tokens, stand in a store that
//! is emptied when it is full. What the tables hold changes no result.

use super::learn::hash;
use crate::corpus::Token;

/// The longest piece that is kept, in bytes.
const KEY_BYTES: usize = 15;
/// Pieces of more tokens are not kept.
const TOKENS: usize = 3;
/// 2^14 lines of 64 bytes: 1 MiB.
const LINE_BITS: u32 = 14;

/// A piece of at most [`KEY_BYTES`], and its length in the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u128);

impl Key {
    /// Of no piece: its length would be 255.
    const NONE: Key = Key(u128::MAX);
    /// Of each longer piece: its length would be 254.
    const LONG: Key = Key(254 << 120);

    #[inline]
    pub(super) fn of(text: &[u8], start: usize, end: usize) -> Key {
        let len = end - start;
        if len > KEY_BYTES {
            return Key::LONG;
        }
        let word = match text[start..].first_chunk::<16>() {
            // One load and a mask, where 16 bytes are there.
            Some(bytes) => u128::from_le_bytes(*bytes) & ((1 << (8 * len)) - 1),
            None => {
                let mut bytes = [0; 16];
                bytes[..len].copy_from_slice(&text[start..end]);
                u128::from_le_bytes(bytes)
            }
        };
        Key(word | (len as u128) << 120)
    }

    #[inline]
    fn line(self) -> usize {
        let mixed = (self.0 as u64 ^ ((self.0 >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (mixed >> (64 - LINE_BITS)) as usize
    }
}

/// Up to [`TOKENS`] tokens, and how many.
type Value = [Token; TOKENS + 1];

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line {
    keys: [Key; 2],
    values: [Value; 2],
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Empty until the first piece is put.
    lines: Vec<Line>,
    store: Store,
}

impl Cache {
    /// Makes the table, where there is none yet.
    pub(super) fn prepare(&mut self) {
        if self.lines.is_empty() {
            let line = Line { keys: [Key::NONE; 2], values: [[0; TOKENS + 1]; 2] };
            self.lines = vec![line; 1 << LINE_BITS];
        }
    }

    /// Adds the tokens of a piece to `out`, if they are known.
    ///
    /// # Panics
    /// The table was not prepared.
    #[inline]
    pub(super) fn get(&self, key: Key, out: &mut Vec<Token>) -> bool {
        let line = &self.lines[key.line()];
        let value = if line.keys[0] == key {
            &line.values[0]
        } else if line.keys[1] == key {
            &line.values[1]
        } else {
            return false;
        };
        out.push(value[0]);
        if value[TOKENS] > 1 {
            out.extend_from_slice(&value[1..value[TOKENS] as usize]);
        }
        true
    }

    /// [`Self::get`] for a piece without a key, or that is not known by it.
    pub(super) fn get_long(&self, piece: &[u8], out: &mut Vec<Token>) -> bool {
        let known = self.store.get(piece);
        out.extend_from_slice(known.unwrap_or_default());
        known.is_some()
    }

    /// Keeps the tokens of a piece that is not known.
    pub(super) fn put(&mut self, key: Key, piece: &[u8], tokens: &[Token]) {
        if key == Key::LONG || tokens.len() > TOKENS {
            self.store.put(piece, tokens);
        } else {
            self.put_short(key, tokens);
        }
    }

    fn put_short(&mut self, key: Key, tokens: &[Token]) {
        let line = &mut self.lines[key.line()];
        (line.keys[1], line.values[1]) = (line.keys[0], line.values[0]);
        line.keys[0] = key;
        line.values[0][..tokens.len()].copy_from_slice(tokens);
        line.values[0][TOKENS] = tokens.len() as Token;
    }
}

/// The longest piece that is stored, in bytes.
const STORED_BYTES: usize = 255;
/// 2^14 places of two slots each: 512 KiB.
const PLACE_BITS: u32 = 14;
/// The store is full with this many bytes of pieces, or tokens.
const STORE: usize = 1 << 20;

/// A stored piece: where its bytes and tokens begin, and how many there are.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    tag: u32,
    bytes: u32,
    tokens: u32,
    len: u8,
    count: u8,
}

/// Pieces of any length with their tokens, one after the other in two buffers.
#[derive(Debug, Default)]
struct Store {
    /// Empty until the first piece is put.
    places: Vec<[Slot; 2]>,
    bytes: Vec<u8>,
    tokens: Vec<Token>,
}

impl Store {
    fn get(&self, piece: &[u8]) -> Option<&[Token]> {
        let hash = hash(piece);
        let place = self.places.get((hash >> (64 - PLACE_BITS)) as usize)?;
        let slot = place.iter().find(|slot| {
            slot.tag == hash as u32
                && usize::from(slot.len) == piece.len()
                && self.bytes[slot.bytes as usize..][..piece.len()] == *piece
        })?;
        Some(&self.tokens[slot.tokens as usize..][..slot.count.into()])
    }

    fn put(&mut self, piece: &[u8], tokens: &[Token]) {
        if piece.is_empty() || piece.len() > STORED_BYTES {
            return;
        }
        if self.places.is_empty() || self.bytes.len().max(self.tokens.len()) > STORE {
            self.places.clear();
            self.places.resize(1 << PLACE_BITS, Default::default());
            self.bytes.clear();
            self.tokens.clear();
        }
        let hash = hash(piece);
        let place = &mut self.places[(hash >> (64 - PLACE_BITS)) as usize];
        place[1] = place[0];
        place[0] = Slot {
            tag: hash as u32,
            bytes: self.bytes.len() as u32,
            tokens: self.tokens.len() as u32,
            len: piece.len() as u8,
            // A token has a byte at least.
            count: tokens.len() as u8,
        };
        self.bytes.extend_from_slice(piece);
        self.tokens.extend_from_slice(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tests::Rng;

    /// More pieces than there are places, and more bytes than the store holds.
    #[test]
    fn a_piece_gives_its_own_tokens_or_none() {
        let (mut cache, mut rng, mut known) = (Cache::default(), Rng(2), 0);
        cache.prepare();
        let piece = |number: usize| -> Vec<u8> {
            let length = 1 + number % 60;
            let bytes = number.to_le_bytes();
            (0..length.max(4)).map(|i| bytes[i % 4]).collect()
        };
        let tokens = |number: usize| -> Vec<Token> {
            (0..1 + number % 11).map(|i| (number + i) as Token).collect()
        };
        for _ in 0..300_000 {
            let number = rng.below(60_000);
            let (bytes, mut out) = (piece(number), Vec::new());
            let key = Key::of(&bytes, 0, bytes.len());
            if cache.get(key, &mut out) || cache.get_long(&bytes, &mut out) {
                assert_eq!(out, tokens(number));
                known += 1;
            } else {
                assert!(out.is_empty());
                cache.put(key, &bytes, &tokens(number));
            }
        }
        assert!(known > 30_000, "{known}");
    }
}
