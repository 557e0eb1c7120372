//! Clocks, counters and places: what a run of a benchmark is measured with.
//!
//! Linux only, like the figures: processor time and context switches are the kernel's own.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Processor time of the whole process, finished threads included.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("Linux has this clock");
    time.into()
}

/// How often threads of this process, finished ones included, gave the processor up.
pub(crate) fn voluntary_switches() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the counters of the own process");
    usage.voluntary_context_switches() as u64
}

/// How often the calling thread gave the processor up.
pub(crate) fn own_voluntary_switches() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the counters of the own thread");
    usage.voluntary_context_switches() as u64
}

/// Tells how much of the machine others used while this process measured: figures count only when
/// that is next to nothing.
#[derive(Debug)]
pub struct Others {
    machine: Option<[f64; 2]>,
    own: f64,
}

impl Others {
    /// From now on.
    pub fn watch() -> Others {
        Others { machine: machine_time(), own: own_time() }
    }

    /// The share of all processors that others used since then, steal included, from 0 to 1; `None`
    /// where `/proc/stat` cannot be read.
    pub fn share(&self) -> Option<f64> {
        let ([busy_before, all_before], [busy, all]) = (self.machine?, machine_time()?);
        let others = busy - busy_before - (own_time() - self.own);
        (all > all_before).then(|| (others / (all - all_before)).clamp(0.0, 1.0))
    }
}

/// Seconds of this process and of the children it has waited for.
fn own_time() -> f64 {
    let children = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0.0, |usage| {
        let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    });
    processor_time().as_secs_f64() + children
}

/// Seconds in which the machine's processors were busy, and all seconds.
fn machine_time() -> Option<[f64; 2]> {
    /// The kernel shows hundredths of a second to users, whatever it counts in.
    const TICKS: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let first = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = first.split_whitespace().filter_map(|t| t.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user already.
    let all: f64 = ticks.get(..8)?.iter().sum();
    Some([(all - ticks[3] - ticks[4]) / TICKS, all / TICKS])
}

/// Keeps the calling thread on the `nth` core it may use, so that two threads never share one by
/// chance. Does nothing where there are not that many.
pub(crate) fn pin(nth: usize) {
    let me = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(me) else { return };
    let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
    let Some(core) = cores.nth(nth) else { return };
    let mut one = CpuSet::new();
    if one.set(core).is_ok() {
        // Refused in some containers; the figures are then a little noisier.
        sched_setaffinity(me, &one).ok();
    }
}

/// A place where threads meet before the clock starts. Spins, then yields: a sleeper would start
/// late.
#[derive(Debug)]
pub(crate) struct Gate {
    present: AtomicU32,
    awaited: u32,
}

impl Gate {
    pub(crate) fn new(awaited: usize) -> Gate {
        Gate { present: AtomicU32::new(0), awaited: awaited as u32 }
    }

    pub(crate) fn meet(&self) {
        self.present.fetch_add(1, Ordering::AcqRel);
        poll(|| self.present.load(Ordering::Acquire) >= self.awaited);
    }
}

/// How peers wait that have no waiting of their own: spinning, and on a machine that is busy
/// elsewhere yielding.
#[inline]
pub fn poll(mut ready: impl FnMut() -> bool) {
    let mut spins = 0_u32;
    while !ready() {
        spins = spins.saturating_add(1);
        if spins < 2_000 { spin_loop() } else { thread::yield_now() }
    }
}

/// Runs both ends on a core each until the numbers below `items` have passed, checks their sum, and
/// gives the time from the moment at which both threads run to the last item.
///
/// # Panics
/// When an end panics, or the sum is wrong.
pub fn pair(
    items: u64,
    produce: impl FnOnce(u64) + Send,
    consume: impl FnOnce(u64) -> u64 + Send,
) -> Duration {
    let gate = Gate::new(2);
    let gate = &gate;
    let (sum, took) = thread::scope(|scope| {
        scope.spawn(move || {
            pin(0);
            gate.meet();
            produce(items);
        });
        let consumer = scope.spawn(move || {
            pin(1);
            gate.meet();
            let started = Instant::now();
            (consume(items), started.elapsed())
        });
        consumer.join().expect("a consumer does not panic")
    });
    assert_eq!(sum, items * (items - 1) / 2, "the sum of what arrived");
    took
}

/// Runs `threads` bodies that start together; nanoseconds from the first start to the last end, and
/// each one's own.
pub(crate) fn together(threads: usize, body: impl Fn(usize) + Sync) -> (f64, Vec<f64>) {
    let gate = Gate::new(threads);
    let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let run = |id| {
            let (gate, body) = (&gate, &body);
            scope.spawn(move || {
                gate.meet();
                let started = Instant::now();
                body(id);
                (started, Instant::now())
            })
        };
        let threads: Vec<_> = (0..threads).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("a body does not panic")).collect()
    });
    let first = times.iter().map(|times| times.0).min().expect("there is a thread");
    let last = times.iter().map(|times| times.1).max().expect("there is a thread");
    let own = times.iter().map(|(from, to)| nanoseconds(*to - *from)).collect();
    (nanoseconds(last - first), own)
}

/// `time` in nanoseconds.
pub(crate) fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// The value below which `share` of `values` lie.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    assert!(!values.is_empty(), "a quantile of nothing");
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}
