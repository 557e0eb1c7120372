//! What phase A keeps of a group of sequences for phase B, and the scratch of a thread.
//!
//! Both are allocated once and hold as many of the longest sequences as they were made for. The rows of
//! a sequence follow those of the one before; fewer rows use the front of each buffer.

use super::attention::AttentionScratch;
use super::floats::Floats;
use super::gemm::panels_len;
use super::head::{Positions, scaled_len, tile_count};
use super::layout::VECTORS;
use super::math::LANES;
use super::{Config, Isa, PartTimes};
use std::fmt;
use std::ops::Range;

/// Distance between rows of `t` positions that are worked on a register at a time: whole registers.
pub(crate) fn lanes_stride(t: usize) -> usize {
    row_stride(t.next_multiple_of(LANES))
}

/// Distance between rows of `n` f32. Rows whose distance is a multiple of 512 bytes would meet in a few sets
/// of the first-level cache: phase B reads a narrow strip of hundreds of them.
pub(crate) fn row_stride(n: usize) -> usize {
    if n >= 384 && n.is_multiple_of(128) { n + LANES } else { n }
}

/// The inputs of a sequence and as many targets.
///
/// ```
/// use twelvefold::model::Sequence;
/// let stream = [5, 6, 7, 8];
/// let (inputs, targets): Sequence<'_> = (&stream[..3], &stream[1..]);
/// assert_eq!(inputs.len(), targets.len());
/// ```
pub type Sequence<'a> = (&'a [u32], &'a [u32]);

/// The rows of each sequence, where it is known at which row each ends.
pub(crate) fn sequences(ends: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    ends.iter().map(move |&end| std::mem::replace(&mut start, end)..end)
}

/// The rows of each sequence in a slot, and where its probabilities lie in block `layer`.
///
/// One after another. However many sequences share the slot's rows, they fit where its longest do: a row of
/// a shorter sequence is not longer.
pub(crate) fn attended(
    config: &Config,
    ends: &[usize],
    layer: usize,
    most: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let len = |t: usize| config.heads * t * lanes_stride(t);
    let mut at = layer * most * len(config.context);
    sequences(ends).map(move |rows| {
        let start = at;
        at += len(rows.len());
        (rows, start..at)
    })
}

/// The activations and their gradients of a group of sequences: written by phase A, read by phase B.
///
/// Of each about `4 (L (16 C T + NH T^2) + 2 C T + V T)` bytes, T the context: 31 MB at V 50,257, L 4,
/// NH 4, C 128, T 128. The backward pass writes its gradients over what it no longer needs. In the
/// shapes below T stands for the rows of all sequences, save those of `att`.
///
/// ```
/// use twelvefold::model::{Config, Slot};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// assert!(Slot::new(&config, 3).bytes() > Slot::new(&config, 1).bytes());
/// ```
pub struct Slot {
    /// The most sequences of the longest, and their rows.
    pub(crate) most: usize,
    pub(crate) room: usize,
    /// (T) tokens and targets of the sequences, one after another; their number is T.
    pub(crate) inputs: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    /// At which row each sequence ends.
    pub(crate) ends: Vec<usize>,
    /// The loss of each sequence, in nats.
    pub(crate) losses: Vec<f64>,
    /// Factor of the loss whose gradient is taken.
    pub(crate) scale: f32,
    /// (2L + 1, T, C): the residual stream: embedding, then after attention and MLP of each block.
    /// After the backward pass their gradients.
    pub(crate) residual: Floats,
    /// (2L + 1, 2, T): mean and rstd of the norm that reads each of them.
    pub(crate) norms: Floats,
    /// (2L + 1, T, C): what that norm gives.
    pub(crate) normed: Floats,
    /// (L, T, 3C), rows at [`row_stride`]: queries, keys and values; then their gradients.
    pub(crate) qkv: Floats,
    /// (L, sequences, NH, T, T) by key and query, rows at [`lanes_stride`]: the probabilities, and after the
    /// backward pass the gradients of the scores.
    pub(crate) att: Floats,
    /// (L, T, C): the heads' outputs side by side.
    pub(crate) heads: Floats,
    /// (L, T, 4C), rows at [`row_stride`]: slopes of the GELU; then the gradients before it.
    pub(crate) hidden: Floats,
    /// (L, T, 4C), rows at [`row_stride`]: what the GELU gives.
    pub(crate) active: Floats,
    /// (V, T), rows at [`lanes_stride`]: exp(logit - running maximum).
    pub(crate) prob: Floats,
    /// (tiles, [`lanes_stride`]): what makes dlogit of it, before the target is subtracted.
    pub(crate) factor: Floats,
    /// (13 C L + 2 C): gradients of biases and norms, a block's vectors in their order.
    pub(crate) dvectors: Floats,
}

impl Slot {
    /// Room for so many sequences of `config.context` tokens, or for more that have as many tokens together.
    pub fn new(config: &Config, sequences: usize) -> Slot {
        let Config { layers: l, width: c, .. } = *config;
        let room = |n: usize| Floats::new(n);
        let t = sequences * config.context;
        let (ts, wide) = (lanes_stride(t), |n: usize| l * t * row_stride(n));
        Slot {
            most: sequences,
            room: t,
            inputs: Vec::with_capacity(t),
            targets: Vec::with_capacity(t),
            // There may be more of shorter ones.
            ends: Vec::with_capacity(t),
            losses: Vec::with_capacity(t),
            scale: 0.0,
            residual: room((2 * l + 1) * t * c),
            norms: room((2 * l + 1) * 2 * t),
            normed: room((2 * l + 1) * t * c),
            qkv: room(wide(3 * c)),
            att: room(l * sequences * config.heads * config.context * lanes_stride(config.context)),
            heads: room(l * t * c),
            hidden: room(wide(4 * c)),
            active: room(wide(4 * c)),
            prob: room(config.vocab * ts),
            factor: room(tile_count(config) * ts),
            dvectors: room((VECTORS * l + 2) * c),
        }
    }

    /// Memory of the buffers.
    pub fn bytes(&self) -> usize {
        let floats = [
            &self.residual,
            &self.norms,
            &self.normed,
            &self.qkv,
            &self.att,
            &self.heads,
            &self.hidden,
            &self.active,
            &self.prob,
            &self.factor,
            &self.dvectors,
        ];
        let words = floats.iter().map(|f| f.len()).sum::<usize>();
        4 * (words + self.inputs.capacity() + self.targets.capacity())
            + 8 * (self.ends.capacity() + self.losses.capacity())
    }

    /// T: rows of all sequences that are in the slot.
    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// The loss of each sequence that is in the slot, in nats: the sum over its trained targets.
    ///
    /// ```
    /// use twelvefold::model::{Config, Slot};
    /// let slot = Slot::new(&Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 }, 3);
    /// assert!(slot.losses().is_empty()); // There is none so far.
    /// ```
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Takes new sequences.
    ///
    /// # Panics
    /// Where one does not fit the model, or there are too many.
    pub(crate) fn load<'a>(
        &mut self,
        config: &Config,
        sequences: impl IntoIterator<Item = Sequence<'a>>,
        scale: f32,
    ) {
        self.inputs.clear();
        self.targets.clear();
        self.ends.clear();
        for (inputs, targets) in sequences {
            assert!(inputs.len() + self.len() <= self.room, "more than {} tokens", self.room);
            assert!(self.ends.len() < self.room, "more than {} sequences", self.room);
            assert!(inputs.len() <= config.context, "{} tokens exceed the context", inputs.len());
            assert!(inputs.len() == targets.len(), "as many targets as inputs");
            let known = |&token: &u32| (token as usize) < config.vocab;
            assert!(inputs.iter().all(known), "a token outside the vocabulary");
            let mut trained = targets.iter().filter(|&&t| t != super::IGNORE);
            assert!(trained.all(known), "a target outside the vocabulary");
            self.inputs.extend_from_slice(inputs);
            self.targets.extend_from_slice(targets);
            self.ends.push(self.inputs.len());
        }
        self.scale = scale;
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Scratch of one thread, of the size of a tile, and the kernels it runs. T stands for the rows of a
/// slot.
///
/// ```
/// use twelvefold::model::{Config, Isa, Scratch};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let scratch = Scratch::new(&config, 1, Isa::detect()?);
/// assert_eq!(scratch.isa(), Isa::detect()?);
/// assert!(scratch.bytes() > 0);
/// # Ok::<(), twelvefold::Error>(())
/// ```
pub struct Scratch {
    pub(crate) isa: Isa,
    /// (T, C) each.
    pub(crate) dnormed: Floats,
    pub(crate) dheads: Floats,
    /// Panels of (C, T); the attention's are of (HS, T).
    pub(crate) panels: Floats,
    /// (T, 4C), rows at [`row_stride`]: the gradient of what the GELU gives.
    pub(crate) dactive: Floats,
    pub(crate) attention: AttentionScratch,
    /// [`scaled_len`]: what phase B multiplies the probabilities by.
    pub(crate) scaled: Floats,
    /// The head's maxima and sums.
    pub(crate) positions: Positions,
    pub(crate) times: PartTimes,
}

impl Scratch {
    /// Scratch for one thread that runs the kernels of `isa`, on slots of so many sequences.
    pub fn new(config: &Config, sequences: usize, isa: Isa) -> Scratch {
        let (c, t) = (config.width, sequences * config.context);
        Scratch {
            isa,
            dnormed: Floats::new(t * c),
            dheads: Floats::new(t * c),
            panels: Floats::new(panels_len(c, t)),
            dactive: Floats::new(t * row_stride(4 * c)),
            attention: AttentionScratch::new(config),
            scaled: Floats::new(scaled_len(config, t)),
            positions: Positions::new(t),
            times: PartTimes::default(),
        }
    }

    /// Memory of the buffers: about `4 (7 C T + (2 HS + max(HS, 32)) context)` bytes, T the rows of a
    /// slot, and for the head's gradient the rows of C of as many slots as have 512, from 1 to 4.
    pub fn bytes(&self) -> usize {
        let floats = [&self.dnormed, &self.dheads, &self.panels, &self.dactive, &self.scaled];
        let words = floats.iter().map(|f| f.len()).sum::<usize>() + self.attention.len();
        4 * words + self.positions.bytes()
    }

    /// The kernels in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What this thread's tasks took so far, by part.
    pub fn times(&self) -> &PartTimes {
        &self.times
    }

    /// The same, for the caller's own parts of a step.
    pub fn times_mut(&mut self) -> &mut PartTimes {
        &mut self.times
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("isa", &self.isa).finish_non_exhaustive()
    }
}
