//! The SHA-256 of every file below a folder, in path order, as `sha256sum` prints it. Links are not
//! followed; Ctrl-C ends it after the files at hand. `cargo run --release --example hash -- FOLDER`

use sha2::{Digest, Sha256};
use std::io::{self, Read, Write, stderr, stdout};
use std::{env, fs, path::Path, path::PathBuf, process::ExitCode, thread};
use twelvefold::engine::{BoxError, pipeline::Pipeline};

/// A folder that cannot be read stands among the files: opening it will say why.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_file() || kind.is_dir() && list(&path, files).is_err() {
            files.push(path);
        }
    }
    Ok(())
}

fn hash(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, mut sha, mut buffer) = (fs::File::open(path)?, Sha256::new(), [0; 1 << 16]);
    while let read @ 1.. = file.read(&mut buffer)? {
        sha.update(&buffer[..read]);
    }
    let hash: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([hash.as_bytes(), b"  ", path.as_os_str().as_encoded_bytes(), b"\n"].concat())
}

fn main() -> Result<ExitCode, BoxError> {
    let (Some(folder), 2) = (env::args_os().nth(1), env::args_os().len()) else {
        return writeln!(stderr(), "usage: hash FOLDER").map(|()| Ok(2.into()))?;
    };
    let (mut files, mut unread) = (Vec::new(), 0);
    list(folder.as_ref(), &mut files).map_err(|e| format!("{}: {e}", folder.display()))?;
    files.sort_unstable();
    let hashed = Pipeline::from_iter("files", files).map("hash", |path| (hash(&path), path));
    let pipeline = hashed.try_sink("print", |(hash, path)| match hash {
        Ok(line) => stdout().write_all(&line),
        Err(e) => {
            unread += 1;
            writeln!(stderr(), "cannot read {}: {e}", path.display())
        }
    });
    let canceller = pipeline.canceller();
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])?;
    thread::spawn(move || signals.forever().for_each(|_| canceller.cancel()));
    let report = pipeline.run().map_err(|e| e.to_string())?;
    writeln!(stderr(), "{} files, {unread} not read", report.items)?;
    Ok(if report.cancelled { 130 } else { u8::from(unread > 0) }.into())
}
