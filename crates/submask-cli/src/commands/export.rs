//! `submask export`.

use std::path::{Path, PathBuf};

use submask::model::Model;
use submask::model::visual::{VisualConfig, VisualModel};
use submask::ops::Kernels;

use crate::args::{ExportArgs, FormatArg};
use crate::failure::Failure;
use crate::{locate, output};

/// Writes a model for other programs.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let folder = locate::model(&args.model)?;
    let to = args.to.clone().unwrap_or_else(|| beside(&args.model, args.format));
    match VisualConfig::is_in(&folder) {
        // These networks have no buffers: both formats are the same.
        true => VisualModel::load(&folder, Kernels::Plain)?.export(&to)?,
        false => Model::load(&folder, Kernels::Plain)?.export(&to, args.format.into())?,
    }
    output::write(&format!("{}\n", to.display()))
}

/// `MODEL-FORMAT` beside the model.
fn beside(model: &Path, format: FormatArg) -> PathBuf {
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    model.with_file_name(format!("{name}-{}", format.name()))
}
