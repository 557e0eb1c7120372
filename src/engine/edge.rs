//! A bounded edge between two stages: a single-producer single-consumer ring that waits, closes,
//! and accounts for every item.
//!
//! | ends present       | `try_send`           | `try_recv`                                |
//! |--------------------|----------------------|-------------------------------------------|
//! | both               | item in, or `Full`   | item out, or `Empty`                      |
//! | sender gone        | –                    | what is left, then `Closed` (draining)    |
//! | receiver gone      | `Closed`, item back  | –                                         |
//! | both gone          | –                    | what was left has been counted abandoned  |
//!
//! The last end to go empties the ring: the receiver leaves its half behind for a sender that
//! outlives it, since an item may be on its way into the ring at that moment.
//!
//! Waiting: the sender sleeps on the event given for it when the ring is full, the receiver on its
//! own when it is empty. Whoever changes what the other waits for fences, looks at the other's
//! event and wakes it ([`Event::wake`]). Both may share their event with other edges of the same
//! thread.

use super::wait::Event;
use crate::sync::ring::{Consumer, Producer, ring};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, UnsafeCell, ordering_at, planted};
use crossbeam_utils::CachePadded;
use std::fmt;

const SENDER_GONE: u32 = 1;
const RECEIVER_GONE: u32 = 2;

/// Why an item was not taken; the item comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// No room now.
    Full(T),
    /// The receiver has gone; nobody will ever take it.
    Closed(T),
}

/// Why there is no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// None now.
    Empty,
    /// The sender has gone and everything it sent has been taken.
    Closed,
}

/// An edge's counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeCount {
    /// The name given to [`edge`].
    pub name: String,
    /// Items the sender put in.
    pub items_in: u64,
    /// Items the receiver took out.
    pub items_out: u64,
    /// Items that nobody took, dropped by the last end to go.
    pub abandoned: u64,
    /// The most items in the ring at once, as the sender knew it (never too low).
    pub high_water: u64,
}

impl EdgeCount {
    /// Whether every item that went in came out or was counted abandoned. True for every edge
    /// whose two ends are gone.
    pub fn balances(&self) -> bool {
        self.items_in == self.items_out + self.abandoned
    }
}

/// What stays of an edge for observers.
#[derive(Clone)]
pub struct EdgeMeter(Arc<dyn Counted>);

trait Counted: Send + Sync {
    fn count(&self) -> EdgeCount;
}

impl fmt::Debug for EdgeMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.count().fmt(f)
    }
}

impl EdgeMeter {
    /// The counters now. No snapshot shows more out than in.
    pub fn count(&self) -> EdgeCount {
        self.0.count()
    }
}

#[derive(Debug, Default)]
struct SenderSide {
    items_in: AtomicU64,
    high_water: AtomicU64,
}

#[derive(Debug, Default)]
struct ReceiverSide {
    items_out: AtomicU64,
    abandoned: AtomicU64,
}

#[derive(Debug)]
struct Shared<T> {
    name: String,
    gone: CachePadded<AtomicU32>,
    sender: CachePadded<SenderSide>,
    receiver: CachePadded<ReceiverSide>,
    sender_event: Arc<Event>,
    receiver_event: Arc<Event>,
    /// The reading end, left behind by a receiver that went first.
    left: UnsafeCell<Option<Consumer<T>>>,
}

mod left_behind {
    #![expect(unsafe_code, reason = "one cell handed from the receiver to the sender")]

    use super::{Consumer, Shared};

    // SAFETY: `left` is written by the receiver before it sets RECEIVER_GONE, and taken by whichever
    // end saw the other's bit in its own read-modify-write of `gone`; everything else in
    // `Shared` is Sync by itself. Items cross threads, hence `T: Send`.
    unsafe impl<T: Send> Sync for Shared<T> {}

    impl<T> Shared<T> {
        /// The receiver leaves its end. Only the receiver calls it, once, before RECEIVER_GONE.
        pub(super) fn leave(&self, consumer: Consumer<T>) {
            // SAFETY: until RECEIVER_GONE is set nobody but the receiver touches the cell.
            self.left.with_mut(|left| unsafe { *left = Some(consumer) });
        }

        /// The last to go takes it. Only the end that saw the other's bit in its own
        /// read-modify-write calls it, so exactly one does.
        pub(super) fn take_left(&self) -> Option<Consumer<T>> {
            // SAFETY: the other end has gone and never touches the cell again; the AcqRel
            // read-modify-writes of `gone` order its last access before this one.
            self.left.with_mut(|left| unsafe { (*left).take() })
        }
    }
}

impl<T: Send> Counted for Shared<T> {
    fn count(&self) -> EdgeCount {
        // Out before in. Acquire pairs with the receiver's Release, behind which stands the
        // sender's count of the same item: no snapshot shows more out than in.
        let order = ordering_at("edge.count.acquire", Ordering::Acquire);
        let items_out = self.receiver.items_out.load(order);
        let abandoned = self.receiver.abandoned.load(Ordering::Acquire);
        EdgeCount {
            name: self.name.clone(),
            items_in: self.sender.items_in.load(Ordering::Relaxed),
            items_out,
            abandoned,
            high_water: self.sender.high_water.load(Ordering::Relaxed),
        }
    }
}

/// An edge called `name` with room for `capacity` items. Each end sleeps on its event, which
/// belongs to the thread that will hold that end.
///
/// ```
/// # use twelvefold::{engine::{edge::*, wait::Event}, sync::Arc}; let event = Arc::new(Event::new());
/// let sink = Arc::new(Event::new());
/// let (mut tx, mut rx) = edge("numbers", 2, &event, &sink);
/// let loader = std::thread::spawn(move || (1..=4).try_for_each(|n| tx.send(n)));
/// assert_eq!(std::iter::from_fn(|| rx.recv()).collect::<Vec<_>>(), [1, 2, 3, 4]);
/// assert_eq!(loader.join().unwrap(), Ok(()));
/// ```
///
/// # Panics
/// When `capacity` is 0.
pub fn edge<T: Send>(
    name: &str,
    capacity: usize,
    sender_event: &Arc<Event>,
    receiver_event: &Arc<Event>,
) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "an edge needs room for an item");
    let (producer, consumer) = ring(capacity);
    let shared = Arc::new(Shared {
        name: name.to_owned(),
        gone: CachePadded::new(AtomicU32::new(0)),
        sender: CachePadded::default(),
        receiver: CachePadded::default(),
        sender_event: sender_event.clone(),
        receiver_event: receiver_event.clone(),
        left: UnsafeCell::new(None),
    });
    (
        Sender { producer, shared: shared.clone(), sent: 0, high_water: 0, capacity },
        Receiver { consumer: Some(consumer), shared, taken: 0 },
    )
}

/// The sending end. Dropping it closes the edge: the receiver drains what is left.
#[derive(Debug)]
pub struct Sender<T> {
    producer: Producer<T>,
    shared: Arc<Shared<T>>,
    sent: u64,
    high_water: u64,
    capacity: usize,
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
        if !self.producer.has_room() {
            return Err(SendError::Full(item));
        }
        self.count(1);
        let pushed = self.producer.push(item);
        debug_assert!(pushed.is_ok(), "only this end fills the ring, and it saw room");
        self.published();
        pushed.map_err(SendError::Full)
    }

    /// Sends an item, waiting for room. The wait ends with the other end, not with a run's stop: in
    /// a stage use [`Sender::try_send`] and [`drive`](super::stage::drive).
    ///
    /// # Errors
    /// The item, when the receiver has gone.
    pub fn send(&mut self, item: T) -> Result<(), T> {
        let mut item = item;
        loop {
            match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(SendError::Closed(back)) => return Err(back),
                Err(SendError::Full(back)) => item = back,
            }
            self.wait_for_room();
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
            // Counted before they can be taken, in two parts: what fits is known only to the ring.
            let room = self.producer.cached_room().min(items.len() - sent);
            let room = if room == 0 && self.producer.has_room() {
                // `has_room` has reloaded the other end's index.
                self.producer.cached_room().min(items.len() - sent)
            } else {
                room
            };
            if room == 0 {
                self.wait_for_room();
                continue;
            }
            self.count(room as u64);
            let pushed = self.producer.push_slice(&items[sent..sent + room]);
            debug_assert_eq!(pushed, room, "only this end fills the ring, and it saw room");
            sent += pushed;
            self.published();
        }
        Ok(())
    }

    /// Whether the receiver has gone.
    #[inline]
    pub fn is_closed(&self) -> bool {
        // Relaxed: nothing is read because of it, and `Drop` decides by a read-modify-write.
        self.shared.gone.load(Ordering::Relaxed) & RECEIVER_GONE != 0
    }

    /// Whether an item could be sent now.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.producer.has_room()
    }

    fn wait_for_room(&mut self) {
        let event = self.shared.sender_event.clone();
        event.wait(|| self.producer.has_room() || self.is_closed());
    }

    /// Before the push, so that the receiver's count never overtakes this one.
    #[inline]
    fn count(&mut self, items: u64) {
        self.sent += items;
        // Relaxed: the ring's Release store of its tail publishes it with the items.
        self.shared.sender.items_in.store(self.sent, Ordering::Relaxed);
    }

    #[inline]
    fn published(&mut self) {
        let filled = (self.capacity - self.producer.cached_room().min(self.capacity)) as u64;
        if filled > self.high_water {
            self.high_water = filled;
            self.shared.sender.high_water.store(filled, Ordering::Relaxed);
        }
        if !planted("edge.send.wake") {
            self.shared.receiver_event.wake();
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: a receiver that sees the bit also sees the last item (the fence of the last
        // item's wake says so too; this stands for itself). Acquire: if the receiver went first,
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

/// The receiving end. Dropping it abandons what is left.
#[derive(Debug)]
pub struct Receiver<T> {
    /// Present until the drop.
    consumer: Option<Consumer<T>>,
    shared: Arc<Shared<T>>,
    taken: u64,
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
        if let Some(item) = self.pop() {
            return Ok(item);
        }
        // The second pop: the last item may have come between the first one and the bit.
        if !self.is_closed() {
            return Err(RecvError::Empty);
        }
        if planted("edge.recv.pop_again") {
            return Err(RecvError::Closed);
        }
        self.pop().ok_or(RecvError::Closed)
    }

    /// Takes an item, waiting for one. `None` after the last. The wait ends with the other end, not
    /// with a run's stop: in a stage use [`Receiver::try_recv`] and [`drive`](super::stage::drive).
    pub fn recv(&mut self) -> Option<T> {
        loop {
            match self.try_recv() {
                Ok(item) => return Some(item),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Empty) => self.wait_for_items(),
            }
        }
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
                self.released(taken as u64);
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

    fn wait_for_items(&mut self) {
        let event = self.shared.receiver_event.clone();
        event.wait(|| !self.is_empty() || self.is_closed());
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        let item = self.consumer.as_mut()?.pop()?;
        self.released(1);
        Some(item)
    }

    #[inline]
    fn released(&mut self, items: u64) {
        self.taken += items;
        // Release: pairs with the Acquire in `count`.
        let order = ordering_at("edge.released.release", Ordering::Release);
        self.shared.receiver.items_out.store(self.taken, order);
        if !planted("edge.recv.wake") {
            self.shared.sender_event.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
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

impl<T> Shared<T> {
    /// Drops and counts what nobody will take. An item whose `Drop` panics is counted too, and the
    /// rest is dropped all the same.
    fn abandon(&self, mut consumer: Consumer<T>) {
        let mut abandoned = 0;
        while let Some(item) = consumer.pop() {
            abandoned += 1;
            super::drop_guarded(item);
        }
        self.receiver.abandoned.fetch_add(abandoned, Ordering::Release);
    }
}
