//! Trains a small GPT on the built-in corpus, or on your own files and folders.
//!
//! `cargo run --release --example pipeline -- --help` lists the flags. Exit codes: 0 the run ended;
//! 1 it failed; 2 a setting was refused; 130 it was stopped by Ctrl-C or SIGTERM (the step was finished
//! and the outputs saved; a second one leaves at once). `--resume` goes on after any of these.
//!
//! The command line only: flags to [`Options`], signals to a stop flag, events to the terminal.
//! What a run does stands in `twelvefold::train`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use twelvefold::Error;
use twelvefold::report::{Observer, Progress, RunReport, table};
use twelvefold::train::Cancel;
use twelvefold::train::options::{
    BAD_RECORDS, BATCH, CHECKPOINT_EVERY, CONTEXT, HEADS, KEEP_CHECKPOINTS, LAYERS, MICRO_BATCHES,
    Options, SEED, SPHERES, STEPS, TOKENIZERS, WIDTH, parse_rate, parse_size, parse_tokenizer,
    parse_weighted,
};

const REFUSED: u8 = 2;
const STOPPED: u8 = 130;

const EXAMPLES: &str = "Examples:
  pipeline ~/notes book.txt --out my-model    your own files and folders
  pipeline --resume                           go on, whatever ended the run before
Exit codes: 0 done, 1 failed, 2 refused, 130 Ctrl-C, which saves first; twice leaves at once.";

/// Trains a small GPT on files and folders of text; without any, on built-in stories, in about a minute
#[derive(Parser, Debug)]
#[command(name = "pipeline", version, after_help = EXAMPLES, allow_negative_numbers = true)]
struct Arguments {
    /// Files and folders to train on; - is standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Inputs that are mixed by weight, instead of one after the other
    #[arg(long, value_name = "PATH=WEIGHT", num_args = 1.., conflicts_with = "paths",
          value_parser = parse_weighted)]
    mix: Vec<(PathBuf, f64)>,
    /// Field of a .jsonl record that is its text
    #[arg(long, value_name = "NAME", default_value_t = Options::default().field)]
    field: String,
    /// Bad records up to which the run goes on
    #[arg(long, value_name = "N", default_value_t = Options::default().bad_records,
          value_parser = |t: &str| BAD_RECORDS.parse::<u64>(t))]
    bad_records: u64,
    /// Leave out what .gitignore files name
    #[arg(long)]
    gitignore: bool,
    /// Folder for the outputs; refused if it holds a run
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().out)]
    out: PathBuf,
    /// Replace the run that --out holds
    #[arg(long)]
    overwrite: bool,
    /// Go on with the run that --out holds
    #[arg(long)]
    resume: bool,
    /// Resume also with other settings or text
    #[arg(long, requires = "resume")]
    allow_changes: bool,
    /// Steps between checkpoints; 0: only the outputs
    #[arg(long, value_name = "N", default_value_t = Options::default().checkpoint_every,
          value_parser = |t: &str| CHECKPOINT_EVERY.parse::<u64>(t))]
    checkpoint_every: u64,
    /// Last checkpoints that are kept; the best is kept too
    #[arg(long, value_name = "N", default_value_t = Options::default().keep_checkpoints,
          value_parser = |t: &str| KEEP_CHECKPOINTS.parse::<usize>(t))]
    keep_checkpoints: usize,
    /// Workers that compute; all give the same result [default: cores]
    #[arg(long, value_name = "N", value_parser = |t: &str| SPHERES.parse::<usize>(t))]
    spheres: Option<usize>,
    /// Threads that turn text into tokens
    #[arg(long, value_name = "N", default_value_t = Options::default().tokenizers,
          value_parser = |t: &str| TOKENIZERS.parse::<usize>(t))]
    tokenizers: usize,
    /// Tokens kept, such as 800M; beyond, text is read again
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    token_memory: u64,
    /// Optimizer steps
    #[arg(long, value_name = "N", default_value_t = Options::default().steps,
          value_parser = |t: &str| STEPS.parse::<u64>(t))]
    steps: u64,
    /// Decides first weights, data order and stories
    #[arg(long, value_name = "N", default_value_t = Options::default().seed,
          value_parser = |t: &str| SEED.parse::<u64>(t))]
    seed: u64,
    /// bytes, words:N, bpe:N, PATH.json; README has more
    #[arg(long, value_name = "KIND", default_value_t = Options::default().tokenizer,
          value_parser = parse_tokenizer)]
    tokenizer: String,
    /// Transformer blocks
    #[arg(long, value_name = "N", default_value_t = Options::default().layers,
          value_parser = |t: &str| LAYERS.parse::<usize>(t))]
    layers: usize,
    /// Attention heads; must divide --width
    #[arg(long, value_name = "N", default_value_t = Options::default().heads,
          value_parser = |t: &str| HEADS.parse::<usize>(t))]
    heads: usize,
    /// Width of the model
    #[arg(long, value_name = "N", default_value_t = Options::default().width,
          value_parser = |t: &str| WIDTH.parse::<usize>(t))]
    width: usize,
    /// Tokens that the model looks back
    #[arg(long, value_name = "N", default_value_t = Options::default().context,
          value_parser = |t: &str| CONTEXT.parse::<usize>(t))]
    context: usize,
    /// Sequences in a micro-batch
    #[arg(long, value_name = "N", default_value_t = Options::default().batch,
          value_parser = |t: &str| BATCH.parse::<usize>(t))]
    batch: usize,
    /// Micro-batches in a step
    #[arg(long, value_name = "N", default_value_t = Options::default().micro_batches,
          value_parser = |t: &str| MICRO_BATCHES.parse::<usize>(t))]
    micro_batches: usize,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = Options::default().lr,
          value_parser = parse_rate)]
    lr: f32,
    /// No attention across documents; positions count anew in each
    #[arg(long)]
    mask_documents: bool,
    /// Leave out steps whose loss or gradient is no number
    #[arg(long)]
    skip_non_finite: bool,
}

impl Arguments {
    fn into_options(self) -> Options {
        let cores = || thread::available_parallelism().map_or(1, |n| n.get());
        let (mixed, weights): (Vec<PathBuf>, Vec<f64>) = self.mix.into_iter().unzip();
        Options {
            paths: if mixed.is_empty() { self.paths } else { mixed },
            weights,
            field: self.field,
            bad_records: self.bad_records,
            gitignore: self.gitignore,
            out: self.out,
            overwrite: self.overwrite,
            resume: self.resume,
            allow_changes: self.allow_changes,
            checkpoint_every: self.checkpoint_every,
            keep_checkpoints: self.keep_checkpoints,
            spheres: self.spheres.unwrap_or_else(cores),
            tokenizers: self.tokenizers,
            token_memory: self.token_memory,
            steps: self.steps,
            seed: self.seed,
            tokenizer: self.tokenizer,
            layers: self.layers,
            heads: self.heads,
            width: self.width,
            context: self.context,
            batch: self.batch,
            micro_batches: self.micro_batches,
            lr: self.lr,
            mask_documents: self.mask_documents,
            skip_non_finite: self.skip_non_finite,
            ..Options::default()
        }
    }
}

fn main() -> ExitCode {
    let options = Arguments::parse().into_options();
    let code = match train(&options) {
        Ok(report) => {
            say(&table::all(&report, &options.out));
            if report.interrupted { STOPPED } else { 0 }
        }
        Err(error) => {
            // Nobody is left to tell where stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            match error {
                Error::Setting { .. } => REFUSED,
                Error::Interrupted => STOPPED,
                _ => 1,
            }
        }
    };
    ExitCode::from(code)
}

fn train(options: &Options) -> Result<RunReport, Error> {
    options.validate()?;
    twelvefold::corpus::map::install_sigbus_handler()
        .map_err(|e| Error::input(format!("cannot guard the maps of large files: {e}"), ""))?;
    let cancel = Cancel::new();
    let stop = cancel.clone();
    on_signal(move || stop.request())
        .map_err(|e| Error::input(format!("cannot listen to signals: {e}"), ""))?;
    let mut terminal = Terminal::new(options.steps);
    let report = twelvefold::train::run(options, &cancel, &mut terminal);
    terminal.bar.finish_and_clear();
    report
}

/// Calls `stop` at the first SIGINT or SIGTERM; the second one ends the process.
fn on_signal(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let stopping = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down and raises it, the second finds it up.
        flag::register_conditional_shutdown(signal, i32::from(STOPPED), Arc::clone(&stopping))?;
        flag::register(signal, Arc::clone(&stopping))?;
    }
    // A file beyond `ulimit -f` then is an error that names it, not the end of the process.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let listen = move || {
        if signals.forever().next().is_some() {
            let text = "stopping after this step; press Ctrl-C again to leave at once";
            let _ = writeln!(io::stderr(), "\n{text}");
            stop();
        }
    };
    thread::Builder::new().name("tf-signals".to_owned()).spawn(listen).map(|_| ())
}

/// A bar on a terminal; elsewhere one plain line per interval.
struct Terminal {
    bar: ProgressBar,
    /// Steps between two plain lines, where there is no terminal.
    interval: u64,
    last_line: Instant,
}

/// A slow run still says something this often.
const QUIET: Duration = Duration::from_secs(10);

impl Terminal {
    fn new(steps: u64) -> Self {
        let bar = if io::stdout().is_terminal() && io::stderr().is_terminal() {
            ProgressBar::new(steps)
        } else {
            ProgressBar::hidden()
        };
        let template = "{bar:30} {pos}/{len}  {prefix}\n{wide_msg}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { bar, interval: steps.div_ceil(20).max(1), last_line: Instant::now() }
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| say(&format!("{text}\n")));
    }
}

impl Observer for Terminal {
    fn plan(&mut self, text: &str) {
        self.line(text);
    }

    fn step(&mut self, progress: &Progress) {
        if !self.bar.is_hidden() {
            self.bar.set_message(progress.numbers());
            self.bar.set_prefix(progress.stages());
            self.bar.set_position(progress.step);
            return;
        }
        let due = progress.step.is_multiple_of(self.interval) || self.last_line.elapsed() > QUIET;
        if due || progress.step == 1 || progress.step == progress.steps {
            self.line(&progress.line());
            self.last_line = Instant::now();
        }
    }

    fn validated(&mut self, progress: &Progress) {
        let loss = progress.val_loss.unwrap_or(f64::NAN);
        self.line(&format!("step {}/{}  validation loss {loss:.4}", progress.step, progress.steps));
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn sample(&mut self, text: &str) {
        // A young model writes anything, and what moves the cursor is not for the terminal.
        let plain = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
        let text: String = text.chars().map(plain).collect();
        self.line(&format!("\nsample:\n{text}\n"));
    }
}

/// Prints. A reader that went away (`pipeline | head`) does not end the training.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
