//! What people and scripts look at.
//!
//! | module | what it is |
//! |---|---|
//! | [`summary`] | the run in numbers, as `report.json` holds it |
//! | [`table`] | the same as text tables |
//! | [`progress`] | one moment of a run as a line |
//! | `page` | the run as a page, as `report.html` holds it |
//! | [`metrics`] | the numbers of each step, as `metrics.jsonl` holds them |
//! | [`tensorboard`], [`prometheus`] | the same numbers in the forms of others |
//! | [`bottleneck`] | which stage holds the others back |
//! | [`units`] | numbers as people read them |
//!
//! Pure data and text: nothing here prints, opens a file or knows a thread.

pub mod bottleneck;
pub mod metrics;
pub(crate) mod page;
pub mod progress;
pub mod prometheus;
pub mod summary;
pub mod table;
pub mod tensorboard;
pub mod units;

pub use progress::Progress;
pub use summary::RunReport;

/// What a run tells while it goes. Called from the thread that called the run, between steps; each
/// method does nothing unless it is written.
///
/// ```
/// use twelvefold::report::{Observer, Progress};
///
/// #[derive(Default)]
/// struct Log(Vec<String>);
///
/// impl Observer for Log {
///     fn plan(&mut self, text: &str) {
///         self.note(text);
///     }
///     fn step(&mut self, progress: &Progress) {
///         self.0.push(progress.line());
///     }
///     fn validated(&mut self, progress: &Progress) {
///         self.0.push(format!("validation {:?}", progress.val_loss));
///     }
///     fn note(&mut self, text: &str) {
///         self.0.push(text.to_owned());
///     }
///     fn sample(&mut self, text: &str) {
///         self.0.push(format!("it says: {text}"));
///     }
/// }
///
/// let mut log = Log::default();
/// log.sample("once");
/// assert_eq!(log.0, ["it says: once"]);
/// ```
pub trait Observer {
    /// What the run is about to do, a few lines, before the first step.
    fn plan(&mut self, _text: &str) {}
    /// A step ended.
    fn step(&mut self, _progress: &Progress) {}
    /// A validation ended; `progress.val_loss` is its loss.
    fn validated(&mut self, _progress: &Progress) {}
    /// Something worth a line: a file skipped, a checkpoint saved.
    fn note(&mut self, _text: &str) {}
    /// A checkpoint of the last step is about to be saved.
    fn saving(&mut self) {}
    /// Text that the trained model wrote.
    fn sample(&mut self, _text: &str) {}
    /// A few words that the model in training wrote after a step: at a tenth and at half of the run.
    fn sample_at(&mut self, _step: u64, _text: &str) {}
}

/// Nobody looks.
impl Observer for () {}
