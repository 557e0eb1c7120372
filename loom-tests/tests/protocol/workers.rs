//! The pool whose publisher helps, and the pool with its threads: the waiter claims, sleeps, and is
//! woken by the last arriver, by a spawned task and by a stop.

use crate::support::{Plain, spawn};
use loom_tests::{model, wide_model};
use twelvefold::engine::pool::{Helper, Leaf, helped};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::workers::{Stopped, Workers};
use twelvefold::sync::{Arc, AtomicUsize, Ordering};

fn new_pool(leaves: usize) -> (Arc<Shutdown>, Helper<u32>, Vec<Leaf<u32>>) {
    let shutdown = Arc::new(Shutdown::new());
    let (helper, ends) = helped(leaves, leaves + 1, shutdown.clone());
    shutdown.register(vec![Wake::Pool(helper.pool().clone())]);
    (shutdown, helper, ends)
}

fn work(mut leaf: Leaf<u32>, run: impl Fn(&mut Leaf<u32>, u32)) {
    while let Some(task) = leaf.claim() {
        run(&mut leaf, task);
        leaf.done();
    }
}

/// Two tasks, of which either thread may run any; the helper sees what the leaf wrote. Nothing is
/// closed before, so the helper that sleeps is woken by the completion alone.
#[test]
fn a_helper_that_sleeps_is_woken_by_the_last_task() {
    model(|| {
        let (_, mut helper, mut leaves) = new_pool(1);
        let cells = [Plain::shared(), Plain::shared()];
        let leaf = leaves.remove(0);
        let thread = spawn({
            let cells = cells.clone();
            move || work(leaf, |_, task| cells[task as usize].add(1))
        });
        helper.publish([0, 1].into_iter());
        while let Some(task) = helper.claim() {
            cells[task as usize].add(1);
            helper.done();
        }
        assert!(helper.is_complete());
        assert_eq!((cells[0].get(), cells[1].get()), (1, 1));
        helper.close();
        thread.join().unwrap();
        let ledger = helper.pool().abandon();
        assert_eq!((ledger.made, ledger.finished, ledger.abandoned), (2, 2, 0));
    });
}

/// A step that wakes nobody ends all the same, and so does the one after it.
#[test]
fn a_step_without_a_wake_ends() {
    model(|| {
        let (_, mut helper, mut leaves) = new_pool(1);
        let leaf = leaves.remove(0);
        let thread = spawn(move || work(leaf, |_, _| {}));
        for _ in 0..2 {
            helper.expect_short();
            helper.publish([0].into_iter());
            while helper.claim().is_some() {
                helper.done();
            }
            assert!(helper.is_complete());
        }
        helper.close();
        thread.join().unwrap();
    });
}

/// The helper closes right after a step that wakes nobody, and leaves it to the leaf.
#[test]
fn a_close_after_a_step_that_wakes_nobody_drains() {
    model(|| {
        let (_, mut helper, mut leaves) = new_pool(1);
        let cell = Plain::shared();
        let leaf = leaves.remove(0);
        let thread = spawn({
            let cell = cell.clone();
            move || work(leaf, |_, _| cell.add(1))
        });
        helper.expect_short();
        helper.publish([0].into_iter());
        helper.close();
        thread.join().unwrap();
        assert_eq!(cell.get(), 1);
    });
}

/// Two tasks that wait for each other: the one that the helper does not run needs a leaf that is
/// awake.
#[test]
fn a_step_wakes_a_leaf_for_what_the_helper_does_not_run() {
    model(|| {
        let (_, mut helper, mut leaves) = new_pool(1);
        let meeting = crate::support::Meeting::new(2);
        let leaf = leaves.remove(0);
        let thread = spawn({
            let meeting = meeting.clone();
            move || work(leaf, |_, task| meeting.meet(task as usize))
        });
        helper.publish([0, 1].into_iter());
        while let Some(task) = helper.claim() {
            meeting.meet(task as usize);
            helper.done();
        }
        assert!(helper.is_complete());
        helper.close();
        thread.join().unwrap();
    });
}

/// A step that was held to be short and is not: the leaf that left it alone, and may have gone to
/// sleep, is woken for what is left. The two tasks wait for each other, which real ones must not in such
/// a step: outside of a model the clock is read after every eighth task only.
#[cfg(any(loom, shuttle))]
#[test]
fn a_step_that_turns_out_long_is_shared() {
    model(|| {
        let (_, mut helper, mut leaves) = new_pool(1);
        let meeting = crate::support::Meeting::new(2);
        let leaf = leaves.remove(0);
        let thread = spawn({
            let meeting = meeting.clone();
            move || work(leaf, |_, task| meeting.meet(task as usize))
        });
        helper.expect_short();
        helper.publish([0, 1].into_iter());
        while let Some(task) = helper.claim() {
            meeting.meet(task as usize);
            helper.done();
        }
        assert!(helper.is_complete());
        helper.close();
        thread.join().unwrap();
    });
}

/// The only leaf runs the first task, which spawns a second one and waits for it: the helper, which
/// may have gone to sleep, must be woken to run it.
#[test]
fn a_spawned_task_wakes_the_helper() {
    model(|| {
        let (_, mut helper, mut leaves) = new_pool(1);
        let meeting = crate::support::Meeting::new(2);
        let leaf = leaves.remove(0);
        let run = {
            let meeting = meeting.clone();
            move |leaf: &mut Leaf<u32>, task: u32| {
                if task == 0 {
                    leaf.spawn_one(1, 8).unwrap();
                }
                meeting.meet(task as usize);
            }
        };
        let thread = spawn({
            let run = run.clone();
            move || work(leaf, run)
        });
        helper.publish([0].into_iter());
        while let Some(task) = helper.claim() {
            run(helper.leaf(), task);
            helper.done();
        }
        assert!(helper.is_complete());
        helper.close();
        thread.join().unwrap();
        assert_eq!(helper.pool().abandon().made, 2);
    });
}

/// A stop while the helper sleeps for a task that does not end by itself.
#[test]
fn a_helper_that_sleeps_is_woken_by_a_stop() {
    model(|| {
        let (shutdown, mut helper, mut leaves) = new_pool(1);
        let mut leaf = leaves.remove(0);
        let thread = spawn(move || {
            // Fails in its first task.
            if leaf.claim().is_some() {
                shutdown.poison(0);
            }
        });
        helper.publish([0, 1].into_iter());
        let mut ran = 0;
        while helper.claim().is_some() {
            helper.done();
            ran += 1;
        }
        assert_eq!(ran == 2, helper.is_complete());
        helper.close();
        thread.join().unwrap();
        let ledger = helper.pool().abandon();
        assert_eq!(ledger.made, ledger.finished + ledger.lost + ledger.abandoned);
    });
}

/// The whole shape: threads, two steps, the close, the ledger.
#[test]
fn a_pool_with_its_threads_runs_steps_and_closes() {
    wide_model(|| {
        let ran = Arc::new(AtomicUsize::new(0));
        let count = ran.clone();
        let mut workers = Workers::new(2, move |worker, task: u32| {
            if task == 0 {
                worker.spawn(1).unwrap();
            }
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        workers.step([0, 1]).unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 3);
        let report = workers.close().unwrap();
        assert_eq!((report.ledger.made, report.ledger.finished), (3, 3));
    });
}

/// The same where the waiter sleeps, and is woken by whoever ends the step.
#[test]
fn a_pool_whose_waiter_sleeps_runs_a_step() {
    wide_model(|| {
        let mut workers =
            Workers::builder().threads(2).waiter_sleeps().start(|_, _: u32| Ok(())).unwrap();
        workers.step([0, 1]).unwrap();
        assert_eq!(workers.close().unwrap().ledger.finished, 2);
    });
}

/// A task that fails stops the pool, wherever the waiter is.
#[test]
fn a_task_that_fails_stops_the_pool() {
    model(|| {
        let mut workers = Workers::new(1, |_, _: u32| Err("no".into())).unwrap();
        assert_eq!(workers.step([0]), Err(Stopped));
        assert!(workers.close().is_err());
    });
}
