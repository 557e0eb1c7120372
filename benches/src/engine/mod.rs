//! The engine beside its peers: one module for each group of rows, and the harness that runs them
//! in turns.
//!
//! The functions that run one contender once are shared by the criterion benches and by the program
//! `engine`, which runs all rows in turns and compares.

pub mod buffers;
pub mod dispatch;
pub mod distribute;
pub mod edges;
pub mod leaves;
pub mod measure;
pub mod ours;
pub mod peers;
pub mod pipelines;
pub mod report;
pub mod row;
pub mod tbb;
pub mod waits;
pub mod work;

use row::Row;
use std::time::Duration;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// For figures.
    Full,
    /// To see that everything runs and every answer is right, in less than a minute.
    Quick,
}

impl Scale {
    /// `items`, or a sixteenth of them. Stays a multiple of 1,024 where `items` is one of 16,384.
    pub fn of(self, items: u64) -> u64 {
        match self {
            Scale::Full => items,
            Scale::Quick => items / 16,
        }
    }
}

/// All rows, in the order of the table.
pub fn rows(scale: Scale) -> Vec<Row> {
    let parts: [fn(Scale) -> Vec<Row>; 7] = [
        edges::rows,
        waits::rows,
        dispatch::rows,
        distribute::rows,
        buffers::rows,
        pipelines::rows,
        leaves::rows,
    ];
    parts.into_iter().flat_map(|rows| rows(scale)).collect()
}

/// A contender that passes `items` and gives nanoseconds for each.
fn per_item(items: u64, run: impl Fn(u64) -> Duration) -> impl Fn() -> f64 {
    move || measure::nanoseconds(run(items)) / items as f64
}
