//! The bytes of a file or a stream, decompressed on the way, and what their beginning says.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use super::format::Format;
use crate::durable::LFS_POINTER;
use crate::error::{Error, Result};

/// The three bytes with which UTF-8 text may begin, to say so; they are no text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How much of the beginning is looked at.
const HEAD_BYTES: usize = 1 << 14;

/// How much of the beginning says whether text is UTF-16 without a mark.
const UTF_16_BYTES: usize = 64;

/// Bytes, wherever they come from.
type Bytes = Box<dyn Read + Send>;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

/// Endings of names, and what they say.
const ENDINGS: [(&str, Compression); 6] = [
    ("gz", Compression::Gzip),
    ("gzip", Compression::Gzip),
    ("zst", Compression::Zstd),
    ("zstd", Compression::Zstd),
    ("bz2", Compression::Bzip2),
    ("xz", Compression::Xz),
];

impl Compression {
    /// What the name of a file says, and the name without it.
    pub(super) fn of_name(path: &Path) -> Option<(Self, PathBuf)> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        let (_, compression) = ENDINGS.iter().find(|(known, _)| *known == ending)?;
        Some((*compression, path.with_extension("")))
    }

    /// What the first bytes say.
    fn of_bytes(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            // A frame, or one to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "Zstandard",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    /// The bytes before they were compressed; parts that follow each other are one text, as their programs have it.
    fn decoder(self, bytes: Bytes) -> io::Result<Bytes> {
        match self {
            Self::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(bytes)))),
            #[cfg(feature = "compressed")]
            Self::Zstd => Ok(Box::new(zstd::stream::read::Decoder::new(bytes)?)),
            #[cfg(feature = "compressed")]
            Self::Bzip2 => Ok(Box::new(bzip2::read::MultiBzDecoder::new(bytes))),
            #[cfg(feature = "compressed")]
            Self::Xz => {
                // It asks for a few bytes at a time.
                let bytes = BufReader::with_capacity(1 << 16, bytes);
                Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(bytes, true, XZ_KIB)))
            }
            #[cfg(not(feature = "compressed"))]
            _ => Err(io::Error::other("this build reads gzip only; build with the feature `compressed`")),
        }
    }
}

/// Memory of the decoder of xz: enough for dictionaries of 256 MiB; the highest level has 64 MiB.
#[cfg(feature = "compressed")]
const XZ_KIB: u32 = 260 << 10;

/// The bytes of a file or a stream.
pub(super) struct Input {
    path: PathBuf,
    head: Vec<u8>,
    rest: Bytes,
    /// Most bytes of a record.
    record_limit: u64,
}

impl Input {
    /// Opens the file at `path`, which errors call `name`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file whose name says that it is compressed and whose bytes do not.
    pub(super) fn open(path: &Path, name: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(name))?;
        let length = file.metadata().map_err(Error::io(name))?.len();
        Self::new(Box::new(file), name, length)
    }

    /// Bytes of a stream, which errors call `name`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn of_stream(bytes: Bytes, name: &Path) -> Result<Self> {
        Self::new(bytes, name, 0)
    }

    fn new(bytes: Bytes, name: &Path, file_bytes: u64) -> Result<Self> {
        let (head, bytes) = peek(bytes).map_err(Error::io(name))?;
        let named = Compression::of_name(name);
        // Numbers may begin as compressed files do.
        let is_binary = matches!(Format::of_name(name), Some(Format::Tokens(_))) && named.is_none();
        let compression = Compression::of_bytes(&head).filter(|_| !is_binary);
        if let (None, Some((named, _))) = (compression, named) {
            let problem = format!("not compressed by {}, as its name says", named.name());
            return Err(Error::format(name, problem));
        }
        let Some(compression) = compression else {
            let record_limit = file_bytes.max(RECORD_BYTES);
            return Ok(Self { path: name.to_path_buf(), head, rest: bytes, record_limit });
        };
        let whole: Bytes = Box::new(Cursor::new(head).chain(bytes));
        let inner = compression.decoder(whole).map_err(Error::io(name))?;
        let decoded: Bytes = Box::new(Decoded { inner, compression });
        let (head, rest) = peek(decoded).map_err(Error::io(name))?;
        let record_limit = file_bytes.clamp(RECORD_BYTES, UNPACKED_RECORD_BYTES);
        Ok(Self { path: name.to_path_buf(), head, rest, record_limit })
    }

    /// The beginning.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// What errors call it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Most bytes of one record that are held in memory: those of the file, or 64 MiB where it is smaller. A compressed file
    /// may stand for much more than its size, and has at most 1 GiB.
    pub(super) fn record_limit(&self) -> u64 {
        self.record_limit
    }

    /// All bytes as they are.
    pub(super) fn bytes(self) -> Bytes {
        Box::new(Cursor::new(self.head).chain(self.rest))
    }

    /// Text without its byte-order mark, and how many bytes of mark there were.
    ///
    /// # Errors
    /// [`Error::Format`] for what is no text in UTF-8, named as what it is where its beginning says so.
    pub(super) fn text(mut self) -> Result<(Bytes, u64)> {
        if let Some(name) = utf_16(&self.head) {
            return Err(Error::format(&self.path, format!("{name} text: convert it to UTF-8")));
        }
        if let Some(name) = other_format(&self.head) {
            let problem = format!("{name}, not text: text, JSON, CSV and parquet are read");
            return Err(Error::format(&self.path, problem));
        }
        let mark = if self.head.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        self.head.drain(..mark);
        Ok((self.bytes(), mark as u64))
    }
}

/// Most bytes of a record of a small file, or of a stream.
const RECORD_BYTES: u64 = 64 << 20;

/// Most bytes of a record of a large compressed file.
const UNPACKED_RECORD_BYTES: u64 = 1 << 30;

/// The first bytes, and the rest.
fn peek(mut bytes: Bytes) -> io::Result<(Vec<u8>, Bytes)> {
    let mut head = Vec::new();
    bytes.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok((head, bytes))
}

/// Decompressed bytes, whose errors say so.
struct Decoded {
    inner: Bytes,
    compression: Compression,
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, format!("broken {} data: {error}", self.compression.name())),
        })
    }
}

/// Which text of more than one byte per character begins with these bytes: by its mark, or since every second byte is 0.
fn utf_16(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xfe, 0, 0, ..] => return Some("UTF-32 (little-endian)"),
        [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32 (big-endian)"),
        [0xff, 0xfe, ..] => return Some("UTF-16 (little-endian)"),
        [0xfe, 0xff, ..] => return Some("UTF-16 (big-endian)"),
        _ => {}
    }
    let pairs = &head.as_chunks::<2>().0[..(head.len() / 2).min(UTF_16_BYTES / 2)];
    let all = |test: fn(&[u8; 2]) -> bool| pairs.len() >= 2 && pairs.iter().all(test);
    if all(|pair| pair[0] != 0 && pair[1] == 0) {
        Some("UTF-16 (little-endian)")
    } else if all(|pair| pair[0] == 0 && pair[1] != 0) {
        Some("UTF-16 (big-endian)")
    } else {
        None
    }
}

/// Beginnings of files that are no text, and where they stand.
const OTHER_FORMATS: [(usize, &[u8], &str); 18] = [
    (0, b"%PDF-", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive (.zip, .docx, .xlsx, .epub, .npz)"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive, which has to be unpacked"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of Microsoft Office"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"PAR1", "a parquet file"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"Obj\x01", "an Avro file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, LFS_POINTER, "a pointer of Git LFS to a file that was not downloaded"),
];

/// What a file is that is no text, where its beginning says so.
fn other_format(head: &[u8]) -> Option<&'static str> {
    let begins = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|head| head.starts_with(magic));
    OTHER_FORMATS.iter().find(|(at, magic, _)| begins(*at, magic)).map(|(.., name)| *name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    /// Bytes compressed by each of the programs, in `parts` parts that follow each other.
    pub(in crate::data) fn compressed(bytes: &[u8], parts: usize) -> Vec<(&'static str, Vec<u8>)> {
        let parts: Vec<&[u8]> = bytes.chunks(bytes.len().div_ceil(parts).max(1)).collect();
        let joined = |one: fn(&[u8]) -> Vec<u8>| parts.iter().flat_map(|part| one(part)).collect::<Vec<u8>>();
        let all = vec![
            (
                "gz",
                joined(|part| {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    encoder.write_all(part).unwrap();
                    encoder.finish().unwrap()
                }),
            ),
            #[cfg(feature = "compressed")]
            (
                "zst",
                joined(|part| {
                    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
                    encoder.include_checksum(true).unwrap();
                    encoder.write_all(part).unwrap();
                    encoder.finish().unwrap()
                }),
            ),
            #[cfg(feature = "compressed")]
            (
                "bz2",
                joined(|part| {
                    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                    encoder.write_all(part).unwrap();
                    encoder.finish().unwrap()
                }),
            ),
            #[cfg(feature = "compressed")]
            ("xz", joined(xz)),
        ];
        all
    }

    /// The xz format around bytes as they are.
    #[cfg(feature = "compressed")]
    fn xz(bytes: &[u8]) -> Vec<u8> {
        let crc = |bytes: &[u8]| crc32fast::hash(bytes).to_le_bytes();
        let number = |mut number: usize| {
            let mut bytes = Vec::new();
            while number > 0x7f {
                bytes.push(number as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
            bytes
        };
        let pad = |mut bytes: Vec<u8>| {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        // A header of 12 bytes that says LZMA2 with a dictionary of 64 KiB, chunks, their end, and a checksum.
        let header = [2, 0, 0x21, 1, 8, 0, 0, 0];
        let mut block = [&header[..], &crc(&header)].concat();
        for (n, chunk) in bytes.chunks(1 << 16).enumerate() {
            block.push(if n == 0 { 1 } else { 2 });
            block.extend((chunk.len() as u16).wrapping_sub(1).to_be_bytes());
            block.extend(chunk);
        }
        block.push(0);
        let unpadded = block.len() + 4;
        let block = [pad(block), crc(bytes).to_vec()].concat();
        let index = pad([vec![0, 1], number(unpadded), number(bytes.len())].concat());
        let index = [&index[..], &crc(&index)].concat();
        let flags = [0, 1];
        let footer = [&((index.len() / 4 - 1) as u32).to_le_bytes()[..], &flags].concat();
        let begin = [b"\xfd7zXZ\0", &flags[..], &crc(&flags)].concat();
        [&begin[..], &block, &index, &crc(&footer), &footer, b"YZ"].concat()
    }

    fn open(name: &str, bytes: &[u8]) -> Result<Input> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Input::open(&path, &path)
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let input = open(name, bytes)?;
        let path = input.path().to_path_buf();
        let mut text = Vec::new();
        input.text()?.0.read_to_end(&mut text).map_err(Error::io(path))?;
        Ok(text)
    }

    #[test]
    fn compressed_parts_are_one_text_whatever_the_name() {
        let text: Vec<u8> = (0..9000).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
        for parts in [1, 3] {
            for (ending, bytes) in compressed(&text, parts) {
                assert!(bytes.len() < text.len() / 2 || ending == "xz");
                for name in [format!("a.{ending}"), "a.txt".to_owned()] {
                    assert_eq!(read(&name, &bytes).unwrap(), text, "{name}, {ending}, {parts} parts");
                }
            }
        }
    }

    /// Two parts that the program xz wrote, with other levels and other checksums.
    #[cfg(feature = "compressed")]
    const XZ: &[u8] =
        b"\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x1c\x00\x00\x00\x10\xcf\x58\xcc\
        \xe0\x04\x73\x00\x2e\x5d\x00\x3a\x1a\x08\xce\x76\xd9\x8d\xed\xfb\xb7\x54\x34\x9d\x79\x57\xa3\x6a\
        \xc0\xfe\xec\xce\x97\x36\x84\x73\x61\x78\xd3\x7c\xdc\x95\x67\xd4\x60\xa9\x6a\xc9\x89\xae\xfb\xf5\
        \x82\x41\x24\x11\x00\x00\x00\x00\xf7\x7a\xdd\xda\x6d\x8e\xfa\x9c\x00\x01\x4a\xf4\x08\x00\x00\x00\
        \xa5\x23\x96\x15\xb1\xc4\x67\xfb\x02\x00\x00\x00\x00\x04\x59\x5a\xfd\x37\x7a\x58\x5a\x00\x00\x0a\
        \xe1\xfb\x0c\xa1\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3\x01\x00\x07\x74\x68\x65\x20\x65\
        \x6e\x64\x0a\x00\x00\xdf\x70\xa2\xec\x5a\x8b\xfe\x4e\x68\xd0\x0a\xba\x75\x79\x2b\x83\x9e\xa8\x4a\
        \xa7\x0a\xa1\xdd\x4d\xfe\x0e\x71\x16\xe2\x53\xcc\x00\x01\x38\x08\xe2\x81\xc2\x39\x18\x9b\x4b\x9a\
        \x01\x00\x00\x00\x00\x0a\x59\x5a";

    #[cfg(feature = "compressed")]
    #[test]
    fn what_xz_wrote_is_read() {
        let text = "the sea is wide and the ship is small\n".repeat(30) + "the end\n";
        assert_eq!(read("a.xz", XZ).unwrap(), text.as_bytes());
    }

    #[test]
    fn a_mark_may_stand_inside_what_is_compressed() {
        for (ending, bytes) in compressed("\u{feff}text".as_bytes(), 1) {
            assert_eq!(read(&format!("a.{ending}"), &bytes).unwrap(), b"text");
        }
    }

    #[test]
    fn broken_and_misnamed_files_are_refused_by_name() {
        let text: Vec<u8> =
            (0..40_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (ending, bytes) in compressed(&text, 1) {
            let name = format!("broken.{ending}");
            let mut altered = bytes.clone();
            let middle = altered.len() / 2;
            altered[middle..middle + 8].fill(0x55);
            for bytes in [&bytes[..bytes.len() - 3], &bytes[..bytes.len() / 2], &altered[..]] {
                let error = read(&name, bytes).err().unwrap_or_else(|| panic!("{name} was read")).to_string();
                assert!(error.contains(&name) && error.contains("broken "), "{error}");
            }
            for bytes in [&b"plain text"[..], b""] {
                let error = read(&name, bytes).unwrap_err().to_string();
                assert!(error.contains(&name) && error.contains("as its name says"), "{error}");
            }
        }
    }

    #[test]
    fn text_in_two_bytes_is_named_with_and_without_a_mark() {
        let little: Vec<u8> = "text".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "text".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = |mark: &[u8], text: &[u8]| [mark, text].concat();
        let cases = [
            (little.clone(), "UTF-16 (little-endian)"),
            (big.clone(), "UTF-16 (big-endian)"),
            (marked(b"\xff\xfe", &little), "UTF-16 (little-endian)"),
            (marked(b"\xfe\xff", &big), "UTF-16 (big-endian)"),
            (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32 (little-endian)"),
            (b"\0\0\xfe\xff\0\0\0a".to_vec(), "UTF-32 (big-endian)"),
        ];
        for (bytes, name) in cases {
            let error = read("a.txt", &bytes).unwrap_err().to_string();
            assert!(error.contains(&format!("{name} text: convert it to UTF-8")), "{error}");
        }
        assert_eq!(read("a.txt", b"a\0\0b").unwrap(), b"a\0\0b", "two zeros are no sign");
        assert_eq!(read("a.txt", b"ab\0").unwrap(), b"ab\0");
    }

    #[test]
    fn other_formats_are_named() {
        let tar = [&[b'a'; 257][..], b"ustar\x0000"].concat();
        let cases = [
            (&b"%PDF-1.7\n"[..], "a PDF document"),
            (b"PK\x03\x04...", "a ZIP archive"),
            (&tar, "a tar archive"),
        ];
        for (bytes, name) in cases {
            let error = read("a.txt", bytes).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("JSON"), "{error}");
        }
        let (_, gz) = &compressed(&tar, 1)[0];
        assert!(read("a.tar.gz", gz).unwrap_err().to_string().contains("a tar archive"));
    }
}
