//! Small files are read by several threads, ahead of the loader that takes them in order.
//!
//! ```text
//! load ──batch i──▶ read (i mod N) ──batch i──▶ load
//! ```
//!
//! The loader finds the files and lists them in batches; a reader opens, looks at and reads those of its
//! batch and judges nothing ([`Batch`]). Batches come back in the order in which they went out, so what
//! the loader makes of them does not depend on who reads, or how many do. There are no more of them than
//! the source was told, so readers are so far ahead and no further.

use crate::corpus::Source;
use crate::corpus::files::Batch;
use crate::engine::BoxError;
use crate::engine::edge::{Receiver, RecvError, SendError, Sender};
use crate::engine::stage::{Step, Stepped};
use crate::inject;

/// The most readers. Each has many files on their way from the disk at once.
pub(super) const READERS: usize = 8;

/// Batches that there may be for each reader: one that it reads, one that waits for it, one that waits
/// for the loader, and one in the loader's hands.
pub(super) const BATCHES: usize = 4;

/// The loader's ends: out to each reader, and back.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    readers: Vec<(Sender<Batch>, Receiver<Batch>)>,
    sent: u64,
    received: u64,
    /// For the next reader, whose ring is full.
    unsent: Option<Batch>,
}

impl Ahead {
    pub(super) fn new(readers: Vec<(Sender<Batch>, Receiver<Batch>)>) -> Self {
        Ahead { readers, ..Ahead::default() }
    }

    /// Takes what was read, and hands out what may be; whether there was any, or none where a reader has
    /// gone.
    pub(super) fn pump(&mut self, source: &mut dyn Source) -> Option<bool> {
        let (count, before) = (self.readers.len() as u64, self.sent + self.received);
        while self.received < self.sent {
            match self.readers[(self.received % count) as usize].1.try_recv() {
                Ok(batch) => source.accept(batch),
                Err(RecvError::Empty) => break,
                Err(RecvError::Closed) => return None,
            }
            self.received += 1;
        }
        while count > 0
            && let Some(batch) = self.unsent.take().or_else(|| source.plan())
        {
            match self.readers[(self.sent % count) as usize].0.try_send(batch) {
                Ok(()) => self.sent += 1,
                Err(SendError::Full(batch)) => {
                    self.unsent = Some(batch);
                    break;
                }
                Err(SendError::Closed(_)) => return None,
            }
        }
        Some(self.sent + self.received > before)
    }
}

/// Reads batches. Its threads are `tf-read-0`, ...
#[derive(Debug)]
pub(super) struct Read {
    worker: usize,
    input: Receiver<Batch>,
    back: Sender<Batch>,
    pending: Option<Batch>,
    items: u64,
}

impl Read {
    pub(super) fn new(worker: usize, input: Receiver<Batch>, back: Sender<Batch>) -> Self {
        Read { worker, input, back, pending: None, items: 0 }
    }
}

impl Stepped for Read {
    fn step(&mut self) -> Result<Step, BoxError> {
        if self.pending.is_none() {
            let mut batch = match self.input.try_recv() {
                Ok(batch) => batch,
                Err(RecvError::Empty) => return Ok(Step::Starved),
                Err(RecvError::Closed) => return Ok(Step::Done),
            };
            inject::point("read", self.worker, self.items)?;
            batch.read();
            self.items += 1;
            self.pending = Some(batch);
        }
        let Some(batch) = self.pending.take() else { return Ok(Step::Worked) };
        match self.back.try_send(batch) {
            Ok(()) => Ok(Step::Worked),
            Err(SendError::Full(batch)) => {
                self.pending = Some(batch);
                Ok(Step::Blocked)
            }
            Err(SendError::Closed(_)) => Ok(Step::Done),
        }
    }

    fn item(&self) -> u64 {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::files::FileSource;
    use crate::corpus::{Chunk, Filled};
    use crate::engine::edge::edge;
    use crate::engine::wait::Event;
    use crate::sync::Arc;
    use std::fs;

    /// The source would have more batches about than the rings hold: a batch that finds no room waits.
    #[test]
    fn a_batch_that_finds_no_room_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..1_000 {
            fs::write(folder.path().join(format!("{i:04}")), format!("{i:04} ")).unwrap();
        }
        let mut source = FileSource::new([folder.path()]).unwrap();
        assert!(source.read_ahead(100));
        let event = Arc::new(Event::new());
        let (mut ends, mut readers) = (Vec::new(), Vec::new());
        for worker in 0..3 {
            let (tx, input) = edge("out", 1, &event, &event);
            let (back, rx) = edge("back", 1, &event, &event);
            ends.push((tx, rx));
            readers.push(Read::new(worker, input, back));
        }
        let (mut ahead, mut chunk, mut text) = (Ahead::new(ends), Chunk::default(), Vec::new());
        let mut had_no_room = false;
        for round in 0.. {
            assert!(round < 10_000, "nothing moves any more");
            ahead.pump(&mut source).unwrap();
            had_no_room |= ahead.unsent.is_some();
            for reader in &mut readers {
                while reader.step().unwrap() == Step::Worked {}
            }
            match source.advance(&mut chunk).unwrap() {
                Filled::Full => text.extend_from_slice(&chunk.bytes),
                Filled::Later => {}
                Filled::Over => break,
            }
        }
        assert!(had_no_room);
        let expected: String = (0..1_000).map(|i| format!("{i:04} ")).collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
