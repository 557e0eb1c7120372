//! Text that is read from front to back: packed files, records, standard input.
//!
//! What is unpacked passes through buffers of fixed size, so a small file that unpacks to a huge text
//! costs time and no memory. A `.zst` file may ask for a window of [`WINDOW_BYTES`] and not more; what
//! it claims to hold is not believed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The largest window of a `.zst` file: what `zstd` itself takes unless it is told otherwise.
pub const WINDOW_BYTES: u64 = 128 << 20;

/// What is read at a time from a packed file.
const BUFFER_BYTES: usize = 64 << 10;

/// What a file's name says about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) packing: Packing,
    /// One record a line, or a row.
    pub(super) is_records: bool,
    pub(super) is_parquet: bool,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Kind {
    /// By the extensions: `.jsonl`, `.ndjson` and `.parquet`, and `.gz` and `.zst` after them or after any other.
    pub(super) fn of(path: &Path) -> Kind {
        // Plain bytes: every file is asked, and `Path` splits a path into all its parts for this.
        let path = path.as_os_str().as_bytes();
        let name = &path[memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1)..];
        let split = |name: &'_ [u8]| match memchr::memrchr(b'.', name) {
            None | Some(0) => (name.len(), name.len()),
            Some(dot) => (dot, dot + 1),
        };
        let is = |extension: &[u8], one: &str| extension.eq_ignore_ascii_case(one.as_bytes());
        let (stem, after) = split(name);
        let (packing, inner) = match &name[after..] {
            e if is(e, "gz") => (Packing::Gzip, &name[..stem]),
            e if is(e, "zst") => (Packing::Zstd, &name[..stem]),
            _ => (Packing::Plain, name),
        };
        let inner = &inner[split(inner).1..];
        let is_parquet = is(inner, "parquet");
        let is_records = is_parquet || is(inner, "jsonl") || is(inner, "ndjson");
        Kind { packing, is_records, is_parquet }
    }

    /// Text as it lies in the file.
    pub(super) const PLAIN: Kind =
        Kind { packing: Packing::Plain, is_records: false, is_parquet: false };
}

/// Reads through what packs it.
pub(super) enum Stream {
    Plain(BufReader<Box<dyn Read + Send>>),
    Gzip(Box<MultiGzDecoder<BufReader<Box<dyn Read + Send>>>>),
    Zstd(Box<Zstd>),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stream::Plain(_) => "Plain",
            Stream::Gzip(_) => "Gzip",
            Stream::Zstd(_) => "Zstd",
        })
    }
}

impl Stream {
    pub(super) fn new(file: Box<dyn Read + Send>, packing: Packing) -> Self {
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        match packing {
            Packing::Plain => Stream::Plain(file),
            Packing::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(file))),
            Packing::Zstd => Stream::Zstd(Box::new(Zstd::new(file))),
        }
    }

    /// Appends to `out` until it holds `full` bytes; `true` where the text has ended. What was read
    /// before an error stays in `out`.
    pub(super) fn read_to(&mut self, out: &mut Vec<u8>, full: usize) -> io::Result<bool> {
        let mut len = out.len();
        out.resize(full.max(len), 0);
        let ended = loop {
            if len >= full {
                break Ok(false);
            }
            match self.read(&mut out[len..]) {
                Ok(0) => break Ok(true),
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        out.truncate(len);
        ended
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(file) => file.read(buffer),
            Stream::Gzip(file) => file.read(buffer),
            Stream::Zstd(file) => file.read(buffer),
        }
    }
}

/// The frames of a `.zst` file, one after the other.
pub(super) struct Zstd {
    source: BufReader<Box<dyn Read + Send>>,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl Zstd {
    fn new(source: BufReader<Box<dyn Read + Send>>) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES);
        Zstd { source, decoder, in_frame: false }
    }

    /// Begins the next frame; `false` at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.source.by_ref().take(length.into());
                    if io::copy(&mut skipped, &mut io::sink())? < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(of_frame(e)),
            }
        }
        Ok(false)
    }

    fn end(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(invalid("the checksum is another"));
        }
        Ok(())
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What it comes from, where that is an end or the system; else in words for people.
fn of_frame(error: FrameDecoderError) -> io::Error {
    if let FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(_)) = error
    {
        return invalid("invalid zstd header");
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(found) = cause {
        if let Some(found) = found.downcast_ref::<io::Error>() {
            return io::Error::new(found.kind(), found.to_string());
        }
        cause = found.source();
    }
    invalid(error)
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.in_frame {
                if self.decoder.can_collect() > 0 {
                    return self.decoder.read(buffer);
                }
                if self.decoder.is_finished() {
                    self.end()?;
                } else {
                    let step = BlockDecodingStrategy::UptoBlocks(1);
                    self.decoder.decode_blocks(&mut self.source, step).map_err(of_frame)?;
                }
            } else if self.begin()? {
                self.in_frame = true;
            } else {
                return Ok(0);
            }
        }
    }
}

/// Whether a given path says standard input: `-`, or `-.` and what it holds.
pub(crate) fn is_stdin(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    name == b"-" || name.starts_with(b"-.")
}

/// Ends a wait for standard input from another thread: what is read then has ended.
///
/// ```
/// use twelvefold::corpus::files::FileSource;
/// use twelvefold::corpus::{Chunk, Source};
///
/// let mut source = FileSource::new(["-"])?;
/// source.interrupter().expect("it reads standard input").interrupt();
/// assert!(!source.fill(&mut Chunk::default())?, "although standard input may be silent");
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Interrupter(Arc<OwnedFd>);

impl Interrupter {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Interrupter(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// From any thread, any number of times.
    pub fn interrupt(&self) {
        // A counter that is full has been raised before.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// Standard input, without a buffer of its own: it waits for text and for an [`Interrupter`] at once.
pub(super) struct Stdin {
    file: File,
    stop: Interrupter,
}

impl Stdin {
    pub(super) fn new(stop: Interrupter) -> io::Result<Self> {
        let file = io::stdin().as_fd().try_clone_to_owned()?.into();
        Ok(Stdin { file, stop })
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut both =
            [PollFd::new(&self.stop.0, PollFlags::IN), PollFd::new(&self.file, PollFlags::IN)];
        poll(&mut both, None)?;
        if !both[0].revents().is_empty() {
            return Ok(0);
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_holds() {
        let [text, records] = [false, true];
        for (path, packing, is_records) in [
            ("a/b.txt", Packing::Plain, text),
            ("a.gz/b", Packing::Plain, text),
            ("a.jsonl/b.", Packing::Plain, text),
            ("/jsonl", Packing::Plain, text),
            (".jsonl", Packing::Plain, text),
            ("a/.gz", Packing::Plain, text),
            ("-.jsonl", Packing::Plain, records),
            ("a/b.JSONL", Packing::Plain, records),
            ("b.ndjson", Packing::Plain, records),
            ("b.gz.jsonl", Packing::Plain, records),
            ("a/b.txt.Gz", Packing::Gzip, text),
            ("b.jsonl.gz", Packing::Gzip, records),
            (".jsonl.zst", Packing::Zstd, text),
            ("b.zst", Packing::Zstd, text),
            ("b.c.ndjson.zst", Packing::Zstd, records),
        ] {
            assert_eq!(
                Kind::of(Path::new(path)),
                Kind { packing, is_records, is_parquet: false },
                "{path}"
            );
        }
        let rows = Kind { packing: Packing::Plain, is_records: true, is_parquet: true };
        assert_eq!(Kind::of(Path::new("a.b/c.Parquet")), rows);
        let packed = Kind { packing: Packing::Gzip, ..rows };
        assert_eq!(Kind::of(Path::new("a.parquet.gz")), packed);
    }
}
