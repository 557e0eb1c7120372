//! Causal multi-head attention of one sequence, in blocks of queries up to the diagonal.
//!
//! Scores are held transposed, a row for each key and a column for each query: so a softmax runs down
//! the rows, one query in each lane of a register, and no lane is ever added to another. A block of
//! [`BLOCK`] queries i0..i1 sees the keys 0..i1 only, so what lies below the block is neither computed
//! nor read; within it the keys after the query are set to 0.

use super::Config;
use super::floats::Floats;
use super::gemm::{Mat, MatMut, PANEL, Panels, Write, matmul, pack_transposed};
use super::isa::{Isa, dispatch};
use super::math::{LANES, exp_down, fma};
use super::slot::{lanes_stride, row_stride};

/// Queries of a block: a panel of the scores' product.
pub(crate) const BLOCK: usize = PANEL;

/// The blocks of a sequence of length `t`.
fn blocks(t: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..t).step_by(BLOCK).map(move |i0| (i0, (i0 + BLOCK).min(t)))
}

/// `width` columns of the rows `rows` of a matrix whose rows are `stride` apart, from `column` on.
fn part(data: &[f32], stride: usize, rows: (usize, usize), column: usize, width: usize) -> Mat<'_> {
    Mat::new(&data[rows.0 * stride + column..], rows.1 - rows.0, width, stride)
}

/// y = softmax(q k^T / sqrt(HS), causal) v for each head.
///
/// `y`: (T, C). `qkv`: (T, 3C), the queries, keys and values of all heads, rows at [`row_stride`]. `att`: (NH, T, [`lanes_stride`]), the probabilities by key and query, kept for
/// [`attention_backward`]. `panels`: scratch of the panels of (HS, T).
pub(crate) fn attention_forward(
    isa: Isa,
    config: &Config,
    y: &mut [f32],
    att: &mut [f32],
    qkv: &[f32],
    panels: &mut [f32],
) {
    let (c, hs) = (config.width, config.head_width());
    let t = y.len() / c;
    if t == 0 {
        return;
    }
    let (ts, stride) = (lanes_stride(t), row_stride(3 * c));
    let scale = 1.0 / (hs as f32).sqrt();
    for h in 0..config.heads {
        let [q, k, v] = [h * hs, c + h * hs, 2 * c + h * hs];
        let att = &mut att[h * t * ts..(h + 1) * t * ts];
        pack_transposed(panels, &qkv[q..], t, hs, stride);
        for (i0, i1) in blocks(t) {
            let n = i1 - i0;
            let queries = Panels::new(&panels[i0 * hs..], hs, n);
            let scores = MatMut::new(&mut att[i0..], i1, n, ts);
            matmul(isa, scores, Write::Set, part(qkv, stride, (0, i1), k, hs), queries);
            causal_softmax(isa, &mut att[..i1 * ts], ts, i0, scale);
            let p = Mat::new(&att[i0..], i1, n, ts);
            let y = MatMut::new(&mut y[i0 * c + h * hs..], n, hs, c);
            matmul(isa, y, Write::Set, p.t(), part(qkv, stride, (0, i1), v, hs));
        }
    }
}

dispatch! {
    /// Each column of a block: p = exp(scale (s - max)) / sum over the keys up to the query, 0 beyond.
    ///
    /// `att`: (keys, `ts`). The block's queries are `first` and those after it, up to the last key.
    fn causal_softmax(att: &mut [f32], ts: usize, first: usize, scale: f32) = softmax_body;
}

#[inline(always)]
fn softmax_body<const FMA: bool>(att: &mut [f32], ts: usize, first: usize, scale: f32) {
    let last = (first + BLOCK).min(ts);
    for first in (first..last).step_by(LANES) {
        // Up to key `first` all lanes see it, from the last lane's query on none does.
        let (seen, masked) = att.split_at_mut(((first + LANES) * ts).min(att.len()));
        let mut largest = [f32::MIN; LANES];
        for (j, row) in seen.chunks_exact_mut(ts).enumerate() {
            let scores = lanes(row, first);
            for l in 0..LANES {
                scores[l] = if j > first + l { f32::MIN } else { scores[l] };
                largest[l] = if scores[l] > largest[l] { scores[l] } else { largest[l] };
            }
        }
        let mut norm = [0.0; LANES];
        for row in seen.chunks_exact_mut(ts) {
            let scores = lanes(row, first);
            for l in 0..LANES {
                scores[l] = exp_down::<FMA>((scores[l] - largest[l]) * scale);
                norm[l] += scores[l];
            }
        }
        for norm in &mut norm {
            *norm = 1.0 / *norm;
        }
        for row in seen.chunks_exact_mut(ts) {
            let p = lanes(row, first);
            for l in 0..LANES {
                p[l] *= norm[l];
            }
        }
        for row in masked.chunks_exact_mut(ts) {
            lanes(row, first).fill(0.0);
        }
    }
}

dispatch! {
    /// The same for queries whose scores lie in rows, one key after the other: row i, at `i * ts`, is the
    /// query at `first + i`. The sums run in the same order, so the bits are those of the blocks.
    pub(crate) fn causal_rows(scores: &mut [f32], ts: usize, first: usize, scale: f32) = rows_body;
}

#[inline(always)]
fn rows_body<const FMA: bool>(scores: &mut [f32], ts: usize, first: usize, scale: f32) {
    for (i, row) in scores.chunks_mut(ts).enumerate() {
        let (seen, masked) = row.split_at_mut((first + i + 1).min(row.len()));
        let mut largest = f32::MIN;
        for s in &*seen {
            largest = if *s > largest { *s } else { largest };
        }
        for s in &mut *seen {
            *s = exp_down::<FMA>((*s - largest) * scale);
        }
        let mut norm = 0.0;
        for s in &*seen {
            norm += s;
        }
        norm = 1.0 / norm;
        for s in seen {
            *s *= norm;
        }
        masked.fill(0.0);
    }
}

/// The lanes of a row from column `first` on.
#[inline(always)]
fn lanes(row: &mut [f32], first: usize) -> &mut [f32; LANES] {
    let (lanes, _) = row[first..].as_chunks_mut::<LANES>();
    &mut lanes[0]
}

/// What [`attention_backward`] works in.
#[derive(Debug)]
pub(crate) struct AttentionScratch {
    /// (T, BLOCK): the gradient of a block's probabilities; then (BLOCK, HS), that of its keys.
    dp: Floats,
    /// (T, HS) each: the gradients of a head's queries and values, until the head needs neither.
    dq: Floats,
    dv: Floats,
}

impl AttentionScratch {
    /// Room for the longest sequence.
    pub(crate) fn new(config: &Config) -> AttentionScratch {
        let room = |width: usize| Floats::new(config.context * width);
        let hs = config.head_width();
        AttentionScratch { dp: room(BLOCK.max(hs)), dq: room(hs), dv: room(hs) }
    }

    /// Its f32.
    pub(crate) fn len(&self) -> usize {
        self.dp.len() + self.dq.len() + self.dv.len()
    }
}

/// The gradient of [`attention_forward`], in place: `qkv` becomes the gradients of the queries, keys
/// and values, and `att` those of the scores.
///
/// `dy`: (T, C). `panels` as in the forward pass.
pub(crate) fn attention_backward(
    isa: Isa,
    config: &Config,
    qkv: &mut [f32],
    att: &mut [f32],
    dy: &[f32],
    panels: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    let (c, hs) = (config.width, config.head_width());
    let t = dy.len() / c;
    if t == 0 {
        return;
    }
    let (ts, stride) = (lanes_stride(t), row_stride(3 * c));
    let scale = 1.0 / (hs as f32).sqrt();
    let AttentionScratch { dp, dq, dv } = scratch;
    for h in 0..config.heads {
        let [q, k, v] = [h * hs, c + h * hs, 2 * c + h * hs];
        let att = &mut att[h * t * ts..(h + 1) * t * ts];
        let dy = &dy[h * hs..];
        for (j0, j1) in blocks(t) {
            // The keys of a block are seen by its own queries and all later ones.
            let p = part(att, ts, (j0, j1), j0, t - j0);
            let dv = MatMut::new(&mut dv[j0 * hs..], j1 - j0, hs, hs);
            matmul(isa, dv, Write::Set, p, part(dy, c, (j0, t), 0, hs));
        }
        pack_transposed(panels, dy, t, hs, c);
        for (i0, i1) in blocks(t) {
            let n = i1 - i0;
            let dys = Panels::new(&panels[i0 * hs..], hs, n);
            let values = part(qkv, stride, (0, i1), v, hs);
            matmul(isa, MatMut::new(dp, i1, n, BLOCK), Write::Set, values, dys);
            softmax_backward(isa, &mut att[..i1 * ts], ts, i0, &dp[..i1 * BLOCK], scale);
            let ds = Mat::new(&att[i0..], i1, n, ts);
            let dq = MatMut::new(&mut dq[i0 * hs..], n, hs, hs);
            matmul(isa, dq, Write::Set, ds.t(), part(qkv, stride, (0, i1), k, hs));
        }
        for (j0, j1) in blocks(t) {
            let ds = part(att, ts, (j0, j1), j0, t - j0);
            // Columns of the keys are written, those of the queries read.
            let dk = MatMut::new(dp, j1 - j0, hs, hs);
            matmul(isa, dk, Write::Set, ds, part(qkv, stride, (j0, t), q, hs));
            put(&mut qkv[j0 * stride + k..], stride, &dp[..(j1 - j0) * hs], hs);
        }
        put(&mut qkv[q..], stride, &dq[..t * hs], hs);
        put(&mut qkv[v..], stride, &dv[..t * hs], hs);
    }
}

/// Copies rows of `width` to rows that are `stride` apart.
fn put(to: &mut [f32], stride: usize, from: &[f32], width: usize) {
    for (to, from) in to.chunks_mut(stride).zip(from.chunks_exact(width)) {
        to[..width].copy_from_slice(from);
    }
}

dispatch! {
    /// p = p (d - sum(p d)) scale on each column of a block: through the softmax to the raw scores.
    ///
    /// `att`: (keys, `ts`). `d`: (keys, BLOCK), of the queries from `first` on.
    fn softmax_backward(att: &mut [f32], ts: usize, first: usize, d: &[f32], scale: f32)
        = softmax_backward_body;
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(
    att: &mut [f32],
    ts: usize,
    first: usize,
    d: &[f32],
    scale: f32,
) {
    let last = (first + BLOCK).min(ts);
    for at in (0..last - first).step_by(LANES) {
        let mut total = [0.0; LANES];
        for (row, d) in att.chunks_exact_mut(ts).zip(d.as_chunks::<BLOCK>().0) {
            let p = lanes(row, first + at);
            for l in 0..LANES {
                total[l] = fma::<FMA>(p[l], d[at + l], total[l]);
            }
        }
        for (row, d) in att.chunks_exact_mut(ts).zip(d.as_chunks::<BLOCK>().0) {
            let p = lanes(row, first + at);
            for l in 0..LANES {
                p[l] = p[l] * (d[at + l] - total[l]) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::panels_len;
    use super::super::twin::{self, assert_close, differences, inner, narrow, normal};
    use super::*;

    fn config(heads: usize, width: usize, context: usize) -> Config {
        Config { vocab: 1, layers: 1, heads, width, context }
    }

    /// y and dqkv; what the buffers held before is no number.
    fn both(isa: Isa, config: &Config, qkv: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (t, c) = (config.context, config.width);
        let room = |n: usize| vec![f32::NAN; n];
        let mut y = room(t * c);
        let mut att = room(config.heads * t * lanes_stride(t));
        let mut panels = room(panels_len(config.head_width(), t));
        attention_forward(isa, config, &mut y, &mut att, qkv, &mut panels);
        let mut dqkv = qkv.to_vec();
        let mut scratch = AttentionScratch::new(config);
        scratch.dp.fill(f32::NAN);
        attention_backward(isa, config, &mut dqkv, &mut att, dy, &mut panels, &mut scratch);
        (y, dqkv)
    }

    #[test]
    fn attention_and_its_gradient_are_those_of_the_plain_twin() {
        for (t, heads, c) in [(1, 1, 3), (5, 2, 6), (9, 1, 5), (34, 1, 2), (66, 1, 2), (2, 1, 40)] {
            let (qkv, dy) = (normal(t * 3 * c, 1.5, 1), normal(t * c, 1.0, 2));
            let want = twin::attention(&qkv, c, heads);
            let want_d = differences(&qkv, |qkv| inner(&dy, &twin::attention(qkv, c, heads)));
            for isa in Isa::available() {
                let (y, dqkv) = both(isa, &config(heads, c, t), &narrow(&qkv), &narrow(&dy));
                assert_close("y", &y, &want, 1e-6);
                assert_close("dqkv", &dqkv, &want_d, 1e-5);
            }
        }
    }

    #[test]
    fn several_blocks_of_queries_give_the_attention_of_the_plain_twin() {
        for t in [31, 32, 33, 63, 64, 65, 128, 200] {
            let (heads, c) = (2, 10);
            let qkv = normal(t * 3 * c, 1.0, 3);
            for isa in Isa::available() {
                let dy = vec![0.0; t * c];
                let (y, _) = both(isa, &config(heads, c, t), &narrow(&qkv), &dy);
                assert_close("y", &y, &twin::attention(&qkv, c, heads), 1e-6);
            }
        }
    }
}
