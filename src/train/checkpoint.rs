//! What a run saves: a model that other tools open, and what an exact resume needs.
//!
//! | file | what it holds |
//! |---|---|
//! | `tokenizer.json` | the tokenizer |
//! | `tokenizer_config.json` | how Hugging Face's `AutoTokenizer` is to take it: without this file it would take each one for a GPT-2's |
//! | `model.safetensors` | the weights, named and shaped as Hugging Face's GPT-2 loads them |
//! | `optimizer.safetensors` | AdamW's moments and where the run stands |
//! | `config.json` | the shape of the model and the digests of the other four; without it no tool takes the folder for a model |
//!
//! They change together ([`FileSet`], with `config.json` as the key): all five are written beside
//! the previous ones and synced first, so that a full disk costs nothing that was there; then
//! `config.json` goes, the others are put in place, and `config.json` comes last. A crash in
//! between leaves a folder without `config.json`, which no tool opens, and which
//! [`FileSet::recover`] completes. `report.json` and `report.html` describe the previous set and
//! go with it.
//!
//! # `model.safetensors`
//! `transformer.wte.weight` (V, C), `transformer.wpe.weight` (T, C), for each layer i
//! `transformer.h.i.` with `ln_1.{weight,bias}` (C), `attn.c_attn.weight` (C, 3C) and `.bias` (3C),
//! `attn.c_proj.weight` (C, C) and `.bias` (C), `ln_2.{weight,bias}` (C), `mlp.c_fc.weight` (C, 4C)
//! and `.bias` (4C), `mlp.c_proj.weight` (4C, C) and `.bias` (C); `transformer.ln_f.{weight,bias}`
//! (C). Weights are (in, out). The head is tied to `wte` and left out. The bytes depend on the
//! weights alone: no time, no path, no number of threads.
//!
//! # `optimizer.safetensors`
//! For each tensor N of the model, in the same shape and orientation, `m.N` and `v.N`: the first
//! and second moment of AdamW. In `__metadata__`, as decimal strings: `layout` (1), `step` (updates
//! done; the moments are those after it), `seed`, `position` (sequences of the data order that were
//! trained, over all epochs: the next step starts there); and `kernels` (the name of the code path
//! that computed: under another one the bits may differ, and a resume says so), `weights_sha256`
//! (of the `model.safetensors` that belongs to it) and whatever the run adds under `run.`. Learning
//! rate and data order are functions of step, seed and settings, so no generator is saved.
//!
//! # `config.json`
//! What Hugging Face's GPT-2 wants to know, and under `twelvefold_sha256` the SHA-256 of each of the
//! other four files. Its own text is a function of these numbers, so that [`verify`] finds any
//! changed byte of the set. The five names are fixed: nothing that stands in a file becomes a path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::files::{AtomicFile, FileSet, Layout};
use super::safetensors::{self, Dtype, Reader, TensorView, Written, sha256_hex, sha256_of_file};
use crate::error::Error;

/// The files of a checkpoint, in the order in which they are written.
pub const LAYOUT: Layout = Layout {
    names: &[
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "config.json",
    ],
    stale: &["report.json", "report.html"],
};

/// Where `config.json` holds the digests.
pub(super) const DIGESTS: &str = "twelvefold_sha256";

/// The digests of all files of a set but the key, in the order of [`LAYOUT`].
type Digests = [String; 4];

/// More bytes than this are no `config.json` of ours.
const MAX_CONFIG: u64 = 1 << 16;

/// The shape of a GPT-2 model, as `config.json` says it.
///
/// ```
/// use twelvefold::train::checkpoint::Gpt2Config;
///
/// let config =
///     Gpt2Config { vocab: 257, context: 64, width: 32, layers: 2, heads: 4, end_of_document: 256 };
/// assert!(config.to_json().contains("\"n_layer\": 2"));
/// assert_eq!(config.tensors()["transformer.h.1.attn.c_attn.weight"], [32, 96]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gpt2Config {
    /// V: rows of the token embedding, without padding.
    pub vocab: usize,
    /// T: positions.
    pub context: usize,
    /// C: width.
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// The token between documents, begin and end of a text alike.
    pub end_of_document: u32,
}

impl Gpt2Config {
    /// The text of `config.json`, without digests.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", self.value())
    }

    /// The text with the digests of the other files of the set, in the order of [`LAYOUT`].
    fn with_digests(&self, digests: &Digests) -> String {
        let mut value = self.value();
        let named = LAYOUT.names.iter().zip(digests).map(|(name, d)| ((*name).to_owned(), d));
        value[DIGESTS] = named.map(|(name, digest)| (name, Value::from(digest.as_str()))).collect();
        format!("{value:#}\n")
    }

    /// Reads what [`Gpt2Config::with_digests`] wrote. None where something is missing.
    fn parse(text: &str) -> Option<(Self, Digests)> {
        let value: Value = serde_json::from_str(text).ok()?;
        let number = |name: &str| usize::try_from(value.get(name)?.as_u64()?).ok();
        let config = Gpt2Config {
            vocab: number("vocab_size")?,
            context: number("n_positions")?,
            width: number("n_embd")?,
            layers: number("n_layer")?,
            heads: number("n_head")?,
            end_of_document: u32::try_from(number("eos_token_id")?).ok()?,
        };
        config.width.checked_mul(4)?;
        let digest = |name: &&str| Some(value.get(DIGESTS)?.get(*name)?.as_str()?.to_owned());
        let digests: Option<Vec<String>> = LAYOUT.names.iter().take(4).map(digest).collect();
        Some((config, digests?.try_into().ok()?))
    }

    pub(super) fn value(&self) -> Value {
        json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": self.vocab,
            "n_positions": self.context,
            "n_ctx": self.context,
            "n_embd": self.width,
            "n_layer": self.layers,
            "n_head": self.heads,
            "n_inner": 4 * self.width,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "scale_attn_weights": true,
            "scale_attn_by_inverse_layer_idx": false,
            "reorder_and_upcast_attn": false,
            "tie_word_embeddings": true,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "use_cache": true,
            "bos_token_id": self.end_of_document,
            "eos_token_id": self.end_of_document,
            "torch_dtype": "float32",
        })
    }

    /// The tensors of `model.safetensors` with their shapes in the file, in no particular order.
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let c = self.width;
        let mut tensors = BTreeMap::from([
            ("transformer.wte.weight".to_owned(), vec![self.vocab, c]),
            ("transformer.wpe.weight".to_owned(), vec![self.context, c]),
            ("transformer.ln_f.weight".to_owned(), vec![c]),
            ("transformer.ln_f.bias".to_owned(), vec![c]),
        ]);
        let parts: [(&str, Vec<usize>); 12] = [
            ("ln_1.weight", vec![c]),
            ("ln_1.bias", vec![c]),
            ("attn.c_attn.weight", vec![c, 3 * c]),
            ("attn.c_attn.bias", vec![3 * c]),
            ("attn.c_proj.weight", vec![c, c]),
            ("attn.c_proj.bias", vec![c]),
            ("ln_2.weight", vec![c]),
            ("ln_2.bias", vec![c]),
            ("mlp.c_fc.weight", vec![c, 4 * c]),
            ("mlp.c_fc.bias", vec![4 * c]),
            ("mlp.c_proj.weight", vec![4 * c, c]),
            ("mlp.c_proj.bias", vec![c]),
        ];
        for layer in 0..self.layers {
            for (part, shape) in &parts {
                tensors.insert(format!("transformer.h.{layer}.{part}"), shape.clone());
            }
        }
        tensors
    }
}

/// Where a run stands, beside its weights and moments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunState {
    /// Updates done.
    pub step: u64,
    /// The seed of the run.
    pub seed: u64,
    /// Sequences of the data order that were trained, over all epochs.
    pub position: u64,
    /// The name of the code path that computed.
    pub kernels: String,
    /// What else the run wants to find again, for example its settings; saved under `run.`.
    pub extra: BTreeMap<String, String>,
}

/// Everything that is saved.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    /// The shape of the model.
    pub config: Gpt2Config,
    /// The text of `tokenizer.json`.
    pub tokenizer: &'a str,
    /// The text of `tokenizer_config.json`.
    pub tokenizer_config: &'a str,
    /// The weights, by the names and (in the file) shapes of [`Gpt2Config::tensors`].
    pub weights: &'a [TensorView<'a>],
    /// The first moments, named and shaped as the weights.
    pub first: &'a [TensorView<'a>],
    /// The second moments, named and shaped as the weights.
    pub second: &'a [TensorView<'a>],
    /// Where the run stands.
    pub state: &'a RunState,
}

/// Writes a checkpoint into `folder`, which exists. Gives the digest of `model.safetensors`.
///
/// ```
/// use twelvefold::train::checkpoint::{Checkpoint, Gpt2Config, RunState, run_state, save};
/// use twelvefold::train::safetensors::{Reader, TensorView};
///
/// let config =
///     Gpt2Config { vocab: 5, context: 2, width: 4, layers: 1, heads: 1, end_of_document: 4 };
/// let zeros = vec![0.0; 64];
/// let view = |(name, shape): (String, Vec<usize>)| {
///     let data = &zeros[..shape.iter().product()];
///     TensorView { name, shape, data, transpose: false }
/// };
/// let tensors: Vec<_> = config.tensors().into_iter().map(view).collect();
/// let state = RunState { step: 7, ..RunState::default() };
/// let checkpoint = Checkpoint {
///     config,
///     tokenizer: "{}",
///     tokenizer_config: "{}",
///     weights: &tensors,
///     first: &tensors,
///     second: &tensors,
///     state: &state,
/// };
/// let folder = tempfile::tempdir()?;
/// let written = save(&folder, &checkpoint)?;
/// let (read, digest) = run_state(&Reader::open(folder.path().join("optimizer.safetensors"))?)?;
/// assert_eq!((read.step, digest), (7, written.sha256));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Input`] where the tensors are not those of the config, with nothing written;
/// [`Error::Io`], with the previous checkpoint in place (or ready to be completed, see the module).
pub fn save(folder: impl AsRef<Path>, checkpoint: &Checkpoint<'_>) -> Result<Written, Error> {
    let config = &checkpoint.config;
    for tensors in [checkpoint.weights, checkpoint.first, checkpoint.second] {
        check(config, tensors)?;
    }
    let moments: Vec<TensorView<'_>> = [("m", checkpoint.first), ("v", checkpoint.second)]
        .into_iter()
        .flat_map(|(prefix, tensors)| tensors.iter().map(move |t| (prefix, t)))
        .map(|(prefix, t)| TensorView { name: format!("{prefix}.{}", t.name), ..t.clone() })
        .collect();
    let [tokenizer, of_tokenizer, model, optimizer, key] = *LAYOUT.names else {
        return Err(Error::input("a checkpoint has five files", ""));
    };
    let mut set = FileSet::new(folder, LAYOUT);
    let texts = [checkpoint.tokenizer, checkpoint.tokenizer_config];
    for (name, text) in [tokenizer, of_tokenizer].into_iter().zip(texts) {
        set.stage(name, |file| file.write_all(text.as_bytes()))?;
    }
    let none = BTreeMap::new();
    let write = |metadata, tensors| {
        move |file: &mut AtomicFile| safetensors::write(file, metadata, tensors, Dtype::F32)
    };
    let written = set.stage(model, write(&none, checkpoint.weights))?;
    let metadata = state_metadata(checkpoint.state, &written.sha256);
    let moments = set.stage(optimizer, write(&metadata, &moments))?;
    let [first, second] = texts.map(|text| sha256_hex(text.as_bytes()));
    let config = config.with_digests(&[first, second, written.sha256.clone(), moments.sha256]);
    set.stage(key, |file| file.write_all(config.as_bytes()))?;
    set.commit()?;
    Ok(written)
}

/// A checkpoint whose every byte was checked; see [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The shape of the model.
    pub config: Gpt2Config,
    /// Where the run stands.
    pub state: RunState,
    /// The digest of `model.safetensors`.
    pub weights_sha256: String,
}

/// Checks that a checkpoint is whole: each file is there and has the digest that `config.json` says,
/// and `config.json` is what was written. Files are read in pieces; nothing is allocated for what a
/// header claims.
///
/// ```
/// use twelvefold::train::checkpoint::{Verified, verify};
/// use twelvefold::train::{Cancel, Options, run};
///
/// let folder = tempfile::tempdir()?;
/// let options = Options {
///     out: folder.path().join("run"),
///     tokenizer: "bytes".to_owned(),
///     story_bytes: 20_000,
///     steps: 2,
///     layers: 1,
///     heads: 1,
///     width: 8,
///     context: 16,
///     ..Options::default()
/// };
/// let report = run(&options, &Cancel::new(), &mut ())?;
/// let Verified { state, weights_sha256, .. } = verify(&options.out)?;
/// assert_eq!((state.step, weights_sha256), (2, report.weights_sha256));
///
/// std::fs::write(options.out.join("tokenizer.json"), "{}")?;
/// assert!(verify(&options.out).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Input`] or [`Error::Io`] with the file that is not as it was written.
pub fn verify(folder: impl AsRef<Path>) -> Result<Verified, Error> {
    let folder = folder.as_ref();
    let key = folder.join("config.json");
    let mut text = String::new();
    let read = File::open(&key).and_then(|file| file.take(MAX_CONFIG).read_to_string(&mut text));
    read.map_err(|e| Error::io("read", &key, e))?;
    let damaged = |path: &Path, what: &str| {
        Error::input(format!("{} is not as it was written: {what}", path.display()), "")
    };
    let Some((config, digests)) = Gpt2Config::parse(&text) else {
        return Err(damaged(&key, "it does not say the model's shape and the files' digests"));
    };
    if config.with_digests(&digests) != text {
        return Err(damaged(&key, "it is not the text that these numbers give"));
    }
    for (name, digest) in LAYOUT.names.iter().zip(&digests) {
        let path = folder.join(name);
        if sha256_of_file(&path)? != *digest {
            return Err(damaged(&path, "its SHA-256 is not the one in config.json"));
        }
    }
    let optimizer = folder.join("optimizer.safetensors");
    let (state, weights_sha256) = run_state(&Reader::open(&optimizer)?)?;
    if weights_sha256 != digests[2] {
        return Err(damaged(&optimizer, "it belongs to other weights"));
    }
    Ok(Verified { config, state, weights_sha256 })
}

/// The tensors are those of the config, each once, in its shape.
fn check(config: &Gpt2Config, tensors: &[TensorView<'_>]) -> Result<(), Error> {
    let mut wanted = config.tensors();
    for tensor in tensors {
        let (name, shape) = (&tensor.name, tensor.file_shape());
        match wanted.remove(name) {
            Some(expected) if expected == shape => {}
            Some(expected) => {
                return Err(Error::input(format!("{name} is {shape:?}, not {expected:?}"), ""));
            }
            None => {
                return Err(Error::input(
                    format!("{name} is no tensor of GPT-2, or comes twice"),
                    "",
                ));
            }
        }
    }
    match wanted.keys().next() {
        Some(name) => Err(Error::input(format!("the tensor {name} is missing"), "")),
        None => Ok(()),
    }
}

fn state_metadata(state: &RunState, weights_sha256: &str) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        ("layout".to_owned(), "1".to_owned()),
        ("step".to_owned(), state.step.to_string()),
        ("seed".to_owned(), state.seed.to_string()),
        ("position".to_owned(), state.position.to_string()),
        ("kernels".to_owned(), state.kernels.clone()),
        ("weights_sha256".to_owned(), weights_sha256.to_owned()),
    ]);
    for (name, value) in &state.extra {
        metadata.insert(format!("run.{name}"), value.clone());
    }
    metadata
}

/// Reads where a run stands from its `optimizer.safetensors`, and the digest of the weights that
/// belong to it.
///
/// # Errors
/// [`Error::Input`] where the file is not one of ours.
pub fn run_state(reader: &Reader) -> Result<(RunState, String), Error> {
    let metadata = reader.metadata();
    let text = |name: &str| {
        metadata.get(name).cloned().ok_or_else(|| {
            Error::input(format!("optimizer.safetensors does not say its {name}"), "")
        })
    };
    let number = |name: &str| {
        let text = text(name)?;
        text.parse().map_err(|_| {
            Error::input(format!("optimizer.safetensors: {name} {text} is not a number"), "")
        })
    };
    if number("layout")? != 1 {
        return Err(Error::input(
            "optimizer.safetensors was written by another version",
            "resume with the version that wrote it",
        ));
    }
    let extra = metadata
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("run.")?.to_owned(), value.clone())))
        .collect();
    let state = RunState {
        step: number("step")?,
        seed: number("seed")?,
        position: number("position")?,
        kernels: text("kernels")?,
        extra,
    };
    Ok((state, text("weights_sha256")?))
}
