//! The batcher as a stage: order, packing, validation, and the part of the order that a resumed run
//! has trained before.
//!
//! A resumed run's position is a number of sequences. What comes before it is drawn, hashed and thrown
//! away ([`Skip`]): no step of it is computed. The receipt that comes out must be the checkpoint's, or
//! the text is not the one that was trained.

use super::feed::Feed;
use super::stages::{Again, Inlet, Road};
use super::standing::Served;
use crate::corpus::batcher::{Batcher, Next, Receipt, Sequences};
use crate::corpus::tokenizer::Tokenizer;
use crate::corpus::{Invalid, TokenChunk};
use crate::engine::BoxError;
use crate::engine::edge::{Receiver, RecvError, SendError, Sender};
use crate::engine::shutdown::Shutdown;
use crate::engine::stage::{Step, Stepped};
use crate::engine::trace::{Flow, Label, Mark};
use crate::error::Error;
use crate::inject;
use crate::sync::Arc;

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
    /// What a resumed run has trained before.
    pub(super) skip: Option<Skip>,
    /// Roads of a step in a trace.
    pub(super) roads: u32,
}

static TAKE: Label = Label { name: "take tokens", args: ["chunk", ""] };
static PACK: Label = Label { name: "pack a step", args: ["step", ""] };
static OTHER: Label = Label { name: "batch", args: ["", ""] };
/// What a step did that is neither.
const UNNAMED: Mark = Mark { label: &OTHER, args: [0, 0], flow: Flow::NONE };

/// The part of the order that a resumed run passes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skip {
    /// Steps that are done.
    pub(super) step: u64,
    /// Sequences that are done.
    pub(super) position: u64,
    /// The receipt of what was served in them.
    pub(super) served: Served,
    /// The step of the last validation.
    pub(super) validated: u64,
    /// Other data than was trained is an error.
    pub(super) strict: bool,
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
    /// The micro-batch that is passed over.
    passing: Option<Sequences>,
    pending: Option<Feed>,
    course: Course,
    served: Served,
    invalid: Vec<Invalid>,
    shutdown: Arc<Shutdown>,
    /// To the loader; none once all tokens are kept.
    again: Option<Sender<Again>>,
    /// Passes over the text that were asked for.
    asked: u64,
    /// What the last step was about.
    mark: Mark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// `next` is the number of the next sequence that is passed over, `receipt` that of those before.
    Pass {
        skip: Skip,
        next: u64,
        receipt: Receipt,
    },
    Train {
        step: u64,
    },
    Validate {
        step: u64,
        first: u64,
    },
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
        (out, back): (Sender<Feed>, Receiver<Sequences>),
        again: Sender<Again>,
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
            passing: None,
            pending: None,
            course: menu.skip.map_or(Course::Train { step: 1 }, |skip| Course::Pass {
                skip,
                next: 0,
                receipt: skip.served.base,
            }),
            served: Served::default(),
            invalid: Vec::new(),
            shutdown,
            again: Some(again),
            asked: 0,
            mark: UNNAMED,
        }
    }

    /// The text has come to its end: without another pass the loader may go.
    fn end_pass_of_text(&mut self) -> Result<(), Error> {
        self.batcher.finish()?;
        if !self.batcher.streams() {
            self.again = None;
        }
        Ok(())
    }

    /// Takes the next chunk of the stream, in the order of the input.
    fn take(&mut self) -> Result<Step, BoxError> {
        if self.batcher.pass() > self.asked
            && let Some(again) = &mut self.again
        {
            // The ring has room: the loader took what was sent before it read the pass that is over.
            let _ = again.try_send(Again);
            self.asked += 1;
        }
        let from = (self.next % self.input.len() as u64) as usize;
        match self.input[from].rx.try_recv() {
            Ok(tokens) if tokens.ends_pass => {
                self.end_pass_of_text()?;
                self.took(from, tokens);
                Ok(Step::Worked)
            }
            Ok(tokens) => {
                inject::point("batch", 0, self.next)?;
                self.batcher.push(&tokens);
                if self.batcher.pass() == 0 {
                    note_invalid(&mut self.invalid, &tokens.invalid);
                }
                self.took(from, tokens);
                Ok(Step::Worked)
            }
            Err(RecvError::Empty) => Ok(Step::Starved),
            // A stage that failed, or left because of a stop, has closed too; it stopped the run
            // before it closed, so this look decides.
            Err(RecvError::Closed) if self.shutdown.is_stopped() => Ok(Step::Done),
            // Chunk n is missing, so there is none after it either.
            Err(RecvError::Closed) => {
                self.end_pass_of_text()?;
                Ok(Step::Worked)
            }
        }
    }

    /// Gives a chunk back that was taken.
    fn took(&mut self, from: usize, tokens: TokenChunk) {
        self.input[from].give_back(tokens);
        let flow = Flow::end(Road::Train.of(self.next), 1);
        self.mark = Mark { label: &TAKE, args: [self.next, 0], flow };
        self.next += 1;
    }

    fn after_training(&self, step: u64) -> Course {
        let due = self.menu.eval_interval > 0 && step.is_multiple_of(self.menu.eval_interval);
        if due || step == self.menu.steps {
            Course::Validate { step, first: 0 }
        } else {
            Course::Train { step: step + 1 }
        }
    }

    /// Passes over the next sequences of those that were trained: one micro-batch, which is hashed, or
    /// all up to where hashing begins.
    fn pass(&mut self, skip: Skip, next: u64, receipt: Receipt) -> Result<Step, BoxError> {
        let batch = self.menu.batch as u64;
        let from = skip.served.from;
        // With another batch than before the micro-batches are others: nothing is to compare.
        let blind = if (skip.position - from).is_multiple_of(batch) { from } else { skip.position };
        let (mut next, mut receipt, mut ready) = (next, receipt, true);
        if next < blind {
            next += self.batcher.skip(blind - next);
            ready = next == blind;
        } else if next < skip.position {
            let context = self.batcher.context();
            let new = || Sequences::new(context, self.menu.batch);
            let mut sequences = self.passing.take().unwrap_or_else(new);
            ready = self.batcher.next(&mut sequences) == Next::Ready;
            if ready {
                receipt.add(sequences.inputs(), sequences.targets());
                next += batch;
                sequences.clear();
            }
            self.passing = Some(sequences);
        }
        self.course = Course::Pass { skip, next, receipt };
        if !ready {
            return self.take();
        }
        if next == skip.position {
            self.passing = None;
            self.end_pass(skip, receipt)?;
        }
        Ok(Step::Worked)
    }

    /// All that was trained was passed: was it the same?
    fn end_pass(&mut self, skip: Skip, receipt: Receipt) -> Result<(), Error> {
        let same = receipt == skip.served.receipt;
        if !same && skip.strict {
            return Err(Error::input(
                format!(
                    "the text is not the one that was trained: the first {} sequences now have the \
                     receipt {receipt}, and had {}",
                    skip.position, skip.served.receipt
                ),
                "resume with the text that the run began with, or with --allow-changes: it goes on at \
                 the same place of the new text",
            ));
        }
        self.served = skip.served;
        if !same {
            // From here on the new text can be served again; the receipt keeps the history.
            self.served.from = skip.position;
            self.served.base = skip.served.receipt;
        }
        self.pending = Some(Feed::Passed { served: self.served, same });
        let (done, validated) = (skip.step, skip.validated == skip.step);
        self.course = match self.after_training(done) {
            Course::Validate { .. } if validated && done < self.menu.steps => {
                Course::Train { step: done + 1 }
            }
            course => course,
        };
        Ok(())
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
        // Counting takes all tokens.
        let counts = self.menu.ngrams && !self.batcher.streams();
        let ngrams = counts.then(|| super::feed::count(&self.batcher, self.vocab, self.end));
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
        self.mark = UNNAMED;
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
            Course::Pass { skip, next, receipt } => return self.pass(skip, next, receipt),
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
                let micro = self.menu.batch * self.batcher.context();
                for (inputs, targets) in
                    sequences.inputs().chunks(micro).zip(sequences.targets().chunks(micro))
                {
                    self.served.receipt.add(inputs, targets);
                }
                self.pending = Some(Feed::Train { sequences, step, served: self.served });
                let roads = self.menu.roads;
                let flow = Flow::start(step * u64::from(roads), roads);
                self.mark = Mark { label: &PACK, args: [step, 0], flow };
                self.course = self.after_training(step);
            }
            Course::Validate { step, first } => {
                sequences.clear();
                self.validate(step, first, sequences);
            }
            Course::Pass { .. } | Course::Totals | Course::Done => {}
        }
        Ok(Step::Worked)
    }

    fn item(&self) -> u64 {
        self.next
    }

    fn mark(&self) -> Mark {
        self.mark
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
