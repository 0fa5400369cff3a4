//! A model as others can read it.

use std::path::Path;

use super::Model;
use super::config::NetworkConfig;
use crate::Result;
use crate::backbone::autoregressive::AutoregressiveConfig;
use crate::backbone::dit::DitConfig;
use crate::backbone::weights::{Init, Parameter};
use crate::durable::{check_free, create_folder};
use crate::ops::frequency;

/// What an exported folder holds besides `config.json`, the tokenizer and the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// `model.safetensors` with the network's parameters.
    Safetensors,
    /// The same with the buffers that the reference network has besides, as its `load_state_dict` needs. Of a model with blocks
    /// it is a folder as BD3-LM is published, with another `config.json`, which has to be imported to be used here.
    Reference,
}

impl Model {
    /// Writes the model into `folder`, which must not exist yet. The weights have the reference's names. Codes that are
    /// shuffled are written as a table, since no other program draws them from the seed.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the folder exists, and for a model with blocks that the reference's class cannot hold;
    /// [`crate::Error::Io`] naming the file.
    pub fn export(&self, folder: &Path, format: ExportFormat) -> Result<()> {
        check_free("to", folder)?;
        let buffer = match format {
            ExportFormat::Safetensors => None,
            ExportFormat::Reference => self.rotary_frequencies(),
        };
        if format == ExportFormat::Reference && self.config().network.block_len() > 0 {
            return self.export_bd3lm(folder, buffer);
        }
        let architecture = self.architecture();
        let Some(frequencies) = buffer else {
            return create_folder(folder, |folder| {
                self.save(folder)?;
                architecture.save_codes(folder)
            });
        };
        let mut parameters = architecture.parameters().to_vec();
        parameters.push(Parameter::new("rotary_emb.inv_freq", &[frequencies.len()], Init::Zeros));
        let mut values = self.weights().to_vec();
        values.push(frequencies);
        create_folder(folder, |folder| {
            architecture.save_with(&parameters, &values, folder)?;
            architecture.save_codes(folder)
        })
    }

    /// The buffer of the reference's transformers: base^(−2k/w) for k = 0..w/2 and heads of width w. The other networks
    /// have none.
    fn rotary_frequencies(&self) -> Option<Vec<f32>> {
        let (NetworkConfig::Diffusion(DitConfig { hidden, heads, .. })
        | NetworkConfig::Autoregressive(AutoregressiveConfig { hidden, heads, .. })) = &self.config().network
        else {
            return None;
        };
        let width = hidden / heads;
        Some((0..width / 2).map(|k| frequency(k, width)).collect())
    }
}
