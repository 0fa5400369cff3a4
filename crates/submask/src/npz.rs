//! Arrays in `.npz` files, as NumPy has them: zip archives of `.npy` files, stored or deflated. Read in pieces, written
//! whole.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::DeflateDecoder;
use memmap2::Mmap;
use rawzip::{CompressionMethod, ZipArchive};

use crate::durable::write_atomically;
use crate::error::{Error, Result};

/// Begins every `.npy` file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Longer headers are refused: the file is damaged.
const MAX_HEADER: usize = 1 << 16;

/// An array of an archive, of which the elements are read in order.
pub(crate) struct Array {
    path: PathBuf,
    /// In the archive.
    name: String,
    /// As NumPy writes it: `|u1`, `<i8`, …
    pub kind: String,
    pub shape: Vec<usize>,
    content: Box<dyn Read + Send>,
    sum: crc32fast::Hasher,
    expected_sum: u32,
}

/// Part of a file that is mapped into memory.
struct Part {
    map: Arc<Mmap>,
    at: usize,
    end: usize,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.map[self.at..self.end]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

impl Array {
    /// Opens `NAME.npy` in the archive at `path`; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is not there, [`Error::Format`] for one that is no archive of arrays.
    pub fn open(path: &Path, name: &str) -> Result<Option<Self>> {
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: the map is read only; that nobody changes the file meanwhile is the caller's promise, as for every
        // data file.
        let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(Error::io(path))?);
        let malformed =
            |error: rawzip::Error| Error::format(path, format!("not a whole npz (zip) file: {error}"));
        let archive = ZipArchive::from_slice(&map[..]).map_err(malformed)?;
        for record in archive.entries() {
            let record = record.map_err(malformed)?;
            if record.file_path().as_bytes() != format!("{name}.npy").as_bytes() {
                continue;
            }
            let entry = archive.get_entry(record.wayfinder()).map_err(malformed)?;
            let (start, end) = entry.compressed_data_range();
            let part = Part { map: map.clone(), at: start as usize, end: end as usize };
            let content: Box<dyn Read + Send> = match record.compression_method() {
                CompressionMethod::STORE => Box::new(part),
                CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(part)),
                other => {
                    let problem =
                        format!("{name} is compressed by {other}; only stored and deflated arrays are read");
                    return Err(Error::format(path, problem));
                }
            };
            return Self::begin(path, name, content, record.crc32()).map(Some);
        }
        Ok(None)
    }

    /// Reads the header.
    fn begin(path: &Path, name: &str, content: Box<dyn Read + Send>, expected_sum: u32) -> Result<Self> {
        let mut array = Self {
            path: path.to_path_buf(),
            name: name.to_owned(),
            kind: String::new(),
            shape: Vec::new(),
            content,
            sum: crc32fast::Hasher::new(),
            expected_sum,
        };
        let mut start = [0; 8];
        array.read(&mut start)?;
        let length = match (start.strip_prefix(MAGIC), start[6]) {
            (Some(_), 1) => array.length::<2>()?,
            (Some(_), 2 | 3) => array.length::<4>()?,
            _ => return Err(array.error("does not begin as an array of NumPy does")),
        };
        if length > MAX_HEADER {
            return Err(array.error(format!("has a header of {length} bytes")));
        }
        let mut header = vec![0; length];
        array.read(&mut header)?;
        let header = String::from_utf8_lossy(&header).into_owned();
        match parse(&header) {
            Some((kind, shape)) => (array.kind, array.shape) = (kind, shape),
            None => {
                let problem = format!("is not an array of numbers in rows: {}", header.trim());
                return Err(array.error(problem));
            }
        }
        Ok(array)
    }

    fn length<const N: usize>(&mut self) -> Result<usize> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    /// Fills `bytes` with those that follow.
    ///
    /// # Errors
    /// [`Error::Format`] for an array that ends before or is damaged.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.content.read_exact(bytes) {
            Ok(()) => {
                self.sum.update(bytes);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.error("ends too early")),
            Err(error) => Err(self.error(format!("is damaged: {error}"))),
        }
    }

    /// Checks that nothing follows, and the checksum.
    ///
    /// # Errors
    /// [`Error::Format`] if not.
    pub fn end(&mut self) -> Result<()> {
        match self.content.read(&mut [0]) {
            Ok(0) if self.sum.clone().finalize() == self.expected_sum => Ok(()),
            Ok(0) => Err(self.error("was altered: its checksum is wrong")),
            Ok(_) => Err(self.error("has more bytes than its shape tells of")),
            Err(error) => Err(self.error(format!("is damaged: {error}"))),
        }
    }

    /// The elements of a short array of integers.
    ///
    /// # Errors
    /// [`Error::Format`] for another kind of elements, and as [`Self::read`] and [`Self::end`].
    pub fn integers(&mut self) -> Result<Vec<i64>> {
        let signed = self.kind.as_bytes().get(1) == Some(&b'i');
        let size = match self.kind.as_str() {
            "|u1" | "|i1" => 1,
            "<u2" | "<i2" => 2,
            "<u4" | "<i4" => 4,
            "<u8" | "<i8" => 8,
            other => {
                return Err(self.error(format!("has elements {other}, not integers in little-endian order")));
            }
        };
        let mut numbers = Vec::new();
        let mut bytes = [0; 8];
        for _ in 0..self.shape.iter().product() {
            bytes.fill(0);
            self.read(&mut bytes[..size])?;
            if signed && bytes[size - 1] >= 0x80 {
                bytes[size..].fill(0xff);
            }
            numbers.push(i64::from_le_bytes(bytes));
        }
        self.end()?;
        Ok(numbers)
    }

    /// The elements of an array of floats.
    ///
    /// # Errors
    /// [`Error::Format`] for another kind of elements, and as [`Self::read`] and [`Self::end`].
    pub fn floats(&mut self) -> Result<Vec<f64>> {
        let size = match self.kind.as_str() {
            "<f4" => 4,
            "<f8" => 8,
            other => {
                return Err(self.error(format!("has elements {other}, not floats in little-endian order")));
            }
        };
        let mut numbers = Vec::new();
        let mut bytes = [0; 8];
        for _ in 0..self.shape.iter().product() {
            self.read(&mut bytes[..size])?;
            numbers.push(match bytes.first_chunk() {
                Some(single) if size == 4 => f64::from(f32::from_le_bytes(*single)),
                _ => f64::from_le_bytes(bytes),
            });
        }
        self.end()?;
        Ok(numbers)
    }

    /// The one text of an array of bytes (`|S13`, shape `()`), without the zeros that pad it.
    ///
    /// # Errors
    /// [`Error::Format`] for another kind of elements, and as [`Self::read`] and [`Self::end`].
    pub fn text(&mut self) -> Result<String> {
        let length = self.kind.strip_prefix("|S").and_then(|length| length.parse::<usize>().ok());
        let Some(length) = length.filter(|length| self.shape.is_empty() && *length <= MAX_HEADER) else {
            let problem = format!("has shape {:?} of {}, not one short text", self.shape, self.kind);
            return Err(self.error(problem));
        };
        let mut bytes = vec![0; length];
        self.read(&mut bytes)?;
        self.end()?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }

    /// What is wrong with this array.
    pub fn error(&self, problem: impl AsRef<str>) -> Error {
        Error::format(&self.path, format!("its array {:?} {}", self.name, problem.as_ref()))
    }
}

/// A whole array to be written, little-endian.
pub(crate) struct NewArray<'a> {
    /// In the archive.
    pub name: &'a str,
    /// As NumPy writes it.
    pub kind: String,
    pub shape: &'a [usize],
    /// The elements in rows.
    pub bytes: Vec<u8>,
}

/// Writes an archive of stored arrays, or nothing.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(crate) fn write(path: &Path, arrays: &[NewArray]) -> Result<()> {
    let mut bytes = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
    let written = arrays.iter().try_for_each(|array| array.append(&mut archive));
    written
        .and_then(|()| archive.finish().map(drop))
        .map_err(|error| Error::io(path)(io::Error::other(error)))?;
    write_atomically(path, &bytes)
}

impl NewArray<'_> {
    fn append<W: io::Write>(
        &self,
        archive: &mut rawzip::ZipArchiveWriter<W>,
    ) -> std::result::Result<(), rawzip::Error> {
        let file =
            archive.new_file(format!("{}.npy", self.name)).compression_method(CompressionMethod::STORE);
        let (mut entry, config) = file.start()?;
        let mut writer = config.wrap(&mut entry);
        io::Write::write_all(&mut writer, &self.header())?;
        io::Write::write_all(&mut writer, &self.bytes)?;
        let (_, descriptor) = writer.finish()?;
        entry.finish(descriptor)?;
        Ok(())
    }

    /// The header of version 1, padded so that the elements begin at a multiple of 64.
    fn header(&self) -> Vec<u8> {
        let sizes: String = self.shape.iter().map(|size| format!("{size},")).collect();
        let mut header =
            format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({sizes}), }}", self.kind);
        let fixed = MAGIC.len() + 4;
        while !(fixed + header.len() + 1).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat()
    }
}

/// Kind of elements and shape from a header `{'descr': '|u1', 'fortran_order': False, 'shape': (10, 3072), }`; `None`
/// for another header, order or size.
fn parse(header: &str) -> Option<(String, Vec<usize>)> {
    let after = |key: &str| Some(header.split_once(&format!("'{key}':"))?.1.trim_start());
    let kind = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_owned();
    let shape = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?;
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    after("fortran_order")?.starts_with("False").then_some((kind, shape))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// A `.npy` file of version 1.
    pub fn npy(kind: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), bytes].concat()
    }

    /// An archive of `.npy` files.
    pub fn npz(arrays: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
        for (name, content) in arrays {
            let (mut entry, config) =
                archive.new_file(format!("{name}.npy")).compression_method(method).start().unwrap();
            let descriptor = if method == CompressionMethod::DEFLATE {
                let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default());
                let mut writer = config.wrap(encoder);
                writer.write_all(content).unwrap();
                let (encoder, descriptor) = writer.finish().unwrap();
                encoder.finish().unwrap();
                descriptor
            } else {
                let mut writer = config.wrap(&mut entry);
                writer.write_all(content).unwrap();
                writer.finish().unwrap().1
            };
            entry.finish(descriptor).unwrap();
        }
        archive.finish().unwrap();
        bytes
    }

    fn open(bytes: &[u8], name: &str) -> Result<Option<Array>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Array::open(file.path(), name)
    }

    #[test]
    fn integers_of_every_width_are_read_stored_or_deflated() {
        for (kind, bytes, expected) in [
            ("|u1", &[200u8, 1][..], [200, 1]),
            ("|i1", &[0xff, 1], [-1, 1]),
            ("<u2", &[0, 1, 0xff, 0xff], [256, 65535]),
            ("<i4", &[0xfe, 0xff, 0xff, 0xff, 7, 0, 0, 0], [-2, 7]),
            ("<i8", &[5, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [5, -1]),
        ] {
            for method in [CompressionMethod::STORE, CompressionMethod::DEFLATE] {
                let file = npz(&[("other", b"x"), ("n", &npy(kind, "(2,)", bytes))], method);
                let mut array = open(&file, "n").unwrap().unwrap();
                assert_eq!(array.shape, [2]);
                assert_eq!(array.integers().unwrap(), expected);
            }
        }
        assert!(open(&npz(&[("a", b"x")], CompressionMethod::STORE), "n").unwrap().is_none());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.npz");
        let numbers = [0.1f64, -3.0, 1e300, f64::MIN_POSITIVE, 0.0, 7.0];
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let arrays = [
            NewArray { name: "numbers", kind: "<f8".into(), shape: &[2, 3], bytes },
            NewArray { name: "text", kind: "|S4".into(), shape: &[], bytes: b"abc\0".to_vec() },
        ];
        write(&path, &arrays).unwrap();
        let mut array = Array::open(&path, "numbers").unwrap().unwrap();
        assert_eq!(array.shape, [2, 3]);
        assert_eq!(array.floats().unwrap(), numbers);
        assert_eq!(Array::open(&path, "text").unwrap().unwrap().text().unwrap(), "abc");
        let error = Array::open(&path, "numbers").unwrap().unwrap().text().unwrap_err().to_string();
        assert!(error.contains("[2, 3] of <f8, not one short text"), "{error}");
        let error = Array::open(&path, "text").unwrap().unwrap().floats().unwrap_err().to_string();
        assert!(error.contains("elements |S4, not floats"), "{error}");
    }

    #[test]
    fn bad_arrays_are_refused_by_name() {
        let problem = |content: &[u8]| {
            let array = open(&npz(&[("n", content)], CompressionMethod::STORE), "n");
            let error = array.and_then(|array| array.unwrap().integers()).unwrap_err().to_string();
            assert!(error.contains("its array \"n\""), "{error}");
            error
        };
        let whole = npy("|u1", "(2,)", &[1, 2]);
        assert!(problem(b"nothing like it").contains("does not begin"));
        assert!(problem(&whole[..20]).contains("ends too early"));
        assert!(problem(&whole[..whole.len() - 1]).contains("ends too early"));
        assert!(problem(&[&whole[..], &[3]].concat()).contains("more bytes than its shape"));
        assert!(problem(&npy("<f4", "(1,)", &[0; 4])).contains("elements <f4"));
        assert!(problem(&npy("|u1", "(-1,)", &[0; 4])).contains("not an array of numbers in rows"));
        let mut altered = npz(&[("n", &whole)], CompressionMethod::STORE);
        let at = altered.windows(2).position(|pair| pair == [b'\n', 1]).unwrap() + 1;
        altered[at] = 9;
        let error = open(&altered, "n").unwrap().unwrap().integers().unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
        assert!(open(b"no zip file", "n").err().unwrap().to_string().contains("not a whole npz"));
    }
}
