//! A curve of any number of points in bounded memory: what is drawn, with every peak.
//!
//! Points come one by one, by rising step. They are gathered in buckets of equally many steps, a power of two;
//! when there are more than [`BUCKETS`], the width doubles and neighbours become one. A bucket keeps its
//! lowest and its highest point, so no spike is lost and what is drawn is at most two points for each bucket,
//! and the first and the last of all. Short curves are kept whole. The result depends on the points alone.

/// Two points each: about a thousand points are drawn of a longer curve.
pub(super) const BUCKETS: usize = 512;

/// A value after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(super) step: u64,
    pub(super) value: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    low: Point,
    high: Point,
    count: u64,
    /// Of the steps and of the values.
    sums: (f64, f64),
}

impl Bucket {
    fn of(point: Point) -> Self {
        let sums = (point.step as f64, point.value);
        Bucket { low: point, high: point, count: 1, sums }
    }

    /// Takes in a later one.
    fn add(&mut self, other: &Bucket) {
        if other.low.value < self.low.value {
            self.low = other.low;
        }
        if other.high.value > self.high.value {
            self.high = other.high;
        }
        self.count += other.count;
        self.sums = (self.sums.0 + other.sums.0, self.sums.1 + other.sums.1);
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Curve {
    /// A bucket holds the steps that are equal without so many last bits.
    shift: u32,
    buckets: Vec<Bucket>,
    first: Option<Point>,
    last: Option<Point>,
    count: u64,
}

impl Curve {
    /// The next point. One that is no number is left out.
    pub(super) fn add(&mut self, step: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        let point = Point { step, value };
        self.first = self.first.or(Some(point));
        self.last = Some(point);
        self.count += 1;
        self.push(Bucket::of(point));
        while self.buckets.len() > BUCKETS {
            self.shift += 1;
            for bucket in std::mem::take(&mut self.buckets) {
                self.push(bucket);
            }
        }
    }

    fn push(&mut self, bucket: Bucket) {
        let place = |bucket: &Bucket| bucket.low.step >> self.shift;
        match self.buckets.last_mut() {
            Some(last) if place(last) == place(&bucket) => last.add(&bucket),
            _ => self.buckets.push(bucket),
        }
    }

    /// How many points came.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn last(&self) -> Option<Point> {
        self.last
    }

    /// The point with the lowest value; of several the first.
    pub(super) fn lowest(&self) -> Option<Point> {
        let lows = self.buckets.iter().map(|bucket| bucket.low);
        lows.reduce(|a, b| if b.value < a.value { b } else { a })
    }

    /// The point with the highest value; of several the first.
    pub(super) fn highest(&self) -> Option<Point> {
        let highs = self.buckets.iter().map(|bucket| bucket.high);
        highs.reduce(|a, b| if b.value > a.value { b } else { a })
    }

    /// What is drawn, by rising step.
    pub(super) fn points(&self) -> Vec<Point> {
        let mut all: Vec<Point> = self.first.into_iter().collect();
        for Bucket { low, high, .. } in &self.buckets {
            let (one, two) = if low.step <= high.step { (low, high) } else { (high, low) };
            all.extend([one, two]);
        }
        all.extend(self.last);
        all.dedup_by_key(|point| point.step);
        all
    }

    /// The means of about `parts` equal parts, as (step, value); and how many steps each is of. Nothing
    /// where a part would be of one or two points.
    pub(super) fn means(&self, parts: usize) -> Option<(u64, Vec<(f64, f64)>)> {
        let first = self.first?.step;
        let width = self.last?.step.abs_diff(first) / parts as u64 + 1;
        // Of whole buckets, so that no bucket lies in two parts.
        let width = width.div_ceil(1 << self.shift) << self.shift;
        if width < 3 {
            return None;
        }
        let mut all: Vec<(u64, Bucket)> = Vec::with_capacity(parts + 2);
        for bucket in &self.buckets {
            let part = bucket.low.step / width;
            match all.last_mut() {
                Some((last, sum)) if *last == part => sum.add(bucket),
                _ => all.push((part, *bucket)),
            }
        }
        let mean = |(_, b): &(u64, Bucket)| (b.sums.0 / b.count as f64, b.sums.1 / b.count as f64);
        Some((width, all.iter().map(mean).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Curve, Point};

    fn curve(values: impl IntoIterator<Item = f64>) -> Curve {
        let mut curve = Curve::default();
        values.into_iter().enumerate().for_each(|(at, value)| curve.add(at as u64 + 1, value));
        curve
    }

    #[test]
    fn a_short_curve_is_drawn_point_by_point() {
        let values: Vec<f64> = (0..500).map(|i| f64::from(i * 7919 % 501)).collect();
        let drawn: Vec<f64> = curve(values.clone()).points().iter().map(|p| p.value).collect();
        assert_eq!(drawn, values);
        assert!(curve(values[..50].to_vec()).means(100).is_none(), "there is nothing to smooth");
        let empty = Curve::default();
        assert!(empty.points().is_empty() && empty.highest().is_none() && empty.means(9).is_none());
    }

    /// One spike up and one down, anywhere: both are drawn, where they stand.
    #[test]
    fn a_long_curve_keeps_every_peak_the_first_and_the_last_point_and_little_else() {
        let steps = 100_003_u64;
        for spike in [1, 2, 511, 4_096, 50_000, 99_998] {
            let value = |step: u64| match step {
                s if s == spike => 1e9,
                s if s == spike + 5 => -1e9,
                s => (s as f64).sin(),
            };
            let long = curve((1..=steps).map(value));
            let (high, low) =
                (Point { step: spike, value: 1e9 }, Point { step: spike + 5, value: -1e9 });
            assert_eq!((long.highest(), long.lowest()), (Some(high), Some(low)));
            let points = long.points();
            assert!(points.contains(&high) && points.contains(&low), "a spike at {spike}");
            assert!(points.len() <= 2 * BUCKETS + 2 && points.len() > BUCKETS / 2);
            assert!(points.is_sorted_by(|a, b| a.step < b.step));
            let ends = (points[0].step, points.last().unwrap().step);
            assert_eq!((ends, long.count()), ((1, steps), steps));
            assert!(points.iter().all(|p| p.value == value(p.step)), "no point is made up");
        }
    }

    #[test]
    fn means_are_those_of_all_points_of_their_part() {
        for count in [1_000_u32, 30_000] {
            let (width, means) = curve((1..=count).map(f64::from)).means(100).unwrap();
            assert!((100 - 40..=101).contains(&means.len()), "{}", means.len());
            // Of a straight line the mean is the line.
            assert!(means.iter().all(|(step, value)| (step - value).abs() < 1e-6));
            assert!(width >= 3 && width <= u64::from(count) / 50);
        }
    }

    #[test]
    fn gaps_and_what_is_no_number_are_left_out() {
        let mut gaps = Curve::default();
        for (step, value) in [(1, 1.0), (2, f64::NAN), (3, f64::INFINITY), (1 << 60, 2.0)] {
            gaps.add(step, value);
        }
        assert_eq!(gaps.points().iter().map(|p| p.step).collect::<Vec<_>>(), [1, 1 << 60]);
        (0..10_000).for_each(|step| gaps.add(u64::MAX - 10_000 + step, 0.0));
        assert!(gaps.buckets.len() <= BUCKETS);
        assert_eq!(gaps.points().last().unwrap().step, u64::MAX - 1);
    }
}
