//! Draws of the digits that a token reveals, shared by all policies.

use serde::{Deserialize, Serialize};

use super::observer::TokenLogProb;
use super::settings::SampleSettings;
use crate::ops::{SequenceDraws, StepDraws};
use crate::predictive::{Nucleus, Predictive, Sharpening, TokenDistribution};
use crate::random::{Draws, Purpose};
use crate::schedule::TemperatureSchedule;
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// How the digits that a token reveals in one step are drawn (math.md §7, §8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Draw {
    /// One token x̂ ~ p_θ(x_0^i | y_t) serves all digits that its token reveals.
    #[default]
    Joint,
    /// Every digit is drawn by itself from its marginal p(y^{ij} = v | y_t).
    Marginal,
}

/// A token at a step: where it stands, what is known of it, and what the network says of it.
#[derive(Clone, Copy)]
pub(super) struct TokenAt<'b> {
    /// Number of the sequence under the seed.
    pub sequence: u64,
    /// Position of the token i.
    pub i: usize,
    /// Number of the event or step, the key of its draws.
    pub event: usize,
    /// The time t of the evaluation.
    pub time: f64,
    /// Its digits y_t^i, \[ℓ\].
    pub y: &'b [u32],
    /// Its logits, \[C\].
    pub logits: &'b [f32],
}

/// What a token drew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Revealed {
    /// x̂ of a joint draw, and of a redraw.
    pub x_0: Option<u32>,
    /// Whether a first draw left no possible token.
    pub redrawn: bool,
}

/// What a token draws before it is known which of its digits it reveals.
pub(super) struct Candidate {
    /// The token drawn.
    x_0: u32,
    /// The token to copy from where digits of x̂ would leave no possible token; `None` where that cannot be.
    spare: Option<u32>,
    /// The possible tokens with their probabilities, where they are to be told.
    probabilities: Option<Vec<(u32, f64)>>,
}

impl Candidate {
    /// With what probability the digits `reveals` (j) of token `i` came to be those of `after` \[ℓ\], and the `top` most probable
    /// tokens.
    pub fn log_prob(
        &self,
        i: usize,
        codes: &SubTokenizer,
        reveals: &[usize],
        after: &[u32],
        top: usize,
    ) -> TokenLogProb {
        let possible = self.probabilities.as_deref().unwrap_or_default();
        let agrees = |token: u32| {
            let digits = codes.digits(token);
            reveals.iter().all(|&j| digits[j] == after[j])
        };
        let all: f64 = possible.iter().map(|(_, p)| p).sum();
        let agreeing: f64 = possible.iter().filter(|(token, _)| agrees(*token)).map(|(_, p)| p).sum();
        let mut likeliest: Vec<(u32, f64)> = possible.to_vec();
        let place = top.min(likeliest.len());
        likeliest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        likeliest.truncate(place);
        let top = likeliest.into_iter().map(|(token, p)| (token, (p / all).ln())).collect();
        TokenLogProb { token: i, nats: (all / agreeing).ln().max(0.0), top }
    }
}

/// Draws for tokens of one sampler.
pub(super) struct TokenDraws<'a> {
    pub predictive: &'a Predictive,
    draw: Draw,
    sharpening: Sharpening,
    schedule: Option<TemperatureSchedule>,
    tokens: Draws,
    digits: Draws,
    /// Whether draws may contradict the visible digits or each other and leave an invalid code.
    may_contradict: bool,
}

impl<'a> TokenDraws<'a> {
    pub fn new(predictive: &'a Predictive, settings: &SampleSettings) -> Self {
        let unconstrained = !predictive.carry_over() || settings.draw == Draw::Marginal;
        Self {
            predictive,
            draw: settings.draw,
            sharpening: settings.sharpening,
            schedule: settings.temperature_schedule,
            tokens: Draws::new(settings.seed, Purpose::Token),
            digits: Draws::new(settings.seed, Purpose::Digit),
            may_contradict: unconstrained && predictive.codes().has_invalid_codes(),
        }
    }

    /// Whether digits may have to be drawn again, because they would leave no possible token.
    pub fn may_contradict(&self) -> bool {
        self.may_contradict
    }

    /// Whether tokens are drawn from softmax(logits/τ), τ > 0, over the possible tokens, each by one number, and nothing
    /// else is done.
    pub fn is_plain(&self) -> bool {
        let Sharpening { temperature, top_p, top_k, .. } = self.sharpening;
        let is_softmax = temperature > 0.0 && top_p >= 1.0 && top_k.is_none();
        self.draw == Draw::Joint && is_softmax && !self.may_contradict
    }

    /// How the tokens of a sequence are drawn at an event, as a device is told.
    pub fn on_device(&self, number: u64, event: usize, time: f64, step: Option<StepDraws>) -> SequenceDraws {
        let Sharpening { top_k, top_p, nucleus, .. } = self.sharpening;
        SequenceDraws {
            draws: self.tokens,
            number,
            event: event as u32,
            temperature: self.temperature(time),
            top_k,
            top_p,
            exclusive: nucleus == Nucleus::Exclusive,
            each_digit: self.draw == Draw::Marginal,
            may_contradict: self.may_contradict,
            step,
        }
    }

    /// The number in (0, 1) of the joint draw of token `i` of a `sequence` at an `event`.
    pub fn uniform(&self, sequence: u64, i: usize, event: usize) -> f64 {
        self.tokens.uniform(sequence, i as u32, 2 * event as u32)
    }

    /// p_θ(x_0^i | y_t), sharpened.
    pub fn predict(&self, at: &TokenAt) -> Result<TokenDistribution<'a>> {
        self.sharpen(self.predictive.distribution_at(at.logits, at.y, self.temperature(at.time)))
    }

    /// Writes digits drawn from `p` over the digits `reveals` (j) of `after`, which holds `at.y`. Where no token
    /// would agree with the digits then visible, one token is drawn from those that agree with `at.y` instead.
    pub fn reveal(
        &self,
        at: &TokenAt,
        p: &TokenDistribution,
        reveals: &[usize],
        after: &mut [u32],
    ) -> Result<Revealed> {
        let x_0 = match self.draw {
            Draw::Joint => {
                let x_0 = p.draw(self.uniform(at.sequence, at.i, at.event));
                self.copy(x_0, reveals, after);
                Some(x_0)
            }
            Draw::Marginal => {
                self.draw_digits(at, p, reveals, 2 * at.event as u32, after);
                None
            }
        };
        if self.is_possible(after) {
            return Ok(Revealed { x_0, redrawn: false });
        }
        let x_0 = self.redraw(at)?;
        self.copy(x_0, reveals, after);
        Ok(Revealed { x_0: Some(x_0), redrawn: true })
    }

    /// p_θ(x_0^i | y_t) as the network says it: before temperature, top-k and nucleus.
    pub fn prediction(&self, at: &TokenAt) -> Result<TokenDistribution<'a>> {
        let p = self.predictive.distribution(at.logits, at.y);
        if p.is_proper() { Ok(p) } else { Err(improper()) }
    }

    /// A joint draw for whichever digits of a token are revealed; with all `probabilities` where they are to be told.
    pub fn candidate(&self, at: &TokenAt, probabilities: bool) -> Result<Candidate> {
        let p = self.predict(at)?;
        let x_0 = p.draw(self.uniform(at.sequence, at.i, at.event));
        let probabilities = probabilities.then(|| {
            let mut all = Vec::new();
            p.for_each_probability(|token, p| all.push((token, p)));
            all
        });
        let spare = if self.may_contradict { Some(self.redraw(at)?) } else { None };
        Ok(Candidate { x_0, spare, probabilities })
    }

    /// A candidate that a device drew.
    pub fn candidate_of(&self, x_0: u32, spare: u32) -> Candidate {
        Candidate { x_0, spare: self.may_contradict.then_some(spare), probabilities: None }
    }

    /// Writes the digits `reveals` (j) of a candidate over those of `after`, the digits that it was drawn for. Returns
    /// whether they were redrawn.
    pub fn reveal_candidate(&self, candidate: &Candidate, reveals: &[usize], after: &mut [u32]) -> bool {
        self.copy(candidate.x_0, reveals, after);
        match candidate.spare {
            Some(spare) if !self.is_possible(after) => {
                self.copy(spare, reveals, after);
                true
            }
            _ => false,
        }
    }

    /// A token of those that agree with `at.y`.
    fn redraw(&self, at: &TokenAt) -> Result<u32> {
        let possible = self.predictive.consistent(at.y);
        let p = self.predictive.distribution_over(at.logits, possible, self.temperature(at.time));
        let uniform = self.tokens.uniform(at.sequence, at.i as u32, 2 * at.event as u32 + 1);
        Ok(self.sharpen(p)?.draw(uniform))
    }

    /// ŷ_0 of the corrector, \[ℓ\]: with joint draws the digits of the x̂ that was `revealed`, else fresh draws from
    /// the digit marginals.
    pub fn target(&self, at: &TokenAt, p: &TokenDistribution, revealed: &Revealed) -> Vec<u32> {
        let codes = self.predictive.codes();
        match (self.draw, revealed.x_0) {
            (Draw::Joint, Some(x_0)) => codes.digits(x_0).to_vec(),
            _ => {
                let all: Vec<usize> = (0..codes.subtoken_len()).collect();
                let mut y_0 = at.y.to_vec();
                self.draw_digits(at, p, &all, 2 * at.event as u32 + 1, &mut y_0);
                y_0
            }
        }
    }

    /// Whether some token agrees with the visible digits `y`. Asked only where it could be otherwise.
    pub fn is_possible(&self, y: &[u32]) -> bool {
        !self.may_contradict || !self.predictive.consistent(y).is_empty()
    }

    /// Digit j of a token drawn for it alone has the distribution of the digit's marginal.
    fn draw_digits(&self, at: &TokenAt, p: &TokenDistribution, js: &[usize], event: u32, after: &mut [u32]) {
        let codes = self.predictive.codes();
        let cumulative = p.cumulative();
        for &j in js {
            let place = (at.i * codes.subtoken_len() + j) as u32;
            let x = cumulative.draw(self.digits.uniform(at.sequence, place, event));
            after[j] = codes.digits(x)[j];
        }
    }

    fn copy(&self, x_0: u32, reveals: &[usize], after: &mut [u32]) {
        let digits = self.predictive.codes().digits(x_0);
        reveals.iter().for_each(|&j| after[j] = digits[j]);
    }

    /// τ at a time.
    pub fn temperature(&self, time: f64) -> f64 {
        self.sharpening.temperature * self.schedule.map_or(1.0, |schedule| schedule.at(time))
    }

    fn sharpen<'p>(&self, p: TokenDistribution<'p>) -> Result<TokenDistribution<'p>> {
        if !p.is_proper() {
            return Err(improper());
        }
        Ok(p.truncate(&self.sharpening))
    }
}

/// Logits that are no distribution.
pub(super) fn improper() -> Error {
    Error::NonFinite { what: "logits", needed: "a finite number for at least one possible token" }
}
