//! One producer hands equal tasks to several workers.
//!
//! | implementation | how |
//! |---|---|
//! | `ours_pool` | one step of a pool: the publisher pushes all tasks, leaves carry them off in batches and steal |
//! | `crossbeam_channel` | one bounded channel, a message a task |
//! | `static_split` | nobody hands out: every worker runs its share |

use super::dispatch::Ours;
use super::measure::{nanoseconds, together};
use super::row::{Reach, Row};
use super::work::{chain, rounds};
use super::{Scale, ours};
use crossbeam_channel::bounded;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use twelvefold::sync::cores;

/// The rows of the table.
pub fn rows(scale: Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    for workers in [2, 12] {
        for (case, time, tasks) in [
            ("100ns", Duration::from_nanos(100), scale.of(320_000)),
            ("10us", Duration::from_micros(10), scale.of(6_400)),
        ] {
            let work = rounds(time);
            let row = Row::new(format!("distribute/{workers}_workers_{case}"), "ns a task")
                .runs("ours_pool", ours_pool(workers, tasks, work))
                .runs("static_split", move || static_split(workers, tasks, work))
                .runs("crossbeam_channel", move || crossbeam(workers, tasks, work));
            let row = ours::distributes(row, workers, tasks, work);
            rows.push(if case == "10us" {
                row.against("ours_pool", "static_split", Reach::Within(1.03))
                    .against("ours_pipeline", "static_split", Reach::Within(1.03))
                    .against("ours_pool", "crossbeam_channel", Reach::Told)
            } else {
                row.against("ours_pool", "static_split", Reach::Within(1.3))
                    .against("ours_pool", "crossbeam_channel", Reach::Times(3.0))
                    .against("ours_pipeline", "static_split", Reach::Within(1.3))
                    .against("ours_pipeline", "crossbeam_channel", Reach::Times(3.0))
            });
        }
    }
    rows
}

fn ours_pool(workers: usize, tasks: u64, rounds: u64) -> impl FnMut() -> f64 {
    let mut made = None;
    let work = move |_: u64| {
        black_box(chain(rounds));
    };
    // The ledger, which `Ours` checks when it goes, counts the tasks.
    move || {
        let pool = made.get_or_insert_with(|| Ours::with(workers, cores(), work));
        let started = Instant::now();
        // A range of u64 has no exact length.
        pool.publisher.publish((0..tasks as usize).map(|task| task as u64));
        assert!(pool.publisher.wait(), "nobody stops this pool");
        nanoseconds(started.elapsed()) / tasks as f64
    }
}

fn static_split(workers: usize, tasks: u64, rounds: u64) -> f64 {
    let (wall, _) = together(workers, |id| {
        for _ in (id as u64..tasks).step_by(workers) {
            black_box(chain(rounds));
        }
    });
    wall / tasks as f64
}

fn crossbeam(workers: usize, tasks: u64, rounds: u64) -> f64 {
    let (sender, receiver) = bounded::<u64>(1024);
    let sender = std::sync::Mutex::new(Some(sender));
    let ran = AtomicU64::new(0);
    let (wall, _) = together(workers + 1, |id| {
        if id == workers {
            let sender = sender.lock().expect("nobody panics").take().expect("one producer");
            (0..tasks).for_each(|task| sender.send(task).expect("the workers are there"));
            return;
        }
        let mut own = 0;
        for _ in &receiver {
            black_box(chain(rounds));
            own += 1;
        }
        ran.fetch_add(own, Ordering::Relaxed);
    });
    assert_eq!(ran.load(Ordering::Relaxed), tasks, "tasks that ran");
    wall / tasks as f64
}
