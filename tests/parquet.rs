//! Parquet: every row of the column is a document, whatever packs it; what is no text is named by its row,
//! and a damaged file is an error in words.

#![cfg(feature = "parquet")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::{TempDir, tempdir};
use twelvefold::corpus::files::FileSource;
use twelvefold::corpus::{Chunk, Source, Summary};
use twelvefold::train::{Cancel, Options, run};

#[path = "common/chance.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod chance;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;

const SCHEMA: &str = "message m { required int64 id; optional binary text (UTF8);
    optional group meta { optional binary title (UTF8); } repeated binary tags (UTF8); }";

/// What a row's text and its title are; none is null.
type Row<'a> = Option<&'a [u8]>;

/// Writes groups of rows.
fn write(path: &Path, groups: &[Vec<Row<'_>>], properties: WriterProperties) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let ids: Vec<i64> = (0..rows.len() as i64).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let values: Vec<ByteArray> = rows.iter().flatten().map(|r| r.to_vec().into()).collect();
        for depth in [1, 2] {
            let level = |row: &Row<'_>| if row.is_some() { depth } else { depth - 1 };
            let levels: Vec<i16> = rows.iter().map(level).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
        }
        let mut column = group.next_column().unwrap().unwrap();
        let none = vec![0; rows.len()];
        column.typed::<ByteArrayType>().write_batch(&[], Some(&none), Some(&none)).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// The documents and what was said of them.
fn read(source: FileSource) -> Result<(Vec<String>, Vec<String>, Summary), twelvefold::Error> {
    let (mut source, mut chunk) = (source, Chunk::default());
    let (mut texts, mut names): (Vec<String>, _) = (Vec::new(), Vec::new());
    while source.fill(&mut chunk)? {
        for span in &chunk.spans {
            let text = str::from_utf8(&chunk.bytes[span.range.clone()]).unwrap();
            if texts.len() as u64 == span.document {
                texts.push(String::new());
                names.push(source.name(span.document).unwrap());
            }
            texts[span.document as usize].push_str(text);
        }
    }
    Ok((texts, names, source.summary()))
}

fn source(path: &Path) -> FileSource {
    FileSource::new([path]).unwrap()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("row {i} — {}", "läuft ".repeat(i * 7 % 40))).collect()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    (folder, path)
}

#[test]
fn every_row_comes_once_in_order_whatever_packs_it() {
    let all = texts(1_500);
    let rows: Vec<Row<'_>> = all.iter().map(|text| Some(text.as_bytes())).collect();
    let groups = [rows[..700].to_vec(), rows[700..701].to_vec(), rows[701..].to_vec()];
    let packings = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
        Compression::BROTLI(BrotliLevel::default()),
    ];
    let (_folder, path) = folder();
    for packing in packings {
        for (version, dictionary) in
            [(WriterVersion::PARQUET_1_0, true), (WriterVersion::PARQUET_2_0, false)]
        {
            let properties = WriterProperties::builder()
                .set_compression(packing)
                .set_writer_version(version)
                .set_dictionary_enabled(dictionary)
                .set_data_page_row_count_limit(100)
                .build();
            write(&path, &groups, properties);
            for field in ["text", "meta.title"] {
                let (found, names, summary) = read(source(&path).field(field)).unwrap();
                assert_eq!(found, all, "{packing:?} {version:?} {field}");
                assert_eq!(names[700], format!("{}:701", path.display()));
                assert_eq!((summary.opened, summary.bad_records), (1, 0));
            }
        }
    }
}

#[test]
fn a_second_pass_reads_the_same() {
    let all = texts(300);
    let (_folder, path) = folder();
    let rows = all.iter().map(|text| Some(text.as_bytes())).collect();
    write(&path, &[rows], WriterProperties::default());
    let mut source = source(&path);
    let mut passes = Vec::new();
    for _ in 0..2 {
        let (mut chunk, mut bytes) = (Chunk::default(), Vec::new());
        while source.fill(&mut chunk).unwrap() {
            bytes.extend_from_slice(&chunk.bytes);
        }
        passes.push(bytes);
        source.rewind().unwrap();
    }
    assert_eq!(passes[0], all.concat().into_bytes());
    assert!(passes[0] == passes[1]);
}

#[test]
fn a_row_that_is_no_text_is_named_and_the_others_stay() {
    let (_folder, path) = folder();
    let rows: Vec<Row<'_>> = vec![Some(b"one"), None, Some(b""), Some(b"a\xff"), Some(b"two")];
    write(&path, &[rows], WriterProperties::default());
    let (found, names, summary) = read(source(&path)).unwrap();
    assert_eq!(found, ["one", "two"]);
    assert_eq!(names, [1, 5].map(|row| format!("{}:{row}", path.display())));
    let bad: Vec<String> =
        summary.bad.iter().map(|bad| bad.path.clone() + " " + &bad.reason).collect();
    let at = |row: u64, why: &str| format!("{}:{row} {why}", path.display());
    let expected = [
        at(2, "the column \"text\" is null"),
        at(3, "the column \"text\" is empty"),
        at(4, "it is no UTF-8 at byte 1"),
    ];
    assert_eq!(bad, expected);
    let error = read(source(&path).bad_records(2)).unwrap_err().to_string();
    assert!(error.contains("more than 2 bad records") && error.contains("a.parquet:4"), "{error}");
}

#[test]
fn what_cannot_be_the_text_is_said_with_what_there_is() {
    let (folder, path) = folder();
    write(&path, &[vec![Some(b"one")]], WriterProperties::default());
    let why = |source: FileSource| read(source).unwrap().2.bad[0].reason.clone();
    let found = why(source(&path).field("body"));
    assert_eq!(found, "it has no column \"body\", but id, text, meta.title, tags");
    assert_eq!(why(source(&path).field("id")), "the column \"id\" holds INT64, and no text a row");
    let found = why(source(&path).field("tags"));
    assert_eq!(found, "the column \"tags\" holds a list of BYTE_ARRAY, and no text a row");
    let packed = folder.path().join("a.parquet.gz");
    fs::copy(&path, &packed).unwrap();
    assert!(why(source(&packed)).contains("must lie as it is"));
    fs::write(&path, "no such file").unwrap();
    assert!(why(source(&path)).contains("it is no Parquet file that can be read"));
}

/// Cut short, and bytes changed by chance: an end, in words, and what came before it stays.
#[test]
fn a_damaged_file_never_panics_and_never_hangs() {
    let all = texts(600);
    let rows: Vec<Row<'_>> = all.iter().map(|text| Some(text.as_bytes())).collect();
    let (_folder, path) = folder();
    let mut rng = chance::Rng(8);
    let (mut whole, mut broken) = (0, 0);
    for packing in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        let properties =
            WriterProperties::builder().set_compression(packing).set_dictionary_enabled(false);
        write(
            &path,
            std::slice::from_ref(&rows),
            properties.set_data_page_row_count_limit(50).build(),
        );
        let good = fs::read(&path).unwrap();
        for round in 0..400 {
            let mut bytes = good.clone();
            if round % 8 == 0 {
                bytes.truncate(rng.below(good.len() as u64) as usize);
            }
            for _ in 0..1 + rng.below(4) {
                // Half of them in the footer, which says where everything is.
                let from = if rng.below(2) == 0 { 0 } else { bytes.len().saturating_sub(600) };
                let at = from + rng.below((bytes.len() - from).max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.below(256) as u8;
                }
            }
            fs::write(&path, bytes).unwrap();
            let (found, _, summary) = read(source(&path).bad_records(10_000)).unwrap();
            assert!(summary.bad.iter().all(|bad| !bad.reason.contains("make no sense")), "a panic");
            whole += u64::from(found == all);
            broken += u64::from(summary.bad_records > 0);
        }
    }
    assert!(whole > 0 && broken > 100, "{whole} whole, {broken} broken");
}

#[test]
fn a_run_trains_on_it_as_on_the_same_text_in_json() {
    let all = texts(400);
    let folder = tempdir().unwrap();
    let (rows, lines) = (folder.path().join("a.parquet"), folder.path().join("a.jsonl"));
    let values = all.iter().map(|text| Some(text.as_bytes())).collect();
    write(&rows, &[values], WriterProperties::default());
    let json: Vec<String> =
        all.iter().map(|t| serde_json::json!({ "text": t }).to_string()).collect();
    fs::write(&lines, json.join("\n")).unwrap();
    let weights = [rows, lines].map(|path| {
        let options = Options { out: folder.path().join("out"), overwrite: true, ..tiny::tiny() };
        let options = tiny::on(&[&path], options);
        run(&options, &Cancel::new(), &mut ()).unwrap().weights_sha256
    });
    assert_eq!(weights[0], weights[1]);
}
