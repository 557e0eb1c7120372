//! Races and a use after free that a sanitizer must report: if it does not, its silence about the
//! protocol says nothing. Built with the feature `planted-races` only; run by `loom-tests/sanitize`,
//! each test by its name.

#![expect(unsafe_code, reason = "these are the bugs")]

use std::sync::atomic::{AtomicU32, Ordering, fence};
use twelvefold::engine::edge::edge;
use twelvefold::engine::pool::pool;
use twelvefold::engine::shutdown::Shutdown;
use twelvefold::engine::wait::Event;
use twelvefold::sync::{Arc, UnsafeCell};

/// Often enough that both accesses come close to each other in time.
const ROUNDS: u32 = 100;

#[derive(Debug, Default)]
struct Bare(UnsafeCell<u32>);

// SAFETY: none; that is the point.
unsafe impl Sync for Bare {}

impl Bare {
    fn add(&self, n: u32) {
        // SAFETY: none, as above.
        self.0.with_mut(|p| unsafe { *p += n });
    }

    fn get(&self) -> u32 {
        // SAFETY: none, as above.
        self.0.with(|p| unsafe { *p })
    }
}

/// Nothing at all between two threads.
#[test]
fn thread_two_threads_write_one_word() {
    let cell = Arc::new(Bare::default());
    let other = std::thread::spawn({
        let cell = cell.clone();
        move || (0..ROUNDS).for_each(|n| cell.add(n))
    });
    (0..ROUNDS).for_each(|n| cell.add(n));
    other.join().unwrap();
}

/// An item that its sender still writes after the hand-off.
#[test]
fn thread_a_sender_writes_what_it_has_sent() {
    let (mut tx, mut rx) =
        edge::<Arc<Bare>>("e", 1, &Arc::new(Event::new()), &Arc::new(Event::new()));
    let sender = std::thread::spawn(move || {
        for n in 0..ROUNDS {
            let item = Arc::new(Bare::default());
            tx.send(item.clone()).unwrap();
            item.add(n);
        }
    });
    while let Some(item) = rx.recv() {
        std::hint::black_box(item.get());
    }
    sender.join().unwrap();
}

/// A result that its leaf writes after it has said that the task is finished.
#[test]
fn thread_a_leaf_writes_after_its_task() {
    let (mut publisher, mut leaves) =
        pool::<u32>(1, 1, Arc::new(Event::new()), Arc::new(Shutdown::new()));
    let cell = Arc::new(Bare::default());
    let mut leaf = leaves.remove(0);
    let thread = std::thread::spawn({
        let cell = cell.clone();
        move || {
            let pool = leaf.pool().clone();
            while let Some(task) = leaf.claim() {
                if let Some(last) = leaf.finish(&pool) {
                    leaf.complete(last);
                }
                cell.add(task);
            }
        }
    });
    for n in 0..ROUNDS {
        publisher.publish([n].into_iter());
        assert!(publisher.wait());
        std::hint::black_box(cell.get());
    }
    publisher.close();
    thread.join().unwrap();
}

/// A word that a thread writes while another one, which knows itself the last, reads it in a drop:
/// what the false reports about `Arc` look most like.
#[test]
fn thread_a_drop_reads_what_another_thread_writes() {
    struct Reader(Arc<Bare>);
    impl Drop for Reader {
        fn drop(&mut self) {
            std::hint::black_box(self.0.get());
        }
    }
    for n in 0..ROUNDS {
        let cell = Arc::new(Bare::default());
        let shared = Arc::new(Reader(cell.clone()));
        let other = std::thread::spawn({
            let shared = shared.clone();
            move || {
                drop(shared);
                cell.add(n);
            }
        });
        drop(shared);
        other.join().unwrap();
    }
}

/// A count of our own with no Acquire at all before the memory goes: like `Arc`'s, but wrong.
#[test]
fn thread_a_block_is_freed_under_a_reader() {
    struct Counted {
        cell: Bare,
        owners: AtomicU32,
    }
    for n in 0..ROUNDS {
        let block = Counted { cell: Bare::default(), owners: 2.into() };
        let address = Box::into_raw(Box::new(block)).expose_provenance();
        let leave = move |n: u32| {
            let counted = std::ptr::with_exposed_provenance_mut::<Counted>(address);
            // SAFETY: until the count is lowered the block is there.
            let shared = unsafe { &*counted };
            if n > 0 {
                shared.cell.add(n);
            }
            fence(Ordering::SeqCst);
            if shared.owners.fetch_sub(1, Ordering::Relaxed) == 1 {
                // SAFETY: none: the other's accesses are not ordered before this.
                drop(unsafe { Box::from_raw(counted) });
            }
        };
        let other = std::thread::spawn(move || leave(n + 1));
        leave(0);
        other.join().unwrap();
    }
}

/// Memory read after it was given back.
#[test]
fn address_freed_memory_is_read() {
    let word = Box::into_raw(Box::new(7));
    // SAFETY: made by `into_raw` above.
    drop(unsafe { Box::from_raw(word) });
    // SAFETY: none: it has been given back.
    std::hint::black_box(unsafe { std::ptr::read_volatile(word) });
}
