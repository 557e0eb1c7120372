//! Where the sequences of a micro-batch come from: file and bytes.
//!
//! The order is a function of the text, the tokenizer, the seed and the settings, so nothing of a run
//! is needed but these: the text is read and packed again, on one thread, up to the micro-batch. All
//! its tokens are kept meanwhile.
//!
//! Bytes are exact where tokens say how many bytes they stand for: `bytes` and `bpe` on valid UTF-8.
//! Elsewhere they are those of the unit of about 32 KiB in which the sequence lies.

use std::ops::Range;

use super::init;
use super::inputs::text;
use super::options::Options;
use crate::corpus::batcher::{Batcher, Next, Sequences, Settings, TokenStore};
use crate::corpus::tokenizer::learn::{Learner, train};
use crate::corpus::tokenizer::{Encoder, Tokenizer, TokenizerSpec};
use crate::corpus::{Chunk, Source, TokenChunk, TokenSpan};
use crate::error::Error;

/// One micro-batch of a run, and where it comes from.
#[derive(Debug)]
pub struct Explained {
    /// Its tokens, as they were trained.
    pub sequences: Sequences,
    /// For each sequence, its parts in the order in which they stand in it.
    pub origins: Vec<Vec<Part>>,
}

/// A stretch of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The document's number, in the order of the corpus.
    pub document: u64,
    /// Its path, where it has one, and after a colon its line where it is a record.
    pub path: Option<String>,
    /// The bytes of the document: of a record's text, of what a packed file holds.
    pub bytes: Range<u64>,
    /// False where the part lies somewhere within these bytes.
    pub exact: bool,
}

/// Explains micro-batch `batch` of the run with these options, counted from 0 over all epochs: step s
/// trains the micro-batches from (s - 1) · M on, with M micro-batches in a step.
///
/// ```
/// use twelvefold::train::Options;
/// use twelvefold::train::explain::explain;
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("a.txt");
/// std::fs::write(&file, "one two three four ".repeat(20))?;
/// let tokenizer = "bytes".to_owned();
/// let options =
///     Options { paths: vec![file], tokenizer, context: 16, batch: 2, ..Options::default() };
/// let explained = explain(&options, 3)?;
/// for (place, origin) in explained.sequences.origins().iter().zip(&explained.origins) {
///     let start = 16 * place.sequence; // The stream opens with an end of document.
///     assert_eq!(origin[0].bytes.start, start.saturating_sub(1));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A setting that is refused; text that cannot be read, or is too little.
pub fn explain(options: &Options, batch: u64) -> Result<Explained, Error> {
    let options = &init::settle(options)?.0;
    options.validate()?;
    let spec: TokenizerSpec = options.tokenizer.parse()?;
    let (mut source, given) = text(options, &spec)?;
    if options.out.is_dir() {
        source.leave_out(&options.out)?;
    }
    let tokenizer = tokenizer_of(spec, given, &mut *source)?;
    let mut batcher = Batcher::new(Settings {
        context: options.context,
        window: options.shuffle_window,
        seed: options.seed,
        vocab: tokenizer.vocab(),
        end_of_document: tokenizer.end_of_document(),
    })?;
    let mut index = Index::default();
    let (mut chunk, mut tokens) = (Chunk::default(), TokenChunk::default());
    let mut encoder = Encoder::default();
    let mut sequences = Sequences::new(options.context, options.batch);
    let mut left = batch.saturating_mul(options.batch as u64);
    loop {
        left -= batcher.skip(left);
        if left == 0 && batcher.next(&mut sequences) == Next::Ready {
            break;
        }
        if source.fill(&mut chunk)? {
            tokenizer.encode(&chunk, &mut encoder, &mut tokens);
            index.push(&mut batcher, &tokens);
        } else {
            batcher.finish()?;
        }
    }
    let context = options.context as u64;
    let origin = |origin: &crate::corpus::batcher::Origin| {
        let start = origin.sequence * context;
        let end = (start + context + 1).min(batcher.train_tokens().len());
        let mut parts = index.parts(start..end, batcher.train_tokens(), &tokenizer);
        for part in &mut parts {
            part.path = source.name(part.document);
        }
        parts
    };
    let origins = sequences.origins().iter().map(origin).collect();
    Ok(Explained { sequences, origins })
}

/// The tokenizer of the run; one that learns reads all text for it.
pub(super) fn tokenizer_of(
    spec: TokenizerSpec,
    given: Option<Tokenizer>,
    source: &mut dyn Source,
) -> Result<Tokenizer, Error> {
    if let Some(tokenizer) = given {
        return Ok(tokenizer);
    }
    let (mut learner, mut chunk) = (Learner::new(spec), Chunk::default());
    while source.fill(&mut chunk)? {
        learner.learn(&chunk);
    }
    source.rewind()?;
    Ok(train(vec![learner]).tokenizer)
}

/// Which part of the training stream comes from where.
#[derive(Debug, Default)]
struct Index {
    places: Vec<Place>,
    /// The document of the last span, and how many of its bytes have come.
    document: u64,
    offset: u64,
    /// One span at a time: the batcher decides for each whether it is trained.
    one: TokenChunk,
}

#[derive(Debug)]
struct Place {
    /// In the training stream.
    tokens: Range<u64>,
    document: u64,
    bytes: Range<u64>,
}

impl Index {
    fn push(&mut self, batcher: &mut Batcher, chunk: &TokenChunk) {
        for span in &chunk.spans {
            if span.document != self.document {
                (self.document, self.offset) = (span.document, 0);
            }
            let bytes = self.offset..self.offset + span.bytes;
            self.offset = bytes.end;
            self.one.reset(chunk.index);
            self.one.tokens.extend_from_slice(&chunk.tokens[span.range.clone()]);
            self.one.spans.push(TokenSpan { range: 0..span.range.len(), ..span.clone() });
            let start = batcher.train_tokens().len();
            batcher.push(&self.one);
            let tokens = start..batcher.train_tokens().len();
            if !tokens.is_empty() {
                self.places.push(Place { tokens, document: span.document, bytes });
            }
        }
    }

    /// Where the tokens `wanted` of the stream come from; paths are still missing.
    fn parts(&self, wanted: Range<u64>, stream: &TokenStore, tokenizer: &Tokenizer) -> Vec<Part> {
        let first = self.places.partition_point(|place| place.tokens.end <= wanted.start);
        let mut parts: Vec<Part> = Vec::new();
        for place in self.places[first..].iter().take_while(|p| p.tokens.start < wanted.end) {
            let (bytes, exact) = place.bytes_of(&wanted, stream, tokenizer);
            match parts.last_mut() {
                Some(last) if last.document == place.document && last.bytes.end == bytes.start => {
                    last.bytes.end = bytes.end;
                    last.exact &= exact;
                }
                _ if bytes.is_empty() => {} // The end of a document alone.
                _ => parts.push(Part { document: place.document, path: None, bytes, exact }),
            }
        }
        parts
    }
}

impl Place {
    /// The bytes of those of `wanted` that lie here.
    fn bytes_of(
        &self,
        wanted: &Range<u64>,
        stream: &TokenStore,
        tokenizer: &Tokenizer,
    ) -> (Range<u64>, bool) {
        let mut tokens = Vec::new();
        // What became validation at the end of a small corpus is not there any more.
        let end = self.tokens.end.min(stream.len());
        stream.extend_into(self.tokens.start..end, &mut tokens);
        let place = |at: u64| at.clamp(self.tokens.start, end) - self.tokens.start;
        let length = |count: u64| tokenizer.decode(&tokens[..count as usize]).len() as u64;
        let whole = end == self.tokens.end;
        let exact = !matches!(tokenizer, Tokenizer::Words(_))
            && (!whole || length(tokens.len() as u64) == self.bytes.end - self.bytes.start);
        if !exact {
            return (self.bytes.clone(), false);
        }
        let [from, to] = [wanted.start, wanted.end].map(|at| self.bytes.start + length(place(at)));
        (from..to, true)
    }
}
