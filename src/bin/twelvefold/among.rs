//! `train` as one of several processes that MPI started.
//!
//! Rank 0 says everything; another speaks only of its own failure. All begin together or none does.

use std::process::ExitCode;

use clap::ArgMatches;
use twelvefold::Error;
use twelvefold::cli::flags::ShowFlags;
use twelvefold::cli::{code_of, complain, say, signals};
use twelvefold::ranks::mpi::{Mpi, abort_if_open, is_launched};
use twelvefold::ranks::{Link, Verdict};
use twelvefold::train::{Cancel, Options, run_among, run_as_rank, verdict_of};

use super::arguments::{Arguments, Command};
use super::training::{Asked, watched};

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
    let asked = asked(parsed);
    let given = asked.as_ref().map(|(options, _)| &**options).map_err(Clone::clone);
    let refused = match (verdict_of(&mut link, given), asked) {
        (Verdict::Begin, Ok((options, show))) => {
            let code = run(Box::new(link), &options, show).unwrap_or_else(|error| {
                let who = if rank == 0 { String::new() } else { format!("{who}: ") };
                complain(&format!("error: {who}{error}\n"));
                code_of(&error)
            });
            // After an error in the middle of something the others wait for this rank.
            abort_if_open(code);
            return ExitCode::from(code);
        }
        (Verdict::Refused { why, code }, _) | (Verdict::Begin, Err((why, code))) => (why, code),
    };
    let (why, code) = refused;
    match rank {
        // Help, or the settings in words.
        0 if code == 0 => say(&why),
        0 => complain(&format!("error: {}\n", why.trim_end())),
        _ => {}
    }
    Box::new(link).close();
    ExitCode::from(code)
}

/// The run that was asked for; or what is to be said instead, and the exit code.
fn asked(parsed: Parsed) -> Result<(Box<Options>, ShowFlags), (String, u8)> {
    let (arguments, matches) = parsed.map_err(|error| {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        (text.to_owned(), error.exit_code() as u8)
    })?;
    let Command::Train(train) = arguments.command else {
        return Err(("only train is for several processes".to_owned(), 2));
    };
    match Asked::of(*train, matches.subcommand_matches("train")) {
        Ok(Asked::Run(options, show)) => Ok((options, show)),
        Ok(Asked::Print(settings)) => Err((settings, 0)),
        Err(error) => Err((error.to_string(), code_of(&error))),
    }
}

fn run(link: Box<dyn Link>, options: &Options, show: ShowFlags) -> Result<u8, Error> {
    if link.rank() == 0 {
        return watched(options, show, |cancel, terminal| {
            run_among(link, options, cancel, terminal)
        });
    }
    // Rank 0 decides when the run stops or saves: the same signals come to all.
    signals::listen(&Cancel::new(), |_| ())?;
    run_as_rank(link, options.spheres).map(|()| 0)
}
