//! Flags over environment over a file over defaults.
//!
//! The file is TOML with the names of [`Options`]' fields, or JSON where its name ends in `.json` (such as
//! the `settings.json` that a run leaves). A name may be written with `-` or `_`. Paths in it are those of
//! the folder that the program is called from, as they are on the command line.
//!
//! ```toml
//! paths = ["notes", "books"]      # or: mix = ["notes=0.7", "books=0.3"]
//! steps = 20000
//! token-memory = "4G"
//! ```

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::train::Options;
use crate::train::options::{parse_address, parse_size, parse_weighted};

/// What each variable's name begins with.
const PREFIX: &str = "TWELVEFOLD_";
/// More bytes than this are no settings.
const MAX_FILE: u64 = 1 << 20;
/// Settings of one call, which are not those of the run.
const OF_THE_CALL: [&str; 3] = ["overwrite", "resume", "allow_changes"];

/// Lets each flag of a command be given as a variable too: `--token-memory` as `TWELVEFOLD_TOKEN_MEMORY`.
///
/// ```
/// use clap::{Arg, Command};
/// use twelvefold::cli::settings::from_environment;
///
/// let command = Command::new("train").arg(Arg::new("token_memory").long("token-memory"));
/// let command = from_environment(command);
/// let flag = command.get_arguments().next().unwrap();
/// assert_eq!(flag.get_env().unwrap(), "TWELVEFOLD_TOKEN_MEMORY");
/// ```
pub fn from_environment(command: Command) -> Command {
    command.mut_args(|arg| {
        let id = arg.get_id().as_str();
        // A list has no one way to stand in a variable.
        if arg.is_positional() || ["help", "version", "mix"].contains(&id) {
            return arg;
        }
        let name = format!("{PREFIX}{}", id.to_uppercase());
        arg.env(name).hide_env(true)
    })
}

/// The settings of a run: `flags` as they were parsed, and below what the user gave there what the file
/// says. All are checked.
///
/// ```
/// use clap::{Args, Command, FromArgMatches};
/// use twelvefold::cli::flags::RunFlags;
/// use twelvefold::cli::settings::resolve;
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("my.toml");
/// std::fs::write(&file, "steps = 70\nbatch = 2\n")?;
///
/// let command = RunFlags::augment_args(Command::new("train"));
/// let matches = command.get_matches_from(["train", "--steps", "90"]);
/// let flags = RunFlags::from_arg_matches(&matches)?.into_options();
/// let options = resolve(flags, &matches, Some(&file))?;
/// assert_eq!((options.steps, options.batch, options.layers), (90, 2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Setting`] for a name that is none, with the nearest one, for a value that is refused; both with
/// file and line. [`Error::Io`] where the file cannot be read.
pub fn resolve(
    flags: Options,
    matches: &ArgMatches,
    file: Option<&Path>,
) -> Result<Options, Error> {
    let Some(path) = file else {
        flags.validate()?;
        return Ok(flags);
    };
    let file = SettingsFile::read(path)?;
    let options = file.below(flags, matches)?;
    options.validate().map_err(|error| file.placed(error, matches))?;
    Ok(options)
}

/// The settings as a file that [`resolve`] reads.
///
/// ```
/// use twelvefold::cli::settings::to_toml;
/// use twelvefold::train::Options;
///
/// let text = to_toml(&Options::default())?;
/// assert!(text.contains("\nlr = 0.005\n"));
/// # Ok::<(), twelvefold::Error>(())
/// ```
///
/// # Errors
/// [`Error::Input`] for a number beyond 63 bits, which TOML does not have.
pub fn to_toml(options: &Options) -> Result<String, Error> {
    let text = toml::to_string(options).map_err(|e| {
        Error::input(
            format!("these settings cannot be written as TOML: {e}"),
            "give a smaller --seed",
        )
    })?;
    let is_kept = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default();
        !OF_THE_CALL.contains(&name)
    };
    let lines: Vec<&str> = text.lines().filter(is_kept).collect();
    Ok(format!("# twelvefold train --config FILE\n{}\n", lines.join("\n")))
}

/// A file of settings.
struct SettingsFile {
    path: PathBuf,
    text: String,
    values: Map<String, Value>,
}

impl SettingsFile {
    fn read(path: &Path) -> Result<Self, Error> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
            .map_err(|e| Error::io("read", path, e))?;
        let values = if path.extension().is_some_and(|e| e == "json") {
            serde_json::from_str(&text).map_err(|e| refuse(path.display(), e.to_string()))?
        } else {
            toml::from_str(&text).map_err(|e| refuse(path.display(), e.to_string()))?
        };
        Ok(Self { path: path.to_path_buf(), text, values })
    }

    /// `options`, and where the user gave no flag what stands here.
    fn below(&self, options: Options, matches: &ArgMatches) -> Result<Options, Error> {
        let mut options = options;
        let inputs_given = ["paths", "mix"].iter().any(|id| is_given(matches, id));
        for (key, value) in &self.values {
            let name = key.replace('-', "_");
            let is_input = ["paths", "weights", "mix"].contains(&&*name);
            if if is_input { inputs_given } else { is_given(matches, &name) } {
                continue;
            }
            let place = self.place(key);
            if name == "mix" {
                (options.paths, options.weights) = mixed(value).map_err(|e| refuse(&place, e))?;
                continue;
            }
            let Ok(Value::Object(mut all)) = serde_json::to_value(&options) else { break };
            let Some(known) = all.get(&name) else {
                return Err(refuse(place, format!("{key} is no setting{}", nearest(&name, &all))));
            };
            if OF_THE_CALL.contains(&&*name) && value != &Value::Bool(false) {
                let flag = format!("--{}", name.replace('_', "-"));
                return Err(refuse(place, format!("{key} is no setting of a run: give {flag}")));
            }
            let value = match &*name {
                "prometheus" => {
                    address(value).map_err(|e| refuse(&place, format!("{key}: {e}")))?
                }
                _ => number(&name, known, value),
            };
            all.insert(name, value);
            options = serde_json::from_value(Value::Object(all))
                .map_err(|e| refuse(place, format!("{key}: {e}")))?;
        }
        Ok(options)
    }

    /// The file and the line of a setting.
    fn place(&self, key: &str) -> String {
        let names = |line: &str| {
            let rest = line.trim_start().trim_start_matches(['"', '{', ' ']).strip_prefix(key);
            rest.is_some_and(|rest| rest.starts_with(['=', ' ', '"', ':']))
        };
        let path = self.path.display();
        match self.text.lines().position(names) {
            Some(line) => format!("{path}, line {}", line + 1),
            None => path.to_string(),
        }
    }

    /// A refusal of what stands here says so.
    fn placed(&self, error: Error, matches: &ArgMatches) -> Error {
        let Error::Setting { name, value, allowed } = error else { return error };
        let field = name.trim_start_matches('-').replace('-', "_");
        let key = self.values.keys().find(|key| key.replace('-', "_") == field);
        match key.filter(|_| !is_given(matches, &field)) {
            Some(key) => {
                let value = format!("{value} ({})", self.place(key));
                Error::Setting { name, value, allowed }
            }
            None => Error::Setting { name, value, allowed },
        }
    }
}

/// Whether a flag or a variable says it.
fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.try_contains_id(id).unwrap_or(false)
        && matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue)
}

/// Inputs by weight, as `--mix` has them.
fn mixed(value: &Value) -> Result<(Vec<PathBuf>, Vec<f64>), String> {
    const FORM: &str = "mix: give a list such as [\"notes=0.7\", \"books=0.3\"]";
    let list = value.as_array().ok_or(FORM)?;
    let text = |one: &Value| one.as_str().ok_or_else(|| FORM.to_owned()).and_then(parse_weighted);
    Ok(list.iter().map(text).collect::<Result<Vec<_>, _>>()?.into_iter().unzip())
}

/// A number may be written as the command line has it: `"4G"`.
fn number(name: &str, known: &Value, value: &Value) -> Value {
    let text = value.as_str().filter(|_| known.is_number());
    let is_size = ["token_memory", "story_bytes"].contains(&name);
    let parsed = text.and_then(|t| if is_size { parse_size(t).ok() } else { t.parse().ok() });
    parsed.map_or_else(|| value.clone(), Value::from)
}

/// An address may be written as the command line has it, and a port as a number. One that is not there is
/// null in a run's `settings.json`.
fn address(value: &Value) -> Result<Value, String> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(parse_address(&text)?.to_string().into())
}

fn nearest(name: &str, all: &Map<String, Value>) -> String {
    let score = |other: &&String| strsim::jaro_winkler(name, other);
    let best = all.keys().max_by(|a, b| score(a).total_cmp(&score(b)));
    best.filter(|best| score(best) > 0.7)
        .map_or_else(String::new, |best| format!("; a similar one is {best}"))
}

fn refuse(place: impl std::fmt::Display, what: impl Into<String>) -> Error {
    Error::Setting { name: "--config", value: place.to_string(), allowed: what.into() }
}
