//! What the dashboard shows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Sparkline, Wrap};

use super::terminal::plain;
use crate::report::progress::{Doing, StageState};
use crate::report::{Progress, units};

/// Points of a curve; with more, every second one goes and half as many come.
const POINTS: usize = 512;
/// Speeds that are kept: as many as a wide terminal has columns for.
const SPEEDS: usize = 256;
/// Columns of a stage's bar.
const BAR: usize = 30;

const LOSS: Color = Color::Cyan;
const VALIDATION: Color = Color::Yellow;
const BUSY: Color = Color::Green;
const QUIET: Color = Color::DarkGray;

/// A curve in bounded memory: its points are equally far apart.
#[derive(Debug)]
struct Curve {
    points: Vec<(f64, f64)>,
    /// Steps from one point to the next.
    every: u64,
}

impl Curve {
    fn new() -> Self {
        Curve { points: Vec::with_capacity(POINTS), every: 1 }
    }

    fn push(&mut self, step: u64, value: f64) {
        if self.points.len() == POINTS && step.is_multiple_of(self.every) {
            self.every *= 2;
            let every = self.every;
            self.points.retain(|(at, _)| (*at as u64).is_multiple_of(every));
        }
        if value.is_finite() && step.is_multiple_of(self.every) {
            self.points.push((step as f64, value));
        }
    }
}

/// What was told so far.
#[derive(Debug)]
pub(super) struct View {
    steps: u64,
    last: Progress,
    losses: Curve,
    validations: Vec<(f64, f64)>,
    speeds: Vec<u64>,
    /// What was said last.
    said: String,
}

impl View {
    pub(super) fn new(steps: u64) -> Self {
        View {
            steps,
            last: Progress::default(),
            losses: Curve::new(),
            validations: Vec::new(),
            speeds: Vec::new(),
            said: String::new(),
        }
    }

    pub(super) fn step(&mut self, progress: &Progress) {
        self.losses.push(progress.step, progress.loss);
        if self.speeds.len() == SPEEDS {
            self.speeds.remove(0);
        }
        self.speeds.push(progress.tokens_per_second.max(0.0) as u64);
        self.last.clone_from(progress);
    }

    pub(super) fn validated(&mut self, progress: &Progress) {
        if let Some(loss) = progress.val_loss.filter(|loss| loss.is_finite()) {
            self.validations.push((progress.step as f64, loss));
        }
        if self.validations.len() > 2 * POINTS {
            let mut keep = true;
            self.validations.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        self.said = plain(text.trim());
    }
}

/// Draws all of it; what does not fit is left out from the bottom.
pub(super) fn draw(view: &View, frame: &mut Frame<'_>) {
    let stages = view.last.stages.len() as u16 + 1;
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(8),
        Constraint::Length(stages + 3),
        Constraint::Length(7),
        Constraint::Length(1),
    ]);
    let [head, gauge, middle, work, said, foot] = rows.areas(frame.area());
    frame.render_widget(title(view), head);
    let done = view.last.step as f64 / view.steps.max(1) as f64;
    let bar = Gauge::default().ratio(done.clamp(0.0, 1.0)).gauge_style(BUSY).use_unicode(true);
    frame.render_widget(bar.label(""), gauge);
    let columns = Layout::horizontal([Constraint::Min(30), Constraint::Length(34)]);
    let [curves, numbers] = columns.areas(middle);
    losses(view, frame, curves);
    side(view, frame, numbers);
    frame.render_widget(load(&view.last), work);
    let text = Paragraph::new(&*view.said).wrap(Wrap { trim: false }).block(Block::bordered());
    frame.render_widget(text, said);
    let keys = "Ctrl-C: finish the step, save, leave    kill -USR1: save and go on";
    frame.render_widget(Paragraph::new(keys).style(QUIET), foot);
}

fn title(view: &View) -> Paragraph<'static> {
    let last = &view.last;
    let mut text = format!("twelvefold   step {} of {}", last.step, view.steps);
    if let Some(eta) = last.eta_seconds {
        text += &format!("   {} left", units::seconds(eta));
    }
    Paragraph::new(text).style(Style::new().add_modifier(Modifier::BOLD))
}

fn losses(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let values = || view.losses.points.iter().chain(&view.validations).map(|(_, loss)| *loss);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    // Before the first step there is nothing between which to draw.
    let (low, high) = if low < high { (low, high) } else { (0.0, 1.0) };
    let until = view.last.step.max(2);
    let label = |value: f64| Span::raw(format!("{value:.2}"));
    let curve = |points, name: &'static str, color: Color| {
        Dataset::default().name(name).data(points).style(color).graph_type(GraphType::Line)
    };
    let curves = vec![
        curve(&view.losses.points, "training", LOSS).marker(Marker::Braille),
        curve(&view.validations, "validation", VALIDATION).marker(Marker::Dot),
    ];
    let steps = [1, until.midpoint(1), until].map(|step| Span::raw(step.to_string()));
    let chart = Chart::new(curves)
        .block(Block::bordered().title(" loss, nats a token "))
        .x_axis(Axis::default().bounds([1.0, until as f64]).labels(steps).style(QUIET))
        .y_axis(
            Axis::default()
                .bounds([low, high])
                .labels([label(low), label(low.midpoint(high)), label(high)])
                .style(QUIET),
        );
    frame.render_widget(chart, area);
}

fn side(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let last = &view.last;
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String, color: Color| {
        lines.push(Line::from(vec![
            Span::styled(format!("{name:<15}"), Style::new().fg(QUIET)),
            Span::styled(value, Style::new().fg(color)),
        ]));
    };
    row("loss", format!("{:.4}", last.loss), LOSS);
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    row("validation", known(last.val_loss.map(|loss| format!("{loss:.4}"))), VALIDATION);
    row("learning rate", format!("{:.2e}", last.lr), Color::Reset);
    row("gradient norm", format!("{:.2}", last.grad_norm), Color::Reset);
    row("tokens/s", units::count(last.tokens_per_second), Color::Reset);
    let share = last.peak_share.map(|share| format!("{:.0} %", 100.0 * share));
    row("of the peak", known(share), Color::Reset);
    row("memory", known(last.memory_bytes.map(units::bytes)), Color::Reset);
    row("tokens", units::count(last.tokens as f64), Color::Reset);
    if last.skipped_steps > 0 {
        row("left out", format!("{} steps", last.skipped_steps), Color::Red);
    }
    let block = Block::bordered();
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [numbers, speed] =
        Layout::vertical([Constraint::Length(lines.len() as u16), Constraint::Min(0)]).areas(inner);
    frame.render_widget(Paragraph::new(lines), numbers);
    let from = view.speeds.len().saturating_sub(usize::from(speed.width));
    frame.render_widget(Sparkline::default().data(&view.speeds[from..]).style(BUSY), speed);
}

/// A line a stage, and who holds the others back.
fn load(last: &Progress) -> Paragraph<'static> {
    let mut lines: Vec<Line<'static>> = last.stages.iter().map(stage).collect();
    let spheres = &last.spheres;
    let mut line = vec![Span::raw(format!("{:<10}", "spheres"))];
    line.extend(bar([spheres.busy_share, 0.0, 1.0 - spheres.busy_share]));
    let awake = format!("  {} of {} awake", spheres.awake, spheres.leaves);
    line.push(Span::raw(format!(" {:>3.0} % busy{awake}", 100.0 * spheres.busy_share)));
    lines.push(line.into());
    lines.push(Line::styled(last.bottleneck(), Style::new().fg(QUIET)));
    let title = " time: █ busy  ░ waits for input  ▒ waits for room ";
    Paragraph::new(lines).block(Block::bordered().title(title))
}

fn stage(stage: &StageState) -> Line<'static> {
    let mut line = vec![Span::raw(format!("{:<10}", stage.name))];
    if stage.doing == Doing::Done {
        line.push(Span::styled("done", Style::new().fg(QUIET)));
        return line.into();
    }
    line.extend(bar([stage.busy_share, stage.blocked_share, stage.starved_share]));
    let queue =
        stage.queue.map_or_else(String::new, |(held, room)| format!("  queue {held}/{room}"));
    line.push(Span::raw(format!(" {:>3.0} % busy{queue}", 100.0 * stage.busy_share)));
    line.into()
}

/// Shares as cells: busy, waiting for room, waiting for input.
fn bar(shares: [f64; 3]) -> [Span<'static>; 3] {
    let cells = |share: f64| (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let busy = cells(shares[0]);
    let blocked = cells(shares[1]).min(BAR - busy);
    let part = |symbol: &str, count, color: Color| {
        Span::styled(symbol.repeat(count), Style::new().fg(color))
    };
    [part("█", busy, BUSY), part("▒", blocked, VALIDATION), part("░", BAR - busy - blocked, QUIET)]
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::report::progress::SpheresState;

    fn view() -> View {
        let mut view = View::new(5_200);
        let stage = |name, busy_share, blocked_share| StageState {
            name,
            busy_share,
            blocked_share,
            starved_share: 1.0 - busy_share - blocked_share,
            queue: Some((3, 16)),
            ..StageState::default()
        };
        let stages = vec![
            StageState { name: "load", doing: Doing::Done, ..StageState::default() },
            stage("tokenize", 0.5, 0.5),
            stage("batch", 0.1, 0.9),
        ];
        for step in 1..=2_400 {
            let mut progress = Progress {
                step,
                steps: 5_200,
                loss: 1.0 + 4.0 / step as f64,
                lr: 3.2e-3,
                grad_norm: 0.44,
                tokens: 9_830_400,
                tokens_per_second: 114_135.0,
                peak_share: Some(0.712),
                memory_bytes: Some(48_000_000),
                eta_seconds: Some(72.0),
                skipped_steps: 2,
                stages: stages.clone(),
                spheres: SpheresState {
                    leaves: 12,
                    awake: 2,
                    busy_share: 0.93,
                    ..Default::default()
                },
                ..Progress::default()
            };
            progress.val_loss = (step % 100 == 0).then_some(1.3976);
            view.step(&progress);
            if step % 100 == 0 {
                view.validated(&progress);
            }
        }
        view.say("Once there was\u{1b}[2J a cat");
        view
    }

    fn screen(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(view, frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn every_number_has_its_place() {
        let text = screen(&view(), 110, 36);
        for expected in [
            "step 2400 of 5200   1 m 12 s left",
            "1.0017",
            "1.3976",
            "3.20e-3",
            "0.44",
            "114.1 k",
            "71 %",
            "48.0 MB",
            "9.8 M",
            "2 steps",
            "load      done",
            "tokenize  ███████████████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  50 % busy  queue 3/16",
            "93 % busy  2 of 12 awake",
            "the spheres hold the others back: they are busy 93 % of the time",
            "Once there was\u{fffd}[2J a cat",
            "loss, nats a token",
            "Ctrl-C",
        ] {
            assert!(text.contains(expected), "{expected:?} is not on\n{text}");
        }
    }

    #[test]
    fn any_size_of_a_terminal_is_drawn_on() {
        let (full, empty) = (view(), View::new(0));
        for width in [1, 2, 10, 33, 35, 60, 80, 300] {
            for height in [1, 2, 5, 12, 20, 24, 100] {
                screen(&full, width, height);
                screen(&empty, width, height);
            }
        }
        assert!(screen(&full, 80, 24).contains("step 2400"), "the usual one");
    }

    #[test]
    fn a_long_run_keeps_a_bounded_curve_from_its_beginning_to_its_end() {
        let mut curve = Curve::new();
        (1..=1_000_000).for_each(|step| curve.push(step, step as f64));
        assert!((POINTS / 2..=POINTS).contains(&curve.points.len()), "{}", curve.points.len());
        let steps: Vec<f64> = curve.points.iter().map(|(step, _)| *step).collect();
        assert!(steps.windows(2).all(|pair| pair[1] - pair[0] == curve.every as f64));
        assert!(steps[0] < 5_000.0 && steps[steps.len() - 1] > 995_000.0, "{steps:?}");
        curve.push(1_048_576, f64::NAN);
        assert!(curve.points.iter().all(|(_, value)| value.is_finite()));
    }
}
