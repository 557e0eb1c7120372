//! The stages before the batcher, as things a thread steps: load, learn or tokenize.
//!
//! ```text
//! load ──chunk k──▶ tokenize k ──tokens k──▶ batch ──feed──▶ control sphere
//!      ◀──────────             ◀────────────       ◀──────    (buffers on their way back)
//! ```
//!
//! Chunk `i` goes to tokenizer `i mod N` and comes back from it, so the stream is in the order of
//! the input whatever N is, and no more chunks exist than the rings hold.
//!
//! After the last chunk comes an empty one that says so. The loader then waits until the batcher asks
//! for the text once more, or goes, which it does at once where it keeps all tokens.

use super::ahead::Ahead;
use crate::corpus::tokenizer::learn::{Expansion, Learner, PieceChunk};
use crate::corpus::tokenizer::{Encoder, Tokenizer};
use crate::corpus::{Chunk, Filled, Source, TokenChunk};
use crate::engine::BoxError;
use crate::engine::edge::{Receiver, RecvError, SendError, Sender};
use crate::engine::stage::{Step, Stepped};
use crate::engine::trace::{Flow, Label, Mark};
use crate::inject;
use crate::sync::Arc;

/// Items in each ring between two stages. A chunk is a quarter of a megabyte: what a ring holds is
/// what a stage may run ahead.
pub(super) const DEPTH: usize = 4;

static LOAD: Label = Label { name: "load", args: ["chunk", ""] };
static LEARN: Label = Label { name: "learn", args: ["chunk", ""] };
static TOKENIZE: Label = Label { name: "tokenize", args: ["chunk", ""] };

/// Which pass a chunk's road in a trace belongs to: the one in which a tokenizer learns, or the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Road {
    Learn,
    Train,
}

impl Road {
    /// The number of chunk `n`'s road: away from those of the sequences, which count steps.
    pub(super) fn of(self, n: u64) -> u64 {
        (1 << 63) + (u64::from(self == Road::Learn) << 62) + n
    }
}

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
    pub(super) fn give_back(&mut self, buffer: T) {
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
    /// Who asks for another pass; none in the first pass of a tokenizer that learns.
    again: Option<Receiver<Again>>,
    waits: bool,
    /// The chunk of the last step, and whether the tokenizers count as the loader does.
    sent: Option<u64>,
    counted: bool,
    /// Who reads small files; none where there are none to read.
    ahead: Ahead,
    /// The next chunk was begun and waits for them.
    is_begun: bool,
}

/// Asks the loader for the text once more.
#[derive(Debug)]
pub(super) struct Again;

impl Load {
    pub(super) fn new(
        source: Box<dyn Source>,
        out: Vec<Outlet<Chunk>>,
        done: Sender<Box<dyn Source>>,
        again: Option<Receiver<Again>>,
    ) -> Self {
        let (ahead, is_begun) = (Ahead::default(), false);
        Load {
            source,
            out,
            done,
            next: 0,
            again,
            waits: false,
            ahead,
            is_begun,
            sent: None,
            counted: true,
        }
    }

    /// Others read ahead.
    pub(super) fn ahead(self, ahead: Ahead) -> Self {
        Load { ahead, ..self }
    }

    /// The source has been read before: it is read when somebody asks.
    pub(super) fn waiting(self) -> Self {
        Load { waits: true, counted: false, ..self }
    }

    /// Begins another pass when it is asked for.
    fn wait(&mut self) -> Result<Step, BoxError> {
        match self.again.as_mut().map(Receiver::try_recv) {
            Some(Ok(Again)) => {
                self.source.rewind()?;
                self.waits = false;
                Ok(Step::Worked)
            }
            Some(Err(RecvError::Empty)) => Ok(Step::Starved),
            Some(Err(RecvError::Closed)) | None => Ok(Step::Done),
        }
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
        self.sent = None;
        if self.waits {
            return self.wait();
        }
        if self.ahead.pump(&mut *self.source).is_none() {
            return Ok(Step::Done);
        }
        let tokenizers = self.out.len() as u64;
        let outlet = &mut self.out[(self.next % tokenizers) as usize];
        if outlet.pending.is_none() {
            let Some(mut chunk) = outlet.buffer(Chunk::default) else {
                return Ok(outlet.no_buffer());
            };
            if !std::mem::replace(&mut self.is_begun, true) {
                inject::point("load", 0, self.next)?;
            }
            let filled = self.source.advance(&mut chunk)?;
            if filled == Filled::Later {
                // The same chunk is asked for first.
                outlet.spare = Some(chunk);
                // It may have taken the last batch that was there, without a text in it.
                return Ok(match self.ahead.pump(&mut *self.source) {
                    Some(true) => Step::Worked,
                    Some(false) => Step::Starved,
                    None => Step::Done,
                });
            }
            self.is_begun = false;
            let more = filled == Filled::Full;
            if !more && self.again.is_none() {
                return Ok(Step::Done);
            }
            chunk.ends_pass = !more;
            outlet.pending = Some(chunk);
        }
        let ends = outlet.pending.as_ref().is_some_and(|chunk| chunk.ends_pass);
        match outlet.flush() {
            Sent::Clear => {
                self.sent = Some(self.next);
                self.next += 1;
                self.waits = ends;
                Ok(Step::Worked)
            }
            Sent::Blocked => Ok(Step::Blocked),
            Sent::Closed => Ok(Step::Done),
        }
    }

    fn item(&self) -> u64 {
        self.next
    }

    fn mark(&self) -> Mark {
        let road = if self.again.is_none() { Road::Learn } else { Road::Train };
        let flow = self.sent.filter(|_| self.counted).map(|n| Flow::start(road.of(n), 1));
        Mark {
            label: &LOAD,
            args: [self.sent.unwrap_or(self.next), 0],
            flow: flow.unwrap_or(Flow::NONE),
        }
    }
}

/// Interns the pieces of its chunks in the first pass of a tokenizer that learns.
#[derive(Debug)]
pub(super) struct Learn {
    /// Which it is, and of how many.
    worker: (usize, usize),
    input: Inlet<Chunk>,
    learner: Learner,
    kept: Vec<PieceChunk>,
    /// Bytes of pieces that this worker may keep.
    room: u64,
    done: Sender<Learned>,
    items: u64,
}

/// What one worker's first pass gave.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) learner: Learner,
    /// The pieces of its chunks; none where there were more than it may keep.
    pub(super) kept: Option<Vec<PieceChunk>>,
}

impl Learn {
    pub(super) fn new(
        worker: (usize, usize),
        input: Inlet<Chunk>,
        learner: Learner,
        room: u64,
        done: Sender<Learned>,
    ) -> Self {
        Learn { worker, input, learner, kept: Vec::new(), room, done, items: 0 }
    }

    /// Keeps the pieces of a chunk, unless there is no room for all.
    fn keep(&mut self, pieces: PieceChunk) {
        if self.room == 0 {
            return;
        }
        self.room = self.room.saturating_sub(4 * pieces.pieces.len() as u64);
        self.kept.push(pieces);
        if self.room == 0 {
            self.kept = Vec::new();
        }
    }

    /// Hands over what was learned.
    pub(super) fn finish(mut self) {
        let kept = (self.room > 0).then_some(self.kept);
        let learned = Learned { learner: self.learner, kept };
        // Nobody may be left to ask for it.
        let _ = self.done.try_send(learned);
    }
}

impl Stepped for Learn {
    fn step(&mut self) -> Result<Step, BoxError> {
        match self.input.rx.try_recv() {
            Ok(chunk) => {
                inject::point("learn", self.worker.0, self.items)?;
                let pieces = self.learner.learn(&chunk);
                self.keep(pieces);
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

    fn mark(&self) -> Mark {
        let chunk = last_chunk(self.worker, self.items);
        Mark { label: &LEARN, args: [chunk, 0], flow: Flow::end(Road::Learn.of(chunk), 1) }
    }
}

/// The chunk that a worker was given last: worker `w` of `n` gets every `n`-th from `w` on.
fn last_chunk((worker, workers): (usize, usize), items: u64) -> u64 {
    items.saturating_sub(1) * workers as u64 + worker as u64
}

/// Where a tokenizer's chunks come from.
#[derive(Debug)]
pub(super) enum Text {
    /// From the loader.
    Chunks(Chunks),
    /// From the first pass, and in later passes from the loader. `ends`: the end of the pass is this
    /// worker's to say.
    Pieces { kept: std::vec::IntoIter<PieceChunk>, expansion: Expansion, ends: bool, then: Chunks },
}

/// Chunks from the loader, and what makes them tokens.
#[derive(Debug)]
pub(super) struct Chunks {
    pub(super) input: Inlet<Chunk>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) encoder: Box<Encoder>,
}

/// What came of asking for the tokens of the next chunk.
enum Encoded {
    Tokens,
    Starved,
    Ended,
}

impl Chunks {
    fn encode(&mut self, tokens: &mut TokenChunk) -> Encoded {
        match self.input.rx.try_recv() {
            Ok(chunk) if chunk.ends_pass => {
                tokens.reset(chunk.index);
                tokens.ends_pass = true;
                self.input.give_back(chunk);
                Encoded::Tokens
            }
            Ok(chunk) => {
                self.tokenizer.encode(&chunk, &mut self.encoder, tokens);
                self.input.give_back(chunk);
                Encoded::Tokens
            }
            Err(RecvError::Closed) => Encoded::Ended,
            Err(RecvError::Empty) => Encoded::Starved,
        }
    }
}

impl Text {
    fn encode(&mut self, tokens: &mut TokenChunk) -> Encoded {
        match self {
            Text::Chunks(chunks) => chunks.encode(tokens),
            Text::Pieces { kept, expansion, ends, then } => match kept.next() {
                Some(pieces) => {
                    expansion.expand(&pieces, tokens);
                    Encoded::Tokens
                }
                None if std::mem::take(ends) => {
                    tokens.reset(0);
                    tokens.ends_pass = true;
                    Encoded::Tokens
                }
                None => then.encode(tokens),
            },
        }
    }
}

/// Turns chunks into tokens. Its threads are `tf-tok-0`, ...
#[derive(Debug)]
pub(super) struct Tokenize {
    /// Which it is, and of how many.
    worker: (usize, usize),
    text: Text,
    out: Outlet<TokenChunk>,
    items: u64,
}

impl Tokenize {
    pub(super) fn new(worker: (usize, usize), text: Text, out: Outlet<TokenChunk>) -> Self {
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
        match self.text.encode(&mut tokens) {
            Encoded::Tokens => inject::point("tokenize", self.worker.0, self.items)?,
            Encoded::Ended => return Ok(Step::Done),
            Encoded::Starved => {
                self.out.spare = Some(tokens);
                return Ok(Step::Starved);
            }
        }
        self.items += 1;
        self.out.pending = Some(tokens);
        Ok(if self.out.flush() == Sent::Closed { Step::Done } else { Step::Worked })
    }

    fn item(&self) -> u64 {
        self.items
    }

    fn mark(&self) -> Mark {
        let chunk = last_chunk(self.worker, self.items);
        Mark { label: &TOKENIZE, args: [chunk, 0], flow: Flow::step(Road::Train.of(chunk), 1) }
    }
}
