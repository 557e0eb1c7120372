//! What the benchmarks share.

pub mod engine;
pub mod peak;
pub mod texts;
pub mod training;

/// The middle of `values`, or the mean of the middle two.
///
/// # Panics
/// When there are none.
pub fn median(values: &mut [f64]) -> f64 {
    assert!(!values.is_empty(), "the median of nothing");
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}
