//! Samples of a model.

use numpy::ndarray::{ArrayView2, ArrayView3};
use numpy::{IntoPyArray, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use submask::model::{Generated, Request, Session, TextPrompt};
use submask::sampler::Event;
use submask_cli::commands::sample;
use submask_cli::failure::Failure;
use submask_cli::subject::given;

use super::images::{intensities, of_images, pixels};
use super::open::ModelSession;
use super::options::SampleOptions;
use crate::owned_event::{report_dict, trajectory_parts};
use crate::work::{self, IntoException};

/// A part of an image that is given.
pub struct GivenImage<'a> {
    pixels: ArrayView3<'a, u8>,
    /// What is drawn anew.
    mask: Option<ArrayView2<'a, bool>>,
}

impl<'a> GivenImage<'a> {
    /// Of arrays.
    pub fn of(
        given: Option<&'a PyReadonlyArray3<'_, u8>>,
        mask: Option<&'a PyReadonlyArray2<'_, bool>>,
    ) -> Option<Self> {
        given.map(|given| Self { pixels: given.as_array(), mask: mask.map(|mask| mask.as_array()) })
    }
}

/// What the library is asked for.
pub fn request(
    model: &ModelSession,
    session: &Session,
    options: &SampleOptions,
    given: Option<GivenImage>,
) -> Result<Request, Failure> {
    let args = options.args(given.is_some())?;
    sample::check(&args, model.architecture.config())?;
    let prompt = match (&given, &options.prompt, options.length) {
        (Some(given), ..) => {
            let image = of_images(model, "given")?;
            let area = [image.height, image.width];
            let kept = match &given.mask {
                None => {
                    given::check_kept(&args.images)?;
                    vec![true; area.iter().product()]
                }
                Some(mask) if mask.shape() == area => mask.iter().map(|is_new| !is_new).collect(),
                Some(mask) => {
                    let shape = format!("bool {:?}", mask.shape());
                    let allowed = format!("bool {area:?}, height and width of the model's images");
                    return Err(submask::Error::invalid("mask", shape, allowed).into());
                }
            };
            let intensities = intensities("given", image, given.pixels)?;
            given::digits_kept(&args.images, &model.architecture, image, intensities, &kept)?
        }
        (None, None, None) => session.request().prompt,
        (None, prompt, length) => {
            let prompt = prompt.as_deref().map(str::parse::<TextPrompt>).transpose()?;
            session.prompt(&prompt.unwrap_or_default(), length.map(Into::into))?
        }
    };
    let request = sample::request(&args, session, prompt)?;
    Ok(Request { log_probs: options.log_probs, ..request })
}

/// Samples: tokens of each, texts, images uint8 [n, h, w, c], what all cost, and how each came about.
#[pyfunction]
pub fn sample_model<'py>(
    py: Python<'py>,
    model: &ModelSession,
    options: SampleOptions,
    given: Option<PyReadonlyArray3<'py, u8>>,
    mask: Option<PyReadonlyArray2<'py, bool>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let session = model.get(py)?;
    let request = request(model, &session, &options, GivenImage::of(given.as_ref(), mask.as_ref()));
    let request = request.map_err(|failure| failure.into_exception(py))?;
    let generated = work::run(py, |cancel| session.generate(&request, &mut |_: &Event| cancel.check()))?;
    let Generated { texts, tokens, report, trajectories } = generated;
    let images = model
        .architecture
        .config()
        .subject
        .image()
        .map(|image| py.detach(|| pixels(image, tokens.len(), tokens.iter().map(Vec::as_slice))));
    let images =
        images.transpose().map_err(|error| error.into_exception(py))?.map(|images| images.into_pyarray(py));
    let texts = session.architecture().tokenizer().map(|_| texts);
    let tokens: Vec<_> = tokens.into_iter().map(|tokens| tokens.into_pyarray(py)).collect();
    let trajectories: PyResult<Vec<_>> =
        trajectories.into_iter().map(|trajectory| trajectory_parts(py, trajectory)).collect();
    (tokens, texts, images, report_dict(py, &report)?, trajectories?).into_pyobject(py)
}
