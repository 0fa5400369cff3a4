//! Sampling the autoregressive baseline: digit by digit, left to right, earlier keys and values kept.

use crate::denoiser::Autoregressor;
use crate::predictive::{Predictive, Sharpening, next_digits};
use crate::random::{Draws, Purpose};
use crate::subtoken::SubTokenizer;
use crate::{Error, Result};

/// What is sampled from an autoregressive network.
#[derive(Clone, Debug)]
pub struct AutoregressiveRequest<'a> {
    /// L tokens, given or not. Given tokens must come first: what follows cannot be known to this network.
    pub prompt: &'a [Option<u32>],
    /// Sequences.
    pub count: usize,
    /// Number of the first sequence, the key of its draws.
    pub first_index: u64,
    /// Sequences at once; the samples do not depend on it.
    pub batch: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Temperature, top-k and nucleus, of every digit; at temperature 0 the most probable digit is taken.
    pub sharpening: Sharpening,
}

/// Samples `count` sequences of L tokens; L·ℓ network evaluations each. Digits that would end in a code that no
/// token has are never drawn.
///
/// # Errors
/// [`Error::Invalid`] for a prompt that is too long, is empty, or has a given token after one that is not.
pub fn sample_autoregressive(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    request: &AutoregressiveRequest,
) -> Result<Vec<Vec<u32>>> {
    request.sharpening.validate()?;
    let longest = network.spec().max_seq_len();
    if request.prompt.is_empty() || request.prompt.len() > longest {
        let allowed = format!("1 to {longest} tokens, the model's length");
        return Err(Error::invalid("sequence length", request.prompt.len(), allowed));
    }
    let given = request.prompt.iter().take_while(|token| token.is_some()).count();
    if request.prompt[given..].iter().any(Option::is_some) {
        let allowed = "a beginning only: an autoregressive model cannot fill a hole before given text";
        return Err(Error::invalid("prompt", "given text after a hole", allowed));
    }
    // The draw of a digit is one over b classes: a distribution over single sub-tokens.
    let digits = Predictive::new(SubTokenizer::new(network.base(), 1)?, true);
    let mut samples = Vec::with_capacity(request.count);
    while samples.len() < request.count {
        let size = request.batch.max(1).min(request.count - samples.len());
        let first = request.first_index + samples.len() as u64;
        samples.extend(sample_batch(network, predictive, &digits, request, first, size)?);
    }
    Ok(samples)
}

fn sample_batch(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    digits: &Predictive,
    request: &AutoregressiveRequest,
    first: u64,
    size: usize,
) -> Result<Vec<Vec<u32>>> {
    let codes = predictive.codes();
    let (len, base) = (codes.subtoken_len(), network.base());
    let draws = Draws::new(request.seed, Purpose::Token);
    let mut continuation = network.begin();
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); size];
    for position in 0..request.prompt.len() * len {
        let inputs: Vec<u32> = rows.iter().map(|row| row.last().copied().unwrap_or(base as u32)).collect();
        let logits = continuation.next_logits(&inputs)?;
        for (b, row) in rows.iter_mut().enumerate() {
            let digit = match request.prompt[position / len] {
                Some(token) => codes.encode(&[token])?[position % len],
                None => {
                    let allowed = next_digits(predictive, &row[row.len() - position % len..]);
                    let mut logits = logits[b * base..(b + 1) * base].to_vec();
                    for (logit, allowed) in logits.iter_mut().zip(allowed) {
                        *logit = if allowed { *logit } else { f32::NEG_INFINITY };
                    }
                    let Sharpening { temperature, top_p, top_k } = request.sharpening;
                    let distribution = digits.distribution_at(&logits, &[base as u32], temperature);
                    let uniform = draws.uniform(first + b as u64, position as u32, 0);
                    distribution.truncate(top_k, top_p).draw(uniform)
                }
            };
            row.push(digit);
        }
    }
    rows.iter().map(|row| codes.decode(row)).collect()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn samples_do_not_depend_on_the_batch_and_are_valid_tokens() {
        let codes = SubTokenizer::new(37, 3).unwrap();
        let network = network(&codes);
        let predictive = Predictive::new(codes, true);
        let prompt = [Some(5), Some(36), None, None, None, None];
        let sample = |batch| {
            let request = AutoregressiveRequest {
                prompt: &prompt,
                count: 9,
                first_index: 3,
                batch,
                seed: 1,
                sharpening: Sharpening { temperature: 0.9, top_p: 0.95, top_k: None },
            };
            sample_autoregressive(&network, &predictive, &request).unwrap()
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
            let request = AutoregressiveRequest {
                prompt: &[None; 5],
                count: 3,
                first_index: 0,
                batch: 3,
                seed,
                sharpening: Sharpening { temperature, ..Sharpening::default() },
            };
            sample_autoregressive(&network, &predictive, &request).unwrap()
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
        let request = AutoregressiveRequest {
            prompt: &[Some(1), None, Some(2)],
            count: 1,
            first_index: 0,
            batch: 1,
            seed: 1,
            sharpening: Sharpening::default(),
        };
        let error = sample_autoregressive(&network, &Predictive::new(codes, true), &request).unwrap_err();
        assert!(error.to_string().contains("beginning only"), "{error}");
    }
}
