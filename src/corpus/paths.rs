//! Many paths in little room.
//!
//! Every file of the corpus is named here, so a path costs the bytes of its last part and 12 more: a
//! folder stands once for the files that follow each other in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Paths, numbered from 0 in the order in which they are pushed.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub(super) folders: Vec<PathBuf>,
    /// The last parts of all paths, one after the other.
    text: Vec<u8>,
    files: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    /// Which of `folders`.
    folder: u32,
    /// Where its part of `text` ends, in two halves, so that no padding is stored.
    end: [u32; 2],
}

impl Paths {
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Adds what `folder.join(name)` is; an empty name stands for the folder itself. Gives its number.
    pub(super) fn push(&mut self, folder: &Path, name: &[u8]) -> usize {
        // As bytes: whether `a//b` is `a/b` is nobody's question here.
        if self.folders.last().is_none_or(|last| last.as_os_str() != folder.as_os_str()) {
            self.folders.push(folder.to_path_buf());
        }
        self.text.extend_from_slice(name);
        let end = self.text.len() as u64;
        let folder = (self.folders.len() - 1) as u32;
        self.files.push(Name { folder, end: [(end >> 32) as u32, end as u32] });
        self.files.len() - 1
    }

    /// A path, if there are so many.
    pub(super) fn get(&self, at: usize) -> Option<PathBuf> {
        let (folder, name) = self.parts(at)?;
        Some(match name {
            [] => folder.to_path_buf(),
            name => folder.join(OsStr::from_bytes(name)),
        })
    }

    /// Appends the bytes of a path.
    ///
    /// # Panics
    /// There are not so many.
    pub(super) fn append(&self, at: usize, out: &mut Vec<u8>) {
        let (folder, name) = self.parts(at).expect("a path that was pushed");
        out.extend_from_slice(folder.as_os_str().as_bytes());
        // As `Path::join` does it.
        if !name.is_empty() && !matches!(folder.as_os_str().as_bytes(), [] | [.., b'/']) {
            out.push(b'/');
        }
        out.extend_from_slice(name);
    }

    fn parts(&self, at: usize) -> Option<(&Path, &[u8])> {
        let name = self.files.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.files[before].end());
        Some((&self.folders[name.folder as usize], &self.text[start..name.end()]))
    }
}

impl Name {
    fn end(&self) -> usize {
        (u64::from(self.end[0]) << 32 | u64::from(self.end[1])) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_path_are_what_join_gives() {
        let all = [("", "a"), ("/", "a"), ("d", "a"), ("d", "b"), ("d/", "a"), ("d//s", "a")];
        let mut paths = Paths::default();
        all.iter().for_each(|(folder, name)| {
            paths.push(Path::new(folder), name.as_bytes());
        });
        paths.push(Path::new("d/"), b"");
        for (at, (folder, name)) in all.iter().enumerate() {
            let (expected, mut bytes) = (Path::new(folder).join(name), Vec::new());
            paths.append(at, &mut bytes);
            assert_eq!(bytes, expected.as_os_str().as_bytes());
            assert_eq!(paths.get(at).unwrap().as_os_str(), expected.as_os_str());
        }
        assert_eq!(paths.get(6).unwrap().as_os_str(), "d/");
        assert_eq!((paths.get(7), paths.len()), (None, 7));
        assert_eq!(paths.folders.len(), 6, "neighbours share their folder");
    }
}
