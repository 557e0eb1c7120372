//! What a setting may be, and how it is read from a command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::corpus::tokenizer::TokenizerSpec;
use crate::error::Error;

/// A whole-number setting: its flag, and what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// As the user types it.
    pub flag: &'static str,
    /// The smallest value.
    pub least: u64,
    /// The largest value.
    pub most: u64,
}

impl Range {
    const fn new(flag: &'static str, least: u64, most: u64) -> Self {
        Self { flag, least, most }
    }

    /// What is accepted, in words.
    ///
    /// ```
    /// use twelvefold::train::options::HEADS;
    ///
    /// assert_eq!(HEADS.allowed(), "it must be a whole number from 1 to 256");
    /// ```
    pub fn allowed(&self) -> String {
        format!("it must be a whole number from {} to {}", self.least, self.most)
    }

    /// A value from the command line.
    ///
    /// ```
    /// use twelvefold::train::options::SPHERES;
    ///
    /// assert_eq!(SPHERES.parse::<usize>("12"), Ok(12));
    /// assert!(SPHERES.parse::<usize>("0").is_err());
    /// ```
    ///
    /// # Errors
    /// What is accepted, in words.
    pub fn parse<T: TryFrom<u64>>(&self, text: &str) -> Result<T, String> {
        let number = text.parse().ok().filter(|n| (self.least..=self.most).contains(n));
        number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| self.allowed())
    }

    pub(super) fn check(&self, value: u64) -> Result<(), Error> {
        if (self.least..=self.most).contains(&value) {
            return Ok(());
        }
        Err(Error::Setting { name: self.flag, value: value.to_string(), allowed: self.allowed() })
    }
}

/// Workers that compute.
pub const SPHERES: Range = Range::new("--spheres", 1, 4096);
/// Threads that turn text into tokens.
pub const TOKENIZERS: Range = Range::new("--tokenizers", 1, 256);
/// Optimizer steps.
pub const STEPS: Range = Range::new("--steps", 1, 1_000_000_000);
/// Seeds.
pub const SEED: Range = Range::new("--seed", 0, u64::MAX);
/// Transformer blocks.
pub const LAYERS: Range = Range::new("--layers", 1, 96);
/// Attention heads.
pub const HEADS: Range = Range::new("--heads", 1, 256);
/// Width of the model.
pub const WIDTH: Range = Range::new("--width", 1, 16_384);
/// Positions.
pub const CONTEXT: Range = Range::new("--context", 1, 65_536);
/// Bad records up to which a run goes on.
pub const BAD_RECORDS: Range = Range::new("--bad-records", 0, u64::MAX);
/// Sequences in a micro-batch.
pub const BATCH: Range = Range::new("--batch", 1, 4096);
/// Micro-batches in a step.
pub const MICRO_BATCHES: Range = Range::new("--micro-batches", 1, 4096);
/// Steps between two checkpoints; 0: none but the outputs.
///
/// ```
/// use twelvefold::train::options::CHECKPOINT_EVERY;
///
/// assert_eq!(CHECKPOINT_EVERY.parse::<u64>("0"), Ok(0));
/// ```
pub const CHECKPOINT_EVERY: Range = Range::new("--checkpoint-every", 0, 1_000_000_000);
/// The last checkpoints that are kept; the best one is kept too.
///
/// ```
/// use twelvefold::train::options::KEEP_CHECKPOINTS;
///
/// assert!(KEEP_CHECKPOINTS.parse::<usize>("0").is_err());
/// ```
pub const KEEP_CHECKPOINTS: Range = Range::new("--keep-checkpoints", 1, 10_000);

/// Minutes between two checkpoints; 0: never for the time alone.
///
/// ```
/// assert_eq!(twelvefold::train::options::CHECKPOINT_MINUTES.parse::<u64>("5"), Ok(5));
/// ```
pub const CHECKPOINT_MINUTES: Range = Range::new("--checkpoint-minutes", 0, 1_000_000);
/// Steps in which the learning rate rises.
///
/// ```
/// assert_eq!(twelvefold::train::options::WARMUP.parse::<u64>("0"), Ok(0));
/// ```
pub const WARMUP: Range = Range::new("--warmup", 0, 1_000_000_000);
/// Steps between two validations; 0: only at the end.
///
/// ```
/// assert_eq!(twelvefold::train::options::EVAL_INTERVAL.parse::<u64>("400"), Ok(400));
/// ```
pub const EVAL_INTERVAL: Range = Range::new("--eval-interval", 0, 1_000_000_000);
/// Sequences within which the order is shuffled.
///
/// ```
/// assert!(twelvefold::train::options::SHUFFLE_WINDOW.parse::<usize>("0").is_err());
/// ```
pub const SHUFFLE_WINDOW: Range = Range::new("--shuffle-window", 1, 1 << 24);
/// Bytes of built-in stories.
///
/// ```
/// assert_eq!(twelvefold::train::options::STORY_BYTES.parse::<u64>("50000"), Ok(50_000));
/// ```
pub const STORY_BYTES: Range = Range::new("--story-bytes", 1000, 1 << 34);

pub(super) const SIZE: &str = "it must be a number of bytes from 4K up, such as 800M or 4G";

/// A size from the command line: a number of bytes, or of K, M or G, each 1024 of the one before.
///
/// ```
/// use twelvefold::train::options::parse_size;
///
/// assert_eq!(parse_size("2M"), Ok(2 << 20));
/// assert!(parse_size("2.5G").is_err());
/// ```
///
/// # Errors
/// What is accepted, in words.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let unit = units.iter().find_map(|(u, shift)| Some((text.strip_suffix(*u)?, *shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    let bytes = number.and_then(|n| n.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes >= LEAST_MEMORY).ok_or_else(|| SIZE.to_owned())
}

/// A chunk of tokens or so.
pub(super) const LEAST_MEMORY: u64 = 1 << 12;

pub(super) const LR: &str = "it must be a number above 0, at most 1";

/// A learning rate from the command line.
///
/// ```
/// use twelvefold::train::options::parse_rate;
///
/// assert_eq!(parse_rate("3e-4"), Ok(3e-4));
/// assert!(parse_rate("0").is_err());
/// ```
///
/// # Errors
/// What is accepted, in words.
pub fn parse_rate(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|lr| *lr > 0.0 && *lr <= 1.0).ok_or_else(|| LR.to_owned())
}

pub(super) const AMOUNT: &str = "it must be a number from 0";
pub(super) const SHARE: &str = "it must be a number from 0 to 1";

/// A number from 0 from the command line, such as the largest norm of a gradient.
///
/// ```
/// use twelvefold::train::options::parse_amount;
///
/// assert_eq!(parse_amount("1.5"), Ok(1.5));
/// assert!(parse_amount("inf").is_err() && parse_amount("-1").is_err());
/// ```
///
/// # Errors
/// What is accepted, in words.
pub fn parse_amount(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x| is_amount(*x)).ok_or_else(|| AMOUNT.to_owned())
}

pub(super) fn is_amount(value: f32) -> bool {
    value >= 0.0 && value.is_finite()
}

/// A number from 0 to 1 from the command line, such as a weight decay.
///
/// ```
/// use twelvefold::train::options::parse_share;
///
/// assert_eq!(parse_share("0.1"), Ok(0.1));
/// assert!(parse_share("1.1").is_err());
/// ```
///
/// # Errors
/// What is accepted, in words.
pub fn parse_share(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or_else(|| SHARE.to_owned())
}

/// A tokenizer from the command line: the text itself, where it names one.
///
/// ```
/// use twelvefold::train::options::parse_tokenizer;
///
/// assert_eq!(parse_tokenizer("bpe:4096").as_deref(), Ok("bpe:4096"));
/// assert!(parse_tokenizer("bpe").is_err());
/// ```
///
/// # Errors
/// What is accepted, in words.
pub fn parse_tokenizer(text: &str) -> Result<String, String> {
    match text.parse::<TokenizerSpec>() {
        Ok(_) => Ok(text.to_owned()),
        Err(Error::Setting { allowed, .. }) => Err(allowed),
        Err(other) => Err(other.to_string()),
    }
}

/// Where to listen, from the command line: a port of this machine alone, or an address and a port.
///
/// ```
/// use twelvefold::train::options::parse_address;
///
/// assert_eq!(parse_address("9464"), Ok(([127, 0, 0, 1], 9464).into()));
/// assert_eq!(parse_address("[::1]:0").unwrap().port(), 0);
/// assert!(parse_address("localhost:9464").is_err());
/// ```
///
/// # Errors
/// What is accepted, in words.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse::<u16>().map(|port| (Ipv4Addr::LOCALHOST, port).into());
    port.or_else(|_| text.parse()).map_err(|_| ADDRESS.to_owned())
}

const ADDRESS: &str = "give a port such as 9464, for this machine alone, or an address with its port, such \
                       as 0.0.0.0:9464 or [::1]:9464";

/// An input of a mixture from the command line: `PATH=WEIGHT`.
///
/// ```
/// use twelvefold::train::options::parse_weighted;
///
/// assert_eq!(parse_weighted("a=b=0.7"), Ok(("a=b".into(), 0.7)));
/// assert!(parse_weighted("a=0").is_err());
/// ```
///
/// # Errors
/// What is accepted, in words.
pub fn parse_weighted(text: &str) -> Result<(PathBuf, f64), String> {
    let parts = text.rsplit_once('=').filter(|(path, _)| !path.is_empty());
    let found = parts.and_then(|(path, weight)| Some((path.into(), weight.parse().ok()?)));
    found.filter(|(_, weight)| is_weight(*weight)).ok_or_else(|| WEIGHT.to_owned())
}

pub(super) const WEIGHT: &str = "give PATH=WEIGHT with a weight above 0, at most a million";

pub(super) fn is_weight(weight: f64) -> bool {
    weight > 0.0 && weight <= 1e6
}

#[cfg(test)]
mod tests {
    use super::{Range, SPHERES};

    #[test]
    fn a_flag_that_does_not_parse_says_what_would() {
        let allowed = Err("it must be a whole number from 1 to 4096".to_owned());
        for bad in ["0", "4097", "abc", "-1", "1.5", "", "99999999999999999999999"] {
            assert_eq!(SPHERES.parse::<usize>(bad), allowed, "{bad}");
        }
        assert!(Range::new("--n", 0, 300).parse::<u8>("256").is_err());
    }
}
