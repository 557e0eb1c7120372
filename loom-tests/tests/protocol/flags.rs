//! Flags: what a worker wrote before it raised one is seen by who takes it down, and no raise is slept
//! through, however it falls between the taker's look at the count, its look at the flags and its sleep.

#[cfg(any(loom, shuttle))]
use crate::child::{Verdict, run};
use crate::support::{Plain, spawn};
use loom_tests::{model, wide_model};
use twelvefold::engine::flags::Flags;
use twelvefold::engine::latch::Latch;
use twelvefold::engine::wait::Event;
use twelvefold::sync::{Arc, AtomicUsize, JoinHandle, Ordering, planted};

/// A bug of the taker, which is no part of the engine: it sleeps on a count that it read too late.
const TOLD_LATE: &str = "taker.told_late";

/// A work of so many parts, a flag each, and the event of the thread that takes them.
#[derive(Debug, Clone)]
struct Parts {
    event: Arc<Event>,
    flags: Arc<Flags>,
    cells: Arc<[Arc<Plain>]>,
}

impl Parts {
    fn new(count: usize) -> Self {
        let event = Arc::new(Event::new());
        let flags = Arc::new(Flags::new(count, event.clone()));
        Parts { event, flags, cells: (0..count).map(|_| Plain::shared()).collect() }
    }

    /// A worker's share: writes its part, then raises its flag.
    fn work(&self, part: usize) {
        self.cells[part].add(1);
        self.flags.raise(part);
    }

    fn start(&self, part: usize) -> JoinHandle<()> {
        let parts = self.clone();
        spawn(move || parts.work(part))
    }

    /// One look at all flags: how many were up. What each stands for has been written `round` times.
    fn look(&self, round: u32) -> usize {
        let up = (0..self.cells.len()).filter(|&part| self.flags.take(part));
        up.map(|part| assert_eq!(self.cells[part].get(), round, "part {part}")).count()
    }

    /// Takes every flag once, asleep while none is up. Looks at the count first, then at the flags.
    fn take_all(&self, round: u32) {
        let mut left = self.cells.len();
        while left > 0 {
            let told = self.flags.raised();
            let taken = self.look(round);
            let told = if planted(TOLD_LATE) { self.flags.raised() } else { told };
            left -= taken;
            if taken == 0 {
                self.event.wait_without_spinning(|| self.flags.raised() != told);
            }
        }
    }
}

/// Two workers, each with a part: the taker may come before, between and after them, and may see a flag
/// before it sees it counted.
#[test]
fn every_part_is_seen_by_who_takes_its_flag() {
    model(|| {
        let parts = Parts::new(2);
        let workers = [parts.start(0), parts.start(1)];
        parts.take_all(1);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!((parts.look(1), parts.flags.raised()), (0, 2), "each once");
    });
}

/// The taker waits as [`Event::wait`] does.
#[test]
fn a_raise_between_the_last_look_and_the_sleep_is_kept() {
    model(|| {
        let parts = Parts::new(1);
        let worker = parts.start(0);
        parts.event.wait(|| parts.flags.raised() > 0);
        assert_eq!(parts.look(1), 1, "who sees the count sees the flag");
        worker.join().unwrap();
    });
}

/// A flag is up again only by a worker who was told that it is down, as a step's tasks are by their pool.
#[test]
fn what_is_raised_again_is_taken_again() {
    wide_model(|| {
        let parts = Parts::new(2);
        let (round, told) = (Arc::new(AtomicUsize::new(1)), Arc::new([Event::new(), Event::new()]));
        let work = |part: usize| {
            let (parts, round, told) = (parts.clone(), round.clone(), told.clone());
            move || {
                parts.work(part);
                told[part].wait(|| round.load(Ordering::Acquire) == 2);
                parts.work(part);
            }
        };
        let workers = [spawn(work(0)), spawn(work(1))];
        parts.take_all(1);
        round.store(2, Ordering::Release);
        told.iter().for_each(Event::wake);
        parts.take_all(2);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!((parts.look(2), parts.flags.raised()), (0, 4), "each once a round");
    });
}

/// The taker sleeps until a flag is raised or all is done: a look after the end finds what was raised before.
#[test]
fn who_sees_the_end_of_the_work_sees_its_flags() {
    model(|| {
        let parts = Parts::new(2);
        let latch = Arc::new(Latch::new(parts.event.clone()));
        latch.open(2);
        let work = |part: usize| {
            let (parts, latch) = (parts.clone(), latch.clone());
            move || {
                parts.work(part);
                if let Some(last) = latch.arrive() {
                    last.complete();
                }
            }
        };
        let workers = [spawn(work(0)), spawn(work(1))];
        let mut taken = 0;
        loop {
            let (over, told) = (latch.completed() == 1, parts.flags.raised());
            taken += parts.look(1);
            if over {
                break;
            }
            let is_new = || parts.flags.raised() != told || latch.completed() == 1;
            parts.event.wait_without_spinning(is_new);
        }
        assert_eq!(taken, 2);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// A raise between the two looks would be counted already, and slept through.
#[cfg(any(loom, shuttle))]
#[test]
fn a_taker_that_reads_the_count_after_the_flags_is_caught() {
    let (verdict, said) =
        run("flags::every_part_is_seen_by_who_takes_its_flag", &[("TWELVEFOLD_MUTANT", TOLD_LATE)]);
    assert_eq!(verdict, Verdict::Fails);
    assert!(said.contains("deadlock"), "{said}");
}
