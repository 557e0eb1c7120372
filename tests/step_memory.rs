//! The memory of training: as much as is stated, and none is asked for after the first steps.
//!
//! One test function: what is counted is that of the whole process, and the harness allocates between
//! tests.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "a run that fails is a failed test")]

#[path = "common/counting.rs"]
#[expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's implementation")]
mod counting;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::sync::atomic::Ordering;

use counting::ALLOCATIONS;
use twelvefold::engine::crew::Crew;
use twelvefold::engine::shutdown::{Shutdown, Wake};
use twelvefold::engine::wait::Event;
use twelvefold::model::adamw::AdamW;
use twelvefold::model::{Config, Isa, Layout, Scratch, Slot, panels_len};
use twelvefold::spheres::{Job, Plan, Spheres, spheres};
use twelvefold::sync::Arc;
use watchdog::watchdog;

fn plan(config: &Config, batch: usize) -> Plan {
    let (adamw, isa) = (AdamW::default(), Isa::detect().unwrap());
    Plan { config: *config, batch, micro_batches: 1, clip: 1.0, adamw, isa, separator: None }
}

/// A model in training on `leaves` spheres.
struct Trainer {
    spheres: Spheres,
    crew: Crew,
    job: Job,
}

impl Trainer {
    fn new(config: Config, batch: usize, leaves: usize) -> Trainer {
        let plan = plan(&config, batch);
        let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
        let params = Layout::new(&config).init(1);
        let (spheres, bodies) =
            spheres(plan, params, leaves, Some(leaves), control.clone(), shutdown.clone());
        shutdown.register(vec![Wake::Event(control), Wake::Pool(spheres.pool())]);
        let mut crew = Crew::new(shutdown);
        for mut body in bodies {
            let id = body.id();
            let run = move |seat: &_| {
                body.run(seat);
                Ok(())
            };
            crew.spawn(&format!("tf-sphere-{id:02}"), "sphere", id, run).unwrap();
        }
        let n = batch * config.context;
        let inputs = (0..n).map(|i| (i * 7 % config.vocab) as u32).collect();
        let targets = (0..n).map(|i| (i * 5 % config.vocab) as u32).collect();
        Trainer { spheres, crew, job: Job { inputs, targets, lr: 1e-3, step: 0 } }
    }

    fn step(&mut self) {
        self.job.step += 1;
        self.spheres.begin(&mut self.job);
        self.spheres.wait(&mut self.job).unwrap();
    }

    /// Spheres that have had a task, and so have scratch.
    fn at_work(&self) -> usize {
        self.spheres.counts().iter().filter(|count| count.tasks.finished > 0).count()
    }

    fn end(self) {
        self.spheres.close();
        self.crew.join().unwrap();
    }
}

/// Bytes of the process that lie in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// What README.md and DESIGN.md state: 16 bytes a parameter and 4 for each number of the panels; a
/// slot for each sequence of a micro-batch; scratch for each sphere at work.
fn stated(config: &Config, batch: usize, at_work: usize) -> usize {
    let isa = Isa::detect().unwrap();
    let parameters = 16 * Layout::new(config).len() + 4 * panels_len(config);
    let plan = plan(config, batch);
    let group = plan.sequences_per_task();
    let (slot, scratch) =
        (Slot::new(config, group).bytes(), Scratch::new(config, group, isa).bytes());
    let Config { vocab, layers, heads, width, context } = *config;
    let rows = group * context;
    // The formulas in the comments of `Slot` and `Scratch`.
    let formula = 4 * rows * (layers * (16 * width + heads * context) + 2 * width + vocab);
    assert!(slot.abs_diff(formula) * 10 < slot, "a slot of {slot} bytes, stated {formula}");
    let hs = width / heads;
    let slots = (512 / rows).clamp(1, 4);
    let formula = 4 * ((7 + slots) * width * rows + (2 * hs + hs.max(32)) * context);
    assert!(scratch.abs_diff(formula) * 10 < scratch, "scratch of {scratch}, stated {formula}");
    parameters + batch * slot / group + at_work * scratch
}

/// Gives the trainer back: what is freed might be taken again by the next one, uncounted.
fn check_memory(config: Config, batch: usize) -> Trainer {
    let before = resident();
    let mut trainer = Trainer::new(config, batch, 2);
    (0..3).for_each(|_| trainer.step());
    let taken = resident().saturating_sub(before);
    let stated = stated(&config, batch, trainer.at_work());
    assert!(
        taken.abs_diff(stated) * 10 < stated,
        "{taken} bytes where {stated} are stated, {config:?} batch {batch}"
    );
    trainer
}

/// Few enough tiles that no deque grows.
fn check_allocations() {
    const STEPS: u64 = 100;
    let config = Config { vocab: 200, layers: 2, heads: 2, width: 24, context: 20 };
    let mut trainer = Trainer::new(config, 3, 2);
    (0..20).for_each(|_| trainer.step());
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    (0..STEPS).for_each(|_| trainer.step());
    let made = ALLOCATIONS.load(Ordering::SeqCst) - before;
    trainer.end();
    // A thread that first sleeps now, a page of the deques' collector: not one for each step.
    assert!(made < STEPS / 4, "{made} allocations in {STEPS} steps");
}

#[test]
fn training_takes_the_memory_that_is_stated_and_asks_for_no_more() {
    let _watchdog = watchdog("memory");
    check_allocations();
    // Most of it is the probabilities of the head; the parameters; the activations; the same of groups.
    let trainers = [
        (Config { vocab: 12_000, layers: 2, heads: 4, width: 64, context: 128 }, 16),
        (Config { vocab: 4_000, layers: 4, heads: 4, width: 384, context: 32 }, 2),
        (Config { vocab: 300, layers: 6, heads: 4, width: 128, context: 256 }, 8),
        (Config { vocab: 300, layers: 6, heads: 4, width: 128, context: 32 }, 72),
    ]
    .map(|(config, batch)| check_memory(config, batch));
    trainers.into_iter().for_each(Trainer::end);
}
