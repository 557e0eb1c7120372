//! The recogniser here is written on its own, from the meaning of the notation, not from the
//! writer: it searches every chain of choices that gives a text.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::grammar::{Grammar, Kept, Part, weight};
use super::{GRAMMAR, LONGEST, Random, StorySource, Writer};
use crate::corpus::ngram::{Counts, Order, Score};
use crate::corpus::{CHUNK_BYTES, Chunk, Source};

/// What is still to be written after the current parts.
struct Then<'a> {
    parts: &'a [Part],
    then: Option<&'a Then<'a>>,
}

/// Follows every chain of choices. With a text: those that write it. Without: all there are.
struct Search<'a> {
    grammar: &'a Grammar,
    text: Option<&'a str>,
    /// Text and -log2 probability of each chain found.
    found: Vec<(String, f64)>,
}

impl Search<'_> {
    fn go(&mut self, parts: &[Part], then: Option<&Then>, so_far: &str, kept: &[Kept], bits: f64) {
        let Some((part, parts)) = parts.split_first() else {
            match then {
                Some(rest) => self.go(rest.parts, rest.then, so_far, kept, bits),
                None if self.text.is_none_or(|text| text == so_far) => {
                    self.found.push((so_far.to_string(), bits));
                }
                None => {}
            }
            return;
        };
        let then = Then { parts, then };
        match part {
            Part::Text(piece) => {
                let so_far = format!("{so_far}{piece}");
                if self.text.is_none_or(|text| text.starts_with(&so_far)) {
                    self.go(parts, then.then, &so_far, kept, bits);
                }
            }
            Part::Recall { slot, form } => {
                let (rule, i) = kept[*slot].expect("a slot is filled before it is recalled");
                let alternative = &self.grammar.rules[rule].alternatives[i];
                self.go(&alternative.forms[*form], Some(&then), so_far, kept, bits);
            }
            Part::Choose { rule, form, keep, not } => {
                let alternatives = &self.grammar.rules[*rule].alternatives;
                let weigh = |i| weight(self.grammar, *rule, i, not, kept) as f64;
                let total: f64 = (0..alternatives.len()).map(weigh).sum();
                for (i, alternative) in alternatives.iter().enumerate() {
                    let share = weigh(i) / total;
                    if share > 0.0 {
                        let mut kept = kept.to_vec();
                        if let Some(slot) = keep {
                            kept[*slot] = Some((*rule, i));
                        }
                        let form = &alternative.forms[*form];
                        self.go(form, Some(&then), so_far, &kept, bits - share.log2());
                    }
                }
            }
        }
    }
}

/// Every chain of choices from `rule` on, or those that give `text`.
fn chains(grammar: &Grammar, rule: usize, kept: &[Kept], text: Option<&str>) -> Vec<(String, f64)> {
    let mut search = Search { grammar, text, found: Vec::new() };
    let start = [Part::Choose { rule, form: 0, keep: None, not: Vec::new() }];
    search.go(&start, None, "", kept, 0.0);
    search.found
}

fn grammar() -> Grammar {
    Grammar::parse(GRAMMAR).expect("the built-in grammar")
}

fn stories(seed: u64, bytes: u64) -> Vec<(String, f64)> {
    let mut source = StorySource::new(seed, bytes).unwrap();
    let (mut chunk, mut stories) = (Chunk::default(), Vec::new());
    while source.fill(&mut chunk).unwrap() {
        for span in &chunk.spans {
            let text = std::str::from_utf8(&chunk.bytes[span.range.clone()]).unwrap();
            stories.push((text.to_string(), span.bits));
        }
    }
    stories
}

fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect()
}

#[test]
fn a_seed_gives_the_same_bytes_on_every_machine_and_another_seed_others() {
    let text = |seed| stories(seed, 70_000).into_iter().map(|(text, _)| text).collect::<String>();
    let digest = Sha256::digest(&text(1).as_bytes()[..65_536]);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "8aa1669fbc961e15f4e500cb136dd3c53f5164770c44699874005d37a0ccaf4a");
    assert_ne!(text(1)[..1000], text(2)[..1000]);
}

#[test]
fn a_text_comes_from_one_chain_of_choices_and_its_bits_are_those_of_the_chain() {
    let grammar = grammar();
    for (text, bits) in stories(7, 60_000) {
        let found = chains(&grammar, 0, &vec![None; grammar.slots], Some(&text));
        assert_eq!(found.len(), 1, "{} chains give: {text}", found.len());
        assert!((found[0].1 - bits).abs() < 1e-9, "{bits} is not {}: {text}", found[0].1);
    }
}

/// Weights, a kept choice, an exclusion, an inline choice and the choice to stop.
const SMALL: &str = "
story:
  2* <a=animal>[!|3* ?]
  <a=animal> and <number> <b=animal.1!a> saw {a.1}<more>
more:
  <animal!a!b>
  .
number: %
  two three
animal: %/%s
  cat dog
animal:
  2* ox/oxen
  3* mouse/mice
";

#[test]
fn the_probabilities_of_all_texts_sum_to_one() {
    let grammar = Grammar::parse(SMALL).unwrap();
    let all = chains(&grammar, 0, &vec![None; grammar.slots], None);
    assert_eq!(all.len(), 4 * 2 + 4 * 2 * 3 * (2 + 1));
    let sum: f64 = all.iter().map(|(_, bits)| (-bits).exp2()).sum();
    assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    let texts: HashSet<_> = all.iter().map(|(text, _)| text).collect();
    assert_eq!(texts.len(), all.len(), "two chains give one text");
}

#[test]
fn the_writer_writes_each_text_as_often_as_its_bits_say() {
    const DRAWS: u64 = 100_000;
    let grammar = Grammar::parse(SMALL).unwrap();
    let all: HashMap<_, _> =
        chains(&grammar, 0, &vec![None; grammar.slots], None).into_iter().collect();
    let mut seen: HashMap<String, u32> = HashMap::new();
    for document in 0..DRAWS {
        let (text, bits) = write(&grammar, 0, document, &mut vec![None; grammar.slots]);
        assert!((bits - all[&text]).abs() < 1e-12);
        *seen.entry(text).or_default() += 1;
    }
    for (text, bits) in &all {
        let expected = (-bits).exp2() * DRAWS as f64;
        let got = f64::from(seen.get(text).copied().unwrap_or_default());
        // Five standard deviations of a count.
        assert!((got - expected).abs() < 5.0 * expected.sqrt() + 1.0, "{text}: {got}, {expected}");
    }
}

fn write(grammar: &Grammar, rule: usize, document: u64, kept: &mut [Kept]) -> (String, f64) {
    let mut out = Vec::new();
    let random = Random::new(1, document);
    let mut writer = Writer { grammar, random, kept, out: &mut out, bits: 0.0 };
    writer.choose(rule, 0, None, &[]);
    let bits = writer.bits;
    (String::from_utf8(out).unwrap(), bits)
}

/// The built-in grammar itself, each list of words cut to three, so that all can be counted.
#[test]
fn the_probabilities_of_all_details_sum_to_one_and_no_two_are_alike() {
    let mut grammar = grammar();
    let detail = rule(&grammar, "detail");
    let name = rule(&grammar, "name");
    for (i, rule) in grammar.rules.iter_mut().enumerate() {
        if i != detail {
            rule.alternatives.truncate(3);
        }
    }
    let kept = vec![Some((name, 0)); grammar.slots];
    let all = chains(&grammar, detail, &kept, None);
    let sum: f64 = all.iter().map(|(_, bits)| (-bits).exp2()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    let texts: HashSet<_> = all.iter().map(|(text, _)| text).collect();
    assert_eq!(texts.len(), all.len(), "two chains give one text");
}

fn rule(grammar: &Grammar, name: &str) -> usize {
    grammar.rules.iter().position(|rule| rule.name == name).expect("a rule of that name")
}

#[test]
fn every_form_that_is_asked_for_exists() {
    let grammar = grammar();
    let parts = || {
        let forms = grammar.rules.iter().flat_map(|rule| &rule.alternatives);
        forms.flat_map(|alternative| &alternative.forms).flatten()
    };
    let has = |rule: usize, form: usize| {
        let name = &grammar.rules[rule].name;
        let all = &grammar.rules[rule].alternatives;
        assert!(all.iter().all(|one| form < one.forms.len()), "{name}.{form}");
    };
    for part in parts() {
        match part {
            Part::Text(_) => {}
            Part::Choose { rule, form, .. } => has(*rule, *form),
            Part::Recall { slot, form } => {
                for other in parts() {
                    if let Part::Choose { rule, keep: Some(kept), .. } = other
                        && kept == slot
                    {
                        has(*rule, *form);
                    }
                }
            }
        }
    }
}

#[test]
fn no_list_holds_a_word_twice() {
    for rule in &grammar().rules {
        for (i, one) in rule.alternatives.iter().enumerate() {
            let again = rule.alternatives[..i].iter().any(|other| other.forms == one.forms);
            assert!(!again, "{}: {:?}", rule.name, one.forms);
        }
    }
}

#[test]
fn the_corpus_is_as_large_as_asked_and_no_story_is_out_of_bounds() {
    let stories = stories(3, 1_000_000);
    let bytes: usize = stories.iter().map(|(text, _)| text.len()).sum();
    assert!((1_000_000..1_000_000 + LONGEST).contains(&bytes), "{bytes}");
    for (text, _) in &stories {
        assert!((300..LONGEST).contains(&text.len()), "{} bytes: {text}", text.len());
    }
}

#[test]
fn every_span_is_one_whole_document_and_the_spans_fill_the_chunk() {
    let mut source = StorySource::new(1, 600_000).unwrap();
    let mut chunk = Chunk::default();
    let (mut chunks, mut document, mut bytes) = (0, 0, 0);
    while source.fill(&mut chunk).unwrap() {
        assert_eq!(chunk.index, chunks);
        assert!(chunk.bytes.len() <= CHUNK_BYTES);
        let mut end = 0;
        for span in &chunk.spans {
            assert_eq!((span.document, span.offset, span.range.start), (document, 0, end));
            assert!(span.ends_document && span.bits > 0.0);
            (document, end) = (document + 1, span.range.end);
        }
        assert_eq!(end, chunk.bytes.len());
        (chunks, bytes) = (chunks + 1, bytes + end as u64);
    }
    assert_eq!(chunks, 3);
    let summary = source.summary();
    assert_eq!((summary.bytes, summary.documents, summary.opened), (bytes, document, 0));
    assert!(!source.fill(&mut chunk).unwrap() && chunk.bytes.is_empty());
}

#[test]
fn sentences_agree_in_number_and_person() {
    let grammar = grammar();
    let list = |name: &str, form: usize| -> HashSet<String> {
        let alternatives = &grammar.rules[rule(&grammar, name)].alternatives;
        let text = |parts: &Vec<Part>| match parts.as_slice() {
            [Part::Text(word)] => word.clone(),
            _ => panic!("{name} holds more than words"),
        };
        alternatives.iter().map(|one| text(&one.forms[form])).collect()
    };
    let nouns = |form| ["animal", "thing", "food"].into_iter().flat_map(move |n| list(n, form));
    let (singular, plural): (HashSet<_>, HashSet<_>) = (nouns(0).collect(), nouns(1).collect());
    let mut numbers = list("number", 0);
    numbers.extend(list("Number", 0));
    let elders = [("twins", true), ("dwarfs", true), ("baker", false), ("queen", false)];
    for (text, _) in stories(5, 300_000) {
        let words = words(&text);
        for three in words.windows(3) {
            let noun = three[1..].iter().find(|w| singular.contains(**w) || plural.contains(**w));
            match noun {
                Some(noun) if numbers.contains(three[0]) => {
                    assert!(plural.contains(*noun), "{three:?}")
                }
                Some(noun) if three[0] == "a" => assert!(singular.contains(*noun), "{three:?}"),
                _ => {}
            }
            assert!(
                three[0] != "a" || !three[1].starts_with(['a', 'e', 'i', 'o', 'u']),
                "{three:?}"
            );
            for (elder, many) in elders {
                let wrong = if many { "was" } else { "were" };
                assert!(three[0] != elder || three[1] != wrong, "{three:?}");
            }
        }
        let hero = words.iter().position(|word| *word == "girl" || *word == "boy").unwrap();
        let (her, not) = if words[hero] == "girl" { ("Her", "His") } else { ("His", "Her") };
        assert!(text.contains(&format!("{her} best friend was")), "{text}");
        assert!(!text.contains(&format!("{not} best friend was")), "{text}");
    }
}

#[test]
fn a_bigram_of_words_stays_at_least_half_above_the_floor() {
    let stories = stories(1, 2_000_000);
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let mut documents = Vec::new();
    for (text, _) in &stories {
        let mut tokens = Vec::new();
        // A word with the blank before it, or a mark.
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let from = usize::from(first == ' ');
            let length =
                rest[from..].find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len() - from);
            let (token, after) = rest.split_at((from + length).max(1));
            let next = ids.len() as u32 + 1;
            tokens.push(*ids.entry(token).or_insert(next));
            rest = after;
        }
        tokens.push(0);
        documents.push(tokens);
    }
    let mut counts = Counts::new(ids.len() + 1, 0);
    documents.iter().skip(200).for_each(|tokens| counts.observe(tokens));
    let model = counts.finish();
    let mut score = Score::new(Order::Bigram);
    let mut bits = 0.0;
    for ((text, floor), tokens) in stories.iter().zip(&documents).take(200) {
        score.add(&model, tokens, text.len() as u64);
        bits += floor;
    }
    let bytes: usize = stories[..200].iter().map(|(text, _)| text.len()).sum();
    let ratio = score.bits_per_byte() / (bits / bytes as f64);
    assert!((1.5..2.5).contains(&ratio), "the bigram is at {ratio} times the floor");
}

#[test]
fn a_wrong_grammar_is_refused_with_its_line() {
    for (text, what) in [
        ("", "no rules"),
        ("a:\n  <b>\n", "rule b has no alternatives"),
        ("  x\n", "line 1: an alternative without a rule"),
        ("a:\n  [x|y\n", "line 2: `[` without `]`"),
        ("a:\n  x]\n", "line 2: `]` is left over"),
        ("a:\n  <a.x>\n", "line 2: `x` is no form"),
        ("a:\n  0* x\n", "line 2: a weight is at least 1"),
    ] {
        assert_eq!(Grammar::parse(text).unwrap_err(), what);
    }
}
