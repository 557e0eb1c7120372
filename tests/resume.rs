//! A run that was ended by anything goes on to the same weights, or says why it does not.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/chance.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod chance;
#[path = "common/example.rs"]
mod example;
#[path = "common/mixed.rs"]
mod mixed;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};
use tiny::{on, tiny};
use twelvefold::Error;
use twelvefold::report::{Observer, Progress, RunReport};
use twelvefold::train::checkpoint::{LAYOUT, verify};
use twelvefold::train::safetensors::sha256_of_file;
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

/// Twelve steps of a model of a few thousand numbers, with a checkpoint after every second one.
fn short(out: &TempDir) -> Options {
    Options {
        out: out.path().join("out"),
        steps: 12,
        checkpoint_every: 2,
        eval_interval: 3,
        ..tiny()
    }
}

/// Keeps the notes, and asks for a stop after a step.
#[derive(Default)]
struct Log {
    notes: Vec<String>,
    stop: Option<(u64, Cancel)>,
    first: Option<u64>,
}

impl Observer for Log {
    fn step(&mut self, progress: &Progress) {
        self.first.get_or_insert(progress.step);
        if let Some((step, cancel)) = &self.stop
            && *step == progress.step
        {
            cancel.request();
        }
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

impl Log {
    fn says(&self, words: &str) -> bool {
        self.notes.iter().any(|note| note.contains(words))
    }
}

/// Runs up to a step and stops there, as Ctrl-C does.
fn stopped(options: &Options, step: u64) -> RunReport {
    let cancel = Cancel::new();
    let mut log = Log { stop: Some((step, cancel.clone())), ..Log::default() };
    let report = run(options, &cancel, &mut log).unwrap();
    assert_eq!((report.steps, report.interrupted), (step, true));
    report
}

fn whole(options: &Options) -> RunReport {
    run(options, &Cancel::new(), &mut ()).unwrap()
}

/// Goes on, and tells.
fn resumed(options: &Options) -> (RunReport, Log) {
    let mut log = Log::default();
    let options = Options { resume: true, ..options.clone() };
    (run(&options, &Cancel::new(), &mut log).unwrap(), log)
}

fn refused(options: &Options) -> String {
    let options = Options { resume: true, ..options.clone() };
    run(&options, &Cancel::new(), &mut ()).unwrap_err().to_string()
}

fn checkpoint(options: &Options, step: u64) -> PathBuf {
    options.out.join(format!("checkpoints/step-{step:010}"))
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a process that was killed after a checkpoint leaves: no outputs.
fn forget_outputs(options: &Options) {
    for name in LAYOUT.names.iter().chain(&["report.json"]) {
        let _ = fs::remove_file(options.out.join(name));
    }
}

/// What does not depend on the time that a run took.
fn result(report: &RunReport) -> (String, String, u64, u64, Option<f64>, Option<f64>, Option<u64>) {
    let RunReport { weights_sha256, receipt, steps, tokens, .. } = report.clone();
    let (train, val) = (report.train_loss, report.val_bits_per_byte);
    (weights_sha256, receipt, steps, tokens, train, val, report.checkpoints.best)
}

mod a_run {
    use super::*;

    /// Every step of the run is one after which another crew goes on, with every tokenizer; over
    /// several epochs of the text.
    #[test]
    fn that_goes_on_with_another_crew_ends_with_the_same_weights_receipt_and_losses() {
        let _watchdog = watchdog("another crew");
        let folder = mixed::mixed_folder();
        let small = folder.path().join("c");
        let crews = [(1, 1), (3, 5), (12, 2), (64, 7)];
        for (tokenizer, paths) in [
            ("bytes", vec![]),
            ("bytes", vec![folder.path()]),
            ("bpe:300", vec![small.as_path()]),
            ("words:50", vec![]),
        ] {
            let out = tempdir().unwrap();
            let options = Options {
                tokenizer: tokenizer.to_owned(),
                steps: 40,
                context: 64,
                batch: 3,
                shuffle_window: 16,
                story_bytes: 3_000,
                ..on(&paths, short(&out))
            };
            let expected = result(&whole(&options));
            for (stop, (spheres, tokenizers)) in [1, 11, 12, 39].into_iter().zip(crews) {
                let options = Options { out: out.path().join(stop.to_string()), ..options.clone() };
                stopped(&options, stop);
                let other = Options { spheres, tokenizers, ..options };
                let (report, log) = resumed(&other);
                assert_eq!(result(&report), expected, "{tokenizer}, stopped after {stop}");
                assert_eq!((report.resumed_from, log.first), (Some(stop), Some(stop + 1)));
            }
        }
    }

    #[test]
    fn that_is_stopped_again_and_again_ends_with_the_same_weights() {
        let _watchdog = watchdog("stops");
        let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
        let expected = result(&whole(&short(&one)));
        let options = short(&two);
        stopped(&options, 1);
        for step in [2, 3, 4, 7, 11] {
            stopped(&Options { resume: true, ..options.clone() }, step);
        }
        assert_eq!(result(&resumed(&options).0), expected);
    }

    /// Before it has passed what was trained: what it saves is what it found.
    #[test]
    fn that_is_stopped_before_it_has_come_to_its_place_loses_nothing() {
        let _watchdog = watchdog("an early stop");
        let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
        let expected = result(&whole(&short(&one)));
        let options = short(&two);
        let before = stopped(&options, 7);
        let cancel = Cancel::new();
        cancel.request();
        let again = Options { resume: true, ..options.clone() };
        let report = run(&again, &cancel, &mut ()).unwrap();
        assert_eq!((report.steps, report.interrupted), (7, true));
        assert_eq!(result(&report), result(&before));
        assert_eq!(result(&resumed(&options).0), expected);
    }

    #[test]
    fn without_a_checkpoint_begins_at_the_beginning_and_says_so() {
        let _watchdog = watchdog("no checkpoint");
        let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
        let expected = result(&whole(&short(&one)));
        let (report, log) = resumed(&short(&two));
        assert_eq!((result(&report), report.resumed_from), (expected, None));
        assert!(log.says("no checkpoint in "), "{:?}", log.notes);
    }

    #[test]
    fn that_is_over_gives_the_same_report_and_reads_nothing() {
        let _watchdog = watchdog("a finished run");
        let (out, text) = (tempdir().unwrap(), tempdir().unwrap());
        let file = text.path().join("text");
        fs::write(&file, mixed::prose(1, 20_000)).unwrap();
        let options = on(&[&file], short(&out));
        let before = whole(&options);
        let bytes = fs::read(options.out.join("report.json")).unwrap();
        let model = fs::metadata(options.out.join("model.safetensors")).unwrap().mtime_nsec();
        // It would be an error if anybody read it.
        fs::write(&file, "").unwrap();
        let (report, log) = resumed(&Options { spheres: 7, tokenizers: 1, ..options.clone() });
        assert_eq!(report.weights_sha256, before.weights_sha256);
        assert!(fs::read(options.out.join("report.json")).unwrap() == bytes, "the same report");
        let after = fs::metadata(options.out.join("model.safetensors")).unwrap().mtime_nsec();
        assert_eq!(after, model, "nothing else is written");
        assert!(log.says("is over: its report stands") && log.first.is_none(), "{:?}", log.notes);
    }

    /// Killed after the weights were in place and before the report was.
    #[test]
    fn that_only_lacks_its_report_writes_it() {
        let _watchdog = watchdog("a report");
        let out = tempdir().unwrap();
        let options = short(&out);
        let expected = result(&whole(&options));
        fs::remove_file(options.out.join("report.json")).unwrap();
        let (report, log) = resumed(&options);
        assert_eq!((result(&report), log.first), (expected, None));
        assert!(options.out.join("report.json").exists());
    }

    #[test]
    fn is_not_replaced_by_accident_and_takes_its_checkpoints_with_it_when_it_is() {
        let _watchdog = watchdog("a run that is replaced");
        let out = tempdir().unwrap();
        let options = short(&out);
        stopped(&options, 8);
        forget_outputs(&options);
        let message = run(&options, &Cancel::new(), &mut ()).unwrap_err().to_string();
        assert!(message.contains("already holds a run (checkpoints)"), "{message}");
        assert!(message.contains("go on with it with --resume"), "{message}");
        let both = Options { overwrite: true, ..options.clone() };
        assert!(refused(&both).starts_with("--resume with --overwrite is not possible"));

        // Of another seed, and killed after its first checkpoint.
        let other = Options { overwrite: true, seed: 2, ..options.clone() };
        stopped(&other, 2);
        forget_outputs(&options);
        assert_eq!(names(&options.out.join("checkpoints")), ["step-0000000002"]);
        let message = refused(&options);
        assert!(message.contains("had other settings: --seed was 2 and is 1"), "{message}");
        // One that saves none of its own.
        whole(&Options { checkpoint_every: 0, ..other });
        assert!(names(&options.out.join("checkpoints")).is_empty());
    }

    /// The old run's outputs are later than the new one's checkpoint, and not its own.
    #[test]
    fn that_was_replacing_another_goes_on_with_its_own_checkpoint() {
        let _watchdog = watchdog("two runs in a folder");
        let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
        let expected = result(&whole(&Options { seed: 2, ..short(&one) }));
        let options = short(&two);
        whole(&options);
        let kept: Vec<(PathBuf, Vec<u8>)> = LAYOUT
            .names
            .iter()
            .map(|name| options.out.join(name))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        let new = Options { seed: 2, overwrite: true, ..options };
        stopped(&new, 5);
        kept.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let (report, _) = resumed(&Options { overwrite: false, ..new });
        assert_eq!((result(&report), report.resumed_from), (expected, Some(4)));
    }
}

mod a_checkpoint {
    use super::*;

    #[test]
    fn holds_the_files_of_the_outputs_and_the_last_few_and_the_best_are_kept() {
        let _watchdog = watchdog("what is kept");
        let out = tempdir().unwrap();
        let options = Options { keep_checkpoints: 2, ..short(&out) };
        let report = whole(&options);
        let best = report.checkpoints.best.unwrap();
        let mut expected = vec![format!("step-{best:010}")];
        // The validation after step 9 is worth one of its own where it is the best.
        let last = if best == 9 { [9, 10] } else { [8, 10] };
        expected.extend(last.map(|step| format!("step-{step:010}")));
        expected.sort();
        expected.dedup();
        let found = names(&options.out.join("checkpoints"));
        assert_eq!(found, [vec!["best".to_owned()], expected].concat());
        let link = fs::read_link(options.out.join("checkpoints/best")).unwrap();
        assert_eq!(link, Path::new(&format!("step-{best:010}")));
        let mut files = LAYOUT.names.to_vec();
        files.sort_unstable();
        for name in found {
            let folder = options.out.join("checkpoints").join(name);
            assert_eq!(names(&folder), files);
            let verified = verify(&folder).unwrap();
            let model = sha256_of_file(folder.join("model.safetensors")).unwrap();
            assert_eq!(verified.weights_sha256, model);
        }
        assert!(verify(&options.out).unwrap().state.step == 12 && report.checkpoints.failed == 0);
    }

    /// A byte anywhere in any of its files, an end that is missing, a file that is.
    #[test]
    fn that_is_not_as_it_was_written_is_left_out_and_the_one_before_is_taken() {
        let _watchdog = watchdog("a corrupted checkpoint");
        let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
        let expected = result(&whole(&short(&one)));
        let options = short(&two);
        stopped(&options, 11);
        forget_outputs(&options);
        let newest = checkpoint(&options, 10);
        let mut rng = chance::Rng(5);
        let mut cases = 0;
        for name in LAYOUT.names {
            let path = newest.join(name);
            let good = fs::read(&path).unwrap();
            for damage in 0..8 {
                let mut bytes = good.clone();
                let at = rng.below(bytes.len() as u64) as usize;
                match damage {
                    0 => bytes.truncate(at),
                    1 => bytes.clear(),
                    2 => bytes.push(b'\n'),
                    // The lowest bit turns a digit into another.
                    _ => bytes[at] ^= 1 << rng.below(7),
                }
                fs::write(&path, bytes).unwrap();
                assert!(verify(&newest).is_err(), "{name}, {damage}, {at}");
                cases += 1;
            }
            fs::remove_file(&path).unwrap();
            assert!(verify(&newest).is_err());
            if cases == 8 {
                let (report, log) = resumed(&options);
                assert_eq!((result(&report), report.resumed_from), (expected.clone(), Some(9)));
                assert!(log.says("left out a checkpoint that is not whole"), "{:?}", log.notes);
                assert!(log.says("tokenizer.json"), "{:?}", log.notes);
                return_to(&options);
            }
            fs::write(&path, good).unwrap();
            verify(&newest).unwrap();
        }
    }

    /// Runs again to where the checkpoints of the test are.
    fn return_to(options: &Options) {
        fs::remove_dir_all(&options.out).unwrap();
        stopped(options, 11);
        forget_outputs(options);
    }

    /// Its digests are right: it was made, not damaged.
    #[test]
    fn whose_header_claims_more_than_its_file_holds_is_refused() {
        let _watchdog = watchdog("a header that lies");
        let out = tempdir().unwrap();
        let options = short(&out);
        stopped(&options, 3);
        let optimizer = options.out.join("optimizer.safetensors");
        let config = options.out.join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        let good = fs::read(&optimizer).unwrap();
        let digest = sha256_of_file(&optimizer).unwrap();
        for claimed in [99_000_000, good.len() as u64, u64::MAX] {
            let bytes = [&claimed.to_le_bytes()[..], &good[8..]].concat();
            fs::write(&optimizer, bytes).unwrap();
            let lie = sha256_of_file(&optimizer).unwrap();
            fs::write(&config, text.replace(&digest, &lie)).unwrap();
            let message = verify(&options.out).unwrap_err().to_string();
            assert!(message.contains("its header claims"), "{message}");
        }
        // Shapes that are not there.
        fs::write(&optimizer, &good).unwrap();
        let wide = text.replace("\"n_embd\": 8", "\"n_embd\": 8000000");
        let wide = wide.replace("\"n_inner\": 32", "\"n_inner\": 32000000");
        assert_ne!(wide, text);
        fs::write(&config, wide).unwrap();
        verify(&options.out).unwrap();
        let message = refused(&options);
        assert!(message.contains("the width of the model was 8000000 and is 8"), "{message}");
    }

    /// Made by chance, with digests that are right: an error or a run, and never a panic. A number that
    /// was changed is found out by the receipt or is harmless; the same goes for a shape or a name.
    #[test]
    fn whose_header_was_made_by_chance_is_an_error_or_a_run() {
        let _watchdog = watchdog("headers by chance");
        let out = tempdir().unwrap();
        let options = Options { checkpoint_every: 0, ..short(&out) };
        stopped(&options, 3);
        let kept: Vec<(PathBuf, Vec<u8>)> = LAYOUT
            .names
            .iter()
            .map(|name| options.out.join(name))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        let (optimizer, good) = &kept[3];
        let text = String::from_utf8(kept[4].1.clone()).unwrap();
        let digest = sha256_of_file(optimizer).unwrap();
        let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap());
        let mut rng = chance::Rng(31);
        let (mut errors, mut runs) = (0, 0);
        for _ in 0..60 {
            kept.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
            let mut bytes = good.clone();
            for _ in 0..1 + rng.below(3) {
                let at = (8 + rng.below(header - 8)) as usize;
                bytes[at] = b"0123456789abf\":,{}[].-x \\"[rng.below(25) as usize];
            }
            fs::write(optimizer, bytes).unwrap();
            let lie = sha256_of_file(optimizer).unwrap();
            fs::write(options.out.join("config.json"), text.replace(&digest, &lie)).unwrap();
            let again = Options { resume: true, steps: 12, ..options.clone() };
            match run(&again, &Cancel::new(), &mut ()) {
                Ok(report) => {
                    runs += 1;
                    assert_eq!(report.steps, 12);
                }
                Err(error) => {
                    errors += 1;
                    assert!(!error.to_string().contains("panicked"), "{error}");
                }
            }
        }
        assert!(errors > 0 && runs > 0, "{errors} errors, {runs} runs");
    }

    /// A digest for a name that is not ours, and a folder that is named like a way out.
    #[test]
    fn has_no_name_in_it_that_becomes_a_path() {
        let _watchdog = watchdog("names");
        let out = tempdir().unwrap();
        let options = short(&out);
        stopped(&options, 3);
        let config = options.out.join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        for (from, to) in [
            ("\"tokenizer.json\":", "\"../../tokenizer.json\":"),
            ("\"twelvefold_sha256\": {", "\"twelvefold_sha256\": {\n    \"/etc/passwd\": \"00\","),
        ] {
            let named = text.replace(from, to);
            assert_ne!(named, text);
            fs::write(&config, named).unwrap();
            let message = verify(&options.out).unwrap_err().to_string();
            assert!(message.contains("config.json is not as it was written"), "{message}");
        }
    }
}

mod a_change {
    use super::*;

    #[test]
    fn of_a_setting_that_decides_the_weights_is_refused_with_the_difference() {
        let _watchdog = watchdog("changed settings");
        let out = tempdir().unwrap();
        let options = short(&out);
        stopped(&options, 6);
        let outputs = names(&options.out);
        let cases: [(&str, Options); 9] = [
            (
                "--steps was 12 and is 24 (the learning rate",
                Options { steps: 24, ..options.clone() },
            ),
            ("--seed was 1 and is 9", Options { seed: 9, ..options.clone() }),
            ("--lr was 0.005 and is 0.25", Options { lr: 0.25, ..options.clone() }),
            ("--batch was 2 and is 3", Options { batch: 3, ..options.clone() }),
            (
                "--shuffle-window was 64 and is 65",
                Options { shuffle_window: 65, ..options.clone() },
            ),
            ("--layers was 1 and is 2", Options { layers: 2, ..options.clone() }),
            ("--context was 16 and is 32", Options { context: 32, ..options.clone() }),
            (
                "--tokenizer was bytes and is bpe:300",
                Options { tokenizer: "bpe:300".to_owned(), ..options.clone() },
            ),
            ("text was built-in stories and is files", on(&[Path::new("src")], options.clone())),
        ];
        for (words, changed) in cases {
            let message = refused(&changed);
            assert!(message.contains(words), "{message}");
            assert!(message.contains("hint: resume with"), "{message}");
            assert_eq!(names(&options.out), outputs);
            // The shape of the weights cannot change, whatever is allowed.
            let allowed = Options { allow_changes: true, ..changed };
            if ["--layers", "--context", "--tokenizer"].iter().any(|flag| words.starts_with(flag)) {
                assert!(refused(&allowed).contains(words));
            }
        }
        assert_eq!(resumed(&options).0.steps, 12);
    }

    /// The rate of the steps that are done was another one; those to come follow the new schedule.
    #[test]
    fn of_the_steps_that_is_allowed_goes_on_with_the_new_schedule() {
        let _watchdog = watchdog("more steps");
        let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
        let longer = whole(&Options { steps: 24, ..short(&one) });
        let options = short(&two);
        let before = whole(&options);
        let more = Options { steps: 24, allow_changes: true, ..options.clone() };
        let (report, log) = resumed(&more);
        assert!(log.says("changed: --steps was 12 and is 24"), "{:?}", log.notes);
        assert_eq!((report.steps, report.resumed_from, log.first), (24, Some(12), Some(13)));
        // The same text in the same order, at other rates.
        assert_eq!((&report.receipt, report.tokens), (&longer.receipt, longer.tokens));
        assert_ne!(report.weights_sha256, longer.weights_sha256);
        assert_ne!(report.weights_sha256, before.weights_sha256);
        // It is now a run of 24 steps, which goes on and is over as such.
        assert!(resumed(&Options { steps: 24, ..options.clone() }).1.says("is over"));
        let fewer = Options { steps: 23, allow_changes: true, ..options };
        assert!(refused(&fewer).contains("is at step 24, beyond --steps 23"));
    }

    #[test]
    fn of_the_text_that_was_trained_is_refused_and_of_the_text_to_come_is_not_one() {
        let _watchdog = watchdog("changed text");
        let (folder, text) = (tempdir().unwrap(), tempdir().unwrap());
        let path = |i: usize| text.path().join(format!("{i:02}"));
        (0..40).for_each(|i| fs::write(path(i), mixed::prose(i as u64, 3_000)).unwrap());
        let options = on(&[text.path()], short(&folder));
        let options = Options { shuffle_files: false, shuffle_window: 8, ..options };
        stopped(&options, 5);
        // The last file is far behind what five steps have seen.
        fs::write(path(39), mixed::prose(77, 4_000)).unwrap();
        let other = Options { out: folder.path().join("other"), ..options.clone() };
        let expected = result(&whole(&other));
        assert_eq!(result(&resumed(&options).0), expected);

        fs::remove_dir_all(&options.out).unwrap();
        stopped(&options, 5);
        fs::write(path(0), mixed::prose(78, 3_000)).unwrap();
        let message = refused(&options);
        assert!(
            message.contains("the text is not the one that was trained: the first 20"),
            "{message}"
        );
        let (report, log) = resumed(&Options { allow_changes: true, ..options.clone() });
        assert_eq!(report.steps, 12);
        assert!(log.says("changed: the text is not the one"), "{:?}", log.notes);

        // From the change on it can be verified again.
        fs::remove_dir_all(&options.out).unwrap();
        stopped(&options, 5);
        fs::write(path(0), mixed::prose(79, 3_000)).unwrap();
        stopped(&Options { allow_changes: true, resume: true, ..options.clone() }, 8);
        let (report, log) = resumed(&options);
        assert_eq!((report.steps, report.resumed_from), (12, Some(8)));
        assert!(!log.says("changed"), "{:?}", log.notes);
    }

    #[test]
    fn of_the_text_that_gives_another_vocabulary_is_refused() {
        let _watchdog = watchdog("another vocabulary");
        let (folder, text) = (tempdir().unwrap(), tempdir().unwrap());
        let file = text.path().join("text");
        fs::write(&file, mixed::prose(1, 30_000)).unwrap();
        let tokenizer = "bpe:300".to_owned();
        let options = Options { tokenizer, ..on(&[&file], short(&folder)) };
        stopped(&options, 5);
        fs::write(&file, mixed::prose(2, 30_000)).unwrap();
        for allow_changes in [false, true] {
            let message = refused(&Options { allow_changes, ..options.clone() });
            assert!(message.contains("the vocabulary is now another than"), "{message}");
        }
    }

    #[test]
    fn of_the_batch_that_is_allowed_goes_on_after_as_many_sequences() {
        let _watchdog = watchdog("another batch");
        let out = tempdir().unwrap();
        let options = short(&out);
        stopped(&options, 5);
        // 20 sequences are no whole number of micro-batches of 3.
        let other = Options { batch: 3, allow_changes: true, ..options.clone() };
        stopped(&Options { resume: true, ..other.clone() }, 7);
        let state = verify(&options.out).unwrap().state;
        assert_eq!((state.step, state.position), (7, 20 + 2 * 6));
        let (report, _) = resumed(&Options { allow_changes: false, ..other });
        assert_eq!((report.steps, report.resumed_from), (12, Some(7)));
    }
}

mod a_disk_that_is_full {
    use super::*;
    use std::process::Command;

    /// A small file system at a path; false where one cannot be made.
    fn mount(path: &Path, size: &str) -> bool {
        fs::create_dir_all(path).unwrap();
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path);
        root && mount.status().is_ok_and(|status| status.success())
    }

    struct Unmount(PathBuf);

    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }

    /// Fills the disk after a step.
    struct Fill<'a>(&'a Path, Log);

    impl Observer for Fill<'_> {
        fn step(&mut self, progress: &Progress) {
            if progress.step == 5 {
                // All that is left, to the last page.
                let _ = fs::write(self.0.join("filler"), vec![7; 1 << 22]);
            }
        }

        fn note(&mut self, text: &str) {
            self.1.note(text);
        }
    }

    #[test]
    fn at_a_checkpoint_leaves_the_one_before_and_the_run_goes_on_from_it_later() {
        let _watchdog = watchdog("a full disk");
        let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
        let expected = result(&whole(&short(&one)));
        let options = short(&two);
        if !mount(&options.out, "1m") {
            println!("skipped: a small file system needs root; a limit of sizes takes its place");
            return;
        }
        let _unmount = Unmount(options.out.clone());
        let mut fill = Fill(&options.out, Log::default());
        let error = run(&options, &Cancel::new(), &mut fill).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "the outputs have no room either: {error}");
        let words = "the checkpoint at step 6 could not be saved, the one before stands";
        assert!(fill.1.says(words), "{:?}", fill.1.notes);
        fs::remove_file(options.out.join("filler")).unwrap();
        let (report, _) = resumed(&options);
        assert_eq!((result(&report), report.resumed_from), (expected, Some(4)));
    }

    /// The same by a limit on the size of a file, which needs no rights.
    #[test]
    fn or_a_limit_of_sizes_leaves_the_one_before_too() {
        let _watchdog = watchdog("a limit of sizes");
        let out = tempdir().unwrap();
        let program = example::example("pipeline");
        let flags = [
            "--layers",
            "1",
            "--heads",
            "1",
            "--width",
            "64",
            "--context",
            "16",
            "--batch",
            "2",
            "--tokenizer",
            "bytes",
            "--steps",
            "6",
            "--checkpoint-every",
            "2",
            "--out",
        ];
        let mut first = Command::new(&program);
        first.args(flags).arg(out.path().join("out")).args(["--seed", "3"]);
        assert!(first.output().unwrap().status.success());
        // As after a kill at step 5: the checkpoints are there, the outputs are not.
        for name in LAYOUT.names.iter().chain(&["report.json"]) {
            fs::remove_file(out.path().join("out").join(name)).unwrap();
        }
        let weights =
            sha256_of_file(out.path().join("out/checkpoints/step-0000000004/model.safetensors"));
        let before = weights.unwrap();
        let mut limited = Command::new("bash");
        limited.args(["-c", "ulimit -f 100; exec \"$0\" \"$@\""]).arg(&program).args(flags);
        limited.arg(out.path().join("out")).args(["--seed", "3", "--resume"]);
        let output = limited.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("ulimit -f"), "{stderr}");
        let newest = out.path().join("out/checkpoints/step-0000000004");
        assert_eq!(verify(&newest).unwrap().weights_sha256, before);
        let mut last = Command::new(&program);
        last.args(flags).arg(out.path().join("out")).args(["--seed", "3", "--resume"]);
        assert!(last.output().unwrap().status.success());
    }
}

mod kill_9 {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const KILLS: usize = 24;

    fn command(out: &Path, tokenizer: &str) -> Command {
        let mut command = Command::new(example::example("pipeline"));
        command.args([
            "--layers",
            "1",
            "--heads",
            "2",
            "--width",
            "16",
            "--context",
            "16",
            "--batch",
            "2",
            "--steps",
            "40",
            "--checkpoint-every",
            "1",
            "--keep-checkpoints",
            "2",
            "--tokenizer",
            tokenizer,
            "--out",
        ]);
        command.arg(out);
        command
    }

    fn weights(out: &Path) -> String {
        let report = fs::read(out.join("report.json")).unwrap();
        serde_json::from_slice::<RunReport>(&report).unwrap().weights_sha256
    }

    /// Half of the kills come at any time after the start, half a moment after a checkpoint: while
    /// the next step or the next checkpoint is under way. Whatever was there, the last start ends with
    /// the weights of a run that nobody killed.
    #[test]
    fn at_any_moment_again_and_again_ends_with_the_same_weights() {
        let _watchdog = watchdog("kill -9");
        let mut rng = chance::Rng(9);
        let mut kills = 0;
        for tokenizer in ["bytes", "bpe:300"].into_iter().cycle() {
            let (clean, killed) = (tempdir().unwrap(), tempdir().unwrap());
            let (clean, out) = (clean.path().join("out"), killed.path().join("out"));
            assert!(command(&clean, tokenizer).output().unwrap().status.success());
            let mut here = 0;
            // A run that ends before it is killed was not; another one is begun.
            while here < KILLS / 2 && is_killed(&out, tokenizer, &mut rng) {
                here += 1;
            }
            kills += here;
            let mut last = command(&out, tokenizer);
            let crew = ["--resume", "--spheres", "5", "--tokenizers", "3"];
            let output = last.args(crew).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(weights(&out), weights(&clean), "after {here} kills, {tokenizer}");
            if kills >= KILLS {
                break;
            }
        }
        println!("{kills} kills");
    }

    fn is_killed(out: &Path, tokenizer: &str, rng: &mut chance::Rng) -> bool {
        let mut child = command(out, tokenizer);
        child.args(["--resume", "--spheres", &(1 + rng.below(4)).to_string()]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        if rng.below(2) == 0 {
            // After one or two more checkpoints.
            let stdout = BufReader::new(child.stdout.take().unwrap());
            let saved =
                |line: &Result<String, _>| line.as_ref().is_ok_and(|l| l.contains("saved in"));
            stdout.lines().filter(saved).nth(rng.below(2) as usize);
            std::thread::sleep(Duration::from_micros(rng.below(8_000)));
        } else {
            std::thread::sleep(Duration::from_micros(rng.below(120_000)));
        }
        let over = child.try_wait().unwrap().is_some();
        let _ = child.kill(); // SIGKILL.
        child.wait().unwrap();
        !over
    }
}
