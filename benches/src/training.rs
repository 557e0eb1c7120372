//! Training steps on real spheres, driven as the trainer drives them.

use std::time::Instant;
use twelvefold::engine::crew::Crew;
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use twelvefold::model::adamw::AdamW;
use twelvefold::model::{Config, Isa, Layout, Random};
use twelvefold::spheres::{Job, Plan, Spheres, spheres};
use twelvefold::sync::Arc;

/// Sequences in a step.
pub const BATCH: usize = 4;

/// The two sizes of model that the figures are given for.
pub const SIZES: [(&str, Config); 2] = [
    ("S", Config { vocab: 50257, layers: 4, heads: 4, width: 128, context: 128 }),
    ("M", Config { vocab: 4096, layers: 6, heads: 6, width: 384, context: 256 }),
];

/// Operations that a token needs, forward and backward: two for each weight of a matrix product
/// and pass, three passes; attention over half of the context, since it is causal.
pub fn useful_flops(config: &Config) -> f64 {
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
    pub fn new(config: Config, leaves: usize) -> Trainer {
        let isa = Isa::detect().expect("TWELVEFOLD_KERNELS names a path of this machine");
        let plan = Plan {
            config,
            batch: BATCH,
            micro_batches: 1,
            clip: 1.0,
            adamw: AdamW::default(),
            isa,
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
        let tokens = BATCH * config.context;
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
