//! Numbers as words, for the messages that carry more than floats.

use super::Words;

/// Numbers put one after another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Write(Words);

impl Write {
    /// Begins in a buffer whose memory is used again.
    pub(crate) fn into_buffer(mut buffer: Words) -> Self {
        buffer.clear();
        Write(buffer)
    }

    /// Two words.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend([number as u32, (number >> 32) as u32]);
        self
    }

    /// Two words: the float's bits.
    pub(crate) fn float(&mut self, float: f64) -> &mut Self {
        self.number(float.to_bits())
    }

    /// Words as they are; their number is not noted.
    pub(crate) fn all(&mut self, words: &[u32]) -> &mut Self {
        self.0.extend_from_slice(words);
        self
    }

    /// The bytes and their number.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        let word = |bytes: &[u8]| {
            bytes.iter().rev().fold(0, |word: u32, &byte| word << 8 | u32::from(byte))
        };
        self.0.extend(text.as_bytes().chunks(4).map(word));
        self
    }

    /// What was put.
    pub(crate) fn words(self) -> Words {
        self.0
    }
}

/// Numbers taken one after another, as [`Write`] put them.
#[derive(Debug, Clone)]
pub(crate) struct Read<'a>(&'a [u32]);

impl<'a> Read<'a> {
    /// From the first word on.
    pub(crate) fn new(words: &'a [u32]) -> Self {
        Read(words)
    }

    /// The next number; 0 where there is none.
    pub(crate) fn number(&mut self) -> u64 {
        let words = self.all(2);
        let word = |i: usize| u64::from(words.get(i).copied().unwrap_or(0));
        word(0) | word(1) << 32
    }

    /// The next float.
    pub(crate) fn float(&mut self) -> f64 {
        f64::from_bits(self.number())
    }

    /// The next `count` words, or as many as there are.
    pub(crate) fn all(&mut self, count: usize) -> &'a [u32] {
        let (words, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        words
    }

    /// The next text.
    pub(crate) fn text(&mut self) -> String {
        let bytes = self.number() as usize;
        let words = self.all(bytes.div_ceil(4));
        let mut all: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        all.truncate(bytes);
        String::from_utf8_lossy(&all).into_owned()
    }

    /// What is left.
    pub(crate) fn rest(self) -> &'a [u32] {
        self.0
    }
}
