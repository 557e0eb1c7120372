//! Several processes that train one model: who does what, and how they speak.
//!
//! A *rank* is a process of a run that several share, as MPI calls it. Each has spheres of its own and a
//! copy of the parameters. The micro-batches of a step have global numbers; each rank computes a block
//! of them, and the gradients are summed along the one binary tree over these numbers that one process
//! uses too ([`Shares`]). So the bits depend neither on the number of ranks nor on that of spheres.
//!
//! Ranks speak over a [`Link`]: messages of 32-bit words that are begun, and are done some time later.
//! The one that crosses machines is MPI's (feature `mpi`).

mod agree;
pub mod forecast;
mod link;
#[cfg(feature = "mpi")]
pub mod mpi;
mod shares;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

pub use agree::{Credentials, Verdict, agree};
pub use link::{Done, Key, Link, Patience, Words};
pub use shares::{Node, Shares};
pub(crate) use wire::{Read, Write};
