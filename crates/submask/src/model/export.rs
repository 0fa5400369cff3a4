//! A model as others can read it.

use std::path::Path;

use super::{Model, ModelParts, NetworkChoice};
use crate::Result;
use crate::backbone::weights::{Init, Parameter};
use crate::durable::{check_free, create_folder};
use crate::ops::frequency;

/// What an exported folder holds besides `config.json`, the tokenizer and the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// `model.safetensors` with the network's parameters.
    Safetensors,
    /// The same with the buffers that the reference network has besides, as its `load_state_dict` needs.
    Reference,
}

impl Model {
    /// Writes the model into `folder`, which must not exist yet. The weights have the reference's names.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the folder exists, [`crate::Error::Io`] naming the file.
    pub fn export(&self, folder: &Path, format: ExportFormat) -> Result<()> {
        check_free("--to", folder)?;
        let mut parameters = self.network.parameters();
        let buffer = match format {
            ExportFormat::Safetensors => None,
            ExportFormat::Reference => self.rotary_frequencies(),
        };
        let Some(frequencies) = buffer else { return create_folder(folder, |folder| self.save(folder)) };
        parameters.push(Parameter::new("rotary_emb.inv_freq", &[frequencies.len()], Init::Zeros));
        let mut values = self.values.clone();
        values.push(frequencies);
        let parts = ModelParts {
            config: &self.config,
            tokenizer: &self.tokenizer,
            codes: self.predictive.codes(),
            parameters: &parameters,
            values: &values,
        };
        create_folder(folder, |folder| parts.save(folder))
    }

    /// The buffer of the reference's transformers: base^(−2k/w) for k = 0..w/2 and heads of width w.
    fn rotary_frequencies(&self) -> Option<Vec<f32>> {
        let model = &self.config.model;
        if model.network == NetworkChoice::Encoder {
            return None;
        }
        let width = model.hidden / model.heads;
        Some((0..width / 2).map(|k| frequency(k, width)).collect())
    }
}
