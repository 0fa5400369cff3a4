//! What the server counts and measures, as Prometheus reads it.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::error::ApiError;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

/// A route and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    route: String,
    status: u32,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<AnswerLabels, Counter>,
    cancelled: Family<RouteLabel, Counter>,
    durations: Histograms<RouteLabel>,
    first_outputs: Histograms<RouteLabel>,
    models: ModelFamilies,
    /// Clients that were cut off because they took too long to read.
    pub slow_readers: Counter,
    /// Clients that are connected.
    pub connections: Gauge,
    /// Connections that were refused because there were too many.
    pub refused_connections: Counter,
}

/// What is counted per model.
#[derive(Clone, Debug)]
pub struct ModelMetrics {
    /// Requests that wait.
    pub queue_length: Gauge,
    /// Sequences that are being written.
    pub active_sequences: Gauge,
    /// Sequences of one network evaluation.
    pub batch_fill: Histogram,
    /// Network evaluations, of one sequence each.
    pub evaluations: Counter,
    /// Steps that revealed nothing and took no evaluation.
    pub idle_steps: Counter,
    /// Evaluations that only kept what was written.
    pub clean_passes: Counter,
    /// Tokens that were given.
    pub prompt_tokens: Counter,
    /// Tokens that were written.
    pub completion_tokens: Counter,
}

#[derive(Clone, Debug)]
struct ModelFamilies {
    queue_length: Family<ModelLabel, Gauge>,
    active_sequences: Family<ModelLabel, Gauge>,
    batch_fill: Histograms<ModelLabel>,
    evaluations: Family<ModelLabel, Counter>,
    idle_steps: Family<ModelLabel, Counter>,
    clean_passes: Family<ModelLabel, Counter>,
    prompt_tokens: Family<ModelLabel, Counter>,
    completion_tokens: Family<ModelLabel, Counter>,
}

/// From 1 ms, doubled, to about 17 minutes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 21))
}

/// From 1, doubled, to 1,024.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 11))
}

impl ModelFamilies {
    fn register(registry: &mut Registry) -> Self {
        let families = Self {
            queue_length: Family::default(),
            active_sequences: Family::default(),
            batch_fill: Family::new_with_constructor(sizes),
            evaluations: Family::default(),
            idle_steps: Family::default(),
            clean_passes: Family::default(),
            prompt_tokens: Family::default(),
            completion_tokens: Family::default(),
        };
        let it = families.clone();
        registry.register("queue_length", "Requests that wait", it.queue_length);
        registry.register("active_sequences", "Sequences that are being written", it.active_sequences);
        registry.register("batch_fill", "Sequences of one network evaluation", it.batch_fill);
        registry.register("network_evaluations", "Network evaluations, counted per sequence", it.evaluations);
        registry.register("idle_steps", "Steps that revealed nothing and took no evaluation", it.idle_steps);
        registry.register("clean_passes", "Evaluations that only kept what was written", it.clean_passes);
        registry.register("prompt_tokens", "Tokens that were given", it.prompt_tokens);
        registry.register("completion_tokens", "Tokens that were written", it.completion_tokens);
        families
    }

    fn of(&self, model: &str) -> ModelMetrics {
        let label = ModelLabel { model: model.to_owned() };
        ModelMetrics {
            queue_length: self.queue_length.get_or_create(&label).clone(),
            active_sequences: self.active_sequences.get_or_create(&label).clone(),
            batch_fill: self.batch_fill.get_or_create(&label).clone(),
            evaluations: self.evaluations.get_or_create(&label).clone(),
            idle_steps: self.idle_steps.get_or_create(&label).clone(),
            clean_passes: self.clean_passes.get_or_create(&label).clone(),
            prompt_tokens: self.prompt_tokens.get_or_create(&label).clone(),
            completion_tokens: self.completion_tokens.get_or_create(&label).clone(),
        }
    }
}

impl Default for Metrics {
    /// Nothing counted yet.
    fn default() -> Self {
        let mut registry = Registry::with_prefix("submask");
        let models = ModelFamilies::register(&mut registry);
        let metrics = Self {
            requests: Family::default(),
            cancelled: Family::default(),
            durations: Family::new_with_constructor(seconds),
            first_outputs: Family::new_with_constructor(seconds),
            models,
            slow_readers: Counter::default(),
            connections: Gauge::default(),
            refused_connections: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests that were answered", metrics.requests.clone());
        registry.register(
            "cancelled_requests",
            "Requests whose client went away before the answer was whole",
            metrics.cancelled.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "Time from the head of a request to the end of its answer",
            metrics.durations.clone(),
        );
        registry.register(
            "first_output_seconds",
            "Time from the head of a request to the first bytes of its answer's body",
            metrics.first_outputs.clone(),
        );
        registry.register(
            "slow_readers",
            "Clients cut off because they took too long to read",
            metrics.slow_readers.clone(),
        );
        registry.register("connections", "Clients that are connected", metrics.connections.clone());
        registry.register(
            "refused_connections",
            "Connections refused because there were too many",
            metrics.refused_connections.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Those of a model.
    pub fn model(&self, name: &str) -> ModelMetrics {
        self.models.of(name)
    }

    /// A request was answered, whole, after `time`.
    pub fn answered(&self, route: &str, status: u16, time: Duration) {
        let route = route.to_owned();
        self.durations.get_or_create(&RouteLabel { route: route.clone() }).observe(time.as_secs_f64());
        self.requests.get_or_create(&AnswerLabels { route, status: status.into() }).inc();
    }

    /// The first bytes of an answer were handed over after `time`.
    pub fn first_output(&self, route: &str, time: Duration) {
        let route = RouteLabel { route: route.to_owned() };
        self.first_outputs.get_or_create(&route).observe(time.as_secs_f64());
    }

    /// A client went away.
    pub fn cancelled(&self, route: &str) {
        self.cancelled.get_or_create(&RouteLabel { route: route.to_owned() }).inc();
    }

    /// All of it as text.
    ///
    /// # Errors
    /// 500 for what cannot be written, which is a defect.
    pub fn text(&self) -> Result<String, ApiError> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).map_err(|error| {
            tracing::error!(error = %error, "metrics cannot be written");
            ApiError::internal("the metrics cannot be written")
        })?;
        Ok(text)
    }
}
