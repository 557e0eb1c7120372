//! The latch: the last arriver sees everybody's work, the publisher sees the last arriver's, and a
//! second step is not a shutdown.

use crate::support::{Plain, spawn};
use loom_tests::model;
use twelvefold::engine::latch::Latch;
use twelvefold::engine::wait::Event;
use twelvefold::sync::Arc;

fn latch() -> (Arc<Event>, Arc<Latch>) {
    let event = Arc::new(Event::new());
    (event.clone(), Arc::new(Latch::new(event)))
}

/// Two tasks write plain memory; whichever ends last reads both.
#[test]
fn the_last_arriver_sees_what_all_wrote() {
    model(|| {
        let (_, latch) = latch();
        latch.open(2);
        let cells = [Plain::shared(), Plain::shared()];
        let task = |mine: usize| {
            let (latch, cells) = (latch.clone(), cells.clone());
            move || {
                cells[mine].add(1);
                let Some(last) = latch.arrive() else { return 0 };
                let seen = cells[0].get() + cells[1].get();
                last.complete();
                seen
            }
        };
        let other = spawn(task(0));
        let seen = task(1)() + other.join().unwrap();
        assert_eq!(seen, 2, "one last arriver, and it saw both");
    });
}

/// The publisher sleeps until the step is complete and reads its results.
#[test]
fn the_publisher_is_woken_and_sees_the_results() {
    model(|| {
        let (event, latch) = latch();
        let cell = Plain::shared();
        latch.open(1);
        let worker = spawn({
            let (latch, cell) = (latch.clone(), cell.clone());
            move || {
                cell.add(1);
                latch.arrive().unwrap().complete();
            }
        });
        event.wait(|| latch.completed() == 1);
        assert_eq!(cell.get(), 1);
        worker.join().unwrap();
    });
}

/// The end of a step ends nothing else: the same latch carries a second one.
#[test]
fn a_second_step_on_the_same_latch_completes_too() {
    model(|| {
        let (event, latch) = latch();
        for step in 1..=2 {
            latch.open(1);
            let worker = spawn({
                let latch = latch.clone();
                move || latch.arrive().unwrap().complete()
            });
            event.wait(|| latch.completed() == step);
            assert!(latch.is_idle());
            worker.join().unwrap();
        }
    });
}

/// Between two phases the step is not idle, so nobody takes the gap for the end.
#[test]
fn the_gap_between_two_phases_is_not_the_end() {
    model(|| {
        let (event, latch) = latch();
        latch.open(1);
        let phases = Plain::shared();
        let worker = spawn({
            let (latch, phases) = (latch.clone(), phases.clone());
            move || {
                phases.add(1);
                latch.arrive().unwrap().reopen(1);
                phases.add(1);
                latch.arrive().unwrap().complete();
            }
        });
        if latch.is_idle() {
            assert_eq!(phases.get(), 2, "idle before the step was complete");
        }
        event.wait(|| latch.completed() == 1);
        worker.join().unwrap();
    });
}
