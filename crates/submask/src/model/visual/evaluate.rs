//! Held-out images or points under a model: figures that say what they are.

use burn::tensor::Device;

use super::VisualModel;
use crate::Result;
use crate::likelihood::{Estimate, Figure, Likelihood, LikelihoodSettings, Meaning, Sequences};
use crate::model::Estimator;
use crate::model::evaluate::{Estimated, surrogate_figure};
use crate::predictive::Predictive;

/// Sequences that are evaluated, with their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldOut {
    /// Tokens [n, L].
    pub x_0: Vec<u32>,
    /// Classes \[n\]; empty where there are none.
    pub labels: Vec<usize>,
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
        let mut total: Option<Estimated> = None;
        for (label, x_0, first) in self.by_label(held_out) {
            let sequences = Sequences::new(&x_0, self.config.seq_len())?.starting_at(first);
            let network = self.denoiser(device, label);
            let part = estimator.estimate(&*network, &predictive, &sequences, settings)?;
            total = Some(match total {
                Some(total) => total.followed_by(part),
                None => part,
            });
        }
        match total {
            Some(Estimated::Exact(estimate)) => self.likelihood_figures(name, &estimate),
            Some(Estimated::UpperBound(estimate)) => self.likelihood_figures(name, &estimate),
            Some(Estimated::Surrogate(estimate)) => Ok(vec![surrogate_figure(name, &estimate)]),
            // Says that there is no sequence.
            None => Sequences::new(&[], self.config.seq_len()).map(|_| Vec::new()),
        }
    }

    /// The sequences of every class, with the number of the first; all together where the network reads no class.
    fn by_label(&self, held_out: &HeldOut) -> Vec<(Option<usize>, Vec<u32>, u64)> {
        let Some(classes) = self.config.classes() else {
            return match held_out.x_0.is_empty() {
                true => Vec::new(),
                false => vec![(None, held_out.x_0.clone(), 0)],
            };
        };
        let mut first = 0;
        let mut parts = Vec::new();
        for class in 0..classes {
            let own = held_out.x_0.chunks(self.config.seq_len()).zip(&held_out.labels);
            let own: Vec<&[u32]> = own.filter(|(_, label)| **label == class).map(|(x_0, _)| x_0).collect();
            if !own.is_empty() {
                parts.push((Some(class), own.concat(), first));
                first += own.len() as u64;
            }
        }
        parts
    }

    fn likelihood_figures<K: Meaning>(&self, name: &str, estimate: &Estimate<K>) -> Result<Vec<Figure>>
    where
        Estimate<K>: Likelihood,
    {
        let per_dimension = estimate.bits_per_dimension(self.config.dimensions())?;
        Ok(vec![estimate.figure_of(name, "bits per dimension", per_dimension), estimate.figure(name)])
    }
}
