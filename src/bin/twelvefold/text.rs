//! `tokenize` and `explain`.

use std::fs;
use std::path::Path;

use twelvefold::Error;
use twelvefold::cli::{complain, say_where_typed};
use twelvefold::corpus::Summary;
use twelvefold::train::Options;
use twelvefold::train::explain::Explained;
use twelvefold::train::export::{Exported, Format, export};

use super::arguments::{Explain, For, Tokenize};

pub(crate) fn explain(Explain { paths, run, batch }: Explain) -> Result<String, Error> {
    let mut options = settings(&run)?;
    if !paths.is_empty() {
        options.paths = paths;
    }
    options.out = run;
    say_where_typed(&options);
    Ok(told(batch, &twelvefold::train::explain::explain(&options, batch)?))
}

pub(crate) fn tokenize(
    Tokenize { inputs, format, out, overwrite }: Tokenize,
) -> Result<String, Error> {
    let options = inputs.into_options(Options::default());
    let format = match format {
        For::Llmc => Format::LlmC,
        For::Megatron => Format::Megatron,
    };
    let Exported { made, written, summary } = export(&options, format, &out, overwrite)?;
    say_left_out(&summary);
    let done = if written { "written to" } else { "already in" };
    let (tokens, documents, out) = (made.tokens, made.documents, out.display());
    Ok(format!("{tokens} tokens of {documents} documents {done} {out}\n"))
}

/// Lines on stderr for what was left out, beyond which there is a number only.
const LEFT_OUT_LINES: usize = 5;

/// Says on stderr what was not taken, and why.
pub(crate) fn say_left_out(summary: &Summary) {
    let lists = [
        ("files skipped", summary.skipped.len() as u64, &summary.skipped),
        ("bad records", summary.bad_records, &summary.bad),
    ];
    for (what, count, named) in lists {
        say_some(what, count, named.iter().map(|left| (&*left.path, &*left.reason)));
    }
}

/// Says on stderr how many there are, and the path and the reason of the first.
pub(crate) fn say_some<'a>(
    what: &str,
    count: u64,
    named: impl Iterator<Item = (&'a str, &'a str)>,
) {
    if count == 0 {
        return;
    }
    complain(&format!("{count} {what}\n"));
    for (path, reason) in named.take(LEFT_OUT_LINES) {
        complain(&format!("  {path}: {reason}\n"));
    }
    if count > LEFT_OUT_LINES as u64 {
        complain(&format!("  and {} more\n", count - LEFT_OUT_LINES as u64));
    }
}

/// The settings of the run in a folder.
fn settings(run: &Path) -> Result<Options, Error> {
    let path = run.join("settings.json");
    let hint = "give the folder of a run that has saved something, with --run";
    let text = fs::read(&path).map_err(|source| Error::Io {
        doing: "read",
        path: path.clone(),
        source,
        hint: hint.to_owned(),
    })?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::input(format!("{}: {e}", path.display()), hint))
}

fn told(batch: u64, explained: &Explained) -> String {
    let mut text = format!("micro-batch {batch}: {} sequences\n", explained.origins.len());
    for (place, parts) in explained.sequences.origins().iter().zip(&explained.origins) {
        text += &format!("epoch {}, sequence {}\n", place.epoch, place.sequence);
        for part in parts {
            let name = part.path.clone().unwrap_or_else(|| format!("story {}", part.document));
            let within = if part.exact { "" } else { "within " };
            let (start, end) = (part.bytes.start, part.bytes.end);
            text += &format!("  {name}: {within}bytes {start} to {end}\n");
        }
    }
    text
}
