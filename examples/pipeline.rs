//! Trains a small GPT on the built-in corpus, or on your own files and folders.
//!
//! `cargo run --release --example pipeline -- -h` lists the usual flags, `--help` all. Exit codes: 0 the
//! run ended; 1 it failed; 2 a setting was refused; 130 it was stopped by Ctrl-C or SIGTERM (the step was
//! finished and the outputs saved; a second one leaves at once). `--resume` goes on after any of these.
//!
//! This is all that a program needs around the library: settings, a wish to stop, somebody who looks.
//! What a run does stands in `twelvefold::train`.

use std::process::ExitCode;

use clap::Parser;
use twelvefold::Error;
use twelvefold::cli::flags::{RunFlags, ShowFlags};
use twelvefold::cli::terminal::Terminal;
use twelvefold::cli::{STOPPED, code_of, complain, guard_maps, signals};
use twelvefold::train::{Cancel, Options, run};

const EXAMPLES: &str = "Examples:
  pipeline ~/notes book.txt --out my-model    your own files and folders
  pipeline --resume                           go on, whatever ended the run before
Exit codes: 0 done, 1 failed, 2 refused, 130 Ctrl-C, which saves first; twice leaves at once.";

/// Trains a small GPT on files and folders of text; without any, on built-in stories, in about a minute
#[derive(Parser, Debug)]
#[command(name = "pipeline", version, after_help = EXAMPLES, allow_negative_numbers = true)]
struct Arguments {
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    show: ShowFlags,
}

fn main() -> ExitCode {
    let Arguments { run, show } = Arguments::parse();
    let code = train(&run.into_options(), show).unwrap_or_else(|error| {
        complain(&format!("error: {error}\n"));
        code_of(&error)
    });
    ExitCode::from(code)
}

fn train(options: &Options, show: ShowFlags) -> Result<u8, Error> {
    options.validate()?;
    guard_maps()?;
    let cancel = Cancel::new();
    let mut terminal = Terminal::new(show, options.steps);
    signals::listen(&cancel, terminal.announcer())?;
    let report = run(options, &cancel, &mut terminal);
    terminal.clear();
    let report = report?;
    terminal.end(&report, &options.out);
    Ok(if report.interrupted { STOPPED } else { 0 })
}
