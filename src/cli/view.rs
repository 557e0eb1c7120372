//! A run's moment as the lines under the bar.

use std::fmt::Write as _;

use crate::report::progress::{Doing, Progress, StageState};
use crate::report::units;

/// Losses and speed, a row for each stage, and who holds the others back. No line is longer than 80
/// columns.
///
/// ```
/// use twelvefold::cli::view::lines;
/// use twelvefold::report::Progress;
/// use twelvefold::report::progress::{SpheresState, StageState};
///
/// let queue = Some((3, 4));
/// let batch =
///     StageState { name: "batch", busy_share: 0.02, blocked_share: 0.98, queue, ..StageState::default() };
/// let spheres = SpheresState { leaves: 2, awake: 2, busy_share: 0.95, ..SpheresState::default() };
/// let progress = Progress { loss: 1.25, stages: vec![batch], spheres, ..Progress::default() };
/// let text = lines(&progress);
/// assert!(text.contains("\nbatch        2 %     0 %    98 %     3/4\n"));
/// assert!(text.contains("\nspheres     95 %"));
/// ```
pub fn lines(progress: &Progress) -> String {
    let mut text = numbers(progress);
    let _ = writeln!(text, "stage       busy   input    room   queue");
    for stage in &progress.stages {
        let _ = writeln!(text, "{}", row(stage));
    }
    let spheres = &progress.spheres;
    let busy = percent(spheres.busy_share);
    let queue = queue(spheres.queue);
    let of = format!("{} of {} awake", spheres.awake, spheres.leaves);
    let _ = writeln!(text, "{:<9} {busy:>6} {:>7} {:>7} {queue:>7}   {of}", "spheres", "", "");
    // Who comes next would not fit a narrow terminal.
    let sentence = progress.bottleneck();
    text += sentence.split_once(", next").map_or(&*sentence, |(first, _)| first);
    text
}

/// Two lines: what is learned, and how fast.
fn numbers(progress: &Progress) -> String {
    let mut text = format!("loss {:.4}", progress.loss);
    if let Some(val_loss) = progress.val_loss {
        let _ = write!(text, "   validation {val_loss:.4}");
    }
    let (lr, norm) = (progress.lr, progress.grad_norm);
    let _ = writeln!(text, "   rate {lr:.2e}   norm {norm:.2}");
    let _ = write!(text, "{} tokens/s", units::count(progress.tokens_per_second));
    if let Some(share) = progress.peak_share {
        let _ = write!(text, "   {} of peak", percent(share));
    }
    if let Some(bytes) = progress.memory_bytes {
        let _ = write!(text, "   {}", units::bytes(bytes));
    }
    if progress.skipped_steps > 0 {
        let _ = write!(text, "   {} steps left out", progress.skipped_steps);
    }
    text.push('\n');
    text
}

fn row(stage: &StageState) -> String {
    let name = stage.name;
    if stage.doing == Doing::Done {
        return format!("{name:<9} {:>6}", "done");
    }
    let shares = [stage.busy_share, stage.starved_share, stage.blocked_share];
    let [busy, input, room] = shares.map(percent);
    format!("{name:<9} {busy:>6} {input:>7} {room:>7} {:>7}", queue(stage.queue))
        .trim_end()
        .to_owned()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn queue(queue: Option<(usize, usize)>) -> String {
    queue.map_or_else(String::new, |(held, room)| format!("{held}/{room}"))
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::report::Progress;
    use crate::report::progress::{Doing, SpheresState, StageState};

    #[test]
    fn every_number_has_its_place() {
        let stage = |name, doing, busy_share: f64, starved_share| StageState {
            name,
            doing,
            busy_share,
            starved_share,
            blocked_share: 1.0 - busy_share - starved_share,
            queue: Some((1, 16)),
            workers: 1,
            ..StageState::default()
        };
        let progress = Progress {
            step: 2400,
            steps: 5200,
            loss: 1.3221,
            val_loss: Some(1.3976),
            lr: 3.2e-3,
            grad_norm: 0.44,
            tokens_per_second: 114_135.0,
            peak_share: Some(0.712),
            memory_bytes: Some(48_000_000),
            skipped_steps: 2,
            stages: vec![
                StageState { name: "load", doing: Doing::Done, ..StageState::default() },
                stage("tokenize", Doing::Working, 1.0, 0.0),
            ],
            spheres: SpheresState {
                leaves: 12,
                awake: 2,
                busy_share: 0.95,
                ..SpheresState::default()
            },
            ..Progress::default()
        };
        let expected = "\
loss 1.3221   validation 1.3976   rate 3.20e-3   norm 0.44
114.1 k tokens/s   71 % of peak   48.0 MB   2 steps left out
stage       busy   input    room   queue
load        done
tokenize   100 %     0 %     0 %    1/16
spheres     95 %                           2 of 12 awake
";
        let text = lines(&progress);
        let sentence = "tokenize holds the others back: it is busy 100 % of the time";
        assert_eq!(text, expected.to_owned() + sentence);
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    }
}
