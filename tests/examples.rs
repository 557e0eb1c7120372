//! The short examples as programs, on files that the tests write. What they say is compared with what
//! is known of the files, and with the machine's own tools where it has them.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/example.rs"]
mod example;
#[path = "common/watchdog.rs"]
mod watchdog;

use example::example;
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use watchdog::watchdog;

/// A user without rights, where the tests run as root.
const NOBODY: u32 = 65_534;

/// A file that opens, and whose first read fails: the memory at address 0.
const BROKEN: &str = "/proc/self/mem";

#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    let code = output.status.code();
    Ended {
        code: code.unwrap_or_else(|| panic!("{:?}", output.status)),
        stdout: output.stdout,
        stderr,
    }
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run<A: AsRef<OsStr>>(name: &str, args: &[A]) -> Ended {
    ended(start(Command::new(example(name)).args(args).stdin(Stdio::null())))
}

/// What the program says when it is given `input`, in pieces.
fn piped(program: &Path, args: &[&str], input: &[u8]) -> Option<Ended> {
    let mut command = Command::new(program);
    let spawned = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    // Not on this machine?
    let mut child = spawned.stderr(Stdio::piped()).spawn().ok()?;
    let mut stdin = child.stdin.take().unwrap();
    Some(std::thread::scope(|scope| {
        scope.spawn(move || input.chunks(70_001).try_for_each(|piece| stdin.write_all(piece)));
        ended(child)
    }))
}

/// Bytes that look like chance, in which some come again.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 59) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What stands in the folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let wrong: [(&str, &[&str]); 4] =
        [("hash", &[]), ("hash", &["a", "b"]), ("compress", &["a", "b"]), ("word_count", &[])];
    for (name, args) in wrong {
        let ended = run(name, args);
        assert!(ended.stderr.starts_with(&format!("usage: {name} ")), "{ended:?}");
        assert!(ended.code == 2 && ended.stdout.is_empty(), "{ended:?}");
    }
}

/// A folder with files of all kinds; those files in path order.
fn tree() -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut add = |name: &OsStr, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        files.push(path);
    };
    for (seed, len) in [0, 1, 55, 56, 64, 65_535, 65_536, 65_537, 3_000_000].into_iter().enumerate()
    {
        add(OsStr::new(&format!("sizes/{len}")), &noise(len, seed as u64));
    }
    for name in ["a b", "a/b", "a-b", "a/.hidden", "a/c/d/e", "é", "-v"] {
        add(OsStr::new(name), name.as_bytes());
    }
    add(OsStr::from_bytes(b"not \xff text"), b"x");
    (0..1_500).for_each(|n| add(OsStr::new(&format!("many/{n}")), &n.to_string().into_bytes()));
    fs::create_dir(folder.path().join("empty")).unwrap();
    symlink("a", folder.path().join("link to a folder")).unwrap();
    symlink("a-b", folder.path().join("link to a file")).unwrap();
    files.sort();
    (folder, files)
}

#[test]
fn hash_says_what_sha256sum_says() {
    let _watchdog = watchdog("hash");
    let (folder, files) = tree();
    let ended = run("hash", &[folder.path()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let mut expected = Vec::new();
    for path in &files {
        let hash = Sha256::digest(fs::read(path).unwrap());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        expected.extend([hash.as_bytes(), b"  ", path.as_os_str().as_bytes(), b"\n"].concat());
    }
    assert!(ended.stdout == expected, "{}", String::from_utf8_lossy(&ended.stdout));
    assert!(ended.stderr.contains(&format!("{} files, 0 not read", files.len())), "{ended:?}");
    if let Some(judged) = piped("sha256sum".as_ref(), &["--check", "--strict"], &ended.stdout) {
        assert_eq!(judged.code, 0, "{judged:?}");
    }
    let nothing = run("hash", &[folder.path().join("empty")]);
    assert!(nothing.code == 0 && nothing.stdout.is_empty(), "{nothing:?}");
}

#[test]
fn hash_names_and_counts_what_it_cannot_read_and_hashes_the_rest() {
    let _watchdog = watchdog("hash, unread");
    let (folder, files) = tree();
    let closed = [folder.path().join("a"), folder.path().join("many/7")];
    for path in &closed {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // A copy beside the files: another user need not reach the build's folder.
    let program = tempfile::tempdir().unwrap();
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = program.path().join("hash");
    fs::copy(example("hash"), &copy).unwrap();
    let mut command = Command::new(copy);
    command.arg(folder.path());
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let ended = ended(start(&mut command));
    fs::set_permissions(&closed[0], fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    for path in &closed {
        let line = format!("cannot read {}: Permission denied", path.display());
        assert!(ended.stderr.contains(&line), "{}", ended.stderr);
    }
    let below = files.iter().filter(|path| path.starts_with(&closed[0])).count();
    let count = format!("{} files, 2 not read", files.len() - below + 1);
    assert!(ended.stderr.contains(&count), "{}", ended.stderr);
    let lines = ended.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, files.len() - below - 1);
    let missing = run("hash", &[folder.path().join("missing")]);
    assert!(missing.code == 1 && missing.stderr.contains("missing: No such file"), "{missing:?}");
}

/// What all members hold together, by the crate and by `gunzip`.
fn unzipped(gz: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(gz).read_to_end(&mut bytes).unwrap();
    if let Some(judged) = piped("gunzip".as_ref(), &[], gz) {
        assert!(judged.code == 0 && judged.stdout == bytes, "{}", judged.stderr);
    }
    bytes
}

#[test]
fn compress_gives_what_gunzip_reads() {
    let _watchdog = watchdog("compress");
    const CHUNK: usize = 1 << 20;
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 9 * CHUNK + 17] {
        let input = noise(len, 1);
        let ended = piped(&example("compress"), &[], &input).unwrap();
        assert_eq!((ended.code, &*ended.stderr), (0, ""));
        assert!(unzipped(&ended.stdout) == input, "{len} bytes");
        // Five bits of eight are chance.
        assert!(len < CHUNK || ended.stdout.len() < len * 7 / 10, "{len}: {}", ended.stdout.len());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.txt");
        fs::write(&path, &input).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(run("compress", &[&path]).code, 0);
        assert_eq!(names(folder.path()), ["in.txt", "in.txt.gz"]);
        let gz = folder.path().join("in.txt.gz");
        assert!(fs::read(&gz).unwrap() == ended.stdout);
        assert_eq!(fs::metadata(&gz).unwrap().mode() & 0o777, 0o640);
    }
}

#[test]
fn compress_writes_whole_or_not_at_all_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("old"), "text").unwrap();
    fs::write(path("old.gz"), "another").unwrap();
    fs::create_dir(path("folder")).unwrap();
    symlink(BROKEN, path("broken")).unwrap();
    let before = names(folder.path());
    for (name, reason) in [
        ("old", "File exists"),
        ("missing", "No such file"),
        ("folder", "Is a directory"),
        ("broken", "Input/output error"),
    ] {
        let ended = run("compress", &[path(name)]);
        assert!(ended.code == 1 && ended.stderr.contains(reason), "{ended:?}");
        assert!(ended.stderr.contains(path(name).to_str().unwrap()), "{ended:?}");
        assert_eq!(names(folder.path()), before, "{name}");
    }
    assert_eq!(fs::read(path("old.gz")).unwrap(), b"another");
    let full = fs::File::create("/dev/full").unwrap();
    let from = fs::File::open(path("old")).unwrap();
    let mut command = Command::new(example("compress"));
    let child = command.stdin(from).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let ended = ended(child);
    assert!(ended.code == 1 && ended.stderr.contains("No space left"), "{ended:?}");
}

/// The input has no end, so only the signal ends the program.
#[test]
fn compress_ends_on_ctrl_c_and_leaves_nothing_behind() {
    let _watchdog = watchdog("compress, Ctrl-C");
    let folder = tempfile::tempdir().unwrap();
    let endless = folder.path().join("endless");
    symlink("/dev/zero", &endless).unwrap();
    let child = start(Command::new(example("compress")).arg(&endless).stdin(Stdio::null()));
    // The file is made before the program listens: bytes in it say that it listens.
    let written = || {
        let entries =
            fs::read_dir(folder.path()).unwrap().filter_map(|e| e.unwrap().metadata().ok());
        entries.filter(|of| of.is_file()).any(|of| of.len() > 0)
    };
    while !written() {
        std::thread::yield_now();
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ended = ended(child);
    assert_eq!((ended.code, &*ended.stderr), (130, ""));
    assert_eq!(names(folder.path()), ["endless"]);
}

#[test]
fn word_count_counts_each_word_of_each_file_once() {
    let _watchdog = watchdog("word count");
    let folder = tempfile::tempdir().unwrap();
    let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut paths = Vec::new();
    for file in 0..60_u64 {
        let mut text = Vec::new();
        // A few long files, one of them empty.
        let words = noise([0, 40, 40, 20_000][file as usize % 4], file);
        for pair in words.chunks(2) {
            let word = [b"w\xff", pair].concat().iter().map(|b| b | 0x40).collect::<Vec<u8>>();
            text.extend([&word[..], [" ", "\n", "\t \r\n"][word.len() % 3].as_bytes()].concat());
            *counts.entry(word).or_default() += 1;
        }
        paths.push(folder.path().join(file.to_string()));
        fs::write(&paths[file as usize], text).unwrap();
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n)); // Stable: by word where they tie.
    let line = |(word, n): &(Vec<u8>, u64)| [format!("{n} ").as_bytes(), word, b"\n"].concat();
    let expected: Vec<u8> = counts.iter().flat_map(line).collect();
    assert!(counts.len() > 500);

    let ended = run("word_count", &paths);
    assert_eq!((ended.code, &*ended.stderr), (0, ""));
    assert!(ended.stdout == expected, "{}", String::from_utf8_lossy(&ended.stdout));
    let nothing = run("word_count", &paths[..1]);
    assert!(nothing.code == 0 && nothing.stdout.is_empty(), "{nothing:?}");

    // With what cannot be read among them: the same counts, each named, and an exit code.
    let broken = folder.path().join("broken");
    symlink(BROKEN, &broken).unwrap();
    let wrong = [folder.path().join("missing"), folder.path().to_owned(), broken];
    for (at, path) in wrong.iter().enumerate() {
        paths.insert(20 * at, path.clone());
    }
    let ended = run("word_count", &paths);
    assert_eq!(ended.code, 1);
    let reasons = ["No such file", "Is a directory", "Input/output error"];
    let told: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(told.len(), 3, "{told:?}");
    for ((path, reason), line) in wrong.iter().zip(reasons).zip(told) {
        assert!(line.starts_with(&format!("{}: {reason}", path.display())), "{line}");
    }
    assert!(ended.stdout == expected);
}
