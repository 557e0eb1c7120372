//! The spheres' pool is parallel for real: handing out returns before the work ends, and tasks that
//! wait for each other end.

#![expect(clippy::unwrap_used, reason = "a thread that does not start is a failed test")]

#[path = "common/watchdog.rs"]
mod watchdog;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use twelvefold::engine::crew::Crew;
use twelvefold::engine::pool::{Leaf, Publisher, pool};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use watchdog::watchdog;

/// Longer than any machine needs, for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    publisher: Publisher<usize>,
    shutdown: Arc<Shutdown>,
    crew: Crew,
}

/// `leaves` leaves, all of which may be awake, that run `task` with their number on what they claim.
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
            let id = leaf.id();
            work(&mut leaf, |_| task(&stop, id));
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
    /// How many tasks were finished.
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
    let _watchdog = watchdog("handing out");
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
    let (arrived, met) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (here, together) = (arrived.clone(), met.clone());
    let mut rig = rig(n, move |shutdown, _| {
        here.fetch_add(1, Ordering::AcqRel);
        if wait_until(shutdown, || here.load(Ordering::Acquire) == n) {
            together.fetch_add(1, Ordering::AcqRel);
        }
    });
    let limit = stop_after(patience, &rig.shutdown, arrived, n);
    hand_out(&mut rig.publisher, n);
    limit.join().unwrap();
    rig.end();
    met.load(Ordering::Acquire) == n
}

/// Stops the run after `patience`, unless `count` has come to `end` by then.
fn stop_after(
    patience: Duration,
    shutdown: &Arc<Shutdown>,
    count: Arc<AtomicUsize>,
    end: usize,
) -> JoinHandle<()> {
    let (shutdown, started) = (shutdown.clone(), Instant::now());
    std::thread::spawn(move || {
        while count.load(Ordering::Acquire) < end {
            if started.elapsed() > patience {
                return shutdown.cancel();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// False where the run was stopped first.
fn wait_until(shutdown: &Shutdown, condition: impl Fn() -> bool) -> bool {
    while !condition() {
        if shutdown.is_stopped() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
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

/// Nobody goes on before leaf 0 has a task, and leaf 0 keeps that one until all others have ended.
/// What it carried off beside it can only be stolen. (Where it carried off nothing it came when the
/// publisher's deque was empty, which takes a theft too: three batches of 24 tasks leave four.)
#[test]
fn the_tasks_of_a_leaf_that_is_held_up_are_stolen_by_its_siblings() {
    const TASKS: usize = 24;
    let _watchdog = watchdog("a leaf that is held up");
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let done = ended.clone();
    let mut rig = rig(4, move |shutdown, leaf| {
        if leaf == 0 {
            begun.fetch_add(1, Ordering::AcqRel);
            wait_until(shutdown, || done.load(Ordering::Acquire) == TASKS - 1);
        } else {
            wait_until(shutdown, || begun.load(Ordering::Acquire) > 0);
        }
        done.fetch_add(1, Ordering::AcqRel);
    });
    let limit = stop_after(PATIENCE, &rig.shutdown, ended.clone(), TASKS);
    rig.publisher.publish(0..TASKS);
    assert!(rig.publisher.wait(), "somebody hangs");
    limit.join().unwrap();
    let counts: Vec<_> = (0..4).map(|leaf| rig.publisher.pool().count(leaf)).collect();
    assert_eq!(counts[0].finished, 1, "{counts:?}");
    assert!(counts.iter().map(|count| count.stolen).sum::<u64>() > 0, "{counts:?}");
    assert_eq!(ended.load(Ordering::Acquire), TASKS);
    assert_eq!(rig.end(), TASKS as u64);
}
