//! Byte-level BPE: text is cut into pieces ([`split`]), and in each piece the pair of
//! neighbours that was learned first is merged, again and again, the leftmost of equals first.
//!
//! The first 256 tokens are the bytes in GPT-2's order (those that print first); then come the
//! merges in the order in which they were learned; the last is `<|endoftext|>`, which text never
//! gives.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::split;
use crate::corpus::Token;

/// The spelling of the token that ends a document.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Up to this many bytes a piece is merged by looking for the best pair over and over, which is
/// quickest there; longer ones take a heap.
const SHORT: usize = 48;

/// No merge.
const NONE: u32 = u32::MAX;

/// The bytes in the order of their tokens: those that GPT-2 prints as themselves, then the others.
pub(super) const BYTE_ORDER: [u8; 256] = {
    let (mut order, mut at, mut pass) = ([0; 256], 0, 0);
    while pass < 2 {
        let mut byte = 0;
        while byte < 256 {
            if prints(byte as u8) == (pass == 0) {
                order[at] = byte as u8;
                at += 1;
            }
            byte += 1;
        }
        pass += 1;
    }
    order
};

/// The token of each byte.
pub(super) const BYTE_TOKEN: [u8; 256] = {
    let (mut tokens, mut at) = ([0; 256], 0);
    while at < 256 {
        tokens[BYTE_ORDER[at] as usize] = at as u8;
        at += 1;
    }
    tokens
};

const fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// What becomes of a pair of neighbours.
#[derive(Debug, Clone, Copy)]
struct Merge {
    /// Its place in the order of learning: lower is merged first.
    rank: u32,
    token: Token,
}

/// A learned byte-level BPE.
#[derive(Debug, Clone)]
pub struct Bpe {
    /// The bytes of each token but the last.
    tokens: Vec<Box<[u8]>>,
    /// The pairs in the order in which they were learned.
    merges: Vec<(Token, Token)>,
    ranks: FxHashMap<(Token, Token), Merge>,
}

impl Bpe {
    /// The tokenizer with these merges. Two merges that spell the same give the same token.
    pub(super) fn new(merges: Vec<(Token, Token)>) -> Self {
        let mut tokens: Vec<Box<[u8]>> = BYTE_ORDER.iter().map(|&b| Box::from([b])).collect();
        let mut known: FxHashMap<Box<[u8]>, Token> = FxHashMap::default();
        let mut ranks = FxHashMap::default();
        for (rank, &(left, right)) in merges.iter().enumerate() {
            let spelled = [&*tokens[left as usize], &*tokens[right as usize]].concat();
            let next = tokens.len() as Token;
            let token = *known.entry(spelled.clone().into()).or_insert(next);
            if token == next {
                tokens.push(spelled.into());
            }
            ranks.insert((left, right), Merge { rank: rank as u32, token });
        }
        Bpe { tokens, merges, ranks }
    }

    /// How many tokens there are, the one that ends a document included.
    pub fn vocab(&self) -> usize {
        self.tokens.len() + 1
    }

    /// The token that ends a document: the last one.
    pub fn end_of_document(&self) -> Token {
        self.tokens.len() as Token
    }

    /// The bytes of a token; none for the one that ends a document.
    pub fn token_bytes(&self, token: Token) -> &[u8] {
        self.tokens.get(token as usize).map_or(&[], |bytes| bytes)
    }

    /// The pairs that are merged, first learned first.
    pub fn merges(&self) -> &[(Token, Token)] {
        &self.merges
    }

    /// Adds the tokens of `text` to `out`.
    pub(super) fn encode(&self, text: &str, scratch: &mut Scratch, out: &mut Vec<Token>) {
        for range in split::pieces(text) {
            let key = Key::of(text.as_bytes(), range.start, range.len());
            if let Some(known) = key.and_then(|key| scratch.cache.get(key)) {
                out.extend_from_slice(known);
                continue;
            }
            let start = out.len();
            self.encode_piece(&text.as_bytes()[range], scratch, out);
            if let Some(key) = key {
                scratch.cache.put(key, &out[start..]);
            }
        }
    }

    /// Adds the tokens of one piece to `out`.
    pub(super) fn encode_piece(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<Token>) {
        if piece.len() <= SHORT {
            self.merge_short(piece, scratch, out);
        } else {
            self.merge_long(piece, scratch, out);
        }
    }

    fn merge(&self, left: Token, right: Token) -> Option<Merge> {
        self.ranks.get(&(left, right)).copied()
    }

    fn merge_or_none(&self, left: Token, right: Token) -> Merge {
        self.merge(left, right).unwrap_or(Merge { rank: NONE, token: 0 })
    }

    /// Looks for the lowest rank over and over. `pairs[i]` is what `out[start + i]` and its right
    /// neighbour become.
    fn merge_short(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<Token>) {
        let start = out.len();
        out.extend(piece.iter().map(|&b| Token::from(BYTE_TOKEN[usize::from(b)])));
        let pairs = &mut scratch.pairs;
        pairs.clear();
        pairs.extend(out[start..].windows(2).map(|w| self.merge_or_none(w[0], w[1])));
        while let Some((at, best)) = pairs.iter().copied().enumerate().min_by_key(|(_, m)| m.rank)
            && best.rank != NONE
        {
            out[start + at] = best.token;
            out.remove(start + at + 1);
            pairs.remove(at);
            if let Some(&right) = out.get(start + at + 1) {
                pairs[at] = self.merge_or_none(best.token, right);
            }
            if at > 0 {
                pairs[at - 1] = self.merge_or_none(out[start + at - 1], best.token);
            }
        }
    }

    /// A linked list of symbols and a heap of pairs: n log n for a piece of n bytes.
    fn merge_long(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<Token>) {
        let Scratch { links, heap, .. } = scratch;
        links.clear();
        heap.clear();
        links.extend(piece.iter().enumerate().map(|(i, &b)| Link {
            token: Token::from(BYTE_TOKEN[usize::from(b)]),
            previous: (i as u32).wrapping_sub(1),
            next: i as u32 + 1,
        }));
        for at in 1..links.len() {
            self.offer(links, heap, at as u32 - 1);
        }
        while let Some(Reverse((rank, at))) = heap.pop() {
            // An entry is stale if either side was merged since: the pair now has another rank.
            let Some(merge) = self.pair_at(links, at).filter(|merge| merge.rank == rank) else {
                continue;
            };
            let right = links[at as usize].next;
            let next = links[right as usize].next;
            links[right as usize].token = NONE;
            links[at as usize].token = merge.token;
            links[at as usize].next = next;
            if let Some(next) = links.get_mut(next as usize) {
                next.previous = at;
            }
            self.offer(links, heap, at);
            self.offer(links, heap, links[at as usize].previous);
        }
        out.extend(links.iter().map(|link| link.token).filter(|&token| token != NONE));
    }

    /// What the symbol at `at` and the one after it become.
    fn pair_at(&self, links: &[Link], at: u32) -> Option<Merge> {
        let left = links.get(at as usize)?;
        let right = links.get(left.next as usize)?;
        self.merge(left.token, right.token)
    }

    fn offer(&self, links: &[Link], heap: &mut BinaryHeap<Reverse<(u32, u32)>>, at: u32) {
        if let Some(merge) = self.pair_at(links, at) {
            heap.push(Reverse((merge.rank, at)));
        }
    }
}

/// A symbol of a long piece. One that was merged into its left neighbour has the token `NONE`.
#[derive(Debug, Clone, Copy)]
struct Link {
    token: Token,
    previous: u32,
    next: u32,
}

/// What a worker needs to encode. It changes no result.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pairs: Vec<Merge>,
    links: Vec<Link>,
    heap: BinaryHeap<Reverse<(u32, u32)>>,
    cache: Cache,
}

/// A piece of at most 15 bytes, and its length in the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u128);

impl Key {
    fn of(text: &[u8], start: usize, len: usize) -> Option<Key> {
        if len > 15 {
            return None;
        }
        let word = match text[start..].first_chunk::<16>() {
            // One load and a mask, where 16 bytes are there.
            Some(bytes) => u128::from_le_bytes(*bytes) & ((1 << (8 * len)) - 1),
            None => {
                let mut bytes = [0; 16];
                bytes[..len].copy_from_slice(&text[start..start + len]);
                u128::from_le_bytes(bytes)
            }
        };
        Some(Key(word | (len as u128) << 120))
    }

    fn slot(self) -> usize {
        let mixed = (self.0 as u64 ^ ((self.0 >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (mixed >> (64 - CACHE_BITS)) as usize
    }
}

const CACHE_BITS: u32 = 14;
/// Pieces of more tokens are not kept.
const CACHED_TOKENS: usize = 7;

/// The tokens of short pieces: a fixed table in which a piece takes the place of another.
#[derive(Debug, Default)]
struct Cache {
    /// Empty, or 2^14 entries (768 KiB).
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    len: u32,
    tokens: [Token; CACHED_TOKENS],
}

impl Cache {
    fn get(&self, key: Key) -> Option<&[Token]> {
        let entry = self.entries.get(key.slot()).filter(|entry| entry.key == key)?;
        Some(&entry.tokens[..entry.len as usize])
    }

    fn put(&mut self, key: Key, tokens: &[Token]) {
        if tokens.len() > CACHED_TOKENS {
            return;
        }
        if self.entries.is_empty() {
            // No piece has this key: its length would be 255.
            let none = Entry { key: Key(u128::MAX), len: 0, tokens: [0; CACHED_TOKENS] };
            self.entries = vec![none; 1 << CACHE_BITS];
        }
        let entry = &mut self.entries[key.slot()];
        (entry.key, entry.len) = (key, tokens.len() as u32);
        entry.tokens[..tokens.len()].copy_from_slice(tokens);
    }
}
