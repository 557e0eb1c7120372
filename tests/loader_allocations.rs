//! Once its buffers are there, the loader allocates nothing for a file: five times the files make a few
//! allocations more, by which its tables double.
//!
//! One test function: the count is that of the whole process, and the harness allocates between tests.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "a file that cannot be read is a failed test")]

#[path = "common/counting.rs"]
#[expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's implementation")]
mod counting;

use std::fs;
use std::sync::atomic::Ordering;

use counting::ALLOCATIONS;
use twelvefold::corpus::files::FileSource;
use twelvefold::corpus::{Chunk, Source};

/// Allocations of a pass over so many files in one folder.
fn allocations(files: usize, shuffled: bool) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..files {
        fs::write(folder.path().join(format!("{i:06}.txt")), "x".repeat(i % 900 + 1)).unwrap();
    }
    let mut source = FileSource::new([folder.path()]).unwrap();
    if shuffled {
        source = source.shuffled(1);
    }
    let (mut chunk, mut documents) = (Chunk::default(), 0);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    while source.fill(&mut chunk).unwrap() {
        documents += chunk.spans.len();
    }
    let made = ALLOCATIONS.load(Ordering::SeqCst) - before;
    assert_eq!(documents, files);
    made
}

#[test]
fn a_file_more_is_no_allocation_more() {
    for shuffled in [false, true] {
        let (few, many) = (allocations(2_000, shuffled), allocations(10_000, shuffled));
        assert!(few < 200 && many < few + 30, "{few}, then {many}");
    }
}
