//! Leaves whose work is a timed wait, so that two cores can drive hundreds of them.
//!
//! The ideal is the time that as many threads need which nobody has to hand anything: each waits
//! as often as its share of the tasks. `nominal` is the arithmetic: tasks each leaf, times the wait.

use super::Scale;
use super::dispatch::Ours;
use super::measure::nanoseconds;
use super::row::{Reach, Row};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The rows of the table.
pub fn rows(scale: Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    for leaves in [12, 144, 1_728] {
        for wait in [1, 10] {
            // Leaves that all sleep cost memory and time to start: no 1,728 in a quick run.
            if scale == Scale::Quick && leaves > 144 {
                continue;
            }
            rows.push(row(scale, leaves, Duration::from_millis(wait)));
        }
    }
    rows
}

fn row(scale: Scale, leaves: usize, wait: Duration) -> Row {
    // Each of 1,728 gets fewer: their waits are over long before two cores have handed out others.
    let total = if leaves > 144 { 40 } else { 320 };
    let each = scale.of(total / wait.as_millis() as u64).max(2) as usize;
    let nominal = nanoseconds(wait) * each as f64;
    let asked = leaves == 144 && wait.as_millis() == 10;
    let reach = if asked { Reach::Times(0.95) } else { Reach::Told };
    let mut pool = None;
    Row::new(format!("leaves/{leaves}_of_{}ms", wait.as_millis()), "ns")
        .runs("ours", move || {
            let pool = pool.get_or_insert_with(|| Ours::with(leaves, leaves, sleep));
            let started = Instant::now();
            pool.publisher.publish((0..leaves * each).map(|_| wait));
            assert!(pool.publisher.wait(), "nobody stops this pool");
            nanoseconds(started.elapsed())
        })
        .runs("nominal", move || nominal)
        .runs("own_waits", move || {
            let started = Instant::now();
            (0..each).for_each(|_| sleep(wait));
            nanoseconds(started.elapsed())
        })
        .against_share("ours", ("nominal", 1.0, "ideal (nominal)"), reach)
        .against_share("ours", ("own_waits", 1.0, "one thread's own waits"), Reach::Told)
}
