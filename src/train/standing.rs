//! Where a run stands between two steps, beside its weights and moments: what a checkpoint's
//! [`RunState`] holds, and how a resumed run's settings are compared with it.
//!
//! | under `run.` in `optimizer.safetensors` | what it is |
//! |---|---|
//! | `setting.NAME` | each setting that decides the weights, as JSON; with `tokenizer_sha256`, where it is not learned, and `init_sha256`, of the weights that the run began with |
//! | `receipt` | the [`Receipt`] of all that was served |
//! | `receipt_from`, `receipt_base` | the sequence from which on it can be served again, and the receipt there: 0 and zeros, but for a run that was resumed with changes |
//! | `tokens` | targets trained |
//! | `recent` | targets and loss of the last steps, for the report's mean |
//! | `skipped` | steps that were left out; none where it is not there |
//! | `validated` | the step of the last validation |
//! | `best` | step and loss of the best validation |
//!
//! Floats are written by their bits, so that they come back as they were.

use std::collections::BTreeMap;

use super::checkpoint::RunState;
use super::options::Options;
use crate::corpus::batcher::Receipt;
use crate::corpus::tokenizer::TokenizerSpec;
use crate::error::Error;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Standing {
    pub(super) step: u64,
    /// Sequences trained.
    pub(super) position: u64,
    pub(super) served: Served,
    pub(super) tokens: u64,
    pub(super) recent: Vec<(u64, f64)>,
    /// Steps that were left out.
    pub(super) skipped: u64,
    pub(super) validated: u64,
    pub(super) best: Option<(u64, f64)>,
}

/// The receipt of what was served, and from where on it can be served again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) receipt: Receipt,
    /// A sequence's number, counted over all epochs.
    pub(super) from: u64,
    /// The receipt at `from`.
    pub(super) base: Receipt,
}

/// What decides nothing: where text and outputs lie, how many threads there are, what is saved when
/// and who looks.
/// Nor does the limit of bad records, which says only whether a run goes on.
const FREE: [&str; 16] = [
    "paths",
    "init",
    "bad_records",
    "out",
    "overwrite",
    "resume",
    "allow_changes",
    "checkpoint_every",
    "checkpoint_minutes",
    "keep_checkpoints",
    "tensorboard",
    "prometheus",
    "trace",
    "spheres",
    "tokenizers",
    "token_memory",
];

/// The digest of a tokenizer that is not learned: of the text of its `tokenizer.json`.
const DIGEST: &str = "tokenizer_sha256";

/// The digest of the weights that [`Options::init`] names; `NO_INIT` where they are drawn.
const INIT: &str = "init_sha256";
const NO_INIT: &str = "\"none\"";

/// Digests of what a run takes from files beside its text.
#[derive(Debug, Clone, Default)]
pub(super) struct Digests {
    /// Of the tokenizer, where it is not learned: of the text of its `tokenizer.json`.
    pub(super) tokenizer: Option<String>,
    /// Of the weights that it begins with.
    pub(super) init: Option<String>,
}

/// What cannot change while the weights stay.
const FIXED: [&str; 6] = ["tokenizer", DIGEST, "layers", "heads", "width", "context"];

const SETTING: &str = "setting.";

/// The settings that decide the weights, each as JSON.
fn settings(options: &Options, digests: &Digests) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    if let Ok(serde_json::Value::Object(all)) = serde_json::to_value(options) {
        let decides = |name: &str| !FREE.contains(&name);
        settings.extend(
            all.into_iter().filter(|(n, _)| decides(n)).map(|(n, value)| (n, value.to_string())),
        );
    }
    let text = if options.paths.is_empty() { "\"built-in stories\"" } else { "\"files\"" };
    settings.insert("text".to_owned(), text.to_owned());
    let quoted = |digest: &String| format!("\"{digest}\"");
    let init = digests.init.as_ref();
    settings.insert(INIT.to_owned(), init.map_or_else(|| NO_INIT.to_owned(), quoted));
    if let Some(digest) = &digests.tokenizer {
        settings.insert(DIGEST.to_owned(), quoted(digest));
        // Where the file lies decides nothing.
        if let Ok(TokenizerSpec::Json(_) | TokenizerSpec::Tiktoken(..)) = options.tokenizer.parse()
        {
            settings.insert("tokenizer".to_owned(), "\"a file\"".to_owned());
        }
    }
    settings
}

impl Standing {
    /// What a checkpoint says of it.
    pub(super) fn to_state(&self, options: &Options, digests: &Digests, kernels: &str) -> RunState {
        let mut extra: BTreeMap<String, String> = settings(options, digests)
            .into_iter()
            .map(|(n, value)| (format!("{SETTING}{n}"), value))
            .collect();
        let pair = |(n, x): &(u64, f64)| format!("{n}:{:016x}", x.to_bits());
        let recent: Vec<String> = self.recent.iter().map(pair).collect();
        let served = &self.served;
        for (name, value) in [
            ("receipt", served.receipt.to_string()),
            ("receipt_from", served.from.to_string()),
            ("receipt_base", served.base.to_string()),
            ("tokens", self.tokens.to_string()),
            ("recent", recent.join(" ")),
            ("skipped", self.skipped.to_string()),
            ("validated", self.validated.to_string()),
            ("best", self.best.iter().map(pair).collect()),
        ] {
            extra.insert(name.to_owned(), value);
        }
        RunState {
            step: self.step,
            seed: options.seed,
            position: self.position,
            kernels: kernels.to_owned(),
            extra,
        }
    }

    /// Reads what [`Standing::to_state`] wrote.
    pub(super) fn parse(state: &RunState) -> Result<Self, Error> {
        Self::find(state).ok_or_else(|| {
            Error::input(
                "the checkpoint does not say where its run stood",
                "it was written by another version: resume with that one",
            )
        })
    }

    fn find(state: &RunState) -> Option<Self> {
        let text = |name: &str| state.extra.get(name).map(String::as_str);
        let number = |name: &str| text(name)?.parse::<u64>().ok();
        let pair = |text: &str| {
            let (n, bits) = text.split_once(':')?;
            let bits = u64::from_str_radix(bits, 16).ok()?;
            Some((n.parse().ok()?, f64::from_bits(bits)))
        };
        let pairs =
            |name: &str| text(name)?.split_whitespace().map(pair).collect::<Option<Vec<_>>>();
        let served = Served {
            receipt: Receipt::parse(text("receipt")?)?,
            from: number("receipt_from")?,
            base: Receipt::parse(text("receipt_base")?)?,
        };
        Some(Standing {
            step: state.step,
            position: state.position,
            served,
            tokens: number("tokens")?,
            recent: pairs("recent")?,
            // A checkpoint of a version before this one does not say it.
            skipped: if state.extra.contains_key("skipped") { number("skipped")? } else { 0 },
            validated: number("validated")?,
            best: pairs("best")?.first().copied(),
        })
    }
}

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    name: String,
    was: String,
    is: String,
}

impl Change {
    /// Whether no flag can allow it.
    pub(super) fn is_fixed(&self) -> bool {
        FIXED.contains(&self.name.as_str())
    }

    /// For people: `--steps was 100 and is 200`.
    pub(super) fn words(&self) -> String {
        let name = if self.name == DIGEST {
            "the tokenizer's SHA-256".to_owned()
        } else if self.name == INIT {
            "the SHA-256 of the weights of --init".to_owned()
        } else if self.name == "weights" {
            "the weights of --mix".to_owned()
        } else if self.name == "text" {
            self.name.clone()
        } else {
            format!("--{}", self.name.replace('_', "-"))
        };
        let shown = |json: &str| match json.parse::<f64>() {
            // What was an f32 is shown as one.
            Ok(number) if json.contains(['.', 'e']) => (number as f32).to_string(),
            _ => json.trim_matches('"').to_owned(),
        };
        let mut words = format!("{name} was {} and is {}", shown(&self.was), shown(&self.is));
        if self.name == "steps" {
            words += " (the learning rate falls over all steps)";
        }
        words
    }
}

/// The settings that are not those of the checkpoint.
pub(super) fn changes(state: &RunState, options: &Options, digests: &Digests) -> Vec<Change> {
    let now = settings(options, digests);
    let said = |name: &String| state.extra.get(&format!("{SETTING}{name}")).cloned();
    let change = |(name, is): (&String, &String)| {
        // A checkpoint of a version before this one does not say the last.
        let unsaid = if name == INIT { NO_INIT } else { "not said" };
        let was = said(name).unwrap_or_else(|| unsaid.to_owned());
        (was != *is).then(|| Change { name: name.clone(), was, is: is.clone() })
    };
    now.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::{Digests, Served, Standing, changes};
    use crate::corpus::batcher::Receipt;
    use crate::train::Options;
    use std::path::PathBuf;

    fn standing() -> Standing {
        let mut receipt = Receipt::default();
        receipt.add(&[1], &[2]);
        Standing {
            step: 7,
            position: 28,
            served: Served { receipt, from: 4, base: Receipt::default() },
            tokens: 99,
            recent: vec![(4, 0.1 + 0.2), (3, f64::MIN_POSITIVE)],
            skipped: 2,
            validated: 5,
            best: Some((5, 1.0 / 3.0)),
        }
    }

    #[test]
    fn what_is_written_comes_back_to_the_last_bit() {
        let options = Options::default();
        for standing in [standing(), Standing::default()] {
            let state = standing.to_state(&options, &Digests::default(), "x");
            assert_eq!(Standing::parse(&state).unwrap(), standing);
        }
    }

    #[test]
    fn a_value_that_is_missing_or_no_number_is_refused() {
        let state = standing().to_state(&Options::default(), &Digests::default(), "x");
        for name in ["receipt", "receipt_from", "receipt_base", "tokens", "recent", "validated"] {
            let mut missing = state.clone();
            missing.extra.remove(name);
            assert!(Standing::parse(&missing).is_err(), "{name}");
            let mut odd = state.clone();
            odd.extra.insert(name.to_owned(), "x:y".to_owned());
            assert!(Standing::parse(&odd).is_err(), "{name}");
        }
        // It came later than the others: where it is missing, no step was left out.
        let mut state = state;
        state.extra.insert("skipped".to_owned(), "x".to_owned());
        assert!(Standing::parse(&state).is_err());
        state.extra.remove("skipped");
        assert_eq!(Standing::parse(&state).unwrap(), Standing { skipped: 0, ..standing() });
    }

    #[test]
    fn what_changes_the_weights_is_a_change_and_what_does_not_is_none() {
        let options = Options::default();
        let state = standing().to_state(&options, &Digests::default(), "x");
        let free = Options {
            out: PathBuf::from("elsewhere"),
            resume: true,
            allow_changes: true,
            spheres: 64,
            tokenizers: 7,
            checkpoint_every: 1,
            checkpoint_minutes: 1,
            keep_checkpoints: 9,
            tensorboard: true,
            prometheus: Some(([127, 0, 0, 1], 0).into()),
            bad_records: 7,
            trace: Some(PathBuf::new()),
            ..options.clone()
        };
        assert_eq!(changes(&state, &free, &Digests::default()), []);
        let changed = Options { steps: 6000, lr: 1e-3, layers: 3, ..options };
        let words: Vec<String> = changes(&state, &changed, &Digests::default())
            .iter()
            .map(super::Change::words)
            .collect();
        assert_eq!(
            words,
            [
                "--layers was 2 and is 3",
                "--lr was 0.005 and is 0.001",
                "--steps was 5200 and is 6000 (the learning rate falls over all steps)",
            ]
        );
        let begun = |init: &str| Digests { tokenizer: None, init: Some(init.to_owned()) };
        let other = standing().to_state(&Options::default(), &begun("a"), "x");
        for (state, now, expected) in [
            (&state, begun("b"), "the SHA-256 of the weights of --init was none and is b"),
            (&other, begun("b"), "the SHA-256 of the weights of --init was a and is b"),
            (&other, Digests::default(), "the SHA-256 of the weights of --init was a and is none"),
        ] {
            assert_eq!(changes(state, &Options::default(), &now)[0].words(), expected);
        }
        assert_eq!(changes(&other, &Options::default(), &begun("a")), []);
        let mut older = state.clone();
        older.extra.remove("setting.init_sha256");
        assert_eq!(changes(&older, &Options::default(), &Digests::default()), []);
        let files = Options { paths: vec![PathBuf::from("a")], ..Options::default() };
        assert_eq!(
            changes(&state, &files, &Digests::default())[0].words(),
            "text was built-in stories and is files"
        );
    }
}
