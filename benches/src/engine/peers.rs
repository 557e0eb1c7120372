//! Source, map, sink: how others write it.
//!
//! | implementation | order | how |
//! |---|---|---|
//! | `fused_loop` | kept | one thread, one loop |
//! | `crossbeam_channel` | lost | a thread for the source, one for each worker; the caller is the sink; two bounded channels |
//! | `rayon_par_bridge` | lost | the pool's threads take turns at the source and, behind a mutex, at the sink |
//! | `pariter` | kept | `parallel_map`; the caller is source and sink |
//! | `onetbb` | kept | `parallel_pipeline`, in C++: see [`super::tbb`] |

use super::work::Sink;
use crossbeam_channel::bounded;
use pariter::IteratorExt as _;
use rayon::iter::{ParallelBridge, ParallelIterator};
use std::ops::Range;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Room in each queue that a user would have to choose.
pub const CAPACITY: usize = 1024;

/// The map stage.
pub trait Map: Fn(u64) -> u64 + Copy + Send + Sync + 'static {}

impl<F: Fn(u64) -> u64 + Copy + Send + Sync + 'static> Map for F {}

/// The sink.
pub trait Take: Send {
    /// Takes one mapped item.
    fn take(&mut self, mapped: u64);
}

impl Take for Sink {
    #[inline]
    fn take(&mut self, mapped: u64) {
        Sink::take(self, mapped);
    }
}

/// Passes the numbers below `items` by `flow`, checks what came out, and gives the time that it
/// took, threads included.
pub fn checked(items: u64, is_ordered: bool, flow: impl FnOnce(Range<u64>, &mut Sink)) -> Duration {
    let mut sink = Sink::default();
    let started = Instant::now();
    flow(0..items, &mut sink);
    let took = started.elapsed();
    sink.check(items, is_ordered);
    took
}

/// One thread, one loop.
pub fn fused_loop(source: impl Iterator<Item = u64>, map: impl Map, sink: &mut impl Take) {
    for item in source {
        sink.take(map(item));
    }
}

/// Two bounded channels.
///
/// # Panics
/// When a worker panics.
pub fn crossbeam_channel(
    source: impl Iterator<Item = u64> + Send,
    workers: usize,
    map: impl Map,
    sink: &mut impl Take,
) {
    let (to_workers, from_source) = bounded(CAPACITY);
    let (to_sink, from_workers) = bounded(CAPACITY);
    thread::scope(|scope| {
        scope.spawn(move || {
            for item in source {
                to_workers.send(item).expect("the workers are there");
            }
        });
        for _ in 0..workers {
            let (from_source, to_sink) = (from_source.clone(), to_sink.clone());
            scope.spawn(move || {
                for item in from_source {
                    to_sink.send(map(item)).expect("the sink is there");
                }
            });
        }
        drop((from_source, to_sink));
        from_workers.iter().for_each(|mapped| sink.take(mapped));
    });
}

/// A pool for [`rayon_par_bridge`].
///
/// # Panics
/// When the system gives no threads.
pub fn rayon_pool(workers: usize) -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build();
    pool.expect("the system gives threads")
}

/// The pool's threads share the iterator and the sink.
///
/// # Panics
/// When the map stage panics.
pub fn rayon_par_bridge(
    source: impl Iterator<Item = u64> + Send,
    pool: &rayon::ThreadPool,
    map: impl Map,
    sink: &mut impl Take,
) {
    let sink = Mutex::new(sink);
    let into_sink = |mapped| sink.lock().expect("the sink does not panic").take(mapped);
    pool.install(|| source.par_bridge().map(map).for_each(into_sink));
}

/// The caller feeds the workers and takes from them in order.
pub fn pariter(
    source: impl Iterator<Item = u64>,
    workers: usize,
    map: impl Map,
    sink: &mut impl Take,
) {
    let mapped =
        source.parallel_map_custom(|options| options.threads(workers).buffer_size(CAPACITY), map);
    mapped.for_each(|mapped| sink.take(mapped));
}
