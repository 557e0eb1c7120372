//! Runs that take a moment.

use std::path::{Path, PathBuf};
use twelvefold::Error;
use twelvefold::report::RunReport;
use twelvefold::train::{Cancel, Options, run};

/// A model of a few thousand numbers on 20 kB of stories.
pub(crate) fn tiny() -> Options {
    Options {
        spheres: 2,
        tokenizers: 2,
        steps: 2,
        tokenizer: "bytes".to_owned(),
        layers: 1,
        heads: 2,
        width: 8,
        context: 16,
        batch: 2,
        micro_batches: 2,
        eval_interval: 0,
        shuffle_window: 64,
        story_bytes: 20_000,
        ..Options::default()
    }
}

/// Runs into a folder of its own that goes with the result.
pub(crate) fn train(options: &Options) -> Result<RunReport, Error> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("make", "a folder", e))?;
    let options = Options { out: folder.path().join("out"), ..options.clone() };
    run(&options, &Cancel::new(), &mut ())
}

/// The same on `paths`.
pub(crate) fn on(paths: &[&Path], options: Options) -> Options {
    Options { paths: paths.iter().map(PathBuf::from).collect(), ..options }
}
