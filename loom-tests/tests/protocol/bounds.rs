//! What the shim itself promises: no run that was cut short passes for a proof.

#[cfg(loom)]
use crate::child::{Verdict, run};
use crate::support::spawn;
use loom_tests::model;
use twelvefold::sync::{Arc, AtomicUsize, Ordering};

/// Two threads, one access each: small enough for any bound.
#[test]
fn two_threads_meet() {
    model(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let other = spawn({
            let count = count.clone();
            move || count.fetch_add(1, Ordering::Relaxed)
        });
        let mine = count.fetch_add(1, Ordering::Relaxed);
        assert_eq!(mine + other.join().unwrap(), 1);
    });
}

/// It would return after one interleaving and look like a proof.
#[cfg(loom)]
#[test]
fn a_capped_run_fails() {
    for cap in ["LOOM_MAX_PERMUTATIONS", "LOOM_MAX_DURATION"] {
        let (verdict, said) = run("bounds::two_threads_meet", &[(cap, "1")]);
        assert_eq!(verdict, Verdict::Fails);
        assert!(said.contains("a capped run proves nothing"), "{said}");
    }
}

/// The variable raises a bound and lowers none.
#[cfg(loom)]
#[test]
fn the_bound_on_preemptions_is_raised_and_never_lowered() {
    for (asked, used) in [("1", 2), ("3", 3)] {
        let (verdict, said) = run("bounds::two_threads_meet", &[("LOOM_MAX_PREEMPTIONS", asked)]);
        assert_eq!(verdict, Verdict::Holds);
        assert!(said.contains(&format!("interleavings of up to {used} preemptions")), "{said}");
    }
}

/// A thread that waits for what never comes without going to sleep.
#[cfg(any(loom, shuttle))]
#[test]
#[cfg_attr(loom, should_panic(expected = "exceeded maximum number of branches"))]
#[cfg_attr(shuttle, should_panic(expected = "exceeded max_steps"))]
fn a_model_without_end_fails() {
    model(|| {
        let never = Arc::new(AtomicUsize::new(0));
        while never.load(Ordering::Relaxed) == 0 {
            twelvefold::sync::yield_now();
        }
    });
}
