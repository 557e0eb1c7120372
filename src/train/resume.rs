//! Where a run goes on: the newest whole checkpoint that is this run's.
//!
//! Looked at are the outputs themselves (after Ctrl-C they are the newest) and the folders of
//! [`super::checkpoints`], the newest first. One that is not as it was written is left out with a
//! word, and the one before is taken. Of the whole ones the newest whose settings are those of the
//! run is taken: another may be of a run that this one was replacing. Where none has the same
//! settings, the difference is the error, unless changes are allowed.
//!
//! | what is there | what happens |
//! |---|---|
//! | nothing whole | the run starts at the beginning, with a word |
//! | a checkpoint of the same settings | the run goes on from it |
//! | one of other settings | refused with the difference; with `allow_changes` the run goes on from it |
//! | the outputs of the whole run, with its report | the same report again; nothing is read or computed |
//!
//! The text is compared while it is served again ([`super::batch`]): the receipt of the part that was
//! trained must be the same. What comes after it has decided nothing yet.

use std::fs;
use std::path::{Path, PathBuf};

use super::checkpoint::{Verified, run_state, verify};
use super::checkpoints::Checkpoints;
use super::files::exists;
use super::inspect::{REPORT, report_bytes};
use super::options::Options;
use super::safetensors::Reader;
use super::standing::{Change, Digests, Standing, changes};
use crate::corpus::files::is_stdin;
use crate::error::Error;
use crate::model::Isa;
use crate::report::{Observer, RunReport};

/// Where a run begins.
#[derive(Debug)]
pub(super) enum Begin {
    /// At its first step.
    First,
    /// After the step of a checkpoint.
    After(Box<Resumed>),
    /// It is over: its report, and the report's bytes.
    Over(Box<RunReport>, Vec<u8>),
}

/// A checkpoint that a run goes on from.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) folder: PathBuf,
    pub(super) found: Verified,
    pub(super) standing: Standing,
}

/// A checkpoint that may be whole.
struct Candidate {
    step: u64,
    folder: PathBuf,
}

/// What is looked at, and who is told.
pub(super) struct Search<'a> {
    pub(super) out: &'a Path,
    pub(super) checkpoints: &'a mut Checkpoints,
    pub(super) options: &'a Options,
    pub(super) digests: &'a Digests,
    pub(super) isa: Isa,
    pub(super) observer: &'a mut dyn Observer,
}

impl Search<'_> {
    /// Where the run stands.
    pub(super) fn begin(mut self) -> Result<Begin, Error> {
        let mut other: Option<(PathBuf, Verified, Vec<Change>)> = None;
        for Candidate { folder, .. } in candidates(self.out, self.checkpoints)? {
            let found = match verify(&folder) {
                Ok(found) => found,
                Err(error) => {
                    let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                    self.observer.note(&format!("left out a checkpoint that is not whole: {why}"));
                    continue;
                }
            };
            let changed = changes(&found.state, self.options, self.digests);
            if changed.is_empty() {
                return self.take(folder, found);
            }
            other = other.or(Some((folder, found, changed)));
        }
        let Some((folder, found, changed)) = other else {
            let out = self.out.display();
            self.observer.note(&format!("no checkpoint in {out} yet: starting at the beginning"));
            return Ok(Begin::First);
        };
        allow(&folder, &changed, self.options)?;
        for change in &changed {
            self.observer.note(&format!("changed: {}", change.words()));
        }
        self.take(folder, found)
    }

    /// Goes on from this one.
    fn take(&mut self, folder: PathBuf, found: Verified) -> Result<Begin, Error> {
        let standing = Standing::parse(&found.state)?;
        let (step, steps) = (standing.step, self.options.steps);
        if step > steps {
            return Err(Error::input(
                format!("{} is at step {step}, beyond --steps {steps}", folder.display()),
                format!("give --steps of at least {step}, or begin a new run with another --out"),
            ));
        }
        self.checkpoints.adopt(step)?;
        if folder == self.out
            && changes(&found.state, self.options, self.digests).is_empty()
            && let Some((report, bytes)) = report_of(self.out, &found, steps)?
        {
            let out = self.out.display();
            self.observer.note(&format!("the run in {out} is over: its report stands"));
            return Ok(Begin::Over(Box::new(report), bytes));
        }
        let from = folder.display();
        self.observer.note(&format!("resuming at step {step} of {steps}, from {from}"));
        if self.options.paths.iter().any(|path| is_stdin(path)) {
            self.observer
                .note("standard input must give the text of the run again, from its beginning");
        }
        let (was, is) = (&found.state.kernels, self.isa.name());
        if was != is {
            self.observer.note(&format!(
                "{was} kernels computed it and {is} go on: the last bits may differ from those of a \
                 run that was never interrupted"
            ));
        }
        Ok(Begin::After(Box::new(Resumed { folder, found, standing })))
    }
}

/// The newest first; of the same step, the outputs first.
fn candidates(out: &Path, checkpoints: &Checkpoints) -> Result<Vec<Candidate>, Error> {
    let mut all = Vec::new();
    if exists(&out.join("config.json"))? && exists(&out.join("optimizer.safetensors"))? {
        // Which comes first is no matter of trust: each is verified before it is taken.
        let state = Reader::open(out.join("optimizer.safetensors")).and_then(|r| run_state(&r));
        let step = state.map_or(u64::MAX, |(state, _)| state.step);
        all.push(Candidate { step, folder: out.to_path_buf() });
    }
    let saved = checkpoints.newest_first()?.into_iter();
    all.extend(saved.map(|(step, folder)| Candidate { step, folder }));
    all.sort_by_key(|candidate| std::cmp::Reverse(candidate.step));
    Ok(all)
}

/// Refuses changes that are not allowed, or that nothing can allow.
fn allow(folder: &Path, changed: &[Change], options: &Options) -> Result<(), Error> {
    let refused: Vec<&Change> =
        changed.iter().filter(|change| change.is_fixed() || !options.allow_changes).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = refused.iter().map(|change| change.words()).collect();
    let what = format!("the run in {} had other settings: {}", folder.display(), words.join(", "));
    let hint = if refused.iter().any(|change| change.is_fixed()) {
        "resume with the settings that it had: its weights have no other shape"
    } else {
        "resume with the settings that it had, or with --allow-changes: the result is then no longer \
         that of a run that was never interrupted"
    };
    Err(Error::input(what, hint))
}

/// The report of a run that is over, and the bytes of its file.
fn report_of(
    out: &Path,
    found: &Verified,
    steps: u64,
) -> Result<Option<(RunReport, Vec<u8>)>, Error> {
    if !exists(&out.join(REPORT))? {
        return Ok(None); // Killed between the weights and the report.
    }
    let bytes = report_bytes(out)?;
    let Ok(report) = serde_json::from_slice::<RunReport>(&bytes) else { return Ok(None) };
    let fits = report.weights_sha256 == found.weights_sha256
        && report.steps == steps
        && !report.interrupted;
    Ok(fits.then_some((report, bytes)))
}

/// The vocabulary that the text or the tokenizer's file gives now must be the one that was trained.
pub(super) fn check_tokenizer(resumed: &Resumed, text: &str) -> Result<(), Error> {
    let path = resumed.folder.join("tokenizer.json");
    let saved = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    if saved == text.as_bytes() {
        return Ok(());
    }
    Err(Error::input(
        format!(
            "the vocabulary is now another than {} holds: the text, or the tokenizer's file, is not the \
             one that was trained with",
            path.display()
        ),
        "resume with those that the run began with, or begin a new run with another --out",
    ))
}
