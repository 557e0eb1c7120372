//! The flat parameter vector: which tensor lies where, and its first values.
//!
//! The order and the names are those of Hugging Face's GPT-2. Linear weights are stored as
//! `(in, out)`, row-major, exactly as its Conv1D stores them, so an export copies them as they are.
//! Only `wte` differs: in memory it has [`Config::padded_vocab`] rows; the first `vocab` of them, a
//! prefix, are the tensor. The head is tied to it and has no tensor of its own.

use super::{Config, Random};
use std::ops::Range;

/// What a tensor is, which decides its first values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Normal with deviation 0.02: embeddings and linear weights.
    Weight,
    /// As `Weight`, divided by sqrt(2 L): what is added to the residual stream.
    Projection,
    /// 1: a LayerNorm weight.
    Gain,
    /// 0.
    Bias,
}

/// The tensors of one block in their order: name, rows and columns in units of `C`, kind. A vector
/// has 0 rows.
const BLOCK: [(&str, usize, usize, Kind); 12] = [
    ("ln_1.weight", 0, 1, Kind::Gain),
    ("ln_1.bias", 0, 1, Kind::Bias),
    ("attn.c_attn.weight", 1, 3, Kind::Weight),
    ("attn.c_attn.bias", 0, 3, Kind::Bias),
    ("attn.c_proj.weight", 1, 1, Kind::Projection),
    ("attn.c_proj.bias", 0, 1, Kind::Bias),
    ("ln_2.weight", 0, 1, Kind::Gain),
    ("ln_2.bias", 0, 1, Kind::Bias),
    ("mlp.c_fc.weight", 1, 4, Kind::Weight),
    ("mlp.c_fc.bias", 0, 4, Kind::Bias),
    ("mlp.c_proj.weight", 4, 1, Kind::Projection),
    ("mlp.c_proj.bias", 0, 1, Kind::Bias),
];

/// Columns of a block's eight vectors together, in units of `C`.
pub(crate) const VECTORS: usize = 13;

/// Places of the tensors of a block in [`block_ranges`].
pub(crate) mod place {
    pub(crate) const ATTN_W: usize = 2;
    pub(crate) const ATTN_PROJ_W: usize = 4;
    pub(crate) const FC_W: usize = 8;
    pub(crate) const FC_PROJ_W: usize = 10;
    /// The vectors of a block, in their order.
    pub(crate) const VECTORS: [usize; 8] = [0, 1, 3, 5, 6, 7, 9, 11];
}

/// Where `wte` lies: (VP, C).
pub(crate) fn wte_range(config: &Config) -> Range<usize> {
    0..config.padded_vocab() * config.width
}

/// Where `wpe` lies: (context, C).
pub(crate) fn wpe_range(config: &Config) -> Range<usize> {
    let start = wte_range(config).end;
    start..start + config.context * config.width
}

/// Where the twelve tensors of block `layer` lie, in the order of their table.
pub(crate) fn block_ranges(config: &Config, layer: usize) -> [Range<usize>; 12] {
    let c = config.width;
    let mut at = wpe_range(config).end + layer * (12 * c * c + VECTORS * c);
    BLOCK.map(|(_, rows, columns, _)| {
        let start = at;
        at += if rows == 0 { columns * c } else { rows * columns * c * c };
        start..at
    })
}

/// Where the weight and the bias of the final LayerNorm lie: (C) each.
pub(crate) fn final_norm_ranges(config: &Config) -> [Range<usize>; 2] {
    let start = block_ranges(config, config.layers)[0].start;
    let middle = start + config.width;
    [start..middle, middle..middle + config.width]
}

/// One tensor of the flat parameter vector.
///
/// ```
/// use twelvefold::model::{Config, Layout, Tensor};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let layout = Layout::new(&config);
/// let wpe: &Tensor = layout.tensors().iter().find(|t| t.name == "transformer.wpe.weight").unwrap();
/// assert_eq!((&wpe.shape[..], wpe.range.len()), (&[4, 8][..], 32));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The name in Hugging Face's GPT-2, for example `transformer.h.0.attn.c_attn.weight`.
    pub name: String,
    /// Rows and columns, or the length of a vector. Linear weights are `(in, out)`.
    pub shape: Vec<usize>,
    /// Where its values lie in the flat vector. For `wte` without the padded rows.
    pub range: Range<usize>,
    kind: Kind,
}

/// The tensors of a model in the order of the flat parameter vector.
///
/// ```
/// use twelvefold::model::{Config, Layout};
/// let layout = Layout::new(&Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 });
/// let names: Vec<_> = layout.tensors().iter().map(|t| t.name.as_str()).collect();
/// assert_eq!(names[0], "transformer.wte.weight");
/// assert_eq!(layout.tensors()[4].shape, [8, 24]); // transformer.h.0.attn.c_attn.weight
/// assert_eq!(layout.init(1).len(), layout.len());
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    tensors: Vec<Tensor>,
    len: usize,
    layers: usize,
}

impl Layout {
    /// The layout of a model of these sizes.
    pub fn new(config: &Config) -> Layout {
        let c = config.width;
        let tensor = |name: &str, shape: Vec<usize>, start: usize, kind| {
            let len = shape.iter().product::<usize>();
            Tensor { name: format!("transformer.{name}"), shape, range: start..start + len, kind }
        };
        let mut tensors = vec![
            tensor("wte.weight", vec![config.vocab, c], 0, Kind::Weight),
            tensor("wpe.weight", vec![config.context, c], wpe_range(config).start, Kind::Weight),
        ];
        for layer in 0..config.layers {
            let ranges = block_ranges(config, layer);
            for ((name, rows, columns, kind), range) in BLOCK.into_iter().zip(ranges) {
                let shape = if rows == 0 { vec![columns * c] } else { vec![rows * c, columns * c] };
                tensors.push(tensor(&format!("h.{layer}.{name}"), shape, range.start, kind));
            }
        }
        let [weight, bias] = final_norm_ranges(config);
        tensors.push(tensor("ln_f.weight", vec![c], weight.start, Kind::Gain));
        tensors.push(tensor("ln_f.bias", vec![c], bias.start, Kind::Bias));
        Layout { tensors, len: bias.end, layers: config.layers }
    }

    /// The tensors, by rising offset.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Length of the flat vector, the padded rows of `wte` included.
    #[expect(clippy::len_without_is_empty, reason = "a model is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Trainable numbers: without padding, and what is tied once.
    ///
    /// ```
    /// use twelvefold::model::{Config, Layout};
    /// let config = Config { vocab: 10, layers: 0, heads: 1, width: 8, context: 4 };
    /// assert_eq!(Layout::new(&config).parameters(), (10 + 4 + 2) * 8);
    /// ```
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.range.len() as u64).sum()
    }

    /// The first parameters, as GPT-2's: normal with deviation 0.02, what is added to the residual
    /// stream divided by sqrt(2 L), biases 0, LayerNorm weights 1, padded rows 0.
    ///
    /// The same bits for the same seed on every machine. Each tensor has a stream of its own.
    pub fn init(&self, seed: u64) -> Vec<f32> {
        let mut params = vec![0.0; self.len];
        for (index, tensor) in self.tensors.iter().enumerate() {
            let deviation = match tensor.kind {
                Kind::Bias => continue,
                Kind::Gain => {
                    params[tensor.range.clone()].fill(1.0);
                    continue;
                }
                Kind::Weight => 0.02,
                Kind::Projection => 0.02 / (2.0 * self.layers as f64).sqrt(),
            };
            let mut random = Random::new(seed, index as u64);
            for value in &mut params[tensor.range.clone()] {
                *value = (random.normal() * deviation) as f32;
            }
        }
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: Config = Config { vocab: 257, layers: 3, heads: 3, width: 21, context: 5 };

    #[test]
    fn the_tensors_follow_each_other_without_gap_save_the_padded_rows() {
        let layout = Layout::new(&ODD);
        let mut at = 0;
        for tensor in layout.tensors() {
            assert_eq!(tensor.range.start, at, "{}", tensor.name);
            at = tensor.range.end;
            if tensor.name == "transformer.wte.weight" {
                at += (320 - 257) * 21;
            }
        }
        assert_eq!(at, layout.len());
        assert_eq!(layout.tensors().len(), 2 + 3 * 12 + 2);
        let c_proj = &layout.tensors()[2 + 12 + 10];
        assert_eq!(c_proj.name, "transformer.h.1.mlp.c_proj.weight");
        assert_eq!(c_proj.shape, [84, 21]);
    }

    #[test]
    fn the_first_values_are_those_of_gpt_2() {
        let config = Config { vocab: 300, layers: 2, heads: 1, width: 64, context: 7 };
        let layout = Layout::new(&config);
        let params = layout.init(3);
        for tensor in layout.tensors() {
            let values = &params[tensor.range.clone()];
            let n = values.len() as f64;
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
            let name = tensor.name.as_str();
            let expected = match name {
                _ if name.ends_with("bias") => 0.0,
                _ if name.contains(".ln_") => 1.0,
                _ if name.ends_with("c_proj.weight") => 0.01,
                _ => 0.02,
            };
            let tolerance = 6.0 / (2.0 * n).sqrt() * expected;
            assert!((square.sqrt() - expected).abs() <= tolerance, "{name}: {square}");
            if expected != 1.0 {
                assert!(mean.abs() <= 6.0 * expected / n.sqrt(), "{name}: mean {mean}");
            }
        }
        assert!(params[300 * 64..320 * 64].iter().all(|&x| x == 0.0), "padded rows");
        assert_eq!(params, layout.init(3));
        assert_ne!(params, layout.init(4));
    }
}
