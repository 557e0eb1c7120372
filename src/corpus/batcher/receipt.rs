//! A receipt of the data that was served: one hash for all micro-batches up to now.
//!
//! The receipt after micro-batch n is SHA-256 of the receipt before it, its inputs and its targets
//! (each token as four bytes, little-endian). So it depends on every token that was served and on the
//! order, and 32 bytes say where a run stands: who serves the same micro-batches again comes to the
//! same receipt, and whoever leaves one out, doubles one or changes a token does not.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::corpus::Token;

/// See the [module](self).
///
/// ```
/// use twelvefold::corpus::batcher::Receipt;
///
/// let mut one = Receipt::default();
/// one.add(&[1, 2], &[2, 3]);
/// let mut two = Receipt::default();
/// two.add(&[1, 2], &[2, 4]);
/// assert_ne!(one, two);
/// assert_eq!(Receipt::parse(&one.to_string()), Some(one));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt([u8; 32]);

/// Tokens that are turned into bytes together.
const BLOCK: usize = 1024;

impl Receipt {
    /// Adds a micro-batch.
    pub fn add(&mut self, inputs: &[Token], targets: &[Token]) {
        let mut hash = Sha256::new();
        hash.update(self.0);
        let mut bytes = [0; 4 * BLOCK];
        for tokens in [inputs, targets] {
            for block in tokens.chunks(BLOCK) {
                for (place, token) in bytes.chunks_exact_mut(4).zip(block) {
                    place.copy_from_slice(&token.to_le_bytes());
                }
                hash.update(&bytes[..4 * block.len()]);
            }
        }
        self.0 = hash.finalize().into();
    }

    /// Reads what its `Display` writes: 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut receipt = Receipt::default();
        for (byte, at) in receipt.0.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(receipt)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Receipt;

    fn receipt(micro_batches: &[(&[u32], &[u32])]) -> Receipt {
        let mut receipt = Receipt::default();
        micro_batches.iter().for_each(|(inputs, targets)| receipt.add(inputs, targets));
        receipt
    }

    #[test]
    fn a_micro_batch_left_out_doubled_swapped_or_changed_gives_another_receipt() {
        let [a, b]: [(&[u32], &[u32]); 2] = [(&[1, 2], &[2, 3]), (&[4, 5], &[5, 6])];
        let whole = receipt(&[a, b]);
        assert_eq!(whole, receipt(&[a, b]));
        let others = [receipt(&[a]), receipt(&[b]), receipt(&[b, a]), receipt(&[a, b, b])];
        for other in others.into_iter().chain([receipt(&[a, (b.0, &[5, 7])]), Receipt::default()]) {
            assert_ne!(other, whole);
        }
    }

    #[test]
    fn every_token_counts_beyond_a_block() {
        let tokens: Vec<u32> = (0..5000).collect();
        let whole = receipt(&[(&tokens, &tokens)]);
        for at in [0, 1023, 1024, 4999] {
            let mut changed = tokens.clone();
            changed[at] ^= 1 << 24;
            assert_ne!(receipt(&[(&changed, &tokens)]), whole);
            assert_ne!(receipt(&[(&tokens, &changed)]), whole);
        }
    }

    #[test]
    fn what_is_no_receipt_is_not_taken_for_one() {
        let text = receipt(&[(&[1], &[2])]).to_string();
        assert!(Receipt::parse(&text).is_some());
        for bad in ["", &text[1..], &text.replace(&text[..1], "g"), &format!("+{}", &text[1..])] {
            assert!(Receipt::parse(bad).is_none(), "{bad}");
        }
        assert!(Receipt::parse(&"é".repeat(32)).is_none());
    }
}
