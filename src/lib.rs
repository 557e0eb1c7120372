//! A lock-free staged pipeline engine that trains a language model on the machine's cores.
//!
//! The [`engine`] moves items between threads: bounded edges, a work-stealing pool, a latch per
//! step, one-way shutdown, threads that are all joined. No hand-off takes a lock, and every item is
//! accounted for. The rest of the crate (feature `train`, on by default) is a trainer built on it:
//! from files and folders of text to a small GPT.
//!
//! # The engine in one example
//!
//! A loader sends numbers over an edge; the control thread makes each a step of two tasks; two
//! leaves compute them. `default-features = false` is enough for this.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use twelvefold::engine::crew::Crew;
//! use twelvefold::engine::edge::edge;
//! use twelvefold::engine::pool::pool;
//! use twelvefold::engine::shutdown::{Shutdown, Wake};
//! use twelvefold::engine::wait::Event;
//! use twelvefold::sync::Arc;
//!
//! # fn main() -> Result<(), twelvefold::engine::Error> {
//! // A thread sleeps on its event; whoever may sleep is registered, so that a stop wakes it.
//! let (load, control) = (Arc::new(Event::new()), Arc::new(Event::new()));
//! let shutdown = Arc::new(Shutdown::new());
//! let mut crew = Crew::new(shutdown.clone());
//! let (mut tx, mut rx) = edge::<u64>("numbers", 4, &load, &control);
//! let (mut publisher, leaves) = pool::<u64>(2, 2, control.clone(), shutdown.clone());
//! let pool = Wake::Pool(publisher.pool().clone());
//! shutdown.register(vec![Wake::Event(load), Wake::Event(control), pool]);
//!
//! let sum = Arc::new(AtomicU64::new(0));
//! for mut leaf in leaves {
//!     let (id, sum, pool) = (leaf.id(), sum.clone(), leaf.pool().clone());
//!     crew.spawn(&format!("leaf-{id}"), "add", id, move |seat| {
//!         while let Some(number) = leaf.claim() {
//!             seat.at(number); // What a fault report names.
//!             sum.fetch_add(number, Ordering::Relaxed);
//!             if let Some(last) = leaf.finish(&pool) {
//!                 leaf.complete(last); // Or open the step's next phase.
//!             }
//!         }
//!         Ok(())
//!     })?;
//! }
//! crew.spawn("load", "load", 0, move |_| {
//!     // An error here says that the receiver has gone: nothing is left to do.
//!     let _ = (1..=10).try_for_each(|number| tx.send(number));
//!     Ok(())
//! })?;
//!
//! while let Some(number) = rx.recv() {
//!     publisher.publish([number, 100 * number].into_iter()); // Returns before the tasks end.
//!     if !publisher.wait() {
//!         break; // Stopped: somebody failed.
//!     }
//! }
//! drop(rx);
//! publisher.close();
//! crew.join()?; // Every thread has ended; a panic or an error in one of them comes out here.
//! assert_eq!(sum.load(Ordering::Relaxed), 55 + 5500);
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! | module | what it is |
//! |---|---|
//! | [`engine`] | moves items between threads; knows no text and no floats |
//! | [`sync`] | the one door to atomics and threads; under `--cfg loom` or `--cfg shuttle`, to a model checker's |
//! | `corpus` | from files to token sequences |
//! | `model` | a GPT on slices: pure functions, no threads, no I/O |
//! | `ranks` | several processes that train one model: who does what, and how they speak |
//! | `spheres` | the 12-fold hierarchy of workers that computes a step |
//! | `train` | the run: stages, schedule, validation, checkpoint, sampling |
//! | `report` | what people and scripts look at |
//! | `cli` | the command line, as the command and the example share it (feature `cli`) |
//! | [`guide`] | how to: five pages for people who begin |
//!
//! All but the first two and the guide's page on them need the feature `train`. `DESIGN.md` in the
//! repository says why things are as they are, and what is proved.

pub mod engine;
pub mod guide;
pub mod sync;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "train")]
pub mod corpus;
#[cfg(feature = "train")]
pub mod error;
#[cfg(feature = "train")]
mod inject;
#[cfg(feature = "train")]
pub mod model;
#[cfg(feature = "train")]
pub mod ranks;
#[cfg(feature = "train")]
pub mod report;
#[cfg(feature = "train")]
pub mod spheres;
#[cfg(feature = "train")]
pub mod train;

#[cfg(feature = "train")]
pub use error::Error;

/// The README's code runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
