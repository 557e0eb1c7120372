//! The production lines of a run: which threads there are, what connects them, who wakes whom.

use super::ahead::{Ahead, BATCHES, READERS, Read};
use super::batch::{Batch, Menu};
use super::feed::Feed;
use super::stages::{Again, Chunks, DEPTH, Inlet, Learn, Learned, Load, Outlet, Text, Tokenize};
use super::tracer::Tracer;
use crate::corpus::batcher::{Batcher, Sequences};
use crate::corpus::files::{Batch as Files, Interrupter};
use crate::corpus::tokenizer::learn::{Expansion, Learner, PieceChunk};
use crate::corpus::tokenizer::{Encoder, Tokenizer, TokenizerSpec};
use crate::corpus::{Chunk, Source, TokenChunk};
use crate::engine::Error;
use crate::engine::crew::Crew;
use crate::engine::edge::{EdgeMeter, Receiver, Sender, edge};
use crate::engine::shutdown::{Shutdown, Wake};
use crate::engine::stage::{PaddedMeter, StageCount, Stepped, drive};
use crate::engine::wait::Event;
use crate::sync::Arc;

/// A stage's threads as observers see them.
#[derive(Debug, Clone)]
pub(super) struct StageGauge {
    pub(super) name: &'static str,
    pub(super) meters: Vec<Arc<PaddedMeter>>,
}

impl StageGauge {
    /// The workers' counters, added up.
    pub(super) fn total(&self) -> StageCount {
        self.meters.iter().map(|meter| meter.count()).fold(StageCount::default(), |a, b| {
            StageCount {
                steps: a.steps + b.steps,
                busy_ns: a.busy_ns + b.busy_ns,
                starved_ns: a.starved_ns + b.starved_ns,
                blocked_ns: a.blocked_ns + b.blocked_ns,
                sleeps: a.sleeps + b.sleeps,
                last: b.last,
            }
        })
    }
}

/// Builds the stages of one line: collects threads to start, sleepers, gauges and edge meters.
pub(super) struct Line {
    shutdown: Arc<Shutdown>,
    control: Arc<Event>,
    sleepers: Vec<Wake>,
    starts: Vec<Start>,
    pub(super) stages: Vec<StageGauge>,
    pub(super) edges: Vec<EdgeMeter>,
    /// Of the edges, the stage that takes from each.
    pub(super) queues: Vec<(&'static str, EdgeMeter)>,
}

type Body =
    Box<dyn FnOnce(&crate::engine::crew::Seat) -> Result<(), crate::engine::BoxError> + Send>;

/// The tokenizers' threads' events and where their chunks come from.
pub(super) type Texts = Vec<(Arc<Event>, Text)>;

/// The tokenizers' threads' events and their ends of the loader's edges.
type Inlets = Vec<(Arc<Event>, Inlet<Chunk>)>;

/// What hands the source on when the loader is done with it.
pub(super) type SourceBack = Receiver<Box<dyn Source>>;

/// A line from the loader to the tokenizers, still without its batcher.
pub(super) struct Tokenizing {
    pub(super) texts: Texts,
    pub(super) source: SourceBack,
    pub(super) again: Asking,
}

/// The batcher's event, and what asks the loader for another pass.
pub(super) type Asking = (Arc<Event>, Sender<Again>);

/// When the loader reads.
enum Reads {
    /// Once, for tokenizers that learn.
    Once,
    /// At once, and again when it is asked.
    Now(Receiver<Again>),
    /// When it is asked: the first pass is there already.
    Later(Receiver<Again>),
}

struct Start {
    thread: String,
    stage: &'static str,
    worker: usize,
    body: Body,
    /// For a trace: the spans of its thread between two steps, and what stands with each.
    spans: usize,
    tags: Vec<(&'static str, u64)>,
}

/// Spans of a stage between two steps that a trace has room for.
const SPANS: usize = 4096;

impl Line {
    /// An empty line whose control thread sleeps on `control`.
    pub(super) fn new(control: &Arc<Event>) -> Self {
        Line {
            shutdown: Arc::new(Shutdown::new()),
            control: control.clone(),
            sleepers: vec![Wake::Event(control.clone())],
            starts: Vec::new(),
            stages: Vec::new(),
            edges: Vec::new(),
            queues: Vec::new(),
        }
    }

    pub(super) fn shutdown(&self) -> &Arc<Shutdown> {
        &self.shutdown
    }

    /// Adds somebody to be woken by a stop.
    pub(super) fn wakes(&mut self, sleeper: Wake) {
        self.sleepers.push(sleeper);
    }

    /// Adds a thread that is no stepped stage.
    pub(super) fn thread(
        &mut self,
        thread: String,
        stage: &'static str,
        worker: usize,
        body: Body,
    ) {
        let (spans, tags) = (SPANS, Vec::new());
        self.starts.push(Start { thread, stage, worker, body, spans, tags });
    }

    /// How a trace shows the thread that was added last.
    pub(super) fn traced(&mut self, spans: usize, tags: Vec<(&'static str, u64)>) {
        if let Some(start) = self.starts.last_mut() {
            (start.spans, start.tags) = (spans, tags);
        }
    }

    /// A thread's event.
    fn event(&mut self) -> Arc<Event> {
        let event = Arc::new(Event::new());
        self.sleepers.push(Wake::Event(event.clone()));
        event
    }

    /// An edge called `name` to a stage.
    fn edge<T: Send + 'static>(
        &mut self,
        (name, stage): (&str, &'static str),
        depth: usize,
        from: &Arc<Event>,
        to: &Arc<Event>,
    ) -> (Sender<T>, Receiver<T>) {
        let (tx, rx) = edge(name, depth, from, to);
        self.edges.push(tx.meter());
        self.queues.push((stage, tx.meter()));
        (tx, rx)
    }

    /// An edge with a ring that takes its buffers back. Buffers on their way back are no items of
    /// the ledger: dropping one loses nothing.
    fn round<T: Send + 'static>(
        &mut self,
        (name, stage): (&str, &'static str),
        from: &Arc<Event>,
        to: &Arc<Event>,
    ) -> (Outlet<T>, Inlet<T>) {
        let (tx, rx) = self.edge((name, stage), DEPTH, from, to);
        let (back_tx, back_rx) = edge(name, DEPTH + 2, to, from);
        (Outlet::new(tx, back_rx), Inlet { rx, back: back_tx })
    }

    /// A thread that steps one stage until it is done, and then calls `finish` with it.
    fn stage<S: Stepped + 'static>(
        &mut self,
        (thread, name, worker): (String, &'static str, usize),
        event: Arc<Event>,
        stage: S,
        finish: impl FnOnce(S) + Send + 'static,
    ) {
        let meter = Arc::new(PaddedMeter::default());
        match self.stages.iter_mut().find(|gauge| gauge.name == name) {
            Some(gauge) => gauge.meters.push(meter.clone()),
            None => self.stages.push(StageGauge { name, meters: vec![meter.clone()] }),
        }
        let mut stage = stage;
        let body: Body = Box::new(move |seat| {
            drive(&mut stage, &event, seat, &meter)?;
            finish(stage);
            Ok(())
        });
        self.thread(thread, name, worker, body);
    }

    /// The loader's thread, and what its `tokenizers` receivers sleep on and receive from.
    fn load(
        &mut self,
        event: Arc<Event>,
        source: Box<dyn Source>,
        tokenizers: usize,
        reads: Reads,
    ) -> (Inlets, SourceBack) {
        let mut outlets = Vec::new();
        let mut inlets = Vec::new();
        let takes = if matches!(reads, Reads::Once) { "learn" } else { "tokenize" };
        for worker in 0..tokenizers {
            let tok = self.event();
            let (outlet, inlet) = self.round((&format!("load-tok-{worker}"), takes), &event, &tok);
            outlets.push(outlet);
            inlets.push((tok, inlet));
        }
        let (done, read) = edge("source", 1, &event, &self.control.clone());
        let held = source.interrupter().map(|interrupter| self.interrupts(interrupter, &event));
        let (mut source, readers) = (source, tokenizers.min(READERS));
        let readers = if source.read_ahead(readers * BATCHES) { readers } else { 0 };
        let ahead = Ahead::new((0..readers).map(|worker| self.reader(worker, &event)).collect());
        let load = match reads {
            Reads::Once => Load::new(source, outlets, done, None),
            Reads::Now(again) => Load::new(source, outlets, done, Some(again)),
            Reads::Later(again) => Load::new(source, outlets, done, Some(again)).waiting(),
        };
        self.stage(("tf-load".to_owned(), "load", 0), event, load.ahead(ahead), |load| {
            drop(held);
            load.finish();
        });
        (inlets, read)
    }

    /// A thread that reads files ahead; the loader's ends of its edges.
    fn reader(&mut self, worker: usize, loader: &Arc<Event>) -> (Sender<Files>, Receiver<Files>) {
        let event = self.event();
        let name = format!("load-read-{worker}");
        let (tx, input) = self.edge((&name, "read"), BATCHES, loader, &event);
        // As with buffers: what comes back was counted on its way out.
        let (back, rx) = edge(&name, BATCHES, &event, loader);
        let read = Read::new(worker, input, back);
        self.stage((format!("tf-read-{worker}"), "read", worker), event, read, drop);
        (tx, rx)
    }

    /// A thread that ends the loader's wait for input which may never come, when the run is stopped.
    /// It leaves when the loader drops what is given back.
    fn interrupts(&mut self, interrupter: Interrupter, loader: &Arc<Event>) -> Sender<()> {
        let event = self.event();
        let (held, released) = edge("loader", 1, loader, &event);
        let shutdown = self.shutdown.clone();
        let body: Body = Box::new(move |_| {
            event.wait(|| released.is_closed() || shutdown.is_stopped());
            interrupter.interrupt();
            Ok(())
        });
        self.thread("tf-interrupt".to_owned(), "interrupt", 0, body);
        held
    }

    /// The first pass of a tokenizer that learns.
    pub(super) fn learning(
        &mut self,
        source: Box<dyn Source>,
        spec: &TokenizerSpec,
        (tokenizers, memory): (usize, u64),
    ) -> (Vec<Receiver<Learned>>, SourceBack) {
        let event = self.event();
        let (inlets, read) = self.load(event, source, tokenizers, Reads::Once);
        let room = memory / tokenizers as u64;
        let mut results = Vec::new();
        for (worker, (event, inlet)) in inlets.into_iter().enumerate() {
            let (done, result) = edge("learned", 1, &event, &self.control.clone());
            let learn =
                Learn::new((worker, tokenizers), inlet, Learner::new(spec.clone()), room, done);
            self.stage((format!("tf-tok-{worker}"), "learn", worker), event, learn, Learn::finish);
            results.push(result);
        }
        (results, read)
    }

    /// Tokenizers that read from a loader.
    pub(super) fn tokenizing(
        &mut self,
        source: Box<dyn Source>,
        tokenizer: &Arc<Tokenizer>,
        tokenizers: usize,
    ) -> Tokenizing {
        let (chunks, line) = self.reading(source, tokenizer, tokenizers, Reads::Now);
        let texts = chunks.into_iter().map(|(event, chunks)| (event, Text::Chunks(chunks)));
        Tokenizing { texts: texts.collect(), ..line }
    }

    /// Tokenizers that expand what the first pass kept, and read later passes from a loader.
    pub(super) fn expanding(
        &mut self,
        source: Box<dyn Source>,
        tokenizer: &Arc<Tokenizer>,
        learned: Vec<(Vec<PieceChunk>, Expansion)>,
    ) -> Tokenizing {
        let count: usize = learned.iter().map(|(kept, _)| kept.len()).sum();
        let (chunks, line) = self.reading(source, tokenizer, learned.len(), Reads::Later);
        let last = count % learned.len();
        let texts = chunks.into_iter().zip(learned).enumerate().map(|(worker, (place, pieces))| {
            let ((event, then), (kept, expansion)) = (place, pieces);
            let (kept, ends) = (kept.into_iter(), worker == last);
            (event, Text::Pieces { kept, expansion, ends, then })
        });
        Tokenizing { texts: texts.collect(), ..line }
    }

    /// A loader that can be asked, and what its tokenizers take; the texts are still missing.
    fn reading(
        &mut self,
        source: Box<dyn Source>,
        tokenizer: &Arc<Tokenizer>,
        tokenizers: usize,
        reads: impl FnOnce(Receiver<Again>) -> Reads,
    ) -> (Vec<(Arc<Event>, Chunks)>, Tokenizing) {
        let (batch, load) = (self.event(), self.event());
        // What asks is no item of the corpus, and so none of the ledger.
        let (again, asked) = edge("again", 1, &batch, &load);
        let (inlets, source) = self.load(load, source, tokenizers, reads(asked));
        let chunks = |(event, input)| {
            let (tokenizer, encoder) = (tokenizer.clone(), Box::new(Encoder::default()));
            (event, Chunks { input, tokenizer, encoder })
        };
        let line = Tokenizing { texts: Vec::new(), source, again: (batch, again) };
        (inlets.into_iter().map(chunks).collect(), line)
    }

    /// Tokenizers and batcher, up to the edge from which the control thread receives.
    pub(super) fn batching(
        &mut self,
        (texts, again): (Texts, Asking),
        batcher: Batcher,
        menu: Menu,
        tokenizer: &Tokenizer,
    ) -> (Receiver<Feed>, Sender<Sequences>) {
        let (event, again) = again;
        let mut inlets = Vec::new();
        let tokenizers = texts.len();
        for (worker, (tok, text)) in texts.into_iter().enumerate() {
            let (outlet, inlet): (Outlet<TokenChunk>, _) =
                self.round((&format!("tok-{worker}-batch"), "batch"), &tok, &event);
            let tokenize = Tokenize::new((worker, tokenizers), text, outlet);
            self.stage((format!("tf-tok-{worker}"), "tokenize", worker), tok, tokenize, drop);
            inlets.push(inlet);
        }
        let control = self.control.clone();
        let (tx, rx) = self.edge(("batch-spheres", "spheres"), 2, &event, &control);
        let (back_tx, back_rx) = edge("batch-spheres", DEPTH, &control, &event);
        let stop = self.shutdown.clone();
        let batch = Batch::new(inlets, batcher, menu, tokenizer, (tx, back_rx), again, stop);
        self.stage(("tf-batch".to_owned(), "batch", 0), event, batch, drop);
        (rx, back_tx)
    }

    /// Starts all threads, each with its recorder where there is a trace.
    ///
    /// # Errors
    /// A thread that the system refuses; those before it have been stopped and joined.
    pub(super) fn start(&mut self, tracer: &Tracer) -> Result<Crew, Error> {
        self.shutdown.register(std::mem::take(&mut self.sleepers));
        let mut crew = Crew::new(self.shutdown.clone());
        #[cfg(test)]
        if let Some(k) = crate::inject::refused_spawn() {
            crew.refuse_spawn(k);
        }
        tracer.watch(&self.queues);
        for Start { thread, stage, worker, body, spans, tags } in self.starts.drain(..) {
            let recorder = tracer.recorder(&thread, &tags, spans);
            crew.spawn(&thread, stage, worker, move |seat| {
                if let Some(recorder) = recorder {
                    seat.record_with(recorder);
                }
                body(seat)
            })?;
        }
        Ok(crew)
    }
}
