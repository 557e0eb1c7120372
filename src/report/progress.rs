//! One moment of a run as a line.
//!
//! ```
//! use twelvefold::report::progress::{Doing, Progress, StageState};
//!
//! let stage = StageState { name: "tokenize", doing: Doing::Working, queue: Some((3, 16)) };
//! let progress = Progress { step: 1, steps: 9, stages: vec![stage], ..Progress::default() };
//! assert_eq!(progress.stages(), "tokenize works 3/16");
//! assert_eq!(progress.line(), format!("step 1/9  {}  [tokenize works 3/16]", progress.numbers()));
//! ```

use std::fmt::Write as _;

use super::units;

/// The numbers of one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Steps done, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Training loss of this step, nats a token.
    pub loss: f64,
    /// The last validation loss, nats a token.
    pub val_loss: Option<f64>,
    /// Learning rate of this step.
    pub lr: f32,
    /// Global norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Speed of the last steps.
    pub tokens_per_second: f64,
    /// Time left, where it can be told.
    pub eta_seconds: Option<f64>,
    /// What each stage is doing.
    pub stages: Vec<StageState>,
}

/// What a stage is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageState {
    /// Its name.
    pub name: &'static str,
    /// What its workers do.
    pub doing: Doing,
    /// Items that wait for it, and room for them.
    pub queue: Option<(usize, usize)>,
}

/// What the workers of a stage do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// At least one is at work.
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
    /// let load = StageState { name: "load", doing: Doing::Done, queue: None };
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
    use super::{Doing, Progress, StageState};

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
                StageState { name: "load", doing: Doing::Done, queue: None },
                StageState { name: "tokenize", doing: Doing::Blocked, queue: Some((3, 16)) },
            ],
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
}
