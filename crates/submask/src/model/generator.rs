//! Requests that are sampled together and may come and go at any time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::generate::{Label, Request};
use super::session::Session;
use crate::denoiser::Denoiser;
use crate::order::Order;
use crate::predictive::{Predictive, Sharpening};
use crate::sampler::{
    AutoregressiveRecipe, AutoregressiveSequence, AutoregressiveStream, EntropyRule, Event, FinishedSequence,
    MixtureDenoiser, Observer, Progress, Prompt, Recipe, SampleReport, SampleSettings, Sampling,
    SequenceRequest, Stream, Temperature,
};
use crate::schedule::TemperatureSchedule;
use crate::{Error, Result};

/// A request that has been checked and worked out, for [`Generator::add`]; cheap to clone.
#[derive(Clone)]
pub struct Prepared<'s> {
    way: Way<'s>,
    given: Given,
    num: usize,
    first_sequence: u64,
}

/// How samples are drawn, whatever is given of them.
#[derive(Clone)]
pub(super) enum Way<'s> {
    Diffusion { recipe: Arc<Recipe<'s>>, predictions: Predictions, labels: Arc<[Option<usize>]> },
    Baseline(AutoregressiveRecipe),
}

/// Whose predictions are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Predictions {
    /// The network's.
    Own,
    /// Their mean over its classes: with this temperature before the mean, or without any.
    OfClasses(Option<TemperatureSchedule>),
}

/// What is given of a sample.
#[derive(Clone)]
enum Given {
    Digits(Prompt),
    Tokens { tokens: Arc<[Option<u32>]>, subtoken_len: usize },
}

impl Prepared<'_> {
    /// How many samples were asked for.
    pub fn num(&self) -> usize {
        self.num
    }

    /// Sub-tokens of a sample, L·ℓ.
    pub(super) fn digits(&self) -> usize {
        match &self.given {
            Given::Digits(prompt) => prompt.y().len(),
            Given::Tokens { tokens, subtoken_len } => tokens.len() * subtoken_len,
        }
    }

    /// Those of them that are to be written.
    pub(super) fn masked(&self) -> usize {
        match &self.given {
            Given::Digits(prompt) => prompt.masked().len(),
            Given::Tokens { tokens, subtoken_len } => {
                tokens.iter().filter(|token| token.is_none()).count() * subtoken_len
            }
        }
    }
}

/// Generates samples of requests that come and go while others are under way: they share network evaluations as far as a network
/// takes them together, and each is the sample that [`Session::generate`] gives of its request, whatever else runs.
///
/// All sequences are under way at once and take turns, at most `batch` per round, so that a short one need not wait for a long one;
/// but those whose sub-tokens stay on a device wait for room there.
///
/// ```no_run
/// # fn of(session: &submask::Session) -> submask::Result<()> {
/// use submask::Unobserved;
///
/// let mut generator = session.generator(8)?;
/// let request = session.prepare(&session.request())?;
/// let first = generator.add(&request, 0)?;
/// while !generator.is_empty() {
///     for finished in generator.round(&mut Unobserved)? {
///         assert_eq!(finished.sequence, first);
///         println!("{} tokens", finished.tokens.len());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Generator<'s> {
    session: &'s Session,
    batch: usize,
    takes_turns: bool,
    lanes: Vec<Lane<'s>>,
    added: usize,
    /// What streams did that are gone.
    past: Progress,
}

/// Sequences that one stream samples.
struct Lane<'s> {
    predictions: Predictions,
    stream: AnyStream<'s>,
    /// The generator's number of each of the stream's sequences that are under way.
    numbers: BTreeMap<usize, usize>,
    progress: Progress,
}

enum AnyStream<'s> {
    Diffusion(Stream<'s>),
    Baseline(AutoregressiveStream<'s>),
}

impl AnyStream<'_> {
    fn round(&mut self, observer: &mut dyn Observer) -> Result<Vec<FinishedSequence>> {
        match self {
            Self::Diffusion(stream) => stream.round(observer),
            Self::Baseline(stream) => stream.round(observer),
        }
    }

    fn cancel(&mut self, sequence: usize) -> Option<SampleReport> {
        match self {
            Self::Diffusion(stream) => stream.cancel(sequence),
            Self::Baseline(stream) => stream.cancel(sequence),
        }
    }
}

impl Session {
    /// Checks a request and works it out: its samples can then be added one by one to a [`Generator`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a request that does not fit the model.
    pub fn prepare(&self, request: &Request) -> Result<Prepared<'_>> {
        self.prepared(request, &self.way(request)?, &request.prompt)
    }

    /// A generator without requests, which evaluates at most `batch` sequences at once.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `batch` is 0.
    pub fn generator(&self, batch: usize) -> Result<Generator<'_>> {
        Generator::new(self, batch, true)
    }

    /// A request with a prompt in the place of its own.
    pub(super) fn prepared<'s>(
        &'s self,
        request: &Request,
        way: &Way<'s>,
        prompt: &[Option<u32>],
    ) -> Result<Prepared<'s>> {
        let given = match way {
            Way::Diffusion { recipe, .. } => Given::Digits(Prompt::from_digits(recipe.predictive(), prompt)?),
            Way::Baseline(_) => {
                let predictive = self.architecture().predictive();
                let tokens = tokens_of(predictive, prompt)?.into();
                Given::Tokens { tokens, subtoken_len: predictive.codes().subtoken_len() }
            }
        };
        let Request { num, first_sequence, .. } = *request;
        Ok(Prepared { way: way.clone(), given, num, first_sequence })
    }

    /// How the samples of a request are drawn.
    pub(super) fn way(&self, request: &Request) -> Result<Way<'_>> {
        match self.is_autoregressive() {
            true => self.baseline(request).map(Way::Baseline),
            false => self.diffusion(request),
        }
    }

    fn diffusion(&self, request: &Request) -> Result<Way<'_>> {
        let architecture = self.architecture();
        let predictive = architecture.predictive_with(request.carry_over);
        let labels = self.labels(request)?.into();
        let settings = request.sampling.settings(architecture.schedule())?;
        let mut settings = SampleSettings {
            unit: request.unit,
            order: request.order,
            per_step: request.per_step,
            seed: request.seed,
            batch: request.batch,
            log_probs: request.log_probs,
            ..settings
        };
        settings.validate()?;
        settings.check_network(self.denoiser()?.spec())?;
        let predictions = match request.label {
            Label::Mixture => {
                // As the published sampler does: the temperature of every prediction, then the mean. Orders rank the
                // mean before any temperature, and the limit 0 is that of the mean: there it divides the mean's logits.
                let by_member = request.order == Order::Random
                    && request.sampling.temperature != Temperature::Constant(0.0);
                if by_member {
                    settings.temperature_schedule = None;
                    settings.sharpening.temperature = 1.0;
                }
                Predictions::OfClasses(by_member.then(|| request.sampling.temperature.schedule()))
            }
            Label::Every | Label::Class(_) => Predictions::Own,
        };
        let recipe = Arc::new(Recipe::new(predictive, &settings)?.ending_at(self.end_of_text()));
        Ok(Way::Diffusion { recipe, predictions, labels })
    }

    fn baseline(&self, request: &Request) -> Result<AutoregressiveRecipe> {
        if request.trajectories {
            return Err(Error::invalid(
                "trace",
                "autoregressive",
                "a diffusion model: this one writes left to right",
            ));
        }
        if let Some(rule) = request.sampling.entropy_rule()? {
            return Err(EntropyRule::without_blocks(rule.least));
        }
        let recipe = AutoregressiveRecipe {
            seed: request.seed,
            sharpening: without_times(&request.sampling)?,
            end: self.end_of_text(),
            log_probs: request.log_probs,
        };
        recipe.validate(self.architecture().predictive().codes().subtoken_len())?;
        Ok(recipe)
    }
}

impl<'s> Generator<'s> {
    /// With `takes_turns` all sequences are under way at once; otherwise the next begin when there is room.
    pub(super) fn new(session: &'s Session, batch: usize, takes_turns: bool) -> Result<Self> {
        if batch == 0 {
            return Err(Error::invalid("batch", batch, "at least 1"));
        }
        Ok(Self { session, batch, takes_turns, lanes: Vec::new(), added: 0, past: Progress::default() })
    }

    /// Adds a sample of a request, by its place among those asked for. Returns its number in this generator: 0 for the first
    /// sequence that is added, 1 for the second, …
    ///
    /// # Errors
    /// [`Error::Invalid`] for a place beyond the last, and for a prompt or class that is not for this model.
    pub fn add(&mut self, request: &Prepared<'s>, sample: usize) -> Result<usize> {
        if sample >= request.num {
            return Err(Error::invalid("sample", sample, format!("below {}", request.num)));
        }
        let number = request.first_sequence.checked_add(sample as u64);
        let number = number.ok_or_else(|| Error::invalid("sample", sample, "a number below 2^64"))?;
        self.add_numbered(request, sample, number)
    }

    /// The same with another number under the seed.
    pub(super) fn add_numbered(
        &mut self,
        request: &Prepared<'s>,
        sample: usize,
        number: u64,
    ) -> Result<usize> {
        let Prepared { way, given, .. } = request;
        let sequence = self.added;
        let lane = match way {
            Way::Diffusion { predictions, .. } => self.lane(*predictions)?,
            Way::Baseline(_) => self.lane(Predictions::Own)?,
        };
        let own = match (&mut lane.stream, way, given) {
            (AnyStream::Diffusion(stream), Way::Diffusion { recipe, labels, .. }, Given::Digits(prompt)) => {
                let label = labels.get(sample).copied().flatten();
                let prompt = prompt.clone().with_label(label);
                stream.add(SequenceRequest { prompt, recipe: Arc::clone(recipe), number })?
            }
            (AnyStream::Baseline(stream), Way::Baseline(recipe), Given::Tokens { tokens, .. }) => {
                let prompt = Arc::clone(tokens);
                stream.add(AutoregressiveSequence { prompt, number, recipe: *recipe })?
            }
            _ => return Err(Error::invalid("request", "prepared by another model", "one of this model")),
        };
        lane.numbers.insert(own, sequence);
        self.added += 1;
        Ok(sequence)
    }

    /// Takes a sequence out, of which nothing is told any more. Returns what it has cost, where it was there and not finished.
    pub fn cancel(&mut self, sequence: usize) -> Option<SampleReport> {
        self.lanes.iter_mut().find_map(|lane| {
            let own = lane.numbers.iter().find(|(_, number)| **number == sequence).map(|(own, _)| *own)?;
            lane.numbers.remove(&own);
            lane.stream.cancel(own)
        })
    }

    /// Gives sequences their next evaluation, those that have waited longest first. Returns the sequences that this finishes.
    ///
    /// # Errors
    /// What the network reports, [`Error::Invalid`] for logits that are no distribution, and what `observer` returns. After an
    /// error the generator is to be dropped.
    pub fn round(&mut self, observer: &mut dyn Observer) -> Result<Vec<FinishedSequence>> {
        let mut finished = Vec::new();
        for place in 0..self.lanes.len() {
            if self.lanes[place].numbers.is_empty() {
                continue;
            }
            let others = self.lanes.iter().enumerate().filter(|(other, _)| *other != place);
            let others = others.fold(self.past, |sum, (_, lane)| added(sum, lane.progress));
            let Lane { stream, numbers, progress, .. } = &mut self.lanes[place];
            let mut told = Renumbered { observer, numbers, progress, others };
            let mut done = stream.round(&mut told)?;
            for one in &mut done {
                let number = numbers.remove(&one.sequence);
                one.sequence =
                    number.ok_or("unknown").map_err(Error::internal("a sequence that was added"))?;
            }
            finished.extend(done);
        }
        let gone = |lane: &mut Lane| lane.numbers.is_empty() && lane.predictions != Predictions::Own;
        for lane in self.lanes.extract_if(.., gone) {
            self.past = added(self.past, lane.progress);
        }
        Ok(finished)
    }

    /// Whether every sequence that was added is finished or taken out.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.numbers.is_empty())
    }

    /// How many sequences are neither finished nor taken out.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.numbers.len()).sum()
    }

    fn lane(&mut self, predictions: Predictions) -> Result<&mut Lane<'s>> {
        if let Some(place) = self.lanes.iter().position(|lane| lane.predictions == predictions) {
            return Ok(&mut self.lanes[place]);
        }
        let (numbers, progress) = (BTreeMap::new(), Progress::default());
        self.lanes.push(Lane { predictions, stream: self.stream(predictions)?, numbers, progress });
        let last = self.lanes.len() - 1;
        Ok(&mut self.lanes[last])
    }

    fn stream(&self, predictions: Predictions) -> Result<AnyStream<'s>> {
        let Self { session, batch, takes_turns, .. } = *self;
        if session.is_autoregressive() {
            let predictive = session.architecture().predictive();
            let stream = AutoregressiveStream::new(session.autoregressive()?, predictive, batch)?;
            return Ok(AnyStream::Baseline(if takes_turns { stream.taking_turns() } else { stream }));
        }
        let network = session.denoiser()?;
        let stream = match predictions {
            Predictions::Own => Stream::new(network, batch)?,
            Predictions::OfClasses(temperature) => Stream::of_mixture(mixture(network, temperature)?, batch)?,
        };
        Ok(AnyStream::Diffusion(if takes_turns { stream.taking_turns() } else { stream }))
    }
}

fn mixture(network: &dyn Denoiser, temperature: Option<TemperatureSchedule>) -> Result<MixtureDenoiser<'_>> {
    let mixture = MixtureDenoiser::of_classes(network)?;
    Ok(match temperature {
        Some(temperature) => mixture.with_temperature(temperature),
        None => mixture,
    })
}

fn added(a: Progress, b: Progress) -> Progress {
    Progress {
        sequences: a.sequences + b.sequences,
        digits: a.digits + b.digits,
        digits_total: a.digits_total + b.digits_total,
    }
}

/// Tells of a stream as of the generator.
struct Renumbered<'o> {
    observer: &'o mut dyn Observer,
    numbers: &'o BTreeMap<usize, usize>,
    progress: &'o mut Progress,
    /// What the other streams did.
    others: Progress,
}

impl Renumbered<'_> {
    fn number(&self, sequence: usize) -> usize {
        self.numbers.get(&sequence).copied().unwrap_or(usize::MAX)
    }
}

impl Observer for Renumbered<'_> {
    fn wants_digits(&self, sequence: usize) -> bool {
        self.observer.wants_digits(self.number(sequence))
    }

    fn notify(&mut self, event: &Event) -> Result<()> {
        let mut event = *event;
        match &mut event {
            Event::Started { sequence, .. }
            | Event::Revealed { sequence, .. }
            | Event::Finished { sequence, .. } => *sequence = self.number(*sequence),
            Event::Progress(progress) => {
                *self.progress = *progress;
                *progress = added(*progress, self.others);
            }
        }
        self.observer.notify(&event)
    }
}

/// Temperature, nucleus and top-k of a network that has no times.
fn without_times(sampling: &Sampling) -> Result<Sharpening> {
    let mut sharpening = sampling.sharpening();
    if let Temperature::Schedule(schedule) = sampling.temperature {
        let [scale, exponent, _] = schedule.into();
        if scale != 0.0 && exponent != 0.0 {
            let given = format!("{:?}", <[f64; 3]>::from(schedule));
            let allowed = "a number: an autoregressive model has no times";
            return Err(Error::invalid("sample.temperature", given, allowed));
        }
        sharpening.temperature = schedule.at(0.0);
    }
    Ok(sharpening)
}

/// Whole tokens, given or not, of given sub-tokens.
fn tokens_of(predictive: &Predictive, digits: &[Option<u32>]) -> Result<Vec<Option<u32>>> {
    let codes = predictive.codes();
    let token = |digits: &[Option<u32>]| match digits.iter().copied().collect::<Option<Vec<u32>>>() {
        Some(whole) => codes.decode_token(&whole).map(Some),
        None if digits.iter().all(Option::is_none) => Ok(None),
        None => Err(Error::invalid(
            "prompt",
            "a part of a token",
            "whole tokens: an autoregressive model fills them",
        )),
    };
    digits.chunks(codes.subtoken_len()).map(token).collect()
}
