//! The sending end.

use super::buffered::BufferedSender;
use super::{EdgeMeter, RECEIVER_CLOSED, RECEIVER_GONE, SENDER_GONE, SendError, Shared};
use crate::sync::ring::Producer;
use crate::sync::{Arc, Ordering, planted};

/// The sending end. Dropping it closes the edge: the receiver drains what is left.
///
/// ```
/// # use twelvefold::{engine::{edge::*, wait::Event}, sync::Arc}; let event = Arc::new(Event::new());
/// let (mut tx, rx) = edge("e", 4, &event, &event);
/// assert_eq!((tx.send(1), tx.send_slice(&[2, 3, 4])), (Ok(()), Ok(())));
/// assert!(!tx.has_room() && tx.meter().count().high_water == 4);
/// drop(rx);
/// assert!(tx.is_closed());
/// assert_eq!((tx.send(5), tx.send_slice(&[5, 6])), (Err(5), Err(0)));
/// ```
#[derive(Debug)]
pub struct Sender<T> {
    pub(super) producer: Producer<T>,
    pub(super) shared: Arc<Shared<T>>,
    pub(super) sent: u64,
}

impl<T: Send + 'static> Sender<T> {
    /// The edge's counters, for observers.
    pub fn meter(&self) -> EdgeMeter {
        EdgeMeter(self.shared.clone())
    }
}

impl<T: Send> Sender<T> {
    /// Sends an item if there is room now.
    ///
    /// ```
    /// # use twelvefold::{engine::{edge::*, wait::Event}, sync::Arc}; let event = Arc::new(Event::new());
    /// let (mut tx, rx) = edge("e", 1, &event, &event);
    /// assert_eq!([tx.try_send(1), tx.try_send(2)], [Ok(()), Err(SendError::Full(2))]);
    /// drop(rx);
    /// assert_eq!(tx.try_send(2), Err(SendError::Closed(2)));
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] or [`SendError::Closed`], with the item.
    #[inline]
    pub fn try_send(&mut self, item: T) -> Result<(), SendError<T>> {
        if self.is_closed() {
            return Err(SendError::Closed(item));
        }
        match self.producer.push(item) {
            Ok(()) => {
                self.published(1);
                Ok(())
            }
            Err(item) => {
                self.full();
                Err(SendError::Full(item))
            }
        }
    }

    /// Sends an item, waiting for room. The wait ends with the other end, not with a run's stop: in
    /// a stage use [`Sender::try_send`] and [`drive`](crate::engine::stage::drive).
    ///
    /// # Errors
    /// The item, when the receiver has gone.
    #[inline]
    pub fn send(&mut self, item: T) -> Result<(), T> {
        match self.try_send(item) {
            Ok(()) => Ok(()),
            Err(SendError::Closed(back)) => Err(back),
            Err(SendError::Full(back)) => self.send_later(back),
        }
    }

    /// [`Sender::send`] after a look that found no room.
    #[cold]
    fn send_later(&mut self, mut item: T) -> Result<(), T> {
        loop {
            self.wait_for_room();
            match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(SendError::Closed(back)) => return Err(back),
                Err(SendError::Full(back)) => item = back,
            }
        }
    }

    /// [`Sender::send`] that waits for room no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twelvefold::engine::edge::{SendError, channel};
    ///
    /// let (mut tx, _rx) = channel(1);
    /// let soon = Duration::from_millis(1);
    /// assert_eq!(tx.send_timeout(1, soon), Ok(()));
    /// assert_eq!(tx.send_timeout(2, soon), Err(SendError::Full(2)));
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] after the time, or [`SendError::Closed`], with the item.
    #[cfg(not(any(loom, shuttle)))]
    pub fn send_timeout(
        &mut self,
        item: T,
        timeout: std::time::Duration,
    ) -> Result<(), SendError<T>> {
        match self.try_send(item) {
            Err(SendError::Full(item)) => {
                let ready = || self.producer.has_room() || self.is_closed();
                self.shared.sender_event.wait_for(timeout, ready);
                self.try_send(item)
            }
            other => other,
        }
    }

    /// Sends all of `items`, waiting for room as often as it takes; each chunk that fits is
    /// published at once.
    ///
    /// # Errors
    /// How many were sent, when the receiver has gone before the last.
    pub fn send_slice(&mut self, items: &[T]) -> Result<(), usize>
    where
        T: Copy,
    {
        let mut sent = 0;
        while sent < items.len() {
            if self.is_closed() {
                return Err(sent);
            }
            let pushed = self.producer.push_slice(&items[sent..]);
            if pushed == 0 {
                self.full();
                self.wait_for_room();
                continue;
            }
            sent += pushed;
            self.published(pushed);
        }
        Ok(())
    }

    /// Sends the first of `items`, as many as fit now, published at once; 0 when none does.
    pub(super) fn send_some(&mut self, items: &mut Vec<T>) -> usize {
        let fits = self.producer.push_front_of(items);
        if fits > 0 {
            self.published(fits);
        } else {
            self.full();
        }
        fits
    }

    /// Sends through a buffer of `chunk` items, each full one published at once.
    ///
    /// ```
    /// let (tx, mut rx) = twelvefold::engine::edge::channel(8);
    /// let mut tx = tx.buffered(4);
    /// (1..=3).try_for_each(|n| tx.send(n)).unwrap();
    /// assert!(rx.is_empty(), "held back");
    /// tx.send(4).unwrap(); // Full: all four are handed on at once.
    /// assert_eq!(rx.recv(), Some(1));
    /// ```
    ///
    /// # Panics
    /// When `chunk` is 0.
    pub fn buffered(self, chunk: usize) -> BufferedSender<T> {
        BufferedSender::new(self, chunk)
    }

    /// Closes the edge, as dropping this end does: the receiver takes what is left, and then learns
    /// of the end.
    ///
    /// ```
    /// let (mut tx, mut rx) = twelvefold::engine::edge::channel(2);
    /// tx.send(1).unwrap();
    /// tx.close();
    /// assert_eq!((rx.recv(), rx.recv()), (Some(1), None));
    /// ```
    pub fn close(self) {}

    /// Whether the receiver has gone, or wants no more.
    #[inline]
    pub fn is_closed(&self) -> bool {
        // Relaxed: nothing is read because of it, and `Drop` decides by a read-modify-write.
        self.shared.gone.load(Ordering::Relaxed) & (RECEIVER_GONE | RECEIVER_CLOSED) != 0
    }

    /// Whether an item could be sent now.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.producer.has_room()
    }

    pub(super) fn wait_for_room(&mut self) {
        self.shared.sender_event.wait_again(|| self.producer.has_room() || self.is_closed());
    }

    /// After a push that made `items` visible.
    #[inline]
    fn published(&mut self, items: usize) {
        self.sent += items as u64;
        // Relaxed: a snapshot that comes before it knows from the other end what was there.
        self.shared.sender.items_in.store(self.sent, Ordering::Relaxed);
        if !planted("edge.send.wake") {
            self.shared.receiver_event.wake();
        }
    }

    /// After a push that found no room.
    #[cold]
    fn full(&self) {
        // Relaxed: a statistic.
        self.shared.sender.was_full.store(true, Ordering::Relaxed);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: a receiver that sees the bit also sees the last item. Acquire: if the receiver went first,
        // its end in `left` is visible.
        let order = if planted("edge.close.release") {
            Ordering::Acquire
        } else if planted("edge.close.acquire") {
            Ordering::Release
        } else {
            Ordering::AcqRel
        };
        let before = self.shared.gone.fetch_or(SENDER_GONE, order);
        if before & RECEIVER_GONE != 0 {
            if let Some(consumer) = self.shared.take_left() {
                self.shared.abandon(consumer);
            }
        } else if !planted("edge.close.wake") {
            self.shared.receiver_event.wake();
        }
    }
}
