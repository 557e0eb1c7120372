//! A run may begin with the weights of another model: its first loss is that model's, and a resume knows
//! where it began.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};
use twelvefold::Error;
use twelvefold::model::{
    Config, Isa, Layout, Scratch, Sequence, Slot, Weights, forward_loss, pack,
};
use twelvefold::report::{Observer, Progress, RunReport};
use twelvefold::train::explain::explain;
use twelvefold::train::model::Model;
use twelvefold::train::{Cancel, Options, run};

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;

/// The folder of a model of 30 steps: 1 layer, 2 heads, a width of 8, a context of 16.
fn first(folder: &TempDir, name: &str, seed: u64) -> PathBuf {
    let out = folder.path().join(name);
    let options = Options { out: out.clone(), steps: 30, lr: 2e-2, seed, ..tiny::tiny() };
    run(&options, &Cancel::new(), &mut ()).unwrap();
    out
}

/// A run of 6 steps that begins there. Sizes and tokenizer are not said.
fn from(init: &Path, out: &Path) -> Options {
    let default = Options::default();
    Options {
        init: Some(init.to_path_buf()),
        out: out.to_path_buf(),
        steps: 6,
        seed: 9,
        micro_batches: 1,
        tokenizer: default.tokenizer,
        layers: default.layers,
        heads: default.heads,
        width: default.width,
        context: default.context,
        checkpoint_every: 2,
        ..tiny::tiny()
    }
}

/// The losses of the steps; asks to stop after one of them.
struct Losses {
    all: Vec<f64>,
    stop: Option<(usize, Cancel)>,
}

impl Observer for Losses {
    fn step(&mut self, progress: &Progress) {
        self.all.push(progress.loss);
        if let Some((after, cancel)) = &self.stop
            && self.all.len() == *after
        {
            cancel.request();
        }
    }
}

fn losses(options: &Options, stop: Option<usize>) -> Result<(Vec<f64>, RunReport), Error> {
    let cancel = Cancel::new();
    let stop = stop.map(|after| (after, cancel.clone()));
    let mut observer = Losses { all: Vec::new(), stop };
    let report = run(options, &cancel, &mut observer)?;
    Ok((observer.all, report))
}

fn refused(options: &Options) -> String {
    losses(options, None).unwrap_err().to_string()
}

/// The mean loss of the model over the sequences of the run's first step.
fn loss_of(model: &Model, options: &Options) -> f64 {
    let (config, isa) = (model.config(), Isa::detect().unwrap());
    let (mut slot, mut scratch) = (Slot::new(config, 1), Scratch::new(config, 1, isa));
    let panels = pack(config, model.params());
    let weights = Weights::new(config, model.params(), &panels);
    let sequences = explain(options, 0).unwrap().sequences;
    let context = options.context.min(config.context);
    let rows = sequences.inputs().chunks(context).zip(sequences.targets().chunks(context));
    let sum: f64 = rows
        .map(|(inputs, targets)| {
            let sequence: Sequence<'_> = (inputs, targets);
            forward_loss(config, weights, [sequence], &mut slot, &mut scratch)
        })
        .sum();
    sum / sequences.inputs().len() as f64
}

#[test]
fn the_first_loss_is_that_of_the_model_it_begins_with() {
    let folder = tempdir().unwrap();
    let init = first(&folder, "first", 1);
    let model = Model::open(&init).unwrap();
    for context in [Options::default().context, 16, 7] {
        let options = Options { context, ..from(&init, &folder.path().join("second")) };
        let options = Options { overwrite: true, ..options };
        let (losses, _) = losses(&options, None).unwrap();
        let want = loss_of(&model, &options);
        assert!((losses[0] - want).abs() < 1e-6, "{context}: {losses:?}, {want}");
        assert!(want < 4.5, "30 steps are better than ln 257: {want}");
        let trained = Model::open(&options.out).unwrap();
        let config = Config { context: context.min(16), ..*model.config() };
        assert_eq!(*trained.config(), config, "sizes and vocabulary are the model's");
        let written = |of: &Path| fs::read(of.join("tokenizer.json")).unwrap();
        assert!(written(&init) == written(&options.out));
    }
}

#[test]
fn a_resumed_run_comes_to_the_weights_of_one_that_was_never_interrupted() {
    let folder = tempdir().unwrap();
    let (init, other) = (first(&folder, "first", 1), first(&folder, "other", 2));
    let whole = from(&init, &folder.path().join("whole"));
    let (_, whole) = losses(&whole, None).unwrap();
    let options = from(&init, &folder.path().join("parts"));
    assert!(losses(&options, Some(3)).unwrap().1.interrupted);
    let options = Options { resume: true, ..options };

    let message = refused(&Options { init: Some(other), ..options.clone() });
    assert!(message.contains("the SHA-256 of the weights of --init was"), "{message}");
    // Without it the sizes and the tokenizer have to be said; then the weights are what differs.
    let drawn =
        Options { steps: 6, seed: 9, micro_batches: 1, out: options.out.clone(), ..tiny::tiny() };
    let message = refused(&Options { resume: true, ..drawn });
    assert!(message.contains("the SHA-256 of the weights of --init was"), "{message}");

    // Where it lies decides nothing.
    let moved = folder.path().join("moved");
    fs::rename(&init, &moved).unwrap();
    let (rest, report) = losses(&Options { init: Some(moved), ..options }, None).unwrap();
    assert_eq!((rest.len(), &report.weights_sha256), (3, &whole.weights_sha256));
}

#[test]
fn a_setting_that_is_not_the_models_is_refused_and_named() {
    let folder = tempdir().unwrap();
    let init = first(&folder, "first", 1);
    let options = from(&init, &folder.path().join("second"));
    type Change = fn(&mut Options);
    let with = |change: Change| {
        let mut options = options.clone();
        change(&mut options);
        refused(&options)
    };
    let table: [(&str, Change); 5] = [
        ("--layers 3 is not possible: the model in", |o| o.layers = 3),
        ("--heads 8 is not possible: the model in", |o| o.heads = 8),
        ("--width 16 is not possible: the model in", |o| o.width = 16),
        ("--context 17 is not possible: the model in", |o| o.context = 17),
        ("--tokenizer words:40 is not possible: the model in", |o| o.tokenizer = "words:40".into()),
    ];
    for (expected, change) in table {
        let message = with(change);
        assert!(message.starts_with(expected) && message.ends_with("leave it out"), "{message}");
    }
    let message = with(|o| o.init = Some("no/such/folder".into()));
    assert!(message.starts_with("cannot read no/such/folder/config.json"), "{message}");
    let inside = Options { out: folder.path().to_path_buf(), ..options.clone() };
    assert!(refused(&inside).contains("lies in the folder of the outputs"), "{}", refused(&inside));
    assert!(!options.out.exists(), "nothing was begun");

    // A model without a tokenizer takes what fits it.
    fs::remove_file(init.join("tokenizer.json")).unwrap();
    let large = Options { tokenizer: "bpe:300".to_owned(), ..options.clone() };
    let message = refused(&large);
    assert!(message.contains("has 300 tokens, and the model in"), "{message}");
    let bytes = Options { tokenizer: "bytes".to_owned(), overwrite: true, ..options };
    let want = loss_of(&Model::open(&init).unwrap(), &bytes);
    assert!((losses(&bytes, None).unwrap().0[0] - want).abs() < 1e-6);
    assert_eq!(Layout::new(Model::open(&bytes.out).unwrap().config()).tensors().len(), 16);
}
