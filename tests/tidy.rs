//! The house rules that no compiler checks: which module may use which, how long files and
//! functions may be, where unsafe and threads may stand.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

/// What each part of the crate may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("bin", &[]),
    ("cli", &["corpus", "error", "report", "sync", "train"]),
    ("sync", &[]),
    ("engine", &["sync"]),
    ("guide", &[]),
    ("error", &["engine"]),
    ("inject", &["engine"]),
    ("model", &["error"]),
    ("corpus", &["engine", "error"]),
    ("ranks", &["error", "sync"]),
    ("report", &["error"]),
    ("spheres", &["engine", "error", "inject", "model", "ranks", "sync"]),
    ("train", TRAIN),
];

/// What a run is made of.
const TRAIN: &[&str] =
    &["corpus", "engine", "error", "inject", "model", "ranks", "report", "spheres", "sync"];

/// The files that may contain unsafe code.
const UNSAFE: &[&str] = &[
    "corpus/map.rs",
    "corpus/tokenizer/ascii.rs",
    "corpus/tokenizer/fetch.rs",
    "engine/edge/mod.rs",
    "engine/pipeline/batch.rs",
    "engine/pipeline/claim.rs",
    "engine/pipeline/core.rs",
    "engine/pipeline/track.rs",
    "model/gemm/kernel.rs",
    "model/gemm/lanes.rs",
    "model/isa.rs",
    "ranks/mpi.rs",
    "spheres/shared.rs",
    "spheres/step.rs",
    "sync/deque.rs",
    "sync/exclusive.rs",
    "sync/once.rs",
    "sync/park.rs",
    "sync/ring.rs",
];

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    let mut all: Vec<_> =
        files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect();
    all.sort();
    assert!(all.len() > 40, "the tree was not found");
    all
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The code of a file without comments and without its tests at the end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.ends_with("twin.rs")
}

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let part = name.split(['/', '.']).next().unwrap().to_owned();
        let Some((_, allowed)) = MAY_USE.iter().find(|(p, _)| *p == part) else {
            assert_eq!(part, "lib", "{name} belongs to no part");
            continue;
        };
        for used in code(&text).split("crate::").skip(1) {
            let used: String =
                used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_part = MAY_USE.iter().any(|(p, _)| *p == used);
            if is_part && used != part && !allowed.contains(&used.as_str()) && !is_test(&name) {
                wrong.push(format!("{name} uses crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_and_functions_fit_a_sitting() {
    let mut long = Vec::new();
    for (name, text) in sources() {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES && !is_test(&name) {
            long.push(format!("{name}: {} lines", lines.len()));
        }
        let mut start = None;
        for (at, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let opens = ["fn ", "pub fn ", "pub(", "unsafe fn ", "const fn "];
            let is_function = opens.iter().any(|o| words.starts_with(o)) && words.contains("fn ");
            if start.is_none() && is_function && !words.ends_with([';', '}']) {
                start = Some((at, indent, words.to_owned()));
            }
            if let Some((from, depth, what)) = &start
                && *line == format!("{}}}", " ".repeat(*depth))
            {
                if at - from > FUNCTION_LINES {
                    long.push(format!("{name}:{}: {what} has {} lines", from + 1, at - from));
                }
                start = None;
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_file_opens_with_its_contract() {
    let bare: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| {
            !text.lines().take(9).any(|l| l.starts_with("//!")) && !is_test(name)
        })
        .map(|(name, _)| name)
        .collect();
    assert!(bare.is_empty(), "{bare:#?}");
}

#[test]
fn unsafe_code_stands_in_the_named_files_only() {
    for (name, text) in sources() {
        let has = code(&text).contains("unsafe {") || code(&text).contains("unsafe impl");
        assert!(!has || UNSAFE.contains(&name.as_str()), "unsafe code in {name}");
    }
}

/// Synchronisation enters by one door, and no hand-off takes a lock.
#[test]
fn atomics_threads_and_locks_enter_by_one_door() {
    let banned = [
        "std::sync::atomic",
        "std::sync::Mutex",
        "std::sync::Condvar",
        "std::sync::RwLock",
        "std::sync::mpsc",
        "std::sync::Barrier",
        "thread::spawn",
        "thread::park",
        "thread::Builder",
    ];
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        // The fault map is written from a signal handler; planted faults are of tests only.
        if name.starts_with("sync/")
            || ["corpus/map.rs", "inject.rs"].contains(&&*name)
            || is_test(&name)
        {
            continue;
        }
        let code = code(&text);
        wrong
            .extend(banned.iter().filter(|b| code.contains(**b)).map(|b| format!("{b} in {name}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_to_do_without_a_reason() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for (name, text) in sources() {
        for word in words {
            assert!(!text.contains(word), "{word} in {name}");
        }
    }
}
