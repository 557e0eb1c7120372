//! Models of the hand-off protocol, on the code that ships.
//!
//! Each test is one scenario with the smallest numbers that can fail. A model that ends by closing
//! would hide a lost wake-up behind the close's own wake, so models wait for completion first.

mod contract;
mod crew;
mod edge;
mod latch;
#[cfg(loom)]
mod mutants;
mod pool;
mod shutdown;
mod support;
mod workers;
