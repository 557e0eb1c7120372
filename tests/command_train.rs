//! `twelvefold train` and what looks at its run: where settings come from, what is printed, signals.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/desk.rs"]
mod desk;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use desk::Desk;
use serde_json::Value;
use twelvefold::report::RunReport;
use twelvefold::train::Options;
use watchdog::watchdog;

/// A model so small that a step takes no time.
const SMALL: &str = "--layers 1 --heads 1 --width 8 --context 16 --batch 2 --tokenizer bytes \
                     --story-bytes 20000 --checkpoint-every 0 --spheres 1";

impl Desk {
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twelvefold"));
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
        command
    }

    fn done(&self, arguments: &str) -> String {
        stdout(self.command(arguments).output().unwrap())
    }

    fn refused(&self, code: i32, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn settings(&self) -> Options {
        serde_json::from_slice(&fs::read(self.path("out/settings.json")).unwrap()).unwrap()
    }
}

/// Does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

fn piped(mut command: Command, text: &str) -> Output {
    let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
    let mut child = command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    // A program that refuses its input does not read it.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn flags_come_before_the_environment_before_the_file_before_the_defaults() {
    let _watchdog = watchdog("settings");
    let desk = Desk::new();
    desk.write(
        "my.toml",
        "steps = 2\nbatch = 3\nseed = 4\ntoken-memory = \"2M\"\npaths = [\"x\"]\n",
    );
    let text = "train a.txt --config my.toml --steps 5 --print-config";
    let mut command = desk.command(text);
    command.env("TWELVEFOLD_STEPS", "6").env("TWELVEFOLD_BATCH", "7");
    let printed: Options = toml::from_str(&stdout(command.output().unwrap())).unwrap();
    let expected = Options {
        steps: 5,
        batch: 7,
        seed: 4,
        token_memory: 2 << 20,
        paths: vec!["a.txt".into()],
        spheres: printed.spheres,
        ..Options::default()
    };
    assert_eq!(printed, expected);
    // What is printed is a file that gives the same.
    desk.write("again.toml", desk.done(text));
    assert_eq!(desk.done("train --config again.toml --print-config"), desk.done(text));
}

#[test]
fn a_mixture_may_stand_in_the_file() {
    let desk = Desk::new();
    desk.write("my.toml", "mix = [\"a=0.5\", \"b=2\"]\n");
    let printed = desk.done("train --config my.toml --print-config");
    assert!(printed.contains("paths = [\"a\", \"b\"]\nweights = [0.5, 2.0]\n"), "{printed}");
    let printed = desk.done("train c --config my.toml --print-config");
    assert!(printed.contains("paths = [\"c\"]\nweights = []\n"), "{printed}");
}

#[test]
fn an_address_is_a_port_of_this_machine_or_given_in_full_wherever_it_stands() {
    let desk = Desk::new();
    let printed = |text: &str| desk.done(&format!("train {text} --print-config"));
    let line = "prometheus = \"127.0.0.1:9464\"\n";
    let flags = printed("--prometheus 9464 --tensorboard");
    assert!(flags.contains(line) && flags.contains("tensorboard = true\n"), "{flags}");
    desk.write("again.toml", &flags);
    assert_eq!(printed("--config again.toml"), flags);
    for (given, address) in [("9464", "127.0.0.1:9464"), ("\"[::1]:0\"", "[::1]:0")] {
        desk.write("my.toml", format!("prometheus = {given}\n"));
        assert!(printed("--config my.toml").contains(&format!("prometheus = \"{address}\"\n")));
        assert!(printed("--config my.toml --prometheus 9464").contains(line), "flag before file");
    }
    let mut command = desk.command("train --print-config");
    command.env("TWELVEFOLD_PROMETHEUS", "0.0.0.0:80").env("TWELVEFOLD_TENSORBOARD", "true");
    let printed = stdout(command.output().unwrap());
    assert!(printed.contains("prometheus = \"0.0.0.0:80\"\n"), "{printed}");
    assert!(printed.contains("tensorboard = true\n"), "{printed}");
    for wrong in ["localhost:9464", ":9464", "65536", "0.0.0.0", "-1"] {
        let message = desk.refused(2, &format!("train --prometheus={wrong}"));
        assert!(message.contains("give a port such as 9464"), "{message}");
    }
}

#[test]
fn a_wrong_setting_in_the_file_is_refused_with_its_line_and_what_is_allowed() {
    let desk = Desk::new();
    let cases = [
        ("a = 1\n", "my.toml, line 1", "a is no setting"),
        ("seed = 1\nstpes = 1\n", "my.toml, line 2", "stpes is no setting; a similar one is steps"),
        ("steps = \"many\"\n", "my.toml, line 1", "steps: invalid type"),
        ("\nheads = 5\n", "--heads 5 (my.toml, line 2)", "it must divide --width 64"),
        ("layers = 0\n", "--layers 0 (my.toml, line 1)", "from 1 to 96"),
        ("resume = true\n", "my.toml, line 1", "resume is no setting of a run: give --resume"),
        ("mix = [\"a\"]\n", "my.toml, line 1", "give PATH=WEIGHT"),
        ("prometheus = \"here\"\n", "my.toml, line 1", "prometheus: give a port such as"),
        ("steps = \n", "my.toml", "line 1"),
    ];
    for (text, place, what) in cases {
        desk.write("my.toml", text);
        let message = desk.refused(2, "train --config my.toml");
        assert!(message.starts_with("error: "), "{message}");
        assert!(message.contains(place) && message.contains(what), "{text}: {message}");
    }
    assert!(desk.refused(1, "train --config none.toml").contains("cannot read none.toml"));
    let mut command = desk.command("train");
    let output = command.env("TWELVEFOLD_STEPS", "none").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_run_leaves_its_settings_which_begin_the_same_run_again() {
    let _watchdog = watchdog("settings of a run");
    let desk = Desk::new();
    desk.done(&format!("train {SMALL} --steps 3 --out out --overwrite -q"));
    assert_eq!((desk.settings().steps, desk.settings().overwrite), (3, false));
    desk.done("train --config out/settings.json --out again -q");
    let report = |out: &str| -> RunReport {
        serde_json::from_str(&desk.done(&format!("report {out} --json"))).unwrap()
    };
    assert_eq!(report("out").weights_sha256, report("again").weights_sha256);
    assert!(desk.done("report out").contains("outputs in out:"));
    assert_eq!(desk.done("report out --html page.html"), "page.html is the page of out\n");
    assert!(
        fs::read(desk.path("page.html")).unwrap()
            == fs::read(desk.path("out/report.html")).unwrap()
    );
    assert!(desk.refused(1, "report out --html out/report.json").contains("is no page"));
    desk.refused(2, "report out --json --html page.html");
}

#[test]
fn quiet_prints_nothing_and_json_an_object_a_line() {
    let _watchdog = watchdog("printed");
    let desk = Desk::new();
    assert_eq!(desk.done(&format!("train {SMALL} --steps 2 --out a --quiet")), "");
    let printed = desk.done(&format!("train {SMALL} --steps 2 --out b --log-format json"));
    let events: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |event: &str| events.iter().filter(|e| e["event"] == event).collect::<Vec<_>>();
    assert_eq!(named("step").len(), 2);
    assert!(named("step")[1]["loss"].as_f64().unwrap() > 0.0);
    assert_eq!(named("report")[0]["report"]["steps"], 2);
    assert!(named("plan")[0]["text"].as_str().unwrap().contains("spheres"));
}

#[test]
fn a_signal_saves_and_the_run_goes_on() {
    let _watchdog = watchdog("SIGUSR1");
    let desk = Desk::new();
    let text = format!("train {SMALL} --steps 1000000 --out out");
    let mut child = Running(desk.command(&text).stdout(Stdio::piped()).spawn().unwrap());
    let child = &mut child.0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until =
        |words: &str| assert!(lines.any(|line| line.unwrap().contains(words)), "{words}");
    let id = child.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &id]).status().unwrap();
    until("step 1/");
    signal("-USR1");
    until("checkpoint at step");
    signal("-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(desk.settings().steps == 1_000_000);
}

#[test]
fn a_damaged_checkpoint_is_found_and_the_others_are_said_to_be_whole() {
    let _watchdog = watchdog("verify");
    let desk = Desk::new();
    let small = SMALL.replace("--checkpoint-every 0", "--checkpoint-every 2");
    desk.done(&format!("train {small} --steps 5 --out out -q"));
    let whole = desk.done("verify out");
    assert_eq!(whole.matches("whole    ").count(), 3, "{whole}");
    let path = desk.path("out/checkpoints/step-0000000002/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = desk.command("verify out").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("damaged  out/checkpoints/step-0000000002: "), "{said}");
    assert_eq!(said.matches("whole    ").count(), 2, "{said}");
    // A report of other weights.
    let report = fs::read_to_string(desk.path("out/report.json")).unwrap();
    let sum: RunReport = serde_json::from_str(&report).unwrap();
    desk.write("out/report.json", report.replace(&sum.weights_sha256, "0"));
    assert!(desk.refused(1, "verify out").contains("2 of 3 are not as they were written"));
    assert!(desk.refused(1, "verify .").contains("holds no checkpoint"));
}

#[test]
fn inspect_says_what_a_model_a_tokenizer_and_a_text_hold() {
    let _watchdog = watchdog("inspect");
    let desk = Desk::new();
    let small = SMALL.replace("bytes --", "bpe:260 --");
    desk.done(&format!("train {small} --steps 2 --out out -q"));
    let model = desk.done("inspect out");
    assert!(model.contains("1 layers, 1 heads, width 8, context 16"), "{model}");
    assert!(model.contains("vocabulary 260\n  step 2, seed 1\n  4 sequences"), "{model}");
    let tokenizer = desk.done("inspect out/tokenizer.json");
    assert!(tokenizer.contains("byte-level BPE, 260 tokens"), "{tokenizer}");
    desk.write("text/a", "abc");
    desk.write("text/b", "");
    let text = desk.done("inspect text");
    assert!(text.starts_with("text: 1 documents, 3 B\n  2 files, 1 of them skipped"), "{text}");
    assert!(desk.refused(1, "inspect none").contains("none"));
}

#[test]
fn export_writes_a_model_that_the_other_commands_take() {
    let _watchdog = watchdog("export");
    let desk = Desk::new();
    desk.done(&format!("train {SMALL} --steps 2 --out out -q"));
    let said = desk.done("export out --out model");
    assert!(said.contains("parameters as F32") && said.contains("config.json"), "{said}");
    let sum = said.lines().find_map(|line| line.strip_prefix("weights_sha256 ")).unwrap();
    assert_eq!(desk.done("verify model"), format!("whole    model: weights {sum}\n"));
    let text = |of: &str| desk.done(&format!("generate Once --tokens 8 -q --run {of}"));
    assert_eq!(text("model"), text("out"));
    let said = desk.done("export model --out small --dtype bf16");
    assert!(said.contains("parameters as BF16"), "{said}");
    assert!(desk.refused(1, "export out --out model").contains("is not empty"));
    assert!(desk.refused(2, "export out --out x --dtype f64").contains("bf16"));
    assert!(!desk.path("x").exists());
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = desk.done(&format!("completions {shell}"));
        for word in ["checkpoint-every", "explain", "tensorboard", "prometheus"] {
            assert!(text.contains(word), "{word} for {shell}");
        }
    }
    assert!(desk.done("man").contains("tokenize"));
    assert!(desk.done("man train").contains("micro\\-batches"));
    assert!(desk.refused(2, "man trian").contains("the name of a command"));
}

#[test]
fn the_usual_help_fits_a_screen() {
    let desk = Desk::new();
    let help = desk.done("train -h");
    assert!(help.lines().count() <= 45, "{help}");
    assert!(help.contains("Examples:"));
    assert!(desk.refused(2, "train --stpes 4").contains("a similar argument exists: '--steps'"));
}

/// A path behind the flag is text, and no file for the trace.
#[test]
fn a_trace_is_asked_for_by_flag_variable_or_file() {
    let _watchdog = watchdog("traces");
    let desk = Desk::new();
    desk.write("notes.txt", "words of a text. ".repeat(1000));
    let small = SMALL.replace("--story-bytes 20000", "");
    desk.done(&format!("train --trace notes.txt {small} --steps 2 --out out -q"));
    assert!(desk.path("out/trace.json").exists());
    assert!(desk.done("train --trace --print-config").contains("\ntrace = \"\"\n"));
    assert!(!desk.done("train --print-config").contains("trace"));
    desk.write("my.toml", "trace = \"a.json\"\n");
    desk.done(&format!("train notes.txt {small} --steps 2 --out b --config my.toml -q"));
    assert!(desk.path("a.json").exists() && !desk.path("b/trace.json").exists());
    let mut command = desk.command(&format!("train notes.txt {small} --steps 2 --out c"));
    let said = stdout(command.env("TWELVEFOLD_TRACE", "c.json").output().unwrap());
    assert!(said.contains(" events are in c.json: open it in https://ui.perfetto.dev"), "{said}");
}

#[test]
fn a_run_on_standard_input_is_explained_with_the_same_text_on_standard_input() {
    let _watchdog = watchdog("explain on standard input");
    let desk = Desk::new();
    let text = "words of a text, again and again. ".repeat(600);
    let train =
        format!("train - {SMALL} --steps 3 --out out -q").replace("--story-bytes 20000", "");
    stdout(piped(desk.command(&train), &text));
    let explain = "explain --run out --batch 1";
    let told = stdout(piped(desk.command(explain), &text));
    assert!(told.starts_with("micro-batch 1: 2 sequences\n") && told.contains("bytes "), "{told}");
    assert_eq!(told, stdout(piped(desk.command(explain), &text)));
    let other = piped(desk.command(explain), "too short");
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    let refused = piped(desk.command("tokenize - --tokenizer bytes --format llmc --out a"), &text);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("standard input"), "{refused:?}");
    assert!(!refused.status.success() && !desk.path("a").exists());
}

#[test]
fn a_text_is_continued_and_judged_and_the_same_seed_gives_the_same() {
    let _watchdog = watchdog("generate and eval");
    let desk = Desk::new();
    desk.done(&format!("train {SMALL} --steps 3 --out out -q"));
    let generate = "generate --run out --tokens 30 --seed 5 -q";
    let once = desk.done(&format!("{generate} Once"));
    assert!(once.starts_with("Once") && once.len() > 10, "{once:?}");
    assert_eq!(once, desk.done(&format!("{generate} Once")));
    assert_ne!(once, desk.done("generate --run out --tokens 30 --seed 6 -q Once"));
    // A prompt from standard input, and the new text alone.
    let new = stdout(piped(desk.command(&format!("{generate} --no-echo")), "Once"));
    assert_eq!(format!("Once{new}"), once);
    let bad = desk.refused(2, "generate --run out --top-p 0 Once");
    assert!(bad.contains("--top-p"), "{bad}");
    assert!(desk.refused(1, "generate --run none Once").contains("none"));
    let told = desk.command("generate --run out --tokens 3 Once").output().unwrap();
    assert!(String::from_utf8(told.stderr).unwrap().contains("tokens/s"));

    desk.write("a.txt", "a short text to be judged");
    desk.write("empty", "");
    let found: Value = serde_json::from_str(&desk.done("eval --run out --json a.txt")).unwrap();
    assert_eq!((&found["bytes"], &found["documents"]), (&25.into(), &1.into()));
    let loss = found["loss"].as_f64().unwrap();
    let said = desk.done("eval --run out --spheres 3 a.txt empty");
    assert!(said.starts_with(&format!("loss {loss:.4} nats a token")), "{said}");
}
