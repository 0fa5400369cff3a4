//! `submask sample` of images and points.

use std::path::{Path, PathBuf};
use std::time::Instant;

use submask::data::image::{Grid, ImageShape};
use submask::model::visual::{Label, VisualGenerated, VisualModel, VisualRequest, mean_pixels};
use submask::sampler::{self, Draw, ImageSampling};
use submask::train::density_picture;

use super::given;
use crate::args::{CorrectorArg, DrawArg, SampleArgs, StepsArg, TemperatureArg, TripleArg, UnitArg};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::output::{self, PictureResult, SampleCost};
use crate::{format, progress};

/// Images that a trace shows at most, and moments of each.
const TRACED: usize = 8;
const MOMENTS: usize = 12;
/// Pixels of the largest side that a picture of one image is scaled up to.
const VISIBLE: usize = 64;

/// Draws images or points.
pub fn sample(args: &SampleArgs, folder: &Path, compute: Compute) -> Result<(), Failure> {
    check(args)?;
    let (device, kernels) = compute.open()?;
    let model = VisualModel::load(folder, kernels)?;
    if args.trace && model.config.image_shape().is_none() {
        return Err(Failure::usage("--trace shows images: points have nothing in between to be seen"));
    }
    let request = request(args, &model)?;
    let start = Instant::now();
    let mut counter = progress::Counter::new("sub-tokens");
    let generated = model.generate(&request, &device, &mut |progress| {
        counter.set(progress.digits as u64, progress.digits_total as u64);
        Ok(())
    })?;
    drop(counter);
    let out = args.images.out.clone().unwrap_or_else(|| PathBuf::from("samples.png"));
    let mut written = vec![picture(&model, &generated, &out)?];
    if args.trace {
        written.push(trace(&model, &generated, &out)?);
    }
    let paths = written.iter().map(|path| path.display().to_string());
    if args.json {
        let cost = SampleCost::from(&generated.report);
        let pictures = paths.collect();
        return output::write_json(&PictureResult {
            model: folder.display().to_string(),
            seed: args.seed,
            pictures,
            samples: generated.tokens,
            cost,
        });
    }
    output::write(&paths.map(|path| path + "\n").collect::<String>())?;
    let rate = generated.report.digits as f64 / start.elapsed().as_secs_f64().max(1e-9);
    eprintln!("{}, {} sub-tokens/s", output::sampling_cost(&generated.report), format::count(rate as u64));
    Ok(())
}

/// Flags that have a meaning for text only.
fn check(args: &SampleArgs) -> Result<(), Failure> {
    let text_only = [
        ("--prompt", args.prompt.is_some()),
        ("--length", args.length.is_some()),
        ("--top-p", args.top_p.is_some()),
        ("--top-k", args.top_k.is_some()),
        ("--unit token", args.unit == UnitArg::Token),
        ("--steps exact", args.steps == Some(StepsArg::Exact)),
    ];
    match text_only.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::usage(format!("{flag} has a meaning for text only"))),
        None => Ok(()),
    }
}

fn request(args: &SampleArgs, model: &VisualModel) -> Result<VisualRequest, Failure> {
    Ok(VisualRequest {
        num: usize::try_from(args.num.get()).map_err(|_| Failure::usage("--num is too large"))?,
        given: given::digits(&args.images, model)?,
        label: label(args, model)?,
        sampling: sampling(args, model)?,
        carry_over: args.images.carry_over,
        seed: args.seed,
        batch: args.batch.get(),
        trajectories: args.trace,
    })
}

/// The model's sampling, changed by a preset, and that by flags.
fn sampling(args: &SampleArgs, model: &VisualModel) -> Result<ImageSampling, Failure> {
    let mut sampling = model.config.sample.clone();
    let images = &args.images;
    if let Some(name) = &images.preset {
        sampling = sampler::preset(name)
            .map_err(|_| {
                Failure::usage(format!("unknown sampler preset `{name}`"))
                    .hint("`submask help presets` lists them")
            })?
            .sampling;
    }
    if let Some(StepsArg::Grid(steps)) = args.steps {
        sampling.steps = steps.get();
    }
    match args.temperature {
        Some(TemperatureArg::Constant(temperature)) => sampling.temperature = [0.0, 1.0, temperature].into(),
        Some(TemperatureArg::Schedule(triple)) => sampling.temperature = triple.into(),
        None => {}
    }
    if let Some(TripleArg(warp)) = images.warp {
        sampling.warp = warp.into();
    }
    match images.corrector {
        Some(CorrectorArg::Off) => sampling.corrector = None,
        Some(CorrectorArg::On(triple)) => sampling.corrector = Some(triple.into()),
        None => {}
    }
    match images.draw {
        Some(DrawArg::Joint) => sampling.draw = Draw::Joint,
        Some(DrawArg::Marginal) => sampling.draw = Draw::Marginal,
        None => {}
    }
    sampling.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(sampling)
}

fn label(args: &SampleArgs, model: &VisualModel) -> Result<Label, Failure> {
    let Some(text) = args.images.label.as_deref() else { return Ok(Label::Every) };
    if model.config.classes().is_none() {
        return Err(Failure::usage(format!("--label {text}: the model does not read classes")));
    }
    if text == "mixture" {
        return Ok(Label::Mixture);
    }
    let names = model.config.class_names();
    let by_name = names.iter().position(|name| name == text);
    let by_number = text.parse().ok().filter(|number| *number < names.len());
    by_name.or(by_number).map(Label::Class).ok_or_else(|| {
        let last = names.len().saturating_sub(1);
        Failure::usage(format!("--label {text}: there is no such class"))
            .hint(format!("classes are 0 to {last}: {}; or mixture", names.join(", ")))
    })
}

/// Writes the samples as one picture.
fn picture(model: &VisualModel, generated: &VisualGenerated, path: &Path) -> Result<PathBuf, Failure> {
    match model.config.image_shape() {
        Some(shape) => {
            let images = generated.tokens.iter().map(|x_0| model.config.pixels_of(x_0));
            let images = images.collect::<submask::Result<Vec<_>>>()?;
            let columns = (images.len() as f64).sqrt().ceil() as usize;
            Grid { columns, scale: scale(shape) }.write(path, &images, shape)?;
        }
        None => {
            let cells = model.config.vocab_size();
            let shape = ImageShape { channels: 1, height: cells, width: cells };
            let picture = [density_picture(&generated.tokens, cells)];
            Grid { columns: 1, scale: 3 }.write(path, &picture, shape)?;
        }
    }
    Ok(path.to_path_buf())
}

/// Small images are enlarged.
fn scale(shape: ImageShape) -> usize {
    (VISIBLE / shape.height.max(shape.width)).max(1)
}

/// Writes how some of the samples came about, a row each, as a picture beside `out`.
fn trace(model: &VisualModel, generated: &VisualGenerated, out: &Path) -> Result<PathBuf, Failure> {
    let shape = model.config.image_shape().ok_or_else(|| Failure::usage("--trace shows images only"))?;
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let path = out.with_file_name(format!("{stem}-trace.png"));
    let mut images = Vec::new();
    for trajectory in generated.trajectories.iter().take(TRACED) {
        let states: Vec<Vec<u32>> = trajectory.states().map(|(_, y)| y).collect();
        for moment in 0..MOMENTS {
            let state = &states[moment * (states.len() - 1) / (MOMENTS - 1)];
            images.push(mean_pixels(&model.config, &model.predictive, state)?);
        }
    }
    Grid { columns: MOMENTS, scale: scale(shape) }.write(&path, &images, shape)?;
    Ok(path)
}
