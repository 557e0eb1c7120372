//! What a run begins with: weights and moments, the model's shape, and what the batcher is to give.

use super::batch::{Menu, Skip};
use super::model::Model;
use super::options::Options;
use super::resume::{self, Resumed};
use super::{init, snapshot};
use crate::corpus::tokenizer::Tokenizer;
use crate::error::Error;
use crate::model::{Config, Layout};

/// Sequences of the validations before the last one.
const EVAL_SEQUENCES: u64 = 64;

/// Where a run's first weights come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct First<'a> {
    pub(super) resumed: Option<&'a Resumed>,
    pub(super) init: Option<&'a Model>,
}

impl<'a> First<'a> {
    /// From a checkpoint, or else from another model, or else drawn.
    pub(super) fn new(resumed: Option<&'a Resumed>, init: Option<&'a Model>) -> Self {
        First { resumed, init }
    }

    /// The parameters, and the moments where they are not 0.
    pub(super) fn numbers(
        self,
        config: &Config,
        seed: u64,
        tokenizer: &Tokenizer,
    ) -> Result<Begun, Error> {
        if let Some(resumed) = self.resumed {
            resume::check_tokenizer(resumed, &snapshot::text_of(tokenizer))?;
            let numbers = snapshot::read(&resumed.folder, &resumed.found, config)?;
            return Ok((numbers.params, Some((numbers.m, numbers.v))));
        }
        let drawn = || Layout::new(config).init(seed);
        Ok((self.init.map_or_else(drawn, |model| init::params(model, config)), None))
    }
}

/// Parameters and both moments.
pub(super) type Begun = (Vec<f32>, Option<(Vec<f32>, Vec<f32>)>);

/// The shape of the model.
pub(super) fn config(
    options: &Options,
    tokenizer: &Tokenizer,
    init: Option<&Model>,
) -> Result<Config, Error> {
    let Options { layers, heads, width, context, .. } = *options;
    let config = match init {
        Some(model) => init::sizes(model, tokenizer.vocab(), context)?,
        None => Config { vocab: tokenizer.vocab(), layers, heads, width, context },
    };
    config.check()?;
    Ok(config)
}

/// What the batcher is to give.
pub(super) fn menu(options: &Options, resumed: Option<&Resumed>, roads: u32) -> Menu {
    Menu {
        roads,
        steps: options.steps,
        eval_interval: options.eval_interval,
        eval_sequences: EVAL_SEQUENCES,
        batch: options.batch,
        ngrams: options.paths.is_empty(),
        skip: resumed.map(|resumed| Skip {
            step: resumed.standing.step,
            position: resumed.standing.position,
            served: resumed.standing.served,
            validated: resumed.standing.validated,
            strict: !options.allow_changes,
        }),
    }
}
