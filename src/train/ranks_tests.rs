//! Ranks under `mpirun` with a fault planted in one of them: this test program starts itself.

#[path = "../../tests/common/mpirun.rs"]
mod launcher;

use super::tests::tiny;
use super::{Cancel, Options, run_among, run_as_rank};
use crate::inject::{ANY, Fault, plant, quiet};
use crate::ranks::Link;
use crate::ranks::mpi::{Mpi, abort_if_open};
use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// Names the case to the ranks: the stage, and the rank that it fails on.
const CASE: &str = "TWELVEFOLD_TEST_CASE";
/// And the folder.
const OUT: &str = "TWELVEFOLD_TEST_OUT";

const CASES: [(&str, usize, Fault); 5] = [
    ("sphere", 1, Fault::Panic),
    ("sphere", 0, Fault::Panic),
    ("optimizer", 2, Fault::Panic),
    ("load", 0, Fault::Error),
    ("batch", 0, Fault::Panic),
];

#[test]
#[ignore = "a rank of the job that the next test starts"]
fn a_rank() {
    let (case, out) = (env::var(CASE).unwrap(), env::var(OUT).unwrap());
    let (stage, failing, fault) = CASES[case.parse::<usize>().unwrap()].clone();
    let link = Mpi::join().unwrap();
    let rank = link.rank();
    let after = if ["load", "batch"].contains(&stage) { 1 } else { 40 };
    let _guard = if rank == failing { plant(stage, ANY, after, fault) } else { quiet() };
    let options = Options {
        steps: 1_000_000,
        micro_batches: 5,
        checkpoint_every: 2,
        // A job whose launcher did not end is begun again.
        overwrite: true,
        ..tiny(&Path::new(&out))
    };
    let link = Box::new(link);
    let ended = match rank {
        0 => run_among(link, &options, &Cancel::new(), &mut ()).map(|_| ()),
        _ => run_as_rank(link, options.spheres),
    };
    if let Err(error) = ended {
        let _ = writeln!(io::stderr(), "rank {rank}: {error}");
        abort_if_open(3);
        std::process::exit(3);
    }
}

#[test]
fn a_fault_on_one_rank_ends_all_with_the_message_of_that_rank() {
    let _quiet = quiet();
    for (case, (stage, rank, fault)) in CASES.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mpirun");
        command
            .args(["--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1"])
            .args(["-np", "3"])
            .arg(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "train::ranks_tests::a_rank", "--nocapture"])
            .env(CASE, case.to_string())
            .env(OUT, folder.path());
        let output = launcher::output(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stage} on {rank}: {said}");
        let message = match fault {
            Fault::Panic => "panicked",
            _ => "failed",
        };
        let told = said.lines().find(|line| line.starts_with(&format!("rank {rank}: ")));
        assert!(told.is_some_and(|line| line.contains(message)), "{stage} on {rank}: {said}");
        assert!(said.contains(&format!("planted in {stage}")), "{stage} on {rank}: {said}");
        assert!(!folder.path().join("out/model.safetensors").exists(), "it did not end well");
    }
}
