//! Items from one thread to another through a bounded queue.
//!
//! `edge/CASE/IMPLEMENTATION`, throughput in items. The program `engine` runs the same in turns.
//!
//! | case | what moves |
//! |---|---|
//! | `cap1024_u64` | one `u64` at a time through room for 1,024 |
//! | `cap1024_u64_slice64`, `..256` | slices of that many; a channel without slices is not in the row |
//! | `cap8_buffers` | buffers of 1,024 tokens, filled by a number, and back by a second queue |
//!
//! The implementations are those of [`twelvefold_benches::engine::edges`]; `base` is the same sums on
//! one thread, the cost of measuring. Each run checks the sum of what arrived. A pair of threads, on
//! a core each, passes all iterations of a sample, so that starting them is not in the figure.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::bounded;
use std::time::Duration;
use twelvefold::engine::edge::edge;
use twelvefold::engine::wait::Event;
use twelvefold::sync::Arc;
use twelvefold_benches::engine::edges::{
    base, core_to_core, crossbeam_one_by_one, ours_one_by_one, ours_slices, rtrb_in_place,
    rtrb_one_by_one, rtrb_slices, std_one_by_one,
};
use twelvefold_benches::engine::measure::{pair, poll};

const BUFFERS: usize = 8;
const TOKENS: usize = 1024;
/// Items in one iteration, a multiple of every slice.
const ITEMS: u64 = 1 << 16;
/// Buffers in one iteration.
const BATCHES: u64 = 1 << 10;

fn ours_buffers(items: u64) -> Duration {
    // Each thread sleeps in one place, whichever of its two edges it waits for.
    let (producer, consumer) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (mut full_in, mut full_out) = edge("full", BUFFERS, &producer, &consumer);
    let (mut empty_in, mut empty_out) = edge("empty", BUFFERS, &consumer, &producer);
    for _ in 0..BUFFERS {
        empty_in.send(vec![0_u32; TOKENS]).expect("the receiver is there");
    }
    pair(
        items,
        move |items| {
            for number in 0..items {
                let mut buffer = empty_out.recv().expect("buffers come back");
                fill(&mut buffer, number);
                full_in.send(buffer).expect("the receiver is there");
            }
        },
        move |_| {
            let mut sum = 0;
            while let Some(buffer) = full_out.recv() {
                sum += read(&buffer);
                // At the end the producer has gone.
                drop(empty_in.send(buffer));
            }
            sum
        },
    )
}

fn rtrb_buffers(items: u64) -> Duration {
    let (mut full_in, mut full_out) = rtrb::RingBuffer::new(BUFFERS);
    let (mut empty_in, mut empty_out) = rtrb::RingBuffer::new(BUFFERS);
    for _ in 0..BUFFERS {
        empty_in.push(vec![0_u32; TOKENS]).expect("there is room for all");
    }
    let pop = |ring: &mut rtrb::Consumer<Vec<u32>>| {
        let mut buffer = None;
        poll(|| {
            buffer = ring.pop().ok();
            buffer.is_some()
        });
        buffer.expect("it was waited for")
    };
    pair(
        items,
        move |items| {
            for number in 0..items {
                let mut buffer = pop(&mut empty_out);
                fill(&mut buffer, number);
                full_in.push(buffer).expect("as much room as buffers");
            }
        },
        move |items| {
            let mut sum = 0;
            for _ in 0..items {
                let buffer = pop(&mut full_out);
                sum += read(&buffer);
                empty_in.push(buffer).expect("as much room as buffers");
            }
            sum
        },
    )
}

fn crossbeam_buffers(items: u64) -> Duration {
    let (full_in, full_out) = bounded(BUFFERS);
    let (empty_in, empty_out) = bounded(BUFFERS);
    for _ in 0..BUFFERS {
        empty_in.send(vec![0_u32; TOKENS]).expect("the receiver is there");
    }
    pair(
        items,
        move |items| {
            for number in 0..items {
                let mut buffer = empty_out.recv().expect("buffers come back");
                fill(&mut buffer, number);
                full_in.send(buffer).expect("the receiver is there");
            }
        },
        move |_| {
            let mut sum = 0;
            for buffer in full_out.iter() {
                sum += read(&buffer);
                drop(empty_in.send(buffer));
            }
            sum
        },
    )
}

/// A buffer carries its number; touching all of it would measure memory.
fn fill(buffer: &mut [u32], number: u64) {
    buffer[0] = number as u32;
}

fn read(buffer: &[u32]) -> u64 {
    u64::from(buffer[0])
}

fn row(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: &str,
    items: u64,
    run: impl Fn(u64) -> Duration,
) {
    group.bench_function(id, |bencher| bencher.iter_custom(|rounds| run(rounds * items)));
}

fn edges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("edge");
    group.sample_size(60);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(ITEMS));
    row(&mut group, "cap1024_u64/base", ITEMS, base);
    row(&mut group, "cap1024_u64/ours", ITEMS, ours_one_by_one);
    row(&mut group, "cap1024_u64/rtrb_bare", ITEMS, rtrb_one_by_one);
    row(&mut group, "cap1024_u64/crossbeam_channel", ITEMS, crossbeam_one_by_one);
    row(&mut group, "cap1024_u64/std_sync_channel", ITEMS, std_one_by_one);
    row(&mut group, "cap1024_u64_slice64/ours", ITEMS, ours_slices::<64>);
    row(&mut group, "cap1024_u64_slice64/rtrb_bare", ITEMS, rtrb_slices::<64>);
    row(&mut group, "cap1024_u64_slice64/rtrb_in_place", ITEMS, rtrb_in_place::<64>);
    row(&mut group, "cap1024_u64_slice256/ours", ITEMS, ours_slices::<256>);
    row(&mut group, "cap1024_u64_slice256/rtrb_bare", ITEMS, rtrb_slices::<256>);
    row(&mut group, "cap1024_u64_slice256/rtrb_in_place", ITEMS, rtrb_in_place::<256>);
    row(&mut group, "cap1024_u64_slice256/core_to_core", ITEMS, core_to_core::<256, 4>);
    group.throughput(Throughput::Elements(BATCHES));
    row(&mut group, "cap8_buffers/ours", BATCHES, ours_buffers);
    row(&mut group, "cap8_buffers/rtrb_bare", BATCHES, rtrb_buffers);
    row(&mut group, "cap8_buffers/crossbeam_channel", BATCHES, crossbeam_buffers);
    group.finish();
}

criterion_group!(benches, edges);
criterion_main!(benches);
