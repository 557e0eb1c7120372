//! Cuts text into pieces by the patterns of the well-known tokenizers, without a regular expression.
//!
//! | pattern | as a regular expression |
//! |---|---|
//! | `gpt2` | `'(?:[sdmt]\|ll\|ve\|re)\| ?\p{L}+\| ?\p{N}+\| ?[^\s\p{L}\p{N}]+\|\s+(?!\S)\|\s+` |
//! | `cl100k` | `'(?i:[sdmt]\|ll\|ve\|re)\|[^\r\n\p{L}\p{N}]?\p{L}+\|\p{N}{1,3}\| ?[^\s\p{L}\p{N}]+[\r\n]*\|\s+$\|\s*[\r\n]+\|\s+(?!\S)\|\s+` |
//! | `llama3` | the same without `\s+$` |
//! | `qwen2` | the same as `llama3`, with `\p{N}` for `\p{N}{1,3}` |
//! | `o200k` | a word of upper and lower case letters (`mod o200k`), then as `llama3` with `[\r\n/]*` |
//!
//! `\s` is Unicode's `White_Space`, L, N and M are general categories. The alternatives are tried in
//! this order, and every character belongs to a piece. `\s+(?!\S)` leaves the last white space before
//! a word to what follows. Each piece is found in one pass over its own characters and the white
//! space after it, so the time is linear.

use std::fmt;
use std::str::FromStr;

use super::ascii::{self, WINDOW, Window};
use super::classes::{CASELESS, Classes, LETTER, LOWER, MARK, NUMBER, OTHER, SPACE, UPPER};
use crate::corpus::runs::Cuts;
use crate::error::Error;

/// Which of the patterns.
///
/// ```
/// use twelvefold::corpus::tokenizer::split::Pattern;
///
/// assert_eq!("o200k".parse::<Pattern>()?, Pattern::O200k);
/// assert!("gpt5".parse::<Pattern>().unwrap_err().to_string().contains("cl100k"));
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// GPT-2's, and that of the vocabularies learned here.
    Gpt2,
    /// GPT-4's, as tiktoken has it.
    Cl100k,
    /// Llama 3's.
    Llama3,
    /// Qwen 2's: digits one by one.
    Qwen2,
    /// GPT-4o's.
    O200k,
}

/// Every pattern with its name.
const NAMES: [(Pattern, &str); 5] = [
    (Pattern::Gpt2, "gpt2"),
    (Pattern::Cl100k, "cl100k"),
    (Pattern::Llama3, "llama3"),
    (Pattern::Qwen2, "qwen2"),
    (Pattern::O200k, "o200k"),
];

/// The spellings under which the patterns stand in files, the one that we write first.
const SPELLINGS: &[(Pattern, &str)] = &[
    (Pattern::Gpt2, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
    (Pattern::Gpt2, r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
    (
        Pattern::Gpt2,
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    ),
    (
        Pattern::Cl100k,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        Pattern::Cl100k,
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    ),
    (
        Pattern::Llama3,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        Pattern::Qwen2,
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        Pattern::O200k,
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
];

impl Pattern {
    /// The regular expression, as `tokenizers` takes it.
    pub(super) fn regex(self) -> &'static str {
        SPELLINGS.iter().find(|(pattern, _)| *pattern == self).map_or("", |(_, text)| text)
    }

    /// The pattern that a regular expression spells; only the known spellings are.
    pub(super) fn of_regex(text: &str) -> Option<Pattern> {
        SPELLINGS.iter().find(|(_, known)| *known == text).map(|(pattern, _)| *pattern)
    }

    /// Where text may be cut so that its pieces stay the same.
    pub(super) fn cuts(self) -> Cuts {
        match self {
            Pattern::Gpt2 => Cuts::GPT2,
            _ => Cuts::MODERN,
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = NAMES.iter().find(|(_, name)| *name == text).map(|(pattern, _)| *pattern);
        found.ok_or_else(|| {
            let names = NAMES.map(|(_, name)| name).join(", ");
            Error::input(format!("no pattern is called {text}"), format!("known are {names}"))
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(pattern, _)| pattern == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A pattern as the compiler sees it: one loop for each.
pub(super) trait Cut {
    /// The end of the piece that begins at `at`, which is before the end of `text`.
    fn end(text: Classes<'_>, at: usize) -> usize;

    /// Where further pieces begin in a window that begins with one: a bit for each, the first one's
    /// own apart. None at all says nothing.
    #[inline]
    fn starts(_window: &Window<'_>) -> u64 {
        0
    }
}

/// The ends of pieces, one after the other: those of a stretch of text, so that what is done with them
/// waits for no branch of the patterns.
#[derive(Debug)]
pub(super) struct Ends {
    list: [u32; BATCH + WINDOW],
    len: usize,
}

/// How many pieces are found before they are looked up.
const BATCH: usize = 128;

impl Default for Ends {
    fn default() -> Self {
        Ends { list: [0; BATCH + WINDOW], len: 0 }
    }
}

impl Ends {
    /// The ends of the pieces from `at` on, which is before the end of the text: all, or many.
    #[inline]
    pub(super) fn find<C: Cut>(&mut self, text: Classes<'_>, mut at: usize) -> &[u32] {
        self.len = 0;
        while at < text.bytes.len() && self.len < BATCH {
            let starts = match ascii::window(text.bytes, at) {
                Some(window) => C::starts(&window),
                None => 0,
            };
            at = match starts {
                0 => C::end(text, at),
                _ => self.push_all(at, starts),
            };
            if starts == 0 {
                self.push(at);
            }
        }
        &self.list[..self.len]
    }

    #[inline]
    fn push(&mut self, end: usize) {
        self.list[self.len] = end as u32;
        self.len += 1;
    }

    /// Adds the places of bits from `at` on; gives the last one.
    #[inline]
    fn push_all(&mut self, at: usize, mut bits: u64) -> usize {
        let count = bits.count_ones() as usize;
        let Some(room) = self.list.get_mut(self.len..self.len + WINDOW) else { return at };
        for end in room.iter_mut().take(count) {
            *end = at as u32 + bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
        }
        self.len += count;
        self.list[self.len - 1] as usize
    }
}

pub(super) struct Gpt2;

impl Cut for Gpt2 {
    /// What a piece is follows from a character and its neighbours, but for contractions.
    #[inline]
    fn starts(window: &Window<'_>) -> u64 {
        let Window { letters, numbers, spaces, blanks, .. } = *window;
        let others = !(letters | numbers | spaces);
        let goes_on = letters & letters << 1 | numbers & numbers << 1 | others & others << 1;
        let mut starts = !spaces & !(goes_on | blanks << 1);
        // White space: the first of several, and the last, which goes with what follows.
        starts |= spaces & !(spaces << 1 & spaces >> 1);
        let mut marks = window.apostrophes & starts;
        while marks != 0 {
            let at = marks.trailing_zeros() as usize;
            marks &= marks - 1;
            let length = contraction(&window.bytes[at..], 0, false);
            if length > 0 {
                starts = starts & !(2 << at) | (1 << at) << length;
            }
        }
        starts & window.sure
    }

    #[inline]
    fn end(text: Classes<'_>, at: usize) -> usize {
        let (class, length) = text.look(at);
        let (class, start) = if text.bytes[at] == b' ' {
            match text.look(at + 1) {
                (SPACE | 0, _) => return end_of_space(text, at, at + 1),
                (class, length) => (class, at + 1 + length),
            }
        } else {
            (class, at + length)
        };
        if class & LETTER != 0 {
            return text.end_of_letters(start);
        }
        match class {
            NUMBER => text.end_of(start, NUMBER),
            SPACE => end_of_space(text, at, start),
            _ => match contraction(text.bytes, at, false) {
                0 => text.end_of(start, OTHER | MARK),
                length => at + length,
            },
        }
    }
}

/// The patterns since GPT-4's, with at most this many digits to a piece; `TAIL`: white space at the
/// end of the text is one piece.
pub(super) struct Modern<const DIGITS: usize, const TAIL: bool>;

impl<const DIGITS: usize, const TAIL: bool> Cut for Modern<DIGITS, TAIL> {
    #[inline]
    fn end(text: Classes<'_>, at: usize) -> usize {
        let (class, length) = text.look(at);
        if class & LETTER != 0 {
            return text.end_of_letters(at + length);
        }
        if class == NUMBER {
            return end_of_digits(text, at + length, DIGITS - 1);
        }
        if class != SPACE {
            let contraction = contraction(text.bytes, at, true);
            if contraction > 0 {
                return at + contraction;
            }
        }
        let (next, after) = text.look(at + length);
        if next & LETTER != 0 && !text.is_newline(at) {
            return text.end_of_letters(at + length + after);
        }
        if class != SPACE {
            return end_of_lines(text, text.end_of(at + length, OTHER | MARK), false);
        }
        if text.bytes[at] == b' ' && next & (OTHER | MARK) != 0 {
            return end_of_lines(text, text.end_of(at + 1 + after, OTHER | MARK), false);
        }
        end_of_lines_or_space(text, at, at + length, TAIL)
    }
}

pub(super) struct O200k;

impl Cut for O200k {
    #[inline]
    fn end(text: Classes<'_>, at: usize) -> usize {
        let (class, length) = text.look(at);
        if class == NUMBER {
            return end_of_digits(text, at + length, 2);
        }
        if let Some(end) = o200k::word(text, at, class, length) {
            return end + contraction(text.bytes, end, true);
        }
        if class != SPACE {
            return end_of_lines(text, text.end_of(at + length, OTHER | MARK), true);
        }
        let (next, after) = text.look(at + length);
        if text.bytes[at] == b' ' && next & (OTHER | MARK) != 0 {
            return end_of_lines(text, text.end_of(at + 1 + after, OTHER | MARK), true);
        }
        end_of_lines_or_space(text, at, at + length, false)
    }
}

/// The words of `o200k`:
///
/// ```text
/// [^\r\n\p{L}\p{N}]?U*W+ | [^\r\n\p{L}\p{N}]?U+W*
/// ```
///
/// where U is `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]` and W is `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`. What has no
/// case is in both. A regular expression takes all of U first, and gives back until W finds
/// something: so a word ends after the lower case that follows U, or else after the last character
/// without case in it, or else (the second alternative) with U. A mark may be the character before
/// the word, too; where nothing then makes a word of the rest, it is one by itself.
mod o200k {
    use super::{CASELESS, Classes, LETTER, LOWER, MARK, UPPER};

    const BOTH: u8 = CASELESS | MARK;

    /// The end of the word at `at`, whose first character has this class and length.
    pub(super) fn word(text: Classes<'_>, at: usize, class: u8, length: usize) -> Option<usize> {
        if class & LETTER != 0 {
            return after(text, at);
        }
        if text.is_newline(at) {
            return None;
        }
        match after(text, at + length) {
            // The second alternative would come after the first without the mark in front.
            Some(end) if class != MARK || is_first(text, at + length, end) => Some(end),
            _ => (class == MARK).then(|| at + length),
        }
    }

    /// Whether it is the first alternative that ends there: its last character is in W.
    fn is_first(text: Classes<'_>, from: usize, end: usize) -> bool {
        let (mut at, mut last) = (from, 0);
        while at < end {
            let (class, length) = text.look(at);
            (at, last) = (at + length, class);
        }
        last & (LOWER | BOTH) != 0
    }

    /// The end of a word that begins at `at`, without a character in front.
    fn after(text: Classes<'_>, at: usize) -> Option<usize> {
        let (mut end, mut last_both) = (at, None);
        let class = loop {
            let (class, length) = text.look(end);
            if class & (UPPER | BOTH) == 0 {
                break class;
            }
            end += length;
            if class != UPPER {
                last_both = Some(end);
            }
        };
        if class == LOWER {
            return Some(text.end_of(end, LOWER | BOTH));
        }
        last_both.or_else(|| (end > at).then_some(end))
    }
}

/// The end of at most `more` further digits.
fn end_of_digits(text: Classes<'_>, mut at: usize, more: usize) -> usize {
    for _ in 0..more {
        match text.look(at) {
            (NUMBER, length) => at += length,
            _ => break,
        }
    }
    at
}

/// The end of the line ends that belong to the signs before them, and of slashes.
fn end_of_lines(text: Classes<'_>, mut at: usize, slashes: bool) -> usize {
    while text.is_newline(at) || slashes && text.bytes.get(at) == Some(&b'/') {
        at += 1;
    }
    at
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+` where white space begins at `at`, and `\s+$` before it for `tail`.
/// The first character ends at `after`.
fn end_of_lines_or_space(text: Classes<'_>, at: usize, after: usize, tail: bool) -> usize {
    let end = text.end_of(after, SPACE);
    if tail && end == text.bytes.len() {
        return end;
    }
    match text.bytes[at..end].iter().rposition(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(last) => at + last + 1,
        None => without_last(text, at, after, end),
    }
}

/// `\s+(?!\S)|\s+` where white space begins at `at`; its first character ends at `after`.
fn end_of_space(text: Classes<'_>, at: usize, after: usize) -> usize {
    without_last(text, at, after, text.end_of(after, SPACE))
}

/// All white space at the end of the text, else all but the last character of several.
fn without_last(text: Classes<'_>, at: usize, after: usize, end: usize) -> usize {
    if end == text.bytes.len() || end == after {
        return end;
    }
    let is_start = |byte: &u8| byte & 0xC0 != 0x80;
    at + text.bytes[at..end].iter().rposition(is_start).unwrap_or(0)
}

/// The length of a contraction at `at`, or 0. Where case does not matter, Unicode's folding makes an
/// s of the long ſ too.
fn contraction(bytes: &[u8], at: usize, any_case: bool) -> usize {
    let rest = &bytes[at..];
    if rest.first() != Some(&b'\'') {
        return 0;
    }
    let fold = |byte: u8| if any_case { byte.to_ascii_lowercase() } else { byte };
    let (first, second) = (rest.get(1).copied().map(fold), rest.get(2).copied().map(fold));
    match (first, second) {
        (Some(b's' | b't' | b'm' | b'd'), _) => 2,
        (Some(b'r' | b'v'), Some(b'e')) | (Some(b'l'), Some(b'l')) => 3,
        (Some(0xC5), _) if any_case && rest.get(2) == Some(&0xBF) => 3,
        _ => 0,
    }
}

/// The pieces of `text` by GPT-2's pattern as byte ranges, in order and without gaps.
///
/// ```
/// use twelvefold::corpus::tokenizer::split::pieces;
/// let text = "I don't  know.";
/// let found: Vec<&str> = pieces(text).map(|range| &text[range]).collect();
/// assert_eq!(found, ["I", " don", "'t", " ", " know", "."]);
/// ```
pub fn pieces(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    pieces_of::<Gpt2>(text)
}

/// [`pieces`] by another pattern.
///
/// ```
/// use twelvefold::corpus::tokenizer::split::{Pattern, pieces_by};
/// let text = "I'M 12345\n";
/// let found: Vec<&str> = pieces_by(Pattern::Cl100k, text).map(|range| &text[range]).collect();
/// assert_eq!(found, ["I", "'M", " ", "123", "45", "\n"]);
/// ```
pub fn pieces_by(
    pattern: Pattern,
    text: &str,
) -> Box<dyn Iterator<Item = std::ops::Range<usize>> + '_> {
    match pattern {
        Pattern::Gpt2 => Box::new(pieces_of::<Gpt2>(text)),
        Pattern::Cl100k => Box::new(pieces_of::<Modern<3, true>>(text)),
        Pattern::Llama3 => Box::new(pieces_of::<Modern<3, false>>(text)),
        Pattern::Qwen2 => Box::new(pieces_of::<Modern<1, false>>(text)),
        Pattern::O200k => Box::new(pieces_of::<O200k>(text)),
    }
}

fn pieces_of<C: Cut>(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let (text, mut ends, mut next, mut at) = (Classes::new(text), Ends::default(), 0, 0);
    std::iter::from_fn(move || {
        if next == ends.len {
            if at == text.bytes.len() {
                return None;
            }
            ends.find::<C>(text, at);
            next = 0;
        }
        let start = at;
        at = ends.list[next] as usize;
        next += 1;
        Some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::runs;
    use crate::corpus::tests::{Rng, nasty_text};
    use unicode_general_category::get_general_category;

    fn split(text: &str) -> Vec<&str> {
        pieces(text).map(|range| &text[range]).collect()
    }

    /// The pattern tried alternative by alternative on a slice of characters, as it is written.
    fn oracle(text: &str) -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        let (mut out, mut rest) = (Vec::new(), &chars[..]);
        while !rest.is_empty() {
            let n = oracle_piece(rest);
            out.push(rest[..n].iter().collect());
            rest = &rest[n..];
        }
        out
    }

    fn oracle_piece(rest: &[char]) -> usize {
        for suffix in ["s", "t", "re", "ve", "m", "ll", "d"] {
            let contraction: Vec<char> = format!("'{suffix}").chars().collect();
            if rest.starts_with(&contraction) {
                return contraction.len();
            }
        }
        let abbreviation = |c: &char| get_general_category(*c).abbreviation();
        let letter = |c: &char| abbreviation(c).starts_with('L');
        let number = |c: &char| abbreviation(c).starts_with('N');
        let space = |c: &char| c.is_whitespace();
        let other = |c: &char| !space(c) && !letter(c) && !number(c);
        let classes: [&dyn Fn(&char) -> bool; 3] = [&letter, &number, &other];
        for class in classes {
            let skip = usize::from(rest[0] == ' ');
            let n = rest[skip..].iter().take_while(|c| class(c)).count();
            if n > 0 {
                return skip + n;
            }
        }
        // `\s+(?!\S)`: the longest stretch that is not followed by a character that is no space.
        let spaces = rest.iter().take_while(|c| space(c)).count();
        let unfollowed = (1..=spaces).rev().find(|&n| rest.get(n).is_none_or(space));
        unfollowed.unwrap_or(spaces)
    }

    #[test]
    fn the_pieces_are_those_of_the_pattern() {
        let mut rng = Rng(21);
        for round in 0..3000 {
            let text = nasty_text(&mut rng, 60 + round % 7 * 60);
            assert_eq!(split(&text), oracle(&text), "{text:?}");
        }
    }

    /// Sixty-four bytes at a time, with what the patterns look at: contractions whole and in part, one
    /// space and several, at every place of a window.
    #[test]
    fn ascii_pieces_are_those_of_the_pattern() {
        let (mut rng, signs) = (Rng(22), b"  \n\t'''sdtmlrvezZ10!.");
        for round in 0..6000 {
            let letters = 1 + round % 12;
            let mut sign = |_| match rng.below(letters) {
                0 => char::from(signs[rng.below(signs.len())]),
                _ => 'x',
            };
            let text: String = (0..300).map(&mut sign).collect();
            assert_eq!(split(&text), oracle(&text), "{text:?}");
        }
    }

    #[test]
    fn known_texts_split_as_gpt2_does() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("Hello world", &["Hello", " world"]),
            ("  two", &[" ", " two"]),
            ("a\n\nb", &["a", "\n", "\n", "b"]),
            ("a \r\n b", &["a", " \r\n", " b"]),
            ("end  ", &["end", "  "]),
            (" \t ", &[" \t "]),
            ("we'll 'sit' it'S", &["we", "'ll", " '", "sit", "'", " it", "'", "S"]),
            ("x²3½ 4", &["x", "²3½", " 4"]),
            ("e\u{301}a", &["e", "\u{301}", "a"]),
            ("中文。日本", &["中文", "。", "日本"]),
            ("a\u{3000}b", &["a", "\u{3000}", "b"]),
            ("a \u{3000} b", &["a", " \u{3000}", " b"]),
            ("<|endoftext|>", &["<|", "endoftext", "|>"]),
        ];
        for (text, expected) in table {
            assert_eq!(split(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_piece_ends_at_every_boundary_of_a_run() {
        let mut rng = Rng(4);
        for _ in 0..500 {
            let text = nasty_text(&mut rng, 200);
            let ends: Vec<usize> = pieces(&text).map(|range| range.end).collect();
            for at in (0..text.len()).filter(|&at| runs::is_boundary(text.as_bytes(), at)) {
                assert!(ends.contains(&at), "{text:?} at {at}");
                let apart = [split(&text[..at]), split(&text[at..])].concat();
                assert_eq!(apart, split(&text), "{text:?} at {at}");
            }
        }
    }
}
