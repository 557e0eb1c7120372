//! Whether the ranks of a job fit together, before anything begins.
//!
//! Each rank tells rank 0 what it was started as; rank 0 compares, and tells all whether to go on. Ranks
//! that differ where the bits would, or would train something else, do not begin.

use super::link::{Done, Link, Patience, Words};
use super::wire::{Read, Write};

/// Far from the tags of the run.
const TAG: u32 = 8;
/// Words of what a rank may say of itself.
const MOST: usize = 1 << 14;

/// What a rank was started as.
///
/// ```
/// use twelvefold::ranks::Credentials;
///
/// let given = |rate| Credentials::ready(vec![("--lr".to_owned(), rate)]);
/// let (zero, one) = (given("0.001".to_owned()), given("0.002".to_owned()));
/// let difference = zero.difference(&one, "rank 1").unwrap();
/// assert!(difference.starts_with("rank 1 has --lr 0.002, and rank 0 has 0.001"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Why it cannot begin, and the exit code; or none.
    refused: Option<(String, u8)>,
    facts: Vec<(String, String)>,
}

/// What rank 0 decided.
///
/// ```
/// use twelvefold::ranks::Verdict;
///
/// let refused = Verdict::Refused { why: "rank 1 has another --seed".to_owned(), code: 2 };
/// assert_ne!(refused, Verdict::Begin);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Begin,
    /// End with this exit code. Rank 0 says why.
    Refused {
        /// Why, naming the rank.
        why: String,
        /// The exit code.
        code: u8,
    },
}

impl Credentials {
    /// A rank that could begin, and the facts in which all must agree, each with its name.
    pub fn ready(facts: Vec<(String, String)>) -> Self {
        Credentials { refused: None, facts }
    }

    /// A rank that cannot.
    ///
    /// ```
    /// use twelvefold::ranks::Credentials;
    ///
    /// let refused = Credentials::refused("error: unexpected argument '--lrr'".to_owned(), 2);
    /// assert_ne!(refused, Credentials::ready(Vec::new()));
    /// ```
    pub fn refused(why: String, code: u8) -> Self {
        Credentials { refused: Some((why, code)), facts: Vec::new() }
    }

    /// In what another rank differs.
    pub fn difference(&self, other: &Credentials, who: &str) -> Option<String> {
        let of = |all: &Credentials, name: &str| {
            let found = all.facts.iter().find(|(n, _)| n == name);
            found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
        };
        let names = self.facts.iter().chain(&other.facts).map(|(name, _)| name);
        let mut different = names.filter(|name| of(self, name) != of(other, name));
        different.next().map(|name| {
            format!(
                "{who} has {name} {}, and rank 0 has {}\n\
                 hint: start the same program with the same settings on all ranks",
                of(other, name),
                of(self, name)
            )
        })
    }

    fn write(&self) -> Words {
        let mut message = Write::default();
        match &self.refused {
            Some((why, code)) => {
                // As much of it as there is room for.
                let why: String = why.chars().take(MOST / 2).collect();
                message.number(1 + u64::from(*code)).text(&why);
            }
            None => {
                message.number(0).number(self.facts.len() as u64);
                for (name, value) in &self.facts {
                    message.text(name).text(value);
                }
            }
        }
        let mut words = message.words();
        words.truncate(MOST);
        words
    }

    fn read(words: &[u32]) -> Self {
        let mut read = Read::new(words);
        match read.number() {
            0 => {
                let facts = read.number() as usize;
                Self::ready((0..facts.min(MOST)).map(|_| (read.text(), read.text())).collect())
            }
            code => Self::refused(read.text(), (code - 1) as u8),
        }
    }
}

/// Compares all ranks. Each calls it once, before anything else goes over the link.
///
/// ```
/// use twelvefold::ranks::{Credentials, Link, Verdict, agree};
///
/// /// Whether this rank and the others may begin.
/// fn may_begin(link: &mut dyn Link, seed: u64) -> bool {
///     let own = Credentials::ready(vec![("--seed".to_owned(), seed.to_string())]);
///     match agree(link, &own) {
///         Verdict::Begin => true,
///         Verdict::Refused { why, .. } => {
///             eprintln!("{why}");
///             false
///         }
///     }
/// }
/// ```
pub fn agree(link: &mut dyn Link, own: &Credentials) -> Verdict {
    let host = link.host();
    let mut message = Write::default();
    message.text(&host.chars().take(128).collect::<String>()).all(&own.write());
    if link.rank() != 0 {
        link.send(0, TAG, 0, message.words());
        link.receive(0, TAG, 1, vec![0; 2 + MOST]);
        let verdict = received(link, 1).into_iter().next();
        let words = verdict.map(|(_, words)| words).unwrap_or_default();
        let mut read = Read::new(&words);
        return match read.number() {
            0 => Verdict::Begin,
            code => Verdict::Refused { why: read.text(), code: (code - 1) as u8 },
        };
    }
    let others = link.ranks() - 1;
    (1..=others).for_each(|rank| link.receive(rank, TAG, 1, vec![0; 64 + MOST]));
    let mut all = received(link, others);
    all.sort();
    let verdict = compare(own, &all);
    let mut message = Write::default();
    match &verdict {
        Verdict::Begin => message.number(0),
        Verdict::Refused { why, code } => message
            .number(1 + u64::from(*code))
            .text(&why.chars().take(MOST / 2).collect::<String>()),
    };
    if others > 0 {
        link.send_all(TAG, 0, message.words());
        let mut patience = Patience::default();
        while link.progress().is_none() {
            patience.pause();
        }
    }
    verdict
}

fn compare(own: &Credentials, others: &[(usize, Words)]) -> Verdict {
    if let Some((why, code)) = &own.refused {
        return Verdict::Refused { why: why.clone(), code: *code };
    }
    for (rank, words) in others {
        let mut read = Read::new(words);
        let who = format!("rank {rank} on {}", read.text());
        let other = Credentials::read(read.rest());
        if let Some((why, code)) = other.refused {
            return Verdict::Refused { why: format!("{who}: {why}"), code };
        }
        if let Some(why) = own.difference(&other, &who) {
            return Verdict::Refused { why, code: 2 };
        }
    }
    Verdict::Begin
}

/// Waits for so many messages, while what is sent leaves too.
fn received(link: &mut dyn Link, count: usize) -> Vec<(usize, Words)> {
    let mut all = Vec::new();
    let mut patience = Patience::default();
    while all.len() < count {
        match link.progress() {
            Some(Done::Received { from, words, .. }) => all.push((from, words)),
            Some(Done::Sent { .. }) => {}
            None => patience.pause(),
        }
    }
    all
}
