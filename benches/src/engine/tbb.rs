//! oneTBB's `parallel_pipeline`, by the program that `benches/tbb/build` makes where Debian's
//! `libtbb-dev` is installed. Without it the rows say that it was skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is asked for and prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Wall time.
    pub(crate) ns_an_item: f64,
    /// Processor time of all of its threads.
    pub(crate) processor_ns_an_item: f64,
    /// Voluntary context switches of all of its threads, per 1,000 items.
    pub(crate) switches_a_thousand: f64,
}

/// Where `benches/tbb/build` puts it.
pub(crate) fn program() -> Result<PathBuf, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let path = workspace.join("target/tbb/pipeline");
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is missing: run benches/tbb/build (needs libtbb-dev)", path.display()))
}

/// Passes `items` through source, map and sink, checked there. `rounds` of work an item; with
/// `skewed`, one item in a hundred a hundred times that.
/// A program that fails (its own checks did) is a panic here.
pub(crate) fn run(
    program: &Path,
    items: u64,
    workers: usize,
    rounds: u64,
    skewed: bool,
) -> Figures {
    let kind = if skewed { "skewed" } else { "even" };
    let output = Command::new(program)
        .args([kind, &items.to_string(), &workers.to_string(), &rounds.to_string()])
        .output()
        .expect("the program was found before");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}", program.display());
    let numbers: Vec<f64> =
        text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [ns_an_item, processor_ns_an_item, switches_a_thousand] = numbers[..] else {
        panic!("{} prints three numbers, not {text:?}", program.display());
    };
    Figures { ns_an_item, processor_ns_an_item, switches_a_thousand }
}
