//! What determines a model, as it stands in `config.json`: what its tokens mean, its network, its sub-tokens, its
//! noise schedule, and how it is sampled by default.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::network::Network;
use super::subject::Subject;
use super::{format_1, keys, read_codes};
use crate::backbone::Embedding;
use crate::backbone::autoregressive::AutoregressiveConfig;
use crate::backbone::dit::DitConfig;
use crate::backbone::encoder::EncoderConfig;
use crate::durable::{lfs_pointer, write_atomically};
use crate::ops::Kernels;
use crate::sampler::{EntropyRule, Sampling, Window};
use crate::schedule::Schedule;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// Name of the file with the configuration.
pub const CONFIG_FILE: &str = "config.json";

/// Name of the file with the permutation of codes, where the model has one of its own.
pub const CODES_FILE: &str = "codes.safetensors";

/// Version of the folder's format that this library writes. It reads version 1, too.
pub const FORMAT_VERSION: u32 = 2;

/// `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Version of the format.
    pub format_version: u32,
    /// What the tokens of a sequence mean.
    pub subject: Subject,
    /// The network and its sizes.
    #[serde(rename = "model")]
    pub network: NetworkConfig,
    /// How tokens become sub-tokens.
    pub codes: CodeSettings,
    /// Noise schedule.
    pub schedule: Schedule,
    /// How samples are drawn by default.
    pub sample: Sampling,
}

/// Which network, with the sizes that it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "network", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NetworkConfig {
    /// The diffusion transformer.
    Diffusion(DitConfig),
    /// The LLaMA-style encoder, a diffusion network too.
    Encoder(EncoderConfig),
    /// The autoregressive baseline.
    Autoregressive(AutoregressiveConfig),
    /// The U-Net, for images.
    Unet(UnetSettings),
    /// The toy network, for points.
    Toy(ToySettings),
}

/// Sizes of the U-Net that do not follow from its images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetSettings {
    /// Whether the network reads the class of an image.
    pub class_conditional: bool,
    /// Base width m, in channels.
    pub model_channels: usize,
    /// Channels of every level over m.
    pub channel_mult: Vec<usize>,
    /// Residual blocks per level r.
    pub res_blocks: usize,
    /// Factors of the levels with attention.
    pub attention_resolutions: Vec<usize>,
    /// Channels of an attention head.
    pub head_channels: usize,
    /// Dropout while training, in [0, 1).
    pub dropout: f64,
}

/// Sizes of the toy network that do not follow from its points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToySettings {
    /// Width w of a digit's embedding and of the hidden layers.
    pub hidden: usize,
    /// Dropout while training, in [0, 1).
    pub dropout: f64,
}

/// How tokens become sub-tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeSettings {
    /// Sub-tokens per token ℓ.
    pub subtokens: usize,
    /// Whether tokens that contradict a visible digit are excluded (math.md §3).
    pub carry_over: bool,
    /// Which code a token gets before it is cut into digits.
    pub assignment: Assignment,
}

/// Which code a token gets before it is cut into digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Assignment {
    /// Its own number.
    #[default]
    Plain,
    /// That of a random permutation of all codes.
    Shuffled {
        /// Seed of the permutation.
        seed: u64,
    },
    /// That of a permutation of all codes in a file.
    Table {
        /// Safetensors with `permutation` \[b^ℓ\], 64-bit integers. A model folder does not record it: there it is
        /// [`CODES_FILE`].
        #[serde(default)]
        path: PathBuf,
    },
}

/// Most tokens of a sequence that is written block by block: its sub-tokens are held in memory, and their draws are numbered.
const MAX_TOKENS: usize = 1 << 20;

impl NetworkConfig {
    /// Its name in settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Diffusion(_) => "diffusion",
            Self::Encoder(_) => "encoder",
            Self::Autoregressive(_) => "autoregressive",
            Self::Unet(_) => "unet",
            Self::Toy(_) => "toy",
        }
    }

    /// A network of moderate size by its name in settings.
    pub fn named(name: &str) -> Option<Self> {
        let (hidden, heads, blocks, seq_len, dropout) = (256, 4, 4, 128, 0.0);
        Some(match name {
            "diffusion" => Self::Diffusion(DitConfig {
                block_len: 0,
                hidden,
                heads,
                blocks,
                cond_dim: 128,
                seq_len,
                dropout,
                embedding: Embedding::Concatenated,
                time_conditioning: false,
            }),
            "encoder" => Self::Encoder(EncoderConfig {
                block_len: 0,
                hidden,
                heads,
                query_groups: 0,
                blocks,
                intermediate: 0,
                seq_len,
                dropout,
                embedding: Embedding::PerDigitSummed,
            }),
            "autoregressive" => {
                Self::Autoregressive(AutoregressiveConfig { hidden, heads, blocks, seq_len, dropout })
            }
            "unet" => Self::Unet(UnetSettings {
                class_conditional: false,
                model_channels: 48,
                channel_mult: vec![2, 2, 2],
                res_blocks: 1,
                attention_resolutions: vec![4],
                head_channels: 32,
                dropout,
            }),
            "toy" => Self::Toy(ToySettings { hidden, dropout }),
            _ => return None,
        })
    }

    /// The longest sequence L in tokens, where the network says it and not its subject.
    pub fn seq_len(&self) -> Option<usize> {
        match self {
            Self::Diffusion(DitConfig { seq_len, .. })
            | Self::Encoder(EncoderConfig { seq_len, .. })
            | Self::Autoregressive(AutoregressiveConfig { seq_len, .. }) => Some(*seq_len),
            Self::Unet(_) | Self::Toy(_) => None,
        }
    }

    /// Tokens per block of block diffusion; 0 where the network has no blocks.
    pub fn block_len(&self) -> usize {
        match self {
            Self::Diffusion(DitConfig { block_len, .. }) | Self::Encoder(EncoderConfig { block_len, .. }) => {
                *block_len
            }
            Self::Autoregressive(_) | Self::Unet(_) | Self::Toy(_) => 0,
        }
    }

    /// Dropout while training, in [0, 1).
    pub fn dropout(&self) -> f64 {
        match self {
            Self::Diffusion(DitConfig { dropout, .. })
            | Self::Encoder(EncoderConfig { dropout, .. })
            | Self::Autoregressive(AutoregressiveConfig { dropout, .. })
            | Self::Unet(UnetSettings { dropout, .. })
            | Self::Toy(ToySettings { dropout, .. }) => *dropout,
        }
    }

    /// Whether the network reads the class of a sequence.
    pub fn class_conditional(&self) -> bool {
        matches!(self, Self::Unet(UnetSettings { class_conditional: true, .. }))
    }
}

impl CodeSettings {
    /// Plain codes of ℓ sub-tokens.
    pub fn plain(subtokens: usize, carry_over: bool) -> Self {
        Self { subtokens, carry_over, assignment: Assignment::Plain }
    }

    /// The sub-tokenizer for a vocabulary of C tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] for ℓ = 0, as [`SubTokenizer::new`] and [`SubTokenizer::with_permutation`], and of the file of
    /// a table.
    pub fn codes(&self, vocab_size: usize) -> Result<SubTokenizer> {
        self.validate()?;
        let codes = self.plain_codes(vocab_size)?;
        let codes = match &self.assignment {
            Assignment::Plain => Ok(codes),
            Assignment::Shuffled { seed } => codes.with_seeded_permutation(*seed),
            Assignment::Table { path } => codes.with_permutation(&read_codes(path)?),
        };
        codes.map_err(|error| error.rename_field(|_| "codes.assignment".to_owned()))
    }

    /// The sub-tokenizer as far as sizes go: which code a token has does not matter.
    fn plain_codes(&self, vocab_size: usize) -> Result<SubTokenizer> {
        let named = |field: &str| match field {
            "subtoken_len" => "codes.subtokens".to_owned(),
            other => other.to_owned(),
        };
        SubTokenizer::new(vocab_size, self.subtokens).map_err(|error| error.rename_field(named))
    }

    /// Checks what can be checked without a vocabulary.
    ///
    /// # Errors
    /// [`Error::Invalid`] for ℓ = 0.
    pub fn validate(&self) -> Result<()> {
        match self.subtokens {
            0 => Err(Error::invalid("codes.subtokens", 0, "at least 1")),
            _ => Ok(()),
        }
    }
}

impl ModelConfig {
    /// Whether `folder` holds a `config.json` of this program, of whatever version.
    pub fn is_in(folder: &Path) -> bool {
        let text = fs::read_to_string(folder.join(CONFIG_FILE)).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        json.get("format_version").is_some()
    }

    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file and what is wrong.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG_FILE);
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let of_file = |error: serde_json::Error| Error::format(&path, error.to_string());
        let mut json: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
            Error::format(&path, lfs_pointer(text.as_bytes()).unwrap_or_else(|| error.to_string()))
        })?;
        let version = &json["format_version"];
        if *version == format_1::VERSION {
            json = format_1::config(json).map_err(|problem| Error::format(&path, problem))?;
        } else if version.is_null() {
            let problem = "no configuration of a model of this program, which has a format_version: one of another program \
                           has to be imported first";
            return Err(Error::format(&path, problem));
        } else if *version != FORMAT_VERSION {
            let problem = format!("format_version is {version}, this program reads 1 and {FORMAT_VERSION}");
            return Err(Error::format(&path, problem));
        }
        let mut config: Self = serde_json::from_value(json.clone()).map_err(of_file)?;
        let known = serde_json::to_value(&config).map_err(of_file)?;
        keys::refuse_unread(&json, &known).map_err(|problem| Error::format(&path, problem))?;
        if let Assignment::Table { path } = &mut config.codes.assignment {
            *path = folder.join(CODES_FILE);
        }
        config.validate()?;
        Ok(config)
    }

    /// Writes `config.json` into `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CONFIG_FILE);
        let mut portable = Self { format_version: FORMAT_VERSION, ..self.clone() };
        if let Assignment::Table { path } = &mut portable.codes.assignment {
            *path = PathBuf::new();
        }
        let text = serde_json::to_string_pretty(&portable)
            .map_err(|error| Error::format(&path, error.to_string()))?;
        write_atomically(&path, text.as_bytes())
    }

    /// Checks that everything goes together.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.schedule.validate()?;
        self.sample.validate()?;
        self.subject.validate()?;
        self.codes.validate()?;
        if self.network.block_len() == 0 && self.sample.window != Window::Cached {
            let allowed = "\"cached\" where the network has no blocks (model.block_len)";
            return Err(Error::invalid("sample.window", "\"recomputed\"", allowed));
        }
        if let Some(rule) = self.sample.entropy_rule()? {
            let checked = match self.network.block_len() {
                0 => Err(EntropyRule::without_blocks(rule.least)),
                _ => rule.check_values(self.vocab_size(), "vocab_size"),
            };
            checked.map_err(|error| error.rename_field(|field| format!("sample.{field}")))?;
        }
        let dropout = self.network.dropout();
        if !(0.0..1.0).contains(&dropout) {
            return Err(Error::invalid("model.dropout", dropout, "a number in [0, 1)"));
        }
        let codes = self.codes.plain_codes(self.vocab_size())?;
        Network::new(self, &codes, Kernels::PLAIN).map(|_| ())
    }

    /// Number of token classes C.
    pub fn vocab_size(&self) -> usize {
        self.subject.vocab_size()
    }

    /// Tokens per sequence L: of text the longest sequence.
    pub fn seq_len(&self) -> usize {
        self.network.seq_len().or(self.subject.seq_len()).unwrap_or(0)
    }

    /// The most tokens of a sequence that the model can write: its length, and, where it writes block by block, as many as a
    /// sampler takes.
    pub fn longest_text(&self) -> usize {
        if self.network.block_len() > 0 { MAX_TOKENS } else { self.seq_len() }
    }

    /// Whether the model was trained on pairs: a prompt that is given and its completion, with ends of text up to the model's
    /// length.
    pub fn pairs(&self) -> bool {
        self.subject.text().is_some_and(|text| text.pairs)
    }

    /// Number of classes that the network reads, if it does.
    pub fn classes(&self) -> Option<usize> {
        self.network.class_conditional().then(|| self.subject.class_names().len())
    }

    /// The sub-tokenizer.
    ///
    /// # Errors
    /// As [`CodeSettings::codes`].
    pub fn sub_tokenizer(&self) -> Result<SubTokenizer> {
        self.codes.codes(self.vocab_size())
    }
}
