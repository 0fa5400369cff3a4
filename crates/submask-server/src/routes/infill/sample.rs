//! One text while its holes are filled.

use submask::Result;
use submask::model::Architecture;
use submask::sampler::{Event, FinishedSequence};

use super::answer::{InfillChoice, InfillEvent};
use super::plan::Plan;
use crate::common::Usage;
use crate::routes::completions::FinishReason;

/// A text on its way.
pub struct Sample<'s> {
    architecture: &'s Architecture,
    index: usize,
    given: Vec<bool>,
    prompt_tokens: u64,
    evaluations_at_most: u64,
    /// The sub-tokens [L·ℓ], the mask being b.
    y: Vec<u32>,
    evaluations: u64,
    /// log p of every token of which something was written, where asked for.
    logprobs: Option<Vec<Option<f64>>>,
}

impl<'s> Sample<'s> {
    pub fn new(architecture: &'s Architecture, index: usize, plan: &Plan) -> Self {
        let logprobs = plan.request.log_probs.map(|_| vec![None; plan.given.len()]);
        let Plan { given, prompt_tokens, evaluations_at_most, .. } = plan.clone();
        let (y, evaluations) = (Vec::new(), 0);
        Self { architecture, index, given, prompt_tokens, evaluations_at_most, y, evaluations, logprobs }
    }

    fn token(&self, token: usize) -> &[u32] {
        let len = self.architecture.predictive().codes().subtoken_len();
        self.y.get(token * len..(token + 1) * len).unwrap_or_default()
    }

    /// The text of a token, where all of its digits are known.
    fn piece(&self, token: usize) -> Result<Option<String>> {
        let codes = self.architecture.predictive().codes();
        let digits = self.token(token);
        if digits.contains(&codes.mask_id()) {
            return Ok(None);
        }
        text_of(self.architecture, codes.decode_token(digits)?).map(Some)
    }

    /// Takes note of an event, and gives what a client is told of it.
    pub fn notify(&mut self, event: &Event) -> Result<Option<InfillEvent>> {
        match *event {
            Event::Started { y, .. } => {
                self.y = y.to_vec();
                self.started().map(Some)
            }
            Event::Revealed { step, time, digits, settled, log_probs, .. } => {
                self.evaluations += 1;
                digits.iter().for_each(|&(digit, value)| self.y[digit] = value);
                if let Some(all) = &mut self.logprobs {
                    for one in log_probs {
                        *all[one.token].get_or_insert(0.0) -= one.nats;
                    }
                }
                self.revealed(step, time, digits, settled).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn started(&self) -> Result<InfillEvent> {
        let codes = self.architecture.predictive().codes();
        let shown = |digit: &u32| Some(*digit).filter(|digit| *digit != codes.mask_id());
        let tokens = self.y.chunks(codes.subtoken_len());
        let pieces = (0..tokens.len()).map(|token| self.piece(token)).collect::<Result<_>>()?;
        Ok(InfillEvent::Started {
            choice: self.index,
            digits: tokens.map(|digits| digits.iter().map(shown).collect()).collect(),
            pieces,
            given: self.given.clone(),
            evaluations_at_most: self.evaluations_at_most,
        })
    }

    fn revealed(
        &self,
        step: usize,
        time: f64,
        digits: &[(usize, u32)],
        settled: usize,
    ) -> Result<InfillEvent> {
        let predictive = self.architecture.predictive();
        let (len, mask) = (predictive.codes().subtoken_len(), predictive.codes().mask_id());
        let mut changed: Vec<usize> = digits.iter().map(|(digit, _)| digit / len).collect();
        changed.dedup();
        let (mut pieces, mut possible) = (Vec::new(), Vec::new());
        for token in changed {
            match self.piece(token)? {
                Some(text) => pieces.push((token, text)),
                None => possible.push((token, predictive.consistent(self.token(token)).len())),
            }
        }
        let shown = |&(digit, value): &(usize, u32)| {
            (digit / len, digit % len, Some(value).filter(|value| *value != mask))
        };
        Ok(InfillEvent::Revealed {
            choice: self.index,
            evaluation: self.evaluations,
            step,
            time,
            digits: digits.iter().map(shown).collect(),
            pieces,
            possible,
            settled,
        })
    }

    /// The sample, complete, and what it cost.
    pub fn finish(&mut self, finished: FinishedSequence) -> Result<(InfillChoice, Usage)> {
        let FinishedSequence { tokens, report, .. } = finished;
        let text = Text::of(self.architecture, &tokens, &self.given)?;
        let given = self.given.iter().take(tokens.len()).copied().collect::<Vec<_>>();
        let written = tokens.len().min(text.ends_at.map_or(usize::MAX, |end| end + 1));
        let mut usage = Usage::given(self.prompt_tokens);
        usage.write(given[..written].iter().filter(|given| !**given).count() as u64);
        usage.add(&report);
        let mut logprobs = self.logprobs.take();
        if let Some(logprobs) = &mut logprobs {
            logprobs.truncate(tokens.len());
        }
        let choice = InfillChoice {
            index: self.index,
            text: text.text,
            pieces: tokens.iter().map(|token| text_of(self.architecture, *token)).collect::<Result<_>>()?,
            given,
            finish_reason: Some(if text.ends_at.is_some() {
                FinishReason::Stop
            } else {
                FinishReason::Length
            }),
            logprobs,
            score: None,
            tokens,
        };
        Ok((choice, usage))
    }
}

/// The text of a sequence, without the end of another with which it begins, up to its end.
pub struct Text {
    pub text: String,
    /// The place of the token that ends it, behind everything that was given.
    pub ends_at: Option<usize>,
    /// Tokens with which it begins, before the text.
    pub begin: usize,
}

impl Text {
    pub fn of(architecture: &Architecture, tokens: &[u32], given: &[bool]) -> Result<Self> {
        let Some(tokenizer) = architecture.tokenizer() else {
            return Ok(Self { text: String::new(), ends_at: None, begin: 0 });
        };
        let given = given.iter().rposition(|given| *given).map_or(0, |last| last + 1).min(tokens.len());
        let (_, ends_at) = architecture.text_between(tokens, given..tokens.len())?;
        let is_end = |token: &&u32| Some(**token) == tokenizer.end_of_text();
        let until = ends_at.unwrap_or(tokens.len());
        let begin = tokens.iter().take_while(is_end).count().min(until);
        Ok(Self { text: tokenizer.decode(&tokens[begin..until], "")?, ends_at, begin })
    }
}

fn text_of(architecture: &Architecture, token: u32) -> Result<String> {
    architecture.tokenizer().map_or_else(|| Ok(String::new()), |tokenizer| tokenizer.token_text(token))
}
