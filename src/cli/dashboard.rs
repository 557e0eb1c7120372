//! A run on the whole screen of a terminal (feature `tui`).
//!
//! Losses as curves, the numbers of the moment, the time of each stage as a bar, what the model wrote last. The
//! keyboard is left alone: Ctrl-C is a signal here as everywhere. The first one puts the terminal back as it
//! was, so that nothing is left behind by a second one, which ends the process at once.

use std::io::{self, Stdout};
use std::time::{Duration, Instant};

use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::panels::{View, draw};
use crate::report::{Observer, Progress};
use crate::sync::{Arc, AtomicBool, Ordering};

/// The screen is drawn this often at most.
const FRAME: Duration = Duration::from_millis(50);

/// The screen while a run goes.
#[derive(Debug)]
pub(super) struct Dashboard {
    screen: Terminal<CrosstermBackend<Stdout>>,
    view: View,
    drawn: Option<Instant>,
    shown: Shown,
}

/// Whether the terminal shows the dashboard. Who lowers it puts the terminal back.
#[derive(Debug, Clone)]
pub(super) struct Shown(Arc<AtomicBool>);

impl Shown {
    /// Puts the terminal back as it was, once; from any thread.
    pub(super) fn leave(&self) {
        // Relaxed: one of those who come takes it, and nothing else hangs on it.
        if self.0.swap(false, Ordering::Relaxed) {
            // A terminal that went away needs nothing.
            let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        }
    }

    pub(super) fn is_up(&self) -> bool {
        // Relaxed: a frame that is drawn too late is repaired by nobody, and harms nobody.
        self.0.load(Ordering::Relaxed)
    }
}

impl Dashboard {
    /// Takes the whole screen, for a run of so many steps. An error where the terminal cannot be written to.
    pub(super) fn new(steps: u64) -> io::Result<Self> {
        execute!(io::stdout(), EnterAlternateScreen)?;
        let shown = Shown(Arc::new(AtomicBool::new(true)));
        let options = TerminalOptions { viewport: Viewport::Fullscreen };
        let screen = Terminal::with_options(CrosstermBackend::new(io::stdout()), options)
            .inspect_err(|_| shown.leave())?;
        Ok(Dashboard { screen, view: View::new(steps), drawn: None, shown })
    }

    /// For other threads.
    pub(super) fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Whether it still has the screen; otherwise lines are written.
    pub(super) fn is_up(&self) -> bool {
        self.shown.is_up()
    }

    pub(super) fn leave(&self) {
        self.shown.leave();
    }

    fn say(&mut self, text: &str) {
        self.view.say(text);
        self.draw();
    }

    fn draw(&mut self) {
        self.drawn = Some(Instant::now());
        if !self.is_up() {
            return;
        }
        // What cannot be drawn is no reason to end a training.
        let _ = self.screen.draw(|frame| draw(&self.view, frame));
        let _ = self.screen.backend_mut().flush();
    }
}

impl Observer for Dashboard {
    fn plan(&mut self, text: &str) {
        self.say(text);
    }

    fn step(&mut self, progress: &Progress) {
        self.view.step(progress);
        if self.drawn.is_none_or(|at| at.elapsed() >= FRAME) {
            self.draw();
        }
    }

    fn validated(&mut self, progress: &Progress) {
        self.view.validated(progress);
    }

    fn note(&mut self, text: &str) {
        self.say(text);
    }

    fn sample(&mut self, text: &str) {
        self.say(text);
    }

    fn sample_at(&mut self, step: u64, text: &str) {
        self.say(&format!("after step {step}: {text}"));
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.leave();
    }
}
