use std::io::Cursor;
use std::path::PathBuf;

use image::{ImageFormat, Rgb, RgbImage};
use parquet::data_type::Int64Type;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::super::super::ImageSource;
use super::super::super::source::{Background, Images, Part, PictureFormat, SixteenBits};
use super::*;

/// As Hugging Face writes pictures.
const SCHEMA: &str = "message schema {
    OPTIONAL GROUP image { OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); }
    OPTIONAL INT64 label;
}";
const NAMES: &str = r#"{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;

fn png(value: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(3, 3, Rgb([value; 3])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A row: the encoded picture, and the label.
type Row = (Option<Vec<u8>>, Option<i64>);

fn row(value: u8, label: i64) -> Row {
    (Some(png(value)), Some(label))
}

/// A file with a row group for each list of rows.
fn write(path: PathBuf, groups: &[&[Row]], names: Option<&str>) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let described = names.map(|names| vec![KeyValue::new("huggingface".to_owned(), names.to_owned())]);
    let properties = WriterProperties::builder().set_key_value_metadata(described).build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let pictures: Vec<ByteArray> =
            rows.iter().flat_map(|row| row.0.clone()).map(ByteArray::from).collect();
        let levels: Vec<i16> = rows.iter().map(|row| if row.0.is_some() { 2 } else { 1 }).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&pictures, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = rows.iter().flat_map(|row| row.1).collect();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.1.is_some())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn source(path: &Path, labelled: bool, columns: Columns) -> ImageSource {
    ImageSource::Pictures {
        paths: vec![path.to_path_buf()],
        height: 1,
        width: 1,
        labelled,
        background: Background::None,
        sixteen_bits: SixteenBits::Refuse,
        formats: PictureFormat::ALL.to_vec(),
        official_split: true,
        columns,
    }
}

fn read(images: Images) -> Result<Vec<(u8, Option<u32>)>> {
    images.map(|image| image.map(|image| (image.pixels[0], image.label))).collect()
}

#[test]
fn shards_are_read_in_order_and_their_names_say_the_part() {
    let folder = tempfile::tempdir().unwrap();
    let many: Vec<Row> = (0..40).map(|i| row(i, i64::from(i) % 2)).collect();
    write(folder.path().join("train-00000-of-00002.parquet"), &[&[row(100, 1)], &many], Some(NAMES));
    write(folder.path().join("train-00001-of-00002.parquet"), &[&[row(101, 0)]], Some(NAMES));
    write(folder.path().join("validation-00000-of-00001.parquet"), &[&[row(7, 1)]], Some(NAMES));
    write(folder.path().join("test-00000-of-00001.parquet"), &[&[row(8, -1)]], Some(NAMES));
    std::fs::write(folder.path().join("README.md"), "x").unwrap();
    let labelled = source(folder.path(), true, Columns::default());
    let images = labelled.open().unwrap();
    assert_eq!(
        (images.class_names(), images.left_out().files),
        (&["cat".to_owned(), "dog".to_owned()][..], 1)
    );
    assert!(images.left_out().notes[0].contains("test-00000-of-00001.parquet"), "{:?}", images.left_out());
    let found = read(images).unwrap();
    assert_eq!((found.len(), found[0], found[41]), (42, (100, Some(1)), (101, Some(0))));
    assert!((0..40).all(|i| found[1 + i] == (i as u8, Some(i as u32 % 2))));
    assert_eq!(read(labelled.open_part(Part::Valid).unwrap().unwrap()).unwrap(), [(7, Some(1))]);
    let plain = source(folder.path(), false, Columns::default());
    assert_eq!(read(plain.open_part(Part::Test).unwrap().unwrap()).unwrap(), [(8, None)]);
    // A label that no class has, as test sets without labels write it.
    let error = read(labelled.open_part(Part::Test).unwrap().unwrap()).unwrap_err().to_string();
    assert!(error.contains("row 0 (counted from 0): label -1 is none of the 2 classes"), "{error}");
}

#[test]
fn folders_of_shards_say_the_part_at_any_depth() {
    let folder = tempfile::tempdir().unwrap();
    for (part, value) in [("train", 1), ("test", 2)] {
        let inside = folder.path().join("plain").join(part);
        std::fs::create_dir_all(&inside).unwrap();
        write(inside.join("0000.parquet"), &[&[row(value, 0)]], Some(NAMES));
    }
    for root in [folder.path().to_path_buf(), folder.path().join("plain")] {
        let source = source(&root, true, Columns::default());
        assert_eq!(read(source.open().unwrap()).unwrap(), [(1, Some(0))]);
        assert_eq!(read(source.open_part(Part::Valid).unwrap().unwrap()).unwrap(), [(2, Some(0))]);
    }
}

#[test]
fn labels_without_names_are_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.parquet");
    write(path.clone(), &[&[row(1, 3)], &[row(2, 0)]], None);
    let images = source(&path, true, Columns::default()).open().unwrap();
    assert_eq!(images.class_names(), ["0", "1", "2", "3"]);
    assert_eq!(read(images).unwrap(), [(1, Some(3)), (2, Some(0))]);
}

#[test]
fn what_does_not_fit_is_refused_with_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let problem = |rows: &[Row], labelled, columns: Columns, expected: &str| {
        write(path.clone(), &[&[row(1, 0)], rows], None);
        let error = source(&path, labelled, columns).open().and_then(read).unwrap_err().to_string();
        assert!(error.contains("a.parquet") && error.contains(expected), "{error}");
    };
    let of = |image: &str, label: &str| Columns { image: image.to_owned(), label: label.to_owned() };
    let usual = Columns::default();
    problem(&[(None, Some(0))], true, usual.clone(), "row 1 (counted from 0): it has no bytes of a picture");
    problem(&[(Some(png(1)), None)], true, usual.clone(), "row 1 (counted from 0) has no label");
    problem(&[row(1, -1)], true, usual.clone(), "row 1 (counted from 0) has label -1, not 0 to 65535");
    problem(
        &[(Some(png(1)[..40].to_vec()), Some(0))],
        false,
        usual,
        "row 1 (counted from 0): not a whole png",
    );
    problem(
        &[],
        false,
        of("photo", ""),
        "no column photo; present: image.bytes, image.path, label: set data.image_field",
    );
    problem(&[], true, of("", "class"), "no column class; present:");
    problem(&[], false, of("label", ""), "column \"label\" holds INT64, not BYTE_ARRAY");
    // Another column of bytes holds no pictures.
    problem(&[], false, of("image.path", ""), "row 0 (counted from 0): it has no bytes of a picture");
    std::fs::write(&path, "text").unwrap();
    let error = source(&path, false, Columns::default()).open().err().unwrap().to_string();
    assert!(error.contains("cannot read as parquet"), "{error}");
}

#[test]
fn pictures_beside_parquet_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("a.parquet"), &[&[row(1, 0)]], None);
    std::fs::write(folder.path().join("b.png"), png(1)).unwrap();
    let error = source(folder.path(), false, Columns::default()).open().err().unwrap().to_string();
    assert!(error.contains("a.parquet") && error.contains("b.png"), "{error}");
}

#[test]
fn columns_of_a_negative_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(path.clone(), &[&[row(1, 0), row(2, 1)]], Some(NAMES));
    let whole = std::fs::read(&path).unwrap();
    let mut found = 0;
    for (at, byte) in (whole.len() / 2..whole.len()).flat_map(|at| [0x7f, 0xff].map(|byte| (at, byte))) {
        let mut altered = whole.clone();
        altered[at] = byte;
        std::fs::write(&path, altered).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap());
        if reader.is_ok_and(|reader| has_negative_sizes(&reader)) {
            found += 1;
            let error = source(&path, true, Columns::default()).open().err().unwrap().to_string();
            assert!(error.contains("a column has a negative size"), "{error}");
        }
    }
    assert!(found > 0);
}
