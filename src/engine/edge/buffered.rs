//! Ends that hold items back, so that the hand-off's fence and look at the other side are paid once
//! a chunk.

use super::{EdgeMeter, Receiver, RecvError, Sender};
use crate::sync::planted;

/// A sending end with a buffer, made by [`Sender::buffered`]. What is in the buffer is held back
/// until it is full or [`BufferedSender::flush`] is called: call it whenever there is nothing to
/// send for now.
///
/// Dropping it flushes, waiting for room as a send does; while its thread panics, only what fits
/// is sent, and the rest is dropped. In the ledger an item counts from its flush on.
///
/// ```
/// use twelvefold::engine::edge::channel;
///
/// let (tx, mut rx) = channel(8);
/// let mut tx = tx.buffered(4);
/// for n in 0..5 {
///     tx.send(n).unwrap();
/// }
/// assert_eq!(tx.held_back(), 1);
/// tx.flush().unwrap();
/// drop(rx.recv());
/// drop(rx);
/// tx.send(5).unwrap(); // The buffer has room.
/// assert_eq!(tx.flush(), Err(vec![5]));
/// ```
#[derive(Debug)]
pub struct BufferedSender<T: Send> {
    sender: Sender<T>,
    buffer: Vec<T>,
    chunk: usize,
}

impl<T: Send> BufferedSender<T> {
    pub(super) fn new(sender: Sender<T>, chunk: usize) -> Self {
        assert!(chunk > 0, "a buffer needs room for an item");
        BufferedSender { sender, buffer: Vec::with_capacity(chunk), chunk }
    }

    /// Puts an item into the buffer, and flushes it when that fills it.
    ///
    /// # Errors
    /// All that was not sent, when the receiver has gone: this item is the last of them.
    #[inline]
    pub fn send(&mut self, item: T) -> Result<(), Vec<T>> {
        self.buffer.push(item);
        if self.buffer.len() < self.chunk { Ok(()) } else { self.flush() }
    }

    /// Sends what is in the buffer, waiting for room as often as it takes.
    ///
    /// # Errors
    /// What was not sent, when the receiver has gone.
    pub fn flush(&mut self) -> Result<(), Vec<T>> {
        while !self.buffer.is_empty() {
            if self.sender.is_closed() {
                return Err(std::mem::take(&mut self.buffer));
            }
            if self.sender.send_some(&mut self.buffer) == 0 {
                self.sender.wait_for_room();
            }
        }
        Ok(())
    }

    /// How many items are in the buffer.
    pub fn held_back(&self) -> usize {
        self.buffer.len()
    }

    /// Flushes and closes: unlike a drop, it says what was not sent.
    ///
    /// ```
    /// use twelvefold::engine::edge::channel;
    ///
    /// let (tx, rx) = channel(8);
    /// let mut tx = tx.buffered(4);
    /// tx.send(1).unwrap();
    /// drop(rx); // The receiver has gone before the buffer was flushed.
    /// assert_eq!(tx.close(), Err(vec![1]));
    /// ```
    ///
    /// # Errors
    /// What was not sent, when the receiver has gone.
    pub fn close(mut self) -> Result<(), Vec<T>> {
        self.flush()
    }
}

impl<T: Send + 'static> BufferedSender<T> {
    /// The edge's counters, for observers.
    ///
    /// ```
    /// let (tx, rx) = twelvefold::engine::edge::channel(8);
    /// let mut tx = tx.buffered(2);
    /// let meter = tx.meter();
    /// (0..3).try_for_each(|n| tx.send(n)).unwrap();
    /// assert_eq!(meter.count().items_in, 2, "the third is held back");
    /// drop((tx, rx)); // Dropping the sender flushes it.
    /// assert_eq!((meter.count().items_in, meter.count().abandoned), (3, 3));
    /// ```
    pub fn meter(&self) -> EdgeMeter {
        self.sender.meter()
    }
}

impl<T: Send> Drop for BufferedSender<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.sender.send_some(&mut self.buffer);
            self.buffer.drain(..).for_each(crate::engine::drop_guarded);
        } else {
            // Without a receiver nobody wants them.
            drop(self.flush());
        }
    }
}

/// A receiving end with a buffer, made by [`Receiver::buffered`]: takes what is there, up to a
/// chunk, at once, and waits only when nothing is there.
///
/// What is in the buffer when it is dropped counts as abandoned. An item counts as taken when a
/// later one is asked for.
///
/// ```
/// use twelvefold::engine::edge::channel;
///
/// let (tx, rx) = channel(8);
/// let (mut tx, rx) = (tx.buffered(4), rx.buffered(4));
/// let numbers = std::thread::spawn(move || (0..100).try_for_each(|n| tx.send(n)));
/// assert_eq!(rx.sum::<u32>(), 4950);
/// assert_eq!(numbers.join().unwrap(), Ok(()));
/// ```
#[derive(Debug)]
pub struct BufferedReceiver<T> {
    receiver: Receiver<T>,
    /// Backwards, so that the next one is at the end.
    buffer: Vec<T>,
    chunk: usize,
    /// Items given out from the buffer since it was last filled.
    given: u64,
}

impl<T: Send> BufferedReceiver<T> {
    pub(super) fn new(receiver: Receiver<T>, chunk: usize) -> Self {
        assert!(chunk > 0, "a buffer needs room for an item");
        BufferedReceiver { receiver, buffer: Vec::with_capacity(chunk), chunk, given: 0 }
    }

    /// Takes an item, waiting for one. `None` after the last.
    ///
    /// ```
    /// let (mut tx, rx) = twelvefold::engine::edge::channel(4);
    /// let mut rx = rx.buffered(4);
    /// tx.send(1).unwrap();
    /// drop(tx);
    /// assert_eq!((rx.recv(), rx.recv()), (Some(1), None));
    /// ```
    #[inline]
    pub fn recv(&mut self) -> Option<T> {
        if self.buffer.is_empty() {
            self.fill();
        }
        let item = self.buffer.pop()?;
        self.given += 1;
        Some(item)
    }

    /// Takes an item if there is one now.
    ///
    /// ```
    /// use twelvefold::engine::edge::{RecvError, channel};
    ///
    /// let (mut tx, rx) = channel(4);
    /// let mut rx = rx.buffered(4);
    /// assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    /// tx.send(1).unwrap();
    /// drop(tx);
    /// assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(1), Err(RecvError::Closed)));
    /// ```
    ///
    /// # Errors
    /// [`RecvError::Empty`], or [`RecvError::Closed`] after the last item.
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        if self.buffer.is_empty() && !self.load() {
            // As in `Receiver::try_recv`: the bit, then one more look.
            if !self.receiver.is_closed() {
                return Err(RecvError::Empty);
            }
            self.load();
        }
        let item = self.buffer.pop().ok_or(RecvError::Closed)?;
        self.given += 1;
        Ok(item)
    }

    /// Wants no more; see [`Receiver::close`].
    ///
    /// ```
    /// let (mut tx, rx) = twelvefold::engine::edge::channel(4);
    /// let mut rx = rx.buffered(4);
    /// tx.send_slice(&[1, 2]).unwrap();
    /// assert_eq!(rx.recv(), Some(1));
    /// rx.close();
    /// assert_eq!(tx.send(3), Err(3));
    /// drop(tx);
    /// assert_eq!((rx.recv(), rx.recv()), (Some(2), None)); // What had been sent still comes.
    /// ```
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// Fills the empty buffer, waiting for an item or the end.
    #[cold]
    fn fill(&mut self) {
        while !self.load() {
            // The bit, then one more look.
            if self.receiver.is_closed() {
                if !planted("edge.fill.load_again") {
                    self.load();
                }
                return;
            }
            self.receiver.wait_for_items();
        }
    }

    fn load(&mut self) -> bool {
        self.receiver.count_taken(std::mem::take(&mut self.given));
        let loaded = self.receiver.unload(&mut self.buffer, self.chunk) > 0;
        self.buffer.reverse();
        loaded
    }
}

impl<T: Send + 'static> BufferedReceiver<T> {
    /// The edge's counters, for observers.
    ///
    /// ```
    /// let (mut tx, rx) = twelvefold::engine::edge::channel(4);
    /// let mut rx = rx.buffered(4);
    /// let meter = rx.meter();
    /// tx.send_slice(&[1, 2, 3]).unwrap();
    /// assert_eq!(rx.recv(), Some(1));
    /// drop((tx, rx)); // Two are still in the buffer.
    /// assert_eq!((meter.count().items_out, meter.count().abandoned), (1, 2));
    /// ```
    pub fn meter(&self) -> EdgeMeter {
        self.receiver.meter()
    }
}

/// Blocks in `next`; ends after the last item.
impl<T: Send> Iterator for BufferedReceiver<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.recv()
    }
}

impl<T> Drop for BufferedReceiver<T> {
    fn drop(&mut self) {
        self.receiver.settle(self.given, self.buffer.len() as u64);
        self.buffer.drain(..).for_each(crate::engine::drop_guarded);
    }
}
