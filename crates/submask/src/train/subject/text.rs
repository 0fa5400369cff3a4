//! Runs on text: the corpus and the tokenizer.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{HeldOutData, Learnt, Opened};
use crate::data::{
    Batcher, BlockLayout, Blocks, DATA_FILE, Outdated, PrepareSettings, PreparedData, Source, Split,
    TOKENIZER_FILE, Tokenizer, TokenizerKind, TokenizerSpec, ValidRule, ValidationBlocks, prepare,
};
use crate::model::{Architecture, Generated, HeldOut, ModelConfig, Subject, TextSubject};
use crate::train::event::{Event, Observer};
use crate::train::run::RunRequest;
use crate::train::settings::{RunSettings, in_open_unit};
use crate::{Error, Result};

/// A corpus of text and how sequences are cut out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextData {
    /// Files and folders; empty: the built-in dictionary.
    pub paths: Vec<PathBuf>,
    /// What in a text file is one document.
    pub split: Split,
    /// The field of JSON lines, or column of parquet files, that holds the text.
    pub field: String,
    /// Share of the corpus that is held out for validation, in (0, 1), where `valid_paths` is empty.
    pub valid_fraction: f64,
    /// How documents are chosen for it. Settings of runs from before there was a choice name none.
    #[serde(default)]
    pub valid_rule: ValidRule,
    /// Files and folders of text for validation; empty: a part of `paths`.
    #[serde(default)]
    pub valid_paths: Vec<PathBuf>,
    /// Whether a sequence has end of text at both ends (the published packing of OpenWebText).
    pub block_ends: bool,
    /// Where prepared token shards are kept; empty: inside the run folder.
    pub cache: PathBuf,
}

/// Which kind of tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerChoice {
    /// The 256 bytes.
    Bytes,
    /// The characters of the corpus.
    Characters,
    /// Space and a to z.
    Text8,
    /// GPT-2's vocabulary.
    Gpt2,
    /// Numbers below `vocab_size`, with white space between them.
    Numbers,
    /// A byte-level BPE of `vocab_size` tokens trained on the corpus.
    Bpe,
    /// The Hugging Face file at `path`.
    TokenizerJson,
}

/// The tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSettings {
    /// Which kind.
    pub kind: TokenizerChoice,
    /// Tokens of a trained BPE, or of numbers; no other kind reads it.
    pub vocab_size: usize,
    /// The file of `tokenizer-json`; no other kind reads it.
    pub path: PathBuf,
}

impl TextData {
    /// How sequences of `seq_len` tokens are cut.
    pub fn layout(&self, seq_len: usize) -> BlockLayout {
        BlockLayout { seq_len, block_ends: self.block_ends }
    }

    /// Where documents come from.
    pub fn source(&self) -> Source {
        if self.paths.is_empty() {
            return Source::Dictionary;
        }
        self.source_of(&self.paths)
    }

    /// Where held-out documents come from, if not from the same files.
    pub fn valid_source(&self) -> Option<Source> {
        (!self.valid_paths.is_empty()).then(|| self.source_of(&self.valid_paths))
    }

    /// Documents of other files, found in them as in the corpus.
    fn source_of(&self, paths: &[PathBuf]) -> Source {
        Source::Files { paths: paths.to_vec(), split: self.split, field: self.field.clone() }
    }

    /// What the data room is asked for, with a seed of the choice of held-out documents, for sequences of `seq_len`
    /// tokens.
    pub fn prepare(&self, tokenizer: &TokenizerSettings, seed: u64, seq_len: usize) -> PrepareSettings {
        let is_first = self.valid_rule == ValidRule::Share;
        PrepareSettings {
            valid_fraction: self.valid_fraction,
            valid_rule: self.valid_rule,
            seq_len: if is_first { 0 } else { seq_len },
            valid_source: self.valid_source(),
            seed,
            ..PrepareSettings::new(self.source(), tokenizer.spec())
        }
    }

    /// The folder of prepared data that is trained on, if that is what `paths` names.
    pub fn prepared(&self) -> Option<&Path> {
        match self.paths.as_slice() {
            [path] if path.join(DATA_FILE).is_file() => Some(path),
            _ => None,
        }
    }
}

impl TokenizerSettings {
    /// Those that ask for the tokenizer of the model in `folder`. The alphabet of `characters` is not among them:
    /// the corpus gives it.
    pub fn of(kind: &TokenizerKind, folder: &Path) -> Self {
        let nothing = |kind| Self { kind, vocab_size: 0, path: PathBuf::new() };
        match kind {
            TokenizerKind::Bytes => nothing(TokenizerChoice::Bytes),
            TokenizerKind::Characters { .. } => nothing(TokenizerChoice::Characters),
            TokenizerKind::Text8 => nothing(TokenizerChoice::Text8),
            TokenizerKind::Gpt2 => nothing(TokenizerChoice::Gpt2),
            TokenizerKind::Numbers { vocab_size } => {
                Self { vocab_size: *vocab_size, ..nothing(TokenizerChoice::Numbers) }
            }
            TokenizerKind::TokenizerJson { .. } => {
                Self { path: folder.join(TOKENIZER_FILE), ..nothing(TokenizerChoice::TokenizerJson) }
            }
        }
    }

    /// C, where it is known before the corpus, or the file, is read.
    pub fn vocab_size(&self) -> Option<usize> {
        match self.kind {
            TokenizerChoice::Bytes => Some(257),
            TokenizerChoice::Text8 => Some(27),
            TokenizerChoice::Gpt2 => Some(50_257),
            TokenizerChoice::Bpe | TokenizerChoice::Numbers => Some(self.vocab_size),
            TokenizerChoice::Characters | TokenizerChoice::TokenizerJson => None,
        }
    }

    /// What the data room is asked for.
    pub fn spec(&self) -> TokenizerSpec {
        match self.kind {
            TokenizerChoice::Bytes => TokenizerSpec::Bytes,
            TokenizerChoice::Characters => TokenizerSpec::Characters,
            TokenizerChoice::Text8 => TokenizerSpec::Text8,
            TokenizerChoice::Gpt2 => TokenizerSpec::Gpt2,
            TokenizerChoice::Numbers => TokenizerSpec::Numbers { vocab_size: self.vocab_size },
            TokenizerChoice::Bpe => TokenizerSpec::Bpe { vocab_size: self.vocab_size },
            TokenizerChoice::TokenizerJson => {
                TokenizerSpec::TokenizerJson { path: self.path.clone(), end_of_text: None }
            }
        }
    }
}

impl Learnt for TextData {
    fn check(&self, settings: &RunSettings) -> Result<Option<Subject>> {
        match self.valid_paths.as_slice() {
            [] => in_open_unit("data.valid_fraction", self.valid_fraction)?,
            [path, ..] if self.prepared().is_some() => {
                let allowed = "[] with prepared data, which have their own validation text";
                return Err(Error::invalid("data.valid_paths", path.display(), allowed));
            }
            _ => {}
        }
        // Widths do not depend on the vocabulary; two classes stand for an unknown one.
        let vocab_size = tokenizer(settings)?.vocab_size().unwrap_or(2);
        Ok(Some(Subject::Text(TextSubject { vocab_size, ..TextSubject::of(&Tokenizer::bytes()) })))
    }

    fn open(&self, request: &RunRequest, observer: &mut dyn Observer) -> Result<Opened> {
        let settings = &request.settings;
        let data = open_data(self, settings, request, observer)?;
        data.train.verify()?;
        data.valid.as_ref().map_or(Ok(()), |store| store.verify())?;
        let fidelity = data.fidelity();
        let subject = Subject::Text(TextSubject { fidelity, ..TextSubject::of(&data.tokenizer) });
        let architecture = Architecture::new(settings.config(subject), Some(data.tokenizer.clone()))?;
        let layout = self.layout(architecture.config().seq_len());
        let blocks = Blocks::new(data.train.clone(), &data.tokenizer, layout)?;
        if let Some(report) = data.held_out(layout) {
            observer.notify(&Event::HeldOut(report));
        }
        Ok(Opened {
            train_tokens: Some(data.train.tokens()),
            valid_tokens: Some(data.valid.as_ref().map_or(0, |store| store.tokens())),
            batcher: Batcher::new(blocks, settings.train.seed)?,
            held_out: Box::new(HeldOutText::new(&data, layout)?),
            fidelity,
            architecture,
        })
    }
}

/// Text that is held out.
struct HeldOutText(ValidationBlocks);

impl HeldOutText {
    fn new(data: &PreparedData, layout: BlockLayout) -> Result<Self> {
        data.validation(layout)?.map(Self).ok_or_else(|| {
            Error::invalid("data.valid_fraction", 0, "a number in (0, 1): nothing is held out")
        })
    }
}

impl HeldOutData for HeldOutText {
    fn sequences(&self, _: &ModelConfig, count: u64) -> Result<HeldOut> {
        let all = self.0.blocks().len();
        let count = if count == 0 { all } else { count.min(all) };
        let blocks: Vec<_> = (0..count).map(|i| self.0.block(i * all / count)).collect::<Result<_>>()?;
        Ok(HeldOut::of_text(&blocks))
    }

    fn show(&self, _: &ModelConfig, generated: Generated, _: &Path) -> Result<Vec<String>> {
        Ok(generated.texts)
    }
}

/// The tokenizer of a run, which a run on text has.
fn tokenizer(settings: &RunSettings) -> Result<&TokenizerSettings> {
    let tokenizer = settings.tokenizer.as_ref();
    tokenizer.ok_or_else(|| Error::invalid("tokenizer", "nothing", "a section: text is made of tokens"))
}

/// Opens a folder that is prepared already, or prepares the corpus.
fn open_data(
    text: &TextData,
    settings: &RunSettings,
    request: &RunRequest,
    observer: &mut dyn Observer,
) -> Result<PreparedData> {
    if let Some(path) = text.prepared() {
        return PreparedData::open(path);
    }
    let folder = match text.cache.as_os_str() {
        empty if empty.is_empty() => request.out.join("data"),
        cache => PathBuf::from(cache),
    };
    if request.resume && folder.join(DATA_FILE).is_file() {
        // The tokens of the run are there; the corpus may have moved.
        return PreparedData::open(folder);
    }
    // What a run left that was killed before it began is of no use to one with other settings.
    let outdated = if text.cache.as_os_str().is_empty() { Outdated::Rebuild } else { Outdated::Refuse };
    let seq_len = settings.network.seq_len().unwrap_or(0);
    let wanted = text.prepare(tokenizer(settings)?, settings.train.seed, seq_len);
    prepare(&wanted, &folder, outdated, &mut |progress| observer.notify(&Event::Preparing(progress)))
}
