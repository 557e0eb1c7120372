//! One moment of a run as a line.
//!
//! ```
//! use twelvefold::report::progress::{Doing, Progress, StageState};
//!
//! let queue = Some((3, 16));
//! let stage = StageState { name: "tokenize", doing: Doing::Working, queue, ..StageState::default() };
//! let progress = Progress { step: 1, steps: 9, stages: vec![stage], ..Progress::default() };
//! assert_eq!(progress.stages(), "tokenize works 3/16");
//! assert_eq!(progress.line(), format!("step 1/9  {}  [tokenize works 3/16]", progress.numbers()));
//! ```

use std::fmt::Write as _;

use super::bottleneck::{self, Load};
use super::units;

/// The numbers of one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Steps done, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Training loss of this step, nats a token; no number where the step was left out.
    pub loss: f64,
    /// The last validation loss, nats a token.
    pub val_loss: Option<f64>,
    /// The step after which it was measured.
    pub val_step: Option<u64>,
    /// Learning rate of this step.
    pub lr: f32,
    /// Global norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Speed of the last steps.
    pub tokens_per_second: f64,
    /// Time left, where it can be told.
    pub eta_seconds: Option<f64>,
    /// Tokens trained: targets that counted, over all steps, those before a resume included.
    pub tokens: u64,
    /// Steps left out because a loss or a gradient was no number.
    pub skipped_steps: u64,
    /// Since this process began the run.
    pub seconds: f64,
    /// Useful operations of the last steps, as a share of what the matrix products reach on all cores when
    /// nothing holds them up, which is measured when the run begins. Useful are
    /// 6 (V C + 12 L C^2) + 6 L C T a token: two for each weight of a matrix in each of the three products
    /// that a step makes with it, and attention up to the diagonal. None where no core could be measured.
    pub peak_share: Option<f64>,
    /// Memory that the process holds now, at most a quarter of a second old; None where the system does not
    /// tell.
    pub memory_bytes: Option<u64>,
    /// What each stage is doing.
    pub stages: Vec<StageState>,
    /// What the spheres are doing.
    pub spheres: SpheresState,
}

/// What a stage is doing.
///
/// Seconds are counted since this process began, over all workers; a wait is booked when it ends. Shares
/// are those of the last 20 steps, of all the time that its workers had, and count a wait that has not
/// ended.
///
/// ```
/// use twelvefold::report::progress::StageState;
///
/// let stage = StageState { workers: 2, busy_share: 0.25, starved_share: 0.75, ..StageState::default() };
/// assert_eq!(stage.busy_share + stage.starved_share + stage.blocked_share, 1.0);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageState {
    /// Its name.
    pub name: &'static str,
    /// What its workers do.
    pub doing: Doing,
    /// Items that wait for it, and room for them; None for a stage that takes from no edge.
    pub queue: Option<(usize, usize)>,
    /// Workers that it has.
    pub workers: usize,
    /// Time at work.
    pub busy_seconds: f64,
    /// Time without an item to work on.
    pub starved_seconds: f64,
    /// Time without room for a result.
    pub blocked_seconds: f64,
    /// Of the last steps' time, the part at work.
    pub busy_share: f64,
    /// The part without an item to work on.
    pub starved_share: f64,
    /// The part without room for a result.
    pub blocked_share: f64,
}

/// What the spheres are doing, all together.
///
/// ```
/// use twelvefold::report::progress::SpheresState;
///
/// let spheres = SpheresState { leaves: 12, awake: 2, busy_share: 0.97, ..SpheresState::default() };
/// assert!(spheres.awake <= spheres.leaves);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpheresState {
    /// How many there are.
    pub leaves: usize,
    /// How many of them are kept awake: as many as there are cores, at most.
    pub awake: usize,
    /// Steps and validations that wait for them, and room for those.
    pub queue: Option<(usize, usize)>,
    /// Time inside tasks since this process began.
    pub busy_seconds: f64,
    /// Of the last 20 steps' time of those that are kept awake, the part inside tasks.
    pub busy_share: f64,
    /// Tasks done.
    pub tasks: u64,
    /// Tasks of these taken from another leaf.
    pub stolen: u64,
}

/// What the workers of a stage do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Doing {
    /// At least one is at work.
    #[default]
    Working,
    /// All wait for an item.
    Starved,
    /// All wait for room for a result.
    Blocked,
    /// There will be no more items.
    Done,
}

impl Doing {
    fn word(self) -> &'static str {
        match self {
            Doing::Working => "works",
            Doing::Starved => "waits",
            Doing::Blocked => "is ahead",
            Doing::Done => "done",
        }
    }
}

impl Progress {
    /// The whole line, for an output that is no terminal.
    ///
    /// ```
    /// use twelvefold::report::Progress;
    ///
    /// let progress = Progress { step: 20, steps: 300, loss: 3.25, ..Progress::default() };
    /// assert!(progress.line().starts_with("step 20/300  loss 3.2500"));
    /// ```
    pub fn line(&self) -> String {
        let mut line = format!("step {}/{}  {}", self.step, self.steps, self.numbers());
        let stages = self.stages();
        if !stages.is_empty() {
            let _ = write!(line, "  [{stages}]");
        }
        line
    }

    /// Which stage held the others back in the last steps, in a sentence; stages that are done do not.
    ///
    /// ```
    /// use twelvefold::report::progress::{Progress, SpheresState, StageState};
    ///
    /// let load = StageState { name: "load", busy_share: 0.04, ..StageState::default() };
    /// let spheres = SpheresState { leaves: 2, awake: 2, busy_share: 0.95, ..SpheresState::default() };
    /// let progress = Progress { stages: vec![load], spheres, ..Progress::default() };
    /// assert_eq!(
    ///     progress.bottleneck(),
    ///     "the spheres hold the others back: they are busy 95 % of the time, next comes load with 4 %"
    /// );
    /// ```
    pub fn bottleneck(&self) -> String {
        let mut loads = Vec::with_capacity(self.stages.len() + 1);
        for stage in self.stages.iter().filter(|stage| stage.doing != Doing::Done) {
            loads.push(Load { name: stage.name, workers: stage.workers, busy: stage.busy_share });
        }
        let SpheresState { leaves, awake, busy_share, .. } = self.spheres;
        if leaves > 0 {
            loads.push(Load { name: "spheres", workers: awake, busy: busy_share });
        }
        bottleneck::sentence(&loads)
    }

    /// Loss, validation loss, rate, norm, speed and time left.
    ///
    /// ```
    /// use twelvefold::report::Progress;
    ///
    /// let progress = Progress { loss: 3.25, val_loss: Some(3.5), ..Progress::default() };
    /// assert!(progress.numbers().starts_with("loss 3.2500  val 3.5000  "));
    /// ```
    pub fn numbers(&self) -> String {
        let mut text = format!("loss {:.4}", self.loss);
        if let Some(val_loss) = self.val_loss {
            let _ = write!(text, "  val {val_loss:.4}");
        }
        let _ = write!(
            text,
            "  lr {:.2e}  norm {:.2}  {} tok/s",
            self.lr,
            self.grad_norm,
            units::count(self.tokens_per_second),
        );
        if let Some(eta) = self.eta_seconds {
            let _ = write!(text, "  {} left", units::seconds(eta));
        }
        text
    }

    /// What each stage is doing: `load done, tokenize works 3/16`.
    ///
    /// ```
    /// use twelvefold::report::progress::{Doing, Progress, StageState};
    ///
    /// let load = StageState { name: "load", doing: Doing::Done, ..StageState::default() };
    /// let progress = Progress { stages: vec![load], ..Progress::default() };
    /// assert_eq!(progress.stages(), "load done");
    /// ```
    pub fn stages(&self) -> String {
        let stage = |stage: &StageState| {
            let mut text = format!("{} {}", stage.name, stage.doing.word());
            if let Some((held, room)) = stage.queue {
                let _ = write!(text, " {held}/{room}");
            }
            text
        };
        self.stages.iter().map(stage).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::{Doing, Progress, SpheresState, StageState};

    #[test]
    fn the_line_holds_every_number_with_its_unit() {
        let progress = Progress {
            step: 120,
            steps: 300,
            loss: 2.34567,
            val_loss: Some(2.5),
            lr: 1.5e-3,
            grad_norm: 0.873,
            tokens_per_second: 12_345.0,
            eta_seconds: Some(72.0),
            stages: vec![
                StageState { name: "load", doing: Doing::Done, ..StageState::default() },
                StageState {
                    name: "tokenize",
                    doing: Doing::Blocked,
                    queue: Some((3, 16)),
                    ..StageState::default()
                },
            ],
            ..Progress::default()
        };
        assert_eq!(
            progress.line(),
            "step 120/300  loss 2.3457  val 2.5000  lr 1.50e-3  norm 0.87  12.3 k tok/s  \
             1 m 12 s left  [load done, tokenize is ahead 3/16]"
        );
    }

    #[test]
    fn what_is_not_known_yet_is_left_out() {
        let line = Progress { step: 1, steps: 9, ..Progress::default() }.line();
        assert_eq!(line, "step 1/9  loss 0.0000  lr 0.00e0  norm 0.00  0 tok/s");
    }

    #[test]
    fn a_stage_that_is_done_holds_nobody_back() {
        let load = StageState { name: "load", busy_share: 0.9, ..StageState::default() };
        let spheres = SpheresState { leaves: 2, busy_share: 0.6, ..SpheresState::default() };
        let mut progress = Progress { stages: vec![load], spheres, ..Progress::default() };
        assert!(progress.bottleneck().starts_with("load holds"), "{}", progress.bottleneck());
        progress.stages[0].doing = Doing::Done;
        assert!(progress.bottleneck().starts_with("the spheres hold"), "{}", progress.bottleneck());
    }
}
