//! New sequences from a model, with holes filled wherever they are.

use std::sync::Arc;

use super::session::Session;
use super::subject::text_of;
use crate::denoiser::Denoiser;
use crate::order::Order;
use crate::predictive::{Predictive, Sharpening};
use crate::sampler::{
    AutoregressiveRequest, AutoregressiveSequence, EntropyRule, Event, FinishedSequence, MixtureDenoiser,
    Observer, Progress, Prompt, Recipe, Recorder, RevealUnit, SampleReport, SampleSettings, Sampling,
    SequenceRequest, Stream, Temperature, Trajectory, sample_autoregressive,
};
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
        }
    }

    /// The sub-tokens of tokens of which the first is given as the end of another text.
    fn beginning(&self, mut tokens: Vec<Option<u32>>) -> Vec<Option<u32>> {
        if let Some(first) = tokens.first_mut() {
            *first = self.architecture().tokenizer().and_then(|tokenizer| tokenizer.end_of_text());
        }
        self.architecture().digits_of(&tokens)
    }

    /// Generates samples; `observer` is told what happens as it happens, and its error ends the work. The baseline tells
    /// nothing.
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
        check_number(request, prompts.len())?;
        let mut generated = match self.is_autoregressive() {
            false => self.diffuse(request, prompts, observer)?,
            true => self.continue_texts(request, prompts)?,
        };
        let Some(tokenizer) = self.architecture().tokenizer() else { return Ok(generated) };
        let len = self.architecture().predictive().codes().subtoken_len();
        for (generated, prompt) in generated.iter_mut().zip(prompts) {
            let given = prompt.iter().rposition(Option::is_some).map_or(0, |last| last / len + 1);
            let texts = generated.tokens.iter().map(|tokens| text_of(tokenizer, tokens, given));
            generated.texts = texts.collect::<Result<_>>()?;
        }
        Ok(generated)
    }

    /// The token that ends a text.
    fn end_of_text(&self) -> Option<u32> {
        self.architecture().tokenizer().and_then(|tokenizer| tokenizer.end_of_text())
    }

    /// Samples of a diffusion model.
    fn diffuse(
        &self,
        request: &Request,
        prompts: &[Vec<Option<u32>>],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Generated>> {
        let architecture = self.architecture();
        let predictive = architecture.predictive_with(request.carry_over);
        let prompts = prompts.iter().map(|prompt| Prompt::from_digits(&predictive, prompt));
        let prompts = prompts.collect::<Result<Vec<_>>>()?;
        let labels = self.labels(request)?;
        let single = self.denoiser()?;
        let mut mixture;
        let settings = request.sampling.settings(architecture.schedule())?;
        let mut settings = SampleSettings {
            unit: request.unit,
            order: request.order,
            per_step: request.per_step,
            seed: request.seed,
            batch: request.batch,
            ..settings
        };
        settings.validate()?;
        settings.check_network(single.spec())?;
        let network: &dyn Denoiser = match request.label {
            Label::Mixture => {
                mixture = MixtureDenoiser::of_classes(single)?;
                // As the published sampler does: the temperature of every prediction, then the mean. Orders rank the
                // mean before any temperature, and the limit 0 is that of the mean: there it divides the mean's logits.
                let by_member = request.order == Order::Random
                    && request.sampling.temperature != Temperature::Constant(0.0);
                if by_member {
                    mixture = mixture.with_temperature(request.sampling.temperature.schedule());
                    settings.temperature_schedule = None;
                    settings.sharpening.temperature = 1.0;
                }
                &mixture
            }
            Label::Every | Label::Class(_) => single,
        };
        let recipe = Arc::new(Recipe::new(&predictive, &settings)?.ending_at(self.end_of_text()));
        Calls { network, recipe, prompts, labels, request }.sample(observer)
    }

    /// The class of every sample.
    fn labels(&self, request: &Request) -> Result<Vec<Option<usize>>> {
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

    /// Samples of the baseline.
    fn continue_texts(&self, request: &Request, prompts: &[Vec<Option<u32>>]) -> Result<Vec<Generated>> {
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
        let predictive = self.architecture().predictive();
        let prompts =
            prompts.iter().map(|prompt| tokens_of(predictive, prompt)).collect::<Result<Vec<_>>>()?;
        let numbers = request.first_sequence..;
        let each = prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt, request.num)).zip(numbers);
        let sequences: Vec<AutoregressiveSequence> =
            each.map(|(prompt, number)| AutoregressiveSequence { prompt, number }).collect();
        let finished = sample_autoregressive(
            self.autoregressive()?,
            predictive,
            &AutoregressiveRequest {
                sequences: &sequences,
                batch: request.batch,
                seed: request.seed,
                sharpening: without_times(&request.sampling)?,
                end: self.end_of_text(),
            },
        )?;
        let places = (0..finished.len()).map(|sample| sample / request.num);
        let mut generated = vec![Generated::default(); prompts.len()];
        places.zip(finished).for_each(|(prompt, finished)| generated[prompt].push(finished, None));
        Ok(generated)
    }
}

impl Generated {
    fn push(&mut self, finished: FinishedSequence, trajectory: Option<Trajectory>) {
        self.tokens.push(finished.tokens);
        self.report = [self.report, finished.report].iter().sum();
        self.trajectories.extend(trajectory);
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

/// Sample n of prompt i is number i·num + n of a call.
struct Calls<'a> {
    network: &'a dyn Denoiser,
    recipe: Arc<Recipe<'a>>,
    prompts: Vec<Prompt>,
    /// The class of every sample of a prompt.
    labels: Vec<Option<usize>>,
    request: &'a Request,
}

impl Calls<'_> {
    /// A part after the other, so that memory is taken for the finished samples only; by length, so that batches are full.
    fn sample(&self, observer: &mut dyn Observer) -> Result<Vec<Generated>> {
        let Request { num, batch, .. } = *self.request;
        let mut samples: Vec<usize> = (0..self.prompts.len() * num).collect();
        samples.sort_by_key(|sample| self.prompts[sample / num].y().len());
        let masked: Vec<usize> = self.prompts.iter().map(|prompt| prompt.masked().len()).collect();
        let mut left = num * masked.iter().sum::<usize>();
        let (mut done, mut digits) = (0, 0);
        let mut finished: Vec<_> = samples.iter().map(|_| None).collect();
        for part in samples.chunks(batch.max(AT_ONCE)) {
            left -= part.iter().map(|sample| masked[sample / num]).sum::<usize>();
            let mut later = Later { observer, part, sequences: done, digits, left };
            for (place, one, trajectory) in self.sample_part(part, &mut later)? {
                digits += one.report.digits as usize;
                finished[place] = Some((one, trajectory));
            }
            done += part.len();
        }
        let mut generated = vec![Generated::default(); self.prompts.len()];
        for (sample, one) in finished.into_iter().enumerate() {
            let (one, trajectory) =
                one.ok_or("missing").map_err(Error::internal("every sample is finished"))?;
            generated[sample / num].push(one, trajectory);
        }
        Ok(generated)
    }

    /// Some of the samples, each with its number in the call, and with its trajectory where that is asked for.
    fn sample_part(
        &self,
        part: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<Vec<(usize, FinishedSequence, Option<Trajectory>)>> {
        let Request { num, batch, first_sequence, trajectories, .. } = *self.request;
        let mut stream = Stream::new(self.network, batch)?;
        for sample in part {
            let prompt = self.prompts[sample / num].clone().with_label(self.labels[sample % num]);
            let (recipe, number) = (Arc::clone(&self.recipe), first_sequence + *sample as u64);
            stream.add(SequenceRequest { prompt, recipe, number })?;
        }
        let mut recorder = Recorder::new(observer);
        let mut samples = Vec::with_capacity(part.len());
        while !stream.is_empty() {
            let finished = match trajectories {
                true => stream.round(&mut recorder)?,
                false => stream.round(recorder.inner())?,
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
    fn wants_digits(&self) -> bool {
        self.observer.wants_digits()
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
