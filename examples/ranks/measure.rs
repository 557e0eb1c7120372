//! What one core of this machine needs for its part of a step.

use std::hint::black_box;
use std::time::Instant;
use twelvefold::Error;
use twelvefold::engine::crew::Crew;
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use twelvefold::model::adamw::{AdamW, sum_of_squares};
use twelvefold::model::{Config, Isa, Layout, Part, Random, panels_len, tiles};
use twelvefold::ranks::forecast::Costs;
use twelvefold::spheres::{Job, Plan, spheres};
use twelvefold::sync::Arc;

/// Steps that are measured; the one before them warms up.
const STEPS: u64 = 6;
/// Floats of the passes over a parameter: more than a cache holds.
const FLOATS: usize = 1 << 24;

/// Trains a few steps on one sphere, and passes over much memory; the fastest of each counts.
pub(super) fn costs(config: Config, batch: usize) -> Result<Costs, Error> {
    let isa = Isa::detect()?;
    let (phase_a, phase_b, update) = step(config, batch, isa)?;
    let n = Layout::new(&config).len() as f64;
    let left: Vec<f32> = (0..FLOATS).map(|i| i as f32).collect();
    let mut right = left.clone();
    let add = fastest(|| right.iter_mut().zip(&left).for_each(|(r, l)| *r += l));
    let square = fastest(|| {
        black_box(sum_of_squares(isa, &left));
    });
    Ok(Costs {
        phase_a,
        phase_b,
        add: add / FLOATS as f64,
        square: square / FLOATS as f64,
        update: update / n,
        adopt: adopt(&config) / n,
    })
}

/// Seconds of the fastest of five.
fn fastest(mut run: impl FnMut()) -> f64 {
    let seconds = |_| {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64()
    };
    (0..5).map(seconds).fold(f64::INFINITY, f64::min)
}

/// Seconds of phase A, phase B and the update of a step of one micro-batch.
fn step(config: Config, batch: usize, isa: Isa) -> Result<(f64, f64, f64), Error> {
    let adamw = AdamW::default();
    let plan = Plan { config, batch, micro_batches: 1, clip: 1.0, adamw, isa, separator: None };
    let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    let params = Layout::new(&config).init(1);
    let (mut spheres, leaves) = spheres(plan, params, 1, None, control.clone(), shutdown.clone());
    shutdown.register(vec![Wake::Event(control), Wake::Pool(spheres.pool())]);
    let mut crew = Crew::new(shutdown);
    for mut leaf in leaves {
        crew.spawn("sphere", "sphere", leaf.id(), move |seat| {
            leaf.run(seat);
            Ok(())
        })?;
    }
    let tokens = batch * config.context;
    let mut random = Random::new(1, 0);
    let mut draw = || (random.next_u64() % config.vocab as u64) as u32;
    let stream: Vec<u32> = (0..=tokens).map(|_| draw()).collect();
    let (inputs, targets) = (stream[..tokens].to_vec(), stream[1..].to_vec());
    let mut job = Job { inputs, targets, lr: 1e-4, step: 0 };
    let mut best = [f64::INFINITY; 3];
    let mut before = [0.0; 3];
    for step in 1..=STEPS + 1 {
        job.step = step;
        spheres.begin(&mut job);
        if spheres.wait(&mut job).is_none() {
            break; // A sphere failed; `join` says how.
        }
        let of = |wanted| {
            spheres.part_seconds().iter().find(|(part, _)| *part == wanted).map_or(0.0, |p| p.1)
        };
        let (phase_b, update) = (of(Part::WeightGradients), of(Part::Optimizer));
        let now = [spheres.counts()[0].busy_seconds - phase_b - update, phase_b, update];
        if step > 1 {
            best = [0, 1, 2].map(|i| f64::min(best[i], now[i] - before[i]));
        }
        before = now;
    }
    spheres.close();
    crew.join()?;
    Ok((best[0], best[1], best[2]))
}

/// Seconds to copy all parameters from messages and to pack them.
fn adopt(config: &Config) -> f64 {
    let came = Layout::new(config).init(1);
    let (mut params, mut panels) = (vec![0.0; came.len()], vec![0.0; panels_len(config)]);
    let tiles = tiles(config);
    fastest(|| {
        for tile in &tiles {
            for range in tile.ranges(config) {
                params[range.clone()].copy_from_slice(&came[range]);
            }
            for part in tile.panels(config) {
                part.write(&mut panels[part.range()], &params[part.source()]);
            }
        }
    })
}
