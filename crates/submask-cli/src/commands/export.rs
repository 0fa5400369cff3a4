//! `submask export`.

use std::path::{Path, PathBuf};

use submask::Model;

use crate::args::{ExportArgs, FormatArg};
use crate::failure::Failure;
use crate::{flags, locate, output};

/// Writes a model for other programs.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let to = args.to.clone().unwrap_or_else(|| beside(&args.model, args.format));
    Model::open(&folder)?.export(&to, args.format.into()).map_err(|error| flags::EXPORT.name_in(error))?;
    output::write(&format!("{}\n", to.display()))
}

/// `MODEL-FORMAT` beside the model.
fn beside(model: &Path, format: FormatArg) -> PathBuf {
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    model.with_file_name(format!("{name}-{}", format.name()))
}
