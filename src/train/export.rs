//! The tokens of a text as a file for other trainers, with a note of what it was made from.
//!
//! | format | files | what they hold |
//! |---|---|---|
//! | [`Format::LlmC`] | `OUT` | 256 words of header (magic, version, number of tokens), then the tokens: `u16` (magic 20240520, version 1), or `u32` for a vocabulary beyond 65,536 (20240801, 7) |
//! | [`Format::Megatron`] | `OUT.bin`, `OUT.idx` | the tokens as `u16` or `i32`; the sizes and places of the documents (`MMIDIDX`, version 1) |
//!
//! All numbers are little-endian. Documents come in the order of the corpus, each closed by the
//! end-of-document token; llm.c's file opens with one as well, as its own data does.
//!
//! `OUT.json` beside it says what the file was made from: digests of text, tokenizer and tokens, and
//! the rules. An export onto another one is refused with what differs; onto the same one it writes nothing.
//! The text is read twice, first for the digests: so nothing is written before it is known to be right.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::explain::tokenizer_of;
use super::files::{AtomicFile, exists, io_error, write_atomically};
use super::init;
use super::inputs::{no_text, text};
use super::options::Options;
use super::safetensors::{hex, sha256_hex};
use super::snapshot::text_of;
use crate::corpus::tokenizer::{Encoder, Tokenizer, TokenizerSpec};
use crate::corpus::{Chunk, Source, Summary, Token, TokenChunk};
use crate::error::Error;

/// For whom.
///
/// ```
/// use twelvefold::train::export::Format;
/// assert_eq!(serde_json::to_string(&Format::Megatron)?, "\"megatron\"");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// llm.c.
    LlmC,
    /// Megatron-LM, and what reads its indexed data sets.
    Megatron,
}

/// What an export was made from: the contents of `OUT.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The file's layout.
    pub format: Format,
    /// How text became tokens, and tokens a file.
    pub rules: String,
    /// The setting.
    pub tokenizer: String,
    /// SHA-256 of its `tokenizer.json`.
    pub tokenizer_sha256: String,
    /// SHA-256 of the documents' bytes, a byte 255 after each.
    pub text_sha256: String,
    /// SHA-256 of the tokens, each as four bytes.
    pub tokens_sha256: String,
    /// How many.
    pub tokens: u64,
    /// How many.
    pub documents: u64,
}

/// Changes with what the code below does.
const RULES: &str = "twelvefold 1: runs and blocks, documents closed by the end-of-document token";

/// Writes the tokens of the text and the tokenizer of `options`; gives what they were made from, and
/// whether anything had to be written.
///
/// ```
/// use twelvefold::train::Options;
/// use twelvefold::train::export::{Exported, Format, export};
///
/// let folder = tempfile::tempdir()?;
/// let text = folder.path().join("a.txt");
/// std::fs::write(&text, "abc")?;
/// let options =
///     Options { paths: vec![text], tokenizer: "bytes".to_owned(), ..Options::default() };
/// let out = folder.path().join("a.bin");
/// let done: Exported = export(&options, Format::LlmC, &out, false)?;
/// assert_eq!((done.made.tokens, done.written), (4, true));
/// assert_eq!(std::fs::read(&out)?.len(), 1024 + 2 * 5);
/// assert!(!export(&options, Format::LlmC, &out, false)?.written, "it is there already");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A file that is there was made from something else, and `overwrite` is not set: with what differs.
/// Text that cannot be read, that changes meanwhile, or that is more than the format can hold;
/// [`Error::Io`].
pub fn export(
    options: &Options,
    format: Format,
    out: &Path,
    overwrite: bool,
) -> Result<Exported, Error> {
    // In the order of the paths, which is what who reads the file expects.
    let options = &Options { shuffle_files: false, ..init::settle(options)?.0 };
    let spec: TokenizerSpec = options.tokenizer.parse()?;
    let (mut text, given) = text(options, &spec)?;
    let tokenizer = tokenizer_of(spec, given, &mut *text)?;
    let made = pass(&mut *text, &tokenizer, options, format, |_, _| Ok(()))?;
    // As the first pass found it: the second one reads the same.
    let summary = text.summary();
    if made.documents == 0 {
        return Err(no_text(&summary));
    }
    let note = beside(out, "json");
    if !overwrite && let Some(before) = read_note(&note)? {
        if before == made {
            return Ok(Exported { made, written: false, summary });
        }
        return Err(differs(out, &before, &made));
    }
    text.rewind()?;
    let again = match format {
        Format::LlmC => llm_c(&mut *text, &tokenizer, options, &made, out)?,
        Format::Megatron => megatron(&mut *text, &tokenizer, options, &made, out)?,
    };
    if again != made {
        return Err(Error::input(
            "the text changed while it was exported",
            "let nothing write to it meanwhile, and export again with --overwrite",
        ));
    }
    let mut json = serde_json::to_string_pretty(&made).unwrap_or_default();
    json.push('\n');
    write_atomically(&note, json.as_bytes())?;
    Ok(Exported { made, written: true, summary })
}

/// `OUT.EXTENSION`, whatever `OUT` ends with.
fn beside(out: &Path, extension: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// What stands in a note that is there; one that cannot be read is as good as a difference.
fn read_note(path: &Path) -> Result<Option<Made>, Error> {
    if !exists(path)? {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        let what = format!("{} is no note of an export: {e}", path.display());
        Error::input(what, "choose another --out, or replace it with --overwrite")
    })
}

fn differs(out: &Path, before: &Made, made: &Made) -> Error {
    let quoted = |format: Format| format!("{format:?}");
    let pairs = [
        ("the format", quoted(before.format), quoted(made.format)),
        ("the rules", before.rules.clone(), made.rules.clone()),
        ("the tokenizer", before.tokenizer.clone(), made.tokenizer.clone()),
        ("the vocabulary", before.tokenizer_sha256.clone(), made.tokenizer_sha256.clone()),
        ("the text", before.text_sha256.clone(), made.text_sha256.clone()),
        ("the tokens", before.tokens_sha256.clone(), made.tokens_sha256.clone()),
    ];
    let words: Vec<String> = pairs
        .into_iter()
        .filter(|(_, was, is)| was != is)
        .map(|(name, was, is)| format!("{name} was {was} and is {is}"))
        .collect();
    Error::input(
        format!("{} was made from something else: {}", out.display(), words.join(", ")),
        "choose another --out, or replace it with --overwrite",
    )
}

/// What an export did.
///
/// ```
/// use twelvefold::train::Options;
/// use twelvefold::train::export::{Exported, Format, export};
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("a.txt"), "abc")?;
/// std::fs::write(folder.path().join("b"), [0, 1])?;
/// let (paths, tokenizer) = (vec![folder.path().to_owned()], "bytes".to_owned());
/// let options = Options { paths, tokenizer, ..Options::default() };
/// let out = tempfile::tempdir()?;
/// let done: Exported = export(&options, Format::LlmC, &out.path().join("a.bin"), false)?;
/// assert_eq!((done.made.documents, done.summary.skipped.len()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// What stands in the file, and in the note beside it.
    pub made: Made,
    /// Whether it was written; otherwise it was there already.
    pub written: bool,
    /// What was read, and what was left out and why.
    pub summary: Summary,
}

/// One pass over the text: `each` gets a span's tokens, and whether its document ends with them.
fn pass(
    source: &mut dyn Source,
    tokenizer: &Tokenizer,
    options: &Options,
    format: Format,
    mut each: impl FnMut(&[Token], bool) -> Result<(), Error>,
) -> Result<Made, Error> {
    let (mut chunk, mut tokens) = (Chunk::default(), TokenChunk::default());
    let mut encoder = Encoder::default();
    let (mut text, mut ids) = (Sha256::new(), Sha256::new());
    let (mut count, mut documents) = (0, 0);
    let mut bytes = Vec::new();
    while source.fill(&mut chunk)? {
        for span in &chunk.spans {
            text.update(&chunk.bytes[span.range.clone()]);
            text.update(&[255][..usize::from(span.ends_document)]);
        }
        tokenizer.encode(&chunk, &mut encoder, &mut tokens);
        bytes.clear();
        bytes.extend(tokens.tokens.iter().flat_map(|token| token.to_le_bytes()));
        ids.update(&bytes);
        for span in &tokens.spans {
            count += span.range.len() as u64;
            documents += u64::from(span.ends_document);
            each(&tokens.tokens[span.range.clone()], span.ends_document)?;
        }
    }
    Ok(Made {
        format,
        rules: RULES.to_owned(),
        tokenizer: options.tokenizer.clone(),
        tokenizer_sha256: sha256_hex(text_of(tokenizer).as_bytes()),
        text_sha256: hex(&text.finalize()),
        tokens_sha256: hex(&ids.finalize()),
        tokens: count,
        documents,
    })
}

/// Writes tokens in two or four bytes.
fn write_tokens(file: &mut impl Write, tokens: &[Token], narrow: bool) -> io::Result<()> {
    for token in tokens {
        match u16::try_from(*token) {
            Ok(token) if narrow => file.write_all(&token.to_le_bytes())?,
            _ => file.write_all(&token.to_le_bytes())?,
        }
    }
    Ok(())
}

fn is_narrow(tokenizer: &Tokenizer) -> bool {
    tokenizer.vocab() <= 1 << 16
}

fn llm_c(
    source: &mut dyn Source,
    tokenizer: &Tokenizer,
    options: &Options,
    made: &Made,
    out: &Path,
) -> Result<Made, Error> {
    let narrow = is_narrow(tokenizer);
    let all = i32::try_from(made.tokens + 1).map_err(|_| {
        let what = format!("llm.c's format counts up to {} tokens, not {}", i32::MAX, made.tokens);
        Error::input(what, "export the text in parts, or in Megatron's format")
    })?;
    let mut file = AtomicFile::create(out)?;
    let failed = |e| io_error("write", out, e);
    let mut header = [0_i32; 256];
    header[..3].copy_from_slice(&if narrow { [20_240_520, 1, all] } else { [20_240_801, 7, all] });
    for word in header {
        file.write_all(&word.to_le_bytes()).map_err(failed)?;
    }
    write_tokens(&mut file, &[tokenizer.end_of_document()], narrow).map_err(failed)?;
    let again = pass(source, tokenizer, options, Format::LlmC, |tokens, _| {
        write_tokens(&mut file, tokens, narrow).map_err(failed)
    })?;
    if again == *made {
        file.commit()?;
    }
    Ok(again)
}

fn megatron(
    source: &mut dyn Source,
    tokenizer: &Tokenizer,
    options: &Options,
    made: &Made,
    out: &Path,
) -> Result<Made, Error> {
    let narrow = is_narrow(tokenizer);
    let (bin, idx) = (beside(out, "bin"), beside(out, "idx"));
    let mut file = AtomicFile::create(&bin)?;
    let (mut sizes, mut open) = (Vec::new(), 0_u64);
    let again = pass(source, tokenizer, options, Format::Megatron, |tokens, ends| {
        write_tokens(&mut file, tokens, narrow).map_err(|e| io_error("write", &bin, e))?;
        open += tokens.len() as u64;
        if ends {
            sizes.push(i32::try_from(open).map_err(|_| {
                let what = format!("document {} has {open} tokens", sizes.len());
                Error::input(what, "Megatron's format counts up to 2147483647 in a document")
            })?);
            open = 0;
        }
        Ok(())
    })?;
    let mut index = AtomicFile::create(&idx)?;
    write_index(&mut index, &sizes, narrow).map_err(|e| io_error("write", &idx, e))?;
    if again == *made {
        // Without its index the data is not looked at: so that comes last.
        file.commit()?;
        index.commit()?;
    }
    Ok(again)
}

fn write_index(file: &mut impl Write, sizes: &[i32], narrow: bool) -> io::Result<()> {
    let (code, width) = if narrow { (8_u8, 2) } else { (4, 4) };
    file.write_all(b"MMIDIDX\x00\x00")?;
    file.write_all(&1_u64.to_le_bytes())?;
    file.write_all(&[code])?;
    file.write_all(&(sizes.len() as u64).to_le_bytes())?;
    file.write_all(&(sizes.len() as u64 + 1).to_le_bytes())?;
    for size in sizes {
        file.write_all(&size.to_le_bytes())?;
    }
    let mut at = 0_i64;
    for size in sizes {
        file.write_all(&at.to_le_bytes())?;
        at += i64::from(*size) * width;
    }
    (0..=sizes.len() as i64).try_for_each(|document| file.write_all(&document.to_le_bytes()))
}
