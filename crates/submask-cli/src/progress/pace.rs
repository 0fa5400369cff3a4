//! How long the rest will take.

use std::time::Duration;

/// The pace since the first step seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    first: Option<(u64, Duration)>,
    last: Option<(u64, Duration)>,
}

impl Pace {
    /// Notes that `done` steps are done at time `now`.
    pub fn note(&mut self, done: u64, now: Duration) {
        self.first.get_or_insert((done, now));
        self.last = Some((done, now));
    }

    /// Steps a second, once it can be known.
    pub fn rate(&self) -> Option<f64> {
        let ((first, start), (last, end)) = (self.first?, self.last?);
        let seconds = end.checked_sub(start)?.as_secs_f64();
        (last > first && seconds > 0.0).then(|| (last - first) as f64 / seconds)
    }

    /// Time from the last step to step `total`.
    pub fn remaining(&self, total: u64) -> Option<Duration> {
        let left = total.saturating_sub(self.last?.0);
        Duration::try_from_secs_f64(left as f64 / self.rate()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_steps_so_far() {
        let mut pace = Pace::default();
        assert!(pace.remaining(10).is_none());
        pace.note(100, Duration::from_secs(5));
        assert!(pace.remaining(200).is_none());
        pace.note(150, Duration::from_secs(15));
        assert_eq!((pace.rate(), pace.remaining(200)), (Some(5.0), Some(Duration::from_secs(10))));
        assert_eq!(pace.remaining(100), Some(Duration::ZERO));
    }
}
