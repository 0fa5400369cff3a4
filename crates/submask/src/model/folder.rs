//! The model folder: `config.json`, `model.safetensors` and, where there are any, `tokenizer.json` and the
//! permutation of codes, `codes.safetensors`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{CodeChoice, ModelSettings, Network, SampleDefaults, ScheduleSettings, files};
use crate::backbone::LoadedBackbone;
use crate::backbone::autoregressive::LoadedAutoregressive;
use crate::backbone::weights::{Parameter, Weights, arrange};
use crate::data::{Tokenizer, TokenizerKind};
use crate::durable::write_atomically;
use crate::ops::Kernels;
use crate::predictive::Predictive;
use crate::schedule::Schedule;
use crate::subtoken::SubTokenizer;
use crate::train::checkpoint;
use crate::{Error, Result};

/// Name of the file with the configuration.
pub const CONFIG_FILE: &str = "config.json";

/// Name of the file with the (averaged) weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// Name of the file with the permutation of codes, where the model has one of its own.
pub const CODES_FILE: &str = "codes.safetensors";

/// Version of the folder's format that this library writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Version of the format.
    pub format_version: u32,
    /// C.
    pub vocab_size: usize,
    /// How text becomes tokens.
    pub tokenizer: TokenizerKind,
    /// Network and sub-tokens.
    pub model: ModelSettings,
    /// Noise schedule.
    pub schedule: ScheduleSettings,
    /// Default sampling.
    pub sample: SampleDefaults,
}

/// What a model folder is written from.
#[derive(Clone, Copy)]
pub struct ModelParts<'a> {
    /// Its configuration.
    pub config: &'a ModelConfig,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its sub-tokens.
    pub codes: &'a SubTokenizer,
    /// Names and shapes of the weights, in definition order.
    pub parameters: &'a [Parameter],
    /// The weights.
    pub values: &'a [Vec<f32>],
}

impl ModelParts<'_> {
    /// Writes the folder's files into `folder`, which exists.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.tokenizer.save(folder)?;
        if let (CodeChoice::Table, Some(table)) = (self.config.model.codes, self.codes.permutation()) {
            files::write_codes(&folder.join(CODES_FILE), table)?;
        }
        files::write_safetensors(&folder.join(WEIGHTS_FILE), self.parameters, self.values)?;
        self.config.write(folder)
    }
}

/// A model in memory, ready to be evaluated.
pub struct Model {
    /// Its configuration.
    pub config: ModelConfig,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Sub-tokens and the carry-over constraint.
    pub predictive: Arc<Predictive>,
    /// The network without weights.
    pub network: Network,
    /// The averaged weights, in definition order.
    pub values: Vec<Vec<f32>>,
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
        let version: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
        let version = &version["format_version"];
        if version != FORMAT_VERSION {
            let problem = format!("format_version is {version}, this program reads {FORMAT_VERSION}");
            return Err(Error::format(&path, problem));
        }
        let mut config: Self =
            serde_json::from_str(&text).map_err(|error| Error::format(&path, error.to_string()))?;
        if config.model.codes == CodeChoice::Table {
            config.model.codes_path = folder.join(CODES_FILE);
        }
        config.model.validate(Some(config.vocab_size))?;
        config.schedule.schedule().validate()?;
        config.sample.validate()?;
        Ok(config)
    }

    /// Writes `config.json` into `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CONFIG_FILE);
        let mut portable = self.clone();
        portable.model.codes_path = PathBuf::new();
        let text = serde_json::to_string_pretty(&portable)
            .map_err(|error| Error::format(&path, error.to_string()))?;
        write_atomically(&path, text.as_bytes())
    }
}

impl Model {
    /// Puts a model together.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the tokenizer does not fit the configuration, or sizes do not go together.
    pub fn new(
        config: ModelConfig,
        tokenizer: Tokenizer,
        values: Vec<Vec<f32>>,
        kernels: Kernels,
    ) -> Result<Self> {
        if tokenizer.vocab_size() != config.vocab_size {
            return Err(Error::invalid(
                "tokenizer",
                format!("{} tokens", tokenizer.vocab_size()),
                format!(
                    "{} tokens, the model's vocabulary: this tokenizer is not the model's",
                    config.vocab_size
                ),
            ));
        }
        let codes = config.model.codes(config.vocab_size)?;
        let network = Network::new(&config.model, &codes, kernels)?;
        let predictive = Arc::new(Predictive::new(codes, config.model.carry_over));
        Ok(Self { config, tokenizer, predictive, network, values })
    }

    /// Loads a model from a model folder, a run (its newest checkpoint) or a checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file; a checkpoint whose checksums do not match is
    /// refused by name.
    pub fn load(path: &Path, kernels: Kernels) -> Result<Self> {
        let folder = resolve(path)?;
        checkpoint::verify_if_any(&folder)?;
        let config = ModelConfig::read(&folder)?;
        let tokenizer = Tokenizer::load(&config.tokenizer, &folder)?;
        let mut model = Self::new(config, tokenizer, Vec::new(), kernels)?;
        let weights = folder.join(WEIGHTS_FILE);
        model.values = arrange(&model.network.parameters(), files::read_safetensors(&weights)?, &weights)?;
        Ok(model)
    }

    /// Writes the folder's files into `folder`, which exists.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let parts = ModelParts {
            config: &self.config,
            tokenizer: &self.tokenizer,
            codes: self.predictive.codes(),
            parameters: &self.network.parameters(),
            values: &self.values,
        };
        parts.save(folder)
    }

    /// The weights on a device.
    pub fn weights(&self, device: &Device) -> Weights {
        Weights::new(&self.network.parameters(), &self.values, device)
    }

    /// The diffusion network with its weights, for samplers and likelihoods.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the model is autoregressive.
    pub fn denoiser(&self, device: &Device) -> Result<LoadedBackbone> {
        match &self.network {
            Network::Diffusion(network) => {
                Ok(LoadedBackbone { network: network.clone(), weights: self.weights(device) })
            }
            Network::Autoregressive(_) => Err(Error::invalid(
                "model.network",
                "autoregressive",
                "diffusion or encoder: this needs a diffusion model",
            )),
        }
    }

    /// The autoregressive network with its weights.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the model is a diffusion model.
    pub fn autoregressive(&self, device: &Device) -> Result<LoadedAutoregressive> {
        match &self.network {
            Network::Autoregressive(network) => {
                Ok(LoadedAutoregressive { network: (**network).clone(), weights: self.weights(device) })
            }
            Network::Diffusion(_) => Err(Error::invalid(
                "model.network",
                "a diffusion network",
                "autoregressive: this needs an autoregressive model",
            )),
        }
    }

    /// The schedule.
    pub fn schedule(&self) -> Schedule {
        self.config.schedule.schedule()
    }
}

/// The model folder that `path` means: itself, or the newest checkpoint of a run.
///
/// # Errors
/// [`Error::Format`] saying what was looked for.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if path.join(CONFIG_FILE).is_file() {
        return Ok(path.to_path_buf());
    }
    if path.join(checkpoint::FOLDER).is_dir() {
        return checkpoint::newest(path);
    }
    if !path.exists() {
        return Err(Error::format(path, "there is no such model, run or checkpoint"));
    }
    let problem = format!(
        "neither a model folder or checkpoint (it would hold {CONFIG_FILE}) nor a run (it would hold {}/)",
        checkpoint::FOLDER
    );
    Err(Error::format(path, problem))
}
