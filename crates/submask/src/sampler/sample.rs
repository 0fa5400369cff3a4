//! The sampling loop: at every round each unfinished sequence of the batch goes through its next event.

use rayon::prelude::*;

use super::corrected::CorrectedLoop;
use super::device::{DeviceBatch, RevealedToken};
use super::draw::{TokenAt, TokenDraws};
use super::plan::{Planner, RevealEvent, RevealPlan};
use super::prompt::Prompt;
use super::report::{Change, SampleReport, Samples, Trajectory};
use super::settings::SampleSettings;
use crate::denoiser::{Denoiser, States};
use crate::predictive::Predictive;
use crate::{Error, Result};

/// Draws sequences from a network.
pub struct Sampler<'a> {
    pub(super) network: &'a dyn Denoiser,
    pub(super) predictive: &'a Predictive,
    pub(super) settings: SampleSettings,
    pub(super) draws: TokenDraws<'a>,
    planner: Planner,
    /// The loop to use instead of a plan, with a corrector.
    corrected: Option<CorrectedLoop>,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Finished sequences.
    pub sequences: usize,
    /// Sub-tokens revealed so far, of all sequences; a corrector may mask some again.
    pub digits: usize,
    /// Sub-tokens to reveal in all.
    pub digits_total: usize,
}

/// A sequence on its way.
struct Slot {
    /// Which prompt.
    s: usize,
    label: Option<usize>,
    y: Vec<u32>,
    plan: RevealPlan,
    next: usize,
    redraws: u64,
    positions: u64,
    changes: Vec<Change>,
}

/// A position asked for: slot in the batch, token, its present digits, and the digits that it reveals.
struct Asked<'a> {
    b: usize,
    i: usize,
    y: &'a [u32],
    reveals: &'a [usize],
}

impl<'a> Sampler<'a> {
    /// A sampler for `network`, whose logits `predictive` turns into p_θ(x_0 | y_t).
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings out of range and for codes that are not the network's.
    pub fn new(
        network: &'a dyn Denoiser,
        predictive: &'a Predictive,
        settings: SampleSettings,
    ) -> Result<Self> {
        let codes = predictive.codes();
        network.spec().check_codes(codes)?;
        let planner = Planner::new(&settings, codes.subtoken_len())?;
        let draws = TokenDraws::new(predictive, &settings);
        let corrected = settings.corrector.zip(settings.reveal_steps()?).map(|(corrector, grid)| {
            CorrectedLoop::new(&corrector, &grid, &settings.schedule, settings.seed)
        });
        Ok(Self { network, predictive, settings, draws, planner, corrected })
    }

    /// One sequence for every prompt; all prompts have the same length.
    ///
    /// Sequence s depends on the network, its prompt, the settings other than the batch, and the number
    /// `first_sequence` + s; not on the other sequences, the batch size or the thread count.
    ///
    /// # Errors
    /// [`Error::Invalid`] for prompts of unequal or too great lengths and for logits that are not finite, and what the
    /// network reports.
    pub fn sample(&self, prompts: &[Prompt]) -> Result<Samples> {
        self.sample_observed(prompts, &mut |_| Ok(()))
    }

    /// The same; `observe` is called after every round, and its error (an interruption) ends the call.
    ///
    /// # Errors
    /// As [`Self::sample`], and the first error of `observe`.
    pub fn sample_observed(
        &self,
        prompts: &[Prompt],
        observe: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Samples> {
        let seq_len = self.check_prompts(prompts)?;
        if let Some(corrected) = &self.corrected {
            return self.sample_corrected(corrected, prompts, seq_len, observe);
        }
        let digits_total = prompts.iter().map(|prompt| prompt.masked().len()).sum();
        let mut progress = Progress { sequences: 0, digits: 0, digits_total };
        let mut finished: Vec<Slot> = Vec::with_capacity(prompts.len());
        let mut active: Vec<Slot> = Vec::with_capacity(self.settings.batch.min(prompts.len()));
        let mut waiting = prompts.iter().enumerate();
        let mut device = self.device_batch();
        loop {
            let is_done = |slot: &Slot| slot.next == slot.plan.events.len();
            if let Some(device) = &mut device {
                device.retire(active.iter().map(is_done));
            }
            finished.extend(active.extract_if(.., |slot| is_done(slot)));
            while active.len() < self.settings.batch {
                let Some((s, prompt)) = waiting.next() else { break };
                let slot = self.start(s, prompt);
                if slot.plan.events.is_empty() {
                    finished.push(slot);
                    continue;
                }
                if let Some(device) = &mut device {
                    device.add(&slot.y);
                }
                active.push(slot);
            }
            if active.is_empty() {
                break;
            }
            progress.digits += match &mut device {
                Some(device) => self.round_on_device(device, &mut active, seq_len)?,
                None => self.round(&mut active, seq_len)?,
            };
            progress.sequences = finished.len();
            observe(progress)?;
        }
        if let Some(device) = device {
            let visited = finished.iter_mut().filter(|slot| !slot.plan.events.is_empty());
            for (slot, y) in visited.zip(device.finish()?) {
                slot.y = y;
            }
        }
        finished.sort_by_key(|slot| slot.s);
        self.collect(prompts, finished, seq_len)
    }

    fn check_prompts(&self, prompts: &[Prompt]) -> Result<usize> {
        let width = prompts.first().map(|prompt| prompt.y().len());
        let Some(width) = width else {
            return Err(Error::invalid("prompts", 0, "at least 1"));
        };
        if let Some(other) = prompts.iter().find(|prompt| prompt.y().len() != width) {
            let allowed = format!("{width} sub-tokens, as the first of the call");
            return Err(Error::invalid("prompt length", other.y().len(), allowed));
        }
        let seq_len = width / self.predictive.codes().subtoken_len();
        self.network.spec().check_seq_len(seq_len)?;
        Ok(seq_len)
    }

    fn start(&self, s: usize, prompt: &Prompt) -> Slot {
        let plan = self.planner.plan(self.settings.first_sequence + s as u64, &prompt.masked());
        Slot {
            s,
            label: prompt.label(),
            y: prompt.y().to_vec(),
            plan,
            next: 0,
            redraws: 0,
            positions: 0,
            changes: Vec::new(),
        }
    }

    /// The next event of every active sequence, in one network call. Returns the number of digits revealed.
    fn round(&self, active: &mut [Slot], seq_len: usize) -> Result<usize> {
        let y_t: Vec<u32> = active.iter().flat_map(|slot| slot.y.iter().copied()).collect();
        let events: Vec<RevealEvent> =
            active.iter().map(|slot| slot.plan.events[slot.next].clone()).collect();
        let t: Vec<f64> = events.iter().map(|event| event.time).collect();
        let asked = self.asked(&y_t, &events, seq_len);
        let positions: Vec<usize> = asked.iter().map(|asked| asked.b * seq_len + asked.i).collect();
        let (len, vocab_size) =
            (self.predictive.codes().subtoken_len(), self.predictive.codes().vocab_size());
        let mut after: Vec<u32> = asked.iter().flat_map(|asked| asked.y.iter().copied()).collect();
        let mut redrawn = vec![false; asked.len()];
        let at_once = (1 << 14) / vocab_size + 1;
        let labels = self.network.spec().labels(active.iter().map(|slot| slot.label));
        let states = States { y_t: &y_t, t: &t, labels: labels.as_deref() };
        self.network.evaluate(&states, &positions, &mut |range, logits| {
            let digits = after[range.start * len..range.end * len].par_chunks_mut(len);
            let redrawn = redrawn[range.clone()].par_iter_mut();
            let logits = logits.par_chunks(vocab_size).zip(&asked[range]);
            digits.zip(redrawn).zip(logits).with_min_len(at_once).try_for_each(
                |((after, redrawn), (logits, asked))| {
                    *redrawn = self.reveal(&active[asked.b], asked, logits, after)?;
                    Ok(())
                },
            )
        })?;
        for ((asked, redrawn), digits) in asked.iter().zip(&redrawn).zip(after.chunks_exact(len)) {
            let slot = &mut active[asked.b];
            slot.y[asked.i * len..(asked.i + 1) * len].copy_from_slice(digits);
            slot.positions += 1;
            slot.redraws += u64::from(*redrawn);
        }
        for (slot, event) in active.iter_mut().zip(&events) {
            if self.settings.trajectories {
                let digits = event.digits.iter().map(|&digit| (digit, slot.y[digit])).collect();
                slot.changes.push(Change { step: event.step, time: event.time, digits });
            }
            slot.next += 1;
        }
        Ok(events.iter().map(|event| event.digits.len()).sum())
    }

    /// Digits on the network's device, if it has one, and nothing is wanted that needs the values between.
    fn device_batch(&self) -> Option<DeviceBatch<'_>> {
        let enough = self.draws.is_plain() && !self.settings.trajectories;
        self.network.on_device().filter(|_| enough).map(|network| DeviceBatch::new(network, self.predictive))
    }

    /// As [`Self::round`], on the network's device and without waiting for it.
    fn round_on_device(&self, batch: &mut DeviceBatch, active: &mut [Slot], seq_len: usize) -> Result<usize> {
        let len = self.predictive.codes().subtoken_len();
        let (mut tokens, mut times, mut revealed) = (Vec::new(), Vec::new(), 0);
        for (b, slot) in active.iter_mut().enumerate() {
            let event = &slot.plan.events[slot.next];
            let sequence = self.settings.first_sequence + slot.s as u64;
            for reveals in event.digits.chunk_by(|a, b| a / len == b / len) {
                let i = reveals[0] / len;
                tokens.push(RevealedToken {
                    position: b * seq_len + i,
                    reveals: reveals.iter().map(|digit| digit % len).collect(),
                    temperature: self.draws.temperature(event.time),
                    uniform: self.draws.uniform(sequence, i, slot.next),
                });
                slot.positions += 1;
            }
            times.push(event.time);
            revealed += event.digits.len();
            slot.next += 1;
        }
        let labels = self.network.spec().labels(active.iter().map(|slot| slot.label));
        batch.reveal(&tokens, &times, labels.as_deref())?;
        Ok(revealed)
    }

    /// The positions that reveal something now.
    fn asked<'b>(&self, y_t: &'b [u32], events: &'b [RevealEvent], seq_len: usize) -> Vec<Asked<'b>> {
        let subtoken_len = self.predictive.codes().subtoken_len();
        let of_event = |(b, event): (usize, &'b RevealEvent)| {
            event.digits.chunk_by(move |a, b| a / subtoken_len == b / subtoken_len).map(move |reveals| {
                let i = reveals[0] / subtoken_len;
                let start = (b * seq_len + i) * subtoken_len;
                Asked { b, i, y: &y_t[start..start + subtoken_len], reveals }
            })
        };
        events.iter().enumerate().flat_map(of_event).collect()
    }

    /// The digits of a position after its event: `after` holds those before.
    fn reveal(&self, slot: &Slot, asked: &Asked, logits: &[f32], after: &mut [u32]) -> Result<bool> {
        let event = &slot.plan.events[slot.next];
        let at = TokenAt {
            sequence: self.settings.first_sequence + slot.s as u64,
            i: asked.i,
            event: slot.next,
            time: event.time,
            y: asked.y,
            logits,
        };
        let reveals: Vec<usize> = asked.reveals.iter().map(|digit| digit % asked.y.len()).collect();
        Ok(self.draws.reveal(&at, &self.draws.predict(&at)?, &reveals, after)?.redrawn)
    }

    fn collect(&self, prompts: &[Prompt], finished: Vec<Slot>, seq_len: usize) -> Result<Samples> {
        let mut samples =
            Samples { tokens: Vec::new(), seq_len, reports: Vec::new(), trajectories: Vec::new() };
        for (slot, prompt) in finished.into_iter().zip(prompts) {
            samples.tokens.extend(self.predictive.codes().decode(&slot.y)?);
            samples.reports.push(SampleReport {
                sequences: 1,
                digits: slot.plan.events.iter().map(|event| event.digits.len() as u64).sum(),
                evaluations: slot.plan.events.len() as u64,
                positions: slot.positions,
                steps_total: slot.plan.steps_total as u64,
                steps_skipped: slot.plan.idle_steps() as u64,
                redraws: slot.redraws,
                ..SampleReport::default()
            });
            if self.settings.trajectories {
                samples.trajectories.push(Trajectory { start: prompt.y().to_vec(), changes: slot.changes });
            }
        }
        Ok(samples)
    }
}
