//! Logits in memory: of sequences of one length, where the caller wants them.

use std::ops::Range;

use super::Network;
use crate::denoiser::{Denoiser, States, Wanted};
use crate::model::Session;
use crate::{Error, Result};

/// Sequences of one length that are masked in part, as they stand in memory.
#[derive(Clone, Copy, Debug)]
pub struct MaskedBatch<'a> {
    /// Sub-tokens [B, L·ℓ], 0..=b, b being the mask.
    pub y_t: &'a [u32],
    /// Number of sequences B.
    pub count: usize,
    /// Times \[B\] in [0, 1], for a network that reads the time. `None`: as [`MaskedSequence::time`](super::MaskedSequence::time).
    pub t: Option<&'a [f64]>,
    /// Classes \[B\], for a network that reads classes, the number of classes standing for no label; `None`: no labels.
    pub labels: Option<&'a [usize]>,
    /// What is asked for: flat positions i·L + j of token j of sequence i, in any order. `None`: all rows that the network has of
    /// every sequence, of which there must be equally many. The autoregressive baseline takes none.
    pub positions: Option<&'a [usize]>,
}

/// What the network is asked about sequences.
struct Facts {
    /// Tokens per sequence, or digits of the baseline.
    width: usize,
    /// Rows of every sequence.
    rows: Vec<usize>,
    times: Vec<f64>,
}

impl Session {
    /// Rows of logits of a batch, and columns: `[P, C]` where positions are asked for, otherwise `[B·k, C]` with k = L, or fewer with
    /// blocks (up to the first one with a masked digit), or of the baseline `[B·k, b]`, where k − 1 digits are given.
    ///
    /// # Errors
    /// As [`Self::check_masked`], and [`Error::Invalid`] naming what is not of the batch's size, what the network does not read, and
    /// positions that it cannot be asked about.
    pub fn logits_shape(&self, batch: &MaskedBatch) -> Result<(usize, usize)> {
        let network = self.predictor()?;
        Ok((self.facts(batch, &network)?.asked(batch)?, network.columns()))
    }

    /// Writes logits of that shape into `logits`, before temperature and carry-over constraint, as long as it is `wanted`. Up to
    /// `at_once` sequences are evaluated together; the numbers do not depend on it.
    ///
    /// # Errors
    /// As [`Self::logits_shape`], for another number of `logits`, and what `wanted` says.
    pub fn logits_into(
        &self,
        batch: &MaskedBatch,
        at_once: usize,
        logits: &mut [f32],
        wanted: Wanted,
    ) -> Result<()> {
        if at_once == 0 {
            return Err(Error::invalid("batch", at_once, "at least 1"));
        }
        let network = self.predictor()?;
        let facts = self.facts(batch, &network)?;
        let (rows, columns) = (facts.asked(batch)?, network.columns());
        if logits.len() != rows * columns {
            return Err(Error::invalid("logits", logits.len(), format!("{rows} rows of {columns}")));
        }
        match (&network, batch.positions) {
            (Network::Autoregressive(network), _) => {
                let width = facts.rows.first().copied().unwrap_or(0);
                let mut left = logits;
                for sequences in chunks(batch.count, at_once) {
                    wanted()?;
                    let digits: Vec<u32> = sequences
                        .clone()
                        .flat_map(|s| &batch.y_t[s * facts.width..s * facts.width + width])
                        .copied()
                        .collect();
                    let own = network.logits(&network.shifted(&digits, sequences.len()), sequences.len())?;
                    let (now, later) = left.split_at_mut(own.len());
                    now.copy_from_slice(&own);
                    left = later;
                }
                Ok(())
            }
            (Network::Diffusion(network), None) => {
                let rows = facts.rows.first().copied().unwrap_or(0);
                for sequences in chunks(batch.count, at_once) {
                    wanted()?;
                    let positions: Vec<usize> =
                        (0..sequences.len()).flat_map(|s| s * facts.width..s * facts.width + rows).collect();
                    let start = sequences.start * rows;
                    facts.evaluate(*network, batch, sequences, &positions, &mut |range, own| {
                        let begin = (start + range.start) * columns;
                        logits[begin..begin + own.len()].copy_from_slice(own);
                    })?;
                }
                Ok(())
            }
            (Network::Diffusion(network), Some(positions)) => {
                let mut places: Vec<usize> = (0..positions.len()).collect();
                places.sort_by_key(|place| positions[*place]);
                let chunk = |place: &usize| positions[*place] / (facts.width * at_once);
                for places in places.chunk_by(|a, b| chunk(a) == chunk(b)) {
                    wanted()?;
                    let of = |place: &usize| positions[*place] / facts.width;
                    let ends = [places.first(), places.last()].map(|place| place.map_or(0, of));
                    let own: Vec<usize> =
                        places.iter().map(|place| positions[*place] - ends[0] * facts.width).collect();
                    facts.evaluate(*network, batch, ends[0]..ends[1] + 1, &own, &mut |range, own| {
                        for (place, row) in places[range].iter().zip(own.chunks_exact(columns)) {
                            logits[place * columns..(place + 1) * columns].copy_from_slice(row);
                        }
                    })?;
                }
                Ok(())
            }
        }
    }

    /// Checks a batch.
    fn facts(&self, batch: &MaskedBatch, network: &Network) -> Result<Facts> {
        let MaskedBatch { y_t, count, t, labels, .. } = *batch;
        let spec = network.spec();
        if count == 0 || y_t.is_empty() || !y_t.len().is_multiple_of(count) {
            let given = format!("{} digits of {count} sequences", y_t.len());
            return Err(Error::invalid("y_t", given, "at least one sequence, all of one length"));
        }
        let sizes = [("t", t.map(<[f64]>::len)), ("labels", labels.map(<[usize]>::len))];
        if let Some((field, len)) =
            sizes.into_iter().find_map(|(field, len)| Some((field, len?)).filter(|(_, len)| *len != count))
        {
            return Err(Error::invalid(field, len, format!("one for each of {count} sequences")));
        }
        if let Some(digit) = y_t.iter().find(|digit| **digit > spec.base) {
            let allowed = format!("0 to {}, and {} where one is masked", spec.base - 1, spec.base);
            return Err(Error::invalid("y_t", digit, allowed));
        }
        let width = y_t.len() / count;
        let mut facts = Facts { width, rows: Vec::with_capacity(count), times: Vec::with_capacity(count) };
        for (s, y) in y_t.chunks_exact(width).enumerate() {
            let (time, label) = (t.map(|t| t[s]), labels.map(|labels| labels[s]));
            let (rows, time) = self.rows_and_time(y, time, label, network)?;
            facts.rows.push(rows);
            facts.times.push(time.unwrap_or(0.0));
        }
        if let Network::Diffusion(_) = network {
            facts.width /= spec.subtoken_len;
        } else if batch.positions.is_some() {
            let allowed = "none: an autoregressive model predicts what follows the digits that are given";
            return Err(Error::invalid("positions", "given", allowed));
        }
        Ok(facts)
    }
}

impl Facts {
    /// Rows of logits that are asked for.
    fn asked(&self, batch: &MaskedBatch) -> Result<usize> {
        let Some(positions) = batch.positions else {
            let first = self.rows.first().copied().unwrap_or(0);
            return match self.rows.iter().find(|rows| **rows != first) {
                None => Ok(first * self.rows.len()),
                Some(other) => {
                    let given = format!("of {first} and of {other} tokens that are known or predicted");
                    Err(Error::invalid("y_t", given, "sequences with equally many of them, or positions"))
                }
            };
        };
        let is_known = |position: usize| {
            let rows = self.rows.get(position / self.width);
            rows.is_some_and(|rows| position % self.width < *rows)
        };
        match positions.iter().find(|position| !is_known(**position)) {
            None => Ok(positions.len()),
            Some(position) => {
                let last = self.rows.len() * self.width - 1;
                let allowed = match *position > last {
                    true => {
                        format!("0 to {last}: token j of sequence i has the position i·{} + j", self.width)
                    }
                    false => "none behind the first block with a masked digit".to_owned(),
                };
                Err(Error::invalid("positions", position, allowed))
            }
        }
    }

    /// Logits at positions of some of the sequences, counted from the first of these.
    fn evaluate(
        &self,
        network: &dyn Denoiser,
        batch: &MaskedBatch,
        sequences: Range<usize>,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> Result<()> {
        let digits = self.width * network.spec().subtoken_len;
        let labels = batch.labels.map(|labels| &labels[sequences.clone()]);
        let states = States {
            y_t: &batch.y_t[sequences.start * digits..sequences.end * digits],
            t: &self.times[sequences],
            labels,
        };
        network.evaluate(&states, positions, &mut |range, logits| {
            rows(range, logits);
            Ok(())
        })
    }
}

/// Ranges of up to `size` of `count` sequences.
fn chunks(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(size).map(move |start| start..start.saturating_add(size).min(count))
}
