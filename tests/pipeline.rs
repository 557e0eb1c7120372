//! What a pipeline promises to those who build one: order, exactly once, bounds, metrics.

#![expect(clippy::unwrap_used, reason = "a run that fails is a failed test")]

#[path = "common/chance.rs"]
mod chance;
#[path = "common/watchdog.rs"]
mod watchdog;

use chance::{Rng, spin};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use twelvefold::engine::BoxError;
use twelvefold::engine::pipeline::{
    Ledger, OnError, Out, Pipeline, Placement, Pull, Report, RunError, Snapshot, Stage,
};
use watchdog::watchdog;

const PLACEMENTS: [Placement; 2] = [Placement::Cooperative, Placement::ThreadPerStage];

/// 1 % of the items are a hundred times heavier.
fn skewed(item: u64) -> u64 {
    let heavy = item.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 57 == 0;
    spin(if heavy { 20_000 } else { 200 })
}

#[test]
fn the_order_is_kept_at_any_number_of_workers_in_bounded_memory_under_skew() {
    let _watchdog = watchdog("order");
    for placement in PLACEMENTS {
        for threads in [1, 2, 3, 8] {
            for in_flight in [1, 2, 5, 64, 1_000] {
                let (admitted, most) = (AtomicU64::new(0), AtomicU64::new(0));
                let mut seen = Vec::new();
                let source = (0..3_000u64).inspect(|_| {
                    admitted.fetch_add(1, Ordering::SeqCst);
                });
                Pipeline::from_iter("numbers", source)
                    .map("skewed", |item| {
                        skewed(item);
                        item
                    })
                    .sink("gather", |item| {
                        let inside = admitted.load(Ordering::SeqCst) - seen.len() as u64;
                        most.fetch_max(inside, Ordering::SeqCst);
                        seen.push(item);
                    })
                    .threads(threads)
                    .in_flight(in_flight)
                    .placement(placement)
                    .run()
                    .unwrap();
                assert!(seen.iter().copied().eq(0..3_000), "{placement:?} {threads} {in_flight}");
                let most = most.into_inner();
                assert!(most <= in_flight as u64, "{most} of {in_flight} items in flight");
            }
        }
    }
}

/// The first item is worked on until all others have reached the sink, which an order would forbid.
#[test]
fn without_an_order_a_heavy_item_holds_nobody_up() {
    let _watchdog = watchdog("no order");
    for placement in PLACEMENTS {
        let arrived = AtomicUsize::new(0);
        let mut seen = Vec::new();
        Pipeline::from_iter("numbers", 0..5_000u32)
            .map("heavy", |item| {
                while item == 0 && arrived.load(Ordering::SeqCst) < 4_999 {
                    std::thread::yield_now();
                }
                item
            })
            .unordered()
            .sink("gather", |item| {
                arrived.fetch_add(1, Ordering::SeqCst);
                seen.push(item);
            })
            .threads(2)
            .in_flight(16)
            .placement(placement)
            .run()
            .unwrap();
        assert_eq!(seen.last(), Some(&0));
        assert!(seen.into_iter().collect::<BTreeSet<_>>().into_iter().eq(0..5_000));
    }
}

#[test]
fn a_stage_may_give_none_one_or_several_and_the_order_is_still_that_of_the_input() {
    let _watchdog = watchdog("several outputs");
    for placement in PLACEMENTS {
        for threads in [1, 3] {
            let mut seen = Vec::new();
            Pipeline::from_iter("numbers", 0..1_000u32)
                .flat_map("repeat", |item, out| (0..item % 4).for_each(|k| out.send((item, k))))
                .map("pass", |pair| pair)
                .sink("gather", |pair| seen.push(pair))
                .threads(threads)
                .in_flight(64)
                .placement(placement)
                .run()
                .unwrap();
            let expected = (0..1_000).flat_map(|item| (0..item % 4).map(move |k| (item, k)));
            assert!(seen.into_iter().eq(expected));
        }
    }
}

/// Keeps the last item back, and gives it at the end.
struct Late<T>(Option<T>);

impl<T> Stage<T> for Late<T> {
    type Output = T;

    fn process(&mut self, item: T, out: &mut Out<'_, T>) -> Result<(), BoxError> {
        if let Some(before) = self.0.replace(item) {
            out.send(before);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Out<'_, T>) -> Result<(), BoxError> {
        self.0.take().into_iter().for_each(|item| out.send(item));
        Ok(())
    }
}

#[test]
fn what_workers_hold_at_the_end_comes_out() {
    let _watchdog = watchdog("the end");
    for placement in PLACEMENTS {
        for (items, threads) in [(0, 2), (1, 3), (2, 1), (500, 4)] {
            let mut seen = Vec::new();
            Pipeline::from_iter("numbers", 0..items)
                .stage("late in parallel", |_| Late(None))
                .capacity(3)
                .serial("late in order", Late(None))
                .capacity(1)
                .sink("gather", |item| seen.push(item))
                .threads(threads)
                .placement(placement)
                .run()
                .unwrap();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..items), "{placement:?} {items} {threads}");
        }
    }
}

#[test]
fn an_edge_holds_no_more_than_its_capacity() {
    let _watchdog = watchdog("capacity");
    for placement in PLACEMENTS {
        for capacity in [1, 2, 7, 100] {
            let report = Pipeline::from_iter("numbers", 0..2_000u64)
                .capacity(capacity)
                .map("pass", |item| item)
                .capacity(capacity)
                .sink("slow", |item| {
                    skewed(item);
                })
                .threads(3)
                .placement(placement)
                .run()
                .unwrap();
            for edge in &report.ledger.flow.edges {
                assert!(edge.high_water <= capacity as u64, "{edge:?}");
                assert!(edge.high_water > 0, "{edge:?}");
            }
        }
    }
}

/// A pipeline chosen by chance, and what is to go wrong with it.
struct Case {
    items: u64,
    threads: usize,
    in_flight: usize,
    capacity: Option<usize>,
    placement: Placement,
    ordered: bool,
    collect: bool,
    fails: Option<u64>,
    panics: Option<u64>,
    cancels: Option<u64>,
}

impl Case {
    fn new(rng: &mut Rng) -> Case {
        let items = [0, 1, 2, 3, 40, 700][rng.below(6) as usize];
        let mut at = || (items > 0 && rng.below(4) == 0).then(|| rng.below(items));
        let (fails, panics, cancels) = (at(), at(), at());
        Case {
            items,
            fails,
            panics,
            cancels,
            threads: 1 + rng.below(5) as usize,
            in_flight: 1 + rng.below(70) as usize,
            capacity: (rng.below(2) == 0).then(|| 1 + rng.below(9) as usize),
            placement: PLACEMENTS[rng.below(2) as usize],
            ordered: rng.below(2) == 0,
            collect: rng.below(3) == 0,
        }
    }

    /// Runs it; what reached the sink, and the result.
    fn run(&self) -> (Vec<u64>, Result<Report, RunError>) {
        let mut seen = Vec::new();
        let source = Pipeline::from_iter("numbers", 0..self.items);
        let mut mapped = source.try_map("work", |item| match item {
            _ if Some(item) == self.panics => panic!("planted"),
            _ if Some(item) == self.fails => Err("planted"),
            _ => Ok(item),
        });
        if !self.ordered {
            mapped = mapped.unordered();
        }
        if let Some(capacity) = self.capacity {
            mapped = mapped.capacity(capacity);
        }
        let pipeline = mapped.flat_map("twice", |item, out| {
            out.send(2 * item);
            out.send(2 * item + 1);
        });
        let canceller = std::sync::OnceLock::<twelvefold::engine::pipeline::Canceller>::new();
        let pipeline = pipeline
            .sink("gather", |item| {
                if self.cancels == Some(item / 2) {
                    canceller.get().unwrap().cancel();
                }
                seen.push(item);
            })
            .threads(self.threads)
            .in_flight(self.in_flight)
            .placement(self.placement)
            .on_error(if self.collect { OnError::Collect(10) } else { OnError::Stop });
        canceller.set(pipeline.canceller()).unwrap();
        let result = pipeline.run();
        (seen, result)
    }

    fn check(&self, seen: &[u64], result: Result<Report, RunError>, seed: u64) {
        let _told = Told(seed);
        let unique: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(unique.len(), seen.len(), "done twice");
        assert!(unique.iter().all(|&item| item < 2 * self.items), "made up");
        assert!(!self.ordered || seen.is_sorted(), "out of order");
        let sink = |ledger: &Ledger| ledger.flow.stages.last().unwrap().total();
        match result {
            Ok(report) => {
                assert!(report.ledger.balances);
                assert_eq!(sink(&report.ledger).finished, seen.len() as u64);
                let failed = u64::from(self.collect && self.fails.is_some());
                assert!(report.cancelled || report.failed == failed && report.items == self.items);
                assert!(report.cancelled || seen.len() as u64 == 2 * (self.items - failed));
                assert!(!report.cancelled || self.cancels.is_some());
            }
            Err(RunError::Fault { fault, ledger, .. }) => {
                assert!(ledger.balances, "{ledger:?}");
                assert_eq!(sink(&ledger).finished, seen.len() as u64);
                let failed: u64 = ledger.flow.stages.iter().map(|s| s.total().failed).sum();
                assert!(failed >= 1);
                let stopped = self.fails.filter(|_| !self.collect);
                assert!([stopped, self.panics].contains(&fault.item), "{fault}");
                assert!(fault.to_string().contains("planted"));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Names the seed of a case that fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "seed {}", self.0);
        }
    }
}

/// Over worker counts, capacities, item counts and random points of error, panic and cancel.
#[test]
fn every_item_is_worked_on_once_or_counted_whatever_goes_wrong() {
    let _watchdog = watchdog("exactly once");
    chance::quiet_panics();
    let mut ended = [0; 3];
    for seed in 0..3_000 {
        let case = Case::new(&mut Rng(seed));
        let (seen, result) = case.run();
        let kind = match &result {
            Ok(report) if report.cancelled => 0,
            Ok(_) => 1,
            Err(_) => 2,
        };
        ended[kind] += 1;
        case.check(&seen, result, seed);
    }
    assert!(ended.iter().all(|&n| n > 100), "{ended:?}");
}

#[test]
fn borrowed_items_and_states_that_never_leave_their_thread_are_fine() {
    let text = String::from("to be or not to be");
    let mut lengths = Vec::new();
    Pipeline::from_iter("words", text.split(' '))
        .map_with("measure", |_| std::rc::Rc::new(1), |one, word| word.len() * **one)
        .sink("gather", |length| lengths.push(length))
        .threads(2)
        .run()
        .unwrap();
    assert_eq!(lengths, [2, 2, 2, 3, 2, 2]);
}

fn totals(snapshot: &Snapshot) -> Vec<u64> {
    let stages = snapshot.stages.iter().flat_map(|stage| {
        stage.workers.iter().flat_map(|w| {
            [w.taken, w.finished, w.failed, w.abandoned, w.made, w.bytes, w.batches, w.busy_ns]
        })
    });
    let threads = snapshot.threads.iter();
    let threads = threads.flat_map(|t| [t.steps, t.looks, t.sleeps, t.wakes, t.idle_ns]);
    stages.chain(threads).collect()
}

#[test]
fn in_any_snapshot_counters_only_grow_and_no_edge_shows_more_out_than_in() {
    let _watchdog = watchdog("snapshots");
    for placement in PLACEMENTS {
        let pipeline = Pipeline::from_iter("numbers", 0..200_000u64)
            .flat_map("pass", |item, out| {
                out.count_bytes(8);
                out.send(item);
            })
            .map("again", |item| item)
            .sink("drop", drop)
            .threads(2)
            .in_flight(64)
            .placement(placement);
        let (watch, over) = (pipeline.watch(), AtomicBool::new(false));
        let looks = std::thread::scope(|scope| {
            let observer = scope.spawn(|| {
                let (mut before, mut looks) = (Vec::new(), 0u64);
                while !over.load(Ordering::SeqCst) {
                    let snapshot = watch.snapshot();
                    for edge in &snapshot.edges {
                        assert!(edge.made >= edge.taken, "{edge:?}");
                        assert!(edge.high_water <= 64, "{edge:?}");
                    }
                    for worker in snapshot.stages.iter().flat_map(|stage| &stage.workers) {
                        assert!(worker.taken >= worker.finished, "{worker:?}");
                    }
                    let now = totals(&snapshot);
                    assert!(before.iter().zip(&now).all(|(before, now)| before <= now));
                    (before, looks) = (now, looks + 1);
                }
                looks
            });
            pipeline.run().unwrap();
            over.store(true, Ordering::SeqCst);
            observer.join().unwrap()
        });
        assert!(looks > 0);
        let end = watch.snapshot();
        assert_eq!(end.stages[1].total().bytes, 8 * 200_000);
        assert!(end.edges.iter().all(|edge| edge.taken == 200_000 && edge.depth == 0));
    }
}

/// One item at a time: the next is given only when the one before has arrived, and a bell says so.
/// Anything held back would end this for ever.
#[test]
fn nothing_is_held_back_when_the_source_has_nothing_for_now() {
    let _watchdog = watchdog("held back");
    for placement in PLACEMENTS {
        for threads in [1, 2, 4] {
            let (mut given, arrived) = (0u64, AtomicU64::new(0));
            let bell = std::sync::OnceLock::<twelvefold::engine::pipeline::Bell>::new();
            let builder = Pipeline::source("ping", || {
                if arrived.load(Ordering::SeqCst) < given {
                    return Pull::Later(Duration::MAX);
                }
                given += 1;
                if given > 500 { Pull::End } else { Pull::Item(given) }
            });
            bell.set(builder.bell()).unwrap();
            let report = builder
                .map("pass", |item| item)
                .sink("pong", |item| {
                    arrived.store(item, Ordering::SeqCst);
                    bell.get().unwrap().ring();
                })
                .threads(threads)
                .placement(placement)
                .run()
                .unwrap();
            assert_eq!(report.items, 500);
        }
    }
}

/// Who finds nothing to do looks at most so often before it sleeps.
const LOOKS_BEFORE_SLEEP: u64 = 2_000 / 4 + 2 + 2;

#[test]
fn idle_threads_look_a_bounded_number_of_times_and_one_wake_an_item_is_enough() {
    let _watchdog = watchdog("idle");
    for placement in PLACEMENTS {
        for threads in [1, 2, 6] {
            let mut asked = 0u64;
            let report = Pipeline::source("now and then", || {
                asked += 1;
                match asked {
                    n if n > 60 => Pull::End,
                    n if n % 2 == 0 => Pull::Later(Duration::from_millis(2)),
                    n => Pull::Item(n),
                }
            })
            .map("pass", |item| item)
            .sink("drop", drop)
            .threads(threads)
            .placement(placement)
            .run()
            .unwrap();
            assert_eq!(report.items, 30);
            let threads = &report.ledger.flow.threads;
            for thread in threads {
                let rounds = thread.steps + thread.sleeps + 1;
                assert!(thread.looks <= rounds * LOOKS_BEFORE_SLEEP, "{thread:?}");
            }
            // A wake for each hand-over between threads, of which there are four where each stage has
            // its own: to the map, to the sink, and to the source each time that it is to be asked. None
            // where whoever gives the item also takes it.
            let wakes: u64 = threads.iter().map(|thread| thread.wakes).sum();
            let an_item = if placement == Placement::Cooperative { 1 } else { 4 };
            assert!(wakes <= an_item * 30 + 3, "{wakes} wakes, {placement:?}");
        }
    }
}
