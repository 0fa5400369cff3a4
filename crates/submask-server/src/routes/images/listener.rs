//! Who hears of images while they resolve, and tells the client.

use submask::Session;
use submask::sampler::{Event, FinishedSequence};
use tracing::Span;

use super::plan::{Plan, image};
use super::request::{ImageData, ImageEvent, Known};
use crate::common::Usage;
use crate::engine::{Answerer, Listener, Next};
use crate::error::ApiError;
use crate::metrics::ModelMetrics;
use crate::sse::EventSender;

/// Most partial pictures of an image.
pub const PICTURES: u64 = 24;

/// Who is told.
pub enum Client {
    /// A stream of events.
    Stream(EventSender),
    /// A handler that waits for the tokens of all images.
    Answer(Answerer<Drawn>),
}

/// All images, as tokens, and what they cost.
#[derive(Debug, Default)]
pub struct Drawn {
    pub tokens: Vec<Vec<u32>>,
    pub usage: Usage,
}

/// Listens for one request.
pub struct ImageListener<'s> {
    session: &'s Session,
    plan: Plan,
    client: Client,
    images: Vec<Partial>,
    drawn: Drawn,
    metrics: ModelMetrics,
    span: Span,
}

/// An image on its way.
#[derive(Clone, Default)]
struct Partial {
    y: Vec<u32>,
    evaluations: u64,
    /// Evaluations at the last picture.
    shown: u64,
}

impl<'s> ImageListener<'s> {
    pub fn new(
        plan: Plan,
        session: &'s Session,
        client: Client,
        (metrics, span): (ModelMetrics, Span),
    ) -> Self {
        let n = plan.request.num;
        let drawn = Drawn { tokens: vec![Vec::new(); n], usage: Usage::given(plan.given as u64) };
        Self { session, plan, client, images: vec![Partial::default(); n], drawn, metrics, span }
    }

    /// A picture of a state, every colour being the mean of those that agree with it.
    fn picture(&self, y: &[u32]) -> Result<String, ApiError> {
        let predictive = self.session.architecture().predictive();
        self.plan.canvas.encode(&image(self.session)?.mean_pixels(predictive, y)?)
    }

    fn known(&self, y: &[u32]) -> Known {
        let codes = self.session.architecture().predictive().codes();
        Known::of(y, codes.subtoken_len(), codes.mask_id(), self.plan.given)
    }

    fn started(&self, choice: usize) -> Result<ImageEvent, ApiError> {
        let y = &self.images[choice].y;
        let (known, b64_json) = (self.known(y), self.picture(y)?);
        let evaluations_at_most = self.plan.evaluations_at_most;
        Ok(ImageEvent::Started { choice, evaluations_at_most, known, b64_json })
    }

    /// The next picture, unless the last one was a moment ago.
    fn partial(&mut self, choice: usize) -> Result<Option<ImageEvent>, ApiError> {
        let Partial { evaluations, shown, .. } = &mut self.images[choice];
        if (*evaluations - *shown) * PICTURES < self.plan.evaluations_at_most {
            return Ok(None);
        }
        *shown = *evaluations;
        let evaluation = *evaluations;
        let y = &self.images[choice].y;
        let (known, b64_json) = (self.known(y), self.picture(y)?);
        Ok(Some(ImageEvent::Picture { choice, evaluation, known, b64_json }))
    }
}

/// A finished image as a picture.
pub fn finished_picture(plan: &Plan, session: &Session, tokens: &[u32]) -> Result<String, ApiError> {
    plan.canvas.encode(&image(session)?.pixels_of(tokens)?)
}

/// Finished images as pictures.
pub fn pictures(plan: &Plan, session: &Session, images: &[Vec<u32>]) -> Result<Vec<ImageData>, ApiError> {
    let picture = |(index, tokens): (usize, &Vec<u32>)| {
        Ok(ImageData { b64_json: finished_picture(plan, session, tokens)?, index })
    };
    images.iter().enumerate().map(picture).collect()
}

impl Listener for ImageListener<'_> {
    fn wants_digits(&self) -> bool {
        matches!(self.client, Client::Stream(_))
    }

    fn notify(&mut self, sample: usize, event: &Event) -> Result<Next, ApiError> {
        if !self.wants_digits() {
            return Ok(Next::Continue);
        }
        let told = match *event {
            Event::Started { y, .. } => {
                self.images[sample].y = y.to_vec();
                Some(self.started(sample)?)
            }
            Event::Revealed { digits, .. } => {
                let partial = &mut self.images[sample];
                partial.evaluations += 1;
                digits.iter().for_each(|&(digit, value)| partial.y[digit] = value);
                self.partial(sample)?
            }
            _ => None,
        };
        if let (Client::Stream(events), Some(told)) = (&self.client, told) {
            // Who has gone is noticed by the engine.
            let _ = events.send(&told);
        }
        Ok(Next::Continue)
    }

    fn finished(&mut self, sample: usize, finished: FinishedSequence) -> Result<(), ApiError> {
        let FinishedSequence { tokens, report, .. } = finished;
        let mut usage = Usage::given(self.plan.given as u64);
        let written = (self.plan.tokens - self.plan.given) as u64;
        usage.write(written);
        usage.add(&report);
        self.drawn.usage.write(written);
        self.drawn.usage.add(&report);
        match &self.client {
            Client::Stream(events) => {
                let b64_json = finished_picture(&self.plan, self.session, &tokens)?;
                let _ = events.send(&ImageEvent::Finished { choice: sample, b64_json, usage });
            }
            Client::Answer(_) => self.drawn.tokens[sample] = tokens,
        }
        Ok(())
    }

    fn done(&mut self) {
        self.drawn.usage.record(&self.metrics, &self.span);
        match &mut self.client {
            Client::Stream(events) => {
                let _ =
                    events.send(&ImageEvent::Done { seed: self.plan.request.seed, usage: self.drawn.usage });
                events.done();
            }
            Client::Answer(answerer) => answerer.give(Ok(std::mem::take(&mut self.drawn))),
        }
    }

    fn fail(&mut self, error: ApiError) {
        match &mut self.client {
            Client::Stream(events) => events.fail(&error),
            Client::Answer(answerer) => answerer.give(Err(error)),
        }
    }

    fn is_gone(&self) -> bool {
        match &self.client {
            Client::Stream(events) => events.is_closed(),
            Client::Answer(answerer) => answerer.is_gone(),
        }
    }
}
