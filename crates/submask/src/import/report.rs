//! What an import did, tensor by tensor.

use std::path::PathBuf;

use serde::Serialize;

use super::decide::Setting;
use super::foreign::{Format, Skipped, WeightSet};

/// What became of a file. Nothing can be missing: an import with missing weights fails and names them.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// What kind of file it is.
    pub format: Format,
    /// The set of weights that was taken.
    pub weights: WeightSet,
    /// The settings of the network, and where they come from.
    pub settings: Vec<Setting>,
    /// The tokenizer, and why it was taken; `None` where there is no text.
    pub tokenizer: Option<String>,
    /// What wrappers had put before the network's names or between their parts, such as `_orig_mod.`: it was removed.
    pub stripped: Vec<String>,
    /// The weights that were taken.
    pub applied: Vec<Applied>,
    /// What is known and was not needed: the other set of weights, buffers, the optimiser.
    pub skipped: Vec<Skipped>,
    /// Tensors that belong to no layer of the network: path and shape.
    pub unused: Vec<(String, Vec<usize>)>,
}

/// A weight that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Where it stands in the file.
    pub path: String,
    /// Its name in the network.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
}
