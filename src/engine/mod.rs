//! Moves items between threads; knows no text and no floats.
//!
//! | part | what it is |
//! |---|---|
//! | [`pipeline`] | source, stages and sink of your own, on all cores, in order |
//! | [`edge`] | a bounded ring between two stages, which waits, closes and keeps a ledger |
//! | [`pool`] | work-stealing workers: claim, steal, sleep, wake, close |
//! | [`workers`] | the pool with its threads: hand out a step, wait, close |
//! | [`latch`] | "this step is complete" |
//! | [`flags`] | "this part is ready": raised by workers, taken down by one thread |
//! | [`wait`], [`sleepers`] | how a thread sleeps, and who wakes it |
//! | [`shutdown`] | one-way stop, and the first fault |
//! | [`stage`] | something a thread steps |
//! | [`crew`] | named threads that are all joined, whatever happens |
//! | [`trace`] | what each thread did when, for a viewer of traces |
//!
//! No hand-off takes a lock: waiting is spin, then yield, then park. The protocol's states,
//! orderings and the argument for each stand in the modules; `DESIGN.md` holds the why.
//!
//! # Examples
//!
//! An edge without waiting, in chunks, and its ledger:
//!
//! ```
//! use twelvefold::engine::edge::{RecvError, edge};
//! use twelvefold::engine::wait::Event;
//! use twelvefold::sync::Arc;
//!
//! let event = Arc::new(Event::new());
//! let (mut tx, mut rx) = edge("numbers", 4, &event, &event);
//! let meter = tx.meter();
//! assert_eq!(rx.try_recv(), Err(RecvError::Empty));
//! tx.send_slice(&[1, 2, 3, 4]).unwrap();
//! let mut chunk = [0; 2];
//! assert_eq!((rx.recv_slice(&mut chunk), chunk), (2, [1, 2]));
//! drop(tx); // What is left can still be received.
//! assert_eq!(rx.try_recv(), Ok(3));
//! drop(rx); // One item is left behind.
//! let count = meter.count();
//! assert_eq!((count.items_in, count.items_out, count.abandoned), (4, 3, 1));
//! assert!(count.balances());
//! ```
//!
//! A task that spawns another one:
//!
//! ```
//! use twelvefold::engine::{pool::pool, shutdown::Shutdown, wait::Event};
//! use twelvefold::sync::Arc;
//!
//! let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
//! let (mut publisher, mut leaves) = pool::<u32>(1, 1, control, shutdown);
//! publisher.publish(0..1);
//! let leaf = &mut leaves[0];
//! let pool = leaf.pool().clone();
//! assert_eq!(leaf.claim(), Some(0));
//! leaf.spawn(1..2); // Inside task 0.
//! assert!(leaf.finish(&pool).is_none(), "the new task belongs to the step");
//! assert_eq!(leaf.claim(), Some(1));
//! let last = leaf.finish(&pool).expect("no task is missing");
//! leaf.complete(last);
//! assert!(publisher.is_complete());
//! assert_eq!((pool.count(0).taken, pool.count(0).finished), (2, 2));
//! ```

pub mod crew;
pub mod edge;
mod error;
pub mod flags;
pub mod latch;
mod pin;
pub mod pipeline;
pub mod pool;
pub mod shutdown;
pub mod sleepers;
pub mod stage;
#[cfg(not(any(loom, shuttle)))]
pub mod trace;
pub mod wait;
pub mod workers;

pub use error::{BoxError, Cause, Error, Fault, Payload};

#[cfg(not(panic = "unwind"))]
compile_error!(
    "twelvefold turns a stage's panic into an error by unwinding: `panic = \"abort\"` would end the process instead"
);

/// Drops an item that nobody took. Its `Drop` may panic while another panic unwinds, which would
/// abort the process; so the panic is caught, and the caller has counted the item. What it panicked
/// with may panic in its turn when it is dropped: then what comes of that is leaked.
fn drop_guarded<T>(item: T) {
    #[cfg(not(any(loom, shuttle)))]
    {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        let caught = catch_unwind(AssertUnwindSafe(move || drop(item))).err();
        let again = caught.map(|first| catch_unwind(AssertUnwindSafe(move || drop(first))));
        if let Some(Err(second)) = again {
            Box::leak(second);
        }
    }
    #[cfg(any(loom, shuttle))]
    drop(item);
}
