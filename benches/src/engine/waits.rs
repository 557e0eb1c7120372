//! Waiting: a round trip between two threads that never sleep, a send that nobody has to be woken
//! for, and a wake from sleep.

use super::measure::{nanoseconds, own_voluntary_switches, pair, pin, poll, quantile};
use super::row::{Reach, Row};
use super::{Scale, per_item};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use twelvefold::engine::edge::{Receiver, Sender, edge};
use twelvefold::engine::wait::Event;
use twelvefold::sync::Arc;

/// The rows of the table.
pub fn rows(scale: Scale) -> Vec<Row> {
    let (fast, slow) = (scale.of(160_000), scale.of(3_200));
    let trip = Row::new("wait/round_trip_busy", "ns")
        .runs("ours", per_item(fast, ours_round_trips))
        .runs("rtrb_spinning", per_item(fast, rtrb_round_trips))
        .runs("mutex_condvar", per_item(slow, condvar_round_trips))
        .against("ours", "rtrb_spinning", Reach::Within(1.3))
        .against("ours", "mutex_condvar", Reach::Times(100.0));
    let bursts = scale.of(3_200);
    let awake = Row::new("wait/send_to_awake_peer", "ns a send")
        .called("time")
        .metric("voluntary switches of both threads", "")
        .measures("ours", move || ours_to_awake(bursts))
        .measures("rtrb_push", move || rtrb_to_awake(bursts))
        .against("ours", "rtrb_push", Reach::Over(12.0))
        .at_most(1, "ours", 0.0);
    let wakes = scale.of(320) as usize;
    let wake = Row::new("wait/wake_from_sleep", "ns")
        .called("send to first instruction, median")
        .metric("the same, 99th percentile", "ns")
        .metric("the sender's share", "ns")
        .measures("ours", move || ours_wakes(wakes))
        .measures("mutex_condvar", move || condvar_wakes(wakes))
        .against("ours", "mutex_condvar", Reach::Within(1.1))
        .compares(1, "ours", ("mutex_condvar", 1.0, "mutex_condvar"), Reach::Told)
        .compares(2, "ours", ("mutex_condvar", 1.0, "mutex_condvar"), Reach::Told);
    vec![trip, awake, wake]
}

/// There and back: the sum of what came back is the sum of what was sent, checked by [`pair`] at
/// the far end, and the near end checks each number.
fn round_trips(
    items: u64,
    mut there: impl FnMut(u64) + Send,
    mut arrived: impl FnMut() -> u64 + Send,
    mut back: impl FnMut(u64) + Send,
    mut returned: impl FnMut() -> u64 + Send,
) -> Duration {
    pair(
        items,
        move |items| {
            for number in 0..items {
                there(number);
                assert_eq!(returned(), number);
            }
        },
        move |items| {
            let mut sum = 0;
            for _ in 0..items {
                let number = arrived();
                sum += number;
                back(number);
            }
            sum
        },
    )
}

/// Two edges; each thread waits in one place.
fn ours_round_trips(items: u64) -> Duration {
    let (near, far) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (mut there, mut arrived) = edge("there", 64, &near, &far);
    let (mut back, mut returned) = edge("back", 64, &far, &near);
    round_trips(
        items,
        move |number| there.send(number).expect("the far end is there"),
        move || arrived.recv().expect("the near end is there"),
        // The last answer may find the near end gone already.
        move |number| {
            back.send(number).ok();
        },
        move || returned.recv().expect("the far end is there"),
    )
}

/// Two bare rings, polled.
fn rtrb_round_trips(items: u64) -> Duration {
    let (mut there, mut arrived) = rtrb::RingBuffer::new(64);
    let (mut back, mut returned) = rtrb::RingBuffer::new(64);
    let pop = |consumer: &mut rtrb::Consumer<u64>| {
        let mut got = None;
        poll(|| {
            got = consumer.pop().ok();
            got.is_some()
        });
        got.expect("polled until it was there")
    };
    round_trips(
        items,
        move |number| there.push(number).expect("one number at a time"),
        move || pop(&mut arrived),
        move |number| back.push(number).expect("one number at a time"),
        move || pop(&mut returned),
    )
}

/// A place for one value with a lock and a condition.
#[derive(Debug)]
struct Slot<T> {
    value: Mutex<Option<T>>,
    filled: Condvar,
}

impl<T> Slot<T> {
    fn new() -> Slot<T> {
        Slot { value: Mutex::new(None), filled: Condvar::new() }
    }

    fn put(&self, value: T) {
        *self.value.lock().expect("nobody panics") = Some(value);
        self.filled.notify_one();
    }

    fn take(&self) -> T {
        let value = self.value.lock().expect("nobody panics");
        let mut value =
            self.filled.wait_while(value, |value| value.is_none()).expect("nobody panics");
        value.take().expect("waited until it was there")
    }
}

/// A mutex and a condition each way.
fn condvar_round_trips(items: u64) -> Duration {
    let (there, back) = (Slot::new(), Slot::new());
    round_trips(items, |number| there.put(number), || there.take(), |n| back.put(n), || back.take())
}

/// Numbers in a burst; half of the ring's room, so that no send waits.
const BURST: u64 = 512;

/// Bursts into a ring whose other end is awake and polls something else meanwhile; nanoseconds a
/// send, and both threads' voluntary switches.
fn to_awake(
    bursts: u64,
    mut send: impl FnMut(u64) + Send,
    mut take: impl FnMut() -> Option<u64> + Send,
) -> Vec<f64> {
    let (sent, drained) = (AtomicU64::new(0), AtomicU64::new(0));
    let (sent, drained) = (&sent, &drained);
    let switches = |before: u64| (own_voluntary_switches() - before) as f64;
    let (sending, at_sender, at_peer) = thread::scope(|scope| {
        let peer = scope.spawn(move || {
            pin(1);
            let before = own_voluntary_switches();
            let mut expected = 0;
            for burst in 1..=bursts {
                poll(|| sent.load(Ordering::Acquire) == burst);
                while let Some(number) = take() {
                    assert_eq!(number, expected);
                    expected += 1;
                }
                drained.store(burst, Ordering::Release);
            }
            assert_eq!(expected, bursts * BURST);
            switches(before)
        });
        let sender = scope.spawn(move || {
            pin(0);
            let before = own_voluntary_switches();
            let mut sending = Duration::ZERO;
            for burst in 0..bursts {
                let started = Instant::now();
                (burst * BURST..(burst + 1) * BURST).for_each(&mut send);
                sending += started.elapsed();
                sent.store(burst + 1, Ordering::Release);
                poll(|| drained.load(Ordering::Acquire) == burst + 1);
            }
            (sending, switches(before))
        });
        let (sending, at_sender) = sender.join().expect("the sender does not panic");
        (sending, at_sender, peer.join().expect("the peer does not panic"))
    });
    vec![nanoseconds(sending) / (bursts * BURST) as f64, at_sender + at_peer]
}

fn ours_to_awake(bursts: u64) -> Vec<f64> {
    let events = [Arc::new(Event::new()), Arc::new(Event::new())];
    let (mut sender, mut receiver): (Sender<u64>, Receiver<u64>) =
        edge("bench", 1024, &events[0], &events[1]);
    let send = move |number| sender.try_send(number).expect("there is room");
    to_awake(bursts, send, move || receiver.try_recv().ok())
}

fn rtrb_to_awake(bursts: u64) -> Vec<f64> {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(1024);
    let push = move |number| producer.push(number).expect("there is room");
    to_awake(bursts, push, move || consumer.pop().ok())
}

/// Long enough for every waiter to have gone to sleep: ours spins for about 50 µs first.
const ASLEEP: Duration = Duration::from_micros(400);

/// Stamps sent one by one to a sleeper: the median and the 99th percentile of the time from the
/// stamp to the sleeper's first instruction, and the median of what the send itself took.
fn wakes(
    count: usize,
    mut send: impl FnMut(Instant) + Send,
    mut recv: impl FnMut() -> Instant + Send,
) -> Vec<f64> {
    let awake = AtomicU64::new(0);
    let awake = &awake;
    let (mut late, mut sending) = thread::scope(|scope| {
        let sleeper = scope.spawn(move || {
            pin(1);
            let one = |_| {
                let sent = recv();
                let late = nanoseconds(sent.elapsed());
                awake.fetch_add(1, Ordering::Release);
                late
            };
            (0..count).map(one).collect::<Vec<f64>>()
        });
        let sender = scope.spawn(move || {
            pin(0);
            let one = |number| {
                poll(|| awake.load(Ordering::Acquire) == number);
                let quiet = Instant::now();
                while quiet.elapsed() < ASLEEP {
                    spin_loop();
                }
                let stamp = Instant::now();
                send(stamp);
                nanoseconds(stamp.elapsed())
            };
            (0..count as u64).map(one).collect::<Vec<f64>>()
        });
        let sending = sender.join().expect("the sender does not panic");
        (sleeper.join().expect("the sleeper does not panic"), sending)
    });
    vec![quantile(&mut late, 0.5), quantile(&mut late, 0.99), quantile(&mut sending, 0.5)]
}

fn ours_wakes(count: usize) -> Vec<f64> {
    let events = [Arc::new(Event::new()), Arc::new(Event::new())];
    let (mut sender, mut receiver) = edge("bench", 4, &events[0], &events[1]);
    wakes(
        count,
        move |stamp| sender.send(stamp).expect("the sleeper is there"),
        move || receiver.recv().expect("the sender is there"),
    )
}

fn condvar_wakes(count: usize) -> Vec<f64> {
    let slot = Slot::new();
    wakes(count, |stamp| slot.put(stamp), || slot.take())
}
