//! What a model's network says.

use numpy::{PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use submask::model::MaskedBatch;

use super::open::ModelSession;
use crate::errors::{exception, invalid};
use crate::work;

/// Logits [P, C] of `count` sequences `y_t` [B·L·ℓ], written where they are given back.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "they are the arguments of `submask.Model.logits`")]
pub fn logits<'py>(
    py: Python<'py>,
    model: &ModelSession,
    y_t: PyReadonlyArray1<'py, u32>,
    count: usize,
    t: Option<Vec<f64>>,
    positions: Option<PyReadonlyArray1<'py, usize>>,
    labels: Option<Vec<usize>>,
    at_once: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let session = model.get(py)?;
    let refused = |field: &'static str| move |_| invalid(py, field, "not contiguous", "a C-contiguous array");
    let batch = MaskedBatch {
        y_t: y_t.as_slice().map_err(refused("y_t"))?,
        count,
        t: t.as_deref(),
        labels: labels.as_deref(),
        positions: positions
            .as_ref()
            .map(|positions| positions.as_slice().map_err(refused("positions")))
            .transpose()?,
    };
    let shape = py.detach(|| session.logits_shape(&batch)).map_err(|error| exception(py, &error))?;
    let array = PyArray2::<f32>::zeros(py, [shape.0, shape.1], false);
    {
        let mut written = array.readwrite();
        let logits = written.as_slice_mut().map_err(refused("logits"))?;
        work::run(py, |cancel| session.logits_into(&batch, at_once, logits, &|| cancel.check()))?;
    }
    Ok(array)
}
