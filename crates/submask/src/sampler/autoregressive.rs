//! Sampling the autoregressive baseline: digit by digit, left to right, earlier keys and values kept.

use super::end::first_end;
use super::report::SampleReport;
use super::stream::FinishedSequence;
use crate::denoiser::Autoregressor;
use crate::predictive::{Predictive, Sharpening, next_digits};
use crate::random::{Draws, Purpose};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// A sequence to sample.
#[derive(Clone, Copy, Debug)]
pub struct AutoregressiveSequence<'a> {
    /// L tokens, given or not. Given tokens must come first: what follows cannot be known to this network.
    pub prompt: &'a [Option<u32>],
    /// Number of the sequence under the seed, the key of its draws.
    pub number: u64,
}

/// What is sampled from an autoregressive network.
#[derive(Clone, Debug)]
pub struct AutoregressiveRequest<'a> {
    /// The sequences, which may be of different lengths.
    pub sequences: &'a [AutoregressiveSequence<'a>],
    /// Sequences at once; the samples do not depend on it.
    pub batch: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Temperature, top-k and nucleus, of every digit; at temperature 0 the most probable digit is taken.
    pub sharpening: Sharpening,
    /// The token that ends a text: a sequence is complete with the first one behind everything that is given and behind
    /// those with which it begins. `None`: all sequences have their full length.
    pub end: Option<u32>,
}

/// Samples sequences of L tokens, in L·ℓ network evaluations each, or fewer where a text ends. Digits that would end in a
/// code that no token has are never drawn. The sequences come in the order of the request.
///
/// # Errors
/// [`Error::Invalid`] for a prompt that is too long, is empty, or has a given token after one that is not.
pub fn sample_autoregressive(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    request: &AutoregressiveRequest,
) -> Result<Vec<FinishedSequence>> {
    request.sharpening.validate()?;
    let longest = network.spec().max_seq_len();
    let begin = |(sequence, asked)| Row::new(sequence, asked, longest);
    let mut rows = request.sequences.iter().enumerate().map(begin).collect::<Result<Vec<_>>>()?;
    // Sequences of one length make full batches.
    rows.sort_by_key(|row| row.prompt.len());
    let writer = Writer {
        network,
        codes: predictive.codes(),
        predictive,
        // The draw of a digit is one over b classes: a distribution over single sub-tokens.
        digits: Predictive::new(SubTokenizer::new(network.base(), 1)?, true),
        draws: Draws::new(request.seed, Purpose::Token),
        request,
    };
    rows.chunks_mut(request.batch.max(1)).try_for_each(|rows| writer.write(rows))?;
    rows.sort_by_key(|row| row.sequence);
    Ok(rows.into_iter().map(|row| row.finished(predictive.codes().subtoken_len())).collect())
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
struct Row<'a> {
    /// Its place in the request.
    sequence: usize,
    number: u64,
    prompt: &'a [Option<u32>],
    /// How many tokens are given.
    given: usize,
    digits: Vec<u32>,
    tokens: Vec<u32>,
    is_done: bool,
}

impl<'a> Row<'a> {
    fn new(sequence: usize, asked: &AutoregressiveSequence<'a>, longest: usize) -> Result<Self> {
        let AutoregressiveSequence { prompt, number } = *asked;
        if prompt.is_empty() || prompt.len() > longest {
            let allowed = format!("1 to {longest} tokens, the model's length");
            return Err(Error::invalid("sequence length", prompt.len(), allowed));
        }
        let given = given_tokens(prompt)?;
        let (digits, tokens) = (Vec::new(), Vec::new());
        Ok(Self { sequence, number, prompt, given, digits, tokens, is_done: false })
    }

    /// Appends a digit; with a token, notes whether the sequence is complete.
    fn push(&mut self, digit: u32, codes: &SubTokenizer, end: Option<u32>) -> Result<()> {
        self.digits.push(digit);
        let len = codes.subtoken_len();
        if !self.digits.len().is_multiple_of(len) {
            return Ok(());
        }
        self.tokens.push(codes.decode_token(&self.digits[self.digits.len() - len..])?);
        let is_end = |token: &u32| Some(*token) == end;
        let may_end = self.tokens.last().is_some_and(is_end);
        let ends = may_end && first_end(self.tokens.iter().map(is_end), self.given).is_some();
        self.is_done = ends || self.tokens.len() == self.prompt.len();
        Ok(())
    }

    fn finished(self, subtoken_len: usize) -> FinishedSequence {
        let evaluations = self.digits.len() as u64;
        let report = SampleReport {
            sequences: 1,
            digits: evaluations - (self.given * subtoken_len) as u64,
            evaluations,
            positions: evaluations,
            steps_total: evaluations,
            ..SampleReport::default()
        };
        FinishedSequence { sequence: self.sequence, tokens: self.tokens, report }
    }
}

/// What all sequences of a request share.
struct Writer<'a> {
    network: &'a dyn Autoregressor,
    predictive: &'a Predictive,
    codes: &'a SubTokenizer,
    /// Single sub-tokens.
    digits: Predictive,
    draws: Draws,
    request: &'a AutoregressiveRequest<'a>,
}

impl Writer<'_> {
    /// Writes the sequences of a batch; those that are complete leave it.
    fn write(&self, rows: &mut [Row]) -> Result<()> {
        let base = self.network.base();
        let mut continuation = self.network.begin();
        let mut rows: Vec<&mut Row> = rows.iter_mut().collect();
        while !rows.is_empty() {
            let inputs: Vec<u32> =
                rows.iter().map(|row| row.digits.last().copied().unwrap_or(base as u32)).collect();
            let logits = continuation.next_logits(&inputs)?;
            for (row, logits) in rows.iter_mut().zip(logits.chunks_exact(base)) {
                row.push(self.next_digit(row, logits)?, self.codes, self.request.end)?;
            }
            let kept: Vec<usize> = (0..rows.len()).filter(|b| !rows[*b].is_done).collect();
            if (1..rows.len()).contains(&kept.len()) {
                continuation.keep(&kept);
            }
            rows.retain(|row| !row.is_done);
        }
        Ok(())
    }

    /// The digit that follows those of a row: given, or drawn by `logits` \[b\].
    fn next_digit(&self, row: &Row, logits: &[f32]) -> Result<u32> {
        let (len, base) = (self.codes.subtoken_len(), self.network.base());
        let position = row.digits.len();
        if let Some(token) = row.prompt[position / len] {
            return Ok(self.codes.encode(&[token])?[position % len]);
        }
        let allowed = next_digits(self.predictive, &row.digits[position - position % len..]);
        let mut logits = logits.to_vec();
        for (logit, allowed) in logits.iter_mut().zip(allowed) {
            *logit = if allowed { *logit } else { f32::NEG_INFINITY };
        }
        let sharpening = &self.request.sharpening;
        let distribution = self.digits.distribution_at(&logits, &[base as u32], sharpening.temperature);
        let uniform = self.draws.uniform(row.number, position as u32, 0);
        Ok(distribution.truncate(sharpening).draw(uniform))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use burn::tensor::Device;

    use super::*;
    use crate::backbone::autoregressive::{Autoregressive, AutoregressiveConfig, LoadedAutoregressive};
    use crate::backbone::weights::Weights;
    use crate::ops::Kernels;

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

    fn numbered(prompt: &[Option<u32>], numbers: Range<u64>) -> Vec<AutoregressiveSequence<'_>> {
        numbers.map(|number| AutoregressiveSequence { prompt, number }).collect()
    }

    fn request<'a>(sequences: &'a [AutoregressiveSequence<'a>]) -> AutoregressiveRequest<'a> {
        let sharpening = Sharpening::default();
        AutoregressiveRequest { sequences, batch: 3, seed: 1, sharpening, end: None }
    }

    fn tokens(
        network: &LoadedAutoregressive,
        predictive: &Predictive,
        request: &AutoregressiveRequest,
    ) -> Vec<Vec<u32>> {
        let finished = sample_autoregressive(network, predictive, request).unwrap();
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
            let sequences = numbered(&prompt, 3..12);
            let request = AutoregressiveRequest { batch, seed: 1, sharpening, ..request(&sequences) };
            tokens(&network, &predictive, &request)
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
            let sequences = numbered(&[None; 5], 0..3);
            let sharpening = Sharpening { temperature, ..Sharpening::default() };
            tokens(&network, &predictive, &AutoregressiveRequest { seed, sharpening, ..request(&sequences) })
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
        let sequences = numbered(&[Some(1), None, Some(2)], 0..1);
        let predictive = Predictive::new(codes, true);
        let error = sample_autoregressive(&network, &predictive, &request(&sequences)).unwrap_err();
        assert!(error.to_string().contains("beginning only"), "{error}");
    }

    #[test]
    fn a_text_stops_at_its_end_and_every_text_by_itself() {
        let codes = SubTokenizer::new(5, 2).unwrap();
        let network = network(&codes);
        let predictive = Predictive::new(codes, true);
        let short = [Some(0), Some(2), None, None, None];
        let long = [Some(0), None, None, None, None, None, None, None];
        let sequences = [numbered(&long, 0..20), numbered(&short, 20..40)].concat();
        let sample = |end, batch| {
            let request = AutoregressiveRequest { end, batch, ..request(&sequences) };
            sample_autoregressive(&network, &predictive, &request).unwrap()
        };
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
}
