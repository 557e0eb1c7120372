//! `generate`, `eval` and `export`.

use std::io::{self, ErrorKind, IsTerminal, Read, Write};

use twelvefold::Error;
use twelvefold::cli::terminal::plain;
use twelvefold::cli::{complain, say_where_typed};
use twelvefold::report::units;
use twelvefold::train::evaluate::{Evaluation, evaluate};
use twelvefold::train::generate::{Ended, Generator, Settings};
use twelvefold::train::model::Model;
use twelvefold::train::safetensors::Dtype;
use twelvefold::train::{Cancel, Options};

use twelvefold::sync::cores;

use super::arguments::{Eval, Export, Generate, Kept};
use super::text::say_some;

/// More bytes than this are no prompt.
const MAX_PROMPT: u64 = 1 << 26;

pub(crate) fn generate(flags: Generate) -> Result<String, Error> {
    let prompt = match &flags.prompt {
        Some(prompt) => prompt.clone(),
        None if io::stdin().is_terminal() => String::new(),
        None => read_prompt()?,
    };
    let model = Model::open(&flags.run)?;
    let mut generator = Generator::new(&model)?;
    let settings = Settings {
        temperature: flags.temperature,
        top_k: flags.top_k,
        top_p: flags.top_p,
        seed: flags.seed,
        tokens: flags.tokens,
        stop: flags.stop,
        ..Settings::default()
    };
    // What moves the cursor is for a file, not for a terminal.
    let is_terminal = io::stdout().is_terminal();
    let mut show = |text: &str| {
        let text = if is_terminal { plain(text) } else { text.to_owned() };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|e| Error::io("write to", "standard output", e))
    };
    if !flags.no_echo {
        show(&prompt)?;
    }
    let done = match generator.generate(&prompt, &settings, &Cancel::new(), &mut show) {
        // A reader that went away has seen enough.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            return Ok(String::new());
        }
        other => other?,
    };
    if !flags.quiet {
        let why = match &done.ended {
            Ended::Document => "the document ended",
            Ended::Stop(_) => "a stop text came",
            Ended::Tokens => "all tokens were added",
            Ended::Cancelled => "stopped",
        };
        let note = done.note().map_or(String::new(), |note| format!("\n{note}"));
        complain(&format!(
            "\n[{} tokens at {} tokens/s, prompt of {} at {} tokens/s; {why}]{note}\n",
            done.tokens.len(),
            units::count(done.tokens_per_second()),
            done.prompt_tokens,
            units::count(done.prompt_tokens_per_second()),
        ));
    }
    Ok("\n".to_owned())
}

fn read_prompt() -> Result<String, Error> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MAX_PROMPT).read_to_end(&mut bytes);
    read.map_err(|e| Error::io("read", "standard input", e))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::input(format!("standard input is no UTF-8 at byte {at}"), "give a prompt as UTF-8")
    })
}

pub(crate) fn eval(flags: Eval) -> Result<String, Error> {
    let model = Model::open(&flags.run)?;
    let (spheres, mask_documents) = (flags.spheres.unwrap_or_else(cores), flags.mask_documents);
    let options =
        Options { spheres, mask_documents, ..flags.inputs.into_options(Options::default()) };
    say_where_typed(&options);
    let found = evaluate(&model, &options, &Cancel::new())?;
    let left_out = found.skipped.iter().map(|left| (&*left.path, &*left.reason));
    say_some("left out", found.skipped.len() as u64, left_out);
    if flags.json {
        let text = serde_json::to_string_pretty(&found).unwrap_or_default();
        return Ok(text + "\n");
    }
    let Evaluation { loss, perplexity, bits_per_byte, tokens, bytes, documents, .. } = found;
    Ok(format!(
        "loss {loss:.4} nats a token, perplexity {perplexity:.2}, {bits_per_byte:.4} bits a byte\n\
         {tokens} tokens, {bytes} bytes, {documents} documents\n"
    ))
}

pub(crate) fn export(Export { run, out, dtype, overwrite }: &Export) -> Result<String, Error> {
    let dtype = match dtype {
        Kept::F32 => Dtype::F32,
        Kept::F16 => Dtype::F16,
        Kept::Bf16 => Dtype::Bf16,
    };
    let model = Model::open(run)?;
    let written = model.save(out, dtype, *overwrite)?;
    let (parameters, bytes) =
        (units::count(model.parameters() as f64), units::bytes(written.bytes));
    let tokenizer = match model.tokenizer() {
        Some(_) => "tokenizer.json tokenizer_config.json",
        None => "no tokenizer: the model was opened without",
    };
    Ok(format!(
        "{parameters} parameters as {}, {bytes}\nweights_sha256 {}\noutputs in {}:\n  \
         model.safetensors config.json {tokenizer}\n",
        dtype.name(),
        written.sha256,
        out.display(),
    ))
}
