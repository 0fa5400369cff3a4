//! The sampling loop with a corrector (math.md §8): every step is visited and every position evaluated, since
//! visible sub-tokens may change too.

use rayon::prelude::*;

use super::corrector::{Corrector, Jumps};
use super::draw::TokenAt;
use super::prompt::Prompt;
use super::report::{Change, SampleReport, Samples, Trajectory};
use super::sample::{Progress, Sampler};
use crate::Result;
use crate::denoiser::States;
use crate::random::{Draws, Purpose};
use crate::schedule::{RevealSteps, Schedule};

/// One step for all sequences.
struct Step {
    k: usize,
    /// t, the time of the evaluation.
    time: f64,
    /// Probability that a masked sub-token is revealed.
    share: f64,
    /// `None` in the last step and where α is 0.
    jumps: Option<Jumps>,
}

/// What a corrected loop needs besides the sampler.
pub(super) struct CorrectedLoop {
    steps: Vec<Step>,
    reveals: Draws,
    jumps: Draws,
}

impl CorrectedLoop {
    pub fn new(corrector: &Corrector, grid: &RevealSteps, schedule: &Schedule, seed: u64) -> Self {
        let times = grid.times();
        let step = |k: usize| {
            let jumps = times.get(k + 1).and_then(|&s| corrector.jumps(schedule, times[k], s));
            Step { k, time: times[k], share: grid.conditional(k), jumps }
        };
        Self {
            steps: (0..times.len()).map(step).collect(),
            reveals: Draws::new(seed, Purpose::Reveal),
            jumps: Draws::new(seed, Purpose::Jump),
        }
    }
}

/// A sequence on its way.
struct Row<'p> {
    /// Which prompt.
    s: usize,
    prompt: &'p Prompt,
    y: Vec<u32>,
    report: SampleReport,
    changes: Vec<Change>,
}

/// What became of a position's digits.
#[derive(Clone, Copy, Default)]
struct Outcome {
    redrawn: bool,
    jumps: u64,
    dropped: u64,
}

/// A position asked for: row in the batch, and token.
#[derive(Clone, Copy)]
struct Asked {
    b: usize,
    i: usize,
}

impl Row<'_> {
    /// Whether sub-token `digit` was given.
    fn is_given(&self, digit: usize) -> bool {
        self.prompt.y()[digit] != self.prompt.mask_id()
    }

    fn visible(&self) -> usize {
        let mask_id = self.prompt.mask_id();
        (0..self.y.len()).filter(|&digit| !self.is_given(digit) && self.y[digit] != mask_id).count()
    }
}

impl Sampler<'_> {
    /// [`Sampler::sample_observed`] with a corrector.
    pub(super) fn sample_corrected(
        &self,
        corrected: &CorrectedLoop,
        prompts: &[Prompt],
        seq_len: usize,
        observe: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Samples> {
        let digits_total = prompts.iter().map(|prompt| prompt.masked().len()).sum();
        let mut done = Progress { sequences: 0, digits: 0, digits_total };
        let mut rows: Vec<Row> = prompts.iter().enumerate().map(|(s, p)| self.row(corrected, s, p)).collect();
        for batch in rows.chunks_mut(self.settings.batch) {
            let mut active: Vec<&mut Row> = batch.iter_mut().filter(|row| row.report.digits > 0).collect();
            let steps = if active.is_empty() { &[] } else { corrected.steps.as_slice() };
            for step in steps {
                self.corrected_step(corrected, step, &mut active, seq_len)?;
                let visible: usize = active.iter().map(|row| row.visible()).sum();
                observe(Progress { digits: done.digits + visible, ..done })?;
            }
            done.digits += active.iter().map(|row| row.visible()).sum::<usize>();
            done.sequences += batch.len();
        }
        self.collect_rows(rows, seq_len)
    }

    fn row<'p>(&self, corrected: &CorrectedLoop, s: usize, prompt: &'p Prompt) -> Row<'p> {
        let (digits, steps) = (prompt.masked().len() as u64, corrected.steps.len() as u64);
        let idle = if digits == 0 { steps } else { 0 };
        let report = SampleReport {
            sequences: 1,
            digits,
            steps_total: steps,
            steps_skipped: idle,
            evaluations: steps - idle,
            ..SampleReport::default()
        };
        Row { s, prompt, y: prompt.y().to_vec(), report, changes: Vec::new() }
    }

    fn corrected_step(
        &self,
        corrected: &CorrectedLoop,
        step: &Step,
        rows: &mut [&mut Row],
        seq_len: usize,
    ) -> Result<()> {
        let codes = self.predictive.codes();
        let (len, vocab_size) = (codes.subtoken_len(), codes.vocab_size());
        let asked: Vec<Asked> = (0..rows.len())
            .flat_map(|b| (0..seq_len).map(move |i| Asked { b, i }))
            .filter(|a| (a.i * len..(a.i + 1) * len).any(|digit| !rows[a.b].is_given(digit)))
            .collect();
        let y_t: Vec<u32> = rows.iter().flat_map(|row| row.y.iter().copied()).collect();
        let positions: Vec<usize> = asked.iter().map(|a| a.b * seq_len + a.i).collect();
        let mut after: Vec<u32> =
            positions.iter().flat_map(|p| y_t[p * len..(p + 1) * len].iter().copied()).collect();
        let mut outcomes = vec![Outcome::default(); asked.len()];
        let t = vec![step.time; rows.len()];
        let labels = self.network.spec().labels(rows.iter().map(|row| row.prompt.label()));
        let states = States { y_t: &y_t, t: &t, labels: labels.as_deref() };
        self.network.evaluate(&states, &positions, &mut |range, logits| {
            let digits = after[range.start * len..range.end * len].par_chunks_mut(len);
            let outcomes = outcomes[range.clone()].par_iter_mut();
            let logits = logits.par_chunks(vocab_size).zip(&asked[range]);
            digits.zip(outcomes).zip(logits).with_min_len((1 << 14) / vocab_size + 1).try_for_each(
                |((after, outcome), (logits, a))| {
                    *outcome = self.correct(corrected, step, rows[a.b], a.i, logits, after)?;
                    Ok(())
                },
            )
        })?;
        self.write_rows(step, rows, &asked, &after, &outcomes);
        Ok(())
    }

    /// The ancestral step and the jumps of token `i`: `after` holds its digits before, then those after.
    fn correct(
        &self,
        corrected: &CorrectedLoop,
        step: &Step,
        row: &Row,
        i: usize,
        logits: &[f32],
        after: &mut [u32],
    ) -> Result<Outcome> {
        let (first, mask_id) = (i * after.len(), row.prompt.mask_id());
        let sequence = self.settings.first_sequence + row.s as u64;
        let y = after.to_vec();
        let at = TokenAt { sequence, i, event: step.k, time: step.time, y: &y, logits };
        let reveals: Vec<usize> = (0..y.len())
            .filter(|&j| y[j] == mask_id)
            .filter(|j| corrected.reveals.uniform(sequence, (first + j) as u32, step.k as u32) < step.share)
            .collect();
        let p = self.draws.predict(&at)?;
        let revealed = self.draws.reveal(&at, &p, &reveals, after)?;
        let mut outcome = Outcome { redrawn: revealed.redrawn, ..Outcome::default() };
        let Some(jumps) = &step.jumps else { return Ok(outcome) };
        let target = self.draws.target(&at, &p, &revealed);
        let mut jumped = after.to_vec();
        for j in (0..y.len()).filter(|j| !row.is_given(first + j)) {
            let uniform = |n| corrected.jumps.uniform(sequence, (first + j) as u32, 2 * step.k as u32 + n);
            if let Some(value) = jumps.jump(after[j], target[j], mask_id, [uniform(0), uniform(1)]) {
                jumped[j] = value;
                outcome.jumps += 1;
            }
        }
        if self.draws.is_possible(&jumped) {
            after.copy_from_slice(&jumped);
        } else {
            (outcome.jumps, outcome.dropped) = (0, outcome.jumps);
        }
        Ok(outcome)
    }

    fn write_rows(
        &self,
        step: &Step,
        rows: &mut [&mut Row],
        asked: &[Asked],
        after: &[u32],
        outcomes: &[Outcome],
    ) {
        let len = self.predictive.codes().subtoken_len();
        if self.settings.trajectories {
            for row in rows.iter_mut() {
                row.changes.push(Change { step: step.k, time: step.time, digits: Vec::new() });
            }
        }
        for ((a, outcome), digits) in asked.iter().zip(outcomes).zip(after.chunks_exact(len)) {
            let row = &mut *rows[a.b];
            for (digit, &value) in (a.i * len..).zip(digits).filter(|(digit, value)| row.y[*digit] != **value)
            {
                if let Some(change) = row.changes.last_mut() {
                    change.digits.push((digit, value));
                }
            }
            row.y[a.i * len..(a.i + 1) * len].copy_from_slice(digits);
            row.report.positions += 1;
            row.report.redraws += u64::from(outcome.redrawn);
            row.report.jumps += outcome.jumps;
            row.report.jumps_dropped += outcome.dropped;
        }
    }

    fn collect_rows(&self, rows: Vec<Row>, seq_len: usize) -> Result<Samples> {
        let mut samples =
            Samples { tokens: Vec::new(), seq_len, reports: Vec::new(), trajectories: Vec::new() };
        for row in rows {
            samples.tokens.extend(self.predictive.codes().decode(&row.y)?);
            samples.reports.push(row.report);
            if self.settings.trajectories {
                let start = row.prompt.y().to_vec();
                samples.trajectories.push(Trajectory { start, changes: row.changes });
            }
        }
        Ok(samples)
    }
}
