//! Source, map, sink, an item at a time.
//!
//! `pipeline/CASE/IMPLEMENTATION`, throughput in items; `_w1` and `_w2` are the workers of the map
//! stage. Cases: `near_zero` and `1us_one_in_100_heavier`. The program `engine` runs these and the
//! other rows in turns, with the ideal and oneTBB; the implementations are described in
//! [`twelvefold_benches::engine::peers`], and `ours` in [`twelvefold_benches::engine::ours`]. Each run checks that every item came once, and in order
//! where that is promised; threads that a run starts are in its figure.

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use std::ops::Range;
use std::time::Duration;
use twelvefold_benches::engine::ours::ours;
use twelvefold_benches::engine::peers::{
    Map, checked, crossbeam_channel, fused_loop, pariter, rayon_par_bridge, rayon_pool,
};
use twelvefold_benches::engine::work::{Sink, nothing, rounds, skewed};

fn row(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: &str,
    items: u64,
    is_ordered: bool,
    flow: impl Fn(Range<u64>, &mut Sink),
) {
    group.throughput(Throughput::Elements(items));
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|rounds| {
            (0..rounds).map(|_| checked(items, is_ordered, &flow)).sum::<Duration>()
        });
    });
}

fn case(group: &mut BenchmarkGroup<'_, WallTime>, case: &str, items: u64, map: impl Map) {
    let id = |implementation: &str| format!("{case}/{implementation}");
    row(group, &id("fused_loop"), items, true, |source, sink| fused_loop(source, map, sink));
    for workers in [1, 2] {
        let id = |implementation: &str| id(&format!("{implementation}_w{workers}"));
        let pool = rayon_pool(workers);
        row(group, &id("ours"), items, true, |source, sink| ours(source, workers, map, sink));
        row(group, &id("rayon_par_bridge"), items, false, |source, sink| {
            rayon_par_bridge(source, &pool, map, sink);
        });
        row(group, &id("pariter"), items, true, |source, sink| {
            pariter(source, workers, map, sink);
        });
        row(group, &id("crossbeam_channel"), items, false, |source, sink| {
            crossbeam_channel(source, workers, map, sink);
        });
    }
}

fn pipelines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    case(&mut group, "near_zero", 1 << 17, nothing);
    let micro = rounds(Duration::from_micros(1));
    case(&mut group, "1us_one_in_100_heavier", 1 << 13, skewed(micro));
    group.finish();
}

criterion_group!(benches, pipelines);
criterion_main!(benches);
