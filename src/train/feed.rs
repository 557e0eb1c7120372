//! What the batcher hands to the control sphere.

use super::standing::Served;
use crate::corpus::batcher::{self, Batcher, Sequences};
use crate::corpus::ngram::{Counts, Order, Score};
use crate::corpus::{Invalid, Token};

/// One item on the way to the control sphere.
#[derive(Debug)]
pub(super) enum Feed {
    /// All sequences of a step, and the receipt up to it.
    Train { sequences: Sequences, step: u64, served: Served },
    /// A resumed run has passed what was trained; whether that was the same data.
    Passed { served: Served, same: bool },
    /// At most a micro-batch of validation sequences; `last` ends the validation.
    Validate { sequences: Sequences, last: bool, is_final: bool },
    /// After the last validation.
    Totals(Box<Totals>),
}

/// What the batcher has seen.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) train: batcher::Totals,
    pub(super) validation: batcher::Totals,
    pub(super) invalid: Vec<Invalid>,
    pub(super) ngrams: Option<Ngrams>,
}

/// What counting reaches on the validation tokens, in bits per byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ngrams {
    pub(super) unigram: f64,
    pub(super) bigram: f64,
}

/// Counts a unigram and a bigram over the training tokens and scores the validation tokens.
pub(super) fn count(batcher: &Batcher, vocab: usize, end: Token) -> Ngrams {
    // Without the end-of-document token that opens each stream: the counts begin with it anyway.
    let train: Vec<Token> = batcher.train_tokens().iter().skip(1).collect();
    let validation: Vec<Token> = batcher.validation_tokens().iter().skip(1).collect();
    let bytes = batcher.validation_totals().bytes;
    let mut counts = Counts::new(vocab, end);
    counts.observe(&train);
    let model = counts.finish();
    let bits = |order| {
        let mut score = Score::new(order);
        score.add(&model, &validation, bytes);
        score.bits_per_byte()
    };
    Ngrams { unigram: bits(Order::Unigram), bigram: bits(Order::Bigram) }
}
