//! One `model` shim for the loom models and their stress twins.
//!
//! Under `cargo loom` a model is explored exhaustively up to a bound on preemptions; in a plain
//! `cargo test` the same closure runs a thousand times on real threads and real queues.

#[cfg(all(feature = "model-checking", not(loom)))]
compile_error!(
    "`--cfg loom` got lost: an environment variable RUSTFLAGS or a target's rustflags replaced the \
     flags of the alias; unset it and run `cargo loom` again"
);

/// Explores `run` with up to two preemptions in each interleaving (`LOOM_MAX_PREEMPTIONS` changes
/// that), and prints under how many interleavings it held.
///
/// There is no cap on their number or on time, so a model that returns has been explored; a model
/// that branches without end panics.
#[cfg(loom)]
pub fn model(run: impl Fn() + Sync + Send + 'static) {
    explore(2, run);
}

/// [`model`] with one preemption, for shapes of three threads and more, which take minutes with two.
#[cfg(loom)]
pub fn wide_model(run: impl Fn() + Sync + Send + 'static) {
    explore(1, run);
}

#[cfg(loom)]
fn explore(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.max_branches = 10_000;
    let interleavings = Arc::new(AtomicUsize::new(0));
    let counted = interleavings.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        run();
    });
    let name = std::thread::current().name().unwrap_or("model").to_owned();
    say(&format!("{name}: {} interleavings", interleavings.load(Ordering::Relaxed)));
}

/// Runs `run` over and over on real threads.
///
/// # Panics
/// When a round has not ended after a minute: it hangs.
#[cfg(not(loom))]
pub fn model(run: impl Fn() + Sync + Send + 'static) {
    const ROUNDS: usize = 1_000;
    let (done, ended) = std::sync::mpsc::channel();
    let rounds = std::thread::spawn(move || {
        for round in 0..ROUNDS {
            run();
            if done.send(round).is_err() {
                return;
            }
        }
    });
    for _ in 0..ROUNDS {
        match ended.recv_timeout(std::time::Duration::from_secs(60)) {
            Ok(_) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("a round hangs"),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Err(payload) = rounds.join() {
        std::panic::resume_unwind(payload);
    }
}

/// [`model`]: on real threads there is no bound.
#[cfg(not(loom))]
pub fn wide_model(run: impl Fn() + Sync + Send + 'static) {
    model(run);
}

/// Past the test harness, which would swallow the line of a test that passes.
#[cfg(loom)]
fn say(line: &str) {
    use std::io::Write;
    // Without anybody to read it the receipt is not needed.
    let _ = writeln!(std::io::stdout(), "{line}");
}
