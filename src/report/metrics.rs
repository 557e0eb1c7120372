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
    let mut tell = |name: &str, value: f64| {
        if value.is_finite() {
            visit(name, value);
        }
    };
    let queue = |queue: Option<(usize, usize)>| {
        queue.map_or((f64::NAN, f64::NAN), |(held, room)| (held as f64, room as f64))
    };
    tell("step", progress.step as f64);
    tell("seconds", progress.seconds);
    tell("loss", progress.loss);
    tell("lr", short(progress.lr));
    tell("grad_norm", progress.grad_norm);
    tell("tokens", progress.tokens as f64);
    tell("tokens_per_second", progress.tokens_per_second);
    tell("skipped_steps", progress.skipped_steps as f64);
    tell("peak_share", progress.peak_share.unwrap_or(f64::NAN));
    let memory = progress.memory_bytes.map_or(f64::NAN, |bytes| bytes as f64);
    tell("memory_bytes", memory);
    let mut name = String::new();
    for stage in &progress.stages {
        let (held, room) = queue(stage.queue);
        for (what, value) in [
            ("busy_seconds", stage.busy_seconds),
            ("starved_seconds", stage.starved_seconds),
            ("blocked_seconds", stage.blocked_seconds),
            ("queue", held),
            ("room", room),
        ] {
            name.clear();
            let _ = write!(name, "stage_{}_{what}", stage.name);
            tell(&name, value);
        }
    }
    let spheres = &progress.spheres;
    let (held, room) = queue(spheres.queue);
    tell("spheres_busy_seconds", spheres.busy_seconds);
    tell("spheres_busy_share", spheres.busy_share);
    tell("spheres_tasks", spheres.tasks as f64);
    tell("spheres_stolen", spheres.stolen as f64);
    tell("spheres_queue", held);
    tell("spheres_room", room);
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

#[cfg(test)]
mod tests {
    use super::{each, line, set_val_loss};
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
