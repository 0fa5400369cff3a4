//! The tokenizer of a model.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use submask::data::Tokenizer;
use submask::model::Architecture;
use submask::{Error, Result};

use crate::errors::{exception, invalid};

/// A model's tokenizer, which outlives the model.
#[pyclass(frozen, module = "submask._native")]
pub struct ModelTokenizer {
    architecture: Arc<Architecture>,
}

impl ModelTokenizer {
    /// That of a model of text.
    pub fn of(architecture: &Arc<Architecture>) -> Option<Self> {
        architecture.tokenizer().map(|_| Self { architecture: Arc::clone(architecture) })
    }

    fn get(&self) -> Result<&Tokenizer> {
        let tokenizer = self.architecture.tokenizer();
        tokenizer.ok_or_else(|| {
            Error::invalid("model", self.architecture.config().subject.name(), "a model of text")
        })
    }

    fn ask<T>(&self, py: Python<'_>, question: impl FnOnce(&Tokenizer) -> Result<T>) -> PyResult<T> {
        self.get().and_then(question).map_err(|error| exception(py, &error))
    }
}

#[pymethods]
impl ModelTokenizer {
    fn encode<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let tokens = py.detach(|| self.get()?.encode(text)).map_err(|error| exception(py, &error))?;
        Ok(tokens.into_pyarray(py))
    }

    fn decode(
        &self,
        py: Python<'_>,
        tokens: PyReadonlyArray1<'_, u32>,
        end_of_text: &str,
    ) -> PyResult<String> {
        let slice = tokens.as_slice();
        let tokens = slice.map_err(|_| invalid(py, "tokens", "not contiguous", "a contiguous array"))?;
        py.detach(|| self.get()?.decode(tokens, end_of_text)).map_err(|error| exception(py, &error))
    }

    fn token_text(&self, py: Python<'_>, token: u32) -> PyResult<String> {
        self.ask(py, |tokenizer| tokenizer.token_text(token))
    }

    fn vocab_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.ask(py, |tokenizer| Ok(tokenizer.vocab_size()))
    }

    fn end_of_text(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        self.ask(py, |tokenizer| Ok(tokenizer.end_of_text()))
    }

    fn is_lossless(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, |tokenizer| Ok(tokenizer.is_lossless()))
    }
}
