//! A row of the table: who runs, in which unit, who is compared with whom, what is to be reached.
//!
//! The contenders of a row run in turns, and the one that begins changes from round to round, so
//! that a change in the machine's load meets all alike. Every value is better when lower. A
//! comparison is taken within each round; the table shows the medians over the rounds of both
//! values and of the comparison, so a shown ratio is not always the quotient of the shown values.

use crate::median;
use std::fmt;

/// One run of a contender: a value for each metric of its row.
type Run = Box<dyn FnMut() -> Vec<f64>>;

struct Contender {
    name: String,
    run: Run,
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a comparison has to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reach {
    /// At least this many times as fast as the peer: peer / ours.
    Times(f64),
    /// At most this many times the peer's value: ours / peer.
    Within(f64),
    /// At most this much more than the peer, in the row's unit: ours - peer.
    Over(f64),
    /// At most this, without a peer.
    Most(f64),
    /// Reported only: peer / ours, or ours without a peer.
    Told,
}

#[derive(Debug)]
struct Comparison {
    metric: usize,
    ours: String,
    peer: String,
    /// What the peer's value is multiplied by: an ideal of two cores is half a serial time.
    scale: f64,
    /// How the table calls the peer.
    label: String,
    reach: Reach,
}

/// A row; see the module's text.
#[derive(Debug)]
pub struct Row {
    id: String,
    metrics: Vec<(String, &'static str)>,
    contenders: Vec<Contender>,
    comparisons: Vec<Comparison>,
    skipped: Vec<(String, String)>,
}

impl Row {
    /// A row without contenders. Its first metric has no name of its own.
    pub fn new(id: impl Into<String>, unit: &'static str) -> Row {
        Row {
            id: id.into(),
            metrics: vec![(String::new(), unit)],
            contenders: Vec::new(),
            comparisons: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// `what/case`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Names the first metric, where a row has several.
    pub(crate) fn called(mut self, name: &str) -> Row {
        name.clone_into(&mut self.metrics[0].0);
        self
    }

    /// Each run gives one more value.
    pub(crate) fn metric(mut self, name: &str, unit: &'static str) -> Row {
        self.metrics.push((name.to_owned(), unit));
        self
    }

    /// A contender with one metric.
    pub(crate) fn runs(
        self,
        name: impl Into<String>,
        mut run: impl FnMut() -> f64 + 'static,
    ) -> Row {
        self.measures(name, move || vec![run()])
    }

    /// A contender with as many values as the row has metrics.
    pub(crate) fn measures(
        mut self,
        name: impl Into<String>,
        run: impl FnMut() -> Vec<f64> + 'static,
    ) -> Row {
        self.contenders.push(Contender { name: name.into(), run: Box::new(run) });
        self
    }

    /// A contender that cannot run here, and why.
    pub(crate) fn skips(mut self, name: &str, why: &str) -> Row {
        self.skipped.push((name.to_owned(), why.to_owned()));
        self
    }

    /// Compares the first metric.
    pub(crate) fn against(self, ours: &str, peer: &str, reach: Reach) -> Row {
        self.compares(0, ours, (peer, 1.0, peer), reach)
    }

    /// Compares the first metric with a share of the peer's value, under another name.
    pub(crate) fn against_share(self, ours: &str, peer: (&str, f64, &str), reach: Reach) -> Row {
        self.compares(0, ours, peer, reach)
    }

    /// A limit without a peer.
    pub(crate) fn at_most(self, metric: usize, ours: &str, limit: f64) -> Row {
        self.compares(metric, ours, ("", 1.0, ""), Reach::Most(limit))
    }

    /// A metric that is only reported.
    pub(crate) fn tells(self, metric: usize, ours: &str) -> Row {
        self.compares(metric, ours, ("", 1.0, ""), Reach::Told)
    }

    /// Compares any metric.
    pub(crate) fn compares(
        mut self,
        metric: usize,
        ours: &str,
        (peer, scale, label): (&str, f64, &str),
        reach: Reach,
    ) -> Row {
        self.comparisons.push(Comparison {
            metric,
            ours: ours.to_owned(),
            peer: peer.to_owned(),
            scale,
            label: label.to_owned(),
            reach,
        });
        self
    }

    /// Runs everybody, once unmeasured if `warm`, then `rounds` times in turns.
    ///
    /// # Panics
    /// When an answer is wrong.
    pub fn measure(mut self, rounds: usize, warm: bool) -> Outcome {
        let contenders = self.contenders.len();
        let mut values = vec![vec![Vec::new(); self.metrics.len()]; contenders];
        for round in 0..rounds + usize::from(warm) {
            for turn in 0..contenders {
                let who = (round + turn) % contenders;
                let got = (self.contenders[who].run)();
                assert_eq!(got.len(), self.metrics.len(), "{}: a value a metric", self.id);
                if round >= usize::from(warm) {
                    for (seen, value) in values[who].iter_mut().zip(got) {
                        seen.push(value);
                    }
                }
            }
        }
        Outcome::new(self, values)
    }
}

/// What a contender's runs gave in one metric.
#[derive(Debug)]
pub struct Measured {
    /// `what/case`, and the metric where there are several.
    pub case: String,
    /// Who.
    pub implementation: String,
    /// The unit.
    pub unit: &'static str,
    /// The middle of the rounds.
    pub median: f64,
    /// The best round.
    pub least: f64,
    /// The worst round.
    pub most: f64,
}

/// A comparison with what it has to reach.
#[derive(Debug)]
pub struct Line {
    /// `what/case`, and the metric where there are several.
    pub case: String,
    /// The unit of the values.
    pub unit: &'static str,
    /// Which of ours.
    pub ours: String,
    /// Our median.
    pub ours_value: f64,
    /// Which peer; empty where there is none.
    pub peer: String,
    /// The peer's median.
    pub peer_value: Option<f64>,
    /// What is compared, by the reach's own definition.
    pub compared: f64,
    /// What is to be reached.
    pub reach: Reach,
}

impl Line {
    /// Whether it was reached; `None` where nothing was asked.
    pub fn is_met(&self) -> Option<bool> {
        match self.reach {
            Reach::Times(least) => Some(self.compared >= least),
            Reach::Within(most) | Reach::Over(most) | Reach::Most(most) => {
                Some(self.compared <= most)
            }
            Reach::Told => None,
        }
    }

    /// How far beyond (above 1) or short (below 1) of what was asked; for the plot.
    pub fn margin(&self) -> Option<f64> {
        // A difference or a count may be nothing, or less.
        let floor = |value: f64, most: f64| value.max(most.abs().max(0.01) / 100.0);
        match self.reach {
            Reach::Times(least) => Some(self.compared / least),
            Reach::Within(most) => Some(most / self.compared),
            Reach::Over(most) | Reach::Most(most) => {
                Some(most.max(0.01) / floor(self.compared, most))
            }
            Reach::Told => None,
        }
    }
}

/// What became of a row.
#[derive(Debug)]
pub struct Outcome {
    /// Every contender's medians.
    pub measured: Vec<Measured>,
    /// The comparisons of those who ran.
    pub lines: Vec<Line>,
    /// Who did not run, in which case, and why.
    pub skipped: Vec<(String, String)>,
}

impl Outcome {
    fn new(row: Row, values: Vec<Vec<Vec<f64>>>) -> Outcome {
        let case = |metric: usize| match row.metrics[metric].0.as_str() {
            "" => row.id.clone(),
            name => format!("{}: {name}", row.id),
        };
        let mut measured = Vec::new();
        for (contender, values) in row.contenders.iter().zip(&values) {
            for (metric, values) in values.iter().enumerate() {
                let mut sorted = values.clone();
                measured.push(Measured {
                    case: case(metric),
                    implementation: contender.name.clone(),
                    unit: row.metrics[metric].1,
                    median: median(&mut sorted),
                    least: sorted[0],
                    most: sorted[sorted.len() - 1],
                });
            }
        }
        let find = |name: &str| row.contenders.iter().position(|c| c.name == name);
        let mut lines = Vec::new();
        for comparison in &row.comparisons {
            let alone = comparison.peer.is_empty();
            let (Some(ours), peer) = (find(&comparison.ours), find(&comparison.peer)) else {
                continue;
            };
            if peer.is_none() && !alone {
                continue;
            }
            let ours = &values[ours][comparison.metric];
            let peers: Option<Vec<f64>> = peer.map(|peer| {
                values[peer][comparison.metric].iter().map(|v| v * comparison.scale).collect()
            });
            lines.push(line(comparison, case(comparison.metric), &row, ours, peers));
        }
        let skipped = row.skipped.iter();
        let skipped = skipped.map(|(who, why)| (format!("{}/{who}", row.id), why.clone()));
        Outcome { measured, lines, skipped: skipped.collect() }
    }
}

fn line(
    comparison: &Comparison,
    case: String,
    row: &Row,
    ours: &[f64],
    peers: Option<Vec<f64>>,
) -> Line {
    let compared = |round: usize| {
        let ours = ours[round];
        let peer = peers.as_ref().map_or(f64::NAN, |peers| peers[round]);
        match comparison.reach {
            Reach::Told if peers.is_none() => ours,
            Reach::Times(_) | Reach::Told => peer / ours,
            Reach::Within(_) => ours / peer,
            Reach::Over(_) => ours - peer,
            Reach::Most(_) => ours,
        }
    };
    let mut rounds: Vec<f64> = (0..ours.len()).map(compared).collect();
    Line {
        case,
        unit: row.metrics[comparison.metric].1,
        ours: comparison.ours.clone(),
        ours_value: median(&mut ours.to_vec()),
        peer: comparison.label.clone(),
        peer_value: peers.map(|mut peers| median(&mut peers)),
        compared: median(&mut rounds),
        reach: comparison.reach,
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Reach, Row};

    /// Two rounds in which ours takes 2 and 4, the peer 8 and 8.
    fn lines(reach: Reach) -> Vec<Line> {
        let (mut ours, mut peer) = ([2.0, 4.0].into_iter(), [8.0, 8.0].into_iter());
        let row = Row::new("what/case", "ns")
            .runs("ours", move || ours.next().expect("two rounds"))
            .runs("peer", move || peer.next().expect("two rounds"))
            .against_share("ours", ("peer", 0.5, "half"), reach);
        row.measure(2, false).lines
    }

    #[test]
    fn a_comparison_is_the_median_over_the_rounds_of_its_own_kind() {
        for (reach, compared) in [
            (Reach::Times(1.0), 1.5),
            (Reach::Told, 1.5),
            (Reach::Within(1.0), 0.75),
            (Reach::Over(0.0), -1.0),
            (Reach::Most(3.0), 3.0),
        ] {
            let line = &lines(reach)[0];
            assert_eq!(
                (line.compared, line.ours_value, line.peer_value),
                (compared, 3.0, Some(4.0))
            );
        }
    }

    #[test]
    fn a_reach_is_met_at_its_limit_and_not_beyond() {
        for (met, missed) in [
            (Reach::Times(1.5), Reach::Times(1.51)),
            (Reach::Within(0.75), Reach::Within(0.74)),
            (Reach::Over(-1.0), Reach::Over(-1.01)),
            (Reach::Most(3.0), Reach::Most(2.99)),
        ] {
            assert_eq!(lines(met)[0].is_met(), Some(true), "{met:?}");
            assert_eq!(lines(missed)[0].is_met(), Some(false), "{missed:?}");
        }
        assert_eq!(lines(Reach::Told)[0].is_met(), None);
    }

    #[test]
    fn who_did_not_run_is_compared_with_nobody() {
        let row = Row::new("what/case", "ns")
            .runs("peer", || 1.0)
            .skips("other", "it is not here")
            .against("ours", "peer", Reach::Times(1.0))
            .against("peer", "other", Reach::Times(1.0));
        let outcome = row.measure(1, false);
        assert!(outcome.lines.is_empty());
        assert_eq!(outcome.skipped, [("what/case/other".to_owned(), "it is not here".to_owned())]);
    }

    #[test]
    fn every_contender_begins_in_turn() {
        let order = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
        let runs = |name: char| {
            let order = order.clone();
            move || {
                order.borrow_mut().push(name);
                1.0
            }
        };
        Row::new("what/case", "ns").runs("a", runs('a')).runs("b", runs('b')).measure(2, true);
        assert_eq!(*order.borrow(), "abbaab");
    }
}
