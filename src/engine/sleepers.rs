//! The sleeping places of a pool's workers, and who wakes which of them.
//!
//! A bit per worker says "asleep", in as many 64-bit words as it takes. Whoever publishes work
//! claims sleepers' bits, lowest worker first, and wakes those; the bit's one-to-zero change has
//! exactly one author, so two publishers never spend their wakes on the same worker. No more
//! workers than `limit` are kept awake at once.
//!
//! A worker that withdraws from sleep and finds its bit already claimed has eaten a wake that was
//! meant for work: it passes the wake on.

use super::wait::{Sleeper, census};
use crate::sync::{AtomicU64, AtomicUsize, Ordering, Parker, fence, planted};
use crossbeam_utils::CachePadded;
use std::ops::Range;

const BITS: usize = 64;

/// A set of workers that sleep; see the module's text.
///
/// ```
/// use twelvefold::engine::sleepers::Sleepers;
///
/// let sleepers = Sleepers::new(100, 8);
/// assert_eq!(sleepers.limit(), 8);
/// sleepers.wake(3); // Nobody sleeps here: nothing to do.
/// sleepers.wake_all(); // The same, whatever the limit.
/// ```
#[derive(Debug)]
pub struct Sleepers {
    words: Box<[CachePadded<AtomicU64>]>,
    parkers: Box<[Parker]>,
    /// At least the number of set bits: raised before a bit is set, lowered after it is cleared.
    asleep: CachePadded<AtomicUsize>,
    limit: usize,
}

impl Sleepers {
    /// Places for `workers` workers, of which at most `limit` (at least one) are woken at once.
    pub fn new(workers: usize, limit: usize) -> Self {
        Sleepers {
            words: (0..workers.div_ceil(BITS))
                .map(|_| CachePadded::new(AtomicU64::new(0)))
                .collect(),
            parkers: (0..workers).map(|_| Parker::new()).collect(),
            asleep: CachePadded::new(AtomicUsize::new(0)),
            limit: limit.clamp(1, workers.max(1)),
        }
    }

    /// How many workers may be awake at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Worker `index`'s place in the set.
    pub(super) fn berth(&self, index: usize) -> Berth<'_> {
        Berth { set: self, index }
    }

    /// Wakes up to `wanted` sleepers, as far as the limit allows. Call it after publishing work.
    pub fn wake(&self, wanted: usize) {
        // Orders the publication before the look at `asleep` and the bits; pairs with the fence in
        // `announce`.
        if !planted("sleepers.wake.fence") {
            fence(Ordering::SeqCst);
        }
        self.wake_fenced(wanted, self.limit);
    }

    /// Wakes everyone once, whatever the limit: something ended that all wait for. Who goes to sleep again
    /// meanwhile has seen it.
    pub fn wake_all(&self) {
        if !planted("sleepers.wake_all.fence") {
            fence(Ordering::SeqCst);
        }
        for (w, word) in self.words.iter().enumerate() {
            // Relaxed, as in `claim`. The load spares a cache line that nobody sleeps in.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::Relaxed);
            self.asleep.fetch_sub(bits.count_ones() as usize, Ordering::Relaxed);
            while bits != 0 && !planted("sleepers.wake_all.unpark") {
                self.parkers[w * BITS + bits.trailing_zeros() as usize].unpark();
                bits &= bits - 1;
            }
        }
    }

    /// Wakes up to `wanted` of the sleepers `among`, whatever the limit. For work that not every worker
    /// may do. How many were woken. The caller has fenced after publishing, or loses nothing if nobody
    /// is woken.
    pub(super) fn wake_among(&self, among: &Range<usize>, wanted: usize) -> usize {
        for woken in 0..wanted {
            if self.asleep.load(Ordering::Relaxed) == 0 {
                return woken;
            }
            let Some(index) = self.claim(among) else { return woken };
            if !planted("sleepers.wake_among.unpark") {
                self.parkers[index].unpark();
            }
        }
        wanted
    }

    /// How many sleep, or are about to; too high for a moment, never too low.
    pub(super) fn asleep(&self) -> usize {
        // Relaxed: a hint, unless the caller has fenced.
        self.asleep.load(Ordering::Relaxed)
    }

    /// Wakes worker `index` if it sleeps, whatever the limit. The caller has fenced after publishing
    /// what it waits for.
    pub(super) fn wake_at(&self, index: usize) {
        let (word, bit) = self.berth(index).word();
        // Relaxed, as in `claim`.
        if word.load(Ordering::Relaxed) & bit != 0
            && word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
        {
            self.asleep.fetch_sub(1, Ordering::Relaxed);
            if !planted("sleepers.wake_at.unpark") {
                self.parkers[index].unpark();
            }
        }
    }

    fn wake_fenced(&self, wanted: usize, limit: usize) {
        for _ in 0..wanted {
            // Relaxed: ordered by the fence. `asleep` may be too high for a moment, never too low
            // for a sleeper whose fence came first, so at worst a wake too many is sent.
            let asleep = self.asleep.load(Ordering::Relaxed);
            if asleep == 0 || self.parkers.len() - asleep.min(self.parkers.len()) >= limit {
                return;
            }
            let Some(index) = self.claim(&(0..self.parkers.len())) else { return };
            if !planted("sleepers.wake.unpark") {
                self.parkers[index].unpark();
            }
        }
    }

    /// Clears the bit of one sleeper `among` all; the caller owes it an unpark.
    fn claim(&self, among: &Range<usize>) -> Option<usize> {
        for w in among.start / BITS..among.end.div_ceil(BITS) {
            let word = &self.words[w];
            let allowed = bits_of_word(among, w);
            let mut seen = word.load(Ordering::Relaxed) & allowed;
            while seen != 0 {
                let bit = seen & seen.wrapping_neg();
                // Relaxed: the published work has a pair of its own, and the parker's handle
                // orders this word.
                let before = word.fetch_and(!bit, Ordering::Relaxed);
                if before & bit != 0 {
                    self.asleep.fetch_sub(1, Ordering::Relaxed);
                    return Some(w * BITS + bit.trailing_zeros() as usize);
                }
                seen = before & !bit & allowed;
            }
        }
        None
    }
}

/// The bits of word `w` that belong to workers `among`.
fn bits_of_word(among: &Range<usize>, w: usize) -> u64 {
    let below = |end: usize| match end.saturating_sub(w * BITS) {
        bits if bits >= BITS => u64::MAX,
        bits => (1 << bits) - 1,
    };
    below(among.end) & !below(among.start)
}

/// One worker's place in [`Sleepers`].
#[derive(Debug)]
pub(super) struct Berth<'a> {
    set: &'a Sleepers,
    index: usize,
}

impl<'a> Berth<'a> {
    fn word(&self) -> (&'a AtomicU64, u64) {
        (&self.set.words[self.index / BITS], 1 << (self.index % BITS))
    }

    /// Clears this worker's own bit. False when a waker was faster: its wake is spent on this worker,
    /// which must see to it that the work it was meant for is done.
    pub(super) fn retract(&self) -> bool {
        let (word, bit) = self.word();
        // A read-modify-write: a waker may claim the bit at this moment. Relaxed: it publishes
        // nothing, and a wake that is passed on begins with a fence.
        let own = word.fetch_and(!bit, Ordering::Relaxed) & bit != 0;
        if own {
            self.set.asleep.fetch_sub(1, Ordering::Relaxed);
        }
        own
    }

    /// Sleeps like [`Sleeper::sleep`], but no longer than `limit`. The bit is cleared at the end.
    #[cfg(not(any(loom, shuttle)))]
    pub(super) fn sleep_for(&self, limit: std::time::Duration) {
        let (word, bit) = self.word();
        census::parked();
        // Relaxed: see `Parker`.
        let asleep = || word.load(Ordering::Relaxed) & bit != 0;
        match std::time::Instant::now().checked_add(limit) {
            Some(deadline) => self.set.parkers[self.index].park_while_until(asleep, deadline),
            None => self.set.parkers[self.index].park_while(asleep),
        }
        if asleep() {
            // Who claims the bit just now wakes a thread that is awake, and that looks at all it may
            // do as its next act.
            self.retract();
        }
        census::unparked();
    }
}

impl Sleeper for Berth<'_> {
    fn announce(&self) {
        // Before the bit, so that the count never lags behind the bits.
        self.set.asleep.fetch_add(1, Ordering::Relaxed);
        let (word, bit) = self.word();
        if planted("sleepers.announce") {
            fence(Ordering::SeqCst);
        }
        // Relaxed: the fence below orders it, and it publishes nothing else.
        word.fetch_or(bit, Ordering::Relaxed);
        // Orders bit and count before the worker's second look at all queues; pairs with the fence
        // in `wake` and `wake_all`.
        if !planted("sleepers.announce.fence") && !planted("sleepers.announce") {
            fence(Ordering::SeqCst);
        }
    }

    fn sleep(&self) {
        let (word, bit) = self.word();
        census::parked();
        // Relaxed: see `Parker`.
        self.set.parkers[self.index].park_while(|| word.load(Ordering::Relaxed) & bit != 0);
        census::unparked();
    }

    fn withdraw(&self) {
        if !self.retract() && !planted("sleepers.withdraw.pass_on") {
            // Somebody spent a wake on this worker, which was awake: there may be work that the
            // wake was meant for beyond what this worker found.
            self.set.wake(1);
        }
    }
}
