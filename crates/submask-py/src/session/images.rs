//! Images between planes of intensities, as models have them, and [h, w, c], as people have them.

use numpy::ndarray::{Array4, ArrayView3};
use numpy::{IntoPyArray, PyArray4, PyReadonlyArray1};
use pyo3::prelude::*;
use submask::model::ImageSubject;
use submask::{Error, Result};

use super::open::ModelSession;
use crate::errors::{exception, invalid};

/// Images uint8 [n, h, w, c] of the tokens of each.
pub fn pixels<'a>(
    image: &ImageSubject,
    count: usize,
    tokens: impl Iterator<Item = &'a [u32]>,
) -> Result<Array4<u8>> {
    let (height, width, channels) = (image.height, image.width, image.channels);
    let mut pixels = Array4::zeros([count, height, width, channels]);
    for (mut own, x_0) in pixels.outer_iter_mut().zip(tokens) {
        let planes = image.pixels_of(x_0)?;
        let planes = ArrayView3::from_shape([channels, height, width], &planes)
            .map_err(|_| Error::invalid("tokens", x_0.len(), "the tokens of a whole image"))?;
        own.assign(&planes.permuted_axes([1, 2, 0]));
    }
    Ok(pixels)
}

/// Intensities [k·H·W] of an image uint8 [h, w, c].
///
/// # Errors
/// [`Error::Invalid`] for another shape.
pub fn intensities(field: &str, image: &ImageSubject, pixels: ArrayView3<u8>) -> Result<Vec<u32>> {
    let shape = [image.height, image.width, image.channels];
    if pixels.shape() != shape {
        let given = format!("uint8 {:?}", pixels.shape());
        return Err(Error::invalid(field, given, format!("uint8 {shape:?}, as the model's images")));
    }
    Ok(pixels.permuted_axes([2, 0, 1]).iter().map(|byte| u32::from(*byte)).collect())
}

/// What a model's images are.
///
/// # Errors
/// [`Error::Invalid`] for other models.
pub fn of_images<'a>(session: &'a ModelSession, field: &str) -> Result<&'a ImageSubject> {
    let subject = &session.architecture.config().subject;
    subject.image().ok_or_else(|| {
        Error::invalid(
            field,
            "given",
            format!("for models of images only: this one is of {}", subject.name()),
        )
    })
}

/// The image uint8 [1, h, w, c] of the tokens of one.
#[pyfunction]
pub fn images_of<'py>(
    py: Python<'py>,
    model: &ModelSession,
    tokens: PyReadonlyArray1<'py, u32>,
) -> PyResult<Bound<'py, PyArray4<u8>>> {
    let slice = tokens.as_slice();
    let tokens = slice.map_err(|_| invalid(py, "tokens", "not contiguous", "a contiguous array"))?;
    let image = of_images(model, "images").and_then(|image| pixels(image, 1, std::iter::once(tokens)));
    Ok(image.map_err(|error| exception(py, &error))?.into_pyarray(py))
}
