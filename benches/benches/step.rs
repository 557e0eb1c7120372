//! A full training step on one thread: phase A for all sequences, phase B for all tiles, AdamW.
//!
//! `step/CASE/ours`, throughput in tokens. Cases: S (vocabulary 50,257, 4 layers, 4 heads, width 128,
//! context 128, batch 4) and M (vocabulary 4,096, 6 layers, 6 heads, width 384, context 256, batch
//! 4). Random tokens. Checked first: the loss of the untrained model is ln V, and it falls.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use twelvefold::model::adamw::{AdamW, Update};
use twelvefold::model::{
    Config, Isa, Layout, Random, Scratch, Slot, Tile, forward_backward, tiles, weight_gradient,
};

const CASES: [(&str, Config); 2] = [
    ("S", Config { vocab: 50257, layers: 4, heads: 4, width: 128, context: 128 }),
    ("M", Config { vocab: 4096, layers: 6, heads: 6, width: 384, context: 256 }),
];
const BATCH: usize = 4;

/// All that a step touches, allocated once.
struct Trainer {
    config: Config,
    stream: Vec<u32>,
    params: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    slots: Vec<Slot>,
    tiles: Vec<Tile>,
    grad: Vec<f32>,
    scratch: Scratch,
    step: u64,
}

impl Trainer {
    fn new(config: Config) -> Trainer {
        let mut random = Random::new(1, 0);
        let token = |_| (random.next_u64() % config.vocab as u64) as u32;
        let tiles = tiles(&config);
        let params = Layout::new(&config).init(1);
        let isa = Isa::detect().expect("TWELVEFOLD_KERNELS names a path of this machine");
        Trainer {
            config,
            stream: (0..=BATCH * config.context).map(token).collect(),
            m: vec![0.0; params.len()],
            v: vec![0.0; params.len()],
            params,
            slots: (0..BATCH).map(|_| Slot::new(&config)).collect(),
            grad: vec![0.0; tiles.iter().map(Tile::len).max().unwrap_or(0)],
            tiles,
            scratch: Scratch::new(&config, isa),
            step: 0,
        }
    }

    /// One step; the loss per token before it.
    fn step(&mut self) -> f64 {
        let (config, t) = (&self.config, self.config.context);
        let tokens = BATCH * t;
        let scale = 1.0 / tokens as f32;
        let mut loss = 0.0;
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let (x, y) = (&self.stream[i * t..][..t], &self.stream[i * t + 1..][..t]);
            loss += forward_backward(config, &self.params, x, y, scale, slot, &mut self.scratch);
        }
        self.step += 1;
        let adamw = AdamW::default();
        for tile in &self.tiles {
            let mut grad = &mut self.grad[..tile.len()];
            weight_gradient(config, tile, self.slots.iter(), grad, &mut self.scratch);
            let update = Update { lr: 1e-4, clip: 1.0, step: self.step, decay: tile.decays() };
            for range in tile.ranges(config) {
                let (part, rest) = grad.split_at_mut(range.len());
                let (p, m) = (&mut self.params[range.clone()], &mut self.m[range.clone()]);
                adamw.update(self.scratch.isa(), &update, p, part, m, &mut self.v[range]);
                grad = rest;
            }
        }
        loss / tokens as f64
    }
}

fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10);
    for (case, config) in CASES {
        let mut trainer = Trainer::new(config);
        let (first, second) = (trainer.step(), trainer.step());
        assert!((first - (config.vocab as f64).ln()).abs() < 0.2, "{case}: first loss {first}");
        assert!(second < first, "{case}: {second} after {first}");
        group.throughput(Throughput::Elements((BATCH * config.context) as u64));
        group.bench_function(format!("{case}/ours"), |b| b.iter(|| black_box(trainer.step())));
    }
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
