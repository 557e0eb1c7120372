//! The pool: publish, steal, sleep and wake, phases, draining, the end.

use crate::support::{Meeting, Plain, spawn, work};
use loom_tests::{model, wide_model};
use twelvefold::engine::pool::{Leaf, Publisher, pool};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use twelvefold::sync::{Arc, AtomicUsize, Ordering};

fn new_pool(leaves: usize) -> (Arc<Shutdown>, Publisher<u32>, Vec<Leaf<u32>>) {
    let control = Arc::new(Event::new());
    let shutdown = Arc::new(Shutdown::new());
    let (publisher, leaves) = pool(leaves, leaves, control.clone(), shutdown.clone());
    shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
    (shutdown, publisher, leaves)
}

/// Two tasks, two leaves: each task runs once, and the publisher sees what they wrote.
#[test]
fn every_task_runs_once_and_the_publisher_wakes() {
    wide_model(|| {
        let (_, mut publisher, leaves) = new_pool(2);
        let cells = [Plain::shared(), Plain::shared()];
        let threads: Vec<_> = leaves
            .into_iter()
            .map(|mut leaf| {
                let cells = cells.clone();
                spawn(move || work(&mut leaf, |_, task| cells[task as usize].add(1)))
            })
            .collect();
        publisher.publish([0, 1].into_iter());
        assert!(publisher.wait());
        assert_eq!((cells[0].get(), cells[1].get()), (1, 1));
        publisher.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let ledger = publisher.pool().abandon();
        assert_eq!((ledger.made, ledger.finished, ledger.abandoned), (2, 2, 0));
    });
}

/// The task comes while the only leaf goes to sleep; nothing is closed before it has run.
#[test]
fn a_leaf_that_goes_to_sleep_is_woken_by_a_task() {
    model(|| {
        let (_, mut publisher, mut leaves) = new_pool(1);
        let mut leaf = leaves.remove(0);
        let thread = spawn(move || work(&mut leaf, |_, _| {}));
        publisher.publish([0].into_iter());
        assert!(publisher.wait());
        publisher.close();
        thread.join().unwrap();
    });
}

/// The end of a step is not the end of the pool: a second one follows on the same leaves.
#[test]
fn a_second_step_runs_on_the_same_leaves() {
    model(|| {
        let (_, mut publisher, mut leaves) = new_pool(1);
        let mut leaf = leaves.remove(0);
        let cell = Plain::shared();
        let thread = spawn({
            let cell = cell.clone();
            move || work(&mut leaf, |_, _| cell.add(1))
        });
        for step in 1..=2 {
            publisher.publish([0].into_iter());
            assert!(publisher.wait());
            assert_eq!(cell.get(), step);
        }
        publisher.close();
        thread.join().unwrap();
    });
}

/// Tasks that wait for each other need as many leaves as there are tasks: each push must wake a
/// sleeper of its own, a batch on its way into a leaf's deque must not be overlooked, and a leaf
/// that was woken while it was awake must pass the wake on.
#[test]
fn two_tasks_that_wait_for_each_other_meet() {
    wide_model(|| {
        let (_, mut publisher, leaves) = new_pool(2);
        let meeting = Meeting::new(2);
        let threads = meet_on(leaves, &meeting);
        publisher.publish([0, 1].into_iter());
        assert!(publisher.wait());
        publisher.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// As above, with the second task pushed by the first one's leaf.
#[test]
fn a_spawned_task_and_its_parent_meet() {
    wide_model(|| {
        let (_, mut publisher, leaves) = new_pool(2);
        let meeting = Meeting::new(2);
        let threads: Vec<_> = leaves
            .into_iter()
            .map(|mut leaf| {
                let meeting = meeting.clone();
                spawn(move || {
                    work(&mut leaf, |leaf, task| {
                        if task == 0 {
                            leaf.spawn([1].into_iter());
                        }
                        meeting.meet(task as usize);
                    });
                })
            })
            .collect();
        publisher.publish([0].into_iter());
        assert!(publisher.wait());
        publisher.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The last of the first phase opens the second, whose tasks the sibling steals; what the first
/// phase wrote is seen by all of the second.
#[test]
fn the_last_of_a_phase_opens_the_next() {
    wide_model(|| {
        let (_, mut publisher, leaves) = new_pool(2);
        let cell = Plain::shared();
        let sum = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = leaves
            .into_iter()
            .map(|mut leaf| {
                let (cell, sum) = (cell.clone(), sum.clone());
                spawn(move || {
                    let pool = leaf.pool().clone();
                    while let Some(task) = leaf.claim() {
                        if task == 0 {
                            cell.add(1);
                        } else {
                            sum.fetch_add(cell.get() as usize, Ordering::Relaxed);
                        }
                        match leaf.finish(&pool) {
                            Some(last) if task == 0 => leaf.open(last, [1, 1].into_iter()),
                            Some(last) => leaf.complete(last),
                            None => {}
                        }
                    }
                })
            })
            .collect();
        publisher.publish([0].into_iter());
        assert!(publisher.wait());
        assert_eq!(sum.load(Ordering::Relaxed), 2);
        publisher.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let ledger = publisher.pool().abandon();
        assert_eq!((ledger.made, ledger.finished, ledger.abandoned), (3, 3, 0));
    });
}

/// Closing right after publishing drains: no leaf leaves before the step is complete, also where a
/// task spawns another one.
#[test]
fn a_close_drains_and_no_leaf_leaves_early() {
    wide_model(|| {
        let (_, mut publisher, leaves) = new_pool(2);
        let finished = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = leaves
            .into_iter()
            .map(|mut leaf| {
                let finished = finished.clone();
                spawn(move || {
                    work(&mut leaf, |leaf, task| {
                        if task == 0 {
                            leaf.spawn([1].into_iter());
                        }
                        finished.fetch_add(1, Ordering::Release);
                    });
                    assert_eq!(finished.load(Ordering::Acquire), 2, "left before the end");
                })
            })
            .collect();
        publisher.publish([0].into_iter());
        publisher.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A pool that never got a task ends, from wherever its leaf is.
#[test]
fn a_close_without_a_step_ends_the_leaf() {
    model(|| {
        let (_, publisher, mut leaves) = new_pool(1);
        let mut leaf = leaves.remove(0);
        let thread = spawn(move || work(&mut leaf, |_, _| {}));
        publisher.close();
        thread.join().unwrap();
        drop(publisher);
    });
}

/// Fewer leaves may be awake than there are, as on every machine with more spheres than cores: the
/// wake that the limit holds back is not missed.
#[test]
fn a_limit_on_the_awake_strands_no_task() {
    wide_model(|| {
        let control = Arc::new(Event::new());
        let shutdown = Arc::new(Shutdown::new());
        let (mut publisher, leaves) = pool(2, 1, control, shutdown);
        let threads: Vec<_> =
            leaves.into_iter().map(|mut leaf| spawn(move || work(&mut leaf, |_, _| {}))).collect();
        publisher.publish([0].into_iter());
        assert!(publisher.wait());
        publisher.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A snapshot of a leaf at any moment shows no more finished than taken.
#[test]
fn no_snapshot_shows_more_finished_than_taken() {
    model(|| {
        let (_, mut publisher, mut leaves) = new_pool(1);
        let mut leaf = leaves.remove(0);
        let pool = publisher.pool().clone();
        let thread = spawn(move || work(&mut leaf, |_, _| {}));
        publisher.publish([0].into_iter());
        let count = pool.count(0);
        assert!(count.finished <= count.taken, "{count:?}");
        assert!(publisher.wait());
        assert_eq!((pool.count(0).taken, pool.count(0).finished), (1, 1));
        publisher.close();
        thread.join().unwrap();
    });
}

fn meet_on(
    leaves: Vec<Leaf<u32>>,
    meeting: &Arc<Meeting>,
) -> Vec<twelvefold::sync::JoinHandle<()>> {
    leaves
        .into_iter()
        .map(|mut leaf| {
            let meeting = meeting.clone();
            spawn(move || work(&mut leaf, |_, task| meeting.meet(task as usize)))
        })
        .collect()
}
