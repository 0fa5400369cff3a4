//! Images and points to evaluate on.

use std::path::{Path, PathBuf};

use submask::data::Density;
use submask::data::image::ImageSet;
use submask::model::{HeldOut, ImageSubject, ModelConfig};
use submask::train::settings::{ImageData, ImageSetChoice, RunData, RunSettings};
use submask::train::{ImageStamp, SETTINGS_FILE};

use crate::args::ImageSetArg;
use crate::failure::Failure;
use crate::{locate, settings};

/// Which images are wanted.
pub struct Wanted<'a> {
    /// Files; empty: what the model's run held out.
    pub data: &'a [PathBuf],
    /// What the files are; `None`: as the run's.
    pub set: Option<ImageSetArg>,
    /// The file of labels of IDX images.
    pub labels: Option<&'a Path>,
    /// How many, spread over all; 0: all.
    pub count: u64,
}

/// The images or points that are wanted, and what they are called.
pub fn held_out(wanted: &Wanted, folder: &Path, config: &ModelConfig) -> Result<(HeldOut, String), Failure> {
    let run = locate::run_of(folder);
    let settings = run.as_deref().map(|run| settings::check_file(&run.join(SETTINGS_FILE))).transpose()?;
    let count = wanted.count;
    if !wanted.data.is_empty() {
        let source = given(wanted, config, settings.as_ref())?;
        let labels = wanted.labels.map(Path::to_path_buf).unwrap_or_default();
        if wanted.labels.is_some() && source.set != ImageSetChoice::Idx {
            return Err(Failure::usage("--labels is read with idx images only").hint("leave it out"));
        }
        let set = ImageSet::load(&source.source_of(wanted.data, &labels)?)?;
        let names: Vec<String> = wanted.data.iter().map(|path| path.display().to_string()).collect();
        return Ok((HeldOut::of_images(&set, config, count)?, names.join(", ")));
    }
    let (Some(settings), Some(run)) = (settings, run) else {
        let message = format!("{} is in no run that has held-out data", folder.display());
        return Err(Failure::failed(message).hint("give images by --data PATH --images SET"));
    };
    let name = format!("held-out part of {}", run.display());
    let seed = settings.train.seed;
    match &settings.data {
        RunData::Images(images) => {
            let (train, valid) = images.load(seed)?;
            ImageStamp::of(&train, &valid).check(&run)?;
            Ok((HeldOut::of_images(&valid, config, count)?, name))
        }
        RunData::Density(points) => {
            let density = Density::of_picture(&points.image, points.cells)?;
            let count = if count == 0 { points.valid_points } else { count };
            Ok((HeldOut::of_density(&density, count, seed), name))
        }
        _ => Err(Failure::failed(format!("{} is a run on text", run.display()))),
    }
}

/// How the files of `--data` are read: as `--images` says, or else as the run read its own.
fn given(wanted: &Wanted, config: &ModelConfig, run: Option<&RunSettings>) -> Result<ImageData, Failure> {
    let shape = config.subject.image().map(ImageSubject::shape).ok_or_else(|| {
        Failure::usage("--data has no meaning for a model of points: it is evaluated on its picture")
    })?;
    let of_run = run.and_then(|settings| settings.data.images()).cloned();
    let set = match (wanted.set, &of_run) {
        (Some(ImageSetArg::Cifar10), _) => ImageSetChoice::Cifar10,
        (Some(ImageSetArg::Idx), _) => ImageSetChoice::Idx,
        (Some(ImageSetArg::ImageNet), _) => ImageSetChoice::ImageNet,
        (Some(ImageSetArg::Pictures), _) => ImageSetChoice::Pictures,
        (None, Some(images)) if images.set != ImageSetChoice::Emoji => images.set,
        (None, _) => {
            return Err(Failure::usage("what kind of images the files of --data are is not known")
                .hint("say it by --images cifar10, idx, imagenet or pictures"));
        }
    };
    // A model that reads classes needs them: of pictures, their folders.
    let labelled = set == ImageSetChoice::Pictures && config.classes().is_some();
    Ok(ImageData {
        set,
        paths: wanted.data.to_vec(),
        labels: PathBuf::new(),
        height: shape.height,
        width: shape.width,
        labelled,
        background: of_run.map(|images| images.background).unwrap_or_default(),
        super_tokens: false,
        flips: false,
        valid_fraction: 0.0,
        valid_paths: Vec::new(),
        valid_labels: PathBuf::new(),
    })
}
