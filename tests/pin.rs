//! Threads that are to be pinned stand on their cores, by the kernel's word.

#![cfg(all(feature = "pin", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Barrier;
use twelvefold::engine::pipeline::{Pipeline, Placement, Report};
use twelvefold::engine::workers::{PoolReport, Workers};
use watchdog::watchdog;

/// The cores that the calling thread may use.
fn allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    };
    list.trim().split(',').flat_map(range).collect()
}

/// What each worker of a stage may use as its first item comes, and the report.
fn pipeline(
    pin: bool,
    placement: Placement,
    threads: usize,
) -> (BTreeMap<usize, Vec<usize>>, Report) {
    let mut seen = BTreeMap::new();
    let report = Pipeline::from_iter("numbers", 0..2_000)
        .map_with("look", |worker| (worker, allowed()), |seen, _| seen.clone())
        .sink("gather", |(worker, cores)| drop(seen.insert(worker, cores)))
        .threads(threads)
        .placement(placement)
        .pin(pin)
        .run()
        .unwrap();
    (seen, report)
}

#[test]
fn threads_of_a_pipeline_stand_on_one_core_each_in_turn() {
    let _watchdog = watchdog("pinned pipeline");
    let all = allowed();
    for placement in [Placement::Cooperative, Placement::ThreadPerStage] {
        for threads in [1, 2, 5] {
            let (seen, report) = pipeline(true, placement, threads);
            let pinned: Vec<_> =
                report.ledger.flow.threads.iter().map(|thread| thread.pinned).collect();
            let turns: Vec<_> = all.iter().cycle().take(pinned.len()).copied().map(Some).collect();
            assert_eq!(pinned, turns, "{placement:?} {threads}");
            // Alone, the stage's threads come after the source's.
            let first = usize::from(placement == Placement::ThreadPerStage);
            assert!(!seen.is_empty());
            for (worker, cores) in seen {
                assert_eq!(cores, [turns[first + worker].unwrap()], "{placement:?} {threads}");
            }
        }
    }
    assert_eq!(allowed(), all, "the thread that ran them is where it was");
}

#[test]
fn nobody_is_pinned_unasked() {
    let all = allowed();
    let (seen, report) = pipeline(false, Placement::Cooperative, 2);
    assert!(report.ledger.flow.threads.iter().all(|thread| thread.pinned.is_none()));
    assert!(seen.values().all(|cores| *cores == all), "{seen:?}");
    let (seen, report) = pool(Workers::builder().threads(2));
    assert_eq!(report.pinned, [None, None]);
    assert!(seen.values().all(|cores| *cores == all), "{seen:?}");
}

/// What each of the two workers and the waiter may use, who all run a task at once, and the report.
fn pool(
    builder: twelvefold::engine::workers::Builder<fn(usize)>,
) -> (BTreeMap<usize, Vec<usize>>, PoolReport) {
    let (all_here, seen) = (Barrier::new(3), std::sync::Mutex::new(BTreeMap::new()));
    let builder = builder.awake(3);
    let ((), report) = builder
        .scope(
            |worker, _task: u32| {
                all_here.wait();
                seen.lock().unwrap().insert(worker.id(), allowed());
                Ok(())
            },
            |workers| workers.step(0..3).unwrap(),
        )
        .unwrap();
    (seen.into_inner().unwrap(), report)
}

#[test]
fn threads_of_a_pool_stand_on_one_core_each_in_turn_and_the_waiter_where_it_was() {
    let _watchdog = watchdog("pinned pool");
    let all = allowed();
    let turn = |n: usize| all[n % all.len()];
    let (seen, report) = pool(Workers::builder().threads(2).pin(true));
    assert_eq!(report.pinned, [Some(turn(0)), Some(turn(1))]);
    let expected = [vec![turn(0)], vec![turn(1)], all.clone()];
    assert!(seen.into_values().eq(expected));

    // Also where a state, and with it another type of builder, follows.
    let builder = Workers::builder().threads(3).pin(true).state(|worker| worker);
    let mut own = builder.start(|_, _: u32| Ok(())).unwrap();
    own.step(0..9).unwrap();
    assert_eq!(own.close().unwrap().pinned, [0, 1, 2].map(|n| Some(turn(n))));
    assert_eq!(allowed(), all);
}
