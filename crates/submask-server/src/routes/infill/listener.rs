//! Who hears of texts while their holes are filled, and tells the client.

use submask::Session;
use submask::sampler::{Event, FinishedSequence};

use super::answer::{InfillChoice, InfillEvent};
use super::plan::Plan;
use super::sample::Sample;
use crate::common::Usage;
use crate::engine::{Answerer, Listener, Next};
use crate::error::ApiError;
use crate::sse::EventSender;

/// All samples, and what they cost.
#[derive(Debug)]
pub struct Filled {
    pub choices: Vec<InfillChoice>,
    pub usage: Usage,
}

/// Listens for one request. The handler, or the task of a stream, waits for the whole; of a stream the events are sent before.
pub struct InfillListener<'s> {
    samples: Vec<Sample<'s>>,
    events: Option<EventSender>,
    answerer: Answerer<Filled>,
    filled: Filled,
    /// Whether [`Event::Revealed`] is wanted.
    follows: bool,
}

impl<'s> InfillListener<'s> {
    pub fn new(
        plan: &Plan,
        session: &'s Session,
        events: Option<EventSender>,
        answerer: Answerer<Filled>,
    ) -> Self {
        let n = plan.request.num;
        Self {
            samples: (0..n).map(|index| Sample::new(session.architecture(), index, plan)).collect(),
            follows: events.is_some() || plan.request.log_probs.is_some(),
            events,
            answerer,
            // What is given is the same for all samples, and counts once.
            filled: Filled {
                choices: vec![InfillChoice::default(); n],
                usage: Usage::given(plan.prompt_tokens),
            },
        }
    }

    /// Who has gone is noticed by the engine.
    fn send(&self, event: &InfillEvent) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }
}

impl Listener for InfillListener<'_> {
    fn wants_digits(&self) -> bool {
        self.follows
    }

    fn notify(&mut self, sample: usize, event: &Event) -> Result<Next, ApiError> {
        if self.follows
            && let Some(event) = self.samples[sample].notify(event)?
        {
            self.send(&event);
        }
        Ok(Next::Continue)
    }

    fn finished(&mut self, sample: usize, finished: FinishedSequence) -> Result<(), ApiError> {
        self.filled.usage.add(&finished.report);
        let (choice, usage) = self.samples[sample].finish(finished)?;
        self.filled.usage.write(usage.completion_tokens);
        if self.events.is_some() {
            self.send(&InfillEvent::Finished { choice: sample, sample: choice.clone(), usage });
        }
        self.filled.choices[sample] = choice;
        Ok(())
    }

    fn done(&mut self) {
        let (choices, usage) = (std::mem::take(&mut self.filled.choices), self.filled.usage);
        self.answerer.give(Ok(Filled { choices, usage }));
    }

    fn fail(&mut self, error: ApiError) {
        self.answerer.give(Err(error));
    }

    fn is_gone(&self) -> bool {
        self.answerer.is_gone() || self.events.as_ref().is_some_and(EventSender::is_closed)
    }
}
