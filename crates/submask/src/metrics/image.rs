//! The entry: images to features, features to figures with names.
//!
//! ```
//! use submask::data::image::ImageShape;
//! use submask::metrics::image::{ImageFeatures, ImageMetricOptions, Reference, image_metrics};
//!
//! # fn main() -> submask::Result<()> {
//! let shape = ImageShape { channels: 1, height: 8, width: 8 };
//! let image = |i: usize| (0..64).map(move |p| ((p * 31 + i * i * 7) % 256) as u8);
//! let reference: Vec<u8> = (0..10).flat_map(image).collect();
//! let generated: Vec<u8> = (5..15).flat_map(image).collect();
//!
//! let network = ImageFeatures::Pixels;
//! let reference = network.extract(&reference, shape, &mut |_| ())?;
//! let generated = network.extract(&generated, shape, &mut |_| ())?;
//! let metrics = image_metrics(&generated, Reference::Features(&reference), ImageMetricOptions::default())?;
//! assert_eq!(metrics[0].name, "frechet_pixels");
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use rayon::prelude::*;

use super::frechet::{FeatureSpace, FeatureStatistics, StatisticsFile, frechet_distance};
use super::inception::{Inception, Preprocessing};
use super::inception_score::{SPLITS, inception_score};
use super::pixels;
use super::precision_recall::{NEIGHBOURS, precision_recall};
use crate::compute::Compute;
use crate::data::image::ImageShape;
use crate::parts::{Bytes, Fields};
use crate::{Error, Result};

/// What makes features of images.
#[derive(Clone, Debug)]
pub enum ImageFeatures {
    /// No network: [`pixels`].
    Pixels,
    /// Inception-v3.
    Inception(Box<Inception>),
}

/// The features of N images.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSet {
    /// What they are.
    pub space: FeatureSpace,
    /// [N, d], d being `space.dimension()`.
    pub values: Vec<f32>,
    /// What a classifier says of the images; the pixel features have none.
    pub logits: Option<Logits>,
}

/// The features of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRow {
    /// \[d\].
    pub values: Vec<f32>,
    /// \[classes\]; empty where no classifier says anything of it.
    pub logits: Vec<f32>,
}

impl FeatureRow {
    /// Adds it to a record of a part.
    pub fn add_to(&self, bytes: Bytes) -> Bytes {
        bytes.floats(&self.values).floats(&self.logits)
    }

    /// Of a record of a part.
    ///
    /// # Errors
    /// As [`Fields::u64`].
    pub fn read(fields: &mut Fields) -> Result<Self> {
        Ok(Self { values: fields.floats()?, logits: fields.floats()? })
    }
}

/// Logits of N images.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// Number of classes.
    pub classes: usize,
    /// Probabilities of the classes, image by image, [N, classes].
    pub values: Vec<f32>,
}

/// What generated images are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    /// Features of real images.
    Features(&'a FeatureSet),
    /// Their mean and covariance, from a file: enough for the Fréchet distance alone.
    Statistics(&'a StatisticsFile),
}

/// How the figures are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageMetricOptions {
    /// Parts of the Inception Score.
    pub splits: usize,
    /// k of precision and recall; `None`: without them.
    pub neighbours: Option<usize>,
}

impl Default for ImageMetricOptions {
    fn default() -> Self {
        Self { splits: SPLITS, neighbours: Some(NEIGHBOURS) }
    }
}

/// A figure with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedMetric {
    /// `fid`, `frechet_…`, `inception_score…`, `precision_…`, `recall_…`.
    pub name: String,
    /// The value.
    pub value: f64,
}

impl ImageFeatures {
    /// Inception-v3 from a weights file.
    ///
    /// # Errors
    /// As [`Inception::load`].
    pub fn inception(weights: &Path, preprocessing: Preprocessing, compute: &Compute) -> Result<Self> {
        Ok(Self::Inception(Box::new(Inception::load(weights, preprocessing, compute)?)))
    }

    /// What its features are.
    pub fn space(&self) -> FeatureSpace {
        match self {
            Self::Pixels => FeatureSpace::Pixels,
            Self::Inception(network) => network.space(),
        }
    }

    /// The features of images `tokens` [N, L] of one shape, planes [k, H, W] each. `progress` is told the number of
    /// images done.
    ///
    /// # Errors
    /// [`Error::Invalid`] for images of other than 1 or 3 channels, and tokens that are no whole images.
    pub fn extract(
        &self,
        tokens: &[u8],
        shape: ImageShape,
        progress: &mut dyn FnMut(usize),
    ) -> Result<FeatureSet> {
        check(tokens, shape)?;
        let (values, logits) = match self {
            Self::Pixels => {
                let images = tokens.par_chunks_exact(shape.tokens());
                let rows: Vec<Vec<f32>> = images.map(|image| pixels::features(image, shape)).collect();
                progress(rows.len());
                (rows.concat(), None)
            }
            Self::Inception(network) => {
                let output = network.run(tokens, shape, progress)?;
                let classes = network.weights().classes();
                (output.features, Some(Logits { classes, values: output.logits }))
            }
        };
        Ok(FeatureSet { space: self.space(), values, logits })
    }
}

impl FeatureSet {
    /// Puts together the features of images, \[N\] rows of d numbers, and the classifier's logits of each, where there are any.
    ///
    /// # Errors
    /// [`Error::Invalid`] for rows of other lengths.
    pub fn of_rows(space: FeatureSpace, rows: &[FeatureRow]) -> Result<Self> {
        let classes = rows.first().map_or(0, |row| row.logits.len());
        if let Some(row) = rows.iter().find(|row| row.values.len() != space.dimension()) {
            let allowed = format!("{} of each image", space.dimension());
            return Err(Error::invalid("number of features", row.values.len(), allowed));
        }
        if let Some(row) = rows.iter().find(|row| row.logits.len() != classes) {
            return Err(Error::invalid(
                "number of logits",
                row.logits.len(),
                format!("{classes} of each image"),
            ));
        }
        let logits = (classes > 0)
            .then(|| Logits { classes, values: rows.iter().flat_map(|row| row.logits.clone()).collect() });
        Ok(Self { space, values: rows.iter().flat_map(|row| row.values.clone()).collect(), logits })
    }

    /// The features of every image.
    pub fn rows(&self) -> impl Iterator<Item = FeatureRow> {
        self.values.chunks_exact(self.space.dimension()).enumerate().map(|(n, values)| {
            let own = |logits: &Logits| logits.values[n * logits.classes..(n + 1) * logits.classes].to_vec();
            FeatureRow { values: values.to_vec(), logits: self.logits.as_ref().map(own).unwrap_or_default() }
        })
    }

    /// Number of images N.
    pub fn count(&self) -> usize {
        self.values.len() / self.space.dimension()
    }

    /// Mean and covariance, with what they are of, to be written to a file.
    ///
    /// # Errors
    /// As [`FeatureStatistics::of`].
    pub fn statistics(&self) -> Result<StatisticsFile> {
        let statistics = FeatureStatistics::of(&self.values, self.space.dimension())?;
        Ok(StatisticsFile { statistics, space: Some(self.space) })
    }
}

/// All figures of `generated` against `reference`: the Fréchet distance, called by its proper name; where the network
/// is a classifier, the Inception Score and its deviation; where the reference is features, precision and recall.
///
/// # Errors
/// [`Error::Invalid`] for features of different spaces, and as [`frechet_distance`], [`inception_score`] and
/// [`precision_recall`].
pub fn image_metrics(
    generated: &FeatureSet,
    reference: Reference,
    options: ImageMetricOptions,
) -> Result<Vec<NamedMetric>> {
    let space = generated.space;
    check_same(space, &reference)?;
    let mut metrics = Vec::new();
    let mut add = |name: String, value: f64| metrics.push(NamedMetric { name, value });
    let own = generated.statistics()?.statistics;
    let distance = match reference {
        Reference::Features(set) => frechet_distance(&own, &set.statistics()?.statistics)?,
        Reference::Statistics(file) => frechet_distance(&own, &file.statistics)?,
    };
    add(space.frechet_metric().name().to_owned(), distance);
    if let Some(logits) = &generated.logits {
        let score = inception_score(&logits.values, logits.classes, options.splits)?;
        let name = inception_score_name(space);
        add(name.to_owned(), score.mean);
        add(format!("{name}_deviation"), score.deviation);
    }
    if let (Reference::Features(set), Some(neighbours)) = (reference, options.neighbours) {
        let shares = precision_recall(&generated.values, &set.values, space.dimension(), neighbours)?;
        add(format!("precision_{space}"), shares.precision);
        add(format!("recall_{space}"), shares.recall);
    }
    Ok(metrics)
}

/// Only the original network's score is called Inception Score without more.
fn inception_score_name(space: FeatureSpace) -> &'static str {
    match space {
        FeatureSpace::InceptionTorchvision => "inception_score_torchvision",
        _ => "inception_score",
    }
}

/// A file that does not say what it is of is taken at its dimension.
fn check_same(space: FeatureSpace, reference: &Reference) -> Result<()> {
    let other = match reference {
        Reference::Features(set) => Some(set.space),
        Reference::Statistics(file) => file.space,
    };
    match other {
        Some(other) if other != space => {
            let allowed = format!("{space}, as the generated images' features are");
            Err(Error::invalid("features of the reference", other, allowed))
        }
        _ => Ok(()),
    }
}

/// Checks that `tokens` are whole images of 1 or 3 channels.
pub(super) fn check(tokens: &[u8], shape: ImageShape) -> Result<()> {
    let ImageShape { channels, height, width } = shape;
    if ![1, 3].contains(&channels) {
        return Err(Error::invalid("channels", channels, "1 (grey) or 3 (red, green, blue)"));
    }
    if height == 0 || width == 0 {
        let given = format!("{height} × {width}");
        return Err(Error::invalid("height × width", given, "1 × 1 or more"));
    }
    if !tokens.len().is_multiple_of(shape.tokens()) {
        let allowed = format!("a multiple of {channels}·{height}·{width} = {}", shape.tokens());
        return Err(Error::invalid("number of tokens", tokens.len(), allowed));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape { channels: 3, height: 8, width: 8 };

    fn pixels(count: usize, seed: u64) -> FeatureSet {
        let draws = crate::random::Draws::new(seed, crate::random::Purpose::Token);
        let token = |i: usize| draws.below(256, (i / 192) as u64, (i % 192) as u32, 0) as u8;
        let tokens: Vec<u8> = (0..count * 192).map(token).collect();
        ImageFeatures::Pixels.extract(&tokens, SHAPE, &mut |_| ()).unwrap()
    }

    fn names(metrics: &[NamedMetric]) -> Vec<&str> {
        metrics.iter().map(|metric| metric.name.as_str()).collect()
    }

    #[test]
    fn a_set_against_itself_has_distance_0_and_covers_itself() {
        let set = pixels(300, 1);
        let metrics = image_metrics(&set, Reference::Features(&set), ImageMetricOptions::default()).unwrap();
        assert_eq!(names(&metrics), ["frechet_pixels", "precision_pixels", "recall_pixels"]);
        assert!(metrics[0].value < 1e-6);
        assert_eq!((metrics[1].value, metrics[2].value), (1.0, 1.0));
    }

    #[test]
    fn statistics_give_the_same_distance_as_the_features_they_are_of() {
        let (a, b) = (pixels(300, 1), pixels(250, 2));
        let options = ImageMetricOptions::default();
        let full = image_metrics(&a, Reference::Features(&b), options).unwrap();
        let file = b.statistics().unwrap();
        let short = image_metrics(&a, Reference::Statistics(&file), options).unwrap();
        assert_eq!(names(&short), ["frechet_pixels"]);
        assert_eq!(short[0], full[0]);
        assert!(short[0].value > 1e-3);
    }

    #[test]
    fn torchvisions_weights_do_not_print_the_plain_names() {
        let names = |space: FeatureSpace| (space.frechet_metric().name(), inception_score_name(space));
        assert_eq!(names(FeatureSpace::InceptionFid), ("fid", "inception_score"));
        assert_eq!(names(FeatureSpace::InceptionFidTf1), ("fid", "inception_score"));
        let torchvision = ("frechet_inception_torchvision", "inception_score_torchvision");
        assert_eq!(names(FeatureSpace::InceptionTorchvision), torchvision);
    }

    #[test]
    fn features_of_different_spaces_do_not_compare() {
        let set = FeatureSet { space: FeatureSpace::InceptionFid, values: vec![0.0; 4096], logits: None };
        let file = StatisticsFile {
            statistics: FeatureStatistics { mean: vec![0.0; 2048], covariance: Vec::new(), count: None },
            space: Some(FeatureSpace::InceptionFidTf1),
        };
        let error = image_metrics(&set, Reference::Statistics(&file), ImageMetricOptions::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("inception_fid_tf1 is not allowed: inception_fid, as"), "{error}");
    }

    #[test]
    fn what_are_no_images_is_refused() {
        let problem = |tokens: &[u8], shape| {
            ImageFeatures::Pixels.extract(tokens, shape, &mut |_| ()).unwrap_err().to_string()
        };
        assert!(
            problem(&[0; 100], SHAPE).contains("number of tokens = 100 is not allowed: a multiple of 3·8·8")
        );
        assert!(problem(&[0; 256], ImageShape { channels: 4, ..SHAPE }).contains("channels = 4"));
        assert!(problem(&[0; 256], ImageShape { height: 0, ..SHAPE }).contains("0 × 8"));
    }
}
