//! How a pipeline ends before its time: faults and cancels anywhere, by the thousand and one by one.

#![expect(clippy::unwrap_used, reason = "a lock or a list that fails is a failed test")]

#[expect(dead_code, reason = "quiet panics of another kind")]
#[path = "common/chance.rs"]
mod chance;
#[path = "common/injection.rs"]
mod injection;
#[path = "common/watchdog.rs"]
mod watchdog;

use chance::{Rng, spin};
use injection::{Case, Ended, quiet_planted_panics};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use twelvefold::engine::pipeline::{Canceller, Pipeline, Placement, Pull, RunError, Watch};
use watchdog::watchdog;

const PLACEMENTS: [Placement; 2] = [Placement::Cooperative, Placement::ThreadPerStage];

/// Names the seed of a case that fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "seed {}", self.0);
        }
    }
}

/// See [`Case`] for what is chosen, and [`Case::check`] for what is required.
#[test]
fn whatever_fails_wherever_the_run_ends_and_says_so_and_nothing_is_lost() {
    let _watchdog = watchdog("injections");
    quiet_planted_panics();
    let mut ended = BTreeMap::new();
    for seed in 0..10_000 {
        let _told = Told(seed);
        let case = Case::new(&mut Rng(seed));
        *ended.entry(case.run_and_check()).or_insert(0) += 1;
    }
    // Chance has been everywhere.
    for end in Ended::ALL {
        assert!(ended.get(&end).is_some_and(|&n| n > 100), "{end:?}: {ended:?}");
    }
}

/// Both may be met first; only one of them is what a loop over the items would have met.
#[test]
fn an_item_that_fails_further_down_is_not_hidden_by_a_later_one_further_up() {
    let _watchdog = watchdog("further down");
    for placement in PLACEMENTS {
        for threads in [1, 2, 4] {
            for (in_flight, late) in [(1, 4), (7, 4), (100, 4), (1_000, 60)] {
                for source_fails in [false, true] {
                    let (mut next, mut seen) = (0u64, Vec::new());
                    let pipeline = Pipeline::try_source("source", || {
                        next += 1;
                        match next - 1 {
                            n if n == late && source_fails => Err("too late"),
                            200 => Ok(Pull::End),
                            n => Ok(Pull::Item(n)),
                        }
                    });
                    let result = pipeline
                        .try_map("map", |n| if n == late { Err("too late") } else { Ok(n) })
                        .map("pass", |n| n)
                        .try_sink("sink", |n| {
                            if n == 3 {
                                return Err("first of all");
                            }
                            seen.push(n);
                            Ok(())
                        })
                        .threads(threads)
                        .in_flight(in_flight)
                        .placement(placement)
                        .run();
                    let Err(RunError::Fault { fault, ledger, .. }) = result else {
                        panic!("the fault is lost");
                    };
                    let text = "stage sink, worker 0, failed at item 3: first of all";
                    let worker = fault.worker;
                    let text = text.replace("worker 0", &format!("worker {worker}"));
                    assert_eq!(fault.to_string(), text, "{placement:?} {threads} {in_flight}");
                    assert_eq!(seen, [0, 1, 2]);
                    assert!(ledger.balances);
                }
            }
        }
    }
}

/// Waits for what another thread does; the watchdog ends a wait in vain.
fn until(ready: impl Fn() -> bool) {
    while !ready() {
        std::thread::yield_now();
    }
}

/// An item has arrived, and everybody has gone to sleep.
fn is_asleep(watch: &Watch) -> bool {
    let now = watch.snapshot();
    let arrived = now.stages.last().is_some_and(|sink| sink.total().finished == 1);
    arrived && now.threads.iter().all(|thread| thread.sleeps > 0)
}

#[test]
fn a_cancel_while_every_edge_is_full_ends_the_run() {
    let _watchdog = watchdog("full edges");
    for placement in PLACEMENTS {
        let (begun, released, mut seen) = (AtomicBool::new(false), AtomicBool::new(false), 0);
        let mut next = 0;
        // The room that the sink made is told when its step ends: the edge before it fills once more only
        // because nobody has seen it full.
        let numbers = || match next > 0 && !begun.load(Ordering::SeqCst) {
            true => Pull::Later(Duration::from_millis(1)),
            false => {
                next += 1;
                Pull::Item(next)
            }
        };
        let pipeline = Pipeline::source("numbers", numbers)
            .capacity(1)
            .map("pass", |n: u64| n)
            .capacity(1)
            .map_in_turn("again", |n| n)
            .capacity(1)
            .sink("stuck", |_| {
                seen += 1;
                begun.store(true, Ordering::SeqCst);
                until(|| released.load(Ordering::SeqCst));
            })
            .threads(2)
            .placement(placement);
        let (canceller, watch) = (pipeline.canceller(), pipeline.watch());
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                let full = || {
                    let edges = watch.snapshot().edges;
                    !edges.is_empty() && edges.iter().all(|edge| edge.depth == 1)
                };
                until(|| begun.load(Ordering::SeqCst));
                until(full);
                canceller.cancel();
                canceller.cancel();
                released.store(true, Ordering::SeqCst);
            });
            pipeline.run().unwrap()
        });
        assert!(report.cancelled && report.ledger.balances);
        assert_eq!(seen, 1, "{placement:?}");
        let left: Vec<u64> = report.ledger.flow.edges.iter().map(|edge| edge.abandoned).collect();
        assert_eq!(left, [1, 1, 1], "what the full edges held");
    }
}

#[test]
fn a_cancel_while_the_source_has_nothing_for_now_ends_the_run() {
    let _watchdog = watchdog("a source that waits");
    for placement in PLACEMENTS {
        for wait in [Duration::MAX, Duration::from_secs(3_600)] {
            let mut given = false;
            let pipeline = Pipeline::source("later", || {
                if std::mem::replace(&mut given, true) { Pull::Later(wait) } else { Pull::Item(7) }
            })
            .map("pass", |n| n)
            .sink("drop", drop)
            .threads(2)
            .placement(placement);
            let (canceller, watch) = (pipeline.canceller(), pipeline.watch());
            let report = std::thread::scope(|scope| {
                scope.spawn(|| {
                    until(|| is_asleep(&watch));
                    canceller.cancel();
                });
                pipeline.run().unwrap()
            });
            assert!(report.cancelled && report.items == 1 && report.ledger.balances);
            assert_eq!(report.ledger.flow.stages[2].total().finished, 1);
        }
    }
}

/// Asks for itself whether the run is to end, by a cancel or by a fault of the item that it gave.
#[test]
fn a_source_that_waits_in_a_loop_of_its_own_learns_of_the_end() {
    let _watchdog = watchdog("a source that polls");
    for (placement, by_fault) in [(0, true), (0, false), (1, true), (1, false)] {
        let (token, mut given) = (OnceLock::<Canceller>::new(), false);
        let waits = AtomicBool::new(false);
        let pipeline = Pipeline::source("poll", || {
            if !std::mem::replace(&mut given, true) {
                return Pull::Item(7);
            }
            waits.store(true, Ordering::SeqCst);
            until(|| token.get().unwrap().is_stopped());
            Pull::End
        })
        .blocking()
        .try_map("fail", |n| if by_fault { Err("no floor") } else { Ok(n) })
        .sink("drop", drop)
        .threads(1)
        .placement(PLACEMENTS[placement]);
        assert!(token.set(pipeline.canceller()).is_ok());
        let canceller = pipeline.canceller();
        assert!(!canceller.is_stopped());
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                until(|| waits.load(Ordering::SeqCst));
                if !by_fault {
                    canceller.cancel();
                }
            });
            pipeline.run()
        });
        match result {
            Ok(report) => assert!(!by_fault && report.ledger.balances),
            Err(error) => {
                assert!(by_fault);
                assert!(error.to_string().ends_with("failed at item 0: no floor"), "{error}");
            }
        }
    }
}

#[test]
fn a_cancel_before_the_run_lets_nothing_begin() {
    let _watchdog = watchdog("cancelled before");
    for placement in PLACEMENTS {
        let asked = AtomicU64::new(0);
        let pipeline = Pipeline::source("never", || {
            asked.fetch_add(1, Ordering::SeqCst);
            Pull::Item(0)
        })
        .map_with("map", |_| panic!("made in vain"), |(), n: u64| n)
        .sink("drop", drop)
        .placement(placement);
        pipeline.canceller().cancel();
        pipeline.canceller().cancel();
        let report = pipeline.run().unwrap();
        assert!(report.cancelled && report.items == 0 && report.ledger.balances);
        assert_eq!(asked.into_inner(), 0);
    }
}

#[test]
fn a_pipeline_that_never_runs_drops_what_it_was_given() {
    let (items, state) = (std::sync::Arc::new(()), std::sync::Arc::new(()));
    let (given, held) = (vec![items.clone(); 3], state.clone());
    let pipeline = Pipeline::from_iter("three", given)
        .map("pass", move |n| (n, held.clone()).0)
        .sink("drop", drop);
    assert_eq!(std::sync::Arc::strong_count(&items), 4);
    drop(pipeline);
    assert_eq!(std::sync::Arc::strong_count(&items), 1);
    assert_eq!(std::sync::Arc::strong_count(&state), 1);
}

/// Whatever stage a thread is at: it looks before each item, so a cancel that has returned lets it begin
/// one at most, which it had already looked for.
#[test]
fn after_a_cancel_no_worker_begins_more_than_one_item() {
    let _watchdog = watchdog("one item a worker");
    for placement in PLACEMENTS {
        for threads in [1, 2, 4] {
            for at in [0, 1, 50, 333] {
                let cancelled = AtomicBool::new(false);
                let begun_late = Mutex::new(BTreeMap::new());
                // Each takes long enough that a worker looks before every one.
                let begin = || {
                    if cancelled.load(Ordering::SeqCst) {
                        let thread = format!("{:?}", std::thread::current().id());
                        *begun_late.lock().unwrap().entry(thread).or_insert(0) += 1;
                    }
                    spin(1_000);
                };
                let token = OnceLock::<Canceller>::new();
                let source = (0..u64::MAX).inspect(|_| begin());
                let pipeline = Pipeline::from_iter("numbers", source)
                    .map("map", |n| {
                        begin();
                        if n == at {
                            token.get().unwrap().cancel();
                            cancelled.store(true, Ordering::SeqCst);
                        }
                        n
                    })
                    .flat_map("fan", |n, out| {
                        begin();
                        out.send(n);
                    })
                    .sink("drop", |_| begin())
                    .threads(threads)
                    .in_flight(64)
                    .placement(placement);
                assert!(token.set(pipeline.canceller()).is_ok());
                let report = pipeline.run().unwrap();
                assert!(report.cancelled && report.ledger.balances);
                let late = begun_late.into_inner().unwrap();
                assert!(late.values().all(|&n| n <= 1), "{placement:?} {threads} {at}: {late:?}");
            }
        }
    }
}
