//! The program as a user meets it on a bad day: a clear word, the stated exit code, nothing
//! half-written, no panic, no hang.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "common/desk.rs"]
mod desk;
#[path = "common/example.rs"]
mod example;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

use desk::Desk;
use example::example;
use safetensors::SafeTensors;
use twelvefold::report::RunReport;
use twelvefold::train::safetensors::sha256_of_file;
use watchdog::watchdog;

/// A model so small that a step takes no time.
const SMALL: [&str; 16] = [
    "--layers",
    "1",
    "--heads",
    "1",
    "--width",
    "8",
    "--context",
    "16",
    "--batch",
    "2",
    "--micro-batches",
    "1",
    "--steps",
    "3",
    "--checkpoint-every",
    "0",
];

/// A user without rights, where the tests run as root.
const NOBODY: u32 = 65_534;

impl Desk {
    /// What stands in the output folder, sorted.
    fn outputs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("out")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn report(&self) -> RunReport {
        serde_json::from_slice(&fs::read(self.path("out/report.json")).unwrap()).unwrap()
    }

    /// The program on `paths` with a small model, but for the flags in `more`.
    fn command(&self, paths: &[&Path], more: &[&str]) -> Command {
        let small = SMALL.chunks(2).filter(|pair| !more.contains(&pair[0])).flatten();
        let mut command = Command::new(example("pipeline"));
        command.args(paths).arg("--out").arg(self.path("out")).args(small).args(more);
        command
    }

    /// Runs it to its end.
    fn run(&self, paths: &[&Path], more: &[&str]) -> Ended {
        ended(&mut self.command(paths, more))
    }

    /// What a run that failed leaves, but for the whole lines of the steps that it did.
    fn remains(&self) -> Vec<String> {
        let mut names = self.outputs();
        if let Some(at) = names.iter().position(|name| name == "metrics.jsonl") {
            let lines = fs::read_to_string(self.path("out/metrics.jsonl")).unwrap();
            assert!(lines.starts_with('{') && lines.ends_with("}\n"), "{lines}");
            names.remove(at);
        }
        names
    }

    /// Runs what is refused: exit code and message. Nothing is left, nor an empty output folder.
    fn refusal(&self, paths: &[&Path], more: &[&str]) -> (i32, String) {
        let was_there = self.path("out").exists();
        let ended = self.run(paths, more);
        assert_eq!(self.remains(), [""; 0], "{ended:?}");
        let has_lines = !self.outputs().is_empty();
        assert_eq!(self.path("out").exists(), was_there || has_lines, "{ended:?}");
        assert!(ended.stderr.starts_with("error: "), "{ended:?}");
        (ended.code, ended.stderr)
    }
}

#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    let code = output.status.code();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Ended { code: code.unwrap_or_else(|| panic!("{:?}: {stderr}", output.status)), stdout, stderr }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

const TOO_FEW: &str = "error: the input has too few tokens: ";

mod an_input {
    use super::*;

    #[test]
    fn that_does_not_exist_is_named() {
        let _watchdog = watchdog("a missing path");
        let desk = Desk::new();
        let good = desk.write("a.txt", "text ".repeat(100));
        let missing = desk.path("missing");
        let (code, message) = desk.refusal(&[&good, &missing], &[]);
        assert_eq!(code, 1);
        let start = format!("error: cannot find {}: No such file", missing.display());
        assert!(message.starts_with(&start), "{message}");
    }

    #[test]
    fn without_text_gives_the_numbers_and_says_what_was_skipped() {
        let _watchdog = watchdog("an input without text");
        let desk = Desk::new();
        fs::create_dir(desk.path("empty-folder")).unwrap();
        desk.write("binary/a", "a\0b");
        desk.write("binary/b", "\0");
        desk.write("empty", "");
        desk.write(".hidden/f/.g", "text");
        assert!(Command::new("mkfifo").arg(desk.path("fifo")).status().unwrap().success());
        let cases: [(&str, &[&str]); 5] = [
            ("empty-folder", &[]),
            ("binary", &["a: binary: a NUL at byte 1", "b: binary: a NUL at byte 0"]),
            ("empty", &["empty: empty"]),
            (".hidden/f", &[".g: hidden"]),
            ("fifo", &["fifo: a FIFO, not a regular file"]),
        ];
        for tokenizer in ["bytes", "bpe:300", "words:50"] {
            for (name, reasons) in cases {
                let (code, message) =
                    desk.refusal(&[&desk.path(name)], &["--tokenizer", tokenizer]);
                assert_eq!(code, 1);
                let numbers = format!("{TOO_FEW}0, in 0 documents with 0 bytes; one training");
                assert!(message.starts_with(&numbers), "{message}");
                assert_eq!(message.matches("skipped ").count(), reasons.len(), "{message}");
                for reason in reasons {
                    assert!(message.contains(reason), "{message}");
                }
            }
        }
    }

    #[test]
    fn of_many_files_without_text_has_a_message_that_fits_a_screen() {
        let _watchdog = watchdog("many binary files");
        let desk = Desk::new();
        for i in 0..50 {
            desk.write(&format!("binary/{i}"), "\0");
        }
        let (_, message) = desk.refusal(&[&desk.path("binary")], &[]);
        assert!(message.contains("\nand 40 more\n") && message.lines().count() < 15, "{message}");
    }

    #[test]
    fn of_two_bytes_is_too_few_and_says_how_many_are_needed() {
        let _watchdog = watchdog("two bytes");
        let desk = Desk::new();
        let two = desk.write("two", "ab");
        for tokenizer in ["bytes", "bpe:300", "words:50"] {
            let (code, message) = desk.refusal(&[&two], &["--tokenizer", tokenizer]);
            assert_eq!(code, 1);
            assert!(message.starts_with(TOO_FEW), "{message}");
            assert!(message.contains("in 1 documents with 2 bytes"), "{message}");
            assert!(message.contains("of --context 16 take 32\nhint: give more text"), "{message}");
        }
        // The smallest that is enough.
        let enough = desk.write("enough", "a".repeat(31));
        assert_eq!(desk.run(&[&enough], &["--tokenizer", "bytes"]).code, 0);
        assert_eq!(desk.report().corpus.tokens, 32);
    }

    #[test]
    fn that_may_not_be_read_is_skipped_and_named() {
        let _watchdog = watchdog("an unreadable file");
        let desk = Desk::new();
        let secret = desk.write("in/secret", "text");
        desk.write("in/closed/f", "text");
        desk.write("in/text", "text ".repeat(100));
        fs::create_dir(desk.path("out")).unwrap();
        fs::set_permissions(desk.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(desk.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
        let closed = desk.path("in/closed");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let as_user = |command: &mut Command| {
            if is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
        };
        let mut probe = Command::new(example("pipeline"));
        probe.arg("--help");
        as_user(&mut probe);
        if probe.output().is_err() {
            println!("skipped: another user may not run the program here");
            return;
        }
        let mut command = desk.command(&[&desk.path("in")], &[]);
        as_user(&mut command);
        let ended = ended(&mut command);
        assert_eq!(ended.code, 0, "{ended:?}");
        let skipped: Vec<(String, String)> =
            desk.report().corpus.skipped.into_iter().map(|s| (s.path, s.reason)).collect();
        let reason = "cannot be read: Permission denied (os error 13)".to_owned();
        let expected = [&closed, &secret].map(|p| (p.display().to_string(), reason.clone()));
        assert_eq!(skipped, expected);
        for path in [&closed, &secret] {
            let line = format!("skipped {}: {reason}", path.display());
            assert!(ended.stdout.contains(&line), "{ended:?}");
        }

        // Alone, it is an input without text.
        let again = Desk::new();
        fs::set_permissions(again.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = again.command(&[&secret], &[]);
        as_user(&mut command);
        let refused = super::ended(&mut command);
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains(&reason), "{refused:?}");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn that_leads_back_to_itself_or_comes_twice_is_read_once() {
        let _watchdog = watchdog("a link loop");
        let desk = Desk::new();
        let text = desk.write("in/a", "text ".repeat(100));
        symlink(".", desk.path("in/self")).unwrap();
        symlink("circle", desk.path("in/circle")).unwrap();
        symlink("a", desk.path("in/b")).unwrap();
        fs::hard_link(&text, desk.path("in/c")).unwrap();
        let ended = desk.run(&[&desk.path("in"), &text, &desk.path("in")], &[]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let corpus = desk.report().corpus;
        assert_eq!((corpus.opened, corpus.documents, corpus.bytes), (1, 1, 500));
        let reason = |name: &str| {
            let path = desk.path(name).display().to_string();
            corpus.skipped.iter().find(|s| s.path == path).map_or("", |s| s.reason.as_str())
        };
        assert!(reason("in/self").starts_with("a loop of links"), "{corpus:?}");
        assert!(reason("in/circle").contains("Too many levels of symbolic links"), "{corpus:?}");
        for name in ["in/a", "in/b", "in/c"] {
            assert!(reason(name).starts_with("same file as "), "{name}: {corpus:?}");
        }
        assert!(reason("in").starts_with("same folder as "), "{corpus:?}");
        let circle = desk.path("in/circle");
        let (code, message) = Desk::new().refusal(&[&circle], &[]);
        assert!(code == 1 && message.contains("Too many levels"), "{message}");
    }

    #[test]
    fn that_is_not_utf_8_is_trained_on_and_named_with_its_place() {
        let _watchdog = watchdog("invalid UTF-8");
        let desk = Desk::new();
        let path = desk.write("latin1.txt", b"caf\xe9 au lait, s'il vous pla\xeet\n".repeat(20));
        for (tokenizer, count) in [("bytes", 0), ("bpe:300", 40), ("words:50", 40)] {
            let flags = ["--tokenizer", tokenizer, "--overwrite"];
            let ended = desk.run(&[&path], &flags);
            assert_eq!(ended.code, 0, "{ended:?}");
            let invalid = desk.report().corpus.invalid;
            assert_eq!(invalid.iter().map(|bad| bad.count).sum::<u64>(), count);
            if count > 0 {
                assert_eq!((&*invalid[0].path, invalid[0].byte), (path.to_str().unwrap(), 3));
                let words = format!("{}: 40 parts are not UTF-8", path.display());
                assert!(ended.stdout.contains(&words), "{ended:?}");
            }
        }
    }

    /// By hand in a release build: 100 MB.
    #[test]
    fn of_one_long_line_without_a_space_is_text_like_any_other() {
        let _watchdog = watchdog("a long line");
        let desk = Desk::new();
        let line = desk.write("line", "abcdefghijklmnopqrstuvwxy".repeat(200_000));
        for tokenizer in ["bytes", "bpe:300", "words:50"] {
            let ended = desk.run(&[&line], &["--tokenizer", tokenizer, "--overwrite"]);
            assert_eq!(ended.code, 0, "{ended:?}");
            let corpus = desk.report().corpus;
            assert_eq!((corpus.opened, corpus.documents), (1, 1));
            assert!(tokenizer == "bytes" || corpus.bytes == 5_000_000, "{corpus:?}");
        }
    }

    #[test]
    fn of_20_000_tiny_files_is_read_whole() {
        let _watchdog = watchdog("20,000 files");
        let desk = Desk::new();
        for i in 0..20_000 {
            desk.write(&format!("in/{}/{i}", i % 100), "tiny");
        }
        for tokenizer in ["bytes", "bpe:300"] {
            let flags = ["--tokenizer", tokenizer, "--overwrite", "--context", "64"];
            let ended = desk.run(&[&desk.path("in")], &flags);
            assert_eq!(ended.code, 0, "{ended:?}");
            let corpus = desk.report().corpus;
            assert_eq!((corpus.files, corpus.opened, corpus.documents), (20_000, 20_000, 20_000));
            assert_eq!(corpus.bytes, 80_000);
        }
    }

    #[test]
    fn that_shrinks_while_it_is_read_is_an_error_that_names_it() {
        let _watchdog = watchdog("a shrinking file");
        // By a byte, and to nothing.
        const FILE: usize = 64_000_000;
        for left in [FILE as u64 - 1, 0] {
            let desk = Desk::new();
            // After its first step it has tens of thousands before it until the file is read.
            let path = desk.write("in", vec![b'x'; FILE]);
            let more =
                ["--tokenizer", "bytes", "--steps", "1000000", "--context", "64", "--batch", "16"];
            let mut running = Running::start(&mut desk.command(&[&path], &more));
            running.until("step 1/");
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(left).unwrap();
            let (code, message) = running.end();
            assert_eq!(code, 1, "{message}");
            let word = format!("cannot go on reading {}: it", path.display());
            assert!(message.contains("stage load, worker 0, failed at item"), "{message}");
            assert!(message.contains(&word) && message.contains("hint: "), "{message}");
            assert_eq!(desk.remains(), [""; 0]);
        }
    }
}

mod a_setting {
    use super::*;

    #[test]
    fn out_of_range_is_refused_with_what_is_allowed() {
        let _watchdog = watchdog("a refused setting");
        let desk = Desk::new();
        for spheres in ["0", "100000"] {
            let (code, message) = desk.refusal(&[], &["--spheres", spheres]);
            assert_eq!(code, 2);
            assert!(message.contains("it must be a whole number from 1 to 4096"), "{message}");
        }
        let (code, message) = desk.refusal(&[], &["--heads", "3"]);
        assert_eq!(code, 2);
        let word = "--heads 3 is not possible: it must divide --width 8: 2 and 4 fit";
        assert!(message.contains(word), "{message}");
        assert!(!desk.path("out").exists(), "refused before anything is made");
    }

    #[test]
    fn of_an_output_that_holds_a_run_is_refused_without_overwrite() {
        let _watchdog = watchdog("an output in use");
        let desk = Desk::new();
        assert_eq!(desk.run(&[], &["--tokenizer", "bytes"]).code, 0);
        let before = desk.outputs();
        let refused = desk.run(&[], &["--tokenizer", "bytes"]);
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("already holds a run"), "{refused:?}");
        assert_eq!(desk.outputs(), before);
        assert_eq!(desk.run(&[], &["--tokenizer", "bytes", "--overwrite"]).code, 0);
    }
}

mod a_system {
    use super::*;

    /// Mounted over the output folder while it lives.
    struct Tmpfs(PathBuf);

    impl Tmpfs {
        fn on(path: PathBuf, size: &str) -> Option<Self> {
            fs::create_dir_all(&path).unwrap();
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path);
            if is_root() && mount.status().is_ok_and(|status| status.success()) {
                return Some(Tmpfs(path));
            }
            println!("skipped: a small file system needs root");
            None
        }
    }

    impl Drop for Tmpfs {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }

    #[test]
    fn with_a_full_disk_at_the_checkpoint_leaves_nothing_half_written() {
        let _watchdog = watchdog("a full disk");
        let desk = Desk::new();
        let Some(_disk) = Tmpfs::on(desk.path("out"), "128k") else { return };
        let (code, message) = desk.refusal(&[], &["--tokenizer", "bytes", "--width", "64"]);
        assert_eq!(code, 1);
        assert!(message.contains("No space left on device"), "{message}");
        assert!(message.contains("hint: free some space there"), "{message}");
    }

    /// Starts the program under a limit that a shell sets.
    fn limited(desk: &Desk, limit: &str, spheres: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")]);
        let flags = ["--tokenizer", "bytes", "--tokenizers", "1", "--spheres", spheres];
        let inner = desk.command(&[], &flags);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    }

    fn assert_refused_thread(desk: &Desk, command: &mut Command) {
        let ended = ended(command);
        assert_eq!(ended.code, 1, "{ended:?}");
        let start = "error: cannot start thread tf-sphere-";
        assert!(ended.stderr.starts_with(start), "{ended:?}");
        assert!(ended.stderr.contains("Resource temporarily unavailable"), "{ended:?}");
        assert!(ended.stderr.contains("hint: fewer threads, or a higher limit"), "{ended:?}");
        assert_eq!(desk.outputs(), [""; 0]);
    }

    #[test]
    fn that_has_no_room_for_another_stack_is_named_as_the_reason() {
        let _watchdog = watchdog("a limit on memory");
        let desk = Desk::new();
        // Eleven stacks fit, and what is left over then, some 100 MB, is enough for everything else
        // that the threads ask for meanwhile; an arena for each of them would take it away.
        let mut command = limited(&desk, "ulimit -v 3000000", "64");
        command.env("RUST_MIN_STACK", "268435456").env("MALLOC_ARENA_MAX", "1");
        assert_refused_thread(&desk, &mut command);
    }

    #[test]
    fn that_refuses_a_thread_is_named_as_the_reason() {
        let _watchdog = watchdog("a limit on threads");
        let desk = Desk::new();
        if !is_root() {
            println!("skipped: the threads of this user's other programs would count");
            return;
        }
        fs::set_permissions(desk.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
        // A user of this test's own: the threads of a user's other programs count as well.
        let nobody_else = 59_000 + std::process::id() % 5_000;
        let mut probe = Command::new(example("pipeline"));
        if probe.arg("--help").uid(nobody_else).gid(NOBODY).output().is_err() {
            println!("skipped: another user may not run the program here");
            return;
        }
        let mut command = limited(&desk, "ulimit -u 40", "64");
        command.uid(nobody_else).gid(NOBODY);
        assert_refused_thread(&desk, &mut command);
    }
}

/// A program at work.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    /// What it has said on stderr so far.
    message: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running { child, stdout, stderr, message: String::new() }
    }

    /// Waits for a line with these words.
    fn until(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let bytes = self.stdout.read_line(&mut line).unwrap();
            assert!(bytes > 0, "it ended before it said {words}");
        }
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args([format!("-{name}"), self.child.id().to_string()]);
        assert!(kill.status().unwrap().success());
    }

    /// Waits until a sphere has computed for a while: a step has begun.
    fn until_a_sphere_computes(&mut self) {
        let tasks = format!("/proc/{}/task", self.child.id());
        let computes = |stat: &str| {
            // `PID (NAME) STATE ...`; the 14th field is the time spent, in hundredths of a second.
            let (name, rest) = stat.rsplit_once(')')?;
            let ticks: u64 = rest.split_whitespace().nth(11)?.parse().ok()?;
            (name.contains("(tf-sphere") && ticks > 20).then_some(())
        };
        while !fs::read_dir(&tasks).unwrap().any(|task| {
            let stat = fs::read_to_string(task.unwrap().path().join("stat"));
            stat.is_ok_and(|stat| computes(&stat).is_some())
        }) {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before it computed");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a line with these words on stderr.
    fn until_told(&mut self, words: &str) {
        while !self.message.contains(words) {
            let bytes = self.stderr.read_line(&mut self.message).unwrap();
            assert!(bytes > 0, "it ended before it said {words}: {}", self.message);
        }
    }

    /// Exit code and message.
    fn end(mut self) -> (i32, String) {
        // Read on, or it would wait for us.
        std::io::copy(&mut self.stdout, &mut std::io::sink()).unwrap();
        let mut message = self.message;
        self.stderr.read_to_string(&mut message).unwrap();
        let status = self.child.wait().unwrap();
        assert!(!message.contains("panicked"), "{message}");
        (status.code().unwrap_or_else(|| panic!("{status}: {message}")), message)
    }
}

mod ctrl_c {
    use super::*;

    #[test]
    fn finishes_the_step_saves_and_says_130() {
        let _watchdog = watchdog("Ctrl-C");
        for signal in ["INT", "TERM"] {
            for tokenizer in ["bytes", "bpe:300"] {
                let desk = Desk::new();
                let flags = ["--tokenizer", tokenizer, "--steps", "1000000"];
                let mut running = Running::start(&mut desk.command(&[], &flags));
                running.until("step 1/");
                running.signal(signal);
                let (code, message) = running.end();
                assert_eq!(code, 130, "{message}");
                assert!(message.contains("stopping after this step"), "{message}");
                assert_outputs_load(&desk);
            }
        }
    }

    fn assert_outputs_load(desk: &Desk) {
        let names = [
            "config.json",
            "log.txt",
            "metrics.jsonl",
            "model.safetensors",
            "optimizer.safetensors",
            "report.html",
            "report.json",
            "settings.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        let mut outputs = desk.outputs();
        // A run that was quick enough has come to a moment at which it writes.
        outputs.retain(|name| name != "samples.jsonl");
        assert_eq!(outputs, names);
        let report = desk.report();
        assert!(report.interrupted && (1..1_000_000).contains(&report.steps), "{report:?}");
        let model = desk.path("out/model.safetensors");
        assert_eq!(sha256_of_file(&model).unwrap(), report.weights_sha256);
        let bytes = fs::read(&model).unwrap();
        let numbers = SafeTensors::deserialize(&bytes).unwrap();
        let count: usize =
            numbers.tensors().iter().map(|(_, t)| t.shape().iter().product::<usize>()).sum();
        assert_eq!(count as u64, report.parameters);
        for name in ["config.json", "tokenizer.json"] {
            let text = fs::read(desk.path("out").join(name)).unwrap();
            serde_json::from_slice::<serde_json::Value>(&text).unwrap();
        }
    }

    /// A step of minutes: it would end with outputs.
    #[test]
    fn leaves_at_once_when_it_comes_twice() {
        let _watchdog = watchdog("Ctrl-C twice");
        let desk = Desk::new();
        let flags = [
            "--tokenizer",
            "bytes",
            "--width",
            "512",
            "--context",
            "512",
            "--batch",
            "32",
            "--micro-batches",
            "32",
            "--layers",
            "4",
        ];
        let mut running = Running::start(&mut desk.command(&[], &flags));
        running.until_a_sphere_computes();
        running.signal("INT");
        running.until_told("stopping after this step");
        running.signal("INT");
        let (code, _) = running.end();
        assert_eq!(code, 130);
        assert_eq!(desk.outputs(), [""; 0]);
    }

    #[test]
    fn while_a_vocabulary_is_learned_saves_nothing_and_says_so() {
        let _watchdog = watchdog("Ctrl-C while learning");
        let desk = Desk::new();
        // Words enough that the first pass takes its time, all of them different.
        let mut text = String::new();
        for i in 0..3_000_000_u64 {
            text.push_str(&format!("{:x} ", i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20));
        }
        let path = desk.write("in", text);
        for delay in [0, 150] {
            while !is_stopped_while_learning(&path, Duration::from_millis(delay)) {}
        }
    }

    /// False where the signal came after seconds of learning, in a step.
    fn is_stopped_while_learning(text: &Path, delay: Duration) -> bool {
        let desk = Desk::new();
        let flags = ["--tokenizer", "bpe:20000", "--steps", "1000000"];
        let mut running = Running::start(&mut desk.command(&[text], &flags));
        running.until("output ");
        std::thread::sleep(delay);
        running.signal("INT");
        let (code, message) = running.end();
        assert_eq!(code, 130, "{message}");
        if !message.contains("error: ") {
            assert_outputs_load(&desk);
            return false;
        }
        let words = "error: stopped before the first step; nothing was saved";
        assert!(message.contains(words), "{message}");
        assert_eq!(desk.outputs(), [""; 0]);
        true
    }
}
