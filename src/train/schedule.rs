//! The learning rate of each step: linear warm-up, then cosine decay.
//!
//! With s the step (from 1), W the warm-up steps, S all steps, p the peak and f the floor:
//!
//! - s ≤ W: lr(s) = p · s / W
//! - W < s ≤ S: lr(s) = f + (p − f) · ½ · (1 + cos(π · (s − W) / (S − W)))
//!
//! so that lr(W) = p and lr(S) = f. The cosine part is that of Loshchilov and Hutter, "SGDR:
//! Stochastic Gradient Descent with Warm Restarts" (2017), eq. 5, without restarts. The cosine is
//! computed here and not by the system's library: its last bit would reach the weights.

/// A schedule; see the module for the formula.
///
/// ```
/// use twelvefold::train::schedule::Schedule;
///
/// let schedule = Schedule { peak: 1e-3, floor: 1e-4, warmup: 10, steps: 100 };
/// assert_eq!(schedule.rate(5), 5e-4);
/// assert_eq!(schedule.rate(10), 1e-3);
/// assert_eq!(schedule.rate(100), 1e-4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate, reached at the end of the warm-up.
    pub peak: f32,
    /// The rate of the last step.
    pub floor: f32,
    /// Steps of the warm-up; 0 starts at the peak. Best less than `steps`.
    pub warmup: u64,
    /// All steps of the run.
    pub steps: u64,
}

impl Schedule {
    /// The rate of one step, counted from 1. After the last step it stays at the floor.
    pub fn rate(&self, step: u64) -> f32 {
        let (peak, floor) = (f64::from(self.peak), f64::from(self.floor));
        if step <= self.warmup {
            return (peak * step as f64 / self.warmup.max(1) as f64) as f32;
        }
        if step >= self.steps {
            return self.floor;
        }
        let done = (step - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        (floor + (peak - floor) * 0.5 * (1.0 + cos_pi(done))) as f32
    }
}

/// cos(πx) for 0 ≤ x ≤ 1, within 2e-16: sin(π(½ − x)) by its Taylor series up to the 21st power,
/// where the next term is below 3e-17 at the ends.
fn cos_pi(x: f64) -> f64 {
    let a = std::f64::consts::PI * (0.5 - x);
    let square = a * a;
    // a (1 - a²/(2·3) (1 - a²/(4·5) (1 - ...)))
    let series = (1..=10).rev().fold(1.0, |inner, k| {
        let k = f64::from(k);
        1.0 - square / (2.0 * k * (2.0 * k + 1.0)) * inner
    });
    a * series
}

#[cfg(test)]
mod tests {
    use super::{Schedule, cos_pi};

    const SCHEDULE: Schedule = Schedule { peak: 1e-3, floor: 1e-4, warmup: 100, steps: 1000 };

    #[test]
    fn the_warm_up_rises_by_the_same_amount_each_step() {
        for step in 1..=100 {
            assert!((SCHEDULE.rate(step) - 1e-5 * step as f32).abs() < 1e-9, "{step}");
        }
        assert_eq!(SCHEDULE.rate(100), 1e-3);
    }

    #[test]
    fn the_decay_starts_at_the_peak_passes_the_middle_and_ends_at_the_floor() {
        assert!(SCHEDULE.rate(101) < 1e-3 && SCHEDULE.rate(101) > 0.999e-3);
        assert!((SCHEDULE.rate(550) - 5.5e-4).abs() < 1e-9);
        assert_eq!(SCHEDULE.rate(1000), 1e-4);
        assert_eq!(SCHEDULE.rate(1001), 1e-4);
        assert!((101..1000).all(|s| SCHEDULE.rate(s) > SCHEDULE.rate(s + 1)));
    }

    #[test]
    fn without_a_warm_up_the_first_step_is_already_on_the_cosine() {
        let schedule = Schedule { warmup: 0, steps: 2, ..SCHEDULE };
        assert!((schedule.rate(1) - 5.5e-4).abs() < 1e-9);
        assert_eq!(schedule.rate(2), 1e-4);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_only_rises() {
        let schedule = Schedule { steps: 10, ..SCHEDULE };
        assert!((schedule.rate(10) - 1e-4).abs() < 1e-9);
        assert_eq!(Schedule { steps: 100, ..SCHEDULE }.rate(100), 1e-3);
    }

    #[test]
    fn the_cosine_is_the_systems_within_its_last_bits() {
        for i in 0..=10_000 {
            let x = f64::from(i) / 10_000.0;
            assert!((cos_pi(x) - (std::f64::consts::PI * x).cos()).abs() < 4e-16, "{x}");
        }
    }
}
