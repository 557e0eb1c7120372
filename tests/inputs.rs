//! The inputs and tokenizers that a run takes, as a user gives them on the command line.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/desk.rs"]
mod desk;
#[path = "common/example.rs"]
mod example;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use desk::Desk;
use example::example;
use twelvefold::report::RunReport;
use watchdog::watchdog;

const SMALL: &str = "--layers 1 --heads 1 --width 8 --context 16 --batch 2 --steps 3";

impl Desk {
    fn command(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(example("pipeline"));
        command.arg("--out").arg(self.path(out)).args(SMALL.split(' ')).args(arguments);
        command.current_dir(self.0.path());
        command
    }

    fn report(&self, out: &str) -> RunReport {
        serde_json::from_slice(&fs::read(self.path(out).join("report.json")).unwrap()).unwrap()
    }

    /// Runs to a good end, and gives its report.
    fn run(&self, out: &str, arguments: &[&str]) -> RunReport {
        let output = self.command(out, arguments).output().unwrap();
        assert!(output.status.success(), "{}", message(&output));
        self.report(out)
    }

    /// Runs what is refused: exit code and message.
    fn refusal(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command("refused", arguments).output().unwrap();
        assert!(!self.path("refused/report.json").exists());
        (output.status.code(), message(&output))
    }
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn text() -> String {
    (0..3000).map(|i| format!("line {i} of the text\n")).collect()
}

/// Packed or from standard input, the same text gives the same weights.
#[test]
fn text_gives_the_same_weights_whichever_way_it_comes() {
    let _watchdog = watchdog("the ways of text");
    let desk = Desk::new();
    desk.write("plain", text());
    desk.write("packed.gz", gzip(text().as_bytes()));
    let record = serde_json::json!({ "body": text(), "id": 1 });
    desk.write("records.jsonl", format!("{record}\n"));
    let expected = desk.run("0", &["plain"]).weights_sha256;
    assert_eq!(desk.run("1", &["packed.gz"]).weights_sha256, expected);
    assert_eq!(desk.run("2", &["records.jsonl", "--field", "body"]).weights_sha256, expected);
    for (out, path, file) in [("3", "-", "plain"), ("4", "-.gz", "packed.gz")] {
        let mut command = desk.command(out, &["--", path]);
        command.stdin(fs::File::open(desk.path(file)).unwrap());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", message(&output));
        let report = desk.report(out);
        assert_eq!(report.weights_sha256, expected, "{path}");
        assert_eq!((report.corpus.files, report.corpus.opened), (1, 1));
    }
}

/// Nobody writes, and nobody closes: with a tokenizer that learns and with one that does not.
#[test]
fn ctrl_c_ends_a_run_that_waits_for_standard_input() {
    let _watchdog = watchdog("silent standard input");
    for tokenizer in ["bytes", "bpe:300"] {
        let desk = Desk::new();
        let mut command = desk.command("out", &["-", "--tokenizer", tokenizer]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut silent = child.stdin.take().unwrap();
        silent.write_all(b"some text, and then nothing").unwrap();
        // The plan is printed before the loader starts to wait.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 20]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", message(&output));
        drop(silent);
    }
}

#[test]
fn bad_records_are_reported_up_to_the_limit_and_stop_the_run_beyond() {
    let _watchdog = watchdog("bad records");
    let desk = Desk::new();
    let good = serde_json::json!({ "text": text() });
    desk.write("a.jsonl", format!("nonsense\n{good}\n{{\"t\":1}}\n"));
    let corpus = desk.run("0", &["a.jsonl", "--bad-records", "2"]).corpus;
    assert_eq!((corpus.bad_records, corpus.documents), (2, 1));
    let named: Vec<&str> = corpus.bad.iter().map(|bad| bad.path.as_str()).collect();
    assert_eq!(named, ["a.jsonl:1", "a.jsonl:3"]);
    let (code, message) = desk.refusal(&["a.jsonl", "--bad-records", "1"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("more than 1 bad records; this one is a.jsonl:3: it has no field"));
    assert!(message.contains("--bad-records"), "{message}");
}

#[test]
fn a_mixture_is_taken_by_weight_and_wrong_weights_are_refused() {
    let _watchdog = watchdog("a mixture");
    let desk = Desk::new();
    desk.write("a", text());
    desk.write("b", "other words ".repeat(5000));
    let corpus = desk.run("0", &["--mix", "a=0.7", "b=0.3"]).corpus;
    assert_eq!((corpus.opened, corpus.documents), (2, 2));
    for wrong in ["a", "a=0", "a=x", "=1", "a=inf"] {
        let (code, message) = desk.refusal(&["--mix", wrong]);
        assert_eq!(code, Some(2), "{wrong}");
        assert!(message.contains("PATH=WEIGHT"), "{message}");
    }
    assert_eq!(desk.refusal(&["a", "--mix", "b=1"]).0, Some(2), "either paths or a mixture");
}

/// The tokenizer that a run leaves is one that a later run takes: the same ids, the same weights.
#[test]
fn a_run_takes_the_tokenizer_that_another_one_left() {
    let _watchdog = watchdog("a tokenizer that was left");
    let desk = Desk::new();
    desk.write("text", text());
    let first = desk.run("0", &["text", "--tokenizer", "bpe:400"]);
    let again = desk.run("1", &["text", "--tokenizer", "0/tokenizer.json"]);
    assert_eq!(again.weights_sha256, first.weights_sha256);
    let left = |out: &str| fs::read(desk.path(out).join("tokenizer.json")).unwrap();
    assert!(left("0") == left("1"));
}

#[test]
fn a_tokenizer_that_cannot_be_used_is_named_with_the_reason() {
    let _watchdog = watchdog("bad tokenizers");
    let desk = Desk::new();
    let text = desk.write("text", text());
    let text = Path::to_str(&text).unwrap();
    desk.write("a.json", "{\"model\":{\"type\":\"Unigram\"}}");
    desk.write("a.tiktoken", "IQ== 0\n?\n");
    for (tokenizer, code, expected) in [
        ("missing.json", 1, "cannot open missing.json: No such file"),
        ("a.json", 1, "cannot use a.json as a tokenizer: its text is cut by none"),
        ("a.tiktoken:gpt2", 1, "cannot use a.tiktoken as a tokenizer: line 2: it is not"),
        ("a.tiktoken", 2, "a PATH.tiktoken:PATTERN"),
        ("a.tiktoken:gpt9", 2, "a PATH.tiktoken:PATTERN"),
    ] {
        let (found, message) = desk.refusal(&[text, "--tokenizer", tokenizer]);
        assert_eq!(found, Some(code), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}
