//! Packed sequences, in a buffer that is reused.

use super::TokenStore;
use crate::corpus::Token;

/// A target that is not trained. The same number as the model's.
pub const IGNORE: Token = Token::MAX;

/// Where a sequence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The sequence's number in the stream of its epoch, from 0.
    pub sequence: u64,
}

/// A fixed number of sequences of `context` inputs and targets, in one buffer that is reused.
#[derive(Debug, Clone)]
pub struct Sequences {
    context: usize,
    capacity: usize,
    inputs: Vec<Token>,
    targets: Vec<Token>,
    origins: Vec<Origin>,
}

impl Sequences {
    /// Room for `capacity` sequences.
    pub fn new(context: usize, capacity: usize) -> Self {
        let tokens = context * capacity;
        Sequences {
            context,
            capacity,
            inputs: Vec::with_capacity(tokens),
            targets: Vec::with_capacity(tokens),
            origins: Vec::with_capacity(capacity),
        }
    }

    /// Inputs in a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Forgets the sequences and keeps the buffer.
    pub fn clear(&mut self) {
        self.inputs.clear();
        self.targets.clear();
        self.origins.clear();
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// Whether all the room is used.
    pub fn is_full(&self) -> bool {
        self.origins.len() == self.capacity
    }

    /// (sequences * context), one sequence after the other.
    pub fn inputs(&self) -> &[Token] {
        &self.inputs
    }

    /// (sequences * context): the token after each input, or [`IGNORE`].
    pub fn targets(&self) -> &[Token] {
        &self.targets
    }

    /// Where each sequence comes from.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// How many targets are trained.
    pub fn trained_targets(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORE).count()
    }

    /// Adds the sequence that begins at `origin.sequence * context` of `store`.
    pub(super) fn push(&mut self, store: &TokenStore, origin: Origin, padding: Token) {
        let start = origin.sequence * self.context as u64;
        let targets = (store.len() - 1 - start).min(self.context as u64);
        store.extend_into(start..start + targets, &mut self.inputs);
        store.extend_into(start + 1..start + 1 + targets, &mut self.targets);
        self.origins.push(origin);
        self.inputs.resize(self.len() * self.context, padding);
        self.targets.resize(self.len() * self.context, IGNORE);
    }
}
