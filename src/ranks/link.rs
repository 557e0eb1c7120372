//! How ranks speak: messages that are begun, and are done some time later.

use std::fmt;
use std::time::Duration;

use crate::sync::{spin_hint, yield_now};

/// What a message carries: 32-bit words in the machine's byte order, f32 among them as their bits.
///
/// ```
/// let floats = vec![1.5f32, -0.0];
/// let words: twelvefold::ranks::Words = floats.iter().map(|x| x.to_bits()).collect();
/// assert_eq!(f32::from_bits(words[0]), 1.5);
/// ```
pub type Words = Vec<u32>;

/// A number by which the caller knows a message again when it is done.
///
/// ```
/// let (tile, node) = (7, 2);
/// let key: twelvefold::ranks::Key = tile << 32 | node;
/// assert_eq!((key >> 32, key as u32), (7, 2));
/// ```
pub type Key = u64;

/// A message that is done.
///
/// ```
/// use twelvefold::ranks::Done;
///
/// let done = Done::Received { key: 7, from: 1, words: vec![1, 2] };
/// assert!(matches!(done, Done::Received { from: 1, .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It has left; here is its buffer.
    Sent {
        /// As it was begun with.
        key: Key,
        /// The buffer, as it was sent.
        words: Words,
    },
    /// It has come.
    Received {
        /// As it was begun with.
        key: Key,
        /// Who sent it.
        from: usize,
        /// What came, in the buffer that was given.
        words: Words,
    },
}

/// One rank's end of what ties the ranks of a run together.
///
/// Begun messages move on when [`Link::progress`] is called, and each is given out by it once. Messages
/// from one rank to another with one tag arrive in the order in which they were sent; of different tags
/// nothing is promised. A link that fails ends the process: a job that has lost a rank cannot go on.
///
/// The link of a rank that is alone, over which nothing goes:
///
/// ```
/// use twelvefold::ranks::{Done, Key, Link, Words};
///
/// #[derive(Debug, Default)]
/// struct Alone {
///     sent: Vec<Done>,
/// }
///
/// impl Link for Alone {
///     fn rank(&self) -> usize {
///         0
///     }
///     fn ranks(&self) -> usize {
///         1
///     }
///     fn host(&self) -> String {
///         "here".to_owned()
///     }
///     fn send(&mut self, to: usize, _tag: u32, _key: Key, _words: Words) {
///         panic!("there is no rank {to}");
///     }
///     fn send_all(&mut self, _tag: u32, key: Key, words: Words) {
///         self.sent.push(Done::Sent { key, words }); // All others have it.
///     }
///     fn receive(&mut self, from: usize, _tag: u32, _key: Key, _room: Words) {
///         panic!("there is no rank {from}");
///     }
///     fn progress(&mut self) -> Option<Done> {
///         self.sent.pop()
///     }
///     fn close(self: Box<Self>) {}
///     fn abort(&self, code: u8) -> ! {
///         std::process::exit(code.into())
///     }
/// }
///
/// let mut link = Alone::default();
/// link.send_all(7, 1, vec![5]);
/// assert_eq!(link.progress(), Some(Done::Sent { key: 1, words: vec![5] }));
/// assert_eq!(link.progress(), None);
/// ```
pub trait Link: fmt::Debug {
    /// This rank's number.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// The name of the machine.
    fn host(&self) -> String;

    /// Begins to send.
    fn send(&mut self, to: usize, tag: u32, key: Key, words: Words);

    /// Begins to send to all others. The buffer comes back once, when all have it.
    fn send_all(&mut self, tag: u32, key: Key, words: Words);

    /// Begins to receive into `room`, of which the length says how much may come at most.
    fn receive(&mut self, from: usize, tag: u32, key: Key, room: Words);

    /// Moves all begun messages on; the next of those that are done, if any is.
    fn progress(&mut self) -> Option<Done>;

    /// Ends this rank's part: waits until all others close theirs. Nothing may be under way.
    ///
    /// A link that is dropped instead waits for nobody, since a rank that failed is one that others wait
    /// for: the job is then still open, and the caller ends it.
    fn close(self: Box<Self>);

    /// Ends the processes of all ranks at once.
    fn abort(&self, code: u8) -> !;
}

/// How a rank waits for others: it looks often at first, then gives its time slices away, then sleeps.
///
/// A link gives no wake to sleep on, and a look costs a system call at times: on a machine with more ranks
/// than cores a rank that only looked would keep others from what it waits for.
///
/// ```
/// use twelvefold::ranks::Patience;
///
/// let mut patience = Patience::default();
/// (0..2_000).for_each(|_| patience.pause()); // The first of them take microseconds.
/// patience.reset();
/// ```
#[derive(Debug, Default)]
pub struct Patience {
    pauses: u32,
}

/// Looks with nothing between.
const LOOKS: u32 = 50;
/// Then this many with a yield between: about a millisecond where nobody else wants the core.
const YIELDS: u32 = 1_000;
/// And then it sleeps between looks.
const NAP: Duration = Duration::from_micros(100);

impl Patience {
    /// Waits a little.
    pub fn pause(&mut self) {
        self.pauses = self.pauses.saturating_add(1);
        if self.pauses < LOOKS {
            spin_hint();
        } else if self.pauses < LOOKS + YIELDS {
            yield_now();
        } else {
            std::thread::sleep(NAP);
        }
    }

    /// Something has come: begins anew.
    pub fn reset(&mut self) {
        self.pauses = 0;
    }
}
