//! One completion while it is written.

use std::ops::Range;

use submask::Result;
use submask::model::Architecture;
use submask::sampler::{Event, FinishedSequence, SampleReport};

use super::answer::{FinishReason, Logprobs};
use super::logprobs::TokenLog;
use super::plan::Plan;
use super::stop::StopCutter;

/// What is new of a completion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Growth {
    /// Its text.
    pub text: String,
    /// Log-probabilities, where asked for.
    pub logprobs: Option<Logprobs>,
    /// Why it ends, where it does.
    pub finish_reason: Option<FinishReason>,
}

impl Growth {
    /// Adds what follows.
    pub fn join(&mut self, next: Self) {
        self.text += &next.text;
        self.finish_reason = self.finish_reason.or(next.finish_reason);
        match (&mut self.logprobs, next.logprobs) {
            (Some(all), Some(new)) => all.append(new),
            (all, new) => *all = all.take().or(new),
        }
    }

    /// Whether there is anything to tell.
    pub fn is_nothing(&self) -> bool {
        let tokens = self.logprobs.as_ref().map_or(0, |logprobs| logprobs.tokens.len());
        self.text.is_empty() && tokens == 0 && self.finish_reason.is_none()
    }
}

type Growing<'s> = Box<dyn FnMut(&Event) -> Result<String> + 's>;

/// A completion on its way.
pub struct Choice<'s> {
    architecture: &'s Architecture,
    /// Places of the tokens that are written.
    hole: Range<usize>,
    /// Gives what is new of the text after an event.
    growing: Growing<'s>,
    /// Whether tokens may be left out that were written: then nothing is told before the end.
    may_shrink: bool,
    cutter: StopCutter,
    log: Option<TokenLog<'s>>,
    /// The sub-tokens [L·ℓ], and how many tokens nothing changes any more.
    y: Vec<u32>,
    settled: usize,
    /// Of the text told: bytes, and characters.
    bytes: usize,
    characters: usize,
}

/// What a completion cost in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Tokens that were written, up to the one that ends the text.
    pub tokens: u64,
    /// What the sampler reports.
    pub report: SampleReport,
}

impl<'s> Choice<'s> {
    /// Of the tokens `hole` of a sequence of a plan.
    ///
    /// # Errors
    /// For a model of anything but text.
    pub fn new(architecture: &'s Architecture, hole: Range<usize>, plan: &Plan) -> Result<Self> {
        let mut text = architecture.growing_text(hole.clone())?;
        Ok(Self {
            architecture,
            growing: Box::new(move |event| text.notify(event)),
            may_shrink: plan.may_shrink,
            cutter: StopCutter::new(&plan.stops),
            log: plan.logprobs.map(|top| TokenLog::new(architecture, top, hole.start)),
            hole,
            y: Vec::new(),
            settled: 0,
            bytes: 0,
            characters: 0,
        })
    }

    /// Takes note of an event of its sequence, and gives what is new. Once that says why the text ends, nothing more is to be told.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn notify(&mut self, event: &Event) -> Result<Growth> {
        match *event {
            Event::Started { y, .. } => self.y = y.to_vec(),
            Event::Revealed { digits, settled, log_probs, .. } => {
                digits.iter().for_each(|&(digit, value)| self.y[digit] = value);
                self.settled = settled;
                if let Some(log) = &mut self.log {
                    log.note(log_probs);
                }
            }
            _ => {}
        }
        if self.may_shrink && !matches!(event, Event::Started { .. }) {
            return Ok(Growth::default());
        }
        let new = (self.growing)(event)?;
        let text = self.cutter.push(&new);
        let finish_reason = self.cutter.is_stopped().then_some(FinishReason::Stop);
        self.grow(text, finish_reason, None)
    }

    /// The sequence is complete: gives the rest, and what it cost.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn finish(&mut self, finished: &FinishedSequence) -> Result<(Growth, Cost)> {
        let FinishedSequence { tokens, report, .. } = finished;
        let new = (self.growing)(&Event::Finished { sequence: 0, tokens, report })?;
        let text = self.cutter.push(&new) + &self.cutter.finish();
        let until = self.hole.end.min(tokens.len());
        let (_, end) = self.architecture.text_between(tokens, self.hole.start.min(until)..until)?;
        let reason = match end.is_some() || self.cutter.is_stopped() {
            true => FinishReason::Stop,
            false => FinishReason::Length,
        };
        // The token that ends a text is one of those written.
        let written = &tokens[..end.map_or(until, |end| end + 1)];
        let growth = self.grow(text, Some(reason), Some(written))?;
        Ok((growth, Cost { tokens: self.tokens(written)?, report: *report }))
    }

    /// Tokens of a completion that was cut before its sequence was complete.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn written(&self) -> Result<u64> {
        self.tokens(&self.settled_tokens()?)
    }

    fn grow(
        &mut self,
        text: String,
        finish_reason: Option<FinishReason>,
        tokens: Option<&[u32]>,
    ) -> Result<Growth> {
        self.bytes += text.len();
        self.characters += text.chars().count();
        let is_cut = self.cutter.is_stopped();
        let before = (is_cut || finish_reason.is_none()).then_some(self.characters);
        let settled;
        let tokens = match (&self.log, tokens) {
            (None, _) => &[],
            (Some(_), Some(tokens)) => tokens,
            (Some(_), None) => {
                settled = self.settled_tokens()?;
                &settled
            }
        };
        let logprobs = self.log.as_mut().map(|log| log.take(tokens, before)).transpose()?;
        Ok(Growth { text, logprobs, finish_reason })
    }

    /// Tokens from the first on that nothing changes any more, none beyond the hole.
    fn settled_tokens(&self) -> Result<Vec<u32>> {
        let codes = self.architecture.predictive().codes();
        let settled = self.settled.min(self.hole.end) * codes.subtoken_len();
        codes.decode(self.y.get(..settled).unwrap_or_default())
    }

    /// How many of `tokens` are written by the completion: all behind its beginning, or where it was cut as many as it takes for
    /// the text with what cut it.
    fn tokens(&self, tokens: &[u32]) -> Result<u64> {
        let start = self.hole.start.min(tokens.len());
        let Some(stop) = self.cutter.stop_len() else { return Ok((tokens.len() - start) as u64) };
        // Longer beginnings have longer texts.
        let (mut few, mut enough) = (0, tokens.len() - start);
        while few + 1 < enough {
            let middle = few.midpoint(enough);
            let (text, _) = self.architecture.text_between(tokens, start..start + middle)?;
            match text.len() < self.bytes + stop {
                true => few = middle,
                false => enough = middle,
            }
        }
        Ok(enough as u64)
    }
}
