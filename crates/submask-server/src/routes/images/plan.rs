//! A request for images, checked.

use submask::Session;
use submask::model::{ImageSubject, Request};

use super::png::{self, Canvas, Shown};
use super::request::ImagesRequest;
use crate::common::{check_choices, check_size, seed};
use crate::error::ApiError;
use crate::routes::infill::{check_numbers, evaluations_at_most};
use crate::sampling::refusal;
use crate::settings::ServerSettings;

/// A mask's pixel is drawn anew from this luminance on.
const WHITE: f64 = 128.0;

/// What is to be drawn.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the library is asked for.
    pub request: Request,
    /// How images are written.
    pub canvas: Canvas,
    /// Most network evaluations of an image.
    pub evaluations_at_most: u64,
    /// Tokens of an image that are given whole, and all of them.
    pub given: usize,
    pub tokens: usize,
    /// Whether partial pictures are told.
    pub stream: bool,
}

impl Plan {
    /// Checks a request and works it out.
    ///
    /// # Errors
    /// 400 and 422 naming the field.
    pub fn of(
        request: &ImagesRequest,
        session: &Session,
        settings: &ServerSettings,
    ) -> Result<Self, ApiError> {
        let (n, first_sequence) = (request.n.unwrap_or(1), request.first_sequence.unwrap_or(0));
        if n == 0 {
            return Err(ApiError::refused("n", 0, "at least 1"));
        }
        check_choices(settings, n)?;
        check_numbers(first_sequence, n)?;
        let architecture = session.architecture();
        let subject = image(session)?;
        let tokens = architecture.config().seq_len();
        check_size(settings, n, "n", tokens)?;
        let stream = request.stream.unwrap_or(false);
        let shown = if stream { Shown::While(n) } else { Shown::Finished(n) };
        let canvas = Canvas::new(subject.shape(), request.scale.unwrap_or(1), shown)?;
        let prompt = given(request, subject, session)?;
        let len = architecture.predictive().codes().subtoken_len();
        let given = prompt.chunks(len).filter(|token| token.iter().all(Option::is_some)).count();
        if given == tokens {
            return Err(ApiError::refused(
                "mask",
                "without white pixels",
                "a mask with some white, where the image is drawn anew; black is kept",
            ));
        }
        let seed = seed(request.seed);
        let request_of =
            Request { num: n, prompt, seed, first_sequence, ..request.sampling().request(session)? };
        session.prepare(&request_of).map_err(refusal)?;
        Ok(Self {
            evaluations_at_most: evaluations_at_most(&request_of, session),
            request: request_of,
            canvas,
            given,
            tokens,
            stream,
        })
    }
}

/// What the model's images are.
///
/// # Errors
/// 400 for other models.
pub fn image(session: &Session) -> Result<&ImageSubject, ApiError> {
    let subject = session.architecture().config().subject.image();
    subject.ok_or_else(|| ApiError::invalid("model", "the model is no model of images"))
}

/// The digits that are given, [L·ℓ].
fn given(
    request: &ImagesRequest,
    subject: &ImageSubject,
    session: &Session,
) -> Result<Vec<Option<u32>>, ApiError> {
    let architecture = session.architecture();
    let codes = architecture.predictive().codes();
    let len = codes.subtoken_len();
    let (picture, mask) = match (&request.image, &request.mask) {
        (None, None) => return Ok(vec![None; architecture.config().seq_len() * len]),
        (Some(picture), Some(mask)) => (picture, mask),
        (Some(_), None) => {
            let message = "mask is missing: white in it is drawn anew, black is kept";
            return Err(ApiError::invalid("mask", message));
        }
        (None, Some(_)) => {
            let message = "image is missing: what is black in mask is kept of it, white is drawn anew";
            return Err(ApiError::invalid("image", message));
        }
    };
    let shape = subject.shape();
    let planes = png::decode("image", picture, shape)?;
    let intensities = match shape.channels {
        1 => png::luminance(&planes).iter().map(|grey| grey.round() as u32).collect(),
        _ => planes.into_iter().map(u32::from).collect(),
    };
    let x_0 = subject.tokens_of(intensities).map_err(refusal)?;
    let is_kept: Vec<bool> = png::luminance(&png::decode("mask", mask, shape)?)
        .iter()
        .map(|luminance| *luminance < WHITE)
        .collect();
    // A picture has more intensities than some models.
    let y_0 = codes.encode(&x_0).map_err(|error| ApiError::invalid("image", format!("image: {error}")))?;
    let keep = |(place, digit): (usize, u32)| is_kept[place / len % is_kept.len()].then_some(digit);
    Ok(y_0.into_iter().enumerate().map(keep).collect())
}
