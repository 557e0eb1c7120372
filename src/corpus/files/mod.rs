//! Opens each file once and cuts its bytes into chunks.
//!
//! Small files share a chunk; a file that does not fit goes on in the next, cut where its tokens stay
//! the same ([`Cuts`]). A file is opened when its first byte is needed, so the first chunk is
//! out before the last file is opened, and one file is open at a time. Files from
//! [`MAP_BYTES`] on are mapped, smaller ones read; either way a byte is handed out once.
//!
//! Not taken, each with its reason in the summary: what is empty, binary (a NUL in the first
//! [`PROBE_BYTES`]) or unreadable, and what [`walk`](super::walk) skips. A file that changes while it
//! is read is an error, which says where.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::map::{Mapped, Stamp};
use super::runs::Cuts;
use super::walk::{Found, Walk, kind, skip, unreadable};
use super::{CHUNK_BYTES, Chunk, Source, Span, Summary};
use crate::error::Error;

mod names;

use names::Names;

/// The size, in bytes, from which a file is mapped.
///
/// Copied out in chunks, from memory, with all the looks at the file, in GB/s of one core's time
/// (read / mapped): 8.5 / 4.5 at 64 KiB, 6.7 / 5.1 at 256 KiB, 6.8 / 5.5 at 1 MiB, 7.2 / 6.8 at 2 MiB
/// and the same from there on.
pub const MAP_BYTES: u64 = 2 * 1024 * 1024;

/// A NUL in this many first bytes makes a file binary.
pub const PROBE_BYTES: usize = 8 * 1024;

/// The text of files and folders.
///
/// ```
/// use twelvefold::corpus::{Chunk, Source, files::FileSource};
/// # let folder = tempfile::tempdir().unwrap();
/// std::fs::write(folder.path().join("a.txt"), "one two").unwrap();
/// std::fs::write(folder.path().join("b.bin"), "\0").unwrap();
/// let mut source = FileSource::new([folder.path()])?;
/// let mut chunk = Chunk::default();
/// assert!(source.fill(&mut chunk)?);
/// assert_eq!(chunk.bytes, b"one two");
/// assert!(!source.fill(&mut chunk)?);
/// assert_eq!(source.summary().skipped[0].reason, "binary: a NUL at byte 0");
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug)]
pub struct FileSource {
    paths: Vec<PathBuf>,
    left_out: Option<PathBuf>,
    /// Decides the order of the files, where they do not come in that of their paths.
    shuffle: Option<u64>,
    walk: Walk,
    /// Found, and waiting for a chunk with room for it.
    waiting: Option<Found>,
    current: Option<Document>,
    cuts: Cuts,
    chunks: u64,
    summary: Summary,
    /// What the first pass found, in the passes after it.
    first: Option<Summary>,
    names: Names,
}

impl FileSource {
    /// Will give the text of `paths` in this order; nothing is opened yet.
    ///
    /// # Errors
    /// A path does not exist or cannot be looked at.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        let walk = Walk::new(paths.clone())?;
        let (summary, names) = (Summary::default(), Names::default());
        let (waiting, current, left_out, first) = (None, None, None, None);
        let (shuffle, cuts, chunks) = (None, Cuts::OWN, 0);
        Ok(FileSource {
            paths,
            left_out,
            shuffle,
            walk,
            waiting,
            current,
            cuts,
            chunks,
            summary,
            first,
            names,
        })
    }

    /// Will cut large files as a tokenizer allows it ([`Tokenizer::cuts`]).
    ///
    /// [`Tokenizer::cuts`]: super::tokenizer::Tokenizer::cuts
    #[must_use]
    pub fn cutting(mut self, cuts: Cuts) -> Self {
        self.cuts = cuts;
        self
    }

    /// Gives the files in the order that `seed` decides, the same in every pass. All are looked at, and
    /// none is opened, before the first one is read.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self.walk.shuffled(seed);
        self
    }

    /// The next file that fits what is left of the chunk; one that does not must wait for the next.
    fn next_file(&mut self, chunk: &Chunk) -> Option<Found> {
        let found = self.waiting.take().or_else(|| self.walk.next(&mut self.summary))?;
        let room = CHUNK_BYTES - chunk.bytes.len();
        if !chunk.bytes.is_empty() && found.size > room as u64 {
            self.waiting = Some(found);
            return None;
        }
        Some(found)
    }

    /// Opens a file that was found, or notes why it is not taken.
    fn open(&mut self, found: Found) -> Result<Option<Document>, Error> {
        // A FIFO put in the file's place since it was looked at must not stop us.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&found.path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if is_shortage(&e) => return Err(Error::io("open", found.path, e)),
            Err(e) => {
                skip(&mut self.summary, &found.path, unreadable(&e));
                return Ok(None);
            }
        };
        self.summary.opened += 1;
        let metadata = file.metadata().map_err(|e| Error::io("look at", &found.path, e))?;
        if !metadata.is_file() {
            skip(&mut self.summary, &found.path, kind(metadata.file_type()).into());
            return Ok(None);
        }
        let stamp = Stamp::of(&metadata);
        if stamp.size == 0 {
            skip(&mut self.summary, &found.path, "empty".into());
            return Ok(None);
        }
        let reader = Reader::new(file, stamp);
        Ok(Some(Document { path: found.path, reader, stamp, read: 0, carry: Vec::new() }))
    }

    /// Adds the next part of the open document to the chunk. Afterwards it is `current` if it goes on.
    fn append(&mut self, mut document: Document, chunk: &mut Chunk) -> Result<(), Error> {
        let base = chunk.bytes.len();
        let is_first = document.read == 0;
        let offset = document.read - document.carry.len() as u64;
        if let Err(e) = document.read_into(&mut chunk.bytes) {
            if is_first && !document.is_changed() {
                chunk.bytes.truncate(base);
                skip(&mut self.summary, &document.path, unreadable(&e));
                return Ok(());
            }
            return Err(document.changed(e));
        }
        let bytes = &chunk.bytes[base..];
        let probe = &bytes[..bytes.len().min(PROBE_BYTES)];
        if is_first && let Some(at) = probe.iter().position(|&b| b == 0) {
            chunk.bytes.truncate(base);
            skip(&mut self.summary, &document.path, format!("binary: a NUL at byte {at}"));
            return Ok(());
        }
        let ends_document = document.read == document.stamp.size;
        let taken = self.cuts.cut(bytes, ends_document);
        document.carry.extend_from_slice(&bytes[taken..]);
        chunk.bytes.truncate(base + taken);
        if is_first {
            self.summary.documents += 1;
            if self.first.is_none() {
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
            document.reader.check(&document.stamp).map_err(|e| document.changed(e))?;
        } else {
            self.current = Some(document);
        }
        Ok(())
    }
}

impl Source for FileSource {
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, Error> {
        chunk.reset(self.chunks);
        // Once, with the little that `read_to_end` wants to spare: the buffer never grows again.
        chunk.bytes.reserve_exact(CHUNK_BYTES + 64);
        loop {
            let document = match self.current.take() {
                Some(document) => Some(document),
                None => match self.next_file(chunk) {
                    Some(found) => self.open(found)?,
                    None => break,
                },
            };
            if let Some(document) = document {
                self.append(document, chunk)?;
            }
            // Where nothing could be handed on yet, the document's first run goes on: more of it.
            let is_waiting = self.current.is_some() && !chunk.spans.is_empty();
            if is_waiting || chunk.bytes.len() >= CHUNK_BYTES {
                break;
            }
        }
        self.chunks += u64::from(!chunk.spans.is_empty());
        Ok(!chunk.spans.is_empty())
    }

    fn summary(&self) -> Summary {
        match &self.first {
            None => self.summary.clone(),
            Some(first) => Summary { opened: first.opened + self.summary.opened, ..first.clone() },
        }
    }

    fn rewind(&mut self) -> Result<(), Error> {
        let rewound = self.summary().rewound + 1;
        self.first = Some(Summary { rewound, ..self.summary() });
        self.summary = Summary::default();
        self.walk = Walk::new(self.paths.clone())?;
        (self.waiting, self.current) = (None, None);
        if let Some(seed) = self.shuffle {
            self.walk.shuffled(seed);
        }
        match self.left_out.clone() {
            Some(folder) => self.walk.leave_out(&folder),
            None => Ok(()),
        }
    }

    fn leave_out(&mut self, folder: &Path) -> Result<(), Error> {
        self.left_out = Some(folder.to_path_buf());
        self.walk.leave_out(folder)
    }

    fn name(&self, document: u64) -> Option<String> {
        self.names.get(document).map(|path| path.display().to_string())
    }
}

/// Whether the system has run out of something, so that every other file would fail too.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// A file that is being read.
#[derive(Debug)]
struct Document {
    path: PathBuf,
    reader: Reader,
    stamp: Stamp,
    /// Bytes read so far; the last of them, `carry`, are not handed out yet.
    read: u64,
    carry: Vec<u8>,
}

impl Document {
    /// Fills `bytes` up to [`CHUNK_BYTES`], with what is carried over and then from the file; further
    /// where a long run is carried.
    fn read_into(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let is_long = self.carry.len() > CHUNK_BYTES / 2;
        bytes.append(&mut self.carry);
        let full = if is_long { bytes.len() + CHUNK_BYTES } else { CHUNK_BYTES };
        let room = (full - bytes.len()) as u64;
        let len = room.min(self.stamp.size - self.read) as usize;
        match &mut self.reader {
            Reader::Map(map) => map.copy(self.read as usize, len, bytes)?,
            Reader::Plain(file) => {
                let got = file.by_ref().take(len as u64).read_to_end(bytes)?;
                if got < len {
                    self.stamp.check(file)?;
                    return Err(io::Error::other("it ends before its size"));
                }
            }
        }
        self.read += len as u64;
        Ok(())
    }

    fn is_changed(&self) -> bool {
        self.reader.check(&self.stamp).is_err()
    }

    fn changed(&self, source: io::Error) -> Error {
        let at = self.read;
        let hint = format!("it failed at byte {at}; let nothing write to the corpus during a run");
        Error::Io { doing: "go on reading", path: self.path.clone(), source, hint }
    }
}

#[derive(Debug)]
enum Reader {
    Map(Mapped),
    Plain(File),
}

impl Reader {
    fn new(file: File, stamp: Stamp) -> Self {
        if stamp.size < MAP_BYTES {
            return Reader::Plain(file);
        }
        Mapped::new(file, stamp).map_or_else(Reader::Plain, Reader::Map)
    }

    fn check(&self, stamp: &Stamp) -> io::Result<()> {
        match self {
            Reader::Map(map) => map.check(),
            Reader::Plain(file) => stamp.check(file),
        }
    }
}

#[cfg(test)]
mod tests;
