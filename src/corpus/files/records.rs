//! The records of a file: one JSON object a line, of which one field is the text, or the rows of a Parquet
//! file.
//!
//! A line that is no such object is told with its number and what is wrong with it; the next line goes
//! on. Empty lines are nothing. No line longer than [`RECORD_BYTES`] is held.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use memchr::memchr;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::super::map::Stamp;
use super::stream::Stream;

/// The longest line, in bytes.
pub const RECORD_BYTES: usize = 64 << 20;

/// What is read at a time.
const READ_BYTES: usize = 256 << 10;

/// The records of a file that is being read.
#[derive(Debug)]
pub(super) enum Records {
    Lines(JsonLines),
    #[cfg(feature = "parquet")]
    Rows(Box<super::parquet::Rows>),
    /// They cannot be read as they come; in one word why.
    Refused(Option<&'static str>),
}

impl Records {
    /// Reads on to the next record; `out` becomes its text.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Record {
        match self {
            Records::Lines(lines) => lines.next(out),
            #[cfg(feature = "parquet")]
            Records::Rows(rows) => rows.next(out),
            Records::Refused(why) => {
                why.take().map_or(Record::End, |why| Record::Bad(why.to_owned()))
            }
        }
    }

    /// The number of the line or row that was read last, from 1; 0 where it is of the file itself.
    pub(super) fn line(&self) -> u64 {
        match self {
            Records::Lines(lines) => lines.line,
            #[cfg(feature = "parquet")]
            Records::Rows(rows) => rows.row,
            Records::Refused(_) => 0,
        }
    }
}

/// A JSON object a line.
#[derive(Debug)]
pub(super) struct JsonLines {
    stream: Stream,
    field: String,
    buffer: Vec<u8>,
    /// Where the next line begins in `buffer`, and how far no line end was found.
    at: usize,
    searched: usize,
    ended: bool,
    /// The number of the line that was read last, from 1.
    line: u64,
    /// The rest of a line that is too long is passed over.
    in_long: bool,
    /// Why the text breaks off after the last whole line.
    broken: Option<String>,
}

/// What the next line is.
#[derive(Debug)]
pub(super) enum Record {
    /// Its text stands in the buffer that was given.
    Text,
    Bad(String),
    End,
}

impl JsonLines {
    pub(super) fn new(stream: Stream, field: String) -> Self {
        let (buffer, at, searched, ended) = (Vec::new(), 0, 0, false);
        let (line, in_long, broken) = (0, false, None);
        JsonLines { stream, field, buffer, at, searched, ended, line, in_long, broken }
    }

    /// Reads on to the next record; `out` becomes its text.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Record {
        loop {
            let line = match memchr(b'\n', &self.buffer[self.searched..]) {
                Some(end) => {
                    let line = self.at..self.searched + end;
                    (self.at, self.searched) = (line.end + 1, line.end + 1);
                    line
                }
                None if !self.ended => {
                    self.more();
                    continue;
                }
                // The last line has no end.
                None if self.at < self.buffer.len() => {
                    let line = self.at..self.buffer.len();
                    (self.at, self.searched) = (line.end, line.end);
                    line
                }
                None => {
                    let Some(why) = self.broken.take() else { return Record::End };
                    self.line += 1;
                    return Record::Bad(why);
                }
            };
            if let Some(record) = self.take(line, out) {
                return record;
            }
        }
    }

    /// Reads on where no line ends in the buffer. Where the text breaks off, its whole lines are good.
    fn more(&mut self) {
        self.buffer.drain(..self.at);
        (self.at, self.searched) = (0, self.buffer.len());
        if self.buffer.len() > RECORD_BYTES {
            self.in_long = true;
            self.buffer.clear();
            self.searched = 0;
        }
        match self.stream.read_to(&mut self.buffer, self.searched + READ_BYTES) {
            Ok(ended) => self.ended = ended,
            Err(e) => {
                let whole = self.buffer.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
                self.buffer.truncate(whole);
                self.searched = self.searched.min(whole);
                (self.ended, self.broken) = (true, Some(broken(&e)));
            }
        }
    }

    fn take(&mut self, line: std::ops::Range<usize>, out: &mut Vec<u8>) -> Option<Record> {
        self.line += 1;
        if std::mem::take(&mut self.in_long) || line.len() > RECORD_BYTES {
            return Some(Record::Bad(format!("longer than {} MiB", RECORD_BYTES >> 20)));
        }
        let line = self.buffer[line].trim_ascii();
        if line.is_empty() {
            return None;
        }
        out.clear();
        Some(match text_of(line, &self.field, out) {
            Ok(()) if out.is_empty() => Record::Bad(format!("the field {:?} is empty", self.field)),
            Ok(()) => Record::Text,
            Err(why) => Record::Bad(why),
        })
    }
}

/// Why a text ends too early.
pub(super) fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends in the midst of its packed text".to_owned(),
        _ => format!("it cannot be unpacked: {error}"),
    }
}

/// Puts the field's text into `out`, which is empty.
fn text_of(line: &[u8], field: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let found =
        Object { field, out }.deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    match found {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("it has no field {field:?}")),
        Err(e) => Err(format!("it is no such record: {e}")),
    }
}

/// An object; whether the field was in it.
struct Object<'a> {
    field: &'a str,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<bool, M::Error> {
        let Object { field, out } = self;
        let mut found = false;
        while let Some(is_field) = map.next_key_seed(Is(field))? {
            if !is_field {
                map.next_value::<IgnoredAny>()?;
            } else if std::mem::replace(&mut found, true) {
                return Err(M::Error::custom(format!("the field {field:?} comes twice")));
            } else {
                map.next_value_seed(Text(out))?;
            }
        }
        Ok(found)
    }
}

/// Whether a key is this one.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        Ok(std::borrow::Cow::<str>::deserialize(json)? == self.0)
    }
}

/// A string, which is appended.
struct Text<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// A file of records that is being read.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) path: PathBuf,
    pub(super) records: Records,
    pub(super) is_named: bool,
    /// The file and what it must remain; none for standard input.
    pub(super) file: Option<(File, Stamp)>,
}

#[cfg(test)]
mod tests {
    use super::super::stream::Packing;
    use super::*;

    fn read(text: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let stream = Stream::new(Box::new(io::Cursor::new(text.to_vec())), Packing::Plain);
        let (mut records, mut out) = (JsonLines::new(stream, "text".into()), Vec::new());
        let mut all = Vec::new();
        loop {
            match records.next(&mut out) {
                Record::Text => {
                    all.push((records.line, Ok(String::from_utf8(out.clone()).unwrap())))
                }
                Record::Bad(why) => all.push((records.line, Err(why))),
                Record::End => return all,
            }
        }
    }

    #[test]
    fn each_line_gives_its_text_or_what_is_wrong_with_it() {
        let text = b"{\"text\":\"a\\u00e9\\n\",\"x\":[1,{}]}\r\n\n \n{\"x\":{\"text\":1}}\n{\"text\":3}\n[1]\nnonsense\n\
            {\"text\":\"\"}\n{\"text\":\"\xff\"}\n{\"text\":\"\\ud800\"}\n{\"text\":\"a\"}}\n{\"text\":\"a\",\"text\":\"b\"}\n{\"t\\u0065xt\":\"last\"}";
        let found = read(text);
        let expected: [(u64, Result<&str, &str>); 11] = [
            (1, Ok("aé\n")),
            (4, Err("it has no field \"text\"")),
            (5, Err("it is no such record: invalid type: integer `3`, expected a string")),
            (6, Err("it is no such record: invalid type: sequence, expected an object")),
            (7, Err("it is no such record: expected ident")),
            (8, Err("the field \"text\" is empty")),
            (9, Err("it is no such record: invalid unicode code point")),
            (10, Err("it is no such record: unexpected end of hex escape")),
            (11, Err("it is no such record: trailing characters")),
            (12, Err("it is no such record: the field \"text\" comes twice")),
            (13, Ok("last")),
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((line, found), (expected_line, expected)) in found.iter().zip(expected) {
            assert_eq!(*line, expected_line);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                other => panic!("line {line}: {other:?}"),
            }
        }
    }

    #[test]
    fn lines_longer_than_what_is_read_at_once_come_whole() {
        let long = "x".repeat(3 * READ_BYTES + 17);
        let text = format!("{{\"text\":\"{long}\"}}\n{{\"text\":\"short\"}}\n");
        let found = read(text.as_bytes());
        assert_eq!(found, [(1, Ok(long)), (2, Ok("short".to_owned()))]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_over() {
        let long = format!("{{\"text\":\"{}\"}}\n{{\"text\":\"a\"}}", "x".repeat(RECORD_BYTES));
        let found = read(long.as_bytes());
        assert!(found[1..] == [(2, Ok("a".to_owned()))]);
        assert!(found[0] == (1, Err("longer than 64 MiB".to_owned())));
    }
}
