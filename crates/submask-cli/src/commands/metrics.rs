//! `submask metrics`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use submask::data::Fingerprint;
use submask::metrics::frechet::{FeatureSpace, StatisticsFile};
use submask::metrics::image::{
    FeatureRow, FeatureSet, ImageFeatures, ImageMetricOptions, NamedMetric, Reference, image_metrics,
};
use submask::metrics::inception::Preprocessing;
use submask::model::{HeldOut, ImageSubject, Model, ModelConfig, Request, Session};
use submask::parts::{Bytes, Fields, PartSet, Records};
use submask::sampler::Event;
use submask::shard::Shard;

use crate::args::{MetricsArgs, PreprocessingArg};
use crate::compute::Compute;
use crate::failure::Failure;
use crate::shares::{self, ModelFacts};
use crate::subject::{Wanted, held_out_images};
use crate::{format, locate, output, progress};

/// As parts call it.
pub const VERB: &str = "metrics";

/// Measures samples of a model against real images.
pub fn run(args: &MetricsArgs, compute: Compute) -> Result<(), Failure> {
    let folder = locate::checkpoint(&args.model, args.checkpoint)?;
    let config = ModelConfig::read(&folder)?;
    let image = config.subject.image().ok_or_else(|| {
        let hint = "`submask eval` says how good other models are";
        Failure::usage(format!("{} is no model of images", folder.display())).hint(hint)
    })?;
    check_counts(args)?;
    let model = Model::open(&folder)?;
    let session = model.session(&compute.open()?)?;
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
            Some(held_out_images(&wanted, &folder, &config)?.0)
        }
    };
    let shard = args.shard.shard.unwrap_or(Shard::WHOLE);
    let of_share = |real: &HeldOut| features(&network, image, real.share(shard, None).sequences());
    let real_features = real.as_ref().map(of_share).transpose()?;
    if let (Some(path), Some(features), None) = (&args.save_statistics, &real_features, args.shard.shard) {
        features.statistics()?.write(path)?;
    }
    let request = request(args, &session);
    let generated = features(&network, image, &generate(&request, &session, shard)?)?;
    let about = About {
        facts: json!({
            "model": folder.display().to_string(),
            "generated": args.num,
            "real": real.as_ref().map(HeldOut::len),
            "seed": args.seed,
            "features": generated.space.name(),
            "preprocessing": args.weights.is_some().then(|| args.preprocessing.name()),
            "sampling": request.sampling,
        }),
        statistics: args.statistics.clone(),
        save_statistics: args.save_statistics.clone(),
        json: args.json,
    };
    let Some(shard) = args.shard.shard else {
        return about.show(&generated, real_features.as_ref(), statistics.as_ref());
    };
    let facts = Facts {
        about,
        reference: match (&real, &args.statistics) {
            (Some(real), _) => Some(real.fingerprint()),
            (None, Some(path)) => Some(of_file(path)?),
            (None, None) => None,
        }
        .map(shares::fingerprint),
        weights: args.weights.as_ref().map(|path| of_file(path).map(shares::fingerprint)).transpose()?,
        model: ModelFacts::of(&folder, &model, &session)?,
    };
    let items = shares::Items { count: args.num.get() as u64, unit: "images" };
    let fill = |records: &mut Records| {
        let mut push = |is_real: bool, set: &FeatureSet| {
            let record = |row: FeatureRow| row.add_to(Bytes::default().u64(is_real.into())).into_vec();
            set.rows().try_for_each(|row| records.push(&record(row)))
        };
        push(false, &generated)?;
        real_features.iter().try_for_each(|real| push(true, real))
    };
    shares::write((&args.shard, shard), VERB, &items, &facts, fill, &[])
}

/// What is compared, and how it is told.
#[derive(Serialize, Deserialize)]
struct About {
    /// What is printed as JSON, without the figures.
    facts: Value,
    /// The file of statistics of real images.
    statistics: Option<PathBuf>,
    save_statistics: Option<PathBuf>,
    json: bool,
}

/// What the parts of metrics say alike.
#[derive(Serialize, Deserialize)]
struct Facts {
    #[serde(flatten)]
    about: About,
    /// Fingerprint of what is compared with.
    reference: Option<String>,
    /// Fingerprint of the feature network's weights.
    weights: Option<String>,
    model: ModelFacts,
}

/// Measures the images of all parts.
pub fn merge(set: &PartSet) -> Result<(), Failure> {
    let Facts { about, reference, .. } = set.facts()?;
    let statistics = about.statistics.as_deref().map(StatisticsFile::read).transpose()?;
    if let Some(path) = &about.statistics
        && Some(shares::fingerprint(of_file(path)?)) != reference
    {
        let message = format!("{} is not the file that the parts were made with", path.display());
        return Err(Failure::failed(message));
    }
    set.check_records(about.facts["real"].as_u64().unwrap_or(0))?;
    let row = |fields: &mut Fields| Ok((fields.u64()? != 0, FeatureRow::read(fields)?));
    let (real, generated): (Vec<_>, Vec<_>) = set.read(row)?.into_iter().partition(|(is_real, _)| *is_real);
    let name = about.facts["features"].as_str().unwrap_or_default();
    let space = FeatureSpace::of_name(name)
        .ok_or_else(|| Failure::failed(format!("parts of features that are not known: {name}")))?;
    let set = |rows: Vec<(bool, FeatureRow)>| {
        FeatureSet::of_rows(space, &rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>())
    };
    let (generated, real) = (set(generated)?, statistics.is_none().then(|| set(real)).transpose()?);
    if let (Some(path), Some(real)) = (&about.save_statistics, &real) {
        real.statistics()?.write(path)?;
    }
    about.show(&generated, real.as_ref(), statistics.as_ref())
}

/// A hash of a file's bytes.
fn of_file(path: &std::path::Path) -> submask::Result<u64> {
    Ok(Fingerprint::new().part(&std::fs::read(path).map_err(submask::Error::io(path))?).value())
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
fn request(args: &MetricsArgs, session: &Session) -> Request {
    let mut request =
        Request { num: args.num.get(), seed: args.seed, batch: args.batch.get(), ..session.request() };
    request.sampling.steps = args.steps.map_or(request.sampling.steps, Into::into);
    request
}

/// A share of the samples.
fn generate(request: &Request, session: &Session, shard: Shard) -> Result<HeldOut, Failure> {
    let mut counter = progress::Counter::new("sub-tokens");
    let prompts = std::slice::from_ref(&request.prompt);
    let samples = session.generate_share(request, prompts, shard, &mut |event: &Event| {
        if let Event::Progress(progress) = event {
            counter.set(progress.digits as u64, progress.digits_total as u64);
        }
        Ok(())
    })?;
    let x_0 = samples.into_iter().flat_map(|sample| sample.tokens).collect();
    Ok(HeldOut { x_0, seq_len: session.architecture().config().seq_len(), ..HeldOut::default() })
}

/// The features of images given as tokens.
fn features(network: &ImageFeatures, image: &ImageSubject, images: &HeldOut) -> Result<FeatureSet, Failure> {
    let shape = image.shape();
    let mut pixels = Vec::with_capacity(images.x_0.len());
    for x_0 in images.x_0.chunks(images.seq_len.max(1)) {
        pixels.extend(image.pixels_of(x_0)?);
    }
    let mut counter = progress::Counter::new("images");
    let count = (pixels.len() / shape.tokens()) as u64;
    Ok(network.extract(&pixels, shape, &mut |done| counter.set(done as u64, count))?)
}

impl About {
    /// Measures the images, and tells the figures.
    fn show(
        &self,
        generated: &FeatureSet,
        real: Option<&FeatureSet>,
        statistics: Option<&StatisticsFile>,
    ) -> Result<(), Failure> {
        let reference = match (real, statistics) {
            (Some(real), _) => Reference::Features(real),
            (None, Some(statistics)) => Reference::Statistics(statistics),
            (None, None) => return Err(Failure::failed("there is nothing to compare with")),
        };
        let metrics = image_metrics(generated, reference, ImageMetricOptions::default())?;
        if self.json {
            let value = |metric: &NamedMetric| (metric.name.clone(), json!(metric.value));
            let mut facts = self.facts.clone();
            facts["metrics"] = Value::Object(metrics.iter().map(value).collect());
            return output::write_json(&facts);
        }
        let real = match &self.facts["real"] {
            Value::Null => "statistics of real ones".to_owned(),
            count => format!("{count} real ones"),
        };
        let features = self.facts["features"].as_str().unwrap_or_default();
        let generated = &self.facts["generated"];
        let mut text = format!("{generated} generated images against {real}, features: {features}\n");
        for metric in metrics {
            text += &format!("{:32} {}\n", metric.name, format::number(metric.value));
        }
        output::write(&text)
    }
}
