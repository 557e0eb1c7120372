//! Reads a `tokenizer.json`: what [`json`](super::json) wrote for any of our tokenizers, and through
//! [`import`] a byte-level BPE of others.
//!
//! A file of ours is one that is written again value for value: so no tokenizer comes out of it that
//! would write another.

use serde_json::Value;

use super::words::{SPECIALS, Words};
use super::{Tokenizer, import};

/// # Errors
/// What is wrong or not supported.
pub(super) fn read(text: &str) -> Result<Tokenizer, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("it does not parse: {e}"))?;
    if value == Tokenizer::Bytes.to_json() {
        return Ok(Tokenizer::Bytes);
    }
    if value.pointer("/model/type").and_then(Value::as_str) == Some("WordLevel") {
        return words(&value).ok_or_else(|| {
            "its model is WordLevel; only the one that is written here is read".to_owned()
        });
    }
    Ok(Tokenizer::Bpe(Box::new(import::read(text)?)))
}

/// Whole words, where the file is one of ours.
fn words(value: &Value) -> Option<Tokenizer> {
    let vocab = value.pointer("/model/vocab")?.as_object()?;
    let mut words = vec![None; vocab.len()];
    for (word, id) in vocab {
        *words.get_mut(usize::try_from(id.as_u64()?).ok()?)? = Some(word.as_str());
    }
    let words: Option<Vec<Box<str>>> =
        words.into_iter().skip(SPECIALS.len()).map(|word| Some(word?.into())).collect();
    let tokenizer = Tokenizer::Words(Words::new(words?));
    (tokenizer.to_json() == *value).then_some(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tokenizer::TokenizerSpec;
    use crate::corpus::tokenizer::learn::{Learner, train};
    use crate::corpus::{Chunk, Span};
    use serde_json::json;

    fn learned(spec: TokenizerSpec) -> Tokenizer {
        let bytes = b"the cat saw the dog and the dog saw the cat in the Garden".to_vec();
        let span =
            Span { document: 0, offset: 0, range: 0..bytes.len(), ends_document: true, bits: 0.0 };
        let mut learner = Learner::new(spec);
        learner.learn(&Chunk { bytes, spans: vec![span], ..Chunk::default() });
        train(vec![learner]).tokenizer
    }

    #[test]
    fn each_tokenizer_comes_back_from_what_it_writes() {
        let text = "The cat saw a GARDEN\n twice, and the dog";
        for ours in
            [Tokenizer::Bytes, learned(TokenizerSpec::Words(9)), learned(TokenizerSpec::Bpe(265))]
        {
            let written = format!("{:#}\n", ours.to_json());
            let back = read(&written).unwrap();
            assert_eq!(format!("{:#}\n", back.to_json()), written);
            let ids = |one: &Tokenizer| one.encode_text(text, &mut Default::default());
            assert_eq!(ids(&back), ids(&ours));
            assert_eq!(back.vocab(), ours.vocab());
            assert_eq!(back.end_of_document(), ours.end_of_document());
            assert_eq!(std::mem::discriminant(&back), std::mem::discriminant(&ours));
        }
    }

    #[test]
    fn words_that_are_not_as_they_are_written_here_are_refused() {
        let value = learned(TokenizerSpec::Words(9)).to_json();
        type Change = fn(&mut Value);
        let changes: [Change; 4] = [
            |v| v["normalizer"] = Value::Null,
            |v| v["model"]["vocab"]["[EOS]"] = json!(4),
            |v| v["model"]["vocab"]["the"] = json!(1_000_000_000_000_u64),
            |v| v["model"]["vocab"] = json!({}),
        ];
        for change in changes {
            let mut value = value.clone();
            change(&mut value);
            let message = read(&value.to_string()).unwrap_err();
            assert!(message.starts_with("its model is WordLevel"), "{message}");
        }
    }
}
