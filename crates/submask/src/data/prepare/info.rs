//! `data.json`: what a prepared folder holds.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::split::HeldOutBy;
use super::{PrepareSettings, write_file};
use crate::data::{Fidelity, LeftOut, PairCounts, Skipped, TokenStore, Tokenizer, TokenizerKind, Totals};
use crate::error::{Error, Result};

/// The file in a prepared folder that says what is in it.
pub const DATA_FILE: &str = "data.json";
/// Version of the format that is written. Version 1, which did not say how documents were held out, is read too.
pub const DATA_VERSION: u32 = 2;

/// The contents of `data.json`. Fingerprints are 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataInfo {
    /// Version of the format: [`DATA_VERSION`].
    pub format_version: u32,
    /// The settings that made it.
    pub settings: PrepareSettings,
    /// Changes with the settings and with the files of the corpus.
    pub settings_fingerprint: String,
    /// The tokenizer.
    pub tokenizer: TokenizerKind,
    /// What the tokenizer is recognised by: [`Tokenizer::fingerprint`].
    pub tokenizer_fingerprint: String,
    /// Size of the vocabulary (C).
    pub vocab_size: usize,
    /// How documents were shared out.
    pub split: SplitInfo,
    /// What reading the corpus left out, and what stands out in it.
    #[serde(default, skip_serializing_if = "CorpusInfo::is_empty")]
    pub corpus: CorpusInfo,
    /// Tokens for training.
    pub train: PartInfo,
    /// Tokens for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<PartInfo>,
}

/// What was left out of a corpus, and what stands out in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusInfo {
    /// Files of its folders that are not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// Records that could not be read and were skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
    /// Documents that spell the name of the tokenizer's end of text in ordinary characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spelt: Option<Spelt>,
}

/// A token's name that stands in text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spelt {
    /// The name.
    pub name: String,
    /// How many documents it stands in.
    pub documents: u64,
}

impl CorpusInfo {
    /// What was found.
    pub(in crate::data) fn new(
        left_out: Option<LeftOut>,
        skipped: Option<Skipped>,
        spelt: Option<Spelt>,
    ) -> Self {
        Self { left_out, skipped, spelt }
    }

    /// The same with what was found in other files.
    pub(super) fn and(self, other: Self) -> Self {
        let left_out = |a: LeftOut, b: LeftOut| LeftOut { files: a.files + b.files, ..a };
        let skipped = |a: Skipped, b: Skipped| Skipped { records: a.records + b.records, ..a };
        let spelt = |a: Spelt, b: Spelt| Spelt { documents: a.documents + b.documents, ..a };
        Self {
            left_out: either(self.left_out, other.left_out, left_out),
            skipped: either(self.skipped, other.skipped, skipped),
            spelt: either(self.spelt, other.spelt, spelt),
        }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One of two, or both together.
fn either<T>(a: Option<T>, b: Option<T>, both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(both(a, b)),
        (a, b) => a.or(b),
    }
}

/// How documents were shared out, see [`prepare`](super::prepare).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitInfo {
    /// How validation text was chosen.
    #[serde(default, skip_serializing_if = "HeldOutBy::is_first")]
    pub by: HeldOutBy,
    /// Documents of the corpus.
    pub documents: u64,
    /// Those of them that went wholly to validation; or the documents of the files that stand for it.
    pub whole_for_validation: u64,
    /// Those of them that were split by position.
    pub split_by_position: u64,
}

/// The shards of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartInfo {
    /// Names of the files, in order.
    pub shards: Vec<String>,
    /// Tokens, separators included.
    pub tokens: u64,
    /// Characters of text that they stand for.
    pub characters: u64,
    /// Documents, and parts of documents.
    pub documents: u64,
    /// What the tokenizer did to them, where it is not lossless by construction or token numbers decode to no text; absent,
    /// too, in folders that were prepared before this was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<Fidelity>,
    /// Where the documents are pairs of prompts and completions: what became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairInfo>,
}

/// The pairs of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairInfo {
    /// Names of the files with the lengths of prompts and completions, in order.
    pub lengths: Vec<String>,
    /// How many there are, and how many were left out.
    pub counts: PairCounts,
}

impl PartInfo {
    /// Names and sums of finished shards.
    pub(super) fn new((shards, totals): (Vec<String>, Totals), fidelity: Option<Fidelity>) -> Self {
        let Totals { tokens, characters, documents } = totals;
        Self { shards, tokens, characters, documents, fidelity, pairs: None }
    }

    /// Whether every document is known to decode to itself with the folder's tokenizer.
    pub(super) fn is_lossless(&self, tokenizer: &Tokenizer) -> bool {
        self.fidelity.map_or(tokenizer.is_lossless(), Fidelity::is_lossless)
    }

    /// Opens the shards and checks that they are the ones described.
    pub(super) fn open(&self, folder: &Path, tokenizer: &Tokenizer) -> Result<TokenStore> {
        let store = TokenStore::open(self.shards.iter().map(|file| folder.join(file)))?;
        store.check_tokenizer(tokenizer)?;
        if store.tokens() != self.tokens {
            let problem = format!("the shards hold {} tokens, not {}", store.tokens(), self.tokens);
            return Err(Error::format(folder.join(DATA_FILE), problem));
        }
        Ok(store)
    }
}

/// What writing the shards gave.
pub(super) struct Written {
    pub(super) split: SplitInfo,
    pub(super) train: PartInfo,
    pub(super) valid: Option<PartInfo>,
}

impl DataInfo {
    pub(super) fn new(
        settings: &PrepareSettings,
        settings_fingerprint: String,
        tokenizer: &Tokenizer,
        written: Written,
        corpus: CorpusInfo,
    ) -> Self {
        Self {
            format_version: DATA_VERSION,
            settings: settings.clone(),
            settings_fingerprint,
            tokenizer: tokenizer.kind().clone(),
            tokenizer_fingerprint: format!("{:016x}", tokenizer.fingerprint()),
            vocab_size: tokenizer.vocab_size(),
            split: written.split,
            corpus,
            train: written.train,
            valid: written.valid,
        }
    }

    /// What the tokenizer did to all documents, where it is not lossless by construction and this was asked, or where token
    /// numbers decode to no text.
    pub fn fidelity(&self) -> Option<Fidelity> {
        let valid = self.valid.as_ref().map(|part| part.fidelity);
        std::iter::once(self.train.fidelity).chain(valid).sum()
    }

    /// What became of all records, where the corpus is one of pairs.
    pub fn pairs(&self) -> Option<PairCounts> {
        let counts = |part: &PartInfo| part.pairs.as_ref().map(|pairs| pairs.counts);
        let valid = self.valid.as_ref().and_then(counts).unwrap_or_default();
        counts(&self.train).map(|train| train + valid)
    }

    /// Reads `data.json` of a folder.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for anything but this version of it.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let path = folder.as_ref().join(DATA_FILE);
        let text = fs::read(&path).map_err(Error::io(&path))?;
        let problem = |error: serde_json::Error| Error::format(&path, format!("not a {DATA_FILE}: {error}"));
        let Version { format_version } = serde_json::from_slice(&text).map_err(problem)?;
        if !(1..=DATA_VERSION).contains(&format_version) {
            let problem = format!("format version {format_version}; this program reads 1 to {DATA_VERSION}");
            return Err(Error::format(&path, problem));
        }
        serde_json::from_slice(&text).map_err(problem)
    }

    /// Writes `data.json` into a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(DATA_FILE);
        let json =
            serde_json::to_vec_pretty(self).map_err(|error| Error::format(&path, error.to_string()))?;
        write_file(&path, &json)
    }

    /// That the tokenizer in the folder is the one that was there.
    pub(super) fn check_tokenizer(&self, folder: &Path, tokenizer: &Tokenizer) -> Result<()> {
        let found = format!("{:016x}", tokenizer.fingerprint());
        if found == self.tokenizer_fingerprint {
            return Ok(());
        }
        let problem = format!(
            "the tokenizer was changed: its fingerprint is {found}, not {}",
            self.tokenizer_fingerprint
        );
        Err(Error::format(folder.join(DATA_FILE), problem))
    }
}
