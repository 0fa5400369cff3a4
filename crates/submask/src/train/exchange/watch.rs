//! Whether another process is still there.

use std::time::{Duration, Instant};

/// Watches for signs of life of one process, which sends them by itself, whatever it computes.
#[derive(Debug)]
pub struct Watch {
    timeout: Duration,
    /// When it was last heard of, or this process itself was.
    heard: Instant,
    /// When this was last asked.
    asked: Instant,
}

impl Watch {
    /// From `now` on.
    pub fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, heard: now, asked: now }
    }

    /// How often signs of life are sent: four in the time after which they are missed, and at least every second.
    pub fn interval(&self) -> Duration {
        (self.timeout / 4).min(Duration::from_secs(1))
    }

    /// There was one.
    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// For how long there was none, where that is too long. What this process itself did not ask for, since it was stopped
    /// (with all others, perhaps), does not count.
    pub fn missed(&mut self, now: Instant) -> Option<Duration> {
        if now - std::mem::replace(&mut self.asked, now) > self.interval() {
            self.heard = now;
        }
        let silent = now - self.heard;
        (silent > self.timeout).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_after_the_timeout_and_not_where_this_process_was_stopped_itself() {
        let timeout = Duration::from_secs(8);
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let mut watch = Watch::new(timeout, start);
        assert_eq!(watch.interval(), Duration::from_secs(1));
        assert!((1..=80).all(|tenths| watch.missed(at(tenths)).is_none()));
        assert_eq!(watch.missed(at(81)), Some(Duration::from_millis(8100)));
        watch.hear(at(82));
        assert_eq!(watch.missed(at(83)), None);
        // Stopped for an hour.
        assert_eq!(watch.missed(at(36_000)), None);
        assert!((36_001..=36_080).all(|tenths| watch.missed(at(tenths)).is_none()));
        assert!(watch.missed(at(36_081)).is_some());
        assert_eq!(Watch::new(Duration::from_secs(2), start).interval(), Duration::from_millis(500));
    }
}
