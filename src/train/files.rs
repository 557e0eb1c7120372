//! Files that appear whole or not at all, and the folder of a run.
//!
//! One file: it is written under a temporary name in the same folder, its length is compared with
//! what was written, it is synced, renamed, and the folder is synced. Whatever fails, the temporary
//! file is removed and the previous file stands. Every write's result counts: on a memory file
//! system a failed write may be followed by a sync that says Ok, so an [`AtomicFile`] remembers its
//! first failure and refuses to be committed after it.
//!
//! Several files that belong together ([`FileSet`]): one of them is the *key*, without which no
//! reader takes the folder for whole.
//!
//! | step | what happens | a crash after it leaves |
//! |---|---|---|
//! | 1 | each file is written to `.NAME.tmp`, synced, renamed to `.NAME.new`, the key last | the previous set |
//! | 2 | the folder is synced: `.KEY.new` is the commit point | the previous set, the new one ready |
//! | 3 | the key and files that describe the previous set are removed; the folder is synced | no key: nothing looks whole |
//! | 4 | each `.NAME.new` becomes `NAME`, the key last, the folder synced before and after it | the new set |
//!
//! [`FileSet::recover`] finishes 3 and 4 where `.KEY.new` is found, and removes what is left of 1
//! where it is not.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::options::Options;
use crate::error::Error;

/// An [`Error::Io`] with a hint for the reasons that a user can do something about.
///
/// ```
/// use std::io::{Error, ErrorKind};
/// use twelvefold::train::files::io_error;
///
/// let error = io_error("write", "run/report.json", Error::from(ErrorKind::StorageFull));
/// assert!(error.to_string().contains("cannot write run/report.json"));
/// assert!(error.to_string().contains("hint: free some space"));
/// ```
pub fn io_error(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Error {
    let hint = match source.kind() {
        ErrorKind::StorageFull => "free some space there, or choose another folder with --out",
        ErrorKind::QuotaExceeded => {
            "your quota there is used up: free some space, or choose another folder with --out"
        }
        ErrorKind::FileTooLarge => {
            "raise the limit on file sizes (`ulimit -f`), or train a smaller model"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that you may write to with --out"
        }
        _ => "",
    };
    Error::Io { doing, path: path.as_ref().to_path_buf(), source, hint: hint.to_owned() }
}

/// A file under a temporary name, until [`AtomicFile::commit`].
///
/// Dropped without a commit, it is removed. One writer at a time for a given name: a run holds the
/// lock of its folder ([`RunFolder`]).
///
/// ```
/// use std::io::Write;
/// use twelvefold::train::files::AtomicFile;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("notes.txt");
/// let mut file = AtomicFile::create(&path)?;
/// file.write_all(b"whole")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&path)?, b"whole");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    /// None once it was closed.
    file: Option<BufWriter<File>>,
    written: u64,
    failed: Option<ErrorKind>,
}

impl AtomicFile {
    /// Opens a temporary file beside `path`; a remnant of a killed run is replaced.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder does not exist or may not be written to.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let temporary = beside(path, "tmp");
        remove_if_there(&temporary)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|e| io_error("create", &temporary, e))?;
        let file = Some(BufWriter::with_capacity(1 << 16, file));
        Ok(Self { path: path.to_path_buf(), temporary, file, written: 0, failed: None })
    }

    /// Makes the file visible under its own name and durable.
    ///
    /// # Errors
    /// [`Error::Io`] where a write, a sync or the rename fails, now or earlier; the temporary file
    /// is gone then and what stood at the path before still stands.
    pub fn commit(self) -> Result<(), Error> {
        let path = self.path.clone();
        self.commit_as(&path)?;
        sync_folder(folder_of(&path))
    }

    /// Renames to `target` in the same folder, without syncing the folder.
    fn commit_as(mut self, target: &Path) -> Result<(), Error> {
        if let Some(kind) = self.failed {
            return Err(io_error("write", &self.path, kind.into()));
        }
        if let Some(file) = self.file.take() {
            let file =
                file.into_inner().map_err(|e| io_error("write", &self.path, e.into_error()))?;
            file.sync_all().map_err(|e| io_error("sync", &self.path, e))?;
            let len = file.metadata().map_err(|e| io_error("look at", &self.temporary, e))?.len();
            if len != self.written {
                let what = format!("{len} bytes arrived of {}", self.written);
                return Err(io_error("write", &self.path, io::Error::other(what)));
            }
        }
        fs::rename(&self.temporary, target).map_err(|e| io_error("replace", target, e))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().ok_or(ErrorKind::BrokenPipe)?;
        let count = file.write(bytes).inspect_err(|e| self.failed = keep(self.failed, e))?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(ErrorKind::BrokenPipe)?;
        file.flush().inspect_err(|e| self.failed = keep(self.failed, e))
    }
}

/// The first failure that a retry does not mend.
fn keep(before: Option<ErrorKind>, error: &io::Error) -> Option<ErrorKind> {
    before.or((error.kind() != ErrorKind::Interrupted).then(|| error.kind()))
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // The buffer is not worth writing: the file goes.
            let (_file, _buffer) = file.into_parts();
        }
        // After a rename there is nothing under this name, and a failure to remove has no one to tell.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Writes `bytes` to `path`, whole or not at all.
///
/// ```
/// use twelvefold::train::files::write_atomically;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("config.json");
/// write_atomically(&path, b"{}")?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`]; what stood at `path` before still stands.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let mut file = AtomicFile::create(&path)?;
    file.write_all(bytes).map_err(|e| io_error("write", &path, e))?;
    file.commit()
}

/// Writes the settings of a run to `settings.json` in its folder.
///
/// ```
/// use twelvefold::train::{Options, files::write_settings};
///
/// let folder = tempfile::tempdir()?;
/// write_settings(folder.path(), &Options { steps: 70, ..Options::default() })?;
/// let text = std::fs::read_to_string(folder.path().join("settings.json"))?;
/// assert_eq!(serde_json::from_str::<Options>(&text)?.steps, 70);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Io`]; what stood there before still stands.
pub fn write_settings(folder: &Path, options: &Options) -> Result<(), Error> {
    // How a call treats what is there is no setting of the run.
    let (overwrite, resume, allow_changes) = (false, false, false);
    let options = Options { overwrite, resume, allow_changes, ..options.clone() };
    // A plain struct with string keys: there is no value that cannot be written.
    let mut text = serde_json::to_string_pretty(&options).unwrap_or_default();
    text.push('\n');
    write_atomically(folder.join("settings.json"), text.as_bytes())
}

/// Several files of one folder that change together; see the module's table.
///
/// ```
/// use std::io::Write;
/// use twelvefold::train::files::{FileSet, Layout};
///
/// let layout = Layout { names: &["data", "key"], stale: &["report"] };
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("report"), "of the previous set")?;
/// let mut set = FileSet::new(&folder, layout);
/// set.stage("data", |file| file.write_all(b"1"))?;
/// set.stage("key", |file| file.write_all(b"2"))?;
/// assert!(!folder.path().join("data").exists());
/// set.commit()?;
/// assert_eq!(std::fs::read(folder.path().join("data"))?, b"1");
/// assert!(!folder.path().join("report").exists());
/// assert!(!FileSet::recover(&folder, &layout)?, "nothing was left unfinished");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileSet {
    layout: Layout,
    folder: PathBuf,
    staged: Vec<&'static str>,
}

/// The names of a [`FileSet`].
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Every file of the set; the last one is the key.
    pub names: &'static [&'static str],
    /// Files that describe the previous set, and go with it.
    pub stale: &'static [&'static str],
}

impl Layout {
    fn key(&self) -> &'static str {
        self.names.last().copied().unwrap_or_default()
    }
}

impl FileSet {
    /// An empty set; nothing is touched yet.
    pub fn new(folder: impl AsRef<Path>, layout: Layout) -> Self {
        Self { layout, folder: folder.as_ref().to_path_buf(), staged: Vec::new() }
    }

    /// Writes one file of the set beside the previous one. Files come in the order of
    /// [`Layout::names`], so that the key is the last.
    ///
    /// # Errors
    /// [`Error::Io`], or what `write` says; [`Error::Input`] for a name out of turn.
    pub fn stage<T>(
        &mut self,
        name: &'static str,
        write: impl FnOnce(&mut AtomicFile) -> io::Result<T>,
    ) -> Result<T, Error> {
        if self.layout.names.get(self.staged.len()) != Some(&name) {
            return Err(Error::input(format!("{name} is not the next file of its set"), ""));
        }
        if name == self.layout.key() {
            // The others must be on disk under their staged names before the commit point is.
            sync_folder(&self.folder)?;
        }
        let path = self.folder.join(name);
        let mut file = AtomicFile::create(&path)?;
        let value = write(&mut file).map_err(|e| io_error("write", &path, e))?;
        file.commit_as(&beside(&path, "new"))?;
        self.staged.push(name);
        Ok(value)
    }

    /// Puts the staged files in place of the previous ones.
    ///
    /// # Errors
    /// [`Error::Input`] where a file of the set was not staged. [`Error::Io`]: the set is ready but
    /// not in place, and [`FileSet::recover`] can finish it.
    pub fn commit(mut self) -> Result<(), Error> {
        if self.staged.len() != self.layout.names.len() {
            return Err(Error::input("a file of the set is missing", ""));
        }
        sync_folder(&self.folder)?;
        self.staged.clear(); // From here on they are kept, whatever happens.
        put_in_place(&self.folder, &self.layout)
    }

    /// Finishes a set that was ready when its process died, and removes what is left of one that
    /// was not. True where it finished one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn recover(folder: impl AsRef<Path>, layout: &Layout) -> Result<bool, Error> {
        let folder = folder.as_ref();
        let ready = exists(&beside(&folder.join(layout.key()), "new"))?;
        if ready {
            put_in_place(folder, layout)?;
        }
        for name in layout.names.iter().chain(layout.stale) {
            remove_if_there(&beside(&folder.join(name), "new"))?;
            remove_if_there(&beside(&folder.join(name), "tmp"))?;
        }
        Ok(ready)
    }
}

impl Drop for FileSet {
    fn drop(&mut self) {
        // The key first: without it the others are remnants.
        for name in self.staged.iter().rev() {
            let _ = fs::remove_file(beside(&self.folder.join(name), "new"));
        }
    }
}

/// Steps 3 and 4 of the module's table; may be repeated after a crash at any point.
fn put_in_place(folder: &Path, layout: &Layout) -> Result<(), Error> {
    let key = folder.join(layout.key());
    for name in layout.stale {
        remove_if_there(&folder.join(name))?;
    }
    remove_if_there(&key)?;
    sync_folder(folder)?;
    for name in layout.names.iter().filter(|name| **name != layout.key()) {
        let (path, staged) = (folder.join(name), beside(&folder.join(name), "new"));
        if exists(&staged)? {
            fs::rename(&staged, &path).map_err(|e| io_error("replace", &path, e))?;
        }
    }
    sync_folder(folder)?;
    fs::rename(beside(&key, "new"), &key).map_err(|e| io_error("replace", &key, e))?;
    sync_folder(folder)
}

/// The folder of a run, locked while this value lives.
///
/// ```
/// use twelvefold::train::files::RunFolder;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("run");
/// let held = RunFolder::claim(&path, false)?;
/// assert!(RunFolder::claim(&path, true).is_err(), "in use");
/// std::fs::write(path.join("report.json"), "{}")?;
/// drop(held);
/// assert!(RunFolder::claim(&path, false).is_err(), "holds a run");
/// assert_eq!(RunFolder::claim(&path, true)?.path(), path);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    lock: File,
    /// Whether it was not there before.
    is_new: bool,
}

/// A folder that has one of these already holds a run.
const MARKS: [&str; 3] = ["report.json", "model.safetensors", "checkpoints"];

impl RunFolder {
    /// Makes the folder where it is missing, and takes it for a run. It is refused where it already
    /// holds a run, unless `overwrite` (or the run is resumed), where another process is using it, and where nothing can be
    /// written to it: at once, not after the training. Other files in it are left alone. A folder that was
    /// made here and is still empty at the end is removed again.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Input`].
    pub fn claim(path: impl AsRef<Path>, overwrite: bool) -> Result<Self, Error> {
        let path = path.as_ref();
        let is_new = !exists(path)?;
        fs::create_dir_all(path).map_err(|e| io_error("create the folder", path, e))?;
        let lock = File::open(path).map_err(|e| io_error("open the folder", path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::input(
                    format!("{} is in use by another run", path.display()),
                    "wait for it, or choose another folder with --out",
                ));
            }
            // Some network file systems know no locks: the run goes without.
            Err(TryLockError::Error(_)) => {}
        }
        let claimed = Self { path: path.to_path_buf(), lock, is_new };
        FileSet::recover(path, &super::checkpoint::LAYOUT)?;
        for mark in MARKS {
            if !overwrite && exists(&path.join(mark))? {
                return Err(Error::input(
                    format!("{} already holds a run ({mark})", path.display()),
                    "go on with it with --resume, replace it with --overwrite, or choose another folder \
                     with --out",
                ));
            }
        }
        drop(AtomicFile::create(path.join("probe"))?);
        Ok(claimed)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if self.is_new {
            // Refused where anything is in it. Before the lock goes: nobody else has it yet.
            let _ = fs::remove_dir(&self.path);
        }
        // Said outright: a child that another thread is just starting holds a copy of the open file
        // until it executes, and with it the lock. Where there is no lock, there is none to lose.
        let _ = self.lock.unlock();
    }
}

/// `.NAME.SUFFIX` in the folder of `path`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|f| f.sync_all());
    match synced {
        // Some file systems cannot sync a folder; there is nothing more to do on those.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other.map_err(|e| io_error("sync the folder", folder, e)),
    }
}

pub(super) fn exists(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error("look at", path, e)),
    }
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(io_error("remove", path, e)),
        _ => Ok(()),
    }
}
