//! A document that is being read, in parts.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use super::super::CHUNK_BYTES;
use super::super::map::{Mapped, Stamp};
use super::MAP_BYTES;
use super::stream::Stream;

/// See the module.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) reader: Reader,
    /// What its file must remain; none for standard input and for a record.
    stamp: Option<Stamp>,
    /// Bytes read so far; the last of them, `carry`, are not handed out yet.
    pub(super) read: u64,
    pub(super) carry: Vec<u8>,
    /// All was read, or what there is of it.
    pub(super) ended: bool,
    is_new: bool,
}

/// Where the bytes come from.
#[derive(Debug)]
pub(super) enum Reader {
    Map(Mapped),
    Plain(File),
    /// Of unknown length; beside it the file, for its stamp.
    Stream(Box<Stream>, Option<File>),
    /// A record.
    Text(Vec<u8>),
}

impl Reader {
    pub(super) fn new(file: File, stamp: Stamp) -> Self {
        if stamp.size < MAP_BYTES {
            return Reader::Plain(file);
        }
        Mapped::new(file, stamp).map_or_else(Reader::Plain, Reader::Map)
    }
}

impl Document {
    pub(super) fn new(path: PathBuf, reader: Reader, stamp: Option<Stamp>) -> Self {
        let (read, carry, ended, is_new) = (0, Vec::new(), false, true);
        Document { path, reader, stamp, read, carry, ended, is_new }
    }

    /// Nothing was read of it yet.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    pub(super) fn is_record(&self) -> bool {
        matches!(self.reader, Reader::Text(_))
    }

    /// Its size where that is known, or 0.
    pub(super) fn size(&self) -> u64 {
        match &self.reader {
            Reader::Map(_) | Reader::Plain(_) => self.stamp.map_or(0, |stamp| stamp.size),
            Reader::Stream(..) | Reader::Text(_) => 0,
        }
    }

    /// Where what is handed out next begins.
    pub(super) fn offset(&self) -> u64 {
        self.read - self.carry.len() as u64
    }

    /// Fills `bytes` up to [`CHUNK_BYTES`], with what is carried over and then from the file; further
    /// where a long run is carried. A stream that breaks off has ended, and what came stays.
    pub(super) fn read_into(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.is_new = false;
        let is_long = self.carry.len() > CHUNK_BYTES / 2;
        bytes.append(&mut self.carry);
        let full = if is_long { bytes.len() + CHUNK_BYTES } else { CHUNK_BYTES };
        let (room, before) = ((full - bytes.len()) as u64, bytes.len());
        let size = match &self.reader {
            Reader::Stream(..) => u64::MAX,
            Reader::Text(text) => text.len() as u64,
            Reader::Map(_) | Reader::Plain(_) => self.size(),
        };
        let len = room.min(size - self.read) as usize;
        match &mut self.reader {
            Reader::Map(map) => map.copy(self.read as usize, len, bytes)?,
            Reader::Plain(file) => {
                let got = file.by_ref().take(len as u64).read_to_end(bytes)?;
                if got < len {
                    self.check()?;
                    return Err(io::Error::other("it ends before its size"));
                }
            }
            Reader::Stream(stream, _) => {
                let found = stream.read_to(bytes, full);
                self.read += (bytes.len() - before) as u64;
                self.ended = *found.as_ref().unwrap_or(&true);
                return found.map(|_| ());
            }
            Reader::Text(text) => bytes.extend_from_slice(&text[self.read as usize..][..len]),
        }
        self.read += len as u64;
        self.ended = self.read == size;
        Ok(())
    }

    /// An error if its file is no longer what it was.
    pub(super) fn check(&self) -> io::Result<()> {
        let Some(stamp) = &self.stamp else { return Ok(()) };
        match &self.reader {
            Reader::Map(map) => map.check(),
            Reader::Plain(file) | Reader::Stream(_, Some(file)) => stamp.check(file),
            Reader::Stream(_, None) | Reader::Text(_) => Ok(()),
        }
    }

    pub(super) fn is_changed(&self) -> bool {
        self.check().is_err()
    }
}
