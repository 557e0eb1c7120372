//! Cancel and poison, from every state in which a thread can be.

use crate::support::{Plain, spawn, work};
use loom_tests::{model, wide_model};
use twelvefold::engine::edge::edge;
use twelvefold::engine::pool::pool;
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use twelvefold::sync::Arc;

/// A thread that sleeps on an edge or between steps waits like this.
#[test]
fn a_parked_thread_is_woken_by_a_cancel() {
    model(|| {
        let event = Arc::new(Event::new());
        let shutdown = Arc::new(Shutdown::new());
        shutdown.register(vec![Wake::Event(event.clone())]);
        let thread = spawn({
            let shutdown = shutdown.clone();
            move || event.wait(|| shutdown.is_stopped())
        });
        shutdown.cancel();
        thread.join().unwrap();
        assert!(shutdown.is_cancelled() && shutdown.first_fault().is_none());
    });
}

/// What was written before the poison is seen by whoever leaves because of it.
#[test]
fn a_poison_publishes_what_came_before_it() {
    model(|| {
        let event = Arc::new(Event::new());
        let shutdown = Arc::new(Shutdown::new());
        shutdown.register(vec![Wake::Event(event.clone())]);
        let cell = Plain::shared();
        let thread = spawn({
            let (shutdown, cell) = (shutdown.clone(), cell.clone());
            move || {
                event.wait(|| shutdown.is_stopped());
                cell.get()
            }
        });
        cell.add(1);
        assert!(shutdown.poison(0));
        assert_eq!(thread.join().unwrap(), 1);
    });
}

/// What was written before a fault or a cancel is seen by whoever asks which of the two it was.
#[test]
fn who_knows_why_a_run_stops_sees_what_came_before() {
    for cancels in [false, true] {
        model(move || {
            let shutdown = Arc::new(Shutdown::new());
            let cell = Plain::shared();
            let other = spawn({
                let (shutdown, cell) = (shutdown.clone(), cell.clone());
                move || {
                    let knows = match cancels {
                        true => shutdown.is_cancelled(),
                        false => shutdown.first_fault().is_some(),
                    };
                    assert!(!knows || cell.get() == 1);
                }
            });
            cell.add(1);
            if cancels {
                shutdown.cancel();
            } else {
                shutdown.poison(0);
            }
            other.join().unwrap();
        });
    }
}

/// Two threads fail at once: one of them is the first.
#[test]
fn two_poisons_have_one_winner() {
    model(|| {
        let shutdown = Arc::new(Shutdown::new());
        shutdown.register(Vec::new());
        let other = spawn({
            let shutdown = shutdown.clone();
            move || shutdown.poison(1)
        });
        let mine = shutdown.poison(0);
        let theirs = other.join().unwrap();
        assert!(mine != theirs);
        assert_eq!(shutdown.first_fault(), Some(usize::from(theirs)));
    });
}

/// A cancel and a fault at once: the fault is kept, whichever came first.
#[test]
fn a_fault_is_not_lost_behind_a_cancel() {
    model(|| {
        let shutdown = Arc::new(Shutdown::new());
        shutdown.register(Vec::new());
        let other = spawn({
            let shutdown = shutdown.clone();
            move || shutdown.cancel()
        });
        assert!(shutdown.poison(4));
        other.join().unwrap();
        assert_eq!(shutdown.first_fault(), Some(4));
    });
}

/// A cancel reaches a leaf mid-task, between tasks or asleep, and a publisher that waits; what was
/// not run is counted.
#[test]
fn a_cancel_ends_leaf_and_publisher_from_any_state() {
    model(|| {
        let control = Arc::new(Event::new());
        let shutdown = Arc::new(Shutdown::new());
        let (mut publisher, mut leaves) = pool(1, 1, control.clone(), shutdown.clone());
        shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
        let mut leaf = leaves.remove(0);
        let thread = spawn(move || work(&mut leaf, |_, _: u32| {}));
        let canceller = spawn({
            let shutdown = shutdown.clone();
            move || shutdown.cancel()
        });
        publisher.publish([0, 1].into_iter());
        publisher.wait();
        canceller.join().unwrap();
        thread.join().unwrap();
        let ledger = publisher.pool().abandon();
        assert_eq!(ledger.made, ledger.finished + ledger.abandoned, "{ledger:?}");
    });
}

/// A leaf fails inside a task: the publisher, which would wait for ever, is woken by the poison.
#[test]
fn a_fault_in_a_task_reaches_the_waiting_publisher() {
    model(|| {
        let control = Arc::new(Event::new());
        let shutdown = Arc::new(Shutdown::new());
        let (mut publisher, mut leaves) = pool(1, 1, control.clone(), shutdown.clone());
        shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
        let mut leaf = leaves.remove(0);
        let thread = spawn({
            let shutdown = shutdown.clone();
            move || {
                let _task: Option<u32> = leaf.claim();
                shutdown.poison(0);
            }
        });
        publisher.publish([0].into_iter());
        assert!(!publisher.wait(), "an unfinished step is not complete");
        thread.join().unwrap();
        let ledger = publisher.pool().abandon();
        assert_eq!((ledger.made, ledger.finished, ledger.lost), (1, 0, 1));
    });
}

/// The pool holds the run's state, which knows the pool: neither keeps the other.
#[test]
fn a_run_that_has_ended_leaves_nothing_behind() {
    model(|| {
        let control = Arc::new(Event::new());
        let shutdown = Arc::new(Shutdown::new());
        let (publisher, mut leaves) = pool::<u32>(1, 1, control.clone(), shutdown.clone());
        shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
        let mut leaf = leaves.remove(0);
        let thread = spawn(move || work(&mut leaf, |_, _| {}));
        let (state, shared) = (Arc::downgrade(&shutdown), Arc::downgrade(publisher.pool()));
        shutdown.cancel();
        thread.join().unwrap();
        drop((publisher, shutdown));
        assert_eq!((state.strong_count(), shared.strong_count()), (0, 0));
    });
}

/// The whole shape: a loader, an edge, a control thread that publishes what it receives, a leaf;
/// ended by a cancel that may come at any moment.
#[test]
fn the_whole_shape_ends_after_a_cancel_at_any_moment() {
    wide_model(|| {
        let (load, control) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let shutdown = Arc::new(Shutdown::new());
        let (mut tx, mut rx) = edge::<u32>("load", 1, &load, &control);
        let meter = tx.meter();
        let (mut publisher, mut leaves) = pool(1, 1, control.clone(), shutdown.clone());
        shutdown.register(vec![
            Wake::Event(load),
            Wake::Event(control),
            Wake::Pool(publisher.pool().clone()),
        ]);
        let loader = spawn({
            let shutdown = shutdown.clone();
            move || {
                if !shutdown.is_stopped() {
                    // The receiver may have gone: the item comes back and is dropped here.
                    let _ = tx.send(1);
                }
            }
        });
        let mut leaf = leaves.remove(0);
        let sphere = spawn(move || work(&mut leaf, |_, _| {}));
        let canceller = spawn({
            let shutdown = shutdown.clone();
            move || shutdown.cancel()
        });
        while let Some(item) = rx.recv() {
            publisher.publish([item].into_iter());
            if !publisher.wait() {
                break;
            }
        }
        drop(rx);
        publisher.close();
        loader.join().unwrap();
        sphere.join().unwrap();
        canceller.join().unwrap();
        assert!(meter.count().balances());
        let ledger = publisher.pool().abandon();
        assert_eq!(ledger.made, ledger.finished + ledger.abandoned, "{ledger:?}");
    });
}
