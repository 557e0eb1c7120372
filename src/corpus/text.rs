//! Judges UTF-8: valid text passes as it is, each maximal bad part becomes one U+FFFD.
//!
//! "Maximal part" is meant as in the Unicode standard, section 3.9, "U+FFFD Substitution of Maximal
//! Subparts", which is what [`str::from_utf8`] and its kin do.

/// `bytes` as text. Bad parts are replaced in `scratch`, and `bad` is told each one's place.
///
/// ```
/// use twelvefold::corpus::text::decode;
/// let (mut scratch, mut places) = (String::new(), Vec::new());
/// let text = decode(b"a\xE2\x82b\xFF", &mut scratch, |at| places.push(at));
/// assert_eq!((text, places), ("a\u{FFFD}b\u{FFFD}", vec![1, 4]));
/// ```
pub fn decode<'a>(bytes: &'a [u8], scratch: &'a mut String, mut bad: impl FnMut(usize)) -> &'a str {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text;
    }
    scratch.clear();
    let mut at = 0;
    for part in bytes.utf8_chunks() {
        scratch.push_str(part.valid());
        at += part.valid().len();
        if !part.invalid().is_empty() {
            bad(at);
            scratch.push(char::REPLACEMENT_CHARACTER);
            at += part.invalid().len();
        }
    }
    scratch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replacement_agrees_with_the_standard_library() {
        let nasty: &[&[u8]] = &[
            b"",
            b"plain",
            b"\xF0\x9F\x98",
            b"\xF0\x9F\x98\x80\x80",
            b"\xC0\xAF\xE0\x80\xBF",
            b"\xED\xA0\x80x",
            b"\xF8\x88\x80\x80\x80",
        ];
        for bytes in nasty {
            let (mut scratch, mut count) = (String::new(), 0);
            let text = decode(bytes, &mut scratch, |_| count += 1).to_owned();
            assert_eq!(text, String::from_utf8_lossy(bytes));
            assert_eq!(text.matches('\u{FFFD}').count(), count);
        }
    }
}
