//! Where text may be cut so that its tokens come out as if it had been tokenized whole.
//!
//! A *boundary* lies where a character that is no whitespace is followed by ASCII whitespace. Every
//! tokenizer here begins a new token there whatever follows, and none looks back across it. Only
//! ASCII counts on the right, so that the cut is seen on raw bytes; on the left the whole character
//! is judged (U+00A0 is whitespace; bytes that are no UTF-8 are not).
//!
//! A *run* is the text from one boundary to the next. A run of more than [`BLOCK_BYTES`] is cut into
//! *blocks* of at most that size, counted from the run's start and rounded down to a whole
//! character, so that memory stays bounded on a line without a space. That cut is part of the
//! definition of the tokenizers: no token crosses it.
//!
//! All this is so for the tokenizers of this crate. Those of others have rules of their own
//! ([`Cuts`]): the patterns since GPT-4's keep line ends with the signs before them, so a boundary
//! before `\r` or `\n` needs a letter or a number on its left; and their blocks are of
//! [`FOREIGN_BLOCK_BYTES`], since their ids are to be those that others give.
//!
//! A *unit* is the text of the runs and blocks that begin within the same [`UNIT_BYTES`] of a
//! document. All three depend on the document alone, never on how it was cut into chunks.

use std::ops::Range;

use unicode_general_category::get_general_category;

/// The longest stretch of text, in bytes, that is tokenized as one.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// [`BLOCK_BYTES`] for the tokenizers of others.
pub const FOREIGN_BLOCK_BYTES: usize = 2 * 1024 * 1024;

/// Where a tokenizer allows its text to be cut.
///
/// ```
/// use twelvefold::corpus::runs::Cuts;
/// assert_eq!(Cuts::OWN.cut(b"(a)\n(b", false), 3);
/// assert_eq!(Cuts::MODERN.cut(b"(a)\n(b", false), 0); // `)\n` is one piece there
/// assert_eq!(Cuts::MODERN.cut(b"(a)\nb\nc", false), 5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cuts {
    /// Whether a boundary lies between any text and a line end.
    line_ends: bool,
    /// The longest run that is not cut.
    block: usize,
}

impl Cuts {
    /// For the tokenizers of this crate.
    pub const OWN: Cuts = Cuts { line_ends: true, block: BLOCK_BYTES };
    /// For the vocabularies of others with GPT-2's pattern.
    pub const GPT2: Cuts = Cuts { line_ends: true, block: FOREIGN_BLOCK_BYTES };
    /// For the patterns since GPT-4's.
    pub const MODERN: Cuts = Cuts { line_ends: false, block: FOREIGN_BLOCK_BYTES };

    /// As [`is_boundary`].
    pub fn is_boundary(self, bytes: &[u8], at: usize) -> bool {
        let Some(&right) = bytes.get(at).filter(|&&b| at > 0 && is_ascii_space(b)) else {
            return false;
        };
        if self.line_ends || !matches!(right, b'\r' | b'\n') {
            !ends_in_space(&bytes[..at])
        } else {
            last_char(&bytes[..at]).is_some_and(is_letter_or_number)
        }
    }

    /// As [`cut`]; more than zero wherever `bytes` is longer than a block.
    pub fn cut(self, bytes: &[u8], complete: bool) -> usize {
        if complete {
            return bytes.len();
        }
        let mut at = 0;
        while let Some(length) = self.segment_end(&bytes[at..], false) {
            at += length;
        }
        at
    }

    /// As [`segments`]; a segment of more than [`BLOCK_BYTES`] is one run or block.
    pub fn segments(self, bytes: &[u8], offset: u64) -> impl Iterator<Item = Segment> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = &bytes[at..];
            if rest.is_empty() {
                return None;
            }
            let unit = (offset + at as u64) / UNIT_BYTES;
            let length = self.segment_end(rest, true).unwrap_or(rest.len());
            let to_next_unit = ((unit + 1) * UNIT_BYTES - offset) as usize - at;
            let mut ends = to_next_unit..length;
            let length = ends.find(|&p| self.is_boundary(rest, p)).unwrap_or(length);
            let range = at..at + length;
            at += length;
            Some(Segment { range, unit })
        })
    }

    /// The last boundary at or before `max`.
    fn last_boundary(self, bytes: &[u8], max: usize) -> Option<usize> {
        (1..=max).rev().find(|&at| self.is_boundary(bytes, at))
    }

    /// The end of the first stretch of at most [`BLOCK_BYTES`], or of the first run where that is
    /// longer, that ends at a run's or block's end, in a text that begins at one's start. `None`:
    /// the text goes on after `bytes` (it is not `complete`), and what follows decides.
    fn segment_end(self, bytes: &[u8], complete: bool) -> Option<usize> {
        if bytes.len() <= BLOCK_BYTES {
            return match complete {
                true => Some(bytes.len()),
                false => self.last_boundary(bytes, bytes.len().saturating_sub(1)),
            };
        }
        let within = self.last_boundary(bytes, BLOCK_BYTES);
        let further = || (BLOCK_BYTES + 1..=self.block).find(|&at| self.is_boundary(bytes, at));
        within.or_else(further).or_else(|| {
            let is_long = bytes.len() > self.block;
            let end = if is_long { floor_char(bytes, self.block) } else { bytes.len() };
            (is_long || complete).then_some(end)
        })
    }
}

/// The grain, in bytes, in which a long document is divided between training and validation.
pub const UNIT_BYTES: u64 = 32 * 1024;

/// Space, tab, line feed, vertical tab, form feed and carriage return.
pub(crate) fn is_ascii_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Whether a run begins at `at`, which must lie within a text that begins at a whole character.
///
/// ```
/// use twelvefold::corpus::runs::is_boundary;
/// assert!(is_boundary(b"one two", 3));
/// assert!(!is_boundary(b"one  two", 4)); // whitespace on both sides
/// ```
pub fn is_boundary(bytes: &[u8], at: usize) -> bool {
    Cuts::OWN.is_boundary(bytes, at)
}

/// Whether the last character is whitespace.
fn ends_in_space(bytes: &[u8]) -> bool {
    match bytes.last() {
        Some(&last) if last < 0x80 => is_ascii_space(last),
        _ => last_char(bytes).is_some_and(char::is_whitespace),
    }
}

/// The last character, where the bytes end in a whole one.
fn last_char(bytes: &[u8]) -> Option<char> {
    // A character has at most four bytes, and all but the first are continuations.
    let tail = &bytes[bytes.len().saturating_sub(4)..];
    let lead = tail.iter().rposition(|&b| !is_continuation(b))?;
    std::str::from_utf8(&tail[lead..]).ok()?.chars().next_back()
}

fn is_letter_or_number(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    matches!(get_general_category(c).abbreviation().as_bytes(), [b'L' | b'N', ..])
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// The largest place at or before `at` that does not split a character.
fn floor_char(bytes: &[u8], at: usize) -> usize {
    if !bytes.get(at).is_some_and(|&b| is_continuation(b)) {
        return at;
    }
    for back in 1..=3.min(at) {
        let length = match bytes[at - back] {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
            _ => 1,
        };
        return if length > back { at - back } else { at };
    }
    at
}

/// How many of `bytes` can be handed on: the largest prefix that ends at a run's or block's end.
///
/// `bytes` begins at the start of a document, run or block; `complete` says that the document ends
/// with it. More than zero whenever `bytes` is complete and not empty, or longer than
/// [`BLOCK_BYTES`].
///
/// ```
/// use twelvefold::corpus::runs::cut;
/// assert_eq!(cut(b"the quick bro", false), "the quick".len());
/// assert_eq!(cut(b"the quick bro", true), "the quick bro".len());
/// ```
pub fn cut(bytes: &[u8], complete: bool) -> usize {
    Cuts::OWN.cut(bytes, complete)
}

/// Whole runs, or one block: what a tokenizer takes at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The place in the text given to [`segments`].
    pub range: Range<usize>,
    /// The unit: the offset in the document of the first byte of each of its runs, or of its block,
    /// divided by [`UNIT_BYTES`]. A run that covers all of a unit's place leaves its number out.
    pub unit: u64,
}

/// Cuts a span into segments of at most [`BLOCK_BYTES`], each within one unit. `offset` is that of
/// the span in its document.
pub fn segments(bytes: &[u8], offset: u64) -> impl Iterator<Item = Segment> + '_ {
    Cuts::OWN.segments(bytes, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tests::{Rng, nasty_text};

    /// The definition, character by character, on valid text.
    fn runs_of(text: &str) -> Vec<usize> {
        let chars: Vec<(usize, char)> = text.char_indices().collect();
        let boundary = |w: &&[(usize, char)]| {
            !w[0].1.is_whitespace() && w[1].1.is_ascii() && w[1].1.is_whitespace()
        };
        chars.windows(2).filter(boundary).map(|w| w[1].0).collect()
    }

    #[test]
    fn a_boundary_is_where_its_definition_says() {
        let mut rng = Rng(3);
        for _ in 0..300 {
            let text = nasty_text(&mut rng, 200);
            let found: Vec<usize> =
                (0..=text.len()).filter(|&p| is_boundary(text.as_bytes(), p)).collect();
            assert_eq!(found, runs_of(&text), "{text:?}");
        }
    }

    #[test]
    fn bad_bytes_count_as_text_and_wide_spaces_as_space() {
        assert!(is_boundary(b"\xFF ", 1));
        assert!(is_boundary(b"\x80\x80\x80\x80\x80 ", 5));
        assert!(is_boundary(b"\xE2\x80 ", 2));
        assert!(!is_boundary("\u{a0} ".as_bytes(), 2));
        assert!(!is_boundary("x\u{3000}\n".as_bytes(), 4));
        assert!(is_boundary("\u{a0}x ".as_bytes(), 3));
    }

    /// Cut in two anywhere that `cut` allows: the segments' ends and units agree with the whole.
    #[test]
    fn runs_blocks_and_units_do_not_depend_on_the_cut() {
        let mut rng = Rng(11);
        for round in 0..12 {
            let mut text = Vec::new();
            while text.len() < 300_000 {
                let long = rng.below(3) == 0;
                let n = if long { rng.below(150_000) } else { rng.below(300) };
                match rng.below(4) {
                    0 => text.resize(text.len() + n, b'x'),
                    1 => text.extend("é€".bytes().cycle().take(n)),
                    2 => text.extend((0..n.min(500)).map(|_| rng.below(256) as u8)),
                    _ => text.extend(nasty_text(&mut rng, n.min(900)).bytes()),
                }
            }
            let whole = starts(&text, 0);
            let mut parts = Vec::new();
            let mut at = 0;
            while at < text.len() {
                let window = 66_000 + rng.below(200_000);
                let end = (at + window).min(text.len());
                let n = cut(&text[at..end], end == text.len());
                assert!(n > 0, "round {round}: no progress at {at}");
                parts.extend(starts(&text[at..at + n], at as u64));
                at += n;
            }
            assert_eq!(whole, parts, "round {round}");
        }
    }

    /// Every start of a run or block with its unit, found within the segments of one span.
    fn starts(text: &[u8], offset: u64) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        for segment in segments(text, offset) {
            let bytes = &text[segment.range.clone()];
            assert!(bytes.len() <= BLOCK_BYTES);
            for p in (0..bytes.len()).filter(|&p| p == 0 || is_boundary(bytes, p)) {
                let start = offset + (segment.range.start + p) as u64;
                assert_eq!(start / UNIT_BYTES, segment.unit, "a run's start says its unit");
                out.push((start, segment.unit));
            }
        }
        out
    }

    #[test]
    fn a_block_never_splits_a_character() {
        let text = format!("x{}", "€".repeat(50_000));
        for segment in segments(text.as_bytes(), 0) {
            assert!(text.get(segment.range).is_some());
        }
    }
}
