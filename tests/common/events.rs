//! A reader of TensorBoard's event files, by the published formats alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What one event says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) time: f64,
    pub(crate) step: u64,
    pub(crate) version: String,
    pub(crate) is_start: bool,
    pub(crate) scalars: BTreeMap<String, f32>,
    pub(crate) texts: BTreeMap<String, String>,
}

/// The only event file of a run, beside one at most that was emptied.
pub(crate) fn file(out: &Path) -> PathBuf {
    let entries = fs::read_dir(out.join("tensorboard")).unwrap();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(all.len() <= 2, "{all:?}");
    all.retain(|path| fs::metadata(path).unwrap().len() > 0);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Its events, up to one that is not whole. Sums must be right.
pub(crate) fn events(out: &Path) -> Vec<Event> {
    let bytes = fs::read(file(out)).unwrap();
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while rest.len() >= 12 {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(masked_sum(&rest[..8]), rest[8..12]);
        let Some(data) = rest.get(12..12 + length).filter(|_| rest.len() >= 16 + length) else {
            break;
        };
        assert_eq!(masked_sum(data), rest[12 + length..16 + length]);
        all.push(event(data));
        rest = &rest[16 + length..];
    }
    all
}

/// Bit by bit, as it is defined.
fn masked_sum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers.
fn fields(mut data: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut all = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let length = match key & 7 {
            0 => {
                all.push((key >> 3, Field::Number(varint(&mut data))));
                continue;
            }
            1 => 8,
            2 => varint(&mut data) as usize,
            5 => 4,
            kind => panic!("kind {kind}"),
        };
        let (value, rest) = data.split_at(length);
        all.push((key >> 3, Field::Bytes(value)));
        data = rest;
    }
    all
}

fn varint(data: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in 0.. {
        let byte = data[0];
        *data = &data[1..];
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn event(data: &[u8]) -> Event {
    let mut event = Event::default();
    for field in fields(data) {
        match field {
            (1, Field::Bytes(time)) => event.time = f64::from_le_bytes(time.try_into().unwrap()),
            (2, Field::Number(step)) => event.step = step,
            (3, Field::Bytes(version)) => event.version = words(version),
            (5, Field::Bytes(summary)) => fields(summary).into_iter().for_each(|(_, value)| {
                let Field::Bytes(value) = value else { panic!("a value that is none") };
                add(&mut event, value);
            }),
            (7, Field::Bytes(session)) => {
                event.is_start = matches!(fields(session)[..], [(1, Field::Number(1))]);
            }
            (field, _) => panic!("field {field} of an event"),
        }
    }
    event
}

fn add(event: &mut Event, value: &[u8]) {
    let (mut tag, mut scalar, mut text) = (String::new(), None, None);
    for field in fields(value) {
        match field {
            (1, Field::Bytes(bytes)) => tag = words(bytes),
            (2, Field::Bytes(bytes)) => {
                scalar = Some(f32::from_le_bytes(bytes.try_into().unwrap()))
            }
            (8, Field::Bytes(tensor)) => {
                text = fields(tensor).into_iter().find_map(|field| match field {
                    (8, Field::Bytes(bytes)) => Some(words(bytes)),
                    _ => None,
                });
            }
            (9, Field::Bytes(_)) => {}
            (field, _) => panic!("field {field} of a value"),
        }
    }
    let is_new = match (scalar, text) {
        (Some(scalar), None) => event.scalars.insert(tag, scalar).is_none(),
        (None, Some(text)) => event.texts.insert(tag, text).is_none(),
        _ => false,
    };
    assert!(is_new, "a value is a scalar or a text, and its tag is new");
}
