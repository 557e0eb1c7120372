//! What phase A keeps of one sequence for phase B, and the scratch of a thread.
//!
//! Both are allocated once and hold the longest sequence; a shorter one uses the front of each
//! buffer.

use super::attention::ROWS;
use super::head::{TILE, tile_count};
use super::layout::VECTORS;
use super::{Config, Isa};
use std::fmt;

/// The activations and their gradients of one sequence: written by phase A, read by phase B.
///
/// About `4 (L (25 C T + NH T^2) + 3 C T + VP T)` bytes, T the context: 34 MB at V 50,257, L 4, NH 4,
/// C 128, T 128.
///
/// ```
/// use twelvefold::model::{Config, Slot};
/// let slot = Slot::new(&Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 });
/// assert!(slot.bytes() > 0);
/// ```
pub struct Slot {
    /// (T) tokens and targets of the sequence; their number is T.
    pub(crate) inputs: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    /// Factor of the loss whose gradient is taken.
    pub(crate) scale: f32,
    /// (2L + 1, T, C): the residual stream: embedding, then after attention and MLP of each block.
    pub(crate) residual: Vec<f32>,
    /// (2L + 1, 2, T): mean and rstd of the norm that reads each of them.
    pub(crate) norms: Vec<f32>,
    /// (2L + 1, T, C): what that norm gives.
    pub(crate) normed: Vec<f32>,
    /// (L, T, 3C)
    pub(crate) qkv: Vec<f32>,
    /// (L, NH, T, T)
    pub(crate) att: Vec<f32>,
    /// (L, T, C): the heads' outputs side by side.
    pub(crate) heads: Vec<f32>,
    /// (L, T, 4C): before the GELU, and after.
    pub(crate) hidden: Vec<f32>,
    pub(crate) active: Vec<f32>,
    /// (tiles, T, tile): exp(logit - running maximum), tile after tile of the vocabulary.
    pub(crate) prob: Vec<f32>,
    /// (tiles, T): what makes dlogit of it, before the target is subtracted.
    pub(crate) factor: Vec<f32>,
    /// (2L + 1, T, C): gradients of `residual`.
    pub(crate) dresidual: Vec<f32>,
    /// (L, T, 3C)
    pub(crate) dqkv: Vec<f32>,
    /// (L, T, 4C): gradient before the GELU.
    pub(crate) dhidden: Vec<f32>,
    /// (13 C L + 2 C): gradients of biases and norms, a block's vectors in their order.
    pub(crate) dvectors: Vec<f32>,
}

impl Slot {
    /// Room for a sequence of up to `config.context` tokens.
    pub fn new(config: &Config) -> Slot {
        let Config { layers: l, heads: nh, width: c, context: t, .. } = *config;
        let room = |n: usize| vec![0.0f32; n];
        Slot {
            inputs: Vec::with_capacity(t),
            targets: Vec::with_capacity(t),
            scale: 0.0,
            residual: room((2 * l + 1) * t * c),
            norms: room((2 * l + 1) * 2 * t),
            normed: room((2 * l + 1) * t * c),
            qkv: room(l * t * 3 * c),
            att: room(l * nh * t * t),
            heads: room(l * t * c),
            hidden: room(l * t * 4 * c),
            active: room(l * t * 4 * c),
            prob: room(t * config.padded_vocab()),
            factor: room(tile_count(config) * t),
            dresidual: room((2 * l + 1) * t * c),
            dqkv: room(l * t * 3 * c),
            dhidden: room(l * t * 4 * c),
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
            &self.dresidual,
            &self.dqkv,
            &self.dhidden,
            &self.dvectors,
        ];
        let words = floats.iter().map(|f| f.len()).sum::<usize>();
        4 * (words + self.inputs.capacity() + self.targets.capacity())
    }

    /// T: length of the sequence that is in the slot.
    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Takes a new sequence.
    ///
    /// # Panics
    /// Where it does not fit the model.
    pub(crate) fn load(&mut self, config: &Config, inputs: &[u32], targets: &[u32], scale: f32) {
        assert!(inputs.len() <= config.context, "{} tokens exceed the context", inputs.len());
        assert!(inputs.len() == targets.len(), "as many targets as inputs");
        let known = |&token: &u32| (token as usize) < config.vocab;
        assert!(inputs.iter().all(known), "a token outside the vocabulary");
        let mut trained = targets.iter().filter(|&&t| t != super::IGNORE);
        assert!(trained.all(known), "a target outside the vocabulary");
        self.inputs.clear();
        self.inputs.extend_from_slice(inputs);
        self.targets.clear();
        self.targets.extend_from_slice(targets);
        self.scale = scale;
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Scratch of one thread, of the size of a tile, and the kernels it runs.
///
/// ```
/// use twelvefold::model::{Config, Isa, Scratch};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let scratch = Scratch::new(&config, Isa::detect()?);
/// assert_eq!(scratch.isa(), Isa::detect()?);
/// # Ok::<(), twelvefold::Error>(())
/// ```
pub struct Scratch {
    pub(crate) isa: Isa,
    /// (T, C) each.
    pub(crate) dnormed: Vec<f32>,
    pub(crate) dheads: Vec<f32>,
    /// (ROWS, T)
    pub(crate) datt: Vec<f32>,
    /// (T, TILE): a tile of logits that is not kept.
    pub(crate) logits: Vec<f32>,
    /// (T) each: running maximum, sum and the target's logit.
    pub(crate) largest: Vec<f32>,
    pub(crate) total: Vec<f64>,
    pub(crate) target_logit: Vec<f32>,
}

impl Scratch {
    /// Scratch for one thread that runs the kernels of `isa`.
    pub fn new(config: &Config, isa: Isa) -> Scratch {
        let Config { width: c, context: t, .. } = *config;
        Scratch {
            isa,
            dnormed: vec![0.0; t * c],
            dheads: vec![0.0; t * c],
            datt: vec![0.0; ROWS.min(t) * t],
            logits: vec![0.0; t * TILE.min(config.padded_vocab())],
            largest: vec![0.0; t],
            total: vec![0.0; t],
            target_logit: vec![0.0; t],
        }
    }

    /// The kernels in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("isa", &self.isa).finish_non_exhaustive()
    }
}
