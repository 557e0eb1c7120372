//! What the targets share.

use std::path::PathBuf;

use twelvefold::corpus::files::FileSource;
use twelvefold::corpus::{Chunk, Source};

/// A file of this name with these bytes, in memory where the system has it.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("twelvefold-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for inputs");
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("an input");
    path
}

/// Reads such a file to its end; gives the text of all its documents.
pub fn read(name: &str, bytes: &[u8]) -> Vec<u8> {
    let source = FileSource::new([file(name, bytes)]).expect("it exists");
    let (mut source, mut chunk, mut text) =
        (source.bad_records(u64::MAX), Chunk::default(), Vec::new());
    while source.fill(&mut chunk).expect("nothing but bad records") {
        let mut at = 0;
        for span in &chunk.spans {
            assert_eq!(span.range.start, at, "no gap");
            at = span.range.end;
        }
        assert_eq!(at, chunk.bytes.len());
        text.extend_from_slice(&chunk.bytes);
        if text.len() > 1 << 26 {
            break;
        }
    }
    text
}
