//! `train`.

use clap::ArgMatches;
use twelvefold::Error;
use twelvefold::cli::settings::{resolve, to_toml};
use twelvefold::cli::terminal::Terminal;
use twelvefold::cli::{STOPPED, guard_maps, say, say_where_typed, signals};
use twelvefold::train::Cancel;

use super::arguments::Train;

/// Runs it; the exit code.
pub(crate) fn run(train: Box<Train>, matches: Option<&ArgMatches>) -> Result<u8, Error> {
    let Train { run, config, print_config, show } = *train;
    let nothing = ArgMatches::default();
    let options = resolve(run.into_options(), matches.unwrap_or(&nothing), config.as_deref())?;
    if print_config {
        say(&to_toml(&options)?);
        return Ok(0);
    }
    guard_maps()?;
    let cancel = Cancel::new();
    say_where_typed(&options);
    let mut terminal = Terminal::new(show, options.steps);
    signals::listen(&cancel, terminal.announcer())?;
    let report = twelvefold::train::run(&options, &cancel, &mut terminal);
    terminal.clear();
    let report = report?;
    terminal.end(&report, &options.out);
    Ok(if report.interrupted { STOPPED } else { 0 })
}
