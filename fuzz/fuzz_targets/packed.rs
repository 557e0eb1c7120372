//! Packed text of any kind ends, or breaks off with a word.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twelvefold_fuzz::read;

fuzz_target!(|bytes: &[u8]| {
    read("text.gz", bytes);
    read("text.zst", bytes);
    read("records.jsonl.zst", bytes);
});
