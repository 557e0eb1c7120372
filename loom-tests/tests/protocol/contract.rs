//! One contract for the queues and for the stand-ins that replace them under loom: this file runs
//! against the real ones in `cargo test` and against the stand-ins in `cargo loom`.

use crate::support::spawn;
use loom_tests::model;
use twelvefold::sync::Arc;
use twelvefold::sync::deque::{Steal, Worker};
use twelvefold::sync::ring::ring;

#[test]
fn a_ring_is_first_in_first_out_and_bounded() {
    model(|| {
        let (mut tx, mut rx) = ring(2);
        assert!(rx.is_empty() && tx.has_room());
        assert_eq!([tx.push(1), tx.push(2), tx.push(3)], [Ok(()), Ok(()), Err(3)]);
        assert!(!tx.has_room() && tx.cached_room() == 0);
        assert_eq!([rx.pop(), rx.pop(), rx.pop()], [Some(1), Some(2), None]);
        assert_eq!(tx.push_slice(&[4, 5, 6]), 2);
        let mut out = [0; 4];
        assert_eq!((rx.pop_slice(&mut out), &out[..2]), (2, &[4, 5][..]));
    });
}

/// Blocks that wrap around the ring's end, of items that count how many there are.
#[test]
fn a_block_moves_what_fits_and_every_item_is_dropped_once() {
    model(|| {
        let counter = Arc::new(());
        let some = |n: usize| vec![counter.clone(); n];
        let (mut tx, mut rx) = ring(3);
        let (mut items, mut out) = (some(2), Vec::new());
        assert_eq!((tx.push_front_of(&mut items), items.len()), (2, 0));
        assert_eq!((rx.pop_into(&mut out, 1), out.len()), (1, 1));
        items = some(4); // One slot at the ring's end, one at its front.
        assert_eq!((tx.push_front_of(&mut items), items.len()), (2, 2));
        assert_eq!(tx.push_front_of(&mut items), 0);
        assert_eq!((rx.pop_into(&mut out, 5), out.len()), (3, 4));
        assert_eq!(Arc::strong_count(&counter), 1 + 4 + 2);
        assert_eq!(rx.pop_into(&mut out, 5), 0);
        assert_eq!(tx.push_front_of(&mut items), 2);
        drop((tx, rx, out, items)); // Two are left in the ring.
        assert_eq!(Arc::strong_count(&counter), 1);
    });
}

#[test]
fn a_ring_hands_its_items_to_another_thread() {
    model(|| {
        let (mut tx, mut rx) = ring(1);
        let pushed = spawn(move || tx.push(7).is_ok());
        let seen = rx.pop();
        assert!(pushed.join().unwrap());
        assert_eq!(seen.or_else(|| rx.pop()), Some(7));
    });
}

#[test]
fn a_deque_gives_its_oldest_item_to_owner_and_thief() {
    model(|| {
        let worker = Worker::new();
        (1..=3).for_each(|n| worker.push(n));
        assert_eq!((worker.len(), worker.pop()), (3, Some(1)));
        let stealer = worker.stealer();
        assert_eq!(stealer.steal(), Steal::Success(2));
        assert_eq!(worker.pop(), Some(3));
        assert!(worker.is_empty() && worker.pop().is_none());
        assert_eq!(stealer.steal(), Steal::Empty);
    });
}

#[test]
fn a_batch_is_popped_once_and_the_rest_is_moved() {
    model(|| {
        let (victim, thief) = (Worker::new(), Worker::new());
        (1..=4).for_each(|n| victim.push(n));
        assert_eq!(victim.stealer().steal_batch_and_pop(&thief, 8), Steal::Success(1));
        let mut all: Vec<u32> = std::iter::from_fn(|| thief.pop()).collect();
        all.extend(std::iter::from_fn(|| victim.pop()));
        assert_eq!(all, [2, 3, 4]);
    });
}

/// Owner and thief want the same last item.
#[test]
fn one_item_goes_to_one_taker() {
    model(|| {
        let worker = Worker::new();
        worker.push(1);
        let stealer = worker.stealer();
        let thief = spawn(move || {
            loop {
                match stealer.steal() {
                    Steal::Retry => {}
                    Steal::Success(item) => return Some(item),
                    Steal::Empty => return None,
                }
            }
        });
        let mine: Option<u32> = worker.pop();
        let theirs = thief.join().unwrap();
        assert_eq!(mine.into_iter().chain(theirs).collect::<Vec<_>>(), [1]);
    });
}
