//! The common loop: networks are asked, and what states are charged is summed over draws.

use std::ops::Range;

use rayon::prelude::*;

use super::charge::{Row, Term};
use super::estimate::{Estimate, Exact, Meaning, UpperBound};
use super::query::{Block, Charged, Part, Query};
use super::sequences::{Encoded, Group, LikelihoodSettings};
use crate::denoiser::{BlockDenoiser, Denoiser, Kept, States};
use crate::predictive::{Predictive, TokenDistribution};
use crate::schedule::RevealUnit;
use crate::{Error, Result};

/// How the queries of a sequence make its value: `draws` groups of `terms` queries; a group is summed, and the
/// groups are averaged.
pub(super) struct Layout {
    pub(super) draws: usize,
    pub(super) terms: usize,
    /// What is masked.
    pub(super) unit: RevealUnit,
}

/// What every estimator works on.
pub(super) struct Problem<'a> {
    network: &'a dyn Denoiser,
    /// The same where sequences have several blocks.
    by_blocks: Option<&'a dyn BlockDenoiser>,
    predictive: &'a Predictive,
    pub(super) encoded: Encoded<'a>,
    count: usize,
    seq_len: usize,
    /// Tokens per block: all, where sequences have one block.
    block_len: usize,
    batch: usize,
    /// How many most probable tokens are kept beside every charge.
    pub(super) top: usize,
}

/// What a network keeps of the tokens of some sequences.
pub(super) struct Clean {
    /// Their numbers, ascending.
    sequences: Vec<usize>,
    kept: Kept,
}

impl Clean {
    /// What states read, of which each is of one of `sequences`, ascending.
    fn of(&self, sequences: &[usize]) -> Kept {
        let place = |sequence: &usize| self.sequences.partition_point(|other| other < sequence);
        let mut runs = sequences.chunk_by(|a, b| a == b);
        let len = runs.clone().next().map_or(0, <[usize]>::len);
        // Of sequences with equally many states once, however many these are.
        let places: Vec<usize> = match runs.all(|run| run.len() == len) {
            true => sequences.iter().step_by(len.max(1)).map(place).collect(),
            false => sequences.iter().map(place).collect(),
        };
        self.kept.of(&places)
    }
}

impl<'a> Problem<'a> {
    /// Checks the settings and encodes the sequences.
    pub(super) fn new(
        network: &'a dyn Denoiser,
        predictive: &'a Predictive,
        group: &'a Group,
        settings: &LikelihoodSettings,
    ) -> Result<Self> {
        settings.validate()?;
        let spec = network.spec();
        let by_blocks = match (1..group.seq_len).contains(&spec.block_len) {
            true => Some(several_blocks(network)?),
            false => None,
        };
        Ok(Self {
            network,
            by_blocks,
            predictive,
            encoded: group.encode(predictive.codes())?,
            count: group.count(),
            seq_len: group.seq_len,
            block_len: if by_blocks.is_some() { spec.block_len } else { group.seq_len },
            batch: settings.batch,
            top: 0,
        })
    }

    /// The same, where the `top` most probable tokens are kept beside every charge.
    pub(super) fn with_top(self, top: usize) -> Self {
        Self { top, ..self }
    }

    /// The largest number of units that a block of a sequence generates, and at least 1.
    pub(super) fn most_units(&self, unit: RevealUnit) -> usize {
        let of_sequence = |s| {
            let target = self.encoded.target(s);
            Block::all(&target, unit, self.block_len).iter().map(|block| block.units.len()).max()
        };
        (0..self.count).filter_map(of_sequence).max().unwrap_or(1)
    }

    /// A state of sequence s, of what `build` asks of its blocks; `None` where it is nothing.
    pub(super) fn query(
        &self,
        s: usize,
        unit: RevealUnit,
        build: impl Fn(&Block) -> Option<Part>,
    ) -> Option<Query> {
        let target = self.encoded.target(s);
        let blocks = Block::all(&target, unit, self.block_len);
        Query::new(&target, unit, blocks.iter().filter_map(build).collect())
    }

    /// The estimate of whose queries `build(block, draw, term)` gives the parts; `None` counts as zero, and a query without
    /// parts costs nothing.
    pub(super) fn estimate<K: Meaning>(
        &self,
        layout: &Layout,
        build: impl Fn(&Block, usize, usize) -> Option<Part> + Sync,
    ) -> Result<Estimate<K>> {
        let mut means = Means::new(layout.draws, self.count);
        let evaluations = self.for_each_draw(layout, build, |values| means.push(values))?;
        Ok(Estimate::new(means.means, means.errors, self.tokens(), evaluations))
    }

    /// `visit(values)` for every draw of every sequence, in order: of each of its blocks the sum of the terms. Returns the
    /// number of network evaluations.
    pub(super) fn for_each_draw(
        &self,
        layout: &Layout,
        build: impl Fn(&Block, usize, usize) -> Option<Part> + Sync,
        mut visit: impl FnMut(&[f64]),
    ) -> Result<u64> {
        let mut sums = vec![0.0; self.seq_len.div_ceil(self.block_len)];
        let mut terms = 0;
        self.for_each_query(layout, build, |_, charged| {
            charged.iter().flat_map(Charged::values).for_each(|(block, value)| sums[block] += value);
            terms += 1;
            if terms == layout.terms {
                visit(&sums);
                sums.fill(0.0);
                terms = 0;
            }
        })
    }

    /// `visit(s, charged)` for every draw and term of every sequence s, in order; `None` where there is nothing to charge.
    /// Returns the number of network evaluations.
    pub(super) fn for_each_query(
        &self,
        layout: &Layout,
        build: impl Fn(&Block, usize, usize) -> Option<Part> + Sync,
        mut visit: impl FnMut(usize, Option<Charged>),
    ) -> Result<u64> {
        let per_sequence = layout.draws * layout.terms;
        // What is kept of sequences is kept for all their queries.
        let at_once = match self.by_blocks {
            Some(_) => (self.batch / per_sequence).max(1),
            None => self.count,
        };
        let mut evaluations = 0;
        for sequences in chunks(0..self.count, at_once) {
            let clean = self.keep(sequences.clone(), &mut evaluations)?;
            let items = sequences.start * per_sequence..sequences.end * per_sequence;
            for items in chunks(items, self.batch) {
                let query = |item: usize| {
                    let (s, rest) = (item / per_sequence, item % per_sequence);
                    let (draw, term) = (rest / layout.terms, rest % layout.terms);
                    (s, self.query(s, layout.unit, |block| build(block, draw, term)))
                };
                let queries: Vec<(usize, Option<Query>)> = items.into_par_iter().map(query).collect();
                let term = |p: &TokenDistribution, row: &Row| Term {
                    nats: row.nats(p, row.charge),
                    top: row.top_tokens(p, self.predictive.codes(), self.top),
                };
                let terms = self.rows(&queries, clean.as_ref(), term)?;
                let mut rest = terms.as_slice();
                for (s, query) in &queries {
                    visit(*s, query.as_ref().map(|query| Charged::first(query, &mut rest)));
                }
                evaluations += queries.iter().filter(|(_, query)| query.is_some()).count() as u64;
            }
        }
        Ok(evaluations)
    }

    /// An exact value of every sequence, and what each of its tokens adds to it.
    pub(super) fn exact(
        &self,
        nats: Vec<f64>,
        token_nats: Vec<Vec<f64>>,
        evaluations: u64,
    ) -> Estimate<Exact> {
        let errors = vec![0.0; nats.len()];
        Estimate::new(nats, errors, self.tokens(), evaluations).with_token_nats(token_nats)
    }

    /// An upper bound of every sequence whose draws make one value together: there is no error over draws.
    pub(super) fn bound(&self, nats: Vec<f64>, evaluations: u64) -> Estimate<UpperBound> {
        let errors = vec![f64::NAN; nats.len()];
        Estimate::new(nats, errors, self.tokens(), evaluations)
    }

    /// The number of tokens that every sequence generates.
    fn tokens(&self) -> Vec<u64> {
        (0..self.count).map(|s| self.encoded.target(s).units(RevealUnit::Tokens).len() as u64).collect()
    }

    /// What the network keeps of the sequences among `sequences` that generate something: of all tokens before the last
    /// block, which none reads. `None` where there is one block, or no such sequence. Adds the `evaluations` that it takes.
    pub(super) fn keep(&self, sequences: Range<usize>, evaluations: &mut u64) -> Result<Option<Clean>> {
        let Some(network) = self.by_blocks else { return Ok(None) };
        let sequences: Vec<usize> = sequences.filter(|s| self.encoded.target(*s).generates()).collect();
        if sequences.is_empty() {
            return Ok(None);
        }
        let last_block = (self.seq_len - 1) / self.block_len * self.block_len;
        let digits = last_block * self.predictive.codes().subtoken_len();
        let clean: Vec<u32> =
            sequences.iter().flat_map(|s| &self.encoded.target(*s).y_0[..digits]).copied().collect();
        let kept = network.keep(&clean, sequences.len(), None)?;
        *evaluations += sequences.len() as u64;
        Ok(Some(Clean { sequences, kept }))
    }

    /// The tokens from the first block that a query asks about to the last one.
    fn asked_tokens(&self, queries: &[(usize, Option<Query>)]) -> Range<usize> {
        let blocks = || queries.iter().filter_map(|(_, query)| query.as_ref()?.blocks());
        let first = blocks().map(|[first, _]| first).min().unwrap_or(0);
        let last = blocks().map(|[_, last]| last).max().unwrap_or(0);
        first * self.block_len..((last + 1) * self.block_len).min(self.seq_len)
    }

    /// `visit(p, row)` for every charge of the queries, in order, from one network call: p is the distribution at the
    /// row's position.
    pub(super) fn rows<R: Default + Clone + Send>(
        &self,
        queries: &[(usize, Option<Query>)],
        clean: Option<&Clean>,
        visit: impl Fn(&TokenDistribution, &Row) -> R + Sync,
    ) -> Result<Vec<R>> {
        let (mut y_t, mut t, mut positions, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut sequences, mut labels) = (Vec::new(), Vec::new());
        let subtoken_len = self.predictive.codes().subtoken_len();
        let tokens = self.asked_tokens(queries);
        for (s, query) in queries.iter().filter_map(|(s, query)| query.as_ref().map(|query| (*s, query))) {
            let first = t.len() * tokens.len();
            y_t.extend_from_slice(&query.y_t[tokens.start * subtoken_len..tokens.end * subtoken_len]);
            t.push(query.t);
            sequences.push(s);
            labels.push(self.encoded.target(s).label);
            positions.extend(query.charges().map(|(i, _)| first + i - tokens.start));
            rows.extend(query.charges().map(|(i, charge)| {
                let y = &query.y_t[i * subtoken_len..(i + 1) * subtoken_len];
                Row { target: self.encoded.target(s), i, y, charge }
            }));
        }
        let mut results = vec![R::default(); positions.len()];
        if results.is_empty() {
            return Ok(results);
        }
        let vocab_size = self.predictive.codes().vocab_size();
        let at_once = (1 << 14) / vocab_size + 1;
        let labels = self.network.spec().labels(labels.into_iter());
        let states = States { y_t: &y_t, t: &t, labels: labels.as_deref() };
        let mut visit_rows = |range: Range<usize>, logits: &[f32]| {
            let results = results[range.clone()].par_iter_mut().zip(&rows[range]);
            let results = results.zip(logits.par_chunks(vocab_size)).with_min_len(at_once);
            results.try_for_each(|((result, row), logits)| {
                *result = visit(&self.distribution(row, logits)?, row);
                Ok(())
            })
        };
        match self.by_blocks {
            Some(network) => {
                let kept = clean.map(|clean| clean.of(&sequences));
                network.evaluate_after(kept.as_ref(), tokens.start, &states, &positions, &mut visit_rows)?;
            }
            None => self.network.evaluate(&states, &positions, &mut visit_rows)?,
        }
        Ok(results)
    }

    fn distribution(&self, row: &Row, logits: &[f32]) -> Result<TokenDistribution<'_>> {
        let p = self.predictive.distribution(logits, row.y);
        if p.is_proper() {
            return Ok(p);
        }
        Err(Error::NonFinite { what: "logits", needed: "a finite number for at least one possible token" })
    }
}

/// A network whose sequences have several blocks, which are evaluated together.
///
/// # Errors
/// [`Error::Invalid`] for a network that keeps nothing of known tokens, and for one that reads the time: every block has one
/// of its own.
fn several_blocks(network: &dyn Denoiser) -> Result<&dyn BlockDenoiser> {
    let invalid = |given: &str, allowed: &str| Error::invalid("network", given, allowed);
    if network.spec().reads_time {
        return Err(invalid("one with blocks that reads the time", "one with blocks that does not"));
    }
    let allowed = "one that keeps what it makes of known tokens, as likelihoods by blocks read it";
    network.by_blocks().ok_or_else(|| invalid("one with blocks that are not evaluated after others", allowed))
}

/// A range in pieces of at most `len`.
fn chunks(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(len).map(move |start| start..start.saturating_add(len).min(end))
}

/// Means over the draws of every sequence, and their errors.
struct Means {
    draws: usize,
    means: Vec<f64>,
    errors: Vec<f64>,
    /// Number of draws of the sequence that is being summed.
    drawn: usize,
    /// Their sum.
    sum: f64,
    /// Of all blocks, the sum of squared differences of successive draws.
    squares: f64,
    /// The last draw, by block.
    last: Vec<f64>,
}

impl Means {
    fn new(draws: usize, sequences: usize) -> Self {
        let (means, errors) = (Vec::with_capacity(sequences), Vec::with_capacity(sequences));
        Self { draws, means, errors, drawn: 0, sum: 0.0, squares: 0.0, last: Vec::new() }
    }

    /// The next draw, by block. After the last of a sequence: the mean, and its standard error
    /// √(Σ (v_{d+1} − v_d)² / (2 (D − 1) D)), where draws of different blocks are independent.
    fn push(&mut self, values: &[f64]) {
        let differences = values.iter().zip(&self.last).map(|(value, last)| value - last);
        self.squares += differences.map(|difference| difference * difference).sum::<f64>();
        self.sum += values.iter().sum::<f64>();
        self.last.clear();
        self.last.extend_from_slice(values);
        self.drawn += 1;
        if self.drawn == self.draws {
            let draws = self.draws as f64;
            self.means.push(self.sum / draws);
            self.errors.push((self.squares / (2.0 * (draws - 1.0) * draws)).sqrt());
            self.last.clear();
            (self.drawn, self.sum, self.squares) = (0, 0.0, 0.0);
        }
    }
}
