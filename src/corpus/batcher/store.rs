//! Tokens kept in memory: two bytes each where the vocabulary allows, otherwise four.

use std::ops::Range;

use crate::corpus::Token;

/// Tokens in a block. Growing by blocks moves nothing and doubles nothing.
pub(super) const BLOCK: usize = 1 << 20;

/// A stream of tokens that grows at its end.
///
/// ```
/// use twelvefold::corpus::batcher::TokenStore;
/// let mut store = TokenStore::new(257);
/// store.extend(&[1, 2, 256]);
/// let mut out = Vec::new();
/// store.extend_into(1..3, &mut out);
/// assert_eq!(out, [2, 256]);
/// ```
#[derive(Debug)]
pub struct TokenStore {
    blocks: Blocks,
    len: u64,
}

#[derive(Debug)]
enum Blocks {
    Narrow(Vec<Vec<u16>>),
    Wide(Vec<Vec<u32>>),
}

impl TokenStore {
    /// Empty, for tokens below `vocab`.
    pub fn new(vocab: usize) -> Self {
        let narrow = vocab <= 1 << 16;
        let blocks = if narrow { Blocks::Narrow(Vec::new()) } else { Blocks::Wide(Vec::new()) };
        TokenStore { blocks, len: 0 }
    }

    /// How many tokens there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds tokens at the end; each must be below the vocabulary's size.
    pub fn extend(&mut self, tokens: &[Token]) {
        match &mut self.blocks {
            Blocks::Narrow(blocks) => append(blocks, tokens, |token| {
                debug_assert!(
                    token <= Token::from(u16::MAX),
                    "token {token} in a small vocabulary"
                );
                token as u16
            }),
            Blocks::Wide(blocks) => append(blocks, tokens, |token| token),
        }
        self.len += tokens.len() as u64;
    }

    /// Bytes of a token in memory.
    pub(super) fn width(&self) -> u64 {
        match self.blocks {
            Blocks::Narrow(_) => 2,
            Blocks::Wide(_) => 4,
        }
    }

    /// Gives back the memory of the whole blocks before `end`; their tokens may no longer be asked for.
    pub(super) fn release(&mut self, end: u64) {
        let gone = (end / BLOCK as u64) as usize;
        match &mut self.blocks {
            Blocks::Narrow(blocks) => blocks.iter_mut().take(gone).for_each(|b| *b = Vec::new()),
            Blocks::Wide(blocks) => blocks.iter_mut().take(gone).for_each(|b| *b = Vec::new()),
        }
    }

    /// How many blocks hold tokens.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        match &self.blocks {
            Blocks::Narrow(blocks) => blocks.iter().filter(|block| !block.is_empty()).count(),
            Blocks::Wide(blocks) => blocks.iter().filter(|block| !block.is_empty()).count(),
        }
    }

    /// Forgets all but the first `len` tokens.
    pub(super) fn truncate(&mut self, len: u64) {
        let full = (len / BLOCK as u64) as usize;
        let rest = (len % BLOCK as u64) as usize;
        match &mut self.blocks {
            Blocks::Narrow(blocks) => cut_off(blocks, full, rest),
            Blocks::Wide(blocks) => cut_off(blocks, full, rest),
        }
        self.len = self.len.min(len);
    }

    /// Copies a part of the stream to the end of `out`.
    ///
    /// # Panics
    /// The range does not lie within the stream, or was released.
    pub fn extend_into(&self, range: Range<u64>, out: &mut Vec<Token>) {
        assert!(range.end <= self.len, "tokens {range:?} of {}", self.len);
        let (mut at, mut left) = (range.start, (range.end - range.start) as usize);
        while left > 0 {
            let (block, start) = ((at / BLOCK as u64) as usize, (at % BLOCK as u64) as usize);
            let n = left.min(BLOCK - start);
            match &self.blocks {
                Blocks::Narrow(blocks) => {
                    out.extend(blocks[block][start..start + n].iter().map(|&t| Token::from(t)));
                }
                Blocks::Wide(blocks) => out.extend_from_slice(&blocks[block][start..start + n]),
            }
            at += n as u64;
            left -= n;
        }
    }

    /// All tokens, in order.
    pub fn iter(&self) -> impl Iterator<Item = Token> + '_ {
        let (narrow, wide): (&[Vec<u16>], &[Vec<u32>]) = match &self.blocks {
            Blocks::Narrow(blocks) => (blocks, &[]),
            Blocks::Wide(blocks) => (&[], blocks),
        };
        let narrow = narrow.iter().flatten().map(|&token| Token::from(token));
        narrow.chain(wide.iter().flatten().copied())
    }
}

fn append<T>(blocks: &mut Vec<Vec<T>>, mut tokens: &[Token], narrow: impl Fn(Token) -> T) {
    while !tokens.is_empty() {
        if blocks.last().is_none_or(|block| block.len() == BLOCK) {
            blocks.push(Vec::new());
        }
        let Some(block) = blocks.last_mut() else { return };
        let (now, later) = tokens.split_at(tokens.len().min(BLOCK - block.len()));
        block.extend(now.iter().map(|&token| narrow(token)));
        tokens = later;
    }
}

fn cut_off<T>(blocks: &mut Vec<Vec<T>>, full: usize, rest: usize) {
    blocks.truncate(full + usize::from(rest > 0));
    if let Some(block) = blocks.get_mut(full) {
        block.truncate(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_from_both_widths_and_across_blocks() {
        for vocab in [65_536, 65_537] {
            let tokens: Vec<Token> = (0..2 * BLOCK as u32 + 5).map(|i| i % vocab as u32).collect();
            let mut store = TokenStore::new(vocab);
            for part in tokens.chunks(300_007) {
                store.extend(part);
            }
            assert!(store.iter().eq(tokens.iter().copied()));
            let mut out = Vec::new();
            store.extend_into(1_000_000..2_097_155, &mut out);
            assert_eq!(out, tokens[1_000_000..2_097_155]);
            for len in [2 * BLOCK, 2 * BLOCK - 1, BLOCK, 3, 0] {
                store.truncate(len as u64);
                assert!(store.iter().eq(tokens[..len].iter().copied()));
                store.extend(&tokens[len..len + 3]);
                assert!(store.iter().eq(tokens[..len + 3].iter().copied()));
                store.truncate(len as u64);
            }
        }
    }
}
