//! Takes the files one after the other as they were found, and judges what came of reading them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::super::map::Stamp;
use super::super::walk::{skip, unreadable};
use super::super::{CHUNK_BYTES, Chunk, Span, Summary};
use super::ahead::{Got, Turn, look};
use super::document::{Document, Reader};
use super::records::{JsonLines, Lines, Records};
use super::stream::{Kind, Packing, Stdin, Stream};
use super::{FileSource, Interrupter, Next, PROBE_BYTES};
use crate::error::Error;

impl FileSource {
    /// The next document that is not in a chunk yet. Files that were read ahead go into the chunk at once.
    pub(super) fn next_file(&mut self, chunk: &mut Chunk) -> Result<Next, Error> {
        loop {
            let room = CHUNK_BYTES.saturating_sub(chunk.bytes.len()) as u64;
            let fits = |size: u64| chunk.bytes.is_empty() || size <= room;
            if let Some(document) = self.opened.take() {
                if fits(document.size()) {
                    return Ok(Next::Document(document));
                }
                self.opened = Some(document);
                return Ok(Next::Waits);
            }
            match self.queue.turn(&mut self.summary) {
                Turn::Entry => {}
                Turn::Later => return Ok(Next::Later),
                Turn::Over => return Ok(Next::Nothing),
            }
            let (path, entry, _) = self.queue.entry();
            let (kind, is_stdin) = (entry.kind, entry.is_stdin);
            if let Got::Read(place, _) = &entry.got {
                if !fits(place.len() as u64) {
                    return Ok(Next::Waits);
                }
                self.take_read(chunk)?;
                if chunk.bytes.len() >= CHUNK_BYTES {
                    return Ok(Next::Waits);
                }
                continue;
            }
            // What is packed has no size yet; it needs room to be looked at.
            let is_packed = kind != Kind::PLAIN;
            if is_stdin && !is_packed && !fits(u64::MAX)
                || is_packed && !fits(CHUNK_BYTES as u64 / 4)
            {
                return Ok(Next::Waits);
            }
            let (path, got) = (path.to_path_buf(), std::mem::replace(&mut entry.got, Got::Later));
            self.queue.pass(None);
            self.opened = match is_stdin {
                true => self.open_stdin(path, kind)?,
                false => self.open(path, kind, got)?,
            };
            if self.lines.is_some() {
                return Ok(Next::Records);
            }
        }
    }

    /// Puts a file that was read ahead into the chunk, which has room for it.
    fn take_read(&mut self, chunk: &mut Chunk) -> Result<(), Error> {
        let (path, entry, bytes) = self.queue.entry();
        let Got::Read(place, changed_since) = &mut entry.got else { return Ok(()) };
        let (bytes, changed_since) = (&bytes[place.clone()], changed_since.take());
        self.summary.opened += 1;
        if !is_no_text(&mut self.summary, path, bytes) {
            let (start, len) = (chunk.bytes.len(), bytes.len());
            chunk.bytes.extend_from_slice(bytes);
            if self.first.is_none() {
                self.names.push(path);
            }
            let document = self.summary.documents;
            self.summary.documents += 1;
            self.summary.bytes += len as u64;
            let (range, offset) = (start..start + len, 0);
            chunk.spans.push(Span { document, range, offset, ends_document: true, bits: 0.0 });
            if let Some(e) = changed_since {
                return Err(changed(path, len as u64, e));
            }
        }
        let size = place.len() as u64;
        self.queue.pass(Some(size));
        Ok(())
    }

    fn open_stdin(&mut self, path: PathBuf, kind: Kind) -> Result<Option<Document>, Error> {
        let stop = self.stop.clone().map_or_else(Interrupter::new, Ok);
        let stdin = stop.and_then(Stdin::new);
        let stdin = stdin.map_err(|e| Error::io("read", "standard input", e))?;
        self.summary.opened += 1;
        let stream = Stream::new(Box::new(stdin), kind.packing);
        Ok(self.begin(path, kind, stream, None))
    }

    /// Opens a file that was not read ahead, or notes why it is not taken. The records of a file are
    /// opened, too, and give no document yet.
    fn open(&mut self, path: PathBuf, kind: Kind, got: Got) -> Result<Option<Document>, Error> {
        let got = match got {
            Got::Ahead | Got::Later => look(CWD, &path),
            got => got,
        };
        self.summary.opened += u64::from(!matches!(got, Got::Closed(_)));
        let (file, stamp) = match got {
            Got::Open(file, stamp) if stamp.size > 0 => (file, stamp),
            Got::Closed(e) if is_shortage(&e) => return Err(Error::io("open", &path, e)),
            Got::Unseen(e) => return Err(Error::io("look at", &path, e)),
            Got::Changed(e) => return Err(changed(&path, 0, e)),
            Got::Closed(e) | Got::Unreadable(e) => return self.pass_over(&path, unreadable(&e)),
            Got::NoFile(what) => return self.pass_over(&path, what.into()),
            Got::Open(..) | Got::Read(..) | Got::Ahead | Got::Later => {
                return self.pass_over(&path, "empty".into());
            }
        };
        if kind == Kind::PLAIN {
            return Ok(Some(Document::new(path, Reader::new(file, stamp), Some(stamp))));
        }
        let again = file.try_clone().map_err(|e| Error::io("open", &path, e))?;
        if kind.is_parquet && kind.packing == Packing::Plain {
            return Ok(self.begin_rows(path, file, (again, stamp)));
        }
        let stream = Stream::new(Box::new(file), kind.packing);
        Ok(self.begin(path, kind, stream, Some((again, stamp))))
    }

    fn pass_over(&mut self, path: &Path, why: String) -> Result<Option<Document>, Error> {
        skip(&mut self.summary, path, why);
        Ok(None)
    }

    fn begin(
        &mut self,
        path: PathBuf,
        kind: Kind,
        stream: Stream,
        file: Option<(File, Stamp)>,
    ) -> Option<Document> {
        if kind.is_records {
            let records = match kind.is_parquet {
                true => Records::Refused(Some(
                    "a Parquet file must lie as it is, unpacked and in a file",
                )),
                false => Records::Lines(JsonLines::new(stream, self.settings.field.clone())),
            };
            self.lines = Some(Lines { path, records, is_named: false, file });
            return None;
        }
        let stamp = file.as_ref().map(|(_, stamp)| *stamp);
        let file = file.map(|(file, _)| file);
        Some(Document::new(path, Reader::Stream(Box::new(stream), file), stamp))
    }

    #[cfg(feature = "parquet")]
    fn begin_rows(&mut self, path: PathBuf, file: File, again: (File, Stamp)) -> Option<Document> {
        let rows = super::parquet::Rows::new(file, &self.settings.field);
        let records = Records::Rows(Box::new(rows));
        self.lines = Some(Lines { path, records, is_named: false, file: Some(again) });
        None
    }

    #[cfg(not(feature = "parquet"))]
    fn begin_rows(&mut self, path: PathBuf, _: File, _: (File, Stamp)) -> Option<Document> {
        skip(&mut self.summary, &path, "Parquet is read by a build with --features parquet".into());
        None
    }
}

/// Whether a file whose first bytes these are is not taken; it then is noted.
pub(super) fn is_no_text(summary: &mut Summary, path: &Path, bytes: &[u8]) -> bool {
    let probe = &bytes[..bytes.len().min(PROBE_BYTES)];
    let reason = match memchr::memchr(0, probe) {
        Some(at) => format!("binary: a NUL at byte {at}"),
        None if bytes.is_empty() => "empty".to_owned(),
        None => return false,
    };
    skip(summary, path, reason);
    true
}

/// Whether the system has run out of something, so that every other file would fail too.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

pub(super) fn changed(path: &Path, at: u64, source: io::Error) -> Error {
    let hint = format!("it failed at byte {at}; let nothing write to the corpus during a run");
    Error::Io { doing: "go on reading", path: path.to_path_buf(), source, hint }
}
