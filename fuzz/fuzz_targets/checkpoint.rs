//! A file of a checkpoint is refused with a word, or is what its header says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twelvefold::train::checkpoint::{run_state, verify};
use twelvefold::train::safetensors::Reader;
use twelvefold_fuzz::file;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut reader) = Reader::open(file("optimizer.safetensors", bytes)) {
        let shapes: Vec<(String, Vec<usize>)> =
            reader.tensors().iter().map(|(name, entry)| (name.clone(), entry.shape.clone())).collect();
        for (name, shape) in shapes {
            let len = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
            // What a header says lies in the file, so that no tensor is longer.
            if let Some(len) = len.filter(|&len| len <= bytes.len()) {
                let mut out = vec![0.0; len];
                let read = reader.read(&name, false, &mut out);
                if shape.len() == 2 && read.is_ok() {
                    let mut turned = vec![0.0; len];
                    reader.read(&name, true, &mut turned).expect("it was just read");
                    let at = |r: usize, c: usize| out[c * shape[1] + r].to_bits();
                    let same = |i: usize| turned[i].to_bits() == at(i / shape[0], i % shape[0]);
                    assert!((0..len).all(same));
                }
            }
        }
        let _ = run_state(&reader);
    }
    let config = file("config.json", bytes);
    // The other files are not there: whatever it says, the folder is no checkpoint.
    assert!(verify(config.parent().expect("a folder")).is_err());
});
