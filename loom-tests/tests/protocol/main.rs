//! Models of the hand-off protocol, on the code that ships.
//!
//! Each test is one scenario with the smallest numbers that can fail. A model that ends by closing
//! would hide a lost wake-up behind the close's own wake, so models wait for completion first.

mod bounds;
#[cfg(any(loom, shuttle))]
mod child;
// PCT wants two threads, and half of these have one; the stand-ins are those that loom checks.
#[cfg(not(shuttle))]
mod contract;
mod crew;
#[cfg(not(loom))]
mod crowd;
mod edge;
mod flags;
mod latch;
mod latest;
#[cfg(loom)]
mod mutants;
mod pipeline;
#[cfg(shuttle)]
mod planted;
mod pool;
mod shutdown;
#[cfg(any(loom, shuttle))]
mod steps;
mod support;
mod workers;
