//! Writing token shards so that a shard is whole or not there.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::shard::{HEADER_BYTES, ShardHeader};
use super::tokenizer::{Tokenizer, outside};
use crate::durable::sync_parent;
use crate::error::{Error, Result};

/// Writes one token shard.
///
/// Tokens go to a hidden file beside the place of the shard. [`ShardWriter::finish`] flushes it to
/// the disk and gives it its name; without it the hidden file is removed.
pub struct ShardWriter {
    path: PathBuf,
    partial: PathBuf,
    file: Option<BufWriter<File>>,
    header: ShardHeader,
    checksum: crc32fast::Hasher,
    bytes: Vec<u8>,
}

impl ShardWriter {
    /// Starts a shard of `tokenizer`'s tokens: two bytes per token for a vocabulary of up to 65,536, or
    /// else four.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: impl AsRef<Path>, tokenizer: &Tokenizer) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let partial = beside(&path);
        let file = File::create(&partial).map_err(Error::io(&partial))?;
        let header = ShardHeader {
            token_bytes: if tokenizer.vocab_size() <= 1 << 16 { 2 } else { 4 },
            vocab_size: tokenizer.vocab_size() as u64,
            fingerprint: tokenizer.fingerprint(),
            tokens: 0,
            characters: 0,
            documents: 0,
            checksum: 0,
        };
        let file = Some(BufWriter::with_capacity(1 << 20, file));
        let mut writer =
            Self { path, partial, file, header, checksum: crc32fast::Hasher::new(), bytes: Vec::new() };
        writer.write_all(&[0; HEADER_BYTES])?;
        Ok(writer)
    }

    /// Adds tokens.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for a token outside the vocabulary, [`Error::Io`] for a full disk.
    pub fn push(&mut self, tokens: &[u32]) -> Result<()> {
        if let Some(&token) = tokens.iter().find(|&&token| u64::from(token) >= self.header.vocab_size) {
            return Err(outside(token, self.header.vocab_size));
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        if self.header.token_bytes == 2 {
            bytes.extend(tokens.iter().flat_map(|&token| (token as u16).to_le_bytes()));
        } else {
            bytes.extend(tokens.iter().flat_map(|&token| token.to_le_bytes()));
        }
        self.checksum.update(&bytes);
        self.write_all(&bytes)?;
        self.bytes = bytes;
        self.header.tokens += tokens.len() as u64;
        Ok(())
    }

    /// Notes how many characters the tokens stand for and how many documents they end.
    pub fn count(&mut self, characters: u64, documents: u64) {
        self.header.characters += characters;
        self.header.documents += documents;
    }

    /// How many tokens there are so far.
    pub fn tokens(&self) -> u64 {
        self.header.tokens
    }

    /// Completes the shard and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`]; then there is no shard.
    pub fn finish(mut self) -> Result<ShardHeader> {
        self.header.checksum = self.checksum.clone().finalize();
        let Some(mut file) = self.file.take() else { return Ok(self.header.clone()) };
        let header = self.header.to_bytes();
        let written = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&header))
            .and_then(|()| file.flush())
            .and_then(|()| file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .and_then(|()| sync_parent(&self.path));
        // Without a write buffer, dropping the file cannot write again.
        let (_file, _unwritten) = file.into_parts();
        if let Err(source) = written {
            self.remove();
            return Err(Error::io(&self.path)(source));
        }
        Ok(self.header.clone())
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(Error::io(&self.path))
    }

    fn remove(&self) {
        // Nothing more can be done where even this fails.
        let _ = fs::remove_file(&self.partial);
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file.into_parts());
            self.remove();
        }
    }
}

/// The hidden file beside `path` that is written first.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shard;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn an_unfinished_shard_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.tokens");
        let mut writer = ShardWriter::create(&path, &Tokenizer::bytes()).unwrap();
        writer.push(&[1; 1000]).unwrap();
        assert_eq!(names(folder.path()), [".t.tokens.partial"]);
        drop(writer);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(folder.path().join("t"), &Tokenizer::text8()).unwrap();
        let error = writer.push(&[3, 27]).unwrap_err();
        assert_eq!(error.to_string(), "token 27 is not a valid code: the vocabulary has the ids 0 to 26");
        assert_eq!(writer.tokens(), 0);
    }

    #[test]
    fn what_the_counts_say_stands_in_the_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        let mut writer = ShardWriter::create(&path, &Tokenizer::bytes()).unwrap();
        writer.push(&[256, 104, 105, 256]).unwrap();
        writer.count(2, 1);
        let header = writer.finish().unwrap();
        assert_eq!((header.tokens, header.characters, header.documents), (4, 2, 1));
        assert_eq!(Shard::open(&path).unwrap().header(), &header);
        assert_eq!(names(folder.path()), ["t"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = ShardWriter::create("no/such/folder/t", &Tokenizer::bytes()).err().unwrap();
        assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("no/such/folder"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.tokens");
        std::os::unix::fs::symlink("/dev/full", beside(&path)).unwrap();
        let mut writer = ShardWriter::create(&path, &Tokenizer::bytes()).unwrap();
        let written = writer.push(&vec![1; 2 << 20]).and_then(|()| writer.finish());
        assert!(written.unwrap_err().to_string().contains("t.tokens"));
        assert!(names(folder.path()).is_empty());
    }
}
