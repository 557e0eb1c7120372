//! The pipeline of this library in the rows of its peers.
//!
//! The builder is not in this tree yet: until it is, no row has a contender of ours and no
//! comparison with one is made, so no figure of ours is printed.

use super::Scale;
use super::peers::Map;
use super::row::Row;

/// `ours_w1` and `ours_w2` in `pipeline/near_zero`.
pub(super) fn near_zero(row: Row, _items: u64) -> Row {
    row
}

/// `ours_w2` with any map stage.
pub(super) fn mapped(row: Row, _items: u64, _map: impl Map) -> Row {
    row
}

/// `ours_w2`, with its processor time and its switches.
pub(super) fn busy(row: Row, _items: u64, _map: impl Map) -> Row {
    row
}

/// `ours_w2` and `ours_own_source`, whose source sleeps between two items.
pub(super) fn paced(row: Row, _items: u64) -> Row {
    row
}

/// `ours_pipeline` in `distribute`: unordered.
pub(super) fn distributes(row: Row, _workers: usize, _tasks: u64, _rounds: u64) -> Row {
    row
}

/// `ours_pipeline` in `buffers`.
pub(super) fn buffers(row: Row, _items: u64) -> Row {
    row
}

/// Rows of ours alone: from a panic to the return of the run, more threads than cores.
pub(super) fn rows(_scale: Scale) -> Vec<Row> {
    Vec::new()
}
