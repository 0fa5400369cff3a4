//! Pictures in parquet files, as Hugging Face has them: a column of encoded pictures, often `image.bytes`, and one of
//! labels.

use super::listing::Found;
use super::picture::Reading;
use super::shape::{Image, ImageShape};
use super::source::Columns;
use crate::error::{Error, Result};

/// Images, one after the other.
type Stream = Box<dyn Iterator<Item = Result<Image>> + Send>;

/// Which columns are read.
pub(super) struct Wanted {
    /// Their names.
    pub columns: Columns,
    /// Whether labels are read.
    pub labelled: bool,
}

/// This build cannot read parquet files.
#[cfg(not(feature = "parquet"))]
pub(super) fn open(files: &[Found], _: &Wanted, _: ImageShape, _: Reading) -> Result<(Vec<String>, Stream)> {
    let problem = "this build cannot read parquet files; build with the feature `parquet`";
    Err(Error::format(&files[0].path, problem))
}

#[cfg(feature = "parquet")]
pub(super) use reading::open;

#[cfg(feature = "parquet")]
mod reading {
    use std::collections::{BTreeSet, VecDeque};
    use std::fs::File;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use parquet::basic::Type;
    use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
    use parquet::data_type::{ByteArray, ByteArrayType, DataType};
    use parquet::errors::ParquetError;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::super::picture::decode;
    use super::*;
    use crate::data::guard::guarded;

    /// How many pictures are held undecoded at a time.
    const ROWS: usize = 16;
    /// More classes by number are refused.
    const MAX_CLASSES: i64 = 1 << 16;
    /// Names that columns of pictures and of labels usually have.
    const IMAGES: [&str; 2] = ["image", "img"];
    const LABELS: [&str; 3] = ["label", "labels", "fine_label"];

    /// The classes of all files.
    enum Classes {
        /// A label is the number of a class.
        Numbered(Vec<String>),
        /// A label is the name of a class; sorted.
        Named(Vec<String>),
    }

    /// A label as it stands in a file.
    #[derive(Clone, Debug)]
    enum Label {
        Number(i64),
        Name(String),
    }

    /// A file, and where its columns stand.
    struct Shard {
        path: PathBuf,
        image: usize,
        label: Option<usize>,
    }

    /// Class names and pictures of the files.
    pub fn open(
        files: &[Found],
        wanted: &Wanted,
        shape: ImageShape,
        reading: Reading,
    ) -> Result<(Vec<String>, Stream)> {
        let mut shards = Vec::new();
        let mut names = NamesOf::default();
        for file in files {
            let (shard, reader) = Shard::open(&file.path, wanted)?;
            if let Some(column) = shard.label {
                guarded(&file.path, || names.add(&shard.path, &reader, column))?;
            }
            shards.push(shard);
        }
        let classes = Arc::new(names.classes());
        let class_names = match &*classes {
            Classes::Numbered(names) | Classes::Named(names) => names.clone(),
        };
        let pictures = shards.into_iter().flat_map(move |shard| -> Stream {
            match Pictures::open(shard, classes.clone(), shape, reading) {
                Ok(pictures) => Box::new(pictures),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        });
        Ok((class_names, Box::new(pictures)))
    }

    impl Shard {
        fn open(path: &Path, wanted: &Wanted) -> Result<(Self, SerializedFileReader<File>)> {
            let reader = open_file(path)?;
            let (image, labels) = (&wanted.columns.image, &wanted.columns.label);
            let kinds = [Type::BYTE_ARRAY];
            let image = find(path, &reader, ("data.image_field", image), &IMAGES, &kinds)?;
            let kinds = [Type::INT64, Type::INT32, Type::BYTE_ARRAY];
            let label = match wanted.labelled {
                true => Some(find(path, &reader, ("data.label_field", labels), &LABELS, &kinds)?),
                false => None,
            };
            Ok((Self { path: path.to_path_buf(), image, label }, reader))
        }
    }

    fn open_file(path: &Path) -> Result<SerializedFileReader<File>> {
        let file = File::open(path).map_err(Error::io(path))?;
        let reader = guarded(path, || SerializedFileReader::new(file).map_err(unreadable(path)))?;
        match has_negative_sizes(&reader) {
            true => Err(Error::format(path, "cannot read as parquet: a column has a negative size or place")),
            false => Ok(reader),
        }
    }

    /// Whether a column's pages stand before the file or end before they begin, for which the reader would panic.
    fn has_negative_sizes(reader: &SerializedFileReader<File>) -> bool {
        reader.metadata().row_groups().iter().flat_map(|group| group.columns()).any(|column| {
            let place = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            place < 0 || column.compressed_size() < 0
        })
    }

    fn unreadable(path: &Path) -> impl FnOnce(ParquetError) -> Error {
        let path = path.to_path_buf();
        move |error| Error::format(path, format!("cannot read as parquet: {error}"))
    }

    /// The column called `given`, or else as one of `usual`; a structure's column is its field `bytes`.
    fn find(
        path: &Path,
        reader: &SerializedFileReader<File>,
        (setting, given): (&str, &str),
        usual: &[&str],
        kinds: &[Type],
    ) -> Result<usize> {
        let columns = reader.metadata().file_metadata().schema_descr().columns();
        let names: Vec<&str> = if given.is_empty() { usual.to_vec() } else { vec![given] };
        let place = names.iter().find_map(|name| {
            let of = |wanted: &str| columns.iter().position(|column| column.path().string() == wanted);
            of(name).or_else(|| of(&format!("{name}.bytes")))
        });
        let Some(place) = place else {
            let present: Vec<String> = columns.iter().map(|column| column.path().string()).collect();
            let problem =
                format!("no column {}; present: {}: set {setting}", names.join(" or "), present.join(", "));
            return Err(Error::format(path, problem));
        };
        let column = &columns[place];
        if column.max_rep_level() > 0 || !kinds.contains(&column.physical_type()) {
            let list = if column.max_rep_level() > 0 { "a list of " } else { "" };
            let allowed: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            let (name, kind, allowed) =
                (column.path().string(), column.physical_type(), allowed.join(" or "));
            return Err(Error::format(path, format!("column {name:?} holds {list}{kind}, not {allowed}")));
        }
        Ok(place)
    }

    /// Reads up to `rows` values of a column; `None` is a null.
    fn values<T: DataType>(
        path: &Path,
        reader: &mut ColumnReaderImpl<T>,
        max_level: i16,
        rows: usize,
    ) -> Result<Vec<Option<T::T>>> {
        let mut read = Vec::new();
        while read.len() < rows {
            let (mut found, mut levels) = (Vec::new(), Vec::new());
            let wanted = (rows - read.len()).min(1 << 16);
            let (records, ..) =
                reader.read_records(wanted, Some(&mut levels), None, &mut found).map_err(unreadable(path))?;
            if records == 0 {
                break;
            }
            let mut found = found.into_iter();
            match max_level {
                0 => read.extend(found.map(Some)),
                _ => read.extend(levels.iter().map(|level| (*level == max_level).then(|| found.next())?)),
            }
        }
        Ok(read)
    }

    /// The labels of a row group; `first` is the number of its first row in the file.
    fn labels(
        path: &Path,
        reader: &SerializedFileReader<File>,
        group: usize,
        column: usize,
        first: u64,
    ) -> Result<Vec<Label>> {
        let description = reader.metadata().file_metadata().schema_descr().column(column);
        let level = description.max_def_level();
        let row_group = reader.get_row_group(group).map_err(unreadable(path))?;
        let rows = usize::try_from(row_group.metadata().num_rows()).unwrap_or(0);
        let labels: Vec<Option<Label>> = match row_group
            .get_column_reader(column)
            .map_err(unreadable(path))?
        {
            ColumnReader::Int64ColumnReader(mut reader) => {
                let numbers = values(path, &mut reader, level, rows)?;
                numbers.into_iter().map(|number| number.map(Label::Number)).collect()
            }
            ColumnReader::Int32ColumnReader(mut reader) => {
                let numbers = values(path, &mut reader, level, rows)?;
                numbers.into_iter().map(|number| number.map(|number| Label::Number(number.into()))).collect()
            }
            ColumnReader::ByteArrayColumnReader(mut reader) => {
                let name = |text: ByteArray| Label::Name(String::from_utf8_lossy(text.data()).into_owned());
                values(path, &mut reader, level, rows)?.into_iter().map(|text| text.map(name)).collect()
            }
            _ => return Err(Error::format(path, "its labels are neither numbers nor texts")),
        };
        let missing = labels.iter().position(Option::is_none);
        if let Some(at) = missing {
            let problem = format!("row {} (counted from 0) has no label", first + at as u64);
            return Err(Error::format(path, problem));
        }
        Ok(labels.into_iter().flatten().collect())
    }

    /// What is known of the classes while files are opened.
    #[derive(Default)]
    struct NamesOf {
        /// As the first file describes them.
        described: Option<Vec<String>>,
        /// As they occur.
        texts: BTreeSet<String>,
        last: i64,
    }

    impl NamesOf {
        fn add(&mut self, path: &Path, reader: &SerializedFileReader<File>, column: usize) -> Result<()> {
            if let Some(names) = described(reader, column) {
                match &self.described {
                    None => self.described = Some(names),
                    Some(first) if *first == names => {}
                    Some(_) => {
                        return Err(Error::format(path, "its classes are not those of the first file"));
                    }
                }
                return Ok(());
            }
            let mut first = 0;
            for group in 0..reader.num_row_groups() {
                let labels = labels(path, reader, group, column, first)?;
                for (at, label) in labels.iter().enumerate() {
                    match label {
                        Label::Number(number) if (0..MAX_CLASSES).contains(number) => {
                            self.last = self.last.max(*number);
                        }
                        Label::Number(number) => {
                            let row = first + at as u64;
                            let problem = format!(
                                "row {row} (counted from 0) has label {number}, not 0 to {}",
                                MAX_CLASSES - 1
                            );
                            return Err(Error::format(path, problem));
                        }
                        Label::Name(name) => {
                            self.texts.insert(name.clone());
                        }
                    }
                }
                first += labels.len() as u64;
            }
            Ok(())
        }

        fn classes(self) -> Classes {
            match (self.described, self.texts.is_empty()) {
                (Some(names), _) => Classes::Numbered(names),
                (None, false) => Classes::Named(self.texts.into_iter().collect()),
                (None, true) => Classes::Numbered((0..=self.last).map(|number| number.to_string()).collect()),
            }
        }
    }

    /// The names of the classes of a column, as Hugging Face writes them beside the schema.
    fn described(reader: &SerializedFileReader<File>, column: usize) -> Option<Vec<String>> {
        let metadata = reader.metadata().file_metadata();
        let name = metadata.schema_descr().column(column).path().string();
        let written = metadata.key_value_metadata()?.iter().find(|pair| pair.key == "huggingface")?;
        let described: serde_json::Value = serde_json::from_str(written.value.as_deref()?).ok()?;
        let names = described.get("info")?.get("features")?.get(&name)?.get("names")?.as_array()?;
        names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// The pictures of one file.
    struct Pictures {
        shard: Shard,
        reader: SerializedFileReader<File>,
        classes: Arc<Classes>,
        shape: ImageShape,
        reading: Reading,
        next_group: usize,
        values: Option<ColumnReaderImpl<ByteArrayType>>,
        ready: VecDeque<Option<ByteArray>>,
        /// Labels of the row group that are not given yet.
        labels: VecDeque<Label>,
        /// Number of the next row.
        row: u64,
        /// Number of the first row of the next row group.
        group_row: u64,
    }

    impl Pictures {
        fn open(shard: Shard, classes: Arc<Classes>, shape: ImageShape, reading: Reading) -> Result<Self> {
            let reader = open_file(&shard.path)?;
            Ok(Self {
                shard,
                reader,
                classes,
                shape,
                reading,
                next_group: 0,
                values: None,
                ready: VecDeque::new(),
                labels: VecDeque::new(),
                row: 0,
                group_row: 0,
            })
        }

        fn next_picture(&mut self) -> Result<Option<Image>> {
            while self.ready.is_empty() {
                let path = self.shard.path.clone();
                if !guarded(&path, || self.read_more())? {
                    return Ok(None);
                }
            }
            let Some(encoded) = self.ready.pop_front() else { return Ok(None) };
            let at = |problem: String| {
                Error::format(&self.shard.path, format!("row {} (counted from 0): {problem}", self.row))
            };
            let encoded = encoded.ok_or_else(|| at("it has no bytes of a picture".to_owned()))?;
            let (height, width) = (self.shape.height, self.shape.width);
            let pixels = decode(encoded.data(), height, width, self.reading)
                .map_err(|problem| at(problem.to_string()))?;
            let label = match (self.shard.label, self.labels.pop_front()) {
                (None, _) => None,
                (Some(_), None) => return Err(at("it has no label".to_owned())),
                (Some(_), Some(label)) => Some(self.classes.number(&label).map_err(at)?),
            };
            self.row += 1;
            Ok(Some(Image { pixels, label }))
        }

        /// Reads some rows; false at the end of the file.
        fn read_more(&mut self) -> Result<bool> {
            let path = &self.shard.path;
            if let Some(reader) = &mut self.values {
                let schema = self.reader.metadata().file_metadata().schema_descr();
                let level = schema.column(self.shard.image).max_def_level();
                let pictures = values(path, reader, level, ROWS)?;
                if !pictures.is_empty() {
                    self.ready.extend(pictures);
                    return Ok(true);
                }
            }
            if self.next_group == self.reader.num_row_groups() {
                return Ok(false);
            }
            let group = self.next_group;
            self.next_group += 1;
            if let Some(column) = self.shard.label {
                self.labels = labels(path, &self.reader, group, column, self.group_row)?.into();
                self.group_row += self.labels.len() as u64;
            }
            let row_group = self.reader.get_row_group(group).map_err(unreadable(path))?;
            self.values = match row_group.get_column_reader(self.shard.image).map_err(unreadable(path))? {
                ColumnReader::ByteArrayColumnReader(values) => Some(values),
                _ => None,
            };
            Ok(true)
        }
    }

    impl Iterator for Pictures {
        type Item = Result<Image>;

        fn next(&mut self) -> Option<Self::Item> {
            self.next_picture().transpose()
        }
    }

    impl Classes {
        /// The number of a label's class.
        fn number(&self, label: &Label) -> std::result::Result<u32, String> {
            let number = match (self, label) {
                (Self::Numbered(names), Label::Number(number)) => {
                    usize::try_from(*number).ok().filter(|number| *number < names.len())
                }
                (Self::Named(names), Label::Name(name)) => names.binary_search(name).ok(),
                (Self::Numbered(_), Label::Name(_)) | (Self::Named(_), Label::Number(_)) => None,
            };
            let shown = match label {
                Label::Number(number) => number.to_string(),
                Label::Name(name) => format!("{name:?}"),
            };
            let names = match self {
                Self::Numbered(names) | Self::Named(names) => names,
            };
            let problem = || format!("label {shown} is none of the {} classes", names.len());
            number.map(|number| number as u32).ok_or_else(problem)
        }
    }

    #[cfg(test)]
    mod tests;
}
