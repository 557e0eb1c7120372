//! A bounded single-producer single-consumer ring: rtrb, or under a model checker
//! a stand-in that it can see into.
//!
//! The stand-in has rtrb's published orderings and no more: the producer stores the tail with
//! Release and loads the head with Acquire, the consumer the other way round, and there is no
//! fence and no read-modify-write that could hide one missing in our own code.

#[cfg(any(loom, shuttle))]
pub use stand_in::{Consumer, Producer, ring};

#[cfg(not(any(loom, shuttle)))]
pub use real::{Consumer, Producer, ring};

#[cfg(not(any(loom, shuttle)))]
mod real {
    #![expect(unsafe_code, reason = "items are moved in blocks")]

    use std::mem::ManuallyDrop;

    /// The writing end.
    ///
    /// ```
    /// use twelvefold::sync::ring::ring;
    ///
    /// let (mut producer, _consumer) = ring(3);
    /// assert_eq!(producer.push(1), Ok(()));
    /// assert_eq!((producer.cached_room(), producer.push_slice(&[2, 3, 4])), (2, 2));
    /// assert!(!producer.has_room());
    /// ```
    #[derive(Debug)]
    pub struct Producer<T>(rtrb::Producer<T>);

    /// The reading end.
    ///
    /// ```
    /// use twelvefold::sync::ring::ring;
    ///
    /// let (mut producer, mut consumer) = ring(3);
    /// producer.push_slice(&[1, 2, 3]);
    /// let mut chunk = [0; 2];
    /// assert_eq!((consumer.pop_slice(&mut chunk), chunk), (2, [1, 2]));
    /// assert_eq!(consumer.pop(), Some(3));
    /// assert!(consumer.is_empty());
    /// ```
    #[derive(Debug)]
    pub struct Consumer<T>(rtrb::Consumer<T>);

    /// A ring of `capacity` items.
    ///
    /// ```
    /// let (mut producer, mut consumer) = twelvefold::sync::ring::ring(1);
    /// assert_eq!([producer.push('a'), producer.push('b')], [Ok(()), Err('b')]);
    /// assert_eq!([consumer.pop(), consumer.pop()], [Some('a'), None]);
    /// ```
    pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let (producer, consumer) = rtrb::RingBuffer::new(capacity);
        (Producer(producer), Consumer(consumer))
    }

    impl<T> Producer<T> {
        /// Whether there is room for one item. The other end's index is reloaded only when the
        /// copy kept here says "full".
        #[inline]
        pub fn has_room(&self) -> bool {
            !self.0.is_full()
        }

        /// Room for this many items at least, as this end last saw it.
        #[inline]
        pub fn cached_room(&self) -> usize {
            self.0.cached_slots()
        }

        /// Room for this many items, by a look at the other end's index.
        #[inline]
        pub fn room(&self) -> usize {
            self.0.slots()
        }

        /// Moves the first of `items`, as many as there is room for, to the ring, published at once; how
        /// many they were. They are copied as a block: lines that the other core holds are then asked
        /// for one after the other and not item by item.
        ///
        /// ```
        /// let (mut producer, mut consumer) = twelvefold::sync::ring::ring(2);
        /// let mut items = vec!["a", "b", "c"];
        /// assert_eq!((producer.push_front_of(&mut items), items), (2, vec!["c"]));
        /// assert_eq!(consumer.pop(), Some("a"));
        /// ```
        pub fn push_front_of(&mut self, items: &mut Vec<T>) -> usize {
            let mut fits = items.len().min(self.0.cached_slots());
            if fits < items.len() {
                fits = items.len().min(self.0.slots());
            }
            let Ok(mut chunk) = self.0.write_chunk_uninit(fits) else { return 0 };
            let (first, second) = chunk.as_mut_slices();
            let (from, ahead) = (items.as_mut_ptr(), first.len());
            let left = items.len() - fits;
            // SAFETY: 0 is no more than the capacity. From here on the items are in nobody's hands; a
            // panic would leak them, and there is none before `commit`.
            unsafe { items.set_len(0) };
            // SAFETY: the vector still has its memory, of which the first `ahead` items are read, and
            // `first` has room for them; the ring's memory is another.
            unsafe { first.as_mut_ptr().cast::<T>().copy_from_nonoverlapping(from, ahead) };
            // SAFETY: `ahead` and the length of `second` add up to `fits`, no more than there were items.
            let rest = unsafe { from.add(ahead) };
            // SAFETY: as for `first`.
            unsafe { second.as_mut_ptr().cast::<T>().copy_from_nonoverlapping(rest, second.len()) };
            // SAFETY: `fits` is no more than the number of items that there were.
            let tail = unsafe { from.add(fits) };
            // SAFETY: both ends lie within the vector's memory, and may overlap.
            unsafe { from.copy_from(tail, left) };
            // SAFETY: the first `left` items are now those behind the ones that were moved.
            unsafe { items.set_len(left) };
            // SAFETY: all slots of both slices, `fits` in all, have been written.
            unsafe { chunk.commit_all() };
            fits
        }

        /// Appends an item, or gives it back when the ring is full.
        ///
        /// # Errors
        /// The item, when there is no room.
        #[inline]
        pub fn push(&mut self, item: T) -> Result<(), T> {
            self.0.push(item).map_err(|rtrb::PushError::Full(item)| item)
        }

        /// Appends as many of `items` as there is room for, published at once; how many they were.
        #[inline]
        pub fn push_slice(&mut self, items: &[T]) -> usize
        where
            T: Copy,
        {
            self.0.push_partial_slice(items).0.len()
        }
    }

    impl<T> Consumer<T> {
        /// Whether nothing is there now.
        #[inline]
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        /// So many items at least are there, as this end last saw it.
        ///
        /// ```
        /// let (mut producer, mut consumer) = twelvefold::sync::ring::ring(4);
        /// assert!(producer.push(1).is_ok() && producer.push(2).is_ok());
        /// assert_eq!((consumer.pop(), consumer.cached_len()), (Some(1), 1));
        /// ```
        #[inline]
        pub fn cached_len(&self) -> usize {
            self.0.cached_slots()
        }

        /// Takes the oldest item.
        #[inline]
        pub fn pop(&mut self) -> Option<T> {
            self.0.pop().ok()
        }

        /// Moves up to `max` items to the end of `out`, released at once; how many they were.
        pub fn pop_into(&mut self, out: &mut Vec<T>, max: usize) -> usize {
            let there = self.0.slots().min(max);
            let Ok(chunk) = self.0.read_chunk(there) else { return 0 };
            out.reserve(there);
            let (first, second) = chunk.as_slices();
            let to = out.spare_capacity_mut().as_mut_ptr().cast::<T>();
            // SAFETY: there is room for `there` items, of which `first` holds the first ones; the ring's
            // memory is another.
            unsafe { to.copy_from_nonoverlapping(first.as_ptr(), first.len()) };
            // SAFETY: `first` and `second` hold `there` items together.
            let rest = unsafe { to.add(first.len()) };
            // SAFETY: as for `first`.
            unsafe { rest.copy_from_nonoverlapping(second.as_ptr(), second.len()) };
            // The ring gives its slots free without a drop only to who takes the items.
            chunk.into_iter().map(ManuallyDrop::new).for_each(drop);
            // SAFETY: so many items stand behind the old ones, and nobody else will use or drop them.
            unsafe { out.set_len(out.len() + there) };
            there
        }

        /// Fills the front of `out` with what is there, released at once; how many they were.
        #[inline]
        pub fn pop_slice(&mut self, out: &mut [T]) -> usize
        where
            T: Copy,
        {
            self.0.pop_partial_slice(out).0.len()
        }
    }
}

#[cfg(any(loom, shuttle))]
mod stand_in {
    #![expect(unsafe_code, reason = "a ring of cells that loom checks access by access")]

    use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

    #[derive(Debug)]
    struct Shared<T> {
        slots: Box<[UnsafeCell<Option<T>>]>,
        head: AtomicUsize,
        tail: AtomicUsize,
    }

    // SAFETY: a slot is touched by the producer alone while it is outside head..tail and by the
    // consumer alone while it is inside; the Release store and Acquire load of the index hand it
    // over. loom checks just that.
    unsafe impl<T: Send> Sync for Shared<T> {}
    // SAFETY: as above; the items themselves are Send.
    unsafe impl<T: Send> Send for Shared<T> {}

    /// The writing end.
    #[derive(Debug)]
    pub struct Producer<T>(Arc<Shared<T>>);

    /// The reading end.
    #[derive(Debug)]
    pub struct Consumer<T>(Arc<Shared<T>>);

    /// A ring of `capacity` items.
    pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let shared = Arc::new(Shared {
            slots: (0..capacity).map(|_| UnsafeCell::new(None)).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        });
        (Producer(shared.clone()), Consumer(shared))
    }

    impl<T> Producer<T> {
        /// Whether there is room for one item.
        pub fn has_room(&self) -> bool {
            self.cached_room() > 0
        }

        /// Room for this many items.
        pub fn cached_room(&self) -> usize {
            let shared = &self.0;
            // Only this end writes `tail`; the Acquire pairs with the consumer's Release of `head`,
            // which says that the slot has been emptied.
            let used = shared.tail.load(Ordering::Relaxed) - shared.head.load(Ordering::Acquire);
            shared.slots.len() - used
        }

        /// Room for this many items.
        pub fn room(&self) -> usize {
            self.cached_room()
        }

        /// Moves the first of `items`, as many as there is room for, to the ring; how many they were.
        pub fn push_front_of(&mut self, items: &mut Vec<T>) -> usize {
            let fits = items.len().min(self.cached_room());
            items.drain(..fits).filter_map(|item| self.push(item).ok()).count()
        }

        /// Appends an item, or gives it back when the ring is full.
        ///
        /// # Errors
        /// The item, when there is no room.
        pub fn push(&mut self, item: T) -> Result<(), T> {
            if !self.has_room() {
                return Err(item);
            }
            let shared = &self.0;
            let tail = shared.tail.load(Ordering::Relaxed);
            // SAFETY: there is room, so the slot at `tail` is outside head..tail: the producer's.
            shared.slots[tail % shared.slots.len()].with_mut(|slot| unsafe { *slot = Some(item) });
            // Pairs with the consumer's Acquire of `tail`: the item is written before it is seen.
            shared.tail.store(tail + 1, Ordering::Release);
            Ok(())
        }

        /// Appends as many of `items` as there is room for; how many they were.
        pub fn push_slice(&mut self, items: &[T]) -> usize
        where
            T: Copy,
        {
            items.iter().take_while(|item| self.push(**item).is_ok()).count()
        }
    }

    impl<T> Consumer<T> {
        /// Whether nothing is there now.
        pub fn is_empty(&self) -> bool {
            // Pairs with the producer's Release of `tail`.
            self.0.tail.load(Ordering::Acquire) == self.0.head.load(Ordering::Relaxed)
        }

        /// So many items are there.
        pub fn cached_len(&self) -> usize {
            // Relaxed: nothing is read because of it; a real cached index is older still.
            self.0.tail.load(Ordering::Relaxed) - self.0.head.load(Ordering::Relaxed)
        }

        /// Takes the oldest item.
        pub fn pop(&mut self) -> Option<T> {
            if self.is_empty() {
                return None;
            }
            let shared = &self.0;
            let head = shared.head.load(Ordering::Relaxed);
            // SAFETY: the ring is not empty, so the slot at `head` is inside head..tail: ours.
            let item =
                shared.slots[head % shared.slots.len()].with_mut(|slot| unsafe { (*slot).take() });
            // Pairs with the producer's Acquire of `head`: the slot is empty before it is reused.
            shared.head.store(head + 1, Ordering::Release);
            item
        }

        /// Moves up to `max` items to the end of `out`; how many they were.
        pub fn pop_into(&mut self, out: &mut Vec<T>, max: usize) -> usize {
            let before = out.len();
            out.extend(std::iter::from_fn(|| self.pop()).take(max));
            out.len() - before
        }

        /// Fills the front of `out` with what is there; how many they were.
        pub fn pop_slice(&mut self, out: &mut [T]) -> usize
        where
            T: Copy,
        {
            let mut taken = 0;
            while taken < out.len() {
                let Some(item) = self.pop() else { break };
                out[taken] = item;
                taken += 1;
            }
            taken
        }
    }
}
