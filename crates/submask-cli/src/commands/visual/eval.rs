//! `submask eval` of images and points.

use std::path::{Path, PathBuf};

use submask::data::Density;
use submask::data::image::ImageSet;
use submask::likelihood::LikelihoodSettings;
use submask::model::Estimator;
use submask::model::visual::{HeldOut, VisualModel};
use submask::sampler::ImageSampling;
use submask::train::settings::RunSettings;
use submask::train::visual_settings::{ImageDataSettings, ImageSetChoice, VisualData, VisualRunSettings};
use submask::train::{ImageStamp, SETTINGS_FILE};

use crate::args::{EstimatorArg, EvalArgs, ImageSetArg};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::output::{self, EvalResult};
use crate::{locate, progress, settings};

/// Measures a model on held-out images or points.
pub fn eval(args: &EvalArgs, folder: &Path, compute: Compute) -> Result<(), Failure> {
    if args.split.is_some() || args.field.is_some() {
        return Err(Failure::usage("--split and --field have a meaning for text only"));
    }
    let (device, kernels) = compute.open()?;
    let model = VisualModel::load(folder, kernels)?;
    let wanted = Wanted {
        data: &args.data,
        set: args.images.images,
        labels: args.images.labels.as_deref(),
        count: args.sequences.map_or(0, Into::into),
    };
    let (held_out, name) = held_out(&wanted, folder, &model)?;
    let estimator = estimator(args, &model)?;
    let likelihood = LikelihoodSettings {
        draws: args.draws.map_or(1, Into::into),
        seed: args.seed,
        batch: args.batch.into(),
        schedule: model.schedule(),
    };
    let count = held_out.x_0.len() / model.config.seq_len();
    let waiting = progress::Waiting::new(format!("{} of {count} sequences, {name}", estimator.name()));
    let figures = model.evaluate(&device, estimator, &held_out, args.images.carry_over, &likelihood)?;
    drop(waiting);
    if !args.json {
        return output::write(&output::figure_table(&figures));
    }
    output::write_json(&EvalResult {
        model: folder.display().to_string(),
        data: name,
        estimator: estimator.name().to_owned(),
        sequences: count as u64,
        draws: likelihood.draws as u64,
        seed: args.seed,
        steps: estimator.steps(),
        carry_over: Some(args.images.carry_over.unwrap_or(model.predictive.carry_over())),
        conditional_on_class: Some(model.config.classes().is_some()),
        figures,
    })
}

fn estimator(args: &EvalArgs, model: &VisualModel) -> Result<Estimator, Failure> {
    crate::commands::eval::check(args)?;
    Ok(match args.estimator.unwrap_or(EstimatorArg::NelboSubtoken) {
        EstimatorArg::NelboSubtoken => Estimator::NelboSubtoken,
        EstimatorArg::NelboToken => Estimator::NelboToken,
        EstimatorArg::Path => {
            if let Some(what) = beyond_the_path_bound(&model.config.sample) {
                eprintln!(
                    "note: the bound is of joint draws on an even grid at temperature 1: the model's {what} differs"
                );
            }
            Estimator::Path { steps: args.steps.map_or(model.config.sample.steps, Into::into) }
        }
        EstimatorArg::Exact => Estimator::LEFT_TO_RIGHT,
        EstimatorArg::JointObjective => Estimator::JointObjective,
    })
}

/// What of the model's sampling is not that of the path bound.
fn beyond_the_path_bound(sampling: &ImageSampling) -> Option<&'static str> {
    let plain = ImageSampling { steps: sampling.steps, ..ImageSampling::default() };
    [
        ("sample.draw", sampling.draw != plain.draw),
        ("sample.temperature", sampling.temperature != plain.temperature),
        ("sample.warp", !sampling.warp.is_off()),
        ("sample.corrector", sampling.corrector.is_some()),
    ]
    .into_iter()
    .find_map(|(key, differs)| differs.then_some(key))
}

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
pub fn held_out(wanted: &Wanted, folder: &Path, model: &VisualModel) -> Result<(HeldOut, String), Failure> {
    let run = locate::run_of(folder);
    let settings = run.as_deref().map(settings_of_run).transpose()?;
    let count = wanted.count;
    if !wanted.data.is_empty() {
        let source = given(wanted, model, settings.as_ref())?;
        let labels = wanted.labels.map(Path::to_path_buf).unwrap_or_default();
        if wanted.labels.is_some() && source.set != ImageSetChoice::Idx {
            return Err(Failure::usage("--labels is read with idx images only").hint("leave it out"));
        }
        let set = ImageSet::load(&source.source_of(wanted.data, &labels)?)?;
        let names: Vec<String> = wanted.data.iter().map(|path| path.display().to_string()).collect();
        return Ok((HeldOut::of_images(&set, &model.config, count)?, names.join(", ")));
    }
    let (Some(settings), Some(run)) = (settings, run) else {
        let message = format!("{} is in no run that has held-out data", folder.display());
        return Err(Failure::failed(message).hint("give images by --data PATH --images SET"));
    };
    let name = format!("held-out part of {}", run.display());
    let seed = settings.train.seed;
    match &settings.data {
        VisualData::Images(images) => {
            let (train, valid) = images.load(seed)?;
            ImageStamp::of(&train, &valid).check(&run)?;
            Ok((HeldOut::of_images(&valid, &model.config, count)?, name))
        }
        VisualData::Density(points) => {
            let density = Density::of_picture(&points.image, points.cells)?;
            let count = if count == 0 { points.valid_points } else { count };
            Ok((HeldOut::of_density(&density, count, seed), name))
        }
    }
}

fn settings_of_run(run: &Path) -> Result<VisualRunSettings, Failure> {
    match settings::check_file(&run.join(SETTINGS_FILE))? {
        RunSettings::Visual(settings) => Ok(*settings),
        RunSettings::Text(_) => Err(Failure::failed(format!("{} is no run on images", run.display()))),
    }
}

/// How the files of `--data` are read: as `--images` says, or else as the run read its own.
fn given(
    wanted: &Wanted,
    model: &VisualModel,
    run: Option<&VisualRunSettings>,
) -> Result<ImageDataSettings, Failure> {
    let shape = model.config.image_shape().ok_or_else(|| {
        Failure::usage("--data has no meaning for a model of points: it is evaluated on its picture")
    })?;
    let of_run = match run.map(|settings| &settings.data) {
        Some(VisualData::Images(images)) => Some(images.clone()),
        _ => None,
    };
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
    let labelled = set == ImageSetChoice::Pictures && model.config.classes().is_some();
    Ok(ImageDataSettings {
        set,
        paths: wanted.data.to_vec(),
        labels: PathBuf::new(),
        height: shape.height,
        width: shape.width,
        labelled,
        background: of_run.map(|images| images.background).unwrap_or_default(),
        flips: false,
        valid_fraction: 0.0,
        valid_paths: Vec::new(),
        valid_labels: PathBuf::new(),
    })
}
