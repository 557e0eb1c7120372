//! The tokens of short pieces that were met before: a table of fixed size, of one worker alone.
//!
//! A piece has two places, which share a cache line; a new one takes the first, and what stood there
//! moves to the second. What the table holds changes no result.

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
    #[inline]
    pub(super) fn of(text: &[u8], start: usize, end: usize) -> Option<Key> {
        let len = end - start;
        if len > KEY_BYTES {
            return None;
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
        Some(Key(word | (len as u128) << 120))
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
}

impl Cache {
    /// Adds the tokens of a piece to `out`, if they are known.
    #[inline]
    pub(super) fn get(&self, key: Key, out: &mut Vec<Token>) -> bool {
        let Some(line) = self.lines.get(key.line()) else { return false };
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

    /// Keeps the tokens of a piece that is not known.
    pub(super) fn put(&mut self, key: Key, tokens: &[Token]) {
        if tokens.is_empty() || tokens.len() > TOKENS {
            return;
        }
        if self.lines.is_empty() {
            // No piece has this key: its length would be 255.
            let none = Key(u128::MAX);
            let line = Line { keys: [none; 2], values: [[0; TOKENS + 1]; 2] };
            self.lines = vec![line; 1 << LINE_BITS];
        }
        let line = &mut self.lines[key.line()];
        (line.keys[1], line.values[1]) = (line.keys[0], line.values[0]);
        line.keys[0] = key;
        line.values[0][..tokens.len()].copy_from_slice(tokens);
        line.values[0][TOKENS] = tokens.len() as Token;
    }
}
