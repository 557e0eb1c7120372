//! A step in flat numbers: a line of `metrics.jsonl`, and the same names wherever else they are told.
//!
//! The names are stable: scripts read them. A number that is not known is left out of its line.
//!
//! | name | what it is |
//! |---|---|
//! | `step` | steps done, from 1; each stands once, and they rise |
//! | `time` | when the step ended: seconds since 1970, of the machine's clock |
//! | `seconds` | since the process began the run; a resume begins anew, as all counters of a process do |
//! | `loss` | training loss of this step, nats a token; none where the step was left out |
//! | `val_loss` | validation loss, where one was measured after this step; after the last step over all validation text |
//! | `lr`, `grad_norm` | learning rate; global norm of the gradient before clipping |
//! | `tokens` | targets trained, over all steps |
//! | `tokens_per_second` | of the last 20 steps |
//! | `skipped_steps` | steps left out, over all steps |
//! | `peak_share` | see [`Progress::peak_share`] |
//! | `memory_bytes` | that the process holds |
//! | `stage_NAME_busy_seconds`, `…_starved_seconds`, `…_blocked_seconds` | of each stage (`load`, `tokenize`, `batch`), over all its workers, since the process began |
//! | `stage_NAME_queue`, `…_room` | items that wait for the stage, and room for them |
//! | `spheres_busy_seconds`, `spheres_tasks`, `spheres_stolen` | of all spheres, since the process began |
//! | `spheres_busy_share` | of the last 20 steps' time of the spheres that are kept awake |
//! | `spheres_queue`, `spheres_room` | steps and validations that wait for them, and room for those |
//!
//! ```
//! use twelvefold::report::Progress;
//! use twelvefold::report::metrics::line;
//!
//! let progress = Progress { step: 7, loss: 2.5, val_loss: Some(3.0), ..Progress::default() };
//! let mut text = String::new();
//! line(&progress, 1.8e9, &mut text);
//! assert!(text.starts_with(r#"{"time":1800000000.000,"step":7,"#) && text.contains(r#","loss":2.5,"#));
//! ```

use std::fmt::Write as _;

use super::Progress;

/// Calls `visit` with the name and the value of every number of a step that is known, always in the same
/// order; not with `time` and `val_loss`, which are not of the step alone. Counts are exact up to 2^53.
///
/// ```
/// use twelvefold::report::Progress;
/// use twelvefold::report::metrics::each;
///
/// let progress = Progress { step: 7, loss: f64::NAN, tokens: 900, ..Progress::default() };
/// let mut names = Vec::new();
/// each(&progress, &mut |name, _| names.push(name.to_owned()));
/// assert!(names.starts_with(&["step".to_owned()]) && !names.contains(&"loss".to_owned()));
/// ```
pub fn each(progress: &Progress, visit: &mut dyn FnMut(&str, f64)) {
    all(progress, &mut |name, value| {
        if value.is_finite() {
            visit(name, value);
        }
    });
}

/// As [`each`], but for numbers that are not known, which are told too and are then no numbers: the names
/// are the same at every step of a run.
///
/// ```
/// use twelvefold::report::Progress;
/// use twelvefold::report::metrics::all;
///
/// let progress = Progress { loss: f64::NAN, ..Progress::default() };
/// let mut unknown = Vec::new();
/// all(&progress, &mut |name, value| {
///     if !value.is_finite() {
///         unknown.push(name.to_owned());
///     }
/// });
/// assert!(unknown.starts_with(&["loss".to_owned(), "peak_share".to_owned()]));
/// ```
pub fn all(progress: &Progress, visit: &mut dyn FnMut(&str, f64)) {
    let queue = |queue: Option<(usize, usize)>| {
        queue.map_or((f64::NAN, f64::NAN), |(held, room)| (held as f64, room as f64))
    };
    visit("step", progress.step as f64);
    visit("seconds", progress.seconds);
    visit("loss", progress.loss);
    visit("lr", short(progress.lr));
    visit("grad_norm", progress.grad_norm);
    visit("tokens", progress.tokens as f64);
    visit("tokens_per_second", progress.tokens_per_second);
    visit("skipped_steps", progress.skipped_steps as f64);
    visit("peak_share", progress.peak_share.unwrap_or(f64::NAN));
    let memory = progress.memory_bytes.map_or(f64::NAN, |bytes| bytes as f64);
    visit("memory_bytes", memory);
    let mut name = String::new();
    for stage in &progress.stages {
        let (held, room) = queue(stage.queue);
        let values = [stage.busy_seconds, stage.starved_seconds, stage.blocked_seconds, held, room];
        for (what, value) in OF_A_STAGE.iter().zip(values) {
            name.clear();
            let _ = write!(name, "stage_{}_{what}", stage.name);
            visit(&name, value);
        }
    }
    let spheres = &progress.spheres;
    let (held, room) = queue(spheres.queue);
    visit("spheres_busy_seconds", spheres.busy_seconds);
    visit("spheres_busy_share", spheres.busy_share);
    visit("spheres_tasks", spheres.tasks as f64);
    visit("spheres_stolen", spheres.stolen as f64);
    visit("spheres_queue", held);
    visit("spheres_room", room);
}

/// What is told of each stage.
const OF_A_STAGE: [&str; 5] =
    ["busy_seconds", "starved_seconds", "blocked_seconds", "queue", "room"];

/// The stage that a number is of, and its name there; of a number of the run, its name alone.
pub(super) fn split(name: &str) -> (Option<&str>, &str) {
    let stage = |what: &str| name.strip_prefix("stage_")?.strip_suffix(what)?.strip_suffix('_');
    match OF_A_STAGE.iter().find_map(|what| Some((stage(what)?, *what))) {
        Some((stage, what)) => (Some(stage), what),
        None => (None, name),
    }
}

/// The f64 that is written as the f32 is: 0.005 and not 0.004999999888.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Writes the line of a step to `text`, in place of what was there: without `val_loss`, and without a
/// line end. `time`: seconds since 1970.
pub fn line(progress: &Progress, time: f64, text: &mut String) {
    text.clear();
    let _ = write!(text, "{{\"time\":{time:.3}");
    each(progress, &mut |name, value| {
        let _ = write!(text, ",\"{name}\":{value}");
    });
    text.push('}');
}

/// What stands before `val_loss`, the last key of its line.
const VAL_LOSS: &str = ",\"val_loss\":";

/// Sets `val_loss` in a line that [`line()`] wrote; it may be there already.
///
/// ```
/// use twelvefold::report::metrics::set_val_loss;
///
/// let mut text = r#"{"step":7,"val_loss":3}"#.to_owned();
/// set_val_loss(&mut text, 2.5);
/// assert_eq!(text, r#"{"step":7,"val_loss":2.5}"#);
/// ```
pub fn set_val_loss(text: &mut String, loss: f64) {
    if !loss.is_finite() {
        return;
    }
    let end = text.find(VAL_LOSS).or_else(|| text.rfind('}')).unwrap_or(text.len());
    text.truncate(end);
    let _ = write!(text, "{VAL_LOSS}{loss}}}");
}

/// The names and numbers of a line that [`line()`] wrote, to their last bits; None where it is no such line.
///
/// ```
/// use twelvefold::report::metrics::read;
///
/// let line = r#"{"time":18.5,"step":7,"val_loss":0.1}"#;
/// assert_eq!(read(line).unwrap(), [("time", 18.5), ("step", 7.0), ("val_loss", 0.1)]);
/// assert!(read(&line[1..]).is_none() && read(&line[..20]).is_none());
/// ```
pub fn read(line: &str) -> Option<Vec<(&str, f64)>> {
    fn one(pair: &str) -> Option<(&str, f64)> {
        let (name, value) = pair.strip_prefix('"')?.split_once("\":")?;
        Some((name, value.parse().ok()?))
    }
    line.strip_prefix('{')?.strip_suffix('}')?.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{OF_A_STAGE, each, line, read, set_val_loss, split};
    use crate::report::Progress;
    use crate::report::progress::{SpheresState, StageState};
    use serde_json::Value;

    fn progress() -> Progress {
        let stage = StageState { name: "batch", queue: Some((3, 8)), ..StageState::default() };
        let spheres = SpheresState { tasks: 1 << 40, ..SpheresState::default() };
        Progress {
            step: 3,
            loss: 0.1 + 0.2,
            lr: 5e-3,
            stages: vec![stage],
            spheres,
            ..Progress::default()
        }
    }

    #[test]
    fn a_line_holds_every_number_to_its_last_bit() {
        let (progress, mut text) = (progress(), "what was there".to_owned());
        line(&progress, 1_800_000_000.5, &mut text);
        set_val_loss(&mut text, 1.0 / 3.0);
        let Value::Object(object) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        let mut count = 2;
        each(&progress, &mut |name, value| {
            // The reader of JSON rounds the last bit as it likes.
            assert!(text.contains(&format!("\"{name}\":{value}")), "{name}");
            assert!(format!("{value}").parse() == Ok(value) && object[name].is_number(), "{name}");
            count += 1;
        });
        assert_eq!(object.len(), count, "time and val_loss beside them: {text}");
        assert_eq!(object["val_loss"], 1.0 / 3.0);
        assert_eq!(
            (&object["lr"], &object["stage_batch_queue"]),
            (&Value::from(0.005), &Value::from(3))
        );
        assert_eq!(object["spheres_tasks"], 1_u64 << 40);
        let mut again = vec![("time".to_owned(), 1_800_000_000.5)];
        each(&progress, &mut |name, value| again.push((name.to_owned(), value)));
        again.push(("val_loss".to_owned(), 1.0 / 3.0));
        let found = read(&text).unwrap();
        assert!(found.iter().map(|(n, v)| (*n, *v)).eq(again.iter().map(|(n, v)| (&**n, *v))));
    }

    #[test]
    fn a_number_of_a_stage_is_told_from_one_of_the_run_whatever_the_stage_is_called() {
        for stage in ["load", "learn_a_queue", "room"] {
            for what in OF_A_STAGE {
                assert_eq!(split(&format!("stage_{stage}_{what}")), (Some(stage), what));
            }
        }
        for name in ["step", "spheres_queue", "stage_queue", "stage_load_other"] {
            assert_eq!(split(name), (None, name));
        }
    }

    #[test]
    fn a_number_that_is_none_is_left_out() {
        let progress = Progress { loss: f64::NAN, grad_norm: f64::INFINITY, ..progress() };
        let mut text = String::new();
        line(&progress, 0.0, &mut text);
        set_val_loss(&mut text, f64::NAN);
        for name in ["loss", "grad_norm", "val_loss", "memory_bytes", "spheres_room"] {
            assert!(!text.contains(&format!("\"{name}\"")), "{name} in {text}");
        }
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["step"], 3);
    }
}
