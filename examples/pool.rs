//! How many bytes and files are below a folder: a task for each folder, which spawns one for each
//! folder in it. `cargo run --release --example pool -- PATH` (without it, here)

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io};
use twelvefold::engine::workers::{Worker, Workers};

#[derive(Default)]
struct Count {
    bytes: AtomicU64,
    files: AtomicU64,
    unread: AtomicU64,
}

fn visit(worker: &mut Worker<'_, PathBuf>, folder: PathBuf, count: &Count) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let of = entry.metadata()?; // Of a link itself: links are not followed.
        if !of.is_dir() {
            count.bytes.fetch_add(of.len(), Ordering::Relaxed);
            count.files.fetch_add(1, Ordering::Relaxed);
        } else if let Err(folder) = worker.spawn(entry.path()) {
            visit(worker, folder, count)?; // The pool is full: here and now.
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let path = env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let count = Count::default();
    let run = |worker: &mut Worker<'_, PathBuf>, folder: PathBuf| {
        if let Err(error) = visit(worker, folder.clone(), &count) {
            eprintln!("cannot read all of {}: {error}", folder.display());
            count.unread.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let done = Workers::scope(4, run, |workers| workers.step([PathBuf::from(path)]));
    if let Err(error) = &done {
        eprintln!("{error}");
    }
    println!("{:?} bytes in {:?} files", count.bytes, count.files);
    ExitCode::from(u8::from(done.is_err() || count.unread.into_inner() > 0))
}
