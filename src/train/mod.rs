//! The run: stages, schedule, validation, checkpoint, sampling.
//!
//! [`run()`] wires the stages and the spheres together and is the control sphere. The rest is what it
//! is made of.

mod batch;
mod cancel;
pub mod checkpoint;
mod checkpoints;
pub mod explain;
pub mod export;
mod feed;
pub mod files;
mod finish;
mod gauges;
mod inputs;
pub mod inspect;
mod lines;
pub mod options;
mod outcome;
mod ranges;
mod receive;
mod records;
mod resume;
mod run;
pub mod safetensors;
pub mod sample;
mod saver;
pub mod schedule;
mod snapshot;
mod stages;
mod standing;
mod step_log;
#[cfg(test)]
mod tests;
mod training;

pub use cancel::Cancel;
pub use options::Options;
pub use run::run;
