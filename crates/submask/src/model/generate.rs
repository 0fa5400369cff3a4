//! New sequences from a model, with holes filled wherever they are.

use super::session::Session;
use super::subject::text_of;
use crate::denoiser::Denoiser;
use crate::order::Order;
use crate::predictive::Predictive;
use crate::sampler::{
    AutoregressiveRequest, Event, MixtureDenoiser, Observer, Progress, Prompt, RevealUnit, SampleReport,
    SampleSettings, Sampler, Sampling, Temperature, Trajectory, sample_autoregressive,
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
    /// The tokens of each sample, \[n\]\[L\].
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
    /// # Errors
    /// [`Error::Invalid`] for a request that does not fit the model, and the first error of `observer`.
    pub fn generate(&self, request: &Request, observer: &mut dyn Observer) -> Result<Generated> {
        if request.num == 0 || request.num > MAX_SAMPLES {
            return Err(Error::invalid("num", request.num, format!("1 to {MAX_SAMPLES} samples at once")));
        }
        let mut generated = match self.is_autoregressive() {
            false => self.diffuse(request, observer)?,
            true => self.continue_text(request)?,
        };
        if let Some(tokenizer) = self.architecture().tokenizer() {
            let len = self.architecture().predictive().codes().subtoken_len();
            let given = request.prompt.iter().rposition(Option::is_some).map_or(0, |last| last / len + 1);
            let texts = generated.tokens.iter().map(|tokens| text_of(tokenizer, tokens, given));
            generated.texts = texts.collect::<Result<_>>()?;
        }
        Ok(generated)
    }

    /// Samples of a diffusion model, a part after the other, so that memory is taken for the finished ones only.
    fn diffuse(&self, request: &Request, observer: &mut dyn Observer) -> Result<Generated> {
        let architecture = self.architecture();
        let predictive = architecture.predictive_with(request.carry_over);
        let prompt = Prompt::from_digits(&predictive, &request.prompt)?;
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
            trajectories: request.trajectories,
            ..settings
        };
        settings.validate()?;
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
        let masked = prompt.masked().len();
        let mut all = Generated::default();
        for labels in labels.chunks(request.batch.max(AT_ONCE)) {
            let done = all.tokens.len();
            let settings = SampleSettings { first_sequence: done as u64, ..settings.clone() };
            let prompts: Vec<Prompt> = labels.iter().map(|label| prompt.clone().with_label(*label)).collect();
            let mut later = Later {
                observer,
                sequences: done,
                digits: done * masked,
                digits_total: request.num * masked,
            };
            let samples =
                Sampler::new(network, &predictive, settings)?.sample_observed(&prompts, &mut later)?;
            all.tokens.extend(samples.sequences().map(<[u32]>::to_vec));
            all.report = [all.report, samples.report()].iter().sum();
            all.trajectories.extend(samples.trajectories);
        }
        Ok(all)
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

    fn continue_text(&self, request: &Request) -> Result<Generated> {
        if request.trajectories {
            return Err(Error::invalid(
                "trace",
                "autoregressive",
                "a diffusion model: this one writes left to right",
            ));
        }
        let mut sharpening = request.sampling.sharpening();
        if let Temperature::Schedule(schedule) = request.sampling.temperature {
            let [scale, exponent, _] = schedule.into();
            if scale != 0.0 && exponent != 0.0 {
                let given = format!("{:?}", <[f64; 3]>::from(schedule));
                return Err(Error::invalid(
                    "sample.temperature",
                    given,
                    "a number: an autoregressive model has no times",
                ));
            }
            sharpening.temperature = schedule.at(0.0);
        }
        let predictive = self.architecture().predictive();
        let len = predictive.codes().subtoken_len();
        let prompt = tokens_of(predictive, &request.prompt)?;
        let tokens = sample_autoregressive(
            self.autoregressive()?,
            predictive,
            &AutoregressiveRequest {
                prompt: &prompt,
                count: request.num,
                first_index: 0,
                batch: request.batch,
                seed: request.seed,
                sharpening,
            },
        )?;
        let holes = prompt.iter().filter(|token| token.is_none()).count();
        let evaluations = (request.num * prompt.len() * len) as u64;
        let report = SampleReport {
            sequences: request.num as u64,
            digits: (request.num * holes * len) as u64,
            evaluations,
            positions: evaluations,
            steps_total: evaluations,
            ..SampleReport::default()
        };
        Ok(Generated { tokens, report, ..Generated::default() })
    }
}

/// Tells of a part of a request as of the whole.
struct Later<'a> {
    observer: &'a mut dyn Observer,
    /// Sequences and revealed digits of the parts before.
    sequences: usize,
    digits: usize,
    /// Digits to reveal in all parts.
    digits_total: usize,
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
            | Event::Finished { sequence, .. } => *sequence += self.sequences,
            Event::Progress(progress) => {
                *progress = Progress {
                    sequences: self.sequences + progress.sequences,
                    digits: self.digits + progress.digits,
                    digits_total: self.digits_total,
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
