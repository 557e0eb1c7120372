//! Packs the stream of tokens into shuffled sequences, and sets validation text aside.
//!
//! The training stream is the end-of-document token, then each training document's tokens, each
//! document closed by the end-of-document token. Sequence `i` of an epoch holds the `context + 1`
//! tokens from `i * context` on: neighbours share one token, so every token after the very first is
//! a target exactly once per epoch. The last sequence of an epoch may be short; it comes once, filled
//! up with end-of-document inputs and [`IGNORE`] targets.
//!
//! Validation takes whole units ([`TokenSpan`]), about one in 16, chosen by a hash of the unit's
//! running number in the corpus. If the corpus ends before a unit was chosen, the last tenth of the
//! tokens becomes validation. So nothing is given out before one of the two has happened; one of the
//! first 8 units is chosen, which bounds the wait. The validation stream is packed in the same way
//! and not shuffled.
//!
//! Sequences are shuffled within a window: [`Shuffle`] says how. Which sequence
//! comes when is a function of the documents' tokens, the seed and the settings, never of how the
//! tokens came in chunks or of when [`Batcher::next`] was called. Epochs follow each other without
//! end.
//!
//! Tokens are kept, in two bytes each where the vocabulary allows, up to a budget
//! ([`Batcher::keeping`]). Beyond it the batcher *streams*: it gives back the memory of what has been
//! served, and wants the whole corpus again for each further epoch ([`Batcher::pass`]). The order is
//! the same. Then its memory is what the window has not drawn yet: of N sequences the oldest has waited
//! about ln N windows. Validation text is at most [`VALIDATION_TOKENS`] and a unit, and is always kept.

use super::{Token, TokenChunk, TokenSpan};
use crate::error::Error;

pub mod receipt;
mod sequences;
pub mod shuffle;
mod store;

pub use receipt::Receipt;
pub use sequences::{IGNORE, Origin, Sequences};
use shuffle::Shuffle;
pub use store::TokenStore;

/// How sequences are packed and ordered.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Targets in a sequence; at least 1.
    pub context: usize,
    /// Sequences from which the next one is drawn; at least 1, which keeps the order of the corpus.
    pub window: usize,
    /// The seed of the order.
    pub seed: u64,
    /// Size of the vocabulary: every token is below.
    pub vocab: usize,
    /// The token between documents.
    pub end_of_document: Token,
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Totals {
    /// Documents that begin here. A long document may begin in training and go on in validation.
    pub documents: u64,
    /// Units.
    pub units: u64,
    /// Tokens, end-of-document tokens included: the targets of one epoch.
    pub tokens: u64,
    /// Bytes of text. Where a unit is cut (see [`Batcher::finish`]) its bytes are shared by tokens.
    pub bytes: u64,
    /// −log2 of the text's probability where the source knows it, otherwise 0.
    pub bits: f64,
}

impl Totals {
    fn add(&mut self, span: &TokenSpan, begins: bool) {
        self.units += u64::from(begins);
        self.documents += u64::from(begins && span.unit == 0);
        self.tokens += span.range.len() as u64;
        self.bytes += span.bytes;
        self.bits += span.bits;
    }
}

/// What [`Batcher::next`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The buffer is full of sequences.
    Ready,
    /// More chunks must come first (or [`Batcher::finish`]); the buffer holds what was there, and
    /// the next call goes on with it.
    NeedMore,
}

/// From this many tokens on no further unit is set aside for validation.
pub const VALIDATION_TOKENS: u64 = 1 << 20;

/// See the [module](self). One thread calls it.
#[derive(Debug)]
pub struct Batcher {
    settings: Settings,
    train: TokenStore,
    validation: TokenStore,
    train_totals: Totals,
    validation_totals: Totals,
    /// Document and unit of the last span, and whether it went to validation.
    unit: Option<(u64, u64, bool)>,
    /// The training units (`range` says how many tokens), while the tail may yet become validation.
    tail: Vec<TokenSpan>,
    finished: bool,
    epoch: u64,
    shuffle: Shuffle,
    /// The most bytes of tokens that are kept.
    budget: u64,
    streams: bool,
    /// How often the corpus has been taken to its end.
    pass: u64,
    /// Validation tokens of this pass.
    chosen: u64,
    /// Of this pass, and of the first one: tells whether the corpus came again as it was.
    seen: Seen,
    first: Option<Seen>,
}

/// What a pass over the corpus gave: units, tokens and a hash of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    units: u64,
    tokens: u64,
    hash: u64,
}

impl Seen {
    fn add(&mut self, tokens: &[Token]) {
        self.tokens += tokens.len() as u64;
        for &token in tokens {
            // Depends on the order; it need not withstand an adversary.
            self.hash =
                (self.hash ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }
}

impl Batcher {
    /// An empty batcher.
    ///
    /// # Errors
    /// `context` or `window` is 0.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        for (name, value) in [("--context", settings.context), ("window", settings.window)] {
            if value == 0 {
                let (value, allowed) = ("0".into(), "at least 1".into());
                return Err(Error::Setting { name, value, allowed });
            }
        }
        let mut train = TokenStore::new(settings.vocab);
        let mut validation = TokenStore::new(settings.vocab);
        train.extend(&[settings.end_of_document]);
        validation.extend(&[settings.end_of_document]);
        Ok(Batcher {
            settings,
            train,
            validation,
            train_totals: Totals::default(),
            validation_totals: Totals::default(),
            unit: None,
            tail: Vec::new(),
            finished: false,
            epoch: 0,
            shuffle: Shuffle::new(settings.window, settings.seed, 0),
            budget: u64::MAX,
            streams: false,
            pass: 0,
            chosen: 0,
            seen: Seen::default(),
            first: None,
        })
    }

    /// Keeps at most about this many bytes of tokens; with more it streams.
    pub fn keeping(self, budget: u64) -> Self {
        Batcher { budget, ..self }
    }

    /// Whether there were more tokens than are kept.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// Which pass over the corpus the next chunk belongs to, from 0: more than 0 where the batcher
    /// streams and has come to the next epoch.
    pub fn pass(&self) -> u64 {
        self.pass
    }

    /// Takes the next chunk. Chunks come in the order of their index.
    pub fn push(&mut self, chunk: &TokenChunk) {
        let counts = self.pass == 0;
        for span in &chunk.spans {
            let begins = self.unit.is_none_or(|(d, u, _)| (d, u) != (span.document, span.unit));
            if begins {
                let chosen = is_validation(self.seen.units) && self.chosen < VALIDATION_TOKENS;
                self.unit = Some((span.document, span.unit, chosen));
                self.seen.units += 1;
            }
            let tokens = &chunk.tokens[span.range.clone()];
            self.seen.add(tokens);
            if self.unit.is_some_and(|(_, _, validation)| validation) {
                self.chosen += tokens.len() as u64;
                if counts {
                    self.validation.extend(tokens);
                    self.validation_totals.add(span, begins);
                }
                self.tail = Vec::new();
            } else {
                self.train.extend(tokens);
                if counts {
                    self.train_totals.add(span, begins);
                }
                if self.validation_totals.units == 0 {
                    note_tail(&mut self.tail, span, begins);
                }
            }
        }
        self.release();
    }

    /// Gives back what is beyond the budget. Not before a unit was chosen for validation: until then
    /// the last tokens may yet become that.
    fn release(&mut self) {
        let held = self.train.len() * self.train.width();
        self.streams |= held > self.budget && self.validation_totals.tokens > 0;
        if self.streams {
            self.train.release(self.shuffle.oldest() * self.settings.context as u64);
        }
    }

    /// Says that the corpus has ended. If no unit was chosen for validation, the last tenth of the
    /// tokens, at least one, now becomes validation.
    ///
    /// # Errors
    /// There are too few tokens for one training and one validation sequence: fewer than twice the
    /// context, beside the end-of-document token that opens each stream. Where there are enough, the
    /// validation sequence may still be a short one.
    pub fn finish(&mut self) -> Result<(), Error> {
        if self.finished {
            return Ok(());
        }
        if self.validation_totals.units == 0 {
            self.split_tail();
        }
        self.finished = true;
        if *self.first.get_or_insert(self.seen) != self.seen {
            let what = "the text was not the same when it was read again for the next epoch";
            return Err(Error::input(
                what,
                "let nothing write to the corpus during a run, or raise --token-memory until it fits",
            ));
        }
        let (train, validation) = (self.train_totals, self.validation_totals);
        let (tokens, needed) = (train.tokens + validation.tokens, 2 * self.settings.context as u64);
        if train.tokens == 0 || validation.tokens == 0 || tokens < needed {
            let what = format!(
                "the input has too few tokens: {tokens}, in {} documents with {} bytes; one training \
                 and one validation sequence of --context {} take {needed}",
                train.documents + validation.documents,
                train.bytes + validation.bytes,
                self.settings.context,
            );
            return Err(Error::input(what, "give more text, or a smaller --context"));
        }
        Ok(())
    }

    /// Moves the last tenth of the training tokens, at least one, to validation.
    fn split_tail(&mut self) {
        let total = self.train_totals.tokens;
        let mut wanted = (total / 10).max(1).min(total);
        let mut moved = Vec::new();
        self.train.extend_into(self.train.len() - wanted..self.train.len(), &mut moved);
        self.train.truncate(self.train.len() - wanted);
        self.validation.extend(&moved);
        while wanted > 0
            && let Some(unit) = self.tail.pop()
        {
            let share = (unit.range.len() as u64).min(wanted);
            self.move_totals(&unit, share);
            wanted -= share;
        }
        self.tail = Vec::new();
    }

    /// Counts `share` tokens of `unit` as validation. A unit that is cut is counted on both sides.
    fn move_totals(&mut self, unit: &TokenSpan, share: u64) {
        let (train, validation) = (&mut self.train_totals, &mut self.validation_totals);
        let whole = unit.range.len() as u64;
        let bytes = (u128::from(unit.bytes) * u128::from(share) / u128::from(whole)) as u64;
        let bits = unit.bits * (share as f64 / whole as f64);
        train.tokens -= share;
        train.bytes -= bytes;
        train.bits -= bits;
        validation.tokens += share;
        validation.bytes += bytes;
        validation.bits += bits;
        validation.units += 1;
        if share == whole {
            train.units -= 1;
            train.documents -= u64::from(unit.unit == 0);
            validation.documents += u64::from(unit.unit == 0);
        }
    }

    /// Adds sequences to `out` until it is full. The caller clears a full buffer before the next call.
    pub fn next(&mut self, out: &mut Sequences) -> Next {
        debug_assert_eq!(out.context(), self.settings.context);
        while !out.is_full() {
            let Some(sequence) = self.draw() else { return Next::NeedMore };
            let origin = Origin { epoch: self.epoch, sequence };
            out.push(&self.train, origin, self.settings.end_of_document);
        }
        Next::Ready
    }

    /// Targets in a sequence.
    pub fn context(&self) -> usize {
        self.settings.context
    }

    /// Passes over at most `count` sequences of the order, without their tokens; gives how many. Fewer:
    /// more chunks must come first (or [`Batcher::finish`]).
    pub fn skip(&mut self, count: u64) -> u64 {
        (0..count).take_while(|_| self.draw().is_some()).count() as u64
    }

    /// The number of the next sequence of this epoch, or of the one after it.
    fn draw(&mut self) -> Option<u64> {
        let opened = self.finished || self.validation_totals.tokens > 0;
        if !opened || (self.finished && self.train.len() < 2) {
            return None;
        }
        let available = self.available();
        if let Some(sequence) = self.shuffle.draw(available, self.finished) {
            return Some(sequence);
        }
        if !self.finished {
            return None;
        }
        self.epoch += 1;
        self.shuffle = Shuffle::new(self.settings.window, self.settings.seed, self.epoch);
        if self.streams {
            self.begin_pass();
            return None;
        }
        self.shuffle.draw(available, true)
    }

    /// Wants the corpus from its beginning.
    fn begin_pass(&mut self) {
        self.pass += 1;
        self.finished = false;
        self.train = TokenStore::new(self.settings.vocab);
        self.train.extend(&[self.settings.end_of_document]);
        self.unit = None;
        self.chosen = 0;
        self.seen = Seen::default();
    }

    /// How many sequences of an epoch are there: whole ones, and the short one once it is the last.
    fn available(&self) -> u64 {
        let targets = self.train.len() - 1;
        let context = self.settings.context as u64;
        if self.finished { targets.div_ceil(context) } else { targets / context }
    }

    /// How many sequences an epoch has, once the corpus has ended.
    pub fn sequences_per_epoch(&self) -> Option<u64> {
        self.finished.then(|| self.available())
    }

    /// Training text that came so far.
    pub fn train_totals(&self) -> Totals {
        self.train_totals
    }

    /// Validation text that came so far; none before the corpus ended may mean that the tail will be.
    pub fn validation_totals(&self) -> Totals {
        self.validation_totals
    }

    /// The training stream so far, its opening end-of-document token included; where the batcher
    /// streams, not all of it is still there.
    pub fn train_tokens(&self) -> &TokenStore {
        &self.train
    }

    /// The validation stream so far, its opening end-of-document token included.
    pub fn validation_tokens(&self) -> &TokenStore {
        &self.validation
    }

    /// How many sequences the validation stream makes so far, the last one perhaps short.
    pub fn validation_sequences(&self) -> u64 {
        (self.validation.len() - 1).div_ceil(self.settings.context as u64)
    }

    /// Adds up to `count` validation sequences from number `first` on to `out`, until it is full or
    /// there is no more. They come in the order of the corpus.
    pub fn validation(&self, first: u64, count: usize, out: &mut Sequences) {
        for sequence in (first..self.validation_sequences()).take(count) {
            if out.is_full() {
                return;
            }
            let origin = Origin { epoch: 0, sequence };
            out.push(&self.validation, origin, self.settings.end_of_document);
        }
    }
}

/// Notes a training unit, or the next part of it, so that it can be moved to validation.
fn note_tail(tail: &mut Vec<TokenSpan>, span: &TokenSpan, begins: bool) {
    match tail.last_mut().filter(|_| !begins) {
        None => tail.push(TokenSpan { range: 0..span.range.len(), ..span.clone() }),
        Some(unit) => {
            unit.range.end += span.range.len();
            unit.bytes += span.bytes;
            unit.bits += span.bits;
        }
    }
}

/// Whether the unit with this running number goes to validation: about one in 16, independent of the
/// seed, never the first, and one of the first 8.
fn is_validation(unit: u64) -> bool {
    // The constant was chosen so that unit 5 is the first one.
    shuffle::mix(unit ^ (50 << 32)).is_multiple_of(16)
}

#[cfg(test)]
mod tests;
