//! A pipeline that is complete: its settings and its run.

use super::builder::{Given, Spec};
use super::core::{Core, PostShape, Shape};
use super::drive::{Nodes, Outcome, drive};
use super::handles::{Bell, Canceller, Watch};
use super::report::{Ledger, Report, RunError};
use super::settings::{OnError, Placement, Settings};
use crate::engine::crew::catch;
use crate::engine::drop_guarded;
use crate::engine::error::{Cause, Fault, Payload};
use crate::engine::shutdown::Wake;
use crate::sync::{Arc, Ordering, fence, planted};
use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// A pipeline from its source to its sink.
///
/// ```
/// use twelvefold::engine::pipeline::{Pipeline, Placement};
///
/// let mut longest = 0;
/// let pipeline: Pipeline<'_> = Pipeline::from_iter("lines", "to be\nor\nnot".lines())
///     .map("length", str::len)
///     .sink("longest", |length| longest = length.max(longest))
///     .threads(2)
///     .in_flight(64) // Lines in memory, at most.
///     .placement(Placement::Cooperative);
/// pipeline.run()?;
/// assert_eq!(longest, 5);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
pub struct Pipeline<'env> {
    pub(super) specs: Vec<Spec<'env>>,
    pub(super) bell: Bell,
    pub(super) settings: Settings,
    pub(super) canceller: Canceller,
    pub(super) watch: Watch,
}

impl fmt::Debug for Pipeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.specs.iter().map(|spec| spec.name.as_str()).collect();
        f.debug_struct("Pipeline")
            .field("stages", &names)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A pipeline that is built: what its threads share.
pub(super) struct Plan<'env> {
    pub(super) core: Arc<Core>,
    nodes: Vec<Box<dyn super::drive::Node + 'env>>,
    keep: Option<usize>,
}

impl<'env> Pipeline<'env> {
    /// How many threads work; as many as cores without this call.
    ///
    /// # Panics
    /// When `threads` is 0.
    pub fn threads(mut self, threads: usize) -> Self {
        assert!(threads > 0, "a pipeline needs a thread");
        self.settings.threads = threads;
        self
    }

    /// How many items of the source may be in the pipeline at once; 4,096 without this call. This bounds
    /// its memory: items are stored in buffers that are made once and used again.
    ///
    /// # Panics
    /// When `items` is 0.
    pub fn in_flight(mut self, items: usize) -> Self {
        assert!(items > 0, "nothing flows without an item in flight");
        self.settings.in_flight = items;
        self
    }

    /// Who steps the stages; [`Placement::Cooperative`] without this call.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.settings.placement = placement;
        self
    }

    /// Whether each thread is pinned to a core, round robin over those that the process may use; they
    /// are not without this call. A thread whose core the system refuses runs where it may:
    /// [`ThreadFlow::pinned`](super::ThreadFlow::pinned) says which are pinned, and where.
    ///
    /// ```
    /// # use twelvefold::engine::pipeline::Pipeline;
    /// let report = Pipeline::from_iter("numbers", 0..9).sink("drop", drop).threads(2).pin(true).run()?;
    /// let cores: Vec<_> = report.ledger.flow.threads.iter().map(|thread| thread.pinned).collect();
    /// assert_eq!(cores.len(), 2); // Such as `[Some(0), Some(1)]`.
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    #[cfg(feature = "pin")]
    pub fn pin(mut self, pin: bool) -> Self {
        self.settings.pin = pin;
        self
    }

    /// What an error of a stage does; it ends the run without this call.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::{OnError, Pipeline};
    ///
    /// let mut sum = 0;
    /// let report = Pipeline::from_iter("lines", ["1", "x", "3", "y"])
    ///     .try_map("parse", str::parse::<u32>)
    ///     .sink("sum", |n| sum += n)
    ///     .on_error(OnError::Collect(1))
    ///     .run()?;
    /// assert_eq!((sum, report.failed), (4, 2));
    /// assert_eq!((report.failures.len(), report.failures[0].item), (1, Some(1)));
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.settings.on_error = on_error;
        self
    }

    /// What ends this pipeline's run from another thread or from inside a stage.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::Pipeline;
    ///
    /// let pipeline = Pipeline::from_iter("for ever", 0..).map("double", |x| 2 * x);
    /// let mut seen = 0;
    /// let pipeline = pipeline.sink("count", |_| seen += 1);
    /// let canceller = pipeline.canceller();
    /// std::thread::spawn(move || canceller.cancel());
    /// let report = pipeline.run()?;
    /// assert!(report.cancelled && report.ledger.balances);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// What looks at this pipeline's counters while it runs.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::Pipeline;
    ///
    /// let pipeline = Pipeline::from_iter("numbers", 0..100).sink("drop", drop);
    /// let watch = pipeline.watch();
    /// pipeline.run()?;
    /// assert_eq!(watch.snapshot().edges[0].taken, 100);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// The threads of each stage, how many threads there are, and their names.
    pub(super) fn place(&self) -> (Vec<Range<usize>>, Vec<String>) {
        let wanted = |spec: &Spec<'_>| match spec.workers {
            Some(workers) => workers,
            None => self.settings.threads,
        };
        let alone =
            |spec: &Spec<'_>| spec.blocking || self.settings.placement == Placement::ThreadPerStage;
        let shared = self.specs.iter().filter(|spec| !alone(spec));
        let most = shared.clone().filter(|spec| !spec.serial).map(wanted).max();
        let threads = shared.clone().next().map_or(0, |_| match most {
            Some(most) => most.max(self.settings.threads),
            None => self.settings.threads,
        });
        let mut names: Vec<String> = (0..threads).map(|t| format!("tf-{t}")).collect();
        let place = |spec: &Spec<'_>| {
            if !alone(spec) {
                return 0..if spec.serial { threads } else { wanted(spec).min(threads) };
            }
            let from = names.len();
            names.extend((0..wanted(spec)).map(|w| format!("tf-{}-{w}", spec.name)));
            from..names.len()
        };
        (self.specs.iter().map(place).collect(), names)
    }

    pub(super) fn plan(self, ranges: Vec<Range<usize>>, threads: usize) -> Plan<'env> {
        let stages = self.specs.iter().zip(&ranges).map(|(spec, range)| {
            let farewells = match (spec.says_goodbye, spec.serial) {
                (false, _) => 0,
                (true, true) => 1,
                (true, false) => range.len(),
            };
            let (name, threads) = (spec.name.clone(), range.clone());
            PostShape { name, threads, serial: spec.serial, farewells }
        });
        let edges = self.specs.len() - 1;
        let capacities: Vec<_> = self.specs[..edges].iter().map(|spec| spec.capacity).collect();
        let in_flight = self.settings.in_flight;
        // Enough batches for every thread to have some in hand and some waiting.
        let fair = (in_flight / (4 * threads)).clamp(1, MOST_IN_A_BATCH);
        let batch_limit = if self.specs[0].blocking { 1 } else { fair };
        let batch_limit =
            capacities.iter().flatten().fold(batch_limit, |limit, &items| limit.min(items));
        let shutdown = self.canceller.shutdown;
        let shape = Shape {
            stages: stages.collect(),
            capacities,
            threads,
            pin: self.settings.pin,
            in_flight,
            batch_limit,
            ordered: self.specs.iter().all(|spec| spec.ordered),
        };
        let core = Arc::new(Core::new(shape, shutdown.clone(), self.canceller.cutoff));
        shutdown.register(vec![Wake::Pool(core.gate.clone())]);
        let build = |(stage, spec): (usize, Spec<'env>)| {
            (spec.build)(&Given { stage, ordered: spec.ordered, says_goodbye: spec.says_goodbye })
        };
        let nodes: Vec<_> = self.specs.into_iter().enumerate().map(build).collect();
        let mut tokens = core.first_tokens();
        nodes.iter().for_each(|node| node.allocate(&core, &mut tokens));
        // Set once each: a pipeline runs once.
        drop(self.watch.0.set(core.clone()));
        drop(self.bell.0.set(core.gate.clone()));
        // Orders the bell before the first question to the source; pairs with the fence in `Bell::ring`.
        if !planted("run.plan.fence") {
            fence(Ordering::SeqCst);
        }
        let keep = match self.settings.on_error {
            OnError::Stop => None,
            OnError::Collect(keep) => Some(keep),
        };
        Plan { core, nodes, keep }
    }

    /// Runs the pipeline on threads of its own, and returns when all of them have been joined.
    ///
    /// # Errors
    /// The first fault, or a thread that the system refused; what became of every item is part of it.
    #[cfg(not(any(loom, shuttle)))]
    pub fn run(self) -> Result<Report, RunError> {
        let started = std::time::Instant::now();
        let (ranges, names) = self.place();
        let plan = self.plan(ranges, names.len());
        let mut refused = None;
        let outcomes = std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for (thread, name) in names.iter().enumerate() {
                let plan = &plan;
                match crate::sync::spawn_scoped(scope, name, move || plan.drive(thread)) {
                    Ok(handle) => handles.push(handle),
                    Err(source) => {
                        refused = Some((name.clone(), source));
                        plan.core.shutdown.cancel();
                        break;
                    }
                }
            }
            // A thread catches what its stages throw: nothing arrives here.
            let joined = handles.into_iter().map(|handle| handle.join().unwrap_or_default());
            joined.collect::<Vec<_>>()
        });
        let result = plan.settle(outcomes, started.elapsed());
        match refused {
            Some((thread, source)) => Err(RunError::Spawn { thread, source }),
            None => result,
        }
    }
}

#[cfg(any(loom, shuttle))]
impl Pipeline<'static> {
    /// Runs the pipeline on loom's threads, of which the calling one is the last.
    ///
    /// # Errors
    /// As the run that ships.
    pub fn run(self) -> Result<Report, RunError> {
        let (ranges, names) = self.place();
        let plan = Arc::new(self.plan(ranges, names.len()));
        let spawn = |(thread, name): (usize, &String)| {
            let plan = plan.clone();
            crate::sync::spawn_named(name, move || plan.drive(thread)).expect("loom has room")
        };
        let last = names.len() - 1;
        let handles: Vec<_> = names[..last].iter().enumerate().map(spawn).collect();
        let mut outcomes = vec![plan.drive(last)];
        outcomes.extend(handles.into_iter().map(|handle| handle.join().expect("joined")));
        let Ok(plan) = Arc::try_unwrap(plan) else { panic!("a thread is left") };
        plan.settle(outcomes, Duration::ZERO)
    }
}

impl Plan<'_> {
    pub(super) fn nodes(&self) -> &Nodes<'_> {
        &self.nodes
    }

    /// The body of thread `thread`.
    pub(super) fn drive(&self, thread: usize) -> Outcome {
        self.core.pins.pin(thread);
        let outcome = RefCell::default();
        let driven = catch(|| drive(&self.core, self.nodes(), thread, self.keep, &outcome));
        let mut outcome: Outcome = outcome.into_inner();
        if let Err(payload) = driven {
            // Not a stage's: those are caught where they stand. The token at hand is lost, so nobody
            // can wait for the sink to have had it: all leave at once.
            let first = self.core.shutdown.poison(thread);
            let place = if self.core.is_ordered() { u64::MAX } else { u64::from(!first) };
            let cause = Cause::Panic(Payload::new(payload));
            let fault = Fault { stage: "thread".to_owned(), worker: thread, item: None, cause };
            outcome.faults.push((place, fault));
        }
        outcome
    }

    /// Accounts for everything after the last thread has been joined.
    fn settle(self, outcomes: Vec<Outcome>, elapsed: Duration) -> Result<Report, RunError> {
        let ledger = self.ledger();
        let cancelled = !self.core.is_finished();
        for node in self.nodes {
            drop_guarded(node);
        }
        let (mut faults, mut failures, mut failed) = (Vec::new(), Vec::new(), 0);
        for outcome in outcomes {
            faults.extend(outcome.faults);
            failures.extend(outcome.failures);
            failed += outcome.failed;
        }
        let others = (faults.len() as u64).saturating_sub(1);
        // In order by position, and there those without an item first; else the first in time.
        faults.sort_by_key(|(place, fault)| (*place, fault.item));
        let mut faults = faults.into_iter();
        if let Some((_, fault)) = faults.next() {
            faults.for_each(drop_guarded);
            return Err(RunError::Fault { fault, others, ledger: Box::new(ledger) });
        }
        if !ledger.balances {
            return Err(RunError::Unbalanced(Box::new(ledger)));
        }
        failures.sort_by_key(|failure| failure.item.unwrap_or(u64::MAX));
        let surplus = self.keep.unwrap_or(0).min(failures.len());
        failures.drain(surplus..).for_each(drop_guarded);
        let items = ledger.flow.stages[0].total().made;
        Ok(Report { items, cancelled, elapsed, ledger, failed, failures })
    }

    /// Drops what is left on the edges, and compares all books.
    fn ledger(&self) -> Ledger {
        let mut left = vec![(0, 0); self.core.lanes.len()];
        for mut held in self.core.last_tokens() {
            for (node, left) in self.nodes[1..].iter().zip(&mut left) {
                let (items, stamp) = node.sweep(&mut held);
                left.0 += items;
                left.1 = u64::wrapping_add(left.1, stamp);
            }
        }
        let mut flow = self.core.snapshot();
        for (edge, (items, _)) in flow.edges.iter_mut().zip(&left) {
            edge.abandoned = *items;
        }
        let stamps = |s: usize| {
            let meters = self.core.posts[s].meters.iter().map(|meter| meter.stamps());
            meters.fold((0u64, 0u64), |sum, (taken, made)| {
                (sum.0.wrapping_add(taken), sum.1.wrapping_add(made))
            })
        };
        let stamped =
            (0..left.len()).all(|e| stamps(e).1 == stamps(e + 1).0.wrapping_add(left[e].1));
        let stages = flow.stages.iter().all(|stage| stage.total().balances());
        let balances = stamped && stages && flow.edges.iter().all(|edge| edge.balances());
        Ledger { flow, balances }
    }
}

/// A batch holds no more items than this, however little each costs.
const MOST_IN_A_BATCH: usize = 512;

#[cfg(test)]
mod tests {
    use super::super::core::Core;
    use super::super::drive::{Hand, Me, Node};
    use super::*;
    use crate::engine::error::Cause;
    use crate::engine::pipeline::batch::Held;

    /// A stage with a bug of this library's: its first step reports a fault, its second one panics where
    /// nothing of a stage's own runs.
    struct Broken;

    struct BrokenHand(u32);

    impl Node for Broken {
        fn allocate(&self, _core: &Core, _tokens: &mut Vec<Held>) {}

        fn hand<'a>(&'a self, _worker: usize) -> Box<dyn Hand + 'a> {
            Box::new(BrokenHand(0))
        }

        fn is_ready(&self, _core: &Core) -> bool {
            true
        }

        fn sweep(&self, _held: &mut Held) -> (u64, u64) {
            (0, 0)
        }
    }

    impl Hand for BrokenHand {
        fn step(&mut self, me: &Me<'_>) -> bool {
            self.0 += 1;
            assert!(self.0 == 1, "a bug");
            me.fault((0, 0), (3, 40), Some(42), Cause::Error("an item's".into()));
            true
        }
    }

    fn broken(ordered: bool) -> Plan<'static> {
        let built = Pipeline::from_iter("source", 0..1);
        let built = if ordered { built } else { built.unordered() };
        let pipeline = built.sink("sink", drop).threads(1);
        let (ranges, names) = pipeline.place();
        let mut plan = pipeline.plan(ranges, names.len());
        plan.nodes[1] = Box::new(Broken);
        plan
    }

    #[test]
    fn a_panic_outside_of_all_stages_stops_the_run_and_keeps_the_faults_before_it() {
        let plan = broken(true);
        let outcome = plan.drive(0);
        assert!(plan.core.shutdown.is_stopped(), "the others are told");
        let Err(RunError::Fault { fault, others, .. }) = plan.settle(vec![outcome], Duration::ZERO)
        else {
            panic!("the faults are lost");
        };
        assert_eq!(fault.to_string(), "stage source, worker 0, failed at item 42: an item's");
        assert_eq!(others, 1);
        // Without an order the first fault stops the thread before its second step.
        assert_eq!(broken(false).drive(0).faults.len(), 1);
    }

    #[test]
    fn a_panic_outside_of_all_stages_is_at_no_item() {
        let plan = broken(true);
        let mut outcome = plan.drive(0);
        outcome.faults.remove(0);
        let result = plan.settle(vec![outcome], Duration::ZERO);
        let text = result.map(|_| ()).unwrap_err().to_string();
        assert_eq!(text, "stage thread, worker 0, panicked at no item: a bug");
    }
}
