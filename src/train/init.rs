//! Training that begins with the weights of another model ([`Options::init`]), and not with drawn ones.
//!
//! | setting | what it becomes |
//! |---|---|
//! | `layers`, `heads`, `width` | the model's; another value than these or the default is refused |
//! | `context` | as it is, up to the model's positions, of which the first are taken; a default beyond is the model's |
//! | `tokenizer` | the model's `tokenizer.json`, where it has one; otherwise as it is, with no more tokens than the model |
//!
//! The optimizer's moments begin at 0 and the schedule at its start, as in any run. Where weights are of a
//! checkpoint of the same run, `resume` is what goes on.

use std::fs;
use std::path::Path;

use super::model::Model;
use super::options::Options;
use crate::error::Error;
use crate::model::{Config, Layout};

/// The settings as the model of `init` has them, and that model. Applied again it changes nothing.
pub(super) fn settle(options: &Options) -> Result<(Options, Option<Model>), Error> {
    let mut settled = options.clone();
    let Some(folder) = &options.init else { return Ok((settled, None)) };
    let model = Model::open(folder)?;
    let (default, config) = (Options::default(), *model.config());
    let refuse = |name, value: &dyn ToString, found: String| {
        let allowed = format!("the model in {} has {found}: leave it out", folder.display());
        Err(Error::Setting { name, value: value.to_string(), allowed })
    };
    for (name, given, default, found) in [
        ("--layers", &mut settled.layers, default.layers, config.layers),
        ("--heads", &mut settled.heads, default.heads, config.heads),
        ("--width", &mut settled.width, default.width, config.width),
    ] {
        if *given != found && *given != default {
            return refuse(name, given, found.to_string());
        }
        *given = found;
    }
    if settled.context > config.context {
        if settled.context != default.context {
            let found = format!("{} positions", config.context);
            return refuse("--context", &settled.context, found);
        }
        settled.context = config.context;
    }
    if model.tokenizer().is_some() {
        let path = folder.join("tokenizer.json");
        let Some(text) = path.to_str() else {
            let what = format!("{} is not UTF-8", path.display());
            return Err(Error::input(what, "rename the folder of --init"));
        };
        if settled.tokenizer != default.tokenizer && settled.tokenizer != text {
            return refuse("--tokenizer", &settled.tokenizer, "one of its own".to_owned());
        }
        text.clone_into(&mut settled.tokenizer);
    }
    Ok((settled, Some(model)))
}

/// Refuses outputs that would replace the weights they come from: such a run could not be resumed.
pub(super) fn check_out(options: &Options) -> Result<(), Error> {
    let whole = |path: &Path| fs::canonicalize(path).ok();
    let Some(folder) = options.init.as_deref() else { return Ok(()) };
    match (whole(folder), whole(&options.out)) {
        (Some(init), Some(out)) if init.starts_with(&out) => Err(Error::input(
            format!("--init {} lies in the folder of the outputs", folder.display()),
            "give another folder with --out: the run begins with these weights whenever it is resumed",
        )),
        _ => Ok(()),
    }
}

/// The sizes of the run's model are those of `init`'s, the context aside; its vocabulary is as large.
pub(super) fn sizes(model: &Model, tokens: usize, context: usize) -> Result<Config, Error> {
    let config = Config { context, ..*model.config() };
    if tokens > config.vocab {
        let (shown, rows) = (model.folder().display(), config.vocab);
        return Err(Error::input(
            format!("the tokenizer has {tokens} tokens, and the model in {shown} {rows}"),
            "give the model's own tokenizer with --tokenizer, or a smaller one",
        ));
    }
    Ok(config)
}

/// The parameters of a model of these [`sizes`].
pub(super) fn params(model: &Model, config: &Config) -> Vec<f32> {
    let (from, to) = (Layout::new(model.config()), Layout::new(config));
    let mut params = vec![0.0; to.len()];
    for (from, to) in from.tensors().iter().zip(to.tensors()) {
        // Of the positions the first; everything else is as long.
        let first = from.range.start;
        params[to.range.clone()].copy_from_slice(&model.params()[first..first + to.range.len()]);
    }
    params
}
