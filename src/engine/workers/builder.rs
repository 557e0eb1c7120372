//! Settings, and the start of the threads.

use super::side::{Helping, Side, Sleeping, work};
use super::{Job, Threads, Worker, Workers};
use crate::engine::crew::{Crew, Seat, catch};
use crate::engine::error::{BoxError, Cause, Error, Fault, Payload};
use crate::engine::pin::Pins;
use crate::engine::pool::{Helper, Leaf, Publisher, helped, pool};
use crate::engine::shutdown::{Shutdown, Wake};
use crate::engine::wait::{Event, census};
use crate::sync::{Arc, cores};

#[cfg(not(any(loom, shuttle)))]
use super::PoolReport;
#[cfg(not(any(loom, shuttle)))]
use crate::engine::crew::ScopedCrew;

/// Unfinished tasks, unless the builder says otherwise.
const LIMIT: usize = 1 << 16;

/// Settings of [`Workers`].
///
/// ```
/// use twelvefold::engine::workers::Workers;
///
/// let mut workers = Workers::builder()
///     .name("fetch") // `fetch-0`, `fetch-1`, and in faults.
///     .threads(2)
///     .awake(2) // They wait for I/O: more than there are cores does no harm.
///     .limit(100) // A longer step is handed out in parts.
///     .waiter_sleeps()
///     .state(|_worker| Vec::with_capacity(1 << 16)) // A buffer for each.
///     .start(|worker, byte: u8| {
///         worker.state.push(byte);
///         Ok(())
///     })?;
/// workers.step((0..=255).collect::<Vec<u8>>()).expect("nobody stops it");
/// assert_eq!(workers.close()?.ledger.finished, 256);
/// # Ok::<(), twelvefold::engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Builder<I> {
    threads: Option<usize>,
    awake: Option<usize>,
    name: String,
    limit: usize,
    helps: bool,
    pin: bool,
    init: I,
    #[cfg(test)]
    refuse: Option<usize>,
}

impl Default for Builder<fn(usize)> {
    fn default() -> Self {
        Builder {
            threads: None,
            awake: None,
            name: "worker".to_owned(),
            limit: LIMIT,
            helps: true,
            pin: false,
            init: |_| (),
            #[cfg(test)]
            refuse: None,
        }
    }
}

impl<I> Builder<I> {
    /// How many threads, beside the waiter; without it as many as there are cores, less one where
    /// the waiter helps.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Builder { threads: Some(threads), ..self }
    }

    /// How many threads are kept awake at once, a helping waiter among them; without it as many
    /// as there are cores. More where tasks wait for I/O or for each other.
    #[must_use]
    pub fn awake(self, awake: usize) -> Self {
        Builder { awake: Some(awake), ..self }
    }

    /// What the threads and faults are called: `name-0`, `name-1` and so on.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        Builder { name: name.to_owned(), ..self }
    }

    /// How many tasks may be unfinished at once (65,536 without it, 1 at least).
    #[must_use]
    pub fn limit(self, tasks: usize) -> Self {
        Builder { limit: tasks.max(1), ..self }
    }

    /// The thread that waits for a step sleeps, and runs no tasks.
    #[must_use]
    pub fn waiter_sleeps(self) -> Self {
        Builder { helps: false, ..self }
    }

    /// Whether each thread is pinned to a core, round robin over those that the process may use; they
    /// are not without this call, and the thread that waits for a step never is. A thread whose core
    /// the system refuses runs where it may: [`PoolReport::pinned`](super::PoolReport::pinned) says
    /// which are pinned, and where.
    ///
    /// ```
    /// use twelvefold::engine::workers::Workers;
    ///
    /// let builder = Workers::builder().threads(2).pin(true);
    /// let mut workers = builder.start(|_, _task: u32| Ok(()))?;
    /// workers.step(0..10).expect("nobody stops it");
    /// assert_eq!(workers.close()?.pinned.len(), 2); // Such as `[Some(0), Some(1)]`.
    /// # Ok::<(), twelvefold::engine::Error>(())
    /// ```
    #[cfg(feature = "pin")]
    #[must_use]
    pub fn pin(self, pin: bool) -> Self {
        Builder { pin, ..self }
    }

    /// Gives each worker a state of its own, made on its thread by `init`, which gets its number.
    #[must_use]
    pub fn state<S, J: Fn(usize) -> S + Send + Sync>(self, init: J) -> Builder<J> {
        Builder {
            threads: self.threads,
            awake: self.awake,
            name: self.name,
            limit: self.limit,
            helps: self.helps,
            pin: self.pin,
            init,
            #[cfg(test)]
            refuse: self.refuse,
        }
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Spawn`], or the fault of a state that could not be made for the waiter.
    ///
    /// # Panics
    /// When there are to be 0 threads.
    pub fn start<T, S, F>(self, run: F) -> Result<Workers<'static, T>, Error>
    where
        T: Send + 'static,
        S: 'static,
        I: Fn(usize) -> S + Send + Sync + 'static,
        F: Fn(&mut Worker<'_, T, S>, T) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let shared = Arc::new((self.init, run));
        let (rig, leaves) =
            Rig::new(self.name, self.limit, self.threads, self.awake, self.helps, self.pin);
        let mut crew = Crew::new(rig.shutdown.clone());
        #[cfg(test)]
        if let Some(k) = self.refuse {
            crew.refuse_spawn(k);
        }
        for leaf in leaves {
            let (id, limit, shared) = (leaf.id(), rig.limit, shared.clone());
            let pins = rig.pins.clone();
            let body = move |seat: &Seat| {
                pins.pin(id);
                work(leaf, seat, limit, &shared.0, &shared.1)
            };
            crew.spawn(&rig.thread_name(id), &rig.name, id, body)?;
        }
        let state = shared.clone();
        rig.into_workers(
            move |id| (state.0)(id),
            move |worker: &mut Worker<'_, T, S>, task| (shared.1)(worker, task),
            Threads::Own(crew),
        )
    }

    /// Starts threads that may borrow, gives the pool to `control`, and closes it when that returns.
    ///
    /// ```
    /// use twelvefold::engine::workers::Workers;
    ///
    /// let names = ["a".to_owned(), "b".to_owned()]; // Borrowed by the tasks.
    /// let (done, report) = Workers::builder().threads(2).name("greet").scope(
    ///     |_, name: &String| if name.is_empty() { Err("no name".into()) } else { Ok(()) },
    ///     |workers| workers.step(&names),
    /// )?;
    /// assert_eq!((done, report.ledger.finished), (Ok(()), 2));
    /// # Ok::<(), twelvefold::engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Builder::start`] and [`Workers::close`].
    ///
    /// # Panics
    /// When there are to be 0 threads, and with `control`'s own panic, after all threads have been
    /// joined.
    #[cfg(not(any(loom, shuttle)))]
    pub fn scope<T, S, F, R>(
        self,
        run: F,
        control: impl FnOnce(&mut Workers<'_, T>) -> R,
    ) -> Result<(R, PoolReport), Error>
    where
        T: Send,
        I: Fn(usize) -> S + Send + Sync,
        F: Fn(&mut Worker<'_, T, S>, T) -> Result<(), BoxError> + Send + Sync,
    {
        let (init, run) = (&self.init, &run);
        let (rig, leaves) =
            Rig::new(self.name, self.limit, self.threads, self.awake, self.helps, self.pin);
        crate::sync::scope(|scope| {
            let mut crew = ScopedCrew::new(rig.shutdown.clone());
            #[cfg(test)]
            {
                crew.refuse = self.refuse;
            }
            for leaf in leaves {
                let (id, limit, pins) = (leaf.id(), rig.limit, rig.pins.clone());
                let body = move |seat: &Seat| {
                    pins.pin(id);
                    work(leaf, seat, limit, init, run)
                };
                crew.spawn(scope, &rig.thread_name(id), &rig.name, id, body)?;
            }
            let mut workers = rig.into_workers(init, run, Threads::Scoped(crew))?;
            let result = control(&mut workers);
            workers.close().map(|report| (result, report))
        })
    }
}

/// The pool before its threads run.
struct Rig<T> {
    name: String,
    limit: usize,
    shutdown: Arc<Shutdown>,
    pins: Arc<Pins>,
    end: End<T>,
}

enum End<T> {
    Helps(Helper<Job<T>>),
    Sleeps(Publisher<Job<T>>),
}

impl<T: Send> Rig<T> {
    fn new(
        name: String,
        limit: usize,
        threads: Option<usize>,
        awake: Option<usize>,
        helps: bool,
        pin: bool,
    ) -> (Self, Vec<Leaf<Job<T>>>) {
        let shutdown = Arc::new(Shutdown::new());
        let threads = threads.unwrap_or_else(|| (cores() - usize::from(helps)).max(1));
        let awake = awake.unwrap_or_else(cores);
        let pins = Arc::new(Pins::new(threads, pin));
        let (end, leaves) = if helps {
            let (helper, leaves) = helped(threads, awake, shutdown.clone());
            shutdown.register(vec![Wake::Pool(helper.pool().sleepers())]);
            (End::Helps(helper), leaves)
        } else {
            let control = Arc::new(Event::new());
            let (publisher, leaves) = pool(threads, awake, control.clone(), shutdown.clone());
            let wakes = vec![Wake::Event(control), Wake::Pool(publisher.pool().sleepers())];
            shutdown.register(wakes);
            (End::Sleeps(publisher), leaves)
        };
        (Rig { name, limit, shutdown, pins, end }, leaves)
    }

    fn thread_name(&self, id: usize) -> String {
        format!("{}-{id}", self.name)
    }

    /// The waiter's side, once the threads run.
    fn into_workers<'a, S, I, F>(
        self,
        init: I,
        run: F,
        threads: Threads<'a>,
    ) -> Result<Workers<'a, T>, Error>
    where
        T: 'a,
        S: 'a,
        I: Fn(usize) -> S,
        F: Fn(&mut Worker<'_, T, S>, T) -> Result<(), BoxError> + 'a,
    {
        let Rig { name, limit, shutdown, pins, end } = self;
        let pool = match &end {
            End::Helps(helper) => helper.pool().clone(),
            End::Sleeps(publisher) => publisher.pool().clone(),
        };
        let (side, member): (Box<dyn Side<T> + 'a>, _) = match end {
            End::Helps(helper) => {
                let id = pool.leaves();
                let state = catch(|| init(id)).map_err(|payload| {
                    let cause = Cause::Panic(Payload::new(payload));
                    Error::Fault(Fault { stage: name.clone(), worker: id, item: None, cause })
                })?;
                let member = census::Member::enter();
                (Box::new(Helping { helper, state, limit, run }), Some(member))
            }
            End::Sleeps(publisher) => (Box::new(Sleeping(publisher)), None),
        };
        let side = Some(side);
        Ok(Workers {
            side,
            threads,
            pool,
            shutdown,
            pins,
            name,
            limit,
            fault: None,
            _member: member,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// A thread's state, which takes its time to go: who does not wait for the thread sees it alive.
    struct Slow<'a> {
        alive: &'a AtomicUsize,
    }

    impl<'a> Slow<'a> {
        fn new(alive: &'a AtomicUsize, made: &AtomicUsize) -> Self {
            alive.fetch_add(1, Ordering::SeqCst);
            made.fetch_add(1, Ordering::SeqCst);
            Slow { alive }
        }
    }

    impl Drop for Slow<'_> {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(50));
            self.alive.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn check<R>(result: Result<R, Error>, refused: usize, alive: &AtomicUsize, made: &AtomicUsize) {
        let Err(Error::Spawn { thread, source }) = result else { panic!("{refused} was refused") };
        assert_eq!(thread, format!("dig-{refused}"));
        assert_eq!(source.kind(), std::io::ErrorKind::WouldBlock);
        // Each began and made its state, the waiter did not; and all had gone by now.
        assert_eq!(made.load(Ordering::SeqCst), refused);
        assert_eq!(alive.load(Ordering::SeqCst), 0, "a thread was left behind");
    }

    fn builder(refused: usize, helps: bool) -> Builder<fn(usize)> {
        let builder = Workers::builder().threads(4).name("dig");
        let builder = if helps { builder } else { builder.waiter_sleeps() };
        Builder { refuse: Some(refused), ..builder }
    }

    #[test]
    fn a_refused_thread_is_an_error_and_those_before_it_are_joined() {
        for (refused, helps) in [(0, true), (1, false), (3, true), (3, false)] {
            // What threads of their own borrow must live for ever.
            static ALIVE: AtomicUsize = AtomicUsize::new(0);
            static MADE: AtomicUsize = AtomicUsize::new(0);
            MADE.store(0, Ordering::Relaxed);
            let result = builder(refused, helps)
                .state(|_| Slow::new(&ALIVE, &MADE))
                .start(|_, _task: u32| Ok(()));
            check(result, refused, &ALIVE, &MADE);
        }
    }

    #[test]
    fn a_refused_thread_ends_a_scope_before_it_begins() {
        for (refused, helps) in [(0, false), (2, true), (3, false)] {
            let (alive, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let result = builder(refused, helps)
                .state(|_| Slow::new(&alive, &made))
                .scope(|_, _task: u32| Ok(()), |_| panic!("it begins without its threads"));
            check::<((), _)>(result, refused, &alive, &made);
        }
    }
}
