//! What logits say of tokens and digits.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use submask::predictive::{Predictive, Sharpening, TokenDistribution};
use submask::{Error, Result};

use super::codes::Codes;
use super::elements;
use super::settings::nucleus;
use crate::ending::detached;
use crate::errors::exception;

/// p_θ(x_0 | y_t).
#[pyclass(frozen, module = "submask._native")]
pub struct TokenPredictive {
    pub inner: Arc<Predictive>,
}

/// Positions: the logits [n·C] and digits [n·ℓ] of each.
struct Positions<'a> {
    predictive: &'a Predictive,
    logits: &'a [f32],
    digits: &'a [u32],
}

impl Positions<'_> {
    /// Calls `visit` with what is predicted at every position, and its number.
    fn try_for_each(
        &self,
        sharpening: &Sharpening,
        mut visit: impl FnMut(usize, TokenDistribution<'_>) -> Result<()>,
    ) -> Result<()> {
        sharpening.validate()?;
        let codes = self.predictive.codes();
        let rows = self.logits.chunks_exact(codes.vocab_size());
        for (row, (logits, y)) in rows.zip(self.digits.chunks_exact(codes.subtoken_len())).enumerate() {
            if let Some(digit) = y.iter().find(|digit| **digit > codes.mask_id()) {
                let allowed = format!("0 to {}, {0} being the mask", codes.mask_id());
                return Err(Error::invalid(format!("digits of position {row}"), digit, allowed));
            }
            if self.predictive.carry_over() && self.predictive.consistent(y).is_empty() {
                let field = format!("digits of position {row}");
                return Err(Error::invalid(field, format!("{y:?}"), "digits that some token has"));
            }
            let p = self.predictive.distribution_at(logits, y, sharpening.temperature);
            if !p.is_proper() {
                let allowed =
                    "a finite number for at least one possible token, and neither NaN nor inf for any";
                return Err(Error::invalid(format!("logits of position {row}"), shown(logits), allowed));
            }
            visit(row, p.truncate(sharpening))?;
        }
        Ok(())
    }
}

/// The beginning of some logits.
fn shown(logits: &[f32]) -> String {
    let first: Vec<String> = logits.iter().take(8).map(f32::to_string).collect();
    let more = if logits.len() > first.len() { ", …" } else { "" };
    format!("[{}{more}]", first.join(", "))
}

#[pymethods]
impl TokenPredictive {
    #[new]
    fn new(codes: &Codes, carry_over: bool) -> Self {
        Self { inner: Arc::new(Predictive::new(codes.inner.clone(), carry_over)) }
    }

    #[getter]
    fn carry_over(&self) -> bool {
        self.inner.carry_over()
    }

    /// log p(x | y_t) of every token [n·C], of logits [n·C] and digits [n·ℓ].
    #[allow(clippy::too_many_arguments, reason = "what a distribution is made of, and the sharpening's four")]
    fn log_probs<'py>(
        &self,
        py: Python<'py>,
        logits: PyReadonlyArray1<'py, f32>,
        digits: PyReadonlyArray1<'py, u32>,
        temperature: f64,
        top_p: f64,
        top_k: usize,
        nucleus_name: &str,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let nucleus = nucleus(nucleus_name).map_err(|error| exception(py, &error))?;
        let sharpening = Sharpening { temperature, top_p, nucleus, top_k: (top_k > 0).then_some(top_k) };
        self.rows(py, &logits, &digits, |positions| {
            let vocab_size = self.inner.codes().vocab_size() as u32;
            let mut all = Vec::with_capacity(positions.logits.len());
            positions.try_for_each(&sharpening, |_, p| {
                all.extend((0..vocab_size).map(|token| p.log_prob(token)));
                Ok(())
            })?;
            Ok(all)
        })
    }

    /// p(y^{ij} = v | y_t) of every value of every digit [n·ℓ·b].
    fn marginals<'py>(
        &self,
        py: Python<'py>,
        logits: PyReadonlyArray1<'py, f32>,
        digits: PyReadonlyArray1<'py, u32>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.rows(py, &logits, &digits, |positions| {
            let codes = self.inner.codes();
            let mut all = Vec::with_capacity(positions.digits.len() * codes.base() as usize);
            positions.try_for_each(&Sharpening::default(), |_, p| {
                (0..codes.subtoken_len()).for_each(|j| all.extend(p.marginals(j)));
                Ok(())
            })?;
            Ok(all)
        })
    }

    /// log p(y^{iS} = v | y_t) [n], of values [n·ℓ] whose masks say which digits are not in S.
    fn log_joint<'py>(
        &self,
        py: Python<'py>,
        logits: PyReadonlyArray1<'py, f32>,
        digits: PyReadonlyArray1<'py, u32>,
        values: PyReadonlyArray1<'py, u32>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let values = elements(&values, "values")?;
        self.rows(py, &logits, &digits, |positions| {
            let codes = self.inner.codes();
            let (len, base) = (codes.subtoken_len(), codes.base());
            let mut all = Vec::with_capacity(values.len() / len);
            positions.try_for_each(&Sharpening::default(), |row, p| {
                let asked = &values[row * len..(row + 1) * len];
                if let Some(digit) = asked.iter().find(|digit| **digit > base) {
                    let allowed = format!("0 to {base}, {base} for a digit that is not asked for");
                    return Err(Error::invalid(format!("values of position {row}"), digit, allowed));
                }
                let asked = asked.iter().copied().enumerate().filter(|(_, digit)| *digit < base);
                all.push(p.log_joint_marginal(asked));
                Ok(())
            })?;
            Ok(all)
        })
    }
}

impl TokenPredictive {
    /// What `compute` makes of the positions, without the GIL.
    fn rows<'py>(
        &self,
        py: Python<'py>,
        logits: &PyReadonlyArray1<'py, f32>,
        digits: &PyReadonlyArray1<'py, u32>,
        compute: impl FnOnce(&Positions) -> Result<Vec<f64>> + Send,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let (logits, digits) = (elements(logits, "logits")?, elements(digits, "digits")?);
        let positions = Positions { predictive: &self.inner, logits, digits };
        let made = detached(py, || compute(&positions));
        made.map(|made| made.into_pyarray(py)).map_err(|error| exception(py, &error))
    }
}
