//! Writes `tokenizer.json`, as Hugging Face's `tokenizers` reads it and then gives the same ids. What
//! was read from such a file is written as it was.
//!
//! One difference remains, of that library's making: it takes text that spells a special token for
//! that token, unless `encode_special_tokens` is set.

use serde_json::{Map, Value, json};

use super::Tokenizer;
use super::bpe::{BYTE_TOKEN, Bpe, END_OF_TEXT};
use super::split::Pattern;
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

/// The byte that GPT-2 writes by this character.
pub(super) fn byte_of(c: char) -> Option<u8> {
    (0..=255).find(|&byte| printed(byte) == c)
}

fn bytes() -> Value {
    let mut vocab: Map<String, Value> =
        (0..=255).map(|byte| (printed(byte).to_string(), json!(byte))).collect();
    vocab.insert(END_OF_TEXT.into(), json!(256));
    let model = byte_level_model(vocab, Vec::new(), false);
    let step = byte_level_step(false);
    file(&[(END_OF_TEXT, 256)], Value::Null, step.clone(), step, model)
}

fn byte_level(bpe: &Bpe) -> Value {
    // What was read has been parsed once, and does so again.
    if let Some(value) = bpe.file().and_then(|text| serde_json::from_str(text).ok()) {
        return value;
    }
    let end = bpe.end_of_document();
    let tokens = (0..bpe.vocab() as Token).filter(|&token| !bpe.token_bytes(token).is_empty());
    let mut vocab: Map<String, Value> =
        tokens.map(|token| (spelled(bpe.token_bytes(token)), json!(token))).collect();
    vocab.insert(END_OF_TEXT.into(), json!(end));
    let side = |token| spelled(bpe.token_bytes(token));
    let merge = |&(left, right): &(Token, Token)| json!([side(left), side(right)]);
    let merges = match bpe.takes_whole_pieces() && bpe.merges().is_empty() {
        true => last_merges(bpe).iter().map(merge).collect(),
        false => bpe.merges().iter().map(merge).collect(),
    };
    let model = byte_level_model(vocab, merges, bpe.takes_whole_pieces());
    let pre_tokenizer = match bpe.pattern() {
        Pattern::Gpt2 => byte_level_step(true),
        pattern => {
            let regex = json!({ "Regex": pattern.regex() });
            let split = json!({
                "type": "Split", "pattern": regex, "behavior": "Isolated", "invert": false,
            });
            json!({ "type": "Sequence", "pretokenizers": [split, byte_level_step(false)] })
        }
    };
    file(&[(END_OF_TEXT, end)], Value::Null, pre_tokenizer, byte_level_step(true), model)
}

/// For a vocabulary that has numbers only: the two tokens from which each one is made in the end, in
/// the order of the numbers.
fn last_merges(bpe: &Bpe) -> Vec<(Token, Token)> {
    let mut merges = Vec::new();
    for token in 0..bpe.vocab() as Token {
        let bytes = bpe.token_bytes(token).iter();
        let mut parts: Vec<Token> = bytes.map(|&byte| bpe.pairs().byte(byte)).collect();
        while parts.len() > 2 {
            let ranks = parts.windows(2).map(|pair| bpe.pairs().get(pair[0], pair[1]));
            let best = ranks.enumerate().min_by_key(|&(_, rank)| rank);
            let Some((at, rank)) = best.filter(|&(_, rank)| rank < token) else { break };
            parts.splice(at..at + 2, [rank]);
        }
        // A token that its own bytes do not lead to is reached as a whole piece only.
        if let [left, right] = parts[..] {
            merges.push((left, right));
        }
    }
    merges
}

fn byte_level_step(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": use_regex,
    })
}

fn byte_level_model(vocab: Map<String, Value>, merges: Vec<Value>, ignore_merges: bool) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": ignore_merges,
        "vocab": vocab,
        "merges": merges,
    })
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
