//! Panels of the right operand, from rows that are its columns.

#![forbid(unsafe_code)]

use super::PANEL;

/// Elements that a (`rows`, `columns`) matrix takes as panels.
pub(crate) fn panels_len(rows: usize, columns: usize) -> usize {
    columns.next_multiple_of(PANEL) * rows
}

/// Elements that are read from a row at once: a cache line.
const CHUNK: usize = 16;

/// The panels of x^T. `x`: (N, K), row j at `x[j * stride]`; `panels`: [`panels_len`] of (K, N).
pub(crate) fn pack_transposed(
    panels: &mut [f32],
    x: &[f32],
    columns: usize,
    depth: usize,
    stride: usize,
) {
    if columns == 0 || depth == 0 {
        return;
    }
    for (p, panel) in
        panels.chunks_exact_mut(PANEL * depth).take(columns.div_ceil(PANEL)).enumerate()
    {
        let first = p * PANEL;
        let width = PANEL.min(columns - first);
        if width < PANEL {
            panel.fill(0.0);
        }
        for k0 in (0..depth).step_by(CHUNK) {
            let chunk = CHUNK.min(depth - k0);
            let row = |j: usize| &x[(first + j) * stride + k0..][..chunk];
            let lines = panel[k0 * PANEL..].as_chunks_mut::<PANEL>().0;
            let fours = width / 4 * 4;
            for j in (0..fours).step_by(4) {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| row(j + i));
                let columns = a.iter().zip(b).zip(c.iter().zip(d));
                for (line, ((a, b), (c, d))) in lines.iter_mut().zip(columns) {
                    line[j..j + 4].copy_from_slice(&[*a, *b, *c, *d]);
                }
            }
            for j in fours..width {
                for (line, x) in lines.iter_mut().zip(row(j)) {
                    line[j] = *x;
                }
            }
        }
    }
}
