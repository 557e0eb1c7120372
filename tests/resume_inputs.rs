//! Inputs of every kind, on a resume, when they are read again, and when they are explained.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/example.rs"]
mod example;
#[path = "common/mixed.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod mixed;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use example::example;
use tempfile::{TempDir, tempdir};
use tiny::{on, tiny, train};
use twelvefold::report::{Observer, Progress, RunReport};
use twelvefold::train::checkpoint::LAYOUT;
use twelvefold::train::explain::explain;
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A record's text, which the same number always gives.
fn record(number: u64) -> String {
    mixed::prose(number, 150)
}

/// A text of the second folder.
fn plain(file: u64) -> String {
    mixed::prose(1000 + file, 2_000)
}

/// Two folders: packed records, each fourth line bad, and text, every other one packed.
fn inputs() -> TempDir {
    let folder = tempdir().unwrap();
    for name in ["records", "plain"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for file in 0..6 {
        let line = |i: u64| match i % 4 {
            3 => "no record\n".to_owned(),
            _ => format!("{}\n", serde_json::json!({ "body": record(file * 100 + i) })),
        };
        let lines: String = (0..12).map(line).collect();
        let path = folder.path().join(format!("records/{file}.jsonl.gz"));
        fs::write(path, gzip(lines.as_bytes())).unwrap();
        let path = folder.path().join(format!("plain/{file}"));
        match file % 2 {
            0 => fs::write(path, plain(file)).unwrap(),
            _ => fs::write(path.with_extension("zst"), zstd(plain(file).as_bytes())).unwrap(),
        }
    }
    folder
}

/// A mixture of both, over more than an epoch.
fn mixture(folder: &TempDir) -> Options {
    let [records, plain] = ["records", "plain"].map(|name| folder.path().join(name));
    Options {
        weights: vec![0.3, 0.7],
        field: "body".to_owned(),
        steps: 500,
        checkpoint_every: 0,
        ..on(&[&records, &plain], tiny())
    }
}

/// Asks for a stop after a step.
struct Stop(u64, Cancel);

impl Observer for Stop {
    fn step(&mut self, progress: &Progress) {
        if progress.step == self.0 {
            self.1.request();
        }
    }
}

fn stopped(options: &Options, step: u64) {
    let cancel = Cancel::new();
    let report = run(options, &cancel, &mut Stop(step, cancel.clone())).unwrap();
    assert_eq!((report.steps, report.interrupted), (step, true));
}

fn resumed(options: &Options) -> Result<RunReport, String> {
    let options = Options { resume: true, ..options.clone() };
    run(&options, &Cancel::new(), &mut ()).map_err(|e| e.to_string())
}

/// Packed records and text, mixed, with bad records, read again under a small budget, stopped in the
/// first epoch or in a later one.
#[test]
fn a_mixture_of_packed_records_goes_on_to_the_weights_of_a_run_that_never_stopped() {
    let _watchdog = watchdog("a mixture goes on");
    let folder = inputs();
    for tokenizer in ["bytes", "bpe:300"] {
        let options = Options { tokenizer: tokenizer.to_owned(), ..mixture(&folder) };
        let whole = train(&options).unwrap();
        assert_eq!((whole.corpus.documents, whole.corpus.bad_records), (6 * 9 + 6, 6 * 3));
        for (step, token_memory) in [(20, 1 << 30), (20, 4096), (450, 4096)] {
            let out = tempdir().unwrap();
            let options = Options { out: out.path().join("out"), token_memory, ..options.clone() };
            stopped(&options, step);
            let report = resumed(&Options { tokenizers: 3, ..options }).unwrap();
            assert_eq!(report.resumed_from, Some(step));
            assert_eq!(report.receipt, whole.receipt, "{tokenizer} {step}");
            assert_eq!(report.weights_sha256, whole.weights_sha256, "{tokenizer} {step}");
            assert_eq!(report.val_bits_per_byte, whole.val_bits_per_byte);
            assert_eq!(report.corpus.bad_records, 6 * 3, "as the first pass found them");
            let again = if token_memory == 4096 { 1 } else { 0 };
            assert!(report.corpus.rewound >= again && (again == 1 || report.corpus.rewound == 0));
        }
    }
}

#[test]
fn what_decides_what_is_read_is_a_setting_that_a_resume_compares() {
    let _watchdog = watchdog("changed inputs");
    let (folder, out) = (inputs(), tempdir().unwrap());
    let options = Options { out: out.path().join("out"), ..mixture(&folder) };
    stopped(&options, 5);
    for (words, changed) in [
        ("--field was body and is text", Options { field: "text".to_owned(), ..options.clone() }),
        ("--gitignore was false and is true", Options { gitignore: true, ..options.clone() }),
        (
            "the weights of --mix was [0.3,0.7] and is [0.5,0.7]",
            Options { weights: vec![0.5, 0.7], ..options.clone() },
        ),
    ] {
        let message = resumed(&changed).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
    // The inputs of a mixture lie where they may, but their places decide.
    let swapped = Options { paths: options.paths.iter().rev().cloned().collect(), ..options };
    let message = resumed(&swapped).unwrap_err();
    assert!(message.contains("the text is not the one that was trained"), "{message}");
}

/// Its name decides nothing, and what it holds does, whatever is allowed.
#[test]
fn a_tokenizers_file_may_lie_elsewhere_but_not_be_another() {
    let _watchdog = watchdog("another tokenizer's file");
    let (folder, out) = (inputs(), tempdir().unwrap());
    let made = |name: &str, path: &Path| -> PathBuf {
        let options = Options {
            out: out.path().join(name),
            tokenizer: "bpe:300".to_owned(),
            ..on(&[path], tiny())
        };
        run(&options, &Cancel::new(), &mut ()).unwrap();
        options.out.join("tokenizer.json")
    };
    let one = made("one", &folder.path().join("plain"));
    let two = made("two", Path::new(file!()));
    let file = out.path().join("a.json");
    fs::copy(&one, &file).unwrap();
    let named = |path: &Path| path.display().to_string();
    let options = Options {
        out: out.path().join("run"),
        tokenizer: named(&file),
        steps: 20,
        ..mixture(&folder)
    };
    stopped(&options, 5);
    fs::copy(&two, &file).unwrap();
    for allow_changes in [false, true] {
        let message = resumed(&Options { allow_changes, ..options.clone() }).unwrap_err();
        assert!(message.contains("the tokenizer's SHA-256 was "), "{message}");
        assert!(message.contains("hint: resume with the settings"), "{message}");
    }
    let moved = Options { tokenizer: named(&one), ..options.clone() };
    let other = Options { out: out.path().join("other"), ..moved.clone() };
    let expected = run(&other, &Cancel::new(), &mut ()).unwrap();
    assert_eq!(resumed(&moved).unwrap().weights_sha256, expected.weights_sha256);
}

/// Six steps with a checkpoint after each.
const SIX: [&str; 6] = ["--tokenizer", "bytes", "--steps", "6", "--checkpoint-every", "1"];

/// The example on standard input that gives text, or what the name of the file says.
fn piped(out: &Path, text: &Path, arguments: &[&str]) -> Output {
    let input = if text.extension().is_some() { "-.jsonl" } else { "-" };
    let small = "--layers 1 --heads 1 --width 8 --context 16 --batch 2 --spheres 1";
    let mut command = Command::new(example("pipeline"));
    command.arg("--out").arg(out).args(small.split(' ')).args(arguments).args(["--", input]);
    command.stdin(fs::File::open(text).unwrap()).output().unwrap()
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn standard_input_goes_on_with_the_same_text_and_is_refused_with_another() {
    let _watchdog = watchdog("standard input goes on");
    let folder = tempdir().unwrap();
    let [text, other, out] = ["text", "other", "out"].map(|name| folder.path().join(name));
    fs::write(&text, mixed::prose(1, 40_000)).unwrap();
    fs::write(&other, mixed::prose(2, 40_000)).unwrap();
    assert!(piped(&out, &text, &SIX).status.success());
    let weights = fs::read(out.join("model.safetensors")).unwrap();
    for name in LAYOUT.names.iter().chain(&["report.json"]) {
        fs::remove_file(out.join(name)).unwrap();
    }
    let refused = piped(&out, &other, &[&SIX[..], &["--resume"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    let message = text_of(&refused.stderr);
    assert!(message.contains("the text is not the one that was trained"), "{message}");
    let done = piped(&out, &text, &[&SIX[..], &["--resume"]].concat());
    assert!(done.status.success(), "{}", text_of(&done.stderr));
    let told = text_of(&done.stdout) + &text_of(&done.stderr);
    assert!(told.contains("resuming at step 5 of 6"), "{told}");
    assert!(told.contains("standard input must give the text of the run again"), "{told}");
    assert!(fs::read(out.join("model.safetensors")).unwrap() == weights);
}

#[test]
fn more_of_standard_input_than_is_kept_cannot_be_had_again() {
    let _watchdog = watchdog("standard input once");
    let folder = tempdir().unwrap();
    let [text, out] = ["text.jsonl", "out"].map(|name| folder.path().join(name));
    // More than one document: until validation text is found, all is kept.
    let line = |i| format!("{}\n", serde_json::json!({ "text": record(i) }));
    fs::write(&text, (0..300).map(line).collect::<String>()).unwrap();
    for tokenizer in ["bytes", "bpe:300"] {
        let arguments = ["--token-memory", "4K", "--steps", "4000", "--tokenizer", tokenizer];
        let output = piped(&out, &text, &arguments);
        let message = text_of(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("standard input cannot be read again"), "{message}");
        assert!(message.contains("raise --token-memory"), "{message}");
        let _ = fs::remove_dir_all(&out);
    }
}

#[test]
fn a_sequence_of_records_is_explained_by_their_lines_and_bytes() {
    let _watchdog = watchdog("explained records");
    let folder = inputs();
    let options = mixture(&folder);
    let (mut lines, mut files, mut packed) = (0, 0, 0);
    for batch in (0..600).step_by(15) {
        for part in explain(&options, batch).unwrap().origins.into_iter().flatten() {
            assert!(part.exact, "{part:?}");
            let path = part.path.unwrap();
            let bytes = part.bytes.start as usize..part.bytes.end as usize;
            let Some((file, line)) = path.rsplit_once(".jsonl.gz:") else {
                let (file, is_packed) = match path.strip_suffix(".zst") {
                    Some(file) => (file, true),
                    None => (path.as_str(), false),
                };
                *if is_packed { &mut packed } else { &mut files } += 1;
                let file: u64 = file.rsplit_once('/').unwrap().1.parse().unwrap();
                assert!(!is_packed || file % 2 == 1);
                assert!(plain(file).len() >= bytes.end, "{path} {bytes:?}");
                continue;
            };
            lines += 1;
            let number: u64 = file.rsplit_once('/').unwrap().1.parse().unwrap();
            let line: u64 = line.parse().unwrap();
            assert!(!line.is_multiple_of(4), "line {line} is no record");
            assert!(record(number * 100 + line - 1).len() >= bytes.end, "{path} {bytes:?}");
        }
    }
    assert!(lines > 10 && files > 5 && packed > 5, "{lines} {files} {packed}");
}
