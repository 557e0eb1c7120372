//! The pipeline of this library in the rows of its peers.
//!
//! `ours_w1` and `ours_w2`: ordered, with that many threads, which step source and sink as well; each
//! run starts and joins its threads within its figure.

use super::buffers::{self, Buffer, DEPTH, LENGTH};
use super::measure::{nanoseconds, quantile};
use super::peers::{Map, Take, checked};
use super::pipelines::{Stamps, TimedSink, paced_run, spent};
use super::row::{Reach, Row};
use super::work::{chain, even, mix, nothing, rounds};
use super::{Scale, per_item};
use std::hint::black_box;
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use twelvefold::engine::edge::edge;
use twelvefold::engine::pipeline::{Pipeline, Pull, RunError};
use twelvefold::engine::wait::Event;
use twelvefold::sync::{Arc, cores};

/// Source, map, sink, ordered.
///
/// # Panics
/// When the run fails.
pub fn ours(
    source: impl Iterator<Item = u64> + Send,
    threads: usize,
    map: impl Map,
    sink: &mut impl Take,
) {
    let run = Pipeline::from_iter("numbers", source)
        .map("work", map)
        .sink("sum", |mapped| sink.take(mapped))
        .threads(threads)
        .run();
    run.expect("no stage fails");
}

fn ordered(threads: usize, map: impl Map) -> impl Fn(u64) -> Duration {
    move |items| checked(items, true, |source, sink| ours(source, threads, map, sink))
}

/// `ours_w1` and `ours_w2` in `pipeline/near_zero`.
pub(super) fn near_zero(row: Row, items: u64) -> Row {
    row.runs("ours_w1", per_item(items, ordered(1, nothing)))
        .runs("ours_w2", per_item(items, ordered(2, nothing)))
}

/// `ours_w2` with any map stage.
pub(super) fn mapped(row: Row, items: u64, map: impl Map) -> Row {
    row.runs("ours_w2", per_item(items, ordered(2, map)))
}

/// `ours_w2`, with its processor time and its switches.
pub(super) fn busy(row: Row, items: u64, map: impl Map) -> Row {
    row.measures("ours_w2", move || spent(items, ordered(2, map)))
}

/// `ours_w2`, whose source says "nothing for now" between two items, and `ours_own_source`, whose
/// source has a thread of its own and sleeps there.
pub(super) fn paced(row: Row, items: u64) -> Row {
    let asked = |stamps: &Stamps, sink: &mut TimedSink| {
        let mut polled = stamps.polled();
        let run = Pipeline::source("numbers", move || match polled() {
            Ok(Some(item)) => Pull::Item(item),
            Ok(None) => Pull::End,
            Err(rest) => Pull::Later(rest),
        });
        let run = run.map("work", nothing).sink("sum", |mapped| sink.take(mapped)).threads(2).run();
        run.expect("no stage fails");
    };
    let blocking = |stamps: &Stamps, sink: &mut TimedSink| {
        let run = Pipeline::from_iter("numbers", stamps.source())
            .blocking()
            .map("work", nothing)
            .sink("sum", |mapped| sink.take(mapped))
            .threads(2)
            .run();
        run.expect("no stage fails");
    };
    row.measures("ours_w2", move || paced_run(items, asked))
        .measures("ours_own_source", move || paced_run(items, blocking))
}

/// `ours_pipeline` in `distribute`: unordered.
pub(super) fn distributes(row: Row, workers: usize, tasks: u64, rounds: u64) -> Row {
    row.runs("ours_pipeline", move || {
        let mut ran = 0;
        let started = Instant::now();
        let run = Pipeline::from_iter("tasks", 0..tasks)
            .map("work", |_| {
                black_box(chain(rounds));
            })
            .unordered()
            .sink("count", |()| ran += 1)
            .threads(workers)
            .run();
        let took = nanoseconds(started.elapsed());
        run.expect("no stage fails");
        assert_eq!(ran, tasks, "tasks that ran");
        took / tasks as f64
    })
}

/// `ours_pipeline` in `buffers`: two threads step the three stages; an edge brings buffers back.
pub(super) fn buffers(row: Row, items: u64) -> Row {
    row.runs("ours_pipeline", move || {
        let event = Arc::new(Event::new());
        let (mut empty_in, mut empty) = edge("empty", DEPTH, &event, &event);
        let starts = (0..items).step_by(LENGTH as usize);
        let mut total = 0_u64;
        let started = Instant::now();
        let filled = starts.map(move |start| {
            let fresh = |_| Buffer::with_capacity(LENGTH as usize);
            let mut buffer = empty.try_recv().unwrap_or_else(fresh);
            buffers::fill(&mut buffer, start);
            buffer
        });
        let run = Pipeline::from_iter("fill", filled)
            .map("map", |mut buffer: Buffer| {
                buffers::map(&mut buffer);
                buffer
            })
            .sink("sum", |buffer: Buffer| {
                total = total.wrapping_add(buffers::sum(&buffer));
                empty_in.try_send(buffer).ok();
            })
            .threads(2)
            .in_flight(DEPTH)
            .run();
        let took = nanoseconds(started.elapsed());
        run.expect("no stage fails");
        buffers::check(total, items);
        took / items as f64
    })
}

/// Rows of ours alone: from a panic to the return of the run, more threads than cores.
pub(super) fn rows(scale: Scale) -> Vec<Row> {
    let work = rounds(Duration::from_micros(1));
    let count = scale.of(960);
    let panics = Row::new("pipeline/panic_to_return", "ns")
        .called("median")
        .metric("99th percentile", "ns")
        .metric("longest", "ns")
        .measures("ours_w2", move || panics(count, work))
        .at_most(1, "ours_w2", 10e6)
        .at_most(2, "ours_w2", 1e9);
    vec![
        panics,
        crowded("near_zero", scale.of(1 << 22), nothing),
        crowded("1us", scale.of(64_000), even(work)),
    ]
}

/// As many threads as cores, and three times as many.
fn crowded(case: &str, items: u64, map: impl Map) -> Row {
    Row::new(format!("pipeline/thrice_the_threads_{case}"), "ns an item")
        .runs("as_many_as_cores", per_item(items, ordered(cores(), map)))
        .runs("ours_thrice", per_item(items, ordered(3 * cores(), map)))
        .against("ours_thrice", "as_many_as_cores", Reach::Within(2.0))
}

/// Items of a run that is going to fail.
const FAILING: u64 = 4_096;

/// Runs in which the source, the map stage or the sink panics at some item; from the panic to the
/// return of the run: median, 99th percentile, longest.
fn panics(count: u64, rounds: u64) -> Vec<f64> {
    let mut times: Vec<f64> = (0..count).map(|run| panic_at(run, rounds)).collect();
    vec![quantile(&mut times, 0.5), quantile(&mut times, 0.99), quantile(&mut times, 1.0)]
}

fn panic_at(run: u64, rounds: u64) -> f64 {
    let (at, stage) = (mix(run) % FAILING, run % 3);
    let when = OnceLock::new();
    let panics = |here: u64, item: u64| {
        if (here, item) == (stage, at) {
            when.set(Instant::now()).expect("one panic a run");
            // Without the hook, which would print.
            resume_unwind(Box::new("planted"));
        }
    };
    let map = even(rounds);
    let result = Pipeline::from_iter("source", (0..FAILING).inspect(|item| panics(0, *item)))
        .map("map", |item| {
            panics(1, item);
            black_box(map(item));
            item
        })
        .sink("sink", |item| panics(2, item))
        .threads(2)
        .run();
    let returned = Instant::now();
    let Err(RunError::Fault { fault, .. }) = result else { panic!("the panic is lost") };
    assert_eq!(fault.item, Some(at), "the fault names its item");
    nanoseconds(returned - *when.get().expect("the fault came from the planted panic"))
}
