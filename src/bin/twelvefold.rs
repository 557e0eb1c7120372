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
use twelvefold::train::Options;
use twelvefold::train::explain::{Explained, explain};
use twelvefold::train::export::{Format, export};
use twelvefold::train::options::parse_tokenizer;

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
        Command::Tokenize { paths, tokenizer, format, out, overwrite } => {
            let options = Options { paths, tokenizer, ..Options::default() };
            let format = match format {
                For::Llmc => Format::LlmC,
                For::Megatron => Format::Megatron,
            };
            let (made, written) = export(&options, format, &out, overwrite)?;
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
