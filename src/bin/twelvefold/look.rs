//! `inspect`, `verify` and `report`.

use std::fmt::Write as _;
use std::path::Path;

use twelvefold::Error;
use twelvefold::report::table;
use twelvefold::train::Options;
use twelvefold::train::inspect::{Checked, Found, inspect as look_at, report_of, verify_run};
use twelvefold::train::page::write as write_page;

use super::arguments::{Inspect, Report};
use super::text::say_left_out;

pub(crate) fn inspect(Inspect { inputs }: Inspect) -> Result<String, Error> {
    let found = look_at(&inputs.into_options(Options::default()))?;
    if let Found::Text(summary) = &found {
        say_left_out(summary);
    }
    Ok(found.to_string())
}

pub(crate) fn verify(run: &Path) -> Result<String, Error> {
    let checked = verify_run(run)?;
    let mut text = String::new();
    for Checked { folder, found } in &checked {
        match found {
            Ok(found) => {
                let step = found.step.map_or(String::new(), |step| format!("step {step}, "));
                let sum = &found.weights_sha256;
                let _ = writeln!(text, "whole    {}: {step}weights {sum}", folder.display());
            }
            Err(error) => {
                let _ = writeln!(text, "damaged  {}: {error}", folder.display());
            }
        }
    }
    let damaged = checked.iter().filter(|one| one.found.is_err()).count();
    if damaged == 0 {
        return Ok(text);
    }
    twelvefold::cli::say(&text);
    let what = format!("{damaged} of {} are not as they were written", checked.len());
    Err(Error::input(what, "train --resume takes the newest that is whole"))
}

pub(crate) fn report(Report { run, json, html }: Report) -> Result<String, Error> {
    if let Some(file) = html {
        write_page(&run, &file)?;
        return Ok(format!("{} is the page of {}\n", file.display(), run.display()));
    }
    let report = report_of(&run)?;
    Ok(if json { report.to_json() } else { table::all(&report, &run) })
}
