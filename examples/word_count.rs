//! How often each word occurs in the files, the most frequent first; each worker counts for itself.
//! Ctrl-C ends it without a word. `cargo run --release --example word_count -- FILE...`

use std::io::{Write, stderr, stdout};
use std::{collections::HashMap, env, fs, mem, path::PathBuf, process::ExitCode, thread};
use twelvefold::engine::BoxError;
use twelvefold::engine::pipeline::{OnError, Out, Pipeline, Stage};

/// The words that one worker has seen; nothing is shared before the end.
struct Words(HashMap<Vec<u8>, u64>);

impl Stage<&PathBuf> for Words {
    type Output = Words;

    fn process(&mut self, path: &PathBuf, _: &mut Out<'_, Words>) -> Result<(), BoxError> {
        let text = fs::read(path)?; // Whole: a file counts wholly or not at all.
        for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            *self.0.entry(word.to_vec()).or_default() += 1;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Out<'_, Words>) -> Result<(), BoxError> {
        out.send(Words(mem::take(&mut self.0)));
        Ok(())
    }
}

fn main() -> Result<ExitCode, BoxError> {
    let paths: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        return writeln!(stderr(), "usage: word_count FILE...").map(|()| Ok(2.into()))?;
    }
    let mut total = HashMap::new();
    let merge = |of: Words| of.0.into_iter().for_each(|(w, n)| *total.entry(w).or_default() += n);
    let counted = Pipeline::from_iter("files", &paths).stage("count", |_| Words(HashMap::new()));
    let pipeline = counted.unordered().sink("merge", merge).on_error(OnError::Collect(paths.len()));
    let canceller = pipeline.canceller();
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])?;
    thread::spawn(move || signals.forever().for_each(|_| canceller.cancel()));
    let report = pipeline.run().map_err(|e| e.to_string())?;
    for (file, e) in report.failures.iter().filter_map(|f| Some((f.item?, &f.error))) {
        writeln!(stderr(), "{}: {e}", paths[file as usize].display())?;
    }
    let mut words: Vec<(_, u64)> = total.into_iter().filter(|_| !report.cancelled).collect();
    words.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    let line = |(w, n): &(Vec<u8>, u64)| [n.to_string().as_bytes(), b" ", w, b"\n"].concat();
    stdout().write_all(&words.iter().flat_map(line).collect::<Vec<_>>())?;
    Ok(if report.cancelled { 130 } else { u8::from(report.failed > 0) }.into())
}
