//! Counts lines, words and bytes of a file, or of the standard input where no file is named: one
//! thread reads, another one counts. `cargo run --release --example edge -- FILE`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;
use std::{env, thread};
use twelvefold::engine::edge::channel;

fn count(mut input: File) -> io::Result<[u64; 3]> {
    let (mut tx, rx) = channel::<Vec<u8>>(8); // At most 8 chunks wait.
    let (mut back, mut spare) = channel::<Vec<u8>>(8); // They come back to be filled again.
    let reader = thread::spawn(move || -> io::Result<()> {
        loop {
            let mut chunk = spare.try_recv().unwrap_or_default();
            chunk.clear();
            let read = input.by_ref().take(1 << 16).read_to_end(&mut chunk)?;
            if read == 0 || tx.send(chunk).is_err() {
                return Ok(()); // Dropping `tx` closes the edge; what was sent is still counted.
            }
        }
    });
    let ([mut lines, mut words, mut bytes], mut in_word) = ([0, 0, 0], false);
    for chunk in rx {
        bytes += chunk.len() as u64;
        for byte in &chunk {
            lines += u64::from(*byte == b'\n');
            words += u64::from(!in_word && !byte.is_ascii_whitespace());
            in_word = !byte.is_ascii_whitespace();
        }
        drop(back.try_send(chunk)); // With enough spare ones it is freed.
    }
    reader.join().map_err(|_| io::Error::other("the reader panicked"))??;
    Ok([lines, words, bytes])
}

fn main() -> ExitCode {
    let path = env::args_os().nth(1).unwrap_or_else(|| "/dev/stdin".into());
    match File::open(&path).and_then(|file| count(file)) {
        Ok([lines, words, bytes]) => println!("{lines} lines, {words} words, {bytes} bytes"),
        Err(error) => {
            eprintln!("cannot read {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
