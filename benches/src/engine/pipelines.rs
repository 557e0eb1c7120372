//! Source, map, sink, an item at a time: the pipeline beside its peers.
//!
//! The rows differ in the work of an item: next to none; 1 µs or 20 µs with one item in a hundred a
//! hundred times heavier; 1 µs for each; a source with one item in 10 ms. `ideal` is what two
//! threads need that nobody has to hand anything: each maps every second item, and the mean of
//! their times, halved, is the work of one item on two cores.

use super::measure::{nanoseconds, processor_time, quantile, together, voluntary_switches};
use super::peers::{
    Map, Take, checked, crossbeam_channel, fused_loop, pariter, rayon_par_bridge, rayon_pool,
};
use super::row::{Reach, Row};
use super::work::{Sink, even, nothing, rounds, skewed};
use super::{Scale, ours, per_item, tbb};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The rows of the table.
pub fn rows(scale: Scale) -> Vec<Row> {
    let micro = Duration::from_micros(1);
    let mut rows = vec![
        near_zero(scale),
        heavy(scale, "pipeline/1us_one_in_100_heavier", micro, 32_000),
        heavy(scale, "pipeline/20us_one_in_100_heavier", 20 * micro, 9_600),
        processor(scale),
        paced(scale),
    ];
    rows.extend(ours::rows(scale));
    rows
}

/// Items of the rows without work; the peers' are fewer, as they are slower.
pub fn near_zero_items(scale: Scale) -> (u64, u64) {
    (scale.of(1 << 22), scale.of(1 << 18))
}

fn near_zero(scale: Scale) -> Row {
    let (n, slow) = near_zero_items(scale);
    let mut row = Row::new("pipeline/near_zero", "ns an item").runs(
        "fused_loop",
        per_item(n, |n| checked(n, true, |source, sink| fused_loop(source, nothing, sink))),
    );
    row = ours::near_zero(row, n);
    for workers in [1, 2] {
        row = peers(row, slow, workers, nothing);
        row = onetbb(row, slow, workers, 0, false);
        let ours = format!("ours_w{workers}");
        row = row.against(&ours, "fused_loop", Reach::Over(2.0));
        for (peer, reach) in [
            ("onetbb", Reach::Times(10.0)),
            ("pariter", Reach::Times(10.0)),
            ("rayon_par_bridge", Reach::Told),
            ("crossbeam_channel", Reach::Told),
        ] {
            row = row.against(&ours, &format!("{peer}_w{workers}"), reach);
        }
    }
    row.against("ours_w2", "ours_w1", Reach::Within(1.0))
}

/// The Rust peers, named with their workers.
fn peers(row: Row, items: u64, workers: usize, map: impl Map) -> Row {
    let pool = rayon_pool(workers);
    row.runs(
        format!("rayon_par_bridge_w{workers}"),
        per_item(items, move |n| {
            checked(n, false, |source, sink| rayon_par_bridge(source, &pool, map, sink))
        }),
    )
    .runs(
        format!("pariter_w{workers}"),
        per_item(items, move |n| {
            checked(n, true, |source, sink| pariter(source, workers, map, sink))
        }),
    )
    .runs(
        format!("crossbeam_channel_w{workers}"),
        per_item(items, move |n| {
            checked(n, false, |source, sink| crossbeam_channel(source, workers, map, sink))
        }),
    )
}

fn onetbb(row: Row, items: u64, workers: usize, rounds: u64, skewed: bool) -> Row {
    let name = format!("onetbb_w{workers}");
    match tbb::program() {
        Ok(path) => {
            row.runs(name, move || tbb::run(&path, items, workers, rounds, skewed).ns_an_item)
        }
        Err(why) => row.skips(&name, &why),
    }
}

/// Each of two threads maps every second item; nanoseconds of work an item on two cores.
fn ideal(items: u64, map: impl Map) -> f64 {
    let (_, own) = together(2, |id| {
        for item in (id as u64..items).step_by(2) {
            black_box(map(item));
        }
    });
    own.iter().sum::<f64>() / 4.0 / (items / 2) as f64
}

fn heavy(scale: Scale, id: &str, time: Duration, items: u64) -> Row {
    let (work, n) = (rounds(time), scale.of(items));
    let map = skewed(work);
    let serial = move |n| checked(n, true, |source, sink| fused_loop(source, map, sink));
    let row = Row::new(id, "ns an item")
        .runs("ideal", move || ideal(n, map))
        .runs("fused_loop", per_item(n, serial));
    let row = onetbb(peers(ours::mapped(row, n, map), n, 2, map), n, 2, work, true);
    row.against("ours_w2", "ideal", Reach::Times(0.97))
        .against_share("ours_w2", ("fused_loop", 0.5, "half the fused loop"), Reach::Told)
        .against("ours_w2", "pariter_w2", Reach::Times(1.0))
        .against("ours_w2", "onetbb_w2", Reach::Times(1.0))
        .against("ours_w2", "rayon_par_bridge_w2", Reach::Told)
        .against("ours_w2", "crossbeam_channel_w2", Reach::Told)
}

/// Processor time an item, and voluntary switches per 1,000 items.
pub(super) fn spent(items: u64, run: impl FnOnce(u64) -> Duration) -> Vec<f64> {
    let (time, switches) = (processor_time(), voluntary_switches());
    run(items);
    let time = nanoseconds(processor_time() - time);
    let switches = (voluntary_switches() - switches) as f64;
    vec![time / items as f64, switches * 1e3 / items as f64]
}

fn processor(scale: Scale) -> Row {
    let (work, n) = (rounds(Duration::from_micros(1)), scale.of(160_000));
    let map = even(work);
    let pool = rayon_pool(2);
    let row = Row::new("pipeline/1us_busy", "ns an item")
        .called("processor time")
        .metric("voluntary switches per 1,000 items", "")
        .measures("fused_loop", move || {
            spent(n, |n| checked(n, true, |source, sink| fused_loop(source, map, sink)))
        })
        .measures("two_loops", move || spent(n, |n| two_loops(n, map)));
    let row = ours::busy(row, n, map)
        .measures("rayon_par_bridge_w2", move || {
            let flow =
                |n| checked(n, false, |source, sink| rayon_par_bridge(source, &pool, map, sink));
            spent(n, flow)
        })
        .measures("pariter_w2", move || {
            spent(n, |n| checked(n, true, |source, sink| pariter(source, 2, map, sink)))
        })
        .measures("crossbeam_channel_w2", move || {
            let flow =
                |n| checked(n, false, |source, sink| crossbeam_channel(source, 2, map, sink));
            spent(n, flow)
        });
    let row = match tbb::program() {
        Ok(path) => row.measures("onetbb_w2", move || {
            let figures = tbb::run(&path, n, 2, work, false);
            vec![figures.processor_ns_an_item, figures.switches_a_thousand]
        }),
        Err(why) => row.skips("onetbb_w2", &why),
    };
    let names = ["rayon_par_bridge_w2", "pariter_w2", "crossbeam_channel_w2", "onetbb_w2"];
    let row = row
        .against("ours_w2", "fused_loop", Reach::Over(20.0))
        .compares(0, "ours_w2", ("two_loops", 1.0, "two loops at once"), Reach::Told)
        .at_most(1, "ours_w2", 0.05);
    names.into_iter().fold(row, |row, name| row.against("ours_w2", name, Reach::Told))
}

/// A thread for each half of the items: the same work with both cores busy.
fn two_loops(items: u64, map: impl Map) -> Duration {
    let (wall, _) = together(2, |id| {
        for item in (id as u64..items).step_by(2) {
            black_box(map(item));
        }
    });
    Duration::from_nanos(wall as u64)
}

/// Between two items of the slow source.
const PAUSE: Duration = Duration::from_millis(10);

/// When the source let each item go, in nanoseconds from a common start.
#[derive(Debug, Clone)]
pub(super) struct Stamps {
    start: Instant,
    left: Arc<[AtomicU64]>,
}

impl Stamps {
    fn new(items: u64) -> Stamps {
        Stamps { start: Instant::now(), left: (0..items).map(|_| AtomicU64::new(0)).collect() }
    }

    /// One item in [`PAUSE`], for a source that sleeps.
    pub(super) fn source(&self) -> impl Iterator<Item = u64> + Send + use<> {
        let stamps = self.clone();
        (0..self.left.len() as u64).inspect(move |item| {
            sleep(PAUSE);
            let now = stamps.start.elapsed().as_nanos() as u64;
            stamps.left[*item as usize].store(now, Ordering::Release);
        })
    }

    /// The same for a source that is asked: an item, the end, or for how long there is none.
    pub(super) fn polled(&self) -> impl FnMut() -> Result<Option<u64>, Duration> + Send + use<> {
        let stamps = self.clone();
        let (mut next, mut due) = (0, Instant::now() + PAUSE);
        move || {
            let now = Instant::now();
            if next == stamps.left.len() as u64 {
                return Ok(None);
            }
            if now < due {
                return Err(due - now);
            }
            stamps.left[next as usize]
                .store((now - stamps.start).as_nanos() as u64, Ordering::Release);
            next += 1;
            due = now + PAUSE;
            Ok(Some(next - 1))
        }
    }
}

/// A sink that also notes how long each item was on its way.
#[derive(Debug)]
pub(super) struct TimedSink {
    sink: Sink,
    stamps: Stamps,
    late: Vec<f64>,
}

impl Take for TimedSink {
    fn take(&mut self, mapped: u64) {
        let now = self.stamps.start.elapsed().as_nanos() as u64;
        let item = self.late.len();
        let left = self.stamps.left[item].load(Ordering::Acquire);
        self.late.push((now - left) as f64);
        self.sink.take(mapped);
    }
}

/// Processor time an item, and the median and the 99th percentile of the time from source to sink.
/// Items so far apart arrive in order in every implementation.
pub(super) fn paced_run(items: u64, flow: impl FnOnce(&Stamps, &mut TimedSink)) -> Vec<f64> {
    let stamps = Stamps::new(items);
    let mut sink = TimedSink { sink: Sink::default(), stamps: stamps.clone(), late: Vec::new() };
    let time = processor_time();
    flow(&stamps, &mut sink);
    let time = nanoseconds(processor_time() - time) / items as f64;
    sink.sink.check(items, true);
    let late = &mut sink.late;
    vec![time, quantile(late, 0.5), quantile(late, 0.99)]
}

fn paced(scale: Scale) -> Row {
    // So many that the start of the threads is little beside them.
    let n = scale.of(200).min(200);
    let pool = rayon_pool(2);
    let row = Row::new("pipeline/one_item_in_10ms", "ns an item")
        .called("processor time")
        .metric("source to sink, median", "ns")
        .metric("source to sink, 99th percentile", "ns")
        .measures("bare_loop", move || {
            paced_run(n, |stamps, sink| fused_loop(stamps.source(), nothing, sink))
        });
    let row = ours::paced(row, n)
        .measures("rayon_par_bridge_w2", move || {
            let flow = |stamps: &Stamps, sink: &mut TimedSink| {
                rayon_par_bridge(stamps.source(), &pool, nothing, sink);
            };
            paced_run(n, flow)
        })
        .measures("crossbeam_channel_w2", move || {
            let flow = |stamps: &Stamps, sink: &mut TimedSink| {
                crossbeam_channel(stamps.source(), 2, nothing, sink);
            };
            paced_run(n, flow)
        });
    let row = row
        .against("ours_w2", "bare_loop", Reach::Within(1.5))
        .at_most(1, "ours_w2", 2_000.0)
        .against("ours_own_source", "bare_loop", Reach::Told);
    ["rayon_par_bridge_w2", "crossbeam_channel_w2"].into_iter().fold(row, |row, name| {
        row.against("ours_w2", name, Reach::Told)
            .compares(1, "ours_w2", (name, 1.0, name), Reach::Told)
            .compares(1, "ours_own_source", (name, 1.0, name), Reach::Told)
    })
}
