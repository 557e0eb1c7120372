//! From the options to the source of the text.

use std::path::PathBuf;

use super::options::Options;
use crate::corpus::Source;
use crate::corpus::files::FileSource;
use crate::corpus::mix::Mix;
use crate::corpus::runs::Cuts;
use crate::corpus::stories::StorySource;
use crate::corpus::tokenizer::Tokenizer;
use crate::error::Error;

/// The built-in stories, or the paths one after the other, or mixed; cut as the tokenizer allows it,
/// which is one of ours where none is given.
pub(super) fn source(
    options: &Options,
    given: Option<&Tokenizer>,
) -> Result<Box<dyn Source>, Error> {
    let cuts = given.map_or(Cuts::OWN, Tokenizer::cuts);
    Ok(if options.paths.is_empty() {
        Box::new(StorySource::new(options.seed, options.story_bytes)?)
    } else {
        let files = |paths: &[PathBuf]| -> Result<Box<dyn Source>, Error> {
            let source = FileSource::new(paths.iter().cloned())?.cutting(cuts);
            let source = source.field(&options.field).bad_records(options.bad_records);
            Ok(Box::new(source.gitignore(options.gitignore)))
        };
        if options.weights.is_empty() {
            files(&options.paths)?
        } else {
            let parts = options.paths.iter().zip(&options.weights);
            let part = |(path, &weight): (&PathBuf, &f64)| {
                Ok((files(std::slice::from_ref(path))?, weight))
            };
            Box::new(Mix::new(parts.map(part).collect::<Result<_, Error>>()?))
        }
    })
}
