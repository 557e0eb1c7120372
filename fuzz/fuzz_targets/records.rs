//! Any lines are read to their end, and what is a text is text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twelvefold_fuzz::read;

fuzz_target!(|bytes: &[u8]| {
    let text = read("records.jsonl", bytes);
    assert!(std::str::from_utf8(&text).is_ok());
});
