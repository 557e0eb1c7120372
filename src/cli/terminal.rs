//! What a run tells: a bar on a terminal, lines elsewhere, or JSON.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

#[cfg(feature = "tui")]
use super::dashboard::Dashboard;
use super::flags::{LogFormat, ShowFlags};
use super::signals::Heard;
use super::{complain, say, view};
use crate::report::{Observer, Progress, RunReport, metrics, table, units};

/// A slow run still says something this often.
const QUIET: Duration = Duration::from_secs(10);

/// Shows a run as the flags say.
///
/// Text: a bar where both stdout and stderr are terminals, else a line for each twentieth of the steps
/// and at least every ten seconds. JSON: for each line an object on stdout, whose `event` is `plan`,
/// `step`, `validated`, `note`, `sample` or `report`. Quiet: nothing.
///
/// ```
/// use twelvefold::cli::flags::{LogFormat, ShowFlags};
/// use twelvefold::cli::terminal::Terminal;
/// use twelvefold::report::{Observer, Progress};
///
/// let mut terminal = Terminal::new(ShowFlags { quiet: true, ..ShowFlags::default() }, 100);
/// terminal.step(&Progress { step: 1, steps: 100, ..Progress::default() });
/// ```
#[derive(Debug)]
pub struct Terminal {
    show: ShowFlags,
    bar: ProgressBar,
    #[cfg(feature = "tui")]
    dashboard: Option<Dashboard>,
    /// Steps between two lines.
    interval: u64,
    last_line: Instant,
}

impl Terminal {
    /// For a run of so many steps.
    pub fn new(show: ShowFlags, steps: u64) -> Self {
        let is_terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        let bar = if is_terminal && !show.quiet && show.log_format == LogFormat::Text {
            ProgressBar::new(steps)
        } else {
            ProgressBar::hidden()
        };
        let template = "{bar:40} {pos}/{len}  {prefix}\n{msg}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        #[cfg(feature = "tui")]
        let wants = is_terminal && show.tui;
        Self {
            show,
            bar,
            // Where the terminal cannot be had, the bar is there.
            #[cfg(feature = "tui")]
            dashboard: wants.then(|| Dashboard::new(steps).ok()).flatten(),
            interval: steps.div_ceil(20).max(1),
            last_line: Instant::now(),
        }
    }

    /// Says on stderr, above the bar, that a signal came, from another thread. A dashboard goes where the run
    /// is to stop.
    ///
    /// ```
    /// use twelvefold::cli::flags::ShowFlags;
    /// use twelvefold::cli::signals::Heard;
    /// use twelvefold::cli::terminal::Terminal;
    ///
    /// let terminal = Terminal::new(ShowFlags::default(), 1);
    /// let announce = terminal.announcer();
    /// std::thread::spawn(move || announce(Heard::Save)).join().unwrap();
    /// ```
    pub fn announcer(&self) -> impl Fn(Heard) + Send + use<> {
        let bar = self.bar.clone();
        #[cfg(feature = "tui")]
        let shown = self.dashboard.as_ref().map(Dashboard::shown);
        move |heard| {
            #[cfg(feature = "tui")]
            if let Some(shown) = &shown {
                if heard == Heard::Save && shown.is_up() {
                    return;
                }
                shown.leave();
            }
            bar.suspend(|| complain(&format!("{}\n", heard.words())));
        }
    }

    /// The dashboard, while it has the screen.
    fn screen(&mut self) -> Option<&mut dyn Observer> {
        #[cfg(feature = "tui")]
        if let Some(dashboard) = self.dashboard.as_mut().filter(|dashboard| dashboard.is_up()) {
            return Some(dashboard);
        }
        None
    }

    /// The run has ended: takes the bar away and shows what came out, with the outputs in `out`.
    ///
    /// ```
    /// use std::path::Path;
    /// use twelvefold::cli::flags::{LogFormat, ShowFlags};
    /// use twelvefold::cli::terminal::Terminal;
    /// use twelvefold::report::RunReport;
    ///
    /// let terminal = Terminal::new(ShowFlags { log_format: LogFormat::Json, ..ShowFlags::default() }, 100);
    /// terminal.end(&RunReport::default(), Path::new("run"));
    /// ```
    pub fn end(&self, report: &RunReport, out: &Path) {
        self.clear();
        match self.show {
            ShowFlags { quiet: true, .. } => {}
            ShowFlags { log_format: LogFormat::Text, .. } => say(&table::all(report, out)),
            ShowFlags { log_format: LogFormat::Json, .. } => {
                let report = serde_json::to_value(report).unwrap_or_default();
                self.object("report", &json!({ "out": out.to_string_lossy(), "report": report }));
            }
        }
    }

    /// Takes the bar away.
    ///
    /// ```
    /// use twelvefold::cli::flags::{LogFormat, ShowFlags};
    /// use twelvefold::cli::terminal::Terminal;
    ///
    /// Terminal::new(ShowFlags::default(), 1).clear();
    /// ```
    pub fn clear(&self) {
        #[cfg(feature = "tui")]
        self.dashboard.iter().for_each(Dashboard::leave);
        self.bar.finish_and_clear();
    }

    /// A line for people, or an object with it.
    fn line(&self, event: &str, text: &str) {
        if self.show.quiet {
            return;
        }
        match self.show.log_format {
            LogFormat::Text => self.bar.suspend(|| say(&format!("{text}\n"))),
            LogFormat::Json => self.object(event, &json!({ "text": text })),
        }
    }

    fn object(&self, event: &str, fields: &Value) {
        let mut all = json!({ "event": event });
        if let (Some(all), Some(fields)) = (all.as_object_mut(), fields.as_object()) {
            all.extend(fields.clone());
        }
        say(&format!("{all}\n"));
    }

    fn is_json(&self) -> bool {
        !self.show.quiet && self.show.log_format == LogFormat::Json
    }

    /// Whether this step has a line.
    fn is_due(&mut self, progress: &Progress) -> bool {
        let due = progress.step.is_multiple_of(self.interval) || self.last_line.elapsed() > QUIET;
        let due = due || progress.step == 1 || progress.step == progress.steps;
        if due {
            self.last_line = Instant::now();
        }
        due
    }
}

impl Observer for Terminal {
    fn plan(&mut self, text: &str) {
        if let Some(screen) = self.screen() {
            return screen.plan(text);
        }
        self.line("plan", text);
    }

    fn step(&mut self, progress: &Progress) {
        if let Some(screen) = self.screen() {
            return screen.step(progress);
        }
        if !self.bar.is_hidden() {
            self.bar.set_message(view::lines(progress));
            let left = |seconds| format!("{} left", units::seconds(seconds));
            self.bar.set_prefix(progress.eta_seconds.map_or_else(String::new, left));
            self.bar.set_position(progress.step);
            return;
        }
        if !self.is_due(progress) {
        } else if self.is_json() {
            self.object("step", &numbers(progress));
        } else {
            self.line("step", &progress.line());
        }
    }

    fn validated(&mut self, progress: &Progress) {
        if let Some(screen) = self.screen() {
            return screen.validated(progress);
        }
        if self.is_json() {
            return self.object("validated", &numbers(progress));
        }
        let loss = progress.val_loss.unwrap_or(f64::NAN);
        let (step, steps) = (progress.step, progress.steps);
        self.line("validated", &format!("step {step}/{steps}  validation loss {loss:.4}"));
    }

    fn note(&mut self, text: &str) {
        if let Some(screen) = self.screen() {
            return screen.note(text);
        }
        self.line("note", text);
    }

    fn sample_at(&mut self, step: u64, text: &str) {
        if let Some(screen) = self.screen() {
            screen.sample_at(step, text);
        }
    }

    fn sample(&mut self, text: &str) {
        if let Some(screen) = self.screen() {
            return screen.sample(text);
        }
        if self.is_json() {
            return self.line("sample", text);
        }
        self.line("sample", &format!("\nsample:\n{}\n", plain(text)));
    }
}

/// Text of a model for a terminal: a young model writes anything, and what moves the cursor is left out.
///
/// ```
/// assert_eq!(twelvefold::cli::terminal::plain("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\n");
/// ```
pub fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}

/// The numbers of a moment, by their names in `metrics.jsonl`; and how many steps there are, the last
/// validation loss, and the time left.
fn numbers(progress: &Progress) -> Value {
    let mut all = Map::new();
    metrics::each(progress, &mut |name, value| {
        all.insert(name.to_owned(), value.into());
    });
    all.insert("steps".to_owned(), progress.steps.into());
    all.insert("val_loss".to_owned(), progress.val_loss.into());
    all.insert("eta_seconds".to_owned(), progress.eta_seconds.into());
    Value::Object(all)
}
