//! Causal multi-head attention of one sequence, in blocks of queries up to the diagonal.
//!
//! Scores are held transposed, a row for each key and a column for each query: so a softmax runs down
//! the rows, one query in each lane of a register, and no lane is ever added to another. A block of
//! [`BLOCK`] queries i0..i1 sees the keys 0..i1 only, so what lies below the block is neither computed
//! nor read; within it the keys after the query are set to 0.

use super::Config;
use super::gemm::{Mat, MatMut, PANEL, Panels, Write, matmul, pack_transposed};
use super::isa::{Isa, dispatch};
use super::math::{LANES, exp_down, fma};
use super::slot::lanes_stride;

/// Queries of a block: a panel of the scores' product.
pub(crate) const BLOCK: usize = PANEL;

/// The blocks of a sequence of length `t`.
fn blocks(t: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..t).step_by(BLOCK).map(move |i0| (i0, (i0 + BLOCK).min(t)))
}

/// The queries, keys and values of a sequence: (T, 3C), row i at `i * stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Qkv<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
}

impl<'a> Qkv<'a> {
    /// `width` columns from `column` on, of these rows.
    fn part(&self, rows: (usize, usize), column: usize, width: usize) -> Mat<'a> {
        let data = &self.data[rows.0 * self.stride + column..];
        Mat::new(data, rows.1 - rows.0, width, self.stride)
    }
}

/// y = softmax(q k^T / sqrt(HS), causal) v for each head.
///
/// `y`: (T, C). `att`: (NH, T, [`lanes_stride`]), the probabilities by key and query, kept for
/// [`attention_backward`]. `panels`: scratch of the panels of (HS, T).
pub(crate) fn attention_forward(
    isa: Isa,
    config: &Config,
    y: &mut [f32],
    att: &mut [f32],
    qkv: Qkv<'_>,
    panels: &mut [f32],
) {
    let (c, hs) = (config.width, config.head_width());
    let t = y.len() / c;
    if t == 0 {
        return;
    }
    let ts = lanes_stride(t);
    let scale = 1.0 / (hs as f32).sqrt();
    for h in 0..config.heads {
        let [q, k, v] = [h * hs, c + h * hs, 2 * c + h * hs];
        let att = &mut att[h * t * ts..(h + 1) * t * ts];
        pack_transposed(panels, &qkv.data[q..], t, hs, qkv.stride);
        for (i0, i1) in blocks(t) {
            let n = i1 - i0;
            let queries = Panels::new(&panels[i0 * hs..], hs, n);
            let scores = MatMut::new(&mut att[i0..], i1, n, ts);
            matmul(isa, scores, Write::Set, qkv.part((0, i1), k, hs), queries);
            causal_softmax(isa, &mut att[..i1 * ts], ts, i0, scale);
            let p = Mat::new(&att[i0..], i1, n, ts);
            let y = MatMut::new(&mut y[i0 * c + h * hs..], n, hs, c);
            matmul(isa, y, Write::Set, p.t(), qkv.part((0, i1), v, hs));
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

/// The lanes of a row from column `first` on.
#[inline(always)]
fn lanes(row: &mut [f32], first: usize) -> &mut [f32; LANES] {
    let (lanes, _) = row[first..].as_chunks_mut::<LANES>();
    &mut lanes[0]
}

/// What [`attention_backward`] works in.
#[derive(Debug)]
pub(crate) struct AttentionScratch<'a> {
    /// The panels of (HS, T).
    pub(crate) panels: &'a mut [f32],
    /// (T, BLOCK)
    pub(crate) dp: &'a mut [f32],
}

/// The gradient of [`attention_forward`] to its queries, keys and values.
///
/// `dqkv`: (T, 3C), rows as those of `qkv`, written over. `dy`: (T, C). `att` as the forward pass left
/// it; it ends as the gradient of the scores.
pub(crate) fn attention_backward(
    isa: Isa,
    config: &Config,
    dqkv: &mut [f32],
    scratch: AttentionScratch<'_>,
    dy: &[f32],
    att: &mut [f32],
    qkv: Qkv<'_>,
) {
    let (c, hs) = (config.width, config.head_width());
    let t = dy.len() / c;
    if t == 0 {
        return;
    }
    let ts = lanes_stride(t);
    let scale = 1.0 / (hs as f32).sqrt();
    for h in 0..config.heads {
        let [q, k, v] = [h * hs, c + h * hs, 2 * c + h * hs];
        let att = &mut att[h * t * ts..(h + 1) * t * ts];
        for (j0, j1) in blocks(t) {
            // The keys of a block are seen by its own queries and all later ones.
            let p = Mat::new(&att[j0 * ts + j0..], j1 - j0, t - j0, ts);
            let dv = MatMut::new(&mut dqkv[j0 * qkv.stride + v..], j1 - j0, hs, qkv.stride);
            matmul(isa, dv, Write::Set, p, Mat::new(&dy[j0 * c + h * hs..], t - j0, hs, c));
        }
        pack_transposed(scratch.panels, &dy[h * hs..], t, hs, c);
        for (i0, i1) in blocks(t) {
            let n = i1 - i0;
            let dp = &mut scratch.dp[..i1 * BLOCK];
            let dys = Panels::new(&scratch.panels[i0 * hs..], hs, n);
            let values = qkv.part((0, i1), v, hs);
            matmul(isa, MatMut::new(dp, i1, n, BLOCK), Write::Set, values, dys);
            softmax_backward(isa, &mut att[..i1 * ts], ts, i0, dp, scale);
            let ds = Mat::new(&att[i0..], i1, n, ts);
            let dq = MatMut::new(&mut dqkv[i0 * qkv.stride + q..], n, hs, qkv.stride);
            matmul(isa, dq, Write::Set, ds.t(), qkv.part((0, i1), k, hs));
        }
        for (j0, j1) in blocks(t) {
            let ds = Mat::new(&att[j0 * ts + j0..], j1 - j0, t - j0, ts);
            let dk = MatMut::new(&mut dqkv[j0 * qkv.stride + k..], j1 - j0, hs, qkv.stride);
            matmul(isa, dk, Write::Set, ds, qkv.part((j0, t), q, hs));
        }
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
        let (mut panels, mut dp) = (room(panels_len(config.head_width(), t)), room(t * BLOCK));
        let qkv = Qkv { data: qkv, stride: 3 * c };
        attention_forward(isa, config, &mut y, &mut att, qkv, &mut panels);
        let mut dqkv = room(t * 3 * c);
        let scratch = AttentionScratch { panels: &mut panels, dp: &mut dp };
        attention_backward(isa, config, &mut dqkv, scratch, dy, &mut att, qkv);
        (y, dqkv)
    }

    #[test]
    fn attention_and_its_gradient_are_those_of_the_plain_twin() {
        for (t, heads, c) in [(1, 1, 3), (5, 2, 6), (9, 1, 5), (34, 1, 2), (66, 1, 2)] {
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
