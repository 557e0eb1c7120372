//! A run: from the options to the report.

use super::Cancel;
use super::checkpoints::Checkpoints;
use super::endpoint::{Endpoint, Publisher};
use super::first::First;
use super::lines::Line;
use super::model::Model;
use super::options::Options;
use super::outcome::Results;
use super::ranks::{self, Held};
use super::receive::{Received, receive, unfinished};
use super::records::Records;
use super::resume::{Begin, Resumed, Search};
use super::run_log::RunLog;
use super::standing::Digests;
use super::tracer::Tracer;
use super::training::Training;
use super::{files, finish, init, inputs, page, snapshot, tracer};
use crate::corpus::Source;
use crate::corpus::tokenizer::learn::{Expansion, PieceChunk};
use crate::corpus::tokenizer::{Tokenizer, TokenizerSpec, learn};
use crate::engine::wait::census;
use crate::error::Error;
use crate::model::Isa;
use crate::report::{Observer, RunReport, units};
use crate::sync::{Arc, cores};

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
    run_with(options, cancel, observer, None)
}

/// [`run`] as rank 0, with the others over `link`.
pub(super) fn run_with(
    options: &Options,
    cancel: &Cancel,
    observer: &mut dyn Observer,
    link: Option<Held>,
) -> Result<RunReport, Error> {
    let _member = census::Member::enter();
    init::check_out(options)?;
    let (options, init) = init::settle(options)?;
    let options = &options;
    options.validate()?;
    let ranks = link.as_ref().map(Held::ranks);
    ranks::check(options, ranks)?;
    let isa = Isa::detect()?;
    let spec: TokenizerSpec = options.tokenizer.parse()?;
    let (mut source, given) = inputs::text(options, &spec)?;
    let digests = Digests {
        tokenizer: given.as_ref().map(snapshot::digest),
        init: init.as_ref().map(|model| model.weights_sha256().to_owned()),
    };
    // Ends last: what it shows then is how the run ended.
    let (endpoint, publisher) = options.prometheus.map(Endpoint::open).transpose()?.unzip();
    let replaces = options.overwrite || options.resume;
    let folder = files::RunFolder::claim(&options.out, replaces)?;
    let out = folder.path();
    source.leave_out(out)?;
    let mut checkpoints = Checkpoints::open(out, options.keep_checkpoints)?;
    let results = Results::new(options, isa, ranks.unwrap_or(1));
    let mut log = RunLog::new(out, options.resume, options.steps, observer);
    let observer = &mut log;
    observer.plan(&plan_text(options, isa, endpoint.as_ref(), ranks));
    let begin = if options.resume {
        Search { out, checkpoints: &mut checkpoints, options, digests: &digests, isa, observer }
            .begin()?
    } else {
        Begin::First
    };
    let resumed = match begin {
        Begin::First => None,
        Begin::After(resumed) => Some(resumed),
        Begin::Over(report, bytes) => {
            files::write_atomically(out.join("report.json"), &bytes)?;
            Records::restore(out, options);
            page::leave(out, observer);
            return Ok(*report);
        }
    };
    let tracer = Tracer::open(options, out)?;
    let begun = Begun {
        options,
        isa,
        spec,
        source,
        given,
        digests,
        init,
        resumed,
        publisher,
        checkpoints,
        results,
        link,
    };
    let report = begun.train(&folder, cancel, &tracer, observer);
    tracer.close(observer);
    if report.is_ok() {
        log.end();
    }
    report
}

/// A run whose folder is held, and that knows where it begins.
struct Begun<'a> {
    options: &'a Options,
    isa: Isa,
    spec: TokenizerSpec,
    source: Box<dyn Source>,
    given: Option<Tokenizer>,
    digests: Digests,
    init: Option<Model>,
    resumed: Option<Box<Resumed>>,
    publisher: Option<Publisher>,
    checkpoints: Checkpoints,
    results: Results,
    link: Option<Held>,
}

impl Begun<'_> {
    /// Trains and writes the outputs. All threads have ended when this returns.
    fn train(
        self,
        folder: &files::RunFolder,
        cancel: &Cancel,
        tracer: &Tracer,
        observer: &mut dyn Observer,
    ) -> Result<RunReport, Error> {
        let Begun { options, isa, spec, source, given, digests, init, resumed, .. } = self;
        let Begun { publisher, mut checkpoints, mut results, link, .. } = self;
        let step = resumed.as_ref().map(|resumed| resumed.standing.step);
        let mut records = Records::new(folder.path(), options, step, publisher, observer);
        let corpus = match given {
            None => learn(options, spec, source, cancel, &mut results, &mut records, tracer)?,
            Some(tokenizer) => Corpus::Unread { source, tokenizer: Arc::new(tokenizer) },
        };
        let first = First::new(resumed.as_deref(), init.as_ref());
        let mut training =
            Training::start(options, isa, (corpus, digests), first, (cancel, tracer), link)?;
        drop(init);
        if let Some(resumed) = resumed {
            results.restore(&resumed.standing);
        }
        results.begin();
        let end = training.steps(options, cancel, &mut checkpoints, &mut results, &mut records)?;
        results.computed();
        let trained = training.close(&mut results, end)?;
        if let Some(fault) = &trained.late {
            records.note(&format!("after the last step: {fault}"));
        }
        let (begun, steps) = (tracer.now(), results.steps());
        let report = finish::finish(options, folder, trained, results, &mut records)?;
        tracer.span(begun, &tracer::OUTPUTS, steps);
        records.end();
        // After its records, which it tells of.
        page::leave(folder.path(), observer);
        tracer::remove_foreign(options, folder.path());
        checkpoints.remove_foreign()?;
        Ok(report)
    }
}

/// Text that is still to be read, or what a first pass kept of it.
pub(super) enum Corpus {
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

fn plan_text(
    options: &Options,
    isa: Isa,
    endpoint: Option<&Endpoint>,
    ranks: Option<usize>,
) -> String {
    let text = if options.paths.is_empty() {
        format!("built-in stories, {}", units::bytes(options.story_bytes))
    } else {
        let paths: Vec<String> = options.paths.iter().map(|p| p.display().to_string()).collect();
        paths.join(", ")
    };
    let begun = options
        .init
        .as_ref()
        .map_or_else(String::new, |folder| format!("\nweights    of {}", folder.display()));
    let shown = endpoint.map_or_else(String::new, |endpoint| {
        format!("\nprometheus http://{}/metrics", endpoint.address())
    });
    let ranks = ranks.map_or_else(String::new, |ranks| format!("\nranks      {ranks}"));
    format!(
        "text       {text}{begun}\ntokenizer  {}, on {} threads\nmodel      {} layers, {} heads, width {}, \
         context {}\nsteps      {} of {} x {} sequences{ranks}\nspheres    {} on {} cores, {} kernels\noutput     {}{shown}",
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
    tracer: &Tracer,
) -> Result<Corpus, Error> {
    let mut line = Line::new(cancel.control());
    let sizes = (options.tokenizers, options.token_memory);
    let (learners, mut read) = line.learning(source, &spec, sizes);
    let crew = line.start(tracer)?;
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
    tracer.take();
    let mut source = read.try_recv().map_err(|_| unfinished("the loader"))?;
    results.first_pass(&line);
    let (learners, kept): (Vec<_>, Vec<_>) =
        learned.into_iter().map(|one| (one.learner, one.kept)).unzip();
    let kept: Option<Vec<_>> = kept.into_iter().collect();
    if learners.len() < options.tokenizers {
        return Err(unfinished("a tokenizer"));
    }
    let begun = tracer.now();
    let trained = learn::train(learners);
    tracer.span(begun, &tracer::LEARN, 0);
    if cancel.is_requested() {
        return Err(Error::Interrupted);
    }
    let found = trained.tokenizer.vocab();
    if let Some(asked) = spec.vocab().filter(|&asked| found < asked) {
        observer.note(&format!("the text gives {found} of the {asked} tokens of {spec}"));
    }
    let tokenizer = Arc::new(trained.tokenizer);
    let Some(kept) = kept else {
        source.rewind()?;
        return Ok(Corpus::Unread { source, tokenizer });
    };
    let kept = kept.into_iter().zip(trained.expansions).collect();
    Ok(Corpus::Learned { source, tokenizer, kept })
}
