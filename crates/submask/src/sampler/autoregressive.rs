//! Sampling the autoregressive baseline: digit by digit, left to right, earlier keys and values kept.

use std::collections::VecDeque;
use std::sync::Arc;

use super::draw::improper;
use super::end::first_end;
use super::next_digits::{DeviceDigits, NextDigit};
use super::observer::{Event, Observer, Progress, TokenLogProb, Unobserved};
use super::report::SampleReport;
use super::settings::check_plain;
use super::stream::FinishedSequence;
use crate::denoiser::{Autoregressor, Continuation};
use crate::predictive::{Predictive, Sharpening, TokenDistribution, next_digits};
use crate::random::{Draws, Purpose};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// How a sequence is written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AutoregressiveRecipe {
    /// Seed of all draws.
    pub seed: u64,
    /// Temperature, top-k and nucleus, of every digit; at temperature 0 the most probable digit is taken.
    pub sharpening: Sharpening,
    /// The token that ends a text: a sequence is complete with the first one behind everything that is given and behind
    /// those with which it begins. `None`: all sequences have their full length.
    pub end: Option<u32>,
    /// Whether it is told with what probabilities digits were drawn, and of how many most probable tokens beside: 0 where a token
    /// has several digits, which are drawn one by one. As [`SampleSettings::log_probs`](super::SampleSettings::log_probs).
    pub log_probs: Option<usize>,
}

impl AutoregressiveRecipe {
    /// Checks the ranges, for tokens of `subtoken_len` digits.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field.
    pub fn validate(&self, subtoken_len: usize) -> Result<()> {
        self.sharpening.validate()?;
        match self.log_probs {
            Some(top) if top > 0 && subtoken_len > 1 => {
                let allowed = "0 for an autoregressive model of several sub-tokens per token, which says one after the other";
                Err(Error::invalid("log_probs", top, allowed))
            }
            Some(top) => check_plain(top, &self.sharpening, true),
            None => Ok(()),
        }
    }
}

/// A sequence to sample.
#[derive(Clone, Debug)]
pub struct AutoregressiveSequence {
    /// L tokens, given or not. Given tokens must come first: what follows cannot be known to this network.
    pub prompt: Arc<[Option<u32>]>,
    /// Number of the sequence under the seed, the key of its draws.
    pub number: u64,
    /// How it is written.
    pub recipe: AutoregressiveRecipe,
}

/// Samples sequences of L tokens that may be added at any time, `batch` of them at once, in L·ℓ network evaluations each, or
/// fewer where a text ends. Digits that would end in a code that no token has are never drawn. What becomes of a sequence
/// depends on nothing but the network and itself: as with a [`Stream`](super::Stream) of a diffusion network, whose events are
/// told, too.
pub struct AutoregressiveStream<'a> {
    network: &'a dyn Autoregressor,
    predictive: &'a Predictive,
    /// The draw of a digit is one over b classes: a distribution over single sub-tokens.
    digits: Predictive,
    device_digits: DeviceDigits,
    batch: usize,
    /// Whether a sequence begins at once and takes turns with others, or begins with others once those under way are finished: their
    /// keys and values are then of one length.
    takes_turns: bool,
    waiting: VecDeque<Row>,
    /// Sequences that are evaluated together, at most a batch of them each; those whose turn it is come first.
    parties: VecDeque<Party<'a>>,
    added: usize,
    cancelled: usize,
    digits_finished: usize,
    progress: Progress,
}

impl<'a> AutoregressiveStream<'a> {
    /// A stream without sequences, which evaluates at most `batch` of them at once; others begin when all of these are finished.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `batch` is 0.
    pub fn new(network: &'a dyn Autoregressor, predictive: &'a Predictive, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::invalid("batch", batch, "at least 1"));
        }
        let digits = Predictive::new(SubTokenizer::new(network.base(), 1)?, true);
        Ok(Self {
            network,
            predictive,
            device_digits: DeviceDigits::new(&digits),
            digits,
            batch,
            takes_turns: false,
            waiting: VecDeque::new(),
            parties: VecDeque::new(),
            added: 0,
            cancelled: 0,
            digits_finished: 0,
            progress: Progress::default(),
        })
    }

    /// The same, where all sequences are under way at once and take turns, a batch of them in a round.
    #[must_use]
    pub fn taking_turns(self) -> Self {
        Self { takes_turns: true, ..self }
    }

    /// Adds a sequence and returns its number in the stream: 0 for the first, 1 for the second, …
    ///
    /// # Errors
    /// [`Error::Invalid`] for a prompt that is too long, is empty, or has a given token after one that is not, and as
    /// [`AutoregressiveRecipe::validate`].
    pub fn add(&mut self, sequence: AutoregressiveSequence) -> Result<usize> {
        sequence.recipe.validate(self.predictive.codes().subtoken_len())?;
        let row = Row::new(self.added, sequence, self.network.spec().max_seq_len())?;
        self.progress.digits_total += row.masked(self.predictive.codes().subtoken_len());
        self.waiting.push_back(row);
        self.added += 1;
        Ok(self.added - 1)
    }

    /// Takes a sequence out, of which nothing is told any more. Returns what it has cost, where it was there and not finished.
    pub fn cancel(&mut self, sequence: usize) -> Option<SampleReport> {
        let waiting = self.waiting.iter().position(|row| row.sequence == sequence);
        let row = match waiting {
            Some(place) => self.waiting.remove(place)?,
            None => self.parties.iter_mut().find_map(|party| party.take(sequence))?,
        };
        self.parties.retain(|party| !party.rows.is_empty());
        let len = self.predictive.codes().subtoken_len();
        self.progress.digits_total -= row.masked(len);
        self.cancelled += 1;
        Some(row.report(len))
    }

    /// Whether every sequence that was added is finished.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sequences that were added are not finished.
    pub fn len(&self) -> usize {
        self.added - self.progress.sequences - self.cancelled
    }

    /// Takes waiting sequences in and continues sequences by a digit, those that have waited longest. Returns the sequences that
    /// this finishes.
    ///
    /// # Errors
    /// What the network reports, and what `observer` returns. After an error the stream is to be dropped.
    pub fn round(&mut self, observer: &mut dyn Observer) -> Result<Vec<FinishedSequence>> {
        self.start(observer)?;
        let Some(mut party) = self.parties.pop_front() else { return Ok(Vec::new()) };
        let base = self.network.base();
        let last = |row: &Row| row.digits.last().copied().unwrap_or(base as u32);
        let inputs: Vec<u32> = party.rows.iter().map(last).collect();
        let writer = Writer { predictive: self.predictive, digits: &self.digits };
        let Party { continuation, rows } = &mut party;
        // Probabilities that are told need the logits in memory.
        let stays = rows.iter().all(|row| row.asked.recipe.log_probs.is_none());
        match if stays { continuation.on_drawing_device() } else { None } {
            Some(device) => {
                let logits = device.next_logits_there(&inputs);
                let next = writer.next_digits(rows)?;
                let drawn = self.device_digits.draw(logits, &next)?;
                for (next, digit) in next.iter().zip(drawn) {
                    writer.write(&mut rows[next.row], digit, None, observer)?;
                }
            }
            None => {
                let logits = continuation.next_logits(&inputs)?;
                for (row, logits) in rows.iter_mut().zip(logits.chunks_exact(base)) {
                    if !writer.take_given(row)? {
                        let (digit, log_prob) = writer.draw(row, logits)?;
                        writer.write(row, digit, log_prob, observer)?;
                    }
                }
            }
        }
        self.parties.push_back(party);
        self.finish(observer)
    }

    /// Every sequence that waits begins where there is room: in a party that is there, or in a new one.
    fn start(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if !self.takes_turns && !self.parties.is_empty() {
            return Ok(());
        }
        while let Some(row) = self.waiting.pop_front() {
            let room = self.parties.iter().position(|party| party.rows.len() < self.batch);
            let place = match room {
                Some(place) => place,
                None if self.takes_turns || self.parties.is_empty() => {
                    let continuation = self.network.begin();
                    self.parties.push_back(Party { continuation, rows: Vec::new() });
                    self.parties.len() - 1
                }
                None => {
                    self.waiting.push_front(row);
                    break;
                }
            };
            let y = row.start(self.predictive.codes());
            observer.notify(&Event::Started { sequence: row.sequence, y: &y })?;
            self.parties[place].continuation.add(1);
            self.parties[place].rows.push(row);
        }
        Ok(())
    }

    /// Takes out the sequences that are complete.
    fn finish(&mut self, observer: &mut dyn Observer) -> Result<Vec<FinishedSequence>> {
        let len = self.predictive.codes().subtoken_len();
        let under_way = self.parties.iter().flat_map(|party| &party.rows).map(|row| row.written(len));
        self.progress.digits = self.digits_finished + under_way.sum::<usize>();
        observer.notify(&Event::Progress(self.progress))?;
        let done: Vec<Row> = self.parties.iter_mut().flat_map(Party::take_done).collect();
        self.parties.retain(|party| !party.rows.is_empty());
        let mut finished = Vec::with_capacity(done.len());
        for row in done {
            self.digits_finished += row.written(len);
            self.progress.digits_total -= row.masked(len) - row.written(len);
            self.progress.sequences += 1;
            let one = row.finished(len);
            let FinishedSequence { sequence, tokens, report } = &one;
            observer.notify(&Event::Finished { sequence: *sequence, tokens, report })?;
            finished.push(one);
        }
        Ok(finished)
    }
}

/// Sequences that are evaluated together, and what is kept of them.
struct Party<'a> {
    continuation: Box<dyn Continuation + 'a>,
    rows: Vec<Row>,
}

impl Party<'_> {
    /// Takes out a sequence.
    fn take(&mut self, sequence: usize) -> Option<Row> {
        let place = self.rows.iter().position(|row| row.sequence == sequence)?;
        let others: Vec<usize> = (0..self.rows.len()).filter(|other| *other != place).collect();
        self.continuation.keep(&others);
        Some(self.rows.remove(place))
    }

    /// Takes out those that are complete.
    fn take_done(&mut self) -> Vec<Row> {
        let kept: Vec<usize> = (0..self.rows.len()).filter(|row| !self.rows[*row].is_done).collect();
        if kept.len() < self.rows.len() {
            self.continuation.keep(&kept);
        }
        self.rows.extract_if(.., |row| row.is_done).collect()
    }
}

/// Samples sequences, `batch` of them at once; they come in the order in which they are given.
///
/// # Errors
/// As [`AutoregressiveStream::add`] and [`AutoregressiveStream::round`].
pub fn sample_autoregressive(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    sequences: impl IntoIterator<Item = AutoregressiveSequence>,
    batch: usize,
) -> Result<Vec<FinishedSequence>> {
    let mut stream = AutoregressiveStream::new(network, predictive, batch)?;
    sequences.into_iter().try_for_each(|sequence| stream.add(sequence).map(drop))?;
    let mut finished = Vec::new();
    while !stream.is_empty() {
        finished.extend(stream.round(&mut Unobserved)?);
    }
    finished.sort_by_key(|one| one.sequence);
    Ok(finished)
}

/// How many tokens of a prompt are given.
///
/// # Errors
/// [`Error::Invalid`] for one that has given tokens after others.
pub(crate) fn given_tokens(prompt: &[Option<u32>]) -> Result<usize> {
    let given = prompt.iter().take_while(|token| token.is_some()).count();
    if prompt[given..].iter().any(Option::is_some) {
        let allowed = "a beginning only: an autoregressive model cannot fill a hole before given text";
        return Err(Error::invalid("prompt", "given text after a hole", allowed));
    }
    Ok(given)
}

/// A sequence on its way.
struct Row {
    /// Its number in the stream.
    sequence: usize,
    asked: AutoregressiveSequence,
    draws: Draws,
    /// How many tokens are given.
    given: usize,
    digits: Vec<u32>,
    tokens: Vec<u32>,
    is_done: bool,
}

impl Row {
    fn new(sequence: usize, asked: AutoregressiveSequence, longest: usize) -> Result<Self> {
        let tokens = asked.prompt.len();
        if tokens == 0 || tokens > longest {
            let allowed = format!("1 to {longest} tokens, the model's length");
            return Err(Error::invalid("sequence length", tokens, allowed));
        }
        let (given, draws) = (given_tokens(&asked.prompt)?, Draws::new(asked.recipe.seed, Purpose::Token));
        Ok(Self { sequence, asked, draws, given, digits: Vec::new(), tokens: Vec::new(), is_done: false })
    }

    /// Its sub-tokens before anything is written, [L·ℓ].
    fn start(&self, codes: &SubTokenizer) -> Vec<u32> {
        let (len, mask_id) = (codes.subtoken_len(), codes.mask_id());
        let digits = |token: &Option<u32>| match token {
            Some(token) => codes.digits(*token).to_vec(),
            None => vec![mask_id; len],
        };
        self.asked.prompt.iter().flat_map(digits).collect()
    }

    /// Sub-tokens that are not given.
    fn masked(&self, subtoken_len: usize) -> usize {
        (self.asked.prompt.len() - self.given) * subtoken_len
    }

    /// Those of them that are written.
    fn written(&self, subtoken_len: usize) -> usize {
        self.digits.len().saturating_sub(self.given * subtoken_len)
    }

    /// Appends a digit; with a token, notes whether the sequence is complete.
    fn push(&mut self, digit: u32, codes: &SubTokenizer) -> Result<()> {
        self.digits.push(digit);
        let len = codes.subtoken_len();
        if !self.digits.len().is_multiple_of(len) {
            return Ok(());
        }
        self.tokens.push(codes.decode_token(&self.digits[self.digits.len() - len..])?);
        let is_end = |token: &u32| Some(*token) == self.asked.recipe.end;
        let may_end = self.tokens.last().is_some_and(is_end);
        let ends = may_end && first_end(self.tokens.iter().map(is_end), self.given).is_some();
        self.is_done = ends || self.tokens.len() == self.asked.prompt.len();
        Ok(())
    }

    /// What it has cost so far.
    fn report(&self, subtoken_len: usize) -> SampleReport {
        let evaluations = self.digits.len() as u64;
        SampleReport {
            sequences: 1,
            digits: self.written(subtoken_len) as u64,
            evaluations,
            positions: evaluations,
            steps_total: evaluations,
            ..SampleReport::default()
        }
    }

    fn finished(self, subtoken_len: usize) -> FinishedSequence {
        let report = self.report(subtoken_len);
        FinishedSequence { sequence: self.sequence, tokens: self.tokens, report }
    }
}

/// What says which digit follows.
struct Writer<'w> {
    predictive: &'w Predictive,
    /// Single sub-tokens.
    digits: &'w Predictive,
}

impl Writer<'_> {
    /// Appends the digit that follows those of a row, if it is given.
    fn take_given(&self, row: &mut Row) -> Result<bool> {
        let codes = self.predictive.codes();
        let (len, place) = (codes.subtoken_len(), row.digits.len());
        let given = row.asked.prompt[place / len];
        if let Some(token) = given {
            row.push(codes.encode(&[token])?[place % len], codes)?;
        }
        Ok(given.is_some())
    }

    /// Appends the digits that are given, and returns the others, which are to be drawn.
    fn next_digits(&self, rows: &mut [Row]) -> Result<Vec<NextDigit>> {
        let mut next = Vec::new();
        for (index, row) in rows.iter_mut().enumerate() {
            if !self.take_given(row)? {
                next.push(NextDigit {
                    row: index,
                    place: row.digits.len(),
                    draws: row.draws,
                    number: row.asked.number,
                    sharpening: row.asked.recipe.sharpening,
                    allowed: self.allowed(row),
                });
            }
        }
        Ok(next)
    }

    /// Draws the digit that follows those of a row by `logits` \[b\], and says with what probability, if that is to be told.
    fn draw(&self, row: &Row, logits: &[f32]) -> Result<(u32, Option<TokenLogProb>)> {
        let (len, place) = (self.predictive.codes().subtoken_len(), row.digits.len());
        let recipe = row.asked.recipe;
        let distribution = self.distribution(row, logits, recipe.sharpening.temperature);
        if !distribution.is_proper() {
            return Err(improper());
        }
        let uniform = row.draws.uniform(row.asked.number, place as u32, 0);
        let digit = distribution.clone().truncate(&recipe.sharpening).draw(uniform);
        Ok((digit, recipe.log_probs.map(|top| term(&distribution, place / len, digit, top))))
    }

    /// Appends the digit that was drawn, and tells of it.
    fn write(
        &self,
        row: &mut Row,
        digit: u32,
        log_prob: Option<TokenLogProb>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let codes = self.predictive.codes();
        let (len, place) = (codes.subtoken_len(), row.digits.len());
        let masked = row.masked(len);
        let step = row.written(len);
        let time = (masked - step) as f64 / masked as f64;
        row.push(digit, codes)?;
        if !observer.wants_digits(row.sequence) {
            return Ok(());
        }
        observer.notify(&Event::Revealed {
            sequence: row.sequence,
            step,
            time,
            digits: &[(place, digit)],
            settled: row.tokens.len(),
            log_probs: log_prob.as_slice(),
        })
    }

    /// The values that the digit after those of a row may take: those that lead to a token, \[b\].
    fn allowed(&self, row: &Row) -> Vec<bool> {
        let (len, place) = (self.predictive.codes().subtoken_len(), row.digits.len());
        next_digits(self.predictive, &row.digits[place - place % len..])
    }

    /// The distribution of the digit that follows those of a row: of those that lead to a token.
    fn distribution(&self, row: &Row, logits: &[f32], temperature: f64) -> TokenDistribution<'_> {
        let mut logits = logits.to_vec();
        for (logit, allowed) in logits.iter_mut().zip(self.allowed(row)) {
            *logit = if allowed { *logit } else { f32::NEG_INFINITY };
        }
        self.digits.distribution_at(&logits, &[self.digits.codes().base()], temperature)
    }
}

/// With what probability a digit of token `i` was drawn, and the `top` most probable ones, which are tokens where each has one digit.
fn term(distribution: &TokenDistribution, i: usize, digit: u32, top: usize) -> TokenLogProb {
    let mut likeliest = Vec::new();
    if top > 0 {
        distribution.for_each_probability(|digit, p| likeliest.push((digit, p.ln())));
        likeliest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        likeliest.truncate(top);
    }
    TokenLogProb { token: i, nats: (-distribution.log_prob(digit)).max(0.0), top: likeliest }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use burn::tensor::Device;

    use super::*;
    use crate::backbone::autoregressive::{Autoregressive, AutoregressiveConfig, LoadedAutoregressive};
    use crate::backbone::weights::Weights;
    use crate::likelihood::{LikelihoodSettings, Sequences, exact_autoregressive};
    use crate::ops::Kernels;
    use crate::sampler::WithDigits;

    fn network(codes: &SubTokenizer) -> LoadedAutoregressive {
        let config = AutoregressiveConfig { hidden: 24, heads: 2, blocks: 2, seq_len: 8, dropout: 0.0 };
        let network = Autoregressive::new(config, codes, Kernels::FUSED).unwrap();
        let parameters = network.parameters();
        let draws = Draws::new(4, Purpose::Init);
        let values: Vec<Vec<f32>> = parameters
            .iter()
            .enumerate()
            .map(|(i, p)| (0..p.len()).map(|k| 0.3 * draws.normal(i as u64, k as u32, 0) as f32).collect())
            .collect();
        let weights = Weights::new(parameters, &values, &Device::flex());
        LoadedAutoregressive { network, weights }
    }

    fn numbered(
        prompt: &[Option<u32>],
        numbers: Range<u64>,
        recipe: AutoregressiveRecipe,
    ) -> Vec<AutoregressiveSequence> {
        numbers.map(|number| AutoregressiveSequence { prompt: prompt.into(), number, recipe }).collect()
    }

    fn tokens(
        network: &LoadedAutoregressive,
        predictive: &Predictive,
        sequences: Vec<AutoregressiveSequence>,
        batch: usize,
    ) -> Vec<Vec<u32>> {
        let finished = sample_autoregressive(network, predictive, sequences, batch).unwrap();
        finished.into_iter().map(|sequence| sequence.tokens).collect()
    }

    #[test]
    fn samples_do_not_depend_on_the_batch_and_are_valid_tokens() {
        let codes = SubTokenizer::new(37, 3).unwrap();
        let network = network(&codes);
        let predictive = Predictive::new(codes, true);
        let prompt = [Some(5), Some(36), None, None, None, None];
        let sharpening = Sharpening { temperature: 0.9, top_p: 0.95, ..Sharpening::default() };
        let sample = |batch| {
            let recipe = AutoregressiveRecipe { seed: 1, sharpening, ..AutoregressiveRecipe::default() };
            tokens(&network, &predictive, numbered(&prompt, 3..12, recipe), batch)
        };
        let one = sample(1);
        assert_eq!(one, sample(4));
        assert!(one.iter().all(|row| row[..2] == [5, 36] && row.iter().all(|x| *x < 37)));
        assert!(one.iter().any(|row| row != &one[0]));
    }

    #[test]
    fn at_temperature_zero_the_most_probable_digit_follows_whatever_the_seed() {
        let codes = SubTokenizer::new(37, 3).unwrap();
        let network = network(&codes);
        let predictive = Predictive::new(codes, true);
        let sample = |temperature, seed| {
            let sharpening = Sharpening { temperature, ..Sharpening::default() };
            let recipe = AutoregressiveRecipe { seed, sharpening, ..AutoregressiveRecipe::default() };
            tokens(&network, &predictive, numbered(&[None; 5], 0..3, recipe), 3)
        };
        let greedy = sample(0.0, 1);
        assert!(greedy.iter().all(|row| row == &greedy[0]));
        assert_eq!(greedy, sample(0.0, 2));
        assert_eq!(greedy, sample(1e-6, 3));
        assert_ne!(greedy, sample(1.0, 1));
    }

    #[test]
    fn text_after_a_hole_is_refused() {
        let codes = SubTokenizer::new(37, 1).unwrap();
        let network = network(&codes);
        let sequences = numbered(&[Some(1), None, Some(2)], 0..1, AutoregressiveRecipe::default());
        let predictive = Predictive::new(codes, true);
        let error = sample_autoregressive(&network, &predictive, sequences, 3).unwrap_err();
        assert!(error.to_string().contains("beginning only"), "{error}");
    }

    #[test]
    fn a_text_stops_at_its_end_and_every_text_by_itself() {
        let codes = SubTokenizer::new(5, 2).unwrap();
        let network = network(&codes);
        let predictive = Predictive::new(codes, true);
        let short = [Some(0), Some(2), None, None, None];
        let long = [Some(0), None, None, None, None, None, None, None];
        let sequences = |end| {
            let recipe = AutoregressiveRecipe { seed: 1, end, ..AutoregressiveRecipe::default() };
            [numbered(&long, 0..20, recipe), numbered(&short, 20..40, recipe)].concat()
        };
        let sample =
            |end, batch| sample_autoregressive(&network, &predictive, sequences(end), batch).unwrap();
        let (whole, ended) = (sample(None, 7), sample(Some(0), 7));
        assert_eq!(ended, sample(Some(0), 1));
        let mut fewer = 0;
        for (whole, ended) in whole.iter().zip(&ended) {
            let given = if whole.sequence < 20 { 1 } else { 2 };
            let place = first_end(whole.tokens.iter().map(|token| *token == 0), given);
            let tokens = place.map_or(whole.tokens.len(), |place| place + 1);
            assert_eq!(ended.tokens, whole.tokens[..tokens], "the same up to the end");
            let SampleReport { digits, evaluations, .. } = ended.report;
            assert_eq!((evaluations, digits), (2 * tokens as u64, 2 * (tokens - given) as u64));
            fewer += usize::from(tokens < whole.tokens.len());
        }
        assert!(fewer > 10, "{fewer} of 40 end early");
    }

    /// Sequences that come and go share evaluations, and each is what it is alone; what is told of one is how it came about, and
    /// its probabilities are those of the chain rule.
    #[test]
    fn sequences_join_and_leave_and_are_what_they_are_alone() {
        let codes = SubTokenizer::new(37, 3).unwrap();
        let network = network(&codes);
        let predictive = Predictive::new(codes, true);
        let recipe = |seed| AutoregressiveRecipe {
            seed,
            end: Some(3),
            log_probs: Some(0),
            ..AutoregressiveRecipe::default()
        };
        let prompts = [vec![Some(5), Some(3), None, None], vec![None; 8], vec![Some(1), None, None]];
        let sequence = |number: u64| AutoregressiveSequence {
            prompt: prompts[number as usize % 3].as_slice().into(),
            number,
            recipe: recipe(number % 2),
        };
        let alone: Vec<FinishedSequence> = (0..12)
            .flat_map(|number| sample_autoregressive(&network, &predictive, [sequence(number)], 1).unwrap())
            .collect();
        let mut stream = AutoregressiveStream::new(&network, &predictive, 4).unwrap().taking_turns();
        let (mut states, mut nats) = (vec![Vec::new(); 12], [0.0; 12]);
        let mut together: Vec<Option<FinishedSequence>> = vec![None; 12];
        for round in 0..200 {
            if round % 2 == 0 && round < 24 {
                assert_eq!(stream.add(sequence(round / 2)).unwrap(), round as usize / 2);
            }
            if round == 9 {
                // One on its way and one that waits, and neither twice.
                let gone =
                    [3, 4].map(|sequence| (stream.cancel(sequence).is_some(), stream.cancel(sequence)));
                assert_eq!(gone, [(true, None); 2]);
            }
            let mut observer = WithDigits(|event: &Event| {
                match *event {
                    Event::Started { sequence, y } => states[sequence] = y.to_vec(),
                    Event::Revealed { sequence, digits, settled, log_probs, time, step } => {
                        digits.iter().for_each(|&(digit, value)| states[sequence][digit] = value);
                        nats[sequence] += log_probs.iter().map(|term| term.nats).sum::<f64>();
                        assert_eq!(settled, (digits[0].0 + 1) / 3);
                        assert!(time > 0.0 && time <= 1.0 && (step > 0 || time == 1.0));
                    }
                    _ => {}
                }
                Ok(())
            });
            for one in stream.round(&mut observer).unwrap() {
                let sequence = one.sequence;
                assert!(together[sequence].replace(one).is_none());
            }
        }
        assert!(stream.is_empty());
        for (sequence, (together, alone)) in together.into_iter().zip(alone).enumerate() {
            if [3, 4].contains(&sequence) {
                assert_eq!(together, None);
                continue;
            }
            let together = together.unwrap();
            assert_eq!((&together.tokens, together.report), (&alone.tokens, alone.report));
            let written = together.tokens.len() * 3;
            assert_eq!(predictive.codes().decode(&states[sequence][..written]).unwrap(), together.tokens);
            let given = prompts[sequence % 3].iter().flatten().count() * 3;
            let given: Vec<bool> = (0..written).map(|digit| digit < given).collect();
            let scored = Sequences::new(&together.tokens, together.tokens.len()).unwrap().with_given(&given);
            let settings = LikelihoodSettings::default();
            let exact = exact_autoregressive(&network, &predictive, &scored, &settings).unwrap();
            assert!(
                (exact.nats()[0] - nats[sequence]).abs() < 1e-4,
                "{} {}",
                exact.nats()[0],
                nats[sequence]
            );
        }
    }

    #[test]
    fn probabilities_are_told_of_the_networks_own_draws_only() {
        let recipe = |log_probs, temperature| AutoregressiveRecipe {
            log_probs,
            sharpening: Sharpening { temperature, ..Sharpening::default() },
            ..AutoregressiveRecipe::default()
        };
        recipe(Some(5), 1.0).validate(1).unwrap();
        recipe(Some(0), 1.0).validate(2).unwrap();
        assert!(recipe(Some(1), 1.0).validate(2).is_err());
        assert!(recipe(Some(0), 0.5).validate(1).is_err());
    }
}
