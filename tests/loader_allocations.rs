//! Once its buffers are there, the loader allocates nothing for a file: five times the files make a few
//! allocations more, by which its tables double.
//!
//! One test function: the count is that of the whole process, and the harness allocates between tests.

#![cfg(feature = "train")]
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's implementation")]
#![expect(clippy::unwrap_used, reason = "a file that cannot be read is a failed test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use twelvefold::corpus::files::FileSource;
use twelvefold::corpus::{Chunk, Source};

/// The system's allocator, which counts what it is asked for: new blocks and larger ones.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: each call is the system's own, with the caller's own arguments; counting changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises; every block is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises; every block is the system's.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
