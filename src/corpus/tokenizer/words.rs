//! Whole words: text is lower-cased, character by character, and split at Unicode's whitespace.
//!
//! Tokens 0 to 4 are special, then come the words of the corpus, the most frequent first and
//! bytewise among equals. The names of the special tokens are in capitals, so that no word is spelled
//! like one. A word that is not in the vocabulary becomes `[UNK]`; `[EOS]` ends a document; decoding
//! joins with spaces.

use rustc_hash::FxHashMap;

use crate::corpus::Token;

/// The special tokens: padding, unknown, begin and end of a document, mask.
pub const SPECIALS: [&str; 5] = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]"];
/// The token of a word that is not in the vocabulary.
pub const UNKNOWN: Token = 1;
/// The token that ends a document.
pub const END: Token = 3;

/// A vocabulary of words.
#[derive(Debug, Clone)]
pub struct Words {
    /// The words from token 5 on.
    words: Vec<Box<str>>,
    tokens: FxHashMap<Box<str>, Token>,
}

impl Words {
    /// Takes the most frequent words, so that there are `vocab` tokens with the special ones.
    pub(super) fn learn<'a>(pieces: impl Iterator<Item = (&'a [u8], u64)>, vocab: usize) -> Self {
        let mut counted: Vec<(&[u8], u64)> = pieces.collect();
        counted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        counted.truncate(vocab - SPECIALS.len());
        let text = |(word, _): (&[u8], u64)| String::from_utf8_lossy(word).into();
        Words::new(counted.into_iter().map(text).collect())
    }

    pub(super) fn new(words: Vec<Box<str>>) -> Self {
        let first = SPECIALS.len() as Token;
        let tokens = words.iter().cloned().zip(first..).collect();
        Words { words, tokens }
    }

    /// How many tokens there are, the special ones included.
    pub fn vocab(&self) -> usize {
        SPECIALS.len() + self.words.len()
    }

    /// The word of a token.
    pub fn word(&self, token: Token) -> &str {
        let token = token as usize;
        match token.checked_sub(SPECIALS.len()) {
            None => SPECIALS[token],
            Some(index) => self.words.get(index).map_or("", |word| word),
        }
    }

    /// The token of a word that is in lower case.
    pub fn token(&self, word: &str) -> Token {
        self.tokens.get(word).copied().unwrap_or(UNKNOWN)
    }
}

/// Calls `found` with each word of `text`, in lower case.
///
/// Characters are lower-cased one by one: no rule looks at its neighbours (a sigma at the end of a
/// word stays σ).
pub(super) fn each_word(text: &str, scratch: &mut String, mut found: impl FnMut(&str)) {
    for word in text.split_whitespace() {
        if word.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
            found(word);
            continue;
        }
        scratch.clear();
        if word.is_ascii() {
            scratch.push_str(word);
            scratch.make_ascii_lowercase();
        } else {
            scratch.extend(word.chars().flat_map(char::to_lowercase));
        }
        found(scratch);
    }
}
