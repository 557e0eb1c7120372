//! Text that goes on where a prompt ends, token by token, from the keys and values of those before.
//!
//! | question | answer |
//! |---|---|
//! | what a token costs | its own row through the model ([`forward_next`]): the time is linear in the number of tokens |
//! | the context is full | the last half of it, the new token included, is read again from position 0, and it goes on from there: each token is read at most twice in the mean |
//! | the prompt is longer than the context | its last tokens are taken, as many as the context holds, and [`Generated::note`] says so |
//! | what is handed out | whole characters only; a stop text never, also where it lies across tokens |
//! | the same again | the same weights, prompt, settings and kernels give the same tokens |

use std::time::Instant;

use super::Cancel;
use super::model::Model;
use super::sample::Sampler;
use crate::corpus::tokenizer::{Encoder, Tokenizer};
use crate::error::Error;
use crate::model::{Cache, Isa, Weights, forward_next, pack};

/// How a prompt is continued.
///
/// ```
/// use twelvefold::train::generate::Settings;
///
/// let settings = Settings { top_p: 0.9, stop: vec!["\n\n".to_owned()], ..Settings::default() };
/// settings.validate()?;
/// assert!(Settings { top_p: 0.0, ..Settings::default() }.validate().is_err());
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Below 1 the likelier tokens become likelier still; 0 takes the likeliest always.
    pub temperature: f32,
    /// So many of the likeliest tokens are let in; 0: all.
    pub top_k: usize,
    /// As few of the likeliest tokens are let in as have this probability together; 1: all.
    pub top_p: f32,
    /// Decides what is drawn.
    pub seed: u64,
    /// The most tokens that are added.
    pub tokens: usize,
    /// Texts before any of which the result ends.
    pub stop: Vec<String>,
    /// Whether the prompt is the beginning of a document: then the token that ends the one before it
    /// comes first, as in training.
    pub document: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 0,
            top_p: 1.0,
            seed: 1,
            tokens: 256,
            stop: Vec::new(),
            document: true,
        }
    }
}

impl Settings {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Setting`] with the flag, its value and what is accepted.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |name, value: String, allowed: &str| {
            Err(Error::Setting { name, value, allowed: allowed.to_owned() })
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let value = self.temperature.to_string();
            return refuse("--temperature", value, "it must be a number from 0");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let value = self.top_p.to_string();
            return refuse("--top-p", value, "it must be a number above 0, at most 1");
        }
        if self.stop.iter().any(String::is_empty) {
            return refuse("--stop", "\"\"".to_owned(), "it must have a character at least");
        }
        Ok(())
    }
}

/// Why a text ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The model ended the document.
    Document,
    /// This stop text would have come next.
    Stop(String),
    /// [`Settings::tokens`] were added.
    Tokens,
    /// Somebody asked to stop.
    Cancelled,
}

/// What came of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The new text: what was handed out, all of it.
    pub text: String,
    /// The tokens that were drawn, those of a stop text included.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub ended: Ended,
    /// Tokens of the prompt that were read.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that the context had no room for: the first ones.
    pub prompt_left_out: usize,
    /// Tokens that were read once more because the context was full.
    pub reread: usize,
    /// Time to read the prompt.
    pub prompt_seconds: f64,
    /// Time for the new tokens.
    pub seconds: f64,
}

impl Generated {
    /// What the user should know.
    ///
    /// ```
    /// # use twelvefold::train::{Cancel, Options, generate::{Generator, Settings}, model::Model, run};
    /// # let folder = tempfile::tempdir()?;
    /// # let tokenizer = "bytes".to_owned();
    /// # let (out, steps, story_bytes) = (folder.path().join("run"), 1, 20_000);
    /// # let options = Options { out, tokenizer, steps, story_bytes, layers: 1, heads: 1, width: 8,
    /// #     context: 16, ..Options::default() };
    /// # run(&options, &Cancel::new(), &mut ())?;
    /// # let model = Model::open(&options.out)?;
    /// # let settings = Settings { tokens: 1, ..Settings::default() };
    /// let mut generator = Generator::new(&model)?; // Of a model with a context of 16.
    /// let done = generator.generate(
    ///     "a prompt of 25 characters",
    ///     &settings,
    ///     &Cancel::new(),
    ///     &mut |_| Ok(()),
    /// )?;
    /// assert_eq!((done.prompt_tokens, done.prompt_left_out), (16, 10));
    /// assert!(done.note().is_some_and(|note| note.contains("the last 16 of 26")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn note(&self) -> Option<String> {
        let (read, all) = (self.prompt_tokens, self.prompt_tokens + self.prompt_left_out);
        (all > read).then(|| {
            format!(
                "the prompt is longer than the context: the last {read} of {all} tokens were taken"
            )
        })
    }

    /// Tokens of the prompt that were read in a second.
    pub fn prompt_tokens_per_second(&self) -> f64 {
        self.prompt_tokens as f64 / self.prompt_seconds.max(f64::MIN_POSITIVE)
    }

    /// New tokens in a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens.len() as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Continues prompts with a model: what it needs beside the weights is made once.
///
/// ```
/// use twelvefold::train::generate::{Generator, Settings};
/// use twelvefold::train::model::Model;
/// use twelvefold::train::{Cancel, Options, run};
///
/// let folder = tempfile::tempdir()?;
/// let options = Options {
///     out: folder.path().join("run"),
///     tokenizer: "bytes".to_owned(),
///     story_bytes: 20_000,
///     steps: 2,
///     layers: 1,
///     heads: 1,
///     width: 8,
///     context: 16,
///     ..Options::default()
/// };
/// run(&options, &Cancel::new(), &mut ())?;
/// let model = Model::open(&options.out)?;
/// let mut generator = Generator::new(&model)?;
/// let settings = Settings { tokens: 40, ..Settings::default() };
/// let mut shown = String::new();
/// let done = generator.generate("Once", &settings, &Cancel::new(), &mut |text| {
///     shown += text;
///     Ok(())
/// })?;
/// assert_eq!(shown, done.text);
/// assert_eq!(done.prompt_tokens, 5); // One in front begins the document.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Generator<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    panels: Vec<f32>,
    cache: Cache,
    logits: Vec<f32>,
}

impl<'a> Generator<'a> {
    /// With the kernels of this machine.
    ///
    /// # Errors
    /// The model's folder has no tokenizer; `TWELVEFOLD_KERNELS` names none of this machine's.
    pub fn new(model: &'a Model) -> Result<Self, Error> {
        let config = model.config();
        Ok(Generator {
            model,
            tokenizer: model.require_tokenizer()?,
            panels: pack(config, model.params()),
            cache: Cache::new(config, Isa::detect()?),
            logits: vec![0.0; config.vocab],
        })
    }

    /// Continues `prompt`. `on_text` gets each part of the new text as soon as it is certain; its error
    /// ends the text and is given back.
    ///
    /// # Errors
    /// A setting that is refused; an empty prompt that is not the beginning of a document; weights that
    /// give no numbers; what `on_text` says.
    pub fn generate(
        &mut self,
        prompt: &str,
        settings: &Settings,
        cancel: &Cancel,
        on_text: &mut dyn FnMut(&str) -> Result<(), Error>,
    ) -> Result<Generated, Error> {
        settings.validate()?;
        let begin = settings.document.then(|| self.tokenizer.end_of_document());
        let mut tokens: Vec<u32> = begin.into_iter().collect();
        tokens.extend(self.tokenizer.encode_text(prompt, &mut Encoder::default()));
        if tokens.is_empty() {
            return Err(Error::input("there is no token to continue", "give a prompt"));
        }
        let left_out = tokens.len().saturating_sub(self.model.config().context);
        tokens.drain(..left_out);
        let prompt_tokens = tokens.len();
        let started = Instant::now();
        self.cache.clear();
        let mut reread = self.read(&tokens, prompt_tokens);
        let prompt_seconds = started.elapsed().as_secs_f64();

        let started = Instant::now();
        let Settings { temperature, top_k, top_p, seed, .. } = *settings;
        let mut sampler = Sampler::new(temperature, top_k, seed).top_p(top_p);
        let mut text = Text::new(self.tokenizer, &settings.stop);
        let ended = loop {
            if tokens.len() - prompt_tokens == settings.tokens {
                break Ended::Tokens;
            }
            if cancel.is_requested() {
                break Ended::Cancelled;
            }
            let token = sampler.next(&self.logits)?;
            if token == self.tokenizer.end_of_document() {
                break Ended::Document;
            }
            tokens.push(token);
            if let Some(stop) = text.push(token, on_text)? {
                break Ended::Stop(stop);
            }
            if tokens.len() - prompt_tokens < settings.tokens {
                reread += self.read(&tokens, 1);
            }
        };
        let ended = match ended {
            stopped @ Ended::Stop(_) => stopped,
            // What was held back may still end with a stop text.
            other => text.finish(on_text)?.map_or(other, Ended::Stop),
        };
        Ok(Generated {
            text: text.out,
            tokens: tokens.split_off(prompt_tokens),
            ended,
            prompt_tokens,
            prompt_left_out: left_out,
            reread,
            prompt_seconds,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Reads the last `new` of all tokens, which those before are in the cache for; the logits are then
    /// those of the next. Gives how many were read once more.
    fn read(&mut self, tokens: &[u32], new: usize) -> usize {
        let config = self.model.config();
        let mut from = tokens.len() - new;
        if new > self.cache.room() {
            self.cache.clear();
            from = tokens.len() - (config.context / 2).clamp(1, tokens.len());
        }
        let weights = Weights::new(config, self.model.params(), &self.panels);
        forward_next(config, weights, &tokens[from..], &mut self.logits, &mut self.cache);
        tokens.len() - new - from
    }
}

/// From tokens to text that is certain: whole characters, and no beginning of a stop text.
struct Text<'a> {
    tokenizer: &'a Tokenizer,
    stops: &'a [String],
    /// Whether a token has come.
    begun: bool,
    /// Bytes of a character whose rest is still to come.
    open: Vec<u8>,
    /// Characters that may begin a stop text.
    held: String,
    /// What was handed out.
    out: String,
}

impl<'a> Text<'a> {
    fn new(tokenizer: &'a Tokenizer, stops: &'a [String]) -> Self {
        let (open, held, out) = (Vec::new(), String::new(), String::new());
        Text { tokenizer, stops, begun: false, open, held, out }
    }

    /// The stop text that has come to its end, if one has.
    fn push(
        &mut self,
        token: u32,
        on_text: &mut dyn FnMut(&str) -> Result<(), Error>,
    ) -> Result<Option<String>, Error> {
        if std::mem::replace(&mut self.begun, true) && matches!(self.tokenizer, Tokenizer::Words(_))
        {
            self.open.push(b' ');
        }
        self.open.extend(self.tokenizer.decode(&[token]));
        characters(&mut self.open, &mut self.held, false);
        self.hand_out(false, on_text)
    }

    /// No token follows.
    fn finish(
        &mut self,
        on_text: &mut dyn FnMut(&str) -> Result<(), Error>,
    ) -> Result<Option<String>, Error> {
        characters(&mut self.open, &mut self.held, true);
        self.hand_out(true, on_text)
    }

    fn hand_out(
        &mut self,
        last: bool,
        on_text: &mut dyn FnMut(&str) -> Result<(), Error>,
    ) -> Result<Option<String>, Error> {
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop)?, stop))).min();
        let certain = match found {
            Some((at, _)) => at,
            None if last => self.held.len(),
            None => {
                let begins =
                    |at: &usize| self.stops.iter().any(|s| s.starts_with(&self.held[*at..]));
                let places = self.held.char_indices().map(|(at, _)| at);
                places.into_iter().find(begins).unwrap_or(self.held.len())
            }
        };
        if certain > 0 {
            let text = &self.held[..certain];
            self.out += text;
            on_text(text)?;
            self.held.drain(..certain);
        }
        Ok(found.map(|(_, stop)| stop.clone()))
    }
}

/// Moves whole characters from `bytes` to `text`; what is none becomes U+FFFD. The beginning of a
/// character stays, unless this is the `last` call.
fn characters(bytes: &mut Vec<u8>, text: &mut String, last: bool) {
    let mut used = 0;
    for chunk in bytes.utf8_chunks() {
        let (valid, bad) = (chunk.valid(), chunk.invalid());
        text.push_str(valid);
        used += valid.len();
        let is_end = used + bad.len() == bytes.len();
        let may_go_on = std::str::from_utf8(bad).is_err_and(|e| e.error_len().is_none());
        if is_end && may_go_on && !last {
            break;
        }
        if !bad.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            used += bad.len();
        }
    }
    bytes.drain(..used);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts that are handed out for bytes as tokens, and the stop text that ended them.
    fn streamed(bytes: &[u8], stops: &[&str]) -> (Vec<String>, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut text = Text::new(&Tokenizer::Bytes, &stops);
        let mut parts = Vec::new();
        let mut on_text = |part: &str| {
            parts.push(part.to_owned());
            Ok(())
        };
        for byte in bytes {
            if let Some(stop) = text.push(u32::from(*byte), &mut on_text).unwrap() {
                return (parts, Some(stop));
            }
        }
        let stop = text.finish(&mut on_text).unwrap();
        (parts, stop)
    }

    #[test]
    fn only_whole_characters_are_handed_out_and_what_is_none_is_replaced() {
        assert_eq!(streamed("hé€😀".as_bytes(), &[]).0, ["h", "é", "€", "😀"]);
        for bytes in [
            &b"a\xff\xfeb"[..],
            b"\xe2\x82",
            b"\xe2\x82x\xf0\x9f\x98",
            b"\xc3\xc3\xa9\xed\xa0\x80",
            b"\xf0\x9f\x98\x80\x80",
        ] {
            let (parts, _) = streamed(bytes, &[]);
            assert_eq!(parts.concat(), String::from_utf8_lossy(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_stop_text_is_no_part_of_the_text_wherever_its_tokens_end() {
        let (parts, stop) = streamed(b"one. two\n\nthree", &["\n\n", "xyz"]);
        assert_eq!((parts.concat().as_str(), stop.as_deref()), ("one. two", Some("\n\n")));
        assert_eq!(parts.len(), 8, "nothing else is held back: {parts:?}");
        // The beginning of a stop text that goes on in another way is handed out after all.
        let (parts, stop) = streamed(b"aab aaab", &["aaac"]);
        assert_eq!((parts.concat().as_str(), stop), ("aab aaab", None));
        // It begins again within itself.
        let (parts, stop) = streamed(b"xaaac", &["aac"]);
        assert_eq!((parts.concat().as_str(), stop.as_deref()), ("xa", Some("aac")));
        // Of two that end together the one that begins first.
        let (parts, stop) = streamed(b"1 end", &["nd", "end"]);
        assert_eq!((parts.concat().as_str(), stop.as_deref()), ("1 ", Some("end")));
        // A character of several bytes.
        let (parts, stop) = streamed("é€".as_bytes(), &["€"]);
        assert_eq!((parts.concat().as_str(), stop.as_deref()), ("é", Some("€")));
    }

    /// A replaced character at the very end.
    #[test]
    fn a_stop_text_that_only_the_end_completes_is_found() {
        let (parts, stop) = streamed(b"a\xe2\x82", &["\u{fffd}"]);
        assert_eq!((parts.concat().as_str(), stop.as_deref()), ("a", Some("\u{fffd}")));
    }
}
