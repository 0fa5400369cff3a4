//! Pairs in parquet files: two columns of strings or of chat messages, or one column of chats.

use std::path::Path;

use super::{FilePairs, PairSource};
#[cfg(not(feature = "parquet"))]
use crate::error::Error;
use crate::error::Result;

#[cfg(not(feature = "parquet"))]
pub(in crate::data) fn in_parquet(_path: &Path, name: &Path, _source: &PairSource) -> Result<FilePairs> {
    Err(Error::format(name, "this build cannot read parquet files; build with the feature `parquet`"))
}

/// The pairs of the file at `path`, which errors call `name`.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io); [`Error::Format`](crate::Error::Format) for a file without such columns.
#[cfg(feature = "parquet")]
pub(in crate::data) fn in_parquet(path: &Path, name: &Path, source: &PairSource) -> Result<FilePairs> {
    reading::ParquetPairs::open(path, name, source).map(|pairs| Box::new(pairs) as _)
}

#[cfg(feature = "parquet")]
mod reading {
    use std::fs::File;
    use std::path::Path;

    use parquet::basic::Type;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::super::records::Held;
    use super::super::{Pair, PairSource};
    use crate::data::parquet_columns::names;
    use crate::data::parquet_file::{Row, Rows};
    use crate::data::reader::{Fault, Given};
    use crate::error::{Error, Result};

    /// The pairs of one file.
    pub(super) struct ParquetPairs {
        rows: Rows,
        /// Whether the wanted columns are lists: those of prompts and completions, or that of chats.
        are_lists: Vec<bool>,
        join: String,
    }

    impl ParquetPairs {
        pub(super) fn open(path: &Path, name: &Path, source: &PairSource) -> Result<Self> {
            let mut fields = vec![&source.prompt_field, &source.completion_field];
            fields.dedup();
            let mut are_lists = Vec::new();
            let rows = Rows::open(path, name, |reader| {
                let columns = fields.iter().map(|field| find(name, reader, field));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                are_lists = columns.iter().map(|(_, is_list)| *is_list).collect();
                Ok(columns.into_iter().map(|(index, _)| index).collect())
            })?;
            Ok(Self { rows, are_lists, join: source.reading.join.clone() })
        }

        fn next_pair(&mut self) -> Given<Option<Pair>> {
            let Some(row) = self.rows.next_row()? else { return Ok(None) };
            let held = row.iter().zip(&self.are_lists).map(|(row, is_list)| held(row, *is_list));
            let pair = held.collect::<std::result::Result<Vec<_>, _>>().and_then(|held| {
                let mut held = held.into_iter();
                match (held.next(), held.next()) {
                    (Some(prompt), Some(completion)) => Ok(Held::pair(prompt, completion, &self.join)),
                    (chat, _) => {
                        let pair = chat.unwrap_or(Held::Turns(Vec::new())).chat(&self.join);
                        pair.map_err(|problem| format!("the column of chats {problem}"))
                    }
                }
            });
            pair.map(Some).map_err(|problem| Fault::Record(self.rows.problem(&problem)))
        }
    }

    impl Iterator for ParquetPairs {
        type Item = Given<Pair>;

        fn next(&mut self) -> Option<Self::Item> {
            self.next_pair().transpose()
        }
    }

    /// What a column holds in a row, or what is wrong with it. Null is an empty text, also as an element of a list, as in
    /// JSON: a turn without text is a turn.
    fn held(row: &Row, is_list: bool) -> std::result::Result<Held, String> {
        let mut texts = row.elements()?.into_iter().map(Option::unwrap_or_default);
        match is_list {
            true => Ok(Held::Turns(texts.collect())),
            false => Ok(Held::Text(texts.next().unwrap_or_default())),
        }
    }

    /// The column of strings called `wanted`, or that of the texts of a list of this name; and whether it is a list.
    fn find(path: &Path, reader: &SerializedFileReader<File>, wanted: &str) -> Result<(usize, bool)> {
        let schema = reader.metadata().file_metadata().schema_descr();
        let (columns, names) = (schema.columns(), names(schema.root_schema()));
        let called = |name: &String| {
            name == wanted
                || name.strip_prefix(wanted).is_some_and(|rest| ["[]", "[].content"].contains(&rest))
        };
        let is_text = |index: &usize| columns[*index].physical_type() == Type::BYTE_ARRAY;
        let mut found = (0..columns.len().min(names.len())).filter(|index| called(&names[*index]));
        match found.find(is_text) {
            Some(index) => Ok((index, columns[index].max_rep_level() > 0)),
            None => {
                let present = names.join(", ");
                let problem = format!("no column {wanted:?} of strings or chat messages; present: {present}");
                Err(Error::format(path, problem))
            }
        }
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
    fn a_turn_that_is_null_is_an_empty_one() {
        let schema =
            "message m { OPTIONAL GROUP messages (LIST) { REPEATED GROUP list { OPTIONAL GROUP element {
            OPTIONAL BYTE_ARRAY content (UTF8); OPTIONAL BYTE_ARRAY role (UTF8); } } } }";
        // A last turn without text; a message that is null in the midst; an empty list; no list; a turn without text alone.
        let levels: &[i16] = &[4, 3, 4, 2, 4, 1, 0, 3];
        let repeats: &[i16] = &[0, 1, 0, 1, 1, 0, 0, 0];
        let content: Written = (&["u", "s", "n"], Some(levels), Some(repeats));
        let role: Written = (&["x"; 3], Some(levels), Some(repeats));
        let (_folder, path) = file(schema, &[&[content, role]]);
        assert_eq!(pairs(&path, ["messages"; 2]).unwrap(), ["u\n>", "s\n\n>n", ">", ">", ">"]);
        // So are elements of a list of texts.
        let schema = "message m { OPTIONAL GROUP turns (LIST) { REPEATED GROUP list {
            OPTIONAL BYTE_ARRAY element (UTF8); } } }";
        let turns: Written = (&["u"], Some(&[3, 2, 2]), Some(&[0, 1, 0]));
        let (_folder, path) = file(schema, &[&[turns]]);
        assert_eq!(pairs(&path, ["turns"; 2]).unwrap(), ["u\n>", ">"]);
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
