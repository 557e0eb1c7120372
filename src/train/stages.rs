//! The stages before the spheres, as things a thread steps: load, learn or tokenize, batch.
//!
//! ```text
//! load ──chunk k──▶ tokenize k ──tokens k──▶ batch ──feed──▶ control sphere
//!      ◀──────────             ◀────────────       ◀──────    (buffers on their way back)
//! ```
//!
//! Chunk `i` goes to tokenizer `i mod N` and comes back from it, so the stream is in the order of
//! the input whatever N is, and no more chunks exist than the rings hold.

use super::feed::Feed;
use crate::corpus::batcher::{Batcher, Next, Sequences};
use crate::corpus::tokenizer::learn::{Expansion, Learner, PieceChunk};
use crate::corpus::tokenizer::{Encoder, Tokenizer};
use crate::corpus::{Chunk, Invalid, Source, TokenChunk};
use crate::engine::BoxError;
use crate::engine::edge::{Receiver, RecvError, SendError, Sender};
use crate::engine::shutdown::Shutdown;
use crate::engine::stage::{Step, Stepped};
use crate::inject;
use crate::sync::Arc;

/// Items in each ring between two stages. A chunk is a quarter of a megabyte: what a ring holds is
/// what a stage may run ahead.
pub(super) const DEPTH: usize = 4;

/// An edge's sending end beside the ring on which its buffers come back. At most
/// [`DEPTH`] + 2 buffers exist: those in the ring, and one in the hands of each end.
#[derive(Debug)]
pub(super) struct Outlet<T> {
    pub(super) tx: Sender<T>,
    pub(super) back: Receiver<T>,
    made: usize,
    spare: Option<T>,
    pending: Option<T>,
}

/// What came of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Nothing is waiting to be sent.
    Clear,
    Blocked,
    /// The receiver has gone.
    Closed,
}

impl<T: Send> Outlet<T> {
    pub(super) fn new(tx: Sender<T>, back: Receiver<T>) -> Self {
        Outlet { tx, back, made: 0, spare: None, pending: None }
    }

    /// A used buffer, or a new one while there are few.
    fn buffer(&mut self, new: impl FnOnce() -> T) -> Option<T> {
        self.spare.take().or_else(|| self.back.try_recv().ok()).or_else(|| {
            (self.made < DEPTH + 2).then(|| {
                self.made += 1;
                new()
            })
        })
    }

    /// Why there is no buffer: the receiver is behind, or has gone.
    fn no_buffer(&self) -> Step {
        if self.tx.is_closed() { Step::Done } else { Step::Blocked }
    }

    /// Sends what is waiting.
    fn flush(&mut self) -> Sent {
        let Some(item) = self.pending.take() else { return Sent::Clear };
        match self.tx.try_send(item) {
            Ok(()) => Sent::Clear,
            Err(SendError::Full(item)) => {
                self.pending = Some(item);
                Sent::Blocked
            }
            Err(SendError::Closed(_)) => Sent::Closed,
        }
    }
}

/// A receiving end beside the ring that takes the buffers back.
#[derive(Debug)]
pub(super) struct Inlet<T> {
    pub(super) rx: Receiver<T>,
    pub(super) back: Sender<T>,
}

impl<T: Send> Inlet<T> {
    /// The buffer goes back; where its maker has gone, or has enough, it is dropped.
    fn give_back(&mut self, buffer: T) {
        let _ = self.back.try_send(buffer);
    }
}

/// Reads the corpus. Its thread is `tf-load`.
#[derive(Debug)]
pub(super) struct Load {
    source: Box<dyn Source>,
    out: Vec<Outlet<Chunk>>,
    done: Sender<Box<dyn Source>>,
    next: u64,
}

impl Load {
    pub(super) fn new(
        source: Box<dyn Source>,
        out: Vec<Outlet<Chunk>>,
        done: Sender<Box<dyn Source>>,
    ) -> Self {
        Load { source, out, done, next: 0 }
    }

    /// Hands the source on, with what it counted, once it is read or the run has ended.
    pub(super) fn finish(mut self) {
        drop(self.out);
        // Nobody may be left to ask for it.
        let _ = self.done.try_send(self.source);
    }
}

impl Stepped for Load {
    fn step(&mut self) -> Result<Step, BoxError> {
        let tokenizers = self.out.len() as u64;
        let outlet = &mut self.out[(self.next % tokenizers) as usize];
        if outlet.pending.is_none() {
            let Some(mut chunk) = outlet.buffer(Chunk::default) else {
                return Ok(outlet.no_buffer());
            };
            inject::point("load", 0, self.next)?;
            if !self.source.fill(&mut chunk)? {
                return Ok(Step::Done);
            }
            outlet.pending = Some(chunk);
        }
        match outlet.flush() {
            Sent::Clear => {
                self.next += 1;
                Ok(Step::Worked)
            }
            Sent::Blocked => Ok(Step::Blocked),
            Sent::Closed => Ok(Step::Done),
        }
    }

    fn item(&self) -> u64 {
        self.next
    }
}

/// Interns the pieces of its chunks in the first pass of a tokenizer that learns.
#[derive(Debug)]
pub(super) struct Learn {
    worker: usize,
    input: Inlet<Chunk>,
    learner: Learner,
    kept: Vec<PieceChunk>,
    done: Sender<Learned>,
    items: u64,
}

/// What one worker's first pass gave.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) learner: Learner,
    pub(super) kept: Vec<PieceChunk>,
}

impl Learn {
    pub(super) fn new(
        worker: usize,
        input: Inlet<Chunk>,
        learner: Learner,
        done: Sender<Learned>,
    ) -> Self {
        Learn { worker, input, learner, kept: Vec::new(), done, items: 0 }
    }

    /// Hands over what was learned.
    pub(super) fn finish(mut self) {
        let learned = Learned { learner: self.learner, kept: self.kept };
        // Nobody may be left to ask for it.
        let _ = self.done.try_send(learned);
    }
}

impl Stepped for Learn {
    fn step(&mut self) -> Result<Step, BoxError> {
        match self.input.rx.try_recv() {
            Ok(chunk) => {
                inject::point("learn", self.worker, self.items)?;
                self.kept.push(self.learner.learn(&chunk));
                self.input.give_back(chunk);
                self.items += 1;
                Ok(Step::Worked)
            }
            Err(RecvError::Empty) => Ok(Step::Starved),
            Err(RecvError::Closed) => Ok(Step::Done),
        }
    }

    fn item(&self) -> u64 {
        self.items
    }
}

/// Where a tokenizer's chunks come from.
#[derive(Debug)]
pub(super) enum Text {
    /// From the loader.
    Chunks { input: Inlet<Chunk>, tokenizer: Arc<Tokenizer>, encoder: Box<Encoder> },
    /// From the first pass.
    Pieces { kept: std::vec::IntoIter<PieceChunk>, expansion: Expansion },
}

/// Turns chunks into tokens. Its threads are `tf-tok-0`, ...
#[derive(Debug)]
pub(super) struct Tokenize {
    worker: usize,
    text: Text,
    out: Outlet<TokenChunk>,
    items: u64,
}

impl Tokenize {
    pub(super) fn new(worker: usize, text: Text, out: Outlet<TokenChunk>) -> Self {
        Tokenize { worker, text, out, items: 0 }
    }
}

impl Stepped for Tokenize {
    fn step(&mut self) -> Result<Step, BoxError> {
        match self.out.flush() {
            Sent::Clear => {}
            Sent::Blocked => return Ok(Step::Blocked),
            Sent::Closed => return Ok(Step::Done),
        }
        let Some(mut tokens) = self.out.buffer(TokenChunk::default) else {
            return Ok(self.out.no_buffer());
        };
        match &mut self.text {
            Text::Chunks { input, tokenizer, encoder } => match input.rx.try_recv() {
                Ok(chunk) => {
                    inject::point("tokenize", self.worker, self.items)?;
                    tokenizer.encode(&chunk, encoder, &mut tokens);
                    input.give_back(chunk);
                }
                Err(RecvError::Closed) => return Ok(Step::Done),
                Err(RecvError::Empty) => {
                    self.out.spare = Some(tokens);
                    return Ok(Step::Starved);
                }
            },
            Text::Pieces { kept, expansion } => match kept.next() {
                Some(pieces) => {
                    inject::point("tokenize", self.worker, self.items)?;
                    expansion.expand(&pieces, &mut tokens);
                }
                None => return Ok(Step::Done),
            },
        }
        self.items += 1;
        self.out.pending = Some(tokens);
        Ok(if self.out.flush() == Sent::Closed { Step::Done } else { Step::Worked })
    }

    fn item(&self) -> u64 {
        self.items
    }
}

/// What the batcher is to give, in this order: a training step, after every `eval_interval` of them
/// and after the last a validation, and at the end its totals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Menu {
    pub(super) steps: u64,
    pub(super) eval_interval: u64,
    /// Sequences of a validation before the last one.
    pub(super) eval_sequences: u64,
    /// Sequences in a micro-batch: as many as are validated at once.
    pub(super) batch: usize,
    /// Whether n-grams are counted at the end.
    pub(super) ngrams: bool,
}

/// Puts the tokens in order and packs them into sequences. Its thread is `tf-batch`.
#[derive(Debug)]
pub(super) struct Batch {
    input: Vec<Inlet<TokenChunk>>,
    next: u64,
    batcher: Batcher,
    menu: Menu,
    end: crate::corpus::Token,
    vocab: usize,
    out: Sender<Feed>,
    back: Receiver<Sequences>,
    filling: Option<Sequences>,
    pending: Option<Feed>,
    course: Course,
    invalid: Vec<Invalid>,
    shutdown: Arc<Shutdown>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Train { step: u64 },
    Validate { step: u64, first: u64 },
    Totals,
    Done,
}

/// Documents with invalid text that are remembered by place; further ones are left out.
const INVALID_NAMED: usize = 1_000;

impl Batch {
    pub(super) fn new(
        input: Vec<Inlet<TokenChunk>>,
        batcher: Batcher,
        menu: Menu,
        tokenizer: &Tokenizer,
        out: Sender<Feed>,
        back: Receiver<Sequences>,
        shutdown: Arc<Shutdown>,
    ) -> Self {
        Batch {
            input,
            next: 0,
            batcher,
            menu,
            end: tokenizer.end_of_document(),
            vocab: tokenizer.vocab(),
            out,
            back,
            filling: None,
            pending: None,
            course: Course::Train { step: 1 },
            invalid: Vec::new(),
            shutdown,
        }
    }

    /// Takes the next chunk of the stream, in the order of the input.
    fn take(&mut self) -> Result<Step, BoxError> {
        let from = (self.next % self.input.len() as u64) as usize;
        match self.input[from].rx.try_recv() {
            Ok(tokens) => {
                inject::point("batch", 0, self.next)?;
                self.batcher.push(&tokens);
                note_invalid(&mut self.invalid, &tokens.invalid);
                self.input[from].give_back(tokens);
                self.next += 1;
                Ok(Step::Worked)
            }
            Err(RecvError::Empty) => Ok(Step::Starved),
            // A stage that failed, or left because of a stop, has closed too; it stopped the run
            // before it closed, so this look decides.
            Err(RecvError::Closed) if self.shutdown.is_stopped() => Ok(Step::Done),
            // Chunk n is missing, so there is none after it either.
            Err(RecvError::Closed) => {
                self.batcher.finish()?;
                Ok(Step::Worked)
            }
        }
    }

    fn after_training(&self, step: u64) -> Course {
        let due = self.menu.eval_interval > 0 && step.is_multiple_of(self.menu.eval_interval);
        if due || step == self.menu.steps {
            Course::Validate { step, first: 0 }
        } else {
            Course::Train { step: step + 1 }
        }
    }

    /// Fills `sequences` with validation sequences from `first` on.
    fn validate(&mut self, step: u64, first: u64, sequences: Sequences) {
        let mut sequences = sequences;
        let is_final = step == self.menu.steps;
        let all = self.batcher.validation_sequences();
        let wanted = if is_final { all } else { all.min(self.menu.eval_sequences) };
        let count = (wanted - first).min(self.menu.batch as u64);
        self.batcher.validation(first, count as usize, &mut sequences);
        let last = first + count == wanted;
        self.pending = Some(Feed::Validate { sequences, last, is_final });
        self.course = match (last, is_final) {
            (false, _) => Course::Validate { step, first: first + count },
            (true, false) => Course::Train { step: step + 1 },
            (true, true) => Course::Totals,
        };
    }

    fn totals(&self) -> Feed {
        let ngrams =
            self.menu.ngrams.then(|| super::feed::count(&self.batcher, self.vocab, self.end));
        Feed::Totals(Box::new(super::feed::Totals {
            train: self.batcher.train_totals(),
            validation: self.batcher.validation_totals(),
            invalid: self.invalid.clone(),
            ngrams,
        }))
    }
}

impl Stepped for Batch {
    fn step(&mut self) -> Result<Step, BoxError> {
        if let Some(feed) = self.pending.take() {
            match self.out.try_send(feed) {
                Ok(()) => {}
                Err(SendError::Full(feed)) => {
                    self.pending = Some(feed);
                    return Ok(Step::Blocked);
                }
                Err(SendError::Closed(_)) => return Ok(Step::Done),
            }
        }
        match self.course {
            Course::Done => return Ok(Step::Done),
            Course::Totals => {
                self.pending = Some(self.totals());
                self.course = Course::Done;
                return Ok(Step::Worked);
            }
            Course::Train { .. } | Course::Validate { .. } => {}
        }
        let buffer = self.filling.take().or_else(|| self.back.try_recv().ok());
        let Some(mut sequences) = buffer else {
            return Ok(if self.out.is_closed() { Step::Done } else { Step::Blocked });
        };
        match self.course {
            Course::Train { step } => {
                if self.batcher.next(&mut sequences) == Next::NeedMore {
                    self.filling = Some(sequences);
                    return self.take();
                }
                self.pending = Some(Feed::Train { sequences, step });
                self.course = self.after_training(step);
            }
            Course::Validate { step, first } => {
                sequences.clear();
                self.validate(step, first, sequences);
            }
            Course::Totals | Course::Done => {}
        }
        Ok(Step::Worked)
    }

    fn item(&self) -> u64 {
        self.next
    }
}

/// Adds a chunk's bad text to the list, a document at most once.
fn note_invalid(all: &mut Vec<Invalid>, chunk: &[Invalid]) {
    for bad in chunk {
        if let Some(last) = all.last_mut().filter(|last| last.document == bad.document) {
            last.count += bad.count;
        } else if all.len() < INVALID_NAMED {
            all.push(*bad);
        }
    }
}
