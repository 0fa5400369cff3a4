//! Noise schedules.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use submask::schedule::Schedule;

use super::elements;
use crate::errors::{exception, invalid};

/// α_t.
#[pyclass(frozen, module = "submask._native")]
pub struct NoiseSchedule {
    pub inner: Schedule,
}

#[pymethods]
impl NoiseSchedule {
    /// A schedule by name, with its parameter: the ε of `log-linear`, the exponent of `polynomial`.
    #[new]
    fn new(py: Python<'_>, kind: &str, parameter: f64) -> PyResult<Self> {
        let inner = match kind {
            "linear" => Schedule::Linear,
            "log-linear" => Schedule::LogLinear { epsilon: parameter },
            "polynomial" => Schedule::Polynomial { exponent: parameter },
            "cosine" => Schedule::Cosine,
            _ => return Err(invalid(py, "kind", kind, "linear, log-linear, polynomial or cosine")),
        };
        let checked = inner
            .validate()
            .map_err(|error| error.rename_field(|field| field.trim_start_matches("schedule.").to_owned()));
        checked.map(|()| Self { inner }).map_err(|error| exception(py, &error))
    }

    fn alpha<'py>(
        &self,
        py: Python<'py>,
        t: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.map(py, &t, Schedule::alpha)
    }

    fn alpha_prime<'py>(
        &self,
        py: Python<'py>,
        t: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.map(py, &t, Schedule::alpha_prime)
    }

    fn weight<'py>(
        &self,
        py: Python<'py>,
        t: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.map(py, &t, Schedule::weight)
    }

    fn inverse_alpha<'py>(
        &self,
        py: Python<'py>,
        alpha: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.map(py, &alpha, Schedule::inverse_alpha)
    }

    /// Of each step of a grid the probability to be the one in which a sub-token is revealed.
    fn reveal_probabilities<'py>(
        &self,
        py: Python<'py>,
        grid: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let probabilities = self.inner.reveal_probabilities(elements(&grid, "grid")?);
        probabilities
            .map(|probabilities| probabilities.into_pyarray(py))
            .map_err(|error| exception(py, &error))
    }
}

impl NoiseSchedule {
    fn map<'py>(
        &self,
        py: Python<'py>,
        values: &PyReadonlyArray1<'py, f64>,
        function: impl Fn(&Schedule, f64) -> f64 + Sync,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let values = elements(values, "t")?;
        let mapped: Vec<f64> =
            py.detach(|| values.iter().map(|value| function(&self.inner, *value)).collect());
        Ok(mapped.into_pyarray(py))
    }
}
