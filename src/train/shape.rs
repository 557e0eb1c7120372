//! What a `config.json` says of a GPT-2 model, ours or Hugging Face's. It is trusted in nothing: a model
//! that would compute something else is refused by name.
//!
//! | key | what is read |
//! |---|---|
//! | `model_type` | `gpt2`; where it is missing, `architectures` must begin with `GPT2` |
//! | `vocab_size`, `n_positions` (or `n_ctx`), `n_embd`, `n_layer`, `n_head` | the sizes; all must be there |
//! | `n_inner` | missing, null, or four times the width |
//! | `activation_function` | missing or `gelu_new` |
//! | `layer_norm_epsilon` | missing or 1e-5 |
//! | `scale_attn_weights`, `scale_attn_by_inverse_layer_idx`, `add_cross_attention`, `quantization_config` | missing, or what leaves GPT-2 as it is |
//! | `eos_token_id` | the end of a document, where it is a token of the vocabulary |
//! | `twelvefold_sha256` | digests of the files beside it |
//!
//! Dropout and all other keys change nothing of what a trained model computes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde_json::{Value, json};

use super::checkpoint::DIGESTS;
use crate::error::Error;
use crate::model::Config;

/// The only file that every model's folder has.
pub(super) const CONFIG: &str = "config.json";

/// More bytes than this are no description of a model.
const MAX_BYTES: u64 = 1 << 20;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) config: Config,
    /// The token that ends a document.
    pub(super) end: Option<u32>,
    /// By file; none in a folder that is not ours.
    pub(super) digests: BTreeMap<String, String>,
}

/// Reads `config.json` of a folder.
pub(super) fn read(folder: &Path) -> Result<Shape, Error> {
    let path = folder.join(CONFIG);
    let mut text = String::new();
    let read = File::open(&path).and_then(|f| f.take(MAX_BYTES + 1).read_to_string(&mut text));
    read.map_err(|source| {
        let hint = match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => whereabouts(folder),
            _ => String::new(),
        };
        Error::Io { doing: "read", path: path.clone(), source, hint }
    })?;
    let refuse = |why: String| {
        Error::input(
            format!("{} describes no model that can be read here: {why}", path.display()),
            "give the folder of a run or of a checkpoint, or a GPT-2 model as Hugging Face saves it",
        )
    };
    if text.len() as u64 > MAX_BYTES {
        return Err(refuse(format!("it has more than {MAX_BYTES} bytes")));
    }
    let shape = parse(&text).map_err(refuse)?;
    shape.config.check().map_err(|e| refuse(e.to_string()))?;
    Ok(shape)
}

/// What to do where there is no `config.json`.
fn whereabouts(folder: &Path) -> String {
    if folder.is_file() {
        return "give the folder that holds the model, not a file of it".to_owned();
    }
    let checkpoints = folder.join("checkpoints");
    if checkpoints.is_dir() {
        return format!(
            "the run is not over: give one of its checkpoints in {}",
            checkpoints.display()
        );
    }
    "give the folder of a run or of a checkpoint: it holds config.json and model.safetensors"
        .to_owned()
}

fn parse(text: &str) -> Result<Shape, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("it does not parse: {e}"))?;
    check_kind(&value)?;
    let find = |name: &str| value.get(name).filter(|found| !found.is_null());
    let size = |name: &str| {
        let found = find(name).ok_or_else(|| format!("it does not say {name}"))?;
        let number = found.as_u64().and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| format!("{name} is {found}"))
    };
    let positions = if find("n_positions").is_some() { "n_positions" } else { "n_ctx" };
    let config = Config {
        vocab: size("vocab_size")?,
        layers: size("n_layer")?,
        heads: size("n_head")?,
        width: size("n_embd")?,
        context: size(positions)?,
    };
    let only: [(&str, &str, Value); 7] = [
        ("n_inner", "four times n_embd", json!(config.width.saturating_mul(4))),
        ("activation_function", "gelu_new", json!("gelu_new")),
        ("layer_norm_epsilon", "1e-5", json!(1e-5)),
        ("scale_attn_weights", "true", json!(true)),
        ("scale_attn_by_inverse_layer_idx", "false", json!(false)),
        ("add_cross_attention", "false", json!(false)),
        ("quantization_config", "null", Value::Null),
    ];
    for (name, words, expected) in only {
        if let Some(found) = find(name).filter(|found| **found != expected) {
            return Err(format!("{name} is {found}; only {words} is computed here"));
        }
    }
    let end = find("eos_token_id").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let digests = find(DIGESTS).and_then(Value::as_object).into_iter().flatten();
    let digests = digests.filter_map(|(name, d)| Some((name.clone(), d.as_str()?.to_owned())));
    Ok(Shape {
        config,
        end: end.filter(|end| (*end as usize) < config.vocab),
        digests: digests.collect(),
    })
}

/// GPT-2 by its name.
fn check_kind(value: &Value) -> Result<(), String> {
    let architecture = value.pointer("/architectures/0").and_then(Value::as_str);
    let kind = match value.get("model_type").and_then(Value::as_str) {
        Some("gpt2") => return Ok(()),
        Some(kind) => format!("it is of type {kind}"),
        None => match architecture {
            Some(name) if name.starts_with("GPT2") => return Ok(()),
            Some(name) => format!("it is a {name}"),
            None => return Err("it does not say which kind of model it is".to_owned()),
        },
    };
    Err(format!("{kind}; only gpt2 is"))
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Gpt2Config;
    use super::*;

    const OURS: Gpt2Config = Gpt2Config {
        vocab: 257,
        context: 64,
        width: 32,
        layers: 2,
        heads: 4,
        end_of_document: 256,
    };

    fn changed(change: impl FnOnce(&mut Value)) -> Result<Shape, String> {
        let mut value: Value = serde_json::from_str(&OURS.to_json()).unwrap();
        change(&mut value);
        parse(&value.to_string())
    }

    #[test]
    fn what_is_written_here_is_read() {
        let shape = changed(|_| ()).unwrap();
        let config = Config { vocab: 257, context: 64, width: 32, layers: 2, heads: 4 };
        assert_eq!((shape.config, shape.end), (config, Some(256)));
        assert!(shape.digests.is_empty());
    }

    #[test]
    fn the_least_that_says_gpt_2_is_enough() {
        let text = json!({
            "architectures": ["GPT2LMHeadModel"], "vocab_size": 10, "n_ctx": 8, "n_embd": 4,
            "n_layer": 1, "n_head": 2, "n_inner": null, "eos_token_id": 50256,
        });
        let shape = parse(&text.to_string()).unwrap();
        assert_eq!((shape.config.context, shape.end), (8, None), "50256 is no token of ten");
    }

    #[test]
    fn what_would_compute_something_else_is_refused_by_name() {
        type Change = fn(&mut Value);
        let table: [(&str, Change); 13] = [
            ("it is of type llama; only gpt2 is", |v| v["model_type"] = json!("llama")),
            ("it is a LlamaForCausalLM", |v| {
                v["model_type"] = Value::Null;
                v["architectures"] = json!(["LlamaForCausalLM"]);
            }),
            ("which kind of model", |v| {
                v["model_type"] = Value::Null;
                v["architectures"] = Value::Null;
            }),
            ("it does not say n_layer", |v| v["n_layer"] = Value::Null),
            ("n_embd is -3", |v| v["n_embd"] = json!(-3)),
            ("n_inner is 129; only four times", |v| v["n_inner"] = json!(129)),
            ("\"relu\"; only gelu_new", |v| v["activation_function"] = json!("relu")),
            ("layer_norm_epsilon is 1e-6", |v| v["layer_norm_epsilon"] = json!(1e-6)),
            ("scale_attn_weights", |v| v["scale_attn_weights"] = json!(false)),
            ("by_inverse_layer_idx", |v| v["scale_attn_by_inverse_layer_idx"] = json!(true)),
            ("add_cross_attention", |v| v["add_cross_attention"] = json!(true)),
            ("quantization_config", |v| v["quantization_config"] = json!({ "bits": 4 })),
            ("it does not parse", |v| *v = json!("x")),
        ];
        for (expected, change) in &table[..12] {
            let message = changed(change).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
        assert!(parse("{").unwrap_err().contains(table[12].0));
    }
}
