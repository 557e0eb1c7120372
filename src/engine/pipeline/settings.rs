//! How a pipeline runs: who steps its stages, with how much at once, and what an error does.

use crate::sync::cores;

/// Who steps the stages.
///
/// ```
/// use twelvefold::engine::pipeline::{Pipeline, Placement};
///
/// let threads = |placement| {
///     let pipeline = Pipeline::from_iter("numbers", 0..9).map("half", |n| n / 2).workers(3);
///     let run = pipeline.sink("drop", drop).threads(3).placement(placement).run();
///     run.map(|report| report.ledger.flow.threads.len())
/// };
/// assert_eq!(threads(Placement::Cooperative)?, 3);
/// assert_eq!(threads(Placement::ThreadPerStage)?, 1 + 3 + 1);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Placement {
    /// Every thread steps whichever stage is ready; as many threads as cores, unless told otherwise.
    #[default]
    Cooperative,
    /// Each worker of each stage has a thread of its own.
    ThreadPerStage,
}

/// What an error of a stage does. A panic always ends the run, and so does whatever fails in the source
/// or at a stage's beginning or end.
///
/// ```
/// use twelvefold::engine::pipeline::{OnError, Pipeline};
///
/// let parse = || Pipeline::from_iter("lines", ["1", "x"]).try_map("parse", str::parse::<u32>);
/// assert!(parse().sink("drop", drop).run().is_err());
/// let report = parse().sink("drop", drop).on_error(OnError::Collect(10)).run()?;
/// assert_eq!((report.failed, report.failures[0].item), (1, Some(1)));
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// It ends the run. In order, the items before it still go to the sink, and one that fails on the
    /// way takes its place.
    #[default]
    Stop,
    /// The item counts as failed and the run goes on; the report keeps so many errors.
    Collect(usize),
}

/// How a pipeline runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) threads: usize,
    pub(super) in_flight: usize,
    pub(super) placement: Placement,
    pub(super) on_error: OnError,
    pub(super) pin: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            threads: cores(),
            in_flight: 4096,
            placement: Placement::Cooperative,
            on_error: OnError::Stop,
            pin: false,
        }
    }
}
