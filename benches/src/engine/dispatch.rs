//! Handing out a group of tasks and waiting for all of them.
//!
//! | implementation | who works |
//! |---|---|
//! | `ours_leaves2`, `ours_leaves12` | leaves of a pool, as many awake as there are cores; the publisher waits and does not help, as the trainer's control sphere |
//! | `ours_help_leaves2`, `ours_help_leaves12` | [`Workers`]: the caller works too while it waits |
//! | `mutex_two_condvars` | a worker for each task: one mutex held while it works, one condvar each way; main hands out to all, then waits for all in order |
//! | `rayon_scope` | a pool of as many threads as cores; main waits outside of it |
//! | `ideal` | nobody hands out: the work on one thread, divided by the cores that can share it |

use super::Scale;
use super::measure::nanoseconds;
use super::row::{Reach, Row};
use super::work::{chain, rounds};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use twelvefold::engine::crew::Crew;
use twelvefold::engine::pool::{Leaf, Publisher, pool};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use twelvefold::engine::workers::Workers;
use twelvefold::sync::cores;

/// The rows of the table.
pub fn rows(scale: Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    for tasks in [2, 12] {
        rows.push(empty(scale, tasks));
        rows.push(busy(scale, tasks));
        rows.push(helped(scale, tasks, "empty", 0, 160_000));
        rows.push(helped(scale, tasks, "10us", rounds(Duration::from_micros(10)), 1_600));
    }
    rows
}

fn empty(scale: Scale, tasks: usize) -> Row {
    let (fast, slow) = (scale.of(160_000) as usize, scale.of(3_200) as usize);
    Row::new(format!("dispatch/{tasks}_empty_without_help"), "ns a group")
        .runs("ours_leaves2", groups(move || Ours::new(2), fast, tasks, 0))
        .runs("ours_leaves12", groups(move || Ours::new(12), fast, tasks, 0))
        .runs("mutex_two_condvars", groups(move || MutexTwoCondvars::new(tasks), slow, tasks, 0))
        .runs("rayon_scope", groups(RayonScope::new, slow, tasks, 0))
        .against("ours_leaves2", "mutex_two_condvars", Reach::Times(5.0))
        .against("ours_leaves2", "rayon_scope", Reach::Times(1.0))
        .against("ours_leaves12", "mutex_two_condvars", Reach::Told)
        .against("ours_leaves12", "rayon_scope", Reach::Told)
}

fn busy(scale: Scale, tasks: usize) -> Row {
    let work = rounds(Duration::from_micros(10));
    let count = scale.of(1_600) as usize;
    let share = tasks.min(cores()) as f64;
    let ideal = ("serial", 1.0 / share, "ideal");
    Row::new(format!("dispatch/{tasks}_10us_without_help"), "ns a group")
        .runs("ours_leaves2", groups(move || Ours::new(2), count, tasks, work))
        .runs("ours_leaves12", groups(move || Ours::new(12), count, tasks, work))
        .runs(
            "mutex_two_condvars",
            groups(move || MutexTwoCondvars::new(tasks), count, tasks, work),
        )
        .runs("rayon_scope", groups(RayonScope::new, count, tasks, work))
        .runs("serial", groups(move || Serial, count, tasks, work))
        .against_share("ours_leaves2", ideal, Reach::Told)
        .against("ours_leaves2", "mutex_two_condvars", Reach::Told)
        .against("ours_leaves2", "rayon_scope", Reach::Told)
        .against_share("ours_leaves12", ideal, Reach::Told)
}

/// The waiter may help; also the share of tasks that ran off its thread.
fn helped(scale: Scale, tasks: usize, case: &str, work: u64, count: u64) -> Row {
    let count = scale.of(count) as usize;
    let slow = if work == 0 { count / 50 } else { count };
    let id = format!("dispatch/{tasks}_{case}_with_help");
    let mut row = Row::new(id, "ns a group").called("time").metric("tasks off its thread", "%");
    for (name, leaves) in [("ours_help_leaves2", 2), ("ours_help_leaves12", 12)] {
        row = row.measures(name, helped_groups(leaves, count, tasks, work));
    }
    let mut condvars = groups(move || MutexTwoCondvars::new(tasks), slow, tasks, work);
    row = row.measures("mutex_two_condvars", move || vec![condvars(), 100.0]);
    let times = if work == 0 { Reach::Times(200.0) } else { Reach::Told };
    row = row
        .against("ours_help_leaves2", "mutex_two_condvars", times)
        .against("ours_help_leaves12", "mutex_two_condvars", Reach::Told)
        .tells(1, "ours_help_leaves2");
    if work == 0 {
        return row;
    }
    let mut serial = groups(|| Serial, count, tasks, work);
    let ideal = ("serial", 1.0 / tasks.min(cores()) as f64, "ideal");
    row.measures("serial", move || vec![serial(), 0.0])
        .against_share("ours_help_leaves2", ideal, Reach::Within(1.05))
        .against_share("ours_help_leaves12", ideal, Reach::Told)
}

/// [`groups`] by [`Helped`], and the share of its tasks, in a hundred, that the pool's threads ran.
fn helped_groups(
    leaves: usize,
    count: usize,
    tasks: usize,
    rounds: u64,
) -> impl FnMut() -> Vec<f64> {
    let mut made = None;
    move || {
        let helped = made.get_or_insert_with(|| {
            let mut helped = Helped::new(leaves);
            check(&mut helped, tasks);
            helped
        });
        let before = helped.elsewhere();
        let task = Task { rounds, ran: None };
        let started = Instant::now();
        for _ in 0..count {
            helped.group(tasks, &task);
        }
        let took = nanoseconds(started.elapsed()) / count as f64;
        let elsewhere = (helped.elsewhere() - before) as f64;
        vec![took, elsewhere * 100.0 / (count * tasks) as f64]
    }
}

/// A contender that runs `count` groups; checked first: a group is complete when it says so.
fn groups<D: Dispatch + 'static>(
    new: impl Fn() -> D,
    count: usize,
    tasks: usize,
    rounds: u64,
) -> impl FnMut() -> f64 {
    // Made for the first run, so that a row that is not wanted starts no threads.
    let mut made = None;
    move || {
        let dispatch = made.get_or_insert_with(|| {
            let mut dispatch = new();
            check(&mut dispatch, tasks);
            dispatch
        });
        let task = Task { rounds, ran: None };
        let started = Instant::now();
        for _ in 0..count {
            dispatch.group(tasks, &task);
        }
        nanoseconds(started.elapsed()) / count as f64
    }
}

fn check(dispatch: &mut impl Dispatch, tasks: usize) {
    let ran = Arc::new(AtomicU64::new(0));
    let task = Task { rounds: 0, ran: Some(ran.clone()) };
    for group in 1..=50 {
        dispatch.group(tasks, &task);
        assert_eq!(ran.load(Ordering::Relaxed), (group * tasks) as u64, "tasks that ran");
    }
}

/// Busy for some rounds; counted only outside of the timing.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) rounds: u64,
    pub(super) ran: Option<Arc<AtomicU64>>,
}

impl Task {
    fn run(&self) {
        if self.rounds > 0 {
            black_box(chain(self.rounds));
        }
        if let Some(ran) = &self.ran {
            ran.fetch_add(1, Ordering::Relaxed);
        }
    }
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

/// A pool whose leaves run tasks until it is closed. Asleep while other contenders run.
pub(super) struct Ours<T: Send + 'static> {
    pub(super) publisher: Publisher<T>,
    crew: Option<Crew>,
}

impl Ours<Task> {
    fn new(leaves: usize) -> Ours<Task> {
        Ours::with(leaves, cores(), |task: Task| task.run())
    }
}

impl<T: Send + 'static> Ours<T> {
    pub(super) fn with(
        leaves: usize,
        awake: usize,
        run: impl Fn(T) + Copy + Send + 'static,
    ) -> Ours<T> {
        let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
        let (publisher, leaves) = pool(leaves, awake, control.clone(), shutdown.clone());
        shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
        let mut crew = Crew::new(shutdown);
        for leaf in leaves {
            let id = leaf.id();
            let body = move |_: &_| {
                work(leaf, run);
                Ok(())
            };
            crew.spawn(&format!("leaf-{id:02}"), "leaf", id, body)
                .expect("the system gives a thread");
        }
        Ours { publisher, crew: Some(crew) }
    }
}

fn work<T: Send>(mut leaf: Leaf<T>, run: impl Fn(T)) {
    let pool = leaf.pool().clone();
    while let Some(task) = leaf.claim() {
        run(task);
        if let Some(last) = leaf.finish(&pool) {
            leaf.complete(last);
        }
    }
}

impl Dispatch for Ours<Task> {
    fn group(&mut self, tasks: usize, task: &Task) {
        self.publisher.publish((0..tasks).map(|_| task.clone()));
        assert!(self.publisher.wait(), "nobody stops this pool");
    }
}

impl<T: Send> Drop for Ours<T> {
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

    /// Tasks that ran off the waiter's thread, whose counters come last.
    fn elsewhere(&self) -> u64 {
        let counts = self.0.as_ref().expect("it is closed at the end only").counts();
        counts[..counts.len() - 1].iter().map(|count| count.finished).sum()
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

struct RayonScope(rayon::ThreadPool);

impl RayonScope {
    fn new() -> RayonScope {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(cores()).build();
        RayonScope(pool.expect("the system gives threads"))
    }
}

impl Dispatch for RayonScope {
    fn group(&mut self, tasks: usize, task: &Task) {
        self.0.in_place_scope(|scope| {
            for _ in 0..tasks {
                scope.spawn(|_| task.run());
            }
        });
    }
}
