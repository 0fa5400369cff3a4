//! Fields of requests that say how samples are drawn, and what they ask the library for.

use serde::{Deserialize, Serialize};
use submask::model::{Label, ModelConfig, Request, Sampling, Session, Temperature};
use submask::order::Order;
use submask::predictive::Nucleus;
use submask::sampler::{self, Draw, RevealUnit, Window};
use utoipa::ToSchema;

use crate::error::ApiError;

/// Most steps of a grid that a request may ask for: the grid is held in memory.
const MAX_STEPS: usize = 1 << 16;

/// How samples are drawn. What is absent is as the model's configuration says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingFields {
    /// Order in which masked units are revealed; absent: random, and from left to right for the baseline.
    pub order: Option<Order>,
    /// What is revealed at once; absent: single digits.
    pub unit: Option<RevealUnit>,
    /// Steps of the time grid; 0 is first-hitting, without a grid.
    pub steps: Option<usize>,
    /// Units revealed per evaluation, with an order other than random.
    pub per_step: Option<usize>,
    /// How the digits of a token are drawn.
    pub draw: Option<Draw>,
    /// Temperature.
    pub temperature: Option<TemperatureField>,
    /// Mass of the nucleus.
    pub top_p: Option<f64>,
    /// Most probable tokens kept; 0 keeps all.
    pub top_k: Option<usize>,
    /// Whether the nucleus keeps the token that crosses its mass.
    pub nucleus: Option<Nucleus>,
    /// Warp of the time grid.
    pub warp: Option<[f64; 3]>,
    /// Corrector.
    pub corrector: Option<CorrectorField>,
    /// Whether tokens that contradict a visible digit are excluded.
    pub carry_over: Option<bool>,
    /// What blocks read beyond the model's length.
    pub window: Option<Window>,
    /// Least entropy of the last tokens, below which a text stops.
    pub min_entropy: Option<f64>,
    /// How many last tokens that are.
    pub entropy_window: Option<usize>,
    /// A published sampler, by name, which the other fields change.
    pub sampler: Option<String>,
    /// Class of the samples.
    pub label: Option<LabelField>,
}

/// A temperature: a number, or `[a, n, c]` for a·uⁿ + c.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a number, or three numbers [a, n, c] for a·uⁿ + c")]
pub enum TemperatureField {
    /// The same at all times.
    Constant(f64),
    /// a·uⁿ + c, u going from 0 to 1 while a sample resolves.
    Schedule([f64; 3]),
}

impl From<TemperatureField> for Temperature {
    fn from(field: TemperatureField) -> Self {
        match field {
            TemperatureField::Constant(temperature) => Self::Constant(temperature),
            TemperatureField::Schedule(triple) => Self::Schedule(triple.into()),
        }
    }
}

/// A corrector: `"off"`, or `[k, p, unused]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "\"off\", or three numbers [k, p, unused]")]
pub enum CorrectorField {
    /// None.
    Off(Off),
    /// κ(u) = k·uᵖ(1 − u)ᵖ.
    On([f64; 3]),
}

/// The word `off`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    /// `off`.
    Off,
}

/// A class: its name, its number, or `"mixture"` for predictions averaged over all classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "the name or the number of a class, or \"mixture\"")]
pub enum LabelField {
    /// Its number, from 0.
    Number(usize),
    /// Its name, or `mixture`.
    Name(String),
}

impl SamplingFields {
    /// What the library is asked for: one sample of nothing given, to be completed by the caller.
    ///
    /// # Errors
    /// 400 naming the field that is out of range, or has no meaning for the model or beside another field.
    pub fn request(&self, session: &Session) -> Result<Request, ApiError> {
        let config = session.architecture().config();
        self.check_meaning(session)?;
        Ok(Request {
            label: self.label(config)?,
            sampling: self.sampling(config.sample.clone())?,
            unit: self.unit.unwrap_or_default(),
            order: self.order(session)?,
            per_step: self.per_step.unwrap_or(1),
            carry_over: self.carry_over,
            ..session.request()
        })
    }

    /// Refuses fields that say nothing to this model.
    fn check_meaning(&self, session: &Session) -> Result<(), ApiError> {
        let config = session.architecture().config();
        if self.window.is_some() && config.network.block_len() == 0 {
            let model = "a model that does not write block by block";
            return Err(without_meaning("window", model));
        }
        if !session.is_autoregressive() {
            return Ok(());
        }
        let unread = [
            ("steps", self.steps.is_some()),
            ("per_step", self.per_step.is_some()),
            ("draw", self.draw.is_some()),
            ("warp", self.warp.is_some()),
            ("corrector", self.corrector.is_some()),
            ("carry_over", self.carry_over.is_some()),
            ("unit", self.unit == Some(RevealUnit::Tokens)),
        ];
        match unread.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(without_meaning(
                field,
                "an autoregressive model, which writes sub-token by sub-token from left to right",
            )),
            None => Ok(()),
        }
    }

    /// The order; one that the predictions decide leaves no room for a grid, a corrector and marginal draws.
    fn order(&self, session: &Session) -> Result<Order, ApiError> {
        let order = self.order.unwrap_or_default();
        if session.is_autoregressive() {
            return match order {
                Order::Random | Order::LeftToRight => Ok(order),
                _ => Err(ApiError::refused("order", order, "left-to-right for an autoregressive model")),
            };
        }
        if order == Order::Random {
            return match self.per_step {
                Some(per_step) => Err(ApiError::refused(
                    "per_step",
                    per_step,
                    format!(
                        "left out with order random; {} reveal so many units per evaluation",
                        Order::deterministic_names()
                    ),
                )),
                None => Ok(order),
            };
        }
        let others = [
            ("steps", self.steps.is_some()),
            ("sampler", self.sampler.is_some()),
            ("warp", self.warp.is_some()),
            ("corrector", matches!(self.corrector, Some(CorrectorField::On(_)))),
            ("draw", self.draw == Some(Draw::Marginal)),
        ];
        match others.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(ApiError::invalid(
                field,
                format!(
                    "{field} has no meaning with order {order}, which reveals per_step units per evaluation by joint draws"
                ),
            )),
            None => Ok(order),
        }
    }

    /// The model's sampling, changed by a published sampler, and that by the other fields.
    fn sampling(&self, mut sampling: Sampling) -> Result<Sampling, ApiError> {
        if let Some(name) = &self.sampler {
            let published = sampler::published_sampler(name).map_err(refusal)?;
            sampling = published.sampling;
        }
        if let Some(steps) = self.steps.filter(|steps| *steps > MAX_STEPS) {
            return Err(ApiError::beyond("steps", steps, MAX_STEPS, "per request"));
        }
        sampling.steps = self.steps.unwrap_or(sampling.steps);
        sampling.temperature = self.temperature.map_or(sampling.temperature, Into::into);
        sampling.top_p = self.top_p.unwrap_or(sampling.top_p);
        sampling.nucleus = self.nucleus.unwrap_or(sampling.nucleus);
        if self.nucleus.is_some() && sampling.top_p == 1.0 {
            return Err(without_meaning("nucleus", "top_p 1, which keeps all tokens"));
        }
        sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
        sampling.window = self.window.unwrap_or(sampling.window);
        sampling.min_entropy = self.min_entropy.unwrap_or(sampling.min_entropy);
        sampling.entropy_window = self.entropy_window.unwrap_or(sampling.entropy_window);
        if self.entropy_window.is_some() && sampling.min_entropy == 0.0 {
            return Err(without_meaning("entropy_window", "min_entropy 0, which is off"));
        }
        sampling.warp = self.warp.map_or(sampling.warp, Into::into);
        match self.corrector {
            None => {}
            Some(CorrectorField::Off(_)) => sampling.corrector = None,
            Some(CorrectorField::On(triple)) => sampling.corrector = Some(triple.into()),
        }
        sampling.draw = self.draw.unwrap_or(sampling.draw);
        if self.order.is_some_and(|order| order != Order::Random) {
            let plain = Sampling::default();
            sampling = Sampling { steps: 0, draw: plain.draw, warp: plain.warp, corrector: None, ..sampling };
        }
        sampling.validate().map_err(refusal)?;
        Ok(sampling)
    }

    fn label(&self, config: &ModelConfig) -> Result<Label, ApiError> {
        match &self.label {
            None => Ok(Label::Every),
            Some(label) => {
                let class = class_of(label, config)?;
                Ok(class.map_or(Label::Mixture, Label::Class))
            }
        }
    }
}

/// The class that a field names; `None` for the mixture of all.
///
/// # Errors
/// 400 for a model that reads no classes, and naming those that it has.
pub fn class_of(field: &LabelField, config: &ModelConfig) -> Result<Option<usize>, ApiError> {
    let given = match field {
        LabelField::Number(number) => number.to_string(),
        LabelField::Name(name) => name.clone(),
    };
    if config.classes().is_none() {
        return Err(ApiError::refused("label", given, "left out: the model does not read classes"));
    }
    let names = config.subject.class_names();
    let class = match field {
        LabelField::Name(name) if name == "mixture" => return Ok(None),
        LabelField::Name(name) => names.iter().position(|known| known == name),
        LabelField::Number(number) => Some(*number).filter(|number| *number < names.len()),
    };
    class.map(Some).ok_or_else(|| {
        let last = names.len().saturating_sub(1);
        let allowed = format!("a class, 0 to {last}: {}; or mixture", names.join(", "));
        ApiError::refused("label", given, allowed)
    })
}

fn without_meaning(field: &str, with: &str) -> ApiError {
    ApiError::invalid(field, format!("{field} has no meaning with {with}"))
}

/// The error of the library with the fields of requests in the place of what it names.
pub fn refusal(error: submask::Error) -> ApiError {
    let error = error.rename_field(|field| {
        let field = field.strip_prefix("sample.").unwrap_or(field);
        match field {
            "num" => "n",
            "log_probs" => "logprobs",
            field => field,
        }
        .to_owned()
    });
    ApiError::from(error)
}

/// The error of the library for a request with `logprobs`: where it is the way of drawing that leaves no probabilities to tell, all
/// that they need at once, and what is in force.
pub fn refusal_of_logprobs(error: submask::Error, request: &Request, session: &Session) -> ApiError {
    let is_of_them = matches!(&error, submask::Error::Invalid { field, .. } if field == "log_probs");
    let Some(top) = request.log_probs.filter(|_| is_of_them) else { return refusal(error) };
    let sampling = &request.sampling;
    let temperature = match sampling.temperature {
        Temperature::Constant(temperature) => temperature.to_string(),
        Temperature::Schedule(schedule) => format!("{:?}", <[f64; 3]>::from(schedule)),
    };
    let is_plain = temperature == "1" && sampling.top_p == 1.0 && sampling.top_k == 0;
    let order = request.order;
    let unit = match request.unit {
        RevealUnit::Digits => "digits",
        RevealUnit::Tokens => "tokens",
    };
    let needs_tokens = top > 0 && !session.is_autoregressive();
    let is_exact = session.is_autoregressive() || order != Order::Random;
    if is_plain && is_exact && !(needs_tokens && request.unit != RevealUnit::Tokens) {
        return ApiError::invalid("logprobs", format!("{}; {SCORE}", refusal(error)));
    }
    let drawn = format!("temperature {temperature}, top_p {} and top_k {}", sampling.top_p, sampling.top_k);
    let message = if session.is_autoregressive() {
        format!("logprobs need temperature 1, top_p 1 and top_k 0: here are {drawn}; {SCORE}")
    } else {
        let unit_needed = if needs_tokens { ", unit tokens" } else { "" };
        let unit_given = if needs_tokens { format!(", unit {unit}") } else { String::new() };
        format!(
            "logprobs need an order other than random{unit_needed}, temperature 1, top_p 1 and top_k 0: here are \
             order {order}{unit_given}, {drawn}; {SCORE}"
        )
    };
    ApiError::invalid("logprobs", message)
}

/// Where probabilities can be had whatever the way of drawing.
const SCORE: &str = "/v1/score tells what any text costs";
