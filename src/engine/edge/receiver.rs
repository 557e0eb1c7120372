//! The receiving end.

use super::buffered::BufferedReceiver;
use super::{EdgeMeter, RECEIVER_CLOSED, RECEIVER_GONE, RecvError, SENDER_GONE, Shared};
use crate::sync::ring::Consumer;
use crate::sync::{Arc, Ordering, ordering_at, planted};

/// The receiving end. Dropping it abandons what is left.
///
/// ```
/// # use twelvefold::{engine::{edge::*, wait::Event}, sync::Arc}; let event = Arc::new(Event::new());
/// let (mut tx, mut rx) = edge("e", 4, &event, &event);
/// tx.send_slice(&[1, 2, 3, 4]).unwrap();
/// drop(tx);
/// assert!(rx.is_closed() && !rx.is_empty());
/// let mut chunk = [0; 2];
/// assert_eq!((rx.recv_slice(&mut chunk), chunk), (2, [1, 2]));
/// assert_eq!((rx.try_recv(), rx.recv(), rx.recv()), (Ok(3), Some(4), None));
/// assert_eq!(rx.meter().count().items_out, 4);
/// ```
#[derive(Debug)]
pub struct Receiver<T> {
    /// Present until the drop.
    pub(super) consumer: Option<Consumer<T>>,
    pub(super) shared: Arc<Shared<T>>,
    pub(super) taken: u64,
    /// Items that left the ring and went to nobody.
    pub(super) abandoned: u64,
    pub(super) high_water: u64,
}

impl<T: Send + 'static> Receiver<T> {
    /// The edge's counters, for observers.
    pub fn meter(&self) -> EdgeMeter {
        EdgeMeter(self.shared.clone())
    }
}

impl<T: Send> Receiver<T> {
    /// Takes an item if there is one now.
    ///
    /// # Errors
    /// [`RecvError::Empty`], or [`RecvError::Closed`] after the last item.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        match self.pop() {
            Some(item) => Ok(item),
            None => self.try_again(),
        }
    }

    /// After a look that found nothing: the last item may have come between it and the bit.
    #[cold]
    fn try_again(&mut self) -> Result<T, RecvError> {
        if !self.is_closed() {
            return Err(RecvError::Empty);
        }
        if planted("edge.recv.pop_again") {
            return Err(RecvError::Closed);
        }
        self.pop().ok_or(RecvError::Closed)
    }

    /// Takes an item, waiting for one. `None` after the last. The wait ends with the other end, not
    /// with a run's stop: in a stage use [`Receiver::try_recv`] and [`drive`](crate::engine::stage::drive).
    #[inline]
    pub fn recv(&mut self) -> Option<T> {
        match self.pop() {
            Some(item) => Some(item),
            None => self.recv_later(),
        }
    }

    /// [`Receiver::recv`] after a look that found nothing.
    #[cold]
    fn recv_later(&mut self) -> Option<T> {
        let mut found = self.try_again();
        while matches!(found, Err(RecvError::Empty)) {
            self.wait_for_items();
            found = self.try_recv();
        }
        found.ok()
    }

    /// [`Receiver::recv`] that waits no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twelvefold::engine::edge::{RecvError, channel};
    ///
    /// let (tx, mut rx) = channel::<u32>(1);
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvError::Empty));
    /// drop(tx);
    /// assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvError::Closed));
    /// ```
    ///
    /// # Errors
    /// [`RecvError::Empty`] after the time, or [`RecvError::Closed`] after the last item.
    #[cfg(not(any(loom, shuttle)))]
    pub fn recv_timeout(&mut self, timeout: std::time::Duration) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(RecvError::Empty) => {
                let ready = || !self.is_empty() || self.is_closed();
                self.shared.receiver_event.wait_for(timeout, ready);
                self.try_recv()
            }
            other => other,
        }
    }

    /// Receives through a buffer, for which up to `chunk` items are taken at once.
    ///
    /// ```
    /// let (mut tx, rx) = twelvefold::engine::edge::channel(64);
    /// let mut rx = rx.buffered(16); // One hand-off for up to 16 items.
    /// let sender = std::thread::spawn(move || (0..100).try_for_each(|n| tx.send(n)));
    /// assert!(rx.by_ref().eq(0..100));
    /// sender.join().unwrap().unwrap();
    /// ```
    ///
    /// # Panics
    /// When `chunk` is 0.
    pub fn buffered(self, chunk: usize) -> BufferedReceiver<T> {
        BufferedReceiver::new(self, chunk)
    }

    /// Wants no more: the sender's next send gives its item back as `Closed`, also where it waits
    /// for room. What was sent before can still be received, to the last item: the end comes when
    /// the sender has gone.
    ///
    /// ```
    /// use twelvefold::engine::edge::{SendError, channel};
    ///
    /// let (mut tx, mut rx) = channel(4);
    /// tx.send(1).unwrap();
    /// rx.close();
    /// assert_eq!(tx.try_send(2), Err(SendError::Closed(2)));
    /// drop(tx);
    /// assert_eq!((rx.recv(), rx.recv()), (Some(1), None));
    /// ```
    pub fn close(&mut self) {
        // Relaxed: as `Sender::is_closed`; the wake fences.
        self.shared.gone.fetch_or(RECEIVER_CLOSED, Ordering::Relaxed);
        if !planted("edge.want_no_more.wake") {
            self.shared.sender_event.wake();
        }
    }

    /// Moves up to `max` items to the end of `out`, which leave the ring but do not count as taken
    /// yet; how many they were.
    pub(super) fn unload(&mut self, out: &mut Vec<T>, max: usize) -> usize {
        let moved = self.consumer.as_mut().map_or(0, |consumer| consumer.pop_into(out, max));
        if moved > 0 {
            self.look_at_depth(moved);
            if !planted("edge.unload.wake") {
                self.shared.sender_event.wake();
            }
        }
        moved
    }

    /// Fills the front of `out` with what is there, waiting for the first item; how many they
    /// were. 0 after the last, or when `out` is empty.
    pub fn recv_slice(&mut self, out: &mut [T]) -> usize
    where
        T: Copy,
    {
        loop {
            let taken = self.consumer.as_mut().map_or(0, |consumer| consumer.pop_slice(out));
            if taken > 0 {
                self.released(taken);
                return taken;
            }
            if out.is_empty() {
                return 0;
            }
            // As in `try_recv`: the bit, then one more look.
            if !self.is_closed() {
                self.wait_for_items();
            } else if planted("edge.recv.pop_again") || self.is_empty() {
                return 0;
            }
        }
    }

    /// Whether nothing is there now.
    pub fn is_empty(&self) -> bool {
        self.consumer.as_ref().is_none_or(Consumer::is_empty)
    }

    /// Whether the sender has gone; there may still be items.
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with the sender's AcqRel. Whoever sees the bit sees the last item.
        let order = ordering_at("edge.recv.acquire", Ordering::Acquire);
        self.shared.gone.load(order) & SENDER_GONE != 0
    }

    pub(super) fn wait_for_items(&mut self) {
        self.shared.receiver_event.wait_again(|| !self.is_empty() || self.is_closed());
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        let item = self.consumer.as_mut()?.pop()?;
        self.released(1);
        Some(item)
    }

    #[inline]
    pub(super) fn count_taken(&mut self, items: u64) {
        self.taken += items;
        // Relaxed: nothing is read because of it.
        self.shared.receiver.items_out.store(self.taken, Ordering::Relaxed);
    }

    #[inline]
    fn released(&mut self, items: usize) {
        self.count_taken(items as u64);
        self.look_at_depth(items);
        if !planted("edge.recv.wake") {
            self.shared.sender_event.wake();
        }
    }

    /// After `taken` items have left the ring: so many, and those still known of, were in it at once.
    #[inline]
    fn look_at_depth(&mut self, taken: usize) {
        let seen = (taken + self.consumer.as_ref().map_or(0, Consumer::cached_len)) as u64;
        if seen > self.high_water {
            self.high_water = seen;
            // Relaxed: a statistic.
            self.shared.receiver.high_water.store(seen, Ordering::Relaxed);
        }
    }
}

/// Blocks in `next`; ends after the last item.
impl<T: Send> Iterator for Receiver<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.recv()
    }
}

impl<T> Receiver<T> {
    /// The last words of a buffer: so many were given out, and so many go to nobody.
    pub(super) fn settle(&mut self, given: u64, abandoned: u64) {
        self.taken += given;
        self.abandoned = abandoned;
        self.shared.receiver.items_out.store(self.taken, Ordering::Relaxed);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receiver.abandoned.fetch_add(self.abandoned, Ordering::Relaxed);
        let Some(consumer) = self.consumer.take() else { return };
        self.shared.leave(consumer);
        // Release: hands `left` to the sender. Acquire: if the sender went first, its last items
        // are visible to the drain here.
        let order = if planted("edge.leave.release") {
            Ordering::Acquire
        } else if planted("edge.leave.acquire") {
            Ordering::Release
        } else {
            Ordering::AcqRel
        };
        let before = self.shared.gone.fetch_or(RECEIVER_GONE, order);
        if before & SENDER_GONE != 0 {
            if let Some(consumer) = self.shared.take_left() {
                self.shared.abandon(consumer);
            }
        } else if !planted("edge.leave.wake") {
            self.shared.sender_event.wake();
        }
    }
}
