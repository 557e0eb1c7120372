//! The command `twelvefold`.
//!
//! The command line only; what it does stands in the library. Exit codes: 0 done, 1 failed, 2 a setting was
//! refused, 130 stopped by Ctrl-C or SIGTERM.

#[cfg(feature = "mpi")]
mod among;
mod arguments;
mod look;
mod model;
mod pages;
mod text;
mod training;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::{CommandFactory, FromArgMatches};
use twelvefold::Error;
use twelvefold::cli::settings::from_environment;
use twelvefold::cli::{code_of, complain, guard_maps, say};

fn main() -> ExitCode {
    let mut command = Arguments::command().mut_subcommand("train", from_environment);
    let parsed = command.clone().try_get_matches().and_then(|matches| {
        let parsed = Arguments::from_arg_matches(&matches).map_err(|e| e.format(&mut command))?;
        Ok((parsed, matches))
    });
    #[cfg(feature = "mpi")]
    if among::is_meant() {
        return among::main(parsed);
    }
    let (parsed, matches) = parsed.unwrap_or_else(|e| e.exit());
    // What a training run says, it says while it goes.
    let done = match parsed.command {
        Command::Train(train) => training::run(train, matches.subcommand_matches("train")),
        other => answer(other).map(|text| {
            say(&text);
            0
        }),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        complain(&format!("error: {error}\n"));
        code_of(&error)
    }))
}

fn answer(command: Command) -> Result<String, Error> {
    guard_maps()?;
    match command {
        Command::Train(_) => Ok(String::new()),
        Command::Generate(generate) => model::generate(generate),
        Command::Eval(eval) => model::eval(eval),
        Command::Tokenize(tokenize) => text::tokenize(tokenize),
        Command::Explain(explain) => text::explain(explain),
        Command::Export(export) => model::export(&export),
        Command::Inspect(inspect) => look::inspect(inspect),
        Command::Verify { run } => look::verify(&run),
        Command::Report(report) => look::report(report),
        Command::Completions { shell } => Ok(pages::completions(shell)),
        Command::Man { command } => pages::manual(command.as_deref()),
    }
}
