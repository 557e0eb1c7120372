//! Ids equal those of tiktoken, token for token.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use tiktoken_rs::CoreBPE;
use twelvefold::corpus::tokenizer::{Encoder, Tokenizer};
use twelvefold_oracles::{NAMES, Rng, nasty_files, nasty_text, ours, theirs};

fn all() -> [(&'static str, Tokenizer, CoreBPE); 3] {
    NAMES.map(|name| (name, ours(name), theirs(name)))
}

fn agree(name: &str, ours: &Tokenizer, theirs: &CoreBPE, encoder: &mut Encoder, text: &str) {
    let (found, expected) = (ours.encode_text(text, encoder), theirs.encode_ordinary(text));
    if found != expected {
        let at = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        let before = ours.decode(&found[..at]).len();
        let mut to = text.len().min(before + 60);
        while !text.is_char_boundary(to) {
            to += 1;
        }
        let mut from = before;
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        let [found, expected] = [&found, &expected].map(|ids| &ids[at..ids.len().min(at + 8)]);
        panic!(
            "{name}: token {at} at byte {before}: {found:?}, not {expected:?}, for {:?}",
            &text[from..to]
        );
    }
    assert_eq!(ours.decode(&found), text.as_bytes(), "{name}");
}

#[test]
fn nasty_files_give_the_ids_of_tiktoken() {
    for (name, ours, theirs) in all() {
        let mut encoder = Encoder::default();
        for (kind, text) in nasty_files() {
            agree(&format!("{name}, {kind}"), &ours, &theirs, &mut encoder, &text);
        }
    }
}

#[test]
fn random_texts_give_the_ids_of_tiktoken() {
    for (name, ours, theirs) in all() {
        let (mut rng, mut encoder) = (Rng(7), Encoder::default());
        for length in (0..4000).map(|i| i % 100) {
            let text = nasty_text(&mut rng, length);
            agree(name, &ours, &theirs, &mut encoder, &text);
        }
    }
}

/// Each character at the start of a piece, within a word, after a space and after a sign.
#[test]
fn every_character_is_of_the_class_that_tiktoken_takes_it_for() {
    for (name, ours, theirs) in all() {
        let mut encoder = Encoder::default();
        let mut text = String::new();
        for c in ('\0'..=char::MAX).filter(|&c| u32::from(c) < 0x3_2400 || u32::from(c) % 61 == 0) {
            text.extend([c, 'a', c, 'B', ' ', c, '!', c, '1', c, '\n']);
            if text.len() > 4000 {
                agree(name, &ours, &theirs, &mut encoder, &text);
                text.clear();
            }
        }
        agree(name, &ours, &theirs, &mut encoder, &text);
    }
}

/// The same vocabulary with a pattern that takes all text as one piece: theirs has no stack for
/// longer runs.
fn one_piece(theirs: &CoreBPE) -> CoreBPE {
    let ranks = (0..200_000).filter_map(|id| Some((theirs.decode_bytes(&[id]).ok()?, id)));
    CoreBPE::new(ranks.collect(), Default::default(), "(?s).+").unwrap()
}

/// Longer than a block of our own tokenizers, and cut nowhere.
#[test]
fn runs_of_a_million_give_the_ids_of_tiktoken() {
    let (mut rng, million) = (Rng(3), 1_000_000);
    let letters: String = (0..million).map(|_| char::from(b'a' + rng.below(26) as u8)).collect();
    for (name, ours, theirs) in all() {
        let (mut encoder, theirs) = (Encoder::default(), one_piece(&theirs));
        let runs = [("letters", letters.clone()), ("a", "a".repeat(million))];
        let spaces = [("spaces", " ".repeat(million)), ("newlines", "\n".repeat(million))];
        for (kind, text) in runs.into_iter().chain(spaces) {
            agree(&format!("{name}, {kind}"), &ours, &theirs, &mut encoder, &text);
        }
    }
}
