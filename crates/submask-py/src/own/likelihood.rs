//! Likelihoods under a network of the user's own.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, ToPyArray};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use submask::likelihood::{
    Estimate, Exact, Kind, Likelihood, LikelihoodSettings, Meaning, Measured, Sequences, Surrogate,
    UpperBound, bound_k, enumerate, exact_in_order, joint_objective, nelbo_subtoken, nelbo_token, path_bound,
    path_bound_full,
};
use submask::model::Estimator;
use submask::order::Order;
use submask::predictive::Predictive;
use submask::schedule::RevealUnit;
use submask::{Denoiser, Error, Result};

use super::elements;
use super::network::CallableNetwork;
use super::predictive::TokenPredictive;
use super::schedule::NoiseSchedule;
use super::settings::{Grid, unit};
use crate::errors::exception;

/// What is estimated.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct EstimatorGiven {
    estimator: String,
    /// The steps of the path bound.
    steps: Option<Grid>,
    order: String,
    unit: String,
    per_step: usize,
    /// Whether all masks are enumerated instead of drawn.
    enumerate: bool,
    draws: usize,
    seed: u64,
    batch: usize,
    schedule: Py<NoiseSchedule>,
}

/// Of what.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct SequencesGiven<'py> {
    /// One sequence after the other.
    tokens: PyReadonlyArray1<'py, u32>,
    /// The length of all, or of each.
    lengths: Lengths,
    given: Option<PyReadonlyArray1<'py, bool>>,
    labels: Option<Vec<usize>>,
    first_sequence: u64,
}

#[derive(FromPyObject)]
enum Lengths {
    Equal(usize),
    Each(Vec<usize>),
}

/// An estimate of whichever kind.
enum Estimated {
    Exact(Estimate<Exact>),
    UpperBound(Estimate<UpperBound>),
    Surrogate(Estimate<Surrogate>),
}

/// What an estimator says of every sequence.
#[pyclass(frozen, module = "submask._native")]
pub struct SequenceEstimate {
    name: String,
    inner: Estimated,
}

/// Estimates with a callable as the network.
#[pyfunction]
pub fn estimate(
    py: Python<'_>,
    network: &CallableNetwork,
    predictive: &TokenPredictive,
    sequences: SequencesGiven<'_>,
    estimator: EstimatorGiven,
) -> PyResult<SequenceEstimate> {
    let tokens = elements(&sequences.tokens, "tokens")?;
    let given = sequences.given.as_ref().map(|given| elements(given, "given")).transpose()?;
    let (lengths, labels) = (&sequences.lengths, sequences.labels.as_deref());
    let first_sequence = sequences.first_sequence;
    let inner = network.called(py).run(py, |network| {
        let mut sequences = match lengths {
            Lengths::Equal(length) => Sequences::new(tokens, *length)?,
            Lengths::Each(lengths) => Sequences::of_lengths(tokens, lengths)?,
        };
        if let Some(given) = given {
            sequences = sequences.with_given(given);
        }
        if let Some(labels) = labels {
            sequences = sequences.with_labels(labels);
        }
        estimator.estimate(network, &predictive.inner, &sequences.starting_at(first_sequence))
    })?;
    let name = estimator.figure_name().map_err(|error| exception(py, &error))?;
    Ok(SequenceEstimate { name, inner })
}

impl EstimatorGiven {
    /// Its name in figures, as the program has it.
    fn figure_name(&self) -> Result<String> {
        Ok(match self.estimator.as_str() {
            "exact" => {
                let (order, unit) = (self.order.parse()?, unit(&self.unit)?);
                Estimator::Exact { order, unit, per_step: self.per_step }.name()
            }
            "path_bound_full" => "path_bound".to_owned(),
            name => name.to_owned(),
        })
    }

    fn estimate(
        &self,
        network: &dyn Denoiser,
        predictive: &Predictive,
        sequences: &Sequences,
    ) -> Result<Estimated> {
        let schedule = self.schedule.get().inner;
        let settings = LikelihoodSettings { draws: self.draws, seed: self.seed, batch: self.batch, schedule };
        let unit = unit(&self.unit)?;
        match self.estimator.as_str() {
            "nelbo_subtoken" => {
                let function = if self.enumerate { enumerate::nelbo_subtoken } else { nelbo_subtoken };
                function(network, predictive, sequences, &settings).map(Estimated::UpperBound)
            }
            "nelbo_token" => {
                let function = if self.enumerate { enumerate::nelbo_token } else { nelbo_token };
                function(network, predictive, sequences, &settings).map(Estimated::UpperBound)
            }
            "joint_objective" => {
                let function = if self.enumerate { enumerate::joint_objective } else { joint_objective };
                function(network, predictive, sequences, &settings).map(Estimated::Surrogate)
            }
            "path_bound" | "path_bound_full" => {
                self.path_bound(network, predictive, sequences, unit, &settings).map(Estimated::UpperBound)
            }
            "exact" => {
                let order = self.order.parse::<Order>()?;
                exact_in_order(network, predictive, sequences, order, unit, self.per_step, &settings)
                    .map(Estimated::Exact)
            }
            "bound_k" => bound_k(network, predictive, sequences, unit, &settings).map(Estimated::UpperBound),
            other => Err(Error::invalid("estimator", other, "an estimator of submask.likelihood")),
        }
    }

    fn path_bound(
        &self,
        network: &dyn Denoiser,
        predictive: &Predictive,
        sequences: &Sequences,
        unit: RevealUnit,
        settings: &LikelihoodSettings,
    ) -> Result<Estimate<UpperBound>> {
        let steps = self.steps.as_ref().map_or_else(
            || Err(Error::invalid("steps", "none", "the steps of the sampler")),
            |steps| steps.reveal_steps(self.schedule.get()),
        )?;
        let function = match (self.enumerate, self.estimator.as_str()) {
            (true, _) => enumerate::path_bound,
            (false, "path_bound") => path_bound,
            (false, _) => path_bound_full,
        };
        function(network, predictive, sequences, &steps, unit, settings)
    }
}

/// Does the same with an estimate of each kind.
macro_rules! of_any {
    ($estimated:expr, $estimate:ident => $made:expr) => {
        match $estimated {
            Estimated::Exact($estimate) => $made,
            Estimated::UpperBound($estimate) => $made,
            Estimated::Surrogate($estimate) => $made,
        }
    };
}

#[pymethods]
impl SequenceEstimate {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn kind(&self) -> &'static str {
        kind_name(of_any!(&self.inner, estimate => estimate.kind()))
    }

    #[getter]
    fn evaluations(&self) -> u64 {
        of_any!(&self.inner, estimate => estimate.evaluations())
    }

    fn nats<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        of_any!(&self.inner, estimate => estimate.nats().to_pyarray(py))
    }

    fn draw_errors<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        of_any!(&self.inner, estimate => estimate.draw_errors().to_pyarray(py))
    }

    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let tokens = of_any!(&self.inner, estimate => estimate.tokens());
        tokens.iter().map(|tokens| *tokens as i64).collect::<Vec<_>>().into_pyarray(py)
    }

    /// What every token of every sequence adds; none unless the value is exact.
    fn token_nats<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyArray1<f64>>> {
        let by_token = of_any!(&self.inner, estimate => estimate.token_nats());
        by_token.iter().map(|nats| nats.to_pyarray(py)).collect()
    }

    /// The mean over sequences, or over their tokens, as the fields of a figure.
    fn mean<'py>(&self, py: Python<'py>, per: &str) -> PyResult<Bound<'py, PyDict>> {
        let figure = of_any!(&self.inner, estimate => match per {
            "sequence" => estimate.figure_of(&self.name, "nats per sequence", estimate.nats_per_sequence()),
            _ => estimate.figure_of(&self.name, "nats per token", estimate.nats_per_token()),
        });
        fields(py, &figure)
    }

    /// The same of a figure that likelihoods alone have: `perplexity`, `token`, `dimension` with their number, `character` with
    /// the number of each sequence.
    fn likelihood<'py>(
        &self,
        py: Python<'py>,
        of: &str,
        dimensions: usize,
        characters: Vec<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let figure = match &self.inner {
            Estimated::Exact(estimate) => self.figure(estimate, of, dimensions, &characters),
            Estimated::UpperBound(estimate) => self.figure(estimate, of, dimensions, &characters),
            Estimated::Surrogate(_) => {
                Err(Error::invalid("kind", "surrogate", "an exact value or an upper bound"))
            }
        };
        figure.map_err(|error| exception(py, &error)).and_then(|figure| fields(py, &figure))
    }
}

/// The name of a kind.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Exact => "exact",
        Kind::UpperBound => "upper_bound",
        Kind::Surrogate => "surrogate",
    }
}

/// A figure as its JSON says it, but with numbers that are not finite, which JSON does not have.
fn fields<'py>(py: Python<'py>, figure: &submask::Figure) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &figure.name)?;
    dict.set_item("value", figure.value)?;
    dict.set_item("unit", &figure.unit)?;
    dict.set_item("kind", kind_name(figure.kind))?;
    for (name, error) in [
        ("standard_error", figure.standard_error),
        ("sequence_error", figure.sequence_error),
        ("draw_error", figure.draw_error),
    ] {
        // Of infinite values it is not known.
        dict.set_item(name, error.filter(|error| error.is_finite()))?;
    }
    dict.set_item("evaluations", figure.evaluations)?;
    Ok(dict)
}

impl SequenceEstimate {
    fn figure<K: Meaning>(
        &self,
        estimate: &Estimate<K>,
        of: &str,
        dimensions: usize,
        characters: &[u64],
    ) -> Result<submask::Figure>
    where
        Estimate<K>: Likelihood,
    {
        let (unit, measured): (&str, Measured) = match of {
            "perplexity" => ("perplexity per token", estimate.perplexity()),
            "dimension" => ("bits per dimension", estimate.bits_per_dimension(dimensions)?),
            "character" => ("bits per character", estimate.bits_per_character(characters)?),
            _ => ("bits per token", estimate.bits_per_token()),
        };
        Ok(estimate.figure_of(&self.name, unit, measured))
    }
}
