//! The order in which an edge's tokens are taken.
//!
//! A token carries one batch of items through the whole pipeline. Every edge has a track: cell `p`
//! names the token at position `p`. Who publishes brings the position along (sequenced) or draws the
//! next one (unordered); who takes goes by position. There are never more tokens than cells, so a
//! cell is free again before its next lap: there is always room, and publishing never waits.
//!
//! | cell            | word                      | who moves it                                   |
//! |-----------------|---------------------------|------------------------------------------------|
//! | not yet position p | an earlier lap's, or 0 | the thread that publishes `p`: -> holds        |
//! | holds           | `p + 1` and the token     | stays; `taken` passing `p` is what takes it    |

#![expect(unsafe_code, reason = "a token's number becomes the right to it again")]

use super::batch::Held;
use crate::sync::{AtomicU64, Ordering, ordering_at};
use crossbeam_utils::CachePadded;

const TOKEN_BITS: u32 = 20;
/// More tokens than this do not fit a cell's word.
pub(super) const TOKENS: usize = 1 << TOKEN_BITS;

/// One edge's order; see the module's text.
#[derive(Debug)]
pub(super) struct Track {
    cells: Box<[AtomicU64]>,
    /// The next position to be taken.
    taken: CachePadded<AtomicU64>,
    /// The next position to be drawn.
    drawn: CachePadded<AtomicU64>,
}

impl Track {
    /// A track for at most `tokens` tokens.
    pub(super) fn new(tokens: usize) -> Self {
        assert!(tokens < TOKENS, "a cell's word holds fewer tokens");
        let cells = tokens.max(1).next_power_of_two();
        Track {
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            taken: CachePadded::new(AtomicU64::new(0)),
            drawn: CachePadded::new(AtomicU64::new(0)),
        }
    }

    fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[(position as usize) & (self.cells.len() - 1)]
    }

    /// The word that says "position is here"; positions may wrap in it, long after their cells did.
    fn word(position: u64, token: u32) -> u64 {
        (position + 1) << TOKEN_BITS | u64::from(token)
    }

    fn read(&self, position: u64) -> Option<u32> {
        // Acquire: pairs with the Release in `publish`; who takes the token sees its batch.
        let order = ordering_at("track.take.acquire", Ordering::Acquire);
        let word = self.cell(position).load(order);
        let token = (word & (TOKENS as u64 - 1)) as u32;
        (word == Track::word(position, token)).then_some(token)
    }

    /// Hands `token` on at `position`, which nobody else uses.
    pub(super) fn publish(&self, position: u64, token: Held) {
        // Release: the batch, and what was counted of it, before the cell.
        let order = ordering_at("track.publish.release", Ordering::Release);
        self.cell(position).store(Track::word(position, token.into_id()), order);
    }

    /// Draws the next position, for publishers that bring none.
    pub(super) fn draw(&self) -> u64 {
        // Relaxed: it hands out numbers; the cell carries the data.
        self.drawn.fetch_add(1, Ordering::Relaxed)
    }

    /// The next position to be taken.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        // Relaxed: a hint while the run goes; who concludes something from it holds the claim, or has
        // fenced since.
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether a token can be taken now.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        self.read(self.position()).is_some()
    }

    /// Takes the token at the next position.
    pub(super) fn take(&self) -> Option<(u64, Held)> {
        loop {
            let position = self.position();
            let token = self.read(position)?;
            // Relaxed: one of several takers passes each position; the cell's Acquire brought the data.
            let won = self.taken.compare_exchange(
                position,
                position + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if won.is_ok() {
                // SAFETY: `publish` consumed the token's one `Held`, and this thread alone moved
                // `taken` past its position.
                return Some((position, unsafe { Held::mint(token) }));
            }
        }
    }
}
