//! Opens each file once and cuts its bytes into chunks.
//!
//! Small files share a chunk; a file that does not fit goes on in the next, cut where its tokens stay
//! the same ([`Cuts`]). Files are opened a [`Batch`] before their first byte is needed, so the first chunk
//! is out before the last file is opened. Batches may be read by other threads, several at a time
//! ([`Source::plan`]); what comes out is the same, in the same order, and so is what is said of it. Files
//! from [`MAP_BYTES`] on are mapped, smaller ones read; either way a byte is handed out once.
//!
//! | name | what it is |
//! |---|---|
//! | `*.jsonl`, `*.ndjson` | a document a line, in one field of an object |
//! | `*.parquet` | a document a row, in one column; with the feature `parquet` |
//! | `*.gz`, `*.zst` | packed text, or packed records after `.jsonl`; unpacked on the way |
//! | `-`, and `-.jsonl`, `-.gz`, `-.jsonl.zst` and so on | standard input, as the rest says |
//! | all others | text |
//!
//! Not taken, each with its reason in the summary: what is empty, binary (a NUL in the first
//! [`PROBE_BYTES`]) or unreadable, and what [`walk`](super::walk) skips. A file that changes while it
//! is read is an error, which says where. A bad record (a line that is none, packed text that breaks
//! off) is counted and named, and is an error beyond a limit; what came before it stays.

use std::path::{Path, PathBuf};

use super::runs::Cuts;
use super::walk::{Walk, skip, unreadable};
use super::{CHUNK_BYTES, Chunk, Filled, Source, Span, Summary};
use crate::error::Error;

mod ahead;
mod document;
mod names;
#[cfg(feature = "parquet")]
mod parquet;
mod records;
mod stream;
mod take;

pub use ahead::Batch;
use ahead::Queue;
use document::{Document, Reader};
use names::Names;
pub use records::RECORD_BYTES;
use records::{Lines, Record, broken};
pub(crate) use stream::is_stdin;
pub use stream::{Interrupter, WINDOW_BYTES};
use take::{changed, is_no_text};

/// The size, in bytes, from which a file is mapped.
///
/// Copied out in chunks, from memory, with all the looks at the file, in GB/s of one core's time
/// (read / mapped): 8.5 / 4.5 at 64 KiB, 6.7 / 5.1 at 256 KiB, 6.8 / 5.5 at 1 MiB, 7.2 / 6.8 at 2 MiB
/// and the same from there on.
pub const MAP_BYTES: u64 = 2 * 1024 * 1024;

/// A NUL in this many first bytes makes a file binary.
pub const PROBE_BYTES: usize = 8 * 1024;

/// The field of a record that is its text, unless another is asked for.
pub const FIELD: &str = "text";

/// Bad records up to which a run goes on, unless another limit is asked for.
pub const BAD_RECORDS: u64 = 100;

/// Bad records that are named; further ones are only counted.
const BAD_NAMED: u64 = 1_000;

/// The text of files and folders.
///
/// ```
/// use twelvefold::corpus::{Chunk, Source, files::FileSource};
/// # let folder = tempfile::tempdir().unwrap();
/// std::fs::write(folder.path().join("a.txt"), "one two").unwrap();
/// std::fs::write(folder.path().join("b.bin"), "\0").unwrap();
/// std::fs::write(folder.path().join("c.jsonl"), "{\"text\": \" three\"}\nnone").unwrap();
/// let mut source = FileSource::new([folder.path()])?;
/// let mut chunk = Chunk::default();
/// assert!(source.fill(&mut chunk)?);
/// assert_eq!(chunk.bytes, b"one two three");
/// assert!(!source.fill(&mut chunk)?);
/// let summary = source.summary();
/// assert_eq!(summary.skipped[0].reason, "binary: a NUL at byte 0");
/// assert!(summary.bad[0].path.ends_with("c.jsonl:2"));
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug)]
pub struct FileSource {
    paths: Vec<PathBuf>,
    walk: Walk,
    queue: Queue,
    /// Opened, and perhaps waiting for a chunk with room for it.
    opened: Option<Document>,
    current: Option<Document>,
    /// A chunk was begun.
    is_filling: bool,
    lines: Option<Lines>,
    /// The text of a record: one that waits for a chunk with room for it, or a spare buffer.
    text: Vec<u8>,
    text_waits: bool,
    settings: Settings,
    stop: Option<Interrupter>,
    chunks: u64,
    summary: Summary,
    /// What the first pass found, in the passes after it.
    first: Option<Summary>,
    names: Names,
}

#[derive(Debug)]
struct Settings {
    cuts: Cuts,
    field: String,
    bad_records: u64,
    gitignore: bool,
    /// Decides the order of the files, where they do not come in that of their paths.
    shuffle: Option<u64>,
    left_out: Option<PathBuf>,
}

/// What comes next.
enum Next {
    Document(Document),
    /// A file of records is open.
    Records,
    /// It does not fit what is left of the chunk, or nothing would.
    Waits,
    /// Somebody still reads it.
    Later,
    Nothing,
}

impl FileSource {
    /// Will give the text of `paths` in this order; nothing is opened yet.
    ///
    /// # Errors
    /// A path does not exist or cannot be looked at.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        let stop = match paths.iter().any(|path| is_stdin(path)) {
            true => {
                Some(Interrupter::new().map_err(|e| Error::io("wait for", "standard input", e))?)
            }
            false => None,
        };
        let settings = Settings {
            cuts: Cuts::OWN,
            field: FIELD.to_owned(),
            bad_records: BAD_RECORDS,
            gitignore: false,
            shuffle: None,
            left_out: None,
        };
        Ok(FileSource {
            walk: Walk::new(paths.clone())?,
            paths,
            queue: Queue::default(),
            opened: None,
            current: None,
            is_filling: false,
            lines: None,
            text: Vec::new(),
            text_waits: false,
            settings,
            stop,
            chunks: 0,
            summary: Summary::default(),
            first: None,
            names: Names::default(),
        })
    }

    /// Will cut large files as a tokenizer allows it ([`Tokenizer::cuts`]).
    ///
    /// [`Tokenizer::cuts`]: super::tokenizer::Tokenizer::cuts
    #[must_use]
    pub fn cutting(mut self, cuts: Cuts) -> Self {
        self.settings.cuts = cuts;
        self
    }

    /// Gives the files in the order that `seed` decides, the same in every pass. All are looked at, and
    /// none is opened, before the first one is read.
    #[must_use]
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.settings.shuffle = Some(seed);
        self.walk.shuffled(seed);
        self
    }

    /// Will take this field of each record ([`FIELD`] unless it is told).
    #[must_use]
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.settings.field = name.into();
        self
    }

    /// Will go on up to this many bad records ([`BAD_RECORDS`] unless it is told).
    #[must_use]
    pub fn bad_records(mut self, most: u64) -> Self {
        self.settings.bad_records = most;
        self
    }

    /// Will leave out what `.gitignore` files name, those above a given folder up to its repository's
    /// included; what is given itself is taken.
    #[must_use]
    pub fn gitignore(mut self, respected: bool) -> Self {
        self.settings.gitignore = respected;
        self.walk.gitignore(respected);
        self
    }

    /// The next document, if it fits what is left of the chunk.
    fn next(&mut self, chunk: &mut Chunk) -> Result<Next, Error> {
        loop {
            if self.lines.is_some() {
                match self.next_record(chunk)? {
                    Next::Nothing => {}
                    found => return Ok(found),
                }
            }
            match self.next_file(chunk)? {
                Next::Records => {}
                found => return Ok(found),
            }
        }
    }

    /// The next record of the open file, or nothing where that has ended.
    fn next_record(&mut self, chunk: &Chunk) -> Result<Next, Error> {
        while let Some(lines) = &mut self.lines {
            if !std::mem::take(&mut self.text_waits) {
                match lines.records.next(&mut self.text) {
                    Record::Text => {}
                    Record::Bad(why) => {
                        let at = match lines.records.line() {
                            0 => lines.path.display().to_string(),
                            line => format!("{}:{line}", lines.path.display()),
                        };
                        self.bad(at, why)?;
                        continue;
                    }
                    Record::End => {
                        if let Some((file, stamp)) = &lines.file {
                            stamp.check(file).map_err(|e| changed(&lines.path, 0, e))?;
                        }
                        self.lines = None;
                        break;
                    }
                }
            }
            if !chunk.bytes.is_empty() && self.text.len() > CHUNK_BYTES - chunk.bytes.len() {
                self.text_waits = true;
                return Ok(Next::Waits);
            }
            if self.first.is_none() {
                if !std::mem::replace(&mut lines.is_named, true) {
                    self.names.push_file(&lines.path);
                }
                self.names.push_record(lines.records.line());
            }
            let text = std::mem::take(&mut self.text);
            return Ok(Next::Document(Document::new(lines.path.clone(), Reader::Text(text), None)));
        }
        Ok(Next::Nothing)
    }

    /// Notes a bad record.
    fn bad(&mut self, at: String, why: String) -> Result<(), Error> {
        self.summary.bad_records += 1;
        let (count, most) = (self.summary.bad_records, self.settings.bad_records);
        if count > most {
            return Err(Error::input(
                format!("more than {most} bad records; this one is {at}: {why}"),
                "mend or leave out the file, choose another field with --field, or allow more \
                 with --bad-records",
            ));
        }
        if count <= BAD_NAMED {
            self.summary.bad.push(super::Skipped { path: at, reason: why });
        }
        Ok(())
    }

    /// Adds the next part of the open document to the chunk. Afterwards it is `current` if it goes on.
    fn append(&mut self, mut document: Document, chunk: &mut Chunk) -> Result<(), Error> {
        let base = chunk.bytes.len();
        let is_first = document.is_new();
        let offset = document.offset();
        if let Err(e) = document.read_into(&mut chunk.bytes) {
            let is_stream = matches!(document.reader, Reader::Stream(..));
            if is_first && !document.is_changed() && chunk.bytes.len() == base {
                chunk.bytes.truncate(base);
                if is_stream {
                    return self.bad(document.path.display().to_string(), broken(&e));
                }
                skip(&mut self.summary, &document.path, unreadable(&e));
                return Ok(());
            }
            if !is_stream || document.is_changed() {
                return Err(changed(&document.path, document.read, e));
            }
            // What was unpacked before stays.
            let at = format!("{}: after byte {}", document.path.display(), document.read);
            self.bad(at, broken(&e))?;
        }
        let bytes = &chunk.bytes[base..];
        if is_first && !document.is_record() && is_no_text(&mut self.summary, &document.path, bytes)
        {
            chunk.bytes.truncate(base);
            return Ok(());
        }
        let ends_document = document.ended;
        let taken = self.settings.cuts.cut(bytes, ends_document);
        document.carry.extend_from_slice(&bytes[taken..]);
        chunk.bytes.truncate(base + taken);
        if is_first {
            self.summary.documents += 1;
            if !document.is_record() && self.first.is_none() {
                self.names.push(&document.path);
            }
        }
        self.summary.bytes += taken as u64;
        let range = base..base + taken;
        let number = self.summary.documents - 1;
        // A file that grew since it was found may not fit what was left: it goes on in the next chunk.
        if taken > 0 {
            chunk.spans.push(Span { document: number, range, offset, ends_document, bits: 0.0 });
        }
        if ends_document {
            document.check().map_err(|e| changed(&document.path, document.read, e))?;
            if let Reader::Text(text) = document.reader {
                // Its room serves the next record.
                self.text = text;
            }
        } else {
            self.current = Some(document);
        }
        Ok(())
    }

    /// Goes on with the chunk that was begun.
    fn go_on(&mut self, chunk: &mut Chunk) -> Result<Filled, Error> {
        loop {
            let document = match self.current.take() {
                Some(document) => document,
                None => match self.next(chunk)? {
                    Next::Document(document) => document,
                    Next::Later => return Ok(Filled::Later),
                    Next::Records | Next::Waits | Next::Nothing => break,
                },
            };
            self.append(document, chunk)?;
            // Where nothing could be handed on yet, the document's first run goes on: more of it.
            let is_waiting = self.current.is_some() && !chunk.spans.is_empty();
            if is_waiting || chunk.bytes.len() >= CHUNK_BYTES {
                break;
            }
        }
        self.is_filling = false;
        self.chunks += u64::from(!chunk.spans.is_empty());
        Ok(if chunk.spans.is_empty() { Filled::Over } else { Filled::Full })
    }
}

impl Source for FileSource {
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, Error> {
        loop {
            match self.advance(chunk)? {
                Filled::Full => return Ok(true),
                Filled::Over => return Ok(false),
                Filled::Later => {}
            }
            let Some(mut batch) = self.plan() else {
                let what = "text was asked for whose files others still read";
                return Err(Error::input(what, "please report this"));
            };
            batch.read();
            self.accept(batch);
        }
    }

    fn advance(&mut self, chunk: &mut Chunk) -> Result<Filled, Error> {
        if !std::mem::replace(&mut self.is_filling, true) {
            chunk.reset(self.chunks);
            // Once, with the little that `read_to_end` wants to spare: the buffer never grows again.
            chunk.bytes.reserve_exact(CHUNK_BYTES + 64);
        }
        self.go_on(chunk).inspect_err(|_| self.is_filling = false)
    }

    fn read_ahead(&mut self, batches: usize) -> bool {
        self.queue.limit(batches);
        true
    }

    fn plan(&mut self) -> Option<Batch> {
        self.queue.plan(&mut self.walk)
    }

    fn accept(&mut self, batch: Batch) {
        self.queue.accept(batch);
    }

    fn summary(&self) -> Summary {
        match &self.first {
            None => self.summary.clone(),
            Some(first) => Summary { opened: first.opened + self.summary.opened, ..first.clone() },
        }
    }

    fn rewind(&mut self) -> Result<(), Error> {
        if self.stop.is_some() {
            return Err(Error::input(
                "standard input cannot be read again",
                "save it to a file and give that, or, for a run, raise --token-memory until its \
                 tokens fit",
            ));
        }
        let rewound = self.summary().rewound + 1;
        self.first = Some(Summary { rewound, ..self.summary() });
        self.summary = Summary::default();
        self.walk = Walk::new(self.paths.clone())?;
        (self.opened, self.current, self.lines, self.text_waits) = (None, None, None, false);
        self.queue.reset();
        self.is_filling = false;
        self.walk.gitignore(self.settings.gitignore);
        if let Some(seed) = self.settings.shuffle {
            self.walk.shuffled(seed);
        }
        match &self.settings.left_out {
            Some(folder) => self.walk.leave_out(folder),
            None => Ok(()),
        }
    }

    fn leave_out(&mut self, folder: &Path) -> Result<(), Error> {
        self.settings.left_out = Some(folder.to_path_buf());
        self.walk.leave_out(folder)
    }

    fn name(&self, document: u64) -> Option<String> {
        let (path, line) = self.names.get(document)?;
        let path = path.display();
        Some(line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}")))
    }

    fn interrupter(&self) -> Option<Interrupter> {
        self.stop.clone()
    }
}

#[cfg(test)]
mod tests;
