//! A bounded edge between two stages: a single-producer single-consumer ring that waits, closes,
//! and accounts for every item.
//!
//! | ends present       | `try_send`           | `try_recv`                                |
//! |--------------------|----------------------|-------------------------------------------|
//! | both               | item in, or `Full`   | item out, or `Empty`                      |
//! | sender gone        | –                    | what is left, then `Closed` (draining)    |
//! | both, receiver closed | `Closed`, item back | what is left, then `Empty` until the sender goes |
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

mod buffered;
mod receiver;
mod sender;

pub use buffered::{BufferedReceiver, BufferedSender};
pub use receiver::Receiver;
pub use sender::Sender;

use super::wait::Event;
use crate::sync::ring::{Consumer, ring};
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, Ordering, UnsafeCell, ordering_at};
use crossbeam_utils::CachePadded;
use std::fmt;

const SENDER_GONE: u32 = 1;
const RECEIVER_GONE: u32 = 2;
/// The receiver is there and wants no more: see [`Receiver::close`].
const RECEIVER_CLOSED: u32 = 4;

/// Why an item was not taken; the item comes back.
///
/// ```
/// # use twelvefold::{engine::{edge::*, wait::Event}, sync::Arc}; let event = Arc::new(Event::new());
/// let (mut tx, rx) = edge("e", 1, &event, &event);
/// tx.try_send(1).unwrap();
/// assert_eq!(tx.try_send(2), Err(SendError::Full(2)));
/// drop(rx);
/// assert_eq!(tx.try_send(2), Err(SendError::Closed(2)));
/// ```
#[derive(Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// No room now.
    Full(T),
    /// The receiver has gone; nobody will ever take it.
    Closed(T),
}

/// Why there is no item.
///
/// ```
/// # use twelvefold::{engine::{edge::*, wait::Event}, sync::Arc}; let event = Arc::new(Event::new());
/// let (tx, mut rx) = edge::<u32>("e", 1, &event, &event);
/// assert_eq!(rx.try_recv(), Err(RecvError::Empty));
/// drop(tx);
/// assert_eq!(rx.try_recv(), Err(RecvError::Closed));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// None now.
    Empty,
    /// The sender has gone and everything it sent has been taken.
    Closed,
}

/// An edge's counters at one moment.
///
/// ```
/// use twelvefold::engine::edge::EdgeCount;
///
/// let count = EdgeCount { items_in: 5, items_out: 3, abandoned: 1, ..EdgeCount::default() };
/// assert!(!count.balances(), "one item is still in the ring");
/// ```
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
    /// The most items seen in the ring at once: by a receiver that took from it, by a sender that
    /// found it full, or by this snapshot. Never above the capacity.
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
///
/// ```
/// # use twelvefold::{engine::{edge::*, wait::Event}, sync::Arc}; let event = Arc::new(Event::new());
/// let (mut tx, rx) = edge("e", 4, &event, &event);
/// let meter = tx.meter();
/// tx.send(1).unwrap();
/// drop((tx, rx));
/// assert_eq!((meter.count().items_in, meter.count().abandoned), (1, 1));
/// ```
#[derive(Clone)]
pub struct EdgeMeter(Arc<dyn Counted>);

trait Counted: Send + Sync {
    fn count(&self) -> EdgeCount;
    fn fill(&self) -> (u64, u64);
}

impl fmt::Debug for EdgeMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.count().fmt(f)
    }
}

impl EdgeMeter {
    /// The counters now. No snapshot shows more out than in; each of one edge's only grows.
    pub fn count(&self) -> EdgeCount {
        self.0.count()
    }

    /// Items in the ring now, and the items that it has room for. For people: an item that an end has
    /// moved and not counted yet may be missing or be one too many. Allocates nothing.
    ///
    /// ```
    /// # use twelvefold::{engine::{edge::*, wait::Event}, sync::Arc}; let event = Arc::new(Event::new());
    /// let (mut tx, mut rx) = edge("e", 4, &event, &event);
    /// tx.send(1).unwrap();
    /// tx.send(2).unwrap();
    /// assert_eq!(tx.meter().fill(), (2, 4));
    /// rx.recv();
    /// drop(rx);
    /// assert_eq!(tx.meter().fill(), (1, 4)); // Until the last end goes, and counts it abandoned.
    /// ```
    pub fn fill(&self) -> (u64, u64) {
        self.0.fill()
    }
}

#[derive(Debug, Default)]
struct SenderSide {
    items_in: AtomicU64,
    was_full: AtomicBool,
}

#[derive(Debug, Default)]
struct ReceiverSide {
    items_out: AtomicU64,
    abandoned: AtomicU64,
    high_water: AtomicU64,
}

#[derive(Debug)]
struct Shared<T> {
    name: String,
    capacity: u64,
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
        // Acquire: pairs with the AcqRel of both ends' drops, so that once both have gone what they
        // counted is final, and is shown as they counted it: it is the ledger.
        let both = SENDER_GONE | RECEIVER_GONE;
        let order = ordering_at("edge.count.acquire", Ordering::Acquire);
        let running = self.gone.load(order) & both != both;
        // Relaxed, all of them: the ends count after the act, so a snapshot may find an item out
        // that is not counted in yet. It was in, so it is counted here. Each of the three only grows,
        // and so does the larger of two that do.
        let items_out = self.receiver.items_out.load(Ordering::Relaxed);
        let abandoned = self.receiver.abandoned.load(Ordering::Relaxed);
        let left = items_out + abandoned;
        let sent = self.sender.items_in.load(Ordering::Relaxed);
        let items_in = if running { sent.max(left) } else { sent };
        let was_full = self.sender.was_full.load(Ordering::Relaxed);
        let seen =
            self.receiver.high_water.load(Ordering::Relaxed).max(items_in.saturating_sub(left));
        let high_water = if was_full { self.capacity } else { seen.min(self.capacity) };
        EdgeCount { name: self.name.clone(), items_in, items_out, abandoned, high_water }
    }

    fn fill(&self) -> (u64, u64) {
        // Relaxed, all of them: a number for people, and nothing is concluded from it. The loads are of
        // different moments, in no promised order: where more seems out than in, that is 0.
        let left = self.receiver.items_out.load(Ordering::Relaxed)
            + self.receiver.abandoned.load(Ordering::Relaxed);
        let held = self.sender.items_in.load(Ordering::Relaxed).saturating_sub(left);
        (held.min(self.capacity), self.capacity)
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
        capacity: capacity as u64,
        gone: CachePadded::new(AtomicU32::new(0)),
        sender: CachePadded::default(),
        receiver: CachePadded::default(),
        sender_event: sender_event.clone(),
        receiver_event: receiver_event.clone(),
        left: UnsafeCell::new(None),
    });
    (
        Sender { producer, shared: shared.clone(), sent: 0 },
        Receiver { consumer: Some(consumer), shared, taken: 0, abandoned: 0, high_water: 0 },
    )
}

/// An edge for itself, with room for `capacity` items: a bounded channel from one thread to another.
/// Each end has a sleeping place of its own, and may move to another thread at any time.
///
/// ```
/// use twelvefold::engine::edge::channel;
///
/// let (mut tx, rx) = channel(2);
/// let numbers = std::thread::spawn(move || (1..=4).try_for_each(|n| tx.send(n)));
/// assert_eq!(rx.sum::<u32>(), 10); // Ends when the sender has gone.
/// assert_eq!(numbers.join().unwrap(), Ok(()));
/// ```
///
/// # Panics
/// When `capacity` is 0.
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    edge("channel", capacity, &Arc::new(Event::new()), &Arc::new(Event::new()))
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
        self.receiver.abandoned.fetch_add(abandoned, Ordering::Relaxed);
    }
}
