//! A pipeline of a [`Case`], whose stages fail as planted and count what they make and drop.

use super::{
    Cancel, Case, End, Fan, Kind, LAST_WORDS, Making, Map, Place, Plant, Sink, Source, Turn, Work,
};
use std::cell::RefCell;
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use twelvefold::engine::BoxError;
use twelvefold::engine::pipeline::{Builder, Canceller, OnError, Out, Pipeline, Pull, Stage};

/// What a planted panic carries.
pub(super) struct Planted(pub(super) Plant);

/// Counts what is made and dropped in one run.
#[derive(Debug, Default)]
pub(super) struct Books {
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
pub(super) struct PlantedError(pub(super) Plant);

impl std::fmt::Display for PlantedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "planted in {:?} at {}", self.0.place, self.0.at)
    }
}

impl std::error::Error for PlantedError {}

/// A run of a case.
pub(super) struct Running<'a> {
    pub(super) case: &'a Case,
    pub(super) books: Books,
    pub(super) canceller: OnceLock<Canceller>,
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

    pub(super) fn pipeline(&'a self, seen: &'a mut Vec<u64>) -> Pipeline<'a> {
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

impl Books {
    /// For at most so many items.
    pub(super) fn new(items: usize) -> Self {
        let dropped = (0..items).map(|_| AtomicUsize::new(0)).collect();
        Books { dropped, ..Books::default() }
    }

    /// Every item and every state is gone, once, and so is every thread.
    pub(super) fn check(&self) {
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
