//! Reads a `tokenizer.json` of Hugging Face's: a byte-level BPE with one of the known patterns.
//!
//! Whatever would make other ids than ours is refused by name: another model, a normalizer, an unknown
//! pattern, dropout, tokens that are taken out of the text before it is cut. Special tokens are never
//! taken from text; the one that ends a document is found by its name. Post-processing (a token in
//! front of each text) is not done, as documents are separated by that one.

use std::collections::HashMap;

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::Value;

use super::bpe::{Bpe, Foreign, Spelled};
use super::json::byte_of;
use super::merge::{MAX_RANKS, MAX_TOKENS, NONE, Pairs};
use super::split::Pattern;
use crate::corpus::Token;

/// What the token that ends a document is called in the vocabularies of others, in the order in which
/// it is looked for.
const ENDS: [&str; 9] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end▁of▁sentence|>",
    "</s>",
    "<eos>",
    "<|eos|>",
    "[EOS]",
    "<|return|>",
    "<|im_end|>",
];

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    vocab: HashMap<String, u64>,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// Two tokens, or both in one text with a space between.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Two(String, String),
    One(String),
}

impl Merge {
    fn sides(&self) -> Option<(&str, &str)> {
        match self {
            Merge::Two(left, right) => Some((left, right)),
            Merge::One(text) => text.split_once(' '),
        }
    }
}

/// Reads the text of a file.
///
/// # Errors
/// What is wrong or not supported.
pub(super) fn read(text: &str) -> Result<Bpe, String> {
    let file: File = serde_json::from_str(text).map_err(|e| format!("it does not parse: {e}"))?;
    let pattern = pattern(&file.pre_tokenizer)?;
    check(&file)?;
    let model = &file.model;
    let known = |id: u64| usize::try_from(id).ok().filter(|&id| id < MAX_TOKENS);
    let mut names: Vec<Option<&str>> = Vec::new();
    for (name, &id) in &model.vocab {
        let at = known(id).ok_or_else(|| format!("token {id} ({name}) is beyond {MAX_TOKENS}"))?;
        if names.len() <= at {
            names.resize(at + 1, None);
        }
        if let Some(other) = names[at].replace(name) {
            return Err(format!("token {id} is both {name:?} and {other:?}"));
        }
    }
    let mut vocab = names.len();
    for added in &file.added_tokens {
        let (id, name) = (added.id, &added.content);
        let at = known(id).ok_or_else(|| format!("token {id} ({name}) is beyond {MAX_TOKENS}"))?;
        vocab = vocab.max(at + 1);
        if let Some(name) = names.get_mut(at) {
            *name = None;
        }
    }
    let alphabet: HashMap<char, u8> =
        ('\0'..'\u{200}').filter_map(|c| Some((c, byte_of(c)?))).collect();
    let bytes_of = |name: &str| name.chars().map(|c| alphabet.get(&c).copied()).collect();
    let (mut spelled, mut ids) = (Spelled::default(), FxHashMap::<Box<[u8]>, Token>::default());
    for (id, name) in names.iter().enumerate() {
        // A name beyond the alphabet of bytes is met in no text.
        let bytes: Option<Vec<u8>> = name.and_then(bytes_of);
        let bytes = bytes.unwrap_or_default();
        spelled.push(&bytes);
        if !bytes.is_empty() {
            ids.insert(bytes.into(), id as Token);
        }
    }
    let end = end_of_document(&file)?;
    let (pairs, merges) = merges(model, &ids, bytes_of)?;
    let whole = if model.ignore_merges { ids } else { FxHashMap::default() };
    let file = Some(text.into());
    Ok(Bpe::foreign(Foreign { pattern, spelled, pairs, merges, whole, vocab, end, file }))
}

/// The pairs with their ranks, and their list.
fn merges(
    model: &Model,
    ids: &FxHashMap<Box<[u8]>, Token>,
    bytes_of: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<(Pairs, Vec<(Token, Token)>), String> {
    let mut bytes = [NONE; 256];
    for (byte, token) in (0..=255_u8).zip(&mut bytes) {
        let found = ids.get(&[byte][..]);
        *token = *found.ok_or_else(|| format!("the byte {byte:#04x} has no token"))?;
    }
    if model.merges.len() >= MAX_RANKS {
        return Err(format!("{} merges; less than {MAX_RANKS} fit", model.merges.len()));
    }
    let (mut pairs, mut list) = (Pairs::new(bytes), Vec::new());
    for (rank, merge) in model.merges.iter().enumerate() {
        let wrong = |why: &str| format!("merge {rank}: {why}");
        let (left, right) = merge.sides().ok_or_else(|| wrong("it is no pair"))?;
        let spell =
            |side: &str| bytes_of(side).ok_or_else(|| wrong(&format!("{side:?} is no token")));
        let (left_bytes, right_bytes) = (spell(left)?, spell(right)?);
        let both = [&left_bytes[..], &right_bytes].concat();
        let id = |bytes: &[u8], name: &str| {
            ids.get(bytes).copied().ok_or_else(|| wrong(&format!("{name:?} is no token")))
        };
        let pair = (id(&left_bytes, left)?, id(&right_bytes, right)?);
        pairs.rank(rank as u32, id(&both, &format!("{left}{right}"))?);
        pairs.insert(pair.0, pair.1, rank as u32);
        list.push(pair);
    }
    Ok((pairs, list))
}

fn check(file: &File) -> Result<(), String> {
    let model = &file.model;
    if let Some(kind) = model.kind.as_deref().filter(|&kind| kind != "BPE") {
        return Err(format!("its model is {kind}; only BPE is read"));
    }
    let is_empty = |text: &Option<String>| text.as_deref().unwrap_or("").is_empty();
    if !is_empty(&model.continuing_subword_prefix) || !is_empty(&model.end_of_word_suffix) {
        return Err("its tokens are marked by a prefix or suffix, which is not read".into());
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err("its merges are dropped at random, which is not done here".into());
    }
    let normalizes = match &file.normalizer {
        Value::Null => false,
        Value::Object(step) if step.get("type") == Some(&"Sequence".into()) => {
            !step.get("normalizers").and_then(Value::as_array).is_some_and(Vec::is_empty)
        }
        _ => true,
    };
    if normalizes {
        let kind = file.normalizer.get("type").and_then(Value::as_str).unwrap_or("unknown");
        return Err(format!("it changes the text before it is cut (normalizer {kind})"));
    }
    if let Some(added) = file.added_tokens.iter().find(|added| !added.special) {
        let name = &added.content;
        return Err(format!(
            "{name:?} is an added token that is no special one: it would be taken out of the text before that is cut"
        ));
    }
    Ok(())
}

fn pattern(pre_tokenizer: &Value) -> Result<Pattern, String> {
    let kind = |step: &Value| step.get("type").and_then(Value::as_str).unwrap_or("none").to_owned();
    let is = |step: &Value, key: &str, default: bool| {
        step.get(key).and_then(Value::as_bool).unwrap_or(default)
    };
    let steps = match kind(pre_tokenizer).as_str() {
        "Sequence" => pre_tokenizer.get("pretokenizers").and_then(Value::as_array),
        _ => None,
    };
    let one = std::slice::from_ref(pre_tokenizer);
    let steps = steps.map_or(one, |steps| steps);
    let (split, last) = match steps {
        [last] => (None, last),
        [split, last] if kind(split) == "Split" => (Some(split), last),
        _ => {
            let kinds: Vec<String> = steps.iter().map(kind).collect();
            return Err(format!("its text is cut by {}, which is not read", kinds.join(", ")));
        }
    };
    if kind(last) != "ByteLevel" {
        return Err(format!("its text is cut by {}; only ByteLevel is read", kind(last)));
    }
    if is(last, "add_prefix_space", true) {
        return Err("it puts a space before each text, which is not done here".into());
    }
    match (split, is(last, "use_regex", true)) {
        (None, true) => Ok(Pattern::Gpt2),
        (None, false) => Err("its text is not cut into pieces".into()),
        (Some(_), true) => Err("its text is cut by two patterns".into()),
        (Some(split), false) => {
            if split.get("behavior") != Some(&"Isolated".into()) || is(split, "invert", false) {
                return Err("its pattern gives more than the pieces".into());
            }
            let regex = split.get("pattern").and_then(|pattern| pattern.get("Regex"));
            let regex = regex.and_then(Value::as_str).unwrap_or_default();
            Pattern::of_regex(regex)
                .ok_or_else(|| format!("its pattern is none that is known: {regex}"))
        }
    }
}

fn end_of_document(file: &File) -> Result<Token, String> {
    let id = |name: &&str| file.added_tokens.iter().find(|added| added.content == *name);
    match ENDS.iter().find_map(id) {
        Some(added) => Ok(added.id as Token),
        None => Err(format!("no added token ends a document; known are {}", ENDS.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The bytes, and `ab` of `a` and `b`.
    fn small() -> Value {
        let mut value = crate::corpus::tokenizer::Tokenizer::Bytes.to_json();
        value["pre_tokenizer"]["use_regex"] = json!(true);
        value["model"]["vocab"]["ab"] = json!(300);
        value["model"]["merges"] = json!(["a b"]);
        value
    }

    fn refused(change: impl FnOnce(&mut Value)) -> String {
        let mut value = small();
        change(&mut value);
        read(&value.to_string()).unwrap_err()
    }

    #[test]
    fn a_file_is_read_with_its_gaps_and_its_end() {
        let bpe = read(&small().to_string()).unwrap();
        let mut out = Vec::new();
        bpe.encode("abab <|endoftext|>", &mut Default::default(), &mut out);
        assert_eq!(out[..3], [300, 300, 32]);
        assert!(!out.contains(&256));
        assert_eq!((bpe.vocab(), bpe.end_of_document(), bpe.pattern()), (301, 256, Pattern::Gpt2));
        assert_eq!(bpe.token_bytes(300), b"ab");
        assert!(bpe.token_bytes(256).is_empty() && bpe.token_bytes(280).is_empty());
        let arrays = &mut small();
        arrays["model"]["merges"] = json!([["a", "b"]]);
        assert_eq!(read(&arrays.to_string()).unwrap().merges(), bpe.merges());
    }

    #[test]
    fn every_pattern_is_found_again_in_what_is_written() {
        for name in ["gpt2", "cl100k", "llama3", "qwen2", "o200k"] {
            let pattern: Pattern = name.parse().unwrap();
            assert_eq!(Pattern::of_regex(pattern.regex()), Some(pattern));
            let mut value = small();
            let regex = json!({ "Regex": pattern.regex() });
            let split = json!({ "type": "Split", "pattern": regex, "behavior": "Isolated" });
            let mut last = value["pre_tokenizer"].clone();
            last["use_regex"] = json!(false);
            value["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [split, last] });
            assert_eq!(read(&value.to_string()).unwrap().pattern(), pattern);
        }
    }

    #[test]
    fn what_would_give_other_ids_is_refused_by_name() {
        type Change = fn(&mut Value);
        let table: [(&str, Change); 12] = [
            ("its model is WordLevel", |v| v["model"]["type"] = json!("WordLevel")),
            ("prefix or suffix", |v| v["model"]["end_of_word_suffix"] = json!("</w>")),
            ("dropped at random", |v| v["model"]["dropout"] = json!(0.1)),
            ("normalizer NFC", |v| v["normalizer"] = json!({ "type": "NFC" })),
            ("an added token that is no special", |v| {
                v["added_tokens"][0]["special"] = json!(false)
            }),
            ("cut by Metaspace", |v| v["pre_tokenizer"]["type"] = json!("Metaspace")),
            ("a space before each text", |v| v["pre_tokenizer"]["add_prefix_space"] = json!(true)),
            ("no added token ends", |v| v["added_tokens"][0]["content"] = json!("<x>")),
            ("merge 0: \"abc\" is no token", |v| v["model"]["merges"] = json!([["ab", "c"]])),
            ("merge 0: it is no pair", |v| v["model"]["merges"] = json!(["ab"])),
            ("token 4000000000 (ab) is beyond", |v| {
                v["model"]["vocab"]["ab"] = json!(4_000_000_000_u32)
            }),
            ("token 97 is both", |v| v["model"]["vocab"]["ab"] = json!(97)),
        ];
        for (expected, change) in table {
            let message = refused(change);
            assert!(message.contains(expected), "{message}");
        }
        assert!(refused(|v| v["model"]["vocab"] = json!({})).contains("0x00 has no token"));
        assert!(read("{").unwrap_err().starts_with("it does not parse"));
    }
}
