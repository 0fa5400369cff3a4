//! Parquet files: every string of one column is a document.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::document::Document;
use crate::error::{Error, Result};

/// How many rows are decoded at a time.
const ROWS: usize = 64;

/// The documents of one parquet file, read row group by row group. Nulls and empty strings are no
/// documents.
pub(super) struct ParquetFile {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    column: usize,
    next_group: usize,
    values: Option<ColumnReaderImpl<ByteArrayType>>,
    ready: VecDeque<ByteArray>,
    /// Strings given so far, for messages.
    given: u64,
}

impl ParquetFile {
    /// Opens the file; `column` is the path of the column (`a.b` for a field of a structure).
    pub(super) fn open(path: &Path, column: &str) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let reader = SerializedFileReader::new(file).map_err(problem(path))?;
        let column = find_column(path, &reader, column)?;
        let path = path.to_path_buf();
        Ok(Self { path, reader, column, next_group: 0, values: None, ready: VecDeque::new(), given: 0 })
    }

    fn next_document(&mut self) -> Result<Option<Document>> {
        loop {
            while let Some(value) = self.ready.pop_front() {
                self.given += 1;
                let text = std::str::from_utf8(value.data()).map_err(|error| {
                    let at = error.valid_up_to();
                    let problem =
                        format!("text {}: not UTF-8, invalid byte at offset {at} of it", self.given);
                    Error::format(&self.path, problem)
                })?;
                if !text.is_empty() {
                    return Ok(Some(Document::whole(text)));
                }
            }
            if !self.read_more()? {
                return Ok(None);
            }
        }
    }

    /// Decodes some rows; false at the end of the file.
    fn read_more(&mut self) -> Result<bool> {
        if let Some(values) = &mut self.values {
            let (mut strings, mut levels) = (Vec::with_capacity(ROWS), Vec::with_capacity(ROWS));
            let (rows, ..) = values
                .read_records(ROWS, Some(&mut levels), None, &mut strings)
                .map_err(problem(&self.path))?;
            if rows > 0 {
                self.ready.extend(strings);
                return Ok(true);
            }
        }
        if self.next_group == self.reader.num_row_groups() {
            return Ok(false);
        }
        let group = self.reader.get_row_group(self.next_group).map_err(problem(&self.path))?;
        self.next_group += 1;
        self.values = match group.get_column_reader(self.column).map_err(problem(&self.path))? {
            ColumnReader::ByteArrayColumnReader(values) => Some(values),
            _ => None,
        };
        Ok(true)
    }
}

impl Iterator for ParquetFile {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_document().transpose()
    }
}

/// The index of the string column called `wanted`.
fn find_column(path: &Path, reader: &SerializedFileReader<File>, wanted: &str) -> Result<usize> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let columns = schema.columns();
    let Some(index) = columns.iter().position(|column| column.path().string() == wanted) else {
        let present: Vec<_> = columns.iter().map(|column| column.path().string()).collect();
        let problem = format!("no column {wanted:?}; present: {}", present.join(", "));
        return Err(Error::format(path, problem));
    };
    let column = &columns[index];
    if column.physical_type() != Type::BYTE_ARRAY || column.max_rep_level() > 0 {
        let repeated = if column.max_rep_level() > 0 { "a list of " } else { "" };
        let found = format!("{repeated}{}", column.physical_type());
        return Err(Error::format(path, format!("column {wanted:?} holds {found}, not strings")));
    }
    Ok(index)
}

fn problem(path: &Path) -> impl FnOnce(ParquetError) -> Error {
    let path = path.to_path_buf();
    move |error| Error::format(path, format!("cannot read as parquet: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::Compression;
    use parquet::data_type::Int32Type;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    const SCHEMA: &str = "message m { REQUIRED INT32 id; OPTIONAL BYTE_ARRAY text (UTF8); }";

    /// A file with one row group for each list; `None` is a null.
    fn write(groups: &[&[Option<&[u8]>]]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut writer =
            SerializedFileWriter::new(file.reopen().unwrap(), schema, Arc::new(properties)).unwrap();
        for rows in groups {
            let mut group = writer.next_row_group().unwrap();
            let ids: Vec<i32> = (0..rows.len() as i32).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int32Type>().write_batch(&ids, None, None).unwrap();
            column.close().unwrap();
            let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
            let texts: Vec<_> = rows.iter().flatten().map(|text| ByteArray::from(text.to_vec())).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
        file
    }

    fn read(file: &tempfile::NamedTempFile, column: &str) -> Result<Vec<Document>> {
        ParquetFile::open(file.path(), column)?.collect()
    }

    #[test]
    fn every_string_of_every_row_group_is_a_document() {
        let long: Vec<String> = (0..200).map(|i| format!("row {i}")).collect();
        let rows: Vec<Option<&[u8]>> = long.iter().map(|text| Some(text.as_bytes())).collect();
        let file = write(&[&[Some(b"a"), None, Some(b""), Some(b"b")], &rows]);
        let texts: Vec<_> = read(&file, "text").unwrap().into_iter().map(|document| document.text).collect();
        let expected = ["a".to_owned(), "b".to_owned()].into_iter().chain(long.clone());
        assert_eq!(texts, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_missing_column_is_refused_and_those_present_are_named() {
        let error = read(&write(&[&[Some(b"a")]]), "body").unwrap_err().to_string();
        assert!(error.contains("no column \"body\"; present: id, text"), "{error}");
    }

    #[test]
    fn a_column_of_numbers_is_refused() {
        let error = read(&write(&[&[Some(b"a")]]), "id").unwrap_err().to_string();
        assert!(error.contains("holds INT32, not strings"), "{error}");
    }

    #[test]
    fn a_string_that_is_not_utf8_is_named() {
        let error = read(&write(&[&[Some(b"a"), Some(b"b\xff")]]), "text").unwrap_err().to_string();
        assert!(error.contains("text 2") && error.contains("offset 1"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_parquet_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        let error = read(&file, "text").unwrap_err().to_string();
        assert!(error.contains("cannot read as parquet"), "{error}");
    }
}
