//! The weights of a GPT-2 model from a `model.safetensors`, ours or Hugging Face's.
//!
//! Names may begin with `transformer.` or not (then the file holds the model without its head). All
//! tensors must be there in their shapes, as F32, F16 or BF16, and every value must be a number.
//! `attn.bias` and `attn.masked_bias`, which older files carry, are the causal mask and are left out. A
//! `lm_head.weight` must be the token embedding once more. Any other tensor is refused: the model would
//! not be the one that was saved.

use std::collections::BTreeSet;
use std::path::Path;

use super::safetensors::Reader;
use crate::error::Error;
use crate::model::{Config, Layout};

const PREFIX: &str = "transformer.";
const EMBEDDING: &str = "wte.weight";
const HEAD: &str = "lm_head.weight";

/// In each block, and beside the blocks.
const TENSORS_OF_BLOCK: usize = 12;
const TENSORS: usize = 4;

const SAME_MODEL: &str = "config.json and model.safetensors must be of the same GPT-2 model";

/// The flat parameter vector. Nothing is allocated before the header fits the model.
pub(super) fn read(path: &Path, config: &Config) -> Result<Vec<f32>, Error> {
    let mut reader = Reader::open(path)?;
    let (found, needed) = (reader.tensors().len(), TENSORS + config.layers * TENSORS_OF_BLOCK);
    if found < needed {
        let what = format!("{} has {found} tensors, and the model {needed}", path.display());
        return Err(Error::input(what, SAME_MODEL));
    }
    let layout = Layout::new(config);
    let prefix = if reader.tensors().contains_key(EMBEDDING) { "" } else { PREFIX };
    let in_file = |name: &str| format!("{prefix}{}", name.trim_start_matches(PREFIX));
    check(path, &reader, &layout, prefix, in_file)?;
    let mut params = vec![0.0; layout.len()];
    for tensor in layout.tensors() {
        let name = in_file(&tensor.name);
        let values = &mut params[tensor.range.clone()];
        reader.read(&name, false, values)?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::input(
                format!("{}: {name} holds {} at value {at}", path.display(), values[at]),
                "the training that wrote it diverged, or the file is damaged: take an earlier checkpoint",
            ));
        }
    }
    if reader.tensors().contains_key(HEAD) {
        let embedding = layout.tensors()[0].range.clone();
        let mut head = vec![0.0; embedding.len()];
        reader.read(HEAD, false, &mut head)?;
        if head != params[embedding] {
            return Err(Error::input(
                format!("{}: {HEAD} is another matrix than the token embedding", path.display()),
                "only models whose head is tied to the embedding are computed here",
            ));
        }
    }
    Ok(params)
}

/// The file holds the tensors of the model, in their shapes, and no others.
fn check(
    path: &Path,
    reader: &Reader,
    layout: &Layout,
    prefix: &str,
    in_file: impl Fn(&str) -> String,
) -> Result<(), Error> {
    let refuse = |what: String| {
        let what = format!("{}: {what}", path.display());
        Error::input(what, SAME_MODEL)
    };
    let mut names = BTreeSet::new();
    for tensor in layout.tensors() {
        let name = in_file(&tensor.name);
        let Some(entry) = reader.tensors().get(&name) else {
            return Err(refuse(format!("the tensor {name} is missing")));
        };
        if entry.shape != tensor.shape {
            let (found, wanted) = (&entry.shape, &tensor.shape);
            return Err(refuse(format!("{name} is {found:?}, and config.json says {wanted:?}")));
        }
        names.insert(name);
    }
    let known = |name: &str| name == HEAD || is_mask(name, prefix) || names.contains(name);
    match reader.tensors().keys().find(|name| !known(name)) {
        Some(name) => Err(refuse(format!("{name} is no tensor of this model"))),
        None => Ok(()),
    }
}

/// `h.N.attn.bias` or `h.N.attn.masked_bias`.
fn is_mask(name: &str, prefix: &str) -> bool {
    let of_block = || {
        let rest = name.strip_prefix(prefix)?.strip_prefix("h.")?;
        let (block, rest) = rest.split_once('.')?;
        block.parse::<usize>().ok()?;
        Some(["attn.bias", "attn.masked_bias"].contains(&rest))
    };
    of_block() == Some(true)
}
