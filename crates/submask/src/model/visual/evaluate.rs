//! Held-out images or points under a model: figures that say what they are.

use burn::tensor::Device;

use super::{VisualConfig, VisualModel};
use crate::data::Density;
use crate::data::image::ImageSet;
use crate::likelihood::{Estimate, Figure, Likelihood, LikelihoodSettings, Meaning, Sequences};
use crate::model::Estimator;
use crate::model::evaluate::{Estimated, surrogate_figure};
use crate::predictive::Predictive;
use crate::random::{Draws, Purpose};
use crate::{Error, Result};

/// Sequences that are evaluated, with their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldOut {
    /// Tokens [n, L].
    pub x_0: Vec<u32>,
    /// Classes \[n\]; empty where there are none.
    pub labels: Vec<usize>,
}

impl HeldOut {
    /// `count` images of a set spread evenly over it, as the tokens of a model; 0: all.
    ///
    /// # Errors
    /// [`Error::Invalid`] for images that are not of the model's shape.
    pub fn of_images(set: &ImageSet, config: &VisualConfig, count: u64) -> Result<Self> {
        if Some(set.shape()) != config.image_shape() {
            let allowed = config.image_shape().map_or("points".to_owned(), |shape| shape.to_string());
            return Err(Error::invalid("images", set.shape(), format!("{allowed}, as the model")));
        }
        check_classes(set, config)?;
        let all = set.len();
        let count = if count == 0 { all } else { (count as usize).min(all) };
        let indices = (0..count).map(|i| i * all / count);
        let mut x_0 = Vec::with_capacity(count * set.shape().tokens());
        let mut labels = Vec::new();
        for index in indices {
            x_0.extend(set.tokens(index)?.iter().map(|byte| u32::from(*byte)));
            labels.extend(set.label(index));
        }
        Ok(Self { x_0: config.tokens_of(x_0)?, labels })
    }

    /// `count` points of a distribution, one in each of `count` equal parts of it, so that their mean varies less.
    pub fn of_density(density: &Density, count: u64, seed: u64) -> Self {
        let draws = Draws::new(seed, Purpose::Split);
        let uniform = |n: u64| (n as f64 + draws.uniform(n, 0, 0)) / count as f64;
        let x_0 = (0..count).flat_map(|n| density.draw(uniform(n))).collect();
        Self { x_0, labels: Vec::new() }
    }
}

/// A network that reads classes is told those of the images, which must be its own. Where one side has numbers for
/// names, as IDX files and imported models do, there must be no more classes than the network knows.
fn check_classes(set: &ImageSet, config: &VisualConfig) -> Result<()> {
    let (Some(_), ours, theirs) = (config.classes(), config.class_names(), set.class_names()) else {
        return Ok(());
    };
    let numbered = |names: &[String]| names.iter().enumerate().all(|(i, name)| *name == i.to_string());
    let by_number = !theirs.is_empty() && theirs.len() <= ours.len() && (numbered(ours) || numbered(theirs));
    if theirs == ours || by_number {
        return Ok(());
    }
    let given = if theirs.is_empty() { "none".to_owned() } else { theirs.join(", ") };
    Err(Error::invalid("labels", given, format!("the classes that the model reads: {}", ours.join(", "))))
}

impl VisualModel {
    /// Evaluates images or points.
    ///
    /// Likelihoods are given per dimension (a colour channel of a pixel, or a coordinate) and per sequence; the joint
    /// objective, which is none, in nats per token only. A network that reads classes is told those of `held_out`:
    /// its figures are of images given their classes.
    ///
    /// `carry_over` takes the place of the model's own constraint: a network trained without it has one more valid
    /// bound with it, that of the process in which digits that are visible stay (math.md §3).
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when there is nothing to evaluate, or it does not fit the network.
    pub fn evaluate(
        &self,
        device: &Device,
        estimator: Estimator,
        held_out: &HeldOut,
        carry_over: Option<bool>,
        settings: &LikelihoodSettings,
    ) -> Result<Vec<Figure>> {
        let constraint = carry_over.unwrap_or(self.predictive.carry_over());
        let predictive = Predictive::new(self.predictive.codes().clone(), constraint);
        let name = estimator.name();
        let network = self.denoiser(device);
        let (x_0, labels) = self.by_label(held_out);
        let mut sequences = Sequences::new(&x_0, self.config.seq_len())?;
        if let Some(labels) = &labels {
            sequences = sequences.with_labels(labels);
        }
        match estimator.estimate(&*network, &predictive, &sequences, settings)? {
            Estimated::Exact(estimate) => self.likelihood_figures(name, &estimate),
            Estimated::UpperBound(estimate) => self.likelihood_figures(name, &estimate),
            Estimated::Surrogate(estimate) => Ok(vec![surrogate_figure(name, &estimate)]),
        }
    }

    /// The sequences, class by class with their classes where the network reads them.
    fn by_label(&self, held_out: &HeldOut) -> (Vec<u32>, Option<Vec<usize>>) {
        let Some(classes) = self.config.classes() else { return (held_out.x_0.clone(), None) };
        let (mut x_0, mut labels) = (Vec::new(), Vec::new());
        for class in 0..classes {
            let all = held_out.x_0.chunks(self.config.seq_len()).zip(&held_out.labels);
            for (own, label) in all.filter(|(_, label)| **label == class) {
                x_0.extend_from_slice(own);
                labels.push(*label);
            }
        }
        (x_0, Some(labels))
    }

    fn likelihood_figures<K: Meaning>(&self, name: &str, estimate: &Estimate<K>) -> Result<Vec<Figure>>
    where
        Estimate<K>: Likelihood,
    {
        let per_dimension = estimate.bits_per_dimension(self.config.dimensions())?;
        Ok(vec![estimate.figure_of(name, "bits per dimension", per_dimension), estimate.figure(name)])
    }
}
