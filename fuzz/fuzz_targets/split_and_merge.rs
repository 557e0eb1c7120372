//! Any text comes back, in pieces and in tokens, and a long piece merges as its definition says.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use twelvefold::corpus::tokenizer::learn::{Learner, train};
use twelvefold::corpus::tokenizer::split::pieces_by;
use twelvefold::corpus::tokenizer::{Encoder, Tokenizer, TokenizerSpec};
use twelvefold::corpus::{Chunk, Span};

static LEARNED: OnceLock<Tokenizer> = OnceLock::new();

/// Of this very file, which has words, signs and spaces.
fn learned() -> Tokenizer {
    let text = include_bytes!("split_and_merge.rs");
    let mut learner = Learner::new(TokenizerSpec::Bpe(700));
    let span =
        Span { document: 0, range: 0..text.len(), offset: 0, ends_document: true, bits: 0.0 };
    let bytes = text.to_vec();
    learner.learn(&Chunk { bytes, spans: vec![span], ..Chunk::default() });
    train(vec![learner]).tokenizer
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for name in ["gpt2", "cl100k", "llama3", "qwen2", "o200k"] {
        let mut at = 0;
        for piece in pieces_by(name.parse().expect("a pattern"), &text) {
            assert!(piece.start == at && piece.end > at && text.is_char_boundary(piece.end));
            at = piece.end;
        }
        assert_eq!(at, text.len());
    }
    let tokenizer = LEARNED.get_or_init(learned);
    let mut encoder = Encoder::default();
    for _ in 0..2 {
        let tokens = tokenizer.encode_text(&text, &mut encoder);
        assert_eq!(tokenizer.decode(&tokens), text.as_bytes());
        assert!(!tokens.contains(&tokenizer.end_of_document()));
    }
});
