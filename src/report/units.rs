//! Numbers as people read them: three digits or so, and a unit.

/// A count: `950`, `12.3 k`, `4.56 M`.
///
/// ```
/// use twelvefold::report::units;
///
/// assert_eq!(units::count(12_345.0), "12.3 k");
/// assert_eq!(units::bytes(3_400_000), "3.4 MB");
/// assert_eq!(units::seconds(72.4), "1 m 12 s");
/// ```
pub fn count(value: f64) -> String {
    scaled(value, &["", "k", "M", "G", "T", "P", "E"])
}

/// A size in powers of 1,000: `3.4 MB`.
///
/// ```
/// assert_eq!(twelvefold::report::units::bytes(950), "950 B");
/// ```
pub fn bytes(value: u64) -> String {
    scaled(value as f64, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

fn scaled(value: f64, units: &[&str]) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let (mut value, mut unit) = (value, 0);
    // 999.95 would print as 1000.0.
    while value.abs() >= if unit == 0 { 999.5 } else { 999.95 } && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit]).trim_end().to_owned()
}

/// A time: `0.25 s`, `7.3 s`, `42 s`, `1 m 12 s`, `3 h 05 m`, `2 d 04 h`.
///
/// ```
/// assert_eq!(twelvefold::report::units::seconds(7.31), "7.3 s");
/// ```
pub fn seconds(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "-".to_owned();
    }
    let whole = value.round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match whole {
        0 if value < 0.9995 => format!("{value:.2} s"),
        0..10 if value < 9.95 => format!("{value:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{minutes} m {:02} s", whole % 60),
        3600..86_400 => format!("{hours} h {:02} m", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

/// A share in percent: `97.3 %`, `-` where it is no number.
///
/// ```
/// assert_eq!(twelvefold::report::units::percent(0.973), "97.3 %");
/// ```
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{bytes, count, percent, seconds};

    #[test]
    fn counts_and_sizes_change_their_unit_where_they_would_print_1000() {
        let cases = [(0.0, "0"), (999.4, "999"), (999.5, "1.0 k"), (999_940.0, "999.9 k")];
        for (value, text) in cases.into_iter().chain([(999_960.0, "1.0 M"), (-12_300.0, "-12.3 k")])
        {
            assert_eq!(count(value), text);
        }
        assert_eq!(count(f64::NAN), "-");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(3_400_000), "3.4 MB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
    }

    #[test]
    fn times_change_their_unit_where_they_would_print_60() {
        let cases = [(0.0, "0.00 s"), (0.254, "0.25 s"), (1.0, "1.0 s"), (9.96, "10 s")];
        let longer = [(59.4, "59 s"), (59.6, "1 m 00 s"), (72.4, "1 m 12 s"), (3599.7, "1 h 00 m")];
        for (value, text) in cases.into_iter().chain(longer).chain([(187_200.0, "2 d 04 h")]) {
            assert_eq!(seconds(value), text);
        }
        assert_eq!(seconds(f64::INFINITY), "-");
        assert_eq!(percent(0.9731), "97.3 %");
    }
}
