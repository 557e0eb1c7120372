//! Text from a trained model: the tokens are those of the whole forward pass, the same by seed, and it
//! ends where it should.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::OnceLock;

use tempfile::TempDir;
use twelvefold::Error;
use twelvefold::corpus::tokenizer::Encoder;
use twelvefold::model::{Isa, Scratch, Slot, Weights, forward_logits, pack};
use twelvefold::train::generate::{Ended, Generated, Generator, Settings};
use twelvefold::train::model::Model;
use twelvefold::train::sample::Sampler;
use twelvefold::train::{Cancel, Options, run};

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;

fn trained(tokenizer: &str) -> Model {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let (out, tokenizer) = (folder.path().join("run"), tokenizer.to_owned());
    let options = Options { out, tokenizer, steps: 40, lr: 2e-2, ..tiny::tiny() };
    run(&options, &Cancel::new(), &mut ()).unwrap();
    Model::open(&options.out).unwrap()
}

/// A model of bytes that looks back 16.
fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| trained("bytes"))
}

/// What is generated, and the parts in which it was handed out.
fn generate(model: &Model, prompt: &str, settings: &Settings) -> (Generated, Vec<String>) {
    let mut parts = Vec::new();
    let mut generator = Generator::new(model).unwrap();
    let done = generator.generate(prompt, settings, &Cancel::new(), &mut |part| {
        parts.push(part.to_owned());
        Ok(())
    });
    (done.unwrap(), parts)
}

/// The tokens by the whole forward pass alone, by the rule in the module's table.
fn by_hand(model: &Model, prompt: &str, settings: &Settings) -> Vec<u32> {
    let (config, tokenizer) = (model.config(), model.require_tokenizer().unwrap());
    let isa = Isa::detect().unwrap();
    let (mut slot, mut scratch) = (Slot::new(config, 1), Scratch::new(config, 1, isa));
    let panels = pack(config, model.params());
    let weights = Weights::new(config, model.params(), &panels);
    let mut sampler = Sampler::new(settings.temperature, settings.top_k, settings.seed);
    sampler = sampler.top_p(settings.top_p);
    let mut window = vec![tokenizer.end_of_document()];
    window.extend(tokenizer.encode_text(prompt, &mut Encoder::default()));
    window.drain(..window.len().saturating_sub(config.context));
    let (mut tokens, mut logits) = (Vec::new(), vec![0.0; config.vocab]);
    while tokens.len() < settings.tokens {
        forward_logits(config, weights, &window, &mut logits, &mut slot, &mut scratch);
        let token = sampler.next(&logits).unwrap();
        if token == tokenizer.end_of_document() {
            break;
        }
        tokens.push(token);
        window.push(token);
        if window.len() > config.context {
            window.drain(..window.len() - config.context / 2);
        }
    }
    tokens
}

/// Far beyond the context, and from prompts shorter than it, as long and longer.
#[test]
fn the_tokens_are_those_of_the_whole_forward_pass_also_beyond_the_context() {
    for prompt in
        ["", "The", "fifteen charact", "sixteen characte", "a prompt that is longer than it"]
    {
        for (temperature, top_p) in [(0.0, 1.0), (1.0, 1.0), (1.2, 0.8)] {
            let settings =
                Settings { temperature, top_p, tokens: 70, seed: 3, ..Settings::default() };
            let (done, parts) = generate(model(), prompt, &settings);
            assert_eq!(done.tokens, by_hand(model(), prompt, &settings), "{prompt}, {temperature}");
            assert_eq!(parts.concat(), done.text);
            let tokenizer = model().require_tokenizer().unwrap();
            assert_eq!(done.text, tokenizer.decode_to_string(&done.tokens));
            let all = prompt.len() + 1;
            assert_eq!((done.prompt_tokens, done.prompt_left_out), (all.min(16), all.max(16) - 16));
            assert_eq!(done.note().is_some(), all > 16);
        }
    }
}

/// No clock: what passes the model is counted. With every ninth token seven are read again.
#[test]
fn twice_the_tokens_are_twice_the_work() {
    let reread = |tokens: usize| {
        let settings = Settings { temperature: 2.0, seed: 9, tokens, ..Settings::default() };
        let (done, _) = generate(model(), "", &settings);
        assert_eq!((done.tokens.len(), &done.ended), (tokens, &Ended::Tokens));
        done.reread
    };
    let (one, two) = (reread(100), reread(200));
    assert!(one < 100 && two < 200, "{one} {two}");
    assert!(two.abs_diff(2 * one) <= 16, "{one} {two}");
    assert_eq!(reread(15), 0, "the context was not full");
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_gives_another() {
    let text = |seed: u64| {
        let settings = Settings { temperature: 1.0, seed, tokens: 50, ..Settings::default() };
        generate(model(), "The", &settings).0.text
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
    // A generator forgets what it read before.
    let settings = Settings { seed: 1, temperature: 1.0, tokens: 50, ..Settings::default() };
    let mut generator = Generator::new(model()).unwrap();
    for prompt in ["something else", "The"] {
        let quiet = &mut |_: &str| Ok(());
        let done = generator.generate(prompt, &settings, &Cancel::new(), quiet).unwrap();
        assert_eq!(done.text == text(1), prompt == "The");
    }
}

#[test]
fn it_ends_at_a_stop_text_at_the_end_of_a_document_and_when_somebody_asks() {
    let long = Settings { temperature: 1.0, tokens: 400, ..Settings::default() };
    let whole = generate(model(), "The", &long).0;
    // A stop text of three tokens, from the middle of what came.
    let stop: String = whole.text.chars().skip(20).take(3).collect();
    let settings = Settings { stop: vec!["\u{1}".to_owned(), stop.clone()], ..long.clone() };
    let (done, parts) = generate(model(), "The", &settings);
    assert_eq!(done.ended, Ended::Stop(stop.clone()));
    assert_eq!(done.text, whole.text[..whole.text.find(&stop).unwrap()]);
    assert_eq!(parts.concat(), done.text);
    assert_eq!(done.tokens, whole.tokens[..done.tokens.len()]);

    let ends = (0..400).find_map(|seed| {
        let settings = Settings { seed, ..long.clone() };
        let done = generate(model(), "The", &settings).0;
        (done.ended == Ended::Document).then_some(done)
    });
    let end = model().end_of_document().unwrap();
    assert!(!ends.expect("a document ends now and then").tokens.contains(&end));

    let (cancel, mut parts) = (Cancel::new(), 0);
    let mut generator = Generator::new(model()).unwrap();
    let done = generator.generate("The", &long, &cancel, &mut |_| {
        parts += 1;
        if parts == 5 {
            cancel.request();
        }
        Ok(())
    });
    let done = done.unwrap();
    assert_eq!((done.ended, done.tokens.len()), (Ended::Cancelled, 5));
}

#[test]
fn words_are_joined_as_they_are_when_decoded_together() {
    let model = trained("words:40");
    let settings = Settings { temperature: 1.0, tokens: 30, ..Settings::default() };
    let (done, parts) = generate(&model, "the", &settings);
    let tokenizer = model.require_tokenizer().unwrap();
    assert_eq!(done.text, tokenizer.decode_to_string(&done.tokens));
    assert!(done.tokens.len() > 2 && parts.len() > 2);
}

#[test]
fn what_cannot_be_done_is_said() {
    let mut generator = Generator::new(model()).unwrap();
    let mut refused = |prompt: &str, settings: Settings| {
        let quiet = &mut |_: &str| Ok(());
        generator.generate(prompt, &settings, &Cancel::new(), quiet).unwrap_err().to_string()
    };
    let settings = Settings::default;
    let nothing = refused("", Settings { document: false, ..settings() });
    assert!(nothing.starts_with("there is no token to continue"), "{nothing}");
    assert!(
        refused("", Settings { temperature: -1.0, ..settings() }).starts_with("--temperature -1")
    );
    assert!(refused("", Settings { top_p: f32::NAN, ..settings() }).starts_with("--top-p NaN"));
    assert!(
        refused("", Settings { stop: vec![String::new()], ..settings() }).starts_with("--stop")
    );
    let broken = &mut |_: &str| Err(Error::input("the pipe is closed", ""));
    let done = generator.generate("The", &settings(), &Cancel::new(), broken);
    assert_eq!(done.unwrap_err().to_string(), "the pipe is closed");
}
