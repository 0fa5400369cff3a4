//! Draws on a network's device for sequences whose sub-tokens are in memory: logits stay there, and what was drawn comes back.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use super::device::{DrawnStates, drawn_tokens};
use super::draw::improper;
use super::policy::{DeviceResult, DeviceWork, DrawsAhead, Visit};
use super::row::Row;
use crate::ops::{
    DRAW_NOTES, DeviceVisit, DrawnTokens, Ranks, TokenDraw, VisitDraws, integers, rank_words, read_ranks,
};
use crate::{Error, Result};

/// The draws of one visit of some rows.
pub(super) struct MemoryDraws {
    tokens: Arc<DrawnTokens>,
    visit: DeviceVisit,
    /// Digits [n, ℓ] of all tokens asked for; as long as none is drawn those before the visit.
    digits: Option<Tensor<2, Int>>,
    /// What is told of them, [n, 4].
    notes: Tensor<2, Int>,
    work: Work,
}

/// See [`DeviceWork`].
enum Work {
    Draw,
    /// With the ranks so far.
    Rank(Ranks, Box<Tensor<1, Int>>),
}

impl MemoryDraws {
    /// The draws of the visits of rows; `None` where the device cannot draw for all of them.
    pub fn new(rows: &[&mut Row], visits: &[Visit], device: &Device) -> Option<Self> {
        let first = rows.first()?;
        let (predictive, work) = (first.recipe.predictive(), first.policy.asks_device()?);
        let mut draws = VisitDraws::default();
        let mut digits = Vec::new();
        for (row, visit) in rows.iter().zip(visits) {
            if !std::ptr::eq(predictive, row.recipe.predictive()) || row.policy.asks_device() != Some(work) {
                return None;
            }
            let (sequence, start) = (draws.sequences.len(), draws.tokens.len());
            let (step, bits): (_, Vec<u64>) = match (work, row.policy.draws_ahead()) {
                (DeviceWork::Draw, Some(DrawsAhead { tokens, step, .. })) => {
                    (step, tokens.into_iter().map(|(_, digits)| digits).collect())
                }
                (DeviceWork::Draw, None) => return None,
                (DeviceWork::Rank(_), _) => (None, vec![0; visit.tokens.len()]),
            };
            let places = visit.tokens.iter().zip(bits).zip(start..);
            let token = |((&i, digits), position)| TokenDraw { position, i, sequence, digits };
            draws.tokens.extend(places.map(token));
            draws.sequences.push(row.recipe.draws.on_device(row.number, visit.event, visit.time, step));
            digits.extend(visit.tokens.iter().flat_map(|i| row.digits(*i..i + 1)).copied());
        }
        let (n, len) = (draws.tokens.len(), predictive.codes().subtoken_len());
        if n == 0 {
            return None;
        }
        let zeros = |count: usize| std::iter::repeat_n(0, count);
        Some(Self {
            tokens: drawn_tokens(predictive),
            visit: DeviceVisit::new(&draws, device)?,
            digits: Some(integers(digits, [n, len], device)),
            notes: integers(zeros(n * DRAW_NOTES), [n, DRAW_NOTES], device),
            work: match work {
                DeviceWork::Draw => Work::Draw,
                DeviceWork::Rank(ranks) => {
                    let words = rank_words(ranks, n, len);
                    Work::Rank(ranks, Box::new(integers(zeros(words), [words], device)))
                }
            },
        })
    }

    /// Draws for some of the tokens, from their logits [n, C].
    pub fn draw(&mut self, range: Range<usize>, logits: Tensor<2>) {
        let Some(digits) = self.digits.take() else { return };
        let Self { tokens, visit, notes, .. } = &*self;
        self.digits = Some(match &self.work {
            Work::Draw => visit.draw(tokens, range.start, logits, digits, notes),
            Work::Rank(ranks, out) => {
                visit.rank(tokens, *ranks, range.start, logits, [&digits, notes], out);
                digits
            }
        });
    }

    /// Waits for the device, and gives the rows what was drawn.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for logits that are no distribution.
    pub fn hand_over(self, rows: &mut [&mut Row], visits: &[Visit]) -> Result<()> {
        let Some(digits) = self.digits else { return Ok(()) };
        let ([_, len], starts) = (digits.dims(), starts(visits));
        let drawn = DrawnStates::read(digits, self.notes)?;
        if drawn.is_improper {
            return Err(improper());
        }
        let ranked = match self.work {
            Work::Draw => None,
            Work::Rank(_, out) => {
                let words = out.try_into_vec_as::<i32>().map_err(Error::internal("ranks are integers"))?;
                Some(read_ranks(&words, drawn.notes.len()))
            }
        };
        for ((row, visit), own) in rows.iter_mut().zip(visits).zip(starts) {
            let result = match &ranked {
                None => DeviceResult::Drawn(
                    &drawn.digits[own.start * len..own.end * len],
                    &drawn.notes[own.clone()],
                ),
                Some((scores, candidates)) => {
                    let units = scores.len() / candidates.len();
                    let scores = &scores[own.start * units..own.end * units];
                    DeviceResult::Ranked(scores, &candidates[own.clone()])
                }
            };
            row.take(&visit.tokens, &result);
        }
        Ok(())
    }
}

/// The tokens of each visit among all.
fn starts(visits: &[Visit]) -> impl Iterator<Item = Range<usize>> {
    visits.iter().scan(0, |end, visit| {
        let start = *end;
        *end += visit.tokens.len();
        Some(start..*end)
    })
}
