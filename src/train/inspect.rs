//! What a folder or a file holds: a run, a checkpoint, a tokenizer or a text.
//!
//! What is looked at is not trusted: a checkpoint is read after its digests were checked, and a tokenizer
//! by the reader that a run uses.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::checkpoint::{Gpt2Config, Verified, verify};
use super::checkpoints::Checkpoints;
use super::files::exists;
use super::inputs;
use super::model::Model;
use super::options::Options;
use super::safetensors::sha256_of_file;
use super::save::TOKENIZER_CONFIG;
use super::shape;
use crate::corpus::tokenizer::{Tokenizer, TokenizerSpec};
use crate::corpus::{Chunk, Summary};
use crate::error::Error;
use crate::model::{Config, Layout};
use crate::report::{RunReport, units};

/// What was found; its text is a few lines for people.
#[derive(Debug)]
#[non_exhaustive]
pub enum Found {
    /// A run or a checkpoint.
    Model(Box<Verified>),
    /// A model alone: an exported one, or a GPT-2 of others.
    Alone(Box<Model>),
    /// A tokenizer, and where it stands.
    Tokenizer(PathBuf, Box<Tokenizer>),
    /// Text that a run could train on: all of it was read.
    Text(Box<Summary>),
}

/// Looks at `options.paths`: one folder with a `config.json` is a model, one file that ends in `.json` a
/// tokenizer, all else is text, read as a run with these options would.
///
/// ```
/// use twelvefold::train::Options;
/// use twelvefold::train::inspect::{Found, inspect};
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("a.txt"), "some text")?;
/// let found = inspect(&Options { paths: vec![folder.path().into()], ..Options::default() })?;
/// assert!(matches!(&found, Found::Text(summary) if summary.bytes == 9));
/// assert!(found.to_string().starts_with("text: 1 documents"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`], [`Error::Input`]: what is there cannot be read, or is damaged.
pub fn inspect(options: &Options) -> Result<Found, Error> {
    if let [path] = &*options.paths {
        if path.is_dir() && exists(&path.join("config.json"))? {
            return Ok(match is_checkpoint(path)? {
                false => Found::Alone(Box::new(Model::open(path)?)),
                true => Found::Model(Box::new(verify(path)?)),
            });
        }
        let spec = path.to_str().filter(|_| path.is_file()).map(str::parse::<TokenizerSpec>);
        if path.extension().is_some_and(|e| e == "json")
            && let Some(Ok(spec)) = spec
        {
            return Ok(Found::Tokenizer(path.clone(), Box::new(spec.load()?)));
        }
    }
    let (mut source, _) = inputs::text(options, &options.tokenizer.parse()?)?;
    let mut chunk = Chunk::default();
    while source.fill(&mut chunk)? {}
    Ok(Found::Text(Box::new(source.summary())))
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Alone(model) => {
                sizes(f, model.config())?;
                let tokenizer = model.tokenizer().map_or("without", |_| "with");
                writeln!(f, "  {tokenizer} a tokenizer.json that is read")?;
                writeln!(f, "  weights_sha256 {}", model.weights_sha256())
            }
            Found::Model(found) => {
                let Verified { config, state, weights_sha256 } = &**found;
                let Gpt2Config { vocab, context, width, layers, heads, .. } = *config;
                sizes(f, &Config { vocab, layers, heads, width, context })?;
                writeln!(f, "  step {}, seed {}", state.step, state.seed)?;
                writeln!(f, "  {} sequences trained, {} kernels", state.position, state.kernels)?;
                writeln!(f, "  weights_sha256 {weights_sha256}")
            }
            Found::Tokenizer(path, tokenizer) => {
                let kind = match **tokenizer {
                    Tokenizer::Bytes => "bytes",
                    Tokenizer::Words(_) => "whole words",
                    Tokenizer::Bpe(_) => "byte-level BPE",
                };
                writeln!(f, "tokenizer: {}", path.display())?;
                writeln!(f, "  {kind}, {} tokens", tokenizer.vocab())?;
                writeln!(f, "  end of document is token {}", tokenizer.end_of_document())
            }
            Found::Text(summary) => {
                let bytes = units::bytes(summary.bytes);
                writeln!(f, "text: {} documents, {bytes}", summary.documents)?;
                if summary.files > 0 {
                    let skipped = summary.skipped.len();
                    writeln!(f, "  {} files, {skipped} of them skipped", summary.files)?;
                }
                writeln!(f, "  {} bad records", summary.bad_records)
            }
        }
    }
}

fn sizes(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    let Config { vocab, layers, heads, width, context } = *config;
    writeln!(f, "model: {} parameters", units::count(Layout::new(config).parameters() as f64))?;
    writeln!(f, "  {layers} layers, {heads} heads, width {width}, context {context}")?;
    writeln!(f, "  vocabulary {vocab}")
}

/// Whether a folder with a `config.json` is meant to hold what a resume needs. A damaged one is.
fn is_checkpoint(folder: &Path) -> Result<bool, Error> {
    let digests = shape::read(folder)?.digests;
    Ok(digests.contains_key(OPTIMIZER) || exists(&folder.join(OPTIMIZER))?)
}

const OPTIMIZER: &str = "optimizer.safetensors";

/// A model that was looked at.
#[derive(Debug)]
pub struct Checked {
    /// Where it lies.
    pub folder: PathBuf,
    /// What it holds, or how it differs from what was written.
    pub found: Result<Whole, Error>,
}

/// A model whose every byte is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The step after which it was saved; none of an exported model.
    pub step: Option<u64>,
    /// SHA-256 of `model.safetensors`.
    pub weights_sha256: String,
}

/// Checks every byte of a run's outputs and of each of its checkpoints, of one checkpoint or of an exported
/// model: each file's SHA-256, and that the report speaks of these weights.
///
/// ```
/// use twelvefold::train::inspect::verify_run;
///
/// let folder = tempfile::tempdir()?;
/// assert!(verify_run(folder.path()).is_err(), "there is nothing to check");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Input`] where the folder holds no checkpoint; [`Error::Io`].
pub fn verify_run(folder: &Path) -> Result<Vec<Checked>, Error> {
    let mut folders = Vec::new();
    if exists(&folder.join("config.json"))? || exists(&folder.join("model.safetensors"))? {
        folders.push(folder.to_path_buf());
    }
    folders.extend(Checkpoints::of(folder)?.into_iter().map(|(_, folder)| folder));
    if folders.is_empty() {
        let what = format!("{} holds no checkpoint", folder.display());
        return Err(Error::input(what, "give the folder that a run had as --out"));
    }
    let check = |folder: PathBuf| Checked { found: whole(&folder), folder };
    Ok(folders.into_iter().map(check).collect())
}

fn whole(folder: &Path) -> Result<Whole, Error> {
    let Ok(false) = is_checkpoint(folder) else {
        let Verified { state, weights_sha256, .. } = verify(folder)?;
        same_report(folder, &weights_sha256)?;
        return Ok(Whole { step: Some(state.step), weights_sha256 });
    };
    // The other two were checked where it was opened.
    let model = Model::open(folder)?;
    let path = folder.join(TOKENIZER_CONFIG);
    let written = shape::read(folder)?.digests;
    if !model.is_verified() {
        let what = format!("{} holds no digests to check", folder.join("config.json").display());
        return Err(Error::input(what, "only what was written here has them"));
    }
    match written.get(TOKENIZER_CONFIG) {
        Some(digest) if *digest != sha256_of_file(&path)? => {
            let what = format!("{} is not as it was written", path.display());
            Err(Error::input(what, "export the model again"))
        }
        _ => Ok(Whole { step: None, weights_sha256: model.weights_sha256().to_owned() }),
    }
}

/// The report, where there is one, is of these weights.
fn same_report(folder: &Path, weights_sha256: &str) -> Result<(), Error> {
    if exists(&folder.join(REPORT))? {
        let said = report_of(folder)?.weights_sha256;
        if said != weights_sha256 {
            let path = folder.join(REPORT);
            let what = format!("{} speaks of other weights: {said}", path.display());
            return Err(Error::input(what, ""));
        }
    }
    Ok(())
}

pub(super) const REPORT: &str = "report.json";
/// More bytes than this are no report of ours.
const MAX_REPORT: u64 = 1 << 30;

/// The report of the run in a folder.
///
/// ```
/// use twelvefold::report::RunReport;
/// use twelvefold::train::inspect::report_of;
///
/// let folder = tempfile::tempdir()?;
/// let report = RunReport { steps: 7, ..RunReport::default() };
/// std::fs::write(folder.path().join("report.json"), report.to_json())?;
/// assert_eq!(report_of(folder.path())?, report);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`] where there is none, [`Error::Input`] where it is damaged.
pub fn report_of(folder: &Path) -> Result<RunReport, Error> {
    serde_json::from_slice(&report_bytes(folder)?)
        .map_err(|e| Error::input(format!("{} is damaged: {e}", folder.join(REPORT).display()), ""))
}

/// The bytes of a run's report.
pub(super) fn report_bytes(folder: &Path) -> Result<Vec<u8>, Error> {
    let (path, mut bytes) = (folder.join(REPORT), Vec::new());
    File::open(&path)
        .and_then(|file| file.take(MAX_REPORT).read_to_end(&mut bytes))
        .map_err(|e| Error::io("read", &path, e))?;
    Ok(bytes)
}
