//! Training steps on real spheres, driven as the trainer drives them.

use std::time::Instant;
use twelvefold::engine::crew::Crew;
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use twelvefold::model::adamw::AdamW;
use twelvefold::model::{Config, Isa, Layout, Part, Random};
use twelvefold::spheres::{Job, Plan, Spheres, spheres};
use twelvefold::sync::Arc;

/// A model and its batch.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// What the tables call it.
    pub name: &'static str,
    /// The model.
    pub config: Config,
    /// Sequences in a micro-batch.
    pub batch: usize,
}

const fn size(
    name: &'static str,
    (vocab, layers, heads): (usize, usize, usize),
    (width, context, batch): (usize, usize, usize),
) -> Size {
    Size { name, config: Config { vocab, layers, heads, width, context }, batch }
}

/// The sizes of model that the figures are given for. N is nanoGPT's character model for CPUs.
pub const SIZES: [Size; 3] = [
    size("S", (50257, 4, 4), (128, 128, 4)),
    size("M", (4096, 6, 6), (384, 256, 4)),
    size("N", (65, 4, 4), (128, 64, 12)),
];

/// Sizes that no kernel was made for, and the default of the example.
pub const SHAPES: [Size; 12] = [
    size("default", (1024, 2, 4), (64, 256, 4)),
    size("width 100", (1000, 4, 5), (100, 128, 4)),
    size("width 37, 1 head", (257, 3, 1), (37, 50, 8)),
    size("context 1", (4096, 4, 4), (128, 1, 64)),
    size("context 1,000", (4096, 2, 4), (128, 1000, 2)),
    size("batch 1", (4096, 6, 6), (384, 256, 1)),
    size("batch 1, S", (50257, 4, 4), (128, 128, 1)),
    size("batch 3", (4096, 4, 4), (256, 128, 3)),
    size("1 head", (1000, 4, 1), (256, 128, 4)),
    size("16 heads", (1000, 4, 16), (256, 128, 4)),
    size("vocabulary 257", (257, 4, 4), (256, 256, 4)),
    size("width 768", (4096, 4, 12), (768, 256, 4)),
];

/// Operations that a token needs, forward and backward: two for each weight of a matrix product
/// and pass, three passes; attention over half of the context, since it is causal.
pub fn useful_flops(config: &Config) -> f64 {
    // As others count it: a vocabulary padded to whole vectors.
    let (v, c) = (config.padded_vocab(), config.width);
    let (l, t) = (config.layers, config.context);
    (6 * (v * c + 12 * l * c * c) + 6 * l * c * t) as f64
}

/// A model in training; its spheres sleep between two steps.
#[derive(Debug)]
pub struct Trainer {
    spheres: Spheres,
    crew: Option<Crew>,
    job: Job,
    tokens: usize,
}

impl Trainer {
    /// A fresh model, random tokens, `leaves` spheres.
    ///
    /// # Panics
    /// When a thread cannot be started.
    pub fn new(config: Config, batch: usize, micro_batches: usize, leaves: usize) -> Trainer {
        let isa = Isa::detect().expect("TWELVEFOLD_KERNELS names a path of this machine");
        let plan = Plan {
            config,
            batch,
            micro_batches,
            clip: 1.0,
            adamw: AdamW::default(),
            isa,
            separator: None,
        };
        let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
        let params = Layout::new(&config).init(1);
        let (spheres, bodies) =
            spheres(plan, params, leaves, None, control.clone(), shutdown.clone());
        shutdown.register(vec![Wake::Event(control), Wake::Pool(spheres.pool())]);
        let mut crew = Crew::new(shutdown);
        for mut body in bodies {
            let (name, id) = (format!("tf-sphere-{:02}", body.id()), body.id());
            let run = move |seat: &_| {
                body.run(seat);
                Ok(())
            };
            crew.spawn(&name, "sphere", id, run).expect("the system gives a thread");
        }
        let tokens = batch * micro_batches * config.context;
        let mut random = Random::new(1, 0);
        let mut draw = || (random.next_u64() % config.vocab as u64) as u32;
        let stream: Vec<u32> = (0..=tokens).map(|_| draw()).collect();
        let (inputs, targets) = (stream[..tokens].to_vec(), stream[1..].to_vec());
        let job = Job { inputs, targets, lr: 1e-4, step: 0 };
        Trainer { spheres, crew: Some(crew), job, tokens }
    }

    /// Tokens in a step.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The time inside tasks by part, all spheres together.
    pub fn part_seconds(&self) -> Vec<(Part, f64)> {
        self.spheres.part_seconds()
    }

    /// One step: the loss per token before it, and the seconds it took.
    ///
    /// # Panics
    /// When a sphere failed.
    pub fn step(&mut self) -> (f64, f64) {
        self.job.step += 1;
        let started = Instant::now();
        self.spheres.begin(&mut self.job);
        let outcome = self.spheres.wait(&mut self.job).expect("nobody stops this run");
        (outcome.loss(), started.elapsed().as_secs_f64())
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        self.spheres.close();
        if let Some(crew) = self.crew.take() {
            // A fault was seen by the step that it ended.
            drop(crew.join());
        }
    }
}
