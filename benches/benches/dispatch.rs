//! Handing out a group of tasks and waiting for all of them.
//!
//! `dispatch/CASE/IMPLEMENTATION`, throughput in tasks. Cases: 2 and 12 tasks, empty and 10 µs each.
//!
//! | implementation | who works |
//! |---|---|
//! | `ours_leaves2`, `ours_leaves12` | leaves of a pool, as many awake as there are cores; the publisher sleeps |
//! | `ours_help_leaves2`, `ours_help_leaves12` | [`Workers`]: the same, but the caller works too while it waits |
//! | `mutex_two_condvars` | a worker for each task: one mutex held while it works, one condvar each way; main hands out to all, then waits for all in order |
//! | `serial` | nobody: the caller's own loop, the least that the work can take on one core |
//!
//! Checked first, and printed: every task ran once, and how many ran off the caller's thread.

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};
use twelvefold::engine::crew::Crew;
use twelvefold::engine::pool::{Leaf, Publisher, pool};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use twelvefold::engine::workers::Workers;
use twelvefold::sync::cores;

const GROUPS: [usize; 2] = [2, 12];
const BUSY: [(&str, Duration); 2] =
    [("empty", Duration::ZERO), ("10us", Duration::from_micros(10))];
/// Groups whose tasks are counted before the timing.
const COUNTED: usize = 200;

/// Where counted tasks ran.
#[derive(Debug)]
struct Tally {
    caller: ThreadId,
    ran: AtomicU64,
    elsewhere: AtomicU64,
}

/// Busy for some rounds; counted only outside of the timing, where its counter costs nothing.
#[derive(Debug, Clone)]
struct Task {
    rounds: u64,
    tally: Option<Arc<Tally>>,
}

impl Task {
    fn run(&self) {
        if self.rounds > 0 {
            black_box(chain(self.rounds));
        }
        if let Some(tally) = &self.tally {
            tally.ran.fetch_add(1, Ordering::Relaxed);
            let elsewhere = thread::current().id() != tally.caller;
            tally.elsewhere.fetch_add(u64::from(elsewhere), Ordering::Relaxed);
        }
    }
}

/// A chain of dependent multiplications: its time depends on the rounds alone.
#[inline(never)]
fn chain(rounds: u64) -> u64 {
    (0..rounds)
        .fold(1, |x: u64, _| black_box(x).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31))
}

/// Rounds of [`chain`] that take `time`, by the fastest of many runs.
fn rounds(time: Duration) -> u64 {
    const PROBE: u64 = 100_000;
    static NANOSECONDS: OnceLock<f64> = OnceLock::new();
    let per_round = NANOSECONDS.get_or_init(|| {
        let run = |_| {
            let started = Instant::now();
            black_box(chain(PROBE));
            started.elapsed().as_nanos() as f64 / PROBE as f64
        };
        (0..30).map(run).fold(f64::INFINITY, f64::min)
    });
    (time.as_nanos() as f64 / per_round) as u64
}

/// Something that runs a group of equal tasks and returns when all have ended.
trait Dispatch {
    fn group(&mut self, tasks: usize, task: &Task);
}

struct Serial;

impl Dispatch for Serial {
    fn group(&mut self, tasks: usize, task: &Task) {
        for _ in 0..tasks {
            black_box(task).run();
        }
    }
}

struct Ours {
    publisher: Publisher<Task>,
    crew: Option<Crew>,
}

impl Ours {
    fn new(leaves: usize) -> Ours {
        let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
        let (publisher, leaves) = pool(leaves, cores(), control.clone(), shutdown.clone());
        shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
        let mut crew = Crew::new(shutdown);
        for leaf in leaves {
            let id = leaf.id();
            let run = move |_: &_| {
                work(leaf);
                Ok(())
            };
            crew.spawn(&format!("leaf-{id:02}"), "leaf", id, run)
                .expect("the system gives a thread");
        }
        Ours { publisher, crew: Some(crew) }
    }
}

fn work(mut leaf: Leaf<Task>) {
    let pool = leaf.pool().clone();
    while let Some(task) = leaf.claim() {
        task.run();
        if let Some(last) = leaf.finish(&pool) {
            leaf.complete(last);
        }
    }
}

impl Dispatch for Ours {
    fn group(&mut self, tasks: usize, task: &Task) {
        self.publisher.publish((0..tasks).map(|_| task.clone()));
        assert!(self.publisher.wait(), "nobody stops this pool");
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.publisher.close();
        if let Some(crew) = self.crew.take() {
            crew.join().expect("leaves do not fail");
        }
        let ledger = self.publisher.pool().abandon();
        assert_eq!((ledger.made, ledger.lost, ledger.abandoned), (ledger.finished, 0, 0));
    }
}

/// The pool alone, whose waiter helps.
struct Helped(Option<Workers<'static, Task>>);

impl Helped {
    fn new(leaves: usize) -> Helped {
        let workers = Workers::new(leaves, |_, task: Task| {
            task.run();
            Ok(())
        });
        Helped(Some(workers.expect("the system gives a thread")))
    }
}

impl Dispatch for Helped {
    fn group(&mut self, tasks: usize, task: &Task) {
        let workers = self.0.as_mut().expect("it is closed at the end only");
        workers.step((0..tasks).map(|_| task.clone())).expect("nobody stops this pool");
    }
}

impl Drop for Helped {
    fn drop(&mut self) {
        let ledger = self.0.take().map(|workers| workers.close().expect("no task fails").ledger);
        assert!(ledger.is_some_and(|l| (l.made, l.lost, l.abandoned) == (l.finished, 0, 0)));
    }
}

/// What a worker of [`MutexTwoCondvars`] and main tell each other.
#[derive(Debug, Default)]
struct Desk {
    task: Option<Task>,
    done: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Worker {
    desk: Mutex<Desk>,
    work_ready: Condvar,
    work_done: Condvar,
}

impl Worker {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("no task panics")
    }

    fn run(&self) {
        let mut desk = self.desk();
        loop {
            let idle = |desk: &mut Desk| desk.task.is_none() && !desk.closed;
            desk = self.work_ready.wait_while(desk, idle).expect("no task panics");
            let Some(task) = desk.task.take() else { return };
            task.run();
            desk.done = true;
            self.work_done.notify_one();
        }
    }
}

struct MutexTwoCondvars {
    workers: Vec<Arc<Worker>>,
    threads: Vec<JoinHandle<()>>,
}

impl MutexTwoCondvars {
    fn new(workers: usize) -> MutexTwoCondvars {
        let workers: Vec<Arc<Worker>> = (0..workers).map(|_| Arc::default()).collect();
        let spawn = |worker: &Arc<Worker>| {
            let worker = worker.clone();
            thread::spawn(move || worker.run())
        };
        let threads = workers.iter().map(spawn).collect();
        MutexTwoCondvars { workers, threads }
    }
}

impl Dispatch for MutexTwoCondvars {
    fn group(&mut self, tasks: usize, task: &Task) {
        assert_eq!(tasks, self.workers.len(), "a worker for each task");
        for worker in &self.workers {
            let mut desk = worker.desk();
            desk.task = Some(task.clone());
            desk.done = false;
            worker.work_ready.notify_one();
        }
        for worker in &self.workers {
            let desk = worker.desk();
            drop(worker.work_done.wait_while(desk, |desk| !desk.done).expect("no task panics"));
        }
    }
}

impl Drop for MutexTwoCondvars {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.desk().closed = true;
            worker.work_ready.notify_one();
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("no task panics");
        }
    }
}

/// Runs some groups, checks that each task ran once, and prints where.
#[expect(clippy::print_stdout, reason = "the share is a figure of this benchmark")]
fn check(id: &str, tasks: usize, dispatch: &mut dyn Dispatch, plain: &Task) {
    let tally = Arc::new(Tally {
        caller: thread::current().id(),
        ran: AtomicU64::new(0),
        elsewhere: AtomicU64::new(0),
    });
    let counted = Task { tally: Some(tally.clone()), ..plain.clone() };
    for group in 1..=COUNTED {
        dispatch.group(tasks, &counted);
        // Complete means complete: every task of this group has been counted now.
        assert_eq!(tally.ran.load(Ordering::Relaxed), (group * tasks) as u64, "{id}");
    }
    let share = tally.elsewhere.load(Ordering::Relaxed) as f64 / (COUNTED * tasks) as f64;
    println!("dispatch/{id}: {:.0} % of the tasks ran off the caller's thread", share * 100.0);
}

fn row<D: Dispatch>(
    group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>,
    id: &str,
    (tasks, task): (usize, &Task),
    new: impl Fn() -> D,
) {
    // Made for the first sample, so that a row that is filtered out costs nothing.
    let mut made = None;
    group.bench_function(id, |bencher| {
        let dispatch = made.get_or_insert_with(|| {
            let mut dispatch = new();
            check(id, tasks, &mut dispatch, task);
            dispatch
        });
        bencher.iter(|| dispatch.group(tasks, task));
    });
}

fn dispatch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dispatch");
    group.sample_size(60);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for tasks in GROUPS {
        for (name, time) in BUSY {
            let case = (tasks, &Task { rounds: rounds(time), tally: None });
            let id = |implementation| format!("{tasks}_{name}/{implementation}");
            group.throughput(Throughput::Elements(tasks as u64));
            row(&mut group, &id("serial"), case, || Serial);
            row(&mut group, &id("ours_leaves2"), case, || Ours::new(2));
            row(&mut group, &id("ours_leaves12"), case, || Ours::new(12));
            row(&mut group, &id("ours_help_leaves2"), case, || Helped::new(2));
            row(&mut group, &id("ours_help_leaves12"), case, || Helped::new(12));
            row(&mut group, &id("mutex_two_condvars"), case, || MutexTwoCondvars::new(tasks));
        }
    }
    group.finish();
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
