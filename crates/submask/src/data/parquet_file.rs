//! Parquet files: what one column has in a row is a document.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::document::Document;
use super::guard::guarded;
use super::parquet_columns::{list_level, names};
use super::reader::{Fault, Found, Given, Rules};
use crate::error::{Error, Result};

/// How many rows are decoded at a time.
const ROWS: usize = 64;

/// The documents of one parquet file, read row group by row group. Rows of nulls, empty strings and empty lists are no
/// documents.
pub(super) struct ParquetFile {
    rows: Rows,
    rules: Rules,
}

/// The rows of one parquet file, of which some columns are wanted.
pub(super) struct Rows {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    columns: Vec<Column>,
    next_group: usize,
    /// Rows given so far, for messages.
    row: u64,
}

/// A column that is read.
struct Column {
    index: usize,
    levels: Levels,
    values: Option<Values>,
    ready: VecDeque<Row>,
}

/// Definition levels of a column.
#[derive(Clone, Copy)]
struct Levels {
    /// At which a value is there.
    whole: i16,
    /// From which on a list has an element, which may be null; 0 outside lists.
    element: i16,
}

/// Values of a column in one row group.
enum Values {
    Texts(ColumnReaderImpl<ByteArrayType>),
    Short(ColumnReaderImpl<Int32Type>),
    Long(ColumnReaderImpl<Int64Type>),
}

/// What a row has in a column.
#[derive(Default)]
pub(super) struct Row {
    /// The text, unless it is null; or the elements of a list, of which some may be null.
    texts: Vec<Option<ByteArray>>,
    pub(super) numbers: Vec<i64>,
}

impl Row {
    /// Its texts; null is none, also as the element of a list.
    ///
    /// # Errors
    /// What is wrong with a text that is not UTF-8.
    pub(super) fn texts(&self) -> std::result::Result<Vec<String>, String> {
        Ok(self.elements()?.into_iter().flatten().collect())
    }

    /// Its text, unless it is null; or the elements of its list, of which some may be null.
    ///
    /// # Errors
    /// As [`Self::texts`].
    pub(super) fn elements(&self) -> std::result::Result<Vec<Option<String>>, String> {
        let text = |value: &ByteArray| {
            std::str::from_utf8(value.data()).map(str::to_owned).map_err(|error| {
                let at = error.valid_up_to();
                format!("not UTF-8, invalid byte at offset {at} of the text")
            })
        };
        self.texts.iter().map(|element| element.as_ref().map(text).transpose()).collect()
    }
}

impl Rows {
    /// Opens the file at `path`, which errors call `name`, with the columns whose numbers `find` gives.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file that is no parquet; those of `find`.
    pub(super) fn open(
        path: &Path,
        name: &Path,
        find: impl FnOnce(&SerializedFileReader<File>) -> Result<Vec<usize>>,
    ) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(name))?;
        let reader = guarded(name, || SerializedFileReader::new(file).map_err(problem(name)))?;
        let columns = find(&reader)?.into_iter().map(|index| {
            let schema = reader.metadata().file_metadata().schema_descr();
            let column = schema.column(index);
            let element = list_level(schema.root_schema(), column.path().parts());
            let levels = Levels { whole: column.max_def_level(), element };
            Column { index, levels, values: None, ready: VecDeque::new() }
        });
        let columns = columns.collect();
        Ok(Self { path: name.to_path_buf(), reader, columns, next_group: 0, row: 0 })
    }

    /// What the next row has in the wanted columns, in order; `None` at the end of the file.
    ///
    /// # Errors
    /// [`Error::Format`] for what is no parquet.
    pub(super) fn next_row(&mut self) -> Result<Option<Vec<Row>>> {
        loop {
            for column in self.columns.iter_mut().filter(|column| column.ready.is_empty()) {
                guarded(&self.path, || column.read_more().map_err(problem(&self.path)))?;
            }
            let empty = self.columns.iter().filter(|column| column.ready.is_empty()).count();
            if empty == 0 {
                self.row += 1;
                return Ok(self.columns.iter_mut().map(|column| column.ready.pop_front()).collect());
            }
            if empty < self.columns.len() {
                let problem = format!("row {}: columns of different lengths", self.row + 1);
                return Err(Error::format(&self.path, problem));
            }
            let path = self.path.clone();
            if !guarded(&path, || self.open_group())? {
                return Ok(None);
            }
        }
    }

    /// What is wrong with the row that was given last.
    pub(super) fn problem(&self, problem: &str) -> Error {
        Error::format(&self.path, format!("{}: {problem}", self.place()))
    }

    fn place(&self) -> String {
        format!("row {}", self.row)
    }

    /// Goes on to the next row group; false at the end of the file.
    fn open_group(&mut self) -> Result<bool> {
        if self.next_group == self.reader.num_row_groups() {
            return Ok(false);
        }
        let group = self.reader.get_row_group(self.next_group).map_err(problem(&self.path))?;
        self.next_group += 1;
        for column in &mut self.columns {
            column.values = match group.get_column_reader(column.index).map_err(problem(&self.path))? {
                ColumnReader::ByteArrayColumnReader(values) => Some(Values::Texts(values)),
                ColumnReader::Int32ColumnReader(values) => Some(Values::Short(values)),
                ColumnReader::Int64ColumnReader(values) => Some(Values::Long(values)),
                _ => None,
            };
        }
        Ok(true)
    }
}

impl Column {
    /// Decodes some rows of the present row group, if there are any left.
    fn read_more(&mut self) -> std::result::Result<(), ParquetError> {
        if let Some(values) = &mut self.values {
            self.ready.extend(values.read(self.levels)?);
        }
        Ok(())
    }
}

impl ParquetFile {
    /// Opens the file at `path`, which errors call `name`.
    ///
    /// # Errors
    /// As [`Rows::open`]; [`Error::Format`] for a file without a column of texts, or lists of numbers, of that name.
    pub(super) fn open(path: &Path, name: &Path, rules: &Rules) -> Result<Self> {
        let rows = Rows::open(path, name, |reader| Ok(vec![find_column(name, reader, &rules.field)?]))?;
        Ok(Self { rows, rules: rules.clone() })
    }

    fn next_document(&mut self) -> Given<Option<Document>> {
        while let Some(row) = self.rows.next_row()? {
            for row in row {
                let texts = row.texts().map_err(|problem| Fault::Record(self.rows.problem(&problem)))?;
                let found = Found { texts, numbers: row.numbers };
                let document = self.rules.document(found, &self.rows.path, &self.rows.place())?;
                if document.is_some() {
                    return Ok(document);
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for ParquetFile {
    type Item = Given<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_document().transpose()
    }
}

impl Values {
    /// Some more rows; none at the end of the row group.
    fn read(&mut self, levels: Levels) -> std::result::Result<Vec<Row>, ParquetError> {
        match self {
            Self::Texts(values) => rows(values, levels, |row, text| row.texts.push(text)),
            Self::Short(values) => {
                rows(values, levels, |row, number| row.numbers.extend(number.map(i64::from)))
            }
            Self::Long(values) => rows(values, levels, |row, number| row.numbers.extend(number)),
        }
    }
}

/// Puts the values of a column together to rows: one is there where its definition level is that of a whole value, an
/// element of a list is null where its level is lower, and a row begins where the repetition level is 0.
fn rows<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    Levels { whole, element }: Levels,
    add: impl Fn(&mut Row, Option<T::T>),
) -> std::result::Result<Vec<Row>, ParquetError> {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    let (read, ..) =
        column.read_records(ROWS, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
    let mut rows: Vec<Row> = Vec::with_capacity(read);
    let mut values = values.into_iter();
    // A column without nulls has no definition levels, and one without lists no repetition levels.
    for level in 0..definitions.len().max(repetitions.len()).max(if whole == 0 { read } else { 0 }) {
        if repetitions.get(level).is_none_or(|level| *level == 0) {
            rows.push(Row::default());
        }
        let Some(row) = rows.last_mut() else { continue };
        match definitions.get(level) {
            Some(level) if *level < whole => {
                if element > 0 && *level >= element {
                    add(row, None);
                }
            }
            _ => {
                if let Some(value) = values.next() {
                    add(row, Some(value));
                }
            }
        }
    }
    Ok(rows)
}

/// The index of the column called `wanted`.
fn find_column(path: &Path, reader: &SerializedFileReader<File>, wanted: &str) -> Result<usize> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let (columns, names) = (schema.columns(), names(schema.root_schema()));
    let is_list_of_numbers =
        |index: usize| names[index].ends_with("[]") && is_number(columns[index].physical_type());
    let called = |index: usize| match names[index].strip_suffix("[]") {
        Some(list) if is_list_of_numbers(index) => names[index] == wanted || list == wanted,
        _ => names[index] == wanted || columns[index].path().string() == wanted,
    };
    let refuse = |problem: String| Err(Error::format(path, problem));
    let Some(index) = (0..columns.len().min(names.len())).find(|index| called(*index)) else {
        let hint = match names.iter().find(|name| name.strip_suffix("[]") == Some(wanted)) {
            Some(list) => format!("; {list} joins its elements"),
            None => String::new(),
        };
        return refuse(format!("no column {wanted:?}; present: {}{hint}", names.join(", ")));
    };
    let kind = columns[index].physical_type();
    match kind == Type::BYTE_ARRAY || is_list_of_numbers(index) {
        true => Ok(index),
        false => refuse(format!("column {wanted:?} holds {kind}, not strings")),
    }
}

fn is_number(kind: Type) -> bool {
    kind == Type::INT32 || kind == Type::INT64
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
        let file = ParquetFile::open(file.path(), file.path(), &Rules::of_field(column))?;
        file.map(|document| document.map_err(Fault::error)).collect()
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

    const LISTS: &str = "message m {
        OPTIONAL group s (LIST) { REPEATED group list { OPTIONAL BYTE_ARRAY element (UTF8); } }
        OPTIONAL group ids (LIST) { REPEATED group list { OPTIONAL INT64 element; } }
    }";

    /// Five rows: two elements, a null among two, none, no list, one; levels and values of a column.
    const DEFINITIONS: [i16; 7] = [3, 3, 2, 3, 1, 0, 3];
    const REPETITIONS: [i16; 7] = [0, 1, 0, 1, 0, 0, 0];

    /// A file of lists, compressed by brotli.
    fn write_lists() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let schema = Arc::new(parse_message_type(LISTS).unwrap());
        let compression = Compression::BROTLI(Default::default());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut writer = SerializedFileWriter::new(file.reopen().unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let texts = ["a", "b", "c", "d"].map(ByteArray::from);
        let (definitions, repetitions) = (Some(&DEFINITIONS[..]), Some(&REPETITIONS[..]));
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&texts, definitions, repetitions).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[7, 8, 9, 10], definitions, repetitions).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        file
    }

    #[test]
    fn lists_are_joined_and_numbers_are_tokens() {
        let file = write_lists();
        assert_eq!(read(&file, "s[]").unwrap(), ["a\nb", "c", "d"].map(Document::whole));
        let numbers = [&[7, 8][..], &[9], &[10]].map(Document::numbers);
        for name in ["ids", "ids[]"] {
            assert_eq!(read(&file, name).unwrap(), numbers);
        }
        let error = read(&file, "s").unwrap_err().to_string();
        assert!(error.contains("no column \"s\"; present: s[], ids[]; s[] joins its elements"), "{error}");
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_named_by_its_row() {
        let file = write_lists();
        let rules = Rules { vocab_size: Some(9), ..Rules::of_field("ids") };
        let mut documents = ParquetFile::open(file.path(), file.path(), &rules).unwrap();
        let Some(Fault::File(error)) = documents.find_map(std::result::Result::err) else {
            panic!("no error")
        };
        assert!(error.to_string().contains("row 2: token 9 is not a valid code"), "{error}");
    }

    #[test]
    fn reading_goes_on_behind_a_row_that_is_no_text() {
        let file = write(&[&[Some(b"a"), Some(b"\xff"), Some(b"b")]]);
        let rules = Rules::of_field("text");
        let documents: Vec<_> = ParquetFile::open(file.path(), file.path(), &rules).unwrap().collect();
        assert!(matches!(&documents[..], [Ok(_), Err(Fault::Record(_)), Ok(_)]));
    }

    #[test]
    fn no_damaged_byte_makes_the_reader_panic() {
        let file = write(&[&[Some(b"one"), None, Some(b"two two two"), Some(b"one")], &[Some(b"three")]]);
        let whole = std::fs::read(file.path()).unwrap();
        let (mut failed, name) = (0, file.path().display().to_string());
        for place in 0..whole.len() {
            for byte in [0, whole[place] ^ 1, whole[place].wrapping_add(1), 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[place] = byte;
                std::fs::write(file.path(), damaged).unwrap();
                if let Err(error) = read(&file, "text") {
                    failed += 1;
                    assert!(error.to_string().contains(&name), "{error}");
                }
            }
        }
        assert!(failed > whole.len(), "{failed} of {} files", 6 * whole.len());
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
        assert!(error.contains("row 2") && error.contains("offset 1"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_parquet_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        let error = read(&file, "text").unwrap_err().to_string();
        assert!(error.contains("cannot read as parquet"), "{error}");
    }
}
