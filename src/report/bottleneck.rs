//! Which stage holds the others back, in a sentence.
//!
//! Of a line of stages the busiest one sets the pace: those before it wait for room, those after it for
//! items. Where none is busy more than half of its time, nobody does: they wait for one another, or the
//! machine is doing something else.
//!
//! ```
//! use twelvefold::report::bottleneck::{Load, sentence};
//!
//! let loads = [
//!     Load { name: "tokenize", workers: 2, busy: 0.05 },
//!     Load { name: "spheres", workers: 2, busy: 0.97 },
//! ];
//! assert_eq!(
//!     sentence(&loads),
//!     "the spheres hold the others back: they are busy 97 % of the time, next comes tokenize with 5 %"
//! );
//! ```

/// How busy a stage is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load<'a> {
    /// Its name; `spheres` for the workers that compute.
    pub name: &'a str,
    /// Workers that it has; of the spheres, those that are kept awake.
    pub workers: usize,
    /// Share of their time in which they work, from 0 to 1.
    pub busy: f64,
}

/// Below this share a stage does not hold the others back.
const HELD: f64 = 0.5;

/// The sentence, without a full stop.
pub fn sentence(loads: &[Load<'_>]) -> String {
    let mut loads: Vec<&Load<'_>> = loads.iter().filter(|load| load.busy.is_finite()).collect();
    loads.sort_by(|a, b| b.busy.total_cmp(&a.busy));
    let Some((top, others)) = loads.split_first() else {
        return "nothing has been measured yet".to_owned();
    };
    let percent = |load: &Load<'_>| format!("{:.0} %", 100.0 * load.busy);
    let named = |load: &Load<'_>| match load.name {
        "spheres" => "the spheres".to_owned(),
        name => name.to_owned(),
    };
    if top.busy < HELD {
        return format!(
            "no stage is busy more than half of the time: the busiest is {} with {}, so they wait for one \
             another or for the machine",
            named(top),
            percent(top),
        );
    }
    let mut text = match (top.name, top.workers) {
        ("spheres", _) => "the spheres hold the others back: they are busy ".to_owned(),
        (name, 0 | 1) => format!("{name} holds the others back: it is busy "),
        (name, workers) => format!("{name} holds the others back: its {workers} workers are busy "),
    };
    text += &format!("{} of the time", percent(top));
    if let Some(next) = others.first() {
        let come = if next.name == "spheres" { "come" } else { "comes" };
        text += &format!(", next {come} {} with {}", named(next), percent(next));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Load, sentence};

    fn loads(tokenize: f64, spheres: f64) -> [Load<'static>; 3] {
        [
            Load { name: "load", workers: 1, busy: 0.1 },
            Load { name: "tokenize", workers: 3, busy: tokenize },
            Load { name: "spheres", workers: 2, busy: spheres },
        ]
    }

    #[test]
    fn the_busiest_stage_is_the_one_that_is_named() {
        assert_eq!(
            sentence(&loads(0.9, 0.4)),
            "tokenize holds the others back: its 3 workers are busy 90 % of the time, next come the spheres \
             with 40 %"
        );
        assert!(sentence(&loads(0.3, 0.6)).starts_with("the spheres hold the others back"));
        let alone = [Load { name: "load", workers: 1, busy: 0.75 }];
        assert_eq!(sentence(&alone), "load holds the others back: it is busy 75 % of the time");
    }

    #[test]
    fn where_nobody_is_busy_nobody_is_blamed() {
        let text = sentence(&loads(0.3, 0.4));
        assert!(text.starts_with("no stage is busy more than half of the time"), "{text}");
        assert!(text.contains("the spheres with 40 %"), "{text}");
        let unknown = [Load { name: "load", workers: 1, busy: f64::NAN }];
        assert_eq!(sentence(&unknown), "nothing has been measured yet");
        assert_eq!(sentence(&[]), "nothing has been measured yet");
    }
}
