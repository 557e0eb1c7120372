//! loom: each interleaving up to a bound on preemptions.

use crate::{say, test_name};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Explores `run` with up to two preemptions in each interleaving (`LOOM_MAX_PREEMPTIONS` raises
/// that), and prints under how many interleavings it held.
///
/// There is no cap on their number or on time, so a model that returns has been explored; a model
/// that branches without end panics.
///
/// # Panics
/// When a cap is asked for (`LOOM_MAX_PERMUTATIONS`, `LOOM_MAX_DURATION`): loom would stop there
/// without a word.
pub fn model(run: impl Fn() + Sync + Send + 'static) {
    explore(2, run);
}

/// [`model`] with one preemption, for shapes of three threads and more, which take minutes with two.
pub fn wide_model(run: impl Fn() + Sync + Send + 'static) {
    explore(1, run);
}

/// [`model`] with three preemptions, for a few steps that the model plays itself: some windows open
/// only where three things happen in them.
pub fn deep_model(run: impl Fn() + Sync + Send + 'static) {
    explore(3, run);
}

fn explore(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let capped = builder.max_permutations.is_some() || builder.max_duration.is_some();
    assert!(!capped, "a capped run proves nothing: unset LOOM_MAX_PERMUTATIONS, LOOM_MAX_DURATION");
    let bound = builder.preemption_bound.unwrap_or(0).max(preemptions);
    builder.preemption_bound = Some(bound);
    builder.max_branches = 10_000;
    let interleavings = Arc::new(AtomicUsize::new(0));
    let counted = interleavings.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        run();
    });
    let (name, held) = (test_name(), interleavings.load(Ordering::Relaxed));
    say(&format!("{name}: {held} interleavings of up to {bound} preemptions"));
}
