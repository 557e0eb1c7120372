//! The run: stages, schedule, validation, checkpoint, sampling.
//!
//! [`run()`] wires the stages and the spheres together and is the control sphere. The rest is what it
//! is made of.

mod ahead;
mod batch;
mod cancel;
pub mod checkpoint;
mod checkpoints;
mod endpoint;
pub mod evaluate;
mod event_log;
pub mod explain;
pub mod export;
mod feed;
pub mod files;
mod finish;
mod first;
mod gauges;
pub mod generate;
mod http;
mod init;
mod inputs;
pub mod inspect;
mod lines;
pub mod model;
pub mod options;
mod outcome;
pub mod page;
mod ranges;
mod ranks;
#[cfg(all(test, feature = "mpi"))]
mod ranks_tests;
mod receive;
mod records;
mod resume;
mod run;
mod run_log;
pub mod safetensors;
pub mod sample;
mod save;
mod saver;
pub mod schedule;
mod shape;
mod snapshot;
mod stages;
mod standing;
mod step_log;
#[cfg(test)]
mod tests;
mod tracer;
mod training;
mod weights;

pub use cancel::Cancel;
pub use options::Options;
pub use ranks::{run_among, run_as_rank, verdict_of};
pub use run::run;
