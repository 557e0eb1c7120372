//! Our side of `tests/clients/hugging_face.py`, a JSON value a call:
//!
//! | call | prints |
//! |---|---|
//! | `client train OUT TOKENIZER` | what a small run on built-in stories gave |
//! | `client train OUT TOKENIZER INIT` | the same of a step from the model in INIT |
//! | `client logits FOLDER ID..` | the logits after each of the tokens |
//! | `client encode FOLDER` | the tokens of standard input |

use std::error::Error;
use std::io::Read;
use std::path::PathBuf;

use serde_json::{Value, json};
use twelvefold::corpus::tokenizer::Encoder;
use twelvefold::model::{Cache, Isa, Weights, forward_next, pack};
use twelvefold::report::{Observer, Progress};
use twelvefold::train::explain::explain;
use twelvefold::train::model::Model;
use twelvefold::train::{Cancel, Options, run};

#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn step(&mut self, progress: &Progress) {
        self.0.push(progress.loss);
    }
}

/// A run of a small model, the sequences of its first step and its losses.
fn train(out: &str, tokenizer: &str, init: Option<&String>) -> Result<Value, Box<dyn Error>> {
    let default = Options::default();
    let mut options = Options {
        out: PathBuf::from(out),
        tokenizer: tokenizer.to_owned(),
        init: init.map(PathBuf::from),
        steps: 30,
        story_bytes: 60_000,
        layers: 2,
        heads: 2,
        width: 32,
        context: 48,
        checkpoint_every: 20,
        ..default.clone()
    };
    if init.is_some() {
        let Options { layers, heads, width, .. } = default;
        options = Options { steps: 1, layers, heads, width, context: 24, ..options };
    }
    let mut losses = Losses::default();
    run(&options, &Cancel::new(), &mut losses)?;
    let sequences = explain(&options, 0)?.sequences;
    let rows =
        |tokens: &[u32]| -> Value { tokens.chunks(options.context).map(<[u32]>::to_vec).collect() };
    let (inputs, targets) = (rows(sequences.inputs()), rows(sequences.targets()));
    Ok(json!({ "losses": losses.0, "inputs": inputs, "targets": targets }))
}

fn logits(folder: &str, ids: &[String]) -> Result<Value, Box<dyn Error>> {
    let model = Model::open(folder)?;
    let panels = pack(model.config(), model.params());
    let weights = Weights::new(model.config(), model.params(), &panels);
    let mut cache = Cache::new(model.config(), Isa::detect()?);
    let mut rows = Vec::new();
    for id in ids {
        let mut row = vec![0.0; model.config().vocab];
        forward_next(model.config(), weights, &[id.parse()?], &mut row, &mut cache);
        rows.push(row);
    }
    Ok(json!(rows))
}

fn encode(folder: &str) -> Result<Value, Box<dyn Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let model = Model::open(folder)?;
    Ok(json!(model.require_tokenizer()?.encode_text(&text, &mut Encoder::default())))
}

#[expect(clippy::print_stdout, reason = "the value is what this program is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let value = match words[..] {
        ["train", out, tokenizer] => train(out, tokenizer, None)?,
        ["train", out, tokenizer, _] => train(out, tokenizer, arguments.last())?,
        ["logits", folder, ..] => logits(folder, &arguments[2..])?,
        ["encode", folder] => encode(folder)?,
        _ => return Err("train OUT TOKENIZER [INIT], logits FOLDER ID.., or encode FOLDER".into()),
    };
    println!("{value}");
    Ok(())
}
