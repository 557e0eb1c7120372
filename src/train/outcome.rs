//! What a run has given so far, gathered on the control thread.

use super::gauges::{Gauges, cpu_seconds};
use super::lines::Line;
use super::options::Options;
use super::schedule::Schedule;
use super::standing::{Served, Standing};
use crate::engine::edge::EdgeCount;
use crate::engine::stage::StageCount;
use crate::error::Error;
use crate::model::{Config, Isa};
use crate::report::summary::{EdgeReport, SphereReport, StageReport};
use crate::report::{Progress, RunReport};
use crate::spheres::{Outcome, Spheres};
use crate::sync::cores;
use std::time::{Duration, Instant};

/// Steps over which the shown speed and the reported training loss are averaged.
pub(super) const RECENT: usize = 20;

/// Measures steps without what lies between them.
#[derive(Debug)]
pub(super) struct StepClock(Instant);

impl StepClock {
    pub(super) fn start() -> Self {
        StepClock(Instant::now())
    }

    /// Seconds since the start or the last lap.
    pub(super) fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap = now.duration_since(self.0).as_secs_f64();
        self.0 = now;
        lap
    }
}

/// One step, as it is remembered.
#[derive(Debug, Clone, Copy)]
struct Done {
    seconds: f64,
    targets: u64,
    loss: f64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Results {
    started: Instant,
    schedule: Schedule,
    /// Of this process; the last steps of those before it, by targets and loss.
    steps: Vec<Done>,
    before: Vec<(u64, f64)>,
    served: Served,
    /// Step and position where this process began.
    start: (u64, u64),
    validated: u64,
    /// The last validation is one after which the model is asked for a few words.
    is_moment: bool,
    best: Option<(u64, f64)>,
    /// Seconds of steps and validations.
    computing: f64,
    /// Processor time of the process when the steps began.
    cpu_before: Option<f64>,
    grad_norm: f64,
    /// The last validation: its step and its loss.
    interim: Option<(u64, f64)>,
    /// The last step was left out.
    left_out: bool,
    last_validation: Option<Outcome>,
    first_stages: Vec<StageReport>,
    first_edges: Vec<EdgeCount>,
    gauges: Gauges,
    report: RunReport,
}

impl Results {
    pub(super) fn new(options: &Options, isa: Isa, ranks: usize) -> Self {
        let steps = usize::try_from(options.steps).unwrap_or(usize::MAX).min(1 << 20);
        let gauges = Gauges::new(isa, ranks);
        Results {
            started: Instant::now(),
            schedule: Schedule {
                peak: options.lr,
                floor: options.lr / 10.0,
                warmup: options.warmup_steps(),
                steps: options.steps,
            },
            steps: Vec::with_capacity(steps),
            before: Vec::new(),
            served: Served::default(),
            start: (0, 0),
            validated: 0,
            is_moment: false,
            best: None,
            computing: 0.0,
            cpu_before: None,
            grad_norm: 0.0,
            interim: None,
            left_out: false,
            last_validation: None,
            first_stages: Vec::new(),
            first_edges: Vec::new(),
            report: RunReport {
                peak_flops: gauges.peak(),
                seed: options.seed,
                kernels: isa.name().to_owned(),
                cores: cores(),
                settings: serde_json::to_value(options).unwrap_or_default(),
                ..RunReport::default()
            },
            gauges,
        }
    }

    /// Goes on from where a checkpoint stands.
    pub(super) fn restore(&mut self, standing: &Standing) {
        self.report.resumed_from = Some(standing.step);
        self.report.steps = standing.step;
        self.report.tokens = standing.tokens;
        self.report.skipped_steps = standing.skipped;
        self.before.clone_from(&standing.recent);
        self.start = (standing.step, standing.position);
        self.served = standing.served;
        self.validated = standing.validated;
        self.best = standing.best;
    }

    /// Where the run stands now, for a checkpoint.
    pub(super) fn standing(&self, options: &Options) -> Standing {
        let here = (self.report.steps - self.start.0) * options.sequences_per_step() as u64;
        Standing {
            step: self.report.steps,
            position: self.start.1 + here,
            served: self.served,
            tokens: self.report.tokens,
            recent: self.last_losses(),
            skipped: self.report.skipped_steps,
            validated: self.validated,
            best: self.best,
        }
    }

    /// Everything up to here was served.
    pub(super) fn serve(&mut self, served: Served) {
        self.served = served;
    }

    /// The step with the best validation so far.
    pub(super) fn best(&self) -> Option<u64> {
        self.best.map(|(step, _)| step)
    }

    /// Counts a checkpoint that was saved, or could not be.
    pub(super) fn checkpoint(&mut self, saved: bool) {
        let count = &mut self.report.checkpoints;
        *if saved { &mut count.saved } else { &mut count.failed } += 1;
    }

    /// Targets and losses of the last steps, those of an earlier process included.
    fn last_losses(&self) -> Vec<(u64, f64)> {
        let here = self.recent().iter().map(|done| (done.targets, done.loss));
        let all: Vec<(u64, f64)> = self.before.iter().copied().chain(here).collect();
        all[all.len().saturating_sub(RECENT)..].to_vec()
    }

    /// Keeps the counters of the first pass, whose line ends before the steps begin.
    pub(super) fn first_pass(&mut self, line: &Line) {
        self.first_stages = stage_reports(line);
        self.first_edges = line.edges.iter().map(|edge| edge.count()).collect();
    }

    /// Steps done.
    pub(super) fn steps(&self) -> u64 {
        self.report.steps
    }

    /// The steps begin.
    pub(super) fn begin(&mut self) {
        self.cpu_before = cpu_seconds();
    }

    /// The steps and validations have ended: how many cores they kept busy.
    pub(super) fn computed(&mut self) {
        let spent = cpu_seconds().zip(self.cpu_before).map(|(after, before)| after - before);
        self.report.cores_busy = spent.map(|spent| spent / self.computing.max(1e-9));
    }

    /// Books a step.
    pub(super) fn step(&mut self, step: u64, outcome: &Outcome, seconds: f64) {
        let done = Done { seconds, targets: outcome.targets, loss: outcome.loss() };
        self.steps.push(done);
        self.computing += seconds;
        self.left_out = false;
        self.grad_norm = outcome.grad_norm;
        self.report.steps = step;
        self.report.tokens += outcome.targets;
    }

    /// Books a step that was left out: its loss is no number, and nothing was trained.
    pub(super) fn skipped(&mut self, step: u64, seconds: f64) {
        self.computing += seconds;
        self.left_out = true;
        self.report.steps = step;
        self.report.skipped_steps += 1;
    }

    /// Books a validation.
    pub(super) fn validation(&mut self, outcome: &Outcome, is_final: bool, seconds: f64) {
        self.computing += seconds;
        let (step, steps) = (self.report.steps, self.schedule.steps);
        let passes = |moment: u64| (self.validated + 1..=step).contains(&moment);
        self.is_moment = !is_final && (passes(steps.div_ceil(10)) || passes(steps.div_ceil(2)));
        self.validated = step;
        if outcome.targets == 0 {
            return;
        }
        let loss = outcome.loss();
        self.interim = Some((self.report.steps, loss));
        if is_final {
            self.last_validation = Some(*outcome);
        } else if self.best.is_none_or(|(_, best)| loss < best) {
            // The last validation is over other text, and no rival of those before.
            self.best = Some((self.report.steps, loss));
        }
    }

    /// Whether the last validation is the first one at a tenth or at half of the run, or later.
    pub(super) fn is_moment(&self) -> bool {
        self.is_moment
    }

    /// The last validation over all validation text.
    pub(super) fn final_validation(&self) -> Option<Outcome> {
        self.last_validation
    }

    /// The last validation, whole or not.
    pub(super) fn interim_validation(&self) -> Option<f64> {
        self.interim.map(|(_, loss)| loss)
    }

    fn recent(&self) -> &[Done] {
        &self.steps[self.steps.len().saturating_sub(RECENT)..]
    }

    /// The present moment.
    pub(super) fn progress(&mut self, line: &Line, spheres: &Spheres, config: &Config) -> Progress {
        let (stages, spheres) = self.gauges.read(line, spheres);
        let steps = self.schedule.steps;
        let recent = self.recent();
        let seconds: f64 = recent.iter().map(|done| done.seconds).sum();
        let targets: u64 = recent.iter().map(|done| done.targets).sum();
        let left = steps.saturating_sub(self.report.steps) as f64;
        let last = self.steps.last().filter(|_| !self.left_out);
        let eta = (!recent.is_empty()).then(|| left * seconds / recent.len() as f64);
        Progress {
            step: self.report.steps,
            steps,
            loss: last.map_or(f64::NAN, |done| done.loss),
            val_loss: self.interim_validation(),
            val_step: self.interim.map(|(step, _)| step),
            lr: self.schedule.rate(self.report.steps.max(1)),
            grad_norm: if self.left_out { f64::NAN } else { self.grad_norm },
            tokens_per_second: targets as f64 / seconds,
            eta_seconds: eta,
            tokens: self.report.tokens,
            skipped_steps: self.report.skipped_steps,
            seconds: self.started.elapsed().as_secs_f64(),
            peak_share: self.gauges.peak_share(config, targets as f64 / seconds),
            memory_bytes: self.gauges.memory(),
            stages,
            spheres,
        }
    }

    /// All threads have ended: takes their counters, and checks the ledgers.
    pub(super) fn close(&mut self, line: &Line, spheres: &Spheres) -> Result<(), Error> {
        let mut edges = std::mem::take(&mut self.first_edges);
        edges.extend(line.edges.iter().map(|edge| edge.count()));
        let tasks = spheres.ledger();
        if let Some(edge) = edges.iter().find(|edge| !edge.balances()) {
            return Err(unbalanced(&edge.name, edge.items_in, edge.items_out, edge.abandoned));
        }
        if tasks.made != tasks.finished + tasks.abandoned {
            return Err(unbalanced("spheres", tasks.made, tasks.finished, tasks.abandoned));
        }
        let edge = |edge: EdgeCount| EdgeReport {
            name: edge.name,
            items_in: edge.items_in,
            items_out: edge.items_out,
            abandoned: edge.abandoned,
            high_water: edge.high_water,
        };
        self.report.edges.clear();
        for edge in edges.into_iter().map(edge) {
            merge_edge(&mut self.report.edges, edge);
        }
        self.report.edges.push(EdgeReport {
            name: "sphere-tasks".to_owned(),
            items_in: tasks.made,
            items_out: tasks.finished,
            abandoned: tasks.abandoned,
            high_water: spheres.largest_phase() as u64,
        });
        self.report.spheres = spheres.counts().iter().map(sphere_report).collect();
        self.report.stages = std::mem::take(&mut self.first_stages);
        for stage in stage_reports(line) {
            merge_stage(&mut self.report.stages, stage);
        }
        // The batcher's items are what it fed, not its steps.
        let fed = self.report.edges.iter().find(|e| e.name == "batch-spheres").map(|e| e.items_in);
        if let Some(batch) = self.report.stages.iter_mut().find(|s| s.name == "batch") {
            batch.items = fed.unwrap_or(batch.items);
        }
        self.report.stages.push(self.sphere_stage());
        Ok(())
    }

    fn sphere_stage(&self) -> StageReport {
        let spheres = &self.report.spheres;
        let busy = spheres.iter().map(|s| s.busy_seconds).sum();
        let awake = spheres.len().min(cores());
        StageReport {
            name: "spheres".to_owned(),
            workers: spheres.len(),
            items: spheres.iter().map(|s| s.tasks).sum(),
            busy_seconds: busy,
            starved_seconds: (awake as f64 * self.computing - busy).max(0.0),
            ..StageReport::default()
        }
    }

    /// The report, but for what the outputs add.
    pub(super) fn report(&mut self, config: &Config) -> RunReport {
        let mut report = std::mem::take(&mut self.report);
        report.seconds = self.started.elapsed().as_secs_f64();
        let mut rates: Vec<f64> =
            self.steps.iter().map(|done| done.targets as f64 / done.seconds).collect();
        rates.sort_by(f64::total_cmp);
        report.tokens_per_second = rates.get(rates.len() / 2).copied().unwrap_or(0.0);
        report.peak_share = self.gauges.peak_share(config, report.tokens_per_second);
        let recent = self.last_losses();
        let targets: u64 = recent.iter().map(|(targets, _)| targets).sum();
        let sum: f64 = recent.iter().map(|(targets, loss)| loss * *targets as f64).sum();
        report.receipt = self.served.receipt.to_string();
        report.checkpoints.best = self.best();
        report.train_loss = (targets > 0).then(|| sum / targets as f64);
        report
    }
}

/// Adds an edge; one of an earlier line by the same name is the same edge to people.
fn merge_edge(edges: &mut Vec<EdgeReport>, edge: EdgeReport) {
    match edges.iter_mut().find(|known| known.name == edge.name) {
        None => edges.push(edge),
        Some(known) => {
            known.items_in += edge.items_in;
            known.items_out += edge.items_out;
            known.abandoned += edge.abandoned;
            known.high_water = known.high_water.max(edge.high_water);
        }
    }
}

/// The same for a stage.
fn merge_stage(stages: &mut Vec<StageReport>, stage: StageReport) {
    match stages.iter_mut().find(|known| known.name == stage.name) {
        None => stages.push(stage),
        Some(known) => {
            known.items += stage.items;
            known.busy_seconds += stage.busy_seconds;
            known.starved_seconds += stage.starved_seconds;
            known.blocked_seconds += stage.blocked_seconds;
        }
    }
}

fn unbalanced(name: &str, items_in: u64, out: u64, abandoned: u64) -> Error {
    Error::input(
        format!("edge {name} does not balance: {items_in} in, {out} out, {abandoned} abandoned"),
        "this is a bug; please report it",
    )
}

fn sphere_report(count: &crate::spheres::SphereCount) -> SphereReport {
    SphereReport {
        id: count.place.id,
        level: count.place.level,
        group: count.place.group,
        parent: count.place.parent,
        tasks: count.tasks.finished,
        stolen: count.tasks.stolen,
        busy_seconds: count.busy_seconds,
    }
}

fn stage_reports(line: &Line) -> Vec<StageReport> {
    let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
    let report = |gauge: &super::lines::StageGauge| {
        let StageCount { steps, busy_ns, starved_ns, blocked_ns, .. } = gauge.total();
        StageReport {
            name: gauge.name.to_owned(),
            workers: gauge.meters.len(),
            items: steps,
            busy_seconds: seconds(busy_ns),
            starved_seconds: seconds(starved_ns),
            blocked_seconds: seconds(blocked_ns),
        }
    };
    line.stages.iter().map(report).collect()
}
