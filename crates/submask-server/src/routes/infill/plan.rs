//! A request for texts with holes, checked and encoded.

use submask::Session;
use submask::model::{EvaluateRequest, Request, TextLayout};

use super::request::{InfillRequest, ScoreChoice};
use crate::common::{check_bytes, check_choices, check_size, seed};
use crate::error::ApiError;
use crate::routes::score::{ScoreSettings, check_cost};
use crate::sampling::refusal_of_logprobs;
use crate::settings::ServerSettings;

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the library is asked for.
    pub request: Request,
    /// Which tokens are given whole, \[L\].
    pub given: Vec<bool>,
    /// How many, but for the end of another text with which the sequence begins.
    pub prompt_tokens: u64,
    /// Most network evaluations of a sample.
    pub evaluations_at_most: u64,
    /// How finished texts are scored.
    pub score: Option<EvaluateRequest>,
    /// Whether every event is told.
    pub stream: bool,
}

impl Plan {
    /// Checks a request and works it out.
    ///
    /// # Errors
    /// 400 and 422 naming the field.
    pub fn of(
        request: &InfillRequest,
        session: &Session,
        settings: &ServerSettings,
    ) -> Result<Self, ApiError> {
        let (n, first_sequence) = (request.n.unwrap_or(1), request.first_sequence.unwrap_or(0));
        if n == 0 {
            return Err(ApiError::refused("n", 0, "at least 1"));
        }
        check_choices(settings, n)?;
        check_numbers(first_sequence, n)?;
        check_bytes(settings, request.prompt_field(), request.bytes())?;
        let prompt = session.prompt(&request.prompt()?, request.length);
        let prompt = prompt.map_err(|error| request.refused(error))?;
        let codes = session.architecture().predictive().codes();
        let given: Vec<bool> =
            prompt.chunks(codes.subtoken_len()).map(|token| token.iter().all(Option::is_some)).collect();
        check_size(settings, n, request.prompt_field(), given.len())?;
        let tokenizer = session.architecture().tokenizer();
        let beginning = usize::from(tokenizer.is_some_and(|tokenizer| tokenizer.end_of_text().is_some()));
        let request_of = Request {
            num: n,
            prompt,
            seed: seed(request.seed),
            first_sequence,
            log_probs: request.logprobs.unwrap_or(false).then_some(0),
            ..request.sampling().request(session)?
        };
        session.prepare(&request_of).map_err(|error| refused(request, &request_of, session, error))?;
        let score = request.score.as_ref().and_then(ScoreChoice::how).map(|score| {
            let score =
                ScoreSettings { estimator: score.estimator, draws: score.draws, ..ScoreSettings::default() };
            let score = score.request(session, "score.")?;
            let evaluated = session
                .tokens_to_evaluate(&score, scored_sequences(session, given.len().saturating_sub(beginning)));
            let evaluated = evaluated.saturating_mul(n as u64);
            check_cost("score", (n * given.len()) as u64, evaluated, settings)?;
            Ok::<_, ApiError>(score)
        });
        Ok(Self {
            evaluations_at_most: evaluations_at_most(&request_of, session),
            request: request_of,
            prompt_tokens: given.iter().skip(beginning).filter(|given| **given).count() as u64,
            given,
            score: score.transpose()?,
            stream: request.stream.unwrap_or(false),
        })
    }
}

/// The sequences in which a text of so many tokens is scored: (tokens, those that are charged).
fn scored_sequences(session: &Session, tokens: usize) -> Vec<(usize, usize)> {
    let architecture = session.architecture();
    if architecture.config().pairs() {
        let longest = architecture.config().seq_len();
        return vec![(longest, longest)];
    }
    // The place of the windows does not depend on what the text is.
    let passage = architecture.passage_of_tokens(TextLayout::default(), &[], &vec![0; tokens], false);
    passage.map_or_else(|_| Vec::new(), |passage| passage.sequences().collect())
}

/// That the numbers of all samples are such.
///
/// # Errors
/// 400 naming the most that is allowed.
pub fn check_numbers(first_sequence: u64, n: usize) -> Result<(), ApiError> {
    match first_sequence.checked_add(n as u64) {
        Some(_) => Ok(()),
        None => Err(ApiError::refused(
            "first_sequence",
            first_sequence,
            format!("at most {}", u64::MAX - n as u64),
        )),
    }
}

/// What the library says of a request.
fn refused(request: &InfillRequest, of: &Request, session: &Session, error: submask::Error) -> ApiError {
    match &error {
        submask::Error::Invalid { field, .. } if field == "log_probs" => {
            refusal_of_logprobs(error, of, session)
        }
        _ => request.refused(error),
    }
}

/// Most evaluations of the network for a sample of a request.
pub fn evaluations_at_most(request: &Request, session: &Session) -> u64 {
    let architecture = session.architecture();
    let len = architecture.predictive().codes().subtoken_len();
    if session.is_autoregressive() {
        return request.prompt.len() as u64;
    }
    let block_len = match architecture.config().network.block_len() {
        0 => request.prompt.len() / len,
        block_len => block_len,
    };
    request.prompt.chunks((block_len * len).max(1)).map(|block| of_block(request, block, len)).sum()
}

/// The same of the digits that are written together.
fn of_block(request: &Request, digits: &[Option<u32>], subtoken_len: usize) -> u64 {
    use submask::order::Order;
    use submask::sampler::RevealUnit;

    let masked = |digits: &[Option<u32>]| digits.iter().filter(|digit| digit.is_none()).count();
    let units = match request.unit {
        RevealUnit::Digits => masked(digits),
        RevealUnit::Tokens => digits.chunks(subtoken_len).filter(|token| masked(token) > 0).count(),
    };
    let steps = request.sampling.steps;
    let evaluations = match (request.order, steps) {
        _ if units == 0 => 0,
        (Order::Random, 0) => units,
        (Order::Random, steps) if request.sampling.corrector.is_some() => steps,
        (Order::Random, steps) => units.min(steps),
        (_, _) => units.div_ceil(request.per_step.max(1)),
    };
    evaluations as u64
}
