//! A file of lines, one for each step that it tells of, which grows while a run goes and which a resumed
//! run goes on with.
//!
//! | when | what happens to the file |
//! |---|---|
//! | before the first line | nothing: a run that is refused, or fails before, changes nothing |
//! | the first line of a new run | the file of a run that is being replaced becomes `.NAME.before` |
//! | the first line of a resumed run | what is beyond the step that it goes on from is cut off, and so is a line that a killed run left unfinished |
//! | a line | it is held back until the next one or [`StepLog::settle`], and then buffered; the buffer is written a second later at most, with the next line |
//! | a checkpoint is about to be saved | what is held and buffered is synced to the disk; `.NAME.before` goes, as the checkpoints of the run that is replaced do |
//! | the run has ended | the same |
//! | the run has failed | what is held and buffered is written; a `.NAME.before` is put back in place |
//! | a run is resumed, and there is a `.NAME.before` | it is put back: the run that was to replace it left no checkpoint |
//!
//! So a step that a checkpoint holds has its line on disk before the checkpoint is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A buffer is written when it is older than this.
const FLUSH: Duration = Duration::from_secs(1);

/// More bytes than this are no line of ours.
const MAX_LINE: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct StepLog {
    path: PathBuf,
    before: PathBuf,
    /// The step that the run goes on from.
    resumed: Option<u64>,
    file: Option<BufWriter<File>>,
    flushed: Instant,
    /// The line that may still change, and its step; an empty one is none.
    held: String,
    step: u64,
}

impl StepLog {
    /// The log `name` of the run in `folder`; `resumed` from this step, or new. Nothing is touched yet.
    pub(super) fn new(folder: &Path, name: &str, resumed: Option<u64>) -> Self {
        StepLog {
            path: folder.join(name),
            before: folder.join(format!(".{name}.before")),
            resumed,
            file: None,
            flushed: Instant::now(),
            held: String::new(),
            step: 0,
        }
    }

    /// Opens the file. Of a resumed run the line of the step that it goes on from is held again: a
    /// validation of that step may still come.
    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = match self.resumed {
            Some(step) => {
                self.restore()?;
                let file =
                    OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
                (self.held, self.step) = (cut(&file, step)?.unwrap_or_default(), step);
                file
            }
            None => {
                // Where one was set aside already, the file is of a run that was killed without a checkpoint.
                let moved = match self.before.try_exists()? {
                    true => fs::remove_file(&self.path),
                    false => fs::rename(&self.path, &self.before),
                };
                allow_missing(moved)?;
                OpenOptions::new().append(true).create_new(true).open(&self.path)?
            }
        };
        self.file = Some(BufWriter::with_capacity(1 << 16, file));
        Ok(())
    }

    /// Holds the line of a step that `write` writes, in place of one of the same step; one of an earlier
    /// step is written.
    pub(super) fn put(&mut self, step: u64, write: impl FnOnce(&mut String)) -> io::Result<()> {
        self.open()?;
        if self.step != step {
            self.settle()?;
        }
        self.held.clear();
        self.step = step;
        write(&mut self.held);
        Ok(())
    }

    /// The line that is held, where it is that of `step`.
    pub(super) fn held(&mut self, step: u64) -> io::Result<Option<&mut String>> {
        self.open()?;
        Ok((self.step == step && !self.held.is_empty()).then_some(&mut self.held))
    }

    /// The line that is held will not change.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| !self.held.is_empty()) else {
            return Ok(());
        };
        self.held.push('\n');
        let written = file.write_all(self.held.as_bytes());
        self.held.clear();
        written?;
        if self.flushed.elapsed() >= FLUSH {
            self.flushed = Instant::now();
            file.flush()?;
        }
        Ok(())
    }

    /// A checkpoint is about to be saved.
    pub(super) fn save(&mut self) -> io::Result<()> {
        self.settle()?;
        if let Some(file) = &mut self.file {
            file.flush()?;
            file.get_ref().sync_data()?;
        }
        allow_missing(fs::remove_file(&self.before))
    }

    /// The run has ended well. A log that nothing was written to is that of no run before.
    pub(super) fn end(mut self) -> io::Result<()> {
        if self.file.is_none() && self.resumed.is_none() {
            allow_missing(fs::remove_file(&self.path))?;
        } else {
            self.open()?;
        }
        let saved = self.save();
        self.file = None;
        saved
    }

    /// Puts back what a new run that left nothing had set aside.
    pub(super) fn restore(&self) -> io::Result<()> {
        allow_missing(fs::rename(&self.before, &self.path))
    }
}

impl Drop for StepLog {
    fn drop(&mut self) {
        if self.file.is_none() {
            return;
        }
        // The run has failed with an error of its own; this one has nobody to tell.
        let _ = self.settle();
        self.file = None;
        let _ = self.restore();
    }
}

fn allow_missing(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// Cuts a file off behind the lines of the steps up to `step`, each of which must be whole and of a later
/// step than the one before. The line of `step` itself is cut off too, and returned.
fn cut(file: &File, step: u64) -> io::Result<Option<String>> {
    let mut lines = BufReader::new(file);
    let (mut kept, mut before, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        // What is no text is no line of ours.
        let read = match (&mut lines).take(MAX_LINE).read_line(&mut line) {
            Err(e) if e.kind() == ErrorKind::InvalidData => 0,
            other => other?,
        };
        let at = line.strip_suffix('\n').and_then(step_of).filter(|at| *at > before && *at <= step);
        let Some(at) = at else {
            file.set_len(kept)?;
            return Ok(None);
        };
        if at == step {
            file.set_len(kept)?;
            line.truncate(line.len() - 1);
            return Ok(Some(line));
        }
        kept += read as u64;
        before = at;
    }
}

/// The step of a whole line.
pub(super) fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line).ok()?.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::StepLog;
    use std::fs;
    use tempfile::{TempDir, tempdir};

    fn line(step: u64) -> String {
        format!("{{\"step\":{step}}}")
    }

    fn text(folder: &TempDir) -> String {
        fs::read_to_string(folder.path().join("log")).unwrap()
    }

    /// Writes these steps.
    fn write(folder: &TempDir, resumed: Option<u64>, steps: &[u64]) -> StepLog {
        let mut log = StepLog::new(folder.path(), "log", resumed);
        for &step in steps {
            log.put(step, |text| text.push_str(&line(step))).unwrap();
        }
        log
    }

    fn lines(steps: &[u64]) -> String {
        steps.iter().map(|&step| line(step) + "\n").collect()
    }

    #[test]
    fn a_resumed_log_loses_what_is_beyond_its_step_and_what_is_no_whole_line() {
        let whole = lines(&[1, 2, 3]);
        let tails = ["", "{\"step\":4}\n{\"step\":5}\n", "{\"st", "{\"step\":4}", "\0\0", "{}\n"];
        let tails = tails.map(|tail| tail.as_bytes().to_vec());
        for tail in tails.into_iter().chain([vec![0xff, 0xfe, b'\n'], b"{\"step\":2}\n".to_vec()]) {
            let folder = tempdir().unwrap();
            let path = folder.path().join("log");
            fs::write(&path, [whole.as_bytes(), &tail].concat()).unwrap();
            let mut log = StepLog::new(folder.path(), "log", Some(3));
            log.held(3).unwrap().unwrap().push(' ');
            assert_eq!(text(&folder), lines(&[1, 2]));
            log.put(4, |text| text.push_str(&line(4))).unwrap();
            log.end().unwrap();
            assert_eq!(text(&folder), format!("{}{} \n{}", lines(&[1, 2]), line(3), lines(&[4])));
        }
    }

    #[test]
    fn a_log_that_ends_before_the_step_goes_on_with_a_gap_and_one_that_is_not_there_begins() {
        let folder = tempdir().unwrap();
        write(&folder, None, &[1, 2]).end().unwrap();
        write(&folder, Some(7), &[8]).end().unwrap();
        assert_eq!(text(&folder), lines(&[1, 2, 8]));
        let folder = tempdir().unwrap();
        write(&folder, Some(7), &[8]).end().unwrap();
        assert_eq!(text(&folder), lines(&[8]));
    }

    #[test]
    fn a_resumed_run_that_adds_nothing_leaves_the_lines_up_to_its_step() {
        let folder = tempdir().unwrap();
        write(&folder, None, &[1, 2, 3, 4]).end().unwrap();
        drop(write(&folder, Some(3), &[]));
        assert_eq!(text(&folder), lines(&[1, 2, 3, 4]), "refused before its first line");
        write(&folder, Some(3), &[]).end().unwrap();
        assert_eq!(text(&folder), lines(&[1, 2, 3]));
    }

    #[test]
    fn the_log_of_a_run_that_is_to_be_replaced_goes_with_the_first_checkpoint_and_not_before() {
        let folder = tempdir().unwrap();
        let old = lines(&[1, 2]);
        write(&folder, None, &[1, 2]).end().unwrap();
        // One that fails before its first line, after some, and one that is killed and then resumed.
        drop(write(&folder, None, &[]));
        drop(write(&folder, None, &[1]));
        assert_eq!(text(&folder), old);
        let killed = || {
            let mut log = write(&folder, None, &[1]);
            log.settle().unwrap();
            log.file = None;
        };
        killed();
        killed();
        assert_ne!(text(&folder), old);
        write(&folder, Some(2), &[]).end().unwrap();
        assert_eq!(text(&folder), old);
        // One that fails after a checkpoint, and one that ends.
        let mut log = write(&folder, None, &[1]);
        log.save().unwrap();
        drop(log);
        assert_eq!(text(&folder), lines(&[1]));
        write(&folder, None, &[5]).end().unwrap();
        assert_eq!(text(&folder), lines(&[5]));
        write(&folder, None, &[]).end().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no run wrote that log");
    }

    #[test]
    fn a_run_that_fails_and_replaces_none_leaves_its_lines() {
        let folder = tempdir().unwrap();
        drop(write(&folder, None, &[1, 2, 3]));
        assert_eq!(text(&folder), lines(&[1, 2, 3]));
    }
}
