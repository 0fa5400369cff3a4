//! The model folder: `config.json` and `model.safetensors`.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;

use super::{VisualConfig, VisualNetwork};
use crate::Result;
use crate::backbone::LoadedBackbone;
use crate::backbone::weights::{Parameter, Weights, arrange};
use crate::denoiser::Denoiser;
use crate::durable::{check_free, create_folder};
use crate::model::{WEIGHTS_FILE, read_safetensors, resolve, write_safetensors};
use crate::ops::Kernels;
use crate::predictive::Predictive;
use crate::schedule::Schedule;
use crate::train::checkpoint;

/// What a model folder is written from.
#[derive(Clone, Copy)]
pub struct VisualParts<'a> {
    /// Its configuration.
    pub config: &'a VisualConfig,
    /// Names and shapes of the weights, in definition order.
    pub parameters: &'a [Parameter],
    /// The weights.
    pub values: &'a [Vec<f32>],
}

impl VisualParts<'_> {
    /// Writes the folder's files into `folder`, which exists.
    ///
    /// # Errors
    /// [`crate::Error::Io`] naming the file.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_safetensors(&folder.join(WEIGHTS_FILE), self.parameters, self.values)?;
        self.config.write(folder)
    }
}

/// A model of images or points in memory, ready to be evaluated.
pub struct VisualModel {
    /// Its configuration.
    pub config: VisualConfig,
    /// Sub-tokens and the carry-over constraint.
    pub predictive: Arc<Predictive>,
    /// The network without weights.
    pub network: VisualNetwork,
    /// The averaged weights, in definition order.
    pub values: Vec<Vec<f32>>,
}

impl VisualModel {
    /// Puts a model together.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when sizes do not go together.
    pub fn new(config: VisualConfig, values: Vec<Vec<f32>>, kernels: Kernels) -> Result<Self> {
        let codes = config.codes()?;
        let network = VisualNetwork::new(&config, &codes, kernels)?;
        let predictive = Arc::new(Predictive::new(codes, config.model.carry_over()));
        Ok(Self { config, predictive, network, values })
    }

    /// Loads a model from a model folder, a run (its newest checkpoint) or a checkpoint.
    ///
    /// # Errors
    /// [`crate::Error::Io`] and [`crate::Error::Format`] naming the file; a checkpoint whose checksums do not match
    /// is refused by name.
    pub fn load(path: &Path, kernels: Kernels) -> Result<Self> {
        let folder = resolve(path)?;
        checkpoint::verify_if_any(&folder)?;
        let mut model = Self::new(VisualConfig::read(&folder)?, Vec::new(), kernels)?;
        let weights = folder.join(WEIGHTS_FILE);
        model.values = arrange(&model.network.parameters(), read_safetensors(&weights)?, &weights)?;
        Ok(model)
    }

    /// Writes the folder's files into `folder`, which exists.
    ///
    /// # Errors
    /// [`crate::Error::Io`] naming the file.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let parameters = self.network.parameters();
        VisualParts { config: &self.config, parameters: &parameters, values: &self.values }.save(folder)
    }

    /// Writes the model into `folder`, which must not exist yet. The weights have the reference's names.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the folder exists, [`crate::Error::Io`] naming the file.
    pub fn export(&self, folder: &Path) -> Result<()> {
        check_free("--to", folder)?;
        create_folder(folder, |folder| self.save(folder))
    }

    /// The network with its weights on a device.
    pub fn denoiser(&self, device: &Device) -> Box<dyn Denoiser> {
        let weights = Weights::new(&self.network.parameters(), &self.values, device);
        Box::new(LoadedBackbone { network: self.network.0.clone(), weights })
    }

    /// The schedule.
    pub fn schedule(&self) -> Schedule {
        self.config.schedule.schedule()
    }
}
