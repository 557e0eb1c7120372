//! After the last step: checkpoint, sample, report.

use super::files::{RunFolder, write_atomically, write_settings};
use super::gauges::peak_memory;
use super::options::Options;
use super::outcome::Results;
use super::sample::{Limits, Sampler, generate};
use super::snapshot;
use super::training::{End, Trained};
use crate::corpus::Skipped;
use crate::corpus::tokenizer::Tokenizer;
use crate::error::Error;
use crate::model::{Config, Isa, Layout, Scratch, Slot, forward_logits};
use crate::report::summary::RankReport;
use crate::report::summary::{CorpusReport, InvalidText, SkippedFile};
use crate::report::{Observer, RunReport};
use crate::spheres::{RankCount, Spheres};

/// Tokens of the sample that a run prints.
const SAMPLE_TOKENS: usize = 160;
/// Below 1 the likelier words become likelier still: a sample for reading, not for statistics.
const SAMPLE_TEMPERATURE: f32 = 0.8;

pub(super) fn finish(
    options: &Options,
    folder: &RunFolder,
    mut trained: Trained,
    mut results: Results,
    observer: &mut dyn Observer,
) -> Result<RunReport, Error> {
    let state =
        results.standing(options).to_state(options, &trained.digests, Isa::detect()?.name());
    let Trained { spheres, config, tokenizer, .. } = &mut trained;
    let written = snapshot::write(folder.path(), spheres, config, tokenizer, &state)?;
    let mut report = results.report(config);
    report.ranks = spheres.dismiss().into_iter().map(rank_report).collect();
    report.weights_sha256 = written.sha256;
    report.interrupted = trained.end == End::Interrupted;
    report.parameters = Layout::new(&trained.config).parameters();
    losses(&mut report, &trained, &results, options.paths.is_empty());
    report.corpus = corpus(&trained);
    report.peak_memory_bytes = peak_memory();
    write_settings(folder.path(), options)?;
    write_atomically(folder.path().join("report.json"), report.to_json().as_bytes())?;
    if trained.end == End::Whole {
        let model = (&trained.spheres, &trained.config, &*trained.tokenizer);
        observer.sample(&sample(model, SAMPLE_TOKENS, options.seed)?);
    }
    Ok(report)
}

fn rank_report(count: RankCount) -> RankReport {
    RankReport {
        rank: count.rank,
        host: count.host,
        spheres: count.spheres,
        micro_batches: count.micro_batches,
        parameters: count.parameters,
        tasks: count.tasks,
        busy_seconds: count.busy_seconds,
        waited_seconds: count.waited_seconds,
        sent_bytes: count.sent_bytes,
    }
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
        rewound: summary.rewound,
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

/// Text that the model writes after the end of a document.
pub(super) fn sample(
    (spheres, config, tokenizer): (&Spheres, &Config, &Tokenizer),
    tokens: usize,
    seed: u64,
) -> Result<String, Error> {
    let end = tokenizer.end_of_document();
    let (mut slot, mut scratch) = (Slot::new(config, 1), Scratch::new(config, 1, Isa::detect()?));
    let mut sampler = Sampler::new(SAMPLE_TEMPERATURE, 0, seed);
    let limits = Limits { tokens, context: config.context, stop: Some(end) };
    let tokens = spheres.with_weights(|weights| {
        generate(&[end], limits, &mut sampler, |tokens, row| {
            row.resize(config.vocab, 0.0);
            forward_logits(config, weights, tokens, row, &mut slot, &mut scratch);
            Ok(())
        })
    })?;
    Ok(tokenizer.decode_to_string(&tokens))
}
