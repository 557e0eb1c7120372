//! What the patterns of the tokenizers tell apart in a character.
//!
//! A class is one bit, so that a set of classes is a mask. White space is Unicode's `White_Space`,
//! the others are general categories.

use std::sync::LazyLock;

use unicode_general_category::{GeneralCategory, get_general_category};

/// Lu and Lt.
pub(super) const UPPER: u8 = 1;
/// Ll.
pub(super) const LOWER: u8 = 2;
/// Lm and Lo: letters that have no case.
pub(super) const CASELESS: u8 = 4;
/// M.
pub(super) const MARK: u8 = 8;
/// N.
pub(super) const NUMBER: u8 = 16;
/// White space.
pub(super) const SPACE: u8 = 32;
/// What is none of these.
pub(super) const OTHER: u8 = 64;
/// L.
pub(super) const LETTER: u8 = UPPER | LOWER | CASELESS;
/// In the table of bytes: the character has more than one.
const WIDE: u8 = 128;

/// The class of each byte that is a character, and [`WIDE`] for all others.
const BYTES: [u8; 256] = {
    let mut table = [WIDE; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => NUMBER,
            b' ' | b'\t'..=b'\r' => SPACE,
            _ => OTHER,
        };
        byte += 1;
    }
    table
};

/// Characters from here on are looked up one by one: they are rare, and hardly any is assigned.
const TABLED: u32 = 0x4_0000;

static WIDES: LazyLock<Box<[u8; TABLED as usize]>> = LazyLock::new(|| {
    let class = |code| char::from_u32(code).map_or(OTHER, class_of);
    let all: Box<[u8]> = (0..TABLED).map(class).collect();
    all.try_into().expect("as many as were asked for")
});

fn class_of(c: char) -> u8 {
    use GeneralCategory as G;
    if c.is_whitespace() {
        return SPACE;
    }
    match get_general_category(c) {
        G::UppercaseLetter | G::TitlecaseLetter => UPPER,
        G::LowercaseLetter => LOWER,
        G::ModifierLetter | G::OtherLetter => CASELESS,
        G::NonspacingMark | G::SpacingMark | G::EnclosingMark => MARK,
        G::DecimalNumber | G::LetterNumber | G::OtherNumber => NUMBER,
        _ => OTHER,
    }
}

/// A valid text whose characters are looked at by class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Classes<'a> {
    pub(super) bytes: &'a [u8],
    wides: &'static [u8; TABLED as usize],
}

impl<'a> Classes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Classes { bytes: text.as_bytes(), wides: &WIDES }
    }

    /// The class and length in bytes of the character at `at`; no class at the end of the text.
    #[inline]
    pub(super) fn look(self, at: usize) -> (u8, usize) {
        let Some(&byte) = self.bytes.get(at) else { return (0, 0) };
        match BYTES[usize::from(byte)] {
            WIDE => self.look_wide(at),
            class => (class, 1),
        }
    }

    /// [`Self::look`] at a character of several bytes.
    #[inline]
    fn look_wide(self, at: usize) -> (u8, usize) {
        match self.bytes[at..] {
            [lead @ ..0xE0, second, ..] => (self.wides[code([lead & 0x1F, second])], 2),
            [lead @ ..0xF0, second, third, ..] => {
                (self.wides[code([lead & 0x0F, second, third])], 3)
            }
            [lead, second, third, fourth, ..] => {
                (class_far(self.wides, code([lead & 0x07, second, third, fourth])), 4)
            }
            // The text is valid: no character is cut off.
            _ => (OTHER, 1),
        }
    }

    /// The end of the longest stretch of characters of `mask` from `at` on.
    #[inline]
    pub(super) fn end_of(self, mut at: usize, mask: u8) -> usize {
        loop {
            // Most text is ASCII, most pieces are short: this loop is where the time goes.
            let class = loop {
                let Some(&byte) = self.bytes.get(at) else { return at };
                let class = BYTES[usize::from(byte)];
                if class & mask == 0 {
                    break class;
                }
                at += 1;
            };
            if class != WIDE {
                return at;
            }
            let (class, length) = self.look_wide(at);
            if class & mask == 0 {
                return at;
            }
            at += length;
        }
    }

    /// [`Self::end_of`] for letters, eight ASCII ones at a time.
    #[inline]
    pub(super) fn end_of_letters(self, mut at: usize) -> usize {
        while let Some(word) = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let letters = ascii_letters(u64::from_le_bytes(*word));
            at += letters;
            if letters < 8 {
                // Where a letter could go on: a wide character.
                return if self.bytes[at] < 0x80 { at } else { self.end_of(at, LETTER) };
            }
        }
        self.end_of(at, LETTER)
    }

    /// Whether the character at `at` is `\r` or `\n`.
    #[inline]
    pub(super) fn is_newline(self, at: usize) -> bool {
        matches!(self.bytes.get(at), Some(b'\r' | b'\n'))
    }
}

/// The number of a character: the bits of its first byte, and six of each other.
#[inline]
fn code<const N: usize>(bytes: [u8; N]) -> usize {
    bytes.iter().fold(0, |code, byte| code << 6 | usize::from(byte & 0x3F))
}

fn class_far(wides: &[u8], code: usize) -> u8 {
    let far = || char::from_u32(code as u32).map_or(OTHER, class_of);
    wides.get(code).copied().unwrap_or_else(far)
}

/// How many of the eight bytes, from the first on, are ASCII letters.
fn ascii_letters(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let small = (word | (0x20 * ONES)) & !HIGH;
    // No byte carries into the next: each sum is below 256.
    let from_a = small + (0x80 - b'a' as u64) * ONES;
    let after_z = small + (0x7F - b'z' as u64) * ONES;
    let others = !(from_a & !after_z & !word) & HIGH;
    others.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_that_of_the_character_whatever_its_length() {
        for code in (0..0x11_0000_u32).filter(|code| code % 7 == 0 || *code < 0x3000) {
            let Some(c) = char::from_u32(code) else { continue };
            let text = format!("x{c}");
            assert_eq!(Classes::new(&text).look(1), (class_of(c), c.len_utf8()), "{c:?}");
        }
        assert_eq!(Classes::new("x").look(1), (0, 0));
    }

    #[test]
    fn letters_end_where_the_first_other_character_stands() {
        for byte in 0..128 {
            for before in 0..20 {
                let mut text = "xY".repeat(10)[..before].to_owned();
                text.push(char::from(byte));
                text.push_str("abcdefghi é");
                let expected = if byte.is_ascii_alphabetic() { before + 10 } else { before };
                assert_eq!(Classes::new(&text).end_of_letters(0), expected, "{text:?}");
            }
        }
        assert_eq!(Classes::new("aé中b\u{301}").end_of_letters(0), "aé中b".len());
        assert_eq!(Classes::new("").end_of_letters(0), 0);
    }
}
