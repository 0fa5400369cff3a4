//! From documents to a folder of token shards for training and validation.

mod info;
mod survey;
mod tokenize;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use info::{CorpusInfo, DATA_FILE, DATA_VERSION, DataInfo, PartInfo, Spelt, SplitInfo};

use super::blocks::{BlockLayout, Blocks};
use super::corpus::Corpus;
use super::document::{Content, Document};
use super::fidelity::Fidelity;
use super::hash::Fingerprint;
use super::source::Source;
use super::store::TokenStore;
use super::tokenizer::{Tokenizer, TokenizerKind, TokenizerSpec};
use super::validation::ValidationBlocks;
use crate::durable::sync_parent;
use crate::error::{Error, Result};
use survey::Survey;

/// What is prepared, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareSettings {
    /// The corpus.
    pub source: Source,
    /// The tokenizer, or the one to train.
    pub tokenizer: TokenizerSpec,
    /// Share of the corpus for validation, at least 0 (none) and below 1. See [`prepare`] for the rule.
    #[serde(default = "default_valid_fraction")]
    pub valid_fraction: f64,
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

impl PrepareSettings {
    /// Two hundredths for validation, seed 0, shards of 2^28 tokens.
    pub fn new(source: Source, tokenizer: TokenizerSpec) -> Self {
        let (valid_fraction, shard_tokens) = (default_valid_fraction(), default_shard_tokens());
        Self { source, tokenizer, valid_fraction, seed: 0, shard_tokens }
    }

    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.valid_fraction) {
            return Err(Error::invalid("valid_fraction", self.valid_fraction, "at least 0 and below 1"));
        }
        if self.shard_tokens == 0 {
            return Err(Error::invalid("shard_tokens", self.shard_tokens, "at least 1"));
        }
        Ok(())
    }

    /// Numbers that change with the settings and with the files of the corpus.
    fn fingerprints(&self, corpus: &Corpus) -> Result<Fingerprints> {
        let named = Self { source: self.source.with_named_streams(), ..self.clone() };
        let settings = serde_json::to_string(&named)
            .map_err(|error| Error::invalid("settings", format!("{self:?}"), error.to_string()))?;
        let mut print = Fingerprint::new()
            .part(&DATA_VERSION.to_le_bytes())
            .part(settings.as_bytes())
            .part(&corpus.stamp()?.to_le_bytes());
        if let Some(file) = self.tokenizer.file()? {
            print = print.part(&fs::read(&file).map_err(Error::io(&file))?);
        }
        let shown = |print: &Fingerprint| format!("{:016x}", print.value());
        let before = shown(&print);
        let found = self.tokenizer.newly_found_end()?;
        let now = found.map_or_else(|| before.clone(), |name| shown(&print.part(name.as_bytes())));
        Ok(Fingerprints { now, before })
    }
}

/// Fingerprints of data that are what settings ask for.
struct Fingerprints {
    /// Of data prepared now.
    now: String,
    /// Of data prepared before the end of text was found where it is found now: they keep what they had.
    before: String,
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
    /// Tokens for validation, unless the fraction was 0.
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

    /// The sequences of the part for validation; `None` where nothing is held out.
    ///
    /// # Errors
    /// As [`Blocks::new`].
    pub fn validation(&self, layout: BlockLayout) -> Result<Option<ValidationBlocks>> {
        let (Some(store), Some(part)) = (&self.valid, &self.info.valid) else { return Ok(None) };
        let blocks = Blocks::new(store.clone(), &self.tokenizer, layout)?;
        let lossless = part.is_lossless(&self.tokenizer);
        ValidationBlocks::new(blocks, self.tokenizer.clone(), lossless).map(Some)
    }

    /// The same for evaluation, where the part for validation may be shorter than one sequence: all of it is then the
    /// [`ValidationBlocks::tail`].
    ///
    /// # Errors
    /// As [`Blocks::new`], but for a sequence longer than the corpus.
    pub fn evaluation(&self, layout: BlockLayout) -> Result<Option<ValidationBlocks>> {
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

    /// As [`DataInfo::fidelity`].
    pub fn fidelity(&self) -> Option<Fidelity> {
        self.info.fidelity()
    }
}

/// Prepares a corpus: trains the tokenizer if asked, and writes `train-*.tokens`, `valid-*.tokens`,
/// `data.json` and, for tokenizers that need it, `tokenizer.json` into `folder`.
///
/// With an end-of-text token (E) each stream is E document E document … E. Otherwise documents are
/// joined by [`Tokenizer::separator`].
///
/// Validation documents are those whose hash of (seed, index of the document) falls into the share
/// `valid_fraction`, and always the one with the smallest hash. But documents longer than
/// [`PIECE_BYTES`](super::PIECE_BYTES), and all documents of a corpus with fewer than
/// 1 / `valid_fraction` (and at most 1,000) of them, are split by position: the last share of their
/// bytes, from the next character on, is for validation, and they count as a document on both sides.
///
/// A folder that was made with the same settings from the same files (by path, size and time of
/// change) is opened as it is. A new one is written beside its place and renamed when it is complete.
/// The corpus is read two or three times, piece by piece; of a stream, such as standard input, a copy stands in `folder`
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
    let mut corpus = settings.source.corpus()?;
    let with_copies = corpus.has_streams().then(|| PartialFolder::create(folder)).transpose()?;
    if let Some(partial) = &with_copies {
        corpus.copy_streams(&partial.path)?;
    }
    let fingerprints = settings.fingerprints(&corpus)?;
    if may_reuse(folder, &fingerprints, outdated)? {
        return PreparedData::open(folder);
    }
    let partial = with_copies.map_or_else(|| PartialFolder::create(folder), Ok)?;
    let mut documents = corpus.documents()?;
    let survey = Survey::of(documents.by_ref(), progress)?;
    let skipped = documents.skipped().cloned();
    let tokenizer = settings.tokenizer.build(|| {
        let documents = corpus.documents()?.map(of_text);
        Ok(Watched::new(documents, Phase::Train, Some(survey.bytes), progress))
    })?;
    let mut spelling = Spelling::new(&tokenizer)?;
    let documents = corpus.documents_for(&tokenizer)?.map(|document| {
        let document = document?;
        spelling.note(&document);
        Ok(if tokenizer.is_of_numbers() {
            Document { content: Content::TokenNumbers, ..document }
        } else {
            document
        })
    });
    let documents = Watched::new(documents, Phase::Tokenize, Some(survey.bytes), progress);
    let written = tokenize::write_shards(documents, settings, &tokenizer, &survey, &partial.path)?;
    tokenizer.save(&partial.path)?;
    let read = CorpusInfo::new(corpus.left_out().cloned(), skipped, spelling.spelt());
    DataInfo::new(settings, fingerprints.now, &tokenizer, written, read).write(&partial.path)?;
    corpus.remove_copies()?;
    partial.rename_to(folder)?;
    Ok(PreparedData { reused: false, ..PreparedData::open(folder)? })
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

/// Documents whose text spells the tokenizer's end of text.
struct Spelling {
    name: Option<String>,
    documents: u64,
    /// Whether a piece of the present document has spelt it.
    inside: bool,
}

impl Spelling {
    fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let name = tokenizer.end_of_text().map(|end| tokenizer.token_text(end)).transpose()?;
        Ok(Self { name: name.filter(|name| !name.trim().is_empty()), documents: 0, inside: false })
    }

    fn note(&mut self, piece: &Document) {
        let Some(name) = self.name.as_deref().filter(|_| piece.content == Content::Text) else { return };
        self.inside |= piece.text.contains(name);
        if !piece.continues {
            self.documents += u64::from(std::mem::take(&mut self.inside));
        }
    }

    /// What was spelt, if anything was.
    fn spelt(self) -> Option<Spelt> {
        let name = self.name.filter(|_| self.documents > 0)?;
        Some(Spelt { name, documents: self.documents })
    }
}

/// Whether `folder` is what is wanted; false if it is to be made.
fn may_reuse(folder: &Path, fingerprints: &Fingerprints, outdated: Outdated) -> Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    if !folder.join(DATA_FILE).exists() {
        if fs::read_dir(folder).map_err(Error::io(folder))?.next().is_none() {
            return Ok(false);
        }
        let problem = format!("a folder with other files in it: it has no {DATA_FILE}; choose another");
        return Err(Error::format(folder, problem));
    }
    // A file that cannot be read any more is as outdated as one with other settings.
    let found = DataInfo::read(folder).map(|info| info.settings_fingerprint).unwrap_or_default();
    let same = found == fingerprints.now;
    // Of a folder that was prepared before it was asked, only a new one says whether documents decode to themselves.
    let is_known = |data: PreparedData| data.tokenizer.is_lossless() || data.fidelity().is_some();
    match outdated {
        Outdated::Refuse if same || found == fingerprints.before => Ok(true),
        Outdated::Rebuild if same => Ok(PreparedData::open(folder).is_ok_and(is_known)),
        Outdated::Rebuild => Ok(false),
        Outdated::Refuse => {
            let problem =
                "prepared with other settings or from other files; rebuild it, or choose another folder";
            Err(Error::format(folder, problem))
        }
    }
}

/// The folder beside the wanted one that is filled first, and removed unless it was renamed.
struct PartialFolder {
    path: PathBuf,
}

impl PartialFolder {
    fn create(folder: &Path) -> Result<Self> {
        let path = beside(folder, "partial")?;
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        }
        fs::create_dir_all(&path).map_err(Error::io(&path))?;
        Ok(Self { path })
    }

    /// Takes the place of `folder`, which is moved aside before and removed after.
    fn rename_to(self, folder: &Path) -> Result<()> {
        let old = beside(folder, "old")?;
        let replaces = folder.exists();
        if replaces {
            fs::rename(folder, &old).map_err(Error::io(folder))?;
        }
        let renamed = fs::rename(&self.path, folder).and_then(|()| sync_parent(folder));
        if let Err(source) = renamed {
            if replaces {
                fs::rename(&old, folder).map_err(Error::io(folder))?;
            }
            return Err(Error::io(folder)(source));
        }
        if replaces {
            fs::remove_dir_all(&old).map_err(Error::io(&old))?;
        }
        Ok(())
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        // After the rename there is nothing here; nothing more can be done where removing fails.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A hidden name beside `folder`, of this process alone.
fn beside(folder: &Path, what: &str) -> Result<PathBuf> {
    let Some(name) = folder.file_name() else {
        return Err(Error::invalid("folder", folder.display(), "a path that ends in a name"));
    };
    Ok(folder.with_file_name(format!(".{}.{what}-{}", name.to_string_lossy(), std::process::id())))
}

/// Writes a whole file and makes it last.
fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(Error::io(path))
}

/// Documents that report how far they have been read, about every MiB.
struct Watched<'a, I> {
    inner: I,
    state: Progress,
    reported: u64,
    report: &'a mut dyn FnMut(Progress),
}

/// Bytes between two reports.
const REPORT_BYTES: u64 = 1 << 20;

impl<'a, I> Watched<'a, I> {
    fn new(inner: I, phase: Phase, total_bytes: Option<u64>, report: &'a mut dyn FnMut(Progress)) -> Self {
        let state = Progress { phase, documents: 0, bytes: 0, total_bytes };
        report(state);
        Self { inner, state, reported: 0, report }
    }
}

impl<I: Iterator<Item = Result<Document>>> Iterator for Watched<'_, I> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.inner.next();
        if let Some(Ok(document)) = &item {
            self.state.documents += u64::from(!document.continues);
            self.state.bytes += document.text.len() as u64;
        }
        if item.is_none() || self.state.bytes - self.reported >= REPORT_BYTES {
            self.reported = self.state.bytes;
            (self.report)(self.state);
        }
        item
    }
}

#[cfg(test)]
mod tests;
