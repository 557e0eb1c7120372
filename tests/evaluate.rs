//! The loss of a model on a text is that of its tokens, each predicted once, at any number of threads.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::Path;

use tempfile::{TempDir, tempdir};
use twelvefold::corpus::tokenizer::Encoder;
use twelvefold::model::{Isa, Scratch, Sequence, Slot, Weights, forward_loss, pack};
use twelvefold::report::RunReport;
use twelvefold::train::evaluate::{Evaluation, evaluate};
use twelvefold::train::model::Model;
use twelvefold::train::{Cancel, Options, run};

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;

const DOCUMENTS: [&str; 3] = ["one two three four five six", "seven", "eight nine ten, and so on"];

/// A model of 40 steps, and a folder with three texts.
fn model(change: impl FnOnce(&mut Options)) -> (TempDir, Model, RunReport) {
    let folder = tempdir().unwrap();
    let out = folder.path().join("run");
    let mut options = Options { out: out.clone(), steps: 40, lr: 2e-2, ..tiny::tiny() };
    change(&mut options);
    let report = run(&options, &Cancel::new(), &mut ()).unwrap();
    let texts = folder.path().join("texts");
    fs::create_dir(&texts).unwrap();
    for (name, text) in ["a.txt", "b.txt", "c.txt"].iter().zip(DOCUMENTS) {
        fs::write(texts.join(name), text).unwrap();
    }
    (folder, Model::open(out).unwrap(), report)
}

fn on(folder: &TempDir) -> Options {
    tiny::on(&[&folder.path().join("texts")], tiny::tiny())
}

/// The sum of the losses of these sequences, one by one.
fn sum(model: &Model, sequences: &[(Vec<u32>, Vec<u32>)]) -> f64 {
    let config = model.config();
    let isa = Isa::detect().unwrap();
    let (mut slot, mut scratch) = (Slot::new(config, 1), Scratch::new(config, 1, isa));
    let panels = pack(config, model.params());
    let weights = Weights::new(config, model.params(), &panels);
    let mut loss = |(inputs, targets): &(Vec<u32>, Vec<u32>)| {
        let sequence: Sequence<'_> = (inputs, targets);
        forward_loss(config, weights, [sequence], &mut slot, &mut scratch)
    };
    sequences.iter().map(&mut loss).sum()
}

/// The stream in windows of the context, and where documents are apart also at each of them.
fn windows(model: &Model, apart: bool) -> Vec<(Vec<u32>, Vec<u32>)> {
    let (tokenizer, mut encoder) = (model.require_tokenizer().unwrap(), Encoder::default());
    let end = tokenizer.end_of_document();
    let mut stream = vec![end];
    for text in DOCUMENTS {
        stream.extend(tokenizer.encode_text(text, &mut encoder));
        stream.push(end);
    }
    let mut found: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
    for (at, pair) in stream.windows(2).enumerate() {
        if at % model.config().context == 0 || (apart && pair[0] == end) {
            found.push((Vec::new(), Vec::new()));
        }
        let (inputs, targets) = found.last_mut().unwrap();
        inputs.push(pair[0]);
        targets.push(pair[1]);
    }
    found
}

#[test]
fn every_token_is_predicted_once_and_the_loss_is_the_sum_of_theirs() {
    for tokenizer in ["bytes", "bpe:270"] {
        let (folder, model, _) = model(|o| o.tokenizer = tokenizer.to_owned());
        for mask_documents in [false, true] {
            let options = Options { mask_documents, ..on(&folder) };
            let found = evaluate(&model, &options, &Cancel::new()).unwrap();
            let windows = windows(&model, mask_documents);
            let tokens: usize = windows.iter().map(|(inputs, _)| inputs.len()).sum();
            let bytes: usize = DOCUMENTS.iter().map(|d| d.len()).sum();
            assert_eq!((found.tokens, found.bytes), (tokens as u64, bytes as u64));
            assert_eq!((found.documents, found.skipped.len()), (3, 0));
            let (want, got) = (sum(&model, &windows), found.loss * tokens as f64);
            assert!((want - got).abs() < 1e-9 * want, "{want} {got}");
            assert!((found.perplexity - found.loss.exp()).abs() < 1e-9);
            let bits = want / std::f64::consts::LN_2 / bytes as f64;
            assert!((found.bits_per_byte - bits).abs() < 1e-9, "{bits} {found:?}");
            assert_eq!(found.weights_sha256, model.weights_sha256());
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (_folder, model, _) = model(|_| ());
    let found = |spheres: usize, seed: u64| -> Evaluation {
        let options = Options { spheres, seed, ..tiny::tiny() };
        evaluate(&model, &options, &Cancel::new()).unwrap()
    };
    let one = found(1, 5);
    assert!(one.tokens > 20_000, "the stories: {one:?}");
    for spheres in [2, 3, 8] {
        let other = found(spheres, 5);
        assert_eq!(one.loss.to_bits(), other.loss.to_bits());
        assert_eq!(one, other);
    }
    assert_ne!(one.loss, found(1, 6).loss);
}

/// Text that repeats itself in every part: what a run sets aside for validation is as the rest, so its
/// loss there is nearly that of the whole text. (Its period of 7 meets a window of 16 in every way.)
#[test]
fn the_loss_is_that_of_the_run_on_text_of_the_same_kind() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.txt");
    fs::write(&file, "0123456".repeat(50_000)).unwrap();
    let out = folder.path().join("run");
    let base = Options { out, steps: 60, lr: 2e-2, ..tiny::tiny() };
    let options = tiny::on(&[Path::new(&file)], base);
    let report = run(&options, &Cancel::new(), &mut ()).unwrap();
    let found = evaluate(&Model::open(&options.out).unwrap(), &options, &Cancel::new()).unwrap();
    let trained = report.val_loss.unwrap();
    assert!((found.loss - trained).abs() < 0.02 * trained, "{found:?}, {trained}");
}

#[test]
fn what_cannot_be_evaluated_is_said_and_what_was_left_out_is_named() {
    let (folder, model, _) = model(|_| ());
    let texts = folder.path().join("texts");
    fs::write(texts.join("d.bin"), [0, 1, 2]).unwrap();
    let found = evaluate(&model, &on(&folder), &Cancel::new()).unwrap();
    assert_eq!((found.documents, found.skipped.len()), (3, 1));
    assert!(found.skipped[0].path.ends_with("d.bin"));

    let options = tiny::on(&[&texts.join("d.bin")], tiny::tiny());
    let message = evaluate(&model, &options, &Cancel::new()).unwrap_err().to_string();
    assert!(message.starts_with("the input has no text"), "{message}");
    let options = tiny::on(&[&folder.path().join("nowhere")], tiny::tiny());
    let message = evaluate(&model, &options, &Cancel::new()).unwrap_err().to_string();
    assert!(message.contains("nowhere"), "{message}");

    let cancel = Cancel::new();
    cancel.request();
    assert!(evaluate(&model, &on(&folder), &cancel).is_err());
}
