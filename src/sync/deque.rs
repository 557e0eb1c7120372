//! A first-in first-out deque with one owner and many thieves: crossbeam-deque, or under a model
//! checker a stand-in that it can see into.
//!
//! The stand-in is weaker than the real one: emptiness may be stale, a lost race says
//! [`Steal::Retry`], there is no fence anywhere, and a batch is at most two items.

pub use crossbeam_deque::Steal;

#[cfg(not(any(loom, shuttle)))]
pub use real::{Stealer, Worker};
#[cfg(any(loom, shuttle))]
pub use stand_in::{Stealer, Worker};

#[cfg(not(any(loom, shuttle)))]
mod real {
    use super::Steal;

    /// The owner's end.
    ///
    /// ```
    /// use twelvefold::sync::deque::Worker;
    ///
    /// let worker = Worker::new();
    /// worker.push("first");
    /// worker.push("second");
    /// let thief = worker.stealer();
    /// assert_eq!((worker.pop(), worker.len()), (Some("first"), 1));
    /// assert!(thief.steal().is_success() && worker.is_empty());
    /// ```
    #[derive(Debug)]
    pub struct Worker<T>(crossbeam_deque::Worker<T>);

    /// A thief's end; any number of them.
    ///
    /// ```
    /// use twelvefold::sync::deque::{Steal, Worker};
    ///
    /// let (victim, thief) = (Worker::new(), Worker::new());
    /// (1..=5).for_each(|item| victim.push(item));
    /// let stealer = victim.stealer();
    /// assert_eq!(stealer.steal(), Steal::Success(1));
    /// // One to keep at hand, and half of the rest, but no more than two in all.
    /// assert_eq!(stealer.steal_batch_and_pop(&thief, 2), Steal::Success(2));
    /// assert_eq!((thief.pop(), victim.pop()), (Some(3), Some(4)));
    /// ```
    #[derive(Debug, Clone)]
    pub struct Stealer<T>(crossbeam_deque::Stealer<T>);

    impl<T> Worker<T> {
        /// An empty deque.
        #[expect(clippy::new_without_default, reason = "a queue is made on purpose")]
        pub fn new() -> Self {
            Worker(crossbeam_deque::Worker::new_fifo())
        }

        /// A thief's end of this deque.
        pub fn stealer(&self) -> Stealer<T> {
            Stealer(self.0.stealer())
        }

        /// Appends an item.
        #[inline]
        pub fn push(&self, item: T) {
            self.0.push(item);
        }

        /// Takes the oldest item.
        #[inline]
        pub fn pop(&self) -> Option<T> {
            self.0.pop()
        }

        /// How many items are here now; thieves may make it fewer.
        #[inline]
        pub fn len(&self) -> usize {
            self.0.len()
        }

        /// Whether nothing is here now.
        #[inline]
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    impl<T> Stealer<T> {
        /// Takes the oldest item.
        #[inline]
        pub fn steal(&self) -> Steal<T> {
            self.0.steal()
        }

        /// Takes the oldest item and moves up to half of the rest, `limit` items in all at most,
        /// to `dest`.
        #[inline]
        pub fn steal_batch_and_pop(&self, dest: &Worker<T>, limit: usize) -> Steal<T> {
            self.0.steal_batch_with_limit_and_pop(&dest.0, limit)
        }
    }
}

#[cfg(any(loom, shuttle))]
mod stand_in {
    #![expect(unsafe_code, reason = "an array of cells whose accesses loom checks")]

    use super::Steal;
    use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

    /// A model pushes no more than this in all: slots are never reused. shuttle's have more workers.
    const SLOTS: usize = if cfg!(shuttle) { 128 } else { 8 };

    #[derive(Debug)]
    struct Shared<T> {
        slots: Box<[UnsafeCell<Option<T>>]>,
        head: AtomicUsize,
        tail: AtomicUsize,
    }

    // SAFETY: a slot is written once, by the owner, before the Release store of `tail`, and taken
    // once, by whoever moved `head` past it.
    unsafe impl<T: Send> Sync for Shared<T> {}
    // SAFETY: as above; the items themselves are Send.
    unsafe impl<T: Send> Send for Shared<T> {}

    impl<T> Shared<T> {
        fn steal(&self) -> Steal<T> {
            let head = self.head.load(Ordering::Acquire);
            // Pairs with the owner's Release: the item is written before it is seen.
            if head >= self.tail.load(Ordering::Acquire) {
                return Steal::Empty;
            }
            let won =
                self.head.compare_exchange(head, head + 1, Ordering::AcqRel, Ordering::Relaxed);
            if won.is_err() {
                return Steal::Retry;
            }
            // SAFETY: this thread alone moved `head` past the slot, and slots are not reused.
            match self.slots[head].with_mut(|slot| unsafe { (*slot).take() }) {
                Some(item) => Steal::Success(item),
                None => Steal::Empty,
            }
        }
    }

    /// The owner's end.
    #[derive(Debug)]
    pub struct Worker<T>(Arc<Shared<T>>);

    /// A thief's end; any number of them.
    #[derive(Debug)]
    pub struct Stealer<T>(Arc<Shared<T>>);

    impl<T> Clone for Stealer<T> {
        fn clone(&self) -> Self {
            Stealer(self.0.clone())
        }
    }

    impl<T> Worker<T> {
        /// An empty deque.
        #[expect(clippy::new_without_default, reason = "a queue is made on purpose")]
        pub fn new() -> Self {
            Worker(Arc::new(Shared {
                slots: (0..SLOTS).map(|_| UnsafeCell::new(None)).collect(),
                head: AtomicUsize::new(0),
                tail: AtomicUsize::new(0),
            }))
        }

        /// A thief's end of this deque.
        pub fn stealer(&self) -> Stealer<T> {
            Stealer(self.0.clone())
        }

        /// Appends an item.
        pub fn push(&self, item: T) {
            let tail = self.0.tail.load(Ordering::Relaxed);
            // SAFETY: no thief looks at a slot at or past `tail`, and only the owner moves `tail`.
            self.0.slots[tail].with_mut(|slot| unsafe { *slot = Some(item) });
            // Pairs with the thief's Acquire of `tail`.
            self.0.tail.store(tail + 1, Ordering::Release);
        }

        /// Takes the oldest item.
        pub fn pop(&self) -> Option<T> {
            loop {
                match self.0.steal() {
                    Steal::Success(item) => return Some(item),
                    Steal::Empty => return None,
                    Steal::Retry => {}
                }
            }
        }

        /// How many items are here now; thieves may make it fewer.
        pub fn len(&self) -> usize {
            let tail = self.0.tail.load(Ordering::Relaxed);
            tail - self.0.head.load(Ordering::Relaxed).min(tail)
        }

        /// Whether nothing is here now.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }

    impl<T> Stealer<T> {
        /// Takes the oldest item.
        pub fn steal(&self) -> Steal<T> {
            self.0.steal()
        }

        /// Takes the oldest item and moves one more to `dest` where `limit` allows it.
        pub fn steal_batch_and_pop(&self, dest: &Worker<T>, limit: usize) -> Steal<T> {
            let first = self.0.steal();
            if limit > 1
                && first.is_success()
                && let Steal::Success(second) = self.0.steal()
            {
                dest.push(second);
            }
            first
        }
    }
}
