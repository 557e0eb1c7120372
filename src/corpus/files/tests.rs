use std::fs::{self, File, OpenOptions};
use std::io::Write;
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

/// Records, packed text and rules, in the order of a seed: the second pass is the first once more.
#[test]
fn every_kind_of_input_comes_again_as_it_came() {
    let t = tempfile::tempdir().unwrap();
    for i in 0..20_usize {
        let lines = records(i * 10..i * 10 + 5) + "nonsense\n";
        write(t.path(), &format!("{i:02}.jsonl.gz"), gzip(lines.as_bytes()));
        write(t.path(), &format!("{i:02}.txt.zst"), zstd(format!("text {i}").as_bytes()));
    }
    write(t.path(), "left-out.txt", "left out");
    write(t.path(), ".gitignore", "left-*\n");
    let mut source = FileSource::new([t.path()]).unwrap().shuffled(3).gitignore(true);
    let first = read_all(&mut source);
    let names = |source: &FileSource| (0..121).map(|d| source.name(d)).collect::<Vec<_>>();
    let (named, summary) = (names(&source), source.summary());
    assert_eq!((first.len(), summary.bad_records, summary.bad.len()), (120, 20, 20));
    assert!(named[..120].iter().all(Option::is_some) && named[120].is_none());
    source.rewind().unwrap();
    let mut chunk = Chunk::default();
    let mut second = Vec::new();
    while source.fill(&mut chunk).unwrap() {
        second.extend(chunk.spans.iter().map(|span| chunk.bytes[span.range.clone()].to_vec()));
    }
    assert_eq!(second, first);
    assert_eq!(names(&source), named);
    assert_eq!(source.summary(), Summary { opened: 80, rewound: 1, ..summary });
}

#[test]
fn standard_input_is_not_read_again() {
    let mut source = FileSource::new(["-"]).unwrap();
    let message = source.rewind().unwrap_err().to_string();
    assert!(message.starts_with("standard input cannot be read again"), "{message}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    ruzstd::encoding::compress_to_vec(bytes, level)
}

/// Each record's text has its line's number in it.
fn records(lines: std::ops::Range<usize>) -> String {
    lines.map(|i| format!("{{\"id\":{i},\"text\":\"record {i} \\u00e9\",\"n\":[]}}\n")).collect()
}

fn bad(source: &FileSource, folder: &Path) -> Vec<(String, String)> {
    let prefix = format!("{}/", folder.display());
    let cut = |s: &str| s.replace(&prefix, "");
    source.summary().bad.iter().map(|s| (cut(&s.path), s.reason.clone())).collect()
}

#[test]
fn packed_text_and_records_come_out_as_if_they_lay_open() {
    let t = tempfile::tempdir().unwrap();
    let mut rng = Rng(8);
    let text = nasty_text(&mut rng, 900_000);
    let lines = records(0..20_000);
    let two = [gzip(b"one "), gzip(b"two")].concat();
    let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(b"x "), &zstd(b"y")];
    for (name, bytes) in [
        ("a.txt.gz", gzip(text.as_bytes())),
        ("b.txt.zst", zstd(text.as_bytes())),
        ("c.jsonl", lines.clone().into_bytes()),
        ("d.jsonl.gz", gzip(lines.as_bytes())),
        ("e.ndjson.zst", zstd(lines.as_bytes())),
        ("f.gz", two),
        ("g.zst", skippable.concat()),
    ] {
        write(t.path(), name, bytes);
    }
    let mut source = FileSource::new([t.path()]).unwrap();
    let documents = read_all(&mut source);
    let record = |i: usize| format!("record {i} é").into_bytes();
    let (whole, text) = (documents.len(), text.into_bytes());
    assert_eq!(whole, 2 + 3 * 20_000 + 2);
    assert!(documents[0] == text && documents[1] == text);
    assert!((0..60_000).all(|i| documents[2 + i] == record(i % 20_000)));
    assert_eq!(documents[whole - 2..], [b"one two".to_vec(), b"x y".to_vec()]);
    let summary = source.summary();
    assert_eq!((summary.files, summary.opened, summary.bad_records), (7, 7, 0));
    let name = |document| source.name(document).unwrap();
    assert!(name(2).ends_with("c.jsonl:1") && name(20_001).ends_with("c.jsonl:20000"));
    assert!(name(20_002).ends_with("d.jsonl.gz:1") && name(60_002).ends_with("f.gz"));
}

#[test]
fn a_record_longer_than_a_chunk_is_one_document() {
    let t = tempfile::tempdir().unwrap();
    let (long, field) = ("word ".repeat(300_000), "body");
    write(t.path(), "a.jsonl", format!("{{\"{field}\":\"{long}\"}}\n{{\"{field}\":\"end\"}}"));
    let mut source = FileSource::new([t.path()]).unwrap().field(field);
    assert!(read_all(&mut source) == [long.into_bytes(), b"end".to_vec()]);
}

#[test]
fn what_breaks_off_keeps_what_came_before_and_is_named() {
    let t = tempfile::tempdir().unwrap();
    let mut rng = Rng(4);
    let text: Vec<u8> = (0..600_000).map(|_| b'a' + rng.below(26) as u8).collect();
    let (lines, packed) = (records(0..3000), gzip(&text));
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() * 2 / 3].to_vec();
    let mut flipped = zstd(&text);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for (name, bytes) in [
        ("a.gz", cut(packed.clone())),
        ("b.jsonl.gz", cut(gzip(lines.as_bytes()))),
        ("c.zst", cut(zstd(&text))),
        ("d.zst", flipped),
        ("e.gz", b"no gzip".to_vec()),
        ("f.zst", b"no zstd".to_vec()),
        ("g.gz", packed[..5].to_vec()),
        ("h.txt", b"whole".to_vec()),
    ] {
        write(t.path(), name, bytes);
    }
    let mut source = FileSource::new([t.path()]).unwrap();
    let documents = read_all(&mut source);
    let found = bad(&source, t.path());
    let files: Vec<&str> = found.iter().map(|(at, _)| at.split(':').next().unwrap()).collect();
    assert_eq!(files, ["a.gz", "b.jsonl.gz", "c.zst", "d.zst", "e.gz", "f.zst", "g.gz"]);
    let reasons: Vec<&str> = found.iter().map(|(_, why)| why.as_str()).collect();
    let midst = "it ends in the midst of its packed text";
    let checksum = "it cannot be unpacked: the checksum is another";
    let header = "it cannot be unpacked: invalid zstd header";
    assert_eq!(reasons, [midst, midst, midst, checksum, midst, header, midst]);
    let at: u64 = found[0].0.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((300_000..600_000).contains(&at), "{}", found[0].0);
    assert!(documents[0].len() as u64 == at && text.starts_with(&documents[0]));
    let count = documents.len() - 4;
    assert!((1000..3000).contains(&count), "{count} records before the cut");
    assert_eq!(found[1].0, format!("b.jsonl.gz:{}", count + 1));
    assert_eq!(documents.last().unwrap(), b"whole");
    assert_eq!(source.summary().bad_records, 7);
}

#[test]
fn more_bad_records_than_allowed_stop_the_run_and_the_last_is_named() {
    let t = tempfile::tempdir().unwrap();
    write(t.path(), "a.jsonl", "{\"text\":\"a\"}\nx\ny\n{\"text\":\"b\"}\nz\n");
    let mut source = FileSource::new([t.path()]).unwrap().bad_records(3);
    assert_eq!(read_all(&mut source), [b"a", b"b"]);
    assert_eq!(source.summary().bad_records, 3);
    let mut source = FileSource::new([t.path()]).unwrap().bad_records(2);
    let error = source.fill(&mut Chunk::default()).unwrap_err().to_string();
    assert!(error.starts_with("more than 2 bad records; this one is "), "{error}");
    assert!(error.contains("a.jsonl:5: it is no such record: expected value"), "{error}");
}

/// A megabyte that claims, and a kilobyte that unpacks to, gigabytes.
#[test]
fn what_unpacks_to_a_thousand_times_its_size_passes_in_bounded_memory() {
    let t = tempfile::tempdir().unwrap();
    let path = t.path().join("bomb.gz");
    let file = File::create(&path).unwrap();
    let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    for _ in 0..300 {
        packer.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    packer.finish().unwrap();
    // A frame that claims 2^63 bytes and a window of 2^41, and holds nothing.
    let claim = [0x28, 0xB5, 0x2F, 0xFD, 0xC0, 0xF8, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0];
    write(t.path(), "claim.zst", claim);
    let mut source = FileSource::new([t.path()]).unwrap();
    let (mut chunk, mut bytes) = (Chunk::default(), 0_u64);
    while source.fill(&mut chunk).unwrap() {
        assert!(chunk.bytes.capacity() <= 2 * CHUNK_BYTES);
        bytes += chunk.bytes.len() as u64;
    }
    assert_eq!(bytes, 300 << 20);
    let found = bad(&source, t.path());
    assert!(found.len() == 1 && found[0].0 == "claim.zst", "{found:?}");
}

#[test]
fn a_packed_picture_and_packed_nothing_are_no_text() {
    let t = tempfile::tempdir().unwrap();
    write(t.path(), "a.gz", gzip(b"PNG\0"));
    write(t.path(), "b.zst", zstd(b""));
    write(t.path(), "c", "text");
    let mut source = FileSource::new([t.path()]).unwrap();
    assert_eq!(read_all(&mut source), [b"text"]);
    let expected = [("a.gz", "binary: a NUL at byte 3"), ("b.zst", "empty")];
    assert_eq!(reasons(&source, t.path()), expected.map(|(p, r)| (p.into(), r.into())));
}

#[test]
fn gitignore_files_are_respected_on_request_those_above_too() {
    let t = tempfile::tempdir().unwrap();
    for (name, text) in [
        (".gitignore", "*.log\n/top\nbuild/\n"),
        ("in/.gitignore", "!keep.log\nsecret*\n"),
        ("in/a.txt", "a"),
        ("in/b.log", "b"),
        ("in/keep.log", "k"),
        ("in/secret.txt", "s"),
        ("in/build/c.txt", "c"),
        ("in/sub/secret", "s"),
        ("in/sub/d.txt", "d"),
        ("in/top", "t"),
    ] {
        write(t.path(), name, text);
    }
    fs::create_dir(t.path().join(".git")).unwrap();
    let read = |respected: bool, path: &str| {
        let source = FileSource::new([t.path().join(path)]).unwrap();
        let mut source = source.gitignore(respected);
        String::from_utf8(read_all(&mut source).concat()).unwrap()
    };
    assert_eq!(read(false, "in"), "abcksdst");
    assert_eq!(read(true, "in"), "akdt");
    assert_eq!(read(true, "in/b.log"), "b", "what is given is taken");
}

/// The longest run that a foreign vocabulary must not have cut, over many chunks.
#[test]
fn a_run_is_whole_up_to_the_block_of_its_cuts() {
    let t = tempfile::tempdir().unwrap();
    let long = "x".repeat(crate::corpus::runs::FOREIGN_BLOCK_BYTES);
    write(t.path(), "a", format!("{long} a"));
    write(t.path(), "b", format!("b {long}y"));
    for cuts in [Cuts::OWN, Cuts::GPT2] {
        let mut source = FileSource::new([t.path()]).unwrap().cutting(cuts);
        let (mut chunk, mut spans) = (Chunk::default(), Vec::new());
        while source.fill(&mut chunk).unwrap() {
            spans.extend(chunk.spans.iter().map(|span| span.range.len()));
        }
        if cuts == Cuts::OWN {
            assert!(spans.iter().all(|&span| span <= CHUNK_BYTES));
        } else {
            assert_eq!(spans, [long.len() + 2, 1, long.len() + 2]);
        }
    }
}

/// What a source gives, chunk by chunk, and what it says of it.
type Given = (Vec<(u64, Vec<u8>, Vec<Span>)>, Summary, Vec<Option<String>>);

/// Takes all that a source gives. With a limit, so many batches are out at once, and those planned last
/// are read first.
fn given(source: &mut dyn Source, limit: Option<usize>) -> Given {
    let (mut chunk, mut chunks) = (Chunk::default(), Vec::new());
    if let Some(limit) = limit {
        assert!(source.read_ahead(limit));
    }
    loop {
        let filled = match limit {
            Some(_) => source.advance(&mut chunk).unwrap(),
            None if source.fill(&mut chunk).unwrap() => Filled::Full,
            None => Filled::Over,
        };
        match filled {
            Filled::Full => chunks.push((chunk.index, chunk.bytes.clone(), chunk.spans.clone())),
            Filled::Over => break,
            Filled::Later => {
                let mut out: Vec<Batch> = std::iter::from_fn(|| source.plan()).collect();
                assert!(!out.is_empty(), "nothing is out, so there is something to plan");
                out.iter_mut().rev().for_each(Batch::read);
                out.into_iter().for_each(|batch| source.accept(batch));
            }
        }
    }
    let names = (0..2_000).map(|document| source.name(document)).collect();
    (chunks, source.summary(), names)
}

/// Files of all kinds, most of them small.
fn all_kinds() -> tempfile::TempDir {
    let t = tempfile::tempdir().unwrap();
    let mut rng = Rng(12);
    for i in 0..600 {
        let size = match i {
            321 => 2_500_000,
            i if i % 80 == 1 => 300_000,
            i if i % 40 == 1 => 70_000,
            _ => rng.below(9_000),
        };
        let mut text = nasty_text(&mut rng, size.min(5_000) + 1).into_bytes();
        text.resize(size, b'x');
        if i % 50 == 7 {
            text.insert(size.min(3), 0);
        }
        write(t.path(), &format!("{}/{i:04}", i % 3), text);
    }
    for i in 0..6 {
        write(t.path(), &format!("1/0{i}.jsonl"), records(0..90) + "nonsense\n");
        write(t.path(), &format!("2/0{i}.txt.gz"), gzip(&vec![b'g'; 90_000 * i]));
        write(t.path(), &format!("2/.{i}"), "hidden");
        fs::hard_link(t.path().join("0/0003"), t.path().join(format!("1/{i}"))).unwrap();
        symlink("../0/0006", t.path().join(format!("0/0{i}"))).unwrap();
    }
    t
}

#[test]
fn who_reads_ahead_and_how_far_changes_nothing() {
    let t = all_kinds();
    let given_by = |shuffled: bool, limit| {
        let source = FileSource::new([t.path()]).unwrap();
        let mut source = if shuffled { source.shuffled(3) } else { source };
        let first = given(&mut source, limit);
        source.rewind().unwrap();
        let second = given(&mut source, limit);
        assert_eq!(second.0.len(), first.0.len(), "another pass");
        first
    };
    for shuffled in [false, true] {
        let expected = given_by(shuffled, None);
        let (chunks, summary, _) = &expected;
        assert!(chunks.len() > 20 && summary.skipped.len() > 20 && summary.bad_records == 6);
        for limit in [1, 2, 5, 1_000] {
            assert!(given_by(shuffled, Some(limit)) == expected, "{limit} batches, {shuffled}");
        }
    }
}

#[test]
fn the_parts_of_a_mixture_are_read_ahead_each_for_itself() {
    let t = all_kinds();
    let given_by = |limit| {
        let part =
            |name| -> Box<dyn Source> { Box::new(FileSource::new([t.path().join(name)]).unwrap()) };
        let parts = vec![(part("0"), 0.2), (part("1"), 0.5), (part("2"), 0.3)];
        given(&mut crate::corpus::mix::Mix::new(parts), limit)
    };
    let expected = given_by(None);
    for limit in [1, 5, 1_000] {
        assert!(given_by(Some(limit)) == expected, "{limit} batches");
    }
}

/// An order for the reader's two looks: it has opened the file, and has not read it.
#[test]
fn a_small_file_that_changes_while_it_is_read_is_an_error_that_says_where() {
    for new_size in [0, 10, 1000, 1001] {
        let t = tempfile::tempdir().unwrap();
        let path = write(t.path(), "f", vec![b'x'; 1000]);
        let mut source = FileSource::new([&path]).unwrap();
        let mut batch = source.plan().unwrap();
        batch.read_after(|| {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(new_size).unwrap();
            // A clock of coarse ticks could show no change.
            file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        });
        source.accept(batch);
        let error = source.advance(&mut Chunk::default()).unwrap_err().to_string();
        let start = format!("cannot go on reading {}: it", path.display());
        assert!(error.starts_with(&start), "{error}");
        let at = if new_size < 1000 { 0 } else { 1000 };
        assert!(error.contains(&format!("it failed at byte {at};")), "{error}");
    }
}

/// What vanishes between the listing and the opening is said, and is no error.
#[test]
fn a_file_that_vanishes_before_it_is_opened_is_skipped_with_the_reason() {
    let t = tempfile::tempdir().unwrap();
    let [path, _] = ["a", "b"].map(|name| write(t.path(), name, name));
    let mut source = FileSource::new([t.path()]).unwrap();
    let mut batch = source.plan().unwrap();
    fs::remove_file(path).unwrap();
    batch.read();
    source.accept(batch);
    assert_eq!(read_all(&mut source), [b"b"]);
    let reason = "cannot be read: No such file or directory (os error 2)".to_owned();
    assert_eq!(reasons(&source, t.path()), [("a".to_owned(), reason)]);
    assert_eq!((source.summary().files, source.summary().opened), (2, 1));
}

/// They are asked for first, and read when all of the batch are asked for.
#[test]
fn files_that_are_not_in_memory_come_out_byte_for_byte() {
    let t = tempfile::tempdir().unwrap();
    let text = |i: usize| format!("{i:03} ").repeat(i * 40).into_bytes();
    for i in 1..100 {
        let path = write(t.path(), &format!("{i:03}"), text(i));
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let mut source = FileSource::new([t.path()]).unwrap();
    assert!(read_all(&mut source).into_iter().eq((1..100).map(text)));
}

/// Whoever hands batches back in another order would change the order of the text.
#[test]
#[should_panic(expected = "batches come back in the order of the plan")]
fn a_batch_that_overtakes_another_is_refused() {
    let t = tempfile::tempdir().unwrap();
    (0..100).for_each(|i| drop(write(t.path(), &format!("{i}"), "text")));
    let mut source = FileSource::new([t.path()]).unwrap();
    source.read_ahead(2);
    let _first = source.plan().unwrap();
    let second = source.plan().unwrap();
    source.accept(second);
}

/// Its buffer is full at the large file: what comes after that is the source's to open.
#[test]
fn a_batch_that_is_read_again_is_as_it_was() {
    let t = tempfile::tempdir().unwrap();
    write(t.path(), "a", "first");
    write(t.path(), "b", vec![b'x'; 300_000]);
    write(t.path(), "c", "third");
    let mut source = FileSource::new([t.path()]).unwrap();
    let mut batch = source.plan().unwrap();
    batch.read();
    batch.read();
    source.accept(batch);
    let all = read_all(&mut source);
    assert!(all[0] == b"first" && all[1].len() == 300_000 && all[2] == b"third", "{}", all.len());
}
