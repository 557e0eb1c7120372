//! The settings of a run, their defaults and their ranges.
//!
//! A range stands here once: the command line refuses what does not parse with the same words with
//! which [`Options::validate`] refuses it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::corpus::files;
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

    fn check(&self, value: u64) -> Result<(), Error> {
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

const SIZE: &str = "it must be a number of bytes from 4K up, such as 800M or 4G";

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
const LEAST_MEMORY: u64 = 1 << 12;

const LR: &str = "it must be a number above 0, at most 1";

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

const WEIGHT: &str = "give PATH=WEIGHT with a weight above 0, at most a million";

fn is_weight(weight: f64) -> bool {
    weight > 0.0 && weight <= 1e6
}

/// Everything that decides a run.
///
/// ```
/// use twelvefold::train::options::Options;
///
/// let options = Options { layers: 2, ..Options::default() };
/// options.validate()?;
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Files and folders to train on; none: the built-in stories.
    pub paths: Vec<PathBuf>,
    /// For each of the paths its weight, where they are mixed; none: one after the other.
    pub weights: Vec<f64>,
    /// The field of a record that is its text.
    pub field: String,
    /// Bad records up to which the run goes on.
    pub bad_records: u64,
    /// Leave out what `.gitignore` files name.
    pub gitignore: bool,
    /// The folder of a model whose weights, sizes and tokenizer the run begins with: of a run, of a
    /// checkpoint, or of a GPT-2 of Hugging Face's. None: drawn weights. A size or a tokenizer that is not
    /// the default must be the model's; `context` may be shorter.
    pub init: Option<PathBuf>,
    /// Where the run leaves its files.
    pub out: PathBuf,
    /// Replace a run that `out` already holds.
    pub overwrite: bool,
    /// Go on with the run that `out` holds, from its newest whole checkpoint; from the beginning where
    /// there is none.
    pub resume: bool,
    /// Resume also where a setting or the text is not what it was. The result is then no longer that
    /// of a run that was never interrupted.
    pub allow_changes: bool,
    /// Steps between two checkpoints; 0: none but the outputs at the end.
    pub checkpoint_every: u64,
    /// Minutes after which a checkpoint is saved although its step has not come; 0: never.
    pub checkpoint_minutes: u64,
    /// How many of the last checkpoints are kept; the one with the best validation loss is kept too.
    pub keep_checkpoints: usize,
    /// Workers that compute; the result does not depend on it.
    pub spheres: usize,
    /// Threads that turn text into tokens; the result does not depend on it.
    pub tokenizers: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// Decides the first weights, the data order and the built-in stories.
    pub seed: u64,
    /// Which tokenizer; see [`TokenizerSpec`].
    pub tokenizer: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Width of the model (the C of its shapes).
    pub width: usize,
    /// Tokens that the model looks back, and the length of a sequence.
    pub context: usize,
    /// Sequences in a micro-batch.
    pub batch: usize,
    /// Micro-batches in a step.
    pub micro_batches: usize,
    /// The highest learning rate; it decays to a tenth of it.
    pub lr: f32,
    /// Steps in which the learning rate rises; None: a twentieth of the steps, at most 100.
    pub warmup: Option<u64>,
    /// AdamW's decay, on matrices only.
    pub weight_decay: f32,
    /// The largest global norm of a gradient; larger ones are scaled down to it. 0: any.
    pub clip: f32,
    /// The most bytes of tokens that are kept; with more, the text is read again for each epoch. The
    /// result does not depend on it.
    pub token_memory: u64,
    /// No attention across documents, and positions count anew in each; otherwise a sequence is one text.
    pub mask_documents: bool,
    /// Leave out steps whose loss or gradient is no number, and count them; else they end the run.
    pub skip_non_finite: bool,
    /// Steps between two validations; 0: only at the end.
    pub eval_interval: u64,
    /// Whether files come in an order that the seed decides; otherwise in that of the paths. It is the
    /// same in every epoch.
    pub shuffle_files: bool,
    /// Sequences within which the order is shuffled, anew in every epoch.
    pub shuffle_window: usize,
    /// Bytes of built-in stories, where there are no paths.
    pub story_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            weights: Vec::new(),
            field: files::FIELD.to_owned(),
            bad_records: files::BAD_RECORDS,
            gitignore: false,
            init: None,
            out: PathBuf::from("run"),
            overwrite: false,
            resume: false,
            allow_changes: false,
            checkpoint_every: 400,
            checkpoint_minutes: 10,
            keep_checkpoints: 3,
            spheres: 2,
            tokenizers: 2,
            steps: 5200,
            seed: 1,
            tokenizer: "bpe:1024".to_owned(),
            layers: 2,
            heads: 4,
            width: 64,
            context: 256,
            batch: 4,
            micro_batches: 1,
            lr: 5e-3,
            warmup: None,
            weight_decay: 0.1,
            clip: 1.0,
            token_memory: 1 << 30,
            mask_documents: false,
            skip_non_finite: false,
            eval_interval: 400,
            shuffle_files: true,
            shuffle_window: 4096,
            story_bytes: 4_000_000,
        }
    }
}

impl Options {
    /// Checks every setting, and those that must fit one another.
    ///
    /// # Errors
    /// [`Error::Setting`] with the flag, its value and what is accepted.
    pub fn validate(&self) -> Result<(), Error> {
        let checks: [(Range, usize); 9] = [
            (SPHERES, self.spheres),
            (TOKENIZERS, self.tokenizers),
            (LAYERS, self.layers),
            (HEADS, self.heads),
            (WIDTH, self.width),
            (CONTEXT, self.context),
            (BATCH, self.batch),
            (MICRO_BATCHES, self.micro_batches),
            (KEEP_CHECKPOINTS, self.keep_checkpoints),
        ];
        for (range, value) in checks {
            range.check(value as u64)?;
        }
        STEPS.check(self.steps)?;
        CHECKPOINT_EVERY.check(self.checkpoint_every)?;
        if self.resume && self.overwrite {
            let allowed =
                "give one of the two: --resume goes on with the run, --overwrite replaces it";
            return Err(refuse("--resume", "with --overwrite", allowed));
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(refuse("--heads", self.heads, format!("{} fit", self.fitting_heads())));
        }
        self.tokenizer.parse::<TokenizerSpec>()?;
        if !(self.lr > 0.0 && self.lr <= 1.0) {
            return Err(refuse("--lr", self.lr, LR));
        }
        if self.token_memory < LEAST_MEMORY {
            return Err(refuse("--token-memory", self.token_memory, SIZE));
        }
        self.validate_inputs()?;
        self.validate_library_side()
    }

    fn validate_inputs(&self) -> Result<(), Error> {
        if !self.weights.is_empty() && self.weights.len() != self.paths.len() {
            let given = format!("with weights for {}", self.weights.len());
            let allowed = format!("as many paths must be given, and not {}", self.paths.len());
            return Err(refuse("--mix", given, allowed));
        }
        match self.weights.iter().find(|weight| !is_weight(**weight)) {
            Some(weight) => Err(refuse("--mix", weight, WEIGHT)),
            None => Ok(()),
        }
    }

    /// Settings that have no flag.
    fn validate_library_side(&self) -> Result<(), Error> {
        if self.warmup.is_some_and(|warmup| warmup > self.steps) {
            let warmup = self.warmup.unwrap_or_default();
            return Err(refuse(
                "warmup",
                warmup,
                format!("it must be at most the {} steps", self.steps),
            ));
        }
        for (name, value) in [("weight_decay", self.weight_decay), ("clip", self.clip)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(refuse(name, value, "it must be a number from 0"));
            }
        }
        if self.weight_decay > 1.0 {
            return Err(refuse("weight_decay", self.weight_decay, "it must be at most 1"));
        }
        Range::new("shuffle_window", 1, 1 << 24).check(self.shuffle_window as u64)?;
        Range::new("story_bytes", 1000, 1 << 34).check(self.story_bytes)?;
        Ok(())
    }

    /// The warm-up that is used.
    ///
    /// ```
    /// use twelvefold::train::Options;
    ///
    /// assert_eq!(Options { steps: 200, ..Options::default() }.warmup_steps(), 10);
    /// assert_eq!(Options { warmup: Some(3), ..Options::default() }.warmup_steps(), 3);
    /// ```
    pub fn warmup_steps(&self) -> u64 {
        self.warmup.unwrap_or((self.steps / 20).min(100))
    }

    /// Sequences in a step.
    ///
    /// ```
    /// use twelvefold::train::Options;
    ///
    /// let options = Options { batch: 4, micro_batches: 3, ..Options::default() };
    /// assert_eq!(options.sequences_per_step(), 12);
    /// ```
    pub fn sequences_per_step(&self) -> usize {
        self.batch * self.micro_batches
    }

    /// For the message: the numbers of heads nearest to the one asked for.
    fn fitting_heads(&self) -> String {
        let fits = |h: &usize| self.width.is_multiple_of(*h);
        let below = (1..self.heads).rev().find(fits);
        let above = (self.heads..=self.width.min(HEADS.most as usize)).find(fits);
        let numbers: Vec<String> = below.into_iter().chain(above).map(|h| h.to_string()).collect();
        format!("it must divide --width {}: {}", self.width, numbers.join(" and "))
    }
}

fn refuse(name: &'static str, value: impl ToString, allowed: impl Into<String>) -> Error {
    Error::Setting { name, value: value.to_string(), allowed: allowed.into() }
}

#[cfg(test)]
mod tests {
    use super::{Options, Range, SPHERES, parse_rate, parse_tokenizer};

    fn refused(change: impl FnOnce(&mut Options)) -> String {
        let mut options = Options::default();
        change(&mut options);
        options.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn each_range_ends_where_it_says() {
        type Set = fn(&mut Options, usize);
        let ends: [(&str, usize, usize, Set); 6] = [
            ("--spheres", 1, 4096, |o, n| o.spheres = n),
            ("--tokenizers", 1, 256, |o, n| o.tokenizers = n),
            ("--layers", 1, 96, |o, n| o.layers = n),
            ("--context", 1, 65_536, |o, n| o.context = n),
            ("--batch", 1, 4096, |o, n| o.batch = n),
            ("--micro-batches", 1, 4096, |o, n| o.micro_batches = n),
        ];
        for (flag, least, most, set) in ends {
            for good in [least, most] {
                let mut options = Options::default();
                set(&mut options, good);
                options.validate().unwrap();
            }
            for bad in [least - 1, most + 1] {
                let message = refused(|o| set(o, bad));
                let expected = format!(
                    "{flag} {bad} is not possible: it must be a whole number from {least} to {most}"
                );
                assert_eq!(message, expected);
            }
        }
        assert!(refused(|o| o.steps = 0).starts_with("--steps 0 is not possible"));
        assert!(refused(|o| o.width = 0).starts_with("--width 0 is not possible"));
        assert!(refused(|o| o.heads = 0).starts_with("--heads 0 is not possible"));
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused_with_the_nearest_that_do() {
        let message = refused(|o| o.heads = 5);
        assert_eq!(message, "--heads 5 is not possible: it must divide --width 64: 4 and 8 fit");
        assert!(refused(|o| (o.width, o.heads) = (3, 200)).ends_with("--width 3: 3 fit"));
    }

    #[test]
    fn a_rate_that_is_no_number_zero_or_above_one_is_refused() {
        for lr in [0.0, -1.0, 1.5, f32::NAN, f32::INFINITY] {
            assert!(refused(|o| o.lr = lr).contains("--lr"));
            assert!(parse_rate(&lr.to_string()).is_err());
        }
        assert_eq!(parse_rate("3e-4"), Ok(3e-4));
        assert!(refused(|o| o.clip = f32::NAN).contains("clip"));
        assert!(refused(|o| o.warmup = Some(5201)).contains("at most the 5200 steps"));
    }

    #[test]
    fn a_tokenizer_is_named_with_a_size_that_it_can_have() {
        for good in ["bytes", "words:6", "bpe:257", "bpe:1000000"] {
            assert_eq!(parse_tokenizer(good).as_deref(), Ok(good));
        }
        for bad in ["", "Bytes", "bytes:3", "words", "words:5", "bpe:", "bpe:256", "bpe:+300"] {
            assert!(parse_tokenizer(bad).is_err(), "{bad}");
            assert!(refused(|o| o.tokenizer = bad.to_owned()).contains("--tokenizer"));
        }
    }

    #[test]
    fn a_flag_that_does_not_parse_says_what_would() {
        let allowed = Err("it must be a whole number from 1 to 4096".to_owned());
        for bad in ["0", "4097", "abc", "-1", "1.5", "", "99999999999999999999999"] {
            assert_eq!(SPHERES.parse::<usize>(bad), allowed, "{bad}");
        }
        assert!(Range::new("--n", 0, 300).parse::<u8>("256").is_err());
    }
}
