//! Each file is opened once in a run, whoever reads it: by the run's own count, and as the system
//! saw it.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/example.rs"]
mod example;
#[path = "common/mixed.rs"]
mod mixed;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use example::example;
use mixed::mixed_folder;
use tiny::{on, tiny, train};
use twelvefold::train::Options;
use watchdog::watchdog;

const TOKENIZERS: [&str; 3] = ["bytes", "bpe:320", "words:50"];
/// Spheres and tokenizers.
const CREWS: [(usize, usize); 3] = [(1, 1), (3, 4), (13, 2)];

/// The regular files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path.to_str().unwrap().to_owned());
        }
    }
    all
}

#[test]
fn the_count_of_opened_files_is_that_of_the_files() {
    let _watchdog = watchdog("the count of opened files");
    let folder = mixed_folder();
    let all = files(folder.path()).len() as u64;
    // A window as wide as the corpus: the first step needs all of it.
    let whole = Options { shuffle_window: 1 << 24, context: 128, steps: 1, ..tiny() };
    for tokenizer in TOKENIZERS {
        for (spheres, tokenizers) in CREWS {
            let (name, tokenizer) = (tokenizer, tokenizer.to_owned());
            let options = Options { tokenizer, spheres, tokenizers, ..whole.clone() };
            let corpus = train(&on(&[folder.path()], options)).unwrap().corpus;
            assert_eq!((corpus.files, corpus.opened), (all, all));
            let mut skipped: Vec<(&str, &str)> = corpus
                .skipped
                .iter()
                .map(|s| (s.path.rsplit('/').next().unwrap(), s.reason.as_str()))
                .collect();
            // They were opened in the order of the seed.
            skipped.sort_unstable();
            let expected = [
                ("binary", "binary: a NUL at byte 4"),
                ("empty", "empty"),
                ("picture", "binary: a NUL at byte 0"),
            ];
            assert_eq!(skipped, expected);
            assert_eq!(corpus.documents, all - 3);
            // `bytes` takes every byte as it is.
            let bad: Vec<_> = corpus.invalid.iter().map(|b| (&*b.path, b.byte, b.count)).collect();
            let latin1 = folder.path().join("d/latin1.txt");
            let expected = [(latin1.to_str().unwrap(), 3, 5)];
            assert_eq!(bad, if name == "bytes" { &expected[..0] } else { &expected });
        }
    }
}

/// How often each path was opened, by strace's log.
fn opens(log: &str) -> BTreeMap<String, usize> {
    let mut opens = BTreeMap::new();
    for line in log.lines().filter(|line| !line.contains("O_DIRECTORY")) {
        // `PID openat(AT_FDCWD</HERE>, "PATH", FLAGS) = FD`, or `openat(FD</FOLDER>, "NAME", FLAGS)`; a
        // call that was interrupted in the log is finished on a line of its own, without the path.
        let Some((call, rest)) = line.split_once('"') else { continue };
        let Some((path, _)) = rest.split_once('"') else { continue };
        let folder = call.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let folder = Path::new(folder.map_or("", |(folder, _)| folder));
        *opens.entry(folder.join(path).display().to_string()).or_default() += 1;
    }
    opens
}

#[test]
fn the_system_sees_every_file_opened_once() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: there is no strace here");
        return;
    }
    let _watchdog = watchdog("strace");
    let folder = mixed_folder();
    let out = tempfile::tempdir().unwrap();
    let log = out.path().join("log");
    for tokenizer in TOKENIZERS {
        for (spheres, tokenizers) in CREWS {
            let mut command = Command::new("strace");
            command.args([
                "-f",
                "-qq",
                "-y",
                "-s",
                "4096",
                "-e",
                "trace=open,openat,openat2,creat",
                "-o",
            ]);
            command.arg(&log).arg(example("pipeline")).arg(folder.path());
            command.args(["--tokenizer", tokenizer, "--overwrite", "--steps", "1", "--out"]);
            command.arg(out.path().join("out"));
            command.args(["--spheres", &spheres.to_string()]);
            command.args(["--tokenizers", &tokenizers.to_string()]);
            // The default window of 4,096 sequences then holds all of the text.
            command.args(["--context", "1024", "--batch", "1", "--micro-batches", "1"]);
            command.args(["--layers", "1", "--heads", "1", "--width", "4"]);
            let output = command.output().unwrap();
            if !log.exists() || !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(words.contains("ptrace"), "{words}");
                println!("skipped: strace may not trace here: {words}");
                return;
            }
            let log = fs::read_to_string(&log).unwrap();
            let opens = opens(&log);
            for file in files(folder.path()) {
                let count = opens.get(file.as_str()).copied().unwrap_or(0);
                assert_eq!(count, 1, "{file}, {tokenizer}, {spheres} spheres");
            }
        }
    }
}
