//! One column of a Parquet file, a text a row.
//!
//! The column has the name of the field, `a.b` within a group, and holds byte strings, one a row: no list.
//! A row that has none is a bad record; a page that cannot be read is one too, and the last. Held at once are
//! a page of this column and its dictionary: a few MiB as others write them, and up to 2 GiB where a page says
//! that it unpacks to so much, which is what the format allows.
//!
//! <https://parquet.apache.org/docs/file-format/>

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::records::{RECORD_BYTES, Record};

/// Rows that are decoded at a time.
const ROWS: usize = 256;

/// The rows of a file that is being read.
pub(super) struct Rows {
    file: Option<Open>,
    /// Why there are none.
    refused: Option<String>,
    /// The number of the row that was read last, from 1, over all row groups.
    pub(super) row: u64,
}

struct Open {
    file: SerializedFileReader<File>,
    field: String,
    column: usize,
    /// The level of a value that is there.
    present: i16,
    /// The row group that is read next, and the column of the one before.
    group: usize,
    reader: Option<ColumnReaderImpl<ByteArrayType>>,
    levels: Vec<i16>,
    values: Vec<ByteArray>,
    /// Rows of `levels`, and of `values`, that were handed out.
    at: usize,
    value: usize,
    rows: usize,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("row", &self.row).finish_non_exhaustive()
    }
}

impl Rows {
    /// Of the column `field`. What is wrong with the file is told as its first record.
    pub(super) fn new(file: File, field: &str) -> Self {
        match guarded(|| Open::new(file, field)).unwrap_or_else(|| Err(FAULT.to_owned())) {
            Ok(file) => Rows { file: Some(file), refused: None, row: 0 },
            Err(why) => Rows { file: None, refused: Some(why), row: 0 },
        }
    }

    /// Reads on to the next row; `out` becomes its text.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Record {
        if let Some(why) = self.refused.take() {
            return Record::Bad(why);
        }
        let Some(file) = &mut self.file else { return Record::End };
        if file.at == file.rows {
            let more = match guarded(|| file.more()) {
                Some(more) => more.map_err(|e| words(&e)),
                None => Err(FAULT.to_owned()),
            };
            match more {
                Ok(true) => {}
                Ok(false) => {
                    self.file = None;
                    return Record::End;
                }
                Err(why) => {
                    self.file = None;
                    self.row += 1;
                    return Record::Bad(format!("it cannot be read from here on: {why}"));
                }
            }
        }
        self.row += 1;
        file.take(out)
    }
}

impl Open {
    fn new(file: File, field: &str) -> Result<Self, String> {
        let file = SerializedFileReader::new(file)
            .map_err(|e| format!("it is no Parquet file that can be read: {}", words(&e)))?;
        let columns = file.metadata().file_metadata().schema_descr().columns();
        let Some(column) = columns.iter().position(|c| c.path().string() == field) else {
            let names: Vec<String> = columns.iter().take(20).map(|c| c.path().string()).collect();
            return Err(format!("it has no column {field:?}, but {}", names.join(", ")));
        };
        let found = &columns[column];
        if found.physical_type() != Type::BYTE_ARRAY || found.max_rep_level() > 0 {
            let list = if found.max_rep_level() > 0 { "a list of " } else { "" };
            let kind = found.physical_type();
            return Err(format!("the column {field:?} holds {list}{kind}, and no text a row"));
        }
        let (present, field) = (found.max_def_level(), field.to_owned());
        let (levels, values) = (Vec::new(), Vec::new());
        let (group, reader, at, value, rows) = (0, None, 0, 0, 0);
        Ok(Open { file, field, column, present, group, reader, levels, values, at, value, rows })
    }

    /// Decodes the next rows; `false` after the last.
    fn more(&mut self) -> Result<bool, ParquetError> {
        loop {
            if let Some(reader) = &mut self.reader {
                self.levels.clear();
                self.values.clear();
                let levels = (self.present > 0).then_some(&mut self.levels);
                let (rows, _, _) = reader.read_records(ROWS, levels, None, &mut self.values)?;
                (self.at, self.value, self.rows) = (0, 0, rows);
                if rows > 0 {
                    return Ok(true);
                }
            }
            if self.group == self.file.num_row_groups() {
                return Ok(false);
            }
            let group = self.file.get_row_group(self.group)?;
            let column = group.metadata().column(self.column);
            let page = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            // Which the crate asserts, and does not check.
            if page < 0 || column.compressed_size() < 0 {
                let what = format!("column {} lies at {page}", self.column);
                return Err(ParquetError::General(what));
            }
            self.group += 1;
            self.reader = match group.get_column_reader(self.column)? {
                ColumnReader::ByteArrayColumnReader(reader) => Some(reader),
                _ => return Err(ParquetError::General("its column is of another type".into())),
            };
        }
    }

    fn take(&mut self, out: &mut Vec<u8>) -> Record {
        let is_there = self.present == 0 || self.levels.get(self.at) == Some(&self.present);
        self.at += 1;
        let field = &self.field;
        if !is_there {
            return Record::Bad(format!("the column {field:?} is null"));
        }
        let Some(value) = self.values.get(self.value) else {
            return Record::Bad("its page has fewer values than it says".to_owned());
        };
        self.value += 1;
        let text = value.data();
        if text.is_empty() {
            return Record::Bad(format!("the column {field:?} is empty"));
        }
        if text.len() > RECORD_BYTES {
            return Record::Bad(format!("longer than {} MiB", RECORD_BYTES >> 20));
        }
        if let Err(e) = std::str::from_utf8(text) {
            return Record::Bad(format!("it is no UTF-8 at byte {}", e.valid_up_to()));
        }
        out.clear();
        out.extend_from_slice(text);
        Record::Text
    }
}

const FAULT: &str = "its numbers make no sense";

/// None where the reader of the format panicked: of some damaged numbers it asserts that they are whole.
/// What it was doing is not gone on with.
fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}

/// Without the name of the kind of error that stands before it.
fn words(error: &ParquetError) -> String {
    let text = error.to_string();
    text.split_once(": ").map_or(text.clone(), |(_, rest)| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_reader_that_panics_has_read_nothing() {
        assert_eq!(guarded(|| 3), Some(3));
        assert_eq!(guarded(|| -> u8 { panic!("planted") }), None);
    }
}
