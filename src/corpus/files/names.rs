//! What each document is called, for those few that the run has something to say about.
//!
//! Every file of the corpus is named here, so a name is stored in little room. The records of a file are
//! named by its name and their lines; those whose lines follow each other cost nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::paths::Paths;

/// The paths of documents, numbered from 0 in the order in which they are pushed.
#[derive(Debug, Default)]
pub(super) struct Names {
    files: Paths,
    /// Documents so far.
    documents: u64,
    records: Vec<Run>,
}

/// Documents that are the records of one file, line after line.
#[derive(Debug, Clone, Copy)]
struct Run {
    document: u64,
    count: u64,
    line: u64,
    /// Which of the names is that of the file.
    name: usize,
}

impl Names {
    /// Names the next document, a whole file.
    pub(super) fn push(&mut self, path: &Path) {
        self.push_file(path);
        self.documents += 1;
    }

    /// Names the file of the records that follow.
    pub(super) fn push_file(&mut self, path: &Path) {
        // The bytes after the last slash: `Path` would split the path into all its parts for this.
        let bytes = path.as_os_str().as_bytes();
        let (folder, name) = match memchr::memrchr(b'/', bytes) {
            None => (&[][..], bytes),
            Some(slash) => (&bytes[..slash.max(1)], &bytes[slash + 1..]),
        };
        self.files.push(Path::new(OsStr::from_bytes(folder)), name);
    }

    /// Names the next document, a line of the file that was pushed last.
    pub(super) fn push_record(&mut self, line: u64) {
        let (document, name) = (self.documents, self.files.len() - 1);
        self.documents += 1;
        let next = |run: &&mut Run| run.name == name && run.line + run.count == line;
        match self.records.last_mut().filter(next) {
            Some(run) => run.count += 1,
            None => self.records.push(Run { document, count: 1, line, name }),
        }
    }

    /// The path of a document, and its line where it is a record.
    pub(super) fn get(&self, document: u64) -> Option<(PathBuf, Option<u64>)> {
        let after = self.records.partition_point(|run| run.document <= document);
        let Some(run) = after.checked_sub(1).map(|at| self.records[at]) else {
            return Some((self.files.get(usize::try_from(document).ok()?)?, None));
        };
        match document - run.document {
            within if within < run.count && document < self.documents => {
                Some((self.files.get(run.name)?, Some(run.line + within)))
            }
            beyond => {
                let file = run.name as u64 + 1 + (beyond - run.count);
                Some((self.files.get(usize::try_from(file).ok()?)?, None))
            }
        }
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
            assert_eq!(names.get(document as u64), Some((path.to_path_buf(), None)));
        }
        assert_eq!(names.get(7), None);
        assert_eq!(names.files.folders.len(), 6, "neighbours share their folder");
    }

    #[test]
    fn records_are_named_by_file_and_line_between_files() {
        let mut names = Names::default();
        names.push(Path::new("a"));
        names.push_file(Path::new("b.jsonl"));
        [1, 2, 3, 7, 8].into_iter().for_each(|line| names.push_record(line));
        names.push_file(Path::new("c.jsonl"));
        names.push_record(9);
        names.push(Path::new("d"));
        names.push(Path::new("e"));
        let found: Vec<_> = (0..10)
            .map_while(|document| names.get(document))
            .map(|(path, line)| format!("{}:{}", path.display(), line.unwrap_or(0)))
            .collect();
        let expected = ["a:0", "b.jsonl:1", "b.jsonl:2", "b.jsonl:3", "b.jsonl:7", "b.jsonl:8"];
        assert_eq!(found[..6], expected);
        assert_eq!(found[6..], ["c.jsonl:9", "d:0", "e:0"]);
        assert_eq!(names.records.len(), 3);
    }
}
