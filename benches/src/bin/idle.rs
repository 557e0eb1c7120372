//! What a pipeline costs while nothing happens, and how fast it wakes.
//!
//! ```text
//! cargo run --release -p twelvefold-benches --bin idle [SECONDS]
//! ```
//!
//! Five stages on a thread each, chained by edges, and the twelve spheres of a trainer that has
//! taken a step, all asleep: their processor time and context switches over some seconds, from
//! `/proc/self/task`. Then, each from sleep: an item through the chain, per stage, and a task from
//! its publishing to its first instruction on one of twelve leaves.

use std::fs;
use std::io;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};
use twelvefold::engine::BoxError;
use twelvefold::engine::crew::Crew;
use twelvefold::engine::edge::{Receiver, RecvError, Sender, edge};
use twelvefold::engine::pool::{Leaf, pool};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::stage::{StageMeter, Step, Stepped, drive};
use twelvefold::engine::wait::Event;
use twelvefold::model::Config;
use twelvefold::sync::{Arc, AtomicU64, Ordering, cores};
use twelvefold_benches::median;
use twelvefold_benches::training::Trainer;

const STAGES: [&str; 5] = ["load", "tok-0", "tok-1", "batch", "train"];
const SPHERES: usize = 12;
/// A model that takes no time to make.
const SMALL: Config = Config { vocab: 64, layers: 1, heads: 1, width: 16, context: 8 };
/// Wakes measured, each after a pause in which everybody falls asleep.
const WAKES: usize = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// Hands on what it gets.
struct Relay {
    from: Receiver<Instant>,
    to: Sender<Instant>,
    moved: u64,
}

impl Stepped for Relay {
    fn step(&mut self) -> Result<Step, BoxError> {
        if !self.to.has_room() {
            return Ok(Step::Blocked);
        }
        match self.from.try_recv() {
            Ok(item) => {
                self.moved += 1;
                let sent = self.to.try_send(item);
                Ok(if sent.is_ok() { Step::Worked } else { Step::Done })
            }
            Err(RecvError::Empty) => Ok(Step::Starved),
            Err(RecvError::Closed) => Ok(Step::Done),
        }
    }

    fn item(&self) -> u64 {
        self.moved
    }
}

/// Both ends of a chain of [`STAGES`]; the calling thread owns `control`.
fn chain(control: &Arc<Event>) -> (Sender<Instant>, Receiver<Instant>, Crew) {
    let shutdown = Arc::new(Shutdown::new());
    let events: Vec<_> = STAGES.iter().map(|_| Arc::new(Event::new())).collect();
    shutdown.register(events.iter().chain([control]).cloned().map(Wake::Event).collect());
    let mut crew = Crew::new(shutdown);
    let (first, mut from) = edge("0", 4, control, &events[0]);
    for (i, name) in STAGES.iter().enumerate() {
        let event = events[i].clone();
        let (to, next) = edge(name, 4, &event, events.get(i + 1).unwrap_or(control));
        let mut relay = Relay { from, to, moved: 0 };
        from = next;
        crew.spawn(&format!("tf-{name}"), name, 0, move |seat| {
            drive(&mut relay, &event, seat, &StageMeter::default())
        })
        .expect("the system gives a thread");
    }
    (first, from, crew)
}

/// Processor time of all threads but the one that measures, in seconds, and how often they gave the
/// processor up.
fn spent() -> io::Result<(f64, u64)> {
    let (mut nanoseconds, mut switches) = (0, 0);
    let measuring = std::process::id().to_string();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        if task.file_name().to_str() == Some(&measuring) {
            continue;
        }
        let task = task.path();
        let number = |text: Option<&str>| text.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        nanoseconds +=
            number(fs::read_to_string(task.join("schedstat"))?.split_whitespace().next());
        let status = fs::read_to_string(task.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        switches += number(line.map(str::trim));
    }
    Ok((nanoseconds as f64 / 1e9, switches))
}

/// Microseconds for an item through the chain, per edge, everybody asleep when it starts.
fn hops(first: &mut Sender<Instant>, last: &mut Receiver<Instant>) -> Vec<f64> {
    let edges = (STAGES.len() + 1) as f64;
    let hop = |_| {
        sleep(PAUSE);
        first.send(Instant::now()).expect("the chain is there");
        let sent = last.recv().expect("the chain is there");
        sent.elapsed().as_secs_f64() * 1e6 / edges
    };
    (0..WAKES).map(hop).collect()
}

/// Microseconds from publishing one task to its first instruction on a leaf, all leaves asleep.
fn claims(control: Arc<Event>) -> Vec<f64> {
    let shutdown = Arc::new(Shutdown::new());
    let (mut publisher, leaves) =
        pool::<Instant>(SPHERES, cores(), control.clone(), shutdown.clone());
    shutdown.register(vec![Wake::Event(control), Wake::Pool(publisher.pool().clone())]);
    let mut crew = Crew::new(shutdown);
    let late = Arc::new(AtomicU64::new(0));
    for leaf in leaves {
        let (id, late) = (leaf.id(), late.clone());
        let run = move |_: &_| {
            work(leaf, &late);
            Ok(())
        };
        crew.spawn(&format!("tf-leaf-{id:02}"), "leaf", id, run)
            .expect("the system gives a thread");
    }
    let claim = |_| {
        sleep(PAUSE);
        publisher.publish([Instant::now()].into_iter());
        assert!(publisher.wait(), "nobody stops this run");
        // Ordered by the step's completion.
        late.load(Ordering::Relaxed) as f64 / 1e3
    };
    let claims = (0..WAKES).map(claim).collect();
    publisher.close();
    crew.join().expect("leaves do not fail");
    claims
}

fn work(mut leaf: Leaf<Instant>, late: &AtomicU64) {
    let pool = leaf.pool().clone();
    while let Some(published) = leaf.claim() {
        late.store(published.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if let Some(last) = leaf.finish(&pool) {
            leaf.complete(last);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(name: &str, value: f64, unit: &str) {
    println!("| {name} | {value:.3} {unit} |");
}

fn measure(seconds: u64) -> io::Result<()> {
    let control = Arc::new(Event::new());
    let (mut first, mut last, crew) = chain(&control);
    let mut trainer = Trainer::new(SMALL, 4, 1, SPHERES);
    trainer.step();
    hops(&mut first, &mut last);
    sleep(Duration::from_millis(50));

    let (before, switched) = spent()?;
    let started = Instant::now();
    sleep(Duration::from_secs(seconds));
    let (after, switches) = spent()?;
    let wall = started.elapsed().as_secs_f64();
    print("idle: processor time, per second", (after - before) / wall * 1e6, "µs");
    print("idle: context switches", (switches - switched) as f64, "");

    let mut late = hops(&mut first, &mut last);
    print("wake and hand over, per edge, median", median(&mut late), "µs");
    print("wake and hand over, per edge, 99th percentile", late[WAKES * 99 / 100], "µs");
    drop(first);
    crew.join().expect("relays do not fail");

    let mut late = claims(control);
    print("publish to first instruction, 12 leaves, median", median(&mut late), "µs");
    print("publish to first instruction, 12 leaves, 99th percentile", late[WAKES * 99 / 100], "µs");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "how to call it")]
fn main() -> ExitCode {
    let seconds = std::env::args().nth(1).map_or(Ok(3), |seconds| seconds.parse::<u64>());
    let Ok(seconds @ 1..) = seconds else {
        eprintln!("usage: idle [SECONDS]: a whole number from 1");
        return ExitCode::from(2);
    };
    match measure(seconds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot read /proc/self/task: {error}\nhint: this measurement needs Linux");
            ExitCode::FAILURE
        }
    }
}
