//! What each document is called, for those few that the run has something to say about.
//!
//! Every file of the corpus is named here, so a name costs its own bytes and 12 more: a folder
//! stands once for the files that follow each other in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The paths of documents, numbered from 0 in the order in which they are pushed.
#[derive(Debug, Default)]
pub(super) struct Names {
    folders: Vec<PathBuf>,
    /// The last parts of all paths, one after the other.
    text: Vec<u8>,
    documents: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    /// Which of `folders`.
    folder: u32,
    /// Where its part of `text` ends, in two halves, so that no padding is stored.
    end: [u32; 2],
}

impl Names {
    /// Names the next document.
    pub(super) fn push(&mut self, path: &Path) {
        let folder = path.parent().unwrap_or(Path::new(""));
        if self.folders.last().is_none_or(|last| last != folder) {
            self.folders.push(folder.to_path_buf());
        }
        self.text.extend_from_slice(path.file_name().unwrap_or_default().as_bytes());
        let end = self.text.len() as u64;
        let folder = (self.folders.len() - 1) as u32;
        self.documents.push(Name { folder, end: [(end >> 32) as u32, end as u32] });
    }

    /// The path of a document.
    pub(super) fn get(&self, document: u64) -> Option<PathBuf> {
        let at = usize::try_from(document).ok()?;
        let name = self.documents.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.documents[before].end());
        let text = OsStr::from_bytes(&self.text[start..name.end()]);
        Some(self.folders[name.folder as usize].join(text))
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
    fn every_path_comes_back_as_it_was() {
        let odd = PathBuf::from(OsStr::from_bytes(b"d/\xff\xfe"));
        let paths: [&Path; 7] = [
            "a".as_ref(),
            "d/a".as_ref(),
            "d/b".as_ref(),
            "d/s/c".as_ref(),
            &odd,
            "/x/y".as_ref(),
            "./z".as_ref(),
        ];
        let mut names = Names::default();
        paths.iter().for_each(|path| names.push(path));
        for (document, path) in paths.iter().enumerate() {
            assert_eq!(names.get(document as u64).as_deref(), Some(*path));
        }
        assert_eq!(names.get(7), None);
        assert_eq!(names.folders.len(), 6, "neighbours share their folder");
    }
}
