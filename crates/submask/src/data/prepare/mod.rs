//! From documents to a folder of token shards for training and validation.

mod corpora;
mod held_out;
mod info;
mod pairs;
mod partial;
mod reuse;
mod share;
mod spelling;
mod split;
mod survey;
mod tokenize;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use held_out::HeldOutReport;
pub use info::{CorpusInfo, DATA_FILE, DATA_VERSION, DataInfo, PairInfo, PartInfo, Spelt, SplitInfo};
pub use share::{merge_prepared, prepare_share};
pub use split::{HeldOutBy, ValidRule};

use super::blocks::{BlockLayout, Blocks};
use super::document::{Content, Document};
use super::fidelity::Fidelity;
use super::pairs::{PairLayout, PairSource, Pairs};
use super::source::{Reading, Source};
use super::store::TokenStore;
use super::tokenizer::{Tokenizer, TokenizerKind, TokenizerSpec};
use super::validation::ValidationBlocks;
use crate::error::{Error, Result};
use corpora::Corpora;
use partial::{PartialFolder, write_file};
use reuse::may_reuse;
use split::{LEAST_SEQUENCES, Split};
use survey::Survey;
use watched::Watched;

/// What is prepared, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareSettings {
    /// The corpus.
    pub source: Source,
    /// The tokenizer, or the one to train.
    pub tokenizer: TokenizerSpec,
    /// Share of the corpus for validation, at least 0 (none) and below 1. Not read where there is a `valid_source`.
    #[serde(default = "default_valid_fraction")]
    pub valid_fraction: f64,
    /// How validation documents are chosen; absent in settings of earlier versions, which had one rule.
    #[serde(default, skip_serializing_if = "ValidRule::is_first")]
    pub valid_rule: ValidRule,
    /// Tokens per sequence of the models that are to be trained, L: [`ValidRule::Documents`] cuts a document only where
    /// its end has 16 such sequences, and a pair is one of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seq_len: usize,
    /// Texts for validation that stand in files of their own: nothing of `source` is held out then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_source: Option<Source>,
    /// Whether completions of pairs are cut to `seq_len`: see [`PairLayout::truncate`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
    /// Chooses the validation documents.
    #[serde(default)]
    pub seed: u64,
    /// Most tokens in a shard.
    #[serde(default = "default_shard_tokens")]
    pub shard_tokens: u64,
}

fn default_valid_fraction() -> f64 {
    0.02
}

fn default_shard_tokens() -> u64 {
    1 << 28
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Tokens per sequence where nobody says how many.
const USUAL_SEQ_LEN: usize = 128;

impl PrepareSettings {
    /// Two hundredths for validation, whole documents where possible, sequences of 128 tokens, seed 0, shards of 2^28
    /// tokens.
    pub fn new(source: Source, tokenizer: TokenizerSpec) -> Self {
        Self {
            source,
            tokenizer,
            valid_fraction: default_valid_fraction(),
            valid_rule: ValidRule::Documents,
            seq_len: USUAL_SEQ_LEN,
            valid_source: None,
            truncate: false,
            seed: 0,
            shard_tokens: default_shard_tokens(),
        }
    }

    /// How the files of the corpus are read; `None` for the built-in dictionary, which is in none.
    pub fn reading(&self) -> Option<&Reading> {
        match &self.source {
            Source::Files { reading, .. } | Source::Pairs(PairSource { reading, .. }) => Some(reading),
            Source::Dictionary | Source::DictionaryPages | Source::FirstDictionary => None,
        }
    }

    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.valid_fraction) {
            return Err(Error::invalid("valid_fraction", self.valid_fraction, "at least 0 and below 1"));
        }
        if self.shard_tokens == 0 {
            return Err(Error::invalid("shard_tokens", self.shard_tokens, "at least 1"));
        }
        match (&self.source, &self.valid_source) {
            (Source::Pairs(_), None | Some(Source::Pairs(_))) => self.check_pairs(),
            (Source::Pairs(_), _) | (_, Some(Source::Pairs(_))) => {
                Err(Error::invalid("valid_source", "of another kind", "pairs for pairs, and text for text"))
            }
            _ if self.truncate => Err(Error::invalid("truncate", true, "false: only pairs are cut")),
            _ => Ok(()),
        }
    }

    /// Pairs are never cut in two.
    fn check_pairs(&self) -> Result<()> {
        match self.valid_rule {
            ValidRule::Share if self.valid_source.is_none() && self.valid_fraction > 0.0 => {
                Err(Error::invalid("valid_rule", "share", "documents: pairs are held out whole"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a part of `source` itself is held out.
    fn holds_out(&self) -> bool {
        self.valid_source.is_none() && self.valid_fraction > 0.0
    }

    /// What text for validation is called, and what helps where it is too short.
    fn held_out_text(&self) -> (String, String) {
        match &self.valid_source {
            Some(source) => {
                let place =
                    source.first_path().map_or(String::new(), |path| format!(" in {}", path.display()));
                (format!("the text for validation{place}"), "; more text there helps".to_owned())
            }
            None => {
                let fraction = self.valid_fraction;
                let remedy = format!(
                    "; more text, a data.valid_fraction above {fraction}, or files for validation (--valid, \
                     data.valid_paths) help"
                );
                ("the part held out for validation".to_owned(), remedy)
            }
        }
    }

    /// How a pair becomes a sequence.
    fn pair_layout(&self) -> PairLayout {
        PairLayout { seq_len: self.seq_len, truncate: self.truncate }
    }

    /// What is held out of a corpus, once there is a tokenizer, which takes so many `bytes_per_token`.
    fn split(&self, survey: &Survey, bytes_per_token: impl FnOnce() -> Result<f64>) -> Result<Split> {
        let (fraction, seed) = (self.valid_fraction, self.seed);
        match self.valid_rule {
            _ if self.valid_source.is_some() => Ok(Split::none(HeldOutBy::Files)),
            _ if fraction == 0.0 => Ok(Split::none(HeldOutBy::default())),
            ValidRule::Share => Ok(Split::by_share(survey, fraction, seed)),
            ValidRule::Documents if matches!(self.source, Source::Pairs(_)) => {
                Split::by_documents(survey, fraction, seed, None::<fn() -> Result<f64>>)
            }
            ValidRule::Documents => {
                let least_bytes = || {
                    let tokens = LEAST_SEQUENCES as f64 * self.seq_len.max(1) as f64;
                    Ok(tokens * bytes_per_token()?)
                };
                Split::by_documents(survey, fraction, seed, Some(least_bytes))
            }
        }
    }
}

/// What to do with a folder that was prepared with other settings or from other files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outdated {
    /// Leave it alone and return an error.
    #[default]
    Refuse,
    /// Replace it once the new one is complete.
    Rebuild,
}

/// What [`prepare`] is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Counting documents and bytes.
    Survey,
    /// Reading the corpus for the tokenizer.
    Train,
    /// Writing tokens.
    Tokenize,
}

/// How far [`prepare`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The present phase; it begins at 0 documents.
    pub phase: Phase,
    /// Documents read in this phase.
    pub documents: u64,
    /// Bytes of text read in this phase.
    pub bytes: u64,
    /// Bytes of the whole corpus, once counted.
    pub total_bytes: Option<u64>,
}

/// A folder that [`prepare`] made.
#[derive(Clone, Debug)]
pub struct PreparedData {
    /// The folder.
    pub folder: PathBuf,
    /// What its `data.json` says.
    pub info: DataInfo,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Tokens for training.
    pub train: Arc<TokenStore>,
    /// Tokens for validation, unless the fraction was 0 and no other files were given.
    pub valid: Option<Arc<TokenStore>>,
    /// Whether it was there already.
    pub reused: bool,
}

impl PreparedData {
    /// Opens a prepared folder, whatever the settings were.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a folder that is not whole: shards and tokenizer must be
    /// those that `data.json` names. Tokens are not read: see [`TokenStore::verify`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        let info = DataInfo::read(&folder)?;
        let tokenizer = Tokenizer::load(&info.tokenizer, &folder)?;
        info.check_tokenizer(&folder, &tokenizer)?;
        let open = |part: &PartInfo| part.open(&folder, &tokenizer).map(Arc::new);
        let train = open(&info.train)?;
        let valid = info.valid.as_ref().map(open).transpose()?;
        Ok(Self { folder, info, tokenizer, train, valid, reused: true })
    }

    /// The sequences to train on.
    ///
    /// # Errors
    /// As [`Blocks::new`], and [`Error::Invalid`] for pairs, which are not cut into blocks.
    pub fn training(&self, layout: BlockLayout) -> Result<Blocks> {
        self.refuse_pairs()?;
        Blocks::new(self.train.clone(), &self.tokenizer, layout)
    }

    /// The sequences of the part for validation; `None` where nothing is held out.
    ///
    /// # Errors
    /// As [`Self::training`].
    pub fn validation(&self, layout: BlockLayout) -> Result<Option<ValidationBlocks>> {
        self.refuse_pairs()?;
        let (Some(store), Some(part)) = (&self.valid, &self.info.valid) else { return Ok(None) };
        let (text, remedy) = self.info.settings.held_out_text();
        let blocks = Blocks::with_tail_only(store.clone(), &self.tokenizer, layout)?;
        let blocks = blocks.or_too_short(&text, &remedy)?;
        let lossless = part.is_lossless(&self.tokenizer);
        ValidationBlocks::new(blocks, self.tokenizer.clone(), lossless).map(Some)
    }

    /// The same for evaluation, where the part for validation may be shorter than one sequence: all of it is then the
    /// [`ValidationBlocks::tail`].
    ///
    /// # Errors
    /// As [`Self::training`], but for a sequence longer than the corpus.
    pub fn evaluation(&self, layout: BlockLayout) -> Result<Option<ValidationBlocks>> {
        self.refuse_pairs()?;
        let (Some(store), Some(part)) = (&self.valid, &self.info.valid) else { return Ok(None) };
        let blocks = Blocks::with_tail_only(store.clone(), &self.tokenizer, layout)?;
        let lossless = part.is_lossless(&self.tokenizer);
        ValidationBlocks::new(blocks, self.tokenizer.clone(), lossless).map(Some)
    }

    /// Whether documents run into each other because the tokenizer has no end of text, unless that is meant so: the
    /// tokens of text8 are one text by definition, and one document runs into no other. A foreign tokenizer is expected
    /// to have one.
    pub fn runs_together(&self) -> bool {
        let by_definition = match self.tokenizer.kind() {
            TokenizerKind::TokenizerJson { .. } => false,
            TokenizerKind::Text8 => true,
            _ => self.info.split.documents < 2,
        };
        self.tokenizer.end_of_text().is_none() && !by_definition
    }

    /// Whether the documents are pairs of prompts and completions.
    pub fn has_pairs(&self) -> bool {
        self.info.train.pairs.is_some()
    }

    /// The pairs to train on, as sequences of `seq_len` tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] for data without pairs, and for another length than they were prepared for; [`Error::Format`] for
    /// files that do not belong together.
    pub fn training_pairs(&self, seq_len: usize) -> Result<Pairs> {
        self.pairs_of(&self.info.train, &self.train, seq_len)
    }

    /// The pairs for validation; `None` where nothing is held out.
    ///
    /// # Errors
    /// As [`Self::training_pairs`].
    pub fn validation_pairs(&self, seq_len: usize) -> Result<Option<Pairs>> {
        let (Some(store), Some(part)) = (&self.valid, &self.info.valid) else { return Ok(None) };
        self.pairs_of(part, store, seq_len).map(Some)
    }

    fn pairs_of(&self, part: &PartInfo, tokens: &Arc<TokenStore>, seq_len: usize) -> Result<Pairs> {
        let folder = self.folder.display();
        let Some(pairs) = &part.pairs else {
            return Err(Error::invalid("data", folder, "prepared pairs: these are texts"));
        };
        let layout = self.info.settings.pair_layout();
        if layout.seq_len != seq_len {
            let allowed = format!("{}: the pairs in {folder} were prepared for it", layout.seq_len);
            return Err(Error::invalid("model.seq_len", seq_len, allowed));
        }
        let lengths = TokenStore::open(pairs.lengths.iter().map(|file| self.folder.join(file)))?;
        Pairs::open(tokens.clone(), lengths, layout, &self.tokenizer, part.is_lossless(&self.tokenizer))
    }

    fn refuse_pairs(&self) -> Result<()> {
        match self.has_pairs() {
            false => Ok(()),
            true => Err(Error::invalid("data", self.folder.display(), "prepared text: these are pairs")),
        }
    }

    /// What is held out, for sequences of a layout; `None` where nothing is.
    pub fn held_out(&self, layout: BlockLayout) -> Option<HeldOutReport> {
        HeldOutReport::of(&self.info, layout)
    }

    /// As [`DataInfo::fidelity`].
    pub fn fidelity(&self) -> Option<Fidelity> {
        self.info.fidelity()
    }
}

/// Prepares a corpus: trains the tokenizer if asked, and writes `train-*.tokens`, `valid-*.tokens`,
/// `data.json` and, for tokenizers that need it, `tokenizer.json` into `folder`.
///
/// Pairs become sequences of `seq_len` tokens ([`PairLayout`]): their shards hold prompts and completions alone, and
/// `train-lengths-*.tokens` and `valid-lengths-*.tokens` how many tokens each has. Pairs that are too long, and records
/// without a completion, are no documents: what is held out is chosen among those that fit.
///
/// With an end-of-text token (E) each stream of text is E document E document … E. Otherwise documents are
/// joined by [`Tokenizer::separator`].
///
/// What is held out for validation, where no files of their own are given for it ([`PrepareSettings::valid_source`]), by
/// [`ValidRule::Documents`]: whole documents, chosen by a hash of (seed, index of the document), if some choice of them
/// has between half of and five times the share `valid_fraction` of the bytes, or if there are at least 20 documents.
/// Otherwise documents are cut: the last share of their bytes, from the next character on, is for validation, of those
/// documents in which that is at least 16 sequences. Otherwise one document is held out, and a corpus of a single document
/// is cut in any case. Parts of a document count as documents.
///
/// By [`ValidRule::Share`], validation documents are those whose hash falls into the share, and always the one with the
/// smallest hash. But documents longer than [`PIECE_BYTES`](super::PIECE_BYTES), and all documents of a corpus with fewer
/// than 1 / `valid_fraction` (and at most 1,000) of them, are cut.
///
/// A folder that was made with the same settings from the same files (by path, size and time of
/// change) is opened as it is, and so is one of an earlier version, which held out otherwise or found no end of text where
/// one is found now. A new one is written beside its place and renamed when it is complete.
/// The corpus is read two or three times, piece by piece, and one of pairs once more; of a stream, such as standard input, a copy stands in `folder`
/// until then. What a folder of the corpus holds that is not read, what was skipped, and how many documents spell the
/// tokenizer's end of text is kept as [`CorpusInfo`].
///
/// # Errors
/// [`Error::Invalid`] for settings, including a `valid_fraction` that leaves nothing for training or
/// for validation; those of the source and of the tokenizer; [`Error::Io`]; [`Error::Format`] for a
/// folder that is outdated under [`Outdated::Refuse`], or that is not empty and not prepared data.
pub fn prepare(
    settings: &PrepareSettings,
    folder: impl AsRef<Path>,
    outdated: Outdated,
    progress: &mut dyn FnMut(Progress),
) -> Result<PreparedData> {
    let folder = folder.as_ref();
    settings.check()?;
    let mut corpora = Corpora::find(settings)?;
    let with_copies = corpora.has_streams().then(|| PartialFolder::create(folder)).transpose()?;
    if let Some(partial) = &with_copies {
        corpora.copy_streams(&partial.path)?;
    }
    if may_reuse(folder, settings, &corpora, outdated)? {
        return PreparedData::open(folder);
    }
    let partial = with_copies.map_or_else(|| PartialFolder::create(folder), Ok)?;
    let survey = Survey::of(corpora.train.documents()?, progress)?;
    let tokenizer = settings.tokenizer.build(|| {
        let documents = corpora.train.documents()?.map(of_text);
        Ok(Watched::new(documents, Phase::Train, Some(survey.bytes), progress))
    })?;
    let bytes_per_token = || tokenize::bytes_per_token(corpora.train.documents_for(&tokenizer)?, &tokenizer);
    let split = match &settings.source {
        Source::Pairs(_) if settings.holds_out() => {
            let fitting = pairs::survey(&corpora.train, &tokenizer, settings.pair_layout(), progress)?;
            settings.split(&fitting, bytes_per_token)?
        }
        _ => settings.split(&survey, bytes_per_token)?,
    };
    let (tokenizer, folder_written) = (&tokenizer, &*partial.path);
    let task =
        Task { settings, corpora: &corpora, tokenizer, split, bytes: survey.bytes, folder: folder_written };
    let (written, read) = match &settings.source {
        Source::Pairs(_) => pairs::write_shards(&task, progress)?,
        _ => tokenize::write_shards(&task, progress)?,
    };
    let fingerprint = settings.fingerprints(&corpora)?.now;
    let info = DataInfo::new(settings, fingerprint, tokenizer, written, read);
    corpora.remove_copies()?;
    finish(partial, &info, tokenizer, folder)
}

/// Completes a folder whose shards are written, and gives it its name.
fn finish(
    partial: PartialFolder,
    info: &DataInfo,
    tokenizer: &Tokenizer,
    folder: &Path,
) -> Result<PreparedData> {
    tokenizer.save(&partial.path)?;
    info.write(&partial.path)?;
    partial.rename_to(folder)?;
    Ok(PreparedData { reused: false, ..PreparedData::open(folder)? })
}

/// What shards are written from, and where.
struct Task<'a> {
    settings: &'a PrepareSettings,
    corpora: &'a Corpora,
    tokenizer: &'a Tokenizer,
    split: Split,
    /// Bytes of the corpus.
    bytes: u64,
    folder: &'a Path,
}

/// A document that a tokenizer can be made of.
fn of_text(document: Result<Document>) -> Result<Document> {
    match document {
        Ok(document) if document.content == Content::TokenNumbers => {
            let allowed = "`numbers`, or one that says what the token numbers of the corpus are: no text is there to make one of";
            Err(Error::invalid("tokenizer.kind", "one that is made of the corpus", allowed))
        }
        document => document,
    }
}

#[cfg(test)]
mod tests;
