//! Threads with names: stages that are stepped, faults, a spawn that is refused.

use loom_tests::model;
use twelvefold::engine::crew::{Crew, Seat};
use twelvefold::engine::edge::{Receiver, RecvError, SendError, Sender, edge};
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::stage::{StageMeter, Step, Stepped, drive};
use twelvefold::engine::wait::Event;
use twelvefold::engine::{BoxError, Error};
use twelvefold::sync::Arc;

struct Source {
    left: u32,
    tx: Option<Sender<u32>>,
}

impl Stepped for Source {
    fn step(&mut self) -> Result<Step, BoxError> {
        let Some(tx) = &mut self.tx else { return Ok(Step::Done) };
        if self.left == 0 {
            self.tx = None;
            return Ok(Step::Done);
        }
        match tx.try_send(self.left) {
            Ok(()) => {
                self.left -= 1;
                Ok(Step::Worked)
            }
            Err(SendError::Full(_)) => Ok(Step::Blocked),
            Err(SendError::Closed(_)) => Ok(Step::Done),
        }
    }

    fn item(&self) -> u64 {
        u64::from(self.left)
    }
}

struct Sink {
    sum: u32,
    fail_at: Option<u32>,
    rx: Receiver<u32>,
}

impl Stepped for Sink {
    fn step(&mut self) -> Result<Step, BoxError> {
        match self.rx.try_recv() {
            Ok(item) if Some(item) == self.fail_at => Err("planted".into()),
            Ok(item) => {
                self.sum += item;
                Ok(Step::Worked)
            }
            Err(RecvError::Empty) => Ok(Step::Starved),
            Err(RecvError::Closed) => Ok(Step::Done),
        }
    }

    fn item(&self) -> u64 {
        u64::from(self.sum)
    }
}

struct Shape {
    shutdown: Arc<Shutdown>,
    events: [Arc<Event>; 2],
    tx: Sender<u32>,
    rx: Receiver<u32>,
}

fn shape() -> Shape {
    let events = [Arc::new(Event::new()), Arc::new(Event::new())];
    let shutdown = Arc::new(Shutdown::new());
    let (tx, rx) = edge("e", 1, &events[0], &events[1]);
    shutdown.register(events.iter().cloned().map(Wake::Event).collect());
    Shape { shutdown, events, tx, rx }
}

fn run(stage: &mut dyn Stepped, event: &Event, seat: &Seat) -> Result<(), BoxError> {
    drive(stage, event, seat, &StageMeter::default())
}

/// Two stages, each stepped by a thread of its own, drain and are joined.
#[test]
fn stepped_stages_drain_and_are_joined() {
    model(|| {
        let Shape { shutdown, events: [load, sink], tx, rx } = shape();
        let meter = tx.meter();
        let mut crew = Crew::new(shutdown);
        let mut source = Source { left: 2, tx: Some(tx) };
        crew.spawn("tf-load", "load", 0, move |seat| run(&mut source, &load, seat)).unwrap();
        let mut end = Sink { sum: 0, fail_at: None, rx };
        crew.spawn("tf-sink", "sink", 0, move |seat| run(&mut end, &sink, seat)).unwrap();
        crew.join().unwrap();
        let count = meter.count();
        assert_eq!((count.items_in, count.items_out, count.abandoned), (2, 2, 0));
    });
}

/// The sink fails while the source may be anywhere, asleep on a full ring included.
#[test]
fn a_failing_stage_ends_the_others_and_is_named() {
    model(|| {
        let Shape { shutdown, events: [load, sink], tx, rx } = shape();
        let meter = tx.meter();
        let mut crew = Crew::new(shutdown);
        let mut source = Source { left: 3, tx: Some(tx) };
        crew.spawn("tf-load", "load", 0, move |seat| run(&mut source, &load, seat)).unwrap();
        let mut end = Sink { sum: 0, fail_at: Some(2), rx };
        crew.spawn("tf-sink", "sink", 7, move |seat| run(&mut end, &sink, seat)).unwrap();
        let Err(Error::Fault(fault)) = crew.join() else { panic!("the fault is lost") };
        assert_eq!((fault.stage.as_str(), fault.worker, fault.item), ("sink", 7, Some(3)));
        assert!(meter.count().balances());
    });
}

/// The second thread is refused while the first may be at work or asleep.
#[test]
fn a_refused_spawn_stops_and_joins_those_that_started() {
    model(|| {
        let Shape { shutdown, events: [load, sink], tx, rx } = shape();
        let meter = tx.meter();
        let mut crew = Crew::new(shutdown.clone());
        #[cfg(loom)]
        crew.refuse_spawn(1);
        let mut source = Source { left: 3, tx: Some(tx) };
        crew.spawn("tf-load", "load", 0, move |seat| run(&mut source, &load, seat)).unwrap();
        let mut end = Sink { sum: 0, fail_at: None, rx };
        let refused =
            crew.spawn("tf-sink", "sink", 0, move |seat| run(&mut end, &sink, seat)).is_err();
        assert_eq!(refused, cfg!(loom));
        assert!(!refused || shutdown.is_cancelled());
        crew.join().unwrap();
        assert!(meter.count().balances());
    });
}

/// A sink that sleeps because its source sleeps: a cancel reaches both. The source keeps its end.
#[test]
fn a_cancel_reaches_stages_that_sleep() {
    model(|| {
        let Shape { shutdown, events: [_, sink], tx, rx } = shape();
        let mut crew = Crew::new(shutdown.clone());
        let mut end = Sink { sum: 0, fail_at: None, rx };
        crew.spawn("tf-sink", "sink", 0, move |seat| run(&mut end, &sink, seat)).unwrap();
        shutdown.cancel();
        crew.join().unwrap();
        drop(tx);
    });
}

/// The source fails while it holds its end: the sink, which takes a close for a fault of its own,
/// must find the run stopped already, and the first fault is the source's.
#[test]
fn the_cause_is_reported_and_not_its_echo() {
    struct Failing(#[expect(dead_code, reason = "held")] Sender<u32>);
    impl Stepped for Failing {
        fn step(&mut self) -> Result<Step, BoxError> {
            Err("the cause".into())
        }
        fn item(&self) -> u64 {
            0
        }
    }
    struct Echo(Receiver<u32>, Arc<Shutdown>);
    impl Stepped for Echo {
        fn step(&mut self) -> Result<Step, BoxError> {
            match self.0.try_recv() {
                Err(RecvError::Closed) if self.1.is_stopped() => Ok(Step::Done),
                Err(RecvError::Closed) => Err("the echo".into()),
                _ => Ok(Step::Starved),
            }
        }
        fn item(&self) -> u64 {
            0
        }
    }
    model(|| {
        let Shape { shutdown, events: [load, sink], tx, rx } = shape();
        let mut crew = Crew::new(shutdown.clone());
        let mut echo = Echo(rx, shutdown);
        crew.spawn("tf-sink", "sink", 0, move |seat| run(&mut echo, &sink, seat)).unwrap();
        let mut source = Failing(tx);
        crew.spawn("tf-load", "load", 0, move |seat| run(&mut source, &load, seat)).unwrap();
        let Err(Error::Fault(fault)) = crew.join() else { panic!("the fault is lost") };
        assert_eq!(fault.stage, "load");
    });
}

/// A source that sleeps on a full ring, whose receiver stays with the thread that cancels.
#[test]
fn a_cancel_reaches_a_source_on_a_full_ring() {
    model(|| {
        let Shape { shutdown, events: [load, _], tx, rx } = shape();
        let mut crew = Crew::new(shutdown.clone());
        let mut source = Source { left: 3, tx: Some(tx) };
        crew.spawn("tf-load", "load", 0, move |seat| run(&mut source, &load, seat)).unwrap();
        shutdown.cancel();
        crew.join().unwrap();
        drop(rx);
    });
}
