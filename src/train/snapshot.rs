//! Weights and moments on their way to a checkpoint and back.

use std::path::Path;

use serde_json::{Value, json};

use super::checkpoint::{Checkpoint, Gpt2Config, RunState, Verified, save};
use super::safetensors::{Reader, TensorView, Written, sha256_hex};
use crate::corpus::tokenizer::{Tokenizer, words};
use crate::error::Error;
use crate::model::{Config, Layout, Tensor};
use crate::spheres::Spheres;

/// Saves the model of a run of which no step is open into `folder`, which exists.
pub(super) fn write(
    folder: &Path,
    spheres: &mut Spheres,
    config: &Config,
    tokenizer: &Tokenizer,
    state: &RunState,
) -> Result<Written, Error> {
    let layout = Layout::new(config);
    let (mut m, mut v) = (vec![0.0; layout.len()], vec![0.0; layout.len()]);
    spheres.visit_moments(|tile, tile_m, tile_v| {
        let mut at = 0;
        for range in tile.ranges(config) {
            let part = at..at + range.len();
            at = part.end;
            m[range.clone()].copy_from_slice(&tile_m[part.clone()]);
            v[range].copy_from_slice(&tile_v[part]);
        }
    });
    let json = tokenizer.to_json();
    let of_tokenizer = tokenizer_config(&json, tokenizer.end_of_document(), config.context);
    let text = text(&json);
    spheres.with_params(|params| {
        let checkpoint = Checkpoint {
            config: Gpt2Config {
                vocab: config.vocab,
                context: config.context,
                width: config.width,
                layers: config.layers,
                heads: config.heads,
                end_of_document: tokenizer.end_of_document(),
            },
            tokenizer: &text,
            tokenizer_config: &of_tokenizer,
            weights: &views(&layout, params),
            first: &views(&layout, &m),
            second: &views(&layout, &v),
            state,
        };
        save(folder, &checkpoint)
    })
}

fn text(json: &Value) -> String {
    format!("{json:#}\n")
}

/// The text of `tokenizer.json`.
pub(super) fn text_of(tokenizer: &Tokenizer) -> String {
    text(&tokenizer.to_json())
}

/// The text of `tokenizer_config.json`: the reader that takes a `tokenizer.json` as it stands, the tokens
/// that have a meaning, and how many tokens the model looks back.
pub(super) fn tokenizer_config(tokenizer: &Value, end: u32, context: usize) -> String {
    let added = || tokenizer["added_tokens"].as_array().into_iter().flatten();
    let end = added().find(|token| token["id"] == end).map(|token| &token["content"]);
    let named = |name: &str| added().map(|t| &t["content"]).find(|content| **content == name);
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": false,
    });
    let meanings = [
        ("bos_token", end),
        ("eos_token", end),
        ("unk_token", named(words::SPECIALS[1])),
        ("pad_token", named(words::SPECIALS[0])),
    ];
    for (meaning, token) in meanings {
        if let Some(token) = token {
            config[meaning] = token.clone();
        }
    }
    text(&config)
}

/// SHA-256 of the text of `tokenizer.json`.
pub(super) fn digest(tokenizer: &Tokenizer) -> String {
    sha256_hex(text_of(tokenizer).as_bytes())
}

pub(super) fn views<'a>(layout: &Layout, values: &'a [f32]) -> Vec<TensorView<'a>> {
    let view = |tensor: &Tensor| TensorView {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        data: &values[tensor.range.clone()],
        transpose: false,
    };
    layout.tensors().iter().map(view).collect()
}

/// Parameters and both moments, each as long as the layout.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) params: Vec<f32>,
    pub(super) m: Vec<f32>,
    pub(super) v: Vec<f32>,
}

/// Reads the numbers of a verified checkpoint of a model of these sizes.
///
/// Memory is taken once the headers, which were checked against the files' sizes, are seen to hold
/// every tensor in its shape.
pub(super) fn read(folder: &Path, found: &Verified, config: &Config) -> Result<Numbers, Error> {
    let saved = &found.config;
    let sizes = [
        ("vocabulary", saved.vocab, config.vocab),
        ("context", saved.context, config.context),
        ("width", saved.width, config.width),
        ("layers", saved.layers, config.layers),
        ("heads", saved.heads, config.heads),
    ];
    if let Some((name, was, is)) = sizes.into_iter().find(|(_, was, is)| was != is) {
        return Err(Error::input(
            format!("{}: the {name} of the model was {was} and is {is}", folder.display()),
            "resume with the settings and the text that it was trained with",
        ));
    }
    let layout = Layout::new(config);
    let mut model = Reader::open(folder.join("model.safetensors"))?;
    let mut optimizer = Reader::open(folder.join("optimizer.safetensors"))?;
    for (reader, prefix) in [(&model, ""), (&optimizer, "m."), (&optimizer, "v.")] {
        for tensor in layout.tensors() {
            let name = format!("{prefix}{}", tensor.name);
            if reader.tensors().get(&name).is_none_or(|entry| entry.shape != tensor.shape) {
                let what = format!("{}: {name} is missing or has another shape", folder.display());
                return Err(Error::input(what, ""));
            }
        }
    }
    let load = |reader: &mut Reader, prefix: &str| {
        let mut values = vec![0.0; layout.len()];
        for tensor in layout.tensors() {
            let name = format!("{prefix}{}", tensor.name);
            reader.read(&name, false, &mut values[tensor.range.clone()])?;
        }
        Ok::<_, Error>(values)
    };
    let params = load(&mut model, "")?;
    let (m, v) = (load(&mut optimizer, "m.")?, load(&mut optimizer, "v.")?);
    Ok(Numbers { params, m, v })
}
