//! `twelvefold train` as several processes under `mpirun` (Open MPI's): the bits of one, and an end of all
//! where one fails.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/mpirun.rs"]
mod launcher;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;
use watchdog::watchdog;

const PROGRAM: &str = env!("CARGO_BIN_EXE_twelvefold");

/// A run of half a second.
const SMALL: [&str; 19] = [
    "train",
    "--steps",
    "12",
    "--micro-batches",
    "8",
    "--batch",
    "2",
    "--layers",
    "2",
    "--width",
    "32",
    "--heads",
    "2",
    "--context",
    "32",
    "--tokenizer",
    "bytes",
    "--story-bytes",
    "60000",
];

/// Steps of a run that goes on until a test ends it.
const ENDLESS: &str = "1000000";

fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1"]);
    command
}

/// The settings of a small run, and more, which may give some of them anew.
fn settings(more: &[&str]) -> Vec<String> {
    let kept = SMALL[1..].chunks(2).filter(|pair| !more.contains(&pair[0])).flatten();
    ["train"].iter().chain(kept).chain(more).map(|word| (*word).to_owned()).collect()
}

/// So many ranks of one command line.
fn ranks(count: usize, out: &Path, more: &[&str]) -> Command {
    let mut command = mpirun();
    command.args(["-np", &count.to_string(), PROGRAM]).args(settings(more));
    command.arg("--out").arg(out);
    command
}

/// One process, without `mpirun`.
fn alone(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(settings(more)).arg("--out").arg(out);
    command
}

fn ended(mut command: Command) -> Output {
    launcher::output(&mut command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs to a good end.
fn well(command: Command) -> String {
    let what = format!("{command:?}");
    let output = ended(command);
    let (said, why) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what}: {said}\n{why}");
    said
}

fn report(out: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(out.join("report.json")).unwrap()).unwrap()
}

fn weights(out: &Path) -> String {
    report(out)["weights_sha256"].as_str().unwrap().to_owned()
}

/// A job that is under way, and what it says.
struct Job {
    mpirun: Child,
    lines: Receiver<String>,
    said: String,
}

impl Job {
    fn start(mut command: Command) -> Job {
        let mut mpirun = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(mpirun.stdout.take().unwrap()), Box::new(mpirun.stderr.take().unwrap())];
        for stream in streams {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    let _ = tell.send(text(&line));
                }
            });
        }
        Job { mpirun, lines, said: String::new() }
    }

    /// Waits for a line that contains `what`.
    fn wait_for(&mut self, what: &str) {
        loop {
            let Ok(line) = self.lines.recv() else {
                panic!("the job ended without {what:?}:\n{}", self.said);
            };
            self.said += &line;
            self.said.push('\n');
            if line.contains(what) {
                return;
            }
        }
    }

    /// The processes of the ranks, in no order.
    fn ranks(&self) -> Vec<u32> {
        launcher::children(self.mpirun.id()).into_iter().map(|(pid, _)| pid).collect()
    }

    /// All it says until it has ended, and how it did: none where the launcher had to be ended.
    fn end(mut self) -> (String, Option<ExitStatus>) {
        let (status, was_stuck) = launcher::wait(&mut self.mpirun);
        for line in self.lines.iter() {
            self.said += &line;
            self.said.push('\n');
        }
        (std::mem::take(&mut self.said), (!was_stuck).then_some(status))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.mpirun.kill();
        }
    }
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn any_ranks_and_spheres_write_the_weights_of_one_process() {
    let _watchdog = watchdog("ranks and spheres");
    let (_folder, at) = folder();
    well(alone(&at.join("one"), &["--spheres", "1"]));
    let one = report(&at.join("one"));
    assert_eq!(one.get("ranks"), None, "one process has no ranks");
    for (count, spheres) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (4, 1), (5, 2), (8, 1)] {
        let out = at.join(format!("{count}x{spheres}"));
        let said = well(ranks(count, &out, &["--spheres", &spheres.to_string()]));
        assert_eq!(said.matches("step 12/12  loss").count(), 1, "one rank speaks: {said}");
        let other = report(&out);
        for same in ["weights_sha256", "receipt", "val_loss", "train_loss", "tokens"] {
            assert_eq!(other[same], one[same], "{same} of {count} x {spheres}");
        }
        if count == 1 {
            continue;
        }
        let rows = other["ranks"].as_array().unwrap();
        let sum = |what: &str| rows.iter().map(|row| row[what].as_u64().unwrap()).sum::<u64>();
        assert_eq!((rows.len(), sum("micro_batches")), (count, 8));
        assert_eq!(sum("spheres"), (count * spheres) as u64);
        assert!(rows.iter().all(|row| row["sent_bytes"].as_u64() > Some(0)));
        assert!(said.contains("rank  host"), "{said}");
    }
}

#[test]
fn over_tcp_and_with_more_files_than_one_the_weights_are_the_same() {
    let _watchdog = watchdog("ranks over TCP");
    let (_folder, at) = folder();
    let corpus = at.join("corpus");
    fs::create_dir(&corpus).unwrap();
    for file in 0..40 {
        let words: String = (0..400).map(|i| format!("word{} ", (i * i + file) % 97)).collect();
        fs::write(corpus.join(format!("{file:02}.txt")), words).unwrap();
    }
    let text = [corpus.to_str().unwrap(), "--tokenizer", "bpe:300"];
    well(alone(&at.join("one"), &text));
    let mut job = mpirun();
    job.args([
        "--mca",
        "btl",
        "tcp,self",
        "--mca",
        "btl_tcp_if_include",
        "lo",
        "-np",
        "3",
        PROGRAM,
    ]);
    job.args(settings(&text)).arg("--out").arg(at.join("tcp"));
    well(job);
    let (one, tcp) = (report(&at.join("one")), report(&at.join("tcp")));
    assert_eq!(tcp["weights_sha256"], one["weights_sha256"]);
    assert_eq!(tcp["corpus"]["opened"], one["corpus"]["opened"], "rank 0 alone opens files");
}

#[test]
fn a_rank_that_is_killed_ends_the_job_and_another_number_of_ranks_goes_on() {
    let _watchdog = watchdog("a killed rank");
    let (_folder, at) = folder();
    let often = ["--checkpoint-every", "3", "--eval-interval", "0", "--steps", "400"];
    well(alone(&at.join("whole"), &often));
    let out = at.join("killed");
    let mut job = Job::start(ranks(2, &out, &often));
    job.wait_for("checkpoint at step 6 saved");
    let pids = job.ranks();
    assert_eq!(pids.len(), 2, "{pids:?}");
    // The one that is not rank 0: the younger of two that mpirun starts in order.
    signal(*pids.iter().max().unwrap(), "KILL");
    let (said, ended) = job.end();
    assert!(ended.is_none_or(|status| !status.success()), "{said}");
    assert!(said.contains("signal 9"), "the launcher says which rank: {said}");
    assert!(!out.join("model.safetensors").exists(), "it had not ended: {said}");
    well(verify(&out));
    let said = well(ranks(3, &out, &[&often[..], &["--resume"]].concat()));
    assert!(said.contains("resuming at step"), "{said}");
    assert_eq!(weights(&out), weights(&at.join("whole")));
}

fn verify(out: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("verify").arg(out);
    command
}

#[test]
fn what_was_begun_by_one_goes_on_with_ranks_and_back() {
    let _watchdog = watchdog("resume with other ranks");
    let (_folder, at) = folder();
    let often = ["--checkpoint-every", "2", "--eval-interval", "0", "--steps", "300"];
    well(alone(&at.join("whole"), &often));
    let out = at.join("parts");
    let mut one = Job::start(alone(&out, &often));
    one.wait_for("checkpoint at step 4 saved");
    signal(one.mpirun.id(), "KILL");
    one.end();
    let resume = [&often[..], &["--resume"]].concat();
    let mut four = Job::start(ranks(4, &out, &resume));
    four.wait_for("checkpoint at step 12 saved");
    signal(four.mpirun.id(), "INT");
    let (said, ended) = four.end();
    assert!(ended.is_none_or(|status| !status.success()), "{said}");
    well(verify(&out));
    well(alone(&out, &resume));
    assert_eq!(weights(&out), weights(&at.join("whole")));
}

/// As Slurm's `--signal` does it. Ctrl-C on `mpirun` kills a second after it has sent the same, whatever has
/// been saved by then: what stands after it is looked at above.
#[test]
fn sigterm_to_rank_0_saves_what_was_trained_and_ends_all() {
    let _watchdog = watchdog("SIGTERM to rank 0");
    let (_folder, at) = folder();
    let out = at.join("run");
    let more = ["--steps", ENDLESS, "--eval-interval", "0", "--checkpoint-every", "5"];
    let mut job = Job::start(ranks(3, &out, &more));
    job.wait_for("checkpoint at step 10 saved");
    // mpirun starts them in order.
    signal(*job.ranks().iter().min().unwrap(), "TERM");
    let (said, ended) = job.end();
    assert!(ended.is_none_or(|status| status.code() == Some(130)), "{ended:?}: {said}");
    assert_eq!(report(&out)["interrupted"], true, "{said}");
    assert!(report(&out)["ranks"].as_array().is_some_and(|ranks| ranks.len() == 3));
    well(verify(&out));
}

#[test]
fn sigusr1_on_the_launcher_saves_and_goes_on() {
    let _watchdog = watchdog("SIGUSR1 under mpirun");
    let (_folder, at) = folder();
    let out = at.join("run");
    let more = ["--steps", ENDLESS, "--eval-interval", "0", "--checkpoint-every", "0"];
    let mut job = Job::start(ranks(3, &out, &more));
    job.wait_for("step 1/");
    signal(job.mpirun.id(), "USR1");
    job.wait_for("checkpoint at step");
    // It goes on: it saves again.
    signal(job.mpirun.id(), "USR1");
    job.wait_for("checkpoint at step");
    signal(job.mpirun.id(), "INT");
    let (said, _) = job.end();
    assert!(said.contains("stopping after this step"), "{said}");
}

#[test]
fn the_spheres_of_every_rank_have_their_names_for_ps() {
    let _watchdog = watchdog("the names of threads");
    let (_folder, at) = folder();
    let more = ["--steps", ENDLESS, "--eval-interval", "0", "--spheres", "2"];
    let mut job = Job::start(ranks(3, &at.join("run"), &more));
    job.wait_for("step 1/");
    let pids = job.ranks();
    assert_eq!(pids.len(), 3);
    for pid in &pids {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let name = |t: fs::DirEntry| fs::read_to_string(t.path().join("comm")).unwrap_or_default();
        let names: Vec<String> = threads.map(name).collect();
        for sphere in ["tf-sphere-00\n", "tf-sphere-01\n"] {
            assert!(names.iter().any(|name| name == sphere), "{pid}: {names:?}");
        }
    }
    signal(job.mpirun.id(), "INT");
    job.end();
}

/// Two ranks with command lines of their own.
fn two(out: &Path, zero: (&Path, &[&str]), one: (&Path, &[&str])) -> Output {
    let mut command = mpirun();
    for (at, (program, more)) in [zero, one].into_iter().enumerate() {
        if at > 0 {
            command.arg(":");
        }
        command.args(["-np", "1"]).arg(program).args(settings(more)).arg("--out").arg(out);
    }
    ended(command)
}

#[test]
fn ranks_that_were_started_differently_do_not_begin() {
    let _watchdog = watchdog("ranks that differ");
    let (_folder, at) = folder();
    let program = Path::new(PROGRAM);
    let other = at.join("twelvefold");
    let mut bytes = fs::read(program).unwrap();
    bytes.push(0);
    fs::copy(program, &other).unwrap(); // With its permissions.
    fs::write(&other, bytes).unwrap();
    fs::write(at.join("a.txt"), "some text ".repeat(2_000)).unwrap();
    fs::write(at.join("b.txt"), "other text ".repeat(2_000)).unwrap();
    let (a, b) = (at.join("a.txt"), at.join("b.txt"));
    let cases: [(&Path, &[&str], &[&str], &str); 4] = [
        (program, &["--lr", "0.001"], &["--lr", "0.002"], "has --lr 0.002, and rank 0 has 0.001"),
        (program, &["--seed", "7"], &[], "has --seed "),
        (program, &[a.to_str().unwrap()], &[b.to_str().unwrap()], "has --paths "),
        (&other, &[], &[], "has build "),
    ];
    for (second, zero, one, difference) in cases {
        let out = at.join("run");
        let output = two(&out, (program, zero), (second, one));
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{why}");
        assert!(why.contains("error: rank 1 on ") && why.contains(difference), "{why}");
        assert_eq!(why.matches(difference).count(), 1, "said once: {why}");
        assert!(!out.exists(), "nothing was begun");
    }
    // How many spheres a rank has is its own affair.
    let output =
        two(&at.join("run"), (program, &["--spheres", "1"]), (program, &["--spheres", "2"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn what_is_refused_is_said_once_and_nothing_begins() {
    let _watchdog = watchdog("refused settings");
    let (_folder, at) = folder();
    let out = at.join("run");
    let cases: [(&[&str], i32, &str); 5] = [
        (
            &["--micro-batches", "2"],
            2,
            "--micro-batches 2 is not possible: 3 ranks need at least 3",
        ),
        (&["--heads", "5"], 2, "--heads 5 is not possible"),
        (&["--stepz", "5"], 2, "unexpected argument '--stepz'"),
        (&["no-such-file.txt"], 1, "no-such-file.txt"),
        (&["--tokenizer", "nothing"], 2, "invalid value 'nothing' for '--tokenizer"),
    ];
    for (more, code, said) in cases {
        let command = ranks(3, &out, more);
        let output = ended(command);
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {why}");
        assert_eq!(why.matches(said).count(), 1, "{more:?}: {why}");
        assert!(!out.join("model.safetensors").exists());
    }
    let mut help = mpirun();
    help.args(["-np", "3", PROGRAM, "train", "--help"]);
    assert_eq!(well(help).matches("Usage: twelvefold train").count(), 1);
}

#[test]
fn text_that_ends_too_soon_ends_all_ranks_with_the_reason() {
    let _watchdog = watchdog("too little text");
    let (_folder, at) = folder();
    fs::write(at.join("tiny.txt"), "too little").unwrap();
    let tiny = at.join("tiny.txt");
    let output = ended(ranks(3, &at.join("run"), &[tiny.to_str().unwrap()]));
    let why = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{why}");
    let alone = ended(alone(&at.join("one"), &[tiny.to_str().unwrap()]));
    let reason = text(&alone.stderr);
    assert!(why.contains(reason.lines().next().unwrap()), "{why}\nalone: {reason}");
}

/// Rank 0 finds it when it has read the text, and the others wait for their first word.
#[test]
fn a_checkpoint_of_another_tokenizer_ends_all_ranks_with_the_reason() {
    let _watchdog = watchdog("a checkpoint that does not fit");
    let (_folder, at) = folder();
    let file = at.join("text.txt");
    let write = |word: &str| fs::write(&file, format!("{word} and more ").repeat(3_000)).unwrap();
    let train = [file.to_str().unwrap(), "--tokenizer", "bpe:258", "--checkpoint-every", "4"];
    write("some text");
    let out = at.join("run");
    well(alone(&out, &train));
    write("other words");
    let resume = [&train[..], &["--resume", "--allow-changes", "--steps", "20"]].concat();
    let one = ended(alone(&out, &resume));
    let reason = text(&one.stderr);
    let line = reason.lines().next().unwrap();
    assert!(line.contains("tokenizer"), "{reason}");
    let output = ended(ranks(3, &out, &resume));
    let why = text(&output.stderr);
    assert_eq!((output.status.code(), one.status.code()), (Some(1), Some(1)), "{why}");
    assert_eq!(why.matches(line).count(), 1, "{why}");
}

/// Of the tests themselves: a launcher is ended when it has had no ranks for a while, and not before.
#[test]
fn a_launcher_that_outlives_its_ranks_is_ended() {
    let _watchdog = watchdog("a launcher that does not end");
    let started = |script: &str| {
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        child
    };
    let patience = Duration::from_secs(1);
    let mut alone = started("echo begun; exec sleep 1000");
    let (status, was_stuck) = launcher::wait_with(&mut alone, patience);
    assert!(was_stuck && status.code().is_none(), "{status}");
    let mut at_work = started("sleep 4 & echo begun; wait; exit 7");
    let (status, was_stuck) = launcher::wait_with(&mut at_work, patience);
    assert!(!was_stuck && status.code() == Some(7), "{status}");
}
