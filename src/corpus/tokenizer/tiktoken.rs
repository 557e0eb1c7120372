//! Vocabularies in tiktoken's format: a line for each token, its bytes in base64 and its number,
//! which is also its rank.
//!
//! ```text
//! IQ== 0
//! Ig== 1
//! ```
//!
//! A pair of neighbours is merged where its bytes are a token. Special tokens do not stand in such a
//! file; the one that ends a document has the number that tiktoken gives it where the vocabulary is a
//! well-known one, and otherwise the first that is free.

use rustc_hash::FxHashMap;

use super::bpe::{Bpe, Foreign, Spelled};
use super::merge::{MAX_TOKENS, NONE, Pairs};
use super::split::Pattern;
use crate::corpus::Token;

/// The longest token, in bytes: the time to read one grows with the square of it.
const MAX_BYTES: usize = 4096;

/// Patterns with the number of their tokens, the one that ends a document, and of all with the
/// special ones.
const WELL_KNOWN: [(Pattern, usize, Token, usize); 3] = [
    (Pattern::Gpt2, 50_256, 50_256, 50_257),
    (Pattern::Cl100k, 100_256, 100_257, 100_277),
    (Pattern::O200k, 199_998, 199_999, 200_019),
];

/// Reads the text of a file.
///
/// # Errors
/// What is wrong, with the line.
pub(super) fn read(text: &[u8], pattern: Pattern) -> Result<Bpe, String> {
    let mut tokens: Vec<Option<Box<[u8]>>> = Vec::new();
    for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let wrong = |why: &str| Err(format!("line {}: {why}", at + 1));
        let Some((bytes, number)) = parse(line) else {
            return wrong("it is not the base64 of a token, a space and its number");
        };
        if bytes.is_empty() || bytes.len() > MAX_BYTES {
            return wrong(&format!("a token of {} bytes; 1 to {MAX_BYTES} fit", bytes.len()));
        }
        // The last number is for the token that ends a document.
        if number + 1 >= MAX_TOKENS {
            return wrong(&format!("token {number}; the numbers must be below {}", MAX_TOKENS - 1));
        }
        if tokens.len() <= number {
            tokens.resize(number + 1, None);
        }
        if tokens[number].replace(bytes.into()).is_some() {
            return wrong(&format!("token {number} is given twice"));
        }
    }
    from_tokens(&tokens, pattern)
}

fn parse(line: &[u8]) -> Option<(Vec<u8>, usize)> {
    let space = line.iter().position(|&byte| byte == b' ')?;
    let number = std::str::from_utf8(&line[space + 1..]).ok()?;
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    let number = number.parse().ok().filter(|_| is_number)?;
    Some((base64(&line[..space])?, number))
}

/// Base64 with padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut groups = text.chunks_exact(4).peekable();
    while let Some(group) = groups.next() {
        let is_last = groups.peek().is_none();
        let padding = group.iter().rev().take_while(|&&byte| byte == b'=').count();
        if padding > if is_last { 2 } else { 0 } {
            return None;
        }
        let mut word = 0;
        for &byte in &group[..4 - padding] {
            word = word << 6 | u32::from(value(byte)?);
        }
        let bytes = (word << (6 * padding)).to_be_bytes();
        out.extend_from_slice(&bytes[1..4 - padding]);
    }
    text.chunks_exact(4).remainder().is_empty().then_some(out)
}

/// The tokenizer with these tokens, each at its number.
///
/// # Errors
/// Two tokens are the same, or a byte has none.
pub(super) fn from_tokens(tokens: &[Option<Box<[u8]>>], pattern: Pattern) -> Result<Bpe, String> {
    let (mut spelled, mut whole) = (Spelled::default(), FxHashMap::default());
    for (number, bytes) in tokens.iter().enumerate() {
        spelled.push(bytes.as_deref().unwrap_or_default());
        if let Some(bytes) = bytes
            && let Some(first) = whole.insert(bytes.clone(), number as Token)
        {
            return Err(format!("tokens {first} and {number} are the same"));
        }
    }
    let mut bytes = [NONE; 256];
    for (byte, token) in (0..=255_u8).zip(&mut bytes) {
        let found = whole.get(&[byte][..]);
        *token = *found.ok_or_else(|| format!("the byte {byte:#04x} has no token"))?;
    }
    let pairs = pairs_of(tokens, &whole, bytes);
    let known = WELL_KNOWN.iter().find(|known| (known.0, known.1) == (pattern, tokens.len()));
    let (end, vocab) = match known {
        Some(&(_, _, end, vocab)) => (end, vocab),
        None => (tokens.len() as Token, tokens.len() + 1),
    };
    let (merges, file) = (Vec::new(), None);
    Ok(Bpe::foreign(Foreign { pattern, spelled, pairs, merges, whole, vocab, end, file }))
}

/// The pairs that are merged: of each token, any two others that spell it side by side.
///
/// Hardly any of them is ever met. Say that the merges of lower ranks, among all of these pairs, leave
/// of a token's own bytes just two tokens. In a longer piece whose merges have not crossed the ends of
/// these bytes, what was merged within them is the same in the same order, since the lowest rank and
/// the leftmost place of all are those of the part, too. So the part comes to these two tokens before
/// any merge of its rank or a higher one, and then becomes the token: no other pair that spells it is
/// ever there, and only this one is kept.
fn pairs_of(
    tokens: &[Option<Box<[u8]>>],
    whole: &FxHashMap<Box<[u8]>, Token>,
    bytes: [Token; 256],
) -> Pairs {
    let longer = tokens.iter().enumerate().filter_map(|(number, bytes)| {
        Some((number as Token, bytes.as_deref().filter(|bytes| bytes.len() > 1)?))
    });
    let insert_all = |pairs: &mut Pairs, number: Token, bytes: &[u8]| {
        for at in 1..bytes.len() {
            let (left, right) = (whole.get(&bytes[..at]), whole.get(&bytes[at..]));
            if let (Some(&left), Some(&right)) = (left, right) {
                pairs.insert(left, right, number);
            }
        }
    };
    let mut all = Pairs::new(bytes);
    for (number, bytes) in longer.clone() {
        all.rank(number, number);
        insert_all(&mut all, number, bytes);
    }
    let (all, mut pairs) = (all.finish(), Pairs::new(bytes));
    for (number, bytes) in longer {
        pairs.rank(number, number);
        match all.halves(number, bytes) {
            Some((left, right)) => pairs.insert(left, right, number),
            None => insert_all(&mut pairs, number, bytes),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tests::Rng;

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(crate) fn to_base64(bytes: &[u8]) -> String {
        let mut out = String::new();
        for group in bytes.chunks(3) {
            let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
            let word = byte(0) << 16 | byte(1) << 8 | byte(2);
            for i in 0..4 {
                let digit = char::from(DIGITS[(word >> (18 - 6 * i)) as usize & 63]);
                out.push(if i <= group.len() { digit } else { '=' });
            }
        }
        out
    }

    fn file(more: &[&[u8]]) -> String {
        let bytes = (0..=255_u8).map(|byte| vec![byte]);
        let all = bytes.chain(more.iter().map(|token| token.to_vec()));
        all.enumerate().map(|(i, token)| format!("{} {i}\n", to_base64(&token))).collect()
    }

    #[test]
    fn base64_comes_back() {
        for length in 0..20_u8 {
            let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(97) ^ 0xA5).collect();
            assert_eq!(base64(to_base64(&bytes).as_bytes()), Some(bytes));
        }
        for bad in ["A", "AB", "ABC", "A===", "====", "AB=C", "AB==ABCD", "A*CD"] {
            assert_eq!(base64(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_lowest_number_is_merged_first_and_a_whole_piece_is_a_token() {
        let text = file(&[b"bc", b"ab", b"abcd"]);
        let bpe = read(text.as_bytes(), Pattern::Gpt2).unwrap();
        let encode = |text: &str| {
            let mut out = Vec::new();
            bpe.encode(text, &mut Default::default(), &mut out);
            out
        };
        assert_eq!(encode("abc"), [97, 256]);
        assert_eq!(encode("abd"), [257, 100]);
        assert_eq!(encode("abcd"), [258], "no pair of tokens makes it");
        assert_eq!((bpe.end_of_document(), bpe.vocab()), (259, 260));
    }

    /// Merges by the definition: of all neighbours that spell a token, those of the lowest number.
    fn plainly(tokens: &[Box<[u8]>], piece: &[u8]) -> Vec<Token> {
        let number = |bytes: &[u8]| tokens.iter().position(|token| **token == *bytes);
        if let Some(whole) = number(piece) {
            return vec![whole as Token];
        }
        let mut parts: Vec<Vec<u8>> = piece.iter().map(|&byte| vec![byte]).collect();
        loop {
            let pairs = parts.windows(2).map(|pair| number(&pair.concat()));
            let found = pairs.enumerate().filter_map(|(at, number)| Some((number?, at)));
            let Some((_, at)) = found.min() else { break };
            let after = parts.remove(at + 1);
            parts[at].extend(after);
        }
        parts.iter().filter_map(|part| Some(number(part)? as Token)).collect()
    }

    /// Nobody learned these vocabularies: tokens come before their parts, or from parts that are none.
    #[test]
    fn pairs_that_are_left_out_are_never_met() {
        let (mut rng, mut left_out) = (Rng(9), 0);
        for round in 0..300 {
            let mut tokens: Vec<Box<[u8]>> = (0..=255_u8).map(|byte| [byte].into()).collect();
            for _ in 0..20 + round % 60 {
                let part = |rng: &mut Rng| match rng.below(tokens.len() - 253) {
                    letter @ 0..3 => tokens[usize::from(b'a') + letter].clone(),
                    longer => tokens[253 + longer].clone(),
                };
                let token: Box<[u8]> = [part(&mut rng), part(&mut rng)].concat().into();
                if token.len() < 9 && !tokens.contains(&token) {
                    tokens.insert(256 + rng.below(tokens.len() - 255), token);
                }
            }
            let given: Vec<Option<Box<[u8]>>> = tokens.iter().cloned().map(Some).collect();
            let bpe = from_tokens(&given, Pattern::Gpt2).unwrap();
            let is_token = |part: &[u8]| tokens.iter().any(|token| **token == *part);
            for token in &tokens {
                let splits = (1..token.len()).map(|at| token.split_at(at));
                left_out += splits.filter(|(a, b)| is_token(a) && is_token(b)).count();
            }
            left_out -= bpe.pairs().len();
            for length in 1..60 {
                let piece: Vec<u8> = (0..length).map(|_| b'a' + rng.below(3) as u8).collect();
                let (mut out, mut long) = (Vec::new(), Default::default());
                bpe.encode_piece(&piece, &mut long, &mut out);
                assert_eq!(out, plainly(&tokens, &piece), "{round}");
            }
        }
        assert!(left_out > 500, "{left_out}");
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        let good = file(&[]);
        let refused = |text: &str| read(text.as_bytes(), Pattern::Gpt2).unwrap_err();
        let line = |more: &str| refused(&format!("{good}{more}\n"));
        let what = "line 257: it is not the base64 of a token, a space and its number";
        for bad in ["AAA= x", "AAA=", "AAA 256", "AAA= -1", "AAA= 99999999999999999999"] {
            assert_eq!(line(bad), what, "{bad}");
        }
        assert!(line("AAA= 4000000000").starts_with("line 257: token 4000000000; the numbers"));
        assert_eq!(line("YWI= 7"), "line 257: token 7 is given twice");
        assert_eq!(line("YQ== 256"), "tokens 97 and 256 are the same");
        assert_eq!(refused("YQ== 0"), "the byte 0x00 has no token");
        assert_eq!(refused(""), "the byte 0x00 has no token");
    }
}
