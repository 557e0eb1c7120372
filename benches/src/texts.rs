//! Text for the benchmarks of the corpus: from the machine's own files where there are any, else from
//! a seed.

use std::fs;
use std::path::{Path, PathBuf};

use twelvefold::corpus::stories::StorySource;
use twelvefold::corpus::{Chunk, Source};

/// The kinds of text.
pub const KINDS: [&str; 3] = ["prose", "code", "multilingual"];

/// About `bytes` bytes of one of the [`KINDS`], in documents of about 8 KB.
///
/// Prose is what the crates' sources in cargo's folder say in their comments, code is these sources;
/// where there are too few, both are the built-in stories; multilingual text is of made-up words, as frequent as words are.
pub fn documents(kind: &str, bytes: usize) -> Vec<String> {
    let text = match kind {
        "prose" => own_sources(bytes, said).unwrap_or_else(|| stories(bytes)),
        "code" => own_sources(bytes, str::to_owned).unwrap_or_else(|| stories(bytes)),
        _ => multilingual(bytes),
    };
    let (mut documents, mut rest) = (Vec::new(), text.as_str());
    while !rest.is_empty() {
        let mut end = rest.len().min(8 << 10);
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        documents.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    documents
}

/// The comments of a source, without their marks.
fn said(source: &str) -> String {
    let lines = source.lines().filter_map(|line| {
        let line = line.trim_start().strip_prefix("//")?;
        Some(line.trim_start_matches(['/', '!']).trim_start())
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn own_sources(bytes: usize, part: fn(&str) -> String) -> Option<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let mut text = String::new();
    collect(&home.join("registry/src"), part, bytes, &mut text);
    (text.len() >= bytes).then_some(text)
}

fn collect(folder: &Path, part: fn(&str) -> String, bytes: usize, text: &mut String) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if text.len() >= bytes {
            return;
        }
        let is_wanted = path.extension().is_some_and(|e| e == "rs");
        if path.is_dir() {
            collect(&path, part, bytes, text);
        } else if is_wanted && fs::metadata(&path).is_ok_and(|m| m.len() < 200_000) {
            // Larger ones are tables.
            text.push_str(&part(&fs::read_to_string(&path).unwrap_or_default()));
        }
    }
}

fn stories(bytes: usize) -> String {
    let mut source = StorySource::new(1, bytes as u64).expect("a size that is allowed");
    let (mut chunk, mut all) = (Chunk::default(), Vec::new());
    while source.fill(&mut chunk).unwrap_or(false) {
        all.extend_from_slice(&chunk.bytes);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// First letter and number of letters of a script, and the letters of a word.
const SCRIPTS: [(u32, u32, usize); 8] = [
    (0x430, 32, 6),
    (0x3B1, 24, 6),
    (0x5D0, 27, 5),
    (0x627, 36, 5),
    (0x915, 36, 4),
    (0xAC00, 2000, 3),
    (0x4E00, 3000, 8),
    (0x3041, 80, 5),
];

fn multilingual(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut below = |n: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize * n) >> 31
    };
    // A letter is the rarer the further back it stands in its script, and so is a word in its list.
    let mut lists = Vec::new();
    for (first, letters, length) in SCRIPTS {
        let mut letter = || {
            let at = below(letters as usize).min(below(letters as usize)) as u32;
            char::from_u32(first + at).unwrap_or('x')
        };
        let words: Vec<String> = (0..20_000)
            .map(|i| (0..1 + length * (1 + i % 7) / 4).map(|_| letter()).collect())
            .collect();
        lists.push(words);
    }
    let mut text = String::new();
    while text.len() < bytes {
        let words = &lists[below(lists.len())];
        for _ in 0..40 {
            // Zipf: as many words between n and 2n as between 2n and 4n.
            let most = 1 << below(15);
            text.push_str(&words[below(most).min(words.len() - 1)]);
            text.push_str([" ", " ", " ", " ", " ", ", ", ". ", "\n"][below(8)]);
        }
    }
    text
}
