//! The built-in corpus: small stories, written by a grammar.
//!
//! A story is a chain of choices, each made with a known probability, and the grammar is
//! unambiguous: a text can come from one chain of choices only. So -log2 of the product of the
//! probabilities is -log2 P(text) itself, and no model, told everything, can spend fewer bits on
//! such texts on average: that is the floor under the validation loss. The end of a story is one of
//! the choices.
//!
//! The text is decided by integers alone, and story `n` is a function of (seed, `n`): the same
//! bytes on every machine. Only the bits are floating point.
//!
//! The notation stands in `grammar.rs`, the stories in `stories.grammar`.

mod grammar;

#[cfg(test)]
mod tests;

use self::grammar::{Grammar, Kept, Part, weight};
use super::{CHUNK_BYTES, Chunk, Source, Span, Summary};
use crate::error::Error;

/// No story is longer, bytes (a test holds the grammar to it). A chunk is full when another might
/// not fit.
const LONGEST: usize = 4096;

const GRAMMAR: &str = include_str!("stories.grammar");

/// A [`Source`] of small stories: the built-in corpus.
///
/// # Examples
///
/// ```
/// use twelvefold::corpus::{Chunk, Source, stories::StorySource};
///
/// let mut source = StorySource::new(1, 10_000)?;
/// let mut chunk = Chunk::default();
/// let (mut bits, mut bytes) = (0.0, 0);
/// while source.fill(&mut chunk)? {
///     bits += chunk.spans.iter().map(|span| span.bits).sum::<f64>();
///     bytes += chunk.bytes.len();
/// }
/// let floor_bits_per_byte = bits / bytes as f64;
/// assert!(floor_bits_per_byte > 0.3 && bytes >= 10_000);
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug)]
pub struct StorySource {
    grammar: Grammar,
    seed: u64,
    target: u64,
    chunks: u64,
    summary: Summary,
    /// What the first pass gave, in the passes after it.
    first: Option<Summary>,
    kept: Vec<Kept>,
}

impl StorySource {
    /// Stories by `seed`, until they hold at least `bytes` bytes; the last one is finished.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the built-in grammar cannot be read, which a test rules out.
    pub fn new(seed: u64, bytes: u64) -> Result<Self, Error> {
        let grammar = Grammar::parse(GRAMMAR)
            .map_err(|what| Error::input(format!("the story grammar is wrong: {what}"), ""))?;
        let kept = vec![None; grammar.slots];
        Ok(StorySource {
            grammar,
            seed,
            target: bytes,
            chunks: 0,
            summary: Summary::default(),
            first: None,
            kept,
        })
    }
}

impl Source for StorySource {
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, Error> {
        chunk.bytes.clear();
        chunk.spans.clear();
        while self.summary.bytes < self.target && chunk.bytes.len() + LONGEST <= CHUNK_BYTES {
            let document = self.summary.documents;
            let start = chunk.bytes.len();
            self.kept.fill(None);
            let mut writer = Writer {
                grammar: &self.grammar,
                random: Random::new(self.seed, document),
                kept: &mut self.kept,
                out: &mut chunk.bytes,
                bits: 0.0,
            };
            writer.choose(0, 0, None, &[]);
            let bits = writer.bits;
            let range = start..chunk.bytes.len();
            self.summary.bytes += range.len() as u64;
            self.summary.documents += 1;
            chunk.spans.push(Span { document, range, offset: 0, ends_document: true, bits });
        }
        if chunk.spans.is_empty() {
            return Ok(false);
        }
        chunk.index = self.chunks;
        self.chunks += 1;
        Ok(true)
    }

    fn summary(&self) -> Summary {
        self.first.as_ref().unwrap_or(&self.summary).clone()
    }

    fn rewind(&mut self) -> Result<(), Error> {
        let rewound = self.summary().rewound + 1;
        self.first = Some(Summary { rewound, ..self.summary() });
        self.summary = Summary::default();
        Ok(())
    }
}

/// Writes one story.
struct Writer<'a> {
    grammar: &'a Grammar,
    random: Random,
    kept: &'a mut [Kept],
    out: &'a mut Vec<u8>,
    bits: f64,
}

impl<'a> Writer<'a> {
    fn write(&mut self, parts: &'a [Part]) {
        for part in parts {
            match part {
                Part::Text(text) => self.out.extend_from_slice(text.as_bytes()),
                Part::Choose { rule, form, keep, not } => self.choose(*rule, *form, *keep, not),
                Part::Recall { slot, form } => {
                    if let Some((rule, alternative)) = self.kept[*slot] {
                        self.write(self.grammar.form(rule, alternative, *form));
                    }
                }
            }
        }
    }

    fn choose(&mut self, rule: usize, form: usize, keep: Option<usize>, not: &[usize]) {
        let count = self.grammar.rules[rule].alternatives.len();
        let total: u64 = (0..count).map(|i| weight(self.grammar, rule, i, not, self.kept)).sum();
        let mut at = self.random.below(total.max(1));
        let mut chosen = 0;
        for i in 0..count {
            let weight = weight(self.grammar, rule, i, not, self.kept);
            chosen = i;
            if at < weight {
                self.bits += (total as f64 / weight as f64).log2();
                break;
            }
            at -= weight;
        }
        if let Some(slot) = keep {
            self.kept[slot] = Some((rule, chosen));
        }
        self.write(self.grammar.form(rule, chosen, form));
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014), one stream a story.
struct Random(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    fn new(seed: u64, document: u64) -> Self {
        Random(mix(mix(seed.wrapping_add(GOLDEN)).wrapping_add(document)))
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform below `n`, exactly: the incomplete last round of `n` is thrown away. `n` >= 1.
    fn below(&mut self, n: u64) -> u64 {
        let rest = (u64::MAX % n + 1) % n;
        loop {
            let x = self.draw();
            if x <= u64::MAX - rest {
                return x % n;
            }
        }
    }
}
