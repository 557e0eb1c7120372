//! A trained model, from the folder of a run, of one of its checkpoints, or of Hugging Face.
//!
//! | file | what it must be |
//! |---|---|
//! | `config.json` | a GPT-2 whose numbers are those that are computed here; anything else is refused by name |
//! | `model.safetensors` | its tensors, in F32, F16 or BF16, with or without `transformer.` in front; every value a number |
//! | `tokenizer.json` | may be missing; then the model has no words of its own |
//!
//! Where `config.json` holds the files' digests, they are checked: such a folder is one of ours.

use std::path::{Path, PathBuf};

use super::files::exists;
use super::safetensors::sha256_of_file;
use super::{shape, weights};
use crate::corpus::tokenizer::{Tokenizer, TokenizerSpec};
use crate::error::Error;
use crate::model::{Config, Layout};
use crate::sync::Arc;

pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// A trained model: its sizes, its weights, its tokenizer.
///
/// ```
/// use twelvefold::train::model::Model;
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
/// let model = Model::open(&options.out)?;
/// assert_eq!((model.config().width, model.config().vocab), (8, 257));
/// assert_eq!(model.parameters(), report.parameters);
/// assert_eq!(model.weights_sha256(), report.weights_sha256);
/// assert!(model.is_verified());
/// assert_eq!(model.tokenizer().map(|t| t.vocab()), Some(257));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Model {
    folder: PathBuf,
    config: Config,
    params: Vec<f32>,
    tokenizer: Option<Arc<Tokenizer>>,
    end: Option<u32>,
    weights_sha256: String,
    verified: bool,
}

impl Model {
    /// Opens the folder of a run, of one of its checkpoints, or of a GPT-2 model of Hugging Face's.
    ///
    /// ```
    /// use twelvefold::train::model::Model;
    ///
    /// let error = Model::open("no/such/folder").unwrap_err().to_string();
    /// assert!(error.starts_with("cannot read no/such/folder/config.json"));
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Input`] with the file, what is wrong with it, and what would do: another
    /// kind of model, weights in several files, a tensor that is missing, of another shape or not a
    /// number, a file that is not as it was written.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let shape = shape::read(folder)?;
        let path = folder.join(WEIGHTS);
        if !exists(&path)? {
            return Err(no_weights(folder)?);
        }
        let weights_sha256 = sha256_of_file(&path)?;
        let written = |name: &str, found: &str| match shape.digests.get(name) {
            Some(digest) if digest != found => Err(Error::input(
                format!(
                    "{} is not as it was written: its SHA-256 is not the one in config.json",
                    folder.join(name).display()
                ),
                "take another checkpoint, or copy the folder again",
            )),
            _ => Ok(()),
        };
        written(WEIGHTS, &weights_sha256)?;
        let file = folder.join(TOKENIZER);
        let mut tokenizer = None;
        if exists(&file)? {
            written(TOKENIZER, &sha256_of_file(&file)?)?;
            let found = TokenizerSpec::Json(file.clone()).load()?;
            if found.vocab() > shape.config.vocab {
                let (tokens, rows) = (found.vocab(), shape.config.vocab);
                return Err(Error::input(
                    format!("{} has {tokens} tokens, and the model {rows}", file.display()),
                    "the tokenizer and the weights must be of the same model",
                ));
            }
            tokenizer = Some(Arc::new(found));
        }
        Ok(Model {
            folder: folder.to_path_buf(),
            config: shape.config,
            params: weights::read(&path, &shape.config)?,
            end: tokenizer.as_ref().map(|t| t.end_of_document()).or(shape.end),
            tokenizer,
            weights_sha256,
            verified: shape.digests.contains_key(WEIGHTS),
        })
    }

    /// Where it was read.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The weights, in the order of [`Layout`].
    ///
    /// ```no_run
    /// use twelvefold::model::Layout;
    /// use twelvefold::train::model::Model;
    ///
    /// let model = Model::open("run")?;
    /// for tensor in Layout::new(model.config()).tensors() {
    ///     println!("{} {:?}: {}", tensor.name, tensor.shape, model.params()[tensor.range.start]);
    /// }
    /// # Ok::<(), twelvefold::Error>(())
    /// ```
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// How many weights there are; what is tied counts once.
    pub fn parameters(&self) -> u64 {
        Layout::new(&self.config).parameters()
    }

    /// The tokenizer, where the folder has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_deref()
    }

    /// The tokenizer, which text needs.
    ///
    /// # Errors
    /// [`Error::Input`] where the folder has none.
    pub fn require_tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer().ok_or_else(|| {
            Error::input(
                format!("{} has no tokenizer.json", self.folder.display()),
                "put the tokenizer.json of the model there: without it there is no text, only numbers",
            )
        })
    }

    /// The token that ends a document: the tokenizer's, or the `eos_token_id` of `config.json`.
    pub fn end_of_document(&self) -> Option<u32> {
        self.end
    }

    /// SHA-256 of `model.safetensors`, in hexadecimal.
    pub fn weights_sha256(&self) -> &str {
        &self.weights_sha256
    }

    /// Whether `config.json` held the digest of the weights, which then is the right one.
    pub fn is_verified(&self) -> bool {
        self.verified
    }
}

/// Why there is no `model.safetensors`.
fn no_weights(folder: &Path) -> Result<Error, Error> {
    let shown = folder.display();
    if exists(&folder.join("model.safetensors.index.json"))? {
        return Ok(Error::input(
            format!("the weights in {shown} are in several files, which are not read"),
            "save them in one: model.save_pretrained(FOLDER, max_shard_size=\"100GB\")",
        ));
    }
    if exists(&folder.join("pytorch_model.bin"))? {
        return Ok(Error::input(
            format!("the weights in {shown} are a pickle, which is not read"),
            "save them as model.safetensors: model.save_pretrained(FOLDER, safe_serialization=True)",
        ));
    }
    let what = format!("there is no model.safetensors in {shown}");
    Ok(Error::input(what, "give the folder of a run or of one of its checkpoints"))
}
