//! Reveal plans: which masked sub-token is revealed when, drawn before any value (math.md §7).

use super::settings::SampleSettings;
use crate::Result;
use crate::random::{Draws, Purpose};
use crate::schedule::{RevealSteps, RevealUnit, Schedule};

/// One visit of a sequence: what is revealed, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct RevealEvent {
    /// The step on the grid, from 0; without a grid the number of the event.
    pub step: usize,
    /// The time t at which the network is evaluated.
    pub time: f64,
    /// The sub-tokens i·ℓ + j revealed here, ascending.
    pub digits: Vec<usize>,
}

/// The events of a sequence, in order of time (t decreasing); each masked sub-token stands in exactly one.
#[derive(Clone, Debug, PartialEq)]
pub struct RevealPlan {
    /// The steps in which something is revealed.
    pub events: Vec<RevealEvent>,
    /// T, or without a grid the number of events.
    pub steps_total: usize,
}

impl RevealPlan {
    /// Steps in which nothing is revealed: no network evaluation is spent on them.
    pub fn idle_steps(&self) -> usize {
        self.steps_total - self.events.len()
    }
}

/// Draws reveal plans: a plan is a function of (seed, number of the sequence, masked sub-tokens).
#[derive(Clone, Debug)]
pub struct Planner {
    timing: Timing,
    unit: RevealUnit,
    subtoken_len: usize,
    draws: Draws,
}

#[derive(Clone, Debug)]
enum Timing {
    Grid(RevealSteps),
    FirstHitting(Schedule),
}

impl Planner {
    /// A planner for tokens of `subtoken_len` = ℓ sub-tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for settings out of range.
    pub fn new(settings: &SampleSettings, subtoken_len: usize) -> Result<Self> {
        settings.validate()?;
        let timing = settings.reveal_steps()?.map_or(Timing::FirstHitting(settings.schedule), Timing::Grid);
        let draws = Draws::new(settings.seed, Purpose::Plan);
        Ok(Self { timing, unit: settings.unit, subtoken_len, draws })
    }

    /// The plan of sequence number `sequence`, whose masked sub-tokens are `masked`, ascending.
    ///
    /// Every unit has one uniform level; in order of decreasing level they are revealed, on a grid in the step in which
    /// (1 − α_t) / (1 − α_{t_0}) falls below the level, without one at the very time α⁻¹(1 − level·(1 − α_1)).
    pub fn plan(&self, sequence: u64, masked: &[usize]) -> RevealPlan {
        let per_unit = match self.unit {
            RevealUnit::Digits => 1,
            RevealUnit::Tokens => self.subtoken_len,
        };
        let mut units: Vec<(f64, &[usize])> = masked
            .chunk_by(|a, b| a / per_unit == b / per_unit)
            .map(|digits| (self.draws.uniform(sequence, (digits[0] / per_unit) as u32, 0), digits))
            .collect();
        // The sort is stable, so equal levels stay in the order of the sequence.
        units.sort_by(|a, b| b.0.total_cmp(&a.0));
        match &self.timing {
            Timing::Grid(steps) => on_grid(steps, &units),
            Timing::FirstHitting(schedule) => one_by_one(schedule, &units),
        }
    }
}

fn on_grid(steps: &RevealSteps, units: &[(f64, &[usize])]) -> RevealPlan {
    let together = units.chunk_by(|a, b| steps.step_of(a.0) == steps.step_of(b.0));
    let events = together
        .map(|units| {
            let step = steps.step_of(units[0].0);
            let mut digits: Vec<usize> =
                units.iter().flat_map(|(_, digits)| digits.iter().copied()).collect();
            digits.sort_unstable();
            RevealEvent { step, time: steps.time(step), digits }
        })
        .collect();
    RevealPlan { events, steps_total: steps.count() }
}

fn one_by_one(schedule: &Schedule, units: &[(f64, &[usize])]) -> RevealPlan {
    let masked_at_start = 1.0 - schedule.alpha(1.0);
    let event = |(step, (level, digits)): (usize, &(f64, &[usize]))| {
        let time = schedule.inverse_alpha(1.0 - level * masked_at_start);
        RevealEvent { step, time, digits: digits.to_vec() }
    };
    RevealPlan { events: units.iter().enumerate().map(event).collect(), steps_total: units.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Steps;

    fn planner(steps: Steps, unit: RevealUnit, schedule: Schedule, subtoken_len: usize) -> Planner {
        Planner::new(&SampleSettings { steps, unit, schedule, ..Default::default() }, subtoken_len).unwrap()
    }

    #[test]
    fn every_masked_digit_stands_in_exactly_one_event_and_time_runs_down() {
        let masked: Vec<usize> = (0..60).filter(|digit| digit % 7 != 0).collect();
        for steps in [Steps::Grid(1), Steps::Grid(8), Steps::Times(vec![0.9, 0.5, 0.1]), Steps::FirstHitting]
        {
            for unit in [RevealUnit::Digits, RevealUnit::Tokens] {
                for schedule in
                    [Schedule::LogLinear { epsilon: 0.05 }, Schedule::Polynomial { exponent: 3.0 }]
                {
                    let plan = planner(steps.clone(), unit, schedule, 3).plan(5, &masked);
                    let mut digits: Vec<usize> = plan.events.iter().flat_map(|e| e.digits.clone()).collect();
                    digits.sort_unstable();
                    assert_eq!(digits, masked);
                    assert!(plan.events.windows(2).all(|w| w[0].step < w[1].step && w[0].time > w[1].time));
                    assert!(plan.events.iter().all(|e| (0.0..=1.0).contains(&e.time)));
                    assert!(plan.events.len() + plan.idle_steps() == plan.steps_total);
                }
            }
        }
    }

    #[test]
    fn whole_tokens_share_their_step() {
        let masked: Vec<usize> = (0..24).filter(|digit| ![0, 4, 5].contains(digit)).collect();
        for (steps, events) in [(Steps::FirstHitting, Some(11)), (Steps::Grid(6), None)] {
            let plan = planner(steps, RevealUnit::Tokens, Schedule::Linear, 2).plan(1, &masked);
            for event in &plan.events {
                for &digit in &event.digits {
                    let other = digit ^ 1;
                    assert!(event.digits.contains(&other) || !masked.contains(&other));
                }
            }
            assert!(events.is_none_or(|events| plan.events.len() == events));
        }
    }

    #[test]
    fn without_a_grid_each_event_reveals_one_digit_at_the_times_of_sorted_uniforms() {
        let planner = planner(Steps::FirstHitting, RevealUnit::Digits, Schedule::Linear, 2);
        let (n, plans) = (6, 20_000);
        let mut means = vec![0.0; n];
        let mut first = vec![0usize; n];
        for sequence in 0..plans {
            let plan = planner.plan(sequence, &(0..n).collect::<Vec<_>>());
            assert!(plan.events.iter().all(|event| event.digits.len() == 1) && plan.idle_steps() == 0);
            plan.events.iter().zip(&mut means).for_each(|(event, mean)| *mean += event.time / plans as f64);
            first[plan.events[0].digits[0]] += 1;
        }
        for (k, mean) in means.iter().enumerate() {
            // The k-th largest of n uniforms has mean (n − k)/(n + 1), k from 0, and a deviation below 0.19.
            let expected = (n - k) as f64 / (n + 1) as f64;
            assert!((mean - expected).abs() < 4.0 * 0.19 / (plans as f64).sqrt(), "{k} {mean} {expected}");
        }
        let share = plans as f64 / n as f64;
        assert!(first.iter().all(|&count| (count as f64 - share).abs() < 4.0 * share.sqrt()), "{first:?}");
    }

    #[test]
    fn a_finer_grid_only_splits_the_steps_of_a_coarser_one() {
        let masked: Vec<usize> = (0..40).collect();
        let coarse = planner(Steps::Grid(4), RevealUnit::Digits, Schedule::Linear, 2).plan(3, &masked);
        let fine = planner(Steps::Grid(16), RevealUnit::Digits, Schedule::Linear, 2).plan(3, &masked);
        for event in fine.events {
            let parent = coarse.events.iter().find(|parent| parent.step == event.step / 4).unwrap();
            assert!(event.digits.iter().all(|digit| parent.digits.contains(digit)));
        }
    }

    /// The published idle shares of the method (arXiv 2505.18495, Fig. 1): (1 − 1/T)^N with N = L·ℓ.
    #[test]
    fn idle_shares_are_the_published_ones() {
        let steps = 1024;
        for (subtoken_len, published, digits) in
            [(1, 0.368, 3), (2, 0.135, 3), (4, 0.0183, 4), (6, 0.0025, 4)]
        {
            let planner = planner(Steps::Grid(steps), RevealUnit::Digits, Schedule::Linear, subtoken_len);
            let masked: Vec<usize> = (0..steps * subtoken_len).collect();
            let expected = (1.0 - 1.0 / steps as f64).powi(masked.len() as i32);
            assert!((expected - published).abs() < 0.6 * 10f64.powi(-digits), "{expected} {published}");
            let shares: Vec<f64> =
                (0..200).map(|s| planner.plan(s, &masked).idle_steps() as f64 / steps as f64).collect();
            let n = shares.len() as f64;
            let mean = shares.iter().sum::<f64>() / n;
            let error = (shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt();
            assert!(
                (mean - expected).abs() < 3.5 * error,
                "ℓ = {subtoken_len}: {mean} ± {error}, {expected}"
            );
        }
    }
}
