//! Who hears of completions while they are written, and tells the client.

use submask::Session;
use submask::sampler::{Event, FinishedSequence, SampleReport};
use tracing::Span;

use super::answer::{CompletionAnswer, CompletionChoice, CompletionChunk};
use super::choice::{Choice, Cost, Growth};
use super::plan::Plan;
use crate::common::{Usage, id, now};
use crate::engine::{Answerer, Listener, Next};
use crate::error::ApiError;
use crate::metrics::ModelMetrics;
use crate::sse::EventSender;

/// What all parts of an answer say.
#[derive(Clone, Debug)]
pub struct Head {
    id: String,
    created: u64,
    model: String,
    seed: u64,
}

impl Head {
    /// Of an answer that begins now.
    pub fn new(model: &str, seed: u64) -> Self {
        Self { id: id("cmpl"), created: now(), model: model.to_owned(), seed }
    }

    /// A piece of a stream.
    pub fn chunk(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> CompletionChunk {
        let Self { id, created, model, seed } = self.clone();
        CompletionChunk { id, object: "text_completion", created, model, seed, choices, usage }
    }

    /// The whole answer.
    pub fn answer(&self, choices: Vec<CompletionChoice>, usage: Usage) -> CompletionAnswer {
        let Self { id, created, model, seed } = self.clone();
        CompletionAnswer { id, object: "text_completion", created, model, seed, choices, usage }
    }
}

/// Who is told.
pub enum Client {
    /// A stream of chunks, and whether the last one tells the usage.
    Stream { events: EventSender, include_usage: bool },
    /// A handler that waits for the whole.
    Answer(Answerer<CompletionAnswer>),
}

/// Listens for one request.
pub struct CompletionListener<'s> {
    head: Head,
    client: Client,
    choices: Vec<Choice<'s>>,
    /// What was told of each; of a stream what is still to be sent.
    told: Vec<Growth>,
    /// What stands before each completion.
    echoes: Vec<String>,
    follows: bool,
    usage: Usage,
    metrics: ModelMetrics,
    span: Span,
}

impl<'s> CompletionListener<'s> {
    /// For a plan.
    ///
    /// # Errors
    /// What the library says of the model.
    pub fn new(
        plan: &Plan,
        session: &'s Session,
        head: Head,
        client: Client,
        (metrics, span): (ModelMetrics, Span),
    ) -> Result<Self, (ApiError, Client)> {
        let architecture = session.architecture();
        let (mut choices, mut echoes) = (Vec::new(), Vec::new());
        for index in 0..plan.prompts.len() * plan.n {
            let prompt = &plan.prompts[index / plan.n];
            match Choice::new(architecture, prompt.hole.clone(), plan) {
                Ok(choice) => choices.push(choice),
                Err(error) => return Err((error.into(), client)),
            }
            echoes.push(prompt.echo.clone());
        }
        let given = plan.prompts.iter().map(|prompt| prompt.tokens as u64).sum();
        let told = vec![Growth::default(); choices.len()];
        let (follows, usage) = (plan.follows, Usage::given(given));
        Ok(Self { head, client, choices, told, echoes, follows, usage, metrics, span })
    }

    /// Tells what is new of a completion. Where the client is slow, it is joined with what follows.
    fn tell(&mut self, index: usize, growth: Growth) {
        let told = &mut self.told[index];
        told.join(growth);
        if let Client::Stream { events, .. } = &self.client
            && (told.finish_reason.is_some() || !events.is_behind())
        {
            let choice = choice(index, std::mem::take(told));
            // Who has gone is noticed by the engine.
            let _ = events.send(&self.head.chunk(vec![choice], None));
        }
    }

    fn pay(&mut self, cost: Cost) {
        self.usage.write(cost.tokens);
        self.usage.add(&cost.report);
    }
}

impl Listener for CompletionListener<'_> {
    fn wants_digits(&self) -> bool {
        self.follows
    }

    fn notify(&mut self, sample: usize, event: &Event) -> Result<Next, ApiError> {
        let mut growth = self.choices[sample].notify(event)?;
        if let Event::Started { .. } = event {
            growth.text.insert_str(0, &std::mem::take(&mut self.echoes[sample]));
        }
        let ends = growth.finish_reason.is_some();
        if !growth.is_nothing() {
            self.tell(sample, growth);
        }
        if !ends {
            return Ok(Next::Continue);
        }
        self.usage.write(self.choices[sample].written()?);
        Ok(Next::Stop)
    }

    fn left(&mut self, _sample: usize, cost: &SampleReport) {
        self.usage.add(cost);
    }

    fn finished(&mut self, sample: usize, finished: FinishedSequence) -> Result<(), ApiError> {
        let (growth, cost) = self.choices[sample].finish(&finished)?;
        self.pay(cost);
        self.tell(sample, growth);
        Ok(())
    }

    fn done(&mut self) {
        self.usage.record(&self.metrics, &self.span);
        match &mut self.client {
            Client::Stream { events, include_usage } => {
                if *include_usage {
                    let _ = events.send(&self.head.chunk(Vec::new(), Some(self.usage)));
                }
                events.done();
            }
            Client::Answer(answerer) => {
                let told = std::mem::take(&mut self.told).into_iter().enumerate();
                let choices = told.map(|(index, growth)| choice(index, growth)).collect();
                answerer.give(Ok(self.head.answer(choices, self.usage)));
            }
        }
    }

    fn fail(&mut self, error: ApiError) {
        self.client.fail(error);
    }

    fn is_gone(&self) -> bool {
        match &self.client {
            Client::Stream { events, .. } => events.is_closed(),
            Client::Answer(answerer) => answerer.is_gone(),
        }
    }
}

impl Client {
    /// Tells that the request failed.
    pub fn fail(&mut self, error: ApiError) {
        match self {
            Self::Stream { events, .. } => events.fail(&error),
            Self::Answer(answerer) => answerer.give(Err(error)),
        }
    }
}

fn choice(index: usize, growth: Growth) -> CompletionChoice {
    let Growth { text, logprobs, finish_reason } = growth;
    CompletionChoice { text, index, logprobs, finish_reason }
}
