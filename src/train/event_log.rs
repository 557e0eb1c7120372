//! The event file of TensorBoard, `tensorboard/events.out.tfevents.SECONDS.HOST.twelvefold`.
//!
//! It says nothing that `metrics.jsonl` and `samples.jsonl` do not, and so it is never mended: where a run
//! goes on, or has to give way to the one that it was to replace, a new file is written from their lines,
//! and the old one is emptied. A reader that has the old one open finds no more there and goes on with the new
//! one, whose name sorts behind it; at the session's start that it begins with, the reader drops what it
//! has. (TensorBoard's slow loader never gets over a file that is gone. So an empty one goes only
//! when the next one is made.)
//!
//! | when | what happens to the files |
//! |---|---|
//! | before the first step | nothing: a run that is refused, or fails before, changes nothing |
//! | the first step of a new run | a new file; those of a run that is being replaced are emptied |
//! | the first step of a resumed run | a new file with the lines up to the step that it goes on from; the others are emptied |
//! | a step, a validation, a sample | an event each; what is buffered is written a second later at most, with the next one |
//! | a checkpoint is about to be saved, the run has ended | what is buffered is written |
//! | the run fails before a checkpoint, in the place of another | the other's lines make the file again |
//! | a run that is over is resumed | its lines make a new file |
//!
//! Without `tensorboard` no file is made, and those of a run that is replaced go with its other records.
//! Only files with that name are touched.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::records::{METRICS, SAMPLES};
use crate::report::{Progress, metrics, tensorboard};

/// The folder in that of the run.
pub(super) const FOLDER: &str = "tensorboard";

const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".twelvefold";

/// A buffer is written when it is older than this.
const FLUSH: Duration = Duration::from_secs(1);

/// More bytes than this are no line of ours.
const MAX_LINE: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct EventLog {
    out: PathBuf,
    is_asked: bool,
    /// The step that the run goes on from.
    resumed: Option<u64>,
    file: Option<BufWriter<File>>,
    flushed: Instant,
    /// The event that is being written, and its memory.
    event: Vec<u8>,
    /// When the last step ended: the time of all its events.
    time: f64,
    /// Of the step that the run goes on from, as an earlier process left them: the validation and the
    /// sample, which may come once more.
    late: [Vec<u8>; 2],
    /// Another run gave its place, and may have to be given it back.
    replaces: Option<Replaced>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replaced {
    WithEvents,
    WithoutEvents,
}

const VALIDATION: usize = 0;
const SAMPLE: usize = 1;

impl EventLog {
    /// The events of the run in `out`; `resumed` from this step, or new. Nothing is touched yet.
    pub(super) fn new(out: &Path, is_asked: bool, resumed: Option<u64>) -> Self {
        EventLog {
            out: out.to_path_buf(),
            is_asked,
            resumed,
            file: None,
            flushed: Instant::now(),
            event: Vec::new(),
            time: super::records::now(),
            late: [Vec::new(), Vec::new()],
            replaces: None,
        }
    }

    /// Makes the file, before the lines of another run are set aside. False where none is asked for.
    fn open(&mut self) -> io::Result<bool> {
        if self.file.is_some() || !self.is_asked {
            return Ok(self.is_asked);
        }
        let lines = |name: &str| self.out.join(name).exists();
        let before =
            self.resumed.is_none() && (lines(METRICS) || lines(&format!(".{METRICS}.before")));
        let old = files(&self.out)?;
        let has_events =
            if old.is_empty() { Replaced::WithoutEvents } else { Replaced::WithEvents };
        self.replaces = before.then_some(has_events);
        let mut file = create(&self.out, &old)?;
        if let Some(step) = self.resumed {
            let (time, late) = copy(&self.out, step, &mut file)?;
            self.time = time.unwrap_or(self.time);
            self.late = late;
        }
        file.flush()?;
        retire(&old)?;
        self.file = Some(file);
        Ok(true)
    }

    /// Writes the event that was made, and what must not wait any longer.
    fn write(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&self.event)?;
        self.event.clear();
        if self.flushed.elapsed() >= FLUSH {
            self.flushed = Instant::now();
            file.flush()?;
        }
        Ok(())
    }

    /// What an earlier process left of the step that the run goes on from stands.
    fn settle(&mut self) -> io::Result<()> {
        for late in &mut self.late {
            if let Some(file) = &mut self.file {
                file.write_all(late)?;
            }
            late.clear();
        }
        Ok(())
    }

    /// A step ended at `time`, in seconds since 1970.
    pub(super) fn step(&mut self, progress: &Progress, time: f64) -> io::Result<()> {
        if !self.open()? {
            return Ok(());
        }
        self.settle()?;
        self.time = time;
        tensorboard::scalars((progress.step, time), &mut self.event, |tell| {
            metrics::each(progress, tell);
        });
        self.write()
    }

    /// A validation after a step.
    pub(super) fn validated(&mut self, step: u64, loss: f64) -> io::Result<()> {
        if !self.open()? {
            return Ok(());
        }
        self.late[VALIDATION].clear();
        tensorboard::scalars((step, self.time), &mut self.event, |tell| tell("val_loss", loss));
        self.write()
    }

    /// What the model wrote after a step.
    pub(super) fn sample(&mut self, step: u64, text: &str) -> io::Result<()> {
        if !self.open()? {
            return Ok(());
        }
        self.late[SAMPLE].clear();
        tensorboard::text((step, self.time), &mut self.event, text);
        self.write()
    }

    /// A checkpoint is about to be saved: the run that is replaced gives up its own.
    pub(super) fn save(&mut self) -> io::Result<()> {
        self.replaces = None;
        self.settle()?;
        match &mut self.file {
            Some(file) => file.flush(),
            // A resumed run that does not ask for events leaves those that are there.
            None if self.resumed.is_none() => remove(&files(&self.out)?),
            None => Ok(()),
        }
    }

    /// The run has ended well.
    pub(super) fn end(mut self) -> io::Result<()> {
        if self.resumed.is_some() {
            self.open()?;
        }
        self.save()
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        // The run has failed with an error of its own; these have nobody to tell.
        let _ = self.settle();
        let Some(replaced) = self.replaces.filter(|_| self.file.take().is_some()) else { return };
        let _ = match replaced {
            Replaced::WithEvents => rewrite(&self.out),
            Replaced::WithoutEvents => files(&self.out).and_then(|all| remove(&all)),
        };
    }
}

/// Makes the file of a run that is over from its lines.
pub(super) fn rewrite(out: &Path) -> io::Result<()> {
    let old = files(out)?;
    let mut file = create(out, &old)?;
    copy(out, u64::MAX, &mut file)?;
    file.flush()?;
    retire(&old)
}

/// Whether the folder of a run has events.
pub(super) fn is_there(out: &Path) -> bool {
    files(out).is_ok_and(|all| !all.is_empty())
}

/// The event files of runs, sorted.
fn files(out: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(out.join(FOLDER)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes()) {
            all.push(entry.path());
        }
    }
    all.sort();
    Ok(all)
}

/// Empties these, and removes those that are empty already.
fn retire(files: &[PathBuf]) -> io::Result<()> {
    for path in files {
        match fs::metadata(path)?.len() {
            0 => fs::remove_file(path)?,
            _ => drop(File::create(path)?),
        }
    }
    Ok(())
}

/// Removes these, and their folder where nothing else is in it.
fn remove(files: &[PathBuf]) -> io::Result<()> {
    files.iter().try_for_each(fs::remove_file)?;
    if let Some(folder) = files.first().and_then(|file| file.parent()) {
        // It holds the file that takes their place, or what is not ours.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

/// A new file whose name sorts behind these.
fn create(out: &Path, old: &[PathBuf]) -> io::Result<BufWriter<File>> {
    fs::create_dir_all(out.join(FOLDER))?;
    let now = super::records::now();
    let taken = old.iter().filter_map(|path| seconds(path)).max();
    let seconds = (now as u64).max(taken.map_or(0, |taken| taken + 1));
    let mut name = OsString::from(format!("{PREFIX}{seconds:010}."));
    name.push(rustix::system::uname().nodename().to_string_lossy().replace('/', "-"));
    name.push(SUFFIX);
    let file = File::options().append(true).create_new(true).open(out.join(FOLDER).join(name))?;
    let mut file = BufWriter::with_capacity(1 << 16, file);
    let mut begin = Vec::new();
    tensorboard::begin(now, &mut begin);
    file.write_all(&begin)?;
    Ok(file)
}

/// The seconds in a file's name.
fn seconds(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

/// Writes the lines of the steps up to `last` as events, each sample at the time of its step. The time of
/// the last line is handed back, and the validation and the sample of the step `last` itself.
fn copy(
    out: &Path,
    last: u64,
    file: &mut BufWriter<File>,
) -> io::Result<(Option<f64>, [Vec<u8>; 2])> {
    let (mut time, mut late) = (None, [Vec::new(), Vec::new()]);
    let mut samples = VecDeque::new();
    each_line(&out.join(SAMPLES), last, |step, line| {
        let line: serde_json::Value = serde_json::from_str(line)?;
        samples.push_back((step, line["text"].as_str().unwrap_or_default().to_owned()));
        Ok(())
    })?;
    each_line(&out.join(METRICS), last, |step, line| {
        let Some(numbers) = metrics::read(line) else { return Ok(()) };
        let named = |wanted: &str| numbers.iter().find(|(name, _)| *name == wanted).map(|n| n.1);
        let at = (step, named("time").unwrap_or(0.0));
        time = Some(at.1);
        let mut event = Vec::new();
        tensorboard::scalars(at, &mut event, |tell| {
            numbers.iter().filter(|(name, _)| *name != "val_loss").for_each(|(n, v)| tell(n, *v));
        });
        file.write_all(&event)?;
        event.clear();
        if let Some(loss) = named("val_loss") {
            tensorboard::scalars(at, &mut event, |tell| tell("val_loss", loss));
        }
        put(event, step == last, &mut late[VALIDATION], file)?;
        while let Some((of, text)) = samples.pop_front_if(|(of, _)| *of <= step) {
            let mut event = Vec::new();
            tensorboard::text((of, at.1), &mut event, &text);
            put(event, of == last, &mut late[SAMPLE], file)?;
        }
        Ok(())
    })?;
    Ok((time, late))
}

fn put(
    event: Vec<u8>,
    is_late: bool,
    late: &mut Vec<u8>,
    file: &mut BufWriter<File>,
) -> io::Result<()> {
    if is_late {
        *late = event;
        return Ok(());
    }
    file.write_all(&event)
}

/// Calls `visit` with the whole lines of a file whose steps rise up to `last`, as
/// [`super::step_log`] keeps them.
fn each_line(
    path: &Path,
    last: u64,
    mut visit: impl FnMut(u64, &str) -> io::Result<()>,
) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let (mut lines, mut before, mut line) = (BufReader::new(file), 0, String::new());
    loop {
        line.clear();
        // What is no text is no line of ours.
        match (&mut lines).take(MAX_LINE).read_line(&mut line) {
            Err(e) if e.kind() == ErrorKind::InvalidData => return Ok(()),
            other => other?,
        };
        let Some(line) = line.strip_suffix('\n') else { return Ok(()) };
        let step = super::step_log::step_of(line).filter(|at| *at > before && *at <= last);
        let Some(step) = step else { return Ok(()) };
        visit(step, line)?;
        before = step;
    }
}

#[cfg(test)]
mod tests {
    use super::super::step_log::StepLog;
    use super::{EventLog, METRICS, files, is_there};
    use crate::report::Progress;
    use crate::report::metrics::line;
    use std::fs;
    use std::path::Path;
    use tempfile::tempdir;

    /// Lines and events as a run writes them; the lines are dropped first.
    struct Run(StepLog, EventLog);

    impl Run {
        fn new(out: &Path, is_asked: bool, steps: u64) -> Self {
            let mut run = Run(StepLog::new(out, METRICS, None), EventLog::new(out, is_asked, None));
            for step in 1..=steps {
                let progress = Progress { step, loss: 1.0, ..Progress::default() };
                run.1.step(&progress, 5.0).unwrap();
                run.0.put(step, |held| line(&progress, 5.0, held)).unwrap();
            }
            run
        }

        fn save(&mut self) {
            self.1.save().unwrap();
            self.0.save().unwrap();
        }

        fn end(self) {
            self.1.end().unwrap();
            self.0.end().unwrap();
        }
    }

    /// The steps in the only file, which is there or not: each has a learning rate.
    fn steps(out: &Path) -> Option<usize> {
        let mut all = files(out).unwrap();
        assert!(all.len() < 3, "{all:?}");
        all.retain(|path| fs::metadata(path).unwrap().len() > 0);
        assert!(all.len() < 2, "{all:?}");
        let bytes = fs::read(all.first()?).unwrap();
        let tag = b"optimizer/lr";
        Some(bytes.windows(tag.len()).filter(|part| part == tag).count())
    }

    #[test]
    fn a_run_that_fails_before_a_checkpoint_gives_its_place_back() {
        for old_has_events in [true, false] {
            let folder = tempdir().unwrap();
            let out = folder.path();
            Run::new(out, old_has_events, 4).end();
            let old = old_has_events.then_some(4);
            assert_eq!(steps(out), old);
            drop(Run::new(out, true, 0));
            assert_eq!(steps(out), old, "before its first step");
            for is_asked in [true, false] {
                drop(Run::new(out, is_asked, 2));
                assert_eq!(steps(out), old, "events: {is_asked}");
            }
            // Killed, and then another one fails.
            Box::leak(Box::new(Run::new(out, true, 2)));
            drop(Run::new(out, true, 3));
            assert!(is_there(out));
            // After a checkpoint it keeps the place.
            let mut run = Run::new(out, true, 3);
            run.save();
            drop(run);
            assert_eq!(steps(out), Some(3));
        }
    }

    #[test]
    fn a_run_that_fails_and_replaces_none_leaves_its_events() {
        let folder = tempdir().unwrap();
        drop(Run::new(folder.path(), true, 2));
        assert_eq!(steps(folder.path()), Some(2));
    }

    /// So that the last step is looked at while the next one is computed for minutes.
    #[test]
    fn what_is_older_than_a_second_is_written_with_the_next_event() {
        let folder = tempdir().unwrap();
        let mut run = Run::new(folder.path(), true, 1);
        assert_eq!(steps(folder.path()), Some(0));
        run.1.flushed -= super::FLUSH;
        run.1.validated(1, 2.0).unwrap();
        assert_eq!(steps(folder.path()), Some(1));
    }
}
