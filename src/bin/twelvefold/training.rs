//! `train`.

use clap::ArgMatches;
use twelvefold::Error;
use twelvefold::cli::flags::ShowFlags;
use twelvefold::cli::settings::{resolve, to_toml};
use twelvefold::cli::terminal::Terminal;
use twelvefold::cli::{STOPPED, guard_maps, say, say_where_typed, signals};
use twelvefold::report::RunReport;
use twelvefold::train::{Cancel, Options};

use super::arguments::Train;

/// What `train` was asked for.
pub(crate) enum Asked {
    /// Its settings in words.
    Print(String),
    /// A run.
    Run(Box<Options>, ShowFlags),
}

impl Asked {
    /// From the flags, and what stands below them.
    pub(crate) fn of(train: Train, matches: Option<&ArgMatches>) -> Result<Self, Error> {
        let Train { run, config, print_config, show } = train;
        let nothing = ArgMatches::default();
        let matches = matches.unwrap_or(&nothing);
        let options = resolve(run.into_options(), matches, config.as_deref())?;
        Ok(match print_config {
            true => Asked::Print(to_toml(&options)?),
            false => Asked::Run(Box::new(options), show),
        })
    }
}

/// Runs it; the exit code.
pub(crate) fn run(train: Box<Train>, matches: Option<&ArgMatches>) -> Result<u8, Error> {
    match Asked::of(*train, matches)? {
        Asked::Print(settings) => {
            say(&settings);
            Ok(0)
        }
        Asked::Run(options, show) => watched(&options, show, |cancel, terminal| {
            twelvefold::train::run(&options, cancel, terminal)
        }),
    }
}

/// Runs `train` before the user's eyes; the exit code.
pub(crate) fn watched(
    options: &Options,
    show: ShowFlags,
    train: impl FnOnce(&Cancel, &mut Terminal) -> Result<RunReport, Error>,
) -> Result<u8, Error> {
    guard_maps()?;
    let cancel = Cancel::new();
    say_where_typed(options);
    let mut terminal = Terminal::new(show, options.steps);
    signals::listen(&cancel, terminal.announcer())?;
    let report = train(&cancel, &mut terminal);
    terminal.clear();
    let report = report?;
    terminal.end(&report, &options.out);
    Ok(if report.interrupted { STOPPED } else { 0 })
}
