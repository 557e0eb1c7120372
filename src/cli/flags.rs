//! The flags of a training run.
//!
//! Defaults and ranges are those of [`crate::train::options`]. The name of a flag's field is that of its
//! [`Options`] field: [`super::settings`] looks up by it whether the user gave it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::sync::cores;
use crate::train::options::{
    BAD_RECORDS, BATCH, CHECKPOINT_EVERY, CHECKPOINT_MINUTES, CONTEXT, EVAL_INTERVAL, HEADS,
    KEEP_CHECKPOINTS, LAYERS, MICRO_BATCHES, Options, SEED, SHUFFLE_WINDOW, SPHERES, STEPS,
    TOKENIZERS, WARMUP, WIDTH, parse_address, parse_amount, parse_rate, parse_share, parse_size,
    parse_tokenizer, parse_weighted,
};

/// Every setting of a run as a flag; `-h` shows the usual ones, `--help` all.
///
/// ```
/// use clap::Parser;
/// use twelvefold::cli::flags::RunFlags;
///
/// #[derive(Parser)]
/// struct Arguments {
///     #[command(flatten)]
///     run: RunFlags,
/// }
///
/// let given = Arguments::parse_from(["program", "notes", "--steps", "300"]);
/// let options = given.run.into_options();
/// assert_eq!((options.steps, options.paths), (300, vec!["notes".into()]));
/// ```
#[derive(Args, Debug, Clone)]
pub struct RunFlags {
    #[command(flatten)]
    inputs: InputFlags,
    #[command(flatten)]
    folder: FolderFlags,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    training: TrainingFlags,
    #[command(flatten)]
    machine: MachineFlags,
}

/// What is read, and how it becomes tokens.
///
/// ```
/// use clap::Parser;
/// use twelvefold::cli::flags::InputFlags;
/// use twelvefold::train::Options;
///
/// #[derive(Parser)]
/// struct Arguments {
///     #[command(flatten)]
///     inputs: InputFlags,
/// }
///
/// let given = Arguments::parse_from(["program", "--tokenizer", "bytes", "a.txt"]);
/// assert_eq!(given.inputs.into_options(Options::default()).tokenizer, "bytes");
/// ```
#[derive(Args, Debug, Clone)]
pub struct InputFlags {
    #[command(flatten)]
    text: TextFlags,
    /// bytes, words:N, bpe:N or PATH.json
    #[arg(long, value_name = "KIND", default_value_t = Options::default().tokenizer,
          value_parser = parse_tokenizer, help_heading = "Text")]
    tokenizer: String,
}

/// What is read.
///
/// ```
/// use clap::Parser;
/// use twelvefold::cli::flags::TextFlags;
/// use twelvefold::train::Options;
///
/// #[derive(Parser)]
/// struct Arguments {
///     #[command(flatten)]
///     text: TextFlags,
/// }
///
/// let given = Arguments::parse_from(["program", "--field", "body", "a.jsonl"]);
/// assert_eq!(given.text.into_options(Options::default()).field, "body");
/// ```
#[derive(Args, Debug, Clone)]
pub struct TextFlags {
    /// Files and folders of text; - is standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Inputs that are mixed by weight, instead of one after the other
    #[arg(long, value_name = "PATH=WEIGHT", num_args = 1.., conflicts_with = "paths",
          value_parser = parse_weighted, help_heading = "Text")]
    mix: Vec<(PathBuf, f64)>,
    /// Field of a .jsonl record, or column of a .parquet file, that is its text
    #[arg(long, value_name = "NAME", default_value_t = Options::default().field,
          hide_short_help = true, help_heading = "Text")]
    field: String,
    /// Bad records up to which it goes on
    #[arg(long, value_name = "N", default_value_t = Options::default().bad_records,
          value_parser = |t: &str| BAD_RECORDS.parse::<u64>(t), hide_short_help = true,
          help_heading = "Text")]
    bad_records: u64,
    /// Leave out what .gitignore files name
    #[arg(long, hide_short_help = true, help_heading = "Text")]
    gitignore: bool,
}

#[derive(Args, Debug, Clone)]
struct FolderFlags {
    /// Folder for the outputs; refused if it holds a run
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().out,
          help_heading = "Outputs")]
    out: PathBuf,
    /// Replace the run that --out holds
    #[arg(long, help_heading = "Outputs")]
    overwrite: bool,
    /// Go on with the run that --out holds
    #[arg(long, help_heading = "Outputs")]
    resume: bool,
    /// Resume also with other settings or text
    #[arg(long, requires = "resume", hide_short_help = true, help_heading = "Outputs")]
    allow_changes: bool,
    /// Steps between checkpoints; 0: only the outputs
    #[arg(long, value_name = "N", default_value_t = Options::default().checkpoint_every,
          value_parser = |t: &str| CHECKPOINT_EVERY.parse::<u64>(t), help_heading = "Outputs")]
    checkpoint_every: u64,
    /// Minutes after which one is saved all the same; 0: never
    #[arg(long, value_name = "N", default_value_t = Options::default().checkpoint_minutes,
          value_parser = |t: &str| CHECKPOINT_MINUTES.parse::<u64>(t), hide_short_help = true,
          help_heading = "Outputs")]
    checkpoint_minutes: u64,
    /// Last checkpoints that are kept; the best is kept too
    #[arg(long, value_name = "N", default_value_t = Options::default().keep_checkpoints,
          value_parser = |t: &str| KEEP_CHECKPOINTS.parse::<usize>(t), hide_short_help = true,
          help_heading = "Outputs")]
    keep_checkpoints: usize,
    /// Leave the numbers of each step for TensorBoard too
    #[arg(long, hide_short_help = true, help_heading = "Outputs")]
    tensorboard: bool,
    /// Answer Prometheus at this port, or address, while it goes; 0: any port
    #[arg(long, value_name = "ADDR", value_parser = parse_address, hide_short_help = true,
          help_heading = "Outputs")]
    prometheus: Option<SocketAddr>,
    /// What each thread did when, for ui.perfetto.dev; RUN/trace.json where no file is named
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "", value_parser = |t: &str| Ok::<_, Infallible>(PathBuf::from(t)),
          hide_short_help = true, help_heading = "Outputs")]
    trace: Option<PathBuf>,
}

#[derive(Args, Debug, Clone)]
struct ModelFlags {
    /// Begin with the weights of a run, or of a GPT-2 from Hugging Face
    #[arg(long, value_name = "DIR", hide_short_help = true, help_heading = "Model")]
    init: Option<PathBuf>,
    /// Transformer blocks
    #[arg(long, value_name = "N", default_value_t = Options::default().layers,
          value_parser = |t: &str| LAYERS.parse::<usize>(t), help_heading = "Model")]
    layers: usize,
    /// Attention heads; must divide --width
    #[arg(long, value_name = "N", default_value_t = Options::default().heads,
          value_parser = |t: &str| HEADS.parse::<usize>(t), help_heading = "Model")]
    heads: usize,
    /// Width of the model
    #[arg(long, value_name = "N", default_value_t = Options::default().width,
          value_parser = |t: &str| WIDTH.parse::<usize>(t), help_heading = "Model")]
    width: usize,
    /// Tokens that the model looks back
    #[arg(long, value_name = "N", default_value_t = Options::default().context,
          value_parser = |t: &str| CONTEXT.parse::<usize>(t), help_heading = "Model")]
    context: usize,
    /// No attention across documents; positions count anew in each
    #[arg(long, hide_short_help = true, help_heading = "Model")]
    mask_documents: bool,
}

#[derive(Args, Debug, Clone)]
struct TrainingFlags {
    /// Optimizer steps
    #[arg(long, value_name = "N", default_value_t = Options::default().steps,
          value_parser = |t: &str| STEPS.parse::<u64>(t), help_heading = "Training")]
    steps: u64,
    /// Sequences in a micro-batch
    #[arg(long, value_name = "N", default_value_t = Options::default().batch,
          value_parser = |t: &str| BATCH.parse::<usize>(t), help_heading = "Training")]
    batch: usize,
    /// Micro-batches in a step
    #[arg(long, value_name = "N", default_value_t = Options::default().micro_batches,
          value_parser = |t: &str| MICRO_BATCHES.parse::<usize>(t), help_heading = "Training")]
    micro_batches: usize,
    /// Highest learning rate; it decays to a tenth
    #[arg(long, value_name = "RATE", default_value_t = Options::default().lr,
          value_parser = parse_rate, help_heading = "Training")]
    lr: f32,
    /// Steps in which the rate rises [default: a twentieth, at most 100]
    #[arg(long, value_name = "N", value_parser = |t: &str| WARMUP.parse::<u64>(t),
          hide_short_help = true, help_heading = "Training")]
    warmup: Option<u64>,
    /// AdamW's decay, of matrices only
    #[arg(long, value_name = "X", default_value_t = Options::default().weight_decay,
          value_parser = parse_share, hide_short_help = true, help_heading = "Training")]
    weight_decay: f32,
    /// Largest norm of a gradient; 0: any
    #[arg(long, value_name = "X", default_value_t = Options::default().clip,
          value_parser = parse_amount, hide_short_help = true, help_heading = "Training")]
    clip: f32,
    /// Steps between validations; 0: only at the end
    #[arg(long, value_name = "N", default_value_t = Options::default().eval_interval,
          value_parser = |t: &str| EVAL_INTERVAL.parse::<u64>(t), hide_short_help = true,
          help_heading = "Training")]
    eval_interval: u64,
    /// Decides first weights, data order and stories
    #[arg(long, value_name = "N", default_value_t = Options::default().seed,
          value_parser = |t: &str| SEED.parse::<u64>(t), help_heading = "Training")]
    seed: u64,
    /// Bytes of built-in stories, where no PATH is given
    #[arg(long, value_name = "SIZE", default_value = "4000000", value_parser = parse_size,
          hide_short_help = true, help_heading = "Training")]
    story_bytes: u64,
    /// Whether the seed decides the order of files, or their paths
    #[arg(long, value_name = "BOOL", default_value_t = Options::default().shuffle_files,
          action = clap::ArgAction::Set, hide_short_help = true, help_heading = "Training")]
    shuffle_files: bool,
    /// Sequences within which the order is shuffled
    #[arg(long, value_name = "N", default_value_t = Options::default().shuffle_window,
          value_parser = |t: &str| SHUFFLE_WINDOW.parse::<usize>(t), hide_short_help = true,
          help_heading = "Training")]
    shuffle_window: usize,
    /// Leave out steps whose loss or gradient is no number
    #[arg(long, hide_short_help = true, help_heading = "Training")]
    skip_non_finite: bool,
}

#[derive(Args, Debug, Clone)]
struct MachineFlags {
    /// Workers that compute; all give the same result [default: cores]
    #[arg(long, value_name = "N", value_parser = |t: &str| SPHERES.parse::<usize>(t),
          help_heading = "Training")]
    spheres: Option<usize>,
    /// Threads that turn text into tokens
    #[arg(long, value_name = "N", default_value_t = Options::default().tokenizers,
          value_parser = |t: &str| TOKENIZERS.parse::<usize>(t), hide_short_help = true, help_heading = "Training")]
    tokenizers: usize,
    /// Tokens kept, such as 800M; beyond, text is read again
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size,
          hide_short_help = true, help_heading = "Training")]
    token_memory: u64,
}

/// How a run tells what it does.
///
/// ```
/// use clap::Parser;
/// use twelvefold::cli::flags::ShowFlags;
///
/// #[derive(Parser)]
/// struct Arguments {
///     #[command(flatten)]
///     show: ShowFlags,
/// }
///
/// assert!(Arguments::parse_from(["program", "-q"]).show.quiet);
/// ```
#[derive(Args, Debug, Clone, Copy, Default)]
pub struct ShowFlags {
    /// Errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// A run on the whole screen, where stdout is a terminal
    #[cfg(feature = "tui")]
    #[arg(long, conflicts_with_all = ["quiet", "log_format"])]
    pub tui: bool,
    /// Lines for people or one JSON object each
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text,
          hide_possible_values = true, hide_short_help = true)]
    pub log_format: LogFormat,
}

/// The form of what is printed.
///
/// ```
/// use clap::ValueEnum;
/// use twelvefold::cli::flags::LogFormat;
///
/// assert_eq!(LogFormat::from_str("json", false), Ok(LogFormat::Json));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A bar on a terminal, lines elsewhere.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl TextFlags {
    /// Sets what is read in `options`.
    pub fn into_options(self, options: Options) -> Options {
        let (mixed, weights): (Vec<PathBuf>, Vec<f64>) = self.mix.into_iter().unzip();
        Options {
            paths: if mixed.is_empty() { self.paths } else { mixed },
            weights,
            field: self.field,
            bad_records: self.bad_records,
            gitignore: self.gitignore,
            ..options
        }
    }
}

impl InputFlags {
    /// Sets what is read, and the tokenizer, in `options`.
    pub fn into_options(self, options: Options) -> Options {
        self.text.into_options(Options { tokenizer: self.tokenizer, ..options })
    }
}

impl RunFlags {
    /// The settings that they name; a sphere for each core where none are asked for.
    pub fn into_options(self) -> Options {
        let Self { inputs, folder, model, training, machine } = self;
        let options = Options {
            out: folder.out,
            overwrite: folder.overwrite,
            resume: folder.resume,
            allow_changes: folder.allow_changes,
            checkpoint_every: folder.checkpoint_every,
            checkpoint_minutes: folder.checkpoint_minutes,
            keep_checkpoints: folder.keep_checkpoints,
            tensorboard: folder.tensorboard,
            prometheus: folder.prometheus,
            trace: folder.trace,
            init: model.init,
            layers: model.layers,
            heads: model.heads,
            width: model.width,
            context: model.context,
            mask_documents: model.mask_documents,
            steps: training.steps,
            batch: training.batch,
            micro_batches: training.micro_batches,
            lr: training.lr,
            warmup: training.warmup,
            weight_decay: training.weight_decay,
            clip: training.clip,
            eval_interval: training.eval_interval,
            seed: training.seed,
            story_bytes: training.story_bytes,
            shuffle_files: training.shuffle_files,
            shuffle_window: training.shuffle_window,
            skip_non_finite: training.skip_non_finite,
            spheres: machine.spheres.unwrap_or_else(cores),
            tokenizers: machine.tokenizers,
            token_memory: machine.token_memory,
            ..Options::default()
        };
        inputs.into_options(options)
    }
}
