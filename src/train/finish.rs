//! After the last step: checkpoint, sample, report.

use super::checkpoint::{Checkpoint, Gpt2Config, RunState, save};
use super::files::{RunFolder, write_atomically};
use super::options::Options;
use super::outcome::Results;
use super::run::{End, Trained};
use super::safetensors::TensorView;
use super::sample::{Limits, Sampler, generate};
use crate::corpus::Skipped;
use crate::error::Error;
use crate::model::{Config, Isa, Layout, Scratch, Slot, forward_logits};
use crate::report::summary::{CorpusReport, InvalidText, SkippedFile};
use crate::report::{Observer, RunReport};
use std::collections::BTreeMap;

/// Tokens of the sample that a run prints.
const SAMPLE_TOKENS: usize = 160;
/// Below 1 the likelier words become likelier still: a sample for reading, not for statistics.
const SAMPLE_TEMPERATURE: f32 = 0.8;

pub(super) fn finish(
    options: &Options,
    folder: &RunFolder,
    trained: Trained,
    mut results: Results,
    observer: &mut dyn Observer,
) -> Result<RunReport, Error> {
    let written = checkpoint(options, folder, &trained, results.steps())?;
    let mut report = results.report();
    report.weights_sha256 = written;
    report.interrupted = trained.end == End::Interrupted;
    report.parameters =
        Layout::new(&trained.config).tensors().iter().map(|t| t.range.len() as u64).sum();
    losses(&mut report, &trained, &results, options.paths.is_empty());
    report.corpus = corpus(&trained);
    report.peak_memory_bytes = peak_memory();
    write_atomically(folder.path().join("report.json"), report.to_json().as_bytes())?;
    if trained.end == End::Whole {
        observer.sample(&sample(options, &trained)?);
    }
    Ok(report)
}

fn losses(report: &mut RunReport, trained: &Trained, results: &Results, built_in: bool) {
    report.val_loss = results.interim_validation();
    let (Some(totals), Some(outcome)) = (&trained.totals, results.final_validation()) else {
        return;
    };
    report.val_loss = Some(outcome.loss());
    if totals.validation.bytes == 0 {
        return; // Nothing but ends of documents.
    }
    let bytes = totals.validation.bytes as f64;
    report.val_bits_per_byte = Some(outcome.loss_sum / std::f64::consts::LN_2 / bytes);
    report.floor_bits_per_byte = built_in.then(|| totals.validation.bits / bytes);
    report.unigram_bits_per_byte = totals.ngrams.map(|n| n.unigram);
    report.bigram_bits_per_byte = totals.ngrams.map(|n| n.bigram);
}

fn corpus(trained: &Trained) -> CorpusReport {
    let summary = trained.source.summary();
    let report = |skipped: Vec<Skipped>| -> Vec<SkippedFile> {
        skipped.into_iter().map(|s| SkippedFile { path: s.path, reason: s.reason }).collect()
    };
    let invalid = trained.totals.iter().flat_map(|totals| &totals.invalid);
    let tokens = trained.totals.as_ref().map_or(0, |t| t.train.tokens + t.validation.tokens);
    CorpusReport {
        files: summary.files,
        opened: summary.opened,
        skipped: report(summary.skipped),
        bad_records: summary.bad_records,
        bad: report(summary.bad),
        bytes: summary.bytes,
        documents: summary.documents,
        tokens,
        invalid: invalid
            .map(|bad| InvalidText {
                path: trained.source.name(bad.document).unwrap_or_default(),
                byte: bad.offset,
                count: bad.count,
            })
            .collect(),
    }
}

/// Writes the checkpoint; gives the digest of the weights.
fn checkpoint(
    options: &Options,
    folder: &RunFolder,
    trained: &Trained,
    steps: u64,
) -> Result<String, Error> {
    let config = &trained.config;
    let layout = Layout::new(config);
    let (mut m, mut v) = (vec![0.0; layout.len()], vec![0.0; layout.len()]);
    trained.spheres.visit_moments(|tile, tile_m, tile_v| {
        let mut at = 0;
        for range in tile.ranges(config) {
            let part = at..at + range.len();
            at = part.end;
            m[range.clone()].copy_from_slice(&tile_m[part.clone()]);
            v[range].copy_from_slice(&tile_v[part]);
        }
    });
    let state = RunState {
        step: steps,
        seed: options.seed,
        position: steps * options.sequences_per_step() as u64,
        kernels: kernels()?,
        extra: settings(options),
    };
    let tokenizer = format!("{:#}\n", trained.tokenizer.to_json());
    let written = trained.spheres.with_params(|params| {
        save(
            folder.path(),
            &Checkpoint {
                config: Gpt2Config {
                    vocab: config.vocab,
                    context: config.context,
                    width: config.width,
                    layers: config.layers,
                    heads: config.heads,
                    end_of_document: trained.tokenizer.end_of_document(),
                },
                tokenizer: &tokenizer,
                weights: &views(&layout, params),
                first: &views(&layout, &m),
                second: &views(&layout, &v),
                state: &state,
            },
        )
    })?;
    Ok(written.sha256)
}

fn kernels() -> Result<String, Error> {
    Ok(Isa::detect()?.name().to_owned())
}

/// The settings that decide the weights, for a resume to compare.
fn settings(options: &Options) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    if let Ok(serde_json::Value::Object(all)) = serde_json::to_value(options) {
        for (name, value) in all {
            // Where the text and the outputs lie, and how many threads there are, decides nothing.
            if !["paths", "out", "overwrite", "spheres", "tokenizers"].contains(&name.as_str()) {
                settings.insert(name, value.to_string());
            }
        }
    }
    settings
}

fn views<'a>(layout: &Layout, values: &'a [f32]) -> Vec<TensorView<'a>> {
    let view = |tensor: &crate::model::Tensor| TensorView {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        data: &values[tensor.range.clone()],
        transpose: false,
    };
    layout.tensors().iter().map(view).collect()
}

fn sample(options: &Options, trained: &Trained) -> Result<String, Error> {
    let config: &Config = &trained.config;
    let end = trained.tokenizer.end_of_document();
    let (mut slot, mut scratch) = (Slot::new(config), Scratch::new(config, Isa::detect()?));
    let mut sampler = Sampler::new(SAMPLE_TEMPERATURE, 0, options.seed);
    let limits = Limits { tokens: SAMPLE_TOKENS, context: config.context, stop: Some(end) };
    let tokens = trained.spheres.with_params(|params| {
        generate(&[end], limits, &mut sampler, |tokens, row| {
            row.resize(config.vocab, 0.0);
            forward_logits(config, params, tokens, row, &mut slot, &mut scratch);
            Ok(())
        })
    })?;
    Ok(trained.tokenizer.decode_to_string(&tokens))
}

/// The most memory the process has held, where the system says it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
