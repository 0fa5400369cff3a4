//! Tokens to digits and back.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, ToPyArray};
use pyo3::prelude::*;
use submask::subtoken::SubTokenizer;

use super::elements;
use crate::errors::exception;

/// f and f⁻¹.
#[pyclass(frozen, module = "submask._native")]
pub struct Codes {
    pub inner: SubTokenizer,
}

#[pymethods]
impl Codes {
    /// The digits of the tokens themselves, or of permuted codes: as a table says, or drawn from a seed.
    #[new]
    fn new(
        py: Python<'_>,
        vocab_size: usize,
        subtoken_len: usize,
        permutation: Option<PyReadonlyArray1<'_, u32>>,
        seed: Option<u64>,
    ) -> PyResult<Self> {
        let table = permutation.as_ref().map(|table| elements(table, "permutation")).transpose()?;
        let codes = SubTokenizer::new(vocab_size, subtoken_len).and_then(|codes| match (table, seed) {
            (Some(table), _) => codes.with_permutation(table),
            (None, Some(seed)) => codes.with_seeded_permutation(seed),
            (None, None) => Ok(codes),
        });
        codes.map(|inner| Self { inner }).map_err(|error| exception(py, &error))
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    #[getter]
    fn subtoken_len(&self) -> usize {
        self.inner.subtoken_len()
    }

    #[getter]
    fn base(&self) -> u32 {
        self.inner.base()
    }

    #[getter]
    fn permutation<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<u32>>> {
        self.inner.permutation().map(|table| table.to_pyarray(py))
    }

    /// Tokens [n] to digits [n·ℓ].
    fn encode<'py>(
        &self,
        py: Python<'py>,
        tokens: PyReadonlyArray1<'py, u32>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let tokens = elements(&tokens, "tokens")?;
        let digits = py.detach(|| self.inner.encode(tokens));
        digits.map(|digits| digits.into_pyarray(py)).map_err(|error| exception(py, &error))
    }

    /// Digits [n·ℓ] to tokens [n].
    fn decode<'py>(
        &self,
        py: Python<'py>,
        digits: PyReadonlyArray1<'py, u32>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let digits = elements(&digits, "digits")?;
        let tokens = py.detach(|| self.inner.decode(digits));
        tokens.map(|tokens| tokens.into_pyarray(py)).map_err(|error| exception(py, &error))
    }
}
