//! Byte-level BPE: text is cut into pieces ([`split`]), and in each piece the pair of neighbours of
//! lowest rank is merged, again and again, the leftmost of equals first (`merge`, beside this file).
//!
//! A vocabulary is learned here or was made by others:
//!
//! | made by | rank of a pair | pieces that are a token whatever the merges say |
//! |---|---|---|
//! | [`learn`](super::learn) | its place in the order of learning | none |
//! | a `tokenizer.json` | its place in the list of merges | all, where `ignore_merges` is set |
//! | tiktoken's format | that of the token it spells, which is its number | all |
//!
//! In a learned one the first 256 tokens are the bytes in GPT-2's order (those that print first); then
//! come the merges in the order in which they were learned; the last is `<|endoftext|>`. Text never
//! gives the token that ends a document, nor any other special one, whatever it spells.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::cache::{Cache, Draft, Key};
use super::classes::Classes;
use super::known::Known;
use super::merge::{Long, Pairs};
use super::split::{self, Cut, Ends, Modern, Pattern};
use crate::corpus::Token;
use crate::corpus::runs::Cuts;

/// The spelling of the token that ends a document.
pub const END_OF_TEXT: &str = "<|endoftext|>";

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

/// A byte-level BPE.
#[derive(Debug, Clone)]
pub struct Bpe {
    pattern: Pattern,
    cuts: Cuts,
    spelled: Spelled,
    pairs: Pairs,
    /// The pairs in the order of their ranks, where a list of them was learned or read.
    merges: Vec<(Token, Token)>,
    /// Pieces that are a token whatever the merges say.
    whole: FxHashMap<Box<[u8]>, Token>,
    longest_whole: usize,
    /// Short pieces that are one token, these or others.
    known: Known,
    vocab: usize,
    end: Token,
    /// The file that it was read from, word for word.
    file: Option<Arc<str>>,
}

/// What makes a [`Bpe`] that others have learned.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) pattern: Pattern,
    /// The bytes of each token; none for special ones and for numbers that are not used.
    pub(super) spelled: Spelled,
    pub(super) pairs: Pairs,
    pub(super) merges: Vec<(Token, Token)>,
    pub(super) whole: FxHashMap<Box<[u8]>, Token>,
    /// Every token is below.
    pub(super) vocab: usize,
    pub(super) end: Token,
    pub(super) file: Option<Arc<str>>,
}

/// The bytes of tokens, one after the other in one buffer.
#[derive(Debug, Clone, Default)]
pub(super) struct Spelled {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Spelled {
    /// Spells the next token.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// The bytes of a token; none for one that was not spelled.
    pub(super) fn get(&self, token: Token) -> &[u8] {
        let token = token as usize;
        let Some(&end) = self.ends.get(token) else { return &[] };
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..end as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}

impl Bpe {
    /// The tokenizer with these merges. Two merges that spell the same give the same token.
    pub(super) fn new(merges: Vec<(Token, Token)>) -> Self {
        let mut spelled = Spelled::default();
        BYTE_ORDER.iter().for_each(|&byte| spelled.push(&[byte]));
        let mut pairs = Pairs::new(BYTE_TOKEN.map(Token::from));
        let mut known: FxHashMap<Box<[u8]>, Token> = FxHashMap::default();
        for (rank, &(left, right)) in merges.iter().enumerate() {
            let bytes = [spelled.get(left), spelled.get(right)].concat();
            let next = spelled.len() as Token;
            let token = *known.entry(bytes.clone().into()).or_insert(next);
            if token == next {
                spelled.push(&bytes);
            }
            pairs.rank(rank as u32, token);
            pairs.insert(left, right, rank as u32);
        }
        let (vocab, end) = (spelled.len() + 1, spelled.len() as Token);
        let (pattern, pairs) = (Pattern::Gpt2, pairs.finish());
        let (whole, file) = (FxHashMap::default(), None);
        let made = Foreign { pattern, spelled, pairs, merges, whole, vocab, end, file };
        Bpe { cuts: Cuts::OWN, ..Bpe::foreign(made) }
    }

    pub(super) fn foreign(made: Foreign) -> Self {
        let Foreign { pattern, spelled, pairs, merges, whole, vocab, end, file } = made;
        let longest_whole = whole.keys().map(|piece| piece.len()).max().unwrap_or(0);
        let (cuts, pairs, known) = (pattern.cuts(), pairs.finish(), Known::new(&[]));
        let mut bpe = Bpe {
            pattern,
            cuts,
            spelled,
            pairs,
            merges,
            whole,
            longest_whole,
            known,
            vocab,
            end,
            file,
        };
        bpe.known = Known::new(&bpe.single());
        bpe
    }

    /// The keys of the short tokens that are what their own bytes become.
    fn single(&self) -> Vec<(Key, Token)> {
        let (mut long, mut found, mut out) = (Long::default(), Vec::new(), Vec::new());
        for token in 0..self.spelled.len() as Token {
            let piece = self.spelled.get(token);
            let key = Key::of_piece(piece);
            if !piece.is_empty() && key.is_short() {
                out.clear();
                self.encode_piece(piece, &mut long, &mut out);
                found.extend((out[..] == [token]).then_some((key, token)));
            }
        }
        found
    }

    /// How many tokens there are, special ones included.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The token that ends a document.
    pub fn end_of_document(&self) -> Token {
        self.end
    }

    /// The bytes of a token; none for a special one.
    pub fn token_bytes(&self, token: Token) -> &[u8] {
        self.spelled.get(token)
    }

    /// The pairs that are merged, first learned first; none for a vocabulary in tiktoken's format,
    /// which has no list of them.
    pub fn merges(&self) -> &[(Token, Token)] {
        &self.merges
    }

    /// How text is cut into pieces.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    pub(super) fn cuts(&self) -> Cuts {
        self.cuts
    }

    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    pub(super) fn takes_whole_pieces(&self) -> bool {
        !self.whole.is_empty()
    }

    pub(super) fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// Adds the tokens of `text` to `out`.
    pub(super) fn encode(&self, text: &str, scratch: &mut Scratch, out: &mut Vec<Token>) {
        match self.pattern {
            Pattern::Gpt2 => self.encode_by::<split::Gpt2>(text, scratch, out),
            Pattern::Cl100k => self.encode_by::<Modern<3, true>>(text, scratch, out),
            Pattern::Llama3 => self.encode_by::<Modern<3, false>>(text, scratch, out),
            Pattern::Qwen2 => self.encode_by::<Modern<1, false>>(text, scratch, out),
            Pattern::O200k => self.encode_by::<split::O200k>(text, scratch, out),
        }
    }

    fn encode_by<C: Cut>(&self, text: &str, scratch: &mut Scratch, out: &mut Vec<Token>) {
        let (classes, bytes) = (Classes::new(text), text.as_bytes());
        let Scratch { long, cache, ends, keys, draft } = scratch;
        cache.prepare();
        let mut at = 0;
        while at < bytes.len() {
            let ends = ends.find::<C>(classes, at);
            cache.call(bytes, at, ends, keys);
            let (mut next, mut stored) = (0, 0);
            loop {
                if draft.is_full() {
                    draft.flush(out);
                }
                next += cache.take(&keys[next..], draft);
                let Some(&key) = keys.get(next) else { break };
                if draft.is_full() {
                    continue;
                }
                let start = if next == 0 { at } else { ends[next - 1] as usize };
                let piece = &bytes[start..ends[next] as usize];
                next += 1;
                if cache.take_stored(key, piece, draft) {
                    stored += 1;
                } else if let Some(token) = self.known.get(key) {
                    draft.push_some([token], 1);
                    cache.put(key, piece, &[token]);
                } else {
                    draft.flush(out);
                    let start = out.len();
                    self.encode_piece(piece, long, out);
                    cache.put(key, piece, &out[start..]);
                }
            }
            cache.note(stored, keys.len());
            at = ends[ends.len() - 1] as usize;
        }
        draft.flush(out);
    }

    /// Adds the tokens of one piece to `out`.
    pub(super) fn encode_piece(&self, piece: &[u8], long: &mut Long, out: &mut Vec<Token>) {
        if piece.len() <= self.longest_whole
            && let Some(&token) = self.whole.get(piece)
        {
            out.push(token);
        } else {
            self.pairs.merge(piece, long, out);
        }
    }
}

/// What a worker needs to encode. It changes no result.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    long: Long,
    cache: Cache,
    ends: Ends,
    keys: Vec<Key>,
    draft: Draft,
}
