//! From the options to the source of the text, and to the tokenizer where it is not learned.

use std::path::PathBuf;

use super::options::Options;
use crate::corpus::files::FileSource;
use crate::corpus::mix::Mix;
use crate::corpus::runs::Cuts;
use crate::corpus::stories::StorySource;
use crate::corpus::tokenizer::{Tokenizer, TokenizerSpec};
use crate::corpus::{Source, Summary};
use crate::error::Error;

/// The text of the run, cut as its tokenizer allows it, and that tokenizer where it is not learned
/// from the text.
pub(super) fn text(
    options: &Options,
    spec: &TokenizerSpec,
) -> Result<(Box<dyn Source>, Option<Tokenizer>), Error> {
    let given = if spec.learns() { None } else { Some(spec.load()?) };
    let source = source(options, given.as_ref().map_or(Cuts::OWN, Tokenizer::cuts))?;
    Ok((source, given))
}

/// The built-in stories, or the paths one after the other, or mixed. The files of each input of a
/// mixture come in an order of their own: that of the seed and of the input's place.
pub(super) fn source(options: &Options, cuts: Cuts) -> Result<Box<dyn Source>, Error> {
    if options.paths.is_empty() {
        return Ok(Box::new(StorySource::new(options.seed, options.story_bytes)?));
    }
    let files = |paths: &[PathBuf], place: u64| -> Result<Box<dyn Source>, Error> {
        let source = FileSource::new(paths.iter().cloned())?.cutting(cuts);
        let source = source.field(&options.field).bad_records(options.bad_records);
        let source = source.gitignore(options.gitignore);
        let seed = options.seed.wrapping_add(place);
        Ok(Box::new(if options.shuffle_files { source.shuffled(seed) } else { source }))
    };
    if options.weights.is_empty() {
        return files(&options.paths, 0);
    }
    let parts = (0..).zip(options.paths.iter().zip(&options.weights));
    let part = |(place, (path, &weight)): (u64, (&PathBuf, &f64))| {
        Ok((files(std::slice::from_ref(path), place)?, weight))
    };
    Ok(Box::new(Mix::new(parts.map(part).collect::<Result<_, Error>>()?)))
}

/// The error of an input without text, with the first of what was left out and why.
pub(super) fn no_text(summary: &Summary) -> Error {
    let reasons = summary.skipped.iter().chain(&summary.bad).take(3);
    let reasons: Vec<String> =
        reasons.map(|left| format!("{}: {}", left.path, left.reason)).collect();
    let found = match reasons.len() {
        0 => String::new(),
        _ => format!(" ({})", reasons.join("; ")),
    };
    Error::input(format!("the input has no text{found}"), "give files or folders with text")
}
