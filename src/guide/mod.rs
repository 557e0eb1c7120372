//! How to: five pages for people who begin.
//!
//! | page | for whom |
//! |---|---|
//! | [`train`] | who has a folder of text |
//! | [`engine`] | who has other work for the stages, the pool or the edge |
//! | [`report`] | who wants to know what a run did, and what holds it back |
//! | [`tune`] | who wants it faster, or with less memory |
//! | [`ranks`] | who has several machines |
//!
//! Their code runs as tests.

#[doc = include_str!("train.md")]
#[cfg(feature = "train")]
pub mod train {}

#[doc = include_str!("engine.md")]
pub mod engine {}

#[doc = include_str!("report.md")]
#[cfg(feature = "train")]
pub mod report {}

#[doc = include_str!("tune.md")]
#[cfg(feature = "train")]
pub mod tune {}

#[doc = include_str!("ranks.md")]
#[cfg(feature = "train")]
pub mod ranks {}
