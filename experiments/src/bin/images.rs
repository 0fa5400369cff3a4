//! How good a trained model of images is, and what the number of digits does.
//!
//! ```sh
//! cargo run --release -p submask-experiments --bin images -- judge RUN [SAMPLES] [STEPS]
//! cargo run --release -p submask-experiments --bin images -- digits FOLDER [STEPS]
//! ```
//!
//! `judge` compares a finished run with two simple things, on its held-out images: its bound with the likelihood of
//! independent pixels, and its samples with those of its untrained network (`checkpoints/step-0`, so the run has to
//! keep it: `train.keep_checkpoints`). `digits` trains small models of the built-in emoji with ℓ = 1, 2, 4 and 8 on
//! equal steps; FOLDER gets the runs, and what is there already is not done again. The tables go to standard output.

use std::path::Path;

use submask::data::image::ImageSet;
use submask::metrics::image::{FeatureSet, ImageFeatures, ImageMetricOptions, Reference, image_metrics};
use submask::model::{Estimator, EvaluateRequest, HeldOut, checkpoints};
use submask::train::SETTINGS_FILE;
use submask::train::settings::{ImageData, ImageParts, RunData, RunSettings};
use submask::{Compute, Figure, Model, Request, Session, Unobserved};
use submask_experiments::{Fallible, train_once};

const USAGE: &str = "usage: images judge RUN [SAMPLES] [STEPS], or images digits FOLDER [STEPS]";
/// Of every image, for its bound.
const DRAWS: usize = 4;
/// States of one network call.
const BATCH: usize = 16;
const LEVELS: usize = 256;

fn main() -> Fallible {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: usize| {
        arguments.get(index).map_or(Ok(default), |argument: &String| argument.parse())
    };
    match arguments.first().map(String::as_str) {
        Some("judge") => judge(Path::new(arguments.get(1).ok_or(USAGE)?), number(2, 128)?, number(3, 32)?),
        Some("digits") => digits(Path::new(arguments.get(1).ok_or(USAGE)?), number(2, 600)? as u64),
        _ => Err(USAGE.into()),
    }
}

/// Prints what a finished run is worth.
fn judge(run: &Path, samples: usize, steps: usize) -> Fallible {
    let settings = RunSettings::read(&run.join(SETTINGS_FILE))?;
    let ImageParts { train, valid, .. } = images_of(&settings)?.load(settings.train.seed)?;
    let trained = session(run, settings.train.steps)?;
    let untrained = session(run, 0)?;

    println!("{} training images, {} held out, {}.\n", train.len(), valid.len(), valid.shape());
    let bound = figure_of(&trained, &valid, Estimator::NelboSubtoken)?;
    let independent = independent_pixels(&train, &valid)?;
    println!("| model of the held-out images | bits per dimension | what it is |");
    println!("|---|---|---|");
    println!(
        "| {} steps, ℓ = {} | {} | upper bound |",
        settings.train.steps,
        settings.codes.subtokens,
        shown(&bound)
    );
    println!("| independent pixels | {independent:.3} | exact |");
    println!("| margin | {:.3} | |", independent - bound.value);

    let real = pixels(&HeldOut::of_images(&valid, trained.architecture().config(), 0)?.x_0, &trained)?;
    println!("\n| {samples} images of | Fréchet distance of pixel features to the held-out images |");
    println!("|---|---|");
    let distance = |images: &FeatureSet| -> Fallible<f64> {
        let options = ImageMetricOptions { neighbours: None, ..ImageMetricOptions::default() };
        let metrics = image_metrics(images, Reference::Features(&real), options)?;
        Ok(metrics.first().ok_or("no metric")?.value)
    };
    let mut distances = Vec::new();
    for (name, model) in [("the trained network", &trained), ("the untrained network", &untrained)] {
        let mut request = Request { num: samples, batch: BATCH, ..model.request() };
        request.sampling.steps = steps;
        let generated = model.generate(&request, &mut Unobserved)?;
        distances.push(distance(&pixels(&generated.tokens.concat(), model)?)?);
        println!("| {name}, T = {steps} | {:.4} |", distances[distances.len() - 1]);
    }
    // What as many real images reach: those that it was trained on.
    let others = HeldOut::of_images(&train, trained.architecture().config(), samples as u64)?;
    println!("| the training set | {:.4} |", distance(&pixels(&others.x_0, &trained)?)?);
    println!(
        "\nThe trained network's distance is {:.3} of the untrained one's.",
        distances[0] / distances[1]
    );
    Ok(())
}

/// The model of a run after `step` steps.
fn session(run: &Path, step: u64) -> Fallible<Session> {
    Ok(Model::open(checkpoints::folder(run, step))?.session(&Compute::cpu())?)
}

fn images_of(settings: &RunSettings) -> Fallible<&ImageData> {
    settings.data.images().ok_or_else(|| "a run on images is needed".into())
}

/// The features of images of tokens `x_0`.
fn pixels(x_0: &[u32], session: &Session) -> Fallible<FeatureSet> {
    let config = session.architecture().config();
    let image = config.subject.image().ok_or("a model of images is needed")?;
    let parts = x_0.chunks(config.seq_len()).map(|x_0| image.pixels_of(x_0));
    let pixels = parts.collect::<Result<Vec<_>, _>>()?.concat();
    Ok(ImageFeatures::Pixels.extract(&pixels, image.shape(), &mut |_| ())?)
}

/// A figure of all held-out images: in bits per dimension, or, of the joint objective, nats per token.
fn figure_of(session: &Session, valid: &ImageSet, estimator: Estimator) -> Fallible<Figure> {
    let held_out = HeldOut::of_images(valid, session.architecture().config(), 0)?;
    let request = EvaluateRequest { draws: DRAWS, seed: 1, batch: BATCH, ..EvaluateRequest::new(estimator) };
    let figures = session.evaluate(&request, &held_out)?;
    figures.into_iter().next().ok_or_else(|| "no figure".into())
}

fn shown(figure: &Figure) -> String {
    format!("{:.3} ± {:.3}", figure.value, figure.standard_error.unwrap_or(f64::NAN))
}

/// Bits per dimension of `valid` under independent pixels: every channel of every pixel has its own distribution over
/// the intensities, the counts in `train` plus a constant. The constant is the one that is best for `valid`.
fn independent_pixels(train: &ImageSet, valid: &ImageSet) -> Fallible<f64> {
    let places = train.shape().tokens();
    let mut counts = vec![0u32; places * LEVELS];
    for index in 0..train.len() {
        for (place, level) in train.tokens(index)?.iter().enumerate() {
            counts[place * LEVELS + usize::from(*level)] += 1;
        }
    }
    let bits = |constant: f64| -> Fallible<f64> {
        let total = train.len() as f64 + LEVELS as f64 * constant;
        let mut sum = 0.0;
        for index in 0..valid.len() {
            for (place, level) in valid.tokens(index)?.iter().enumerate() {
                let count = f64::from(counts[place * LEVELS + usize::from(*level)]) + constant;
                sum -= (count / total).log2();
            }
        }
        Ok(sum / (valid.len() * places) as f64)
    };
    let constants = (-12..=4).map(|exponent| 2.0_f64.powi(exponent));
    constants.map(bits).try_fold(f64::INFINITY, |best, bits| Ok(best.min(bits?)))
}

/// Trains ℓ = 1, 2, 4 and 8 on equal steps, and prints their bounds.
fn digits(folder: &Path, steps: u64) -> Fallible {
    println!(
        "| ℓ | bits per dimension (upper bound) | joint objective, nats per token (no likelihood) | training, s |"
    );
    println!("|---|---|---|---|");
    for subtokens in [1, 2, 4, 8] {
        let out = folder.join(format!("l{subtokens}"));
        let settings = digits_settings(subtokens, steps)?;
        let valid = images_of(&settings)?.load(settings.train.seed)?.valid;
        let seconds = train_once(&out, settings)?;
        let session = session(&out, steps)?;
        let bound = figure_of(&session, &valid, Estimator::NelboSubtoken)?;
        let joint = figure_of(&session, &valid, Estimator::JointObjective)?;
        println!("| {subtokens} | {} | {} | {seconds:.0} |", shown(&bound), shown(&joint));
    }
    Ok(())
}

/// The preset at 16 × 16 pixels, so that there are enough steps in little time.
fn digits_settings(subtokens: usize, steps: u64) -> Fallible<RunSettings> {
    let preset = include_str!("../../../crates/submask-cli/presets/emoji.toml");
    let mut settings: RunSettings = toml::from_str(preset)?;
    let RunData::Images(data) = &mut settings.data else { return Err("the preset is of images".into()) };
    (data.height, data.width) = (16, 16);
    settings.codes.subtokens = subtokens;
    settings.train.steps = steps;
    settings.train.batch_size = 16;
    settings.train.validate_samples = 0;
    settings.train.final_samples = 0;
    settings.train.final_draws = 1;
    Ok(settings)
}
