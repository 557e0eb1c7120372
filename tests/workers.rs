//! The pool alone keeps its promises: each task once, a fault named and never a hang, every thread
//! joined, borrowed data, a bound on what is queued.

#![expect(clippy::unwrap_used, reason = "a thread that does not start is a failed test")]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;
use twelvefold::engine::workers::{Stopped, Worker, Workers};
use twelvefold::engine::{Cause, Error};

/// Longer than any machine needs, for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fails when `body` hangs.
fn within<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = body();
        done.send(()).unwrap();
        result
    });
    match ended.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}

/// Counts what is alive of it.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(alive: &'a AtomicUsize) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted(alive)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn each_task_runs_once_at_any_number_of_threads_and_tasks() {
    within(|| {
        for helps in [true, false] {
            for threads in [1, 2, 5, 13] {
                for tasks in [0, 1, 2, 12, 1000] {
                    let ran: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    let builder = Workers::builder().threads(threads);
                    let builder = if helps { builder } else { builder.waiter_sleeps() };
                    let run = |_: &mut Worker<'_, usize>, task: usize| {
                        ran[task].fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    };
                    let steps = |workers: &mut Workers<'_, usize>| {
                        for step in 1..=3 {
                            workers.step(0..tasks).unwrap();
                            // Complete means complete.
                            let all = ran.iter().all(|n| n.load(Ordering::Relaxed) == step);
                            assert!(all, "{helps} {threads} {tasks}");
                        }
                    };
                    let ((), report) = builder.scope(run, steps).unwrap();
                    let ledger = report.ledger;
                    let made = 3 * tasks as u64;
                    assert_eq!((ledger.made, ledger.finished), (made, made));
                    assert_eq!((ledger.lost, ledger.abandoned), (0, 0));
                    let waiter = report.workers[threads];
                    assert!(helps || waiter.taken == 0, "it was to sleep: {waiter:?}");
                }
            }
        }
    });
}

#[test]
fn spawned_tasks_belong_to_the_step_and_never_exceed_the_limit() {
    within(|| {
        for limit in [1, 2, 7, 1000] {
            let (queued, most, leaves) =
                (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
            // A binary tree of depth 10; what is not taken is walked here.
            let run = |worker: &mut Worker<'_, u32>, depth: u32| {
                queued.fetch_sub(1, Ordering::SeqCst);
                let mut here = vec![depth];
                while let Some(depth) = here.pop() {
                    if depth == 0 {
                        leaves.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    for child in [depth - 1; 2] {
                        let now = queued.fetch_add(1, Ordering::SeqCst) + 1;
                        match worker.spawn(child) {
                            Ok(()) => drop(most.fetch_max(now, Ordering::SeqCst)),
                            Err(child) => {
                                queued.fetch_sub(1, Ordering::SeqCst);
                                here.push(child);
                            }
                        }
                    }
                }
                Ok(())
            };
            let builder = Workers::builder().threads(3).limit(limit);
            queued.store(3, Ordering::SeqCst);
            let (outcome, report) =
                builder.scope(run, |workers| workers.step([10, 10, 10])).unwrap();
            outcome.unwrap();
            assert_eq!(leaves.into_inner(), 3 << 10);
            assert_eq!(report.ledger.made, report.ledger.finished);
            // Three threads and the waiter may be between counting and asking at the same time.
            let most = most.into_inner();
            assert!(most <= limit + 4, "{most} queued with a limit of {limit}");
        }
    });
}

#[test]
fn a_panic_names_worker_and_task_and_keeps_its_payload() {
    within(|| {
        for (threads, at) in [(1, 0), (2, 7), (5, 99), (13, 50)] {
            for helps in [true, false] {
                let alive = AtomicUsize::new(0);
                let builder = Workers::builder().threads(threads).name("dig");
                let builder = if helps { builder } else { builder.waiter_sleeps() };
                let run = |_: &mut Worker<'_, (u64, Counted<'_>)>, task: (u64, Counted<'_>)| {
                    if task.0 == at {
                        std::panic::panic_any(at);
                    }
                    Ok(())
                };
                let result = builder.scope(run, |workers| {
                    let tasks = (0..100).map(|n| (n, Counted::new(&alive)));
                    assert_eq!(workers.step(tasks.collect::<Vec<_>>()), Err(Stopped));
                    assert_eq!(workers.step([]), Err(Stopped), "it stays stopped");
                });
                let Err(Error::Fault(fault)) = result else { panic!("the fault is lost") };
                assert_eq!((fault.stage.as_str(), fault.item), ("dig", Some(at)));
                assert!(fault.worker <= threads);
                let Cause::Panic(payload) = fault.cause else { panic!("it was a panic") };
                assert_eq!(*payload.into_inner().downcast::<u64>().unwrap(), at);
                assert_eq!(alive.into_inner(), 0, "a task was neither run nor dropped");
            }
        }
    });
}

#[test]
fn an_error_of_a_task_comes_out_with_its_text() {
    let mut workers =
        Workers::new(2, |_, n: u32| if n == 3 { Err("three is too many".into()) } else { Ok(()) })
            .unwrap();
    assert_eq!(workers.step(0..5), Err(Stopped));
    let text = workers.close().unwrap_err().to_string();
    assert!(text.ends_with("failed at item 3: three is too many"), "{text}");
}

#[test]
fn a_cancel_from_another_thread_ends_a_step_and_its_tasks_are_counted() {
    within(|| {
        let started = Arc::new(Barrier::new(2));
        let meet = started.clone();
        let mut workers = Workers::builder()
            .threads(2)
            .start(move |worker, task: usize| {
                if task == 0 {
                    meet.wait();
                }
                while !worker.is_stopped() {
                    std::thread::yield_now();
                }
                Ok(())
            })
            .unwrap();
        let shutdown = workers.shutdown().clone();
        let other = std::thread::spawn(move || {
            started.wait();
            shutdown.cancel();
        });
        assert_eq!(workers.step(0..100), Err(Stopped));
        other.join().unwrap();
        let report = workers.close().unwrap();
        assert!(report.cancelled);
        let ledger = report.ledger;
        assert_eq!(ledger.made, 100);
        assert!(ledger.abandoned >= 100 - 3, "at most one a worker: {ledger:?}");
        assert_eq!(ledger.made, ledger.finished + ledger.lost + ledger.abandoned);
    });
}

#[test]
fn a_pool_that_waits_is_woken_by_a_cancel() {
    within(|| {
        let mut workers = Workers::builder()
            .threads(1)
            .start(|worker, _: ()| {
                while !worker.is_stopped() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            })
            .unwrap();
        let shutdown = workers.shutdown().clone();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            shutdown.cancel();
        });
        // One of the two runs it, and the other one has gone to sleep by then.
        assert_eq!(workers.step([()]), Err(Stopped));
        other.join().unwrap();
    });
}

#[test]
fn a_drop_joins_all_threads_and_drops_their_states() {
    within(|| {
        static ALIVE: AtomicUsize = AtomicUsize::new(0);
        let made = Arc::new(Barrier::new(5));
        let meet = made.clone();
        let workers = Workers::builder()
            .threads(4)
            .state(move |id| {
                let state = Counted::new(&ALIVE);
                if id < 4 {
                    meet.wait();
                }
                state
            })
            .start(|_, _: ()| Ok(()))
            .unwrap();
        made.wait();
        assert_eq!(ALIVE.load(Ordering::SeqCst), 5, "four threads and the waiter");
        drop(workers);
        assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_state_belongs_to_its_thread_and_may_stay_there() {
    within(|| {
        let run = |worker: &mut Worker<'_, u32, (std::rc::Rc<usize>, std::thread::ThreadId)>, _| {
            assert_eq!(*worker.state.0, worker.id());
            assert_eq!(worker.state.1, std::thread::current().id());
            Ok(())
        };
        let (outcome, _) = Workers::builder()
            .threads(3)
            .state(|id| (std::rc::Rc::new(id), std::thread::current().id()))
            .scope(run, |workers| workers.step(0..1000))
            .unwrap();
        outcome.unwrap();
    });
}

#[test]
fn a_panic_of_the_caller_joins_the_threads_and_goes_on() {
    within(|| {
        let alive = AtomicUsize::new(0);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Workers::builder().threads(3).state(|_| Counted::new(&alive)).scope(
                |_, _: u32| Ok(()),
                |workers| {
                    workers.step(0..10).unwrap();
                    panic!("the caller's own");
                },
            )
        }));
        assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "the caller's own");
        assert_eq!(alive.into_inner(), 0);
    });
}

#[test]
fn an_iterator_that_panics_or_lies_neither_hangs_nor_loses() {
    struct Liar(usize);
    impl Iterator for Liar {
        type Item = u32;
        fn next(&mut self) -> Option<u32> {
            (self.0 > 0).then(|| {
                self.0 -= 1;
                0
            })
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.0 + 5, Some(self.0 + 5))
        }
    }
    impl ExactSizeIterator for Liar {}
    within(|| {
        let mut workers = Workers::new(2, |_, _: u32| Ok(())).unwrap();
        workers.step(Liar(7)).unwrap();
        let tasks = (0..10).map(|n| if n == 4 { panic!("no task") } else { n });
        let step = std::panic::AssertUnwindSafe(|| workers.step(tasks));
        assert!(std::panic::catch_unwind(step).is_err());
        workers.step(0..3).unwrap();
        let ledger = workers.close().unwrap().ledger;
        assert_eq!((ledger.made, ledger.finished), (7 + 4 + 3, 7 + 4 + 3));
    });
}

/// With as many awake as there are tasks, tasks may wait for each other, also after steps that were
/// so short that their wakes were spared.
#[test]
fn tasks_that_wait_for_each_other_meet_where_enough_may_be_awake() {
    within(|| {
        let meeting = Barrier::new(6);
        let run = |_: &mut Worker<'_, bool>, meets: bool| {
            if meets {
                meeting.wait();
            }
            Ok(())
        };
        let builder = Workers::builder().threads(5).awake(64);
        let (outcome, _) = builder
            .scope(run, |workers| {
                for _ in 0..100 {
                    workers.step([false; 6])?;
                    workers.step([true; 6])?;
                }
                Ok::<_, Stopped>(())
            })
            .unwrap();
        outcome.unwrap();
    });
}
