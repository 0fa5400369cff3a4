//! Token shards: files of u16 or u32 tokens under a checked header.
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | the magic `SUBMTOKS` |
//! | 8..12 | format version, 1 |
//! | 12..16 | bytes per token, 2 or 4 |
//! | 16..24 | vocabulary size |
//! | 24..32 | fingerprint of the tokenizer |
//! | 32..40 | tokens |
//! | 40..48 | characters of text that they stand for |
//! | 48..56 | documents that end in this shard |
//! | 56..60 | CRC-32 of the tokens' bytes |
//! | 60..64 | CRC-32 of the header up to here |
//! | 64.. | the tokens |

use std::cmp::Ordering;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memmap2::Mmap;

use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"SUBMTOKS";
/// Version of the format that is written, and the only one that is read.
pub const SHARD_VERSION: u32 = 1;
/// Bytes before the tokens.
pub(super) const HEADER_BYTES: usize = 64;

/// What the header of a token shard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardHeader {
    /// Bytes per token: 2 or 4.
    pub token_bytes: u32,
    /// Size of the vocabulary; every token is below it.
    pub vocab_size: u64,
    /// [`Tokenizer::fingerprint`] of the tokenizer that made the tokens.
    pub fingerprint: u64,
    /// How many tokens there are.
    pub tokens: u64,
    /// How many characters of text they stand for.
    pub characters: u64,
    /// How many documents end here.
    pub documents: u64,
    /// CRC-32 of the tokens' bytes.
    pub checksum: u32,
}

impl ShardHeader {
    /// The header as it stands in the file.
    pub(super) fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(SHARD_VERSION.to_le_bytes());
        bytes.extend(self.token_bytes.to_le_bytes());
        for number in [self.vocab_size, self.fingerprint, self.tokens, self.characters, self.documents] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.checksum.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    /// Reads a header; says what is wrong with it.
    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        if bytes.len() < HEADER_BYTES {
            return Err(format!("truncated: {} bytes, but the header alone has {HEADER_BYTES}", bytes.len()));
        }
        if bytes[..8] != MAGIC {
            return Err("not a token shard: it does not begin with SUBMTOKS".to_owned());
        }
        let version = read_u32(bytes, 8);
        if version != SHARD_VERSION {
            return Err(format!(
                "shard format version {version}; this program reads version {SHARD_VERSION}"
            ));
        }
        if read_u32(bytes, 60) != crc32fast::hash(&bytes[..60]) {
            return Err("the header's checksum is wrong: the file was altered".to_owned());
        }
        let header = Self {
            token_bytes: read_u32(bytes, 12),
            vocab_size: read_u64(bytes, 16),
            fingerprint: read_u64(bytes, 24),
            tokens: read_u64(bytes, 32),
            characters: read_u64(bytes, 40),
            documents: read_u64(bytes, 48),
            checksum: read_u32(bytes, 56),
        };
        header.check_width()?;
        Ok(header)
    }

    /// That a file of `len` bytes holds the tokens and no more.
    fn check_len(&self, len: u64) -> std::result::Result<(), String> {
        let expected = u128::from(self.tokens) * u128::from(self.token_bytes) + HEADER_BYTES as u128;
        let what = match u128::from(len).cmp(&expected) {
            Ordering::Equal => return Ok(()),
            Ordering::Less => "truncated",
            Ordering::Greater => "too long",
        };
        Err(format!("{what}: {len} bytes, but the header promises {expected}"))
    }

    /// That a token of this vocabulary fits into its bytes.
    fn check_width(&self) -> std::result::Result<(), String> {
        let largest = match self.token_bytes {
            2 => 1 << 16,
            4 => 1 << 32,
            other => return Err(format!("{other} bytes per token; 2 and 4 are possible")),
        };
        if self.vocab_size > largest {
            let bytes = self.token_bytes;
            return Err(format!(
                "a vocabulary of {} does not fit tokens of {bytes} bytes: at most {largest}",
                self.vocab_size
            ));
        }
        Ok(())
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// A token shard. Its header is read when it is opened; the file is mapped into memory when tokens are first read, and
/// only what is read is loaded. So of a corpus of many shards a process holds those that it uses.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    header: ShardHeader,
    map: OnceLock<Mmap>,
}

impl Shard {
    /// Opens a shard and checks its header and its size, but not the tokens: see [`Shard::verify`].
    ///
    /// The file must not be changed while it is open.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a file that is truncated, of another format or
    /// version, or whose vocabulary does not fit its tokens.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(Error::io(path))?;
        let len = file.metadata().map_err(Error::io(path))?.len();
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(Error::io(path))?;
        let header = ShardHeader::parse(&bytes).map_err(|problem| Error::format(path, problem))?;
        header.check_len(len).map_err(|problem| Error::format(path, problem))?;
        Ok(Self { path: path.to_path_buf(), header, map: OnceLock::new() })
    }

    /// The bytes of the file, which is mapped now if it was not.
    fn map(&self) -> Result<&Mmap> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        // SAFETY: the map is only read. Another process that shortens the file meanwhile can end this
        // one with a bus error, as with every memory-mapped file; shards are never changed in place.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&self.path))?;
        self.header.check_len(map.len() as u64).map_err(|problem| Error::format(&self.path, problem))?;
        // Where another thread was faster, its map is as good.
        Ok(self.map.get_or_init(|| map))
    }

    /// Whether tokens of it have been read.
    #[cfg(test)]
    pub(super) fn is_mapped(&self) -> bool {
        self.map.get().is_some()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its header says.
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// Reads the whole file and checks the checksum, and that every token is in the vocabulary.
    ///
    /// # Errors
    /// [`Error::Format`] for altered tokens.
    pub fn verify(&self) -> Result<()> {
        let found = crc32fast::hash(&self.map()?[HEADER_BYTES..]);
        if found != self.header.checksum {
            let problem = format!(
                "the tokens were altered: their checksum is {found:08x}, not {:08x}",
                self.header.checksum
            );
            return Err(Error::format(&self.path, problem));
        }
        let mut buffer = vec![0; 4096];
        let mut at = 0;
        while at < self.header.tokens {
            let end = (at + buffer.len() as u64).min(self.header.tokens);
            let tokens = &mut buffer[..(end - at) as usize];
            self.read(at..end, tokens)?;
            if let Some(&token) = tokens.iter().find(|&&token| u64::from(token) >= self.header.vocab_size) {
                let problem =
                    format!("token {token} is outside its vocabulary of {}", self.header.vocab_size);
                return Err(Error::format(&self.path, problem));
            }
            at = end;
        }
        Ok(())
    }

    /// Checks that `tokenizer` made this shard.
    ///
    /// # Errors
    /// [`Error::Format`] naming both.
    pub fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        let (made, given) = (&self.header, tokenizer);
        if made.fingerprint == given.fingerprint() && made.vocab_size == given.vocab_size() as u64 {
            return Ok(());
        }
        let problem = format!(
            "made with another tokenizer: fingerprint {:016x}, {} tokens; the tokenizer given has {:016x}, {}",
            made.fingerprint,
            made.vocab_size,
            given.fingerprint(),
            given.vocab_size()
        );
        Err(Error::format(&self.path, problem))
    }

    /// Copies the tokens of `range` into `out`, which has the same length.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range outside the shard or an `out` of another length.
    pub fn read(&self, range: Range<u64>, out: &mut [u32]) -> Result<()> {
        check_range(&range, self.header.tokens, out.len())?;
        let width = self.header.token_bytes as usize;
        let start = HEADER_BYTES + range.start as usize * width;
        let bytes = &self.map()?[start..start + out.len() * width];
        if width == 2 {
            for (token, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *token = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
        } else {
            for (token, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *token = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        Ok(())
    }
}

/// That a range lies in `0..tokens` and has `length` items.
pub(super) fn check_range(range: &Range<u64>, tokens: u64, length: usize) -> Result<()> {
    if range.start > range.end || range.end > tokens {
        return Err(Error::invalid("range", format!("{range:?}"), format!("a part of 0..{tokens}")));
    }
    if range.end - range.start != length as u64 {
        return Err(Error::invalid(
            "range",
            format!("{range:?}"),
            format!("as long as its buffer, {length}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shard_writer::ShardWriter;
    use std::fs;

    fn written(tokens: &[u32], tokenizer: &Tokenizer) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.tokens");
        let mut writer = ShardWriter::create(&path, tokenizer).unwrap();
        writer.push(tokens).unwrap();
        writer.finish().unwrap();
        (folder, path)
    }

    /// Writes a shard, changes its bytes, and gives the message of opening or verifying it.
    fn message_after(change: impl FnOnce(&mut Vec<u8>)) -> String {
        let (_folder, path) = written(&[104, 105, 256], &Tokenizer::bytes());
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let error = Shard::open(&path).and_then(|shard| shard.verify()).unwrap_err();
        assert!(error.to_string().contains("t.tokens"), "{error}");
        error.to_string()
    }

    /// Sets bytes of the header and makes its checksum right again.
    fn reseal(bytes: &mut [u8], at: usize, new: &[u8]) {
        bytes[at..at + new.len()].copy_from_slice(new);
        let checksum = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    }

    #[test]
    fn a_whole_shard_is_accepted() {
        let (_folder, path) = written(&[104, 105, 256], &Tokenizer::bytes());
        let shard = Shard::open(&path).unwrap();
        shard.verify().unwrap();
        shard.check_tokenizer(&Tokenizer::bytes()).unwrap();
        let mut tokens = [0; 2];
        shard.read(1..3, &mut tokens).unwrap();
        assert_eq!(tokens, [105, 256]);
    }

    #[test]
    fn a_truncated_shard_is_refused_by_name() {
        assert!(message_after(|bytes| bytes.truncate(68)).contains("truncated: 68 bytes"));
        assert!(message_after(|bytes| bytes.truncate(10)).contains("truncated: 10 bytes"));
        assert!(message_after(Vec::clear).contains("truncated: 0 bytes"));
        assert!(message_after(|bytes| bytes.push(0)).contains("too long"));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for bit in 0..(HEADER_BYTES + 6) * 8 {
            message_after(|bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }
    }

    #[test]
    fn another_format_or_version_is_refused_by_name() {
        assert!(message_after(|bytes| bytes[0] = b'X').contains("not a token shard"));
        assert!(message_after(|bytes| bytes[8] = 9).contains("format version 9"));
    }

    #[test]
    fn a_vocabulary_larger_than_the_token_type_is_refused() {
        let message = message_after(|bytes| reseal(bytes, 16, &70_000u64.to_le_bytes()));
        assert!(message.contains("a vocabulary of 70000 does not fit tokens of 2 bytes"), "{message}");
        let message = message_after(|bytes| reseal(bytes, 12, &3u32.to_le_bytes()));
        assert!(message.contains("3 bytes per token"), "{message}");
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_found() {
        let message = message_after(|bytes| reseal(bytes, 16, &200u64.to_le_bytes()));
        assert!(message.contains("token 256 is outside its vocabulary of 200"), "{message}");
    }

    #[test]
    fn a_tokenizer_that_did_not_make_the_shard_is_refused() {
        let (_folder, path) = written(&[1, 2], &Tokenizer::bytes());
        let error = Shard::open(&path).unwrap().check_tokenizer(&Tokenizer::text8()).unwrap_err();
        assert!(error.to_string().contains("made with another tokenizer"), "{error}");
    }

    #[test]
    fn a_range_outside_the_shard_is_refused() {
        let (_folder, path) = written(&[1, 2], &Tokenizer::bytes());
        let shard = Shard::open(&path).unwrap();
        assert!(shard.read(1..3, &mut [0; 2]).is_err());
        assert!(shard.read(0..2, &mut [0; 1]).is_err());
    }
}
