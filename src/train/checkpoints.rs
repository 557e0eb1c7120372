//! The checkpoints of a run that goes on: `OUT/checkpoints/step-0000000400/`, ...
//!
//! Each is a folder with the same files as the outputs ([`super::checkpoint`]), and loads in the same
//! tools. It is written as `.step-0000000400.new`, every file synced, and then renamed; so a folder
//! without the dot is whole, unless the disk lost something, which [`super::checkpoint::verify`]
//! sees. `best` is a link to the one with the best validation loss, for people: nothing reads it.
//!
//! | what happens | a crash after it leaves |
//! |---|---|
//! | 1. the files are written to `.step-N.new` and synced, one after the other | a remnant, removed by the next run |
//! | 2. `.step-N.new` becomes `step-N`, and the folder is synced | the new checkpoint, and one too many |
//! | 3. each that is not kept becomes `.step-M.old`, and is removed | a remnant, removed by the next run |
//!
//! A disk that fills up fails 1, and what was there stands.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::files::{exists, io_error, sync_folder};
use crate::error::Error;

/// The checkpoints of one run folder, whose lock is held.
#[derive(Debug)]
pub(super) struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    /// The steps of this run's checkpoints, rising; what else is there is of a run that it replaces.
    own: Vec<u64>,
    /// Checkpoints that are not of this run are there, and go with its first one.
    foreign: bool,
}

const PREFIX: &str = "step-";

fn name(step: u64) -> String {
    format!("{PREFIX}{step:010}")
}

/// The step that a name says; only names as we write them count.
fn step_of(entry: &str) -> Option<u64> {
    let step = entry.strip_prefix(PREFIX)?.parse().ok()?;
    (name(step) == entry).then_some(step)
}

/// The steps whose checkpoints stand in `folder`, rising.
fn steps_in(folder: &Path) -> Result<Vec<u64>, Error> {
    let mut steps = Vec::new();
    for entry in entries(folder)? {
        steps.extend(step_of(&entry));
    }
    steps.sort_unstable();
    Ok(steps)
}

fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let steps = steps_in(folder)?;
    Ok(steps.into_iter().rev().map(|step| (step, folder.join(name(step)))).collect())
}

/// The names in a folder; none where it is not there.
fn entries(folder: &Path) -> Result<Vec<String>, Error> {
    if !exists(folder)? {
        return Ok(Vec::new());
    }
    let failed = |e| io_error("look into", folder, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        // What is no UTF-8 is not ours.
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

impl Checkpoints {
    /// The folders of the checkpoints of the run in `out`, the newest first; nothing is changed.
    pub(super) fn of(out: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
        list(&out.join("checkpoints"))
    }

    /// Those in `out`. Remnants of a killed run are removed.
    pub(super) fn open(out: &Path, keep: usize) -> Result<Self, Error> {
        let folder = out.join("checkpoints");
        for entry in entries(&folder)? {
            let ends = entry.strip_suffix(".new").or(entry.strip_suffix(".old"));
            if ends.and_then(|e| e.strip_prefix('.')).and_then(step_of).is_some() {
                remove(&folder.join(entry))?;
            }
        }
        let foreign = !steps_in(&folder)?.is_empty();
        Ok(Checkpoints { folder, keep, own: Vec::new(), foreign })
    }

    /// The folders of all checkpoints that are there, the newest first.
    pub(super) fn newest_first(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        list(&self.folder)
    }

    /// The run goes on from `step`: the checkpoints up to it are its own; later ones were not whole.
    pub(super) fn adopt(&mut self, step: u64) -> Result<(), Error> {
        self.own = steps_in(&self.folder)?;
        self.own.retain(|own| *own <= step);
        Ok(())
    }

    /// Whether one of this step was saved or adopted.
    pub(super) fn holds(&self, step: u64) -> bool {
        self.own.contains(&step)
    }

    /// Saves one: `write` writes its files into the folder that it is given. Then removes those that
    /// are not kept: all but the last few and `best`. Gives where it is.
    pub(super) fn save(
        &mut self,
        step: u64,
        best: Option<u64>,
        write: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        fs::create_dir_all(&self.folder)
            .map_err(|e| io_error("create the folder", &self.folder, e))?;
        let (target, new) = (self.folder.join(name(step)), self.hidden(step, "new"));
        remove(&new)?;
        let staged = fs::create_dir(&new)
            .map_err(|e| io_error("create the folder", &new, e))
            .and_then(|()| write(&new))
            .and_then(|()| sync_folder(&new));
        if let Err(error) = staged {
            // What was written of it would only fill the disk; the first error is the one to tell.
            let _ = remove(&new);
            return Err(error);
        }
        if exists(&target)? {
            self.retire(step)?;
        }
        fs::rename(&new, &target).map_err(|e| io_error("replace", &target, e))?;
        sync_folder(&self.folder)?;
        self.own.retain(|own| *own != step);
        self.own.push(step);
        self.own.sort_unstable();
        self.mark_best(best);
        self.prune(best)?;
        Ok(target)
    }

    /// Removes what a run that was replaced has left, at the end of a run that saved none itself.
    pub(super) fn remove_foreign(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.foreign) {
            return Ok(());
        }
        for step in steps_in(&self.folder)? {
            if !self.own.contains(&step) {
                self.retire(step)?;
            }
        }
        // The link may have led to one of them; it is for people, and leads nowhere else.
        let best = self.folder.join("best");
        if exists(&best)? && fs::metadata(&best).is_err() {
            let _ = fs::remove_file(&best);
        }
        Ok(())
    }

    fn prune(&mut self, best: Option<u64>) -> Result<(), Error> {
        self.remove_foreign()?;
        let last = self.own.len().saturating_sub(self.keep);
        let old: Vec<u64> =
            self.own[..last].iter().copied().filter(|step| Some(*step) != best).collect();
        for step in old {
            self.retire(step)?;
            self.own.retain(|own| *own != step);
        }
        Ok(())
    }

    fn retire(&self, step: u64) -> Result<(), Error> {
        let (path, old) = (self.folder.join(name(step)), self.hidden(step, "old"));
        remove(&old)?;
        fs::rename(&path, &old).map_err(|e| io_error("remove", &path, e))?;
        remove(&old)
    }

    fn hidden(&self, step: u64, suffix: &str) -> PathBuf {
        self.folder.join(format!(".{}.{suffix}", name(step)))
    }

    /// Points `best` at a checkpoint. Where there are no links, there is none.
    fn mark_best(&self, best: Option<u64>) {
        let Some(step) = best.filter(|step| self.own.contains(step)) else { return };
        let (link, new) = (self.folder.join("best"), self.folder.join(".best.new"));
        let _ = fs::remove_file(&new);
        if symlink(name(step), &new).is_ok() {
            let _ = fs::rename(&new, &link);
        }
    }
}

/// Removes a folder of ours with all that is in it, where it is there.
fn remove(folder: &Path) -> Result<(), Error> {
    if !exists(folder)? {
        return Ok(());
    }
    fs::remove_dir_all(folder).map_err(|e| io_error("remove", folder, e))
}

#[cfg(test)]
mod tests {
    use super::{Checkpoints, step_of};
    use std::fs;
    use std::path::Path;

    fn names(out: &Path) -> Vec<String> {
        let entries = fs::read_dir(out.join("checkpoints")).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn save(checkpoints: &mut Checkpoints, step: u64, best: Option<u64>) {
        let write = |folder: &Path| {
            fs::write(folder.join("a"), step.to_string()).unwrap();
            Ok(())
        };
        checkpoints.save(step, best, write).unwrap();
    }

    #[test]
    fn the_last_few_and_the_best_are_kept() {
        let out = tempfile::tempdir().unwrap();
        let mut checkpoints = Checkpoints::open(out.path(), 2).unwrap();
        for (step, best) in
            [(10, None), (20, Some(20)), (30, Some(20)), (40, Some(20)), (50, Some(20))]
        {
            save(&mut checkpoints, step, best);
        }
        assert_eq!(
            names(out.path()),
            ["best", "step-0000000020", "step-0000000040", "step-0000000050"]
        );
        let link = fs::read_link(out.path().join("checkpoints/best")).unwrap();
        assert_eq!(link, Path::new("step-0000000020"));
        save(&mut checkpoints, 60, Some(60));
        assert_eq!(names(out.path()), ["best", "step-0000000050", "step-0000000060"]);
        let newest = checkpoints.newest_first().unwrap();
        assert_eq!(newest.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [60, 50]);
    }

    #[test]
    fn one_that_could_not_be_written_leaves_the_others_and_no_trace() {
        let out = tempfile::tempdir().unwrap();
        let mut checkpoints = Checkpoints::open(out.path(), 1).unwrap();
        save(&mut checkpoints, 1, None);
        let full = |folder: &Path| {
            fs::write(folder.join("a"), "half").unwrap();
            Err(crate::Error::input("full", ""))
        };
        assert!(checkpoints.save(2, None, full).is_err());
        assert_eq!(names(out.path()), ["step-0000000001"]);
        assert!(!checkpoints.holds(2));
    }

    #[test]
    fn remnants_go_and_so_do_those_of_a_run_that_is_replaced_with_its_first() {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("checkpoints");
        for name in ["step-0000000007", ".step-0000000008.new", ".step-0000000003.old", "mine"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let mut replacing = Checkpoints::open(out.path(), 3).unwrap();
        assert_eq!(names(out.path()), ["mine", "step-0000000007"]);
        save(&mut replacing, 2, None);
        assert_eq!(names(out.path()), ["mine", "step-0000000002"]);

        let mut resuming = Checkpoints::open(out.path(), 3).unwrap();
        resuming.adopt(2).unwrap();
        assert!(resuming.holds(2));
        save(&mut resuming, 4, None);
        assert_eq!(names(out.path()), ["mine", "step-0000000002", "step-0000000004"]);
    }

    #[test]
    fn a_name_that_is_not_written_like_ours_is_no_checkpoint() {
        assert_eq!(step_of("step-0000000400"), Some(400));
        for name in
            ["step-400", "step-+000000400", "step-", "step-0000000400.new", "../step-0000000001"]
        {
            assert_eq!(step_of(name), None, "{name}");
        }
    }
}
