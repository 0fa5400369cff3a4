//! Held-out data under a model.

use numpy::ndarray::ArrayView4;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray2, PyReadonlyArray4};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use submask::likelihood::Sequences;
use submask::model::{HeldOut, SequenceValue};
use submask::{Error, Result};
use submask_cli::commands::eval;
use submask_cli::failure::Failure;
use submask_cli::notes;
use submask_cli::output::EvalResult;
use submask_cli::settings::estimate;
use submask_cli::subject::{self, Part};

use super::images::{intensities, of_images};
use super::open::ModelSession;
use super::options::{DataOptions, EstimateOptions, LayoutOptions};
use crate::errors::{exception, internal, invalid};
use crate::work;

/// What is given in the place of a folder.
const IN_MEMORY: &str = "arrays";

/// Evaluates files, or what the model's run held out.
#[pyfunction]
pub fn evaluate_data<'py>(
    py: Python<'py>,
    model: &ModelSession,
    data: DataOptions,
    layout: LayoutOptions,
    options: EstimateOptions,
) -> PyResult<Bound<'py, PyTuple>> {
    let session = model.get(py)?;
    let args = data.args(layout, &options).map_err(|error| exception(py, &error))?;
    let (result, notes) = work::run(py, |cancel| {
        let (found, notes) = notes::collected(|| {
            let chosen = eval::choose(&args, &model.folder, model.architecture.config())?;
            let request = eval::request(&args, &session)?;
            cancel.check()?;
            Ok::<_, Failure>((request, chosen(session.architecture(), None)?))
        });
        let (request, part) = found?;
        let values = eval::values(&session, &request, &part, &|| cancel.check())?;
        let data = (part.name.as_str(), part.documents);
        let about = eval::About::new(&session, &model.folder, &request, data, &values);
        Ok::<_, Failure>((about.result(&values)?, notes))
    })?;
    parts(py, result, notes)
}

/// Evaluates tokens [n, L], which are not copied.
#[pyfunction]
pub fn evaluate_tokens<'py>(
    py: Python<'py>,
    model: &ModelSession,
    tokens: PyReadonlyArray2<'py, u32>,
    options: EstimateOptions,
) -> PyResult<Bound<'py, PyTuple>> {
    let session = model.get(py)?;
    let shape = tokens.as_array().dim();
    let slice = tokens.as_slice();
    let x_0 = slice.map_err(|_| invalid(py, "data", "not contiguous", "a C-contiguous array"))?;
    let (result, notes) = work::run(py, |cancel| {
        let args = options.args()?;
        estimate::check(&args)?;
        let config = model.architecture.config();
        if config.classes().is_some() || config.pairs() {
            let needed = match config.pairs() {
                true => "records with a prompt and a completion each: the model is of pairs",
                false => "images uint8 [n, h, w, c] and labels: the model reads classes",
            };
            return Err(Error::invalid("data", format!("uint32 [{}, {}]", shape.0, shape.1), needed).into());
        }
        let (request, notes) = notes::collected(|| estimate::request(&args, &session, 1));
        let (request, sequences) = (request?, Sequences::new(x_0, shape.1)?);
        let values =
            session.values_of_sequences(&request, &sequences, &[], &|| cancel.check()).map_err(as_data)?;
        let about = eval::About::new(&session, &model.folder, &request, (IN_MEMORY, None), &values);
        Ok::<_, Failure>((about.result(&values)?, notes))
    })?;
    parts(py, result, notes)
}

/// Which of `all` sequences are evaluated where `count` are wanted: as the program chooses them.
#[pyfunction]
pub fn spread(py: Python<'_>, all: u64, count: u64) -> Bound<'_, PyArray1<u64>> {
    subject::spread(all, Some(count)).collect::<Vec<_>>().into_pyarray(py)
}

/// Evaluates images uint8 [n, h, w, c] with their classes.
#[pyfunction]
pub fn evaluate_images<'py>(
    py: Python<'py>,
    model: &ModelSession,
    images: PyReadonlyArray4<'py, u8>,
    labels: Option<Vec<usize>>,
    options: EstimateOptions,
) -> PyResult<Bound<'py, PyTuple>> {
    let session = model.get(py)?;
    let images = images.as_array();
    let (result, notes) = work::run(py, |cancel| {
        let args = options.args()?;
        estimate::check(&args)?;
        let (request, notes) = notes::collected(|| estimate::request(&args, &session, 1));
        let (request, held_out) = (request?, held_out(model, images, labels)?);
        let classes = model.architecture.config().classes();
        let part = Part::of_sequences(held_out, IN_MEMORY.to_owned(), classes, None)?;
        let values = eval::values(&session, &request, &part, &|| cancel.check())?;
        let about = eval::About::new(&session, &model.folder, &request, (IN_MEMORY, None), &values);
        Ok::<_, Failure>((about.result(&values)?, notes))
    })?;
    parts(py, result, notes)
}

/// Images as sequences of a model.
fn held_out(model: &ModelSession, images: ArrayView4<u8>, labels: Option<Vec<usize>>) -> Result<HeldOut> {
    let (image, config) = (of_images(model, "data")?, model.architecture.config());
    let count = images.shape()[0];
    match (config.classes(), &labels) {
        (None, Some(_)) => return Err(Error::invalid("labels", "given", "none: the model reads no classes")),
        (Some(classes), None) => {
            let allowed = format!("one for each image, 0 to {}: the model reads classes", classes - 1);
            return Err(Error::invalid("labels", "none", allowed));
        }
        (Some(_), Some(labels)) if labels.len() != count => {
            return Err(Error::invalid("labels", labels.len(), format!("one for each of {count} images")));
        }
        (Some(classes), Some(labels)) => {
            if let Some(label) = labels.iter().find(|label| **label >= classes) {
                return Err(Error::invalid("labels", label, format!("0 to {}", classes - 1)));
            }
        }
        (None, None) => {}
    }
    let mut x_0 = Vec::with_capacity(count * config.seq_len());
    for pixels in images.outer_iter() {
        x_0.extend(image.tokens_of(intensities("data", image, pixels)?)?);
    }
    let (seq_len, labels) = (config.seq_len(), labels.unwrap_or_default());
    Ok(HeldOut { x_0, seq_len, labels, ..HeldOut::default() })
}

/// What is wrong with tokens is wrong with the data.
fn as_data(error: Error) -> Error {
    match error {
        Error::InvalidCode { given, allowed, .. } => Error::invalid("data", given, allowed),
        error => error.rename_field(|field| match field {
            "tokens" | "sequence length" => "data".to_owned(),
            field => field.to_owned(),
        }),
    }
}

/// `(description as JSON, indices, nats, draw errors, tokens, characters, notes)`; draw errors are not a number where they are not
/// known.
fn parts(py: Python<'_>, mut result: EvalResult, notes: Vec<String>) -> PyResult<Bound<'_, PyTuple>> {
    let values = result.by_sequence.take().or_else(|| result.by_document.take()).unwrap_or_default();
    let described = serde_json::to_string(&result).map_err(|error| internal(py, &error.to_string()))?;
    let of = |value: fn(&SequenceValue) -> u64| values.iter().map(value).collect::<Vec<_>>().into_pyarray(py);
    let nats: Vec<f64> = values.iter().map(|value| value.nats).collect();
    let errors: Vec<f64> = values.iter().map(|value| value.draw_error.unwrap_or(f64::NAN)).collect();
    let characters: Option<Vec<u64>> = values.iter().map(|value| value.characters).collect();
    let (index, tokens) = (of(|value| value.index as u64), of(|value| value.tokens));
    let (nats, errors) = (nats.into_pyarray(py), errors.into_pyarray(py));
    let characters = characters.map(|characters| characters.into_pyarray(py));
    (described, index, nats, errors, tokens, characters, notes).into_pyobject(py)
}
