//! Pairs in parquet files: two columns of strings or of chat messages, or one column of chats.

use std::path::Path;

use super::PairSource;
use super::records::FilePairs;
#[cfg(not(feature = "parquet"))]
use crate::error::Error;
use crate::error::Result;

#[cfg(not(feature = "parquet"))]
pub(super) fn open(path: &Path, _source: &PairSource) -> Result<FilePairs> {
    Err(Error::format(path, "this build cannot read parquet files; build with the feature `parquet`"))
}

/// The pairs of a file.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io); [`Error::Format`](crate::Error::Format) for a file without such columns.
#[cfg(feature = "parquet")]
pub(super) fn open(path: &Path, source: &PairSource) -> Result<FilePairs> {
    reading::ParquetPairs::open(path, source).map(|pairs| Box::new(pairs) as _)
}

#[cfg(feature = "parquet")]
mod reading {
    use std::collections::VecDeque;
    use std::fs::File;
    use std::path::{Path, PathBuf};

    use parquet::basic::Type;
    use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::errors::ParquetError;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::schema::types::ColumnDescriptor;

    use super::super::records::Held;
    use super::super::{Pair, PairSource};
    use crate::error::{Error, Result};

    /// How many rows are decoded at a time.
    const ROWS: usize = 64;

    /// The pairs of one file, read row group by row group.
    pub(super) struct ParquetPairs {
        path: PathBuf,
        reader: SerializedFileReader<File>,
        /// Of prompts and completions, or of chats.
        columns: Vec<Column>,
        next_group: usize,
        /// Rows given so far.
        row: u64,
    }

    /// A column of strings, or of lists of them.
    struct Column {
        index: usize,
        /// The definition level of a string that is there.
        value_level: i16,
        is_list: bool,
        values: Option<ColumnReaderImpl<ByteArrayType>>,
        /// The strings of rows that are decoded.
        ready: VecDeque<Vec<ByteArray>>,
    }

    impl ParquetPairs {
        pub(super) fn open(path: &Path, source: &PairSource) -> Result<Self> {
            let file = File::open(path).map_err(Error::io(path))?;
            let reader = SerializedFileReader::new(file).map_err(problem(path))?;
            let mut fields = vec![&source.prompt_field, &source.completion_field];
            fields.dedup();
            let columns = fields.into_iter().map(|field| Column::find(path, &reader, field));
            let columns = columns.collect::<Result<_>>()?;
            Ok(Self { path: path.to_path_buf(), reader, columns, next_group: 0, row: 0 })
        }

        fn next_pair(&mut self) -> Result<Option<Pair>> {
            loop {
                for column in self.columns.iter_mut().filter(|column| column.ready.is_empty()) {
                    column.read_more().map_err(problem(&self.path))?;
                }
                let empty = self.columns.iter().filter(|column| column.ready.is_empty()).count();
                if empty == 0 {
                    return self.pair().map(Some);
                }
                if empty < self.columns.len() {
                    let problem = format!("row {}: the columns of a pair differ in length", self.row + 1);
                    return Err(Error::format(&self.path, problem));
                }
                if !self.open_group()? {
                    return Ok(None);
                }
            }
        }

        /// The pair of the next row, which is decoded.
        fn pair(&mut self) -> Result<Pair> {
            self.row += 1;
            let (path, row) = (&self.path, self.row);
            let held = self.columns.iter_mut().map(|column| column.held(path, row));
            let mut held = held.collect::<Result<Vec<_>>>()?.into_iter();
            match (held.next(), held.next()) {
                (Some(prompt), Some(completion)) => Ok(Held::pair(prompt, completion)),
                (chat, _) => chat.unwrap_or(Held::Turns(Vec::new())).chat().map_err(|problem| {
                    Error::format(path, format!("row {row}: the column of chats {problem}"))
                }),
            }
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
                    ColumnReader::ByteArrayColumnReader(values) => Some(values),
                    _ => None,
                };
            }
            Ok(true)
        }
    }

    impl Iterator for ParquetPairs {
        type Item = Result<Pair>;

        fn next(&mut self) -> Option<Self::Item> {
            self.next_pair().transpose()
        }
    }

    impl Column {
        /// The column of strings called `name`, or that of the texts of a list of this name.
        fn find(path: &Path, reader: &SerializedFileReader<File>, name: &str) -> Result<Self> {
            let columns = reader.metadata().file_metadata().schema_descr().columns();
            let Some(index) = columns.iter().position(|column| holds(column, name)) else {
                let present: Vec<_> = columns.iter().map(|column| column.path().string()).collect();
                let present = present.join(", ");
                let problem = format!("no column {name:?} of strings or chat messages; present: {present}");
                return Err(Error::format(path, problem));
            };
            let column = &columns[index];
            let (value_level, is_list) = (column.max_def_level(), column.max_rep_level() > 0);
            Ok(Self { index, value_level, is_list, values: None, ready: VecDeque::new() })
        }

        /// Decodes some rows of the present row group, if there are any left.
        fn read_more(&mut self) -> std::result::Result<(), ParquetError> {
            let Some(reader) = &mut self.values else { return Ok(()) };
            let (mut levels, mut repeats, mut values) = (Vec::new(), Vec::new(), Vec::new());
            reader.read_records(ROWS, Some(&mut levels), Some(&mut repeats), &mut values)?;
            if self.value_level == 0 {
                // Without nulls and lists there are no levels.
                self.ready.extend(values.into_iter().map(|value| vec![value]));
                return Ok(());
            }
            let mut values = values.into_iter();
            let mut rows: Vec<Vec<ByteArray>> = Vec::new();
            for (n, level) in levels.iter().enumerate() {
                if !self.is_list || repeats.get(n).is_none_or(|repeat| *repeat == 0) {
                    rows.push(Vec::new());
                }
                if *level == self.value_level
                    && let (Some(row), Some(value)) = (rows.last_mut(), values.next())
                {
                    row.push(value);
                }
            }
            self.ready.extend(rows);
            Ok(())
        }

        /// What the next row holds.
        fn held(&mut self, path: &Path, row: u64) -> Result<Held> {
            let values = self.ready.pop_front().unwrap_or_default();
            let texts = values.iter().map(|value| {
                std::str::from_utf8(value.data()).map(str::to_owned).map_err(|error| {
                    let at = error.valid_up_to();
                    Error::format(
                        path,
                        format!("row {row}: not UTF-8, invalid byte at offset {at} of a text"),
                    )
                })
            });
            let mut texts = texts.collect::<Result<Vec<_>>>()?;
            match self.is_list {
                true => Ok(Held::Turns(texts)),
                false => Ok(Held::Text(texts.pop().unwrap_or_default())),
            }
        }
    }

    /// Whether a column has the strings called `name`: its own, those of a list, or the content of a list of messages.
    fn holds(column: &ColumnDescriptor, name: &str) -> bool {
        // Writers call the levels of a list by different names: list.element, list.item, bag.array_element, array.
        const ELEMENTS: [&str; 4] = ["element", "item", "array_element", "array"];
        let path = column.path().string();
        let Some(rest) = path.strip_prefix(name) else { return false };
        let inside: Vec<&str> = rest.split('.').collect();
        let levels = match inside.as_slice() {
            [""] => Some(0),
            ["", lists @ .., "content"] if (1..=2).contains(&lists.len()) => Some(1),
            ["", lists @ .., last] if lists.len() <= 1 && ELEMENTS.contains(last) => Some(1),
            _ => None,
        };
        column.physical_type() == Type::BYTE_ARRAY && levels == Some(column.max_rep_level())
    }

    fn problem(path: &Path) -> impl FnOnce(ParquetError) -> Error {
        let path = path.to_path_buf();
        move |error| Error::format(path, format!("cannot read as parquet: {error}"))
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::data::pairs::Pair;

    /// One column of one row group: texts, definition levels and repetition levels.
    type Written<'a> = (&'a [&'a str], Option<&'a [i16]>, Option<&'a [i16]>);

    /// A file of row groups, and the folder that it is in.
    fn file(schema: &str, groups: &[&[Written]]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.parquet");
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
        for columns in groups {
            let mut group = writer.next_row_group().unwrap();
            for (texts, levels, repeats) in *columns {
                let mut column = group.next_column().unwrap().unwrap();
                let texts: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
                column.typed::<ByteArrayType>().write_batch(&texts, *levels, *repeats).unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
        (folder, path)
    }

    fn pairs(path: &Path, fields: [&str; 2]) -> Result<Vec<String>> {
        let [prompt_field, completion_field] = fields.map(str::to_owned);
        let source = PairSource { prompt_field, completion_field, ..PairSource::new([path]) };
        let shown = |pair: Result<Pair>| pair.map(|pair| format!("{}>{}", pair.prompt, pair.completion));
        source.pairs()?.map(shown).collect()
    }

    #[test]
    fn rows_of_two_columns_are_pairs_whatever_is_null() {
        let schema =
            "message m { OPTIONAL BYTE_ARRAY prompt (UTF8); REQUIRED BYTE_ARRAY completion (UTF8); }";
        let first: &[Written] = &[(&["a", "c"], Some(&[1, 0, 1]), None), (&["x", "y", "z"], None, None)];
        let second: &[Written] = &[(&["d"], Some(&[1]), None), (&[""], None, None)];
        let (_folder, path) = file(schema, &[first, second]);
        assert_eq!(pairs(&path, ["prompt", "completion"]).unwrap(), ["a>x", ">y", "c>z", "d>"]);
        let error = pairs(&path, ["prompt", "answer"]).unwrap_err().to_string();
        assert!(
            error.contains("no column \"answer\" of strings or chat messages; present: prompt, "),
            "{error}"
        );
        let error = pairs(&path, ["prompt"; 2]).unwrap_err().to_string();
        assert!(error.contains("row 1: the column of chats holds one text"), "{error}");
    }

    #[test]
    fn rows_of_chat_messages_are_pairs() {
        let schema =
            "message m { OPTIONAL GROUP messages (LIST) { REPEATED GROUP list { OPTIONAL GROUP element {
            OPTIONAL BYTE_ARRAY content (UTF8); OPTIONAL BYTE_ARRAY role (UTF8); } } } }";
        // Two turns; no list; three turns; one turn.
        let levels: &[i16] = &[4, 4, 0, 4, 4, 4, 4];
        let repeats: &[i16] = &[0, 1, 0, 0, 1, 1, 0];
        let content: Written = (&["u", "m", "s", "u", "n", "o"], Some(levels), Some(repeats));
        let role: Written = (&["x"; 6], Some(levels), Some(repeats));
        let (_folder, path) = file(schema, &[&[content, role]]);
        assert_eq!(pairs(&path, ["messages"; 2]).unwrap(), ["u\n>m", ">", "s\nu\n>n", ">o"]);
    }

    #[test]
    fn a_file_that_is_cut_off_is_named() {
        let schema =
            "message m { REQUIRED BYTE_ARRAY prompt (UTF8); REQUIRED BYTE_ARRAY completion (UTF8); }";
        let (_folder, path) = file(schema, &[&[(&["a"], None, None), (&["x"], None, None)]]);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = pairs(&path, ["prompt", "completion"]).unwrap_err().to_string();
            assert!(error.contains("pairs.parquet"), "{error}");
        }
    }
}
