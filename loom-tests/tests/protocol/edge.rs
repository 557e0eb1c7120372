//! The bounded edge: order, waiting on both sides, closing from both sides, the ledger.

use crate::support::spawn;
use loom_tests::model;
use twelvefold::engine::edge::{Receiver, RecvError, Sender, edge};
use twelvefold::engine::wait::Event;
use twelvefold::sync::Arc;

fn ends(capacity: usize) -> (Sender<u32>, Receiver<u32>) {
    edge("e", capacity, &Arc::new(Event::new()), &Arc::new(Event::new()))
}

/// Three items through room for one: both sides wait, and the end comes after the last item.
#[test]
fn items_arrive_in_order_and_then_the_edge_ends() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        let meter = tx.meter();
        let sender = spawn(move || (1..=3).for_each(|n| tx.send(n).unwrap()));
        assert_eq!([rx.recv(), rx.recv(), rx.recv(), rx.recv()], [Some(1), Some(2), Some(3), None]);
        sender.join().unwrap();
        let count = meter.count();
        assert_eq!((count.items_in, count.items_out, count.abandoned), (3, 3, 0));
    });
}

/// The last item comes between the receiver's empty look and its look at the closed bit.
#[test]
fn the_last_item_is_seen_before_the_close() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        let sender = spawn(move || tx.send(1).unwrap());
        assert_eq!(rx.recv(), Some(1));
        assert_eq!(rx.recv(), None);
        sender.join().unwrap();
    });
}

/// The sender goes between two looks of a receiver that never sleeps: the first to find the edge closed
/// has found it empty before.
#[test]
fn a_close_that_is_polled_comes_after_the_last_item() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        let receiver = spawn(move || {
            let polled = [rx.try_recv(), rx.try_recv()];
            assert_ne!(polled[0], Err(RecvError::Closed));
            assert!(polled[1] != Err(RecvError::Closed) || polled[0] == Ok(1), "{polled:?}");
            rx
        });
        tx.send(1).unwrap();
        drop(tx);
        receiver.join().unwrap();
    });
}

/// Both ends have gone, the sender last: whoever knows that by a look knows what it has counted.
#[test]
fn no_count_of_an_edge_shows_more_out_than_in() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        let meter = tx.meter();
        let receiver = spawn(move || {
            assert_eq!(rx.recv(), Some(1));
            drop(rx);
            let count = meter.count();
            assert!(count.items_in >= count.items_out + count.abandoned, "{count:?}");
        });
        tx.send(1).unwrap();
        drop(tx);
        receiver.join().unwrap();
    });
}

/// The item comes between the receiver's last look and its sleep. The sender stays, so that no
/// close wakes the receiver.
#[test]
fn a_wake_between_the_last_look_and_the_sleep_is_kept() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        let receiver = spawn(move || {
            assert_eq!(rx.recv(), Some(1));
            rx
        });
        tx.send(1).unwrap();
        drop(receiver.join().unwrap());
        drop(tx);
    });
}

/// The room comes between the sender's last look and its sleep. The receiver stays, so that its
/// going does not wake the sender.
#[test]
fn a_sender_that_waits_for_room_is_woken_by_it() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        tx.send(1).unwrap();
        let sender = spawn(move || {
            tx.send(2).unwrap();
            tx
        });
        assert_eq!(rx.recv(), Some(1));
        let tx = sender.join().unwrap();
        assert_eq!(rx.recv(), Some(2));
        drop((tx, rx));
    });
}

/// A close without a further item, while the receiver goes to sleep.
#[test]
fn a_sleeping_receiver_is_woken_by_the_close() {
    model(|| {
        let (tx, mut rx) = ends(1);
        let receiver = spawn(move || assert_eq!(rx.recv(), None));
        drop(tx);
        receiver.join().unwrap();
    });
}

/// The receiver goes while the sender sleeps on a full ring: the item comes back, and what was in
/// the ring is counted.
#[test]
fn a_sender_on_a_full_ring_learns_that_the_receiver_has_gone() {
    model(|| {
        let (mut tx, rx) = ends(1);
        let meter = tx.meter();
        tx.send(1).unwrap();
        let sender = spawn(move || assert_eq!(tx.send(2), Err(2)));
        drop(rx);
        sender.join().unwrap();
        let count = meter.count();
        assert_eq!((count.items_in, count.items_out, count.abandoned), (1, 0, 1));
    });
}

/// Both ends go at once, with an item on its way: whoever goes last counts it.
#[test]
fn the_last_end_to_go_counts_what_is_left() {
    model(|| {
        let (mut tx, mut rx) = ends(2);
        let meter = tx.meter();
        let sender = spawn(move || {
            // The receiver may have gone already.
            let _ = tx.try_send(1);
            let _ = tx.try_send(2);
        });
        let _ = rx.try_recv();
        drop(rx);
        sender.join().unwrap();
        let count = meter.count();
        assert!(count.balances(), "{count:?}");
    });
}

/// A snapshot taken at any moment shows no more out than in, and counters that only grow.
#[test]
fn no_snapshot_shows_more_out_than_in() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        let meter = tx.meter();
        let sender = spawn(move || tx.send(1).unwrap());
        let receiver = spawn(move || assert_eq!(rx.recv(), Some(1)));
        let first = meter.count();
        assert!(first.items_out <= first.items_in, "{first:?}");
        let second = meter.count();
        assert!(second.items_out <= second.items_in, "{second:?}");
        assert!(first.items_out <= second.items_out && first.items_in <= second.items_in);
        sender.join().unwrap();
        receiver.join().unwrap();
    });
}

/// The receiver wants no more while the sender sleeps on a full ring, or is about to send: the item
/// either comes back or is received, as is what was sent before. The receiver stays, so that its going
/// does not wake the sender.
#[test]
fn a_receiver_that_closes_takes_all_that_was_sent() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        tx.send(1).unwrap();
        let sender = spawn(move || tx.send(2).is_ok());
        rx.close();
        let taken = (rx.recv(), rx.recv());
        let sent = sender.join().unwrap();
        assert_eq!(taken, (Some(1), sent.then_some(2)));
        drop(rx);
    });
}

/// The sender sleeps on a full ring when the receiver wants no more; nothing but the close wakes it.
#[test]
fn a_close_by_the_receiver_wakes_a_sender_on_a_full_ring() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        tx.send(1).unwrap();
        let sender = spawn(move || tx.send(2));
        rx.close();
        assert_eq!(sender.join().unwrap(), Err(2));
        assert_eq!((rx.recv(), rx.recv()), (Some(1), None));
    });
}

/// Through buffers: the room that an unloaded chunk leaves wakes a sender that waits for it, the
/// flush wakes the receiver, and the last item comes before the end.
#[test]
fn buffered_ends_hand_over_every_item() {
    model(|| {
        let (tx, rx) = ends(1);
        let meter = tx.meter();
        let (mut tx, mut rx) = (tx.buffered(2), rx.buffered(2));
        let sender = spawn(move || {
            (1..=2).for_each(|n| tx.send(n).unwrap());
            tx
        });
        assert_eq!((rx.recv(), rx.recv()), (Some(1), Some(2)));
        let tx = sender.join().unwrap();
        drop(tx);
        assert_eq!(rx.recv(), None);
        drop(rx);
        let count = meter.count();
        assert_eq!((count.items_in, count.items_out, count.abandoned), (2, 2, 0));
    });
}

/// The last item of a buffer comes between the receiver's empty look and its look at the closed bit.
#[test]
fn the_last_buffered_item_is_seen_before_the_close() {
    model(|| {
        let (tx, rx) = ends(1);
        let (mut tx, mut rx) = (tx.buffered(1), rx.buffered(1));
        let sender = spawn(move || tx.send(1).unwrap());
        assert_eq!((rx.recv(), rx.recv()), (Some(1), None));
        sender.join().unwrap();
    });
}

/// An end that has slept moves to another thread and sleeps there: each wake reaches the thread that
/// sleeps now.
#[test]
fn an_end_that_moves_between_threads_is_woken_where_it_sleeps() {
    model(|| {
        let (mut tx, mut rx) = ends(1);
        let first = spawn(move || {
            assert_eq!(rx.recv(), Some(1));
            rx
        });
        tx.send(1).unwrap();
        let mut rx = first.join().unwrap();
        let second = spawn(move || {
            assert_eq!(rx.recv(), Some(2));
            rx
        });
        tx.send(2).unwrap();
        drop(second.join().unwrap());
        drop(tx);
    });
}

/// Chunks: what fits is sent at once, the rest waits.
#[test]
fn a_slice_longer_than_the_ring_arrives_whole() {
    model(|| {
        let (mut tx, mut rx) = ends(2);
        let sender = spawn(move || tx.send_slice(&[1, 2, 3]).unwrap());
        let mut got = Vec::new();
        let mut buffer = [0; 2];
        loop {
            let n = rx.recv_slice(&mut buffer);
            if n == 0 {
                break;
            }
            got.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(got, [1, 2, 3]);
        sender.join().unwrap();
    });
}
