//! An observer that keeps how sequences came about.

use std::collections::BTreeMap;

use super::observer::{Event, Observer};
use super::report::{Change, Trajectory};
use crate::Result;

/// Keeps the trajectories of all sequences, and tells another observer what happens.
pub struct Recorder<'o> {
    inner: &'o mut dyn Observer,
    trajectories: BTreeMap<usize, Trajectory>,
}

impl<'o> Recorder<'o> {
    /// No trajectory yet; `inner` is told all events that it wants.
    pub fn new(inner: &'o mut dyn Observer) -> Self {
        Self { inner, trajectories: BTreeMap::new() }
    }

    /// Who else is told.
    pub fn inner(&mut self) -> &mut dyn Observer {
        &mut *self.inner
    }

    /// The trajectory of a sequence so far, which is then no longer kept.
    pub fn take(&mut self, sequence: usize) -> Option<Trajectory> {
        self.trajectories.remove(&sequence)
    }

    /// The trajectories that are kept, in the order of their sequences.
    pub fn into_trajectories(self) -> Vec<Trajectory> {
        self.trajectories.into_values().collect()
    }
}

impl Observer for Recorder<'_> {
    fn wants_digits(&self, _sequence: usize) -> bool {
        true
    }

    fn notify(&mut self, event: &Event) -> Result<()> {
        match *event {
            Event::Started { sequence, y } => {
                self.trajectories.insert(sequence, Trajectory { start: y.to_vec(), changes: Vec::new() });
            }
            Event::Revealed { sequence, step, time, digits, .. } => {
                if let Some(trajectory) = self.trajectories.get_mut(&sequence) {
                    trajectory.changes.push(Change { step, time, digits: digits.to_vec() });
                }
                if !self.inner.wants_digits(sequence) {
                    return Ok(());
                }
            }
            Event::Finished { .. } | Event::Progress(_) => {}
        }
        self.inner.notify(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::WithDigits;

    #[test]
    fn events_become_a_trajectory_and_reach_who_wants_them() {
        let digits = [(1, 4), (2, 0)];
        let events = [
            Event::Started { sequence: 7, y: &[5, 5, 5] },
            Event::Revealed { sequence: 7, step: 3, time: 0.5, digits: &digits, settled: 0, log_probs: &[] },
            Event::Revealed { sequence: 7, step: 4, time: 0.25, digits: &[], settled: 0, log_probs: &[] },
        ];
        let changes = [
            Change { step: 3, time: 0.5, digits: digits.to_vec() },
            Change { step: 4, time: 0.25, digits: Vec::new() },
        ];
        let expected = Trajectory { start: vec![5; 3], changes: changes.to_vec() };
        let mut told = [0, 0];
        let [all, few] = &mut told;
        let mut all = WithDigits(|_: &Event| {
            *all += 1;
            Ok(())
        });
        let mut few = |_: &Event| {
            *few += 1;
            Ok(())
        };
        let observers: [&mut dyn Observer; 2] = [&mut all, &mut few];
        for observer in observers {
            let mut recorder = Recorder::new(observer);
            events.iter().try_for_each(|event| recorder.notify(event)).unwrap();
            assert_eq!(recorder.take(7), Some(expected.clone()));
            assert_eq!(recorder.take(7), None);
        }
        assert_eq!(told, [3, 1]);
    }
}
