//! `tokenizer.json`, as Hugging Face's `tokenizers` reads it and then gives the same ids.
//!
//! One difference remains, of that library's making: it takes text that spells a special token for
//! that token, unless `encode_special_tokens` is set.

use serde_json::{Map, Value, json};

use super::Tokenizer;
use super::bpe::{BYTE_ORDER, BYTE_TOKEN, Bpe, END_OF_TEXT};
use super::words::{SPECIALS, Words};
use crate::corpus::Token;

pub(super) fn to_json(tokenizer: &Tokenizer) -> Value {
    match tokenizer {
        Tokenizer::Bytes => bytes(),
        Tokenizer::Words(words) => whole_words(words),
        Tokenizer::Bpe(bpe) => byte_level(bpe),
    }
}

/// The character by which GPT-2 writes a byte: itself where it prints, otherwise one from U+0100 on.
fn printed(byte: u8) -> char {
    const FIRST_OTHER: u32 = 188;
    match u32::from(BYTE_TOKEN[usize::from(byte)]) {
        place if place < FIRST_OTHER => char::from(byte),
        place => char::from_u32(0x100 + place - FIRST_OTHER).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

fn spelled(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| printed(byte)).collect()
}

fn bytes() -> Value {
    let mut vocab: Map<String, Value> =
        (0..=255).map(|byte| (printed(byte).to_string(), json!(byte))).collect();
    vocab.insert(END_OF_TEXT.into(), json!(256));
    byte_level_file(vocab, Vec::new(), 256, false)
}

fn byte_level(bpe: &Bpe) -> Value {
    let end = bpe.end_of_document();
    let mut vocab: Map<String, Value> =
        (0..end).map(|token| (spelled(bpe.token_bytes(token)), json!(token))).collect();
    debug_assert_eq!(vocab.len(), end as usize);
    debug_assert_eq!(bpe.token_bytes(0), [BYTE_ORDER[0]]);
    vocab.insert(END_OF_TEXT.into(), json!(end));
    let side = |token| spelled(bpe.token_bytes(token));
    let merges = bpe.merges().iter().map(|&(left, right)| json!([side(left), side(right)]));
    byte_level_file(vocab, merges.collect(), end, true)
}

fn byte_level_file(
    vocab: Map<String, Value>,
    merges: Vec<Value>,
    end: Token,
    use_regex: bool,
) -> Value {
    let step = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": use_regex,
    });
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "vocab": vocab,
        "merges": merges,
    });
    file(&[(END_OF_TEXT, end)], Value::Null, step.clone(), step, model)
}

fn whole_words(words: &Words) -> Value {
    let all = 0..words.vocab() as Token;
    let vocab: Map<String, Value> =
        all.map(|token| (words.word(token).into(), json!(token))).collect();
    let model = json!({ "type": "WordLevel", "vocab": vocab, "unk_token": SPECIALS[1] });
    let specials: Vec<(&str, Token)> = SPECIALS.into_iter().zip(0..).collect();
    let (lowercase, split) = (json!({ "type": "Lowercase" }), json!({ "type": "WhitespaceSplit" }));
    file(&specials, lowercase, split, Value::Null, model)
}

fn file(
    specials: &[(&str, Token)],
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
) -> Value {
    let added = specials.iter().map(|(content, id)| {
        json!({
            "id": id,
            "content": content,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        })
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    })
}
