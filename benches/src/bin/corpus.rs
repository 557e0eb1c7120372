//! Tokenizers and their trainers beside those of others, in turns.
//!
//! ```text
//! cargo run --release -p twelvefold-benches --features tokenizers --bin corpus -- [FILTER…] [--rounds N] [--megabytes N]
//! ```
//!
//! Each round makes every tokenizer anew, so that what it keeps from earlier text is cold, and takes
//! one pass over the documents. Ids and vocabularies are compared before the clock is started. The rows
//! `floor/…` have no peers: they say what ours does at least, on text that is slow somewhere, a document
//! of a quarter of the size each.

#![expect(clippy::unwrap_used, reason = "a peer that does not do its part ends the run")]
#![expect(clippy::print_stdout, reason = "the table")]

use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use tokenizers::pipeline::{EncodeOptions, PipelineToken, PipelineTokenizer};
use tokenizers_stable::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers_stable::pre_tokenizers::byte_level::ByteLevel;
use tokenizers_stable::{TokenizerBuilder, normalizers, processors};
use twelvefold::corpus::tokenizer::learn::{Learner, train};
use twelvefold::corpus::tokenizer::{Encoder, Tokenizer, TokenizerSpec};
use twelvefold::corpus::{Chunk, Span, TokenChunk};
use twelvefold_benches::median;
use twelvefold_benches::texts::{KINDS, documents};

/// Runs the tokenizers in turns.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only rows whose name holds one of these texts, for example `tokenize/prose`.
    filter: Vec<String>,
    /// How often each contender runs.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Text of each kind, in megabytes.
    #[arg(long, default_value_t = 16)]
    megabytes: usize,
}

/// A name, and one cold pass: the time that it took.
type Contender<'a> = (&'a str, Box<dyn FnMut() -> Duration + 'a>);

fn main() {
    let arguments = Arguments::parse();
    let wanted = |id: &str| {
        arguments.filter.is_empty()
            || arguments.filter.iter().any(|text| id.contains(text.as_str()))
    };
    let bytes = arguments.megabytes * 1_000_000;
    let ours: Tokenizer = "gpt2".parse::<TokenizerSpec>().unwrap().load().unwrap();
    let json = ours.to_json();
    for kind in KINDS {
        if ![1, 2].iter().any(|threads| wanted(&format!("tokenize/{kind}/{threads}"))) {
            continue;
        }
        let texts = documents(kind, bytes);
        agree(&ours, &json, &texts);
        for threads in [1, 2] {
            let id = format!("tokenize/{kind}/{threads}");
            if wanted(&id) {
                let size: usize = texts.iter().map(String::len).sum();
                rows(&id, size, arguments.rounds, &mut tokenizers(&ours, &json, &texts, threads));
            }
        }
    }
    for (kind, text) in nasty(bytes / 4) {
        let id = format!("floor/{kind}");
        if wanted(&id) {
            let texts = [text];
            rows(&id, texts[0].len(), arguments.rounds, &mut [own(&ours, &texts, 1)]);
        }
    }
    for vocab in [4096, 32_768] {
        let id = format!("train/{vocab}");
        if wanted(&id) {
            let texts = documents("prose", bytes / 2);
            let texts = [texts, documents("code", bytes / 2)].concat();
            let size: usize = texts.iter().map(String::len).sum();
            rows(&id, size, arguments.rounds.min(3), &mut trainers(&texts, vocab));
        }
    }
}

/// Runs the contenders in turns, the first of them being ours.
fn rows(id: &str, bytes: usize, rounds: usize, contenders: &mut [Contender<'_>]) {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for ((_, pass), times) in contenders.iter_mut().zip(&mut times) {
            times.push(pass().as_secs_f64());
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for ((name, _), time) in contenders.iter().zip(&medians) {
        let rate = bytes as f64 / 1e6 / time;
        println!("| {id}/{name} | {rate:.0} MB/s | ours {:.2} x |", time / medians[0]);
    }
}

/// Hugging Face's candidate, which takes special tokens for text when it is told so.
fn candidate(json: &serde_json::Value) -> PipelineTokenizer {
    let json = tokenizers::canonicalize_str(&json.to_string()).unwrap();
    tokenizers::from_json(&json).unwrap()
}

fn plain() -> EncodeOptions {
    EncodeOptions { add_special_tokens: false, encode_special_tokens: true, ..Default::default() }
}

fn agree(ours: &Tokenizer, json: &serde_json::Value, texts: &[String]) {
    let (candidate, fast) =
        (candidate(json), fastokens::Tokenizer::from_json(json.clone()).unwrap());
    let oracle = tiktoken_rs::r50k_base().unwrap();
    let mut encoder = Encoder::default();
    let mut apart = [0; 2];
    for text in texts {
        let found = ours.encode_text(text, &mut encoder);
        let theirs = candidate.encode(text.as_str(), &plain()).wait().unwrap();
        apart[0] += usize::from(found != PipelineToken::cast_slice(theirs[0].ids()));
        apart[1] += usize::from(found != fast.encode(text).unwrap());
        assert!(found == oracle.encode_ordinary(text), "ids of tiktoken");
    }
    if apart != [0; 2] {
        println!("other ids: {} documents of tokenizers, {} of fastokens", apart[0], apart[1]);
    }
}

/// Shares the documents out to threads, after `make` has made what each needs.
fn timed<'a, T: Send>(
    texts: &'a [String],
    threads: usize,
    make: impl Fn() -> T,
    pass: impl Fn(&mut T, &'a [String]) -> usize + Sync,
) -> Duration {
    let mut each: Vec<T> = (0..threads).map(|_| make()).collect();
    let parts = texts.chunks(texts.len().div_ceil(threads));
    let started = Instant::now();
    let tokens: usize = thread::scope(|scope| {
        let pass = &pass;
        let handles: Vec<_> = each
            .drain(..)
            .zip(parts)
            .map(|(mut one, part)| scope.spawn(move || pass(&mut one, part)))
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    });
    assert!(tokens > 0);
    started.elapsed()
}

fn tokenizers<'a>(
    ours: &'a Tokenizer,
    json: &'a serde_json::Value,
    texts: &'a [String],
    threads: usize,
) -> Vec<Contender<'a>> {
    let mut all = vec![own(ours, texts, threads)];
    all.push((
        "tokenizers_1.0-rc.3",
        Box::new(move || {
            let (one, options) = (candidate(json), plain());
            timed(
                texts,
                threads,
                || one.clone(),
                |one, part| {
                    let encode =
                        |text: &String| one.encode(text.as_str(), &options).wait().unwrap();
                    part.iter().map(|text| encode(text)[0].len()).sum()
                },
            )
        }),
    ));
    all.push((
        "fastokens_0.3.5",
        Box::new(move || {
            let one = fastokens::Tokenizer::from_json(json.clone()).unwrap();
            let one = &one;
            timed(
                texts,
                threads,
                || one,
                |one, part| part.iter().map(|text| one.encode(text).unwrap().len()).sum(),
            )
        }),
    ));
    all
}

fn own<'a>(ours: &'a Tokenizer, texts: &'a [String], threads: usize) -> Contender<'a> {
    let make = || (Encoder::default(), Chunk::default(), TokenChunk::default());
    let encode = move || {
        timed(texts, threads, make, |(encoder, chunk, out), part| {
            part.iter().map(|text| pass(ours, encoder, chunk, out, text)).sum()
        })
    };
    ("ours", Box::new(encode))
}

/// Text that is slow somewhere: long runs, and characters and pieces that do not come again. One
/// document each, of about so many bytes.
fn nasty(bytes: usize) -> Vec<(&'static str, String)> {
    let mut state = 1_u64;
    let mut below = move |n: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) as u32) % n
    };
    let mut of = |first: u32, count: u32| {
        let mut text = String::new();
        while text.len() < bytes {
            text.extend(char::from_u32(first + below(count)));
        }
        text
    };
    vec![
        ("letters", of(97, 26)),
        ("one_letter", "a".repeat(bytes)),
        ("spaces", " ".repeat(bytes)),
        ("newlines", "\n".repeat(bytes)),
        ("digits", of(48, 10)),
        ("apostrophes", "'s".repeat(bytes / 2)),
        ("words", of(97, 30).replace(['{', '|', '}', '~'], " ")),
        ("ascii", of(0, 128)),
        ("marks", "e\u{301}\u{302}".repeat(bytes / 5)),
        ("emoji", "👩\u{200d}👩\u{200d}👧\u{200d}👦🏽".repeat(bytes / 33)),
        ("cjk", of(0x4E00, 0x5000)),
        ("code_points", of(0, 0x11_0000)),
    ]
}

/// As the run does it: a chunk in, its tokens in a reused buffer out.
fn pass(
    ours: &Tokenizer,
    encoder: &mut Encoder,
    chunk: &mut Chunk,
    out: &mut TokenChunk,
    text: &str,
) -> usize {
    chunk.reset(0);
    chunk.bytes.extend_from_slice(text.as_bytes());
    let range = 0..text.len();
    chunk.spans.push(Span { document: 0, range, offset: 0, ends_document: true, bits: 0.0 });
    ours.encode(chunk, encoder, out);
    out.tokens.len()
}

fn trainers(texts: &[String], vocab: usize) -> Vec<Contender<'_>> {
    let (mut merges, mut theirs) = (Vec::new(), Vec::new());
    let all: Vec<Contender<'_>> = vec![
        ("ours", Box::new(move || learn(texts, vocab, &mut merges))),
        ("tokenizers_0.23", Box::new(move || learn_there(texts, vocab, &mut theirs))),
    ];
    all
}

fn learn(texts: &[String], vocab: usize, merges: &mut Vec<usize>) -> Duration {
    let spec = TokenizerSpec::Bpe(vocab + 1);
    let started = Instant::now();
    let learners: Vec<Learner> = thread::scope(|scope| {
        let spec = &spec;
        let learn = |part: &'_ [String]| {
            let part = part.to_vec();
            scope.spawn(move || {
                let (mut learner, mut chunk) = (Learner::new(spec.clone()), Chunk::default());
                for text in &part {
                    chunk.reset(0);
                    chunk.bytes.extend_from_slice(text.as_bytes());
                    let range = 0..text.len();
                    chunk.spans.push(Span {
                        document: 0,
                        range,
                        offset: 0,
                        ends_document: true,
                        bits: 0.0,
                    });
                    learner.learn(&chunk);
                }
                learner
            })
        };
        let handles: Vec<_> = texts.chunks(texts.len().div_ceil(2)).map(learn).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let counted = started.elapsed();
    let trained = train(learners);
    let took = started.elapsed();
    println!(
        "counted in {counted:.2?}, learned in {:.2?}, {} tokens",
        took - counted,
        trained.tokenizer.vocab()
    );
    merges.push(trained.tokenizer.vocab());
    took
}

fn learn_there(texts: &[String], vocab: usize, merges: &mut Vec<usize>) -> Duration {
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let step = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        normalizers::NormalizerWrapper,
        _,
        processors::PostProcessorWrapper,
        ByteLevel,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(step))
    .with_decoder(Some(step))
    .build()
    .unwrap();
    let started = Instant::now();
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).unwrap();
    let took = started.elapsed();
    merges.push(tokenizer.get_vocab_size(false));
    took
}
