//! Text from a model: the next token by temperature, top-k and top-p, and the loop around it.
//!
//! The same logits and seed give the same tokens. Nothing here reaches the weights, so the system's
//! `exp` is good enough.

use std::cmp::Ordering;

use crate::error::Error;
use crate::model::Random;

/// Draws tokens from logits.
///
/// ```
/// use twelvefold::train::sample::Sampler;
///
/// let mut greedy = Sampler::new(0.0, 0, 1);
/// assert_eq!(greedy.next(&[0.1, 2.0, -1.0])?, 1);
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f64,
    random: Random,
    /// Token ids, best first; kept for its memory.
    order: Vec<u32>,
}

impl Sampler {
    /// `temperature` 0 takes the likeliest token always; `top_k` 0 lets every token in.
    pub fn new(temperature: f32, top_k: usize, seed: u64) -> Self {
        Self { temperature, top_k, top_p: 1.0, random: Random::new(seed, 0), order: Vec::new() }
    }

    /// Of these tokens, lets in the likeliest only, as few as have a probability of `top_p` together:
    /// after the temperature, and among those that `top_k` lets in. 1 lets in all.
    ///
    /// ```
    /// use twelvefold::train::sample::Sampler;
    ///
    /// // Probabilities of 0.67, 0.24, 0.09.
    /// let mut sampler = Sampler::new(1.0, 0, 1).top_p(0.9);
    /// for _ in 0..1000 {
    ///     assert_ne!(sampler.next(&[2.0, 1.0, 0.0])?, 2);
    /// }
    /// # Ok::<(), twelvefold::Error>(())
    /// ```
    #[must_use]
    pub fn top_p(self, top_p: f32) -> Self {
        Self { top_p: f64::from(top_p), ..self }
    }

    /// The next token: softmax(logits / temperature) over the `top_k` largest logits; of equal ones
    /// the smaller id comes first.
    ///
    /// # Errors
    /// [`Error::Input`] where there are no logits, where one is NaN or +∞, or all are −∞.
    pub fn next(&mut self, logits: &[f32]) -> Result<u32, Error> {
        if let Some(id) = logits.iter().position(|l| l.is_nan() || *l == f32::INFINITY) {
            return Err(broken(format!("the logit of token {id} is {}", logits[id])));
        }
        let best_first = |a: &u32, b: &u32| -> Ordering {
            logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
        };
        self.order.clear();
        self.order.extend((0..logits.len() as u32).filter(|i| logits[*i as usize].is_finite()));
        let kept = match (self.temperature > 0.0, self.top_k) {
            (false, _) => 1,
            (true, 0) => self.order.len(),
            (true, k) => k,
        };
        if kept < self.order.len() {
            self.order.select_nth_unstable_by(kept, best_first);
            self.order.truncate(kept);
        }
        self.order.sort_unstable_by(best_first);
        let Some(&best) = self.order.first() else {
            return Err(broken("no token has a finite logit".to_owned()));
        };
        if self.order.len() == 1 {
            return Ok(best);
        }
        Ok(self.draw(logits, best))
    }

    /// One of `order`, each with weight exp((logit − largest) / temperature).
    fn draw(&mut self, logits: &[f32], best: u32) -> u32 {
        let (largest, temperature) =
            (f64::from(logits[best as usize]), f64::from(self.temperature));
        let weight = |id: u32| ((f64::from(logits[id as usize]) - largest) / temperature).exp();
        let mut total: f64 = self.order.iter().map(|id| weight(*id)).sum();
        if self.top_p < 1.0 {
            // The draw below reaches those only that make up this much.
            let needed = self.top_p * total;
            let mut sum = 0.0;
            for id in &self.order {
                sum += weight(*id);
                if sum >= needed {
                    break;
                }
            }
            total = sum;
        }
        let mut left = self.random.uniform() * total;
        for &id in &self.order {
            left -= weight(id);
            if left < 0.0 {
                return id;
            }
        }
        best // Only where rounding left a crumb.
    }
}

fn broken(what: String) -> Error {
    Error::input(what, "the model has diverged: train again with a lower --lr")
}

/// How a text is continued.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most tokens that are added.
    pub tokens: usize,
    /// The most tokens that the model looks back.
    pub context: usize,
    /// The token that ends the text early; it is not part of the result.
    pub stop: Option<u32>,
}

/// Continues `prompt`. `logits` gets the last tokens (at most `context`) and fills its second
/// argument with the logits of the next one. Gives the new tokens only.
///
/// ```
/// use twelvefold::train::sample::{Limits, Sampler, generate};
///
/// // A "model" in which the next number follows; 4 ends the text.
/// let limits = Limits { tokens: 10, context: 8, stop: Some(4) };
/// let mut greedy = Sampler::new(0.0, 0, 1);
/// let text = generate(&[0], limits, &mut greedy, |tokens, logits| {
///     logits.clear();
///     logits.resize(5, 0.0);
///     logits[tokens[tokens.len() - 1] as usize + 1] = 1.0;
///     Ok(())
/// })?;
/// assert_eq!(text, [1, 2, 3]);
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Errors
/// [`Error::Input`] for an empty prompt (begin with the end-of-document token), and what `logits`
/// and [`Sampler::next`] say.
pub fn generate(
    prompt: &[u32],
    limits: Limits,
    sampler: &mut Sampler,
    mut logits: impl FnMut(&[u32], &mut Vec<f32>) -> Result<(), Error>,
) -> Result<Vec<u32>, Error> {
    if prompt.is_empty() {
        return Err(Error::input("there is no token to continue", ""));
    }
    let mut tokens = prompt.to_vec();
    let mut row = Vec::new();
    for _ in 0..limits.tokens {
        let start = tokens.len().saturating_sub(limits.context.max(1));
        logits(&tokens[start..], &mut row)?;
        let token = sampler.next(&row)?;
        if limits.stop == Some(token) {
            break;
        }
        tokens.push(token);
    }
    Ok(tokens.split_off(prompt.len()))
}

#[cfg(test)]
mod tests {
    use super::{Limits, Sampler, generate};

    const LOGITS: [f32; 5] = [0.0, 3.0, 1.0, 3.0, 2.0];

    fn drawn(temperature: f32, top_k: usize, seed: u64) -> [u32; 5] {
        let mut sampler = Sampler::new(temperature, top_k, seed);
        let mut counts = [0; 5];
        for _ in 0..20_000 {
            counts[sampler.next(&LOGITS).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn temperature_zero_takes_the_largest_and_of_equal_ones_the_first() {
        assert_eq!(drawn(0.0, 0, 7), [0, 20_000, 0, 0, 0]);
    }

    #[test]
    fn top_k_keeps_the_largest_logits_wherever_they_stand() {
        let counts = drawn(1.0, 3, 7);
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!(counts[1] > 0 && counts[3] > 0 && counts[4] > 0);
        assert_eq!(drawn(1.0, 2, 7)[4], 0);
        assert_eq!(drawn(1.0, 1, 7)[1], 20_000);
    }

    #[test]
    fn top_k_zero_draws_every_token_as_often_as_softmax_says() {
        let total: f64 = LOGITS.iter().map(|l| f64::from(*l).exp()).sum();
        for top_k in [0, 5, 500] {
            for (count, logit) in drawn(1.0, top_k, 3).into_iter().zip(LOGITS) {
                let expected = 20_000.0 * f64::from(logit).exp() / total;
                assert!((f64::from(count) - expected).abs() < 5.0 * expected.sqrt(), "{count}");
            }
        }
    }

    /// 3.0 twice has 0.78 of the probability, 2.0 another 0.14.
    #[test]
    fn top_p_keeps_the_likeliest_that_reach_it_together_and_they_keep_their_proportions() {
        let kept = |top_p: f32, temperature: f32, top_k: usize| -> Vec<usize> {
            let mut sampler = Sampler::new(temperature, top_k, 5).top_p(top_p);
            let mut counts = vec![0; 5];
            for _ in 0..20_000 {
                counts[sampler.next(&LOGITS).unwrap() as usize] += 1;
            }
            counts
        };
        let met =
            |counts: Vec<usize>| -> Vec<usize> { (0..5).filter(|i| counts[*i] > 0).collect() };
        assert_eq!(met(kept(0.3, 1.0, 0)), [1]);
        assert_eq!(met(kept(0.5, 1.0, 0)), [1, 3]);
        assert_eq!(met(kept(0.9, 1.0, 0)), [1, 3, 4]);
        assert_eq!(met(kept(0.9, 0.2, 0)), [1, 3], "after the temperature");
        assert_eq!(met(kept(0.9, 1.0, 2)), [1, 3], "among those of top-k");
        assert_eq!(met(kept(1.0, 1.0, 0)), [0, 1, 2, 3, 4]);
        let counts = kept(0.5, 1.0, 0);
        assert!(counts[1].abs_diff(10_000) < 400, "{counts:?}");
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_and_another_draws_others() {
        assert_eq!(drawn(0.8, 4, 1), drawn(0.8, 4, 1));
        assert_ne!(drawn(0.8, 4, 1), drawn(0.8, 4, 2));
    }

    #[test]
    fn a_logit_that_is_no_number_is_an_error_and_a_masked_one_is_never_drawn() {
        let mut sampler = Sampler::new(1.0, 0, 1);
        for logits in [&[][..], &[0.0, f32::NAN], &[f32::INFINITY], &[f32::NEG_INFINITY]] {
            assert!(sampler.next(logits).is_err());
        }
        assert!((0..100).all(|_| sampler.next(&[f32::NEG_INFINITY, 0.0]).unwrap() == 1));
    }

    #[test]
    fn the_loop_shows_at_most_the_context_and_stops_at_the_stop_token() {
        let limits = Limits { tokens: 10, context: 3, stop: Some(6) };
        let mut seen = Vec::new();
        let next = generate(&[1, 2], limits, &mut Sampler::new(0.0, 0, 1), |tokens, logits| {
            seen.push(tokens.to_vec());
            *logits = vec![0.0; 8];
            logits[tokens[tokens.len() - 1] as usize + 1] = 1.0;
            Ok(())
        });
        assert_eq!(next.unwrap(), [3, 4, 5]);
        assert_eq!(seen, [vec![1, 2], vec![1, 2, 3], vec![2, 3, 4], vec![3, 4, 5]]);
    }
}
