//! A pipeline chosen by chance, what is to go wrong in it, and what must then come out.

use super::chance::Rng;
use std::cell::RefCell;
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use twelvefold::engine::pipeline::{
    Builder, Canceller, Ledger, OnError, Out, Pipeline, Placement, Pull, Report, RunError, Stage,
};
use twelvefold::engine::{BoxError, Cause, Fault};

/// Where something goes wrong, in the order in which an item comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Source,
    Map,
    Work,
    Fan,
    Turn,
    Sink,
    /// A worker of `Work` is made.
    Making,
    /// A worker of `Work` has had its last item.
    End,
}
use Place::{End, Fan, Making, Map, Sink, Source, Turn, Work};

const ITEM_PLACES: [Place; 6] = [Source, Map, Work, Fan, Turn, Sink];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Panic,
    /// The item that the stage gets panics when it is dropped.
    Drop,
}

/// At an item, or in a worker's making or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plant {
    place: Place,
    kind: Kind,
    at: u64,
}

/// How a run came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Whole,
    WithFailures,
    Cancelled,
    AtItem(Place),
    AtNoItem(Place),
}

impl Ended {
    pub(crate) const ALL: [Ended; 11] = [
        Ended::Whole,
        Ended::WithFailures,
        Ended::Cancelled,
        Ended::AtItem(Source),
        Ended::AtItem(Map),
        Ended::AtItem(Work),
        Ended::AtItem(Fan),
        Ended::AtItem(Turn),
        Ended::AtItem(Sink),
        Ended::AtNoItem(Making),
        Ended::AtNoItem(End),
    ];
}

/// What a planted panic carries.
struct Planted(Plant);

/// Keeps planted panics quiet.
pub(crate) fn quiet_planted_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Planted>() {
            before(info);
        }
    }));
}

/// The number of what a worker makes of itself at the end.
const LAST_WORDS: u64 = u64::MAX;

/// Counts what is made and dropped in one run.
#[derive(Debug, Default)]
struct Books {
    made: AtomicUsize,
    dropped: Vec<AtomicUsize>,
    states_made: AtomicUsize,
    states_dropped: AtomicUsize,
    threads_begun: AtomicUsize,
    threads_ended: Arc<AtomicUsize>,
}

/// An item, which counts its drop.
struct Token<'a> {
    id: usize,
    number: u64,
    bomb: Option<Plant>,
    books: &'a Books,
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        self.books.dropped[self.id].fetch_add(1, Ordering::SeqCst);
        // A second panic while one unwinds ends the process, whoever drops.
        if let Some(plant) = self.bomb
            && !std::thread::panicking()
        {
            panic_any(Planted(plant));
        }
    }
}

/// Lives as long as a thread of the run.
struct Here(Arc<AtomicUsize>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The error that a stage returns.
#[derive(Debug)]
struct PlantedError(Plant);

impl std::fmt::Display for PlantedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "planted in {:?} at {}", self.0.place, self.0.at)
    }
}

impl std::error::Error for PlantedError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cancel {
    Before,
    /// From inside a stage that is at this item.
    At(Place, u64),
    /// From outside, about so many yields after the start.
    Outside(u64),
}

/// A pipeline chosen by chance, and what is to go wrong.
#[derive(Debug)]
pub(crate) struct Case {
    items: u64,
    threads: usize,
    in_flight: usize,
    placement: Placement,
    /// Failures are collected, and so many are kept.
    collects: Option<usize>,
    unordered: Option<Place>,
    blocking: Option<Place>,
    capacities: [Option<usize>; 5],
    /// The workers of `Work`.
    workers: Option<usize>,
    /// `Map` cannot fail, and the source is an iterator.
    plain: bool,
    /// There is a `Turn`.
    turn: bool,
    salt: u64,
    plants: Vec<Plant>,
    cancel: Option<Cancel>,
}

/// What becomes of an item, whatever the timing.
enum Fate {
    /// So many arrive.
    Arrives(u64),
    /// So many failures are collected in its place.
    Collected(u64),
    Ends(Plant),
}

impl Case {
    pub(crate) fn new(rng: &mut Rng) -> Case {
        let items = [0, 1, 2, 3, 17, 150][rng.below(6) as usize];
        let plain = rng.below(2) == 0;
        let some = |rng: &mut Rng, of: u64| rng.below(of) == 0;
        let middle = |rng: &mut Rng| [Map, Work, Fan][rng.below(3) as usize];
        let plants = (0..[0, 1, 1, 2, 3][rng.below(5) as usize])
            .map(|_| Plant::new(rng, items, plain))
            .collect();
        let cancel = some(rng, 5).then(|| match rng.below(5) {
            0 => Cancel::Before,
            1 => Cancel::Outside(rng.below(200)),
            _ => Cancel::At(ITEM_PLACES[rng.below(6) as usize], rng.below(items.max(1))),
        });
        Case {
            items,
            threads: 1 + rng.below(4) as usize,
            in_flight: [1, 2, 3, 10, 500][rng.below(5) as usize],
            placement: [Placement::Cooperative, Placement::ThreadPerStage][rng.below(2) as usize],
            collects: some(rng, 3).then(|| rng.below(4) as usize),
            unordered: some(rng, 3).then(|| middle(rng)),
            blocking: some(rng, 4).then(|| [Source, Map, Work][rng.below(3) as usize]),
            capacities: std::array::from_fn(|_| {
                some(rng, 3).then(|| [1, 2, 7][rng.below(3) as usize])
            }),
            workers: some(rng, 3).then(|| 1 + rng.below(4) as usize),
            plain,
            turn: some(rng, 2),
            salt: rng.below(3),
            plants,
            cancel,
        }
    }

    fn planted(&self, place: Place, kind: Kind, at: u64) -> Option<Plant> {
        self.plants.iter().copied().find(|p| (p.place, p.kind, p.at) == (place, kind, at))
    }

    fn is_ordered(&self) -> bool {
        self.unordered.is_none()
    }

    /// How many `Fan` makes of an item.
    fn copies(&self, number: u64) -> u64 {
        if number == LAST_WORDS { 1 } else { (number + self.salt) % 3 }
    }

    fn fate(&self, number: u64) -> Fate {
        let mut copies = 1;
        for place in ITEM_PLACES {
            if place == Turn && !self.turn {
                continue;
            }
            if place > Fan {
                copies = self.copies(number);
            }
            let planted = |kind| self.planted(place, kind, number).filter(|_| copies > 0);
            if let Some(plant) = planted(Kind::Panic).or_else(|| planted(Kind::Drop)) {
                return Fate::Ends(plant);
            }
            match planted(Kind::Error) {
                Some(_) if self.collects.is_some() && place != Source => {
                    return Fate::Collected(copies);
                }
                Some(plant) => return Fate::Ends(plant),
                None => {}
            }
        }
        Fate::Arrives(copies)
    }

    /// The first item that ends the run, where one comes after the other.
    fn first_end(&self) -> Option<(u64, Plant)> {
        (0..self.items).find_map(|number| match self.fate(number) {
            Fate::Ends(plant) => Some((number, plant)),
            _ => None,
        })
    }

    /// What arrives of the items below `end`.
    fn arrivals(&self, end: u64) -> Vec<u64> {
        let copies = |number| match self.fate(number) {
            Fate::Arrives(copies) => copies,
            _ => 0,
        };
        (0..end).flat_map(|number| (0..copies(number)).map(move |_| number)).collect()
    }
}

impl Plant {
    fn new(rng: &mut Rng, items: u64, plain: bool) -> Plant {
        let place = match rng.below(9) {
            6 => Making,
            7 | 8 => End,
            n => ITEM_PLACES[n as usize],
        };
        let kind = [Kind::Error, Kind::Panic, Kind::Drop][rng.below(3) as usize];
        let kind = match (place, kind) {
            (Making | Source, Kind::Drop) | (Making | Fan, Kind::Error) => Kind::Panic,
            (Source | Map, Kind::Error) if plain => Kind::Panic,
            (End, Kind::Drop) => Kind::Error,
            (_, kind) => kind,
        };
        let at = if place >= Making { rng.below(4) } else { rng.below(items.max(1)) };
        Plant { place, kind, at }
    }
}

/// A run of a case.
struct Running<'a> {
    case: &'a Case,
    books: Books,
    canceller: OnceLock<Canceller>,
}

impl<'a> Running<'a> {
    /// A stage is at an item.
    fn visit(&self, place: Place, number: u64) {
        HERE.with_borrow_mut(|here| {
            here.get_or_insert_with(|| {
                self.books.threads_begun.fetch_add(1, Ordering::SeqCst);
                Here(self.books.threads_ended.clone())
            });
        });
        if self.case.cancel == Some(Cancel::At(place, number)) {
            self.canceller.get().unwrap().cancel();
        }
    }

    fn panics(&self, place: Place, number: u64) {
        if let Some(plant) = self.case.planted(place, Kind::Panic, number) {
            panic_any(Planted(plant));
        }
    }

    fn fails(&self, place: Place, number: u64) -> Result<(), PlantedError> {
        self.case.planted(place, Kind::Error, number).map_or(Ok(()), |p| Err(PlantedError(p)))
    }

    /// An item on its way to `next`.
    fn token(&'a self, number: u64, next: Place) -> Token<'a> {
        let id = self.books.made.fetch_add(1, Ordering::SeqCst);
        let bomb = self.case.planted(next, Kind::Drop, number);
        Token { id, number, bomb, books: &self.books }
    }

    fn after_fan(&self) -> Place {
        if self.case.turn { Turn } else { Sink }
    }

    fn source(&'a self) -> Builder<'a, Token<'a>> {
        let give = move |number| {
            self.visit(Source, number);
            self.panics(Source, number);
            self.token(number, Map)
        };
        if self.case.plain {
            return Pipeline::from_iter("source", (0..self.case.items).map(give));
        }
        let mut asked = 0;
        let mut next = 0;
        Pipeline::try_source("source", move || {
            asked += 1;
            if asked % 7 == 0 {
                return Ok(Pull::Later(std::time::Duration::ZERO));
            }
            if next == self.case.items {
                return Ok(Pull::End);
            }
            next += 1;
            self.panics(Source, next - 1);
            self.fails(Source, next - 1).map(|()| Pull::Item(give(next - 1)))
        })
    }

    /// The edge after a stage, and its threads.
    fn set<T: Send + 'a>(&self, mut built: Builder<'a, T>, place: Place) -> Builder<'a, T> {
        if self.case.unordered == Some(place) {
            built = built.unordered();
        }
        if self.case.blocking == Some(place) {
            built = built.blocking();
        }
        match self.case.capacities[place as usize] {
            Some(items) => built.capacity(items),
            None => built,
        }
    }

    fn pipeline(&'a self, seen: &'a mut Vec<u64>) -> Pipeline<'a> {
        let source = self.set(self.source(), Source);
        let map = move |token: Token<'a>| {
            self.visit(Map, token.number);
            self.panics(Map, token.number);
            let number = token.number;
            // First this: a result is leaked where an argument's drop panics after it was made.
            drop(token);
            self.token(number, Work)
        };
        let mapped = if self.case.plain {
            source.map("map", map)
        } else {
            source.try_map("map", move |token: Token<'a>| {
                self.panics(Map, token.number);
                self.fails(Map, token.number).map(|()| map(token))
            })
        };
        let mut worked = self.set(mapped, Map).stage("work", |worker| Worker::new(self, worker));
        if let Some(workers) = self.case.workers {
            worked = worked.workers(workers);
        }
        let fan = move |token: Token<'a>, out: &mut Out<'_, Token<'a>>| {
            self.visit(Fan, token.number);
            for _ in 0..self.case.copies(token.number) {
                out.send(self.token(token.number, self.after_fan()));
            }
            self.panics(Fan, token.number);
        };
        let mut built = self.set(self.set(worked, Work).flat_map("fan", fan), Fan);
        if self.case.turn {
            built = self.set(built.serial("turn", InTurn(self)), Turn);
        }
        let sink = move |token: Token<'a>| {
            self.visit(Sink, token.number);
            self.panics(Sink, token.number);
            self.fails(Sink, token.number)?;
            let number = token.number;
            drop(token);
            seen.push(number);
            Ok::<_, PlantedError>(())
        };
        let on_error = self.case.collects.map_or(OnError::Stop, OnError::Collect);
        built
            .try_sink("sink", sink)
            .threads(self.case.threads)
            .in_flight(self.case.in_flight)
            .placement(self.case.placement)
            .on_error(on_error)
    }
}

/// A worker of `Work`.
struct Worker<'a> {
    run: &'a Running<'a>,
    number: u64,
}

impl<'a> Worker<'a> {
    fn new(run: &'a Running<'a>, worker: usize) -> Self {
        run.visit(Making, worker as u64);
        run.panics(Making, worker as u64);
        run.books.states_made.fetch_add(1, Ordering::SeqCst);
        Worker { run, number: worker as u64 }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.run.books.states_dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl<'a> Stage<Token<'a>> for Worker<'a> {
    type Output = Token<'a>;

    fn process(&mut self, token: Token<'a>, out: &mut Out<'_, Token<'a>>) -> Result<(), BoxError> {
        self.run.visit(Work, token.number);
        if self.run.case.planted(Work, Kind::Panic, token.number).is_none() {
            self.run.fails(Work, token.number)?;
        }
        out.send(self.run.token(token.number, Fan));
        self.run.panics(Work, token.number);
        Ok(())
    }

    fn finish(&mut self, out: &mut Out<'_, Token<'a>>) -> Result<(), BoxError> {
        out.send(self.run.token(LAST_WORDS, Fan));
        self.run.visit(End, self.number);
        self.run.panics(End, self.number);
        Ok(self.run.fails(End, self.number)?)
    }
}

struct InTurn<'a>(&'a Running<'a>);

impl<'a> Stage<Token<'a>> for InTurn<'a> {
    type Output = Token<'a>;

    fn process(&mut self, token: Token<'a>, out: &mut Out<'_, Token<'a>>) -> Result<(), BoxError> {
        self.0.visit(Turn, token.number);
        self.0.panics(Turn, token.number);
        self.0.fails(Turn, token.number)?;
        out.send(self.0.token(token.number, Sink));
        Ok(())
    }
}

impl Case {
    /// Runs it and compares.
    pub(crate) fn run_and_check(&self) -> Ended {
        let most = 10 * self.items as usize + 100;
        let dropped = (0..most).map(|_| AtomicUsize::new(0)).collect();
        let books = Books { dropped, ..Books::default() };
        let running = Running { case: self, books, canceller: OnceLock::new() };
        let mut seen = Vec::new();
        let result = {
            let pipeline = running.pipeline(&mut seen);
            let canceller = pipeline.canceller();
            assert!(running.canceller.set(canceller.clone()).is_ok());
            match self.cancel {
                Some(Cancel::Before) => canceller.cancel(),
                Some(Cancel::Outside(yields)) => drop(std::thread::spawn(move || {
                    (0..yields).for_each(|_| std::thread::yield_now());
                    canceller.cancel();
                })),
                _ => {}
            }
            pipeline.run()
        };
        running.books.check();
        match result {
            Ok(report) => self.check_report(&report, &seen),
            Err(RunError::Fault { fault, ledger, .. }) => self.check_fault(fault, &ledger, &seen),
            Err(other) => panic!("{other}"),
        }
    }

    fn check_ledger(&self, ledger: &Ledger, seen: &[u64]) {
        assert!(ledger.balances, "{ledger:?}");
        let stages: Vec<_> = ledger.flow.stages.iter().map(|stage| stage.total()).collect();
        assert!(stages.iter().all(|stage| stage.balances()), "{ledger:?}");
        for (edge, ends) in ledger.flow.edges.iter().zip(stages.windows(2)) {
            assert_eq!((edge.made, edge.taken), (ends[0].made, ends[1].taken), "{edge:?}");
            assert_eq!(edge.made, edge.taken + edge.abandoned, "{edge:?}");
        }
        assert_eq!(stages.last().unwrap().finished, seen.len() as u64);
    }

    /// What the sink has had: all that arrives of the items below `end`, or a part of it.
    fn check_seen(&self, seen: &[u64], end: u64, is_all: bool) {
        let mut seen: Vec<u64> = seen.iter().copied().filter(|&n| n != LAST_WORDS).collect();
        let mut expected = self.arrivals(end);
        if !self.is_ordered() {
            seen.sort_unstable();
            let mut rest = expected.iter();
            assert!(is_all || seen.iter().all(|n| rest.any(|e| e == n)), "made up or doubled");
        } else if !is_all {
            expected.truncate(seen.len());
        }
        if is_all || self.is_ordered() {
            assert_eq!(seen, expected, "{self:?}");
        }
    }

    fn check_report(&self, report: &Report, seen: &[u64]) -> Ended {
        self.check_ledger(&report.ledger, seen);
        for failure in &report.failures {
            let Some(PlantedError(plant)) = failure.error.downcast_ref() else { panic!("whose?") };
            assert_eq!(failure.stage, plant.place.name());
            assert_eq!(failure.item, Some(plant.at));
        }
        assert!(report.failures.is_sorted_by_key(|failure| failure.item));
        assert_eq!(
            report.failures.len() as u64,
            report.failed.min(self.collects.unwrap_or(0) as u64)
        );
        if report.cancelled {
            assert!(self.cancel.is_some());
            self.check_seen(seen, self.items, false);
            return Ended::Cancelled;
        }
        assert!(self.first_end().is_none(), "a fault is hidden: {self:?}");
        let collected = (0..self.items).map(|number| match self.fate(number) {
            Fate::Collected(failures) => failures,
            _ => 0,
        });
        assert_eq!((report.items, report.failed), (self.items, collected.sum()));
        self.check_seen(seen, self.items, true);
        let workers = report.ledger.flow.stages[2].workers.len();
        assert_eq!(seen.iter().filter(|&&n| n == LAST_WORDS).count(), workers);
        let missed = |p: &Plant| p.place >= Making && (p.at as usize) < workers;
        assert!(!self.plants.iter().any(missed), "a fault is hidden: {self:?}");
        if report.failed > 0 { Ended::WithFailures } else { Ended::Whole }
    }

    fn check_fault(&self, fault: Fault, ledger: &Ledger, seen: &[u64]) -> Ended {
        self.check_ledger(ledger, seen);
        let text = fault.to_string();
        // The very error, or the panic's own payload.
        let plant = match fault.cause {
            Cause::Error(error) => error.downcast::<PlantedError>().unwrap().0,
            Cause::Panic(payload) => payload.into_inner().downcast::<Planted>().unwrap().0,
        };
        assert!(self.plants.contains(&plant), "{text}");
        assert_eq!(fault.stage, plant.place.name(), "{text}");
        let stage = ledger.flow.stages.iter().find(|stage| stage.name == fault.stage).unwrap();
        assert!(fault.worker < stage.workers.len(), "{text}");
        let by_itself = self.is_ordered() && self.cancel.is_none();
        if plant.place >= Making {
            assert_eq!((fault.item, fault.worker as u64), (None, plant.at));
            let is_hidden = plant.place == End && by_itself && self.first_end().is_some();
            assert!(!is_hidden, "an item's fault is hidden: {self:?}");
            self.check_seen(seen, self.items, by_itself && plant.place == End);
            return Ended::AtNoItem(plant.place);
        }
        let number = fault.item.unwrap();
        assert!(stage.total().failed > 0);
        assert!(matches!(self.fate(number), Fate::Ends(p) if p == plant), "{text} {self:?}");
        if by_itself {
            assert_eq!(self.first_end(), Some((number, plant)), "{text} {self:?}");
        }
        let end = if self.is_ordered() { number } else { self.items };
        self.check_seen(seen, end, by_itself);
        assert!(!by_itself || !seen.contains(&LAST_WORDS), "the end comes before an item");
        Ended::AtItem(plant.place)
    }
}

impl Books {
    /// Every item and every state is gone, once, and so is every thread.
    fn check(&self) {
        let made = self.made.load(Ordering::SeqCst);
        let drops = |id: usize| self.dropped[id].load(Ordering::SeqCst);
        assert!((0..made).all(|id| drops(id) == 1), "an item was lost or dropped twice");
        let states = [&self.states_made, &self.states_dropped];
        let [states_made, states_dropped] = states.map(|n| n.load(Ordering::SeqCst));
        assert_eq!(states_made, states_dropped, "a worker's state was lost");
        let begun = self.threads_begun.load(Ordering::SeqCst);
        assert_eq!(begun, self.threads_ended.load(Ordering::SeqCst), "a thread is left");
    }
}

impl Place {
    /// The stage's name.
    fn name(self) -> &'static str {
        match self {
            Source => "source",
            Map => "map",
            Work | Making | End => "work",
            Fan => "fan",
            Turn => "turn",
            Sink => "sink",
        }
    }
}
