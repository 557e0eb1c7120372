//! Whole pipelines, as small as can fail: every run must end, in order and with balanced books.

#![expect(clippy::unwrap_used, reason = "a run that fails is a failed test")]

#[cfg(not(loom))]
use crate::support::Last;
use crate::support::spawn;
use loom_tests::{model, wide_model};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use twelvefold::engine::pipeline::{Bell, Pipeline, Placement, Pull, Report, RunError};
use twelvefold::sync::{Arc, AtomicBool, Ordering};

/// What reached the sink.
type Seen = Arc<Mutex<Vec<u32>>>;

fn seen_by(seen: &Seen) -> impl FnMut(u32) + Send + 'static {
    let seen = seen.clone();
    move |item| seen.lock().unwrap().push(item)
}

fn check(result: Result<Report, RunError>, seen: &Seen, expected: &[u32]) {
    let report = result.unwrap();
    assert!(report.ledger.balances && !report.cancelled);
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// One token goes round: the source sleeps for room, the sink for items, and each wakes the other.
#[test]
fn a_thread_for_the_source_and_one_for_the_sink_wake_each_other() {
    wide_model(|| {
        let seen = Seen::default();
        let run = Pipeline::from_iter("source", 0..2)
            .sink("sink", seen_by(&seen))
            .in_flight(1)
            .placement(Placement::ThreadPerStage)
            .run();
        check(run, &seen, &[0, 1]);
    });
}

/// One thread steps everything: nothing is left lying between two of its stages.
#[cfg(not(shuttle))] // Its schedulers want two threads.
#[test]
fn one_thread_carries_every_item_to_the_sink() {
    wide_model(|| {
        let seen = Seen::default();
        let built = Pipeline::from_iter("source", 0..2).map("map", |item| item + 1);
        let run = built.sink("sink", seen_by(&seen)).threads(1).run();
        check(run, &seen, &[1, 2]);
    });
}

/// Three stages, three threads, one token: more states than loom gets through.
#[cfg(not(loom))]
#[test]
fn a_token_that_goes_round_three_threads_is_never_lost() {
    wide_model(|| {
        let seen = Seen::default();
        let run = Pipeline::from_iter("source", 0..1)
            .map("map", |item| item + 1)
            .workers(1)
            .sink("sink", seen_by(&seen))
            .in_flight(1)
            .placement(Placement::ThreadPerStage)
            .run();
        check(run, &seen, &[1]);
    });
}

/// loom gets through one item where two threads step everything.
const FEW: u32 = if cfg!(loom) { 1 } else { 2 };

/// Both threads step everything: claims are contended, and tokens are taken in turn.
#[test]
fn two_threads_that_step_every_stage_keep_the_order() {
    wide_model(|| {
        let seen = Seen::default();
        let run = Pipeline::from_iter("source", 0..FEW)
            .sink("sink", seen_by(&seen))
            .threads(2)
            .in_flight(2)
            .run();
        check(run, &seen, &Vec::from_iter(0..FEW));
    });
}

/// The same with a stage that both may step at once.
#[test]
fn two_threads_share_a_stage_between_source_and_sink() {
    wide_model(|| {
        let seen = Seen::default();
        let built = Pipeline::from_iter("source", 0..FEW).map("map", |item| item + 1);
        let run = built.sink("sink", seen_by(&seen)).threads(2).in_flight(2).run();
        check(run, &seen, &Vec::from_iter(1..=FEW));
    });
}

/// An edge with room for one batch: the source waits for room that the sink makes.
#[test]
fn a_full_edge_is_waited_for() {
    wide_model(|| {
        let seen = Seen::default();
        let run = Pipeline::from_iter("source", 0..2)
            .capacity(1)
            .sink("sink", seen_by(&seen))
            .in_flight(2)
            .placement(Placement::ThreadPerStage)
            .run();
        check(run, &seen, &[0, 1]);
    });
}

/// More states than loom gets through: in `steps` the end is played.
#[cfg(not(loom))]
#[test]
fn what_a_worker_holds_at_the_end_comes_out() {
    wide_model(|| {
        let seen = Seen::default();
        let run = Pipeline::from_iter("source", 5..6)
            .stage("last", |_| Last(None))
            .sink("sink", seen_by(&seen))
            .threads(2)
            .in_flight(1)
            .run();
        check(run, &seen, &[5]);
    });
}

/// The source says "later, when it rings", and the ring may fall between question and answer.
#[test]
fn a_ring_between_question_and_answer_is_not_lost() {
    wide_model(|| {
        let seen = Seen::default();
        let bell = Arc::new(OnceLock::<Bell>::new());
        // loom does not look at it; nor does the mutant, which loses the ring itself.
        let (arrived, mut given) = (Arc::new(AtomicU32::new(0)), 0);
        let asked = {
            let arrived = arrived.clone();
            move || {
                if arrived.load(SeqCst) < given {
                    return Pull::Later(Duration::MAX);
                }
                given += 1;
                if given > 1 { Pull::End } else { Pull::Item(given) }
            }
        };
        let source = Pipeline::source("source", asked);
        assert!(bell.set(source.bell()).is_ok());
        let mut sink = seen_by(&seen);
        let run = source
            .sink("sink", move |item| {
                sink(item);
                arrived.store(item, SeqCst);
                bell.get().unwrap().ring();
            })
            .in_flight(2)
            .placement(Placement::ThreadPerStage)
            .run();
        check(run, &seen, &[1]);
    });
}

/// The source fails after an item: the item arrives all the same, and then the run ends, whoever sleeps.
#[test]
fn what_a_source_gave_before_it_failed_arrives_and_then_the_run_ends() {
    wide_model(|| {
        let (seen, mut asked) = (Seen::default(), 0);
        let next = move || {
            asked += 1;
            if asked > 1 { Err("planted") } else { Ok(Pull::Item(asked)) }
        };
        let run = Pipeline::try_source("source", next)
            .sink("sink", seen_by(&seen))
            .in_flight(2)
            .placement(Placement::ThreadPerStage)
            .run();
        let Err(RunError::Fault { fault, ledger, .. }) = run else { panic!("the error is lost") };
        assert!(fault.item == Some(1) && ledger.balances);
        assert_eq!(*seen.lock().unwrap(), [1]);
    });
}

/// The last item fails while the other thread works or sleeps; one before it arrives.
#[test]
fn an_error_ends_the_run_with_balanced_books() {
    wide_model(|| {
        let run = Pipeline::from_iter("source", 0..FEW)
            .try_map("map", |item| if item == FEW - 1 { Err("planted") } else { Ok(item) })
            .sink("sink", drop)
            .threads(2)
            .in_flight(2)
            .run();
        let Err(RunError::Fault { fault, ledger, .. }) = run else { panic!("the error is lost") };
        assert!(fault.item == Some(u64::from(FEW - 1)) && ledger.balances);
    });
}

/// A cancel comes from outside, at any moment, also before the run; the source waits for a ring that
/// never comes.
#[test]
fn a_cancel_wakes_a_run_that_sleeps() {
    model(|| {
        let source = Pipeline::source("source", || Pull::<u32>::Later(Duration::MAX));
        let pipeline = source.sink("sink", drop).threads(1);
        let canceller = pipeline.canceller();
        let outside = spawn(move || canceller.cancel());
        let report = pipeline.run().unwrap();
        outside.join().unwrap();
        assert!(report.cancelled && report.ledger.balances);
    });
}

/// A ring comes from outside, at any moment, also before the run. The source then sees what it is for,
/// even if that was written without any order of its own.
#[test]
fn a_ring_brings_what_it_is_for() {
    model(|| {
        let over = Arc::new(AtomicBool::new(false));
        let source = Pipeline::source("source", {
            let over = over.clone();
            move || {
                let over = over.load(Ordering::Relaxed);
                if over { Pull::End } else { Pull::<u32>::Later(Duration::MAX) }
            }
        });
        let bell = source.bell();
        let pipeline = source.sink("sink", drop).threads(1);
        let outside = spawn(move || {
            over.store(true, Ordering::Relaxed);
            bell.ring();
        });
        assert_eq!(pipeline.run().unwrap().items, 0);
        outside.join().unwrap();
    });
}

/// Somebody looks while items pass.
#[test]
fn no_snapshot_shows_more_out_than_in() {
    wide_model(|| {
        let pipeline = Pipeline::from_iter("source", 0..1).sink("sink", drop).in_flight(1);
        let pipeline = pipeline.threads(1);
        let watch = pipeline.watch();
        let observer = spawn(move || {
            let snapshot = watch.snapshot();
            assert!(snapshot.edges.iter().all(|edge| edge.made >= edge.taken), "{snapshot:?}");
            let mut workers = snapshot.stages.iter().flat_map(|stage| &stage.workers);
            assert!(workers.all(|worker| worker.taken >= worker.finished), "{snapshot:?}");
        });
        assert!(pipeline.run().unwrap().ledger.balances);
        observer.join().unwrap();
    });
}
