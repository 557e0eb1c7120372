//! A model alone, for other tools: without what a resume needs.
//!
//! | file | what it holds |
//! |---|---|
//! | `tokenizer.json`, `tokenizer_config.json` | those that the model was opened with, byte for byte; where only the first was there, the second is made. None of them where it has no tokenizer |
//! | `model.safetensors` | the weights, named and shaped as in a [checkpoint](super::checkpoint), rounded to the nearest where they are kept in 16 bits |
//! | `config.json` | the shape of the model and the digests of the others |
//!
//! They change together, as those of a checkpoint do.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use super::checkpoint::{DIGESTS, Gpt2Config};
use super::files::{FileSet, Layout as Files, RunFolder, exists, io_error};
use super::model::{Model, TOKENIZER, WEIGHTS};
use super::safetensors::{Dtype, Written, sha256_hex, write};
use super::shape::CONFIG;
use super::snapshot::{tokenizer_config, views};
use crate::error::Error;
use crate::model::Layout;

pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const WITH: Files = Files { names: &[TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, CONFIG], stale: &[] };
/// The tokenizer of the model that was there goes with it.
const WITHOUT: Files = Files { names: &[WEIGHTS, CONFIG], stale: &[TOKENIZER, TOKENIZER_CONFIG] };

/// More bytes than this are no `tokenizer_config.json`.
const MAX_TOKENIZER_CONFIG: u64 = 1 << 24;

/// What only the folder of a run holds.
const OF_A_RUN: [&str; 3] = ["optimizer.safetensors", "checkpoints", "report.json"];

/// Names and contents.
type TokenizerFiles = [(&'static str, Vec<u8>); 2];

impl Model {
    /// Writes the model into `folder`, which is made where it is missing; gives size and digest of
    /// `model.safetensors`.
    ///
    /// ```
    /// use twelvefold::train::model::Model;
    /// use twelvefold::train::safetensors::Dtype;
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
    /// run(&options, &Cancel::new(), &mut ())?;
    /// let model = Model::open(&options.out)?;
    /// let out = folder.path().join("model");
    /// assert_eq!(model.save(&out, Dtype::F32, false)?.sha256, model.weights_sha256());
    /// assert_eq!(Model::open(&out)?.params(), model.params());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] where the folder holds anything and `overwrite` is not set, where it is that of a
    /// run or of the model itself, or where a weight is beyond what `dtype` holds; [`Error::Io`]. What was
    /// there before is then still there.
    pub fn save(
        &self,
        folder: impl AsRef<Path>,
        dtype: Dtype,
        overwrite: bool,
    ) -> Result<Written, Error> {
        let folder = folder.as_ref();
        self.check_target(folder, overwrite)?;
        let layout = Layout::new(self.config());
        for tensor in layout.tensors() {
            let values = &self.params()[tensor.range.clone()];
            if let Some(at) = values.iter().position(|value| !dtype.holds(*value)) {
                let (name, value, dtype) = (&tensor.name, values[at], dtype.name());
                let what = format!("{name} holds {value} at value {at}, which is beyond {dtype}");
                return Err(Error::input(what, "choose a wider --dtype"));
            }
        }
        let texts = self.tokenizer_files()?;
        let claimed = RunFolder::claim(folder, true)?;
        let files = if texts.is_some() { WITH } else { WITHOUT };
        let mut set = FileSet::new(claimed.path(), files);
        let mut digests = BTreeMap::new();
        for (name, text) in texts.iter().flatten() {
            set.stage(name, |file| file.write_all(text))?;
            digests.insert(*name, sha256_hex(text));
        }
        let tensors = views(&layout, self.params());
        let written = set.stage(WEIGHTS, |file| write(file, &BTreeMap::new(), &tensors, dtype))?;
        digests.insert(WEIGHTS, written.sha256.clone());
        let config = self.config_json(dtype, digests);
        set.stage(CONFIG, |file| file.write_all(config.as_bytes()))?;
        set.commit()?;
        Ok(written)
    }

    /// The folder may be written to.
    fn check_target(&self, folder: &Path, overwrite: bool) -> Result<(), Error> {
        let mut entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(io_error("read the folder", folder, e)),
        };
        let shown = folder.display();
        let same = |a: &Path, b: &Path| fs::canonicalize(a).ok() == fs::canonicalize(b).ok();
        if same(folder, self.folder()) {
            let what = format!("{shown} is where the model comes from");
            return Err(Error::input(what, "choose another --out"));
        }
        for name in OF_A_RUN {
            if exists(&folder.join(name))? {
                let what = format!("{shown} is the folder of a run: it holds {name}");
                return Err(Error::input(what, "choose another --out"));
            }
        }
        match entries.next() {
            Some(_) if !overwrite => Err(Error::input(
                format!("{shown} is not empty"),
                "choose another --out, or replace the model in it with --overwrite",
            )),
            _ => Ok(()),
        }
    }

    /// The two files of the tokenizer, where there is one.
    fn tokenizer_files(&self) -> Result<Option<TokenizerFiles>, Error> {
        let Some(tokenizer) = self.tokenizer() else { return Ok(None) };
        let path = self.folder().join(TOKENIZER);
        let text = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let beside = self.folder().join(TOKENIZER_CONFIG);
        let config = match exists(&beside)? {
            true => {
                let mut bytes = Vec::new();
                File::open(&beside)
                    .and_then(|file| file.take(MAX_TOKENIZER_CONFIG).read_to_end(&mut bytes))
                    .map_err(|e| Error::io("read", &beside, e))?;
                bytes
            }
            false => {
                let json: Value = serde_json::from_slice(&text).unwrap_or_default();
                let end = tokenizer.end_of_document();
                tokenizer_config(&json, end, self.config().context).into_bytes()
            }
        };
        Ok(Some([(TOKENIZER, text), (TOKENIZER_CONFIG, config)]))
    }

    fn config_json(&self, dtype: Dtype, digests: BTreeMap<&str, String>) -> String {
        let config = self.config();
        let end = self.end_of_document();
        let mut value = Gpt2Config {
            vocab: config.vocab,
            context: config.context,
            width: config.width,
            layers: config.layers,
            heads: config.heads,
            end_of_document: end.unwrap_or_default(),
        }
        .value();
        value["torch_dtype"] = match dtype {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
        }
        .into();
        if end.is_none() {
            (value["bos_token_id"], value["eos_token_id"]) = (Value::Null, Value::Null);
        }
        value[DIGESTS] = json!(digests);
        format!("{value:#}\n")
    }
}
