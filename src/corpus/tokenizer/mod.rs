//! From chunks to tokens.
//!
//! A tokenizer takes the segments of a chunk ([`runs::segments`]) one by one,
//! so that its tokens depend on the document alone. After each document comes the end-of-document
//! token; text that spells it is ordinary text.

use super::runs::Cuts;
use super::{Chunk, Invalid, Token, TokenChunk, TokenSpan, runs, text};

mod ascii;
pub mod bpe;
mod cache;
mod classes;
mod fetch;
mod import;
mod json;
mod known;
pub mod learn;
mod merge;
mod own;
mod spec;
pub mod split;
mod store;
mod tiktoken;
mod train;
pub mod words;

use bpe::Bpe;
pub use spec::TokenizerSpec;
use words::Words;

/// Calls `encode` for each segment of the chunk (bytes, and its offset in its document) and writes
/// down, in `out`, what came of it.
fn encode_spans(
    chunk: &Chunk,
    cuts: Cuts,
    out: &mut TokenChunk,
    end: Option<Token>,
    mut encode: impl FnMut(&[u8], &mut Vec<Token>, &mut Vec<Invalid>, Place),
) {
    out.reset(chunk.index);
    for span in &chunk.spans {
        let bytes = &chunk.bytes[span.range.clone()];
        let first = out.spans.len();
        let mut open = TokenSpan {
            document: span.document,
            unit: span.offset / runs::UNIT_BYTES,
            range: out.tokens.len()..out.tokens.len(),
            ends_document: false,
            bytes: 0,
            bits: span.bits,
        };
        for segment in cuts.segments(bytes, span.offset) {
            if segment.unit != open.unit {
                let start = out.tokens.len();
                let next = TokenSpan { unit: segment.unit, range: start..start, bytes: 0, ..open };
                out.spans.push(std::mem::replace(&mut open, next));
            }
            let place =
                Place { document: span.document, offset: span.offset + segment.range.start as u64 };
            open.bytes += segment.range.len() as u64;
            encode(&bytes[segment.range], &mut out.tokens, &mut out.invalid, place);
            open.range.end = out.tokens.len();
        }
        open.ends_document = span.ends_document;
        if span.ends_document {
            out.tokens.extend(end);
            open.range.end = out.tokens.len();
        }
        out.spans.push(open);
        share_bits(&mut out.spans[first..], span.bits, bytes.len());
    }
}

/// Shares the bits of a span that holds parts of several units, by bytes.
fn share_bits(parts: &mut [TokenSpan], bits: f64, bytes: usize) {
    if parts.len() > 1 {
        for part in parts {
            part.bits = bits * part.bytes as f64 / bytes as f64;
        }
    }
}

/// Where a segment stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    document: u64,
    offset: u64,
}

impl Place {
    /// Counts a bad part `at` bytes into the segment.
    fn note(self, at: usize, invalid: &mut Vec<Invalid>) {
        match invalid.last_mut().filter(|last| last.document == self.document) {
            Some(last) => last.count += 1,
            None => {
                let offset = self.offset + at as u64;
                invalid.push(Invalid { document: self.document, offset, count: 1 });
            }
        }
    }
}

/// Turns text into tokens and back. Immutable, shared by the workers.
///
/// ```
/// use twelvefold::corpus::tokenizer::{Encoder, Tokenizer};
/// let tokens = Tokenizer::Bytes.encode_text("hé", &mut Encoder::default());
/// assert_eq!(tokens, [104, 195, 169]);
/// assert_eq!(Tokenizer::Bytes.decode_to_string(&tokens), "hé");
/// ```
#[derive(Debug, Clone)]
pub enum Tokenizer {
    /// The 256 byte values, and the end of a document.
    Bytes,
    /// Whole words.
    Words(Words),
    /// Byte-level BPE.
    Bpe(Box<Bpe>),
}

/// What one worker needs to encode: scratch, and the tokens of the pieces that it met last. It
/// changes no result. Made for one tokenizer; with another, take another encoder.
#[derive(Debug, Default)]
pub struct Encoder {
    bpe: bpe::Scratch,
    text: String,
    word: String,
}

impl Tokenizer {
    /// How many tokens there are; every token is below.
    pub fn vocab(&self) -> usize {
        match self {
            Tokenizer::Bytes => 257,
            Tokenizer::Words(words) => words.vocab(),
            Tokenizer::Bpe(bpe) => bpe.vocab(),
        }
    }

    /// The token that ends a document.
    pub fn end_of_document(&self) -> Token {
        match self {
            Tokenizer::Bytes => 256,
            Tokenizer::Words(_) => words::END,
            Tokenizer::Bpe(bpe) => bpe.end_of_document(),
        }
    }

    /// Where its text may be cut.
    pub fn cuts(&self) -> Cuts {
        match self {
            Tokenizer::Bytes | Tokenizer::Words(_) => Cuts::OWN,
            Tokenizer::Bpe(bpe) => bpe.cuts(),
        }
    }

    /// Writes the tokens of `chunk` to `out`.
    pub fn encode(&self, chunk: &Chunk, encoder: &mut Encoder, out: &mut TokenChunk) {
        let end = Some(self.end_of_document());
        encode_spans(chunk, self.cuts(), out, end, |bytes, tokens, invalid, place| {
            self.encode_segment(bytes, encoder, tokens, |at| place.note(at, invalid));
        });
    }

    /// The tokens of a text, such as the beginning of a sample; no end-of-document token is added.
    pub fn encode_text(&self, text: &str, encoder: &mut Encoder) -> Vec<Token> {
        let mut tokens = Vec::new();
        for segment in self.cuts().segments(text.as_bytes(), 0) {
            let bytes = &text.as_bytes()[segment.range];
            self.encode_segment(bytes, encoder, &mut tokens, |_| ());
        }
        tokens
    }

    fn encode_segment(
        &self,
        bytes: &[u8],
        encoder: &mut Encoder,
        tokens: &mut Vec<Token>,
        bad: impl FnMut(usize),
    ) {
        let Encoder { bpe: scratch, text, word } = encoder;
        match self {
            Tokenizer::Bytes => tokens.extend(bytes.iter().map(|&b| Token::from(b))),
            Tokenizer::Words(words) => {
                let text = text::decode(bytes, text, bad);
                words::each_word(text, word, |word| tokens.push(words.token(word)));
            }
            Tokenizer::Bpe(bpe) => bpe.encode(text::decode(bytes, text, bad), scratch, tokens),
        }
    }

    /// The bytes of `tokens`; words are joined with spaces. The token that ends a document gives
    /// nothing for `bytes` and `bpe`, and its name for `words`. Unknown numbers give nothing.
    pub fn decode(&self, tokens: &[Token]) -> Vec<u8> {
        match self {
            Tokenizer::Bytes => tokens.iter().filter_map(|&t| u8::try_from(t).ok()).collect(),
            Tokenizer::Words(words) => {
                let words: Vec<&str> = tokens.iter().map(|&token| words.word(token)).collect();
                words.join(" ").into_bytes()
            }
            Tokenizer::Bpe(bpe) => {
                tokens.iter().flat_map(|&token| bpe.token_bytes(token)).copied().collect()
            }
        }
    }

    /// [`Self::decode`] as text; what is no UTF-8 becomes U+FFFD.
    pub fn decode_to_string(&self, tokens: &[Token]) -> String {
        let bytes = self.decode(tokens);
        String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into())
    }

    /// The content of a `tokenizer.json` that Hugging Face's `tokenizers` loads, and which gives the
    /// same ids there. That library takes text that spells a special token for that token, unless its
    /// `encode_special_tokens` is set; this one never does.
    pub fn to_json(&self) -> serde_json::Value {
        json::to_json(self)
    }
}

#[cfg(test)]
mod tests;
