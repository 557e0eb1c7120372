//! Causal multi-head attention of one sequence, in blocks of rows up to the diagonal.
//!
//! A block of [`ROWS`] queries i0..i1 sees the keys 0..i1 only, so what lies right of the block is
//! neither computed nor stored; within the block the part above the diagonal is set to 0.

use super::Config;
use super::isa::{Isa, dispatch};
use super::math::{dot, exp, max, sum};
use super::matmul::{Mat, MatMut, Write, matmul};

/// Queries of a block: enough for the matrix product, few enough to save the upper half.
pub(crate) const ROWS: usize = 64;

/// The blocks of rows of a sequence of length `t`.
fn blocks(t: usize) -> impl DoubleEndedIterator<Item = (usize, usize)> {
    (0..t.div_ceil(ROWS)).map(move |b| (b * ROWS, ((b + 1) * ROWS).min(t)))
}

/// y = softmax(q k^T / sqrt(HS), causal) v for each head.
///
/// `y`: (T, C). `att`: (NH, T, T), kept for [`attention_backward`]; of row i the first entries up to
/// the end of its block are written. `qkv`: (T, 3C), the queries, keys and values of all heads.
pub(crate) fn attention_forward(
    isa: Isa,
    config: &Config,
    y: &mut [f32],
    att: &mut [f32],
    qkv: &[f32],
) {
    let (c, hs) = (config.width, config.head_width());
    let t = y.len() / c;
    let scale = 1.0 / (hs as f32).sqrt();
    for h in 0..config.heads {
        let [q, k, v] = [h * hs, c + h * hs, 2 * c + h * hs];
        let att = &mut att[h * t * t..(h + 1) * t * t];
        for (i0, i1) in blocks(t) {
            let rows = i1 - i0;
            let att = &mut att[i0 * t..i1 * t];
            let queries = Mat::new(&qkv[i0 * 3 * c + q..], rows, hs, 3 * c);
            let keys = Mat::new(&qkv[k..], i1, hs, 3 * c);
            matmul(MatMut::new(att, rows, i1, t), Write::Set, queries, keys.t());
            causal_softmax(isa, att, t, i0, scale);
            let values = Mat::new(&qkv[v..], i1, hs, 3 * c);
            let y = MatMut::new(&mut y[i0 * c + h * hs..], rows, hs, c);
            matmul(y, Write::Set, Mat::new(att, rows, i1, t), values);
        }
    }
}

dispatch! {
    /// Each row of a block: p = exp(scale (s - max)) / sum over the keys up to the query, 0 beyond.
    ///
    /// `att`: (rows, T), the first row being query `first` of a sequence of length `t`.
    fn causal_softmax(att: &mut [f32], t: usize, first: usize, scale: f32) = softmax_body;
}

#[inline(always)]
fn softmax_body<const FMA: bool>(att: &mut [f32], t: usize, first: usize, scale: f32) {
    let end = first + att.len() / t;
    for (i, row) in att.chunks_exact_mut(t).enumerate() {
        let (row, masked) = row[..end].split_at_mut(first + i + 1);
        let largest = max(row);
        for s in row.iter_mut() {
            *s = exp::<FMA>((*s - largest) * scale);
        }
        let norm = 1.0 / sum(row);
        for p in row.iter_mut() {
            *p *= norm;
        }
        masked.fill(0.0);
    }
}

/// The gradient of [`attention_forward`] to its queries, keys and values.
///
/// `dqkv`: (T, 3C), written over. `datt`: scratch of `ROWS * T`. `dy`: (T, C). `att`: (NH, T, T) and
/// `qkv`: (T, 3C) as the forward pass left them.
pub(crate) fn attention_backward(
    isa: Isa,
    config: &Config,
    dqkv: &mut [f32],
    datt: &mut [f32],
    dy: &[f32],
    att: &[f32],
    qkv: &[f32],
) {
    let (c, hs) = (config.width, config.head_width());
    let t = dy.len() / c;
    let scale = 1.0 / (hs as f32).sqrt();
    for h in 0..config.heads {
        let [q, k, v] = [h * hs, c + h * hs, 2 * c + h * hs];
        let att = &att[h * t * t..(h + 1) * t * t];
        // From the last block, which sees all keys: it sets their gradients, the others add.
        for (i0, i1) in blocks(t).rev() {
            let rows = i1 - i0;
            let write = if i1 == t { Write::Set } else { Write::Add };
            let p = Mat::new(&att[i0 * t..], rows, i1, t);
            let dy = Mat::new(&dy[i0 * c + h * hs..], rows, hs, c);
            let queries = Mat::new(&qkv[i0 * 3 * c + q..], rows, hs, 3 * c);
            let keys = Mat::new(&qkv[k..], i1, hs, 3 * c);
            let values = Mat::new(&qkv[v..], i1, hs, 3 * c);
            let ds = &mut datt[..rows * i1];
            matmul(MatMut::new(ds, rows, i1, i1), Write::Set, dy, values.t());
            matmul(MatMut::new(&mut dqkv[v..], i1, hs, 3 * c), write, p.t(), dy);
            softmax_backward(isa, ds, i1, &att[i0 * t..i1 * t], t, scale);
            let ds = Mat::new(ds, rows, i1, i1);
            let dq = MatMut::new(&mut dqkv[i0 * 3 * c + q..], rows, hs, 3 * c);
            matmul(dq, Write::Set, ds, keys);
            matmul(MatMut::new(&mut dqkv[k..], i1, hs, 3 * c), write, ds.t(), queries);
        }
    }
}

dispatch! {
    /// d = p (d - sum(p d)) scale on each row: through the softmax to the raw scores.
    ///
    /// `d`: (rows, n). `p`: (rows, T), of which the first n columns count.
    fn softmax_backward(d: &mut [f32], n: usize, p: &[f32], t: usize, scale: f32)
        = softmax_backward_body;
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(
    d: &mut [f32],
    n: usize,
    p: &[f32],
    t: usize,
    scale: f32,
) {
    for (d, p) in d.chunks_exact_mut(n).zip(p.chunks_exact(t)) {
        let p = &p[..n];
        let total = dot::<FMA>(p, d);
        for (d, p) in d.iter_mut().zip(p) {
            *d = p * (*d - total) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::twin::{self, assert_close, differences, inner, narrow, normal};
    use super::*;

    fn config(heads: usize, width: usize, context: usize) -> Config {
        Config { vocab: 1, layers: 1, heads, width, context }
    }

    #[test]
    fn attention_and_its_gradient_are_those_of_the_plain_twin() {
        for (t, heads, c) in [(1, 1, 3), (5, 2, 6), (9, 1, 5), (66, 1, 2)] {
            let (qkv, dy) = (normal(t * 3 * c, 1.5, 1), normal(t * c, 1.0, 2));
            let want = twin::attention(&qkv, c, heads);
            let want_d = differences(&qkv, |qkv| inner(&dy, &twin::attention(qkv, c, heads)));
            for isa in Isa::available() {
                let config = config(heads, c, t);
                let qkv = narrow(&qkv);
                let (mut y, mut att) = (vec![f32::NAN; t * c], vec![f32::NAN; heads * t * t]);
                attention_forward(isa, &config, &mut y, &mut att, &qkv);
                assert_close("y", &y, &want, 1e-6);
                let (mut dqkv, mut datt) = (vec![f32::NAN; t * 3 * c], vec![0.0; ROWS.min(t) * t]);
                attention_backward(isa, &config, &mut dqkv, &mut datt, &narrow(&dy), &att, &qkv);
                assert_close("dqkv", &dqkv, &want_d, 1e-5);
            }
        }
    }

    #[test]
    fn several_blocks_of_rows_give_the_attention_of_the_plain_twin() {
        for t in [63, 64, 65, 128, 200] {
            let (heads, c) = (2, 10);
            let qkv = normal(t * 3 * c, 1.0, 3);
            let (mut y, mut att) = (vec![f32::NAN; t * c], vec![f32::NAN; heads * t * t]);
            let isa = Isa::available()[0];
            attention_forward(isa, &config(heads, c, t), &mut y, &mut att, &narrow(&qkv));
            assert_close("y", &y, &twin::attention(&qkv, c, heads), 1e-6);
        }
    }
}
