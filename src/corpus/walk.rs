//! Finds the files below the given paths, in a fixed order, lazily.
//!
//! Paths come in the order given; below a folder, files come in the bytewise order of their whole
//! path, whatever order the system lists them in. A folder is listed when it is reached. A regular file
//! is told by that listing; all else is looked at, never opened, when its turn comes. Where a seed is
//! given ([`Walk::shuffled`]), all is found when the first file is asked for, and files come in the order
//! that the seed decides.
//!
//! Links are followed. A folder is entered once and a file is given once, told by device and inode,
//! so that a loop of links ends and nothing is trained on twice. Hidden names are skipped below a
//! given path; a path that was given is taken whatever its name. What is skipped is said.
//!
//! A listed file counts as that of its folder's device and the listing's inode, where the folder's
//! first one is. What that takes for a file seen before is looked at, so that nothing is left out by
//! mistake; a single file that is mounted over another may come twice.

use std::ffi::OsStr;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::vec;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustc_hash::FxHashMap;
use rustix::fs::{FileType as Listed, Mode, OFlags, RawDir, open};

use super::files::is_stdin;
use super::order::Permutation;
use super::paths::Paths;
use super::{Skipped, Summary};
use crate::error::Error;

/// Device and inode: what makes two paths the same file.
pub(super) type FileId = (u64, u64);

/// A regular file that was found and not opened yet.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Its number: what [`Walk::path`] knows it by.
    pub number: usize,
    /// No file: standard input.
    pub is_stdin: bool,
}

/// An iterator in the manner of [`Iterator`], which notes what it skips.
#[derive(Debug)]
pub struct Walk {
    given: vec::IntoIter<PathBuf>,
    /// The folders that are being walked, outermost first.
    open: Vec<Folder>,
    /// What was seen, and its number.
    seen: FxHashMap<FileId, usize>,
    /// The files found, and the folders entered.
    paths: Paths,
    /// The folder that is not entered.
    left_out: Option<FileId>,
    shuffle: Option<Shuffle>,
    /// The rules of `.gitignore` files, where they are respected.
    ignore: Option<Ignore>,
}

/// All files, once they were looked at, and the next place in the order of the seed.
#[derive(Debug)]
struct Shuffle {
    seed: u64,
    found: Option<Vec<Found>>,
    place: u64,
}

#[derive(Debug)]
struct Folder {
    id: FileId,
    path: PathBuf,
    names: Listing,
}

/// The names in a folder.
#[derive(Debug, Default)]
struct Listing {
    /// All names, each with the slash that makes it a folder's.
    text: Vec<u8>,
    names: Vec<Name>,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    /// The place in `text`; without the slash.
    start: usize,
    len: usize,
    is_folder: bool,
    /// The inode, where the listing says that this is a regular file.
    file: Option<u64>,
}

/// What comes next, still to be judged.
enum Next {
    /// To be looked at.
    Path(PathBuf),
    /// A regular file of the folder that is being walked, with its inode.
    File(Name, u64),
}

impl Walk {
    /// Will walk `paths` in this order.
    ///
    /// # Errors
    /// One of them does not exist or cannot be looked at.
    pub fn new(paths: Vec<PathBuf>) -> Result<Self, Error> {
        for path in paths.iter().filter(|path| !is_stdin(path)) {
            fs::metadata(path).map_err(|source| Error::Io {
                doing: "find",
                path: path.clone(),
                source,
                hint: "give files or folders that exist and that you may read".into(),
            })?;
        }
        Ok(Walk {
            given: paths.into_iter(),
            open: Vec::new(),
            seen: FxHashMap::default(),
            paths: Paths::default(),
            left_out: None,
            shuffle: None,
            ignore: None,
        })
    }

    /// Will give the files in the order that `seed` decides.
    pub fn shuffled(&mut self, seed: u64) {
        self.shuffle = Some(Shuffle { seed, found: None, place: 0 });
    }

    /// Leaves out what `.gitignore` files name, or takes it.
    pub fn gitignore(&mut self, respected: bool) {
        self.ignore = respected.then(Ignore::default);
    }

    /// Will not enter `folder`, which holds the outputs of this run.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn leave_out(&mut self, folder: &Path) -> Result<(), Error> {
        let metadata = fs::metadata(folder).map_err(|e| Error::io("look at", folder, e))?;
        self.left_out = Some((metadata.dev(), metadata.ino()));
        Ok(())
    }

    /// The next file, or `None` when there is no more. Counts and notes what it sees in `summary`.
    pub fn next(&mut self, summary: &mut Summary) -> Option<Found> {
        let Some(Shuffle { seed, found, place }) = self.shuffle.take() else {
            return self.walk(summary);
        };
        let found = found
            .unwrap_or_else(|| std::iter::from_fn(|| self.walk(summary)).collect::<Vec<Found>>());
        let count = found.len() as u64;
        let next = (place < count).then(|| found[Permutation::new(count, seed).at(place) as usize]);
        self.shuffle = Some(Shuffle { seed, found: Some(found), place: place + 1 });
        next
    }

    /// Where a file is.
    ///
    /// # Panics
    /// It was found by another walk.
    pub fn path(&self, found: &Found) -> PathBuf {
        self.paths.get(found.number).expect("a file of this walk")
    }

    /// Appends the bytes of [`Self::path`].
    pub(super) fn append_path(&self, found: &Found, out: &mut Vec<u8>) {
        self.paths.append(found.number, out);
    }

    /// The next file in the order of the paths.
    fn walk(&mut self, summary: &mut Summary) -> Option<Found> {
        loop {
            let path = match self.next_path(summary)? {
                Next::Path(path) => path,
                Next::File(name, inode) => match self.take_listed(name, inode, summary) {
                    Some(found) => return Some(found),
                    None => continue,
                },
            };
            if self.open.is_empty() && is_stdin(&path) {
                summary.files += 1;
                return Some(Found { number: self.paths.push(&path, b""), is_stdin: true });
            }
            match fs::metadata(&path) {
                Err(e) => skip(summary, &path, unreadable(&e)),
                Ok(metadata) if metadata.is_dir() => self.enter(path, &metadata, summary),
                Ok(metadata) if metadata.is_file() => {
                    summary.files += 1;
                    let id = (metadata.dev(), metadata.ino());
                    if self.is_new(&path, id, summary) {
                        let number = self.paths.push(&path, b"");
                        self.seen.insert(id, number);
                        return Some(Found { number, is_stdin: false });
                    }
                }
                Ok(metadata) => skip(summary, &path, kind(metadata.file_type()).into()),
            }
        }
    }

    fn next_path(&mut self, summary: &mut Summary) -> Option<Next> {
        while let Some(folder) = self.open.last_mut() {
            let Some(name) = folder.names.next() else {
                self.open.pop();
                self.ignore.iter_mut().for_each(Ignore::leave);
                continue;
            };
            let path = |folder: &Folder| folder.path.join(folder.names.text(name));
            if folder.names.text(name).as_bytes().starts_with(b".") {
                skip(summary, &path(folder), "hidden".into());
            } else if self.ignore.as_ref().is_some_and(|rules| rules.names(&path(folder))) {
                skip(summary, &path(folder), "named in a .gitignore".into());
            } else if let Some(inode) = name.file {
                return Some(Next::File(name, inode));
            } else {
                return Some(Next::Path(path(folder)));
            }
        }
        self.given.next().map(Next::Path)
    }

    /// Takes a regular file of the folder that is being walked, without a look at it.
    fn take_listed(&mut self, name: Name, inode: u64, summary: &mut Summary) -> Option<Found> {
        summary.files += 1;
        let folder = self.open.last()?;
        let (mut id, text) = ((folder.id.0, inode), folder.names.text(name));
        if self.seen.contains_key(&id) {
            let path = folder.path.join(text);
            id = id_of(&path).unwrap_or(id);
            if !self.is_new(&path, id, summary) {
                return None;
            }
        }
        let number = self.paths.push(&folder.path, text.as_bytes());
        self.seen.insert(id, number);
        Some(Found { number, is_stdin: false })
    }

    /// Whether a file was not seen before; if it was, it is skipped.
    fn is_new(&self, path: &Path, id: FileId, summary: &mut Summary) -> bool {
        let Some(&first) = self.seen.get(&id) else { return true };
        let first = self.paths.get(first).unwrap_or_default();
        // The first one may have been taken by its listing alone.
        if id_of(&first).is_some_and(|first| first != id) {
            return true;
        }
        skip(summary, path, format!("same file as {}", first.display()));
        false
    }

    fn enter(&mut self, path: PathBuf, metadata: &Metadata, summary: &mut Summary) {
        let id = (metadata.dev(), metadata.ino());
        if self.left_out == Some(id) {
            return skip(summary, &path, "the outputs of this run".into());
        }
        if let Some(&first) = self.seen.get(&id) {
            let same = if self.open.iter().any(|folder| folder.id == id) {
                "a loop of links, it leads back to"
            } else {
                "same folder as"
            };
            let first = self.paths.get(first).unwrap_or_default();
            skip(summary, &path, format!("{same} {}", first.display()));
            return;
        }
        let names = match Listing::of(&path, id.0) {
            Ok(names) => names,
            Err(e) => return skip(summary, &path, unreadable(&e)),
        };
        self.seen.insert(id, self.paths.push(&path, b""));
        if let Some(rules) = &mut self.ignore {
            rules.enter(&path, self.open.is_empty(), summary);
        }
        self.open.push(Folder { id, path, names });
    }
}

/// The `.gitignore` files of the folders that are being walked.
#[derive(Debug, Default)]
struct Ignore {
    /// One for each folder on the way, outermost first; `above` are those over the given one.
    folders: Vec<Gitignore>,
    above: Vec<Gitignore>,
}

impl Ignore {
    fn enter(&mut self, folder: &Path, is_given: bool, summary: &mut Summary) {
        if is_given {
            self.above.clear();
            let Ok(whole) = fs::canonicalize(folder) else { return };
            let roots = whole.ancestors().take_while({
                let mut inside = true;
                move |above| std::mem::replace(&mut inside, !above.join(".git").exists())
            });
            let roots: Vec<&Path> = roots.collect();
            // Outside of a repository only the folder's own rules count.
            if roots.last().is_some_and(|root| root.join(".git").exists()) {
                let above = roots.iter().skip(1).rev();
                self.above = above.map(|above| rules_of(above, above, summary)).collect();
            }
        }
        self.folders.push(rules_of(folder, folder, summary));
    }

    fn leave(&mut self) {
        self.folders.pop();
    }

    /// Whether the innermost rule that says anything about a path says that it is left out.
    fn names(&self, path: &Path) -> bool {
        let is_folder = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let own = self.folders.iter().rev().map(|rules| rules.matched(path, is_folder));
        let whole = fs::canonicalize(path);
        let whole = whole.as_deref().unwrap_or(path);
        let above = self.above.iter().rev().map(|rules| rules.matched(whole, is_folder));
        own.chain(above).find(|found| !found.is_none()).is_some_and(|found| found.is_ignore())
    }
}

fn rules_of(folder: &Path, root: &Path, summary: &mut Summary) -> Gitignore {
    let file = folder.join(".gitignore");
    let mut builder = GitignoreBuilder::new(root);
    if let Some(error) = file.is_file().then(|| builder.add(&file)).flatten() {
        skip(summary, &file, format!("some of its rules cannot be read: {error}"));
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

impl Listing {
    /// The names in a folder, in the bytewise order of the paths below it: a folder's name counts with
    /// the slash that follows it, so that `a-b` comes before `a/c`.
    /// `device` is that of the folder.
    fn of(folder: &Path, device: u64) -> io::Result<Listing> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = open(folder, flags, Mode::empty())?;
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        let (mut entries, mut listing) = (RawDir::new(open, &mut buffer), Listing::default());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let follow = || fs::metadata(folder.join(OsStr::from_bytes(name)));
            let (is_folder, file) = match entry.file_type() {
                Listed::RegularFile => (false, Some(entry.ino())),
                Listed::Directory => (true, None),
                // Some file systems do not say.
                Listed::Symlink | Listed::Unknown => (follow().is_ok_and(|m| m.is_dir()), None),
                _ => (false, None),
            };
            let (start, len) = (listing.text.len(), name.len());
            listing.text.extend_from_slice(name);
            listing.text.extend(is_folder.then_some(b'/'));
            listing.names.push(Name { start, len, is_folder, file });
        }
        let first = listing.names.iter().find(|name| name.file.is_some());
        let known = |name: &Name| (id_of(&folder.join(listing.text(*name))), name.file);
        if first.map(known).is_some_and(|(id, file)| id != file.map(|inode| (device, inode))) {
            // Layers of several file systems: their listings say other numbers than the files.
            listing.names.iter_mut().for_each(|name| name.file = None);
        }
        let Listing { text, names, .. } = &mut listing;
        let key = |name: &Name| &text[name.start..][..name.len + usize::from(name.is_folder)];
        names.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        Ok(listing)
    }

    fn next(&mut self) -> Option<Name> {
        self.next += 1;
        self.names.get(self.next - 1).copied()
    }

    fn text(&self, name: Name) -> &OsStr {
        OsStr::from_bytes(&self.text[name.start..][..name.len])
    }
}

fn id_of(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Notes that `path` is not taken.
pub(super) fn skip(summary: &mut Summary, path: &Path, reason: String) {
    summary.skipped.push(Skipped { path: path.display().to_string(), reason });
}

/// The reason for a path that the system does not let us look at.
pub(super) fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

/// The reason for what is neither file nor folder.
pub(super) fn kind(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a FIFO, not a regular file"
    } else if kind.is_socket() {
        "a socket, not a regular file"
    } else {
        "a device, not a regular file"
    }
}
