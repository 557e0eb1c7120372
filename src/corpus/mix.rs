//! Several sources side by side, each with a weight.
//!
//! At any place in the text the bytes handed out so far are shared as the weights say, as nearly as
//! whole documents and chunks allow; a source that has ended leaves its share to the others. All text
//! is handed out once. The order depends on the sources and the weights alone.

use std::path::Path;

use super::files::Batch;
use super::{Chunk, Filled, Source, Summary, files};
use crate::error::Error;

/// See the module.
///
/// ```
/// use twelvefold::corpus::{Chunk, Source, files::FileSource, mix::Mix};
/// # let folder = tempfile::tempdir().unwrap();
/// # let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
/// for (path, text) in [(&a, "aaa"), (&b, "b")] {
///     std::fs::write(path, text).unwrap();
/// }
/// let part = |path| FileSource::new([path]).map(|s| Box::new(s) as Box<dyn Source>);
/// let mut mix = Mix::new(vec![(part(a)?, 0.25), (part(b)?, 0.75)]);
/// let (mut chunk, mut text) = (Chunk::default(), Vec::new());
/// while mix.fill(&mut chunk)? {
///     text.extend_from_slice(&chunk.bytes);
/// }
/// assert_eq!(text, b"baaa");
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug)]
pub struct Mix {
    parts: Vec<Part>,
    /// The part whose last document goes on.
    open: Option<usize>,
    chunks: u64,
    documents: u64,
    /// From this document on, which part's they are, and the number of the first there.
    runs: Vec<(u64, usize, u64)>,
    /// Documents that have come before in another pass: their runs are known.
    known: u64,
}

#[derive(Debug)]
struct Part {
    source: Box<dyn Source>,
    weight: f64,
    bytes: u64,
    /// Documents that were begun.
    documents: u64,
    ended: bool,
}

impl Mix {
    /// Will take from the sources by their weights, which are above 0.
    pub fn new(parts: Vec<(Box<dyn Source>, f64)>) -> Self {
        let part = |(source, weight)| Part { source, weight, bytes: 0, documents: 0, ended: false };
        let parts = parts.into_iter().map(part).collect();
        Mix { parts, open: None, chunks: 0, documents: 0, runs: Vec::new(), known: 0 }
    }

    /// The part that is furthest behind: the one with the fewest bytes for its weight.
    fn next(&self) -> Option<usize> {
        let due = |part: &Part| (part.bytes + 1) as f64 / part.weight;
        let left = self.parts.iter().enumerate().filter(|(_, part)| !part.ended);
        let first = left.min_by(|(_, a), (_, b)| due(a).total_cmp(&due(b)));
        first.map(|(at, _)| at)
    }

    /// Has a part fill the chunk. One that fills it later is asked again: nothing changes until then.
    fn next_chunk(
        &mut self,
        chunk: &mut Chunk,
        fill: impl Fn(&mut dyn Source, &mut Chunk) -> Result<Filled, Error>,
    ) -> Result<Filled, Error> {
        // A document is never interrupted by another's text.
        while let Some(at) = self.open.or_else(|| self.next()) {
            match fill(&mut *self.parts[at].source, chunk)? {
                Filled::Full => {
                    self.take(at, chunk);
                    return Ok(Filled::Full);
                }
                Filled::Later => return Ok(Filled::Later),
                Filled::Over => (self.parts[at].ended, self.open) = (true, None),
            }
        }
        chunk.reset(self.chunks);
        Ok(Filled::Over)
    }

    /// Numbers a chunk of a part anew.
    fn take(&mut self, at: usize, chunk: &mut Chunk) {
        let part = &mut self.parts[at];
        for span in &mut chunk.spans {
            if span.document >= part.documents {
                part.documents = span.document + 1;
                let joins = |&(first, of, number): &(u64, usize, u64)| {
                    of == at && self.documents - first == span.document - number
                };
                if self.documents >= self.known && !self.runs.last().is_some_and(joins) {
                    self.runs.push((self.documents, at, span.document));
                }
                self.documents += 1;
            }
            span.document = self.documents - 1;
        }
        part.bytes += chunk.bytes.len() as u64;
        self.open = chunk.spans.last().is_some_and(|span| !span.ends_document).then_some(at);
        chunk.index = self.chunks;
        self.chunks += 1;
    }
}

impl Source for Mix {
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, Error> {
        self.next_chunk(chunk, |source, chunk| {
            Ok(if source.fill(chunk)? { Filled::Full } else { Filled::Over })
        })
        .map(|filled| filled == Filled::Full)
    }

    fn advance(&mut self, chunk: &mut Chunk) -> Result<Filled, Error> {
        self.next_chunk(chunk, |source, chunk| source.advance(chunk))
    }

    fn read_ahead(&mut self, batches: usize) -> bool {
        let each = (batches / self.parts.len().max(1)).max(2);
        let mut any = false;
        self.parts.iter_mut().for_each(|part| any |= part.source.read_ahead(each));
        any
    }

    fn plan(&mut self) -> Option<Batch> {
        // The part that comes next first.
        let first = self.open.or_else(|| self.next()).unwrap_or(0);
        if self.parts.is_empty() {
            return None;
        }
        let (before, from) = self.parts.split_at_mut(first);
        let mut parts = (first..).zip(from).chain((0..).zip(before));
        parts.find_map(|(at, part)| {
            let mut batch = part.source.plan()?;
            batch.part = at;
            Some(batch)
        })
    }

    fn accept(&mut self, batch: Batch) {
        if let Some(part) = self.parts.get_mut(batch.part) {
            part.source.accept(batch);
        }
    }

    fn summary(&self) -> Summary {
        let mut all = Summary::default();
        for summary in self.parts.iter().map(|part| part.source.summary()) {
            all.files += summary.files;
            all.opened += summary.opened;
            all.rewound = all.rewound.max(summary.rewound);
            all.skipped.extend(summary.skipped);
            all.bytes += summary.bytes;
            all.documents += summary.documents;
            all.bad_records += summary.bad_records;
            all.bad.extend(summary.bad);
        }
        all
    }

    fn rewind(&mut self) -> Result<(), Error> {
        for part in &mut self.parts {
            part.source.rewind()?;
            (part.bytes, part.documents, part.ended) = (0, 0, false);
        }
        self.known = self.known.max(self.documents);
        (self.open, self.documents) = (None, 0);
        Ok(())
    }

    fn leave_out(&mut self, folder: &Path) -> Result<(), Error> {
        self.parts.iter_mut().try_for_each(|part| part.source.leave_out(folder))
    }

    fn name(&self, document: u64) -> Option<String> {
        let after = self.runs.partition_point(|run| run.0 <= document);
        let (first, at, number) = self.runs[after.checked_sub(1)?];
        self.parts[at].source.name(number + (document - first))
    }

    fn interrupter(&self) -> Option<files::Interrupter> {
        self.parts.iter().find_map(|part| part.source.interrupter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::files::FileSource;

    fn mixed(folder: &Path, weights: &[(&str, f64)]) -> Mix {
        let part = |&(name, weight): &(&str, f64)| {
            (Box::new(FileSource::new([folder.join(name)]).unwrap()) as Box<dyn Source>, weight)
        };
        Mix::new(weights.iter().map(part).collect())
    }

    /// Files of 40 KB, so that a chunk holds six.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, count) in [("a", 200), ("b", 60)] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            for file in 0..count {
                let path = folder.path().join(format!("{name}/{file:03}"));
                std::fs::write(path, name.repeat(40_000)).unwrap();
            }
        }
        std::fs::write(folder.path().join("long"), "l".repeat(1_000_000)).unwrap();
        folder
    }

    #[test]
    fn the_shares_are_those_of_the_weights_until_a_part_ends_and_all_text_comes_once() {
        let folder = folder();
        let mut mix = mixed(folder.path(), &[("a", 0.7), ("b", 0.3)]);
        let (mut chunk, mut counts) = (Chunk::default(), [0_usize; 2]);
        while mix.fill(&mut chunk).unwrap() {
            for (count, letter) in counts.iter_mut().zip([b'a', b'b']) {
                *count += chunk.bytes.iter().filter(|&&byte| byte == letter).count();
            }
            if counts[1] < 60 * 40_000 && counts[0] + counts[1] > 1_000_000 {
                let share = counts[1] as f64 / (counts[0] + counts[1]) as f64;
                let off = 260_000.0 / (counts[0] + counts[1]) as f64;
                assert!((share - 0.3).abs() < off, "{share}");
            }
        }
        assert_eq!(counts, [200 * 40_000, 60 * 40_000]);
        let summary = mix.summary();
        assert_eq!((summary.documents, summary.opened), (260, 260));
    }

    #[test]
    fn documents_are_numbered_on_and_named_and_none_is_interrupted() {
        let folder = folder();
        let mut mix = mixed(folder.path(), &[("a", 1.0), ("long", 1.0), ("b", 2.0)]);
        let (mut chunk, mut chunks, mut open) = (Chunk::default(), 0, None);
        let mut next = 0;
        while mix.fill(&mut chunk).unwrap() {
            assert_eq!(chunk.index, chunks);
            chunks += 1;
            for span in &chunk.spans {
                assert_eq!(span.document, open.unwrap_or(next), "in order, without gaps");
                next = span.document + 1;
                open = (!span.ends_document).then_some(span.document);
                let name = mix.name(span.document).unwrap();
                let letter = char::from(chunk.bytes[span.range.start]);
                let part = name.strip_prefix(folder.path().to_str().unwrap()).unwrap();
                assert!(part[1..].starts_with(letter), "{name} holds {letter}");
            }
        }
        assert_eq!((next, mix.name(261)), (261, None));
    }

    /// The names of the first pass stand while the second is under way.
    #[test]
    fn a_mixture_comes_again_as_it_came() {
        let folder = folder();
        let mut mix = mixed(folder.path(), &[("a", 1.0), ("long", 1.0), ("b", 2.0)]);
        let (mut chunk, mut passes) = (Chunk::default(), [Vec::new(), Vec::new()]);
        let mut names = Vec::new();
        for (pass, spans) in passes.iter_mut().enumerate() {
            while mix.fill(&mut chunk).unwrap() {
                let part = |span: &crate::corpus::Span| {
                    (span.document, span.offset, chunk.bytes[span.range.clone()].to_vec())
                };
                spans.extend(chunk.spans.iter().map(part));
                let named: Vec<_> = (0..262).map(|document| mix.name(document)).collect();
                assert!(pass == 0 || named == names);
                names = named;
            }
            mix.rewind().unwrap();
        }
        assert!(passes[0] == passes[1] && names[260].is_some() && names[261].is_none());
        let summary = mix.summary();
        assert_eq!((summary.documents, summary.opened, summary.rewound), (261, 522, 2));
    }
}
