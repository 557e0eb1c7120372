//! The tokens of pieces that were met before: tables of fixed size, of one worker alone.
//!
//! A piece has two places, which share a cache line; a new one takes the first, and what stood there
//! moves to the second. Up to [`TOKENS`] tokens of a piece of up to [`KEY_BYTES`] stand right there.
//! Of others the place says where their bytes and tokens stand in a store; when that is full, all is
//! forgotten. What the tables hold changes no result.

use super::fetch::fetch;
use super::learn::hash;
use super::store::Store;
use crate::corpus::Token;

/// The longest piece that is its own key, in bytes.
const KEY_BYTES: usize = 15;
/// The longest piece that is kept, in bytes.
const KEPT_BYTES: usize = 253;
/// How many tokens stand beside the key.
pub(super) const TOKENS: usize = 4;
/// 2^15 lines of 64 bytes: 2 MiB.
const LINE_BITS: u32 = 16;
/// Above a token in a word: [`MAX_TOKENS`](super::merge::MAX_TOKENS).
const TOKEN_BITS: u32 = 20;

/// The bytes of a piece, or the hash of a longer one; and in the last byte its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u128);

impl Key {
    /// Of no piece: its length would be 0.
    pub(super) const NONE: Key = Key(0);
    /// Of each piece that is not kept.
    const HUGE: Key = Key(255 << 120);

    #[inline]
    pub(super) fn of(text: &[u8], start: usize, end: usize) -> Key {
        let len = end - start;
        match text.get(start..).and_then(|rest| rest.first_chunk::<16>()) {
            // One load and a mask, where 16 bytes are there.
            Some(bytes) if len <= KEY_BYTES => {
                let word = u128::from_le_bytes(*bytes) & MASKS[len & 15];
                Key(word | (len as u128) << 120)
            }
            _ => Key::of_piece(&text[start..end]),
        }
    }

    #[inline(never)]
    pub(super) fn of_piece(piece: &[u8]) -> Key {
        let word = if piece.len() <= KEY_BYTES {
            let mut bytes = [0; 16];
            bytes[..piece.len()].copy_from_slice(piece);
            u128::from_le_bytes(bytes)
        } else if piece.len() <= KEPT_BYTES {
            hash(piece).into()
        } else {
            return Key::HUGE;
        };
        Key(word | (piece.len() as u128) << 120)
    }

    /// A hash, whose highest bits are the best.
    #[inline]
    pub(super) fn mixed(self) -> u64 {
        (self.0 as u64 ^ ((self.0 >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    #[inline]
    fn line(self) -> usize {
        (self.mixed() >> (64 - LINE_BITS)) as usize
    }

    /// Whether it tells the piece from all others.
    pub(super) fn is_short(self) -> bool {
        self.0 >> 120 <= KEY_BYTES as u128
    }
}

/// The first bytes of a word, by their number.
const MASKS: [u128; 16] = {
    let (mut masks, mut len) = ([0; 16], 0);
    while len < 16 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// A piece with its tokens: in the highest bits of the first is their number. If that is 0 they are
/// in the store, and here is where the tokens and the bytes begin there, and how many tokens.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    tokens: [Token; TOKENS],
}

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([Entry; 2]);

const EMPTY: Line = Line([Entry { key: Key::NONE, tokens: [0; TOKENS] }; 2]);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// None until the first piece is encoded.
    lines: Option<Box<[Line; 1 << LINE_BITS]>>,
    store: Store,
    /// Whether much of what was taken last stood in the store.
    is_far: bool,
}

impl Cache {
    /// Makes the table, where there is none yet.
    pub(super) fn prepare(&mut self) {
        if self.lines.is_none() {
            self.lines = vec![EMPTY; 1 << LINE_BITS].try_into().ok();
        }
    }

    /// Makes the keys of the pieces of `text` from `start` on that end at `ends`, and has what is known
    /// of them brought near: so the way there is gone for many at a time.
    #[inline]
    pub(super) fn call(&self, text: &[u8], mut start: usize, ends: &[u32], keys: &mut Vec<Key>) {
        let Some(lines) = self.lines.as_deref() else { return };
        keys.clear();
        keys.extend(ends.iter().map(|&end| {
            let end = end as usize;
            let key = Key::of(text, start, end);
            start = end;
            fetch(&lines[key.line()]);
            key
        }));
        if self.is_far {
            for key in &*keys {
                let Line(pair) = &lines[key.line()];
                let entry = &pair[usize::from(pair[0].key != *key)];
                let [mark, at, ..] = entry.tokens;
                if mark == 0
                    && let Some(place) = self.store.place(at as usize)
                {
                    fetch(place);
                }
            }
        }
    }

    /// Adds to `out` the tokens of the pieces with these keys, up to one whose tokens are not beside
    /// its key, or for which there is no room. Gives how many pieces there were before it.
    #[inline]
    pub(super) fn take(&self, keys: &[Key], out: &mut Draft) -> usize {
        let Some(lines) = self.lines.as_deref() else { return 0 };
        let mut len = out.len;
        for (done, &key) in keys.iter().enumerate() {
            let Line(pair) = &lines[key.line()];
            // Which of the two is not to be guessed.
            let entry = &pair[usize::from(pair[0].key != key)];
            let count = (entry.tokens[0] >> TOKEN_BITS) as usize;
            let room = out.tokens.get_mut(len..len + TOKENS);
            let (true, Some(room)) = (entry.key == key && count > 0, room) else {
                out.len = len;
                return done;
            };
            room.copy_from_slice(&entry.tokens);
            room[0] &= (1 << TOKEN_BITS) - 1;
            len += count;
        }
        out.len = len;
        keys.len()
    }

    /// Adds the tokens of a piece to `out`, if they are in the store. There must be room.
    #[inline]
    pub(super) fn take_stored(&self, key: Key, piece: &[u8], out: &mut Draft) -> bool {
        let Some(lines) = self.lines.as_deref() else { return false };
        let Line(pair) = &lines[key.line()];
        let entry = &pair[usize::from(pair[0].key != key)];
        let [mark, at, count, _] = entry.tokens;
        let (at, count) = (at as usize, count as usize);
        let is_known =
            entry.key == key && mark == 0 && (key.is_short() || self.store.holds(at, count, piece));
        if is_known {
            self.store.copy(at, count, out);
        }
        is_known
    }

    /// Says how many of so many pieces stood in the store.
    pub(super) fn note(&mut self, stored: usize, of: usize) {
        self.is_far = stored * 8 > of;
    }

    /// Keeps the tokens of a piece that is not known.
    pub(super) fn put(&mut self, key: Key, piece: &[u8], tokens: &[Token]) {
        let Some(lines) = self.lines.as_deref_mut() else { return };
        if key == Key::HUGE || piece.is_empty() {
            return;
        }
        let mut entry = Entry { key, tokens: [0; TOKENS] };
        if key.is_short() && tokens.len() <= TOKENS {
            entry.tokens[..tokens.len()].copy_from_slice(tokens);
            entry.tokens[0] |= (tokens.len() as Token) << TOKEN_BITS;
        } else {
            if self.store.is_full() {
                self.store.clear();
                lines.fill(EMPTY);
            }
            let at = self.store.put(tokens, if key.is_short() { &[] } else { piece });
            entry.tokens = [0, at as u32, tokens.len() as u32, 0];
        }
        let Line(pair) = &mut lines[key.line()];
        *pair = [entry, pair[0]];
    }
}

/// Tokens on their way to a list that grows: whoever writes them need not ask whether it must.
#[derive(Debug)]
pub(super) struct Draft {
    tokens: Box<[Token; ROOM]>,
    len: usize,
}

/// 4 KiB: stays in the cache of the first level.
const ROOM: usize = 1024;

impl Default for Draft {
    fn default() -> Self {
        Draft { tokens: Box::new([0; ROOM]), len: 0 }
    }
}

impl Draft {
    /// Whether the tokens of a piece that is kept may find no room.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len + KEPT_BYTES + TOKENS > ROOM
    }

    /// Adds the first of these tokens. There must be room for all.
    #[inline]
    pub(super) fn push_some<const N: usize>(&mut self, tokens: [Token; N], count: usize) {
        self.tokens[self.len..self.len + N].copy_from_slice(&tokens);
        self.len += count;
    }

    /// Hands over what there is.
    pub(super) fn flush(&mut self, out: &mut Vec<Token>) {
        out.extend_from_slice(&self.tokens[..self.len]);
        self.len = 0;
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
        let mut keys = Vec::new();
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
            let (bytes, mut draft, mut out) = (piece(number), Draft::default(), Vec::new());
            cache.call(&bytes, 0, &[bytes.len() as u32], &mut keys);
            let key = keys[0];
            if cache.take(&keys, &mut draft) == 0 {
                let is_stored = cache.take_stored(key, &bytes, &mut draft);
                cache.note(usize::from(is_stored), 1);
            }
            draft.flush(&mut out);
            if out.is_empty() {
                cache.put(key, &bytes, &tokens(number));
            } else {
                assert_eq!(out, tokens(number));
                known += 1;
            }
        }
        assert!(known > 30_000, "{known}");
    }
}
