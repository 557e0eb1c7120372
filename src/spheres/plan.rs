//! What a run's steps have in common, what one is given, and what it gave.

use super::task::MicroBatch;
use crate::model::adamw::AdamW;
use crate::model::{Config, IGNORE, Isa};

/// Rows from which a task of phase A gains nothing by more of them.
const ROWS: usize = 192;
/// Tasks of phase A that are not made fewer, so that several spheres have some.
const TASKS: usize = 6;

/// What a run's steps have in common.
///
/// ```
/// use twelvefold::model::adamw::AdamW;
/// use twelvefold::model::{Config, Isa};
/// use twelvefold::spheres::Plan;
///
/// let config = Config { vocab: 257, layers: 2, heads: 2, width: 32, context: 64 };
/// let (adamw, isa) = (AdamW::default(), Isa::detect()?);
/// let (batch, micro_batches, clip) = (4, 2, f64::INFINITY);
/// let plan = Plan { config, batch, micro_batches, clip, adamw, isa, separator: None };
/// assert_eq!(plan.batch * plan.micro_batches, 8); // Sequences in a step.
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The model's sizes.
    pub config: Config,
    /// Sequences in a micro-batch.
    pub batch: usize,
    /// Micro-batches in a step.
    pub micro_batches: usize,
    /// Largest norm of a step's gradient.
    pub clip: f64,
    /// The optimizer's constants.
    pub adamw: AdamW,
    /// The kernels to run.
    pub isa: Isa,
    /// The token that stands between documents, where these are to be kept apart: no position then sees
    /// what comes before the last one of it, and positions are counted from there.
    pub separator: Option<u32>,
}

impl Plan {
    /// Sequences that a task of phase A takes at once: more than one where the context is short, since
    /// each task reads all weights, and a product of few rows leaves parts of the registers idle.
    ///
    /// A function of the settings alone, so that the same sums are made on any number of spheres.
    ///
    /// ```
    /// # use twelvefold::model::adamw::AdamW;
    /// # use twelvefold::model::{Config, Isa};
    /// # use twelvefold::spheres::Plan;
    /// # let config = Config { vocab: 257, layers: 2, heads: 2, width: 32, context: 1024 };
    /// # let (adamw, isa) = (AdamW::default(), Isa::detect()?);
    /// let (batch, micro_batches, clip) = (64, 1, 1.0);
    /// let long = Plan { config, batch, micro_batches, clip, adamw, isa, separator: None };
    /// let short = Plan { config: Config { context: 8, ..config }, ..long };
    /// assert_eq!((long.sequences_per_task(), short.sequences_per_task()), (1, 10));
    /// # Ok::<(), twelvefold::Error>(())
    /// ```
    pub fn sequences_per_task(&self) -> usize {
        let most = (self.batch / TASKS).max(1);
        let group = (ROWS / self.config.context).clamp(1, most);
        // Groups of nearly one size.
        self.batch.div_ceil(self.batch.div_ceil(group))
    }

    /// Tasks of phase A in a step, for the roads of a trace: road `n` of step `s` has the number
    /// `s` times as many, and `n`.
    pub(crate) fn roads(&self) -> u32 {
        (self.micro_batches * self.tasks(self.batch)) as u32
    }

    /// Tasks of phase A for so many sequences.
    pub(super) fn tasks(&self, sequences: usize) -> usize {
        sequences.div_ceil(self.sequences_per_task())
    }
}

/// What one step is given.
///
/// ```
/// use twelvefold::model::IGNORE;
/// use twelvefold::spheres::Job;
///
/// // Two sequences of a context of 3; the second is short.
/// let (inputs, targets) = (vec![5, 6, 7, 8, 0, 0], vec![6, 7, 8, 9, IGNORE, IGNORE]);
/// let job = Job { inputs, targets, lr: 1e-3, step: 1 };
/// assert_eq!(job.inputs.len(), job.targets.len());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// (sequences, context) tokens; rows may be padded behind their last target.
    pub inputs: Vec<u32>,
    /// (sequences, context) targets, [`crate::model::IGNORE`] where there is none.
    pub targets: Vec<u32>,
    /// Learning rate.
    pub lr: f64,
    /// The step's number, from 1.
    pub step: u64,
}

impl Job {
    /// Targets that count.
    pub(super) fn count_targets(&self) -> u64 {
        self.targets.iter().filter(|&&target| target != IGNORE).count() as u64
    }
}

/// What a step gave.
///
/// ```
/// use twelvefold::spheres::Outcome;
///
/// let mut outcome = Outcome { loss_sum: 12.0, targets: 4, grad_norm: 0.5, ..Outcome::default() };
/// assert_eq!((outcome.loss(), outcome.non_finite()), (3.0, None));
/// outcome.grad_norm = f64::NAN;
/// assert_eq!(outcome.non_finite(), Some("gradient"));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Sum of the targets' losses, in nats.
    pub loss_sum: f64,
    /// How many targets that was.
    pub targets: u64,
    /// Norm of the step's gradient before clipping.
    pub grad_norm: f64,
    /// The first sequence whose loss is no number: micro-batch, and place in it.
    pub bad_sequence: Option<(usize, usize)>,
    /// The sphere that computed it; or else the one that computed the first tile whose gradient is no
    /// number.
    pub bad_sphere: Option<usize>,
    /// The rank that this sphere is of.
    pub bad_rank: usize,
}

impl Outcome {
    /// Mean loss in nats per token.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.targets as f64
    }

    /// Adds the losses of a rank's micro-batches, of which the first has this number. In the order of
    /// these numbers, so that the sum has the same bits on any ranks.
    pub(super) fn add(&mut self, rank: usize, first: usize, micros: &[MicroBatch]) {
        for (micro, MicroBatch { loss, bad }) in micros.iter().enumerate() {
            self.loss_sum += loss;
            if let (Some((sequence, sphere)), None) = (bad, self.bad_sequence) {
                self.bad_sequence = Some((first + micro, *sequence));
                (self.bad_sphere, self.bad_rank) = (Some(*sphere), rank);
            }
        }
    }

    /// What stopped being a number, if anything did. The parameters were then left alone.
    pub fn non_finite(&self) -> Option<&'static str> {
        if !self.loss_sum.is_finite() {
            Some("loss")
        } else if !self.grad_norm.is_finite() {
            Some("gradient")
        } else {
            None
        }
    }
}
