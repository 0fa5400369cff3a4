//! Several shards as one long array of tokens.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::shard::{Shard, ShardHeader, check_range};
use super::shard_writer::ShardWriter;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// Shards of one tokenizer, read as one array of N tokens.
#[derive(Debug)]
pub struct TokenStore {
    shards: Vec<Shard>,
    /// Where each shard ends in the array.
    ends: Vec<u64>,
}

impl TokenStore {
    /// Opens shards in the order given.
    ///
    /// # Errors
    /// Those of [`Shard::open`]; [`Error::Format`] for a shard of another tokenizer than the first;
    /// [`Error::Invalid`] for no shard at all.
    pub fn open<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let shards: Vec<Shard> = paths.into_iter().map(Shard::open).collect::<Result<_>>()?;
        let Some(first) = shards.first().map(Shard::header) else {
            return Err(Error::invalid("shards", "[]", "at least one token shard"));
        };
        let same = |header: &ShardHeader| {
            header.fingerprint == first.fingerprint && header.vocab_size == first.vocab_size
        };
        if let Some(other) = shards.iter().find(|shard| !same(shard.header())) {
            let problem = format!("made with another tokenizer than {}", shards[0].path().display());
            return Err(Error::format(other.path(), problem));
        }
        let mut end = 0;
        let ends = shards.iter().map(|shard| {
            end += shard.header().tokens;
            end
        });
        Ok(Self { ends: ends.collect(), shards })
    }

    /// How many tokens there are (N).
    pub fn tokens(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// How many characters of text they stand for.
    pub fn characters(&self) -> u64 {
        self.shards.iter().map(|shard| shard.header().characters).sum()
    }

    /// How many documents there are.
    pub fn documents(&self) -> u64 {
        self.shards.iter().map(|shard| shard.header().documents).sum()
    }

    /// Size of the vocabulary (C).
    pub fn vocab_size(&self) -> usize {
        self.shards[0].header().vocab_size as usize
    }

    /// The shards.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Checks every shard's tokens, see [`Shard::verify`].
    ///
    /// # Errors
    /// Those of [`Shard::verify`].
    pub fn verify(&self) -> Result<()> {
        self.shards.iter().try_for_each(Shard::verify)
    }

    /// Checks that `tokenizer` made these tokens.
    ///
    /// # Errors
    /// Those of [`Shard::check_tokenizer`].
    pub fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        self.shards[0].check_tokenizer(tokenizer)
    }

    /// The tokens of `range`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range outside the array.
    pub fn tokens_of(&self, range: Range<u64>) -> Result<Vec<u32>> {
        check_range(&range, self.tokens(), range.end.saturating_sub(range.start) as usize)?;
        let mut tokens = vec![0; (range.end - range.start) as usize];
        self.read(range, &mut tokens)?;
        Ok(tokens)
    }

    /// Copies the tokens of `range` into `out`, which has the same length.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range outside the array or an `out` of another length.
    pub fn read(&self, range: Range<u64>, out: &mut [u32]) -> Result<()> {
        check_range(&range, self.tokens(), out.len())?;
        let mut at = range.start;
        let mut rest = out;
        let mut index = self.ends.partition_point(|&end| end <= at);
        while at < range.end {
            let start = if index == 0 { 0 } else { self.ends[index - 1] };
            let end = self.ends[index].min(range.end);
            let (part, after) = rest.split_at_mut((end - at) as usize);
            self.shards[index].read(at - start..end - start, part)?;
            (rest, at, index) = (after, end, index + 1);
        }
        Ok(())
    }
}

/// Writes tokens into as many shards as needed: `{name}-00000.tokens`, `{name}-00001.tokens`, …
pub struct StoreWriter<'a> {
    folder: PathBuf,
    name: String,
    tokenizer: &'a Tokenizer,
    shard_tokens: u64,
    current: Option<ShardWriter>,
    files: Vec<String>,
    finished: Totals,
}

/// Sums over shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tokens, separators included.
    pub tokens: u64,
    /// Characters of text.
    pub characters: u64,
    /// Documents.
    pub documents: u64,
}

impl Totals {
    fn add(&mut self, header: &ShardHeader) {
        self.tokens += header.tokens;
        self.characters += header.characters;
        self.documents += header.documents;
    }
}

impl<'a> StoreWriter<'a> {
    /// Starts the shards of `name` in `folder`, each of at most `shard_tokens` tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `shard_tokens` 0.
    pub fn create(
        folder: impl AsRef<Path>,
        name: &str,
        tokenizer: &'a Tokenizer,
        shard_tokens: u64,
    ) -> Result<Self> {
        if shard_tokens == 0 {
            return Err(Error::invalid("shard_tokens", shard_tokens, "at least 1"));
        }
        Ok(Self {
            folder: folder.as_ref().to_path_buf(),
            name: name.to_owned(),
            tokenizer,
            shard_tokens,
            current: None,
            files: Vec::new(),
            finished: Totals::default(),
        })
    }

    /// Adds tokens that stand for text. Where a shard is full in the middle, the characters are
    /// counted where their tokens are.
    ///
    /// # Errors
    /// Those of [`ShardWriter::push`].
    pub fn push(&mut self, tokens: &[u32]) -> Result<()> {
        let mut rest = tokens;
        while !rest.is_empty() {
            if self.current.as_ref().is_some_and(|shard| shard.tokens() == self.shard_tokens) {
                self.finish_shard()?;
            }
            let tokenizer = self.tokenizer;
            let limit = self.shard_tokens;
            let shard = self.shard()?;
            let room = usize::try_from(limit - shard.tokens()).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at(rest.len().min(room));
            shard.push(part)?;
            shard.count(tokenizer.count_characters(part)?, 0);
            rest = after;
        }
        Ok(())
    }

    /// Notes that a document ends here.
    ///
    /// # Errors
    /// [`Error::Io`] if this starts the first shard.
    pub fn end_document(&mut self) -> Result<()> {
        self.shard()?.count(0, 1);
        Ok(())
    }

    /// Completes the last shard; gives the names of the files and their sums. There is always at
    /// least one shard.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<(Vec<String>, Totals)> {
        self.shard()?;
        self.finish_shard()?;
        Ok((std::mem::take(&mut self.files), self.finished))
    }

    fn shard(&mut self) -> Result<&mut ShardWriter> {
        if self.current.is_none() {
            let file = format!("{}-{:05}.tokens", self.name, self.files.len());
            self.current = Some(ShardWriter::create(self.folder.join(&file), self.tokenizer)?);
            self.files.push(file);
        }
        self.current.as_mut().ok_or_else(|| Error::invalid("shard", "none", "an open shard"))
    }

    fn finish_shard(&mut self) -> Result<()> {
        if let Some(shard) = self.current.take() {
            self.finished.add(&shard.finish()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn store(folder: &Path, tokens: &[u32], shard_tokens: u64) -> TokenStore {
        let tokenizer = Tokenizer::bytes();
        let mut writer = StoreWriter::create(folder, "t", &tokenizer, shard_tokens).unwrap();
        tokens.chunks(7).for_each(|part| writer.push(part).unwrap());
        writer.end_document().unwrap();
        let (files, totals) = writer.finish().unwrap();
        let store = TokenStore::open(files.iter().map(|file| folder.join(file))).unwrap();
        assert_eq!(
            totals,
            Totals { tokens: store.tokens(), characters: store.characters(), documents: store.documents() }
        );
        store
    }

    #[test]
    fn shards_of_different_tokenizers_do_not_make_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, text8) = (Tokenizer::bytes(), Tokenizer::text8());
        for (name, tokenizer) in [("a", &bytes), ("b", &text8)] {
            StoreWriter::create(folder.path(), name, tokenizer, 9).unwrap().finish().unwrap();
        }
        let paths = ["a-00000.tokens", "b-00000.tokens"].map(|file| folder.path().join(file));
        let error = TokenStore::open(&paths).unwrap_err().to_string();
        assert!(error.contains("b-00000.tokens: made with another tokenizer than"), "{error}");
        assert!(TokenStore::open::<&Path>([]).is_err());
        assert!(StoreWriter::create(folder.path(), "c", &bytes, 0).is_err());
    }

    /// The files of a folder that the system has mapped into this process.
    #[cfg(target_os = "linux")]
    fn mapped(folder: &Path) -> Vec<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let inside = |line: &str| Some(line.split_once(&format!("{}/", folder.display()))?.1.to_owned());
        let mut files: Vec<String> = maps.lines().filter_map(inside).collect();
        files.sort();
        files
    }

    #[test]
    fn only_shards_that_are_read_are_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let tokens: Vec<u32> = (0..100).collect();
        let store = store(folder.path(), &tokens, 10);
        let is_mapped = || -> Vec<usize> {
            (0..store.shards().len()).filter(|shard| store.shards()[*shard].is_mapped()).collect()
        };
        assert_eq!(store.shards().len(), 10);
        // What a process must know of all of them stands in their headers.
        assert_eq!((store.tokens(), store.documents(), is_mapped()), (100, 1, vec![]));
        assert_eq!(store.tokens_of(38..52).unwrap(), tokens[38..52]);
        assert_eq!(is_mapped(), [3, 4, 5]);
        #[cfg(target_os = "linux")]
        assert_eq!(mapped(folder.path()), ["t-00003.tokens", "t-00004.tokens", "t-00005.tokens"]);
        // The others may be on a disk that is not there.
        std::fs::remove_file(folder.path().join("t-00009.tokens")).unwrap();
        assert_eq!(store.tokens_of(30..60).unwrap(), tokens[30..60]);
        let error = store.tokens_of(95..96).unwrap_err().to_string();
        assert!(error.contains("t-00009.tokens"), "{error}");
        store.shards()[0].verify().unwrap();
        assert_eq!(is_mapped(), [0, 3, 4, 5]);
    }

    #[test]
    fn a_character_cut_by_a_shard_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let tokens: Vec<u32> = "a中b".bytes().map(u32::from).collect();
        let store = store(folder.path(), &tokens, 2);
        assert_eq!((store.shards().len(), store.characters(), store.documents()), (3, 3, 1));
        store.verify().unwrap();
    }

    #[test]
    fn large_vocabularies_take_four_bytes() {
        let characters: String = (0..70_000u32).filter_map(|i| char::from_u32(0x10000 + i)).collect();
        let tokenizer = Tokenizer::characters(&characters).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut writer = StoreWriter::create(folder.path(), "t", &tokenizer, 100).unwrap();
        writer.push(&[69_999, 5]).unwrap();
        let (files, _) = writer.finish().unwrap();
        let store = TokenStore::open(files.iter().map(|file| folder.path().join(file))).unwrap();
        let mut tokens = [0; 2];
        store.read(0..2, &mut tokens).unwrap();
        assert_eq!((tokens, store.shards()[0].header().token_bytes), ([69_999, 5], 4));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn shards_read_as_one_array(
            tokens in prop::collection::vec(0u32..257, 1..60),
            size in 1u64..20,
            a in 0usize..60,
            b in 0usize..60,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let store = store(folder.path(), &tokens, size);
            prop_assert_eq!(store.tokens(), tokens.len() as u64);
            let (start, end) = (a.min(b).min(tokens.len()), a.max(b).min(tokens.len()));
            let mut out = vec![0; end - start];
            store.read(start as u64..end as u64, &mut out).unwrap();
            prop_assert_eq!(&out[..], &tokens[start..end]);
        }
    }
}
