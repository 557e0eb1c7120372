//! Cuts text into pieces by GPT-2's pattern:
//!
//! ```text
//! '(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! `\s` is Unicode's `White_Space`, L and N its general categories. The alternatives are tried in
//! this order, and every character belongs to a piece. `\s+(?!\S)` leaves the last whitespace
//! character before a word to what follows, which takes it along if it is a space.

use unicode_general_category::{GeneralCategory, get_general_category};

use crate::corpus::runs::is_ascii_space;

/// What the pattern tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

/// The class of each ASCII byte.
const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b' ' | b'\t'..=b'\r' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

fn class_of(c: char) -> Class {
    use GeneralCategory as G;
    if c.is_whitespace() {
        return Class::Space;
    }
    match get_general_category(c) {
        G::UppercaseLetter
        | G::LowercaseLetter
        | G::TitlecaseLetter
        | G::ModifierLetter
        | G::OtherLetter => Class::Letter,
        G::DecimalNumber | G::LetterNumber | G::OtherNumber => Class::Number,
        _ => Class::Other,
    }
}

/// The class and length in bytes of the character at `at`, if there is one.
fn look(text: &str, at: usize) -> Option<(Class, usize)> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 0x80 {
        return Some((ASCII[usize::from(byte)], 1));
    }
    let c = text[at..].chars().next()?;
    Some((class_of(c), c.len_utf8()))
}

/// The end of the longest stretch of `class` from `at` on.
fn end_of(text: &str, mut at: usize, class: Class) -> usize {
    let bytes = text.as_bytes();
    loop {
        // Most text is ASCII, most pieces are words: this loop is where the time goes.
        while bytes.get(at).is_some_and(|&b| b < 0x80 && ASCII[usize::from(b)] == class) {
            at += 1;
        }
        match bytes.get(at) {
            Some(&byte) if byte >= 0x80 => {}
            _ => return at,
        }
        match look(text, at) {
            Some((found, length)) if found == class => at += length,
            _ => return at,
        }
    }
}

/// The length of a contraction at the start of `bytes`, or 0.
fn contraction(bytes: &[u8]) -> usize {
    match bytes {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => 2,
        [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => 3,
        _ => 0,
    }
}

/// The end of the piece that begins at `at`, which is before the end of `text`.
fn piece_end(text: &str, at: usize) -> usize {
    let contraction = contraction(&text.as_bytes()[at..]);
    if contraction > 0 {
        return at + contraction;
    }
    let Some((class, length)) = look(text, at) else { return at };
    if class != Class::Space {
        return end_of(text, at + length, class);
    }
    if text.as_bytes()[at] == b' '
        && let Some((next, length)) = look(text, at + 1)
        && next != Class::Space
    {
        return end_of(text, at + 1 + length, next);
    }
    let end = end_of(text, at + length, Class::Space);
    if end == text.len() || end == at + length {
        return end;
    }
    let last = if is_ascii_space(text.as_bytes()[end - 1]) {
        1
    } else {
        text[..end].chars().next_back().map_or(0, char::len_utf8)
    };
    end - last
}

/// The pieces of `text` as byte ranges, in order and without gaps.
///
/// ```
/// use twelvefold::corpus::tokenizer::split::pieces;
/// let text = "I don't  know.";
/// let found: Vec<&str> = pieces(text).map(|range| &text[range]).collect();
/// assert_eq!(found, ["I", " don", "'t", " ", " know", "."]);
/// ```
pub fn pieces(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == text.len() {
            return None;
        }
        let start = at;
        at = piece_end(text, at);
        Some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::runs;
    use crate::corpus::tests::{Rng, nasty_text};

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
        for _ in 0..3000 {
            let text = nasty_text(&mut rng, 60);
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
