//! Counting models of one and of two tokens: the yardsticks beside a trained model.
//!
//! Both see the training tokens once and are then asked about the validation tokens.
//!
//! - The unigram adds one half to every count (Jeffreys' prior), so that no token is impossible:
//!   `p(t) = (n(t) + 1/2) / (N + V/2)`.
//! - The bigram uses interpolated absolute discounting (Ney, Essen and Kneser, 1994):
//!   `p(t | s) = max(n(s,t) - D, 0) / n(s) + D * followers(s) / n(s) * p(t)`, with
//!   `D = n1 / (n1 + 2 n2)` from the numbers of pairs that were seen once and twice. After a token
//!   that was never seen before another, it is the unigram.
//!
//! Each distribution sums to 1 over the vocabulary. Memory: 24 bytes a token of the vocabulary and
//! one table entry a distinct pair, whatever the length of the corpus.

use rustc_hash::FxHashMap;

use super::Token;

/// Added to each count of the unigram.
const PRIOR: f64 = 0.5;

/// Counts of tokens and of pairs of neighbours.
///
/// The tokens before a document belong to another one, so a document's first token follows the
/// end-of-document token, as it does in the stream that a model is trained on.
///
/// # Examples
///
/// ```
/// use twelvefold::corpus::ngram::{Counts, Order, Score};
///
/// let end = 2;
/// let mut counts = Counts::new(3, end);
/// counts.observe(&[0, 1, 0, 1, end]);
/// counts.observe(&[0, 1, end]);
/// let model = counts.finish();
/// let (mut unigram, mut bigram) = (Score::new(Order::Unigram), Score::new(Order::Bigram));
/// unigram.add(&model, &[0, 1, 0, 1, end], 5);
/// bigram.add(&model, &[0, 1, 0, 1, end], 5);
/// assert!(bigram.nats_per_token() < unigram.nats_per_token());
/// ```
#[derive(Debug, Clone)]
pub struct Counts {
    end: Token,
    previous: Token,
    tokens: Vec<u64>,
    /// (before, after) -> count.
    pairs: FxHashMap<(Token, Token), u64>,
}

impl Counts {
    /// No counts yet, for tokens below `vocab`, of which `end` closes a document.
    pub fn new(vocab: usize, end: Token) -> Self {
        Counts { end, previous: end, tokens: vec![0; vocab], pairs: FxHashMap::default() }
    }

    /// Counts a document, or its next part: the first token follows the last one observed.
    ///
    /// A token outside the vocabulary is not counted.
    pub fn observe(&mut self, tokens: &[Token]) {
        for &token in tokens {
            if let Some(count) = self.tokens.get_mut(token as usize) {
                *count += 1;
                *self.pairs.entry((self.previous, token)).or_default() += 1;
                self.previous = token;
            }
        }
    }

    /// Ends the counting.
    pub fn finish(self) -> Ngram {
        let mut after = vec![Context::default(); self.tokens.len()];
        let (mut once, mut twice) = (0_u64, 0_u64);
        for (&(before, _), &count) in &self.pairs {
            if let Some(context) = after.get_mut(before as usize) {
                context.count += count;
                context.followers += 1;
            }
            once += u64::from(count == 1);
            twice += u64::from(count == 2);
        }
        let discount = match once + 2 * twice {
            0 => 0.5,
            all => once as f64 / all as f64,
        };
        // All of a count must not be taken away from pairs that were seen once only: where no pair
        // was seen twice, the estimate is 1 and no pair would be remembered.
        let discount = discount.min(0.95);
        let total = self.tokens.iter().sum();
        Ngram { counts: self, after, total, discount }
    }
}

/// What followed a token.
#[derive(Debug, Clone, Copy, Default)]
struct Context {
    count: u64,
    followers: u64,
}

/// The counted unigram and bigram, ready to be asked.
#[derive(Debug, Clone)]
pub struct Ngram {
    counts: Counts,
    after: Vec<Context>,
    total: u64,
    discount: f64,
}

impl Ngram {
    /// The unigram's probability of `token`; 0 outside the vocabulary.
    pub fn unigram(&self, token: Token) -> f64 {
        let vocab = self.counts.tokens.len() as f64;
        self.counts
            .tokens
            .get(token as usize)
            .map_or(0.0, |&count| (count as f64 + PRIOR) / (self.total as f64 + PRIOR * vocab))
    }

    /// The bigram's probability of `token` after `previous`; 0 outside the vocabulary.
    pub fn bigram(&self, previous: Token, token: Token) -> f64 {
        let unigram = self.unigram(token);
        let context = self.after.get(previous as usize).copied().unwrap_or_default();
        if context.count == 0 {
            return unigram;
        }
        let pair = self.counts.pairs.get(&(previous, token)).copied().unwrap_or_default() as f64;
        let kept = (pair - self.discount).max(0.0);
        let freed = self.discount * context.followers as f64;
        (kept + freed * unigram) / context.count as f64
    }
}

/// Which of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each token on its own.
    Unigram,
    /// Each token after the one before it.
    Bigram,
}

/// What one model paid for the tokens it was asked about.
#[derive(Debug, Clone)]
pub struct Score {
    order: Order,
    previous: Option<Token>,
    nats: f64,
    tokens: u64,
    bytes: u64,
}

impl Score {
    /// Nothing asked yet.
    pub fn new(order: Order) -> Self {
        Score { order, previous: None, nats: 0.0, tokens: 0, bytes: 0 }
    }

    /// Asks about a document, or its next part, that is `bytes` bytes of text.
    ///
    /// The same rule as in [`Counts::observe`]: the first token follows the last one asked about,
    /// and the very first an end of document. Tokens outside the vocabulary cost infinitely much.
    pub fn add(&mut self, model: &Ngram, tokens: &[Token], bytes: u64) {
        for &token in tokens {
            let previous = self.previous.replace(token).unwrap_or(model.counts.end);
            let probability = match self.order {
                Order::Unigram => model.unigram(token),
                Order::Bigram => model.bigram(previous, token),
            };
            self.nats -= probability.ln();
        }
        self.tokens += tokens.len() as u64;
        self.bytes += bytes;
    }

    /// Mean -ln probability of a token; 0 if none was asked about.
    pub fn nats_per_token(&self) -> f64 {
        self.nats / self.tokens.max(1) as f64
    }

    /// -log2 probability of all tokens, ends of documents included, per byte of text; 0 if none.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Ngram, Order, Score};

    const END: u32 = 3;

    /// Documents a b a b END, a c END: 8 tokens of a vocabulary of 5, one of them never seen.
    /// Pairs: END-a 2, a-b 2, b-a 1, b-END 1, a-c 1, c-END 1; so n1 = 4, n2 = 2, D = 4/8.
    fn counted() -> Ngram {
        let mut counts = Counts::new(5, END);
        counts.observe(&[0, 1, 0]);
        counts.observe(&[1, END]);
        counts.observe(&[0, 2, END]);
        counts.finish()
    }

    #[test]
    fn the_unigram_is_the_count_and_a_half() {
        let model = counted();
        assert_eq!(model.unigram(0), 3.5 / 10.5);
        assert_eq!(model.unigram(4), 0.5 / 10.5);
        assert_eq!(model.unigram(5), 0.0);
    }

    #[test]
    fn the_bigram_is_the_discounted_count_and_a_share_of_the_unigram() {
        let model = counted();
        assert_eq!(model.discount, 0.5);
        // After a: b twice, c once; followers 2.
        assert!((model.bigram(0, 1) - (1.5 + 2.0 * 0.5 * 2.5 / 10.5) / 3.0).abs() < 1e-15);
        assert!((model.bigram(0, 4) - (2.0 * 0.5 * 0.5 / 10.5) / 3.0).abs() < 1e-15);
        // Nothing ever followed token 4.
        assert_eq!(model.bigram(4, 1), model.unigram(1));
    }

    #[test]
    fn each_distribution_sums_to_one() {
        let model = counted();
        assert!(((0..5).map(|t| model.unigram(t)).sum::<f64>() - 1.0).abs() < 1e-12);
        for previous in 0..5 {
            assert!(((0..5).map(|t| model.bigram(previous, t)).sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_score_is_the_mean_over_tokens_and_over_bytes() {
        let model = counted();
        let mut score = Score::new(Order::Bigram);
        score.add(&model, &[0], 4);
        score.add(&model, &[1, END], 6);
        let nats = -(model.bigram(END, 0) * model.bigram(0, 1) * model.bigram(1, END)).ln();
        assert!((score.nats_per_token() - nats / 3.0).abs() < 1e-12);
        assert!((score.bits_per_byte() - nats / 2_f64.ln() / 10.0).abs() < 1e-12);
    }

    #[test]
    fn an_empty_score_is_zero_and_an_empty_count_is_uniform() {
        let model = Counts::new(4, END).finish();
        assert_eq!(model.bigram(0, 1), 0.25);
        assert_eq!(Score::new(Order::Unigram).bits_per_byte(), 0.0);
    }
}
