//! A run: from the options to the report.

use super::Cancel;
use super::feed::{Feed, Totals};
use super::lines::Line;
use super::options::Options;
use super::outcome::{Results, StepClock};
use super::receive::{Received, receive, unfinished};
use super::stages::Menu;
use super::{files, finish, inputs};
use crate::corpus::Source;
use crate::corpus::batcher::{Batcher, Sequences, Settings};
use crate::corpus::tokenizer::learn::{Expansion, PieceChunk};
use crate::corpus::tokenizer::{Tokenizer, TokenizerSpec, learn};
use crate::engine;
use crate::engine::crew::{Crew, Seat};
use crate::engine::edge::{Receiver, Sender};
use crate::engine::shutdown::Wake;
use crate::engine::wait::census;
use crate::error::Error;
use crate::model::adamw::AdamW;
use crate::model::{Config, Isa, Layout};
use crate::report::{Observer, RunReport, units};
use crate::spheres::{Job, Outcome, Plan, Spheres, spheres};
use crate::sync::{Arc, cores};
use crate::train::schedule::Schedule;

/// Sequences of the validations before the last one.
const EVAL_SEQUENCES: u64 = 64;

/// Trains a model as `options` say, writes the outputs and tells `observer` how it goes.
///
/// The calling thread becomes the control sphere: it orders and waits, and calls `observer` between
/// steps. All other threads are joined before this returns.
///
/// ```
/// use twelvefold::report::{Observer, Progress};
/// use twelvefold::train::{Cancel, Options, run};
///
/// struct Losses(Vec<f64>);
/// impl Observer for Losses {
///     fn step(&mut self, progress: &Progress) {
///         self.0.push(progress.loss);
///     }
/// }
///
/// let folder = tempfile::tempdir()?;
/// let options = Options {
///     out: folder.path().join("run"),
///     tokenizer: "bytes".to_owned(),
///     story_bytes: 50_000,
///     steps: 2,
///     layers: 1,
///     heads: 1,
///     width: 16,
///     context: 16,
///     batch: 2,
///     ..Options::default()
/// };
/// let mut losses = Losses(Vec::new());
/// let report = run(&options, &Cancel::new(), &mut losses)?;
/// assert_eq!((report.steps, losses.0.len()), (2, 2));
/// assert!(report.edges.iter().all(|edge| edge.items_in == edge.items_out + edge.abandoned));
/// assert!(options.out.join("model.safetensors").is_file());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A setting that is refused, an input that cannot be used, an output that cannot be written, a
/// stage that failed or panicked, a loss that is no number. What was in the output folder before is
/// then still there.
pub fn run(
    options: &Options,
    cancel: &Cancel,
    observer: &mut dyn Observer,
) -> Result<RunReport, Error> {
    let _member = census::Member::enter();
    options.validate()?;
    let isa = Isa::detect()?;
    let spec: TokenizerSpec = options.tokenizer.parse()?;
    let given = if spec.learns() { None } else { Some(spec.load()?) };
    let mut source = inputs::source(options, given.as_ref())?;
    let folder = files::RunFolder::claim(&options.out, options.overwrite)?;
    source.leave_out(folder.path())?;
    let mut results = Results::new(options, isa);
    observer.plan(&plan_text(options, isa));
    let corpus = match given {
        None => learn(options, spec, source, cancel, &mut results, observer)?,
        Some(tokenizer) => Corpus::Unread { source, tokenizer: Arc::new(tokenizer) },
    };
    let mut training = Training::start(options, isa, corpus, cancel)?;
    results.begin();
    let end = training.steps(options, cancel, &mut results, observer)?;
    results.computed();
    let trained = training.close(&mut results, end)?;
    if let Some(fault) = &trained.late {
        observer.note(&format!("after the last step: {fault}"));
    }
    finish::finish(options, &folder, trained, results, observer)
}

/// Text that is still to be read, or what a first pass kept of it.
enum Corpus {
    Unread {
        source: Box<dyn Source>,
        tokenizer: Arc<Tokenizer>,
    },
    Learned {
        source: Box<dyn Source>,
        tokenizer: Arc<Tokenizer>,
        kept: Vec<(Vec<PieceChunk>, Expansion)>,
    },
}

fn plan_text(options: &Options, isa: Isa) -> String {
    let text = if options.paths.is_empty() {
        format!("built-in stories, {}", units::bytes(options.story_bytes))
    } else {
        let paths: Vec<String> = options.paths.iter().map(|p| p.display().to_string()).collect();
        paths.join(", ")
    };
    format!(
        "text       {text}\ntokenizer  {}, on {} threads\nmodel      {} layers, {} heads, width {}, \
         context {}\nsteps      {} of {} x {} sequences\nspheres    {} on {} cores, {} kernels\noutput     {}",
        options.tokenizer,
        options.tokenizers,
        options.layers,
        options.heads,
        options.width,
        options.context,
        options.steps,
        options.micro_batches,
        options.batch,
        options.spheres,
        cores(),
        isa.name(),
        options.out.display(),
    )
}

/// The first pass of a tokenizer that learns.
fn learn(
    options: &Options,
    spec: TokenizerSpec,
    source: Box<dyn Source>,
    cancel: &Cancel,
    results: &mut Results,
    observer: &mut dyn Observer,
) -> Result<Corpus, Error> {
    let mut line = Line::new(cancel.control());
    let (learners, mut read) = line.learning(source, &spec, options.tokenizers);
    let crew = line.start()?;
    let mut learned = Vec::new();
    for mut result in learners {
        match receive(&mut result, cancel, line.shutdown()) {
            Received::Item(one) => learned.push(one),
            Received::Cancelled => {
                line.shutdown().cancel();
                crew.join()?;
                return Err(Error::Interrupted);
            }
            // The thread failed: its fault comes from the join.
            Received::Ended => break,
        }
    }
    crew.join()?;
    let source = read.try_recv().map_err(|_| unfinished("the loader"))?;
    results.first_pass(&line);
    let (learners, kept): (Vec<_>, Vec<_>) =
        learned.into_iter().map(|one| (one.learner, one.kept)).unzip();
    if learners.len() < options.tokenizers {
        return Err(unfinished("a tokenizer"));
    }
    let trained = learn::train(learners);
    if cancel.is_requested() {
        return Err(Error::Interrupted);
    }
    let found = trained.tokenizer.vocab();
    if let Some(asked) = spec.vocab().filter(|&asked| found < asked) {
        observer.note(&format!("the text gives {found} of the {asked} tokens of {spec}"));
    }
    let kept = kept.into_iter().zip(trained.expansions).collect();
    Ok(Corpus::Learned { source, tokenizer: Arc::new(trained.tokenizer), kept })
}

/// How the steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All were done.
    Whole,
    /// The user asked to stop.
    Interrupted,
}

/// The running line with its spheres.
struct Training {
    line: Line,
    crew: Option<Crew>,
    spheres: Spheres,
    feeds: Option<Receiver<Feed>>,
    back: Option<Sender<Sequences>>,
    /// The source, once the loader is done with it.
    read: Read,
    tokenizer: Arc<Tokenizer>,
    config: Config,
    totals: Option<Box<Totals>>,
}

enum Read {
    Done(Box<dyn Source>),
    Running(Receiver<Box<dyn Source>>),
}

/// What is left when all threads have ended.
pub(super) struct Trained {
    pub(super) spheres: Spheres,
    pub(super) source: Box<dyn Source>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) config: Config,
    pub(super) totals: Option<Box<Totals>>,
    pub(super) end: End,
    /// A fault after the last step.
    pub(super) late: Option<Error>,
}

impl Training {
    fn start(options: &Options, isa: Isa, corpus: Corpus, cancel: &Cancel) -> Result<Self, Error> {
        let mut line = Line::new(cancel.control());
        let (texts, read, tokenizer) = match corpus {
            Corpus::Unread { source, tokenizer } => {
                let (texts, read) = line.tokenizing(source, &tokenizer, options.tokenizers);
                (texts, Read::Running(read), tokenizer)
            }
            Corpus::Learned { source, tokenizer, kept } => {
                (line.expanding(kept.into_iter()), Read::Done(source), tokenizer)
            }
        };
        let config = Config {
            vocab: tokenizer.vocab(),
            layers: options.layers,
            heads: options.heads,
            width: options.width,
            context: options.context,
        };
        config.check()?;
        let batcher = Batcher::new(Settings {
            context: options.context,
            window: options.shuffle_window,
            seed: options.seed,
            vocab: config.vocab,
            end_of_document: tokenizer.end_of_document(),
        })?;
        let menu = Menu {
            steps: options.steps,
            eval_interval: options.eval_interval,
            eval_sequences: EVAL_SEQUENCES,
            batch: options.batch,
            ngrams: options.paths.is_empty(),
        };
        let (feeds, mut back) = line.batching(texts, batcher, menu, &tokenizer);
        for _ in 0..FEEDS {
            let buffer = Sequences::new(options.context, options.sequences_per_step());
            // The ring was made with room for all of them.
            let _ = back.try_send(buffer);
        }
        let plan = Plan {
            config,
            batch: options.batch,
            micro_batches: options.micro_batches,
            clip: if options.clip > 0.0 { f64::from(options.clip) } else { f64::INFINITY },
            adamw: AdamW { weight_decay: f64::from(options.weight_decay), ..AdamW::default() },
            isa,
        };
        let params = Layout::new(&config).init(options.seed);
        let control = cancel.control().clone();
        let (spheres, leaves) =
            spheres(plan, params, options.spheres, None, control, line.shutdown().clone());
        line.wakes(Wake::Pool(spheres.pool()));
        for mut sphere in leaves {
            let id = sphere.id();
            let body = move |seat: &Seat| {
                sphere.run(seat);
                Ok(())
            };
            line.thread(format!("tf-sphere-{id:02}"), "sphere", id, Box::new(body));
        }
        let crew = Some(line.start()?);
        let (feeds, back, totals) = (Some(feeds), Some(back), None);
        Ok(Training { line, crew, spheres, feeds, back, read, tokenizer, config, totals })
    }

    /// Takes what the batcher feeds until all steps are done or the user stops the run.
    fn steps(
        &mut self,
        options: &Options,
        cancel: &Cancel,
        results: &mut Results,
        observer: &mut dyn Observer,
    ) -> Result<End, Error> {
        let mut job = Job::default();
        let mut clock = StepClock::start();
        let mut validation = Outcome::default();
        loop {
            let feeds = self.feeds.as_mut().ok_or_else(|| unfinished("the control sphere"))?;
            match receive(feeds, cancel, self.line.shutdown()) {
                Received::Item(Feed::Train { sequences, step }) => {
                    let outcome = self.train(options, &mut job, sequences, step)?;
                    results.step(step, &outcome, clock.lap());
                    observer.step(&results.progress(&self.line));
                }
                Received::Item(Feed::Validate { sequences, last, is_final }) => {
                    let outcome = self.validate(&mut job, sequences)?;
                    validation.loss_sum += outcome.loss_sum;
                    validation.targets += outcome.targets;
                    if last {
                        let seconds = clock.lap();
                        results.validation(&std::mem::take(&mut validation), is_final, seconds);
                        observer.validated(&results.progress(&self.line));
                    }
                }
                Received::Item(Feed::Totals(totals)) => {
                    self.totals = Some(totals);
                    return Ok(End::Whole);
                }
                Received::Cancelled if results.steps() == 0 => {
                    self.stop()?;
                    return Err(Error::Interrupted);
                }
                Received::Cancelled => return Ok(End::Interrupted),
                Received::Ended => {
                    let stopped = self.stop();
                    return Err(self.explained(stopped));
                }
            }
        }
    }

    fn train(
        &mut self,
        options: &Options,
        job: &mut Job,
        sequences: Sequences,
        step: u64,
    ) -> Result<Outcome, Error> {
        let schedule = Schedule {
            peak: options.lr,
            floor: options.lr / 10.0,
            warmup: options.warmup_steps(),
            steps: options.steps,
        };
        job.lr = f64::from(schedule.rate(step));
        job.step = step;
        self.load(job, sequences);
        self.spheres.begin(job);
        let outcome = self.wait(job)?;
        match outcome.non_finite() {
            None => Ok(outcome),
            Some(what) => {
                let at = outcome.bad_sequence.map_or_else(
                    || "in the sum over the step".to_owned(),
                    |(micro, sequence)| format!("micro-batch {micro}, sequence {sequence}"),
                );
                Err(Error::NonFinite { what, step, at })
            }
        }
    }

    fn validate(&mut self, job: &mut Job, sequences: Sequences) -> Result<Outcome, Error> {
        if sequences.is_empty() {
            self.load(job, sequences);
            return Ok(Outcome::default());
        }
        self.load(job, sequences);
        self.spheres.begin_evaluation(job);
        self.wait(job)
    }

    /// Copies the sequences into the job, and sends their buffer back to the batcher.
    fn load(&mut self, job: &mut Job, mut sequences: Sequences) {
        job.inputs.clear();
        job.inputs.extend_from_slice(sequences.inputs());
        job.targets.clear();
        job.targets.extend_from_slice(sequences.targets());
        sequences.clear();
        if let Some(back) = &mut self.back {
            // A batcher that has given everything needs no buffer.
            let _ = back.try_send(sequences);
        }
    }

    fn wait(&mut self, job: &mut Job) -> Result<Outcome, Error> {
        if let Some(outcome) = self.spheres.wait(job) {
            return Ok(outcome);
        }
        self.stop()?;
        Err(unfinished("a sphere"))
    }

    /// The error of a run whose batcher gave no more: an input of too little text is no fault of a
    /// stage, and what was skipped may be the reason.
    fn explained(&mut self, stopped: Result<(), Error>) -> Error {
        let fault = match stopped {
            Ok(()) => return unfinished("the batcher"),
            Err(Error::Engine(engine::Error::Fault(fault))) if fault.stage == "batch" => fault,
            Err(error) => return error,
        };
        let engine::Fault { stage, worker, item, cause } = fault;
        let cause = match cause {
            engine::Cause::Error(error) => match error.downcast::<Error>() {
                Ok(error) => match *error {
                    Error::Input { what, hint } => {
                        return Error::Input { what: what + &self.skipped(), hint };
                    }
                    other => engine::Cause::Error(Box::new(other)),
                },
                Err(error) => engine::Cause::Error(error),
            },
            panic @ engine::Cause::Panic(_) => panic,
        };
        engine::Error::Fault(engine::Fault { stage, worker, item, cause }).into()
    }

    /// What was not taken, in as many lines as a message may have.
    fn skipped(&mut self) -> String {
        let summary = match &mut self.read {
            Read::Done(source) => source.summary(),
            Read::Running(read) => read.try_recv().map(|s| s.summary()).unwrap_or_default(),
        };
        let mut text = String::new();
        for skipped in summary.skipped.iter().chain(&summary.bad).take(SKIPPED_NAMED) {
            text += &format!("\nskipped {}: {}", skipped.path, skipped.reason);
        }
        let count = summary.skipped.len() + summary.bad_records as usize;
        match count.saturating_sub(SKIPPED_NAMED) {
            0 => text,
            more => text + &format!("\nand {more} more"),
        }
    }

    /// Stops and joins all threads; a fault among them is the error.
    fn stop(&mut self) -> Result<(), Error> {
        self.line.shutdown().cancel();
        match self.crew.take() {
            Some(crew) => Ok(crew.join()?),
            None => Ok(()),
        }
    }

    /// Ends all threads, and checks that nothing was lost.
    fn close(mut self, results: &mut Results, end: End) -> Result<Trained, Error> {
        // What is still on its way is abandoned, and counted as such.
        self.feeds = None;
        self.back = None;
        self.spheres.close();
        // Text beyond the last step is not needed, and a fault met there takes nothing from the
        // steps that are done: it becomes a note.
        let late = self.stop().err();
        results.close(&self.line, &self.spheres)?;
        let source = match self.read {
            Read::Done(source) => source,
            Read::Running(mut read) => read.try_recv().map_err(|_| unfinished("the loader"))?,
        };
        Ok(Trained {
            spheres: self.spheres,
            source,
            tokenizer: self.tokenizer,
            config: self.config,
            totals: self.totals,
            end,
            late,
        })
    }
}

/// Skipped paths that the message for too little text names.
const SKIPPED_NAMED: usize = 10;

/// Buffers of sequences between batcher and control sphere.
const FEEDS: usize = 3;
