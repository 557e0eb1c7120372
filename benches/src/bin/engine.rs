//! The engine beside its peers: every row of the table, run in turns.
//!
//! ```text
//! cargo run --release -p twelvefold-benches --bin engine -- [FILTER…] [--rounds N] [--quick] [--out DIR]
//! ```
//!
//! criterion measures one implementation after the other; here the contenders of a row run in
//! turns, so that a change in the machine's load meets all alike, and the table says what was to be
//! reached. Answers are checked in every run.

use clap::Parser;
use std::error::Error;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use twelvefold_benches::engine::measure::Others;
use twelvefold_benches::engine::{Scale, report, rows};

/// Runs the engine and its peers in turns and says what was reached.
#[derive(Debug, Parser)]
struct Options {
    /// Only rows whose name holds one of these texts, for example `edge/` or `near_zero`.
    filter: Vec<String>,
    /// How often each contender runs; 9 unless told otherwise, 1 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// A sixteenth of the items and one round: shows that everything runs. Not for figures.
    #[arg(long)]
    quick: bool,
    /// Also write engine.md, engine.csv, engine-medians.csv and engine.svg into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only name the rows.
    #[arg(long)]
    list: bool,
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let scale = if options.quick { Scale::Quick } else { Scale::Full };
    let rounds = options.rounds.map_or(if options.quick { 1 } else { 9 }, |n| n as usize);
    let wanted = |id: &str| {
        options.filter.is_empty() || options.filter.iter().any(|text| id.contains(text.as_str()))
    };
    let rows: Vec<_> = rows(scale).into_iter().filter(|row| wanted(row.id())).collect();
    if rows.is_empty() {
        return Err("no row has such a name\nhint: --list names them all".into());
    }
    let mut out = stdout().lock();
    if options.list {
        for row in rows {
            writeln!(out, "{}", row.id())?;
        }
        return Ok(());
    }
    let others = Others::watch();
    let mut outcomes = Vec::new();
    write!(out, "{}", report::HEAD)?;
    for row in rows {
        let outcome = row.measure(rounds, !options.quick);
        for line in &outcome.lines {
            write!(out, "{}", report::table_line(line))?;
        }
        out.flush()?;
        outcomes.push(outcome);
    }
    for (who, why) in outcomes.iter().flat_map(|outcome| &outcome.skipped) {
        writeln!(out, "skipped: {who}: {why}")?;
    }
    let asked = || outcomes.iter().flat_map(|outcome| &outcome.lines).filter_map(|l| l.is_met());
    let met = asked().filter(|met| *met).count();
    let seconds = started.elapsed().as_secs_f64();
    writeln!(out, "\n{met} of {} reached; {rounds} rounds in {seconds:.0} s", asked().count())?;
    if let Some(share) = others.share() {
        let share = share * 100.0;
        writeln!(out, "others used {share:.0} % of the processors meanwhile")?;
    }
    if options.quick {
        writeln!(out, "a quick run: not for figures")?;
    }
    if let Some(folder) = &options.out {
        report::write(folder, &outcomes)?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "how to call it")]
fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
