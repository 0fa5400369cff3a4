//! New sequences from a model, with holes filled wherever they are.

use std::ops::Range;

use super::generator::{Generator, Prepared};
use super::session::Session;
use super::subject::text_of;
use crate::order::Order;
use crate::parts::{Bytes, Fields};
use crate::sampler::{
    Event, FinishedSequence, Observer, Progress, Recorder, RevealUnit, SampleReport, Sampling, Trajectory,
};
use crate::shard::Shard;
use crate::{Error, Result};

/// Most samples of one request: their prompts and tokens are held in memory.
const MAX_SAMPLES: usize = 1_000_000;

/// Samples that are under way together at least: enough that few evaluations are of a batch that is not full.
const AT_ONCE: usize = 256;

/// Of which class samples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// Equally many of every class, one class after the other; of none where the network reads no classes.
    #[default]
    Every,
    /// Of this one.
    Class(usize),
    /// Predictions are averaged over all classes (math.md §8).
    Mixture,
}

/// What is generated.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of samples.
    pub num: usize,
    /// The sub-tokens that are given, [L·ℓ], holes being `None`; all samples alike. See [`Session::prompt`] for text.
    pub prompt: Vec<Option<u32>>,
    /// The class of the samples, for a network that reads it.
    pub label: Label,
    /// Steps, draws, temperature, nucleus, warp and corrector; an autoregressive model reads temperature, nucleus and
    /// top-k only.
    pub sampling: Sampling,
    /// What is revealed together.
    pub unit: RevealUnit,
    /// Which units come first. Orders other than random have no grid of steps, no corrector, and joint draws only; the
    /// baseline writes from left to right, whatever is said here.
    pub order: Order,
    /// Units revealed per evaluation N ≥ 1; 1 with the order random.
    pub per_step: usize,
    /// Whether tokens that contradict a visible digit are excluded; `None`: as the model says.
    pub carry_over: Option<bool>,
    /// Seed of all draws.
    pub seed: u64,
    /// Number of the first sample under the seed, the key of its draws; the next ones follow.
    pub first_sequence: u64,
    /// Sequences evaluated together; the samples do not depend on it.
    pub batch: usize,
    /// Whether trajectories are kept.
    pub trajectories: bool,
    /// Whether observers are told with what probabilities sub-tokens were drawn, and of how many most probable tokens beside:
    /// [`SampleSettings::log_probs`](crate::sampler::SampleSettings::log_probs).
    pub log_probs: Option<usize>,
}

/// Samples and what they cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// The text of each sample of a model of text, up to the first end of text after its beginning and after all that
    /// was given; otherwise empty.
    pub texts: Vec<String>,
    /// The tokens of each sample, \[n\]\[L\]; of texts written from left to right up to the one that ends the text.
    pub tokens: Vec<Vec<u32>>,
    /// What all samples cost together.
    pub report: SampleReport,
    /// How each sample came about; empty unless asked for.
    pub trajectories: Vec<Trajectory>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its text, where the model is of text: see [`Generated::texts`].
    pub text: Option<String>,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What it cost.
    pub report: SampleReport,
    /// How it came about, where that was asked for.
    pub trajectory: Option<Trajectory>,
}

impl Sample {
    /// As a record of a part.
    ///
    /// # Errors
    /// [`Error::Internal`] for what is no JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let json = |what: serde_json::Result<Vec<u8>>| what.map_err(Error::internal("a sample is JSON"));
        let (text, report) = (json(serde_json::to_vec(&self.text))?, json(serde_json::to_vec(&self.report))?);
        let trajectory = json(serde_json::to_vec(&self.trajectory))?;
        let bytes = Bytes::default().tokens(&self.tokens);
        Ok(bytes.string(&text).string(&report).string(&trajectory).into_vec())
    }

    /// Of a record of a part.
    ///
    /// # Errors
    /// As [`Fields::u64`].
    pub fn read(fields: &mut Fields) -> Result<Self> {
        let tokens = fields.tokens()?;
        Ok(Self { tokens, text: fields.json()?, report: fields.json()?, trajectory: fields.json()? })
    }
}

impl Session {
    /// One sample of the model's full length by its default sampling, nothing given; a text begins where texts begin,
    /// after the end of another.
    pub fn request(&self) -> Request {
        let architecture = self.architecture();
        let tokens = vec![None; architecture.config().seq_len()];
        Request {
            num: 1,
            prompt: self.beginning(tokens),
            label: Label::Every,
            sampling: architecture.config().sample.clone(),
            unit: RevealUnit::Digits,
            order: Order::Random,
            per_step: 1,
            carry_over: None,
            seed: 0,
            first_sequence: 0,
            batch: 8,
            trajectories: false,
            log_probs: None,
        }
    }

    /// The sub-tokens of tokens of which the first is given as the end of another text.
    fn beginning(&self, mut tokens: Vec<Option<u32>>) -> Vec<Option<u32>> {
        if let Some(first) = tokens.first_mut() {
            *first = self.architecture().tokenizer().and_then(|tokenizer| tokenizer.end_of_text());
        }
        self.architecture().digits_of(&tokens)
    }

    /// Generates samples; `observer` is told what happens as it happens, and its error ends the work.
    ///
    /// A text that is written from left to right stops at its end: what would follow takes no evaluation.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a request that does not fit the model, and the first error of `observer`.
    pub fn generate(&self, request: &Request, observer: &mut dyn Observer) -> Result<Generated> {
        let mut generated = self.generate_each(request, std::slice::from_ref(&request.prompt), observer)?;
        Ok(generated.pop().unwrap_or_default())
    }

    /// The same with each of `prompts`, which may be of different lengths, in the place of the request's own: `num` samples
    /// of each, in the order of the prompts. Sample n of prompt i has number `first_sequence` + i·`num` + n, so that it is
    /// the one that [`Self::generate`] gives of this prompt alone from that number on.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_each(
        &self,
        request: &Request,
        prompts: &[Vec<Option<u32>>],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Generated>> {
        let samples = self.generate_share(request, prompts, Shard::WHOLE, observer)?;
        let mut samples = samples.into_iter();
        let of_prompt = |_: &Vec<_>| samples.by_ref().take(request.num).collect();
        Ok(prompts.iter().map(of_prompt).collect())
    }

    /// A share of the samples that [`Self::generate_each`] gives, in their order: each is the same sample as there.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_share(
        &self,
        request: &Request,
        prompts: &[Vec<Option<u32>>],
        shard: Shard,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Sample>> {
        check_number(request, prompts.len())?;
        let way = self.way(request)?;
        let given: Result<_> = prompts.iter().map(|prompt| self.prepared(request, &way, prompt)).collect();
        let share = shard.range(prompts.len() * request.num);
        let first = share.start;
        let finished = Calls { session: self, prompts: given?, request, share }.sample(observer)?;
        let sample = |(place, (finished, trajectory)): (usize, (FinishedSequence, Option<Trajectory>))| {
            let FinishedSequence { tokens, report, .. } = finished;
            let text = self.text_of_sample(&tokens, &prompts[(first + place) / request.num])?;
            Ok(Sample { text, tokens, report, trajectory })
        };
        finished.into_iter().enumerate().map(sample).collect()
    }

    /// The text of a sample of which `prompt` [L·ℓ] was given, as [`Self::generate`] gives it; `None` where the model is not of
    /// text.
    ///
    /// # Errors
    /// [`Error::InvalidCode`] for tokens that the tokenizer does not have.
    pub fn text_of_sample(&self, tokens: &[u32], prompt: &[Option<u32>]) -> Result<Option<String>> {
        let Some(tokenizer) = self.architecture().tokenizer() else { return Ok(None) };
        let len = self.architecture().predictive().codes().subtoken_len();
        let given = prompt.iter().rposition(Option::is_some).map_or(0, |last| last / len + 1);
        text_of(tokenizer, tokens, given).map(Some)
    }

    /// The token that ends a text.
    pub(super) fn end_of_text(&self) -> Option<u32> {
        self.architecture().tokenizer().and_then(|tokenizer| tokenizer.end_of_text())
    }

    /// The class of every sample.
    pub(super) fn labels(&self, request: &Request) -> Result<Vec<Option<usize>>> {
        match (request.label, self.architecture().config().classes()) {
            (Label::Every, Some(classes)) => {
                // The first classes have one more where there is no even share.
                let of_class =
                    |class| std::iter::repeat_n(Some(class), (request.num + classes - 1 - class) / classes);
                Ok((0..classes).flat_map(of_class).collect())
            }
            (Label::Every, None) | (Label::Mixture, Some(_)) => Ok(vec![None; request.num]),
            (Label::Class(label), Some(classes)) if label < classes => Ok(vec![Some(label); request.num]),
            (Label::Class(label), Some(classes)) => {
                Err(Error::invalid("label", label, format!("0 to {}", classes - 1)))
            }
            (Label::Class(_) | Label::Mixture, None) => {
                Err(Error::invalid("label", "given", "none: the model does not read classes"))
            }
        }
    }
}

impl FromIterator<Sample> for Generated {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        samples.into_iter().fold(Self::default(), |mut generated, sample| {
            generated.texts.extend(sample.text);
            generated.tokens.push(sample.tokens);
            generated.report = [generated.report, sample.report].iter().sum();
            generated.trajectories.extend(sample.trajectory);
            generated
        })
    }
}

/// The samples that are held at once, and the numbers that they have.
fn check_number(request: &Request, prompts: usize) -> Result<()> {
    let refused = |allowed: String| Err(Error::invalid("num", request.num, allowed));
    if request.num == 0 || request.num > MAX_SAMPLES {
        return refused(format!("1 to {MAX_SAMPLES} samples at once"));
    }
    if prompts == 0 {
        return Err(Error::invalid("prompts", prompts, "at least 1"));
    }
    let Some(samples) = request.num.checked_mul(prompts).filter(|samples| *samples <= MAX_SAMPLES) else {
        return refused(format!("{MAX_SAMPLES} samples at once, those of all {prompts} prompts together"));
    };
    match request.first_sequence.checked_add(samples as u64) {
        Some(_) => Ok(()),
        None => {
            let allowed = format!("at most {}", u64::MAX - samples as u64);
            Err(Error::invalid("first_sequence", request.first_sequence, allowed))
        }
    }
}

/// Sample n of prompt i is number i·num + n of a call.
struct Calls<'a> {
    session: &'a Session,
    prompts: Vec<Prepared<'a>>,
    request: &'a Request,
    /// Numbers of the samples that are wanted.
    share: Range<usize>,
}

impl Calls<'_> {
    /// A part after the other, so that memory is taken for the finished samples only; by length, so that batches are full.
    fn sample(&self, observer: &mut dyn Observer) -> Result<Vec<(FinishedSequence, Option<Trajectory>)>> {
        let Request { num, batch, .. } = *self.request;
        let mut samples: Vec<usize> = self.share.clone().collect();
        samples.sort_by_key(|sample| self.prompts[sample / num].digits());
        let masked: Vec<usize> = self.prompts.iter().map(Prepared::masked).collect();
        let mut left = samples.iter().map(|sample| masked[sample / num]).sum::<usize>();
        let (mut done, mut digits) = (0, 0);
        let mut finished: Vec<_> = samples.iter().map(|_| None).collect();
        for part in samples.chunks(batch.max(AT_ONCE)) {
            left -= part.iter().map(|sample| masked[sample / num]).sum::<usize>();
            let mut later = Later { observer, part, sequences: done, digits, left };
            for (place, one, trajectory) in self.sample_part(part, &mut later)? {
                digits += one.report.digits as usize;
                finished[place - self.share.start] = Some((one, trajectory));
            }
            done += part.len();
        }
        let is_there =
            |one: Option<_>| one.ok_or("missing").map_err(Error::internal("every sample is finished"));
        finished.into_iter().map(is_there).collect()
    }

    /// Some of the samples, each with its number in the call, and with its trajectory where that is asked for.
    fn sample_part(
        &self,
        part: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<Vec<(usize, FinishedSequence, Option<Trajectory>)>> {
        let Request { num, batch, first_sequence, trajectories, .. } = *self.request;
        let mut generator = Generator::new(self.session, batch, false)?;
        for sample in part {
            let number = first_sequence + *sample as u64;
            generator.add_numbered(&self.prompts[sample / num], sample % num, number)?;
        }
        let mut recorder = Recorder::new(observer);
        let mut samples = Vec::with_capacity(part.len());
        while !generator.is_empty() {
            let finished = match trajectories {
                true => generator.round(&mut recorder)?,
                false => generator.round(recorder.inner())?,
            };
            for one in finished {
                let trajectory = recorder.take(one.sequence);
                samples.push((part[one.sequence], one, trajectory));
            }
        }
        Ok(samples)
    }
}

/// Tells of a part of a request as of the whole.
struct Later<'a> {
    observer: &'a mut dyn Observer,
    /// The samples of the part, by their numbers in the call.
    part: &'a [usize],
    /// Sequences and revealed digits of the parts before.
    sequences: usize,
    digits: usize,
    /// Digits to reveal in the parts after it.
    left: usize,
}

impl Observer for Later<'_> {
    fn wants_digits(&self, sequence: usize) -> bool {
        self.part.get(sequence).is_some_and(|sample| self.observer.wants_digits(*sample))
    }

    fn notify(&mut self, event: &Event) -> Result<()> {
        let mut event = *event;
        match &mut event {
            Event::Started { sequence, .. }
            | Event::Revealed { sequence, .. }
            | Event::Finished { sequence, .. } => *sequence = self.part[*sequence],
            Event::Progress(progress) => {
                *progress = Progress {
                    sequences: self.sequences + progress.sequences,
                    digits: self.digits + progress.digits,
                    digits_total: self.digits + progress.digits_total + self.left,
                };
            }
        }
        self.observer.notify(&event)
    }
}
