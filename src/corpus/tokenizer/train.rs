//! Learns the merges of a byte-level BPE from counted pieces.
//!
//! The pair of neighbours that is seen most often is merged first; of equals, the pair of smaller
//! tokens. The result is a function of the counts alone, not of the order of the pieces, and is what
//! Hugging Face's trainer gives for the same pieces. Counts are kept up to date merge by merge, and a
//! heap says which pair is next.

use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::bpe::{BYTE_ORDER, BYTE_TOKEN};
use crate::corpus::Token;

/// Of a longer piece only this many first bytes are learned from, so that a line without a space
/// costs no more than its neighbours. It is encoded as a whole.
pub(super) const LEARNED_BYTES: usize = 256;

/// A pair that is seen only once is not worth a token.
const MIN_COUNT: i64 = 2;

type Pair = (Token, Token);

/// A piece, as it stands after the merges so far.
struct Word {
    symbols: Vec<Token>,
    count: i64,
}

/// A pair with the count that it had when it was put on the heap: highest count first, then the
/// smallest pair.
#[derive(PartialEq, Eq)]
struct Candidate {
    count: i64,
    pair: Pair,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.count.cmp(&other.count).then_with(|| other.pair.cmp(&self.pair))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Trainer {
    words: Vec<Word>,
    counts: FxHashMap<Pair, i64>,
    /// The words in which a pair stands, or stood; a word may come twice.
    places: FxHashMap<Pair, Vec<u32>>,
    heap: BinaryHeap<Candidate>,
}

/// The merges that give a vocabulary of `vocab` tokens, the end of a document included; fewer where
/// the pieces do not give that many.
pub(super) fn learn_merges<'a>(
    pieces: impl Iterator<Item = (&'a [u8], u64)>,
    vocab: usize,
) -> Vec<Pair> {
    let mut trainer = Trainer::new(pieces);
    let (mut merges, mut spelled) = (Vec::new(), Spelled::new());
    while spelled.tokens.len() + 1 < vocab
        && let Some(pair) = trainer.next_pair()
    {
        let token = spelled.merge(pair);
        merges.push(pair);
        trainer.merge(pair, token);
    }
    merges
}

/// The spelling of each token: two merges that spell the same give the same token.
struct Spelled {
    tokens: Vec<Box<[u8]>>,
    known: FxHashMap<Box<[u8]>, Token>,
}

impl Spelled {
    fn new() -> Self {
        let tokens = BYTE_ORDER.iter().map(|&b| Box::from([b])).collect();
        Spelled { tokens, known: FxHashMap::default() }
    }

    fn merge(&mut self, (left, right): Pair) -> Token {
        let bytes = [&*self.tokens[left as usize], &*self.tokens[right as usize]].concat();
        let next = self.tokens.len() as Token;
        let token = *self.known.entry(bytes.clone().into()).or_insert(next);
        if token == next {
            self.tokens.push(bytes.into());
        }
        token
    }
}

impl Trainer {
    fn new<'a>(pieces: impl Iterator<Item = (&'a [u8], u64)>) -> Self {
        let mut trainer = Trainer {
            words: Vec::new(),
            counts: FxHashMap::default(),
            places: FxHashMap::default(),
            heap: BinaryHeap::new(),
        };
        for (piece, count) in pieces.filter(|(piece, _)| piece.len() > 1) {
            let piece = &piece[..piece.len().min(LEARNED_BYTES)];
            let symbols = piece.iter().map(|&b| Token::from(BYTE_TOKEN[usize::from(b)])).collect();
            let word = Word { symbols, count: count.cast_signed() };
            let index = trainer.words.len() as u32;
            for pair in word.symbols.windows(2).map(|w| (w[0], w[1])) {
                *trainer.counts.entry(pair).or_insert(0) += word.count;
                note(&mut trainer.places, pair, index);
            }
            trainer.words.push(word);
        }
        let all = trainer.counts.iter().map(|(&pair, &count)| Candidate { count, pair });
        trainer.heap = all.collect();
        trainer
    }

    /// The next pair to merge. A candidate whose count has changed goes back with its new one.
    fn next_pair(&mut self) -> Option<Pair> {
        while let Some(Candidate { count, pair }) = self.heap.pop() {
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now < MIN_COUNT {
                continue;
            }
            if now == count {
                return Some(pair);
            }
            self.heap.push(Candidate { count: now, pair });
        }
        None
    }

    /// Makes one token of a pair, wherever it stands.
    fn merge(&mut self, pair: Pair, token: Token) {
        let mut changes: FxHashMap<Pair, i64> = FxHashMap::default();
        let places = self.places.remove(&pair).unwrap_or_default();
        for index in places {
            let word = &mut self.words[index as usize];
            let count = word.count;
            word.merge(pair, token, |changed, by| {
                *changes.entry(changed).or_insert(0) += by * count;
                if by > 0 {
                    note(&mut self.places, changed, index);
                }
            });
        }
        for (changed, by) in changes {
            let count = self.counts.entry(changed).or_insert(0);
            *count += by;
            if by > 0 {
                self.heap.push(Candidate { count: *count, pair: changed });
            }
        }
        self.counts.remove(&pair);
    }
}

fn note(places: &mut FxHashMap<Pair, Vec<u32>>, pair: Pair, word: u32) {
    let words = places.entry(pair).or_default();
    if words.last() != Some(&word) {
        words.push(word);
    }
}

impl Word {
    /// Makes one token of a pair, from the left on, and tells which pairs came and went.
    fn merge(&mut self, pair: Pair, token: Token, mut change: impl FnMut(Pair, i64)) {
        let symbols = &mut self.symbols;
        let (mut from, mut to) = (0, 0);
        while from < symbols.len() {
            if from + 1 < symbols.len() && (symbols[from], symbols[from + 1]) == pair {
                if to > 0 {
                    change((symbols[to - 1], pair.0), -1);
                    change((symbols[to - 1], token), 1);
                }
                if let Some(&right) = symbols.get(from + 2) {
                    change((pair.1, right), -1);
                    change((token, right), 1);
                }
                symbols[to] = token;
                from += 2;
            } else {
                symbols[to] = symbols[from];
                from += 1;
            }
            to += 1;
        }
        symbols.truncate(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tests::{Rng, nasty_text};
    use crate::corpus::tokenizer::split;
    use std::collections::BTreeMap;

    /// Counts every pair anew for each merge.
    fn plain(words: &BTreeMap<Vec<u8>, u64>, vocab: usize) -> Vec<Pair> {
        let mut words: Vec<Word> = words
            .iter()
            .map(|(piece, &count)| Word {
                symbols: piece.iter().map(|&b| Token::from(BYTE_TOKEN[usize::from(b)])).collect(),
                count: count.cast_signed(),
            })
            .collect();
        let (mut merges, mut spelled) = (Vec::new(), Spelled::new());
        while spelled.tokens.len() + 1 < vocab {
            let mut counts: BTreeMap<Pair, i64> = BTreeMap::new();
            for word in &words {
                for pair in word.symbols.windows(2) {
                    *counts.entry((pair[0], pair[1])).or_default() += word.count;
                }
            }
            let best = counts.iter().rev().max_by_key(|&(_, &count)| count);
            let Some((&pair, _)) = best.filter(|&(_, &count)| count >= MIN_COUNT) else { break };
            let token = spelled.merge(pair);
            merges.push(pair);
            words.iter_mut().for_each(|word| word.merge(pair, token, |_, _| ()));
        }
        merges
    }

    #[test]
    fn the_merges_are_those_of_counting_anew_each_time() {
        let mut rng = Rng(8);
        for round in 0..40 {
            let mut words = BTreeMap::new();
            let text = if round % 2 == 0 {
                nasty_text(&mut rng, 3000)
            } else {
                // Few letters: long repetitions, overlaps such as "aaa", and many ties.
                (0..2000).map(|_| ['a', 'b', ' '][rng.below(3)]).collect()
            };
            for range in split::pieces(&text) {
                *words.entry(text.as_bytes()[range].to_vec()).or_insert(0) += 1;
            }
            let pieces = || words.iter().map(|(piece, &count)| (piece.as_slice(), count));
            let found = learn_merges(pieces(), 600);
            assert_eq!(found, plain(&words, 600), "round {round}");
            let backwards: Vec<_> = pieces().collect();
            assert_eq!(found, learn_merges(backwards.into_iter().rev(), 600));
        }
    }
}
