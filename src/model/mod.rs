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
//! | A | one sequence | [`forward_backward`] | parameters | its [`Slot`] |
//! | B | one [`Tile`] of the parameters | [`weight_gradient`] | all slots | the tile's gradient |
//!
//! Every sum has one order, fixed by the [`Config`] and the slots' order alone. The matrix crate
//! blocks its inner dimension by constants of its own, not by the processor's cache sizes.
//!
//! Names of the field: `T` positions of a sequence, `C` width, `NH` heads, `HS = C / NH`, `V`
//! vocabulary, `VP` the vocabulary padded to a multiple of 64, `L` layers. All matrices are
//! row-major; shapes are given as `(rows, columns)`.
//!
//! | file | what it is |
//! |---|---|
//! | `config` | the sizes |
//! | `layout` | the flat parameter vector: names, shapes, offsets, first values |
//! | `slot` | what phase A keeps of a sequence; scratch |
//! | `gpt` | phase A, evaluation, logits for sampling |
//! | `head` | the tied head, over tiles of the vocabulary |
//! | `attention`, `layernorm`, `gelu`, `linear` | the layers |
//! | `tiles` | phase B |
//! | `matmul` | the one call into the matrix crate |
//! | `isa`, `math` | kernels per instruction set; exp, tanh, ln |
//! | `random` | normal numbers from a seed |

pub mod adamw;
mod attention;
mod config;
mod gelu;
mod gpt;
mod head;
pub(crate) mod isa;
mod layernorm;
mod layout;
mod linear;
pub(crate) mod math;
mod matmul;
mod random;
mod slot;
#[cfg(test)]
mod tests;
mod tiles;
#[cfg(test)]
mod twin;

pub use config::Config;
pub use gpt::{forward_backward, forward_logits, forward_loss};
pub use isa::Isa;
pub use layout::{Layout, Tensor};
pub use random::Random;
pub use slot::{Scratch, Slot};
pub use tiles::{Tile, tiles, weight_gradient};

/// A target that is not trained: no loss, no gradient.
///
/// ```
/// use twelvefold::model::{Config, IGNORE, Isa, Layout, Scratch, Slot, forward_loss};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let (mut slot, mut scratch) = (Slot::new(&config), Scratch::new(&config, Isa::detect()?));
/// let loss = forward_loss(&config, &params, &[1, 2], &[IGNORE; 2], &mut slot, &mut scratch);
/// assert_eq!(loss, 0.0);
/// # Ok::<(), twelvefold::Error>(())
/// ```
pub const IGNORE: u32 = u32::MAX;
