//! Files that are found together and read together, by whichever thread.
//!
//! A [`Batch`] lists files in the order of the corpus. [`Batch::read`] opens the plain ones among them,
//! looks at each, reads it into one buffer, looks again, and notes what it saw. It judges nothing: what
//! a file's content means, and what is an error, is the source's to say when it takes the files one after
//! the other, so it does not matter who read them and when. What does not fit the buffer stays open, and
//! what follows it is left to the source, as are packed files, records and standard input.
//!
//! A file that is not in memory is asked for and the next one opened meanwhile; so many files are on
//! their way from the disk at once, without a thread for each.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Advice, CWD, FileType, Mode, OFlags, fadvise, fstat, open, openat};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use rustix::path::Arg;

use super::super::map::Stamp;
use super::super::walk::{Found, Walk};
use super::super::{CHUNK_BYTES, Summary};
use super::stream::Kind;
use super::take::is_shortage;

/// What one batch reads at most.
const BATCH_BYTES: usize = CHUNK_BYTES;

/// The most files in a batch.
const BATCH_FILES: u64 = 64;

/// Files found one after the other. The buffers are owned, and reused.
///
/// ```
/// use twelvefold::corpus::files::FileSource;
/// use twelvefold::corpus::{Chunk, Filled, Source};
/// # let folder = tempfile::tempdir().unwrap();
/// std::fs::write(folder.path().join("a.txt"), "one").unwrap();
/// let mut source = FileSource::new([folder.path()])?;
/// source.read_ahead(4);
/// let mut batch = source.plan().expect("there is a file");
/// let mut chunk = Chunk::default();
/// assert_eq!(source.advance(&mut chunk)?, Filled::Later);
/// // On any thread:
/// batch.read();
/// source.accept(batch);
/// assert_eq!(source.advance(&mut chunk)?, Filled::Full);
/// assert_eq!(chunk.bytes, b"one");
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    /// Whose it is, in a mixture.
    pub(in super::super) part: usize,
    /// Its place among the batches of its source.
    number: u64,
    /// The paths, each with a NUL behind it.
    paths: Vec<u8>,
    entries: Vec<Entry>,
    /// What the walk said up to each entry, and after the last one.
    notes: Summary,
    bytes: Vec<u8>,
    /// Files that are on their way from the disk.
    pending: Vec<Pending>,
    /// The file system knows no reads that do not wait.
    waits: bool,
    /// The entry that is taken next, and how many of the paths skipped were told.
    next: usize,
    said: usize,
}

/// A file of a batch.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) is_stdin: bool,
    pub(super) kind: Kind,
    /// Its place in the batch's paths, without the NUL.
    path: Range<usize>,
    /// Of that, where the last part begins.
    name: usize,
    /// Files found and paths skipped, up to this one.
    files: u64,
    skipped: usize,
    pub(super) got: Got,
}

impl Entry {
    /// Its folder's place in the batch's paths, with the slash behind it.
    fn folder(&self) -> Range<usize> {
        self.path.start..self.name
    }
}

/// A folder that is held open, and its place in the batch's paths.
#[derive(Debug)]
struct Folder {
    path: Range<usize>,
    fd: OwnedFd,
}

/// What came of reading a file.
#[derive(Debug)]
pub(super) enum Got {
    /// To be read with the batch.
    Ahead,
    /// To be opened by the source.
    Later,
    /// It could not be opened.
    Closed(io::Error),
    /// It could not be looked at.
    Unseen(io::Error),
    /// It is none any more, but this.
    NoFile(&'static str),
    /// It is open, and too large to be read with the others.
    Open(File, Stamp),
    /// Its place in the bytes; and what was wrong with it after the last one was read.
    Read(Range<usize>, Option<io::Error>),
    /// Nothing of it could be read, and it is as it was.
    Unreadable(io::Error),
    /// It changed before all of it was read.
    Changed(io::Error),
}

/// A file that is open and not read to its end.
#[derive(Debug)]
struct Pending {
    entry: usize,
    file: File,
    stamp: Stamp,
    start: usize,
    got: usize,
}

impl Batch {
    fn clear(&mut self) {
        (self.next, self.said) = (0, 0);
        self.paths.clear();
        self.entries.clear();
        self.notes.files = 0;
        self.notes.skipped.clear();
    }

    /// Adds a file.
    fn push(&mut self, found: Found, walk: &Walk) {
        let start = self.paths.len();
        walk.append_path(&found, &mut self.paths);
        let path = start..self.paths.len();
        let name = memchr::memrchr(b'/', &self.paths[path.clone()]);
        let name = name.map_or(start, |slash| start + slash + 1);
        self.paths.push(0);
        let kind = Kind::of(Path::new(OsStr::from_bytes(&self.paths[path.clone()])));
        let is_plain = kind == Kind::PLAIN && !found.is_stdin;
        let got = if is_plain { Got::Ahead } else { Got::Later };
        let (files, skipped) = (self.notes.files, self.notes.skipped.len());
        let is_stdin = found.is_stdin;
        self.entries.push(Entry { is_stdin, kind, path, name, files, skipped, got });
    }

    /// Reads what is to be read, before the batch goes back to its source. A second call does nothing.
    pub fn read(&mut self) {
        self.read_after(|| ());
    }

    /// [`Self::read`] with a hook between the look at each file and its reading, for tests.
    pub(super) fn read_after(&mut self, before_read: impl Fn()) {
        let (mut used, mut folder) = (0, None);
        for at in 0..self.entries.len() {
            if !matches!(self.entries[at].got, Got::Ahead) {
                continue;
            }
            folder = self.folder(at, folder);
            let (file, stamp) = match self.open(at, folder.as_ref()) {
                Got::Open(file, stamp) => (file, stamp),
                got => {
                    self.entries[at].got = got;
                    continue;
                }
            };
            let Some(size) = usize::try_from(stamp.size).ok().filter(|s| used + s <= BATCH_BYTES)
            else {
                self.entries[at].got = Got::Open(file, stamp);
                self.leave(at + 1);
                break;
            };
            let pending = Pending { entry: at, file, stamp, start: used, got: 0 };
            used += size;
            self.bytes.resize(BATCH_BYTES, 0);
            before_read();
            self.read_now(pending);
        }
        self.read_pending();
    }

    /// What is still to be read from this entry on is left to the source.
    fn leave(&mut self, from: usize) {
        let rest = self.entries[from..].iter_mut();
        let rest = rest.filter(|entry| matches!(entry.got, Got::Ahead));
        rest.for_each(|entry| entry.got = Got::Later);
    }

    /// Holds the folder of a file open where the next file is in it too: the system then need not go
    /// through the whole path for each. None where it cannot be held: then it goes.
    fn folder(&self, at: usize, held: Option<Folder>) -> Option<Folder> {
        let part = |at: usize| Some(&self.paths[self.entries.get(at)?.folder()]);
        let (this, next) = (part(at)?, part(at + 1));
        if held.as_ref().is_some_and(|held| self.paths[held.path.clone()] == *this) {
            return held;
        }
        if this.is_empty() || next != Some(this) {
            return None;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(this, flags, Mode::empty()).ok()?;
        Some(Folder { path: self.entries[at].folder(), fd })
    }

    /// Opens a file and looks at it.
    fn open(&mut self, at: usize, folder: Option<&Folder>) -> Got {
        loop {
            let Range { start, end } = self.entries[at].path;
            let start = folder.map_or(start, |folder| start + folder.path.len());
            let from = folder.map_or(CWD, |folder| folder.fd.as_fd());
            let path = CStr::from_bytes_with_nul(&self.paths[start..=end]);
            let got =
                path.map_or_else(|e| Got::Closed(io::Error::other(e)), |path| look(from, path));
            let is_shortage = matches!(&got, Got::Closed(e) if is_shortage(e));
            if !is_shortage || self.pending.is_empty() {
                return got;
            }
            // Perhaps it is we who hold so many.
            self.read_pending();
        }
    }

    /// Reads a file that is in memory; asks for one that is not.
    fn read_now(&mut self, mut pending: Pending) {
        let size = pending.stamp.size as usize;
        if !self.waits && size > 0 {
            let mut slice = [IoSliceMut::new(&mut self.bytes[pending.start..][..size])];
            match preadv2(&pending.file, &mut slice, 0, ReadWriteFlags::NOWAIT) {
                Ok(got) => pending.got = got,
                Err(Errno::AGAIN) => {}
                Err(_) => self.waits = true,
            }
        }
        if pending.got == size || self.waits {
            return self.end(pending);
        }
        // Only advice: where it is not taken, the read waits.
        let _ = fadvise(&pending.file, 0, None, Advice::WillNeed);
        self.pending.push(pending);
    }

    fn read_pending(&mut self) {
        let mut all = std::mem::take(&mut self.pending);
        all.drain(..).for_each(|pending| self.end(pending));
        self.pending = all;
    }

    /// Reads a file to its end and looks at it again.
    fn end(&mut self, pending: Pending) {
        let Pending { entry, file, stamp, start, mut got } = pending;
        let place = start..start + stamp.size as usize;
        let failed = loop {
            if got == place.len() {
                break None;
            }
            match pread(&file, &mut self.bytes[start + got..place.end], got as u64) {
                Ok(0) => break Some(io::Error::other("it ends before its size")),
                Ok(more) => got += more,
                Err(Errno::INTR) => {}
                Err(e) => break Some(e.into()),
            }
        };
        let as_it_was = stamp.check(&file);
        self.entries[entry].got = match (failed, as_it_was) {
            (None, as_it_was) => Got::Read(place, as_it_was.err()),
            (Some(error), Ok(())) if got == 0 => Got::Unreadable(error),
            // It was cut off; else what the system says comes first.
            (Some(error), Err(change)) if error.raw_os_error().is_none() => Got::Changed(change),
            (Some(error), _) => Got::Changed(error),
        };
    }
}

/// Opens a file, by its path from a folder, and looks at it.
pub(super) fn look(folder: BorrowedFd<'_>, path: impl Arg + Copy) -> Got {
    // A FIFO put in the file's place since it was found must not stop us.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = loop {
        match openat(folder, path, flags, Mode::empty()) {
            Ok(file) => break File::from(file),
            Err(Errno::INTR) => {}
            Err(e) => return Got::Closed(e.into()),
        }
    };
    let seen = match fstat(&file) {
        Ok(seen) => seen,
        Err(e) => return Got::Unseen(e.into()),
    };
    match FileType::from_raw_mode(seen.st_mode) {
        FileType::RegularFile => Got::Open(file, Stamp::of(&seen)),
        FileType::Fifo => Got::NoFile("a FIFO, not a regular file"),
        FileType::Socket => Got::NoFile("a socket, not a regular file"),
        _ => Got::NoFile("a device, not a regular file"),
    }
}

/// The batches of a source, from the walk to the place where its files are taken, in order.
#[derive(Debug)]
pub(super) struct Queue {
    /// Read, and waiting for their turn.
    ready: VecDeque<Batch>,
    /// The one whose files are being taken.
    current: Option<Batch>,
    spare: Vec<Batch>,
    /// Batches that went out to be read, and that came back.
    planned: u64,
    accepted: u64,
    /// How many there may be, here and there.
    limit: usize,
    /// The walk has ended.
    is_over: bool,
    /// The size of a plain file, as the last ones were.
    typical: u64,
    /// Of the current batch's notes, the files that were counted.
    counted: u64,
}

/// What a queue has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// [`Queue::entry`] is the next file.
    Entry,
    /// It is still to be planned, or to be read.
    Later,
    Over,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            ready: VecDeque::new(),
            current: None,
            spare: Vec::new(),
            planned: 0,
            accepted: 0,
            limit: 1,
            is_over: false,
            typical: BATCH_BYTES as u64 / BATCH_FILES,
            counted: 0,
        }
    }
}

impl Queue {
    /// Will have so many batches at once.
    pub(super) fn limit(&mut self, batches: usize) {
        self.limit = batches.max(1);
    }

    /// Begins again; whatever is out has come back.
    pub(super) fn reset(&mut self) {
        self.spare.extend(self.current.take().into_iter().chain(self.ready.drain(..)));
        (self.is_over, self.counted, self.accepted) = (false, 0, self.planned);
    }

    /// The files that come next, to be read by whoever may.
    pub(super) fn plan(&mut self, walk: &mut Walk) -> Option<Batch> {
        let there = self.out() + self.ready.len() + usize::from(self.current.is_some());
        if self.is_over || there >= self.limit {
            return None;
        }
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.clear();
        let files = (BATCH_BYTES as u64 / self.typical.max(1)).clamp(1, BATCH_FILES);
        for _ in 0..files {
            let Some(found) = walk.next(&mut batch.notes) else {
                self.is_over = true;
                break;
            };
            batch.push(found, walk);
        }
        batch.number = self.planned;
        self.planned += 1;
        Some(batch)
    }

    /// Batches that somebody reads.
    fn out(&self) -> usize {
        (self.planned - self.accepted) as usize
    }

    /// # Panics
    /// It is not the batch that was planned after the last one that came back.
    pub(super) fn accept(&mut self, batch: Batch) {
        assert_eq!(batch.number, self.accepted, "batches come back in the order of the plan");
        self.accepted += 1;
        self.ready.push_back(batch);
    }

    /// What comes next. What the walk said before it is noted.
    pub(super) fn turn(&mut self, summary: &mut Summary) -> Turn {
        loop {
            if let Some(batch) = &mut self.current {
                let entry = batch.entries.get(batch.next);
                let (files, skipped) = entry
                    .map_or((batch.notes.files, usize::MAX), |entry| (entry.files, entry.skipped));
                summary.files += files - self.counted;
                self.counted = files;
                let new = batch.said..skipped.min(batch.notes.skipped.len());
                batch.said = new.end;
                summary.skipped.extend(batch.notes.skipped[new].iter_mut().map(std::mem::take));
                if entry.is_some() {
                    return Turn::Entry;
                }
                self.counted = 0;
                self.spare.extend(self.current.take());
            }
            self.current = self.ready.pop_front();
            if self.current.is_some() {
                continue;
            }
            return if self.is_over && self.out() == 0 { Turn::Over } else { Turn::Later };
        }
    }

    /// The file whose turn it is: its path, what came of reading it, and the bytes of all that were read.
    ///
    /// # Panics
    /// It is nobody's turn.
    pub(super) fn entry(&mut self) -> (&Path, &mut Entry, &[u8]) {
        let batch = self.current.as_mut().expect("a turn");
        let entry = &mut batch.entries[batch.next];
        let path = OsStr::from_bytes(&batch.paths[entry.path.clone()]);
        (Path::new(path), entry, &batch.bytes)
    }

    /// Passes to the next file; `size` is that of a plain one.
    pub(super) fn pass(&mut self, size: Option<u64>) {
        if let Some(size) = size {
            self.typical = (7 * self.typical).saturating_add(size) / 8;
        }
        if let Some(batch) = &mut self.current {
            batch.next += 1;
        }
    }
}
