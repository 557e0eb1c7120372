//! The settings of a run, their defaults and their ranges.
//!
//! A range stands here once: the command line refuses what does not parse with the same words with
//! which [`Options::validate`] refuses it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ranges::{AMOUNT, LEAST_MEMORY, LR, SHARE, SIZE, WEIGHT, is_amount, is_weight};
use crate::corpus::files;
use crate::corpus::tokenizer::TokenizerSpec;
use crate::error::Error;

pub use super::ranges::{
    BAD_RECORDS, BATCH, CHECKPOINT_EVERY, CHECKPOINT_MINUTES, CONTEXT, EVAL_INTERVAL, HEADS,
    KEEP_CHECKPOINTS, LAYERS, MICRO_BATCHES, Range, SEED, SHUFFLE_WINDOW, SPHERES, STEPS,
    STORY_BYTES, TOKENIZERS, WARMUP, WIDTH, parse_address, parse_amount, parse_rate, parse_share,
    parse_size, parse_tokenizer, parse_weighted,
};

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
    /// Leave the numbers of each step as TensorBoard reads them, in `tensorboard` in `out`.
    pub tensorboard: bool,
    /// Answer at this address with the last numbers, as Prometheus reads them, while the run goes; port 0
    /// is any that is free.
    pub prometheus: Option<SocketAddr>,
    /// A file for a trace of what each thread did when; empty: `trace.json` in `out`. None: no trace. The
    /// result does not depend on it.
    pub trace: Option<PathBuf>,
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
            tensorboard: false,
            prometheus: None,
            trace: None,
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
        self.validate_training()
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

    fn validate_training(&self) -> Result<(), Error> {
        CHECKPOINT_MINUTES.check(self.checkpoint_minutes)?;
        EVAL_INTERVAL.check(self.eval_interval)?;
        if let Some(warmup) = self.warmup.filter(|warmup| *warmup > self.steps) {
            let allowed = format!("it must be at most the {} steps", self.steps);
            return Err(refuse(WARMUP.flag, warmup, allowed));
        }
        if !is_amount(self.clip) {
            return Err(refuse("--clip", self.clip, AMOUNT));
        }
        if !(0.0..=1.0).contains(&self.weight_decay) {
            return Err(refuse("--weight-decay", self.weight_decay, SHARE));
        }
        SHUFFLE_WINDOW.check(self.shuffle_window as u64)?;
        STORY_BYTES.check(self.story_bytes)
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
    use super::{Options, parse_rate, parse_tokenizer};

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
}
