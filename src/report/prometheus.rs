//! The page that Prometheus reads: text format 0.0.4.
//!
//! | in `metrics.jsonl` | here |
//! |---|---|
//! | `step`, `time` | `twelvefold_steps_total`, `twelvefold_step_timestamp_seconds` |
//! | `seconds` | `twelvefold_run_seconds` |
//! | `loss`, `val_loss` | `twelvefold_loss`, `twelvefold_validation_loss`, the last one that was measured |
//! | `lr`, `grad_norm` | `twelvefold_learning_rate`, `twelvefold_gradient_norm` |
//! | `tokens`, `skipped_steps`, `tokens_per_second` | `twelvefold_tokens_total`, `twelvefold_skipped_steps_total`, `twelvefold_tokens_per_second` |
//! | `peak_share`, `memory_bytes` | `twelvefold_peak_ratio`, `twelvefold_memory_bytes` |
//! | `stage_load_busy_seconds`, … | `twelvefold_stage_busy_seconds_total{stage="load"}`, … |
//! | `stage_load_queue`, `…_room` | `twelvefold_stage_queue_items{stage="load"}`, `…_queue_room_items` |
//! | `spheres_busy_seconds`, `…_busy_share`, … | `twelvefold_spheres_busy_seconds_total`, `…_busy_ratio`, … |
//!
//! A number that is not known is left out. `twelvefold_build_info` is there from the beginning, the rest
//! from the first step on.

use std::fmt::Write as _;

use super::{Progress, metrics};

/// The format, as HTTP has it.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Name in `metrics.jsonl`, name here, what it is; a name that ends in `_total` is a counter's.
type Family = (&'static str, &'static str, &'static str);

const OF_THE_RUN: [Family; 18] = [
    ("step", "steps_total", "Steps done."),
    ("time", "step_timestamp_seconds", "When the last step ended, since 1970."),
    ("seconds", "run_seconds", "Time since this process began the run."),
    ("loss", "loss", "Training loss of the last step, nats a token."),
    ("val_loss", "validation_loss", "The last validation loss, nats a token."),
    ("lr", "learning_rate", "Learning rate of the last step."),
    ("grad_norm", "gradient_norm", "Global norm of the gradient before clipping."),
    ("tokens", "tokens_total", "Targets trained, over all steps."),
    ("tokens_per_second", "tokens_per_second", "Speed of the last 20 steps."),
    ("skipped_steps", "skipped_steps_total", "Steps left out, over all steps."),
    ("peak_share", "peak_ratio", "Useful operations, of what the matrix products reach."),
    ("memory_bytes", "memory_bytes", "Memory that the process holds."),
    ("spheres_busy_seconds", "spheres_busy_seconds_total", "Time of all spheres in tasks."),
    ("spheres_busy_share", "spheres_busy_ratio", "Time in tasks, of the last 20 steps."),
    ("spheres_tasks", "spheres_tasks_total", "Tasks done."),
    ("spheres_stolen", "spheres_stolen_tasks_total", "Tasks taken from another sphere."),
    ("spheres_queue", "spheres_queue_items", "Steps and validations that wait for the spheres."),
    ("spheres_room", "spheres_queue_room_items", "Room for these."),
];

const OF_A_STAGE: [Family; 5] = [
    ("busy_seconds", "stage_busy_seconds_total", "Time at work, over all workers of a stage."),
    ("starved_seconds", "stage_starved_seconds_total", "Time without an item to work on."),
    ("blocked_seconds", "stage_blocked_seconds_total", "Time without room for a result."),
    ("queue", "stage_queue_items", "Items that wait for the stage."),
    ("room", "stage_queue_room_items", "Room for these."),
];

/// The names of the numbers of a run, in the order of [`each`].
#[derive(Debug)]
pub(crate) struct Names(Vec<String>);

/// Calls `visit` with every number of a step that is on the page, in an order that is the same at every
/// step of a run; one that is not known is no number. `time`: seconds since 1970.
///
/// The second one is the validation loss ([`VAL_LOSS`]).
pub(crate) fn each(progress: &Progress, time: f64, visit: &mut dyn FnMut(&str, f64)) {
    visit("time", time);
    visit("val_loss", progress.val_loss.unwrap_or(f64::NAN));
    metrics::all(progress, visit);
}

/// Where [`each`] tells the validation loss.
pub(crate) const VAL_LOSS: usize = 1;

impl Names {
    /// Of a run that has come to a step.
    pub(crate) fn of(progress: &Progress) -> Self {
        let mut names = Vec::new();
        each(progress, f64::NAN, &mut |name, _| names.push(name.to_owned()));
        Names(names)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes the numbers, which are in the order of the names.
    pub(crate) fn write(&self, values: &[f64], text: &mut String) {
        let known = || self.0.iter().zip(values).filter(|(_, value)| value.is_finite());
        for family in &OF_THE_RUN {
            let found = known().filter(|(name, _)| *name == family.0);
            self::family(family, found.map(|(_, value)| (None, *value)), text);
        }
        for family in &OF_A_STAGE {
            let split = known().map(|(name, value)| (metrics::split(name), *value));
            let found = split.filter(|((stage, what), _)| stage.is_some() && *what == family.0);
            self::family(family, found.map(|((stage, _), value)| (stage, value)), text);
        }
    }
}

/// Writes what is known of the program itself.
pub(crate) fn build(text: &mut String) {
    let name = "twelvefold_build_info";
    let _ = write!(text, "# HELP {name} The program's version.\n# TYPE {name} gauge\n{name}");
    label(text, "version", env!("CARGO_PKG_VERSION"));
    text.push_str(" 1\n");
}

fn family<'a>(
    (_, name, help): &Family,
    values: impl Iterator<Item = (Option<&'a str>, f64)>,
    text: &mut String,
) {
    let mut is_first = true;
    for (stage, value) in values {
        if is_first {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(text, "# HELP twelvefold_{name} {help}");
            let _ = writeln!(text, "# TYPE twelvefold_{name} {kind}");
            is_first = false;
        }
        let _ = write!(text, "twelvefold_{name}");
        if let Some(stage) = stage {
            label(text, "stage", stage);
        }
        let _ = writeln!(text, " {value}");
    }
}

/// Writes the only label of a series.
fn label(text: &mut String, name: &str, value: &str) {
    let _ = write!(text, "{{{name}=\"");
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push_str("\"}");
}

#[cfg(test)]
mod tests {
    use super::{Names, OF_A_STAGE, OF_THE_RUN, build, each};
    use crate::report::Progress;
    use crate::report::progress::{SpheresState, StageState};

    fn progress(names: &[&'static str]) -> Progress {
        let stage = |name: &&'static str| StageState {
            name,
            busy_seconds: 1.5,
            queue: Some((3, 8)),
            ..StageState::default()
        };
        Progress {
            step: 7,
            loss: 2.5,
            val_loss: Some(3.0),
            peak_share: Some(0.5),
            memory_bytes: Some(1 << 40),
            stages: names.iter().map(stage).collect(),
            spheres: SpheresState { queue: Some((0, 2)), ..SpheresState::default() },
            ..Progress::default()
        }
    }

    fn page(progress: &Progress) -> String {
        let (mut text, mut values) = (String::new(), Vec::new());
        build(&mut text);
        each(progress, 1.75e9, &mut |_, value| values.push(value));
        let names = Names::of(progress);
        assert_eq!(names.len(), values.len());
        names.write(&values, &mut text);
        text
    }

    #[test]
    fn each_family_stands_once_with_its_help_its_type_and_all_its_series() {
        let page = page(&progress(&["load", "batch"]));
        let helps: Vec<&str> =
            page.lines().filter_map(|l| l.strip_prefix("# HELP ")?.split(' ').next()).collect();
        assert_eq!(helps.len(), 1 + OF_THE_RUN.len() + OF_A_STAGE.len());
        for name in helps {
            assert_eq!(page.matches(&format!("# HELP {name} ")).count(), 1);
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            assert_eq!(page.matches(&format!("# TYPE {name} {kind}\n")).count(), 1);
        }
        let expected = "# HELP twelvefold_stage_busy_seconds_total Time at work, over all workers of a \
                        stage.\n# TYPE twelvefold_stage_busy_seconds_total counter\n\
                        twelvefold_stage_busy_seconds_total{stage=\"load\"} 1.5\n\
                        twelvefold_stage_busy_seconds_total{stage=\"batch\"} 1.5\n";
        assert!(page.contains(expected), "{page}");
        for line in ["loss 2.5", "validation_loss 3", "memory_bytes 1099511627776", "steps_total 7"]
        {
            assert!(page.contains(&format!("\ntwelvefold_{line}\n")), "{line} in {page}");
        }
    }

    /// A name that came later to `metrics.jsonl` must come here too.
    #[test]
    fn every_number_of_a_step_has_its_series() {
        let progress = progress(&["load"]);
        let mut count = 1;
        each(&progress, 1.75e9, &mut |name, value| {
            assert!(value.is_finite(), "{name}");
            count += 1;
        });
        let page = page(&progress);
        assert_eq!(page.lines().filter(|line| !line.starts_with('#')).count(), count, "{page}");
    }

    #[test]
    fn a_label_is_escaped() {
        let page = page(&progress(&["a\"b\\c\nd é"]));
        assert!(page.contains("_queue_items{stage=\"a\\\"b\\\\c\\nd é\"} 3\n"), "{page}");
    }

    #[test]
    fn a_number_that_is_none_is_left_out_with_its_family() {
        let none = Progress { loss: f64::NAN, val_loss: None, ..progress(&["load"]) };
        let page = page(&none);
        assert!(!page.contains("loss") && !page.contains("NaN"), "{page}");
        // The names are those of the run, known or not.
        assert_eq!(Names::of(&none).len(), Names::of(&progress(&["load"])).len());
    }
}
