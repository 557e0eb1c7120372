//! The command `twelvefold`: exports that other tools read, and explanations of a run.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/mixed.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod mixed;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::{TempDir, tempdir};
use tiny::{on, tiny};
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

fn twelvefold(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twelvefold"));
    command.args(arguments).args(paths).output().unwrap()
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(arguments: &[&str], paths: &[&Path]) -> String {
    let output = twelvefold(arguments, paths);
    assert!(output.status.success(), "{output:?}");
    text_of(&output.stdout)
}

fn failed(arguments: &[&str], paths: &[&Path]) -> String {
    let output = twelvefold(arguments, paths);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    text_of(&output.stderr)
}

/// Three files: short, of several chunks, empty.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("a"), "abc").unwrap();
    fs::write(folder.path().join("b"), mixed::prose(1, 600_000)).unwrap();
    fs::write(folder.path().join("c"), "").unwrap();
    folder
}

fn u16s(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn tokens_of(folder: &TempDir) -> Vec<u16> {
    let text = fs::read(folder.path().join("b")).unwrap();
    let b = text.iter().map(|byte| u16::from(*byte));
    [97, 98, 99, 256].into_iter().chain(b).chain([256]).collect()
}

#[test]
fn an_export_for_llm_c_has_its_header_and_every_token() {
    let _watchdog = watchdog("llm.c");
    let (folder, out) = (folder(), tempdir().unwrap());
    let file = out.path().join("train.bin");
    let out = file.to_str().unwrap();
    let arguments = ["tokenize", "--tokenizer", "bytes", "--format", "llmc", "--out", out];
    let tokens = tokens_of(&folder);
    let told = done(&arguments, &[folder.path()]);
    assert_eq!(told, format!("{} tokens of 2 documents written to {out}\n", tokens.len()));
    let bytes = fs::read(&file).unwrap();
    let word = |at: usize| i32::from_le_bytes(bytes[4 * at..4 * at + 4].try_into().unwrap());
    assert_eq!((word(0), word(1), word(2)), (20_240_520, 1, tokens.len() as i32 + 1));
    assert!((3..256).all(|at| word(at) == 0));
    assert_eq!(u16s(&bytes[1024..]), [vec![256], tokens].concat());
    assert!(done(&arguments, &[folder.path()]).contains("already in"));
}

#[test]
fn what_an_export_leaves_out_is_counted_and_named() {
    let _watchdog = watchdog("left out");
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(folder.path().join("a.jsonl"), "{\"text\":\"abc\"}\nbroken\n{\"x\":1}\n").unwrap();
    fs::write(folder.path().join("b"), [0, 1, 2]).unwrap();
    let file = out.path().join("train.bin");
    let export = |path: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twelvefold"));
        command.args(["tokenize", "--tokenizer", "bytes", "--format", "llmc", "--out"]);
        command.arg(&file).arg(path).args(more).output().unwrap()
    };
    let output = export(folder.path(), &[]);
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("1 files skipped") && told.contains("2 bad records"), "{told}");
    assert!(told.contains("b: ") && told.contains("a.jsonl:2: "), "{told}");
    // Beyond the limit it ends, and where nothing is left it says why.
    let told = |path: &Path, more: &[&str]| {
        let output = export(path, more);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(told(folder.path(), &["--bad-records", "1"]).contains("more than 1 bad records"));
    let other = told(&folder.path().join("a.jsonl"), &["--field", "body"]);
    assert!(other.contains("the input has no text (") && other.contains("body"), "{other}");
}

#[test]
fn an_export_for_megatron_has_an_index_of_its_documents() {
    let _watchdog = watchdog("Megatron");
    let (folder, out) = (folder(), tempdir().unwrap());
    let prefix = out.path().join("corpus.text");
    let out = prefix.to_str().unwrap();
    done(
        &["tokenize", "--tokenizer", "bytes", "--format", "megatron", "--out", out],
        &[folder.path()],
    );
    let tokens = tokens_of(&folder);
    let bin = fs::read(format!("{out}.bin")).unwrap();
    assert_eq!(u16s(&bin), tokens);
    let idx = fs::read(format!("{out}.idx")).unwrap();
    let second = tokens.len() as i32 - 4;
    let mut expected = b"MMIDIDX\0\0".to_vec();
    expected.extend(1_u64.to_le_bytes());
    expected.push(8);
    expected.extend([2_u64, 3].iter().flat_map(|n| n.to_le_bytes()));
    expected.extend([4_i32, second].iter().flat_map(|n| n.to_le_bytes()));
    expected.extend([0_i64, 8].iter().flat_map(|n| n.to_le_bytes()));
    expected.extend([0_i64, 1, 2].iter().flat_map(|n| n.to_le_bytes()));
    assert_eq!(idx, expected);
}

#[test]
fn an_export_onto_another_one_is_refused_with_what_differs() {
    let _watchdog = watchdog("another export");
    let (folder, out) = (folder(), tempdir().unwrap());
    let file = out.path().join("train.bin");
    let path = file.to_str().unwrap();
    let export = |tokenizer: &'static str, format: &'static str| {
        ["tokenize", "--tokenizer", tokenizer, "--format", format, "--out", path]
    };
    done(&export("bytes", "llmc"), &[folder.path()]);
    let before = fs::read(&file).unwrap();
    let message = failed(&export("bpe:300", "llmc"), &[folder.path()]);
    assert!(message.contains("the tokenizer was bytes and is bpe:300"), "{message}");
    assert!(
        message.contains("the vocabulary was ") && !message.contains("the text was"),
        "{message}"
    );
    let message = failed(&export("bytes", "megatron"), &[folder.path()]);
    assert!(message.contains("the format was LlmC and is Megatron"), "{message}");
    fs::write(folder.path().join("a"), "abd").unwrap();
    let message = failed(&export("bytes", "llmc"), &[folder.path()]);
    assert!(message.contains("the text was ") && message.contains("--overwrite"), "{message}");
    assert!(fs::read(&file).unwrap() == before);
    let mut overwrite = export("bytes", "llmc").to_vec();
    overwrite.push("--overwrite");
    assert!(done(&overwrite, &[folder.path()]).contains("written to"));
    assert_ne!(fs::read(&file).unwrap(), before);
    // A note that is none.
    fs::write(out.path().join("train.bin.json"), "{}").unwrap();
    let message = failed(&export("bytes", "llmc"), &[folder.path()]);
    assert!(message.contains("is no note of an export"), "{message}");
    assert!(failed(&export("bytes", "llmc"), &[&folder.path().join("c")]).contains("no text"));
}

#[test]
fn a_micro_batch_of_a_run_is_explained_by_its_files() {
    let _watchdog = watchdog("explain a run");
    let (folder, out) = (folder(), tempdir().unwrap());
    let options =
        on(&[folder.path()], Options { shuffle_files: false, shuffle_window: 1, ..tiny() });
    let options = Options { out: out.path().join("out"), ..options };
    run(&options, &Cancel::new(), &mut ()).unwrap();
    let run_folder = options.out.to_str().unwrap();
    let told = done(&["explain", "--run", run_folder, "--batch", "0"], &[]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let expected = format!(
        "micro-batch 0: 2 sequences\nepoch 0, sequence 0\n  {}: bytes 0 to 3\n  {}: bytes 0 to 12\n\
         epoch 0, sequence 1\n  {}: bytes 11 to 28\n",
        path("a"),
        path("b"),
        path("b"),
    );
    assert_eq!(told, expected);
    // The text has moved.
    let moved = tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::rename(path(name), moved.path().join(name)).unwrap();
    }
    let arguments = ["explain", "--run", run_folder, "--batch", "0"];
    let told = done(&arguments, &[moved.path()]);
    assert!(told.contains(moved.path().to_str().unwrap()), "{told}");
    let message =
        failed(&["explain", "--run", moved.path().to_str().unwrap(), "--batch", "0"], &[]);
    assert!(
        message.contains("settings.json") && message.contains("hint: give the folder"),
        "{message}"
    );
}
