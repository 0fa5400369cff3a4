//! A model with blocks as BD3-LM is published: `config.json` of its class and weights under its names.

use std::path::Path;

use serde_json::json;

use super::config::{Assignment, CONFIG_FILE, NetworkConfig};
use super::files::write_pytorch_safetensors;
use super::{Model, WEIGHTS_FILE};
use crate::backbone::Embedding;
use crate::backbone::dit::DitConfig;
use crate::backbone::weights::{Init, Parameter};
use crate::durable::{create_folder, write_atomically};
use crate::{Error, Result};

/// What stands before the network's names in the class.
const PREFIX: &str = "backbone.";

/// The noise levels that the published configurations name. They are of no use but in training, and no part of a model here.
const NOISE_LEVELS: [(&str, f64); 2] = [("sampling_eps_min", 0.001), ("sampling_eps_max", 0.999)];

impl Model {
    /// Writes a model with blocks into `folder`, which does not exist yet: its weights, the buffer `frequencies` and the two
    /// scalars of the class, its configuration, and the tokenizer where that is a file.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming what the class does not hold, [`Error::Io`] naming the file.
    pub(super) fn export_bd3lm(&self, folder: &Path, frequencies: Option<Vec<f32>>) -> Result<()> {
        let config = self.bd3lm_config()?;
        let prefixed = |one: &Parameter| Parameter { name: format!("{PREFIX}{}", one.name), ..one.clone() };
        let mut parameters: Vec<Parameter> = self.architecture().parameters().iter().map(prefixed).collect();
        let mut values = self.weights().to_vec();
        if let Some(frequencies) = frequencies {
            let name = format!("{PREFIX}rotary_emb.inv_freq");
            parameters.push(Parameter::new(name, &[frequencies.len()], Init::Zeros));
            values.push(frequencies);
        }
        for (name, level) in NOISE_LEVELS {
            parameters.push(Parameter::new(name, &[], Init::Zeros));
            values.push(vec![level as f32]);
        }
        create_folder(folder, |folder| {
            if let Some(tokenizer) = self.architecture().tokenizer() {
                tokenizer.save(folder)?;
            }
            write_pytorch_safetensors(&folder.join(WEIGHTS_FILE), &parameters, &values)?;
            write_atomically(&folder.join(CONFIG_FILE), format!("{config:#}\n").as_bytes())
        })
    }

    /// `config.json` of the class.
    fn bd3lm_config(&self) -> Result<serde_json::Value> {
        let config = self.config();
        let NetworkConfig::Diffusion(sizes) = &config.network else {
            let allowed = "diffusion: the reference's class BD3LM, to which models with blocks are exported, has no other network";
            return Err(Error::invalid("model.network", config.network.name(), allowed));
        };
        let refused = |key: &str, given: String, allowed: &str| {
            let allowed =
                format!("{allowed} in the reference's class BD3LM, to which models with blocks are exported");
            Err(Error::invalid(key, given, allowed))
        };
        let codes = &config.codes;
        if codes.subtokens != 1 {
            return refused("codes.subtokens", codes.subtokens.to_string(), "1, whole tokens,");
        }
        if !codes.carry_over {
            return refused("codes.carry_over", "false".to_owned(), "true");
        }
        if codes.assignment != Assignment::Plain {
            return refused("codes.assignment", "given".to_owned(), "plain");
        }
        if sizes.embedding != Embedding::Concatenated {
            return refused("model.embedding", "per digit".to_owned(), "concatenated");
        }
        let DitConfig { hidden, heads, blocks, cond_dim, seq_len, dropout, block_len, .. } = *sizes;
        let mut published = json!({
            "_name_or_path": "",
            "adaln": true,
            "architectures": ["BD3LM"],
            "attn_backend": "sdpa",
            "auto_map": {
                "AutoConfig": "configuration_bd3lm.BD3LMConfig",
                "AutoModelForMaskedLM": "modeling_bd3lm.BD3LM",
            },
            "block_size": block_len,
            "causal": false,
            "cond_dim": cond_dim,
            "cross_attn": true,
            "dropout": dropout,
            "hidden_dim": hidden,
            "model_length": seq_len,
            "model_type": "bd3lm",
            "n_blocks": blocks,
            "n_heads": heads,
            "return_dict": false,
            "time_conditioning": false,
            "torch_dtype": "float32",
            "transformers_version": "4.49.0",
            "var_min": true,
            // With the mask, the last class.
            "vocab_size": config.vocab_size() + 1,
        });
        for (name, level) in NOISE_LEVELS {
            published[name] = json!(level);
        }
        Ok(published)
    }
}
