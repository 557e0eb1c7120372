//! The run in numbers: the contents of `OUT/report.json`.
//!
//! The names of the fields are stable: scripts read them. Losses are in nats per token, unless the
//! name says bits per byte. A number that does not exist (no validation yet, no floor for a corpus
//! that is not built in) is null; the key is always there.
//!
//! ```
//! use twelvefold::report::summary::{
//!     CheckpointReport, CorpusReport, EdgeReport, InvalidText, RankReport, RunReport, SkippedFile,
//!     SphereReport, StageReport,
//! };
//!
//! let skipped = SkippedFile { path: "photo".to_owned(), reason: "empty".to_owned() };
//! let invalid = InvalidText { path: "latin1".to_owned(), byte: 3, count: 5 };
//! let report = RunReport {
//!     corpus: CorpusReport {
//!         files: 2,
//!         skipped: vec![skipped],
//!         invalid: vec![invalid],
//!         ..CorpusReport::default()
//!     },
//!     checkpoints: CheckpointReport { saved: 3, failed: 0, best: Some(800) },
//!     stages: vec![StageReport { items: 7, ..StageReport::default() }],
//!     edges: vec![EdgeReport { items_in: 7, items_out: 7, ..EdgeReport::default() }],
//!     ranks: vec![RankReport { rank: 1, spheres: 2, ..RankReport::default() }],
//!     spheres: vec![SphereReport { tasks: 12, ..SphereReport::default() }],
//!     ..RunReport::default()
//! };
//! // What is written is what is read.
//! assert_eq!(serde_json::from_str::<RunReport>(&report.to_json())?, report);
//! # Ok::<(), serde_json::Error>(())
//! ```

use super::bottleneck::{self, Load};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything about a run that ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Of the run.
    pub seed: u64,
    /// Optimizer steps done, those left out included.
    pub steps: u64,
    /// Steps left out because a loss or a gradient was no number, where the user asked for that.
    #[serde(default)]
    pub skipped_steps: u64,
    /// Tokens trained: targets that counted, over all steps.
    pub tokens: u64,
    /// From the start of the run to the end of its checkpoint.
    pub seconds: f64,
    /// Of the median step, without start-up, validation, checkpoint and sampling.
    pub tokens_per_second: f64,
    /// What the matrix products reach on all cores when nothing holds them up, in operations a second,
    /// measured when the run began. Null where that could not be done, and where several ranks shared the run.
    #[serde(default)]
    pub peak_flops: Option<f64>,
    /// Useful operations at `tokens_per_second`, as a share of `peak_flops`; see
    /// [`Progress::peak_share`](super::Progress::peak_share).
    #[serde(default)]
    pub peak_share: Option<f64>,
    /// Mean over the targets of the last 20 steps.
    pub train_loss: Option<f64>,
    /// Over all validation text with the final weights; of a run that was interrupted, the last one
    /// over a part of it.
    pub val_loss: Option<f64>,
    /// The same per byte of the validation text, in bits.
    pub val_bits_per_byte: Option<f64>,
    /// What no model can beat on these very bytes; known for the built-in corpus.
    pub floor_bits_per_byte: Option<f64>,
    /// What the frequencies of single tokens reach on them.
    pub unigram_bits_per_byte: Option<f64>,
    /// What the frequencies of pairs of tokens reach on them.
    pub bigram_bits_per_byte: Option<f64>,
    /// SHA-256 of the bytes of `model.safetensors`.
    pub weights_sha256: String,
    /// True where Ctrl-C ended the run before its last step.
    pub interrupted: bool,
    /// The step of the checkpoint that the run went on from; null where it began at the beginning.
    #[serde(default)]
    pub resumed_from: Option<u64>,
    /// SHA-256 over all that was trained, micro-batch after micro-batch: the same for two runs that
    /// were served the same data in the same order.
    #[serde(default)]
    pub receipt: String,
    /// What was saved on the way.
    #[serde(default)]
    pub checkpoints: CheckpointReport,
    /// The code path that computed.
    pub kernels: String,
    /// Trainable numbers of the model.
    pub parameters: u64,
    /// Cores kept busy during steps and validations: processor time of the whole process by their
    /// seconds. Null where the system does not tell.
    pub cores_busy: Option<f64>,
    /// Cores of the machine that the run could use.
    pub cores: usize,
    /// The most memory that the process held, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// What was read.
    pub corpus: CorpusReport,
    /// Each stage of the pipeline, in the order of the road.
    pub stages: Vec<StageReport>,
    /// Each hand-off between two stages.
    pub edges: Vec<EdgeReport>,
    /// Each leaf of the hierarchy.
    pub spheres: Vec<SphereReport>,
    /// Each process of a run that several shared, the one that wrote this first; else none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankReport>,
    /// The settings of the run.
    pub settings: Value,
}

/// A process of a run that several shared. What the rest of the report says of stages, edges and spheres
/// is of rank 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RankReport {
    /// Its number.
    pub rank: usize,
    /// The name of its machine.
    pub host: String,
    /// Its spheres.
    pub spheres: usize,
    /// Its micro-batches of each step.
    pub micro_batches: usize,
    /// Parameters of which it keeps the moments, and that it updates.
    pub parameters: usize,
    /// Tasks that its spheres finished.
    pub tasks: u64,
    /// Inside tasks, all its spheres together.
    pub busy_seconds: f64,
    /// Waiting for other ranks, with nothing to compute.
    pub waited_seconds: f64,
    /// Sent to other ranks.
    pub sent_bytes: u64,
}

/// The checkpoints of a run, beside its outputs; of a resumed run those of its last process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// How many were saved.
    pub saved: u64,
    /// How many could not be, for example on a full disk.
    pub failed: u64,
    /// The step with the best validation loss, over the whole run.
    pub best: Option<u64>,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CorpusReport {
    /// Regular files found.
    pub files: u64,
    /// Times that a file was opened.
    pub opened: u64,
    /// Times that the text was read again because its tokens are more than `--token-memory` keeps.
    #[serde(default)]
    pub rewound: u64,
    /// Files that were left out.
    pub skipped: Vec<SkippedFile>,
    /// Bytes of the documents.
    pub bytes: u64,
    /// Documents.
    pub documents: u64,
    /// Records that were none, and packed texts that broke off.
    #[serde(default)]
    pub bad_records: u64,
    /// The first thousand of them: file and line, and why.
    #[serde(default)]
    pub bad: Vec<SkippedFile>,
    /// Tokens of all documents, ends of document included.
    pub tokens: u64,
    /// Places where the text is not UTF-8.
    pub invalid: Vec<InvalidText>,
}

/// A file that was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFile {
    /// Where it is.
    pub path: String,
    /// Why it was left out.
    pub reason: String,
}

/// A document that is not all UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidText {
    /// Where it is.
    pub path: String,
    /// Its first bad byte.
    pub byte: u64,
    /// Bad parts in it.
    pub count: u64,
}

/// A stage of the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// Workers that it has.
    pub workers: usize,
    /// Items that it handled.
    pub items: u64,
    /// Time at work, over all workers.
    pub busy_seconds: f64,
    /// Time without an item to work on; of the spheres, what those that are kept awake did not spend in
    /// tasks of the time of steps and validations.
    pub starved_seconds: f64,
    /// Time without room for a result.
    pub blocked_seconds: f64,
}

/// A hand-off between two stages: `items_in` = `items_out` + `abandoned`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// Its name.
    pub name: String,
    /// Items sent.
    pub items_in: u64,
    /// Items received.
    pub items_out: u64,
    /// Items dropped when the run ended early.
    pub abandoned: u64,
    /// The most items that were in it at once, as the sender knew it: never too low. Of the spheres'
    /// tasks, the size of the largest phase.
    pub high_water: u64,
}

/// A leaf of the hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SphereReport {
    /// Its number.
    pub id: usize,
    /// Its depth in the tree; the root is at 0.
    pub level: usize,
    /// Its symmetry group, id mod 12.
    pub group: usize,
    /// Its parent in the tree.
    pub parent: usize,
    /// Tasks done.
    pub tasks: u64,
    /// Tasks of these taken from another leaf.
    pub stolen: u64,
    /// Time at work.
    pub busy_seconds: f64,
}

impl RunReport {
    /// The text of `report.json`. A number that is not finite becomes null.
    ///
    /// ```
    /// use twelvefold::report::RunReport;
    ///
    /// let report = RunReport { steps: 300, ..RunReport::default() };
    /// assert!(report.to_json().contains("\"steps\": 300,"));
    /// ```
    pub fn to_json(&self) -> String {
        // Plain structs with string keys: there is no value that cannot be written.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Which stage held the others back, over the whole run, in a sentence.
    ///
    /// ```
    /// use twelvefold::report::RunReport;
    /// use twelvefold::report::summary::StageReport;
    ///
    /// let stage = |name: &str, workers, busy_seconds| StageReport {
    ///     name: name.to_owned(),
    ///     workers,
    ///     busy_seconds,
    ///     ..StageReport::default()
    /// };
    /// let stages = vec![stage("load", 1, 0.5), stage("spheres", 12, 18.0)];
    /// let report = RunReport { seconds: 10.0, cores: 2, stages, ..RunReport::default() };
    /// assert_eq!(
    ///     report.bottleneck(),
    ///     "the spheres hold the others back: they are busy 90 % of the time, next comes load with 5 %"
    /// );
    /// ```
    pub fn bottleneck(&self) -> String {
        let mut loads = Vec::with_capacity(self.stages.len());
        for StageReport { name, workers, busy_seconds, .. } in &self.stages {
            let cores = if name == "spheres" { self.cores } else { usize::MAX };
            let workers = *workers.min(&cores);
            let busy = busy_seconds / (workers as f64 * self.seconds);
            loads.push(Load { name, workers, busy });
        }
        bottleneck::sentence(&loads)
    }

    /// How far the validation stands above the floor: 0.1 is 10 %.
    ///
    /// ```
    /// use twelvefold::report::RunReport;
    ///
    /// let (val_bits_per_byte, floor_bits_per_byte) = (Some(1.5), Some(1.0));
    /// let report = RunReport { val_bits_per_byte, floor_bits_per_byte, ..RunReport::default() };
    /// assert_eq!((report.above_floor(), RunReport::default().above_floor()), (Some(0.5), None));
    /// ```
    pub fn above_floor(&self) -> Option<f64> {
        self.val_bits_per_byte.zip(self.floor_bits_per_byte).map(|(val, floor)| val / floor - 1.0)
    }
}
