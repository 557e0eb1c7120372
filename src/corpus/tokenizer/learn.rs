//! Learning a vocabulary in one pass over the text, which is not read again.
//!
//! Each worker's [`Learner`] turns chunks into [`PieceChunk`]s: the numbers of their pieces (words, or
//! what GPT-2's pattern cuts), four bytes each, in a table of its own that holds each distinct piece
//! once with its count. [`train`] adds up the tables, learns the vocabulary from the counts, and gives
//! an [`Expansion`] for each worker: the tokens of each of its pieces. With it the kept chunks become
//! [`TokenChunk`]s, which are those that [`Tokenizer::encode`] would have given.
//!
//! The vocabulary depends on the sum of the counts alone: not on the number of workers, nor on who
//! got which chunk. Of a piece of more than 256 bytes a BPE learns from the first 256, so that a line
//! without a space costs no more than its neighbours; it is encoded as a whole.
//!
//! The tables hold the distinct pieces, no other text. Where nothing repeats (one long line without a
//! space) that is the text itself, a byte for a byte: it is not read again, so it must be somewhere.

use super::bpe::Bpe;
use super::words::{Words, each_word};
use super::{Place, Tokenizer, TokenizerSpec, encode_spans, merge, split, train};
use crate::corpus::runs::Cuts;
use crate::corpus::text::decode;
use crate::corpus::{Chunk, Invalid, Token, TokenChunk, TokenSpan};

/// What stays of a chunk after the first pass.
#[derive(Debug, Default)]
pub struct PieceChunk {
    /// The number of the [`Chunk`].
    pub index: u64,
    /// Numbers in the table of the learner that made this chunk. Only its [`Expansion`] knows them.
    pub pieces: Vec<u32>,
    /// As in the [`TokenChunk`], with ranges into `pieces`.
    pub spans: Vec<TokenSpan>,
    /// As in the [`TokenChunk`].
    pub invalid: Vec<Invalid>,
}

/// One worker's part in the first pass.
#[derive(Debug)]
pub struct Learner {
    spec: TokenizerSpec,
    table: Table,
    /// Made in this, and then copied to its size: buffers that are kept hold no spare room.
    draft: TokenChunk,
    text: String,
    word: String,
}

impl Learner {
    /// An empty learner.
    ///
    /// # Panics
    /// The tokenizer does not learn ([`TokenizerSpec::learns`]).
    pub fn new(spec: TokenizerSpec) -> Self {
        assert!(spec.learns(), "{spec} learns nothing");
        let (text, word) = (String::new(), String::new());
        Learner { spec, table: Table::default(), draft: TokenChunk::default(), text, word }
    }

    /// Interns the pieces of a chunk. The text can be forgotten afterwards.
    pub fn learn(&mut self, chunk: &Chunk) -> PieceChunk {
        let Learner { spec, table, draft, text, word } = self;
        encode_spans(chunk, Cuts::OWN, draft, None, |bytes, pieces, invalid, place: Place| {
            let text = decode(bytes, text, |at| place.note(at, invalid));
            match spec {
                TokenizerSpec::Words(_) => {
                    each_word(text, word, |word| pieces.push(table.intern(word.as_bytes())));
                }
                _ => {
                    let found = split::pieces(text).map(|range| &text.as_bytes()[range]);
                    pieces.extend(found.map(|piece| table.intern(piece)));
                }
            }
        });
        PieceChunk {
            index: draft.index,
            pieces: draft.tokens.as_slice().to_vec(),
            spans: draft.spans.as_slice().to_vec(),
            invalid: draft.invalid.as_slice().to_vec(),
        }
    }

    /// How many distinct pieces there are.
    pub fn distinct(&self) -> usize {
        self.table.len()
    }
}

/// What [`train`] gives.
#[derive(Debug)]
pub struct Trained {
    /// The tokenizer. Its vocabulary is smaller than what was asked for where the corpus does not
    /// give that many tokens.
    pub tokenizer: Tokenizer,
    /// For each learner, in their order, the tokens of its pieces.
    pub expansions: Vec<Expansion>,
}

/// Learns the vocabulary from all that the learners have seen.
///
/// # Panics
/// There is no learner, or they are not of one kind.
pub fn train(learners: Vec<Learner>) -> Trained {
    let spec = learners.first().expect("at least one learner").spec.clone();
    assert!(learners.iter().all(|learner| learner.spec == spec), "learners of several kinds");
    let tables: Vec<Table> = learners.into_iter().map(|learner| learner.table).collect();
    let merged;
    let all = if let [one] = &tables[..] {
        one
    } else {
        merged = Table::merged(&tables);
        &merged
    };
    let tokenizer = match spec {
        TokenizerSpec::Words(vocab) => Tokenizer::Words(Words::learn(all.iter(), vocab)),
        TokenizerSpec::Bpe(vocab) => {
            Tokenizer::Bpe(Box::new(Bpe::new(train::learn_merges(all.iter(), vocab))))
        }
        // No learner is of another kind: `Learner::new`.
        other => unreachable!("{other} learns nothing"),
    };
    let expansions = tables.iter().map(|table| Expansion::new(&tokenizer, table)).collect();
    Trained { tokenizer, expansions }
}

/// The tokens of each piece of one learner.
#[derive(Debug)]
pub struct Expansion {
    /// Piece `i` is `tokens[starts[i]..starts[i + 1]]`.
    starts: Vec<u64>,
    tokens: Vec<Token>,
    end: Token,
}

impl Expansion {
    fn new(tokenizer: &Tokenizer, table: &Table) -> Self {
        let (mut starts, mut tokens) = (vec![0], Vec::new());
        let mut scratch = merge::Long::default();
        for (piece, _) in table.iter() {
            match tokenizer {
                Tokenizer::Words(words) => {
                    tokens.push(words.token(&String::from_utf8_lossy(piece)));
                }
                Tokenizer::Bpe(bpe) => bpe.encode_piece(piece, &mut scratch, &mut tokens),
                Tokenizer::Bytes => tokens.extend(piece.iter().map(|&b| Token::from(b))),
            }
            starts.push(tokens.len() as u64);
        }
        Expansion { starts, tokens, end: tokenizer.end_of_document() }
    }

    /// Writes the tokens of a chunk that this expansion's learner has seen.
    ///
    /// # Panics
    /// Another learner has made the chunk, and has seen more pieces.
    pub fn expand(&self, chunk: &PieceChunk, out: &mut TokenChunk) {
        out.reset(chunk.index);
        out.invalid.extend_from_slice(&chunk.invalid);
        for span in &chunk.spans {
            let start = out.tokens.len();
            for &piece in &chunk.pieces[span.range.clone()] {
                let range = self.starts[piece as usize]..self.starts[piece as usize + 1];
                out.tokens
                    .extend_from_slice(&self.tokens[range.start as usize..range.end as usize]);
            }
            out.tokens.extend(span.ends_document.then_some(self.end));
            out.spans.push(TokenSpan { range: start..out.tokens.len(), ..span.clone() });
        }
    }
}

/// Distinct pieces with their counts, numbered in the order in which they came. The bytes stand one
/// after the other in one buffer; the index is a table of numbers with open addressing.
#[derive(Debug, Default)]
struct Table {
    bytes: Vec<u8>,
    /// The end of each piece in `bytes`.
    ends: Vec<u64>,
    counts: Vec<u64>,
    /// The number of a piece plus one and 32 bits of its hash, or 0; a power of two of them.
    slots: Vec<(u32, u32)>,
}

impl Table {
    fn len(&self) -> usize {
        self.counts.len()
    }

    fn piece(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start as usize..self.ends[number] as usize]
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        (0..self.len()).map(|number| (self.piece(number), self.counts[number]))
    }

    fn merged(tables: &[Table]) -> Table {
        let mut all = Table::default();
        for (piece, count) in tables.iter().flat_map(Table::iter) {
            all.add(piece, count);
        }
        all
    }

    fn intern(&mut self, piece: &[u8]) -> u32 {
        self.add(piece, 1)
    }

    /// Adds to the count of a piece, and gives its number.
    fn add(&mut self, piece: &[u8], count: u64) -> u32 {
        if self.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let hash = hash(piece);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let (number, tag) = self.slots[at];
            if number == 0 {
                break;
            }
            let index = number as usize - 1;
            if tag == (hash >> 32) as u32 && self.piece(index) == piece {
                self.counts[index] += count;
                return index as u32;
            }
            at = (at + 1) & mask;
        }
        assert!(self.len() < u32::MAX as usize - 1, "more than 4 G distinct pieces");
        self.bytes.extend_from_slice(piece);
        self.ends.push(self.bytes.len() as u64);
        self.counts.push(count);
        self.slots[at] = (self.len() as u32, (hash >> 32) as u32);
        self.len() as u32 - 1
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(1 << 12);
        let mut slots = vec![(0, 0); size];
        for number in 0..self.len() {
            let hash = hash(self.piece(number));
            let mut at = hash as usize & (size - 1);
            while slots[at].0 != 0 {
                at = (at + 1) & (size - 1);
            }
            slots[at] = (number as u32 + 1, (hash >> 32) as u32);
        }
        self.slots = slots;
    }
}

/// Multiplies 16 bytes at a time into a 64-bit hash. It need not withstand an adversary: a slow table
/// is the worst that one could reach.
pub(super) fn hash(piece: &[u8]) -> u64 {
    const K: [u64; 3] = [0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB, 0x8EBC_6AF0_9C88_C6E3];
    let fold = |(a, b): (u64, u64), state: u64| {
        let product = u128::from(a ^ K[1] ^ state) * u128::from(b ^ K[2]);
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = K[0] ^ piece.len() as u64;
    let mut chunks = piece.chunks_exact(16);
    for chunk in &mut chunks {
        state = fold(ends(chunk), state).rotate_left(32);
    }
    fold(ends(chunks.remainder()), state)
}

/// Up to 16 bytes as two words, which overlap where there are fewer. With the length they tell all.
fn ends(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into());
    }
    match bytes {
        [] => (0, 0),
        [first, rest @ ..] => {
            let (middle, last) = (bytes[bytes.len() / 2], rest.last().unwrap_or(first));
            (u64::from(*first) << 8 | u64::from(middle), (*last).into())
        }
    }
}
