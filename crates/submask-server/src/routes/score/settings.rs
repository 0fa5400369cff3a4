//! How a likelihood is estimated, and what that may cost.

use serde::{Deserialize, Serialize};
use submask::Session;
use submask::model::{Estimator, EvaluateRequest, SCORE_DRAWS};
use submask::order::Order;
use submask::sampler::RevealUnit;
use utoipa::ToSchema;

use crate::common::check_tokens_in_all;
use crate::error::ApiError;
use crate::settings::ServerSettings;

/// How often the network may run on as many tokens as a request may have.
const MAX_TIMES: u64 = 64;
/// Most draws per sequence, and steps of the sampler, that a request may ask for.
const MAX_DRAWS: usize = 1 << 12;
const MAX_STEPS: usize = 1 << 16;

/// What is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EstimatorName {
    /// Upper bound, sub-tokens masked one by one.
    NelboSubtoken,
    /// Upper bound, whole tokens masked together.
    NelboToken,
    /// Upper bound for the sampler with so many steps.
    Path,
    /// Exact likelihood for generation in a deterministic order.
    Exact,
    /// Upper bound for generation in random order, from so many whole orders per sequence.
    Orders,
    /// The training objective: a surrogate, not a likelihood.
    JointObjective,
}

impl EstimatorName {
    fn name(self) -> &'static str {
        match self {
            Self::NelboSubtoken => "nelbo-subtoken",
            Self::NelboToken => "nelbo-token",
            Self::Path => "path",
            Self::Exact => "exact",
            Self::Orders => "orders",
            Self::JointObjective => "joint-objective",
        }
    }
}

/// How a likelihood is estimated.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScoreSettings {
    /// What is estimated.
    pub estimator: Option<EstimatorName>,
    /// Draws per sequence.
    pub draws: Option<usize>,
    /// Steps of the sampler.
    pub steps: Option<usize>,
    /// Order of generation.
    pub order: Option<Order>,
    /// What is revealed at once.
    pub unit: Option<RevealUnit>,
    /// Units revealed per evaluation.
    pub per_step: Option<usize>,
    /// Seed of the draws.
    pub seed: u64,
    /// Whether the constraint holds.
    pub carry_over: Option<bool>,
}

impl ScoreSettings {
    /// What the library is asked for. Errors name fields after `before`, which is empty or ends with a dot.
    ///
    /// # Errors
    /// 400 for fields that have no meaning for the estimator or the model, 422 for more than the server takes.
    pub fn request(&self, session: &Session, before: &str) -> Result<EvaluateRequest, ApiError> {
        self.check(before)?;
        let estimator = self.estimator(session, before)?;
        if self.draws.is_some() && estimator.is_by_token() {
            return Err(self.without_meaning(before, "draws", "the estimator exact, which draws nothing"));
        }
        Ok(EvaluateRequest {
            estimator,
            draws: self.draws.unwrap_or(SCORE_DRAWS),
            seed: self.seed,
            carry_over: self.carry_over,
            ..session.score_request()
        })
    }

    fn without_meaning(&self, before: &str, field: &str, with: &str) -> ApiError {
        let field = format!("{before}{field}");
        ApiError::invalid(field.clone(), format!("{field} has no meaning with {with}"))
    }

    /// Refuses fields that mean nothing for the estimator, and numbers out of range.
    fn check(&self, before: &str) -> Result<(), ApiError> {
        use EstimatorName::{Exact, Orders, Path};

        let fields: [(&str, bool, &[EstimatorName]); 4] = [
            ("steps", self.steps.is_some(), &[Path]),
            ("order", self.order.is_some(), &[Exact]),
            ("per_step", self.per_step.is_some(), &[Exact]),
            ("unit", self.unit.is_some(), &[Exact, Orders]),
        ];
        let reads = |by: &[EstimatorName]| self.estimator.is_some_and(|estimator| by.contains(&estimator));
        if let Some((field, _, by)) = fields.into_iter().find(|(_, given, by)| *given && !reads(by)) {
            let names: Vec<&str> = by.iter().map(|one| one.name()).collect();
            let field = format!("{before}{field}");
            let message = format!("{field} has a meaning with estimator {} only", names.join(" or "));
            return Err(ApiError::invalid(field, message));
        }
        let numbers = [
            ("draws", self.draws, MAX_DRAWS),
            ("steps", self.steps, MAX_STEPS),
            ("per_step", self.per_step, usize::MAX),
        ];
        for (field, number, most) in numbers {
            let field = format!("{before}{field}");
            match number {
                Some(0) => return Err(ApiError::refused(&field, 0, "at least 1")),
                Some(number) if number > most => {
                    return Err(ApiError::beyond(&field, number, most, "per request"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The estimator asked for, or what fits the network.
    fn estimator(&self, session: &Session, before: &str) -> Result<Estimator, ApiError> {
        if session.is_autoregressive() && self.carry_over.is_some() {
            return Err(self.without_meaning(before, "carry_over", "an autoregressive model"));
        }
        let config = session.architecture().config();
        let estimator = match self.estimator {
            None => session.usual_estimator(),
            Some(EstimatorName::NelboSubtoken) => Estimator::NelboSubtoken,
            Some(EstimatorName::NelboToken) => Estimator::NelboToken,
            Some(EstimatorName::Path) => {
                let sampler = Some(config.sample.steps).filter(|&steps| steps > 0);
                let together = match config.network.block_len() {
                    0 => config.seq_len(),
                    block_len => block_len,
                };
                Estimator::Path { steps: self.steps.or(sampler).unwrap_or(together) }
            }
            Some(EstimatorName::Exact) => {
                let order = self.order.unwrap_or(Order::LeftToRight);
                if order == Order::Random {
                    let field = format!("{before}order");
                    let allowed =
                        format!("{}: the random order mixes all orders", Order::deterministic_names());
                    return Err(ApiError::refused(&field, order, allowed));
                }
                let unit = self.unit.unwrap_or(RevealUnit::Tokens);
                Estimator::Exact { order, unit, per_step: self.per_step.unwrap_or(1) }
            }
            Some(EstimatorName::Orders) => {
                Estimator::Orders { unit: self.unit.unwrap_or(RevealUnit::Digits) }
            }
            Some(EstimatorName::JointObjective) => Estimator::JointObjective,
        };
        if session.is_autoregressive() && estimator != Estimator::LEFT_TO_RIGHT {
            let name = self.estimator.map_or("exact", EstimatorName::name);
            let allowed = "exact from left to right, all that an autoregressive model has";
            return Err(ApiError::refused(&format!("{before}estimator"), name, allowed));
        }
        Ok(estimator)
    }
}

/// Refuses more tokens than the server takes, and scores that run the network on too many: while a text is scored, others wait.
/// `charged` are the tokens of the texts, `evaluated` what [`Session::tokens_to_evaluate`] says of them.
///
/// # Errors
/// 422 naming the limit.
pub fn check_cost(
    field: &str,
    charged: u64,
    evaluated: u64,
    settings: &ServerSettings,
) -> Result<(), ApiError> {
    check_tokens_in_all(settings, field, usize::try_from(charged).unwrap_or(usize::MAX))?;
    let limit = MAX_TIMES.saturating_mul(settings.max_tokens as u64);
    match evaluated > limit {
        true => {
            let given = format!("{evaluated} tokens to run the network on, in all evaluations together,");
            Err(ApiError::beyond(field, given, limit, &format!("{MAX_TIMES} times --max-tokens")))
        }
        false => Ok(()),
    }
}
