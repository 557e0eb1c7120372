//! `report.html`: the run as a page, made of the files in its folder.
//!
//! | when | what happens |
//! |---|---|
//! | a run ends, to its last step or by Ctrl-C | its records are complete, then the page is made |
//! | a run that is over is resumed | the page is made anew, as the report is put back |
//! | the weights are replaced | the page of the weights before goes with their report |
//! | [`write()`] is called | the page is made anew, wherever it is wanted |
//!
//! A page says nothing that the other files do not. So a run whose page cannot be written has a word for its
//! observer and has not failed: what it promised is there, and the page can be made of it at any time.
//!
//! The files are read as a stream, line by line, and what is too long to be a line of ours is passed over, so
//! that memory does not grow with the run. Only a report that is not there is an error: all else that is
//! missing or broken is said in the page.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _};
use std::path::Path;

use serde_json::Value;

use super::files::{exists, write_atomically};
use super::inspect::report_of;
use super::records::{METRICS, SAMPLES};
use crate::error::Error;
use crate::report::Observer;
use crate::report::page::{Material, Metrics, Recorded, Samples, page};

/// The page of a run, in its folder.
pub(super) const PAGE: &str = "report.html";
const SETTINGS: &str = "settings.json";

/// More bytes than this are no line of ours.
const MAX_LINE: u64 = 1 << 20;

/// How a page begins.
const BEGIN: &[u8] = b"<!DOCTYPE html>";

/// Makes the page of the run in `folder` anew, and writes it to `file`, whole or not at all.
///
/// ```
/// use twelvefold::report::RunReport;
/// use twelvefold::train::page::write;
///
/// let folder = tempfile::tempdir()?;
/// let report = RunReport { steps: 7, ..RunReport::default() };
/// std::fs::write(folder.path().join("report.json"), report.to_json())?;
/// write(folder.path(), &folder.path().join("page.html"))?;
/// let page = std::fs::read_to_string(folder.path().join("page.html"))?;
/// assert!(page.contains("7 steps in") && page.contains("There is no metrics.jsonl"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`] where there is no report or the page cannot be written; [`Error::Input`] where the report is
/// damaged, or `file` is there and is no page.
pub fn write(folder: &Path, file: &Path) -> Result<(), Error> {
    let text = page(&material(folder)?);
    if exists(file)? && !is_page(file) {
        return Err(Error::input(
            format!("{} is there and is no page", file.display()),
            "give the name of a page, or of a file that is not there yet",
        ));
    }
    write_atomically(file, text.as_bytes())
}

/// Makes the page of a run that has ended; the observer has a word where that cannot be.
pub(super) fn leave(folder: &Path, observer: &mut dyn Observer) {
    let written = material(folder)
        .and_then(|material| write_atomically(folder.join(PAGE), page(&material).as_bytes()));
    if let Err(error) = written {
        let why = error.to_string();
        let why = why.lines().next().unwrap_or_default();
        observer.note(&format!("{PAGE} cannot be written, and the run is whole without it: {why}"));
    }
}

/// Nobody is to lose a file by a slip of the keyboard.
fn is_page(file: &Path) -> bool {
    let mut begin = [0; BEGIN.len()];
    let read = open(file).and_then(|file| file.take(begin.len() as u64).read_exact(&mut begin));
    read.is_ok() && begin == *BEGIN
}

fn material(folder: &Path) -> Result<Material, Error> {
    let report = report_of(folder)?;
    let mut metrics = Recorded { held: Metrics::new(report.steps), fault: None };
    metrics.fault = lines(folder, METRICS, &mut |line| metrics.held.take(line));
    let mut samples = Recorded::<Samples>::default();
    samples.fault = lines(folder, SAMPLES, &mut |line| samples.held.take(line));
    Ok(Material { report, settings: settings(folder), metrics, samples })
}

fn settings(folder: &Path) -> Recorded<Option<Value>> {
    let mut bytes = Vec::new();
    let read = open(&folder.join(SETTINGS)).and_then(|f| f.take(MAX_LINE).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Recorded { held: None, fault: Some(missing(SETTINGS, &error)) };
    }
    match serde_json::from_slice(&bytes) {
        Ok(settings) => Recorded { held: Some(settings), fault: None },
        Err(_) => Recorded { held: None, fault: Some(format!("{SETTINGS} is damaged.")) },
    }
}

/// Calls `take` with each line of a file; what is to be said where it could not be read, or not to its end.
fn lines(folder: &Path, name: &str, take: &mut dyn FnMut(Option<&[u8]>)) -> Option<String> {
    let read = open(&folder.join(name)).and_then(|file| each_line(BufReader::new(file), take));
    read.err().map(|error| missing(name, &error))
}

fn missing(name: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("There is no {name} in the folder of the run."),
        _ => format!("{name} cannot be read: {error}."),
    }
}

/// A pipe or a device would keep us waiting for ever.
fn open(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(path)
}

/// Calls `take` with each line, without its end; with None for one that is too long.
fn each_line(mut from: impl BufRead, take: &mut dyn FnMut(Option<&[u8]>)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        match line.strip_suffix(b"\n") {
            None if line.len() as u64 == MAX_LINE => {
                from.skip_until(b'\n')?;
                take(None);
            }
            whole => take(Some(whole.unwrap_or(&line))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINE, each_line};

    #[test]
    fn lines_are_read_in_bounded_memory_and_one_that_is_too_long_is_passed_over() {
        let long = vec![b'x'; 3 * MAX_LINE as usize];
        let text = [&b"a\n\n"[..], &long, b"\nb\r\n", &long].concat();
        let mut found = Vec::new();
        each_line(&*text, &mut |line| found.push(line.map(<[u8]>::to_vec))).unwrap();
        assert_eq!(found, [Some(b"a".to_vec()), Some(vec![]), None, Some(b"b\r".to_vec()), None]);
    }
}
