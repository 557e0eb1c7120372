//! The command `twelvefold`: what can be asked about a text or a run without training.
//!
//! The command line only; what it does stands in `twelvefold::train::{explain, export}`. Exit codes:
//! 0 done, 1 failed, 2 a setting was refused.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use twelvefold::Error;
use twelvefold::corpus::Summary;
use twelvefold::train::Options;
use twelvefold::train::explain::{Explained, explain};
use twelvefold::train::export::{Exported, Format, export};
use twelvefold::train::options::{BAD_RECORDS, parse_tokenizer};

/// Tokens of a text, and where the data of a run comes from
#[derive(Parser, Debug)]
#[command(name = "twelvefold", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Names file and bytes of each sequence of a micro-batch
    Explain {
        /// Where the text lies now, if not where the run found it
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Folder of the run, whose report says its settings
        #[arg(long, value_name = "DIR", default_value_os_t = Options::default().out)]
        run: PathBuf,
        /// Number of the micro-batch, from 0, over all epochs
        #[arg(long, value_name = "K")]
        batch: u64,
    },
    /// Writes the tokens of a text as a file for other trainers
    Tokenize {
        /// Files and folders, in this order; none: the built-in stories
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// bytes, words:N or bpe:N, N tokens learned
        #[arg(long, value_name = "KIND", default_value_t = Options::default().tokenizer,
              value_parser = parse_tokenizer)]
        tokenizer: String,
        /// Whose format
        #[arg(long, value_enum)]
        format: For,
        /// The file; for Megatron what comes before .bin and .idx
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Replace one that was made from something else
        #[arg(long)]
        overwrite: bool,
        /// Field of a .jsonl record that is its text
        #[arg(long, value_name = "NAME", default_value_t = Options::default().field)]
        field: String,
        /// Bad records up to which it goes on
        #[arg(long, value_name = "N", default_value_t = Options::default().bad_records,
              value_parser = |t: &str| BAD_RECORDS.parse::<u64>(t))]
        bad_records: u64,
        /// Leave out what .gitignore files name
        #[arg(long)]
        gitignore: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum For {
    Llmc,
    Megatron,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(text) => {
            // A reader that went away has seen enough.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(if matches!(error, Error::Setting { .. }) { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<String, Error> {
    twelvefold::corpus::map::install_sigbus_handler()
        .map_err(|e| Error::input(format!("cannot guard the maps of large files: {e}"), ""))?;
    match command {
        Command::Explain { paths, run, batch } => {
            let mut options = settings(&run)?;
            if !paths.is_empty() {
                options.paths = paths;
            }
            options.out = run;
            Ok(told(batch, &explain(&options, batch)?))
        }
        Command::Tokenize {
            paths,
            tokenizer,
            format,
            out,
            overwrite,
            field,
            bad_records,
            gitignore,
        } => {
            let read = Options { paths, field, bad_records, gitignore, ..Options::default() };
            let options = Options { tokenizer, ..read };
            let format = match format {
                For::Llmc => Format::LlmC,
                For::Megatron => Format::Megatron,
            };
            let Exported { made, written, summary } = export(&options, format, &out, overwrite)?;
            say_left_out(&summary);
            let done = if written { "written to" } else { "already in" };
            Ok(format!(
                "{} tokens of {} documents {done} {}\n",
                made.tokens,
                made.documents,
                out.display()
            ))
        }
    }
}

/// Lines on stderr for what was left out, beyond which there is a number only.
const LEFT_OUT_LINES: usize = 5;

/// Says on stderr what was not taken, and why.
fn say_left_out(summary: &Summary) {
    let lists = [
        ("files skipped", summary.skipped.len() as u64, &summary.skipped),
        ("bad records", summary.bad_records, &summary.bad),
    ];
    let mut stderr = io::stderr().lock();
    for (what, count, named) in lists.into_iter().filter(|(_, count, _)| *count > 0) {
        // Nobody is left to tell where stderr is closed.
        let _ = writeln!(stderr, "{count} {what}");
        for left in named.iter().take(LEFT_OUT_LINES) {
            let _ = writeln!(stderr, "  {}: {}", left.path, left.reason);
        }
        if count > LEFT_OUT_LINES as u64 {
            let _ = writeln!(stderr, "  and {} more", count - LEFT_OUT_LINES as u64);
        }
    }
}

/// The settings of the run in a folder.
fn settings(run: &Path) -> Result<Options, Error> {
    let path = run.join("report.json");
    let hint = "give the folder of a run that has ended, or was stopped by Ctrl-C, with --run";
    let text = fs::read(&path).map_err(|source| Error::Io {
        doing: "read",
        path: path.clone(),
        source,
        hint: hint.to_owned(),
    })?;
    let found = serde_json::from_slice::<serde_json::Value>(&text)
        .and_then(|report| serde_json::from_value(report["settings"].clone()));
    found.map_err(|e| Error::input(format!("{}: {e}", path.display()), hint))
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
