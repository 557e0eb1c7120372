//! Merges the bytes of one piece: the pair of neighbours of lowest rank first, the leftmost of
//! equals first, until no pair has a rank.
//!
//! Short pieces look for the lowest pair over and over among at most [`SHORT`] places; long ones take
//! a queue with a bucket for each rank, so that a piece of n bytes takes n log n steps at worst, and
//! about n where the pairs of a rank come in order of their places.

use super::known::Likely;
use crate::corpus::Token;

/// No merge.
pub(super) const NONE: u32 = u32::MAX;

/// The longest piece, in bytes, that is merged in place: a bit in a word for each.
pub(super) const SHORT: usize = 64;

/// How many bytes of a longer piece are merged at a time: what that needs stays in a near cache.
const WINDOW: usize = 4096;

/// Tokens are below this: a pair of them and a rank fill a word.
pub(super) const MAX_TOKENS: usize = 1 << TOKEN_BITS;
/// Ranks are below this.
pub(super) const MAX_RANKS: usize = (1 << RANK_BITS) - 1;

const TOKEN_BITS: u32 = 20;
const RANK_BITS: u32 = 24;
const EMPTY: u64 = u64::MAX;

/// Which pairs are merged, in what order, and into what.
#[derive(Debug, Clone)]
pub(super) struct Pairs {
    /// The token of each byte.
    bytes: [Token; 256],
    /// The rank of each pair of bytes, the first byte's first; or [`NONE`].
    byte_pairs: Vec<u32>,
    /// (left, right, rank) in one word, with open addressing; a power of two of them.
    slots: Vec<u64>,
    len: usize,
    /// Of the pairs: most that are asked for have no rank. Not there before [`Self::finish`].
    likely: Option<Likely>,
    /// What the pair of each rank becomes.
    merged: Vec<Token>,
}

impl Pairs {
    /// No pairs yet.
    pub(super) fn new(bytes: [Token; 256]) -> Self {
        let (byte_pairs, slots) = (vec![NONE; 1 << 16], vec![EMPTY; 1 << 10]);
        Pairs { bytes, byte_pairs, slots, len: 0, likely: None, merged: Vec::new() }
    }

    /// Merges of `rank` give `token`. Ranks without a token may be left out.
    ///
    /// # Panics
    /// The rank is not below [`MAX_RANKS`].
    pub(super) fn rank(&mut self, rank: u32, token: Token) {
        assert!((rank as usize) < MAX_RANKS, "rank {rank}");
        if self.merged.len() <= rank as usize {
            self.merged.resize(rank as usize + 1, 0);
        }
        self.merged[rank as usize] = token;
    }

    /// The pair is merged at `rank`, which [`Self::rank`] was told. A pair that has one keeps it.
    ///
    /// # Panics
    /// A token is not below [`MAX_TOKENS`].
    pub(super) fn insert(&mut self, left: Token, right: Token, rank: u32) {
        assert!((left.max(right) as usize) < MAX_TOKENS, "tokens {left} and {right}");
        if self.len * 2 >= self.slots.len() {
            let larger = vec![EMPTY; self.slots.len() * 2];
            let old = std::mem::replace(&mut self.slots, larger);
            for slot in old.into_iter().filter(|&slot| slot != EMPTY) {
                let at = self.find(slot >> RANK_BITS);
                self.slots[at] = slot;
            }
        }
        let key = key(left, right);
        let at = self.find(key);
        if self.slots[at] == EMPTY {
            self.slots[at] = key << RANK_BITS | u64::from(rank);
            self.len += 1;
        }
    }

    /// To be called when all pairs are in.
    pub(super) fn finish(mut self) -> Self {
        let pairs = self.slots.iter().filter(|&&slot| slot != EMPTY);
        self.likely = Some(Likely::new(self.len, pairs.map(|slot| mixed(slot >> RANK_BITS))));
        for first in 0..256 {
            for second in 0..256 {
                let rank = self.get(self.bytes[first], self.bytes[second]);
                self.byte_pairs[first << 8 | second] = rank;
            }
        }
        self
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slot that holds a pair, or the empty one where it would stand.
    #[inline]
    fn find(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (mixed(key) >> 32) as usize & mask;
        while self.slots[at] != EMPTY && self.slots[at] >> RANK_BITS != key {
            at = (at + 1) & mask;
        }
        at
    }

    /// The rank of a pair, or [`NONE`].
    #[inline]
    pub(super) fn get(&self, left: Token, right: Token) -> u32 {
        let key = key(left, right);
        if self.likely.as_ref().is_some_and(|likely| !likely.has(mixed(key))) {
            return NONE;
        }
        match self.slots[self.find(key)] {
            EMPTY => NONE,
            slot => slot as u32 & ((1 << RANK_BITS) - 1),
        }
    }

    /// The token of a byte.
    pub(super) fn byte(&self, byte: u8) -> Token {
        self.bytes[usize::from(byte)]
    }

    /// Adds the tokens of a piece to `out`.
    pub(super) fn merge(&self, piece: &[u8], long: &mut Long, out: &mut Vec<Token>) {
        match piece {
            [] => {}
            [byte] => out.push(self.bytes[usize::from(*byte)]),
            _ if piece.len() > 2 * WINDOW => self.merge_windows(piece, WINDOW, long, out),
            _ if piece.len() > SHORT => self.merge_long(piece, long, out),
            _ => self.merge_below(NONE, piece, out),
        }
    }

    /// The two tokens that the merges of ranks below this one leave of a short piece; none where they
    /// leave another number.
    pub(super) fn halves(&self, rank: u32, piece: &[u8]) -> Option<(Token, Token)> {
        let mut tokens = Vec::with_capacity(SHORT);
        if (2..=SHORT).contains(&piece.len()) {
            self.merge_below(rank, piece, &mut tokens);
        }
        match tokens[..] {
            [left, right] => Some((left, right)),
            _ => None,
        }
    }

    /// Until no pair has a rank below this one. The piece is short, and has two bytes at least.
    fn merge_below(&self, rank: u32, piece: &[u8], out: &mut Vec<Token>) {
        match piece.len() {
            ..=16 => self.merge_short::<16>(rank, piece, out),
            17..=32 => self.merge_short::<32>(rank, piece, out),
            _ => self.merge_short::<SHORT>(rank, piece, out),
        }
    }

    /// `keys[i]` is the rank of the symbol at `i` and the next one that is still there, above `i`
    /// itself; so the least key is the leftmost of the lowest. `N`: the longest piece.
    fn merge_short<const N: usize>(&self, below: u32, piece: &[u8], out: &mut Vec<Token>) {
        const GONE: u32 = u32::MAX;
        let limit = below.saturating_mul(64);
        let (mut tokens, mut keys) = ([0; N], [GONE; N]);
        let at_rank = |rank: u32, at: usize| match rank {
            NONE => GONE,
            rank => rank << 6 | at as u32,
        };
        for (token, &byte) in tokens.iter_mut().zip(piece) {
            *token = self.bytes[usize::from(byte)];
        }
        for (at, pair) in piece.windows(2).enumerate() {
            let rank = self.byte_pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])];
            keys[at] = at_rank(rank, at);
        }
        let mut there = u64::MAX >> (SHORT - piece.len());
        loop {
            let best = least(&keys.as_chunks().0[..piece.len().div_ceil(4)]);
            if best >= limit {
                break;
            }
            let (rank, at) = ((best >> 6) as usize, best as usize & (N - 1));
            let right = (there & (u64::MAX << at << 1)).trailing_zeros() as usize;
            there &= !(1 << right);
            keys[right] = GONE;
            tokens[at] = self.merged[rank];
            let after = there & (u64::MAX << at << 1);
            keys[at] = match after.trailing_zeros() as usize {
                64 => GONE,
                next => at_rank(self.get(tokens[at], tokens[next]), at),
            };
            let before = there & ((1 << at) - 1);
            if before != 0 {
                let left = 63 - before.leading_zeros() as usize;
                keys[left] = at_rank(self.get(tokens[left], tokens[at]), left);
            }
        }
        while there != 0 {
            out.push(tokens[there.trailing_zeros() as usize]);
            there &= there - 1;
        }
    }

    fn merge_long(&self, piece: &[u8], long: &mut Long, out: &mut Vec<Token>) {
        self.settle(piece, &mut long.links, &mut long.queue, &mut long.places);
        out.extend(long.links.iter().map(|link| link.token).filter(|&token| token != NONE));
    }

    /// A piece that is longer than caches are large, a window of so many bytes at a time.
    ///
    /// Tokens side by side are those of a text if any two neighbours are those of their own bytes. For
    /// say that a merge of the text is the first to cross an end of one of them. Until then the bytes
    /// of the two neighbours there were merged as they are by themselves, since the lowest rank and the
    /// leftmost place of all are those of the part, too; so that merge is made there as well, and the
    /// two are not the tokens of their bytes. The neighbours of one window are that by the same
    /// argument; those where two windows meet are looked at. If they are not, the second window is made
    /// anew from the token before; and all of the piece at once if that is so too often.
    fn merge_windows(&self, piece: &[u8], window: usize, long: &mut Long, out: &mut Vec<Token>) {
        let first = out.len();
        let Long { links, queue, places, pair, starts } = long;
        starts.clear();
        let (mut at, mut tries) = (0, 8 + piece.len() / window);
        while at < piece.len() {
            let end = piece.len().min(at + window);
            self.settle(&piece[at..end], links, queue, places);
            if let (Some(&start), Some(&left)) = (starts.last(), out.last()) {
                let start = start as usize;
                let right = links[0];
                self.settle(&piece[start..at + right.next as usize], pair, queue, places);
                let middle = pair[0].next as usize;
                let is_right = pair.get(middle).is_some_and(|found| found.token == right.token);
                if middle != at - start || pair[0].token != left || !is_right {
                    starts.pop();
                    out.pop();
                    (at, tries) = (start, tries.saturating_sub(1));
                    if tries > 0 {
                        continue;
                    }
                }
            }
            // The last ones were merged without what follows.
            let last = if end == piece.len() { links.len() } else { window - window / 8 };
            let is_start = |&kept: &usize| links.get(kept).is_none_or(|link| link.token != NONE);
            let kept = (0..=last).rev().find(is_start).unwrap_or(0);
            if tries == 0 || kept == 0 {
                out.truncate(first);
                return self.merge_long(piece, long, out);
            }
            for (place, link) in links[..kept].iter().enumerate() {
                if link.token != NONE {
                    out.push(link.token);
                    starts.push((at + place) as u32);
                }
            }
            at += kept;
        }
    }

    /// Merges the bytes of a piece of two bytes or more, or of one; what is left stands in `links`.
    fn settle(
        &self,
        piece: &[u8],
        links: &mut Vec<Link>,
        queue: &mut Queue,
        places: &mut Vec<u32>,
    ) {
        links.clear();
        links.extend(piece.iter().enumerate().map(|(i, &byte)| Link {
            token: self.bytes[usize::from(byte)],
            previous: (i as u32).wrapping_sub(1),
            next: i as u32 + 1,
        }));
        queue.prepare(self.merged.len());
        for at in 1..links.len() {
            self.offer(links, queue, at as u32 - 1);
        }
        while let Some(rank) = queue.lowest() {
            queue.take(rank, places);
            for (done, &at) in places.iter().enumerate() {
                // A place is stale if either side was merged since: the pair now has another rank.
                if self.rank_at(links, at) != rank {
                    continue;
                }
                let right = links[at as usize].next;
                let next = links[right as usize].next;
                links[right as usize].token = NONE;
                links[at as usize].token = self.merged[rank as usize];
                links[at as usize].next = next;
                if let Some(next) = links.get_mut(next as usize) {
                    next.previous = at;
                }
                let here = self.offer(links, queue, at);
                let left = self.offer(links, queue, links[at as usize].previous);
                // A pair that goes first has appeared: it does not in a vocabulary that was learned.
                if here.min(left) <= rank {
                    places[done + 1..].iter().for_each(|&at| queue.put(rank, at));
                    break;
                }
            }
        }
    }

    /// The rank of the symbol at `at` and the one after it.
    fn rank_at(&self, links: &[Link], at: u32) -> u32 {
        let Some(left) = links.get(at as usize).filter(|left| left.token != NONE) else {
            return NONE;
        };
        links.get(left.next as usize).map_or(NONE, |right| self.get(left.token, right.token))
    }

    fn offer(&self, links: &[Link], queue: &mut Queue, at: u32) -> u32 {
        let rank = self.rank_at(links, at);
        if rank != NONE {
            queue.put(rank, at);
        }
        rank
    }
}

fn key(left: Token, right: Token) -> u64 {
    u64::from(left) << TOKEN_BITS | u64::from(right)
}

fn mixed(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The least of the keys, in words so wide that they are compared one by one: a load of several would
/// wait for the one that was just written.
#[inline]
fn least(keys: &[[u32; 4]]) -> u32 {
    let mut best = [u64::MAX; 4];
    for four in keys {
        for (best, &key) in best.iter_mut().zip(four) {
            *best = (*best).min(u64::from(key));
        }
    }
    (best[0].min(best[1])).min(best[2].min(best[3])) as u32
}

/// What the merging of long pieces needs; reused.
#[derive(Debug, Default)]
pub(super) struct Long {
    links: Vec<Link>,
    queue: Queue,
    places: Vec<u32>,
    /// Two tokens on trial.
    pair: Vec<Link>,
    /// Where the tokens begin that are done.
    starts: Vec<u32>,
}

/// A symbol of a long piece. One that was merged into its left neighbour has the token `NONE`.
#[derive(Debug, Clone, Copy)]
struct Link {
    token: Token,
    previous: u32,
    next: u32,
}

/// Places by rank. Those of a rank are a list; a tree of bits says which lists are not empty.
#[derive(Debug, Default)]
struct Queue {
    /// The node put last of each rank, or [`NONE`].
    heads: Vec<u32>,
    /// A place, and the node put before it.
    nodes: Vec<(u32, u32)>,
    /// A bit for each rank, then one for each word of those, up to a single word.
    levels: Vec<Vec<u64>>,
}

impl Queue {
    /// Empties the queue, for ranks below `ranks`.
    fn prepare(&mut self, ranks: usize) {
        self.nodes.clear();
        if self.heads.len() == ranks && !self.levels.is_empty() {
            return;
        }
        self.heads = vec![NONE; ranks];
        self.levels.clear();
        let mut size = ranks;
        loop {
            size = size.div_ceil(64).max(1);
            self.levels.push(vec![0; size]);
            if size == 1 {
                break;
            }
        }
    }

    fn put(&mut self, rank: u32, place: u32) {
        let head = &mut self.heads[rank as usize];
        if *head == NONE {
            let mut at = rank as usize;
            for level in &mut self.levels {
                level[at / 64] |= 1 << (at % 64);
                at /= 64;
            }
        }
        self.nodes.push((place, *head));
        *head = self.nodes.len() as u32 - 1;
    }

    /// The lowest rank that has a place.
    fn lowest(&self) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level[at];
            if word == 0 {
                return None;
            }
            at = at * 64 + word.trailing_zeros() as usize;
        }
        Some(at as u32)
    }

    /// Takes all places of a rank, in rising order.
    fn take(&mut self, rank: u32, places: &mut Vec<u32>) {
        let mut node = std::mem::replace(&mut self.heads[rank as usize], NONE);
        let mut at = rank as usize;
        for level in &mut self.levels {
            level[at / 64] &= !(1 << (at % 64));
            if level[at / 64] != 0 {
                break;
            }
            at /= 64;
        }
        places.clear();
        while let Some(&(place, before)) = self.nodes.get(node as usize) {
            places.push(place);
            node = before;
        }
        places.reverse();
        if !places.is_sorted() {
            places.sort_unstable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tests::Rng;

    /// Merges by the definition: the leftmost pair of lowest rank, over and over.
    fn plainly(pairs: &Pairs, piece: &[u8]) -> Vec<Token> {
        let mut tokens: Vec<Token> = piece.iter().map(|&b| pairs.bytes[usize::from(b)]).collect();
        loop {
            let ranks = tokens.windows(2).map(|w| pairs.get(w[0], w[1]));
            let best = ranks.enumerate().min_by_key(|&(_, rank)| rank);
            let Some((at, rank)) = best.filter(|&(_, rank)| rank != NONE) else { return tokens };
            tokens.splice(at..at + 2, [pairs.merged[rank as usize]]);
        }
    }

    /// Pairs at random, whose ranks do not follow the order in which tokens are made: a merge may
    /// bring up a pair that comes before it.
    fn random_pairs(rng: &mut Rng) -> Pairs {
        let mut pairs = Pairs::new(std::array::from_fn(|byte| byte as Token));
        for rank in 0..300 {
            pairs.rank(rank, 256 + rank);
        }
        for _ in 0..400 {
            let mut token = || match rng.below(2) {
                0 => 97 + rng.below(3) as Token,
                _ => 256 + rng.below(300) as Token,
            };
            let (left, right) = (token(), token());
            pairs.insert(left, right, rng.below(300) as u32);
        }
        pairs.finish()
    }

    #[test]
    fn pieces_of_every_length_are_merged_by_rank() {
        let mut rng = Rng(6);
        for _ in 0..40 {
            let (pairs, mut long) = (random_pairs(&mut rng), Long::default());
            for length in (0..140).chain([400]) {
                let piece: Vec<u8> = (0..length).map(|_| b'a' + rng.below(3) as u8).collect();
                let mut tokens = Vec::new();
                pairs.merge(&piece, &mut long, &mut tokens);
                assert_eq!(tokens, plainly(&pairs, &piece), "{length}");
                if length > 1 {
                    let mut again = Vec::new();
                    pairs.merge_long(&piece, &mut long, &mut again);
                    assert_eq!(again, tokens, "{length}");
                    for window in [8, 24, 100] {
                        again.clear();
                        pairs.merge_windows(&piece, window, &mut long, &mut again);
                        assert_eq!(again, tokens, "{length} by {window}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_queue_gives_the_lowest_rank_and_its_places_in_order() {
        let (mut queue, mut places) = (Queue::default(), Vec::new());
        queue.prepare(300_000);
        assert_eq!(queue.lowest(), None);
        for (rank, place) in [(299_999, 1), (70_000, 5), (70_000, 2), (70_000, 9), (64, 3)] {
            queue.put(rank, place);
        }
        for (rank, expected) in [(64, &[3][..]), (70_000, &[2, 5, 9]), (299_999, &[1])] {
            assert_eq!(queue.lowest(), Some(rank));
            queue.take(rank, &mut places);
            assert_eq!(places, expected);
        }
        assert_eq!(queue.lowest(), None);
    }
}
