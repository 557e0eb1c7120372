//! The event files of TensorBoard: records, and the few messages in them that a run needs.
//!
//! | bytes of a record | what they are |
//! |---|---|
//! | 8 | the length of the event, little-endian |
//! | 4 | its checksum: CRC-32C, rotated and shifted as TFRecord wants it |
//! | so many | the event, a protobuf message |
//! | 4 | the event's checksum |
//!
//! A reader waits at a record that is not whole, so what a killed run leaves is no fault.
//!
//! A number of `metrics.jsonl` becomes a scalar whose tag begins with the section that TensorBoard shows
//! it in. Scalars are f32 (`simple_value`, which every reader takes): counts are exact up to 2^24.
//!
//! | in `metrics.jsonl` | tag |
//! |---|---|
//! | `step`, `time` | the step and the time of the event |
//! | `loss`, `val_loss` | `loss/train`, `loss/validation` |
//! | `lr`, `grad_norm`, `skipped_steps` | `optimizer/lr`, … |
//! | `seconds`, `tokens`, `tokens_per_second`, `peak_share`, `memory_bytes` | `run/seconds`, … |
//! | `stage_NAME_busy_seconds`, … | `stage/NAME/busy_seconds`, … |
//! | `spheres_tasks`, … | `spheres/tasks`, … |
//!
//! What the model writes is a text, under `sample`. Readers drop what they hold when a file begins with a
//! session's start at step 0, as each does here.

use super::metrics;

/// The tag of a number of `metrics.jsonl`.
///
/// ```
/// use twelvefold::report::tensorboard::tag;
///
/// assert_eq!(tag("stage_load_busy_seconds"), "stage/load/busy_seconds");
/// assert_eq!([tag("val_loss"), tag("spheres_tasks")], ["loss/validation", "spheres/tasks"]);
/// ```
pub fn tag(name: &str) -> String {
    parts(name).concat()
}

/// Of which the tag consists: a line is made of some thirty at each step.
fn parts(name: &str) -> [&str; 4] {
    if let (Some(stage), what) = metrics::split(name) {
        return ["stage/", stage, "/", what];
    }
    if let Some(what) = name.strip_prefix("spheres_") {
        return ["spheres/", what, "", ""];
    }
    match name {
        "loss" => ["loss/train", "", "", ""],
        "val_loss" => ["loss/validation", "", "", ""],
        "lr" | "grad_norm" | "skipped_steps" => ["optimizer/", name, "", ""],
        _ => ["run/", name, "", ""],
    }
}

/// The tag of what the model writes.
pub const SAMPLE: &str = "sample";

/// Appends what a file begins with: the version of its format, and the start at step 0 at which a
/// reader drops what it has read in older files.
pub(crate) fn begin(time: f64, out: &mut Vec<u8>) {
    record(out, |out| {
        event(out, time, 0);
        bytes(out, 3, b"brain.Event:2");
    });
    record(out, |out| {
        event(out, time, 0);
        // SessionLog { status: START }
        nested(out, 7, |out| number(out, 1, 1));
    });
}

/// Appends an event with the scalars that `tell` hands to its argument, under the names of
/// `metrics.jsonl`; none where it tells no number.
pub(crate) fn scalars(
    (step, time): (u64, f64),
    out: &mut Vec<u8>,
    tell: impl FnOnce(&mut dyn FnMut(&str, f64)),
) {
    let begin = out.len();
    let mut is_empty = true;
    record(out, |out| {
        event(out, time, step);
        nested(out, 5, |out| {
            tell(&mut |name, value| {
                let is_scalar = !matches!(name, "step" | "time") && value.is_finite();
                if is_scalar {
                    is_empty = false;
                    nested(out, 1, |out| {
                        nested(out, 1, |out| {
                            parts(name).iter().for_each(|part| out.extend(part.as_bytes()));
                        });
                        key(out, 2, 5);
                        out.extend((value as f32).to_le_bytes());
                    });
                }
            });
        });
    });
    if is_empty {
        out.truncate(begin);
    }
}

/// Appends an event with a text.
pub(crate) fn text((step, time): (u64, f64), out: &mut Vec<u8>, text: &str) {
    record(out, |out| {
        event(out, time, step);
        nested(out, 5, |out| {
            nested(out, 1, |out| {
                bytes(out, 1, SAMPLE.as_bytes());
                // TensorProto { dtype: DT_STRING, shape: [1], string_val }
                nested(out, 8, |out| {
                    number(out, 1, 7);
                    nested(out, 2, |out| nested(out, 2, |out| number(out, 1, 1)));
                    bytes(out, 8, text.as_bytes());
                });
                // SummaryMetadata { plugin_data: { plugin_name }, data_class: TENSOR }
                nested(out, 9, |out| {
                    nested(out, 1, |out| bytes(out, 1, b"text"));
                    number(out, 4, 2);
                });
            });
        });
    });
}

/// The first two fields of an event.
fn event(out: &mut Vec<u8>, time: f64, step: u64) {
    key(out, 1, 1);
    out.extend(time.to_le_bytes());
    number(out, 2, step);
}

fn record(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend([0; 12]);
    write(out);
    let length = ((out.len() - begin - 12) as u64).to_le_bytes();
    out[begin..begin + 8].copy_from_slice(&length);
    out[begin + 8..begin + 12].copy_from_slice(&masked(&length).to_le_bytes());
    let sum = masked(&out[begin + 12..]);
    out.extend(sum.to_le_bytes());
}

fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// A message in a message. Its length, which stands before it, is known after it.
fn nested(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, field, 2);
    let begin = out.len();
    write(out);
    let end = out.len();
    varint(out, (end - begin) as u64);
    let length = out.len() - end;
    out[begin..].rotate_right(length);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The checksum of Castagnoli's polynomial, eight bytes at a time: `TABLES[k]` has the bytes' remainders
/// with `k` bytes behind them.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word) ^ u64::from(crc);
        let byte = |k: usize| TABLES[7 - k][(word >> (8 * k)) as usize & 0xff];
        crc = (0..8).fold(0, |sum, k| sum ^ byte(k));
    }
    for &byte in rest {
        crc = TABLES[0][(crc as u8 ^ byte) as usize] ^ crc >> 8;
    }
    !crc
}

static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut at = 0;
    while at < 8 * 256 {
        let (k, byte) = (at / 256, at % 256);
        let mut crc = if k == 0 { byte as u32 } else { tables[k - 1][byte] };
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        tables[k][byte] = crc;
        at += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::{begin, crc32c, scalars, tag, text};
    use crate::report::Progress;
    use crate::report::metrics::each;
    use crate::report::progress::StageState;
    use std::collections::BTreeSet;

    /// The known answers of RFC 3720, B.4, and the usual check of nine digits.
    #[test]
    fn checksums_are_those_that_are_known() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
        assert_eq!(crc32c(b""), 0);
        // Any number of bytes, by the definition.
        let bytes: Vec<u8> = (0..100_u32).map(|i| (i * i * 7 + 3) as u8).collect();
        for length in 0..bytes.len() {
            let mut crc = !0_u32;
            for &byte in &bytes[..length] {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = crc >> 1 ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1));
                }
            }
            assert_eq!(crc32c(&bytes[..length]), !crc, "{length} bytes");
        }
    }

    /// The bytes that TensorBoard 2.21's own writer makes of the same: `RecordWriter(file).write(
    /// Event(wall_time=18.5, step=300, summary=Summary(value=[Value(tag="loss/train",
    /// simple_value=2.5)])).SerializeToString())`.
    #[test]
    fn a_record_has_the_bytes_of_the_real_writer() {
        let mut out = Vec::new();
        scalars((300, 18.5), &mut out, |tell| tell("loss", 2.5));
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "2100000000000000017becf609000000000080324010ac022a130a110a0a6c6f73732f747261696e1500002040b35fcd1d"
        );
    }

    #[test]
    fn an_event_without_a_number_is_none() {
        let mut out = vec![7];
        scalars((300, 18.5), &mut out, |tell| {
            tell("step", 300.0);
            tell("loss", f64::NAN);
        });
        assert_eq!(out, [7]);
    }

    /// Lengths of one byte and of two.
    #[test]
    fn a_long_text_is_framed_as_a_short_one() {
        for words in ["", "short", &"long ".repeat(400)] {
            let mut out = Vec::new();
            begin(1.0, &mut out);
            let start = out.len();
            text((1, 1.0), &mut out, words);
            let length = u64::from_le_bytes(out[start..start + 8].try_into().unwrap()) as usize;
            assert_eq!(out.len(), start + 16 + length);
            assert!(
                out.windows(words.len().max(1)).any(|part| part == words.as_bytes())
                    || words.is_empty()
            );
        }
    }

    #[test]
    fn every_number_has_a_tag_of_its_own_in_a_section() {
        let stage = StageState { name: "load", queue: Some((1, 2)), ..StageState::default() };
        let progress = Progress {
            peak_share: Some(1.0),
            memory_bytes: Some(1),
            stages: vec![stage],
            ..Progress::default()
        };
        let (mut tags, mut count) = (BTreeSet::from([tag("val_loss")]), 1);
        each(&progress, &mut |name, _| {
            tags.insert(tag(name));
            count += 1;
        });
        assert_eq!(tags.len(), count);
        assert!(tags.iter().all(|tag| tag.contains('/')));
    }
}
