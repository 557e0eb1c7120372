//! The latest of some numbers, from one thread to another, neither of which ever waits.
//!
//! There are three slots. The writer holds one and the reader another; the third is the spare, and its
//! number lies in one word. The writer fills its slot and swaps it for the spare, which is then [`NEW`];
//! a reader that finds it so swaps its own slot for it. So a reader has all numbers of one moment, the
//! last one, and what it does not come for is written over.
//!
//! | spare | the writer does | the reader does |
//! |---|---|---|
//! | old | swaps it for its slot -> new | reads its slot again |
//! | new | swaps it for its slot -> new | swaps it for its slot -> old |

use super::{Arc, AtomicU64, AtomicUsize, Ordering, ordering_at};

/// Set in the spare's number: the reader has not had it.
const NEW: usize = 4;

#[derive(Debug)]
struct Shared {
    slots: [Box<[AtomicU64]>; 3],
    spare: AtomicUsize,
}

/// Writes the numbers of [`latest`].
///
/// ```
/// use twelvefold::sync::{LatestWriter, latest};
///
/// let (mut writer, mut reader): (LatestWriter, _) = latest(1);
/// writer.write([1.5, 2.5]); // One too many.
/// assert_eq!(reader.read().collect::<Vec<f64>>(), [1.5]);
/// ```
#[derive(Debug)]
pub struct LatestWriter {
    shared: Arc<Shared>,
    slot: usize,
}

/// Reads the numbers of [`latest`].
///
/// ```
/// use twelvefold::sync::{LatestReader, latest};
///
/// let (mut writer, mut reader): (_, LatestReader) = latest(1);
/// assert!(reader.read().eq([0.0]));
/// writer.write([2.5]);
/// assert!(reader.read().eq([2.5]) && reader.read().eq([2.5]));
/// ```
#[derive(Debug)]
pub struct LatestReader {
    shared: Arc<Shared>,
    slot: usize,
}

/// So many numbers, zeros at first, as their writer and their reader see them.
///
/// ```
/// use twelvefold::sync::latest;
///
/// let (mut writer, mut reader) = latest(2);
/// writer.write([1.0, 2.0]);
/// writer.write([3.0, 4.0]);
/// let read = std::thread::spawn(move || reader.read().collect::<Vec<f64>>());
/// assert_eq!(read.join().unwrap(), [3.0, 4.0]);
/// ```
pub fn latest(count: usize) -> (LatestWriter, LatestReader) {
    let slot = |_| (0..count).map(|_| AtomicU64::new(0)).collect();
    let shared = Arc::new(Shared { slots: [0, 1, 2].map(slot), spare: AtomicUsize::new(1) });
    (LatestWriter { shared: shared.clone(), slot: 0 }, LatestReader { shared, slot: 2 })
}

impl LatestWriter {
    /// Writes them all. What is beyond their count is left out, and one that is not given stays what it
    /// was some time ago.
    pub fn write(&mut self, values: impl IntoIterator<Item = f64>) {
        for (cell, value) in self.shared.slots[self.slot].iter().zip(values) {
            // Relaxed: nobody else has the slot; the swap below hands it over.
            cell.store(value.to_bits(), Ordering::Relaxed);
        }
        // Release, for the swap in `read`: a reader that gets this slot gets what was stored in it.
        // Acquire, from the same swap: what the reader read of the slot that comes back was read before
        // the next store to it. Killed if Relaxed: loom-tests/tests/protocol/latest.rs.
        let order = ordering_at("latest.write.swap", Ordering::AcqRel);
        self.slot = self.shared.spare.swap(self.slot | NEW, order) & !NEW;
    }
}

impl LatestReader {
    /// All numbers of the last [`LatestWriter::write`].
    pub fn read(&mut self) -> impl Iterator<Item = f64> {
        // Relaxed: only says whether a swap is worth it; what is read is ordered by the swap. Nobody but
        // this reader makes the spare old, so that it is still new there.
        if self.shared.spare.load(Ordering::Relaxed) & NEW != 0 {
            // Acquire, for the swap in `write`: the numbers in the slot are those that were stored before
            // it. Release, for the same: see there. Killed if Relaxed: as there.
            let order = ordering_at("latest.read.swap", Ordering::AcqRel);
            self.slot = self.shared.spare.swap(self.slot, order) & !NEW;
        }
        // Relaxed: nobody else has the slot.
        self.shared.slots[self.slot].iter().map(|c| f64::from_bits(c.load(Ordering::Relaxed)))
    }
}
