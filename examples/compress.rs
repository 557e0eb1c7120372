//! Compresses FILE to FILE.gz, or the standard input to the standard output, on every core: each
//! mebibyte becomes a gzip member, and `gunzip` reads them as one file. FILE.gz appears whole or not
//! at all, and replaces none. `cargo run --release --example compress -- FILE`

use flate2::{Compression, write::GzEncoder};
use signal_hook::{consts::SIGINT, iterator::Signals};
use std::io::{self, Read, Write, stderr, stdin, stdout};
use std::{env, fs::File, mem, path::Path, process::ExitCode, thread};
use twelvefold::engine::{BoxError, pipeline::Pipeline, pipeline::Pull};

fn gzip(chunk: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut member = GzEncoder::new(Vec::new(), Compression::default());
    member.write_all(&chunk)?;
    member.finish()
}

fn compress<'a>(mut from: impl Read + Send + 'a, mut to: impl Write + Send + 'a) -> Pipeline<'a> {
    let mut first = true;
    let read = move || -> io::Result<Pull<Vec<u8>>> {
        let mut chunk = Vec::new();
        from.by_ref().take(1 << 20).read_to_end(&mut chunk)?;
        let over = !mem::take(&mut first) && chunk.is_empty(); // Nothing at all is a member, too.
        Ok(if over { Pull::End } else { Pull::Item(chunk) })
    };
    let chunks = Pipeline::try_source("read", read).blocking(); // A thread of its own may wait.
    let write = move |member: Vec<u8>| to.write_all(&member).and_then(|()| to.flush());
    chunks.try_map("compress", gzip).try_sink("write", write).in_flight(64) // Of 1 MiB each.
}

fn to_file(path: &Path) -> Result<u8, BoxError> {
    let (from, folder) = (File::open(path)?, path.parent().unwrap_or(path));
    let permissions = from.metadata()?.permissions();
    let mut new = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
    let pipeline = compress(from, &mut new);
    let (canceller, mut signals) = (pipeline.canceller(), Signals::new([SIGINT])?);
    thread::spawn(move || signals.forever().for_each(|_| canceller.cancel()));
    if pipeline.run()?.cancelled {
        return Ok(130); // `new` is removed on the way out, as after an error.
    }
    Ok(new.persist_noclobber(path.with_added_extension("gz")).map(|_| 0)?)
}

fn main() -> Result<ExitCode, BoxError> {
    let code = match (env::args_os().nth(1), env::args_os().len()) {
        (None, _) => compress(stdin(), stdout()).run().map(|_| 0).map_err(|e| e.to_string()),
        (Some(path), 2) => to_file(path.as_ref()).map_err(|e| format!("{}: {e}", path.display())),
        _ => writeln!(stderr(), "usage: compress [FILE]").map(|()| 2).map_err(|e| e.to_string()),
    };
    Ok(code?.into())
}
