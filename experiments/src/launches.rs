//! Which kernels a GPU runs, how often, and for how long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cubecl_common::profile::{ProfileDuration, TimingMethod};
use cubecl_environment::future::block_on;
use cubecl_server::logging::{LaunchObservation, LaunchObserver, TimingRequest};

use crate::peers::Outcome;

/// Launches of a piece of work, in order.
pub struct Launches {
    observer: Arc<Observer>,
    _observation: LaunchObservation,
}

#[derive(Default)]
struct Observer {
    launches: Mutex<Vec<Launch>>,
}

struct Launch {
    kernel: &'static str,
    time: Time,
}

enum Time {
    Unread(ProfileDuration),
    Read(Duration),
}

impl LaunchObserver for Observer {
    fn launched(&self, _: &'static str) {}

    fn timing(&self) -> TimingRequest {
        TimingRequest::Deferred
    }

    fn profiled(&self, kernel: &'static str, profile: ProfileDuration) {
        self.note(Launch { kernel, time: Time::Unread(profile) });
    }

    fn timed(&self, kernel: &'static str, duration: Duration, _: TimingMethod) {
        self.note(Launch { kernel, time: Time::Read(duration) });
    }
}

impl Observer {
    fn note(&self, launch: Launch) {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner).push(launch);
    }
}

/// What the launches of a kernel came to.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    launches: usize,
    milliseconds: f64,
}

impl Launches {
    /// Notes all launches from now on.
    pub fn watch() -> Self {
        let observer = Arc::new(Observer::default());
        Self { _observation: LaunchObservation::new(observer.clone()), observer }
    }

    /// Kernels by the time that they took, the longest first: name, launches, milliseconds.
    pub fn finish(self) -> Outcome<serde_json::Value> {
        let launches =
            std::mem::take(&mut *self.observer.launches.lock().unwrap_or_else(PoisonError::into_inner));
        let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
        let (mut total, count) = (0.0, launches.len());
        for Launch { kernel, time } in launches {
            let duration = match time {
                Time::Read(duration) => Some(duration),
                Time::Unread(profile) => block_on(profile.resolve()).map(|ticks| ticks.duration()),
            };
            let milliseconds = duration.unwrap_or_default().as_secs_f64() * 1e3;
            let sum = sums.entry(short(kernel)).or_default();
            sum.launches += 1;
            sum.milliseconds += milliseconds;
            total += milliseconds;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by(|a, b| b.1.milliseconds.total_cmp(&a.1.milliseconds));
        let kernels: Vec<_> = sums.iter().map(|(name, sum)| (name, sum.launches, sum.milliseconds)).collect();
        Ok(serde_json::json!({ "launches": count, "kernels_ms": total, "kernels": kernels }))
    }
}

/// Types without the paths to them.
fn short(name: &str) -> String {
    let mut short = String::new();
    for (i, part) in name.split("::").enumerate() {
        if i > 0 {
            let end = short.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
            short.truncate(end);
        }
        short.push_str(part);
    }
    short.chars().take(160).collect()
}
