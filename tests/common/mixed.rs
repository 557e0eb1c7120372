//! A folder of everything that may be found in a folder.

use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Words that a small vocabulary learns, of many lengths and scripts, from a fixed sequence.
pub(crate) fn prose(seed: u64, bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "lazy",
        "dogs",
        "naïve",
        "Übermut",
        "日本",
        "12345",
        "don't",
        "e\u{301}t\u{e9}",
        "🦀",
        "x",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::new();
    while text.len() < bytes {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = state >> 33;
        text.push_str(WORDS[at as usize % 16]);
        text.push_str(match at / 16 % 24 {
            0 => ".\n",
            1 => ",  ",
            2 => "\r\n\r\n",
            _ => " ",
        });
    }
    text
}

/// One file beyond the size from which files are mapped, one of several chunks without a space, many
/// small ones, empty and binary ones, and text that is not UTF-8.
pub(crate) fn mixed_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("a/large.txt", prose(1, 2_200_000).as_bytes());
    write("b/one-line.txt", "abcdefgh".repeat(40_000).as_bytes());
    for i in 0..70 {
        write(&format!("c/{}/{i}.txt", i % 7), prose(i, 40 * i as usize + 1).as_bytes());
    }
    write("d/empty", b"");
    write("d/binary", b"text\0text");
    write("d/picture", &[0; 10_000]);
    write("d/latin1.txt", b"caf\xe9 au lait\n\xff\xfe\xfd and \xe6\x97 more");
    folder
}
