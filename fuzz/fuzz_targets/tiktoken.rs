//! A file that is refused is refused with a word, and one that is taken gives back any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twelvefold::corpus::tokenizer::{Encoder, TokenizerSpec};
use twelvefold_fuzz::file;

fuzz_target!(|bytes: &[u8]| {
    let path = file("vocabulary.tiktoken", bytes);
    let spec = TokenizerSpec::Tiktoken(path, "cl100k".parse().expect("a pattern"));
    if let Ok(tokenizer) = spec.load() {
        let text = "It's a text, 12345 <|endoftext|>  \u{e9}\n";
        let tokens = tokenizer.encode_text(text, &mut Encoder::default());
        assert_eq!(tokenizer.decode_to_string(&tokens), text);
        assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab()));
    }
});
