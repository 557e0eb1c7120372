//! Open MPI's launcher, which at times does not end.
//!
//! Seen with Open MPI 4.1.4: all ranks of a job that failed were gone, and `mpirun` waited in
//! `PMIx_server_finalize` for a thread of its own that waited for a lock. The ranks' end is what tests look
//! at, so a launcher that outlives its ranks by far is ended here.

use std::fs;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// A launcher whose ranks are gone ends within milliseconds, or never.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it has ended, and every how many times at its ranks, which takes longer.
const PAUSE: Duration = Duration::from_millis(5);
const LOOK: u64 = 200;

/// Waits for the launcher's end; whether it had to be ended.
pub(crate) fn wait(mpirun: &mut Child) -> (ExitStatus, bool) {
    wait_with(mpirun, PATIENCE)
}

/// The same, with this patience.
pub(crate) fn wait_with(mpirun: &mut Child, patience: Duration) -> (ExitStatus, bool) {
    let mut alone_since = None;
    for time in 0_u64.. {
        if let Some(status) = mpirun.try_wait().expect("a child can be waited for") {
            return (status, false);
        }
        if time % LOOK == 0 {
            let has_ranks = children(mpirun.id()).iter().any(|(_, state)| state != "Z");
            let since = *alone_since.get_or_insert_with(Instant::now);
            if has_ranks {
                alone_since = None;
            } else if since.elapsed() > patience {
                break;
            }
        }
        std::thread::sleep(PAUSE);
    }
    mpirun.kill().expect("a child can be killed");
    (mpirun.wait().expect("a child can be waited for"), true)
}

/// All that a job says, and how it ends; started again where its launcher did not end.
pub(crate) fn output(command: &mut Command) -> Output {
    loop {
        let files = [tempfile::tempfile(), tempfile::tempfile()].map(|file| file.expect("a file"));
        let to = |file: &fs::File| Stdio::from(file.try_clone().expect("a handle"));
        command.stdin(Stdio::null()).stdout(to(&files[0])).stderr(to(&files[1]));
        let mut mpirun = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run {command:?}: {error}\nhint: install Open MPI (Debian: openmpi-bin)")
        });
        let (status, was_stuck) = wait(&mut mpirun);
        if !was_stuck {
            let [stdout, stderr] = files.map(all);
            return Output { status, stdout, stderr };
        }
    }
}

/// What was written to a file.
fn all(mut file: fs::File) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what was written is read");
    bytes
}

/// The children of a process, and the letters of their states.
pub(crate) fn children(of: u32) -> Vec<(u32, String)> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let child = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut after = stat.rsplit(')').next()?.split_whitespace();
        let (state, parent) = (after.next()?, after.next()?);
        (parent == of.to_string()).then(|| (pid, state.to_owned()))
    };
    pids.filter_map(child).collect()
}
