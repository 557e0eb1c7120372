//! The trace of a run ([`Options::trace`]): who worked on what, when, as viewers of Chrome's trace events show it.
//!
//! The control thread holds it. Between steps it takes what the threads have recorded; when the run has
//! ended, however it did, the file is written under a temporary name and renamed. So a trace is whole or
//! not there: a process that is killed, or leaves at a second Ctrl-C, leaves none.
//!
//! The first [`EVENTS`] spans and levels are kept, in memory until the end; what comes after them is
//! counted. A trace changes nothing that is computed, and one that cannot be written ends no run.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::files::AtomicFile;
use super::options::Options;
use crate::engine::edge::EdgeMeter;
use crate::engine::trace::{Flow, Label, Mark, Recorder, Trace};
use crate::error::Error;
use crate::report::Observer;

/// The name in the run's folder.
pub(super) const TRACE: &str = "trace.json";
/// Spans and levels of a trace: some 50 MB of JSON, which viewers open at once, and 20 MB of memory.
const EVENTS: usize = 250_000;
/// Spans that the rings of all spheres have room for together.
pub(super) const RINGS: usize = 1 << 19;

pub(super) static LEARN: Label = Label { name: "learn the vocabulary", args: ["", ""] };
pub(super) static STEP: Label = Label { name: "step", args: ["step", ""] };
pub(super) static VALIDATE: Label = Label { name: "validation", args: ["step", ""] };
pub(super) static CHECKPOINT: Label = Label { name: "checkpoint", args: ["step", ""] };
pub(super) static SAMPLE: Label = Label { name: "sample", args: ["step", ""] };
pub(super) static OUTPUTS: Label = Label { name: "outputs", args: ["step", ""] };

/// See the module. Where no trace is asked for, each call is a look at an `Option`.
#[derive(Debug)]
pub(super) struct Tracer(Option<RefCell<Open>>);

#[derive(Debug)]
struct Open {
    trace: Trace,
    path: PathBuf,
    file: AtomicFile,
    /// The edges whose depth is shown, by the number of their counter.
    edges: Vec<(usize, EdgeMeter)>,
}

impl Tracer {
    /// The trace that `options` ask for, of a run in `out`.
    ///
    /// # Errors
    /// [`Error::Io`] where its file cannot be made: before anything is read.
    pub(super) fn open(options: &Options, out: &Path) -> Result<Self, Error> {
        Tracer::with_limit(options, out, EVENTS)
    }

    fn with_limit(options: &Options, out: &Path, limit: usize) -> Result<Self, Error> {
        let Some(path) = &options.trace else { return Ok(Tracer(None)) };
        let path = if path.as_os_str().is_empty() { out.join(TRACE) } else { path.clone() };
        let file = AtomicFile::create(&path)?;
        let trace = Trace::new("twelvefold", limit);
        Ok(Tracer(Some(RefCell::new(Open { trace, path, file, edges: Vec::new() }))))
    }

    /// A recorder for a thread that is about to start.
    pub(super) fn recorder(
        &self,
        thread: &str,
        tags: &[(&str, u64)],
        spans: usize,
    ) -> Option<Recorder> {
        let open = self.0.as_ref()?;
        Some(open.borrow_mut().trace.recorder(thread, tags, spans))
    }

    /// From here on the depths of these edges are shown, by their names.
    pub(super) fn watch(&self, queues: &[(&'static str, EdgeMeter)]) {
        let Some(open) = &self.0 else { return };
        let Open { trace, edges, .. } = &mut *open.borrow_mut();
        let mut counter = |meter: &EdgeMeter| (trace.counter(&meter.count().name), meter.clone());
        *edges = queues.iter().map(|(_, meter)| counter(meter)).collect();
    }

    /// When something of the control thread's begins.
    pub(super) fn now(&self) -> Option<Instant> {
        self.0.as_ref().map(|_| Instant::now())
    }

    /// What began at `begun` ends.
    pub(super) fn span(&self, begun: Option<Instant>, label: &'static Label, step: u64) {
        if let (Some(open), Some(begun)) = (&self.0, begun) {
            let mark = Mark { label, args: [step, 0], flow: Flow::NONE };
            open.borrow_mut().trace.span(begun, Instant::now(), mark);
        }
    }

    /// Between two steps: takes what was recorded, and looks at the edges.
    pub(super) fn take(&self) {
        let Some(open) = &self.0 else { return };
        let Open { trace, edges, .. } = &mut *open.borrow_mut();
        trace.drain();
        for (counter, meter) in edges {
            trace.level(*counter, meter.fill().0);
        }
    }

    /// All threads have ended: writes the file, and tells of it.
    pub(super) fn close(self, observer: &mut dyn Observer) {
        let Some(open) = self.0 else { return };
        let Open { mut trace, path, mut file, .. } = open.into_inner();
        trace.drain();
        let (events, missing, name) = (trace.events(), trace.missing(), path.display());
        let written = written(&trace, &mut file)
            .map_err(|error| error.to_string())
            .and_then(|()| file.commit().map_err(|error| error.to_string()));
        observer.note(&match written {
            Ok(()) if missing == 0 => {
                format!("{events} events are in {name}: open it in https://ui.perfetto.dev")
            }
            Ok(()) => format!(
                "the first {events} events are in {name}, and {missing} are not: open it in \
                 https://ui.perfetto.dev"
            ),
            Err(error) => format!("the trace {name} cannot be written: {error}"),
        });
    }
}

/// A run that replaced another leaves no trace of it in its folder.
pub(super) fn remove_foreign(options: &Options, out: &Path) {
    let writes = options.trace.as_ref().is_some_and(|path| path.as_os_str().is_empty());
    if options.overwrite && !writes {
        // Nobody is harmed by one that stays.
        let _ = fs::remove_file(out.join(TRACE));
    }
}

fn written(trace: &Trace, file: &mut AtomicFile) -> io::Result<()> {
    trace.write(file)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::{STEP, Tracer};
    use crate::engine::trace::Mark;
    use crate::report::Observer;
    use crate::train::Options;
    use serde_json::Value;
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    #[derive(Default)]
    struct Notes(Vec<String>);

    impl Observer for Notes {
        fn note(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
    }

    fn tracer(out: &Path, limit: usize) -> Tracer {
        let options = Options { trace: Some(PathBuf::new()), ..Options::default() };
        Tracer::with_limit(&options, out, limit).unwrap()
    }

    /// The note, and each kind of missing events with its number.
    fn closed(tracer: Tracer, out: &Path) -> (String, Vec<(String, u64)>) {
        let mut notes = Notes::default();
        tracer.close(&mut notes);
        let text = std::fs::read_to_string(out.join("trace.json")).unwrap();
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        let missing = events.iter().filter(|event| event["ph"] == "i").map(|event| {
            let why = event["name"].as_str().unwrap().replace("events missing: the ", "");
            (why, event["args"]["events"].as_u64().unwrap())
        });
        (notes.0.remove(0), missing.collect())
    }

    #[test]
    fn spans_that_a_full_ring_refused_are_counted_in_the_trace_and_told() {
        let out = tempfile::tempdir().unwrap();
        let tracer = tracer(out.path(), 100);
        let mut recorder = tracer.recorder("tf-test", &[], 2).unwrap();
        recorder.begin();
        let now = Instant::now();
        (0..5).for_each(|item| recorder.span(now, now, Mark::item(item)));
        tracer.take();
        recorder.span(now, now, Mark::item(5)); // There is room again.
        let (note, missing) = closed(tracer, out.path());
        assert!(note.starts_with("the first 3 events are in ") && note.contains(", and 3 are not"));
        assert_eq!(missing, [("ring was full".to_owned(), 3)]);
    }

    #[test]
    fn spans_beyond_the_limit_are_counted_in_the_trace_and_told() {
        let out = tempfile::tempdir().unwrap();
        let tracer = tracer(out.path(), 4);
        let mut recorder = tracer.recorder("tf-test", &[], 10).unwrap();
        recorder.begin();
        let now = Instant::now();
        (0..3).for_each(|item| recorder.span(now, now, Mark::item(item)));
        tracer.take();
        (1..=3).for_each(|step| tracer.span(tracer.now(), &STEP, step));
        recorder.span(now, now, Mark::item(5));
        let (note, missing) = closed(tracer, out.path());
        assert!(note.starts_with("the first 4 events are in ") && note.contains(", and 3 are not"));
        assert_eq!(missing, [("trace was full".to_owned(), 3)]);
    }
}
