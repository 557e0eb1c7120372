//! A stage is something a thread steps.
//!
//! A step never blocks: it did some work, or says why it could not. The thread that steps it
//! decides what to do then: step another stage, or sleep until something changes. With the
//! placement built here each thread steps one stage, and sleeps when that stage is starved or
//! blocked; the edges' ends of the stage are tied to the thread's [`Event`], so that whatever ends
//! the starvation wakes the thread.

use super::crew::Seat;
use super::error::BoxError;
#[cfg(not(any(loom, shuttle)))]
use super::trace::Mark;
use super::wait::{Event, Waiter};
use crate::sync::{AtomicU32, AtomicU64, Ordering, planted};
use crossbeam_utils::CachePadded;

/// What a step did.
///
/// ```
/// use twelvefold::engine::edge::RecvError;
/// use twelvefold::engine::stage::Step;
///
/// /// What an adder's step did, by what it received.
/// fn step(received: Result<u64, RecvError>, sum: &mut u64) -> Step {
///     match received {
///         Ok(number) => {
///             *sum += number;
///             Step::Worked
///         }
///         Err(RecvError::Empty) => Step::Starved,
///         Err(RecvError::Closed) => Step::Done,
///     }
/// }
/// let mut sum = 0;
/// assert_eq!(step(Ok(3), &mut sum), Step::Worked);
/// assert_eq!(step(Err(RecvError::Empty), &mut sum), Step::Starved);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something moved: step again.
    Worked,
    /// No input now.
    Starved,
    /// No room for the output now.
    Blocked,
    /// Nothing will ever move again: the stage has ended, and its edges may be dropped.
    Done,
}

/// Something a thread steps.
///
/// ```
/// use twelvefold::engine::stage::{Step, Stepped};
/// use twelvefold::engine::{BoxError, edge::{SendError, Sender, edge}, wait::Event};
/// use twelvefold::sync::Arc;
///
/// struct Count {
///     next: u64,
///     tx: Sender<u64>,
/// }
///
/// impl Stepped for Count {
///     fn step(&mut self) -> Result<Step, BoxError> {
///         Ok(match self.tx.try_send(self.next) {
///             Ok(()) => {
///                 self.next += 1;
///                 Step::Worked
///             }
///             Err(SendError::Full(_)) => Step::Blocked,
///             Err(SendError::Closed(_)) => Step::Done,
///         })
///     }
///
///     fn item(&self) -> u64 {
///         self.next
///     }
/// }
///
/// let event = Arc::new(Event::new());
/// let (tx, mut rx) = edge("numbers", 1, &event, &event);
/// let mut count = Count { next: 5, tx };
/// assert_eq!([count.step()?, count.step()?], [Step::Worked, Step::Blocked]);
/// assert_eq!((rx.recv(), count.item()), (Some(5), 6));
/// drop(rx);
/// assert_eq!(count.step()?, Step::Done);
/// # Ok::<(), BoxError>(())
/// ```
pub trait Stepped: Send {
    /// Does a bounded piece of work, without ever waiting.
    ///
    /// # Errors
    /// Whatever ends the run; it is reported with the stage's name, worker and [`Stepped::item`].
    fn step(&mut self) -> Result<Step, BoxError>;

    /// The number of the item at hand, for the report of a fault.
    fn item(&self) -> u64;

    /// What the last step was about, for a trace; asked after a step that worked, where one is kept.
    #[cfg(not(any(loom, shuttle)))]
    fn mark(&self) -> Mark {
        Mark::item(self.item())
    }
}

/// What a thread counts of its stage; written by that thread alone, read by anyone.
///
/// ```
/// use twelvefold::engine::stage::{StageCount, StageMeter};
///
/// let meter = StageMeter::default(); // To be given to `drive`.
/// assert_eq!(meter.count(), StageCount::default());
/// ```
#[derive(Debug)]
pub struct StageMeter {
    steps: AtomicU64,
    busy_ns: AtomicU64,
    starved_ns: AtomicU64,
    blocked_ns: AtomicU64,
    sleeps: AtomicU64,
    last: AtomicU32,
}

/// A stage's counters at one moment.
///
/// ```
/// use twelvefold::engine::stage::StageCount;
///
/// /// The share of its time in which a stage worked.
/// fn busy(count: &StageCount) -> f64 {
///     let all = count.busy_ns + count.starved_ns + count.blocked_ns;
///     count.busy_ns as f64 / all.max(1) as f64
/// }
/// let count = StageCount { busy_ns: 30, starved_ns: 10, ..StageCount::default() };
/// assert_eq!(busy(&count), 0.75);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageCount {
    /// Steps that moved something.
    pub steps: u64,
    /// Time spent in those, in nanoseconds.
    pub busy_ns: u64,
    /// Time without input, in nanoseconds.
    pub starved_ns: u64,
    /// Time without room for the output, in nanoseconds.
    pub blocked_ns: u64,
    /// How often the thread slept.
    pub sleeps: u64,
    /// What the last step did; `None` before the first.
    pub last: Option<Step>,
}

/// The steps as numbers in `last`; any other number is none.
const STEPS: [Step; 4] = [Step::Worked, Step::Starved, Step::Blocked, Step::Done];

/// A meter on a cache line of its own.
///
/// ```
/// use twelvefold::engine::stage::PaddedMeter;
///
/// let meters: Vec<PaddedMeter> = (0..3).map(|_| PaddedMeter::default()).collect();
/// assert_eq!(meters[2].count().steps, 0); // Used like the meter itself.
/// ```
pub type PaddedMeter = CachePadded<StageMeter>;

impl Default for StageMeter {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        StageMeter {
            steps: zero(),
            busy_ns: zero(),
            starved_ns: zero(),
            blocked_ns: zero(),
            sleeps: zero(),
            last: AtomicU32::new(u32::MAX),
        }
    }
}

impl StageMeter {
    /// The counters now; each only grows, `last` apart.
    pub fn count(&self) -> StageCount {
        // Relaxed: totals for people; nothing is concluded from one about another.
        StageCount {
            steps: self.steps.load(Ordering::Relaxed),
            busy_ns: self.busy_ns.load(Ordering::Relaxed),
            starved_ns: self.starved_ns.load(Ordering::Relaxed),
            blocked_ns: self.blocked_ns.load(Ordering::Relaxed),
            sleeps: self.sleeps.load(Ordering::Relaxed),
            last: STEPS.get(self.last.load(Ordering::Relaxed) as usize).copied(),
        }
    }

    /// One writer: load and store are enough.
    fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }
}

/// Steps `stage` on the calling thread until it is done or the run is stopped.
///
/// `event` must be the one that the stage's edges wake.
///
/// ```
/// use twelvefold::engine::crew::Crew;
/// use twelvefold::engine::edge::{Receiver, RecvError, edge};
/// use twelvefold::engine::shutdown::{Shutdown, Wake};
/// use twelvefold::engine::stage::{Stepped, StageMeter, Step, drive};
/// use twelvefold::engine::{BoxError, Error, wait::Event};
/// use twelvefold::sync::Arc;
///
/// struct Sum {
///     rx: Receiver<u64>,
///     items: u64,
///     sum: u64,
/// }
///
/// impl Stepped for Sum {
///     fn step(&mut self) -> Result<Step, BoxError> {
///         match self.rx.try_recv() {
///             Ok(number) => {
///                 self.items += 1;
///                 self.sum = self.sum.checked_add(number).ok_or("the sum is too large")?;
///                 Ok(Step::Worked)
///             }
///             Err(RecvError::Empty) => Ok(Step::Starved),
///             Err(RecvError::Closed) => Ok(Step::Done),
///         }
///     }
///
///     fn item(&self) -> u64 {
///         self.items
///     }
/// }
///
/// let (control, adder) = (Arc::new(Event::new()), Arc::new(Event::new()));
/// let shutdown = Arc::new(Shutdown::new());
/// shutdown.register(vec![Wake::Event(control.clone()), Wake::Event(adder.clone())]);
/// let mut crew = Crew::new(shutdown);
/// let (mut tx, rx) = edge("numbers", 4, &control, &adder);
/// let meter = Arc::new(StageMeter::default());
/// crew.spawn("tf-sum", "sum", 0, {
///     let meter = meter.clone();
///     move |seat| drive(&mut Sum { rx, items: 0, sum: 0 }, &adder, seat, &meter)
/// })?;
/// tx.send(1).unwrap();
/// tx.send(2).unwrap();
/// drop(tx);
/// crew.join()?;
/// assert_eq!((meter.count().steps, meter.count().last), (2, Some(Step::Done)));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// The stage's own.
pub fn drive(
    stage: &mut dyn Stepped,
    event: &Event,
    seat: &Seat,
    meter: &StageMeter,
) -> Result<(), BoxError> {
    let alarm = Alarm(Some(seat));
    let mut waiter = Waiter::new(event);
    let mut before = Step::Worked;
    let mut since = now();
    loop {
        // Looked at after every announcement as well as after every item: a stop that comes
        // between announcing and sleeping has either been seen here or wakes the thread.
        if seat.shutdown().is_stopped() && !planted("stage.drive.stopped") {
            return alarm.off();
        }
        seat.at(stage.item());
        let started = now();
        let step = stage.step()?;
        // What passed since the last booking belongs to the state before; the step that worked, to
        // itself.
        if step == Step::Worked || step != before {
            meter.wait_ended(before, ns_between(since, started));
            since = started;
        }
        if step == Step::Worked {
            since = now();
            meter.worked(ns_between(started, since));
            #[cfg(not(any(loom, shuttle)))]
            if seat.is_recording() {
                seat.record(started, since, stage.mark());
            }
        }
        meter.last.store(step as u32, Ordering::Relaxed);
        before = step;
        match step {
            Step::Done => return alarm.off(),
            Step::Worked => waiter.reset(),
            Step::Starved | Step::Blocked => {
                if waiter.is_announced() {
                    StageMeter::add(&meter.sleeps, 1);
                }
                waiter.pause();
            }
        }
    }
}

/// Poisons the run when a step fails or panics, before the stage is dropped.
struct Alarm<'a>(Option<&'a Seat>);

impl Alarm<'_> {
    /// The stage ended as it should.
    fn off(mut self) -> Result<(), BoxError> {
        self.0 = None;
        Ok(())
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.0
            && !planted("stage.drive.alarm")
        {
            seat.fail();
        }
    }
}

impl StageMeter {
    fn wait_ended(&self, state: Step, ns: u64) {
        match state {
            Step::Starved => StageMeter::add(&self.starved_ns, ns),
            Step::Blocked => StageMeter::add(&self.blocked_ns, ns),
            Step::Worked | Step::Done => {}
        }
    }

    fn worked(&self, ns: u64) {
        StageMeter::add(&self.busy_ns, ns);
        StageMeter::add(&self.steps, 1);
    }
}

#[cfg(not(any(loom, shuttle)))]
fn ns_between(from: std::time::Instant, to: std::time::Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(any(loom, shuttle))]
fn ns_between((): (), (): ()) -> u64 {
    0
}

#[cfg(not(any(loom, shuttle)))]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(any(loom, shuttle))]
fn now() {}
