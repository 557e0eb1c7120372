//! The pipeline's threads played step by step: what happens between a thread's last look and its
//! sleep, and other windows that whole threads come to in too many ways.
//!
//! Under a model checker only, where a pipeline can be taken apart. On real threads `tests/pipeline.rs`
//! and its neighbours run through the same windows.

use crate::support::{Last, Plain, spawn};
use loom_tests::{deep_model, model, wide_model};
use twelvefold::engine::pipeline::parts::{Bench, Meter, Seat};
use twelvefold::engine::pipeline::{Pipeline, Placement};
use twelvefold::sync::{Arc, yield_now};

/// Two threads may step everything. Thread 1 looks at `stage` for the last time before it sleeps, while
/// thread 0 plays, and then does the same. If both sleep the stage must not be ready.
fn nobody_sleeps_on(
    stage: usize,
    bench: &Bench,
    play: impl FnOnce(&mut Seat<'_>) + Send + 'static,
) {
    let [first, second] = [bench.clone(), bench.clone()];
    let looks = spawn(move || second.seat(1, |seat| seat.last_look(stage)));
    let plays = spawn(move || {
        first.seat(0, |seat| {
            play(seat);
            seat.last_look(stage)
        })
    });
    looks.join().unwrap();
    plays.join().unwrap();
    assert!(bench.asleep() < 2 || !bench.is_ready(stage), "all sleep, and stage {stage} is ready");
}

/// Thread 1 finds an item at the sink, and comes too late for it. While it has the sink the next item
/// comes, and thread 0 passes the sink because of that.
#[test]
fn a_sink_claimed_in_vain_is_looked_at_again() {
    deep_model(|| {
        let built = Pipeline::from_iter("source", 0..2).sink("sink", drop);
        let bench = Bench::new(built.in_flight(2).threads(2));
        bench.seat(0, |seat| assert!(seat.step(0)));
        nobody_sleeps_on(1, &bench, |seat| {
            seat.step(1);
            seat.step(0);
        });
    });
}

/// The edge behind the map has room for one batch. Thread 1 reserves it for an item that it comes too late
/// for; thread 0 finds no room for the next one.
#[test]
fn room_reserved_in_vain_is_looked_at_again() {
    deep_model(|| {
        let built = Pipeline::from_iter("source", 0..2).map("map", |item| item).capacity(1);
        let bench = Bench::new(built.sink("sink", drop).in_flight(2).threads(2));
        bench.seat(0, |seat| assert!(seat.step(0)));
        nobody_sleeps_on(1, &bench, |seat| {
            seat.step(1);
            seat.step(2);
            seat.step(0);
        });
    });
}

/// Thread 1 wants the source to give an item, and thread 0 takes the only token for that. While thread 1
/// has the source the token comes back, and thread 0 passes the source because of that.
#[test]
fn a_source_claimed_in_vain_is_looked_at_again() {
    deep_model(|| {
        let built = Pipeline::from_iter("source", 0..2).sink("sink", drop);
        let bench = Bench::new(built.in_flight(1).threads(2));
        nobody_sleeps_on(0, &bench, |seat| {
            seat.step(0);
            seat.step(1);
        });
    });
}

/// Each worker says goodbye once the last item has been taken. One takes it, and with it the room behind
/// the stage, while the source ends on the other thread, which then goes to sleep.
#[test]
fn who_sleeps_when_the_last_item_is_taken_says_goodbye() {
    deep_model(|| {
        let built = Pipeline::from_iter("source", 0..1).stage("last", |_| Last(None)).capacity(1);
        let bench = Bench::new(built.sink("sink", drop).in_flight(2).threads(2));
        bench.seat(0, |seat| assert!(seat.step(0)));
        let [first, second] = [bench.clone(), bench.clone()];
        let takes = spawn(move || first.seat(1, |seat| seat.step(1)));
        let ends = spawn(move || {
            second.seat(0, |seat| {
                seat.step(0);
                seat.last_look(1)
            })
        });
        takes.join().unwrap();
        assert!(ends.join().unwrap() || bench.asleep() == 0, "it sleeps for ever");
    });
}

/// The source puts an item in only when the sink is done with the one that made room for it.
#[test]
fn what_the_sink_did_with_an_item_comes_before_the_room_that_it_leaves() {
    model(|| {
        let cell = Plain::shared();
        let built = Pipeline::from_iter("source", 0..2).sink("sink", {
            let cell = cell.clone();
            move |_| cell.add(1)
        });
        let bench = Bench::new(built.in_flight(1).threads(2));
        bench.seat(0, |seat| assert!(seat.step(0)));
        let sink = spawn({
            let bench = bench.clone();
            move || bench.seat(1, |seat| assert!(seat.step(1)))
        });
        if bench.room() > 0 {
            assert_eq!(cell.get(), 1);
        }
        sink.join().unwrap();
    });
}

/// A worker on its way to sleep finds an item by itself, and another one goes to sleep. The source spends
/// the wake for the next item on the first: it passes that on before it begins, since its own item may
/// take long.
#[test]
fn a_wake_spent_on_a_worker_that_is_busy_goes_to_one_that_sleeps() {
    deep_model(|| {
        let built = Pipeline::from_iter("source", 0..2).map("map", |item| item).workers(2);
        let built = built.sink("sink", drop).in_flight(2);
        let bench = Bench::new(built.placement(Placement::ThreadPerStage));
        bench.seat(0, |seat| assert!(seat.step(0)));
        // Until it has an item or sleeps: how many it has.
        let works = |seat: &mut Seat<'_>| {
            while seat.last_look(1) && seat.took(1) == 0 {}
            seat.took(1) as usize
        };
        let other = spawn({
            let bench = bench.clone();
            move || bench.seat(1, works)
        });
        let mine = bench.seat(2, works);
        bench.seat(0, |seat| assert!(seat.step(0)));
        let busy = mine + other.join().unwrap();
        assert!(busy + bench.asleep() < 2 || !bench.is_ready(1), "an item waits, and nobody comes");
    });
}

/// One thread made an item and another took it, and a third one looks: what it sees taken, it sees made.
#[test]
fn no_edge_shows_more_taken_than_made() {
    wide_model(|| {
        let built = Pipeline::from_iter("source", 0..1).sink("sink", drop);
        let bench = Bench::new(built.in_flight(1).threads(2));
        let [first, second] = [bench.clone(), bench.clone()];
        let looks = spawn(move || {
            let snapshot = bench.snapshot();
            assert!(snapshot.edges[0].taken <= snapshot.edges[0].made, "{snapshot:?}");
        });
        let sink = spawn(move || {
            second.seat(1, |seat| {
                while !seat.step(1) {
                    yield_now();
                }
            });
        });
        first.seat(0, |seat| assert!(seat.step(0)));
        looks.join().unwrap();
        sink.join().unwrap();
    });
}

/// Each item is counted as taken before what became of it.
#[test]
fn no_count_shows_more_ended_than_taken() {
    model(|| {
        let meter = Arc::new(Meter::default());
        let observer = spawn({
            let meter = meter.clone();
            move || {
                let count = meter.count();
                let ended = count.finished + count.failed + count.abandoned;
                assert!(ended <= count.taken, "{count:?}");
            }
        });
        for (finished, failed, abandoned) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            meter.took(1);
            meter.ended(finished, failed, abandoned);
        }
        observer.join().unwrap();
    });
}
