//! A model in a process of its own, with a bug planted: a failing model may abort or hang.

use loom_tests::say;
use std::fmt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than any model runs unbroken, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    Fails,
    /// It branched without end or took too long: a bug that only wastes time is not caught by it.
    Capped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Holds => "holds",
            Verdict::Fails => "killed",
            Verdict::Capped => "capped",
        })
    }
}

/// A site, a model, and what must become of the model when the site is broken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) site: &'static str,
    pub(crate) model: &'static str,
    pub(crate) wanted: Verdict,
}

/// What becomes of `model` with `variables` set, and what it said.
pub(crate) fn run(model: &str, variables: &[(&str, &str)]) -> (Verdict, String) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let log = std::env::temp_dir().join(format!("model-{}-{run}", std::process::id()));
    let output = std::fs::File::create(&log).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", model, "--test-threads=1", "--nocapture"])
        .envs(variables.iter().copied())
        .stdout(Stdio::from(output.try_clone().unwrap()))
        .stderr(output)
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    std::fs::remove_file(&log).unwrap();
    assert!(said.contains("running 1 test\n"), "there is no model called {model}: {said}");
    let capped = ["exceeded maximum number of branches", "exceeded max_steps"]
        .iter()
        .any(|c| said.contains(c));
    let verdict = match status {
        Some(status) if status.success() => Verdict::Holds,
        Some(_) if !capped => Verdict::Fails,
        _ => Verdict::Capped,
    };
    (verdict, said)
}

/// Runs all cases, `MUTANT_JOBS` processes at once (as many as cores by default), says what became
/// of each and how long it took, and returns those that ended otherwise than wanted.
///
/// Where `TWELVEFOLD_MUTANT` is set, only the sites whose names begin so are run.
pub(crate) fn run_all(cases: &[Case]) -> Vec<String> {
    let chosen = std::env::var("TWELVEFOLD_MUTANT").unwrap_or_default();
    let cases: Vec<&Case> = cases.iter().filter(|case| case.site.starts_with(&chosen)).collect();
    assert!(!cases.is_empty(), "no site begins with {chosen}");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = std::env::var("MUTANT_JOBS").map_or(cores, |jobs| jobs.parse().unwrap());
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    let work = || {
        let mut ran = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            // One seed for shuttle: what it finds once it finds again.
            let variables = [("TWELVEFOLD_MUTANT", case.site), ("SHUTTLE_RANDOM_SEED", "1")];
            let (verdict, _) = run(case.model, &variables);
            let time = begun.elapsed();
            let seconds = time.as_secs_f64();
            say(&format!("{verdict:6} {:28} {seconds:7.2} s  {}", case.site, case.model));
            ran.push((**case, verdict, time));
        }
        ran
    };
    let ran: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let of = |verdict| ran.iter().filter(|(_, v, _)| *v == verdict).count();
    let sum: Duration = ran.iter().map(|(_, _, time)| *time).sum();
    say(&format!(
        "{} sites: {} killed, {} survive, {} capped; {:.0} s of {jobs} processes at once, {:.0} s in all",
        ran.len(),
        of(Verdict::Fails),
        of(Verdict::Holds),
        of(Verdict::Capped),
        started.elapsed().as_secs_f64(),
        sum.as_secs_f64(),
    ));
    ran.iter()
        .filter(|(case, verdict, _)| *verdict != case.wanted)
        .map(|(case, verdict, _)| {
            format!("{} with {} broken: {verdict}, not {}", case.model, case.site, case.wanted)
        })
        .collect()
}
