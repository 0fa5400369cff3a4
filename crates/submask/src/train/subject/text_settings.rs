//! Settings of runs on text: the corpus and the tokenizer.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{
    BlockLayout, DATA_FILE, DataInfo, FileFormat, PairSource, PrepareSettings, Reading, Source, Split,
    TOKENIZER_FILE, TokenizerKind, TokenizerSpec, ValidRule,
};
use crate::{Error, Result};

/// A corpus of text and how sequences are cut out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextData {
    /// Files and folders; empty: the built-in dictionary.
    pub paths: Vec<PathBuf>,
    /// Edition of the built-in dictionary, 1 to 3: the third has a hundred entries of the second to a document. Settings that do not say it are of the first.
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
    /// Share of the corpus that is held out for validation, in (0, 1), where `valid_paths` is empty.
    pub valid_fraction: f64,
    /// How documents are chosen for it. Settings of runs from before there was a choice name none.
    #[serde(default)]
    pub valid_rule: ValidRule,
    /// Files and folders of text for validation; empty: a part of `paths`.
    #[serde(default)]
    pub valid_paths: Vec<PathBuf>,
    /// The field or column of prompts, where the corpus is one of pairs: see [`PairSource`]. Empty: text.
    #[serde(default)]
    pub prompt_field: String,
    /// The field or column of completions; given where `prompt_field` is.
    #[serde(default)]
    pub completion_field: String,
    /// Whether completions of pairs that are too long are cut: see [`PairLayout::truncate`](crate::data::PairLayout::truncate).
    #[serde(default)]
    pub truncate: bool,
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
    /// ([`Tokenizer::from_file`](crate::data::Tokenizer::from_file)). No other kind reads it.
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
            return match self.edition {
                1 => Source::FirstDictionary,
                3 => Source::DictionaryPages,
                _ => Source::Dictionary,
            };
        }
        self.source_of(&self.paths)
    }

    /// How files are read.
    pub fn reading(&self) -> Reading {
        let (join, separator) = (self.join.clone(), self.separator.clone());
        Reading { format: self.format, join, separator, skip_bad: self.skip_bad }
    }

    /// Where held-out documents come from, if not from the same files.
    pub fn valid_source(&self) -> Option<Source> {
        (!self.valid_paths.is_empty()).then(|| self.source_of(&self.valid_paths))
    }

    /// Documents of other files, found in them as in the corpus.
    fn source_of(&self, paths: &[PathBuf]) -> Source {
        if let Some(source) = self.pairs_in(paths) {
            return Source::Pairs(source);
        }
        let (paths, field) = (paths.to_vec(), self.field.clone());
        Source::Files { paths, split: self.split, field, reading: self.reading() }
    }

    /// Whether the corpus is one of pairs.
    pub fn has_pairs(&self) -> bool {
        !self.prompt_field.is_empty()
    }

    /// Pairs of other files, found in them as in the corpus; `None` where it is text.
    pub fn pairs_in(&self, paths: &[PathBuf]) -> Option<PairSource> {
        self.has_pairs().then(|| PairSource {
            paths: paths.to_vec(),
            prompt_field: self.prompt_field.clone(),
            completion_field: self.completion_field.clone(),
            reading: self.reading(),
        })
    }

    /// Checks the keys of pairs.
    pub(super) fn check_pairs(&self) -> Result<()> {
        let fields = [
            ("data.prompt_field", &self.prompt_field, "data.completion_field"),
            ("data.completion_field", &self.completion_field, "data.prompt_field"),
        ];
        if !self.has_pairs() && self.completion_field.is_empty() {
            return match self.truncate && self.prepared().is_none() {
                true => Err(Error::invalid(
                    "data.truncate",
                    true,
                    "false without data.prompt_field: only pairs are cut",
                )),
                false => Ok(()),
            };
        }
        if let Some((key, value, other)) = fields.into_iter().find(|(_, value, _)| value.is_empty()) {
            return Err(Error::invalid(
                key,
                format!("{value:?}"),
                format!("a field, since {other} is given"),
            ));
        }
        if self.paths.is_empty() {
            let allowed = "\"\" with the built-in dictionary, which is text: give files of pairs";
            return Err(Error::invalid("data.prompt_field", format!("{:?}", self.prompt_field), allowed));
        }
        if self.block_ends {
            return Err(Error::invalid("data.block_ends", true, "false with pairs, which are not packed"));
        }
        self.reading().check_pairs()?;
        match self.valid_rule == ValidRule::Share && self.valid_paths.is_empty() {
            true => Err(Error::invalid("data.valid_rule", "share", "documents: pairs are held out whole")),
            false => Ok(()),
        }
    }

    /// What the data room is asked for, with a seed of the choice of held-out documents, for sequences of `seq_len`
    /// tokens.
    pub fn prepare(&self, tokenizer: &TokenizerSettings, seed: u64, seq_len: usize) -> PrepareSettings {
        let is_first = self.valid_rule == ValidRule::Share;
        PrepareSettings {
            valid_fraction: self.valid_fraction,
            valid_rule: self.valid_rule,
            seq_len: if is_first && !self.has_pairs() { 0 } else { seq_len },
            valid_source: self.valid_source(),
            truncate: self.truncate,
            seed,
            ..PrepareSettings::new(self.source(), tokenizer.spec())
        }
    }

    /// The same, read as data were prepared: what says how files are read is theirs. The built-in dictionary is not read from
    /// files, and leaves it as it is.
    pub fn as_prepared(&self, prepared: &PrepareSettings) -> Self {
        let mut data = Self { truncate: prepared.truncate, ..self.clone() };
        (data.prompt_field, data.completion_field) = Default::default();
        match &prepared.source {
            Source::Files { split, field, .. } => (data.split, data.field) = (*split, field.clone()),
            Source::Pairs(pairs) => {
                data.prompt_field.clone_from(&pairs.prompt_field);
                data.completion_field.clone_from(&pairs.completion_field);
            }
            Source::Dictionary | Source::DictionaryPages | Source::FirstDictionary => {}
        }
        if let Some(Reading { format, join, separator, skip_bad }) = prepared.reading().cloned() {
            (data.format, data.join, data.separator, data.skip_bad) = (format, join, separator, skip_bad);
        }
        data
    }

    /// Refuses settings that say how files are read where none are: beside prepared data, unless they were prepared so, and
    /// beside the built-in dictionary. Runs that go on keep settings that were not refused before.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key; as [`DataInfo::read`].
    pub fn check_unread(&self) -> Result<()> {
        let usual = Reading::default();
        match self.prepared() {
            Some(folder) => {
                let prepared = DataInfo::read(folder)?.settings;
                let so = prepared.reading().cloned().unwrap_or_default();
                let why = format!("with the prepared data in {}, which are not read again", folder.display());
                self.check_reading(&so, &why)?;
                self.check_fields(&prepared, &why)
            }
            None if self.paths.is_empty() && self.valid_paths.is_empty() => {
                self.check_reading(&usual, "with the built-in dictionary, which is in no file")
            }
            None => Ok(()),
        }
    }

    /// That files are read in the usual way or in another, and the usual way is the only one that need not be named.
    fn check_reading(&self, so: &Reading, why: &str) -> Result<()> {
        let (own, usual) = (self.reading(), Reading::default());
        let format = |reading: &Reading| format!("{:?}", reading.format).to_lowercase();
        let text = |text: &String| format!("{text:?}");
        let keys = [
            ("data.format", format(&own), format(&usual), format(so)),
            ("data.join", text(&own.join), text(&usual.join), text(&so.join)),
            ("data.separator", text(&own.separator), text(&usual.separator), text(&so.separator)),
            ("data.skip_bad", own.skip_bad.to_string(), usual.skip_bad.to_string(), so.skip_bad.to_string()),
        ];
        keys.into_iter().try_for_each(|key| unread(key, why))
    }

    /// That fields of pairs are not named, or are those that data were prepared with.
    fn check_fields(&self, prepared: &PrepareSettings, why: &str) -> Result<()> {
        let none = String::new();
        let fields = prepared.source.pairs();
        let prompt = fields.map_or(&none, |pairs| &pairs.prompt_field);
        let completion = fields.map_or(&none, |pairs| &pairs.completion_field);
        let text = |text: &String| format!("{text:?}");
        let keys = [
            ("data.prompt_field", text(&self.prompt_field), text(&none), text(prompt)),
            ("data.completion_field", text(&self.completion_field), text(&none), text(completion)),
            ("data.truncate", self.truncate.to_string(), false.to_string(), prepared.truncate.to_string()),
        ];
        keys.into_iter().try_for_each(|key| unread(key, why))
    }

    /// The folder of prepared data that is trained on, if that is what `paths` names.
    pub fn prepared(&self) -> Option<&Path> {
        match self.paths.as_slice() {
            [path] if path.join(DATA_FILE).is_file() => Some(path),
            _ => None,
        }
    }
}

/// Refuses a key that is neither its usual value nor that of prepared data: all are as they are shown.
fn unread((key, own, usual, so): (&'static str, String, String, String), why: &str) -> Result<()> {
    if own == usual || own == so {
        return Ok(());
    }
    let allowed = if usual == so { usual } else { format!("{usual} or {so}") };
    Err(Error::invalid(key, own, format!("{allowed} {why}")))
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
    pub(super) fn check(&self) -> Result<()> {
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
