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

/// Seconds since 1970 as a date and a time; None before it, and where it is no number.
///
/// ```
/// assert_eq!(twelvefold::report::units::moment(0.0).unwrap(), "1970-01-01 00:00:00 UTC");
/// ```
pub fn moment(seconds: f64) -> Option<String> {
    // Up to the year 9999, which is beyond what a clock says.
    let whole = Some(seconds).filter(|s| (0.0..2.5e11).contains(s))? as u64;
    let (days, second) = (whole / 86_400, whole % 86_400);
    // Days since the first of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = 400 * era + year + u64::from(month < 3);
    let (hour, minute, second) = (second / 3_600, second % 3_600 / 60, second % 60);
    Some(format!("{year}-{month:02}-{of_month:02} {hour:02}:{minute:02}:{second:02} UTC"))
}

#[cfg(test)]
mod tests {
    use super::{bytes, count, moment, percent, seconds};

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

    #[test]
    fn seconds_since_1970_are_a_date_and_a_time() {
        let cases = [
            (0.0, "1970-01-01 00:00:00 UTC"),
            (951_782_399.9, "2000-02-28 23:59:59 UTC"),
            (951_782_400.0, "2000-02-29 00:00:00 UTC"),
            (1_735_689_600.0, "2025-01-01 00:00:00 UTC"),
            (4_107_542_400.0, "2100-03-01 00:00:00 UTC"),
        ];
        cases.into_iter().for_each(|(at, shown)| assert_eq!(moment(at).unwrap(), shown));
        assert!([f64::NAN, -1.0, 1e300].into_iter().all(|at| moment(at).is_none()));
    }
}
