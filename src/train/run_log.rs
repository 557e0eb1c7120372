//! `log.txt`: what a run said, each line with the day and the time.
//!
//! [`RunLog`] stands between the run and its observer and changes nothing of what passes. Lines are kept until
//! the first checkpoint, or the end, and then written as they come: a run that leaves nothing to go on with
//! leaves the log of the run before as it was. A resumed run adds to the log, what was said of steps that are
//! done again included: it tells what happened, and `metrics.jsonl` what came of it. A log that cannot be
//! written is told of once, and the run goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::files::write_atomically;
use crate::report::{Observer, Progress, units};

/// Its name.
pub(super) const LOG: &str = "log.txt";

/// See the module.
pub(super) struct RunLog<'a> {
    observer: &'a mut dyn Observer,
    path: PathBuf,
    /// Adds to the file that is there.
    goes_on: bool,
    /// Steps between two lines.
    interval: u64,
    step: u64,
    /// What was said and is not written yet.
    held: String,
    file: Option<File>,
    lost: bool,
}

impl<'a> RunLog<'a> {
    /// Of a run in the folder `out`. Nothing is written yet.
    pub(super) fn new(
        out: &Path,
        goes_on: bool,
        steps: u64,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let (path, interval) = (out.join(LOG), steps.div_ceil(20).max(1));
        let (held, file, lost) = (String::new(), None, false);
        RunLog { observer, path, goes_on, interval, step: 0, held, file, lost }
    }

    /// The run has ended well.
    pub(super) fn end(&mut self) {
        self.write();
    }

    fn keep(&mut self, text: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
        let now = units::moment(now).unwrap_or_default();
        for line in text.lines() {
            self.held += &format!("{now}  {line}\n");
        }
        if self.file.is_some() {
            self.write();
        }
    }

    /// Opens the file where it is not open, and writes what is held.
    fn write(&mut self) {
        if self.lost {
            return;
        }
        if let Err(error) = self.try_write() {
            self.lost = true;
            let what = format!("{LOG} cannot be written, and the run goes on without it: {error}");
            self.observer.note(&what);
        }
        self.held.clear();
    }

    fn try_write(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(self.held.as_bytes());
        }
        if !self.goes_on {
            // The log of the run that is replaced goes with its checkpoints.
            write_atomically(&self.path, b"").map_err(|e| io::Error::other(e.to_string()))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(self.held.as_bytes())?;
        self.file = Some(file);
        Ok(())
    }
}

impl Observer for RunLog<'_> {
    fn plan(&mut self, text: &str) {
        self.observer.plan(text);
        self.keep(text);
    }

    fn step(&mut self, progress: &Progress) {
        self.observer.step(progress);
        let (first, step) = (self.step == 0, progress.step);
        self.step = step;
        if first || step.is_multiple_of(self.interval) || step == progress.steps {
            self.keep(&progress.line());
        }
    }

    fn validated(&mut self, progress: &Progress) {
        self.observer.validated(progress);
        let loss = progress.val_loss.unwrap_or(f64::NAN);
        let (step, steps) = (progress.step, progress.steps);
        self.keep(&format!("step {step}/{steps}  validation loss {loss:.4}"));
    }

    fn note(&mut self, text: &str) {
        self.observer.note(text);
        self.keep(text);
    }

    fn saving(&mut self) {
        self.observer.saving();
        self.write();
    }

    fn sample(&mut self, text: &str) {
        self.observer.sample(text);
        self.keep(&format!("sample:\n{text}"));
    }

    fn sample_at(&mut self, step: u64, text: &str) {
        self.observer.sample_at(step, text);
        self.keep(&format!("sample after step {step}:\n{text}"));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{LOG, RunLog};
    use crate::report::{Observer, Progress};

    /// What is told to it.
    #[derive(Default)]
    struct Notes(Vec<String>);

    impl Observer for Notes {
        fn note(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
    }

    fn step(step: u64) -> Progress {
        Progress { step, steps: 100, loss: step as f64, ..Progress::default() }
    }

    /// The lines without their times, which are as long as one.
    fn lines(folder: &std::path::Path) -> Vec<String> {
        let text = fs::read_to_string(folder.join(LOG)).unwrap();
        let time = "2026-11-26 10:49:51 UTC  ".len();
        text.lines().map(|line| line[time..].to_owned()).collect()
    }

    #[test]
    fn the_log_of_the_run_before_stays_until_this_one_has_something_to_go_on_with() {
        let (folder, mut notes) = (tempfile::tempdir().unwrap(), Notes::default());
        let out = folder.path();
        fs::write(out.join(LOG), "of the run before").unwrap();
        let mut log = RunLog::new(out, false, 100, &mut notes);
        log.plan("a plan\nof two lines");
        (1..=7).for_each(|i| log.step(&step(i)));
        assert_eq!(fs::read_to_string(out.join(LOG)).unwrap(), "of the run before");
        log.saving();
        log.note("saved");
        let found = lines(out);
        assert_eq!(found[..2], ["a plan", "of two lines"]);
        assert!(found[2].starts_with("step 1/100  ") && found[3].starts_with("step 5/100  "));
        assert_eq!(found[4..], ["saved"], "each line is written as it comes");
        assert_eq!(notes.0, ["saved"], "and told");

        let mut log = RunLog::new(out, true, 100, &mut notes);
        log.step(&step(6));
        log.validated(&Progress { val_loss: Some(2.0), ..step(6) });
        log.sample("one\ntwo");
        log.end();
        let found = lines(out);
        assert!(found[5].starts_with("step 6/100  "), "a resumed run adds to it: {found:?}");
        assert_eq!(found[6..], ["step 6/100  validation loss 2.0000", "sample:", "one", "two"]);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told_of_once() {
        let (folder, mut notes) = (tempfile::tempdir().unwrap(), Notes::default());
        fs::create_dir(folder.path().join(LOG)).unwrap();
        let mut log = RunLog::new(folder.path(), true, 100, &mut notes);
        log.plan("a plan");
        log.saving();
        log.step(&step(1));
        log.end();
        assert_eq!(notes.0.len(), 1, "{:?}", notes.0);
        assert!(notes.0[0].starts_with("log.txt cannot be written"), "{:?}", notes.0);
    }
}
