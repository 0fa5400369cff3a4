//! What all requests share.

use std::ops::Deref;
use std::sync::Arc;

use submask::Result;
use submask::likelihood::Figure;
use submask::model::Session;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::error::ApiError;
use crate::metrics::{Metrics, ModelMetrics};
use crate::registry::OpenModel;
use crate::room;
use crate::settings::ServerSettings;

/// What all requests share; cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// What all requests share.
pub struct Shared {
    /// How the server runs.
    pub settings: ServerSettings,
    /// The models, in the order in which they were given.
    pub models: Vec<Arc<ServedModel>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Places of requests that are read and checked away from the threads that serve connections.
    pub checks: Arc<Semaphore>,
    /// Room for large bodies, in KiB.
    pub bodies: Arc<Semaphore>,
    /// Cancelled once the server is to end: it takes no more requests, and finishes those that it has.
    pub shutdown: CancellationToken,
}

/// A model with what works for it.
pub struct ServedModel {
    /// By which clients ask for it.
    pub name: String,
    /// When its weights were written, in seconds since 1970.
    pub created: u64,
    /// What is known of it.
    pub figures: Vec<Figure>,
    /// The model on its device.
    pub session: Arc<Session>,
    /// What is counted of it.
    pub metrics: ModelMetrics,
    /// Works out its samples.
    pub engine: Engine,
}

impl AppState {
    /// Starts an engine for each of the models.
    ///
    /// # Errors
    /// [`submask::Error::Invalid`] for settings out of range, and [`submask::Error::Io`] where no thread can be started.
    pub fn new(settings: ServerSettings, models: Vec<OpenModel>) -> Result<Self> {
        settings.validate()?;
        let (metrics, shutdown) = (Metrics::default(), CancellationToken::new());
        let start = |open: OpenModel| {
            let counted = metrics.model(&open.name);
            let session = Arc::clone(&open.session);
            let engine = Engine::start(&open.name, session, &settings, counted.clone());
            let engine = engine.map_err(submask::Error::io(&open.folder))?;
            let OpenModel { name, created, figures, session, .. } = open;
            Ok(Arc::new(ServedModel { name, created, figures, session, metrics: counted, engine }))
        };
        let models = models.into_iter().map(start).collect::<Result<Vec<_>>>()?;
        let checks = Arc::new(Semaphore::new(settings.max_connections));
        let bodies = room::for_bodies(settings.max_large_body.max(settings.max_body));
        Ok(Self(Arc::new(Shared { settings, models, metrics, checks, bodies, shutdown })))
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// The model of a name.
    ///
    /// # Errors
    /// 404 with the names that there are.
    pub fn model(&self, name: &str) -> std::result::Result<&Arc<ServedModel>, ApiError> {
        self.models.iter().find(|model| model.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
            ApiError::no_model(name, &known)
        })
    }

    /// That requests are still taken.
    ///
    /// # Errors
    /// 503 while the server is about to end.
    pub fn check_open(&self) -> std::result::Result<(), ApiError> {
        match self.shutdown.is_cancelled() {
            false => Ok(()),
            true => Err(ApiError::shutting_down()),
        }
    }
}
