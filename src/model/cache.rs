//! The forward pass of the tokens that follow those before, from what attention needs of these.
//!
//! A row of the whole forward pass reads the keys and values of the rows before it and nothing else of
//! them; so these are kept, and a token costs what its own row costs. The sums are the same, in the same
//! order: the logits have the bits of [`forward_logits`](super::forward_logits) over all tokens, however
//! they were handed in.
//!
//! Keys lie as panels, as the product of the scores reads its right operand: with one query its terms
//! still fill whole registers. Tokens that come together pass each matrix in blocks of [`ROWS`].

use super::attention::causal_rows;
use super::floats::Floats;
use super::gelu::gelu_forward;
use super::gemm::{Mat, MatMut, PANEL, Panels, Write, matmul, pack_transposed, panels_len};
use super::isa::Isa;
use super::layernorm::layernorm_forward;
use super::layout::{block_ranges, final_norm_ranges, place, wpe_range, wte_range};
use super::linear::linear_forward;
use super::{Config, Weights};
use std::fmt;
use std::ops::Range;

/// Tokens that pass a matrix together.
const ROWS: usize = 32;

/// The keys and values of the tokens so far, and room for the rows of a block.
///
/// About `8 L C T` bytes, T the context: 76 MB for GPT-2's 124 M parameters.
///
/// ```
/// use twelvefold::model::{Cache, Config, Isa};
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let cache = Cache::new(&config, Isa::detect()?);
/// assert_eq!((cache.len(), cache.room()), (0, 4));
/// # Ok::<(), twelvefold::Error>(())
/// ```
pub struct Cache {
    isa: Isa,
    context: usize,
    len: usize,
    /// (L, NH) panels of (HS, T).
    keys: Floats,
    /// (L, T, C).
    values: Floats,
    rows: Rows,
}

/// The activations of a block of tokens. T stands for its rows.
struct Rows {
    /// (T, C) each: the residual stream, and after the next part.
    x: Floats,
    y: Floats,
    /// (T, C): what a norm gives; what the heads give.
    normed: Floats,
    heads: Floats,
    /// (T) each: a norm's statistics, which nobody reads.
    mean: Vec<f32>,
    rstd: Vec<f32>,
    /// (T, 3C).
    qkv: Floats,
    /// (T, context): scores, then probabilities, of one head.
    scores: Floats,
    /// (T, 4C) each.
    hidden: Floats,
    active: Floats,
    /// Panels of (C, 1).
    last: Floats,
}

impl Cache {
    /// For a model of these sizes, empty.
    pub fn new(config: &Config, isa: Isa) -> Cache {
        let Config { layers: l, heads: nh, width: c, context: t, .. } = *config;
        let n = ROWS.min(t);
        let room = |columns: usize| Floats::new(n * columns);
        Cache {
            isa,
            context: t,
            len: 0,
            keys: Floats::new(l * nh * panels_len(config.head_width(), t)),
            values: Floats::new(l * t * c),
            rows: Rows {
                x: room(c),
                y: room(c),
                normed: room(c),
                heads: room(c),
                mean: vec![0.0; n],
                rstd: vec![0.0; n],
                qkv: room(3 * c),
                scores: room(t),
                hidden: room(4 * c),
                active: room(4 * c),
                last: Floats::new(panels_len(c, 1)),
            },
        }
    }

    /// Tokens that it holds; the next one stands at this position.
    #[expect(
        clippy::len_without_is_empty,
        reason = "`len` is a position; nobody asks for the first"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tokens for which there is room.
    pub fn room(&self) -> usize {
        self.context - self.len
    }

    /// Forgets all tokens.
    ///
    /// ```
    /// use twelvefold::model::{Cache, Config, Isa, Layout, Weights, forward_next, pack};
    /// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
    /// let params = Layout::new(&config).init(1);
    /// let panels = pack(&config, &params);
    /// let weights = Weights::new(&config, &params, &panels);
    /// let (mut cache, mut logits) = (Cache::new(&config, Isa::detect()?), [0.0; 10]);
    /// forward_next(&config, weights, &[1, 2, 3, 4], &mut logits, &mut cache);
    /// assert_eq!(cache.room(), 0);
    /// cache.clear();
    /// assert_eq!(cache.room(), 4);
    /// # Ok::<(), twelvefold::Error>(())
    /// ```
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The logits of the token that follows `tokens`, which follow those in `cache` and are kept there.
/// `logits`: (V).
///
/// The same bits as [`forward_logits`](super::forward_logits) gives for all tokens so far. Allocates
/// nothing. One token at a time takes what its row takes, and what attention takes to look at those before.
///
/// ```
/// use twelvefold::model::{
///     Cache, Config, Isa, Layout, Scratch, Slot, Weights, forward_logits, forward_next, pack,
/// };
/// let config = Config { vocab: 10, layers: 1, heads: 2, width: 8, context: 4 };
/// let params = Layout::new(&config).init(1);
/// let panels = pack(&config, &params);
/// let weights = Weights::new(&config, &params, &panels);
/// let isa = Isa::detect()?;
/// let (mut cache, mut logits) = (Cache::new(&config, isa), [0.0; 10]);
/// forward_next(&config, weights, &[1, 2], &mut logits, &mut cache);
/// forward_next(&config, weights, &[3], &mut logits, &mut cache);
///
/// let (mut slot, mut scratch) = (Slot::new(&config, 1), Scratch::new(&config, 1, isa));
/// let mut whole = [0.0; 10];
/// forward_logits(&config, weights, &[1, 2, 3], &mut whole, &mut slot, &mut scratch);
/// assert_eq!(logits, whole);
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Panics
/// Where `tokens` is empty or longer than [`Cache::room`], a token lies outside the vocabulary, `logits`
/// is not `config.vocab` long, or `cache` was made for other sizes.
pub fn forward_next(
    config: &Config,
    weights: Weights<'_>,
    tokens: &[u32],
    logits: &mut [f32],
    cache: &mut Cache,
) {
    let (c, v) = (config.width, config.vocab);
    assert!(!tokens.is_empty(), "logits follow at least one token");
    assert!(tokens.len() <= cache.room(), "{} tokens for {}", tokens.len(), cache.room());
    assert!(tokens.iter().all(|t| (*t as usize) < v), "a token outside the vocabulary");
    assert!(cache.values.len() == config.layers * config.context * c, "a cache of other sizes");
    for block in tokens.chunks(ROWS) {
        embed(config, weights.params(), block, cache);
        for layer in 0..config.layers {
            attention_part(config, weights, cache, layer, block.len());
            mlp_part(config, weights, cache, layer, block.len());
        }
        cache.len += block.len();
    }
    let n = (tokens.len() - 1) % ROWS;
    let [weight, bias] = final_norm_ranges(config).map(|r| &weights.params()[r]);
    let Rows { x, normed, mean, rstd, last, .. } = &mut cache.rows;
    let (x, normed) = (&x[n * c..(n + 1) * c], &mut normed[..c]);
    layernorm_forward(cache.isa, normed, &mut mean[..1], &mut rstd[..1], x, weight, bias);
    pack_transposed(last, normed, 1, c, c);
    let wte = Mat::new(&weights.params()[wte_range(config)], v, c, c);
    matmul(cache.isa, MatMut::new(logits, v, 1, 1), Write::Set, wte, Panels::new(last, c, 1));
}

/// x (T, C) = wte[token] + wpe[position].
fn embed(config: &Config, params: &[f32], tokens: &[u32], cache: &mut Cache) {
    let c = config.width;
    let (wte, wpe) = (&params[wte_range(config)], &params[wpe_range(config)]);
    let positions = wpe[cache.len * c..].chunks_exact(c);
    let rows = cache.rows.x.chunks_exact_mut(c);
    for ((x, position), &token) in rows.zip(positions).zip(tokens) {
        let embedding = &wte[token as usize * c..][..c];
        for ((x, e), p) in x.iter_mut().zip(embedding).zip(position) {
            *x = e + p;
        }
    }
}

/// x += attention(norm(x)), for the `n` rows of a block.
fn attention_part(
    config: &Config,
    weights: Weights<'_>,
    cache: &mut Cache,
    layer: usize,
    n: usize,
) {
    let (c, isa) = (config.width, cache.isa);
    let [ln_w, ln_b, _, attn_b, _, proj_b, ..] =
        block_ranges(config, layer).map(|r| &weights.params()[r]);
    let [attn_w, proj_w] =
        [place::ATTN_W, place::ATTN_PROJ_W].map(|place| weights.forward(config, layer, place));
    let Rows { x, y, normed, heads, mean, rstd, qkv, scores, .. } = &mut cache.rows;
    let (x, normed, qkv) = (&mut x[..n * c], &mut normed[..n * c], &mut qkv[..n * 3 * c]);
    layernorm_forward(isa, normed, &mut mean[..n], &mut rstd[..n], x, ln_w, ln_b);
    let out = MatMut::new(qkv, n, 3 * c, 3 * c);
    linear_forward(isa, out, Write::Bias(attn_b), Mat::new(normed, n, c, c), attn_w);

    let positions = cache.len..cache.len + n;
    let per_head = panels_len(config.head_width(), config.context);
    let keys = &mut cache.keys[layer * config.heads * per_head..][..config.heads * per_head];
    let values = &mut cache.values[layer * config.context * c..][..config.context * c];
    append(config, qkv, positions.clone(), keys, values);
    let heads = &mut heads[..n * c];
    attend(isa, config, heads, qkv, positions, keys, values, scores);

    let (write, y) = (Write::BiasResidual(proj_b, x), &mut y[..n * c]);
    linear_forward(isa, MatMut::new(y, n, c, c), write, Mat::new(heads, n, c, c), proj_w);
    x.copy_from_slice(y);
}

/// Keeps the keys and values of the rows at `positions`.
fn append(
    config: &Config,
    qkv: &[f32],
    positions: Range<usize>,
    keys: &mut [f32],
    values: &mut [f32],
) {
    let (c, hs) = (config.width, config.head_width());
    let per_head = panels_len(hs, config.context);
    for (row, at) in qkv.chunks_exact(3 * c).zip(positions) {
        let (panel, column) = (at / PANEL * hs * PANEL, at % PANEL);
        for (key, keys) in row[c..2 * c].chunks_exact(hs).zip(keys.chunks_exact_mut(per_head)) {
            for (k, line) in key.iter().zip(keys[panel..].chunks_exact_mut(PANEL)) {
                line[column] = *k;
            }
        }
        values[at * c..(at + 1) * c].copy_from_slice(&row[2 * c..]);
    }
}

/// heads (T, C) = softmax(q k^T / sqrt(HS), causal) v for each head, the rows at `positions`.
#[expect(clippy::too_many_arguments, reason = "a kernel names what it reads and writes")]
fn attend(
    isa: Isa,
    config: &Config,
    heads: &mut [f32],
    qkv: &[f32],
    positions: Range<usize>,
    keys: &[f32],
    values: &[f32],
    scores: &mut [f32],
) {
    let (c, hs, ts) = (config.width, config.head_width(), config.context);
    let (n, t) = (positions.len(), positions.end);
    let scale = 1.0 / (hs as f32).sqrt();
    for (h, keys) in keys.chunks_exact(panels_len(hs, config.context)).enumerate() {
        let queries = Mat::new(&qkv[h * hs..], n, hs, 3 * c);
        let out = MatMut::new(scores, n, t, ts);
        matmul(isa, out, Write::Set, queries, Panels::new(keys, hs, t));
        causal_rows(isa, &mut scores[..(n - 1) * ts + t], ts, positions.start, scale);
        let p = Mat::new(scores, n, t, ts);
        let out = MatMut::new(&mut heads[h * hs..], n, hs, c);
        matmul(isa, out, Write::Set, p, Mat::new(&values[h * hs..], t, hs, c));
    }
}

/// x += mlp(norm(x)), for the `n` rows of a block.
fn mlp_part(config: &Config, weights: Weights<'_>, cache: &mut Cache, layer: usize, n: usize) {
    let (c, isa) = (config.width, cache.isa);
    let [.., ln_w, ln_b, _, fc_b, _, proj_b] =
        block_ranges(config, layer).map(|r| &weights.params()[r]);
    let [fc_w, proj_w] =
        [place::FC_W, place::FC_PROJ_W].map(|place| weights.forward(config, layer, place));
    let Rows { x, y, normed, mean, rstd, hidden, active, .. } = &mut cache.rows;
    let (x, y, normed) = (&mut x[..n * c], &mut y[..n * c], &mut normed[..n * c]);
    let (hidden, active) = (&mut hidden[..n * 4 * c], &mut active[..n * 4 * c]);
    layernorm_forward(isa, normed, &mut mean[..n], &mut rstd[..n], x, ln_w, ln_b);
    let out = MatMut::new(hidden, n, 4 * c, 4 * c);
    linear_forward(isa, out, Write::Bias(fc_b), Mat::new(normed, n, c, c), fc_w);
    gelu_forward(isa, active, hidden, 4 * c, 4 * c);
    let write = Write::BiasResidual(proj_b, x);
    let active = Mat::new(active, n, 4 * c, 4 * c);
    linear_forward(isa, MatMut::new(y, n, c, c), write, active, proj_w);
    x.copy_from_slice(y);
}

#[cfg(test)]
mod tests {
    use super::super::twin::normal;
    use super::super::{Layout, Scratch, Slot, forward_logits, pack};
    use super::*;

    /// Parameters far from the first ones, so that every part counts.
    fn lively(config: &Config) -> Vec<f32> {
        let mut params = Layout::new(config).init(1);
        for (p, x) in params.iter_mut().zip(normal(Layout::new(config).len(), 0.2, 3)) {
            *p += x as f32;
        }
        params
    }

    fn tokens(config: &Config) -> Vec<u32> {
        (0..config.context).map(|i| (i * i * 7 + i * 3 + 1) as u32 % config.vocab as u32).collect()
    }

    /// After each of `parts`, which are as long as they say, the logits are those of the whole.
    fn compare(config: &Config, parts: &[usize]) {
        let (params, tokens) = (lively(config), tokens(config));
        let panels = pack(config, &params);
        let weights = Weights::new(config, &params, &panels);
        for isa in Isa::available() {
            let (mut slot, mut scratch) = (Slot::new(config, 1), Scratch::new(config, 1, isa));
            let mut cache = Cache::new(config, isa);
            let [mut next, mut whole] = [(); 2].map(|()| vec![f32::NAN; config.vocab]);
            // The second time over what the first has left behind.
            for _ in 0..2 {
                cache.clear();
                for part in parts {
                    let from = cache.len();
                    let new = &tokens[from..from + part];
                    forward_next(config, weights, new, &mut next, &mut cache);
                    let all = &tokens[..from + part];
                    forward_logits(config, weights, all, &mut whole, &mut slot, &mut scratch);
                    assert_eq!(next, whole, "{} after {from} and {part}", isa.name());
                    assert_eq!(cache.len(), from + part);
                }
            }
        }
    }

    /// 3 heads of width 7, one token after the other.
    #[test]
    fn one_token_at_a_time_gives_the_bits_of_the_whole_forward_pass() {
        let config = Config { vocab: 13, layers: 2, heads: 3, width: 21, context: 70 };
        compare(&config, &[1; 70]);
    }

    /// Parts that end within a block, at its end and beyond.
    #[test]
    fn tokens_that_come_together_give_the_bits_of_the_whole_forward_pass() {
        let config = Config { vocab: 13, layers: 2, heads: 2, width: 64, context: 131 };
        for parts in [&[131][..], &[32, 32, 1, 33, 2, 31], &[1, 64, 5, 40], &[33, 1, 1, 96]] {
            compare(&config, parts);
        }
    }

    /// Longer than a chain of multiply-adds: the sum over the keys falls into several.
    #[test]
    fn beyond_the_depth_of_a_block_the_bits_are_those_of_the_whole_forward_pass() {
        let config = Config { vocab: 9, layers: 1, heads: 1, width: 16, context: 530 };
        compare(&config, &[500, 1, 10, 1, 1, 17]);
        let wide = Config { vocab: 9, layers: 1, heads: 1, width: 544, context: 3 };
        compare(&wide, &[1, 2]);
    }

    #[test]
    #[should_panic(expected = "5 tokens for 4")]
    fn more_tokens_than_there_is_room_for_are_no_silent_overrun() {
        let config = Config { vocab: 9, layers: 1, heads: 1, width: 4, context: 4 };
        let params = lively(&config);
        let panels = pack(&config, &params);
        let mut cache = Cache::new(&config, Isa::available()[0]);
        let weights = Weights::new(&config, &params, &panels);
        forward_next(&config, weights, &[1; 5], &mut [0.0; 9], &mut cache);
    }
}
