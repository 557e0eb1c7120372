//! Where the time of a step goes: nanoseconds by part, kept by each thread's scratch.

#![forbid(unsafe_code)]

use std::time::Instant;

/// A part of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// From tokens to the residual stream.
    Embedding,
    /// Norm, projections and softmax of the attention, forward and backward.
    Attention,
    /// Norm, both products and GELU of the MLP, forward and backward.
    Mlp,
    /// Final norm, logits, loss and their gradients, save that of `wte`.
    Head,
    /// Phase B.
    WeightGradients,
    /// AdamW, and packing what it changed.
    Optimizer,
}

impl Part {
    /// All of them, in the order of a step.
    pub const ALL: [Part; 6] = [
        Part::Embedding,
        Part::Attention,
        Part::Mlp,
        Part::Head,
        Part::WeightGradients,
        Part::Optimizer,
    ];

    /// The name for people.
    ///
    /// ```
    /// use twelvefold::model::Part;
    /// assert_eq!(Part::ALL.map(Part::name)[4], "weight gradients");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Part::Embedding => "embedding",
            Part::Attention => "attention",
            Part::Mlp => "mlp",
            Part::Head => "head",
            Part::WeightGradients => "weight gradients",
            Part::Optimizer => "optimizer",
        }
    }
}

/// Nanoseconds by part.
///
/// ```
/// use twelvefold::model::{Part, PartTimes};
/// let mut times = PartTimes::default();
/// times.add_since(Part::Head, std::time::Instant::now());
/// assert_eq!(times.nanoseconds(Part::Mlp), 0);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartTimes([u64; 6]);

impl PartTimes {
    /// Counts what has passed since `started`.
    pub fn add_since(&mut self, part: Part, started: Instant) {
        self.0[part as usize] += started.elapsed().as_nanos() as u64;
    }

    /// What was counted for a part.
    pub fn nanoseconds(&self, part: Part) -> u64 {
        self.0[part as usize]
    }
}
