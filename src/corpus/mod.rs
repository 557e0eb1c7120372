//! From files to token sequences.
//!
//! | module | what it does |
//! |---|---|
//! | [`files`] | opens each file once, unpacks it, and cuts its bytes into chunks |
//! | [`walk`] | finds the files below the given paths, in order |
//! | [`order`] | an order that looks random, decided by a seed |
//! | [`map`] | maps large files, and survives a file that shrinks under its map |
//! | [`mix`] | takes from several sources by weight |
//! | [`stories`] | the built-in corpus, which counts the bits of its text |
//! | [`runs`] | says where text may be cut so that its tokens stay the same |
//! | [`text`] | judges UTF-8 |
//! | [`tokenizer`] | from chunks to tokens; learns a vocabulary in a first pass |
//! | [`batcher`] | packs the stream of tokens into shuffled sequences; sets validation text aside |
//! | [`ngram`] | what a unigram and a bigram reach on the same tokens |
//!
//! All of it is plain sequential code: no thread, no channel, no lock. The stages of the run call it.

use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;

pub mod batcher;
pub mod files;
pub mod map;
pub mod mix;
pub mod ngram;
pub mod order;
mod paths;
pub mod runs;
pub mod stories;
pub mod text;
pub mod tokenizer;
pub mod walk;

/// A token's number in its vocabulary.
pub type Token = u32;

/// The size at which a chunk is full, in bytes. No chunk of a [`files::FileSource`] is larger, but one
/// that holds a single longer run, which the tokenizer does not allow to be cut ([`runs::Cuts`]).
pub const CHUNK_BYTES: usize = 256 * 1024;

/// A piece of the corpus on its way to a tokenizer. The buffer is owned, and reused.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Running number from 0, in corpus order.
    pub index: u64,
    /// The text of all spans, one after the other.
    pub bytes: Vec<u8>,
    /// Which document each part of `bytes` belongs to, in order, without gaps.
    pub spans: Vec<Span>,
    /// No text: the corpus has been read to its end. Set by the loader, not by a [`Source`].
    pub ends_pass: bool,
}

impl Chunk {
    /// Empties the chunk, keeps its buffers and numbers it `index`.
    pub fn reset(&mut self, index: u64) {
        self.index = index;
        self.bytes.clear();
        self.spans.clear();
        self.ends_pass = false;
    }
}

/// One document's part in a chunk. A small file is a whole span, many to a chunk; a large one spans
/// several chunks.
///
/// A span begins at the start of its document, of a run or of a block (see [`runs`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Running number of the document from 0, in corpus order.
    pub document: u64,
    /// The part's place in [`Chunk::bytes`].
    pub range: Range<usize>,
    /// Offset of the part's first byte in the document, in bytes.
    pub offset: u64,
    /// Whether the document ends with this part.
    pub ends_document: bool,
    /// −log2 of the probability of this part, its end of document included, where the source knows
    /// it (the built-in corpus); otherwise 0.
    pub bits: f64,
}

/// Where chunks come from: what the loader steps. One call gives one chunk.
pub trait Source: Send + std::fmt::Debug {
    /// Clears `chunk` and fills it; `false` when there is no more.
    ///
    /// # Errors
    /// The run cannot go on: for example a file changed while it was read.
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, Error>;

    /// As [`Source::fill`], where others read the files: [`Filled::Later`] leaves the chunk begun, and the next
    /// call, with the same chunk, goes on with it. Until then a batch must come back; where none is out,
    /// [`Source::plan`] has one.
    ///
    /// # Errors
    /// As [`Source::fill`].
    fn advance(&mut self, chunk: &mut Chunk) -> Result<Filled, Error> {
        Ok(if self.fill(chunk)? { Filled::Full } else { Filled::Over })
    }

    /// Whether there is something to read ahead, of which there will be so many batches at most.
    fn read_ahead(&mut self, _batches: usize) -> bool {
        false
    }

    /// Files to be read, by [`Batch::read`](files::Batch::read) on any thread, if there are some and not
    /// yet as many as there may be. All batches must come back by [`Source::accept`], in this order.
    fn plan(&mut self) -> Option<files::Batch> {
        None
    }

    /// Takes back a batch that was read.
    ///
    /// # Panics
    /// May, where it is not the batch that was planned after the last one that came back.
    fn accept(&mut self, _batch: files::Batch) {}

    /// What was opened, skipped and read so far; complete once `fill` has said `false`.
    fn summary(&self) -> Summary;

    /// Begins again, after `fill` has said `false`: the same text in the same order, documents numbered
    /// from 0. What is opened again is counted again; all else stands as the first pass found it.
    ///
    /// # Errors
    /// The text cannot be read a second time.
    fn rewind(&mut self) -> Result<(), Error> {
        Err(Error::input("this text cannot be read again", "raise --token-memory until it fits"))
    }

    /// Does not look into `folder`, which exists: the run's own outputs are no text of the corpus.
    ///
    /// # Errors
    /// The folder cannot be looked at.
    fn leave_out(&mut self, _folder: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// What a document is called: its path, where it has one, and its line where it is a record.
    fn name(&self, _document: u64) -> Option<String> {
        None
    }

    /// What ends a `fill` that waits for input which may never come, from another thread.
    fn interrupter(&self) -> Option<files::Interrupter> {
        None
    }
}

/// What [`Source::advance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The chunk is full.
    Full,
    /// Files that it needs are still to be read.
    Later,
    /// There is no more.
    Over,
}

/// What a [`Source`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Regular files found, whether they were taken or skipped; hidden ones are not looked at.
    pub files: u64,
    /// Files opened, each of them once a pass.
    pub opened: u64,
    /// Times that the text was read again.
    pub rewound: u64,
    /// What was not taken, and why.
    pub skipped: Vec<Skipped>,
    /// Bytes of the documents handed out.
    pub bytes: u64,
    /// Documents handed out, wholly or in part.
    pub documents: u64,
    /// Records that were none, and packed texts that broke off.
    pub bad_records: u64,
    /// The first thousand of them, with file and line, and why.
    pub bad: Vec<Skipped>,
}

/// A path that was not taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The path, with U+FFFD for what is not UTF-8.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

/// The tokens of one chunk, in a reused buffer.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct TokenChunk {
    /// The number of the [`Chunk`].
    pub index: u64,
    /// The tokens of all spans, one after the other.
    pub tokens: Vec<Token>,
    /// Which document and unit each part of `tokens` belongs to, in order, without gaps.
    pub spans: Vec<TokenSpan>,
    /// Text that was no UTF-8 and was replaced; at most one entry per document.
    pub invalid: Vec<Invalid>,
    /// As [`Chunk::ends_pass`].
    pub ends_pass: bool,
}

impl TokenChunk {
    /// Empties the chunk, keeps its buffers and numbers it `index`.
    pub fn reset(&mut self, index: u64) {
        self.index = index;
        self.tokens.clear();
        self.spans.clear();
        self.invalid.clear();
        self.ends_pass = false;
    }
}

/// The tokens of one unit's part in a chunk. A unit is what goes to training or to validation as a
/// whole: a document, or each part of about [`runs::UNIT_BYTES`] of a longer one.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSpan {
    /// Running number of the document from 0, in corpus order.
    pub document: u64,
    /// Number of the unit in its document, rising but not always by one (see [`runs::Segment`]).
    pub unit: u64,
    /// The part's place in [`TokenChunk::tokens`].
    pub range: Range<usize>,
    /// Whether the document ends here; the end-of-document token is then the last one of `range`.
    pub ends_document: bool,
    /// Bytes of text, as they stand in the file.
    pub bytes: u64,
    /// As [`Span::bits`]; a span that holds parts of several units shares them by bytes.
    pub bits: f64,
}

/// Bytes that are no UTF-8, in one document's part in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid {
    /// Running number of the document from 0, in corpus order.
    pub document: u64,
    /// Offset of the first bad byte in the document.
    pub offset: u64,
    /// How many maximal bad parts were replaced by U+FFFD each.
    pub count: u64,
}

#[cfg(test)]
mod tests;
