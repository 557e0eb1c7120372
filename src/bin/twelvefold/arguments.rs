//! What the command line may say.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use twelvefold::cli::flags::{InputFlags, RunFlags, ShowFlags, TextFlags};
use twelvefold::train::Options;
use twelvefold::train::generate::Settings;
use twelvefold::train::options::SPHERES;

const COMMANDS: &str = "Examples:
  twelvefold train ~/notes --out my-model    a model from your own text
  twelvefold generate --run my-model Once    text from it
  twelvefold verify my-model                 every byte of it is as it was written
Exit codes: 0 done, 1 failed, 2 a setting was refused, 130 stopped by Ctrl-C or SIGTERM.";

const TRAIN: &str = "Examples:
  twelvefold train ~/notes book.txt --out my-model    your own files and folders
  twelvefold train --resume                           go on, whatever ended the run before
  twelvefold train --config my.toml --steps 9000      flags over the file
Each flag may be a variable too (TWELVEFOLD_STEPS=9000). SIGUSR1 saves a checkpoint.";

/// Trains a small GPT on the machine's cores, and answers questions about text and model
#[derive(Parser, Debug)]
#[command(name = "twelvefold", version, after_help = COMMANDS, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Trains a model on files and folders of text; without any, on built-in stories
    #[command(after_help = TRAIN, allow_negative_numbers = true)]
    Train(Box<Train>),
    /// Continues a text
    #[command(allow_negative_numbers = true)]
    Generate(Generate),
    /// Says how well a model predicts a text
    Eval(Eval),
    /// Writes the tokens of a text as a file for other trainers
    Tokenize(Tokenize),
    /// Names file and bytes of each sequence of a micro-batch
    Explain(Explain),
    /// Says what a run, a checkpoint, a tokenizer or a text holds
    Inspect(Inspect),
    /// Writes a model alone, as transformers and other tools of Hugging Face's load it
    Export(Export),
    /// Checks that every file of a run and of its checkpoints is as it was written
    Verify {
        /// Folder of a run, of one checkpoint, or of an exported model
        #[arg(value_name = "DIR", default_value_os_t = Options::default().out)]
        run: PathBuf,
    },
    /// Shows the tables of a run again, or makes its page
    Report(Report),
    /// Writes completions for a shell to stdout
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Writes the manual page to stdout
    Man {
        /// Of one of the commands
        command: Option<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) run: RunFlags,
    /// Settings below the flags, in TOML, or a run's settings.json
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the settings as such a file, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) show: ShowFlags,
}

#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// What is continued; without it standard input, where that is no terminal
    pub(crate) prompt: Option<String>,
    /// Folder of a run, of a checkpoint, or of a GPT-2 from Hugging Face
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().out)]
    pub(crate) run: PathBuf,
    /// Tokens that are added at most
    #[arg(long, value_name = "N", default_value_t = Settings::default().tokens)]
    pub(crate) tokens: usize,
    /// Below 1 likely tokens become likelier; 0 takes the likeliest always
    #[arg(long, value_name = "X", default_value_t = Settings::default().temperature)]
    pub(crate) temperature: f32,
    /// Only so many of the likeliest tokens; 0: all
    #[arg(long, value_name = "N", default_value_t = Settings::default().top_k)]
    pub(crate) top_k: usize,
    /// Only as many of the likeliest as have this probability together
    #[arg(long, value_name = "P", default_value_t = Settings::default().top_p)]
    pub(crate) top_p: f32,
    /// Decides what is drawn: the same seed, the same text
    #[arg(long, value_name = "N", default_value_t = Settings::default().seed)]
    pub(crate) seed: u64,
    /// Text before which it ends; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Print the new text only
    #[arg(long)]
    pub(crate) no_echo: bool,
    /// Do not say on stderr how fast it was
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) inputs: TextFlags,
    /// Folder of a run, of a checkpoint, or of a GPT-2 from Hugging Face
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().out)]
    pub(crate) run: PathBuf,
    /// Each document by itself
    #[arg(long)]
    pub(crate) mask_documents: bool,
    /// Threads that compute; all give the same result [default: cores]
    #[arg(long, value_name = "N", value_parser = |t: &str| SPHERES.parse::<usize>(t))]
    pub(crate) spheres: Option<usize>,
    /// The same as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// Where the text lies now, if not where the run found it
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Folder of the run, whose files say its settings
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().out)]
    pub(crate) run: PathBuf,
    /// Number of the micro-batch, from 0, over all epochs
    #[arg(long, value_name = "K")]
    pub(crate) batch: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Tokenize {
    #[command(flatten)]
    pub(crate) inputs: InputFlags,
    /// Whose format
    #[arg(long, value_enum)]
    pub(crate) format: For,
    /// The file; for Megatron what comes before .bin and .idx
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Replace one that was made from something else
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum For {
    Llmc,
    Megatron,
}

#[derive(Args, Debug)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) inputs: TextFlags,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Folder of a run, of a checkpoint, or of a GPT-2 from Hugging Face
    #[arg(value_name = "DIR", default_value_os_t = Options::default().out)]
    pub(crate) run: PathBuf,
    /// The folder that it is written to
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How the weights are kept: as they are computed, or rounded to half as many bytes
    #[arg(long, value_enum, default_value_t = Kept::F32)]
    pub(crate) dtype: Kept,
    /// Replace a model that is there
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kept {
    F32,
    F16,
    Bf16,
}

#[derive(Args, Debug)]
pub(crate) struct Report {
    /// Folder of a run
    #[arg(value_name = "DIR", default_value_os_t = Options::default().out)]
    pub(crate) run: PathBuf,
    /// The same as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Make the page of the run anew, as this file
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) html: Option<PathBuf>,
}
