//! The loader of the corpus beside the plain ways to read the same files, in turns.
//!
//! ```text
//! cargo run --release -p twelvefold-benches --bin loader -- [FILTER…] [--rounds N] [--files N] [--folder DIR]
//! ```
//!
//! | row | what is read | ours beside |
//! |---|---|---|
//! | `small/hot` | 30,000 files of 4 KB in 30 folders, all in the page cache | `pread` into reused buffers on 1 and 2 threads, a map for each file |
//! | `small/cold` | the same, out of the page cache (`posix_fadvise`; inodes and names stay) | `pread` on 1 and 32 threads |
//! | `large/hot` | one file of 160 MB, each line's end found by memchr | the same over one map |
//!
//! Ours finds the files itself, and looks at each before and after it is read. Peers are given the
//! paths; `…_listed` lists and sorts the folders first. What comes out is compared before the clock is
//! started, and counted while it runs. A ratio is taken within each round; the table shows the medians.

#![expect(clippy::unwrap_used, reason = "a file that cannot be read ends the run")]
#![expect(clippy::print_stdout, reason = "the table")]
#![expect(unsafe_code, reason = "a peer maps files")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use memchr::memchr_iter;
use memmap2::Mmap;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use twelvefold::corpus::files::FileSource;
use twelvefold::corpus::{Chunk, Filled, Source};
use twelvefold::engine::pipeline::Pipeline;
use twelvefold_benches::median;

const FOLDERS: usize = 30;
const SMALL_BYTES: usize = 4096;
const LARGE_BYTES: usize = 160_000_000;
/// Batches of files in our pipeline.
const IN_FLIGHT: usize = 16;
/// Files that a thread of a peer takes at a time.
const SHARE: usize = 64;

/// Runs the readers in turns.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only rows whose name holds one of these texts, for example `small/cold`.
    filter: Vec<String>,
    /// How often each contender runs.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How many small files.
    #[arg(long, default_value_t = 30_000)]
    files: usize,
    /// Where the files are made, in a folder that is removed at the end.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
}

/// A name, and one pass, which gives what it counted.
type Contender<'a> = (&'a str, Box<dyn FnMut() -> u64 + 'a>);

/// What one pass is worth, and its unit.
type Worth = (f64, &'static str);

fn main() {
    let arguments = Arguments::parse();
    let wanted = |id: &str| {
        arguments.filter.is_empty() || arguments.filter.iter().any(|text| id.contains(&**text))
    };
    let folder = tempfile::tempdir_in(&arguments.folder).unwrap();
    if wanted("small/hot") || wanted("small/cold") {
        let root = folder.path().join("small");
        let paths = small_files(&root, arguments.files);
        assert_eq!(read_all(&root), concat(&paths), "the loader gives every byte in order");
        let worth = (paths.len() as f64 / 1e3, "thousand files/s");
        if wanted("small/hot") {
            rows("small/hot", worth, arguments.rounds, || (), &mut hot(&root, &paths));
        }
        if wanted("small/cold") {
            let rounds = arguments.rounds.min(5);
            rows("small/cold", worth, rounds, || forget(&paths), &mut cold(&root, &paths));
        }
    }
    if wanted("large/hot") {
        let path = large_file(folder.path());
        let worth = (LARGE_BYTES as f64 / 1e9, "GB/s");
        rows("large/hot", worth, arguments.rounds, || (), &mut large(&path));
    }
}

/// Runs the contenders in turns, those of ours first; `prepare` comes before each pass, untimed.
fn rows(
    id: &str,
    (worth, unit): Worth,
    rounds: usize,
    prepare: impl Fn(),
    contenders: &mut [Contender<'_>],
) {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    let answer = contenders[0].1();
    for _ in 0..rounds {
        for ((name, pass), times) in contenders.iter_mut().zip(&mut times) {
            prepare();
            let started = Instant::now();
            let counted = pass();
            times.push(started.elapsed().as_secs_f64());
            assert_eq!(counted, answer, "{id}/{name}");
        }
    }
    let ours: Vec<usize> =
        (0..contenders.len()).filter(|&at| contenders[at].0.starts_with("ours")).collect();
    for (at, (name, _)) in contenders.iter().enumerate() {
        let rate = worth / median(&mut times[at].clone());
        let ratios: Vec<String> = ours
            .iter()
            .filter(|&&our| our != at)
            .map(|&our| {
                let mut each: Vec<f64> =
                    times[at].iter().zip(&times[our]).map(|(theirs, ours)| theirs / ours).collect();
                format!("{} {:.2} x", contenders[our].0, median(&mut each))
            })
            .collect();
        println!("| {id}/{name} | {rate:.1} {unit} | {} |", ratios.join(", "));
    }
}

/// Text that no file shares with another, in lines.
fn text(number: usize, bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 64);
    let mut line = 0;
    while text.len() < bytes {
        text.extend(format!("file {number}, line {line}: some words of text\n").bytes());
        line += 1;
    }
    text.truncate(bytes);
    text
}

/// Makes the files; their paths in the loader's order.
fn small_files(root: &Path, count: usize) -> Vec<PathBuf> {
    let each = count.div_ceil(FOLDERS);
    let path = |number| root.join(format!("{:03}/{number:06}.txt", number / each));
    let paths: Vec<PathBuf> = (0..count).map(path).collect();
    for (number, path) in paths.iter().enumerate() {
        if number % each == 0 {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(path, text(number, SMALL_BYTES)).unwrap();
    }
    // Only what is on the disk can be put out of the cache.
    paths.iter().for_each(|path| File::open(path).unwrap().sync_all().unwrap());
    paths
}

fn large_file(folder: &Path) -> PathBuf {
    let path = folder.join("large.txt");
    fs::write(&path, text(0, LARGE_BYTES)).unwrap();
    path
}

/// Puts files out of the page cache.
fn forget(paths: &[PathBuf]) {
    for path in paths {
        let file = File::open(path).unwrap();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    }
}

fn concat(paths: &[PathBuf]) -> Vec<u8> {
    paths.iter().flat_map(|path| fs::read(path).unwrap()).collect()
}

fn read_all(root: &Path) -> Vec<u8> {
    let (mut source, mut chunk, mut all) = (source(root), Chunk::default(), Vec::new());
    while source.fill(&mut chunk).unwrap() {
        all.extend_from_slice(&chunk.bytes);
    }
    all
}

fn source(path: &Path) -> FileSource {
    FileSource::new([path]).unwrap()
}

fn size(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

/// Finds every line's end, as who cuts text into lines does.
fn lines(bytes: &[u8]) -> u64 {
    let mut ends = 0;
    memchr_iter(b'\n', bytes).for_each(|end| ends += u64::from(bytes[..end].len() < bytes.len()));
    ends
}

/// One thread, a reused chunk.
fn fill(path: &Path, count: impl Fn(&[u8]) -> u64) -> u64 {
    let (mut source, mut chunk, mut counted) = (source(path), Chunk::default(), 0);
    while source.fill(&mut chunk).unwrap() {
        counted += count(&chunk.bytes);
    }
    counted
}

/// The loader as the run uses it: workers read ahead, and the sink takes what they read, in order.
fn pipeline(path: &Path, count: impl Fn(&[u8]) -> u64 + Sync + Send) -> u64 {
    let (mut chunk, mut counted) = (Chunk::default(), 0);
    let mut source = source(path);
    // The pipeline bounds how many there are.
    source.read_ahead(usize::MAX);
    let source = Mutex::new(source);
    let planned = std::iter::from_fn(|| source.lock().unwrap().plan());
    Pipeline::from_iter("plan", planned)
        .map("read", |mut batch| {
            batch.read();
            batch
        })
        .sink("take", |batch| {
            let mut source = source.lock().unwrap();
            source.accept(batch);
            while source.advance(&mut chunk).unwrap() == Filled::Full {
                counted += count(&chunk.bytes);
            }
        })
        .in_flight(IN_FLIGHT)
        .run()
        .unwrap();
    counted
}

/// Shares paths out to threads; each reads into one buffer of its own.
fn shared(paths: &[PathBuf], threads: usize, read: impl Fn(&Path, &mut [u8]) -> u64 + Sync) -> u64 {
    let (next, sum) = (AtomicUsize::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; 4 * SMALL_BYTES];
                let mut counted = 0;
                loop {
                    let at = next.fetch_add(SHARE, Ordering::Relaxed);
                    let Some(rest) = paths.get(at..) else { break };
                    let share = &rest[..rest.len().min(SHARE)];
                    counted += share.iter().map(|path| read(path, &mut buffer)).sum::<u64>();
                }
                sum.fetch_add(counted, Ordering::Relaxed);
            });
        }
    });
    sum.into_inner()
}

fn pread(paths: &[PathBuf], threads: usize) -> u64 {
    shared(paths, threads, |path, buffer| {
        File::open(path).unwrap().read_at(buffer, 0).unwrap() as u64
    })
}

/// The files below a folder, sorted.
fn listed(root: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| {
        let mut all: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    list(root).iter().flat_map(|folder| list(folder)).collect()
}

/// Maps each file and copies it out, as who hands its text on must.
fn mapped(paths: &[PathBuf]) -> u64 {
    shared(paths, 1, |path, buffer| {
        let file = File::open(path).unwrap();
        // SAFETY: nobody but this process knows the folder, and nothing writes to the file.
        let map = unsafe { Mmap::map(&file) }.unwrap();
        buffer[..map.len()].copy_from_slice(&map);
        map.len() as u64
    })
}

fn hot<'a>(root: &'a Path, paths: &'a [PathBuf]) -> Vec<Contender<'a>> {
    vec![
        ("ours_source", Box::new(move || fill(root, size))),
        ("ours_pipeline", Box::new(move || pipeline(root, size))),
        ("pread_1", Box::new(move || pread(paths, 1))),
        ("pread_2", Box::new(move || pread(paths, 2))),
        ("pread_2_listed", Box::new(move || pread(&listed(root), 2))),
        ("map_each", Box::new(move || mapped(paths))),
    ]
}

fn cold<'a>(root: &'a Path, paths: &'a [PathBuf]) -> Vec<Contender<'a>> {
    vec![
        ("ours_source", Box::new(move || fill(root, size))),
        ("ours_pipeline", Box::new(move || pipeline(root, size))),
        ("pread_1", Box::new(move || pread(paths, 1))),
        ("pread_32", Box::new(move || pread(paths, 32))),
    ]
}

fn large(path: &Path) -> Vec<Contender<'_>> {
    vec![
        ("ours_source", Box::new(move || fill(path, lines))),
        ("ours_pipeline", Box::new(move || pipeline(path, lines))),
        (
            "map_memchr",
            Box::new(move || {
                let file = File::open(path).unwrap();
                // SAFETY: as in `mapped`.
                let map = unsafe { Mmap::map(&file) }.unwrap();
                lines(&map)
            }),
        ),
    ]
}
