//! The edge alone keeps its promises: order, nothing lost at a close from either side, ends that
//! move between threads, and an end whose thread panics.

#![expect(clippy::unwrap_used, reason = "a thread that does not start is a failed test")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use twelvefold::engine::edge::{RecvError, SendError, channel};

/// Longer than any machine needs, for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn within<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = body();
        done.send(()).unwrap();
        result
    });
    match ended.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn items_arrive_in_order_at_any_capacity_and_buffer() {
    within(|| {
        for capacity in [1, 2, 7, 64] {
            for chunk in [1, 3, 64] {
                let (tx, rx) = channel::<Box<u32>>(capacity);
                let (mut tx, mut rx) = (tx.buffered(chunk), rx.buffered(chunk));
                let meter = tx.meter();
                let sender = thread::spawn(move || {
                    for n in 0..1000 {
                        tx.send(Box::new(n)).unwrap();
                        if n % 97 == 0 {
                            tx.flush().unwrap();
                        }
                    }
                    tx.close().unwrap();
                });
                let got: Vec<u32> = rx.by_ref().map(|n| *n).collect();
                assert!(got.into_iter().eq(0..1000), "capacity {capacity}, chunk {chunk}");
                drop(rx);
                sender.join().unwrap();
                let count = meter.count();
                assert_eq!((count.items_in, count.items_out, count.abandoned), (1000, 1000, 0));
                assert!(count.high_water <= capacity as u64);
            }
        }
    });
}

/// Both ends sleep on one thread after another.
#[test]
fn both_ends_move_between_threads_after_they_have_slept() {
    within(|| {
        let (mut tx, mut rx) = channel(1);
        let receiver = thread::spawn(move || {
            let mut sum = 0;
            for _ in 0..20 {
                (rx, sum) = thread::spawn(move || {
                    let sum = sum + rx.by_ref().take(50).sum::<u64>();
                    (rx, sum)
                })
                .join()
                .unwrap();
            }
            (rx, sum)
        });
        for part in 0..20 {
            tx = thread::spawn(move || {
                for n in 0..50 {
                    if n % 10 == 0 {
                        thread::sleep(Duration::from_micros(200)); // Long enough to put it to sleep.
                    }
                    tx.send(50 * part + n).unwrap();
                }
                tx
            })
            .join()
            .unwrap();
        }
        let (mut rx, sum) = receiver.join().unwrap();
        assert_eq!(sum, 1000 * 999 / 2);
        drop(tx);
        assert_eq!(rx.recv(), None);
    });
}

#[test]
fn a_receiver_that_closes_loses_nothing_that_was_sent() {
    within(|| {
        for _ in 0..200 {
            let (mut tx, mut rx) = channel(2);
            let sender = thread::spawn(move || {
                let mut sent = 0;
                while tx.send(sent).is_ok() {
                    sent += 1;
                }
                sent
            });
            assert_eq!(rx.recv(), Some(0));
            rx.close();
            let rest = rx.count() as u64;
            assert_eq!(1 + rest, sender.join().unwrap());
        }
    });
}

#[test]
fn a_panic_of_the_peer_closes_the_edge() {
    within(|| {
        let (mut tx, rx) = channel(4);
        let sender = thread::spawn(move || {
            tx.send(1).unwrap();
            tx.send(2).unwrap();
            panic!("the sender's own");
        });
        assert_eq!(rx.collect::<Vec<i32>>(), [1, 2], "what was sent before is there");
        assert!(sender.join().is_err());

        let (mut tx, mut rx) = channel(1);
        let receiver = thread::spawn(move || {
            assert_eq!(rx.recv(), Some(0));
            panic!("the receiver's own");
        });
        let sent = (0..).take_while(|n| tx.send(*n).is_ok()).count() as u64;
        assert!(receiver.join().is_err());
        let count = tx.meter().count();
        assert_eq!((count.items_in, count.items_out), (sent, 1));
        drop(tx);
    });
}

/// The buffer of an end whose thread panics sends what fits and waits for nobody.
#[test]
fn a_panic_with_a_full_ring_and_a_full_buffer_does_not_hang() {
    within(|| {
        let (tx, mut rx) = channel(2);
        let sender = thread::spawn(move || {
            let mut tx = tx.buffered(5);
            (0..4).for_each(|n| tx.send(n).unwrap());
            panic!("with four held back and room for two");
        });
        assert!(sender.join().is_err());
        assert_eq!([rx.recv(), rx.recv(), rx.recv()], [Some(0), Some(1), None]);
    });
}

#[test]
fn what_a_receiving_buffer_held_back_is_abandoned() {
    let (mut tx, rx) = channel(8);
    let meter = tx.meter();
    let mut rx = rx.buffered(4);
    tx.send_slice(&[1, 2, 3, 4, 5, 6]).unwrap();
    assert_eq!((rx.recv(), rx.try_recv()), (Some(1), Ok(2)));
    drop(rx);
    drop(tx);
    let count = meter.count();
    assert_eq!((count.items_in, count.items_out, count.abandoned), (6, 2, 4));
    assert!(count.balances());
}

#[test]
fn waits_with_a_time_end_in_time_or_with_an_item() {
    within(|| {
        let (mut tx, mut rx) = channel(1);
        let soon = Duration::from_millis(2);
        assert_eq!(rx.recv_timeout(soon), Err(RecvError::Empty));
        assert_eq!(tx.send_timeout(1, soon), Ok(()));
        assert_eq!(tx.send_timeout(2, soon), Err(SendError::Full(2)));
        let receiver = thread::spawn(move || {
            // One wakes the other well before the time is up, or the test hangs.
            (rx.recv_timeout(Duration::MAX), rx.recv_timeout(2 * PATIENCE), rx)
        });
        thread::sleep(soon);
        assert_eq!(tx.send_timeout(3, 2 * PATIENCE), Ok(()));
        let (first, second, mut rx) = receiver.join().unwrap();
        assert_eq!((first, second), (Ok(1), Ok(3)));
        drop(tx);
        assert_eq!(rx.recv_timeout(2 * PATIENCE), Err(RecvError::Closed));
    });
}
