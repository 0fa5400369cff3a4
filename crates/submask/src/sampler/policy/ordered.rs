//! An order that the predictions decide (math.md §6.4, §7): at every visit all masked units are ranked, and the first N
//! are revealed.

use std::ops::Range;
use std::sync::Arc;

use super::{Chunk, DeviceResult, DeviceWork, Outcome, Outcomes, Policy, Visit};
use crate::Result;
use crate::ops::Ranks;
use crate::order::{self, Ranking};
use crate::sampler::draw::{Candidate, TokenAt, TokenDraws};
use crate::sampler::observer::TokenLogProb;
use crate::sampler::report::SampleReport;
use crate::schedule::{RevealUnit, Schedule};
use crate::subtoken::SubTokenizer;

/// What is ranked how, for all sequences.
pub(in crate::sampler) struct Ordering {
    pub ranking: &'static dyn Ranking,
    /// Units revealed per visit, N.
    pub per_step: usize,
    pub unit: RevealUnit,
    /// α, which says at which time a share of the units is masked.
    pub schedule: Schedule,
    pub mask_id: u32,
    pub subtoken_len: usize,
    /// Whether probabilities are told, and of how many tokens beside those drawn.
    pub log_probs: Option<usize>,
}

impl Ordering {
    /// A ranking of the units of tokens of `codes`.
    pub fn new(
        ranking: &'static dyn Ranking,
        per_step: usize,
        unit: RevealUnit,
        schedule: Schedule,
        codes: &SubTokenizer,
    ) -> Self {
        let (mask_id, subtoken_len) = (codes.mask_id(), codes.subtoken_len());
        Self { ranking, per_step, unit, schedule, mask_id, subtoken_len, log_probs: None }
    }

    /// The masked units of token `i` with the digits `y` \[ℓ\], as indices in the sequence.
    fn units_of(&self, i: usize, y: &[u32]) -> Vec<usize> {
        let masked = || (0..y.len()).filter(|&j| y[j] == self.mask_id);
        match self.unit {
            RevealUnit::Digits => masked().map(|j| i * y.len() + j).collect(),
            RevealUnit::Tokens => masked().next().map(|_| i).into_iter().collect(),
        }
    }

    /// The masked units of some `tokens` of a sequence with the sub-tokens `y` [L·ℓ].
    fn units(&self, y: &[u32], tokens: &Range<usize>) -> Vec<usize> {
        let len = self.subtoken_len;
        let own = y[tokens.start * len..tokens.end * len].chunks_exact(len);
        tokens.clone().zip(own).flat_map(|(i, y)| self.units_of(i, y)).collect()
    }

    fn token_of(&self, unit: usize) -> usize {
        match self.unit {
            RevealUnit::Digits => unit / self.subtoken_len,
            RevealUnit::Tokens => unit,
        }
    }

    /// The scores of the masked units of a token.
    fn scores(&self, chunk: &Chunk, at: &TokenAt) -> Result<Vec<(usize, f64)>> {
        let units = self.units_of(at.i, at.y).into_iter();
        if !self.ranking.reads_prediction() {
            return Ok(units.map(|unit| (unit, self.ranking.score(unit, &[]))).collect());
        }
        let p = chunk.draws.prediction(at)?;
        Ok(units.map(|unit| (unit, self.ranking.score_unit(&p, self.unit, unit))).collect())
    }
}

/// Tokens of a sequence whose next reveals depend on what the network says of all that is masked.
pub(in crate::sampler) struct Ordered {
    ordering: Arc<Ordering>,
    tokens: Range<usize>,
    /// Units masked at the start, n.
    units: usize,
    /// Number of the next visit.
    next: usize,
    /// Units masked before the next visit.
    masked: usize,
    /// Units of the tokens that have come, ascending, and their scores.
    ranked: Vec<usize>,
    scores: Vec<f64>,
    /// Draws of tokens, ascending: of all that may still reveal something.
    candidates: Vec<(usize, Candidate)>,
    drawn: Outcomes,
    /// With what probabilities the last visit revealed.
    log_probs: Vec<TokenLogProb>,
}

impl Ordered {
    pub fn new(ordering: Arc<Ordering>, y: &[u32], tokens: Range<usize>) -> Self {
        let units = ordering.units(y, &tokens).len();
        Self {
            ordering,
            tokens,
            units,
            next: 0,
            masked: units,
            ranked: Vec::new(),
            scores: Vec::new(),
            candidates: Vec::new(),
            drawn: Outcomes::default(),
            log_probs: Vec::new(),
        }
    }

    /// The units that come first among those that have come, ascending.
    fn chosen(&self) -> impl Iterator<Item = usize> {
        order::choose(&self.scores, self.ordering.per_step).into_iter().map(|place| self.ranked[place])
    }

    /// The digits of token `i` among the `chosen` units, as indices in the token; `y` \[ℓ\] are its digits before.
    fn reveals(&self, chosen: &[usize], i: usize, y: &[u32]) -> Vec<usize> {
        let ordering = &self.ordering;
        let before = |end: usize| chosen.partition_point(|unit| ordering.token_of(*unit) < end);
        let units = &chosen[before(i)..before(i + 1)];
        match ordering.unit {
            RevealUnit::Digits => units.iter().map(|unit| unit % y.len()).collect(),
            RevealUnit::Tokens if units.is_empty() => Vec::new(),
            RevealUnit::Tokens => (0..y.len()).filter(|&j| y[j] == ordering.mask_id).collect(),
        }
    }
}

impl Policy for Ordered {
    fn is_done(&self) -> bool {
        self.masked == 0
    }

    fn ask(&self, y: &[u32]) -> Visit {
        let ordering = &self.ordering;
        let mut units = ordering.units(y, &self.tokens);
        if !ordering.ranking.reads_prediction() {
            let scores: Vec<f64> = units.iter().map(|unit| ordering.ranking.score(*unit, &[])).collect();
            units = order::choose(&scores, ordering.per_step).into_iter().map(|place| units[place]).collect();
        }
        let mut tokens: Vec<usize> = units.into_iter().map(|unit| ordering.token_of(unit)).collect();
        tokens.dedup();
        let time = order::time(&ordering.schedule, self.masked, self.units);
        Visit { step: self.next, event: self.next, time, tokens }
    }

    fn draw(&mut self, chunk: &Chunk) -> Result<()> {
        for (unit, score) in chunk.map(|at| self.ordering.scores(chunk, at))?.into_iter().flatten() {
            self.ranked.push(unit);
            self.scores.push(score);
        }
        // Tokens that come later only push units out: what is not chosen yet never will be.
        let chosen: Vec<usize> = self.chosen().map(|unit| self.ordering.token_of(unit)).collect();
        let candidates = chunk.map(|at| match chosen.binary_search(&at.i) {
            Ok(_) => {
                let candidate = chunk.draws.candidate(at, self.ordering.log_probs.is_some())?;
                Ok(Some((at.i, candidate)))
            }
            Err(_) => Ok(None),
        })?;
        self.candidates.extend(candidates.into_iter().flatten());
        Ok(())
    }

    fn asks_device(&self) -> Option<DeviceWork> {
        let Ordering { ranking, unit, subtoken_len, log_probs, .. } = *self.ordering;
        let score = ranking.on_device();
        // Probabilities are told of the distributions, and a score that no kernel knows is one of them.
        let fits = log_probs.is_none() && score.is_some() == ranking.reads_prediction();
        let by_digit = unit == RevealUnit::Digits && subtoken_len > 1;
        fits.then_some(DeviceWork::Rank(Ranks { score, by_digit }))
    }

    fn take(&mut self, draws: &TokenDraws, y: &[u32], tokens: &[usize], drawn: &DeviceResult) {
        let DeviceResult::Ranked(scores, candidates) = drawn else { return };
        let len = self.ordering.subtoken_len;
        let per_token = (scores.len() / tokens.len().max(1)).max(1);
        for ((&i, scores), &[x_0, spare]) in
            tokens.iter().zip(scores.chunks_exact(per_token)).zip(*candidates)
        {
            for unit in self.ordering.units_of(i, &y[i * len..(i + 1) * len]) {
                let score = match self.ordering.ranking.reads_prediction() {
                    true => scores[unit % per_token],
                    false => self.ordering.ranking.score(unit, &[]),
                };
                self.ranked.push(unit);
                self.scores.push(score);
            }
            self.candidates.push((i, draws.candidate_of(x_0, spare)));
        }
    }

    fn settle(&mut self, draws: &TokenDraws, y: &[u32]) -> Vec<(usize, u32)> {
        let chosen: Vec<usize> = self.chosen().collect();
        let len = self.ordering.subtoken_len;
        // Those of the visit before, of which nobody wanted to be told.
        self.log_probs.clear();
        for (i, candidate) in std::mem::take(&mut self.candidates) {
            let before = &y[i * len..(i + 1) * len];
            let reveals = self.reveals(&chosen, i, before);
            let mut after = before.to_vec();
            let redrawn = draws.reveal_candidate(&candidate, &reveals, &mut after);
            if let Some(top) = self.ordering.log_probs.filter(|_| !reveals.is_empty()) {
                self.log_probs.push(candidate.log_prob(i, draws.predictive.codes(), &reveals, &after, top));
            }
            let writes = reveals.iter().map(|&j| (i * len + j, after[j])).collect();
            self.drawn.add(Outcome { writes, redrawn, ..Outcome::default() });
        }
        self.masked -= chosen.len();
        self.next += 1;
        self.ranked.clear();
        self.scores.clear();
        std::mem::take(&mut self.drawn.writes)
    }

    fn take_log_probs(&mut self) -> Vec<TokenLogProb> {
        std::mem::take(&mut self.log_probs)
    }

    fn costs_so_far(&self) -> SampleReport {
        self.drawn.costs(self.next, 0)
    }

    fn costs(&self) -> SampleReport {
        self.drawn.costs(self.units.div_ceil(self.ordering.per_step), 0)
    }
}
