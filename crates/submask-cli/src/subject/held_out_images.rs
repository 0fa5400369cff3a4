//! Images and points to evaluate on.

use std::path::{Path, PathBuf};

use submask::data::Density;
use submask::data::image::{ImageSet, ImageSource, Part, PictureFormat};
use submask::model::{HeldOut, ImageSubject, ModelConfig};
use submask::train::ImageStamp;
use submask::train::settings::{ImageData, ImageSetChoice, RunData, RunSettings};

use crate::args::{ImageSetArg, PartArg};
use crate::failure::Failure;
use crate::{data_notes, locate, notes, settings};

/// Which images are wanted.
pub struct Wanted<'a> {
    /// Files; empty: what the model's run held out.
    pub data: &'a [PathBuf],
    /// What the files are; `None`: as the run's.
    pub set: Option<ImageSetArg>,
    /// The file of labels of IDX images.
    pub labels: Option<&'a Path>,
    /// Which part of the files; `None`: what they hold out themselves, or else what would be trained on.
    pub part: Option<PartArg>,
    /// How many, spread over all; 0: all.
    pub count: u64,
}

/// The images or points that are wanted, and what they are called.
pub fn held_out(wanted: &Wanted, folder: &Path, config: &ModelConfig) -> Result<(HeldOut, String), Failure> {
    let run = locate::run_of(folder);
    let settings = run.as_deref().map(settings::check_run).transpose()?;
    let count = wanted.count;
    if !wanted.data.is_empty() {
        let source = given(wanted, config, settings.as_ref())?;
        let labels = wanted.labels.map(Path::to_path_buf).unwrap_or_default();
        if wanted.labels.is_some() && source.set != ImageSetChoice::Idx {
            return Err(Failure::usage("--labels is read with idx images only").hint("leave it out"));
        }
        let set = load(&source.source_of(wanted.data, &labels)?, wanted.part)?;
        for line in data_notes::left_out(set.left_out()) {
            notes::say("data  ", line);
        }
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
            let parts = images.load(seed)?;
            ImageStamp::of(&parts.train, &parts.valid).check(&run)?;
            Ok((HeldOut::of_images(&parts.valid, config, count)?, name))
        }
        RunData::Density(points) => {
            let density = Density::of_picture(&points.image, points.cells)?;
            let count = if count == 0 { points.valid_points } else { count };
            Ok((HeldOut::of_density(&density, count, seed), name))
        }
        _ => Err(Failure::failed(format!("{} is a run on text", run.display()))),
    }
}

/// The images of a part.
fn load(source: &ImageSource, part: Option<PartArg>) -> Result<ImageSet, Failure> {
    let (wanted, name) = match part {
        None => {
            let held_out = ImageSet::load_part(source, Part::Valid)?;
            return held_out.map_or_else(|| Ok(ImageSet::load(source)?), Ok);
        }
        Some(PartArg::Train) => return Ok(ImageSet::load(source)?),
        Some(PartArg::Valid) => (Part::Valid, "valid"),
        Some(PartArg::Test) => (Part::Test, "test"),
    };
    ImageSet::load_part(source, wanted)?.ok_or_else(|| {
        let paths: Vec<String> = source.paths().iter().map(|path| path.display().to_string()).collect();
        Failure::usage(format!("--part {name}: {} has no such part", paths.join(", ")))
            .hint("a file that is named by itself is read without --part, whatever it is called")
    })
}

/// How the files of `--data` are read: as `--images` says, or else as the run read its own.
fn given(wanted: &Wanted, config: &ModelConfig, run: Option<&RunSettings>) -> Result<ImageData, Failure> {
    let shape = config.subject.image().map(ImageSubject::shape).ok_or_else(|| {
        Failure::usage("--data has no meaning for a model of points: it is evaluated on its picture")
    })?;
    let of_run = run.and_then(|settings| settings.data.images()).cloned();
    let set = match (wanted.set, &of_run) {
        (Some(set), _) => set.choice(),
        (None, Some(images)) if images.set != ImageSetChoice::Emoji => images.set,
        (None, _) => {
            return Err(Failure::usage("what kind of images the files of --data are is not known")
                .hint("say it by --images cifar10, cifar100, idx, npz, imagenet or pictures"));
        }
    };
    // A model that reads classes needs them: of pictures, their folders.
    let labelled = set == ImageSetChoice::Pictures && config.classes().is_some();
    let background = of_run.as_ref().map(|images| images.background).unwrap_or_default();
    let of_run = of_run.as_ref().filter(|images| images.set == set);
    Ok(ImageData {
        set,
        paths: wanted.data.to_vec(),
        labels: PathBuf::new(),
        height: shape.height,
        width: shape.width,
        labelled,
        background,
        sixteen_bits: of_run.map(|images| images.sixteen_bits).unwrap_or_default(),
        formats: of_run.map_or_else(|| PictureFormat::ALL.to_vec(), |images| images.formats.clone()),
        image_field: of_run.map(|images| images.image_field.clone()).unwrap_or_default(),
        label_field: of_run.map(|images| images.label_field.clone()).unwrap_or_default(),
        coarse_labels: of_run.is_some_and(|images| images.coarse_labels),
        official_split: of_run.is_none_or(|images| images.official_split),
        super_tokens: false,
        flips: false,
        valid_fraction: 0.0,
        valid_paths: Vec::new(),
        valid_labels: PathBuf::new(),
    })
}
