//! Finds the files below the given paths, in a fixed order, lazily.
//!
//! Paths come in the order given; below a folder, files come in the bytewise order of their whole
//! path, whatever order the system lists them in. A folder is listed when it is reached, and a file
//! is looked at (never opened) when it is asked for. Where a seed is given ([`Walk::shuffled`]), all is
//! looked at when the first file is asked for, and files come in the order that the seed decides.
//!
//! Links are followed. A folder is entered once and a file is given once, told by device and inode,
//! so that a loop of links ends and nothing is trained on twice. Hidden names are skipped below a
//! given path; a path that was given is taken whatever its name. What is skipped is said.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::vec;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::files::is_stdin;
use super::order::Permutation;
use super::{Skipped, Summary};
use crate::error::Error;

/// Device and inode: what makes two paths the same file.
type FileId = (u64, u64);

/// A regular file that was found and not opened yet.
#[derive(Debug)]
pub struct Found {
    /// Its path, as given or below a given one.
    pub path: PathBuf,
    /// Its size in bytes when it was found.
    pub size: u64,
}

/// An iterator in the manner of [`Iterator`], which notes what it skips.
#[derive(Debug)]
pub struct Walk {
    given: vec::IntoIter<PathBuf>,
    /// The folders that are being walked, outermost first.
    open: Vec<Folder>,
    seen: HashMap<FileId, PathBuf>,
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
    names: vec::IntoIter<OsString>,
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
        let (given, open, seen) = (paths.into_iter(), Vec::new(), HashMap::new());
        Ok(Walk { given, open, seen, left_out: None, shuffle: None, ignore: None })
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
        let mut found = found
            .unwrap_or_else(|| std::iter::from_fn(|| self.walk(summary)).collect::<Vec<Found>>());
        let count = found.len() as u64;
        let next = (place < count).then(|| {
            let file = &mut found[Permutation::new(count, seed).at(place) as usize];
            Found { path: std::mem::take(&mut file.path), size: file.size }
        });
        self.shuffle = Some(Shuffle { seed, found: Some(found), place: place + 1 });
        next
    }

    /// The next file in the order of the paths.
    fn walk(&mut self, summary: &mut Summary) -> Option<Found> {
        loop {
            let path = self.next_path(summary)?;
            if self.open.is_empty() && is_stdin(&path) {
                summary.files += 1;
                // Of unknown size: it begins a chunk of its own.
                return Some(Found { path, size: u64::MAX });
            }
            match fs::metadata(&path) {
                Err(e) => skip(summary, &path, unreadable(&e)),
                Ok(metadata) if metadata.is_dir() => self.enter(path, &metadata, summary),
                Ok(metadata) if metadata.is_file() => {
                    summary.files += 1;
                    if let Some(found) = self.take(path, &metadata, summary) {
                        return Some(found);
                    }
                }
                Ok(metadata) => skip(summary, &path, kind(metadata.file_type()).into()),
            }
        }
    }

    fn next_path(&mut self, summary: &mut Summary) -> Option<PathBuf> {
        while let Some(folder) = self.open.last_mut() {
            match folder.names.next() {
                None => {
                    self.open.pop();
                    self.ignore.iter_mut().for_each(Ignore::leave);
                }
                Some(name) => {
                    let path = folder.path.join(&name);
                    if name.as_bytes().starts_with(b".") {
                        skip(summary, &path, "hidden".into());
                    } else if self.ignore.as_ref().is_some_and(|rules| rules.names(&path)) {
                        skip(summary, &path, "named in a .gitignore".into());
                    } else {
                        return Some(path);
                    }
                }
            }
        }
        self.given.next()
    }

    fn take(&mut self, path: PathBuf, metadata: &Metadata, summary: &mut Summary) -> Option<Found> {
        let id = (metadata.dev(), metadata.ino());
        if let Some(first) = self.seen.get(&id) {
            skip(summary, &path, format!("same file as {}", first.display()));
            return None;
        }
        self.seen.insert(id, path.clone());
        Some(Found { path, size: metadata.len() })
    }

    fn enter(&mut self, path: PathBuf, metadata: &Metadata, summary: &mut Summary) {
        let id = (metadata.dev(), metadata.ino());
        if self.left_out == Some(id) {
            return skip(summary, &path, "the outputs of this run".into());
        }
        if let Some(first) = self.seen.get(&id) {
            let same = if self.open.iter().any(|folder| folder.id == id) {
                "a loop of links, it leads back to"
            } else {
                "same folder as"
            };
            skip(summary, &path, format!("{same} {}", first.display()));
            return;
        }
        let names = match list(&path) {
            Ok(names) => names.into_iter(),
            Err(e) => return skip(summary, &path, unreadable(&e)),
        };
        self.seen.insert(id, path.clone());
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

/// The names in a folder, in the bytewise order of the paths below it: a folder's name counts with
/// the slash that follows it, so that `a-b` comes before `a/c`.
fn list(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let is_folder = kind.is_dir()
            || kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|m| m.is_dir());
        names.push((entry.file_name(), is_folder));
    }
    let key = |(name, is_folder): &(OsString, bool)| {
        let mut key = name.as_bytes().to_vec();
        key.extend(is_folder.then_some(b'/'));
        key
    };
    names.sort_by_cached_key(key);
    Ok(names.into_iter().map(|(name, _)| name).collect())
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
