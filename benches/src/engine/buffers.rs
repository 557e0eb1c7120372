//! Three stages that hand buffers of 4,096 numbers to each other: fill, map, sum.
//!
//! | implementation | how |
//! |---|---|
//! | `ours_edges` | a thread a stage; buffers move along two edges and come back by a third |
//! | `crossbeam_channel` | a thread a stage, bounded channels, a fresh buffer each time |
//! | `crossbeam_channel_recycled` | the same, with a third channel that brings buffers back |
//! | `fused_loop` | one thread, one buffer |

#![expect(clippy::missing_panics_doc, reason = "a wrong sum panics, everywhere here")]

use super::measure::together;
use super::row::{Reach, Row};
use super::{Scale, ours, per_item};
use crossbeam_channel::bounded;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use twelvefold::engine::edge::edge;
use twelvefold::engine::wait::Event;
use twelvefold::sync::Arc;

/// Numbers in a buffer.
pub const LENGTH: u64 = 4096;
/// Buffers on their way.
pub const DEPTH: usize = 8;

/// A batch of numbers.
pub type Buffer = Vec<u64>;

/// The rows of the table.
pub fn rows(scale: Scale) -> Vec<Row> {
    let n = scale.of(1 << 24);
    let row = Row::new("buffers/three_stages_4096", "ns an item")
        .runs("ours_edges", per_item(n, ours_edges))
        .runs("fused_loop", per_item(n, fused_loop))
        .runs("crossbeam_channel", per_item(n, |items| crossbeam(items, false)))
        .runs("crossbeam_channel_recycled", per_item(n, |items| crossbeam(items, true)));
    let row = ours::buffers(row, n)
        .against("ours_edges", "fused_loop", Reach::Within(1.6))
        .against("ours_edges", "crossbeam_channel", Reach::Times(1.8))
        .against("ours_edges", "crossbeam_channel_recycled", Reach::Told)
        .against("ours_pipeline", "fused_loop", Reach::Within(1.6))
        .against("ours_pipeline", "crossbeam_channel", Reach::Times(1.8));
    vec![row]
}

/// The first stage: the numbers from `start`.
pub fn fill(buffer: &mut Buffer, start: u64) {
    buffer.clear();
    buffer.extend(start..start + LENGTH);
}

/// The second stage.
pub fn map(buffer: &mut [u64]) {
    for number in buffer {
        *number = number.wrapping_mul(3).wrapping_add(1);
    }
}

/// The third stage.
pub fn sum(buffer: &[u64]) -> u64 {
    buffer.iter().fold(0, |sum, number| sum.wrapping_add(*number))
}

/// Whether `sum` is what comes out for the numbers below `items`.
///
/// # Panics
/// When it is not.
pub fn check(sum: u64, items: u64) {
    let numbers = u128::from(items) * u128::from(items - 1) / 2;
    assert_eq!(sum, (3 * numbers + u128::from(items)) as u64, "the sum of what arrived");
}

/// One thread, one buffer; each stage's result is taken from memory by the next.
pub fn fused_loop(items: u64) -> Duration {
    let started = Instant::now();
    let (mut buffer, mut total) = (Buffer::with_capacity(LENGTH as usize), 0_u64);
    for start in (0..items).step_by(LENGTH as usize) {
        fill(black_box(&mut buffer), start);
        map(black_box(&mut buffer));
        total = total.wrapping_add(sum(black_box(&buffer)));
    }
    let took = started.elapsed();
    check(total, items);
    took
}

/// The three bodies, each handed to the thread that takes it first.
struct Stages<A, B, C>(Mutex<Option<A>>, Mutex<Option<B>>, Mutex<Option<C>>);

/// Runs the stages on a thread each.
fn three(
    items: u64,
    first: impl FnOnce() + Send,
    second: impl FnOnce() + Send,
    third: impl FnOnce() -> u64 + Send,
) -> Duration {
    let stages = Stages(Mutex::new(Some(first)), Mutex::new(Some(second)), Mutex::new(Some(third)));
    let total = AtomicU64::new(0);
    let (wall, _) = together(3, |id| match id {
        0 => take(&stages.0)(),
        1 => take(&stages.1)(),
        _ => total.store(take(&stages.2)(), Ordering::Relaxed),
    });
    check(total.load(Ordering::Relaxed), items);
    Duration::from_nanos(wall as u64)
}

fn take<T>(place: &Mutex<Option<T>>) -> T {
    place.lock().expect("nobody panics").take().expect("each thread takes one")
}

/// Three edges in a ring; each thread sleeps in one place.
pub fn ours_edges(items: u64) -> Duration {
    let events = [0; 3].map(|_| Arc::new(Event::new()));
    let (mut filled_in, mut filled) = edge("filled", DEPTH, &events[0], &events[1]);
    let (mut mapped_in, mut mapped) = edge("mapped", DEPTH, &events[1], &events[2]);
    let (mut empty_in, mut empty) = edge("empty", DEPTH, &events[2], &events[0]);
    let mut spare: Vec<Buffer> = (0..DEPTH).map(|_| Buffer::with_capacity(4096)).collect();
    three(
        items,
        move || {
            for start in (0..items).step_by(LENGTH as usize) {
                let buffer = spare.pop().or_else(|| empty.recv());
                let mut buffer = buffer.expect("buffers come back");
                fill(&mut buffer, start);
                filled_in.send(buffer).expect("the next stage is there");
            }
        },
        move || {
            while let Some(mut buffer) = filled.recv() {
                map(&mut buffer);
                mapped_in.send(buffer).expect("the next stage is there");
            }
        },
        move || {
            let mut total = 0_u64;
            while let Some(buffer) = mapped.recv() {
                total = total.wrapping_add(sum(&buffer));
                // The first stage leaves before the last buffers come back.
                drop(empty_in.send(buffer));
            }
            total
        },
    )
}

/// Bounded channels; buffers are made anew or come back by a third channel.
pub fn crossbeam(items: u64, recycle: bool) -> Duration {
    let (filled_in, filled) = bounded::<Buffer>(DEPTH);
    let (mapped_in, mapped) = bounded::<Buffer>(DEPTH);
    let (empty_in, empty) = bounded::<Buffer>(DEPTH);
    let spares = if recycle { DEPTH } else { 0 };
    let mut spare: Vec<Buffer> = (0..spares).map(|_| Buffer::with_capacity(4096)).collect();
    three(
        items,
        move || {
            for start in (0..items).step_by(LENGTH as usize) {
                let mut buffer = match spare.pop() {
                    Some(buffer) => buffer,
                    None if recycle => empty.recv().expect("buffers come back"),
                    None => Buffer::with_capacity(LENGTH as usize),
                };
                fill(&mut buffer, start);
                filled_in.send(buffer).expect("the next stage is there");
            }
        },
        move || {
            for mut buffer in filled {
                map(&mut buffer);
                mapped_in.send(buffer).expect("the next stage is there");
            }
        },
        move || {
            let mut total = 0_u64;
            for buffer in mapped {
                total = total.wrapping_add(sum(&buffer));
                if recycle {
                    drop(empty_in.send(buffer));
                }
            }
            total
        },
    )
}
