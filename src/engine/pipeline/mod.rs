//! A pipeline of typed stages for any items: source, stages, sink.
//!
//! ```
//! use twelvefold::engine::pipeline::Pipeline;
//!
//! let mut total = 0;
//! let report = Pipeline::from_iter("numbers", 1..=1_000u64)
//!     .map("square", |x| x * x) // On every core, and the order is kept.
//!     .sink("sum", |x| total += x)
//!     .run()?;
//! assert_eq!((total, report.items), (333_833_500, 1_000));
//! # Ok::<(), twelvefold::engine::pipeline::RunError>(())
//! ```
//!
//! Items travel in batches, each in a *token* that goes from the source to the sink and back. Threads
//! are not bound to stages: each steps whichever stage is ready, the one furthest down first, so that
//! one thread carries a batch through the pipeline while it is warm, and a stage that needs time is
//! worked on by all. How large a batch is follows from what the items cost.
//!
//! | promise | by |
//! |---|---|
//! | output order is input order, unless [`Builder::unordered`] | positions on each edge: [`Track`](self) |
//! | every item is worked on once, or counted as failed or abandoned | the ledger in [`Report`] and [`RunError`] |
//! | bounded memory | [`Pipeline::in_flight`], [`Builder::capacity`] |
//! | a panic or an error anywhere ends the run with the item's number | [`RunError::Fault`] |
//! | in order, that is the lowest item that fails; the sink has had what comes before it, no more | the cutoff, a position: [`cutoff`](self) |
//! | a cancel ends it after the items at hand | [`Canceller`] |
//! | nothing is held back when the source has nothing for now | [`Pull::Later`] |

mod batch;
mod begin;
mod builder;
mod claim;
mod core;
mod cutoff;
mod drive;
mod gate;
mod handles;
mod meter;
mod node;
mod observe;
#[cfg(any(loom, shuttle))]
#[doc(hidden)]
pub mod parts;
mod report;
mod run;
mod settings;
mod source;
mod track;
mod work;

pub use builder::Builder;
pub use handles::{Bell, Canceller, Watch};
pub use report::{
    EdgeFlow, Failure, Ledger, Report, RunError, Snapshot, StageFlow, ThreadFlow, WorkerCount,
};
pub use run::Pipeline;
pub use settings::{OnError, Placement};
pub use source::Pull;
pub use work::{Out, Stage};
