//! A model: an architecture with its weights, and the folder that holds it.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::architecture::Architecture;
use super::checkpoints::{self, CheckpointChoice};
use super::config::ModelConfig;
use super::files::read_safetensors;
use super::session::Session;
use crate::backbone::weights::arrange;
use crate::compute::Compute;
use crate::data::Tokenizer;
use crate::data::hash::Fingerprint;
use crate::{Error, Result};

/// Numbers that are hashed at once.
const HASHED_AT_ONCE: usize = 1 << 14;

/// Name of the file with the (averaged) weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// A model of text, images or points in memory, with its weights.
///
/// ```no_run
/// use submask::{Compute, Model, Request, Unobserved};
///
/// let model = Model::open("runs/dictionary")?;
/// let session = model.session(&Compute::cpu())?;
/// let prompt = session.prompt(&"harbour: [[*]]".parse()?, None)?;
/// let request = Request { prompt, ..session.request() };
/// println!("{}", session.generate(&request, &mut Unobserved)?.texts[0]);
/// # Ok::<(), submask::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    architecture: Arc<Architecture>,
    weights: Arc<[Vec<f32>]>,
}

impl Model {
    /// A model of weights in definition order.
    ///
    /// # Errors
    /// [`Error::Invalid`] for weights that are not those of the architecture.
    pub fn new(architecture: Arc<Architecture>, weights: Vec<Vec<f32>>) -> Result<Self> {
        let sizes =
            |lens: Vec<usize>| format!("{} tensors of {} numbers", lens.len(), lens.iter().sum::<usize>());
        let given: Vec<usize> = weights.iter().map(Vec::len).collect();
        let wanted: Vec<usize> = architecture.parameters().iter().map(|parameter| parameter.len()).collect();
        if given != wanted {
            return Err(Error::invalid(
                "weights",
                sizes(given),
                format!("{}, as the network", sizes(wanted)),
            ));
        }
        Ok(Self { architecture, weights: weights.into() })
    }

    /// Opens what stands at a path: a model folder, a run (its newest checkpoint) or a checkpoint, whatever its subject
    /// is and whichever version of this program wrote it.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file; a checkpoint whose checksums do not match is refused by
    /// name.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_checkpoint(path, CheckpointChoice::Newest)
    }

    /// The same with a choice among the checkpoints of a run, such as the best by its validations.
    ///
    /// # Errors
    /// As [`Self::open`], and [`Error::Invalid`] for a checkpoint that is not there.
    pub fn open_checkpoint(path: impl AsRef<Path>, choice: CheckpointChoice) -> Result<Self> {
        let folder = checkpoints::resolve_choice(path.as_ref(), choice)?;
        checkpoints::verify_if_any(&folder)?;
        let architecture = Architecture::read(&folder)?;
        let file = folder.join(WEIGHTS_FILE);
        let weights = arrange(architecture.parameters(), read_safetensors(&file)?, &file)?;
        Self::new(Arc::new(architecture), weights)
    }

    /// The model on a device, ready to generate and to be evaluated: uploaded once, to be used often.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sizes that the device's operations do not support.
    pub fn session(&self, compute: &Compute) -> Result<Session> {
        Session::new(self.architecture.clone(), &self.weights, compute)
    }

    /// The model without its weights.
    pub fn architecture(&self) -> &Arc<Architecture> {
        &self.architecture
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        self.architecture.config()
    }

    /// Whether it was trained on pairs of prompts and completions: see [`ModelConfig::pairs`].
    pub fn pairs(&self) -> bool {
        self.config().pairs()
    }

    /// The tokenizer of a model of text.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.architecture.tokenizer()
    }

    /// The weights, in definition order.
    pub fn weights(&self) -> &[Vec<f32>] {
        &self.weights
    }

    /// A hash of the weights' bits.
    pub fn weights_fingerprint(&self) -> u64 {
        let checksum = |values: &Vec<f32>| {
            let mut hasher = crc32fast::Hasher::new();
            let mut bytes = Vec::with_capacity(4 * HASHED_AT_ONCE);
            for values in values.chunks(HASHED_AT_ONCE) {
                bytes.clear();
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                hasher.update(&bytes);
            }
            hasher.finalize()
        };
        let checksums: Vec<u32> = self.weights.par_iter().map(checksum).collect();
        let part = |print: Fingerprint, checksum: u32| print.part(&checksum.to_le_bytes());
        checksums.into_iter().fold(Fingerprint::new(), part).value()
    }

    /// Writes the folder's files into `folder`, which exists.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.architecture.save(&self.weights, folder)
    }
}
