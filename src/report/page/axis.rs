//! Axes: from where to where, with ticks at round numbers, and where a value lies between them.

/// An axis over numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    log: bool,
    from: f64,
    to: f64,
    /// Values and their words.
    pub(super) ticks: Vec<(f64, String)>,
}

/// About so many ticks, at most.
const TICKS: f64 = 6.0;

impl Axis {
    /// Over all these values, to round numbers on both sides.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        let step = round_step((high - low) / TICKS);
        Self::with_step((low / step).floor(), (high / step).ceil(), step)
    }

    /// The same, from zero on.
    pub(super) fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        Self::linear(values.into_iter().chain([0.0]))
    }

    /// Over steps, from 0 to the last one: the axis ends there and not at a round number.
    pub(super) fn steps(last: u64) -> Self {
        let last = (last as f64).max(1.0);
        let step = round_step(last / TICKS).max(1.0);
        Axis { to: last, ..Self::with_step(0.0, (last / step).floor(), step) }
    }

    /// Over steps, each ten times the one before at the same distance.
    pub(super) fn log_steps(last: u64) -> Self {
        let last = (last as f64).max(2.0);
        let mut axis = Self::log([1.0, last]);
        axis.to = last;
        axis.ticks.retain(|(at, _)| *at <= last);
        axis
    }

    /// Over these values, each ten times the one before at the same distance. What is not above zero has no
    /// place on it.
    pub(super) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values.into_iter().filter(|value| *value > 0.0));
        let (low, high) = if low > 0.0 { (low, high) } else { (1.0, 10.0) };
        // Fewer digits where there are many decades.
        let decades = high.log10() - low.log10();
        let digits: &[f64] = match () {
            () if decades < 0.5 => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            () if decades < 2.2 => &[1.0, 2.0, 5.0],
            () => &[1.0],
        };
        let every = (decades / TICKS).ceil().max(1.0) as i32;
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let exponents = (first..=last).filter(|exponent| exponent % every == 0);
        let all: Vec<f64> =
            exponents.flat_map(|e| digits.iter().map(move |d| scaled(*d, e))).collect();
        // To the next tick on each side, or where there is none just as far as the values go.
        let from = all.iter().rev().find(|tick| **tick <= low * (1.0 + 1e-9)).unwrap_or(&low);
        let to = all.iter().find(|tick| **tick >= high * (1.0 - 1e-9)).unwrap_or(&high);
        let held = all.iter().filter(|tick| (*from..=*to).contains(*tick));
        let ticks = held.map(|tick| (*tick, words(*tick, *tick))).collect();
        Axis { log: true, from: *from, to: *to, ticks }
    }

    /// Ticks at `first`, `first + 1` … `last` times a step.
    fn with_step(first: f64, last: f64, step: f64) -> Self {
        let count = (last - first).round().clamp(0.0, 20.0) as u32;
        let at = |i: u32| (first + f64::from(i)) * step;
        let ticks = (0..=count).map(|i| (at(i), words(at(i), step))).collect();
        Axis { log: false, from: first * step, to: at(count), ticks }
    }

    /// Where a value lies: 0 at the begin, 1 at the end, no further.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.log {
            false => (value - self.from) / (self.to - self.from),
            true => {
                let from = self.from.ln();
                (value.max(f64::MIN_POSITIVE).ln() - from) / (self.to.ln() - from)
            }
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// The least and the greatest; apart, so that an axis has a length.
fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    match high - low {
        spread if spread.is_finite() && spread > high.abs().max(low.abs()) * 1e-9 => (low, high),
        _ if low.is_finite() && low != 0.0 => (low - low.abs() / 10.0, low + low.abs() / 10.0),
        _ => (0.0, 1.0),
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let exponent = step.log10().floor().clamp(-300.0, 300.0) as i32;
    let fits = |digit: &f64| scaled(*digit, exponent) >= step * (1.0 - 1e-9);
    scaled([1.0, 2.0, 5.0].into_iter().find(fits).unwrap_or(10.0), exponent)
}

/// `digit` times a power of ten, as it is read: 0.3 and not 0.30000000000000004.
fn scaled(digit: f64, exponent: i32) -> f64 {
    format!("{digit}e{exponent}").parse().unwrap_or(digit)
}

/// A tick's words, with the digits that a distance of `step` needs.
fn words(value: f64, step: f64) -> String {
    let decimals = decimals(step);
    match value.abs() {
        size if size >= 1e15 || decimals > 6 && size > 0.0 => format!("{value:e}"),
        size if size >= 1000.0 && decimals == 0 => {
            let sign = if value < 0.0 { "−" } else { "" };
            format!("{sign}{}", super::markup::grouped(size.round() as u64))
        }
        _ => format!("{value:.decimals$}").replace('-', "−"),
    }
}

fn decimals(step: f64) -> usize {
    let shown = format!("{}", scaled(1.0, 0) * step);
    shown.split_once('.').map_or(0, |(_, digits)| digits.len().min(12))
}

#[cfg(test)]
mod tests {
    use super::Axis;

    fn shown(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, words)| words.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_all_values_between_them() {
        assert_eq!(shown(&Axis::linear([0.71, 5.63])), ["0", "1", "2", "3", "4", "5", "6"]);
        assert_eq!(
            shown(&Axis::linear([1.23, 1.31])),
            ["1.22", "1.24", "1.26", "1.28", "1.30", "1.32"]
        );
        let rates = Axis::from_zero([0.0005, 0.0031]);
        assert_eq!(shown(&rates), ["0.000", "0.001", "0.002", "0.003", "0.004"]);
        assert_eq!(shown(&Axis::linear([-2.0, 1.5])), ["−2", "−1", "0", "1", "2"]);
        assert_eq!(shown(&Axis::from_zero([1_800_000.0])).last(), Some(&"2,000,000"));
        for scale in [1e-30, 1e-7, 0.03, 1.0, 7e5, 3e22] {
            let values = [1.1 * scale, 9.7 * scale];
            for axis in [Axis::linear(values), Axis::from_zero(values), Axis::log(values)] {
                assert!((2..=13).contains(&axis.ticks.len()), "{axis:?}");
                let places = values.map(|value| axis.place(value));
                assert!(0.0 <= places[0] && places[0] < places[1] && places[1] <= 1.0, "{axis:?}");
                assert!(places.iter().zip(values).all(|(place, value)| {
                    // None was clamped.
                    *place > 0.0 && *place < 1.0 || axis.ticks.iter().any(|(at, _)| *at == value)
                }));
                assert!(axis.ticks.is_sorted_by(|a, b| a.0 < b.0), "{axis:?}");
            }
        }
    }

    #[test]
    fn steps_end_where_the_run_ends() {
        let axis = Axis::steps(2_000);
        assert_eq!(shown(&axis), ["0", "500", "1,000", "1,500", "2,000"]);
        let odd = Axis::steps(317);
        assert_eq!(shown(&odd), ["0", "100", "200", "300"]);
        assert_eq!((odd.place(317.0), odd.place(0.0)), (1.0, 0.0));
        assert_eq!(shown(&Axis::steps(1)), ["0", "1"]);
        assert_eq!(shown(&Axis::log_steps(2_000)), ["1", "10", "100", "1,000"]);
        assert_eq!(shown(&Axis::log_steps(30)), ["1", "2", "5", "10", "20"]);
        assert_eq!(Axis::log_steps(2_000).place(2_000.0), 1.0);
    }

    #[test]
    fn decades_are_equally_far_apart() {
        let axis = Axis::log([0.02, 900.0]);
        assert_eq!(shown(&axis), ["0.01", "0.1", "1", "10", "100", "1,000"]);
        for (at, (tick, _)) in axis.ticks.iter().enumerate() {
            assert!((axis.place(*tick) - at as f64 / 5.0).abs() < 1e-9);
        }
        assert_eq!(shown(&Axis::log([0.7, 5.6])), ["0.5", "1", "2", "5", "10"]);
        let tight = Axis::log([1.9, 2.2]);
        assert!(tight.ticks.len() >= 2, "{tight:?}");
        assert!(Axis::log([1e-12, 1e30]).ticks.len() <= 8);
    }

    #[test]
    fn an_axis_of_nothing_of_one_value_and_of_what_is_no_number_has_a_length() {
        for values in
            [&[][..], &[0.0], &[7.0], &[-7.0], &[f64::NAN, f64::INFINITY], &[1e300, 1e-300]]
        {
            for axis in [
                Axis::linear(values.iter().copied()),
                Axis::from_zero(values.iter().copied()),
                Axis::log(values.iter().copied()),
            ] {
                assert!(axis.ticks.len() >= 2 && axis.to > axis.from, "{values:?} {axis:?}");
                assert!(axis.place(f64::NAN) == 0.0 && axis.place(f64::MAX) <= 1.0);
            }
        }
    }
}
