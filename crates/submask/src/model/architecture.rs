//! A model without its weights: configuration, tokenizer and codes, and which weights the network has.

use std::path::Path;

use super::config::{Assignment, CODES_FILE, ModelConfig};
use super::files::write_codes;
use super::network::Network;
use super::{WEIGHTS_FILE, write_safetensors};
use crate::backbone::weights::Parameter;
use crate::data::Tokenizer;
use crate::data::hash::Fingerprint;
use crate::ops::Kernels;
use crate::predictive::Predictive;
use crate::schedule::Schedule;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

use std::sync::{Arc, OnceLock};

/// A model without its weights.
#[derive(Debug)]
pub struct Architecture {
    config: ModelConfig,
    tokenizer: Option<Tokenizer>,
    predictive: Arc<Predictive>,
    /// The same codes with the opposite constraint, once it has been asked for.
    other_predictive: OnceLock<Predictive>,
    parameters: Vec<Parameter>,
}

impl Architecture {
    /// Puts an architecture together; models of text have a tokenizer, others none.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the tokenizer does not fit the configuration, or sizes do not go together.
    pub fn new(config: ModelConfig, tokenizer: Option<Tokenizer>) -> Result<Self> {
        let codes = config.sub_tokenizer()?;
        Self::with_codes(config, tokenizer, codes)
    }

    /// The same with the codes of the configuration, made already.
    pub(crate) fn with_codes(
        config: ModelConfig,
        tokenizer: Option<Tokenizer>,
        codes: SubTokenizer,
    ) -> Result<Self> {
        let wanted = config.subject.text().map(|text| text.vocab_size);
        let given = tokenizer.as_ref().map(Tokenizer::vocab_size);
        if given != wanted {
            let size =
                |count: Option<usize>| count.map_or("none".to_owned(), |count| format!("{count} tokens"));
            let allowed =
                format!("{}, the model's vocabulary: this tokenizer is not the model's", size(wanted));
            return Err(Error::invalid("tokenizer", size(given), allowed));
        }
        let parameters = Network::new(&config, &codes, Kernels::PLAIN)?.parameters().to_vec();
        let predictive = Arc::new(Predictive::new(codes, config.codes.carry_over));
        Ok(Self { config, tokenizer, predictive, other_predictive: OnceLock::new(), parameters })
    }

    /// Reads the architecture of the model in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file.
    pub fn read(folder: &Path) -> Result<Self> {
        let config = ModelConfig::read(folder)?;
        let tokenizer =
            config.subject.text().map(|text| Tokenizer::load(&text.tokenizer, folder)).transpose()?;
        Self::new(config, tokenizer)
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The tokenizer of a model of text.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Sub-tokens and the carry-over constraint.
    pub fn predictive(&self) -> &Arc<Predictive> {
        &self.predictive
    }

    /// Sub-tokens, and the carry-over constraint as asked for: with `None` as the model has it.
    pub(super) fn predictive_with(&self, carry_over: Option<bool>) -> &Predictive {
        match carry_over {
            Some(carry_over) if carry_over != self.predictive.carry_over() => self
                .other_predictive
                .get_or_init(|| Predictive::new(self.predictive.codes().clone(), carry_over)),
            _ => &self.predictive,
        }
    }

    /// Names and shapes of the weights, in definition order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The noise schedule.
    pub fn schedule(&self) -> Schedule {
        self.config.schedule
    }

    /// A hash of the configuration, the tokenizer and the codes.
    ///
    /// # Errors
    /// [`Error::Internal`] for a configuration that is no JSON.
    pub fn fingerprint(&self) -> Result<u64> {
        let config = serde_json::to_vec(&self.config).map_err(Error::internal("a configuration is JSON"))?;
        let tokenizer = self.tokenizer.as_ref().map_or(0, Tokenizer::fingerprint);
        let codes = self.predictive.codes().permutation().unwrap_or_default();
        let codes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        Ok(Fingerprint::new().part(&config).part(&tokenizer.to_le_bytes()).part(&codes).value())
    }

    /// The network, for some operations.
    ///
    /// # Errors
    /// As [`Network::new`].
    #[doc(hidden)]
    pub fn network(&self, kernels: Kernels) -> Result<Network> {
        Network::new(&self.config, self.predictive.codes(), kernels)
    }

    /// Writes the files of a model folder into `folder`, which exists: with the weights `values`, in definition order.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, values: &[Vec<f32>], folder: &Path) -> Result<()> {
        self.save_with(&self.parameters, values, folder)
    }

    /// The same with more tensors than the network has weights.
    pub(super) fn save_with(
        &self,
        parameters: &[Parameter],
        values: &[Vec<f32>],
        folder: &Path,
    ) -> Result<()> {
        if let Some(tokenizer) = &self.tokenizer {
            tokenizer.save(folder)?;
        }
        if matches!(self.config.codes.assignment, Assignment::Table { .. }) {
            self.save_codes(folder)?;
        }
        write_safetensors(&folder.join(WEIGHTS_FILE), parameters, values)?;
        self.config.write(folder)
    }

    /// Writes the code of every token into `folder`, where it is not the token's own number.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub(super) fn save_codes(&self, folder: &Path) -> Result<()> {
        let table = self.predictive.codes().permutation();
        table.map_or(Ok(()), |table| write_codes(&folder.join(CODES_FILE), table))
    }
}
