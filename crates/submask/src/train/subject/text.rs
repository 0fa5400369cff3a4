//! Runs on text: the corpus and the tokenizer.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{HeldOutData, Learnt, Opened};
use crate::data::{
    Batcher, BlockLayout, Blocks, DATA_FILE, FileFormat, Outdated, PrepareSettings, PreparedData, Reading,
    Source, Split, TOKENIZER_FILE, Tokenizer, TokenizerKind, TokenizerSpec, ValidationBlocks, prepare,
};
use crate::model::{Architecture, Generated, HeldOut, ModelConfig, Subject, TextSubject};
use crate::train::event::{DataNote, Event, Observer};
use crate::train::run::RunRequest;
use crate::train::settings::{RunSettings, in_open_unit};
use crate::{Error, Result};

/// A corpus of text and how sequences are cut out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextData {
    /// Files and folders; empty: the built-in dictionary.
    pub paths: Vec<PathBuf>,
    /// Edition of the built-in dictionary, 1 or 2; settings that do not say it are of the first.
    #[serde(default = "first_edition")]
    pub edition: u32,
    /// What in a text file is one document.
    pub split: Split,
    /// The field of JSON, or column of tables and parquet files, that holds the text: `a.b` for a field in another,
    /// `a[]` for the elements of a list, `a[].b` for a field of each.
    pub field: String,
    /// The format of all files; `auto`: as their names say.
    #[serde(default)]
    pub format: FileFormat,
    /// What stands between the texts of a list.
    #[serde(default = "line_end")]
    pub join: String,
    /// A text that divides documents wherever it stands; empty: nothing does.
    #[serde(default)]
    pub separator: String,
    /// Whether records that cannot be read are skipped and counted.
    #[serde(default)]
    pub skip_bad: bool,
    /// Share of the documents that is held out for validation, in (0, 1).
    pub valid_fraction: f64,
    /// Whether a sequence has end of text at both ends (the published packing of OpenWebText).
    pub block_ends: bool,
    /// Where prepared token shards are kept; empty: inside the run folder.
    pub cache: PathBuf,
}

fn first_edition() -> u32 {
    1
}

fn line_end() -> String {
    Reading::default().join
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
    /// The file of `tokenizer-json`, or its folder; no other kind reads it.
    pub path: PathBuf,
    /// The token with which `tokenizer-json` ends a text; empty: what the file and its companions say
    /// ([`Tokenizer::from_file`]). No other kind reads it.
    #[serde(default)]
    pub end_of_text: String,
}

impl TextData {
    /// How sequences of `seq_len` tokens are cut.
    pub fn layout(&self, seq_len: usize) -> BlockLayout {
        BlockLayout { seq_len, block_ends: self.block_ends }
    }

    /// Where documents come from.
    pub fn source(&self) -> Source {
        if self.paths.is_empty() {
            return if self.edition == 1 { Source::FirstDictionary } else { Source::Dictionary };
        }
        let (paths, field) = (self.paths.clone(), self.field.clone());
        Source::Files { paths, split: self.split, field, reading: self.reading() }
    }

    /// How files are read.
    pub fn reading(&self) -> Reading {
        let (join, separator) = (self.join.clone(), self.separator.clone());
        Reading { format: self.format, join, separator, skip_bad: self.skip_bad }
    }

    /// What the data room is asked for, with a seed of the choice of held-out documents.
    pub fn prepare(&self, tokenizer: &TokenizerSettings, seed: u64) -> PrepareSettings {
        PrepareSettings {
            valid_fraction: self.valid_fraction,
            seed,
            ..PrepareSettings::new(self.source(), tokenizer.spec())
        }
    }
}

impl TokenizerSettings {
    /// Those that ask for the tokenizer of the model in `folder`. The alphabet of `characters` is not among them:
    /// the corpus gives it.
    pub fn of(kind: &TokenizerKind, folder: &Path) -> Self {
        let nothing = |kind| Self { kind, vocab_size: 0, path: PathBuf::new(), end_of_text: String::new() };
        match kind {
            TokenizerKind::Bytes => nothing(TokenizerChoice::Bytes),
            TokenizerKind::Characters { .. } => nothing(TokenizerChoice::Characters),
            TokenizerKind::Text8 => nothing(TokenizerChoice::Text8),
            TokenizerKind::Gpt2 => nothing(TokenizerChoice::Gpt2),
            TokenizerKind::Numbers { vocab_size } => {
                Self { vocab_size: *vocab_size, ..nothing(TokenizerChoice::Numbers) }
            }
            TokenizerKind::TokenizerJson { end_of_text } => Self {
                path: folder.join(TOKENIZER_FILE),
                end_of_text: end_of_text.clone().unwrap_or_default(),
                ..nothing(TokenizerChoice::TokenizerJson)
            },
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
                let end_of_text = Some(self.end_of_text.clone()).filter(|name| !name.is_empty());
                TokenizerSpec::TokenizerJson { path: self.path.clone(), end_of_text }
            }
        }
    }

    /// Refuses an end of text that is given to a tokenizer that has its own, or none.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key.
    fn check(&self) -> Result<()> {
        if self.end_of_text.is_empty() || self.kind == TokenizerChoice::TokenizerJson {
            return Ok(());
        }
        let given = format!("{:?}", self.end_of_text);
        Err(Error::invalid(
            "tokenizer.end_of_text",
            given,
            "nothing: only tokenizer.kind = tokenizer-json reads it",
        ))
    }
}

impl Learnt for TextData {
    fn check(&self, settings: &RunSettings) -> Result<Option<Subject>> {
        in_open_unit("data.valid_fraction", self.valid_fraction)?;
        if !(1..=2).contains(&self.edition) {
            return Err(Error::invalid(
                "data.edition",
                self.edition,
                "1 or 2, the editions of the built-in dictionary",
            ));
        }
        // Widths do not depend on the vocabulary; two classes stand for an unknown one.
        tokenizer(settings)?.check()?;
        let vocab_size = tokenizer(settings)?.vocab_size().unwrap_or(2);
        Ok(Some(Subject::Text(TextSubject { vocab_size, ..TextSubject::of(&Tokenizer::bytes()) })))
    }

    fn open(&self, request: &RunRequest, observer: &mut dyn Observer) -> Result<Opened> {
        let settings = &request.settings;
        let data = open_data(self, settings, request, observer)?;
        if data.runs_together() {
            observer.notify(&Event::Data(DataNote::NoEndOfText));
        }
        data.train.verify()?;
        data.valid.as_ref().map_or(Ok(()), |store| store.verify())?;
        if !data.info.corpus.is_empty() {
            observer.notify(&Event::Data(DataNote::Corpus(data.info.corpus.clone())));
        }
        let fidelity = data.fidelity();
        let subject = Subject::Text(TextSubject { fidelity, ..TextSubject::of(&data.tokenizer) });
        let architecture = Architecture::new(settings.config(subject), Some(data.tokenizer.clone()))?;
        let layout = self.layout(architecture.config().seq_len());
        let blocks = Blocks::new(data.train.clone(), &data.tokenizer, layout)?;
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
    if let [path] = text.paths.as_slice()
        && path.join(DATA_FILE).is_file()
    {
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
    prepare(&text.prepare(tokenizer(settings)?, settings.train.seed), &folder, outdated, &mut |progress| {
        observer.notify(&Event::Preparing(progress));
    })
}
