//! The spheres' pool is parallel for real: handing out returns before the work ends, and tasks that
//! wait for each other end.

#![expect(clippy::unwrap_used, reason = "a thread that does not start is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use twelvefold::engine::crew::Crew;
use twelvefold::engine::pool::{Leaf, Publisher, pool};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;

/// Longer than any machine needs, for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    publisher: Publisher<usize>,
    shutdown: Arc<Shutdown>,
    crew: Crew,
}

/// `leaves` leaves, all of which may be awake, that run `task` on what they claim.
fn rig(leaves: usize, task: impl Fn(&Shutdown, usize) + Send + Sync + 'static) -> Rig {
    let control = Arc::new(Event::new());
    let shutdown = Arc::new(Shutdown::new());
    let (publisher, ends) = pool(leaves, leaves, control.clone(), shutdown.clone());
    shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
    let task = Arc::new(task);
    let mut crew = Crew::new(shutdown.clone());
    for mut leaf in ends {
        let (task, stop) = (task.clone(), shutdown.clone());
        let body = move |_: &_| {
            work(&mut leaf, |number| task(&stop, number));
            Ok(())
        };
        crew.spawn("leaf", "leaf", 0, body).unwrap();
    }
    Rig { publisher, shutdown, crew }
}

fn work(leaf: &mut Leaf<usize>, run: impl Fn(usize)) {
    let pool = leaf.pool().clone();
    while let Some(number) = leaf.claim() {
        run(number);
        if let Some(last) = leaf.finish(&pool) {
            leaf.complete(last);
        }
    }
}

impl Rig {
    fn end(self) -> u64 {
        self.publisher.close();
        self.crew.join().unwrap();
        let ledger = self.publisher.pool().abandon();
        assert_eq!(ledger.made, ledger.finished + ledger.abandoned);
        ledger.finished
    }
}

/// The only leaf's only task waits until the publisher has come back from handing it out.
#[test]
fn handing_out_a_step_returns_before_its_tasks_end() {
    let gate = Arc::new(Barrier::new(2));
    let inside = gate.clone();
    let mut rig = rig(1, move |_, _| {
        inside.wait();
    });
    rig.publisher.publish([0].into_iter());
    assert!(!rig.publisher.is_complete(), "the task has not passed the gate");
    gate.wait();
    assert!(rig.publisher.wait());
    assert_eq!(rig.end(), 1);
}

/// How a step of `n` tasks is handed out.
type HandOut = fn(&mut Publisher<usize>, usize);

fn all_at_once(publisher: &mut Publisher<usize>, n: usize) {
    publisher.publish(0..n);
    publisher.wait();
}

/// The planted bug: each task is waited for before the next is handed out.
fn one_after_the_other(publisher: &mut Publisher<usize>, n: usize) {
    for number in 0..n {
        publisher.publish([number].into_iter());
        if !publisher.wait() {
            return;
        }
    }
}

/// Whether `n` tasks that wait for each other all met on `n` leaves within `patience`.
fn meet(n: usize, hand_out: HandOut, patience: Duration) -> bool {
    let arrived = Arc::new(AtomicUsize::new(0));
    let here = arrived.clone();
    let mut rig = rig(n, move |shutdown, _| {
        here.fetch_add(1, Ordering::AcqRel);
        while here.load(Ordering::Acquire) < n && !shutdown.is_stopped() {
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    let shutdown = rig.shutdown.clone();
    let watched = arrived.clone();
    let watchdog = std::thread::spawn(move || {
        let started = Instant::now();
        while watched.load(Ordering::Acquire) < n {
            if started.elapsed() > patience {
                shutdown.cancel();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    hand_out(&mut rig.publisher, n);
    watchdog.join().unwrap();
    rig.end();
    arrived.load(Ordering::Acquire) == n
}

#[test]
fn tasks_that_wait_for_each_other_end_with_as_many_spheres() {
    for n in [2, 3, 12, 65] {
        assert!(meet(n, all_at_once, PATIENCE), "{n} tasks");
    }
}

#[test]
fn a_synchronous_hand_out_would_be_noticed() {
    assert!(!meet(2, one_after_the_other, Duration::from_millis(200)));
}
