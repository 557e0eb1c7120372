//! What each thread did when, for a viewer of traces: spans, levels, and arrows between threads.
//!
//! A [`Recorder`] belongs to one thread. It keeps spans of a fixed size in a ring that was made before
//! the thread began; it never waits, allocates or formats. The [`Trace`] belongs to the control thread,
//! which empties the rings between steps and writes it all at the end, as Chrome's trace events in JSON.
//!
//! | what | becomes of it |
//! |---|---|
//! | a span whose ring is full | it is counted, and the trace says how many on its thread |
//! | a span beyond the trace's limit | the same, for the whole trace |
//! | a span without any recorder | nothing: a look at an `Option` |
//!
//! The hand-off is the ring's alone. The count of what a full ring refused has one writer and is read as a
//! number for people, when the threads have been joined.
//!
//! Where it comes from a thread knows by its [`Seat`](super::crew::Seat): [`drive`](super::stage::drive)
//! records each step that worked, with the two readings of the clock by which it counts the time at
//! work; so the sum of a stage's spans is its `busy_ns`, to the nanosecond.
//!
//! Under a model checker, which has no clock, this module is not there.

mod json;

use std::io::{self, Write};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::sync::ring::{Consumer, Producer, ring};
use crate::sync::{Arc, AtomicU64, Ordering, thread_id};

/// What spans of a kind are called, and their two numbers; a number without a name is not shown.
///
/// ```
/// use twelvefold::engine::trace::Label;
///
/// static TOKENIZE: Label = Label { name: "tokenize", args: ["chunk", ""] };
/// assert_eq!(TOKENIZE.args[0], "chunk");
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Label {
    /// Of the span.
    pub name: &'static str,
    /// Of its numbers.
    pub args: [&'static str; 2],
}

/// The label of a stage that has none of its own.
static WORK: Label = Label { name: "work", args: ["item", ""] };
/// The first entry of a thread: its id.
static BEGIN: Label = Label { name: "thread", args: ["", ""] };

/// What a span was about.
///
/// ```
/// use twelvefold::engine::trace::{Flow, Label, Mark};
///
/// static TOKENIZE: Label = Label { name: "tokenize", args: ["chunk", ""] };
/// let mark = Mark { label: &TOKENIZE, args: [7, 0], flow: Flow::start(7, 1) };
/// assert_eq!((mark.args[0], Mark::item(7).label.name), (7, "work"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Its kind.
    pub label: &'static Label,
    /// Its numbers.
    pub args: [u64; 2],
    /// The roads that it lies on.
    pub flow: Flow,
}

impl Mark {
    /// Work on an item, by a stage that says no more.
    pub fn item(item: u64) -> Self {
        Mark { label: &WORK, args: [item, 0], flow: Flow::NONE }
    }
}

/// The arrows that begin, pass or end at a span. A road has a number; it begins at one span, may pass
/// one other and ends at a third. What of a road was not recorded has no arrow.
///
/// ```
/// use twelvefold::engine::trace::Flow;
///
/// let sent = Flow::start(10, 3); // Three items leave here: 10, 11 and 12,
/// let worked = Flow::step(11, 1); // one of them is worked on there,
/// let done = Flow::end(10, 3); // and all arrive.
/// assert!(sent != done && worked != Flow::NONE);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    first: u64,
    count: u32,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Start,
    Step,
    End,
}

impl Flow {
    /// On no road.
    pub const NONE: Flow = Flow { first: 0, count: 0, role: Role::Start };

    /// So many roads begin here, numbered from `first`.
    pub fn start(first: u64, count: u32) -> Self {
        Flow { first, count, role: Role::Start }
    }

    /// They pass here.
    pub fn step(first: u64, count: u32) -> Self {
        Flow { first, count, role: Role::Step }
    }

    /// They end here.
    pub fn end(first: u64, count: u32) -> Self {
        Flow { first, count, role: Role::End }
    }

    fn roads(self) -> impl Iterator<Item = u64> {
        (0..u64::from(self.count)).map(move |n| self.first.wrapping_add(n))
    }
}

/// An entry of a ring. Times are nanoseconds since the trace began.
#[derive(Debug, Clone, Copy)]
struct Span {
    begun: u64,
    ended: u64,
    mark: Mark,
}

/// A thread's writing end.
///
/// ```
/// use std::time::Instant;
/// use twelvefold::engine::trace::{Mark, Trace};
///
/// let mut trace = Trace::new("adder", 1_000);
/// let mut recorder = trace.recorder("tf-add", &[("adder", 0)], 1);
/// let begun = Instant::now();
/// recorder.begin(); // On the thread itself, whose id this takes.
/// recorder.span(begun, Instant::now(), Mark::item(1));
/// recorder.span(begun, Instant::now(), Mark::item(2)); // There is room for one.
/// trace.drain();
/// assert_eq!((trace.events(), trace.missing()), (1, 1));
/// ```
#[derive(Debug)]
pub struct Recorder {
    ring: Producer<Span>,
    epoch: Instant,
    lost: Arc<CachePadded<AtomicU64>>,
}

impl Recorder {
    /// To be called on the recorder's thread, before its first span.
    pub fn begin(&mut self) {
        let mark = Mark { label: &BEGIN, args: [u64::from(thread_id()), 0], flow: Flow::NONE };
        let now = Instant::now();
        self.span(now, now, mark);
    }

    /// Keeps a span, or counts it where there is no room.
    pub fn span(&mut self, begun: Instant, ended: Instant, mark: Mark) {
        let [begun, ended] = [begun, ended].map(|at| nanoseconds(self.epoch, at));
        if self.ring.push(Span { begun, ended, mark }).is_err() {
            // Relaxed: one writer, and read after the join; see the module.
            self.lost.store(self.lost.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// Since `epoch`; 0 for what was before.
fn nanoseconds(epoch: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
}

/// One thread of the trace.
#[derive(Debug)]
struct Track {
    name: String,
    tags: String,
    thread: u32,
    /// None for the control thread, which keeps its spans itself.
    ring: Option<Consumer<Span>>,
    lost: Arc<CachePadded<AtomicU64>>,
}

/// A number that changes.
#[derive(Debug)]
struct Counter {
    name: String,
    last: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    at: u64,
    counter: usize,
    value: u64,
}

/// Gathers what threads recorded, on the control thread.
///
/// ```
/// use std::time::Instant;
/// use twelvefold::engine::crew::Crew;
/// use twelvefold::engine::shutdown::Shutdown;
/// use twelvefold::engine::trace::{Flow, Label, Mark, Trace};
/// use twelvefold::sync::Arc;
///
/// static ORDER: Label = Label { name: "order", args: ["item", ""] };
/// static SQUARE: Label = Label { name: "square", args: ["item", "result"] };
///
/// let mut trace = Trace::new("squares", 10_000);
/// let begun = Instant::now();
/// let recorder = trace.recorder("tf-square", &[("worker", 0)], 100);
/// let mut crew = Crew::new(Arc::new(Shutdown::new()));
/// trace.span(begun, Instant::now(), Mark { label: &ORDER, args: [3, 0], flow: Flow::start(3, 1) });
/// crew.spawn("tf-square", "square", 0, move |seat| {
///     seat.record_with(recorder);
///     let begun = Instant::now();
///     let mark = Mark { label: &SQUARE, args: [3, 3 * 3], flow: Flow::end(3, 1) };
///     seat.record(begun, Instant::now(), mark);
///     Ok(())
/// })?;
/// crew.join()?;
/// trace.drain();
/// let mut text = Vec::new();
/// trace.write(&mut text)?; // To be opened in https://ui.perfetto.dev.
/// let text = String::from_utf8(text)?;
/// assert!(text.contains("\"name\":\"square\",\"args\":{\"item\":3,\"result\":9,\"worker\":0}"));
/// assert_eq!((trace.events(), trace.missing()), (2, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Trace {
    process: String,
    epoch: Instant,
    limit: usize,
    /// Spans, each with the number of its track.
    spans: Vec<(usize, Span)>,
    levels: Vec<Level>,
    tracks: Vec<Track>,
    counters: Vec<Counter>,
    left_out: u64,
}

impl Trace {
    /// A trace of at most `limit` spans and levels, of a process that viewers show as `process`. The calling
    /// thread is its control thread.
    pub fn new(process: &str, limit: usize) -> Self {
        let control = Track {
            name: "control".to_owned(),
            tags: String::new(),
            thread: thread_id(),
            ring: None,
            lost: Arc::default(),
        };
        Trace {
            process: process.to_owned(),
            epoch: Instant::now(),
            limit,
            spans: Vec::new(),
            levels: Vec::new(),
            tracks: vec![control],
            counters: Vec::new(),
            left_out: 0,
        }
    }

    /// A recorder with room for so many spans between two drains, for a thread that viewers show as `name`;
    /// each of its spans has the numbers `tags` too.
    pub fn recorder(&mut self, name: &str, tags: &[(&str, u64)], spans: usize) -> Recorder {
        // One more, for the thread's id.
        let (producer, consumer) = ring(spans + 1);
        let lost: Arc<CachePadded<AtomicU64>> = Arc::default();
        self.tracks.push(Track {
            name: name.to_owned(),
            tags: json::tags(tags),
            thread: 0,
            ring: Some(consumer),
            lost: lost.clone(),
        });
        Recorder { ring: producer, epoch: self.epoch, lost }
    }

    /// A span of the control thread.
    pub fn span(&mut self, begun: Instant, ended: Instant, mark: Mark) {
        let [begun, ended] = [begun, ended].map(|at| nanoseconds(self.epoch, at));
        if self.has_room() {
            self.spans.push((0, Span { begun, ended, mark }));
        }
    }

    /// A new counter; its number.
    ///
    /// ```
    /// let mut trace = twelvefold::engine::trace::Trace::new("rings", 10);
    /// let depth = trace.counter("depth");
    /// [1, 1, 2].iter().for_each(|&value| trace.level(depth, value));
    /// assert_eq!(trace.events(), 2); // The second said nothing new.
    /// ```
    pub fn counter(&mut self, name: &str) -> usize {
        self.counters.push(Counter { name: name.to_owned(), last: None });
        self.counters.len() - 1
    }

    /// The counter's value now.
    pub fn level(&mut self, counter: usize, value: u64) {
        let known = self.counters.get_mut(counter).filter(|known| known.last != Some(value));
        let Some(known) = known else { return };
        known.last = Some(value);
        let at = nanoseconds(self.epoch, Instant::now());
        if self.has_room() {
            self.levels.push(Level { at, counter, value });
        }
    }

    /// Takes what the threads have recorded since the last time.
    pub fn drain(&mut self) {
        for track in 0..self.tracks.len() {
            while let Some(span) = self.tracks[track].ring.as_mut().and_then(Consumer::pop) {
                if std::ptr::eq(span.mark.label, &BEGIN) {
                    self.tracks[track].thread = span.mark.args[0] as u32;
                } else if self.has_room() {
                    self.spans.push((track, span));
                }
            }
        }
    }

    /// Room for one more; where there is none, it is counted.
    fn has_room(&mut self) -> bool {
        let room = self.spans.len() + self.levels.len() < self.limit;
        self.left_out += u64::from(!room);
        room
    }

    /// Spans and levels that are in it.
    pub fn events(&self) -> usize {
        self.spans.len() + self.levels.len()
    }

    /// Those that are not: beyond the limit, or refused by a full ring.
    pub fn missing(&self) -> u64 {
        self.left_out + self.tracks.iter().map(Track::lost).sum::<u64>()
    }

    /// Writes what was drained, an event a line.
    ///
    /// # Errors
    /// `out`'s own.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        json::write(self, out)
    }
}

impl Track {
    fn lost(&self) -> u64 {
        // Relaxed: a number for people; see the module.
        self.lost.load(Ordering::Relaxed)
    }
}
