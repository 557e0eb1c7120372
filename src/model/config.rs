//! The sizes of a model.

use crate::error::Error;

/// The vocabulary is padded to a multiple of this many rows, so that matrix products end on whole
/// vectors. Padded rows are zero, get no probability and no gradient.
const VOCAB_MULTIPLE: usize = 64;

/// More parameters than this are refused: 2^36 parameters are 256 GiB in f32 before the optimizer.
const MAX_PARAMETERS: u128 = 1 << 36;

/// The sizes of a GPT-2 model.
///
/// ```
/// use twelvefold::model::Config;
/// let config = Config { vocab: 257, layers: 2, heads: 2, width: 32, context: 64 };
/// config.check()?;
/// assert_eq!((config.padded_vocab(), config.head_width()), (320, 16));
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// `V`: number of tokens in the vocabulary.
    pub vocab: usize,
    /// `L`: number of blocks.
    pub layers: usize,
    /// `NH`: attention heads in a block; divides `width`.
    pub heads: usize,
    /// `C`: width of the residual stream.
    pub width: usize,
    /// The longest sequence, in tokens; the number of learned positions.
    pub context: usize,
}

impl Config {
    /// Whether a model of these sizes can be built.
    ///
    /// All other functions of this module expect a configuration that passed.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first size that is zero, does not fit another, or makes the
    /// model too large to address.
    pub fn check(&self) -> Result<(), Error> {
        let sizes = [
            ("vocabulary", self.vocab),
            ("--layers", self.layers),
            ("--heads", self.heads),
            ("--width", self.width),
            ("--context", self.context),
        ];
        let limit = 1 << 24;
        for (name, value) in sizes {
            if value == 0 || value > limit {
                return Err(refused(name, value, format!("it must lie in 1..={limit}")));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            let allowed = format!("it must divide the width, {}", self.width);
            return Err(refused("--heads", self.heads, allowed));
        }
        let c = self.width as u128;
        let rows = self.padded_vocab() as u128 + self.context as u128;
        let parameters = rows * c + self.layers as u128 * (12 * c * c + 13 * c) + 2 * c;
        if parameters > MAX_PARAMETERS {
            let allowed = format!("the model would have {parameters} parameters");
            return Err(refused("--width", self.width, allowed));
        }
        Ok(())
    }

    /// `VP`: the vocabulary rounded up to a multiple of 64, the rows of `wte` in memory.
    pub fn padded_vocab(&self) -> usize {
        self.vocab.next_multiple_of(VOCAB_MULTIPLE)
    }

    /// `HS`: width of one head, `C / NH`.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }
}

fn refused(name: &'static str, value: usize, allowed: String) -> Error {
    Error::Setting { name, value: value.to_string(), allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Config = Config { vocab: 257, layers: 2, heads: 3, width: 33, context: 5 };

    #[test]
    fn a_size_of_zero_is_refused_by_name() {
        GOOD.check().unwrap();
        for (config, name) in [
            (Config { vocab: 0, ..GOOD }, "vocabulary"),
            (Config { layers: 0, ..GOOD }, "--layers"),
            (Config { heads: 0, ..GOOD }, "--heads"),
            (Config { width: 0, ..GOOD }, "--width"),
            (Config { context: 0, ..GOOD }, "--context"),
        ] {
            let message = config.check().unwrap_err().to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused() {
        let message = Config { heads: 2, ..GOOD }.check().unwrap_err().to_string();
        assert_eq!(message, "--heads 2 is not possible: it must divide the width, 33");
    }

    #[test]
    fn a_model_too_large_to_address_is_refused_without_overflow() {
        let huge = Config { width: 1 << 24, heads: 1, layers: 1 << 24, ..GOOD };
        assert!(huge.check().is_err());
    }
}
