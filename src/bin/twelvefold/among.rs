//! `train` as one of several processes that MPI started.
//!
//! Rank 0 says everything; another speaks only of its own failure. All begin together or none does.

use std::process::ExitCode;

use clap::ArgMatches;
use twelvefold::Error;
use twelvefold::cli::flags::ShowFlags;
use twelvefold::cli::settings::{resolve, to_toml};
use twelvefold::cli::terminal::Terminal;
use twelvefold::cli::{STOPPED, code_of, complain, guard_maps, say, say_where_typed, signals};
use twelvefold::ranks::mpi::{Mpi, abort_if_open, is_launched};
use twelvefold::ranks::{Link, Verdict};
use twelvefold::report::Observer;
use twelvefold::train::{Cancel, Options, run_among, verdict_of};

use super::arguments::{Arguments, Command, Train};

/// What the command line asked for, or why it could not be read.
pub(crate) type Parsed = Result<(Arguments, ArgMatches), clap::Error>;

/// Whether this is `train` and a launcher has started several of it.
pub(crate) fn is_meant() -> bool {
    is_launched() && std::env::args_os().nth(1).is_some_and(|command| command == "train")
}

/// Takes part; the exit code.
pub(crate) fn main(parsed: Parsed) -> ExitCode {
    let mut link = match Mpi::join() {
        Ok(link) => link,
        Err(error) => {
            complain(&format!("error: {error}\n"));
            return ExitCode::from(code_of(&error));
        }
    };
    let (rank, who) = (link.rank(), format!("rank {} on {}", link.rank(), link.host()));
    let asked = Asked::of(parsed);
    let verdict =
        verdict_of(&mut link, asked.as_ref().map(|asked| &asked.options).map_err(Clone::clone));
    let asked = match (verdict, asked) {
        (Verdict::Begin, Ok(asked)) => asked,
        (Verdict::Begin, Err((why, code))) => return told(rank, &why, code),
        (Verdict::Refused { why, code }, _) => return told(rank, &why, code),
    };
    let code = asked.run(Box::new(link)).unwrap_or_else(|error| {
        let who = if rank == 0 { String::new() } else { format!("{who}: ") };
        complain(&format!("error: {who}{error}\n"));
        code_of(&error)
    });
    // After an error in the middle of a step the others wait for this rank.
    abort_if_open(code);
    ExitCode::from(code)
}

/// Says once why nothing begins; help is no error.
fn told(rank: usize, why: &str, code: u8) -> ExitCode {
    match rank {
        0 if code == 0 => say(why),
        0 => complain(&format!("{}\n", why.trim_end())),
        _ => {}
    }
    ExitCode::from(code)
}

/// What `train` was asked for.
struct Asked {
    options: Options,
    show: ShowFlags,
}

impl Asked {
    fn of(parsed: Parsed) -> Result<Self, (String, u8)> {
        let (arguments, matches) =
            parsed.map_err(|e| (e.render().to_string(), e.exit_code() as u8))?;
        let Command::Train(train) = arguments.command else {
            return Err(("error: only train is for several processes".to_owned(), 2));
        };
        let nothing = ArgMatches::default();
        let matches = matches.subcommand_matches("train").unwrap_or(&nothing);
        let failed = |error: Error| (format!("error: {error}"), code_of(&error));
        let Train { run, config, print_config, show } = *train;
        let options = resolve(run.into_options(), matches, config.as_deref()).map_err(failed)?;
        if print_config {
            return Err((to_toml(&options).map_err(failed)?, 0));
        }
        Ok(Asked { options, show })
    }

    fn run(self, link: Box<dyn Link>) -> Result<u8, Error> {
        let Asked { options, show } = self;
        guard_maps()?;
        let cancel = Cancel::new();
        if link.rank() != 0 {
            // Rank 0 decides when the run stops or saves: the same signals come to all.
            signals::listen(&Cancel::new(), |_| ())?;
            run_among(link, &options, &cancel, &mut Silent)?;
            return Ok(0);
        }
        say_where_typed(&options);
        let mut terminal = Terminal::new(show, options.steps);
        signals::listen(&cancel, terminal.announcer())?;
        let report = run_among(link, &options, &cancel, &mut terminal);
        terminal.clear();
        let Some(report) = report? else {
            return Ok(0);
        };
        terminal.end(&report, &options.out);
        Ok(if report.interrupted { STOPPED } else { 0 })
    }
}

/// Hears, and says nothing.
struct Silent;

impl Observer for Silent {}
