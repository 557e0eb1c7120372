//! A pipeline chosen by chance, what is to go wrong in it, and what must then come out.

mod running;

use super::chance::Rng;
use running::{Books, Planted, PlantedError, Running};
use std::sync::OnceLock;
use twelvefold::engine::pipeline::{Ledger, Placement, Report, RunError};
use twelvefold::engine::{Cause, Fault};

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

impl Case {
    /// Runs it and compares.
    pub(crate) fn run_and_check(&self) -> Ended {
        let most = 10 * self.items as usize + 100;
        let running = Running { case: self, books: Books::new(most), canceller: OnceLock::new() };
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
