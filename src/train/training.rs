//! The steps of a run: the control sphere's loop, its checkpoints, and how the line ends.

use super::Cancel;
use super::checkpoints::Checkpoints;
use super::feed::{Feed, Totals};
use super::finish;
use super::first::{Begun, First, config, menu};
use super::lines::{Line, SourceBack, Tokenizing};
use super::options::Options;
use super::outcome::{Results, StepClock};
use super::ranks::Held;
use super::receive::{Received, receive, unfinished};
use super::run::Corpus;
use super::saver::Saver;
use super::schedule::Schedule;
use super::standing::{Digests, Served};
use super::tracer::{self, Tracer};
use crate::corpus::Source;
use crate::corpus::batcher::{Batcher, Sequences, Settings};
use crate::corpus::tokenizer::Tokenizer;
use crate::engine;
use crate::engine::crew::{Crew, Seat};
use crate::engine::edge::{Receiver, Sender};
use crate::engine::shutdown::Wake;
use crate::error::Error;
use crate::model::adamw::AdamW;
use crate::model::{Config, Isa};
use crate::report::Observer;
use crate::spheres::{Job, Outcome, Plan, Spheres, spheres_of};
use crate::sync::Arc;
use std::time::Instant;

/// Tokens of the samples before the last one.
const MOMENT_TOKENS: usize = 48;

/// How the steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All were done.
    Whole,
    /// The user asked to stop.
    Interrupted,
}

/// The running line with its spheres.
pub(super) struct Training<'a> {
    pub(super) isa: Isa,
    pub(super) tracer: &'a Tracer,
    line: Line,
    crew: Option<Crew>,
    pub(super) spheres: Spheres,
    feeds: Option<Receiver<Feed>>,
    back: Option<Sender<Sequences>>,
    /// The source, once the loader is done with it.
    read: SourceBack,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) digests: Digests,
    pub(super) config: Config,
    totals: Option<Box<Totals>>,
}

/// What is left when all threads have ended.
pub(super) struct Trained {
    pub(super) spheres: Spheres,
    pub(super) source: Box<dyn Source>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) digests: Digests,
    pub(super) config: Config,
    pub(super) totals: Option<Box<Totals>>,
    pub(super) end: End,
    /// A fault after the last step.
    pub(super) late: Option<Error>,
}

impl<'a> Training<'a> {
    /// Builds the line and the spheres, with the weights of a checkpoint or new ones, and starts the
    /// threads.
    pub(super) fn start(
        options: &Options,
        isa: Isa,
        (corpus, digests): (Corpus, Digests),
        first: First<'_>,
        (cancel, tracer): (&Cancel, &'a Tracer),
        link: Option<Held>,
    ) -> Result<Self, Error> {
        let mut line = Line::new(cancel.control());
        let (tokenizing, tokenizer) = match corpus {
            Corpus::Unread { source, tokenizer } => {
                (line.tokenizing(source, &tokenizer, options.tokenizers), tokenizer)
            }
            Corpus::Learned { source, tokenizer, kept } => {
                (line.expanding(source, &tokenizer, kept), tokenizer)
            }
        };
        let Tokenizing { texts, source: read, again } = tokenizing;
        let config = config(options, &tokenizer, first.init)?;
        let numbers = first.numbers(&config, options.seed, &tokenizer)?;
        let batcher = Batcher::new(Settings {
            context: options.context,
            window: options.shuffle_window,
            seed: options.seed,
            vocab: config.vocab,
            end_of_document: tokenizer.end_of_document(),
        })?
        .keeping(options.token_memory);
        let plan = Plan {
            config,
            batch: options.batch,
            micro_batches: options.micro_batches,
            clip: if options.clip > 0.0 { f64::from(options.clip) } else { f64::INFINITY },
            adamw: AdamW { weight_decay: f64::from(options.weight_decay), ..AdamW::default() },
            isa,
            separator: options.mask_documents.then(|| tokenizer.end_of_document()),
        };
        let menu = menu(options, first.resumed, plan.roads());
        let (feeds, mut back) = line.batching((texts, again), batcher, menu, &tokenizer);
        for _ in 0..FEEDS {
            let buffer = Sequences::new(options.context, options.sequences_per_step());
            // The ring was made with room for all of them.
            let _ = back.try_send(buffer);
        }
        let spheres = computing(&mut line, options, (plan, link), numbers, cancel);
        let crew = Some(line.start(tracer)?);
        let (feeds, back, totals) = (Some(feeds), Some(back), None);
        Ok(Training {
            isa,
            tracer,
            line,
            crew,
            spheres,
            feeds,
            back,
            read,
            tokenizer,
            digests,
            config,
            totals,
        })
    }

    /// Takes what the batcher feeds until all steps are done or the user stops the run.
    pub(super) fn steps(
        &mut self,
        options: &Options,
        cancel: &Cancel,
        checkpoints: &mut Checkpoints,
        results: &mut Results,
        observer: &mut dyn Observer,
    ) -> Result<End, Error> {
        let (mut job, mut round) = (Job::default(), Round::default());
        let mut clock = StepClock::start();
        let mut validation = Outcome::default();
        let mut saver = Saver { checkpoints, options, last: Instant::now(), asked: false };
        loop {
            let feeds = self.feeds.as_mut().ok_or_else(|| unfinished("the control sphere"))?;
            match receive(feeds, cancel, self.line.shutdown()) {
                Received::Item(Feed::Passed { served, same }) => {
                    results.serve(served);
                    if !same {
                        observer.note("changed: the text is not the one that was trained");
                    }
                    clock.lap();
                }
                Received::Item(Feed::Train { sequences, step, served }) => {
                    let feed = (sequences, step, served);
                    self.train_one(options, &mut job, feed, &mut clock, results, observer)?;
                    saver.asked |= cancel.take_save();
                    if saver.is_due_after(step) {
                        saver.save(self, results, observer);
                        clock.lap();
                    }
                }
                Received::Item(Feed::Validate { sequences, last, is_final }) => {
                    let begun = self.tracer.now();
                    let outcomes = self.validate(&mut round, sequences, last)?;
                    self.tracer.span(begun, &tracer::VALIDATE, results.steps());
                    self.tracer.take();
                    for outcome in outcomes {
                        validation.loss_sum += outcome.loss_sum;
                        validation.targets += outcome.targets;
                    }
                    if last {
                        let seconds = clock.lap();
                        results.validation(&std::mem::take(&mut validation), is_final, seconds);
                        self.validated(options, results, observer)?;
                        if !is_final && saver.is_due_validated(results) {
                            saver.save(self, results, observer);
                        }
                        clock.lap();
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

    /// Tells of a validation, and at some moments of what the model writes.
    fn validated(
        &self,
        options: &Options,
        results: &mut Results,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        observer.validated(&results.progress(&self.line, &self.spheres, &self.config));
        if results.is_moment() {
            let model = (&self.spheres, &self.config, &*self.tokenizer);
            let begun = self.tracer.now();
            let words = finish::sample(model, MOMENT_TOKENS, options.seed)?;
            self.tracer.span(begun, &tracer::SAMPLE, results.steps());
            observer.sample_at(results.steps(), &words);
        }
        Ok(())
    }

    /// Trains a step, books it and tells of it.
    fn train_one(
        &mut self,
        options: &Options,
        job: &mut Job,
        (sequences, step, served): (Sequences, u64, Served),
        clock: &mut StepClock,
        results: &mut Results,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let begun = self.tracer.now();
        let trained = self.train(options, job, sequences, step);
        self.tracer.span(begun, &tracer::STEP, step);
        self.tracer.take();
        results.serve(served);
        match trained {
            Ok(outcome) => results.step(step, &outcome, clock.lap()),
            Err(error @ Error::NonFinite { .. }) if options.skip_non_finite => {
                results.skipped(step, clock.lap());
                observer.note(&format!("left out a step: {error}"));
            }
            Err(error) => return Err(error),
        }
        observer.step(&results.progress(&self.line, &self.spheres, &self.config));
        Ok(())
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
                let mut at = outcome.bad_sequence.map_or_else(
                    || "in the sum over the step".to_owned(),
                    |(micro, sequence)| format!("micro-batch {micro}, sequence {sequence}"),
                );
                if let Some(sphere) = outcome.bad_sphere {
                    at += &format!(", on sphere {sphere}");
                    if self.spheres.ranks() > 1 {
                        at += &format!(" of rank {}", outcome.bad_rank);
                    }
                }
                Err(Error::NonFinite { what, step, at })
            }
        }
    }

    /// Evaluates sequences: at once, or with other ranks when each has some or these are the `last`. The
    /// outcomes of what has now been evaluated, in order.
    fn validate(
        &mut self,
        round: &mut Round,
        sequences: Sequences,
        last: bool,
    ) -> Result<Vec<Outcome>, Error> {
        if sequences.is_empty() {
            self.load(&mut Job::default(), sequences);
        } else {
            self.load(round.next(), sequences);
        }
        if !last && round.used < self.spheres.ranks() {
            return Ok(Vec::new());
        }
        let outcomes = self.spheres.evaluate(round.take());
        match outcomes {
            Some(outcomes) => Ok(outcomes),
            None => self.stopped(),
        }
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
        match self.spheres.wait(job) {
            Some(outcome) => Ok(outcome),
            None => self.stopped(),
        }
    }

    /// The error of spheres that were stopped.
    fn stopped<T>(&mut self) -> Result<T, Error> {
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
        let summary = self.read.try_recv().map(|source| source.summary()).unwrap_or_default();
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
    pub(super) fn close(mut self, results: &mut Results, end: End) -> Result<Trained, Error> {
        // What is still on its way is abandoned, and counted as such.
        self.feeds = None;
        self.back = None;
        self.spheres.close();
        // Text beyond the last step is not needed, and a fault met there takes nothing from the
        // steps that are done: it becomes a note.
        let late = self.stop().err();
        results.close(&self.line, &self.spheres)?;
        let source = self.read.try_recv().map_err(|_| unfinished("the loader"))?;
        Ok(Trained {
            spheres: self.spheres,
            source,
            tokenizer: self.tokenizer,
            digests: self.digests,
            config: self.config,
            totals: self.totals,
            end,
            late,
        })
    }
}

/// Sequences that are validated together, a job for each rank.
#[derive(Debug, Default)]
struct Round {
    jobs: Vec<Job>,
    used: usize,
}

impl Round {
    /// The next job to fill.
    fn next(&mut self) -> &mut Job {
        if self.used == self.jobs.len() {
            self.jobs.push(Job::default());
        }
        self.used += 1;
        &mut self.jobs[self.used - 1]
    }

    /// Those that are filled; the round is then empty.
    fn take(&mut self) -> &mut [Job] {
        let used = std::mem::take(&mut self.used);
        &mut self.jobs[..used]
    }
}

/// The spheres, with their first numbers; their threads join the line.
fn computing(
    line: &mut Line,
    options: &Options,
    (plan, link): (Plan, Option<Held>),
    (params, moments): Begun,
    cancel: &Cancel,
) -> Spheres {
    let (control, shutdown) = (cancel.control().clone(), line.shutdown().clone());
    let link = link.map(Held::into_link);
    let (mut spheres, leaves) =
        spheres_of(link, plan, params, (options.spheres, None), control, shutdown);
    if let Some((m, v)) = &moments {
        spheres.set_moments(m, v);
    }
    spheres.begin_run(moments.as_ref().map(|(m, v)| (&m[..], &v[..])));
    line.wakes(Wake::Pool(spheres.pool()));
    for mut sphere in leaves {
        let id = sphere.id();
        let body = move |seat: &Seat| {
            sphere.run(seat);
            Ok(())
        };
        line.thread(format!("tf-sphere-{id:02}"), "sphere", id, Box::new(body));
        let place = spheres.tree().place(id);
        let tags = [("sphere", id), ("level", place.level), ("group", place.group)];
        let room = (tracer::RINGS / options.spheres).max(256);
        let spans = spheres.spans_per_step().saturating_mul(2).min(room);
        line.traced(spans, tags.map(|(name, number)| (name, number as u64)).to_vec());
    }
    spheres
}

/// Skipped paths that the message for too little text names.
const SKIPPED_NAMED: usize = 10;

/// Buffers of sequences between batcher and control sphere.
const FEEDS: usize = 3;
