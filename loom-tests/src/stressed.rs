//! Real threads, over and over.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Runs `run` a thousand times on real threads.
///
/// # Panics
/// When a round has not ended after a minute: it hangs.
pub fn model(run: impl Fn() + Sync + Send + 'static) {
    stress(1_000, run);
}

/// [`model`]: on real threads there is no bound.
pub fn wide_model(run: impl Fn() + Sync + Send + 'static) {
    stress(1_000, run);
}

/// [`model`] for a dozen threads and more, fewer times.
pub fn crowd(run: impl Fn() + Sync + Send + 'static) {
    stress(100, run);
}

/// Now and then keeps the calling thread from going on: mostly not at all, else for a moment, else
/// for long enough that the others go to sleep.
pub fn pause() {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    let random = STATE.with(|state| {
        if state.get() == 0 {
            // Each thread draws from a place of its own.
            state.set(std::ptr::from_ref(state).addr() as u64 | 1);
        }
        // Marsaglia's xorshift64.
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x >> 32
    });
    match random % 16 {
        0 => std::thread::sleep(Duration::from_micros(random % 200)),
        1..4 => std::thread::yield_now(),
        _ => {}
    }
}

fn stress(rounds: usize, run: impl Fn() + Sync + Send + 'static) {
    // No channel: the standard library comes without a sanitizer's instrumentation, and parts of a
    // channel are compiled into it.
    let round = Arc::new(AtomicUsize::new(0));
    let caller = std::thread::current();
    let runs = std::thread::spawn({
        let round = round.clone();
        move || {
            for _ in 0..rounds {
                run();
                round.fetch_add(1, Ordering::Relaxed);
            }
            caller.unpark();
        }
    });
    let (mut seen, mut since) = (0, Instant::now());
    while !runs.is_finished() {
        std::thread::park_timeout(Duration::from_millis(10));
        let now = round.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < Duration::from_secs(60), "round {now} hangs");
    }
    if let Err(payload) = runs.join() {
        std::panic::resume_unwind(payload);
    }
}
