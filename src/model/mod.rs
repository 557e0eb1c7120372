//! A GPT on slices: pure functions, no threads, no I/O.
//!
//! The architecture is GPT-2's: learned positions, LayerNorm before each part, causal multi-head
//! attention, GELU in its tanh form, one matrix for the token embedding and the head, a final
//! LayerNorm. Forward and backward are written by hand and stand side by side in one file per layer.
//!
//! A training step has two phases, so that it can be spread over any number of threads and still
//! give the same bits:
//!
//! | phase | one task is | call | reads | writes |
//! |---|---|---|---|---|
//! | A | a group of sequences | [`forward_backward`] | parameters | its [`Slot`] |
//! | B | one [`Tile`] of the parameters | [`weight_gradient`] | all slots | the tile's gradient |
//!
//! Every sum has one order, fixed by the [`Config`] and the slots' order alone.
//!
//! Names of the field: `T` positions of a sequence, `C` width, `NH` heads, `HS = C / NH`, `V`
//! vocabulary, `VP` the vocabulary padded to a multiple of 64, `L` layers. All matrices are
//! row-major; shapes are given as `(rows, columns)`.
//!
//! | file | what it is |
//! |---|---|
//! | `config` | the sizes |
//! | `layout` | the flat parameter vector: names, shapes, offsets, first values |
//! | `slot` | what phase A keeps of sequences; scratch |
//! | `gpt` | phase A, evaluation, logits for sampling |
//! | `cache` | the same for the tokens that follow, from the keys and values of those before |
//! | `head` | the tied head, over tiles of the vocabulary |
//! | `attention`, `layernorm`, `gelu`, `linear` | the layers |
//! | `tiles` | phase B |
//! | `gemm` | matrix products |
//! | `panels` | the weights as the products read them, packed once per step |
//! | `parts` | where the time goes |
//! | `peak` | what the products reach on this machine |
//! | `floats` | buffers on lines and huge pages |
//! | `isa`, `math` | kernels per instruction set; exp, ln |
//! | `random` | normal numbers from a seed |

pub mod adamw;
mod attention;
mod cache;
mod config;
mod floats;
mod gelu;
mod gemm;
mod gpt;
mod head;
pub(crate) mod isa;
mod layernorm;
mod layout;
mod linear;
pub(crate) mod math;
mod panels;
mod parts;
mod peak;
mod random;
mod slot;
#[cfg(test)]
mod tests;
mod tiles;
#[cfg(test)]
mod twin;

pub use cache::{Cache, forward_next};
pub use config::Config;
pub use floats::Floats;
pub use gpt::{forward_backward, forward_logits, forward_loss};
pub use isa::Isa;
pub use layout::{Layout, Tensor};
pub use panels::{PanelPart, Weights, pack, panels_len};
pub use parts::{Part, PartTimes};
pub use peak::product_rate;
pub use random::Random;
pub use slot::{Scratch, Sequence, Slot};
pub use tiles::{Tile, tiles, weight_gradient};

/// A target that is not trained: no loss, no gradient.
///
/// ```
/// use twelvefold::model::{
///     Config, IGNORE, Isa, Layout, Scratch, Sequence, Slot, Weights, forward_loss, pack,
/// };
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let panels = pack(&config, &params);
/// let weights = Weights::new(&config, &params, &panels);
/// let (mut slot, mut scratch) = (Slot::new(&config, 1), Scratch::new(&config, 1, Isa::detect()?));
/// let sequence: Sequence<'_> = (&[1, 2], &[IGNORE; 2]);
/// let loss = forward_loss(&config, weights, [sequence], &mut slot, &mut scratch);
/// assert_eq!(loss, 0.0);
/// # Ok::<(), twelvefold::Error>(())
/// ```
pub const IGNORE: u32 = u32::MAX;
