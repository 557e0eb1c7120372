//! Named threads that are all joined, whatever happens.
//!
//! Each thread runs one body. A body that returns an error or panics poisons the run, which wakes
//! everybody; [`Crew::join`] waits for all threads and returns the first fault with the panic's
//! own payload. A thread that the system refuses stops and joins those that were started.

use super::error::{BoxError, Cause, Error, Fault, Payload};
use super::shutdown::Shutdown;
#[cfg(not(any(loom, shuttle)))]
use super::trace::{Mark, Recorder};
use super::wait::census;
use crate::sync::{Arc, JoinHandle, spawn_named};
#[cfg(not(any(loom, shuttle)))]
use crate::sync::{Scope, ScopedJoinHandle, spawn_scoped};
use std::cell::Cell;
#[cfg(not(any(loom, shuttle)))]
use std::cell::RefCell;
use std::{io, thread};

/// What a thread knows of its place.
///
/// ```
/// use twelvefold::engine::{Error, crew::Crew, shutdown::Shutdown};
/// use twelvefold::sync::Arc;
///
/// let mut crew = Crew::new(Arc::new(Shutdown::new()));
/// crew.spawn("tf-worker-3", "compute", 3, |seat| {
///     seat.at(7); // What is at hand when something fails,
///     seat.lend(Some("update")); // and for whom.
///     seat.fail(); // Stops the others before this body has returned.
///     assert!(seat.shutdown().is_stopped());
///     Err("no floor".into())
/// })?;
/// let message = crew.join().unwrap_err().to_string();
/// assert_eq!(message, "stage update, worker 3, failed at item 7: no floor");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Seat {
    shutdown: Arc<Shutdown>,
    number: usize,
    item: Cell<Option<u64>>,
    /// Where the thread works for another stage than its own.
    lent: Cell<Option<&'static str>>,
    #[cfg(not(any(loom, shuttle)))]
    recorder: RefCell<Option<Recorder>>,
}

impl Seat {
    fn new(shutdown: &Arc<Shutdown>, number: usize) -> Self {
        let (item, lent) = (Cell::new(None), Cell::new(None));
        Seat {
            shutdown: shutdown.clone(),
            number,
            item,
            lent,
            #[cfg(not(any(loom, shuttle)))]
            recorder: RefCell::new(None),
        }
    }

    /// The run's state.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Poisons the run in this thread's name. [`drive`](super::stage::drive) does so for its stage
    /// while the stage still holds its ends of edges: a neighbour that finds them closed then also
    /// finds the run stopped, and does not take the fault for the end of the input.
    pub fn fail(&self) {
        self.shutdown.poison(self.number);
    }

    /// Names the item that the thread is at, for the report of a fault.
    pub fn at(&self, item: u64) {
        self.item.set(Some(item));
    }

    /// Names the stage that the thread works for now, where it is not the one it was started for.
    pub fn lend(&self, stage: Option<&'static str>) {
        self.lent.set(stage);
    }

    /// From here on what the thread does is recorded.
    #[cfg(not(any(loom, shuttle)))]
    pub fn record_with(&self, recorder: Recorder) {
        let mut recorder = recorder;
        recorder.begin();
        *self.recorder.borrow_mut() = Some(recorder);
    }

    /// Whether anything is recorded.
    #[cfg(not(any(loom, shuttle)))]
    pub fn is_recording(&self) -> bool {
        self.recorder.borrow().is_some()
    }

    /// Keeps a span, where the thread is recorded; [`trace`](super::trace) says what becomes of it.
    #[cfg(not(any(loom, shuttle)))]
    pub fn record(&self, begun: std::time::Instant, ended: std::time::Instant, mark: Mark) {
        if let Some(recorder) = &mut *self.recorder.borrow_mut() {
            recorder.span(begun, ended, mark);
        }
    }
}

#[derive(Debug)]
struct Member {
    handle: JoinHandle<Option<Fault>>,
}

/// The threads of one run.
///
/// ```
/// use twelvefold::engine::Error;
/// use twelvefold::engine::crew::Crew;
/// use twelvefold::engine::shutdown::Shutdown;
/// use twelvefold::sync::Arc;
///
/// let shutdown = Arc::new(Shutdown::new());
/// shutdown.register(Vec::new());
/// let mut crew = Crew::new(shutdown);
/// crew.spawn("good", "count", 0, |_seat| Ok(()))?;
/// crew.spawn("bad", "count", 1, |seat| {
///     seat.at(7);
///     Err("no more".into())
/// })?;
/// let Err(Error::Fault(fault)) = crew.join() else { panic!("the fault is lost") };
/// assert_eq!(fault.to_string(), "stage count, worker 1, failed at item 7: no more");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Crew {
    shutdown: Arc<Shutdown>,
    members: Vec<Member>,
    #[cfg(any(test, loom, shuttle))]
    refuse: Option<usize>,
}

impl Crew {
    /// A crew without threads.
    pub fn new(shutdown: Arc<Shutdown>) -> Self {
        Crew {
            shutdown,
            members: Vec::new(),
            #[cfg(any(test, loom, shuttle))]
            refuse: None,
        }
    }

    /// For tests: the `k`-th spawn (from 0) is refused as the system would.
    #[cfg(any(test, loom, shuttle))]
    pub fn refuse_spawn(&mut self, k: usize) {
        self.refuse = Some(k);
    }

    /// Starts a thread called `thread` that runs `body` as worker `worker` of stage `stage`.
    ///
    /// # Errors
    /// [`Error::Spawn`]; the crew's threads have then been stopped and joined.
    pub fn spawn(
        &mut self,
        thread: &str,
        stage: &str,
        worker: usize,
        body: impl FnOnce(&Seat) -> Result<(), BoxError> + Send + 'static,
    ) -> Result<(), Error> {
        let number = self.members.len();
        let seat = Seat::new(&self.shutdown, number);
        let stage = stage.to_owned();
        let run = move || run_body(seat, stage, worker, body);
        let handle =
            if self.is_refused(number) { Err(refused()) } else { spawn_named(thread, run) };
        match handle {
            Ok(handle) => {
                self.members.push(Member { handle });
                Ok(())
            }
            Err(source) => {
                self.stop_and_join();
                Err(Error::Spawn { thread: thread.to_owned(), source })
            }
        }
    }

    /// Waits for all threads.
    ///
    /// # Errors
    /// The first fault in time. A cancelled run without faults is no error.
    pub fn join(mut self) -> Result<(), Error> {
        self.join_all()
    }

    /// [`Crew::join`] without the choice: what each thread ended with, in the order of their start.
    pub(super) fn join_faults(&mut self) -> Vec<Option<Fault>> {
        self.members.drain(..).map(|member| outcome(member.handle.join())).collect()
    }

    fn join_all(&mut self) -> Result<(), Error> {
        let faults = self.join_faults();
        first(&self.shutdown, faults)
    }

    fn stop_and_join(&mut self) {
        self.shutdown.cancel();
        // The refused spawn is what is reported; a fault on the way out adds nothing to act on.
        drop(self.join_all());
    }

    #[cfg(any(test, loom, shuttle))]
    fn is_refused(&self, number: usize) -> bool {
        self.refuse == Some(number)
    }

    #[cfg(not(any(test, loom, shuttle)))]
    fn is_refused(&self, _number: usize) -> bool {
        false
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Left without `join`, for example by a panic on the control thread: nobody stays behind.
        if !self.members.is_empty() {
            self.stop_and_join();
        }
    }
}

/// The threads of a scope: like a [`Crew`], whose bodies may borrow. The scope joins what is left.
#[cfg(not(any(loom, shuttle)))]
#[derive(Debug)]
pub(super) struct ScopedCrew<'scope> {
    shutdown: Arc<Shutdown>,
    members: Vec<ScopedJoinHandle<'scope, Option<Fault>>>,
    pub(super) refuse: Option<usize>,
}

#[cfg(not(any(loom, shuttle)))]
impl<'scope> ScopedCrew<'scope> {
    pub(super) fn new(shutdown: Arc<Shutdown>) -> Self {
        ScopedCrew { shutdown, members: Vec::new(), refuse: None }
    }

    /// As [`Crew::spawn`].
    pub(super) fn spawn(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        thread: &str,
        stage: &str,
        worker: usize,
        body: impl FnOnce(&Seat) -> Result<(), BoxError> + Send + 'scope,
    ) -> Result<(), Error> {
        let number = self.members.len();
        let seat = Seat::new(&self.shutdown, number);
        let stage = stage.to_owned();
        let run = move || run_body(seat, stage, worker, body);
        let handle = if self.refuse == Some(number) {
            Err(refused())
        } else {
            spawn_scoped(scope, thread, run)
        };
        self.members.push(handle.map_err(|source| {
            self.shutdown.cancel();
            Error::Spawn { thread: thread.to_owned(), source }
        })?);
        Ok(())
    }

    pub(super) fn join_faults(&mut self) -> Vec<Option<Fault>> {
        self.members.drain(..).map(|handle| outcome(handle.join())).collect()
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "refused by a test")
}

/// A body's panic is caught inside; a panic that still arrives at the join came from dropping the
/// payload or the body itself, and loses nothing but its place.
fn outcome(joined: thread::Result<Option<Fault>>) -> Option<Fault> {
    joined.unwrap_or_else(|payload| {
        Some(Fault {
            stage: "thread".to_owned(),
            worker: 0,
            item: None,
            cause: Cause::Panic(Payload::new(payload)),
        })
    })
}

/// The fault of the thread that poisoned the run first, else any.
pub(super) fn first(shutdown: &Shutdown, mut faults: Vec<Option<Fault>>) -> Result<(), Error> {
    let chosen = shutdown.first_fault().and_then(|n| faults.get_mut(n).and_then(Option::take));
    match chosen.or_else(|| faults.into_iter().flatten().next()) {
        Some(fault) => Err(Error::Fault(fault)),
        None => Ok(()),
    }
}

fn run_body(
    seat: Seat,
    stage: String,
    worker: usize,
    body: impl FnOnce(&Seat) -> Result<(), BoxError>,
) -> Option<Fault> {
    let member = census::Member::enter();
    let cause = match catch(|| body(&seat)) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Cause::Error(error)),
        Err(payload) => Some(Cause::Panic(Payload::new(payload))),
    };
    drop(member);
    cause.map(|cause| {
        // Again where the body has done so itself: the first poison stands.
        seat.fail();
        let stage = seat.lent.get().map_or(stage, str::to_owned);
        Fault { stage, worker, item: seat.item.get(), cause }
    })
}

/// The one place where a panic is caught. Not under a model checker, whose own report it
/// would swallow.
pub(super) fn catch<R>(body: impl FnOnce() -> R) -> thread::Result<R> {
    #[cfg(not(any(loom, shuttle)))]
    {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
    }
    #[cfg(any(loom, shuttle))]
    {
        Ok(body())
    }
}
