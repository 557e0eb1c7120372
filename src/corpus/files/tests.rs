use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::*;
use crate::corpus::tests::{Rng, nasty_text};

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Every document, put together from its spans, which are checked on the way.
fn read_all(source: &mut FileSource) -> Vec<Vec<u8>> {
    let (mut documents, mut chunk, mut chunks) = (Vec::<Vec<u8>>::new(), Chunk::default(), 0);
    let mut open = false;
    while source.fill(&mut chunk).unwrap() {
        assert_eq!(chunk.index, chunks);
        chunks += 1;
        assert!(chunk.bytes.len() <= CHUNK_BYTES);
        let mut at = 0;
        for span in &chunk.spans {
            assert_eq!(span.range.start, at, "no gap");
            at = span.range.end;
            if !open {
                assert_eq!(span.document, documents.len() as u64);
                documents.push(Vec::new());
            }
            let document = documents.last_mut().unwrap();
            assert_eq!(span.offset, document.len() as u64);
            document.extend(&chunk.bytes[span.range.clone()]);
            open = !span.ends_document;
        }
        assert_eq!(at, chunk.bytes.len());
    }
    assert!(!open);
    assert!(!source.fill(&mut chunk).unwrap(), "the end stays the end");
    documents
}

fn reasons(source: &FileSource, folder: &Path) -> Vec<(String, String)> {
    let prefix = format!("{}/", folder.display());
    let cut = |s: &str| s.replace(&prefix, "");
    source.summary().skipped.iter().map(|s| (cut(&s.path), cut(&s.reason))).collect()
}

#[test]
fn files_come_in_the_order_given_and_bytewise_by_path_below() {
    let t = tempfile::tempdir().unwrap();
    for name in ["z", "d/b", "d/a/x", "d/a-b", "d/a.c/y", "d/A", "d/é"] {
        write(t.path(), name, name);
    }
    let mut source = FileSource::new([t.path().join("z"), t.path().join("d")]).unwrap();
    let documents = read_all(&mut source);
    let expected = ["z", "d/A", "d/a-b", "d/a.c/y", "d/a/x", "d/b", "d/é"];
    assert_eq!(documents, expected.map(|s| s.as_bytes().to_vec()));
    for (document, name) in expected.iter().enumerate() {
        let path = t.path().join(name).display().to_string();
        assert_eq!(source.name(document as u64), Some(path));
    }
    assert_eq!(source.name(7), None);
    let summary = source.summary();
    assert_eq!((summary.files, summary.opened, summary.documents), (7, 7, 7));
    assert_eq!(summary.bytes, expected.iter().map(|s| s.len() as u64).sum::<u64>());
}

#[test]
fn what_is_not_taken_is_named_with_its_reason() {
    let t = tempfile::tempdir().unwrap();
    write(t.path(), "a.txt", "text");
    write(t.path(), "b.bin", [&vec![b'x'; PROBE_BYTES - 1][..], b"\0"].concat());
    write(t.path(), "c.txt", [&vec![b'x'; PROBE_BYTES][..], b"\0"].concat());
    write(t.path(), "d.txt", "");
    write(t.path(), ".hidden/e.txt", "text");
    write(t.path(), "sub/.f.txt", "text");
    symlink("nowhere", t.path().join("g")).unwrap();
    symlink("h", t.path().join("h")).unwrap();
    symlink("..", t.path().join("sub/loop")).unwrap();
    symlink("a.txt", t.path().join("i")).unwrap();
    fs::hard_link(t.path().join("a.txt"), t.path().join("j")).unwrap();
    symlink("sub", t.path().join("t")).unwrap();
    assert!(Command::new("mkfifo").arg(t.path().join("k")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(t.path().join("l")).unwrap();
    symlink("/dev/zero", t.path().join("m")).unwrap();

    let mut source = FileSource::new([t.path()]).unwrap();
    assert_eq!(read_all(&mut source).len(), 2);
    let found = reasons(&source, t.path());
    let root = t.path().display();
    let expected = [
        (".hidden", "hidden"),
        ("b.bin", "binary: a NUL at byte 8191"),
        ("d.txt", "empty"),
        ("g", "cannot be read: No such file or directory (os error 2)"),
        ("h", "cannot be read: Too many levels of symbolic links (os error 40)"),
        ("i", "same file as a.txt"),
        ("j", "same file as a.txt"),
        ("k", "a FIFO, not a regular file"),
        ("l", "a socket, not a regular file"),
        ("m", "a device, not a regular file"),
        ("sub/.f.txt", "hidden"),
        ("sub/loop", &format!("a loop of links, it leads back to {root}")),
        ("t", "same folder as sub"),
    ];
    assert_eq!(found, expected.map(|(p, r)| (p.to_string(), r.to_string())));
    let summary = source.summary();
    assert_eq!((summary.files, summary.opened), (6, 4));
    let names = [0, 1, 2].map(|document| source.name(document));
    let path = |name| Some(t.path().join(name).display().to_string());
    assert_eq!(names, [path("a.txt"), path("c.txt"), None], "what is skipped is no document");
}

/// A second run would be trained on what the first one left.
#[test]
fn the_outputs_of_the_run_are_left_out_by_whatever_path() {
    let t = tempfile::tempdir().unwrap();
    write(t.path(), "a", "text");
    write(t.path(), "out/config.json", "{}");
    symlink("out", t.path().join("link")).unwrap();
    let out = t.path().join("out");
    let mut source = FileSource::new([t.path(), &out]).unwrap();
    source.leave_out(&t.path().join("link")).unwrap();
    assert_eq!(read_all(&mut source), [b"text"]);
    let reason = "the outputs of this run".to_owned();
    let names = ["link", "out", "out"].map(|name| (name.to_owned(), reason.clone()));
    assert_eq!(reasons(&source, t.path()), names);
    assert!(source.leave_out(&t.path().join("missing")).is_err());
}

#[test]
fn a_given_path_is_taken_whatever_its_name() {
    let t = tempfile::tempdir().unwrap();
    let path = write(t.path(), ".dir/.f", "text");
    let mut source = FileSource::new([&path, path.parent().unwrap()]).unwrap();
    assert_eq!(read_all(&mut source), [b"text"]);
    assert_eq!(reasons(&source, t.path()), [(".dir/.f".into(), "hidden".into())]);
}

#[test]
fn a_missing_path_is_an_error_that_names_it() {
    let error = FileSource::new(["/nowhere/at/all"]).unwrap_err().to_string();
    assert!(error.starts_with("cannot find /nowhere/at/all: No such file"), "{error}");
}

#[test]
fn large_and_small_files_come_out_byte_for_byte() {
    let t = tempfile::tempdir().unwrap();
    let mut rng = Rng(5);
    let sizes = [1, 2, 70_000, 262_144, 262_145, 10, 500_000, 3_000_000, 5, 1_048_576, 40_000];
    let mut expected = Vec::new();
    for (i, size) in sizes.into_iter().enumerate() {
        let mut bytes = Vec::new();
        while bytes.len() < size {
            if rng.below(50) == 0 {
                bytes.extend(vec![b'x'; rng.below(200_000)]);
            }
            bytes.extend(nasty_text(&mut rng, 400).bytes());
        }
        bytes.truncate(size);
        write(t.path(), &format!("{i:02}"), &bytes);
        expected.push(bytes);
    }
    let mut source = FileSource::new([t.path()]).unwrap();
    assert_eq!(read_all(&mut source), expected);
    assert_eq!(source.summary().opened, sizes.len() as u64);
}

#[test]
fn the_first_chunk_comes_before_the_last_file_is_opened() {
    let t = tempfile::tempdir().unwrap();
    for i in 0..1000 {
        write(t.path(), &format!("{i}"), vec![b'x'; 1000]);
    }
    let mut source = FileSource::new([t.path()]).unwrap();
    assert_eq!(source.summary().opened, 0);
    source.fill(&mut Chunk::default()).unwrap();
    assert!((200..400).contains(&source.summary().opened));
}

/// Both ways of reading: plain below [`MAP_BYTES`], mapped from there on.
#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_that_says_where() {
    for size in [MAP_BYTES - 1, 2 * MAP_BYTES] {
        for new_size in [size - 1, size, size + 1, 300_000] {
            let t = tempfile::tempdir().unwrap();
            let path = write(t.path(), "f", vec![b'x'; size as usize]);
            let mut source = FileSource::new([&path]).unwrap();
            let mut chunk = Chunk::default();
            source.fill(&mut chunk).unwrap();
            if new_size == size {
                // A clock of coarse ticks could show no change.
                let later = SystemTime::now() + Duration::from_secs(5);
                fs::write(&path, vec![b'y'; size as usize]).unwrap();
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.set_modified(later).unwrap();
            } else {
                OpenOptions::new().write(true).open(&path).unwrap().set_len(new_size).unwrap();
            }
            let error = loop {
                match source.fill(&mut chunk) {
                    Ok(more) => assert!(more, "{size} became {new_size} and nothing was said"),
                    Err(e) => break e.to_string(),
                }
            };
            let start = format!("cannot go on reading {}: it", path.display());
            assert!(error.starts_with(&start), "{error}");
            assert!(error.contains("it failed at byte "), "{error}");
        }
    }
}

#[test]
fn an_unreadable_file_or_folder_is_skipped_with_the_reason() {
    // Root reads everything but this; see also the run as an unprivileged user in tests/.
    let t = tempfile::tempdir().unwrap();
    symlink("/proc/self/mem", t.path().join("mem")).unwrap();
    write(t.path(), "n", "text");
    let mut source = FileSource::new([t.path()]).unwrap();
    assert_eq!(read_all(&mut source), [b"text"]);
    assert_eq!(reasons(&source, t.path())[0].0, "mem");
}

/// The same files, each once, in another order, and in that order again in the next pass.
#[test]
fn a_seed_decides_the_order_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..50 {
        fs::create_dir_all(folder.path().join(format!("{}", i % 4))).unwrap();
        fs::write(folder.path().join(format!("{}/{i:02}", i % 4)), format!("{i:02} ")).unwrap();
    }
    let texts = |source: &mut FileSource| {
        let (mut chunk, mut all) = (Chunk::default(), String::new());
        while source.fill(&mut chunk).unwrap() {
            all.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
        }
        all
    };
    let order = |seed| {
        let mut source = FileSource::new([folder.path()]).unwrap().shuffled(seed);
        let first = texts(&mut source);
        let named: Vec<String> = (0..50).map(|document| source.name(document).unwrap()).collect();
        assert!(
            named.iter().zip(first.split_whitespace()).all(|(name, text)| name.ends_with(text))
        );
        source.rewind().unwrap();
        assert_eq!(texts(&mut source), first);
        let summary = source.summary();
        assert_eq!((summary.files, summary.opened, summary.rewound), (50, 100, 1));
        first
    };
    let plain = texts(&mut FileSource::new([folder.path()]).unwrap());
    let (one, two) = (order(1), order(2));
    assert!(one != two && one != plain && two != plain);
    let sorted = |text: &str| {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words.sort();
        words
    };
    assert!(sorted(&one) == sorted(&plain) && sorted(&two) == sorted(&plain));
}
