//! How a pipeline is put together, after its source.

use super::batch::Traced;
use super::claim::Claim;
use super::drive::Node;
use super::handles::{Bell, Canceller, Watch};
use super::node::{Parallel, Place, Serial};
use super::run::Pipeline;
use super::settings::Settings;
use super::source::{Feed, Source};
use super::work::{Body, FlatMap, Map, Out, Sink, Stage, Staged, TryMap};
use crate::engine::error::BoxError;
use crate::sync::{Arc, AtomicBool};
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

/// One stage that is not built yet.
pub(super) struct Spec<'env> {
    pub(super) name: String,
    /// How many workers it has at most; one for a serial stage.
    pub(super) workers: Option<usize>,
    pub(super) serial: bool,
    /// A thread of its own, because it waits for the outside.
    pub(super) blocking: bool,
    pub(super) says_goodbye: bool,
    pub(super) ordered: bool,
    /// The capacity of the edge after it.
    pub(super) capacity: Option<usize>,
    pub(super) build: Build<'env>,
}

/// Makes a stage from its place.
pub(super) type Build<'env> = Box<dyn FnOnce(&Given) -> Box<dyn Node + 'env> + 'env>;

/// What a stage learns when it is built.
pub(super) struct Given {
    pub(super) stage: usize,
    pub(super) ordered: bool,
    pub(super) says_goodbye: bool,
}

/// A pipeline whose last stage so far gives items of type `T`.
///
/// Stages keep the order of their input unless [`Builder::unordered`] follows them.
///
/// ```
/// use twelvefold::engine::pipeline::{Builder, Pipeline};
///
/// /// Stages that several pipelines begin with.
/// fn parsed<'a>(lines: Builder<'a, &'a str>) -> Builder<'a, u32> {
///     lines.map("trim", str::trim).try_map("parse", str::parse::<u32>)
/// }
///
/// let mut sum = 0;
/// parsed(Pipeline::from_iter("lines", [" 1", "2 "])).sink("sum", |n| sum += n).run()?;
/// assert_eq!(sum, 3);
/// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
/// ```
pub struct Builder<'env, T> {
    specs: Vec<Spec<'env>>,
    last: Arc<Traced<'env, T>>,
    exact: bool,
    bell: Bell,
}

impl<T> fmt::Debug for Builder<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.specs.iter().map(|spec| &spec.name)).finish()
    }
}

impl<'env, T: Send + 'env> Builder<'env, T> {
    pub(super) fn begin(name: &str, feed: impl Feed<T> + Send + 'env) -> Self {
        let last = Arc::new(Traced { column: super::batch::Column::new(), before: None });
        let out = last.clone();
        let spec = Spec {
            name: name.to_owned(),
            workers: Some(1),
            serial: true,
            blocking: false,
            says_goodbye: false,
            ordered: true,
            capacity: None,
            build: Box::new(move |_| Box::new(Source::new(feed, out))),
        };
        Builder { specs: vec![spec], last, exact: true, bell: Bell::new() }
    }

    /// Adds a stage; `node` builds it from its place.
    fn then<U: Send + 'env, N: Node + 'env>(
        mut self,
        name: &str,
        (serial, says_goodbye): (bool, bool),
        node: impl FnOnce(Place<'env, T, U>) -> N + 'env,
    ) -> Builder<'env, U> {
        let before = self.last.clone();
        let output =
            Arc::new(Traced { column: super::batch::Column::new(), before: Some(before.clone()) });
        let (exact, out) = (self.exact, output.clone());
        let build = move |given: &Given| -> Box<dyn Node + 'env> {
            let mut place = Place::new(given.stage, before, Some(out));
            (place.ordered, place.says_goodbye) = (given.ordered, given.says_goodbye);
            place.exact = exact;
            place.claimed = serial.then_some(given.stage);
            Box::new(node(place))
        };
        self.specs.push(Spec {
            name: name.to_owned(),
            workers: serial.then_some(1),
            serial,
            blocking: false,
            says_goodbye,
            ordered: true,
            capacity: None,
            build: Box::new(build),
        });
        Builder { specs: self.specs, last: output, exact: self.exact, bell: self.bell }
    }

    fn parallel<U: Send + 'env, B: Body<T, Output = U> + 'env>(
        self,
        name: &str,
        says_goodbye: bool,
        make: impl Fn(usize) -> B + Send + Sync + 'env,
    ) -> Builder<'env, U> {
        let mut built = self.then(name, (false, says_goodbye), |place| Parallel::new(place, make));
        built.exact &= B::ONE_TO_ONE;
        built
    }

    /// Each item becomes another one, on as many threads as there are.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::Pipeline;
    ///
    /// let mut squares = Vec::new();
    /// Pipeline::from_iter("numbers", 1..4)
    ///     .map("square", |x| x * x)
    ///     .sink("gather", |x| squares.push(x))
    ///     .run()?;
    /// assert_eq!(squares, [1, 4, 9]);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn map<U: Send + 'env>(
        self,
        name: &str,
        map: impl Fn(T) -> U + Send + Sync + 'env,
    ) -> Builder<'env, U> {
        let map = Arc::new(map);
        self.parallel(name, false, move |_| {
            let map = map.clone();
            Map(move |item| map(item))
        })
    }

    /// [`Builder::map`] with a state of its own for each worker, which `init` makes on the worker's thread
    /// and which never leaves it. `init` is given the worker's number.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::Pipeline;
    ///
    /// let mut lengths = Vec::new();
    /// Pipeline::from_iter("numbers", [7, 1_000])
    ///     .map_with("digits", |_worker| String::new(), |text, n: u32| {
    ///         text.clear(); // One buffer a worker, not one an item.
    ///         text.push_str(&n.to_string());
    ///         text.len()
    ///     })
    ///     .sink("gather", |length| lengths.push(length))
    ///     .run()?;
    /// assert_eq!(lengths, [1, 4]);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn map_with<S: 'env, U: Send + 'env>(
        self,
        name: &str,
        init: impl Fn(usize) -> S + Send + Sync + 'env,
        map: impl Fn(&mut S, T) -> U + Send + Sync + 'env,
    ) -> Builder<'env, U> {
        let map = Arc::new(map);
        self.parallel(name, false, move |worker| {
            let (map, mut state) = (map.clone(), init(worker));
            Map(move |item| map(&mut state, item))
        })
    }

    /// Each item becomes another one or an error.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::{Pipeline, RunError};
    ///
    /// let run = Pipeline::from_iter("lines", ["1", "2", "x", "y"])
    ///     .try_map("parse", str::parse::<u32>)
    ///     .sink("print", drop)
    ///     .run();
    /// let Err(RunError::Fault { fault, .. }) = run else { panic!("the error is lost") };
    /// assert_eq!((fault.stage.as_str(), fault.item), ("parse", Some(2)));
    /// ```
    pub fn try_map<U: Send + 'env, E: Into<BoxError> + 'env>(
        self,
        name: &str,
        map: impl Fn(T) -> Result<U, E> + Send + Sync + 'env,
    ) -> Builder<'env, U> {
        let map = Arc::new(map);
        self.parallel(name, false, move |_| {
            let map = map.clone();
            TryMap(move |item| map(item))
        })
    }

    /// Each item becomes none, one or several.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::Pipeline;
    ///
    /// let mut even = Vec::new();
    /// Pipeline::from_iter("numbers", 0..6)
    ///     .flat_map("even", |x, out| if x % 2 == 0 { out.send(x) })
    ///     .sink("gather", |x| even.push(x))
    ///     .run()?;
    /// assert_eq!(even, [0, 2, 4]);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn flat_map<U: Send + 'env>(
        self,
        name: &str,
        map: impl Fn(T, &mut Out<'_, U>) + Send + Sync + 'env,
    ) -> Builder<'env, U> {
        let map = Arc::new(map);
        self.parallel(name, false, move |_| {
            let map = map.clone();
            FlatMap(move |item, out: &mut Out<'_, U>| map(item, out), PhantomData)
        })
    }

    /// A [`Stage`] for each worker, made by `make` on the worker's thread from the worker's number.
    ///
    /// What the workers say at the end ([`Stage::finish`]) comes after all other items, by worker.
    ///
    /// ```
    /// use twelvefold::engine::BoxError;
    /// use twelvefold::engine::pipeline::{Out, Pipeline, Stage};
    ///
    /// /// Adds up what it gets, and says so at the end.
    /// struct Sum(u64);
    ///
    /// impl Stage<u64> for Sum {
    ///     type Output = u64;
    ///
    ///     fn process(&mut self, item: u64, _out: &mut Out<'_, u64>) -> Result<(), BoxError> {
    ///         self.0 += item;
    ///         Ok(())
    ///     }
    ///
    ///     fn finish(&mut self, out: &mut Out<'_, u64>) -> Result<(), BoxError> {
    ///         out.send(self.0);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut total = 0;
    /// Pipeline::from_iter("numbers", 1..=100)
    ///     .stage("sum", |_worker| Sum(0))
    ///     .sink("total", |part| total += part)
    ///     .run()?;
    /// assert_eq!(total, 5050);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn stage<S: Stage<T, Output: Send + 'env> + 'env>(
        self,
        name: &str,
        make: impl Fn(usize) -> S + Send + Sync + 'env,
    ) -> Builder<'env, S::Output> {
        self.parallel(name, true, move |worker| Staged(make(worker)))
    }

    /// One [`Stage`] that gets all items, one after the other and in order.
    ///
    /// ```
    /// # use twelvefold::engine::{BoxError, pipeline::{Out, Pipeline, Stage}};
    /// /// Leaves out what is the same as the item before.
    /// struct Changes(Option<u32>);
    ///
    /// impl Stage<u32> for Changes {
    ///     type Output = u32;
    ///
    ///     fn process(&mut self, item: u32, out: &mut Out<'_, u32>) -> Result<(), BoxError> {
    ///         if self.0.replace(item) != Some(item) {
    ///             out.send(item);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut seen = Vec::new();
    /// Pipeline::from_iter("numbers", [1, 1, 2, 1])
    ///     .serial("changes", Changes(None))
    ///     .sink("gather", |n| seen.push(n))
    ///     .run()?;
    /// assert_eq!(seen, [1, 2, 1]);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn serial<S: Stage<T, Output: Send + 'env> + Send + 'env>(
        self,
        name: &str,
        stage: S,
    ) -> Builder<'env, S::Output> {
        let mut built = self.then(name, (true, true), |place| Serial {
            place,
            body: Claim::new(Staged(stage)),
            over: AtomicBool::new(false),
        });
        built.exact = false;
        built
    }

    /// Each item becomes another one, one after the other and in order.
    ///
    /// ```
    /// use twelvefold::engine::pipeline::Pipeline;
    ///
    /// let (mut sum, mut sums) = (0, Vec::new());
    /// Pipeline::from_iter("numbers", [3, 1, 4])
    ///     .map_in_turn("running sum", |x| {
    ///         sum += x;
    ///         sum
    ///     })
    ///     .sink("gather", |x| sums.push(x))
    ///     .run()?;
    /// assert_eq!(sums, [3, 4, 8]);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn map_in_turn<U: Send + 'env>(
        self,
        name: &str,
        map: impl FnMut(T) -> U + Send + 'env,
    ) -> Builder<'env, U> {
        self.then(name, (true, false), |place| Serial {
            place,
            body: Claim::new(Map(map)),
            over: AtomicBool::new(false),
        })
    }

    /// Lets the stage before this call have at most `workers` workers.
    ///
    /// A pipeline has at least as many threads as its largest stage has workers.
    ///
    /// ```
    /// # use twelvefold::engine::pipeline::Pipeline;
    /// let report = Pipeline::from_iter("numbers", 0..100u64)
    ///     .map("square", |n| n * n)
    ///     .workers(2) // Whatever the number of cores.
    ///     .sink("drop", drop)
    ///     .run()?;
    /// assert_eq!(report.ledger.flow.stages[1].workers.len(), 2);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    ///
    /// # Panics
    /// When `workers` is 0, or the stage is serial and `workers` is not 1.
    pub fn workers(mut self, workers: usize) -> Self {
        let spec = self.spec();
        assert!(workers > 0, "a stage needs a worker");
        assert!(!spec.serial || workers == 1, "stage {} works one item after the other", spec.name);
        spec.workers = Some(workers);
        self
    }

    /// Lets the stage before this call give its items as they get ready.
    ///
    /// ```
    /// # use twelvefold::engine::pipeline::Pipeline;
    /// let mut sum = 0;
    /// Pipeline::from_iter("numbers", 1..=100)
    ///     .map("double", |n| 2 * n)
    ///     .unordered() // A sum needs no order: nobody waits for an item that takes long.
    ///     .sink("sum", |n| sum += n)
    ///     .run()?;
    /// assert_eq!(sum, 10_100);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn unordered(mut self) -> Self {
        self.spec().ordered = false;
        self
    }

    /// Keeps at most about `items` items between the stage before this call and the next one: the stage
    /// does not begin with others until some have been taken. The bound is exact where every item
    /// becomes one.
    ///
    /// ```
    /// # use twelvefold::engine::pipeline::Pipeline;
    /// let report = Pipeline::from_iter("names", 0..100)
    ///     .map("load", |n| vec![n; 1_000])
    ///     .capacity(4) // These are large: no more than four wait.
    ///     .sink("drop", drop)
    ///     .run()?;
    /// assert!(report.ledger.flow.edges[1].high_water <= 4);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    ///
    /// # Panics
    /// When `items` is 0.
    pub fn capacity(mut self, items: usize) -> Self {
        assert!(items > 0, "an edge needs room for an item");
        self.spec().capacity = Some(items);
        self
    }

    /// Gives the stage before this call threads of its own, which step nothing else: for a source that
    /// waits for the outside, or a stage that does. Each of its items goes on at once.
    ///
    /// ```
    /// # use twelvefold::engine::pipeline::Pipeline;
    /// let (tx, rx) = std::sync::mpsc::channel();
    /// let outside = std::thread::spawn(move || (0..3).try_for_each(|n| tx.send(n)));
    /// let report = Pipeline::from_iter("received", rx).blocking().sink("drop", drop).run()?;
    /// outside.join().unwrap().unwrap();
    /// assert_eq!(report.items, 3);
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn blocking(mut self) -> Self {
        self.spec().blocking = true;
        self
    }

    /// What rings when a source that said [`Pull::Later`](super::Pull::Later) has something.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Ends the pipeline with a function that gets every item, one after the other.
    pub fn sink(self, name: &str, mut take: impl FnMut(T) + Send + 'env) -> Pipeline<'env> {
        self.try_sink(name, move |item| {
            take(item);
            Ok::<_, Infallible>(())
        })
    }

    /// [`Builder::sink`] with a function that may fail.
    ///
    /// ```
    /// use std::io::Write;
    /// use twelvefold::engine::pipeline::Pipeline;
    ///
    /// let mut file = Vec::new();
    /// Pipeline::from_iter("numbers", 1..4)
    ///     .try_sink("write", |n| writeln!(file, "{n}"))
    ///     .run()?;
    /// assert_eq!(file, b"1\n2\n3\n");
    /// # Ok::<(), twelvefold::engine::pipeline::RunError>(())
    /// ```
    pub fn try_sink<E: Into<BoxError> + 'env>(
        mut self,
        name: &str,
        take: impl FnMut(T) -> Result<(), E> + Send + 'env,
    ) -> Pipeline<'env> {
        let (before, exact) = (self.last, self.exact);
        let build = move |given: &Given| -> Box<dyn Node + 'env> {
            let mut place = Place::<'env, T, ()>::new(given.stage, before, None);
            place.exact = exact;
            place.claimed = Some(given.stage);
            let body = Claim::new(Sink(take));
            Box::new(Serial { place, body, over: AtomicBool::new(false) })
        };
        self.specs.push(Spec {
            name: name.to_owned(),
            workers: Some(1),
            serial: true,
            blocking: false,
            says_goodbye: false,
            ordered: true,
            capacity: None,
            build: Box::new(build),
        });
        Pipeline {
            specs: self.specs,
            bell: self.bell,
            settings: Settings::default(),
            canceller: Canceller::new(),
            watch: Watch::new(),
        }
    }

    fn spec(&mut self) -> &mut Spec<'env> {
        self.specs.last_mut().expect("a pipeline begins with its source")
    }
}
