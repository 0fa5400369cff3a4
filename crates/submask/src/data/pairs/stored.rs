//! Pairs in a prepared folder: their tokens one after the other, and how many each of them has.

use std::path::Path;
use std::sync::Arc;

use super::{EncodedPair, PairCounts, PairLayout, PairSequence, PairTokens};
use crate::data::dataset::{Batch, Dataset};
use crate::data::fidelity::{Fidelity, FidelityCount};
use crate::data::hash::Fingerprint;
use crate::data::store::{StoreWriter, TokenStore, Totals};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// The place of every so many pairs is held in memory.
const STEP: u64 = 64;

/// Stored pairs as sequences of one layout.
#[derive(Clone, Debug)]
pub struct Pairs {
    tokens: Arc<TokenStore>,
    /// Tokens of the prompt and tokens of the completion, of one pair after the other.
    lengths: Arc<TokenStore>,
    /// Where the tokens of every [`STEP`]-th pair begin.
    starts: Arc<[u64]>,
    layout: PairLayout,
    tokenizer: Tokenizer,
    end: u32,
    is_lossless: bool,
}

impl Pairs {
    /// Opens pairs that were written for sequences of the same length.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tokenizer without end of text; [`Error::Format`] for stores that do not belong together.
    pub(in crate::data) fn open(
        tokens: Arc<TokenStore>,
        lengths: TokenStore,
        layout: PairLayout,
        tokenizer: &Tokenizer,
        is_lossless: bool,
    ) -> Result<Self> {
        tokens.check_tokenizer(tokenizer)?;
        lengths.check_tokenizer(&layout.lengths_tokenizer()?)?;
        let end = layout.end_of_text(tokenizer)?;
        let starts = starts(&lengths, &tokens)?.into();
        let (tokenizer, lengths) = (tokenizer.clone(), Arc::new(lengths));
        Ok(Self { tokens, lengths, starts, layout, tokenizer, end, is_lossless })
    }

    /// Number of pairs.
    pub fn len(&self) -> u64 {
        self.lengths.tokens() / 2
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of all prompts and completions.
    pub fn tokens(&self) -> u64 {
        self.tokens.tokens()
    }

    /// Pair `index` as a sequence.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an index of [`Self::len`] or more; [`Error::Format`] and [`Error::InvalidCode`] for files
    /// that were altered.
    pub fn sequence(&self, index: u64) -> Result<PairSequence> {
        self.layout.sequence(&self.tokenizer, self.end, &self.tokens_of(index)?, self.is_lossless)
    }

    /// Checks every token and every length.
    ///
    /// # Errors
    /// As [`TokenStore::verify`].
    pub fn verify(&self) -> Result<()> {
        self.tokens.verify()?;
        self.lengths.verify()
    }

    fn tokens_of(&self, index: u64) -> Result<PairTokens> {
        if index >= self.len() {
            return Err(Error::invalid("pair", index, format!("below {}", self.len())));
        }
        let first = index / STEP * STEP;
        let mut lengths = vec![0; 2 * (index - first + 1) as usize];
        self.lengths.read(2 * first..2 * (index + 1), &mut lengths)?;
        let (before, own) = lengths.split_at(lengths.len() - 2);
        if 1 + sum(own) > self.layout.seq_len as u64 {
            let problem = format!("pair {index} does not fit into {} tokens", self.layout.seq_len);
            return Err(Error::format(self.lengths.shards()[0].path(), problem));
        }
        let start = self.starts[(index / STEP) as usize] + sum(before);
        let read = |start: u64, length: u32| {
            let mut tokens = vec![0; length as usize];
            self.tokens.read(start..start + u64::from(length), &mut tokens).map(|()| tokens)
        };
        Ok(PairTokens { prompt: read(start, own[0])?, completion: read(start + u64::from(own[0]), own[1])? })
    }
}

impl Dataset for Pairs {
    fn seq_len(&self) -> usize {
        self.layout.seq_len
    }

    fn epoch_len(&self) -> Option<u64> {
        Some(self.len())
    }

    fn get(&self, _epoch: u64, index: u64, batch: &mut Batch) -> Result<()> {
        let sequence = self.layout.sequence(&self.tokenizer, self.end, &self.tokens_of(index)?, false)?;
        batch.push(sequence.tokens, None);
        batch.given.push(sequence.given);
        Ok(())
    }

    fn fingerprint(&self) -> u64 {
        let shards = self.tokens.shards().iter().chain(self.lengths.shards());
        let print = Fingerprint::new().part(b"pairs").part(&(self.layout.seq_len as u64).to_le_bytes());
        shards.fold(print, |print, shard| print.part(&shard.header().checksum.to_le_bytes())).value()
    }
}

impl PairLayout {
    /// What numbers of tokens are stored as: each is below L.
    ///
    /// # Errors
    /// As [`Tokenizer::numbers`].
    pub(in crate::data) fn lengths_tokenizer(self) -> Result<Tokenizer> {
        Tokenizer::numbers(self.seq_len)
    }
}

fn sum(lengths: &[u32]) -> u64 {
    lengths.iter().map(|length| u64::from(*length)).sum()
}

/// Where every [`STEP`]-th pair begins.
///
/// # Errors
/// [`Error::Format`] for no pair, and for lengths that are not those of the tokens.
fn starts(lengths: &TokenStore, tokens: &TokenStore) -> Result<Vec<u64>> {
    let altered = |problem: String| Error::format(lengths.shards()[0].path(), problem);
    let count = lengths.tokens();
    if count == 0 || count % 2 == 1 {
        return Err(altered(format!("{count} lengths, not two for each of at least one pair")));
    }
    let (mut starts, mut start) = (Vec::new(), 0);
    let mut part = vec![0; 2 * STEP as usize];
    for first in (0..count).step_by(part.len()) {
        let own = (count - first).min(2 * STEP) as usize;
        lengths.read(first..first + own as u64, &mut part[..own])?;
        starts.push(start);
        start += sum(&part[..own]);
    }
    match start == tokens.tokens() {
        true => Ok(starts),
        false => {
            Err(altered(format!("the pairs have {start} tokens, not the {} of the shards", tokens.tokens())))
        }
    }
}

/// Writes pairs.
pub(in crate::data) struct PairWriter<'a> {
    tokens: StoreWriter<'a>,
    lengths: StoreWriter<'a>,
    fidelity: FidelityCount,
    counts: PairCounts,
}

/// What a [`PairWriter`] wrote.
pub(in crate::data) struct WrittenPairs {
    pub(in crate::data) tokens: (Vec<String>, Totals),
    pub(in crate::data) lengths: Vec<String>,
    pub(in crate::data) fidelity: Fidelity,
    pub(in crate::data) counts: PairCounts,
}

impl<'a> PairWriter<'a> {
    /// Starts the shards of `name` in `folder`; `lengths` is [`PairLayout::lengths_tokenizer`].
    ///
    /// # Errors
    /// As [`StoreWriter::create`].
    pub(in crate::data) fn create(
        folder: &Path,
        name: &str,
        tokenizer: &'a Tokenizer,
        lengths: &'a Tokenizer,
        shard_tokens: u64,
    ) -> Result<Self> {
        Ok(Self {
            tokens: StoreWriter::create(folder, name, tokenizer, shard_tokens)?,
            lengths: StoreWriter::create(folder, &format!("{name}-lengths"), lengths, shard_tokens)?,
            fidelity: FidelityCount::default(),
            counts: PairCounts::default(),
        })
    }

    /// Adds a pair if it fits, and counts what becomes of it; `None` is a record without a completion.
    ///
    /// # Errors
    /// As [`StoreWriter::push`].
    pub(in crate::data) fn write(&mut self, encoded: Option<&EncodedPair>) -> Result<()> {
        self.counts.count(encoded);
        let Some(EncodedPair { tokens: Some(PairTokens { prompt, completion }), fidelity, .. }) = encoded
        else {
            return Ok(());
        };
        self.fidelity.add(*fidelity, true);
        self.tokens.push(prompt)?;
        self.tokens.push(completion)?;
        self.tokens.end_document()?;
        self.lengths.push(&[prompt.len() as u32, completion.len() as u32])
    }

    /// Completes the shards.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(in crate::data) fn finish(self) -> Result<WrittenPairs> {
        let (lengths, _) = self.lengths.finish()?;
        let (fidelity, counts) = (self.fidelity.total(), self.counts);
        Ok(WrittenPairs { tokens: self.tokens.finish()?, lengths, fidelity, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pair;
    use super::*;

    /// A sequence with `>` behind what is given, and `|` for end of text.
    fn shown(sequence: &PairSequence) -> String {
        let letter = |token: &u32| if *token == 256 { '|' } else { *token as u8 as char };
        let mut text: String = sequence.tokens.iter().map(letter).collect();
        text.insert(sequence.given, '>');
        text
    }

    #[test]
    fn stored_pairs_are_those_that_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, tokenizer) = (PairLayout { seq_len: 12, truncate: false }, Tokenizer::bytes());
        let numbers = layout.lengths_tokenizer().unwrap();
        let mut writer = PairWriter::create(folder.path(), "train", &tokenizer, &numbers, 50).unwrap();
        let pair = |n: usize| Pair { prompt: "p".repeat(n % 5), completion: format!("c{n}") };
        let mut write = |pair| writer.write(layout.encode(&tokenizer, &pair).unwrap().as_ref()).unwrap();
        (0..200).for_each(|n| write(pair(n)));
        write(Pair { prompt: String::new(), completion: "too long for this".to_owned() });
        write(Pair::default());
        let WrittenPairs { tokens: (files, totals), lengths, counts, .. } = writer.finish().unwrap();
        assert_eq!(counts, PairCounts { pairs: 200, too_long: 1, cut: 0, empty: 1 });
        assert_eq!(totals.documents, 200);
        let store =
            |names: &[String]| TokenStore::open(names.iter().map(|name| folder.path().join(name))).unwrap();
        let open = |lengths, layout| Pairs::open(Arc::new(store(&files)), lengths, layout, &tokenizer, true);
        let pairs = open(store(&lengths), layout).unwrap();
        pairs.verify().unwrap();
        let mut batch = Batch::default();
        for n in 0..200 {
            let (sequence, Pair { prompt, completion }) = (pairs.sequence(n as u64).unwrap(), pair(n));
            let filling = "|".repeat(11 - prompt.len() - completion.len());
            assert_eq!(shown(&sequence), format!("|{prompt}>{completion}{filling}"));
            pairs.get(0, n as u64, &mut batch).unwrap();
            assert_eq!((&batch.x_0[n * 12..], batch.given[n]), (sequence.tokens.as_slice(), sequence.given));
        }
        assert!(pairs.sequence(200).is_err());
        // Lengths of other pairs, or for sequences of another length, are refused.
        assert!(lengths.len() > 1 && open(store(&lengths[1..]), layout).is_err());
        assert!(open(store(&lengths), PairLayout { seq_len: 13, truncate: false }).is_err());
        // Lengths that add up and do not fit are refused where they are read.
        let mut writer = StoreWriter::create(folder.path(), "other-lengths", &numbers, 1000).unwrap();
        writer.push(&[11, 1]).unwrap();
        (0..totals.tokens as u32 - 12).for_each(|_| writer.push(&[1, 0]).unwrap());
        let (names, _) = writer.finish().unwrap();
        let altered = open(store(&names), layout).unwrap();
        let error = altered.sequence(0).unwrap_err().to_string();
        assert!(error.contains("pair 0 does not fit into 12 tokens"), "{error}");
    }
}
