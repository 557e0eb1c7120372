//! Which tokenizer, as the user says it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::bpe::Bpe;
use super::split::Pattern;
use super::{Tokenizer, own, tiktoken};
use crate::error::Error;

/// The largest file of a vocabulary, in bytes: it is held in memory.
const MAX_FILE: u64 = 256 << 20;

/// Which tokenizer, as the user says it.
///
/// | text | what it is |
/// |---|---|
/// | `bytes` | the 256 byte values |
/// | `words:N`, `bpe:N` | learned from the corpus; N tokens, special ones included |
/// | `PATH.json` | a `tokenizer.json` of Hugging Face's, or of a run |
/// | `PATH.tiktoken:PATTERN` | a vocabulary in tiktoken's format, and [how text is cut](Pattern) |
/// | `gpt2`, `cl100k`, `o200k` | with the feature `vocabularies`: those of OpenAI |
///
/// ```
/// use twelvefold::corpus::tokenizer::TokenizerSpec;
/// let spec: TokenizerSpec = "bpe:1024".parse()?;
/// assert_eq!(spec, TokenizerSpec::Bpe(1024));
/// assert!("bpe:12".parse::<TokenizerSpec>().unwrap_err().to_string().contains("257"));
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerSpec {
    /// The 256 byte values and the end of a document.
    Bytes,
    /// Lower-cased words, this many tokens with the five special ones.
    Words(usize),
    /// Byte-level BPE, this many tokens with the 256 bytes and the end of a document.
    Bpe(usize),
    /// A `tokenizer.json` of Hugging Face's, or of a run.
    Json(PathBuf),
    /// A file in tiktoken's format, which does not say how text is cut.
    Tiktoken(PathBuf, Pattern),
    /// A vocabulary of OpenAI's, by the name of its pattern.
    Known(Pattern),
}

impl TokenizerSpec {
    /// The smallest vocabulary of words: the special tokens and one word.
    pub const MIN_WORDS: usize = 6;
    /// The smallest vocabulary of a BPE: the bytes and the end of a document.
    pub const MIN_BPE: usize = 257;
    /// The largest vocabulary of either.
    pub const MAX: usize = 1_000_000;

    /// Whether it needs a first pass over the corpus ([`learn`](super::learn)).
    pub fn learns(&self) -> bool {
        self.vocab().is_some()
    }

    /// The size of the vocabulary that is asked for, where one is learned.
    pub fn vocab(&self) -> Option<usize> {
        match self {
            TokenizerSpec::Words(vocab) | TokenizerSpec::Bpe(vocab) => Some(*vocab),
            _ => None,
        }
    }

    /// The tokenizer, where nothing is learned.
    ///
    /// ```
    /// use twelvefold::corpus::tokenizer::TokenizerSpec;
    ///
    /// assert_eq!(TokenizerSpec::Bytes.load()?.vocab(), 257);
    /// let spec: TokenizerSpec = "no/such.json".parse()?;
    /// assert!(spec.load().unwrap_err().to_string().starts_with("cannot open no/such.json"));
    /// # Ok::<(), twelvefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// The file cannot be read, or holds something else; this is one that learns; the vocabulary is
    /// not part of this build.
    pub fn load(&self) -> Result<Tokenizer, Error> {
        let bpe = match self {
            TokenizerSpec::Bytes => return Ok(Tokenizer::Bytes),
            TokenizerSpec::Json(path) => {
                let text = String::from_utf8(read(path)?);
                let text = text.map_err(|e| useless(path, e.utf8_error().to_string()))?;
                return own::read(&text).map_err(|why| useless(path, why));
            }
            TokenizerSpec::Tiktoken(path, pattern) => {
                tiktoken::read(&read(path)?, *pattern).map_err(|why| useless(path, why))?
            }
            TokenizerSpec::Known(pattern) => known(*pattern)?,
            TokenizerSpec::Words(_) | TokenizerSpec::Bpe(_) => {
                return Err(Error::input(format!("{self} is learned from a corpus"), ""));
            }
        };
        Ok(Tokenizer::Bpe(Box::new(bpe)))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut bytes = Vec::new();
    let found = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    found.map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(useless(path, format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

fn useless(path: &Path, why: String) -> Error {
    let what = format!("cannot use {} as a tokenizer: {why}", path.display());
    Error::input(
        what,
        "give a byte-level BPE as GPT-2 and Llama 3 have it, or learn one with bpe:N",
    )
}

#[cfg(feature = "vocabularies")]
fn known(pattern: Pattern) -> Result<Bpe, Error> {
    let (shipped, end) = match pattern {
        Pattern::Gpt2 => (tiktoken_rs::r50k_base(), 50_256),
        Pattern::Cl100k => (tiktoken_rs::cl100k_base(), 100_256),
        _ => (tiktoken_rs::o200k_base(), 199_998),
    };
    let shipped = shipped.map_err(|e| Error::input(e.to_string(), "please report this"))?;
    let token = |token| shipped.decode_bytes(&[token]).ok().map(Box::from);
    let tokens: Vec<Option<Box<[u8]>>> = (0..end).map(token).collect();
    tiktoken::from_tokens(&tokens, pattern).map_err(|why| Error::input(why, "please report this"))
}

#[cfg(not(feature = "vocabularies"))]
fn known(pattern: Pattern) -> Result<Bpe, Error> {
    Err(Error::input(
        format!("the vocabulary {pattern} is not part of this build"),
        format!(
            "build with --features vocabularies, or give a file: PATH.json or PATH.tiktoken:{pattern}"
        ),
    ))
}

impl FromStr for TokenizerSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (words, bpe, max) = (Self::MIN_WORDS, Self::MIN_BPE, Self::MAX);
        let found = match text.split_once(':') {
            None if text == "bytes" => Some(TokenizerSpec::Bytes),
            None if ["gpt2", "cl100k", "o200k"].contains(&text) => {
                text.parse().ok().map(TokenizerSpec::Known)
            }
            Some(("words", n)) => {
                size(n).filter(|n| (words..=max).contains(n)).map(TokenizerSpec::Words)
            }
            Some(("bpe", n)) => size(n).filter(|n| (bpe..=max).contains(n)).map(TokenizerSpec::Bpe),
            _ if text.ends_with(".json") => Some(TokenizerSpec::Json(text.into())),
            _ => tiktoken_file(text),
        };
        found.ok_or_else(|| Error::Setting {
            name: "--tokenizer",
            value: text.into(),
            allowed: format!(
                "give bytes, words:N with N from {words} to {max}, bpe:N with N from {bpe} to {max}, \
                 a PATH.json, a PATH.tiktoken:PATTERN, gpt2, cl100k or o200k"
            ),
        })
    }
}

fn tiktoken_file(text: &str) -> Option<TokenizerSpec> {
    let (path, pattern) = text.rsplit_once(':')?;
    let pattern = pattern.parse().ok()?;
    path.ends_with(".tiktoken").then(|| TokenizerSpec::Tiktoken(path.into(), pattern))
}

/// Digits alone: no sign.
fn size(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for TokenizerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenizerSpec::Bytes => f.write_str("bytes"),
            TokenizerSpec::Words(vocab) => write!(f, "words:{vocab}"),
            TokenizerSpec::Bpe(vocab) => write!(f, "bpe:{vocab}"),
            TokenizerSpec::Json(path) => write!(f, "{}", path.display()),
            TokenizerSpec::Tiktoken(path, pattern) => write!(f, "{}:{pattern}", path.display()),
            TokenizerSpec::Known(pattern) => write!(f, "{pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_what_its_text_says() {
        for text in ["bytes", "words:6", "bpe:257", "a/b.json", "x:y.tiktoken:llama3", "o200k"] {
            assert_eq!(text.parse::<TokenizerSpec>().unwrap().to_string(), text);
        }
        for text in ["json", "a.tiktoken", "a.tiktoken:", "a:gpt2", "gpt3", "bpe:300:gpt2"] {
            assert!(text.parse::<TokenizerSpec>().is_err(), "{text}");
        }
        assert!(TokenizerSpec::Bpe(300).load().is_err());
    }

    /// In a build with the vocabularies, and in one without.
    #[test]
    fn the_vocabularies_are_there_by_name_or_the_error_says_how_to_get_them() {
        for (name, vocab) in [("gpt2", 50_257), ("cl100k", 100_277), ("o200k", 200_019)] {
            match name.parse::<TokenizerSpec>().unwrap().load() {
                Ok(tokenizer) if cfg!(feature = "vocabularies") => {
                    assert_eq!(tokenizer.vocab(), vocab);
                }
                Err(error) if cfg!(not(feature = "vocabularies")) => {
                    let hint = format!(
                        "--features vocabularies, or give a file: PATH.json or PATH.tiktoken:{name}"
                    );
                    assert!(error.to_string().contains(&hint), "{error}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
