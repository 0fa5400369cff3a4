//! `submask metrics`.

use serde_json::{Value, json};
use submask::Device;
use submask::metrics::frechet::StatisticsFile;
use submask::metrics::image::{
    FeatureSet, ImageFeatures, ImageMetricOptions, NamedMetric, Reference, image_metrics,
};
use submask::metrics::inception::Preprocessing;
use submask::model::visual::{HeldOut, VisualConfig, VisualModel, VisualRequest};
use submask::sampler::ImageSampling;

use super::visual::{Wanted, held_out};
use crate::args::{MetricsArgs, PreprocessingArg};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::{format, locate, output, progress};

/// Measures samples of a model against real images.
pub fn run(args: &MetricsArgs, compute: Compute) -> Result<(), Failure> {
    let folder = locate::model(&args.model)?;
    if !VisualConfig::is_in(&folder) {
        return Err(Failure::usage(format!("{} is no model of images", folder.display())));
    }
    let (device, kernels) = compute.open()?;
    let model = VisualModel::load(&folder, kernels)?;
    check_counts(args)?;
    let network = network(args, &device)?;
    let statistics = args.statistics.as_deref().map(StatisticsFile::read).transpose()?;
    let real = match statistics {
        Some(_) => None,
        None => {
            let wanted = Wanted {
                data: &args.data,
                set: args.images,
                labels: None,
                count: args.sequences.map_or(0, Into::into),
            };
            let (held_out, _) = held_out(&wanted, &folder, &model)?;
            Some(features(&network, &model, &held_out)?)
        }
    };
    if let (Some(path), Some(real)) = (&args.save_statistics, &real) {
        real.statistics()?.write(path)?;
    }
    let (samples, sampling) = generate(args, &model, &device)?;
    let generated = features(&network, &model, &samples)?;
    let reference = match (&real, &statistics) {
        (Some(real), _) => Reference::Features(real),
        (None, Some(statistics)) => Reference::Statistics(statistics),
        (None, None) => return Err(Failure::failed("there is nothing to compare with")),
    };
    let metrics = image_metrics(&generated, reference, ImageMetricOptions::default())?;
    let facts = json!({
        "model": folder.display().to_string(),
        "generated": generated.count(),
        "real": real.map(|real| real.count()),
        "seed": args.seed,
        "features": generated.space.name(),
        "preprocessing": args.weights.is_some().then(|| args.preprocessing.name()),
        "sampling": sampling,
    });
    report(args, facts, &metrics)
}

/// What is too few is said before anything is drawn.
fn check_counts(args: &MetricsArgs) -> Result<(), Failure> {
    let options = ImageMetricOptions::default();
    let neighbours = options.neighbours.filter(|_| args.statistics.is_none()).map_or(2, |k| k + 1);
    let least = if args.weights.is_some() { neighbours.max(options.splits) } else { neighbours };
    if args.num.get() < least {
        return Err(Failure::usage(format!("--num {} is too few: at least {least}", args.num)));
    }
    match args.sequences {
        Some(count) if count.get() < neighbours as u64 => {
            Err(Failure::usage(format!("--sequences {count} is too few: at least {neighbours}")))
        }
        _ => Ok(()),
    }
}

fn network(args: &MetricsArgs, device: &Device) -> Result<ImageFeatures, Failure> {
    let Some(weights) = &args.weights else { return Ok(ImageFeatures::Pixels) };
    let preprocessing = match args.preprocessing {
        PreprocessingArg::PytorchFid => Preprocessing::PytorchFid,
        PreprocessingArg::TorchFidelity => Preprocessing::TorchFidelity,
    };
    Ok(ImageFeatures::inception(weights, preprocessing, device)?)
}

/// Samples by the model's default sampling.
fn generate(
    args: &MetricsArgs,
    model: &VisualModel,
    device: &Device,
) -> Result<(HeldOut, ImageSampling), Failure> {
    let mut request = VisualRequest {
        num: args.num.get(),
        seed: args.seed,
        batch: args.batch.get(),
        ..VisualRequest::new(model)
    };
    request.sampling.steps = args.steps.map_or(request.sampling.steps, Into::into);
    let mut counter = progress::Counter::new("sub-tokens");
    let generated = model.generate(&request, device, &mut |progress| {
        counter.set(progress.digits as u64, progress.digits_total as u64);
        Ok(())
    })?;
    Ok((HeldOut { x_0: generated.tokens.concat(), labels: Vec::new() }, request.sampling))
}

/// The features of images given as tokens.
fn features(network: &ImageFeatures, model: &VisualModel, images: &HeldOut) -> Result<FeatureSet, Failure> {
    let shape = model.config.image_shape().ok_or_else(|| {
        Failure::usage("a model of points draws no images: `submask eval` says how good it is")
    })?;
    let mut pixels = Vec::with_capacity(images.x_0.len());
    for x_0 in images.x_0.chunks(model.config.seq_len()) {
        pixels.extend(model.config.pixels_of(x_0)?);
    }
    let mut counter = progress::Counter::new("images");
    let count = (pixels.len() / shape.tokens()) as u64;
    Ok(network.extract(&pixels, shape, &mut |done| counter.set(done as u64, count))?)
}

fn report(args: &MetricsArgs, mut facts: Value, metrics: &[NamedMetric]) -> Result<(), Failure> {
    if args.json {
        let values: serde_json::Map<String, Value> =
            metrics.iter().map(|metric| (metric.name.clone(), json!(metric.value))).collect();
        facts["metrics"] = Value::Object(values);
        return output::write_json(&facts);
    }
    let real = match &facts["real"] {
        Value::Null => "statistics of real ones".to_owned(),
        count => format!("{count} real ones"),
    };
    let features = facts["features"].as_str().unwrap_or_default();
    let mut text = format!("{} generated images against {real}, features: {features}\n", facts["generated"]);
    for metric in metrics {
        text += &format!("{:32} {}\n", metric.name, format::number(metric.value));
    }
    output::write(&text)
}
