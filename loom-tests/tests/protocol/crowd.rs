//! A dozen workers, two dozen, and more of everything than loom can have: under shuttle on random
//! schedules, in a plain test on real threads that pause at random.

#![expect(
    clippy::unwrap_used,
    reason = "a thread that does not start or end well is a failed test"
)]

use crate::support::{Meeting, Plain, spawn, work};
use loom_tests::{crowd, pause};
use twelvefold::engine::crew::{Crew, Seat};
use twelvefold::engine::edge::{Receiver, RecvError, SendError, Sender, edge};
use twelvefold::engine::pool::{Leaf, Publisher, pool};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::stage::{StageMeter, Step, Stepped, drive};
use twelvefold::engine::wait::Event;
use twelvefold::engine::{BoxError, Error};
use twelvefold::sync::{Arc, AtomicUsize, JoinHandle, Ordering};

const DOZEN: usize = 12;

fn new_pool(leaves: usize, awake: usize) -> (Arc<Shutdown>, Publisher<usize>, Vec<Leaf<usize>>) {
    let control = Arc::new(Event::new());
    let shutdown = Arc::new(Shutdown::new());
    let (publisher, leaves) = pool(leaves, awake, control.clone(), shutdown.clone());
    shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
    (shutdown, publisher, leaves)
}

/// A thread for each leaf, that runs `task` for what it claims.
fn start(
    leaves: Vec<Leaf<usize>>,
    task: impl Fn(&mut Leaf<usize>, usize) + Clone + Send + 'static,
) -> Vec<JoinHandle<()>> {
    leaves
        .into_iter()
        .map(|mut leaf| {
            let task = task.clone();
            spawn(move || {
                work(&mut leaf, |leaf, n| {
                    pause();
                    task(leaf, n);
                });
            })
        })
        .collect()
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn every_task_once(leaves: usize, awake: usize) {
    crowd(move || {
        let (_, mut publisher, workers) = new_pool(leaves, awake);
        let cells: Arc<Vec<_>> = Arc::new((0..leaves).map(|_| Plain::shared()).collect());
        let threads = start(workers, {
            let cells = cells.clone();
            move |_, n| cells[n].add(1)
        });
        for step in 1..=2 {
            publisher.publish(0..leaves);
            assert!(publisher.wait());
            assert!(cells.iter().all(|cell| cell.get() == step));
        }
        publisher.close();
        join(threads);
        let ledger = publisher.pool().abandon();
        let tasks = 2 * leaves as u64;
        assert_eq!((ledger.made, ledger.finished, ledger.abandoned), (tasks, tasks, 0));
    });
}

#[test]
fn a_dozen_leaves_run_every_task_of_two_steps_once() {
    every_task_once(DOZEN, DOZEN);
}

#[test]
fn two_dozen_leaves_run_every_task_of_two_steps_once() {
    every_task_once(2 * DOZEN, 2 * DOZEN);
}

/// Two dozen leaves of which two are kept awake, as on two cores.
#[test]
fn a_limit_on_two_dozen_strands_no_task() {
    every_task_once(2 * DOZEN, 2);
}

fn all_meet(leaves: usize) {
    crowd(move || {
        let (_, mut publisher, workers) = new_pool(leaves, leaves);
        let meeting = Meeting::new(leaves);
        let threads = start(workers, move |_, n| meeting.meet(n));
        publisher.publish(0..leaves);
        assert!(publisher.wait());
        publisher.close();
        join(threads);
    });
}

/// Every leaf is needed at once: no wake may be missed, spent twice, or lost with a batch on its way.
#[test]
fn a_dozen_tasks_that_wait_for_each_other_meet() {
    all_meet(DOZEN);
}

#[test]
fn two_dozen_tasks_that_wait_for_each_other_meet() {
    all_meet(2 * DOZEN);
}

/// The last of each phase opens the next, and each task of it sees what all of the last one wrote.
#[test]
fn two_dozen_leaves_go_through_three_phases() {
    const PHASES: u32 = 3;
    crowd(|| {
        let leaves = 2 * DOZEN;
        let (_, mut publisher, workers) = new_pool(leaves, leaves);
        let cells: Arc<Vec<_>> = Arc::new((0..leaves).map(|_| Plain::shared()).collect());
        // Written by the last arriver alone.
        let phase = Plain::shared();
        let threads: Vec<_> = workers
            .into_iter()
            .map(|mut leaf| {
                let (cells, phase) = (cells.clone(), phase.clone());
                spawn(move || {
                    let pool = leaf.pool().clone();
                    while let Some(n) = leaf.claim() {
                        pause();
                        assert_eq!(cells[n].get(), phase.get());
                        cells[n].add(1);
                        let Some(last) = leaf.finish(&pool) else { continue };
                        phase.add(1);
                        assert!(cells.iter().all(|cell| cell.get() == phase.get()));
                        if phase.get() < PHASES {
                            leaf.open(last, 0..leaves);
                        } else {
                            leaf.complete(last);
                        }
                    }
                })
            })
            .collect();
        publisher.publish(0..leaves);
        assert!(publisher.wait());
        assert_eq!(phase.get(), PHASES);
        publisher.close();
        join(threads);
    });
}

/// Each of a dozen tasks spawns another one, and the pool is closed meanwhile.
#[test]
fn a_close_drains_what_a_dozen_tasks_spawn() {
    crowd(|| {
        let (_, mut publisher, workers) = new_pool(DOZEN, DOZEN);
        let finished = Arc::new(AtomicUsize::new(0));
        let threads = start(workers, {
            let finished = finished.clone();
            move |leaf, n| {
                if n < DOZEN {
                    leaf.spawn([n + DOZEN].into_iter());
                }
                finished.fetch_add(1, Ordering::Relaxed);
            }
        });
        publisher.publish(0..DOZEN);
        publisher.close();
        join(threads);
        assert_eq!(finished.load(Ordering::Relaxed), 2 * DOZEN);
    });
}

/// One task of a dozen fails; eleven leaves are at work, asleep or on their way there.
#[test]
fn a_poison_ends_a_dozen_leaves_and_the_publisher() {
    crowd(|| {
        let (shutdown, mut publisher, workers) = new_pool(DOZEN, DOZEN);
        let threads: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(id, mut leaf)| {
                let shutdown = shutdown.clone();
                spawn(move || {
                    let pool = leaf.pool().clone();
                    while let Some(n) = leaf.claim() {
                        pause();
                        if n == 5 {
                            shutdown.poison(id);
                            return;
                        }
                        if let Some(last) = leaf.finish(&pool) {
                            leaf.complete(last);
                        }
                    }
                })
            })
            .collect();
        publisher.publish(0..DOZEN);
        assert!(!publisher.wait(), "an unfinished step is not complete");
        join(threads);
        assert!(shutdown.first_fault().is_some_and(|id| id < DOZEN));
        let ledger = publisher.pool().abandon();
        assert_eq!(ledger.lost, 1);
        assert_eq!(ledger.made, ledger.finished + ledger.lost + ledger.abandoned, "{ledger:?}");
    });
}

/// A cancel comes at any moment of two steps of two dozen leaves.
#[test]
fn a_cancel_ends_two_dozen_leaves_at_any_moment() {
    crowd(|| {
        let (shutdown, mut publisher, workers) = new_pool(2 * DOZEN, 2 * DOZEN);
        let threads = start(workers, |_, _| {});
        let canceller = spawn(move || {
            pause();
            shutdown.cancel();
        });
        for _ in 0..2 {
            publisher.publish(0..2 * DOZEN);
            if !publisher.wait() {
                break;
            }
        }
        canceller.join().unwrap();
        join(threads);
        let ledger = publisher.pool().abandon();
        assert_eq!(ledger.made, ledger.finished + ledger.abandoned, "{ledger:?}");
    });
}

/// A dozen senders, each with an edge of its own to one receiver that sleeps on one event for all.
#[test]
fn a_dozen_edges_to_one_receiver_drain_in_order() {
    const ITEMS: u32 = 4;
    crowd(|| {
        let sink = Arc::new(Event::new());
        let (threads, mut ends): (Vec<_>, Vec<_>) = (0..DOZEN)
            .map(|_| {
                let (mut tx, rx) = edge::<u32>("e", 1, &Arc::new(Event::new()), &sink);
                let sender = spawn(move || {
                    for n in 0..ITEMS {
                        pause();
                        tx.send(n).unwrap();
                    }
                });
                (sender, (rx, 0, false))
            })
            .unzip();
        let look = |(rx, next, closed): &mut (Receiver<u32>, u32, bool)| match rx.try_recv() {
            Ok(item) => {
                assert_eq!(item, *next);
                *next += 1;
                true
            }
            Err(RecvError::Empty) => false,
            Err(RecvError::Closed) => !std::mem::replace(closed, true),
        };
        while ends.iter().any(|(_, _, closed)| !closed) {
            // All are looked at: no short circuit.
            sink.wait(|| ends.iter_mut().filter_map(|end| look(end).then_some(())).count() > 0);
        }
        join(threads);
        for (rx, next, _) in &ends {
            let count = rx.meter().count();
            let all = u64::from(ITEMS);
            assert_eq!((*next, count.items_in, count.items_out), (ITEMS, all, all));
        }
    });
}

/// A stage that passes on what it gets.
struct Relay {
    rx: Receiver<u32>,
    held: Option<u32>,
    fail_at: Option<u32>,
    tx: Sender<u32>,
}

impl Stepped for Relay {
    fn step(&mut self) -> Result<Step, BoxError> {
        let item = match self.held.take() {
            Some(item) => item,
            None => match self.rx.try_recv() {
                Ok(item) => item,
                Err(RecvError::Empty) => return Ok(Step::Starved),
                Err(RecvError::Closed) => return Ok(Step::Done),
            },
        };
        if self.fail_at == Some(item) {
            return Err("planted".into());
        }
        match self.tx.try_send(item) {
            Ok(()) => Ok(Step::Worked),
            Err(SendError::Full(item)) => {
                self.held = Some(item);
                Ok(Step::Blocked)
            }
            Err(SendError::Closed(_)) => Ok(Step::Done),
        }
    }

    fn item(&self) -> u64 {
        u64::from(self.held.unwrap_or(0))
    }
}

/// A chain of a dozen stages, each on a thread of its own, ended in its middle by a fault, at its
/// front by the end of the input, or from outside by a cancel.
fn chain(fault: Option<u32>, cancelled: bool) {
    const ITEMS: u32 = 6;
    crowd(move || {
        let events: Vec<_> = (0..=DOZEN).map(|_| Arc::new(Event::new())).collect();
        let shutdown = Arc::new(Shutdown::new());
        shutdown.register(events.iter().cloned().map(Wake::Event).collect());
        let mut crew = Crew::new(shutdown.clone());
        let (tx, mut rx) = edge::<u32>("e", 1, &events[0], &events[1]);
        let mut meters = vec![tx.meter()];
        for stage in 1..=DOZEN {
            let after = &events[(stage + 1) % (DOZEN + 1)];
            let (next_tx, next_rx) = edge("e", 1, &events[stage], after);
            meters.push(next_tx.meter());
            let fail_at = fault.filter(|_| stage == DOZEN / 2);
            let rx = std::mem::replace(&mut rx, next_rx);
            let mut relay = Relay { rx, held: None, fail_at, tx: next_tx };
            let event = events[stage].clone();
            crew.spawn("relay", "relay", stage, move |seat: &Seat| {
                drive(&mut relay, &event, seat, &StageMeter::default())
            })
            .unwrap();
        }
        let canceller = cancelled.then(|| {
            let shutdown = shutdown.clone();
            spawn(move || {
                pause();
                shutdown.cancel();
            })
        });
        // The front and the end of the chain are here, on one event.
        let (mut sent, mut got) = (0, 0);
        let mut front = Some(tx);
        loop {
            let mut moved = false;
            if let Some(tx) = &mut front {
                moved |= tx.try_send(sent).is_ok();
                sent += u32::from(moved);
                if sent == ITEMS || tx.is_closed() {
                    front = None;
                }
            }
            match rx.try_recv() {
                Ok(item) => {
                    assert_eq!(item, got);
                    got += 1;
                }
                Err(RecvError::Closed) => break,
                Err(RecvError::Empty) if moved => {}
                Err(RecvError::Empty) => {
                    let ready = |front: &Option<Sender<u32>>| {
                        front.as_ref().is_some_and(|tx| tx.has_room() || tx.is_closed())
                    };
                    events[0].wait(|| !rx.is_empty() || rx.is_closed() || ready(&front));
                }
            }
        }
        drop((front, rx));
        canceller.into_iter().for_each(|thread| thread.join().unwrap());
        match crew.join() {
            Ok(()) => assert!(fault.is_none() && (cancelled || got == ITEMS)),
            // What was behind the fault may have been taken along by the stop.
            Err(Error::Fault(fault)) => assert!(fault.worker == DOZEN / 2 && got <= 3),
            Err(other) => panic!("{other}"),
        }
        assert!(meters.iter().all(|meter| meter.count().balances()));
    });
}

#[test]
fn a_chain_of_a_dozen_stages_drains() {
    chain(None, false);
}

#[test]
fn a_fault_in_a_chain_of_a_dozen_stages_ends_all_and_is_named() {
    chain(Some(3), false);
}

#[test]
fn a_cancel_ends_a_chain_of_a_dozen_stages() {
    chain(None, true);
}
