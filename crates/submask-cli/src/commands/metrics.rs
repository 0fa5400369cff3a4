//! `submask metrics`.

use serde_json::{Value, json};
use submask::metrics::frechet::StatisticsFile;
use submask::metrics::image::{
    FeatureSet, ImageFeatures, ImageMetricOptions, NamedMetric, Reference, image_metrics,
};
use submask::metrics::inception::Preprocessing;
use submask::model::{HeldOut, ImageSubject, Model, ModelConfig, Request, Sampling, Session};
use submask::sampler::Event;

use crate::args::{MetricsArgs, PreprocessingArg};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::subject::{Wanted, held_out_images};
use crate::{format, locate, output, progress};

/// Measures samples of a model against real images.
pub fn run(args: &MetricsArgs, compute: Compute) -> Result<(), Failure> {
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let config = ModelConfig::read(&folder)?;
    let image = config.subject.image().ok_or_else(|| {
        let hint = "`submask eval` says how good other models are";
        Failure::usage(format!("{} is no model of images", folder.display())).hint(hint)
    })?;
    check_counts(args)?;
    let session = Model::open(&folder)?.session(&compute.open()?)?;
    let network = network(args, session.compute())?;
    let statistics = args.statistics.as_deref().map(StatisticsFile::read).transpose()?;
    let real = match statistics {
        Some(_) => None,
        None => {
            let wanted = Wanted {
                data: &args.data,
                set: args.images,
                labels: None,
                part: args.part,
                count: args.sequences.map_or(0, Into::into),
            };
            let (held_out, _) = held_out_images(&wanted, &folder, &config)?;
            Some(features(&network, image, &held_out)?)
        }
    };
    if let (Some(path), Some(real)) = (&args.save_statistics, &real) {
        real.statistics()?.write(path)?;
    }
    let (samples, sampling) = generate(args, &session)?;
    let generated = features(&network, image, &samples)?;
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

fn network(args: &MetricsArgs, compute: &submask::Compute) -> Result<ImageFeatures, Failure> {
    let Some(weights) = &args.weights else { return Ok(ImageFeatures::Pixels) };
    let preprocessing = match args.preprocessing {
        PreprocessingArg::PytorchFid => Preprocessing::PytorchFid,
        PreprocessingArg::TorchFidelity => Preprocessing::TorchFidelity,
    };
    Ok(ImageFeatures::inception(weights, preprocessing, compute)?)
}

/// Samples by the model's default sampling.
fn generate(args: &MetricsArgs, session: &Session) -> Result<(HeldOut, Sampling), Failure> {
    let mut request =
        Request { num: args.num.get(), seed: args.seed, batch: args.batch.get(), ..session.request() };
    request.sampling.steps = args.steps.map_or(request.sampling.steps, Into::into);
    let mut counter = progress::Counter::new("sub-tokens");
    let generated = session.generate(&request, &mut |event: &Event| {
        if let Event::Progress(progress) = event {
            counter.set(progress.digits as u64, progress.digits_total as u64);
        }
        Ok(())
    })?;
    let seq_len = session.architecture().config().seq_len();
    let samples = HeldOut { x_0: generated.tokens.concat(), seq_len, ..HeldOut::default() };
    Ok((samples, request.sampling))
}

/// The features of images given as tokens.
fn features(network: &ImageFeatures, image: &ImageSubject, images: &HeldOut) -> Result<FeatureSet, Failure> {
    let shape = image.shape();
    let mut pixels = Vec::with_capacity(images.x_0.len());
    for x_0 in images.x_0.chunks(images.seq_len) {
        pixels.extend(image.pixels_of(x_0)?);
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
