//! Hugging Face's `tokenizers` loads what we write and gives the same ids, we read what it reads, and
//! both learn the same vocabulary.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Tokenizer as Theirs, TokenizerBuilder, normalizers, processors};
use twelvefold::corpus::runs::Cuts;
use twelvefold::corpus::tokenizer::learn::{Learner, train};
use twelvefold::corpus::tokenizer::{Encoder, Tokenizer, TokenizerSpec};
use twelvefold::corpus::{Chunk, Span};
use twelvefold_oracles::{NAMES, Rng, nasty_files, nasty_text, ours};

/// Text that spells a special token is text for both.
fn theirs(json: &Value) -> Theirs {
    let mut theirs = Theirs::from_bytes(json.to_string()).unwrap();
    theirs.set_encode_special_tokens(true);
    theirs
}

fn agree(what: &str, ours: &Tokenizer, theirs: &Theirs) {
    let mut encoder = Encoder::default();
    let mut rng = Rng(5);
    let random = (0..500).map(|i| ("random", nasty_text(&mut rng, i % 100)));
    for (kind, text) in nasty_files().into_iter().chain(random) {
        let found = ours.encode_text(&text, &mut encoder);
        let expected = theirs.encode_fast(text.as_str(), false).unwrap();
        assert!(found == expected.get_ids(), "{what}, {kind}");
    }
}

#[test]
fn the_well_known_vocabularies_give_the_same_ids_there() {
    for name in NAMES {
        let found = ours(name);
        agree(name, &found, &theirs(&found.to_json()));
    }
}

/// Their rules for the merges (a list, and no piece that is a token by itself), and other patterns.
#[test]
fn a_tokenizer_json_gives_the_ids_that_it_gives_there() {
    let folder = tempfile::tempdir().unwrap();
    let split = |regex: &str| {
        let pattern = json!({ "Regex": regex });
        json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false })
    };
    let words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+";
    let rest = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let llama3 = split(&format!("{words}|\\p{{N}}{{1,3}}|{rest}"));
    let qwen2 = split(&format!("{words}|\\p{{N}}|{rest}"));
    for (name, of, split) in [
        ("gpt2", "gpt2", None),
        ("llama3", "cl100k", Some(llama3)),
        ("qwen2", "cl100k", Some(qwen2)),
    ] {
        for ignore_merges in [true, false] {
            let mut json = ours(of).to_json();
            json["model"]["ignore_merges"] = json!(ignore_merges);
            if let Some(split) = &split {
                json["pre_tokenizer"]["pretokenizers"][0] = split.clone();
            }
            let path = folder.path().join("tokenizer.json");
            std::fs::write(&path, json.to_string()).unwrap();
            let found = TokenizerSpec::Json(path).load().unwrap();
            assert!(found.to_json() == json, "{name}: written as it was read");
            agree(&format!("{name}, ignore_merges {ignore_merges}"), &found, &theirs(&json));
        }
    }
}

/// Each text a document of one chunk.
fn learned(texts: &[String], vocab: usize) -> Tokenizer {
    let spec = TokenizerSpec::Bpe(vocab);
    let mut learners = [Learner::new(spec.clone()), Learner::new(spec)];
    for (index, text) in texts.iter().enumerate() {
        let (document, range) = (index as u64, 0..text.len());
        let span = Span { document, range, offset: 0, ends_document: true, bits: 0.0 };
        let chunk = Chunk {
            index: document,
            bytes: text.clone().into(),
            spans: vec![span],
            ends_pass: false,
        };
        learners[index % 2].learn(&chunk);
    }
    train(learners.into()).tokenizer
}

fn learned_there(texts: &[String], vocab: usize) -> Value {
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let step = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        normalizers::NormalizerWrapper,
        _,
        processors::PostProcessorWrapper,
        ByteLevel,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(step))
    .with_decoder(Some(step))
    .build()
    .unwrap();
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).unwrap();
    serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap()
}

#[test]
fn the_vocabulary_that_is_learned_is_the_one_that_is_learned_there() {
    let mut rng = Rng(9);
    // Few letters: many ties, and repetitions such as "aaa".
    let few =
        |rng: &mut Rng| (0..3000).map(|_| ["a", "b", "aab", " ", "ba"][rng.below(5)]).collect();
    let kinds: [Vec<String>; 3] = [
        (0..40).map(|_| nasty_text(&mut rng, 3000)).collect(),
        (0..20).map(|_| few(&mut rng)).collect(),
        nasty_files().into_iter().map(|(_, text)| text).filter(|text| is_short(text)).collect(),
    ];
    for (kind, texts) in kinds.iter().enumerate() {
        for vocab in [300, 1000, 5000] {
            // Theirs has no token that ends a document.
            let (ours, theirs) = (learned(texts, vocab + 1), learned_there(texts, vocab));
            let json = ours.to_json();
            let mut expected = theirs["model"]["vocab"].clone();
            expected["<|endoftext|>"] = json!(ours.end_of_document());
            let [found, expected] = [&json["model"]["vocab"], &expected].map(|vocab| {
                vocab.as_object().unwrap().iter().map(|(name, id)| (id.as_u64(), name)).collect()
            });
            let (found, expected): (BTreeMap<_, _>, BTreeMap<_, _>) = (found, expected);
            assert_eq!(found, expected, "kind {kind}, {vocab} tokens");
            assert_eq!(json["model"]["merges"], theirs["model"]["merges"], "kind {kind}");
            agree_with_file(&ours, &json);
        }
    }
}

/// Of longer pieces, and of blocks, ours learns a part.
fn is_short(text: &str) -> bool {
    let longest = twelvefold::corpus::tokenizer::split::pieces(text).map(|piece| piece.len()).max();
    longest.is_some_and(|longest| longest <= 256)
        && Cuts::OWN.segments(text.as_bytes(), 0).count() > 0
}

fn agree_with_file(ours: &Tokenizer, json: &Value) {
    agree("learned", ours, &theirs(json));
}
