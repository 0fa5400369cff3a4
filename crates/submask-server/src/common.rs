//! What requests that sample have in common: which model, which seed, what it cost.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use submask::sampler::SampleReport;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::metrics::ModelMetrics;
use crate::settings::ServerSettings;
use crate::state::{AppState, ServedModel};

/// Seeds that are drawn stay below, so that every client reads them as they are.
const SEEDS: u64 = 1 << 53;

/// What samples cost together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens that were given.
    pub prompt_tokens: u64,
    /// Tokens that were written.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Network evaluations, summed over samples.
    pub network_evaluations: u64,
    /// Steps in which nothing was revealed and the network was not evaluated.
    pub idle_steps: u64,
    /// Passes of known tokens through a network with blocks.
    pub clean_passes: u64,
}

impl Usage {
    /// Of so many tokens that are given.
    pub fn given(prompt_tokens: u64) -> Self {
        Self { prompt_tokens, total_tokens: prompt_tokens, ..Self::default() }
    }

    /// Adds tokens that were written.
    pub fn write(&mut self, tokens: u64) {
        self.completion_tokens += tokens;
        self.total_tokens += tokens;
    }

    /// Adds what a sample cost.
    pub fn add(&mut self, report: &SampleReport) {
        self.network_evaluations += report.evaluations;
        self.idle_steps += report.steps_skipped;
        self.clean_passes += report.clean_passes;
    }

    /// Counts it, and notes it in the line of the log.
    pub fn record(&self, metrics: &ModelMetrics, span: &tracing::Span) {
        metrics.prompt_tokens.inc_by(self.prompt_tokens);
        metrics.completion_tokens.inc_by(self.completion_tokens);
        span.record("prompt_tokens", self.prompt_tokens);
        span.record("completion_tokens", self.completion_tokens);
        span.record("evaluations", self.network_evaluations);
    }
}

/// The seed that was given, or one that is drawn.
pub fn seed(given: Option<u64>) -> u64 {
    given.unwrap_or_else(|| random() % SEEDS)
}

/// A name for an answer, such as `cmpl-…`.
pub fn id(prefix: &str) -> String {
    format!("{prefix}-{:016x}{:016x}", random(), random())
}

/// The hasher's keys are drawn from the system's randomness.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// Now, in seconds of Unix.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The model of a request, whose sequences have to be of this kind.
///
/// # Errors
/// 404 for an unknown name, 400 for another kind of model.
pub fn model_of(state: &AppState, name: &str, kind: &str) -> Result<Arc<ServedModel>, ApiError> {
    let model = state.model(name)?;
    tracing::Span::current().record("model", name);
    let found = model.session.architecture().config().subject.name();
    if found == kind {
        return Ok(Arc::clone(model));
    }
    let message = format!("model = {name:?} is a model of {found}: this needs one of {kind}");
    Err(ApiError::invalid("model", message))
}

/// Refuses more samples or tokens than the server takes for one request. `field` says which field asks for them.
///
/// # Errors
/// 422 naming the limit.
pub fn check_size(
    settings: &ServerSettings,
    choices: usize,
    field: &str,
    tokens_each: usize,
) -> Result<(), ApiError> {
    check_choices(settings, choices)?;
    check_tokens_in_all(settings, field, choices.saturating_mul(tokens_each))
}

/// Refuses more tokens, of all samples together, than the server takes for one request. `field` says which field asks for them.
///
/// # Errors
/// 422 naming the limit.
pub fn check_tokens_in_all(settings: &ServerSettings, field: &str, tokens: usize) -> Result<(), ApiError> {
    match tokens > settings.max_tokens {
        true => {
            let given = format!("{tokens} tokens in all");
            Err(ApiError::beyond(field, given, settings.max_tokens, "--max-tokens"))
        }
        false => Ok(()),
    }
}

/// Bytes of text per token that a request may have, all of its texts together: more than the tokens of any language have on
/// average.
const BYTES_PER_TOKEN: usize = 16;

/// Refuses texts that have more bytes than the tokens of a request may have, before they are encoded. `field` says where they are.
///
/// # Errors
/// 422 naming the limit.
pub fn check_bytes(settings: &ServerSettings, field: &str, bytes: usize) -> Result<(), ApiError> {
    let most = settings.max_tokens.saturating_mul(BYTES_PER_TOKEN);
    match bytes > most {
        true => {
            let (given, limit) = (format!("{bytes} bytes in all"), format!("{most} bytes"));
            Err(ApiError::beyond(
                field,
                given,
                limit,
                &format!("{BYTES_PER_TOKEN} per token of --max-tokens"),
            ))
        }
        false => Ok(()),
    }
}

/// Refuses more samples than the server takes for one request.
///
/// # Errors
/// 422 naming the limit.
pub fn check_choices(settings: &ServerSettings, choices: usize) -> Result<(), ApiError> {
    match choices > settings.max_choices {
        true => {
            let given = format!("{choices} samples in all");
            Err(ApiError::beyond("n", given, settings.max_choices, "--max-choices"))
        }
        false => Ok(()),
    }
}

/// Runs work that takes a while away from the threads that serve connections. Work for which nobody waits any more when its turn
/// comes is left out.
///
/// # Errors
/// What `work` says, 429 where too much of it waits, and 500 where it panicked.
pub async fn blocking<T: Send + 'static>(
    state: &AppState,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let place = Arc::clone(&state.checks).try_acquire_owned().map_err(|_| ApiError::too_many_at_once())?;
    let gone = CancellationToken::new();
    let _waits = gone.clone().drop_guard();
    let work = move || {
        // What still waits for its turn keeps its place, whoever has gone.
        let _place = place;
        if gone.is_cancelled() { Err(ApiError::shutting_down()) } else { work() }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(error = %error, "a request panicked");
            Err(ApiError::internal("the server failed; its log says more"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn drawn_seeds_differ_and_are_whole_numbers_everywhere() {
        let seeds: Vec<u64> = (0..64).map(|_| seed(None)).collect();
        assert!(seeds.iter().all(|seed| *seed < SEEDS));
        assert!(seeds.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(seed(Some(u64::MAX)), u64::MAX);
        assert_ne!(id("cmpl"), id("cmpl"));
    }

    #[test]
    fn so_much_work_waits_and_no_more_and_what_nobody_waits_for_is_left_out() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let settings = ServerSettings { max_connections: 2, ..ServerSettings::default() };
            let state = AppState::new(settings, Vec::new()).unwrap();
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let (go_on, may_go_on) = std::sync::mpsc::channel();
            let work = move || {
                begun.send(()).unwrap();
                may_go_on.recv().map_err(ApiError::internal)
            };
            let own = state.clone();
            let first = tokio::spawn(async move { blocking(&own, work).await });
            has_begun.await.unwrap();
            let was_run = Arc::new(AtomicBool::new(false));
            let (own, ran) = (state.clone(), Arc::clone(&was_run));
            let waits = async move {
                blocking(&own, move || {
                    ran.store(true, Ordering::SeqCst);
                    Ok(())
                })
                .await
            };
            // It is asked once, so that it waits for its turn, and then dropped.
            assert!(tokio::time::timeout(Duration::ZERO, waits).await.is_err());
            let refused = blocking(&state, || Ok(())).await.unwrap_err();
            assert_eq!(refused.status(), axum::http::StatusCode::TOO_MANY_REQUESTS);
            go_on.send(()).unwrap();
            first.await.unwrap().unwrap();
            while blocking(&state, || Ok(())).await.is_err() {
                tokio::task::yield_now().await;
            }
            assert!(!was_run.load(Ordering::SeqCst));
        });
    }
}
