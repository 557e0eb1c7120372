//! The link that crosses machines: MPI's point-to-point messages.
//!
//! A process belongs to a run of several when a launcher such as `mpirun` started it ([`is_launched`]);
//! only then may it [`join`](Mpi::join), and MPI is initialised. The thread that joins is the one that
//! calls MPI from then on: `Mpi` cannot be sent to another.
//!
//! | of a message | from its begin to its end | then |
//! |---|---|---|
//! | buffer | owned here, beside its request; nobody else can reach it | given back by `progress` |
//! | request | in one array that MPI tests as a whole | taken out; the order of the rest stays |
//!
//! MPI moves messages on only while it is called, by the receiver and for large messages by both sides.
//! A message that is larger than its room, and every error that MPI finds, ends the job
//! (`MPI_ERRORS_ARE_FATAL`). So does an `Mpi` that is dropped in a panic: the others wait for what will not
//! come. One that is dropped otherwise leaves the job open, so that the reason can be told before
//! [`abort_if_open`] ends it. Only [`Link::close`] ends MPI, in which it waits for the others to do the same.
//!
//! Two receives with one sender and tag take their messages in the order in which both were begun; the
//! second may be done first, where its message is the smaller one.

#![expect(unsafe_code, reason = "the calls of MPI are C")]

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;

use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::AsRaw;
use mpi::{Threading, environment, ffi};

use super::{Done, Key, Link, Words};
use crate::Error;

/// Tags are below this.
const TAGS: u32 = 1 << 16;

/// Whether a launcher of MPI started this process: Open MPI's `mpirun`, one that speaks PMI (MPICH and
/// Intel MPI), or one that speaks PMIx (Slurm's `srun --mpi=pmix`).
///
/// ```
/// // Nothing of the kind runs this example.
/// assert!(!twelvefold::ranks::mpi::is_launched());
/// ```
pub fn is_launched() -> bool {
    let signs = ["OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK"];
    signs.iter().any(|sign| std::env::var_os(sign).is_some())
}

/// Ends the processes of all ranks where this one has joined them and its link was dropped and not closed:
/// after an error, of which the caller has told.
///
/// ```
/// twelvefold::ranks::mpi::abort_if_open(1); // Nobody has joined.
/// ```
pub fn abort_if_open(code: u8) {
    if environment::is_initialized() && !environment::is_finalized() {
        SimpleCommunicator::world().abort(c_int::from(code))
    }
}

/// One rank's end of the ties of an MPI job.
///
/// A message has at most 2,147,483,647 words (8 GiB); [`Link::send`] and [`Link::receive`] panic beyond.
///
/// ```no_run
/// use twelvefold::ranks::mpi::{Mpi, is_launched};
/// use twelvefold::ranks::{Done, Link, Patience};
///
/// # fn main() -> Result<(), twelvefold::Error> {
/// if is_launched() {
///     let mut link = Mpi::join()?;
///     let (next, before) = ((link.rank() + 1) % link.ranks(), link.ranks() - 1 + link.rank());
///     link.receive(before % link.ranks(), 7, 0, vec![0; 10]);
///     link.send(next, 7, 1, vec![1, 2, 3]);
///     let (mut left, mut patience) = (2, Patience::default());
///     while left > 0 {
///         match link.progress() {
///             Some(Done::Received { words, .. }) => assert_eq!(words, [1, 2, 3]),
///             Some(Done::Sent { .. }) => {}
///             None => {
///                 patience.pause();
///                 continue;
///             }
///         }
///         left -= 1;
///         patience.reset();
///     }
///     Box::new(link).close();
/// }
/// # Ok(())
/// # }
/// ```
pub struct Mpi {
    rank: usize,
    ranks: usize,
    host: String,
    /// A duplicate of the world, so that no other library's messages can be taken for ours.
    communicator: ffi::MPI_Comm,
    /// Of the messages under way, each at the same place as in `messages`.
    requests: Vec<ffi::MPI_Request>,
    messages: Vec<Option<Message>>,
    /// Where MPI writes which requests are done, and what of them; used again by each look.
    indices: Vec<c_int>,
    statuses: Vec<MaybeUninit<ffi::MPI_Status>>,
    done: VecDeque<Done>,
    /// Its drop is the end of MPI, in which it waits for the others.
    universe: Option<environment::Universe>,
}

/// A message under way. MPI reads or writes its buffer until the request is done.
#[derive(Debug)]
enum Message {
    /// Shared by the sends of one `send_all`: the last that is done gives the buffer back.
    Send {
        key: Key,
        words: Rc<Words>,
    },
    Receive {
        key: Key,
        from: usize,
        room: Words,
    },
}

impl Mpi {
    /// Joins the others, and returns when all have joined.
    ///
    /// # Errors
    /// When MPI is initialised already, or cannot do what is needed of it.
    pub fn join() -> Result<Self, Error> {
        let started = mpi::initialize_with_threading(Threading::Funneled);
        let Some((universe, provided)) = started else {
            return Err(Error::input("MPI is initialised already", ""));
        };
        if provided < Threading::Funneled {
            let hint = "use an MPI that was built with support for threads";
            return Err(Error::input(
                "this MPI allows no threads beside the one that calls it",
                hint,
            ));
        }
        let world = universe.world();
        let tags = tags(&world);
        if tags < TAGS {
            return Err(Error::input(format!("this MPI has {tags} tags: {TAGS} are needed"), ""));
        }
        let mut communicator = world.as_raw();
        // SAFETY: MPI is initialised, and both handles are valid for the call.
        let code = unsafe { ffi::MPI_Comm_dup(world.as_raw(), &raw mut communicator) };
        check("MPI_Comm_dup", code);
        Ok(Mpi {
            rank: number(world.rank()),
            ranks: number(world.size()),
            host: environment::processor_name().unwrap_or_default(),
            communicator,
            requests: Vec::new(),
            messages: Vec::new(),
            indices: Vec::new(),
            statuses: Vec::new(),
            done: VecDeque::new(),
            universe: Some(universe),
        })
    }

    /// Begins one send of a buffer that others may share.
    fn start_send(&mut self, to: usize, tag: u32, key: Key, words: &Rc<Words>) {
        let (count, to, tag) = (count(words), self.peer(to), checked(tag));
        let buffer = words.as_ptr().cast::<c_void>();
        let mut request = no_request();
        // SAFETY: `buffer` holds `count` words. `messages` keeps its `Rc`, through which nobody writes,
        // until `look` has seen the request done; if that never comes, the drop leaks it.
        let code = unsafe {
            ffi::MPI_Isend(buffer, count, word(), to, tag, self.communicator, &raw mut request)
        };
        check("MPI_Isend", code);
        self.requests.push(request);
        self.messages.push(Some(Message::Send { key, words: Rc::clone(words) }));
    }

    /// Another rank, as MPI numbers it.
    fn peer(&self, rank: usize) -> c_int {
        assert!(rank < self.ranks && rank != self.rank, "rank {rank} of {}", self.ranks);
        rank as c_int
    }

    /// Lets MPI move messages on, and takes out those that are done; whether any was.
    fn look(&mut self) -> bool {
        let pending = self.requests.len();
        if pending == 0 {
            self.nudge();
            return false;
        }
        self.indices.resize(pending, 0);
        self.statuses.resize_with(pending, MaybeUninit::uninit);
        let mut found = 0;
        // SAFETY: the three arrays have `pending` places. Each request is one that a begin put there and
        // no look has seen done, and its buffer is in `messages`.
        let code = unsafe {
            ffi::MPI_Testsome(
                pending as c_int,
                self.requests.as_mut_ptr(),
                &raw mut found,
                self.indices.as_mut_ptr(),
                self.statuses.as_mut_ptr().cast(),
            )
        };
        check("MPI_Testsome", code);
        let found = number(found);
        if found > 0 {
            self.take(found);
        }
        found > 0
    }

    /// Takes out the requests that `indices[..found]` tells of, and their messages.
    fn take(&mut self, found: usize) {
        for (&index, status) in self.indices[..found].iter().zip(&self.statuses) {
            match self.messages[number(index)].take() {
                Some(Message::Send { key, words }) => {
                    self.done.extend(Rc::into_inner(words).map(|words| Done::Sent { key, words }));
                }
                Some(Message::Receive { key, from, mut room }) => {
                    room.truncate(came(status));
                    self.done.push_back(Done::Received { key, from, words: room });
                }
                None => {}
            }
        }
        // MPI has put "no request" in the place of each that is done.
        let none = no_request();
        self.requests.retain(|&request| request != none);
        self.messages.retain(Option::is_some);
    }

    /// Lets MPI work where it has no message of ours: some have done their part by our side, and are
    /// still on their way.
    fn nudge(&self) {
        let (any, tag) = (any_source(), any_tag());
        let mut is_there = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::uninit();
        // SAFETY: the communicator is valid, and MPI writes to the two places during the call only.
        let code = unsafe {
            ffi::MPI_Iprobe(any, tag, self.communicator, &raw mut is_there, status.as_mut_ptr())
        };
        check("MPI_Iprobe", code);
    }
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn host(&self) -> String {
        self.host.clone()
    }

    fn send(&mut self, to: usize, tag: u32, key: Key, words: Words) {
        self.start_send(to, tag, key, &Rc::new(words));
    }

    fn send_all(&mut self, tag: u32, key: Key, words: Words) {
        let words = Rc::new(words);
        // Each rank begins with the one after it, so that not all send to one.
        for to in (self.rank + 1..self.ranks).chain(0..self.rank) {
            self.start_send(to, tag, key, &words);
        }
        // Alone there is nobody to wait for.
        self.done.extend(Rc::into_inner(words).map(|words| Done::Sent { key, words }));
    }

    fn receive(&mut self, from: usize, tag: u32, key: Key, mut room: Words) {
        let (count, peer, tag) = (count(&room), self.peer(from), checked(tag));
        let buffer = room.as_mut_ptr().cast::<c_void>();
        let mut request = no_request();
        // SAFETY: `buffer` has `count` words, which `room` owns. `messages` keeps it, untouched, until
        // `look` has seen the request done; if that never comes, the drop leaks it.
        let code = unsafe {
            ffi::MPI_Irecv(buffer, count, word(), peer, tag, self.communicator, &raw mut request)
        };
        check("MPI_Irecv", code);
        self.requests.push(request);
        self.messages.push(Some(Message::Receive { key, from, room }));
    }

    fn progress(&mut self) -> Option<Done> {
        // Open MPI looks first, and lets messages move on where none is done: the second look finds what
        // that brought, before the caller goes to sleep.
        if self.done.is_empty() && !self.look() {
            self.look();
        }
        self.done.pop_front()
    }

    fn close(mut self: Box<Self>) {
        assert!(self.requests.is_empty(), "{} messages under way", self.requests.len());
        // SAFETY: the duplicate that `join` made, with no message under way. It is not used again.
        let code = unsafe { ffi::MPI_Comm_free(&raw mut self.communicator) };
        check("MPI_Comm_free", code);
        drop(self.universe.take());
    }

    fn abort(&self, code: u8) -> ! {
        SimpleCommunicator::world().abort(c_int::from(code))
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort(101);
        }
        // Not closed: MPI may still use the buffers, and ends with the process only.
        if let Some(universe) = self.universe.take() {
            std::mem::take(&mut self.messages).leak();
            Box::leak(Box::new(universe));
        }
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi")
            .field("rank", &self.rank)
            .field("ranks", &self.ranks)
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// How many tags there are.
fn tags(world: &SimpleCommunicator) -> u32 {
    let mut highest = ptr::null_mut::<c_int>();
    let mut is_set = 0;
    let key = ffi::MPI_TAG_UB as c_int;
    let place = (&raw mut highest).cast::<c_void>();
    // SAFETY: MPI writes a pointer to an int of its own to `place`.
    let code = unsafe { ffi::MPI_Comm_get_attr(world.as_raw(), key, place, &raw mut is_set) };
    check("MPI_Comm_get_attr", code);
    if is_set == 0 || highest.is_null() {
        return 0;
    }
    // SAFETY: the int lives as long as MPI, which is initialised.
    let highest = unsafe { *highest };
    u32::try_from(highest).map_or(0, |highest| highest.saturating_add(1))
}

/// How many words came.
fn came(status: &MaybeUninit<ffi::MPI_Status>) -> usize {
    let mut count = 0;
    // SAFETY: `MPI_Testsome` has written this status, of a receive of words.
    let code = unsafe { ffi::MPI_Get_count(status.as_ptr(), word(), &raw mut count) };
    check("MPI_Get_count", code);
    number(count)
}

/// As MPI counts.
fn count(words: &Words) -> c_int {
    c_int::try_from(words.len())
        .unwrap_or_else(|_| panic!("{} words: MPI takes {} a message", words.len(), c_int::MAX))
}

/// As this crate counts.
fn number(number: c_int) -> usize {
    usize::try_from(number).unwrap_or_else(|_| panic!("{number} is no number of anything"))
}

fn checked(tag: u32) -> c_int {
    assert!(tag < TAGS, "tag {tag}");
    tag as c_int
}

/// MPI's errors end the job; one that came here nonetheless must not pass for a success.
fn check(what: &str, code: c_int) {
    assert!(code == ffi::MPI_SUCCESS as c_int, "{what} failed with {code}");
}

fn word() -> ffi::MPI_Datatype {
    // SAFETY: a constant.
    unsafe { ffi::RSMPI_UINT32_T }
}

fn no_request() -> ffi::MPI_Request {
    // SAFETY: a constant.
    unsafe { ffi::RSMPI_REQUEST_NULL }
}

fn any_source() -> c_int {
    // SAFETY: a constant.
    unsafe { ffi::RSMPI_ANY_SOURCE }
}

fn any_tag() -> c_int {
    // SAFETY: a constant.
    unsafe { ffi::RSMPI_ANY_TAG }
}
