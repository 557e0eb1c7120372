//! A micro-batch is explained by the very bytes that it was made of.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/mixed.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod mixed;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;

use tempfile::{TempDir, tempdir};
use tiny::{on, tiny, train};
use twelvefold::corpus::batcher::{IGNORE, Receipt};
use twelvefold::train::Options;
use twelvefold::train::explain::{Explained, explain};
use watchdog::watchdog;

/// Many small files and one of several units, all valid UTF-8.
fn text() -> TempDir {
    let folder = tempdir().unwrap();
    for i in 0..30 {
        let bytes = if i == 11 { 150_000 } else { 700 };
        fs::write(folder.path().join(format!("{i:02}")), mixed::prose(i, bytes)).unwrap();
    }
    folder
}

/// The text of the files at each sequence's origin, ends of document left out.
fn found(explained: &Explained) -> Vec<Vec<u8>> {
    let part = |part: &twelvefold::train::explain::Part| {
        assert!(part.exact, "{part:?}");
        let file = fs::read(part.path.as_ref().unwrap()).unwrap();
        file[part.bytes.start as usize..part.bytes.end as usize].to_vec()
    };
    explained.origins.iter().map(|origin| origin.iter().flat_map(part).collect()).collect()
}

#[test]
fn the_bytes_named_are_those_of_the_tokens_and_all_micro_batches_give_the_runs_receipt() {
    let _watchdog = watchdog("explain");
    let folder = text();
    let options = Options { context: 64, batch: 3, steps: 6, ..on(&[folder.path()], tiny()) };
    let report = train(&options).unwrap();
    let mut receipt = Receipt::default();
    // Two micro-batches a step; and some of the second epoch and the third.
    for batch in (0..12).chain([1200, 1201, 2000]) {
        let explained = explain(&options, batch).unwrap();
        let sequences = &explained.sequences;
        if batch < 12 {
            receipt.add(sequences.inputs(), sequences.targets());
        }
        for (row, text) in found(&explained).iter().enumerate() {
            let at = row * 64..(row + 1) * 64;
            let targets = sequences.targets()[at.clone()].iter().filter(|t| **t != IGNORE);
            let all = sequences.inputs()[at].iter().take(1).chain(targets);
            let bytes: Vec<u8> = all.filter_map(|token| u8::try_from(*token).ok()).collect();
            assert_eq!(
                String::from_utf8_lossy(text),
                String::from_utf8_lossy(&bytes),
                "{batch} {row}"
            );
        }
        if batch > 12 {
            assert!(sequences.origins()[0].epoch > 0);
        }
    }
    assert_eq!(receipt.to_string(), report.receipt);
}

#[test]
fn pieces_of_a_vocabulary_are_traced_to_their_bytes_and_words_to_their_unit() {
    let _watchdog = watchdog("explain a vocabulary");
    let folder = text();
    let bpe = Options { tokenizer: "bpe:300".to_owned(), ..on(&[folder.path()], tiny()) };
    let explained = explain(&bpe, 5).unwrap();
    let texts = found(&explained);
    // 17 tokens of a byte or more; neighbours overlap by one token, and no origin is a guess.
    assert!(texts.iter().all(|text| text.len() > 16), "{texts:?}");
    let words = Options { tokenizer: "words:50".to_owned(), ..bpe };
    let explained = explain(&words, 5).unwrap();
    for part in explained.origins.iter().flatten() {
        assert!(!part.exact && part.bytes.end - part.bytes.start <= 100_000, "{part:?}");
    }
}

#[test]
fn a_story_has_no_path_and_too_little_text_is_refused() {
    let _watchdog = watchdog("explain stories");
    let explained = explain(&tiny(), 0).unwrap();
    assert!(explained.origins.iter().flatten().all(|part| part.path.is_none() && part.exact));
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("a"), "few").unwrap();
    let message = explain(&on(&[folder.path()], tiny()), 0).unwrap_err().to_string();
    assert!(message.contains("too few tokens"), "{message}");
}
