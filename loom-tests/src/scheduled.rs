//! shuttle: schedules drawn at random, and sequential consistency only.
//!
//! A failure prints the run's seed and the failing schedule. Either runs that failure again:
//! `SHUTTLE_RANDOM_SEED=seed` or `TWELVEFOLD_SCHEDULE=schedule` before `cargo shuttle name`.

#![expect(clippy::print_stderr, reason = "a failing test shows its seed")]

use crate::{say, test_name};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// Preemptions that PCT places in one run.
const DEPTH: usize = 4;

/// Runs `run` under a thousand random walks and a thousand PCT schedules.
///
/// A run that deadlocks fails, and so does one of more than a million steps.
pub fn model(run: impl Fn() + Sync + Send + 'static) {
    walk(1_000, run);
}

/// [`model`]: shuttle has no bound that would differ.
pub fn wide_model(run: impl Fn() + Sync + Send + 'static) {
    walk(1_000, run);
}

/// [`model`]: as above.
pub fn deep_model(run: impl Fn() + Sync + Send + 'static) {
    walk(1_000, run);
}

/// [`model`] for a dozen threads and more, under twice as many schedules.
pub fn crowd(run: impl Fn() + Sync + Send + 'static) {
    walk(2_000, run);
}

/// A place where a stress run pauses at random; here every access is such a place.
pub fn pause() {}

fn walk(schedules: usize, run: impl Fn() + Sync + Send + 'static) {
    let run = Arc::new(run);
    if let Ok(schedule) = std::env::var("TWELVEFOLD_SCHEDULE") {
        return shuttle::replay(move || run(), schedule.trim());
    }
    // The schedulers would take the variable too; here it is known, and printed.
    let seed = match std::env::var("SHUTTLE_RANDOM_SEED") {
        Ok(seed) => seed.parse().expect("SHUTTLE_RANDOM_SEED is a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    // Seen where the test fails.
    eprintln!("SHUTTLE_RANDOM_SEED={seed}");
    let held = check(RandomScheduler::new_from_seed(seed, schedules), run.clone())
        + check(PctScheduler::new_from_seed(seed, DEPTH, schedules), run);
    say(&format!("{}: {held} schedules from seed {seed}", test_name()));
}

fn check(
    scheduler: impl Scheduler + 'static,
    run: Arc<impl Fn() + Sync + Send + 'static>,
) -> usize {
    let mut config = Config::new();
    // That it takes each ordering for SeqCst is known, and said in DESIGN.md.
    config.silence_warnings = true;
    config.stack_size = 1 << 18;
    Runner::new(scheduler, config).run(move || run())
}
