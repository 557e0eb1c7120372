//! The notation of the story grammar, and its parser.
//!
//! ```text
//! # a comment
//! animal: %/%s                 words made by a pattern, `%` being the word
//!   fox hen barn_owl           (a list, separated by blanks; `_` stands for a blank)
//! animal:                      more alternatives of the same rule, one to a line
//!   2* mouse/mice              weight 2 (else 1); the forms of an alternative stand between `/`
//! scene:
//!   A <a=animal> met [two|three] <animal.1!a>. "Good day," said the {a}.
//! ```
//!
//! `<rule>` chooses an alternative and writes its form 0, `<rule.1>` its form 1; `<a=rule>` also
//! keeps the choice in slot `a`; `!a` excludes the alternative that slot `a` holds. `{a}` and
//! `{a.1}` write a form of the kept choice again, which is no choice. `[x|2*y]` is a rule without a
//! name. `\n` is a line feed. The first rule is the start.

use std::collections::HashMap;

/// A piece of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Written as it is.
    Text(String),
    /// A choice.
    Choose {
        /// The rule whose alternative is chosen.
        rule: usize,
        /// The form of it that is written.
        form: usize,
        /// Where the choice is kept.
        keep: Option<usize>,
        /// Slots whose alternatives are not chosen again.
        not: Vec<usize>,
    },
    /// A form of a kept choice.
    Recall {
        /// Where the choice was kept.
        slot: usize,
        /// The form that is written.
        form: usize,
    },
}

/// One of a rule's possibilities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Alternative {
    /// Its share among the weights of the rule.
    pub(super) weight: u64,
    /// What it can be written as, for example singular and plural. Never empty.
    pub(super) forms: Vec<Vec<Part>>,
}

/// A named set of alternatives.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    /// Its name in the grammar; empty for `[..|..]`.
    pub(super) name: String,
    /// What it can become.
    pub(super) alternatives: Vec<Alternative>,
}

/// A grammar, ready to be written from. Rule 0 is the start.
#[derive(Debug, Clone)]
pub(super) struct Grammar {
    /// The rules, named and nameless.
    pub(super) rules: Vec<Rule>,
    /// How many slots the grammar names.
    pub(super) slots: usize,
}

/// Which alternative of which rule a slot holds.
pub(super) type Kept = Option<(usize, usize)>;

impl Grammar {
    /// Reads the notation.
    ///
    /// # Errors
    ///
    /// What is wrong, with the line.
    pub(super) fn parse(text: &str) -> Result<Grammar, String> {
        let mut parser = Parser::default();
        for (index, line) in text.lines().enumerate() {
            parser.line(line).map_err(|what| format!("line {}: {what}", index + 1))?;
        }
        if let Some(rule) = parser.rules.iter().find(|rule| rule.alternatives.is_empty()) {
            return Err(format!("rule {} has no alternatives", rule.name));
        }
        if parser.rules.is_empty() {
            return Err("no rules".to_string());
        }
        Ok(Grammar { rules: parser.rules, slots: parser.slots.len() })
    }

    /// The parts of a form; empty where the alternative has no such form.
    pub(super) fn form(&self, rule: usize, alternative: usize, form: usize) -> &[Part] {
        self.rules[rule].alternatives[alternative].forms.get(form).map_or(&[], Vec::as_slice)
    }
}

/// The weight of an alternative once the slots in `not` are excluded: 0 if it is one of theirs.
pub(super) fn weight(
    grammar: &Grammar,
    rule: usize,
    i: usize,
    not: &[usize],
    kept: &[Kept],
) -> u64 {
    let excluded = not.iter().any(|&slot| kept[slot] == Some((rule, i)));
    if excluded { 0 } else { grammar.rules[rule].alternatives[i].weight }
}

#[derive(Default)]
struct Parser {
    rules: Vec<Rule>,
    names: HashMap<String, usize>,
    slots: HashMap<String, usize>,
    /// The rule that indented lines add to, and the pattern of its words.
    current: Option<(usize, String)>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            return Ok(());
        }
        if !line.starts_with(' ') {
            let (name, pattern) = content.split_once(':').ok_or("a rule's name ends with `:`")?;
            self.current = Some((self.rule(name), pattern.trim().to_string()));
            return Ok(());
        }
        let (rule, pattern) = self.current.clone().ok_or("an alternative without a rule")?;
        if pattern.is_empty() {
            return self.alternative(rule, content);
        }
        for word in content.split_whitespace() {
            self.alternative(rule, &pattern.replace('%', &word.replace('_', " ")))?;
        }
        Ok(())
    }

    fn rule(&mut self, name: &str) -> usize {
        let next = self.rules.len();
        let rule = *self.names.entry(name.to_string()).or_insert(next);
        if rule == next {
            self.rules.push(Rule { name: name.to_string(), alternatives: Vec::new() });
        }
        rule
    }

    fn slot(&mut self, name: &str) -> usize {
        let next = self.slots.len();
        *self.slots.entry(name.to_string()).or_insert(next)
    }

    fn alternative(&mut self, rule: usize, text: &str) -> Result<(), String> {
        let (weight, text) = split_weight(text)?;
        let mut rest = text;
        let mut forms = vec![self.parts(&mut rest)?];
        while let Some(after) = rest.strip_prefix('/') {
            rest = after;
            forms.push(self.parts(&mut rest)?);
        }
        if !rest.is_empty() {
            return Err(format!("`{rest}` is left over"));
        }
        self.rules[rule].alternatives.push(Alternative { weight, forms });
        Ok(())
    }

    /// Reads parts up to the end, `/`, `|` or `]`.
    fn parts(&mut self, rest: &mut &str) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        while let Some(c) = rest.chars().next() {
            match c {
                '/' | '|' | ']' => break,
                '<' => {
                    let part = self.choose(tag(rest, '>')?)?;
                    parts.push(part);
                }
                '{' => {
                    let (name, form) = split_form(tag(rest, '}')?)?;
                    parts.push(Part::Recall { slot: self.slot(name), form });
                }
                '[' => {
                    let part = self.inline(rest)?;
                    parts.push(part);
                }
                _ => {
                    let end = rest.find(['/', '|', ']', '<', '{', '[']).unwrap_or(rest.len());
                    parts.push(Part::Text(rest[..end].replace("\\n", "\n")));
                    *rest = &rest[end..];
                }
            }
        }
        Ok(parts)
    }

    /// Reads `slot=rule.form!slot!slot`.
    fn choose(&mut self, tag: &str) -> Result<Part, String> {
        let mut pieces = tag.split('!');
        let head = pieces.next().unwrap_or_default();
        let not = pieces.map(|name| self.slot(name)).collect();
        let (keep, name) = match head.split_once('=') {
            Some((slot, name)) => (Some(self.slot(slot)), name),
            None => (None, head),
        };
        let (name, form) = split_form(name)?;
        Ok(Part::Choose { rule: self.rule(name), form, keep, not })
    }

    /// Reads `[x|2*y]` into a rule without a name.
    fn inline(&mut self, rest: &mut &str) -> Result<Part, String> {
        let rule = self.rules.len();
        self.rules.push(Rule::default());
        while let Some(after) = rest.strip_prefix(['[', '|']) {
            let (weight, after) = split_weight(after)?;
            *rest = after;
            let forms = vec![self.parts(rest)?];
            self.rules[rule].alternatives.push(Alternative { weight, forms });
        }
        *rest = rest.strip_prefix(']').ok_or("`[` without `]`")?;
        Ok(Part::Choose { rule, form: 0, keep: None, not: Vec::new() })
    }
}

/// Takes `<..>` or `{..}` off the front of `rest` and gives what stands between.
fn tag<'a>(rest: &mut &'a str, close: char) -> Result<&'a str, String> {
    let end = rest.find(close).ok_or_else(|| format!("`{close}` is missing"))?;
    let inner = &rest[1..end];
    *rest = &rest[end + 1..];
    Ok(inner)
}

/// Splits `name.2` into the name and the form.
fn split_form(text: &str) -> Result<(&str, usize), String> {
    match text.split_once('.') {
        None => Ok((text, 0)),
        Some((name, form)) => Ok((name, form.parse().map_err(|_| format!("`{form}` is no form"))?)),
    }
}

/// Splits `3* text` into 3 and the text; the weight is 1 where none is given.
fn split_weight(text: &str) -> Result<(u64, &str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match text[digits..].strip_prefix('*') {
        Some(after) if digits > 0 => {
            let weight = text[..digits].parse().map_err(|_| "the weight is too large")?;
            let after = after.strip_prefix(' ').unwrap_or(after);
            if weight == 0 { Err("a weight is at least 1".into()) } else { Ok((weight, after)) }
        }
        _ => Ok((1, text)),
    }
}
