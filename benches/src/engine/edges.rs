//! Items from one thread to another: the edge beside bare rings and blocking channels.
//!
//! | implementation | waits by |
//! |---|---|
//! | `ours` | [`twelvefold::engine::edge`]: spin, yield, sleep; keeps its ledger |
//! | `rtrb_bare`, `rtrb_in_place` | spin, then yield: never sleeps, wakes nobody, counts nothing; the second writes and sums where the items lie, without a copy in and out |
//! | `crossbeam_channel`, `std_sync_channel` | their own blocking calls |
//! | `core_to_core` | spin; no queue, only blocks of words that two cores hand to each other |
//!
//! Every function passes the numbers below `items`, checks their sum, and gives the time that it
//! took, without the start of the threads.

#![expect(clippy::missing_panics_doc, reason = "a wrong sum panics, everywhere here")]

use self::blocks::Block;
use super::measure::{pair, poll};
use super::row::{Reach, Row};
use super::{Scale, per_item};
use crossbeam_channel::bounded;
use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use twelvefold::engine::edge::{Receiver, Sender, edge};
use twelvefold::engine::wait::Event;
use twelvefold::sync::Arc;

/// Room of every queue, in items.
pub const CAPACITY: usize = 1024;

/// The rows of the table.
pub fn rows(scale: Scale) -> Vec<Row> {
    let n = scale.of(1 << 22);
    let slow = scale.of(1 << 19);
    let slice = |id: &str| Row::new(id, "ns an item");
    let slice64 = slice("edge/cap1024_u64_slice64")
        .runs("ours", per_item(n, ours_slices::<64>))
        .runs("rtrb_bare", per_item(n, rtrb_slices::<64>))
        .runs("rtrb_in_place", per_item(n, rtrb_in_place::<64>))
        .runs("crossbeam_channel", per_item(slow, crossbeam_one_by_one))
        .runs("std_sync_channel", per_item(slow, std_one_by_one))
        .against("ours", "rtrb_bare", Reach::Times(0.90))
        .against("ours", "rtrb_in_place", Reach::Told)
        .against("ours", "crossbeam_channel", Reach::Times(25.0))
        .against("ours", "std_sync_channel", Reach::Times(18.0));
    let slice256 = slice("edge/cap1024_u64_slice256")
        .runs("ours", per_item(n, ours_slices::<256>))
        .runs("rtrb_bare", per_item(n, rtrb_slices::<256>))
        .runs("rtrb_in_place", per_item(n, rtrb_in_place::<256>))
        .runs("core_to_core", move || {
            let best = [core_to_core::<64, 16>, core_to_core::<256, 4>, core_to_core::<512, 2>];
            best.map(|run| per_item(n, run)()).into_iter().fold(f64::INFINITY, f64::min)
        })
        .against("ours", "core_to_core", Reach::Times(0.85))
        .against("ours", "rtrb_bare", Reach::Told)
        .against("ours", "rtrb_in_place", Reach::Told);
    let single = slice("edge/cap1024_u64")
        .runs("ours", per_item(slow, ours_one_by_one))
        .runs("rtrb_bare", per_item(slow, rtrb_one_by_one))
        .runs("crossbeam_channel", per_item(slow, crossbeam_one_by_one))
        .against("ours", "rtrb_bare", Reach::Times(0.35))
        .against("ours", "crossbeam_channel", Reach::Times(2.5));
    vec![slice64, slice256, single]
}

fn ours<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    edge("bench", capacity, &Arc::new(Event::new()), &Arc::new(Event::new()))
}

/// One send and one receive an item, each published at once.
pub fn ours_one_by_one(items: u64) -> Duration {
    let (mut sender, mut receiver) = ours(CAPACITY);
    pair(
        items,
        move |items| (0..items).for_each(|item| sender.send(item).expect("the receiver is there")),
        move |_| {
            let mut sum = 0;
            while let Some(item) = receiver.recv() {
                sum += item;
            }
            sum
        },
    )
}

/// Slices of `N`.
pub fn ours_slices<const N: usize>(items: u64) -> Duration {
    let (mut sender, mut receiver) = ours(CAPACITY);
    pair(
        items,
        move |items| {
            numbered::<N>(items, |slice| sender.send_slice(slice).expect("the receiver is there"));
        },
        move |_| {
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

/// One push and one pop an item.
pub fn rtrb_one_by_one(items: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    pair(
        items,
        move |items| (0..items).for_each(|item| poll(|| producer.push(item).is_ok())),
        move |items| {
            let mut sum = 0;
            for _ in 0..items {
                poll(|| consumer.pop().map(|item| sum += item).is_ok());
            }
            sum
        },
    )
}

/// Slices of `N`, copied in and out as ours are.
pub fn rtrb_slices<const N: usize>(items: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    pair(
        items,
        move |items| {
            numbered::<N>(items, |slice| {
                let mut rest = slice;
                poll(|| {
                    rest = producer.push_partial_slice(rest).1;
                    rest.is_empty()
                });
            });
        },
        move |items| {
            let (mut sum, mut slice, mut left) = (0, [0; N], items);
            while left > 0 {
                let mut taken = 0;
                poll(|| {
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

/// Chunks of `N`, written and summed where they lie in the ring.
pub fn rtrb_in_place<const N: usize>(items: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    pair(
        items,
        move |items| {
            for start in (0..items).step_by(N) {
                poll(|| producer.cached_slots() >= N || producer.slots() >= N);
                let mut chunk = producer.write_chunk(N).expect("there is room");
                let (first, second) = chunk.as_mut_slices();
                for (item, number) in first.iter_mut().chain(second).zip(start..) {
                    *item = number;
                }
                chunk.commit_all();
            }
        },
        move |items| {
            let mut sum = 0;
            for _ in (0..items).step_by(N) {
                poll(|| consumer.cached_slots() >= N || consumer.slots() >= N);
                let chunk = consumer.read_chunk(N).expect("they are there");
                let (first, second) = chunk.as_slices();
                sum += first.iter().sum::<u64>() + second.iter().sum::<u64>();
                chunk.commit_all();
            }
            sum
        },
    )
}

/// A message an item.
pub fn crossbeam_one_by_one(items: u64) -> Duration {
    let (sender, receiver) = bounded(CAPACITY);
    pair(
        items,
        move |items| (0..items).for_each(|item| sender.send(item).expect("the receiver is there")),
        move |_| receiver.iter().sum(),
    )
}

/// A message an item.
pub fn std_one_by_one(items: u64) -> Duration {
    let (sender, receiver) = sync_channel(CAPACITY);
    pair(
        items,
        move |items| (0..items).for_each(|item| sender.send(item).expect("the receiver is there")),
        move |_| receiver.iter().sum(),
    )
}

mod blocks {
    //! Words that two threads hand to each other by a flag, plain memory so that the compiler may
    //! move it by vectors.
    #![expect(unsafe_code, reason = "a flag says which of two threads may touch the words")]

    use crossbeam_utils::CachePadded;
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) struct Block<const WORDS: usize> {
        full: CachePadded<AtomicBool>,
        words: CachePadded<UnsafeCell<[u64; WORDS]>>,
    }

    // SAFETY: `words` is touched only in `fill`, by the one producer while `full` is false, and in
    // `drain`, by the one consumer while it is true; each hands over by a Release store that the
    // other's Acquire load has read. `edges::core_to_core` has one of each and is the only user.
    unsafe impl<const WORDS: usize> Sync for Block<WORDS> {}

    impl<const WORDS: usize> Block<WORDS> {
        pub(super) fn new() -> Self {
            Block {
                full: CachePadded::new(AtomicBool::new(false)),
                words: CachePadded::new(UnsafeCell::new([0; WORDS])),
            }
        }

        /// The producer's turn: false while the block is full.
        #[inline]
        pub(super) fn fill(&self, write: impl FnOnce(&mut [u64; WORDS])) -> bool {
            if self.full.load(Ordering::Acquire) {
                return false;
            }
            // SAFETY: see `Sync`: the block is empty and this is its one producer.
            write(unsafe { &mut *self.words.get() });
            self.full.store(true, Ordering::Release);
            true
        }

        /// The consumer's turn: `None` while the block is empty.
        #[inline]
        pub(super) fn drain(&self) -> Option<u64> {
            if !self.full.load(Ordering::Acquire) {
                return None;
            }
            // SAFETY: see `Sync`: the block is full and this is its one consumer.
            let sum = unsafe { &*self.words.get() }.iter().sum();
            self.full.store(false, Ordering::Release);
            Some(sum)
        }
    }
}

/// What two cores can pass at most in as much memory as the queues have: blocks that one fills and
/// the other sums, in turn.
pub fn core_to_core<const WORDS: usize, const BLOCKS: usize>(items: u64) -> Duration {
    let blocks: [Block<WORDS>; BLOCKS] = std::array::from_fn(|_| Block::new());
    let blocks = &blocks;
    pair(
        items,
        move |items| {
            for (block, start) in blocks.iter().cycle().zip((0..items).step_by(WORDS)) {
                let number = |words: &mut [u64; WORDS]| {
                    for (word, number) in words.iter_mut().zip(start..) {
                        *word = number;
                    }
                };
                poll(|| block.fill(number));
            }
        },
        move |items| {
            let mut total = 0;
            for (block, _) in blocks.iter().cycle().zip((0..items).step_by(WORDS)) {
                poll(|| block.drain().map(|sum: u64| total += sum).is_some());
            }
            total
        },
    )
}

/// The same sums on one thread: the cost of measuring.
pub fn base(items: u64) -> Duration {
    let started = Instant::now();
    let mut sum = 0;
    numbered::<256>(items, |slice| sum += black_box(slice).iter().sum::<u64>());
    assert_eq!(sum, items * (items - 1) / 2);
    started.elapsed()
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
