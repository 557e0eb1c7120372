//! How well a model predicts a text.
//!
//! The text becomes tokens as in training: files in the order of their paths, the end-of-document token
//! before the first document and after each. Of this stream every token but the first is predicted once.
//! It is cut into windows of the model's context that do not overlap: the first token of a window is
//! predicted by the last of the window before it alone, as in training, and no window reaches across
//! another's beginning. With `mask_documents` each document begins anew: no token sees another document.
//!
//! Windows are computed on all threads and added in their order, so the numbers do not depend on how many
//! threads there are.

use serde::{Deserialize, Serialize};

use super::Cancel;
use super::inputs::{no_text, source};
use super::model::Model;
use super::options::Options;
use crate::corpus::files::is_stdin;
use crate::corpus::tokenizer::{Encoder, Tokenizer};
use crate::corpus::{Chunk, Source, Summary, TokenChunk};
use crate::engine::pipeline::{Pipeline, Pull, RunError};
use crate::engine::{Cause, Error as EngineError, Fault};
use crate::error::Error;
use crate::model::{Config, Isa, Scratch, Slot, Weights, forward_loss, pack};
use crate::report::summary::SkippedFile;
use crate::spheres::documents;

/// Tokens that are computed together, where the context is shorter.
const TOKENS: usize = 256;

/// What came of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean over the predicted tokens, in nats.
    pub loss: f64,
    /// e to the loss.
    pub perplexity: f64,
    /// What the text would take, coded by the model: comparable whatever the tokenizer.
    pub bits_per_byte: f64,
    /// Tokens that were predicted, ends of documents among them.
    pub tokens: u64,
    /// Bytes of the documents.
    pub bytes: u64,
    /// Documents that were read to their end.
    pub documents: u64,
    /// Files that were left out, and records that are none.
    pub skipped: Vec<SkippedFile>,
    /// SHA-256 of the model's weights.
    pub weights_sha256: String,
    /// Somebody asked to stop: the numbers are those of the beginning of the text. Its bits are then counted
    /// for the bytes that were read, a little too few.
    pub interrupted: bool,
}

/// Computes the loss of `model` on the text of `options`: of these `paths`, `weights`, `field`,
/// `bad_records` and `gitignore` say what is read (no paths: the built-in stories of `seed` and
/// `story_bytes`), `mask_documents` whether documents are kept apart, and `spheres` how many threads
/// compute. Each of them takes the activations of one window.
///
/// ```
/// use twelvefold::train::evaluate::evaluate;
/// use twelvefold::train::model::Model;
/// use twelvefold::train::{Cancel, Options, run};
///
/// let folder = tempfile::tempdir()?;
/// let text = folder.path().join("a.txt");
/// std::fs::write(&text, "one two three four ".repeat(50))?;
/// let options = Options {
///     paths: vec![text],
///     out: folder.path().join("run"),
///     tokenizer: "bytes".to_owned(),
///     steps: 2,
///     layers: 1,
///     heads: 1,
///     width: 8,
///     context: 16,
///     ..Options::default()
/// };
/// run(&options, &Cancel::new(), &mut ())?;
/// let found = evaluate(&Model::open(&options.out)?, &options, &Cancel::new())?;
/// assert_eq!((found.documents, found.bytes, found.tokens), (1, 950, 951));
/// assert!((found.perplexity.ln() - found.loss).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The model has no tokenizer; text that cannot be read, or is none; a loss that is no number.
pub fn evaluate(model: &Model, options: &Options, cancel: &Cancel) -> Result<Evaluation, Error> {
    let (config, tokenizer) = (*model.config(), model.require_tokenizer()?);
    let isa = Isa::detect()?;
    let options = &Options { shuffle_files: false, ..options.clone() };
    let panels = pack(&config, model.params());
    let weights = Weights::new(&config, model.params(), &panels);
    let separator = options.mask_documents.then(|| tokenizer.end_of_document());
    let mut windows = Windows::new(source(options, tokenizer.cuts())?, tokenizer, &config, cancel);
    let (mut loss, mut tokens) = (0.0, 0);
    let read = Pipeline::try_source("read", || windows.next());
    let read = if options.paths.iter().any(|path| is_stdin(path)) { read.blocking() } else { read };
    let group = group(&config);
    let make = |_| (Slot::new(&config, group), Scratch::new(&config, group, isa));
    read.map_with("loss", make, |(slot, scratch), stream: Vec<u32>| {
        losses(&config, weights, separator, &stream, slot, scratch)
    })
    .try_sink("sum", |(count, sum): (u64, f64)| {
        if !sum.is_finite() {
            let what = format!("the loss of the tokens from {tokens} on is {sum}");
            return Err(Error::input(what, "the model has diverged: take an earlier checkpoint"));
        }
        (loss, tokens) = (loss + sum, tokens + count);
        Ok(())
    })
    .threads(options.spheres.max(1))
    .run()
    .map_err(explained)?;
    let Windows { bytes, documents, interrupted, .. } = windows;
    let summary = windows.source.summary();
    if tokens == 0 || bytes == 0 {
        return Err(if interrupted { Error::Interrupted } else { no_text(&summary) });
    }
    let mean = loss / tokens as f64;
    Ok(Evaluation {
        loss: mean,
        perplexity: mean.exp(),
        bits_per_byte: loss / std::f64::consts::LN_2 / bytes as f64,
        tokens,
        bytes,
        documents,
        skipped: left_out(summary),
        weights_sha256: model.weights_sha256().to_owned(),
        interrupted,
    })
}

/// Windows that are computed together.
fn group(config: &Config) -> usize {
    (TOKENS / config.context).max(1)
}

fn left_out(summary: Summary) -> Vec<SkippedFile> {
    let all = summary.skipped.into_iter().chain(summary.bad);
    all.map(|left| SkippedFile { path: left.path, reason: left.reason }).collect()
}

/// How many tokens of a part of the stream are predicted, and the sum of their losses: window by window,
/// in order.
fn losses(
    config: &Config,
    weights: Weights<'_>,
    separator: Option<u32>,
    stream: &[u32],
    slot: &mut Slot,
    scratch: &mut Scratch,
) -> (u64, f64) {
    let (inputs, targets) = (&stream[..stream.len() - 1], &stream[1..]);
    let windows = inputs.chunks(config.context).zip(targets.chunks(config.context));
    let sequences = windows.flat_map(|window| documents(separator, window));
    forward_loss(config, weights, sequences, slot, scratch);
    (inputs.len() as u64, slot.losses().iter().sum())
}

/// The text as parts of the stream: groups of windows. The last token of one is the first of the next.
struct Windows<'a> {
    source: Box<dyn Source>,
    tokenizer: &'a Tokenizer,
    cancel: &'a Cancel,
    encoder: Encoder,
    chunk: Chunk,
    encoded: TokenChunk,
    /// Tokens from `at` on are still to be handed out.
    stream: Vec<u32>,
    at: usize,
    /// Tokens that a part predicts.
    part: usize,
    bytes: u64,
    documents: u64,
    interrupted: bool,
}

impl<'a> Windows<'a> {
    fn new(
        source: Box<dyn Source>,
        tokenizer: &'a Tokenizer,
        config: &Config,
        cancel: &'a Cancel,
    ) -> Self {
        Windows {
            source,
            tokenizer,
            cancel,
            encoder: Encoder::default(),
            chunk: Chunk::default(),
            encoded: TokenChunk::default(),
            stream: vec![tokenizer.end_of_document()],
            at: 0,
            part: group(config) * config.context,
            bytes: 0,
            documents: 0,
            interrupted: false,
        }
    }

    fn next(&mut self) -> Result<Pull<Vec<u32>>, Error> {
        self.interrupted |= self.cancel.is_requested();
        if self.interrupted {
            return Ok(Pull::End);
        }
        while self.stream.len() - self.at <= self.part && self.source.fill(&mut self.chunk)? {
            self.tokenizer.encode(&self.chunk, &mut self.encoder, &mut self.encoded);
            self.stream.drain(..self.at);
            self.at = 0;
            self.stream.extend_from_slice(&self.encoded.tokens);
            for span in &self.encoded.spans {
                self.bytes += span.bytes;
                self.documents += u64::from(span.ends_document);
            }
        }
        let left = &self.stream[self.at..];
        let count = self.part.min(left.len() - 1);
        if count == 0 {
            return Ok(Pull::End);
        }
        self.at += count;
        Ok(Pull::Item(left[..=count].to_vec()))
    }
}

/// The error that a stage returned, where it was one of ours.
fn explained(error: RunError) -> Error {
    match error {
        RunError::Fault { fault: Fault { stage, worker, item, cause }, .. } => {
            let cause = match cause {
                Cause::Error(error) => match error.downcast::<Error>() {
                    Ok(error) => return *error,
                    Err(error) => Cause::Error(error),
                },
                panic @ Cause::Panic(_) => panic,
            };
            EngineError::Fault(Fault { stage, worker, item, cause }).into()
        }
        RunError::Spawn { thread, source } => EngineError::Spawn { thread, source }.into(),
        unbalanced @ RunError::Unbalanced(_) => Error::input(unbalanced.to_string(), ""),
    }
}
