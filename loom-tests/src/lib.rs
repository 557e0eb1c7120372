//! One `model` shim for the models of the protocol, whoever runs them.
//!
//! | run by          | a model is                                                                   |
//! |-----------------|------------------------------------------------------------------------------|
//! | `cargo loom`    | explored exhaustively, up to a bound on preemptions                          |
//! | `cargo shuttle` | run under some thousand schedules drawn at random, sequentially consistent   |
//! | `cargo test`    | run a thousand times on real threads and real queues; so, under a sanitizer  |
//!
//! [`model`] is for two threads or three, [`wide_model`] for shapes in which loom affords one
//! preemption less, `deep_model` for steps that a model plays one by one, and `crowd` for a dozen
//! threads and more, which loom cannot have.

#[cfg(all(feature = "model-checking", not(any(loom, shuttle))))]
compile_error!(
    "`--cfg loom` or `--cfg shuttle` got lost: an environment variable RUSTFLAGS or a target's \
     rustflags replaced the flags of the alias; unset it and run the alias again"
);

#[cfg(loom)]
mod explored;
#[cfg(shuttle)]
mod scheduled;
#[cfg(not(any(loom, shuttle)))]
mod stressed;

#[cfg(loom)]
pub use explored::{deep_model, model, wide_model};
#[cfg(shuttle)]
pub use scheduled::{crowd, deep_model, model, pause, wide_model};
#[cfg(not(any(loom, shuttle)))]
pub use stressed::{crowd, model, pause, wide_model};

/// Past the test harness, which would swallow the line of a test that passes.
pub fn say(line: &str) {
    use std::io::Write;
    // Without anybody to read it the receipt is not needed.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The name of the test that the calling thread runs.
#[cfg(any(loom, shuttle))]
fn test_name() -> String {
    std::thread::current().name().unwrap_or("model").to_owned()
}
