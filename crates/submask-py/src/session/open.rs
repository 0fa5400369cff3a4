//! A model that is open.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use submask::import::hub::Hub;
use submask::import::{self, Foreign, ImportOptions};
use submask::model::{Architecture, CheckpointChoice, Model, Session};
use submask::{Compute, DeviceChoice, Precision};
use submask_cli::commands::info;
use submask_cli::failure::Failure;
use submask_cli::locate;

use super::tokenizer::ModelTokenizer;
use crate::errors::invalid;
use crate::work;

/// A model on a device, with what it is besides its weights.
#[pyclass(frozen, module = "submask._native")]
pub struct ModelSession {
    session: Mutex<Option<Arc<Session>>>,
    pub architecture: Arc<Architecture>,
    /// What was opened: a file or folder that there is.
    path: PathBuf,
    /// The model folder; of a checkpoint of another program what was opened.
    pub folder: PathBuf,
}

/// What is found at a path.
struct Opened {
    session: Session,
    path: PathBuf,
    folder: PathBuf,
}

impl ModelSession {
    /// The model on its device.
    ///
    /// # Errors
    /// `InvalidError` of a model that is closed.
    pub fn get(&self, py: Python<'_>) -> PyResult<Arc<Session>> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.clone().ok_or_else(|| invalid(py, "model", "closed", "a model that is open"))
    }
}

#[pymethods]
impl ModelSession {
    /// Opens what stands at a path or under a name on the Hub.
    #[new]
    #[pyo3(signature = (path, checkpoint, device, precision, cache, token))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        checkpoint: &str,
        device: &str,
        precision: &str,
        cache: Option<PathBuf>,
        token: Option<String>,
    ) -> PyResult<Self> {
        let hub = || {
            let hub = Hub::from_env();
            let cache = cache.clone().unwrap_or_else(|| hub.cache.clone());
            Hub { cache, token: token.clone().or_else(|| hub.token.clone()), ..hub }
        };
        let Opened { session, path, folder } = work::run(py, |_| {
            let compute = Compute::open(device.parse::<DeviceChoice>()?, precision.parse::<Precision>()?)?;
            open(&locate::source_from(&path, hub)?, checkpoint.parse()?, &compute)
        })?;
        let architecture = Arc::clone(session.architecture());
        Ok(Self { session: Mutex::new(Some(Arc::new(session))), architecture, path, folder })
    }

    /// Frees the weights as soon as nobody uses them any more.
    fn close(&self) {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn is_closed(&self) -> bool {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// What `submask info --json` prints of what was opened.
    fn info(&self, py: Python<'_>) -> PyResult<String> {
        work::run(py, |_| Ok::<_, Failure>(info::describe(&self.path)?.to_string()))
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn tokenizer(&self) -> Option<ModelTokenizer> {
        ModelTokenizer::of(&self.architecture)
    }

    /// What the model takes and gives.
    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let session = self.get(py)?;
        let (config, codes) = (self.architecture.config(), self.architecture.predictive().codes());
        let reads_time = session.denoiser().is_ok_and(|network| network.spec().reads_time);
        let shape = config.subject.image().map(|image| (image.height, image.width, image.channels));
        let classes = config.classes().map(|_| config.subject.class_names().to_vec());
        let parameters: usize = self.architecture.parameters().iter().map(|parameter| parameter.len()).sum();
        let facts = PyDict::new(py);
        facts.set_item("subject", config.subject.name())?;
        facts.set_item("vocab_size", codes.vocab_size())?;
        facts.set_item("subtoken_len", codes.subtoken_len())?;
        facts.set_item("base", codes.base())?;
        facts.set_item("mask_id", codes.mask_id())?;
        facts.set_item("seq_len", config.seq_len())?;
        facts.set_item("block_len", config.network.block_len())?;
        facts.set_item("network", config.network.name())?;
        facts.set_item("is_autoregressive", session.is_autoregressive())?;
        facts.set_item("is_of_pairs", config.pairs())?;
        facts.set_item("reads_time", reads_time)?;
        facts.set_item("image_shape", shape)?;
        facts.set_item("classes", classes)?;
        facts.set_item("parameters", parameters)?;
        Ok(facts)
    }
}

fn open(path: &Path, checkpoint: CheckpointChoice, compute: &Compute) -> Result<Opened, Failure> {
    let path = path.to_path_buf();
    if !locate::is_foreign(&path) {
        let folder = locate::checkpoint(&path, checkpoint)?;
        let session = Model::open(&folder)?.session(compute)?;
        return Ok(Opened { session, path, folder });
    }
    if checkpoint != CheckpointChoice::Newest {
        let allowed = "newest: a checkpoint of another program is no run";
        return Err(submask::Error::invalid("checkpoint", checkpoint, allowed).into());
    }
    let imported = import::import(&Foreign::open(&path)?, &ImportOptions::default());
    let imported = imported.map_err(|error| {
        let more = "where a file does not say everything, `import` of the program takes the rest, and writes a folder to open";
        Failure::from(error).hint(more)
    })?;
    let session = Session::new(Arc::new(imported.architecture), &imported.values, compute)?;
    Ok(Opened { session, folder: path.clone(), path })
}
