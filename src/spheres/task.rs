//! What the phases of a step are made of: tasks, what follows them, and the documents of a row.

use crate::engine::trace::Label;
use crate::model::Sequence;

/// What a leaf takes from a deque. The number is the slot's or the tile's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Phase A: forward and backward to the activations of one slot's sequences.
    Sequences(u32),
    /// Phase B: the gradient of one tile over the micro-batch.
    Gradient(u32),
    /// AdamW on one tile.
    Update(u32),
    /// Evaluation: the losses of one slot's sequences.
    Losses(u32),
    /// The gradient of one tile over all ranks, on the one that owns it.
    Sum(u32),
    /// One tile's parameters as its owner, another rank, has updated them.
    Adopt(u32),
}

pub(super) static FORWARD_BACKWARD: Label =
    Label { name: "forward and backward", args: ["micro_batch", "slot"] };
pub(super) static GRADIENT: Label =
    Label { name: "weight gradient", args: ["micro_batch", "tile"] };
pub(super) static UPDATE: Label = Label { name: "optimizer", args: ["", "tile"] };
pub(super) static LOSSES: Label = Label { name: "validation", args: ["", "slot"] };
pub(super) static SUM: Label = Label { name: "sum over ranks", args: ["", "tile"] };
pub(super) static ADOPT: Label = Label { name: "adopt", args: ["", "tile"] };
/// The last arriver of a phase sums what its tasks gave.
pub(super) static REDUCE: Label = Label { name: "reduce", args: ["", ""] };

/// What one micro-batch gave.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct MicroBatch {
    /// The sum of its losses.
    pub(super) loss: f64,
    /// The first sequence whose loss is no number, and the sphere that computed it.
    pub(super) bad: Option<(usize, usize)>,
}

/// The documents of a row, each from its `separator` on.
pub(crate) fn documents(
    separator: Option<u32>,
    row: Sequence<'_>,
) -> impl Iterator<Item = Sequence<'_>> + use<'_> {
    let mut rest = Some(row);
    std::iter::from_fn(move || {
        let (inputs, targets) = rest.take()?;
        let Some(end) = (1..inputs.len()).find(|&i| Some(inputs[i]) == separator) else {
            return Some((inputs, targets));
        };
        rest = Some((&inputs[end..], &targets[end..]));
        Some((&inputs[..end], &targets[..end]))
    })
}

/// What a phase's last arriver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Sequences(u32),
    /// Of all tiles, from one of them on.
    Gradients {
        tiles: u32,
        first: u32,
    },
    Updates(u32),
    Complete,
}

impl Next {
    /// The tasks of the phase to open; `None` when the step is complete.
    pub(super) fn tasks(self) -> Option<impl ExactSizeIterator<Item = Task>> {
        let (count, first, task): (u32, u32, fn(u32) -> Task) = match self {
            Next::Sequences(n) => (n, 0, Task::Sequences),
            Next::Gradients { tiles, first } => (tiles, first, Task::Gradient),
            Next::Updates(n) => (n, 0, Task::Update),
            Next::Complete => return None,
        };
        Some((0..count).map(move |i| task((first + i) % count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_falls_into_documents_that_begin_with_a_separator() {
        let parts = |separator, row: &[u32]| -> Vec<usize> {
            documents(separator, (row, row)).map(|(inputs, _)| inputs.len()).collect()
        };
        assert_eq!(parts(Some(0), &[0, 1, 2, 0, 0, 3]), [3, 1, 2]);
        assert_eq!(parts(Some(0), &[1, 2, 0]), [2, 1]);
        assert_eq!(parts(Some(9), &[1, 2, 0]), [3]);
        assert_eq!(parts(None, &[0, 0]), [2]);
        assert_eq!(parts(Some(0), &[]), [0]);
    }
}
