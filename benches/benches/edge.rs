//! Items from one thread to another through a bounded queue.
//!
//! `edge/CASE/IMPLEMENTATION`, throughput in items.
//!
//! | case | what moves |
//! |---|---|
//! | `cap1024_u64` | one `u64` at a time through room for 1,024 |
//! | `cap1024_u64_slice64`, `..256` | slices of that many; a channel without slices is not in the row |
//! | `cap8_buffers` | buffers of 1,024 tokens, filled by a number, and back by a second queue |
//!
//! | implementation | waits by |
//! |---|---|
//! | `ours` | [`twelvefold::engine::edge`]: spin, yield, sleep; keeps its ledger |
//! | `rtrb_bare` | spin, then yield: never sleeps, wakes nobody, counts nothing |
//! | `crossbeam_channel` | its own blocking calls |
//! | `base` | nobody: the same sums on one thread, the cost of measuring |
//!
//! Each run checks the sum of what arrived. A pair of threads passes all iterations of a sample, so
//! that starting them is not in the figure.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::bounded;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use twelvefold::engine::edge::{Receiver, Sender, edge};
use twelvefold::engine::wait::Event;

const CAPACITY: usize = 1024;
const BUFFERS: usize = 8;
const TOKENS: usize = 1024;
/// Items in one iteration, a multiple of every slice.
const ITEMS: u64 = 1 << 16;
/// Buffers in one iteration.
const BATCHES: u64 = 1 << 10;

/// Runs both ends until `items` numbers from 0 have passed, checks their sum, and gives the time
/// from the moment at which both threads run to the last item.
fn timed(
    items: u64,
    produce: impl FnOnce(u64) + Send,
    consume: impl FnOnce(u64) -> u64,
) -> Duration {
    let present = AtomicU32::new(0);
    let meet = || {
        present.fetch_add(1, Ordering::AcqRel);
        wait(|| present.load(Ordering::Acquire) == 2);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            meet();
            produce(items);
        });
        meet();
        let started = Instant::now();
        let sum = consume(items);
        let took = started.elapsed();
        assert_eq!(sum, items * (items - 1) / 2, "the sum of what arrived");
        took
    })
}

/// How `rtrb_bare` waits: spinning, and on a machine that is busy elsewhere yielding.
#[inline]
fn wait(mut ready: impl FnMut() -> bool) {
    let mut spins = 0;
    while !ready() {
        spins += 1;
        if spins < 2_000 { spin_loop() } else { thread::yield_now() }
    }
}

fn ours<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    edge("bench", capacity, &Arc::new(Event::new()), &Arc::new(Event::new()))
}

fn ours_one_by_one(items: u64) -> Duration {
    let (mut sender, mut receiver) = ours(CAPACITY);
    timed(
        items,
        move |items| (0..items).for_each(|item| sender.send(item).expect("the receiver is there")),
        |_| {
            let mut sum = 0;
            while let Some(item) = receiver.recv() {
                sum += item;
            }
            sum
        },
    )
}

fn ours_slices<const N: usize>(items: u64) -> Duration {
    let (mut sender, mut receiver) = ours(CAPACITY);
    timed(
        items,
        move |items| {
            numbered::<N>(items, |slice| sender.send_slice(slice).expect("the receiver is there"));
        },
        |_| {
            let (mut sum, mut slice) = (0, [0; N]);
            loop {
                match receiver.recv_slice(&mut slice) {
                    0 => return sum,
                    n => sum += slice[..n].iter().sum::<u64>(),
                }
            }
        },
    )
}

fn rtrb_one_by_one(items: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    timed(
        items,
        move |items| (0..items).for_each(|item| wait(|| producer.push(item).is_ok())),
        |items| {
            let mut sum = 0;
            for _ in 0..items {
                wait(|| consumer.pop().map(|item| sum += item).is_ok());
            }
            sum
        },
    )
}

fn rtrb_slices<const N: usize>(items: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    timed(
        items,
        move |items| {
            numbered::<N>(items, |slice| {
                let mut rest = slice;
                wait(|| {
                    rest = producer.push_partial_slice(rest).1;
                    rest.is_empty()
                });
            });
        },
        |items| {
            let (mut sum, mut slice, mut left) = (0, [0; N], items);
            while left > 0 {
                let mut taken = 0;
                wait(|| {
                    taken = consumer.pop_partial_slice(&mut slice).0.len();
                    taken > 0
                });
                sum += slice[..taken].iter().sum::<u64>();
                left -= taken as u64;
            }
            sum
        },
    )
}

fn crossbeam_one_by_one(items: u64) -> Duration {
    let (sender, receiver) = bounded(CAPACITY);
    timed(
        items,
        move |items| (0..items).for_each(|item| sender.send(item).expect("the receiver is there")),
        |_| receiver.iter().sum(),
    )
}

/// The numbers from 0, `N` at a time.
fn numbered<const N: usize>(items: u64, mut send: impl FnMut(&[u64])) {
    let mut slice = [0; N];
    for start in (0..items).step_by(N) {
        for (item, number) in slice.iter_mut().zip(start..) {
            *item = number;
        }
        send(&slice);
    }
}

fn base(items: u64) -> Duration {
    let started = Instant::now();
    let mut sum = 0;
    numbered::<256>(items, |slice| sum += black_box(slice).iter().sum::<u64>());
    assert_eq!(sum, items * (items - 1) / 2);
    started.elapsed()
}

fn ours_buffers(items: u64) -> Duration {
    // Each thread sleeps in one place, whichever of its two edges it waits for.
    let (producer, consumer) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (mut full_in, mut full_out) = edge("full", BUFFERS, &producer, &consumer);
    let (mut empty_in, mut empty_out) = edge("empty", BUFFERS, &consumer, &producer);
    for _ in 0..BUFFERS {
        empty_in.send(vec![0_u32; TOKENS]).expect("the receiver is there");
    }
    timed(
        items,
        move |items| {
            for number in 0..items {
                let mut buffer = empty_out.recv().expect("buffers come back");
                fill(&mut buffer, number);
                full_in.send(buffer).expect("the receiver is there");
            }
        },
        |_| {
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
        wait(|| {
            buffer = ring.pop().ok();
            buffer.is_some()
        });
        buffer.expect("it was waited for")
    };
    timed(
        items,
        move |items| {
            for number in 0..items {
                let mut buffer = pop(&mut empty_out);
                fill(&mut buffer, number);
                full_in.push(buffer).expect("as much room as buffers");
            }
        },
        |items| {
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
    timed(
        items,
        move |items| {
            for number in 0..items {
                let mut buffer = empty_out.recv().expect("buffers come back");
                fill(&mut buffer, number);
                full_in.send(buffer).expect("the receiver is there");
            }
        },
        |_| {
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
    row(&mut group, "cap1024_u64_slice64/ours", ITEMS, ours_slices::<64>);
    row(&mut group, "cap1024_u64_slice64/rtrb_bare", ITEMS, rtrb_slices::<64>);
    row(&mut group, "cap1024_u64_slice256/ours", ITEMS, ours_slices::<256>);
    row(&mut group, "cap1024_u64_slice256/rtrb_bare", ITEMS, rtrb_slices::<256>);
    group.throughput(Throughput::Elements(BATCHES));
    row(&mut group, "cap8_buffers/ours", BATCHES, ours_buffers);
    row(&mut group, "cap8_buffers/rtrb_bare", BATCHES, rtrb_buffers);
    row(&mut group, "cap8_buffers/crossbeam_channel", BATCHES, crossbeam_buffers);
    group.finish();
}

criterion_group!(benches, edges);
criterion_main!(benches);
