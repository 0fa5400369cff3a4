//! The exact likelihood of the autoregressive baseline: the chain rule, left to right.

use super::sequences::Target;
use super::{Estimate, Exact, LikelihoodSettings, Sequences};
use crate::denoiser::Autoregressor;
use crate::predictive::{Predictive, next_digits};
use crate::schedule::RevealUnit;
use crate::{Error, Result};

/// −log p(x_0) = −Σ log p(digit | digits before it) over the digits that are not given; one network evaluation per sequence
/// gives all conditionals. Digits that would end in a code that no token has get no probability, as in the
/// sampler. The estimate has the charge of every token, [`Estimate::token_nats`].
///
/// # Errors
/// [`Error::Invalid`] for sequences longer than the network's, and where something is given behind what is not: the network
/// goes from left to right. [`Error::InvalidCode`] for tokens outside the vocabulary.
pub fn exact_autoregressive(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Exact>> {
    settings.validate()?;
    let codes = predictive.codes();
    sequences.by_length(network.spec(), codes, |group| {
        let encoded = group.encode(codes)?;
        let count = group.count();
        let firsts = (0..count).map(|s| first_open(&encoded.target(s))).collect::<Result<Vec<_>>>()?;
        let (mut nats, mut token_nats) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for start in (0..count).step_by(settings.batch) {
            let end = start.saturating_add(settings.batch).min(count);
            let log_probs = log_probs(network, predictive, encoded.digits(start..end), end - start)?;
            for (own, &first) in log_probs.iter().zip(&firsts[start..end]) {
                nats.push(-own[first..].iter().sum::<f64>());
                token_nats.push(by_token(own, first, codes.subtoken_len()));
            }
        }
        let tokens = (0..count).map(|s| encoded.target(s).units(RevealUnit::Tokens).len() as u64).collect();
        Ok(Estimate::new(nats, vec![0.0; count], tokens, count as u64).with_token_nats(token_nats))
    })
}

/// The first digit that is charged; all behind it are, too.
fn first_open(target: &Target) -> Result<usize> {
    let open = target.units(RevealUnit::Digits);
    let first = target.y_0.len() - open.len();
    match open.first().is_none_or(|open| *open == first) {
        true => Ok(first),
        false => {
            let allowed =
                "a beginning: an autoregressive network continues what is given, from left to right";
            Err(Error::invalid("given", "sub-tokens behind others that are not", allowed))
        }
    }
}

/// log p of each of `digits` [B, L·ℓ] given those before it, sequence by sequence.
fn log_probs(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    digits: &[u32],
    batch: usize,
) -> Result<Vec<Vec<f64>>> {
    let (len, base) = (predictive.codes().subtoken_len(), network.base());
    let width = digits.len() / batch;
    let run = run_len(width / len, len, network.spec().max_seq_len()) * len;
    let mut padded = Vec::with_capacity(batch * run);
    for own in digits.chunks_exact(width) {
        padded.extend_from_slice(own);
        padded.resize(padded.len() + run - width, 0);
    }
    let logits = network.logits(&network.shifted(&padded, batch), batch)?;
    let of_sequence = |(logits, digits): (&[f32], &[u32])| {
        let rows = logits.chunks_exact(base).zip(digits).enumerate();
        let log_probs = rows.map(|(row, (logits, &digit))| {
            let start = row - row % len;
            log_prob(logits, &next_digits(predictive, &digits[start..row]), digit)
        });
        log_probs.collect()
    };
    Ok(logits.chunks_exact(run * base).zip(digits.chunks_exact(width)).map(of_sequence).collect())
}

/// Sub-tokens below which products of matrices take other paths than above, and round otherwise.
const SHORT: usize = 32;

/// Sub-tokens above which products of matrices are summed in blocks whose sizes depend on their number.
const LONG: usize = 256;

/// Tokens on which the network runs for a sequence of `tokens`. What stands behind a digit does not matter to it but for
/// rounding, which depends on the length: so short sequences are filled up a little and long ones to the network's length,
/// and a beginning has the same terms alone as in the whole.
fn run_len(tokens: usize, subtoken_len: usize, longest: usize) -> usize {
    match tokens * subtoken_len {
        ..=LONG => tokens.max(SHORT.div_ceil(subtoken_len)).min(longest),
        _ => longest,
    }
}

/// −log p of the digits of every token, those before `first` left out.
fn by_token(log_probs: &[f64], first: usize, subtoken_len: usize) -> Vec<f64> {
    let charged = |(digit, log_prob): (usize, &f64)| if digit < first { 0.0 } else { *log_prob };
    let digits: Vec<f64> = log_probs.iter().enumerate().map(charged).collect();
    digits.chunks_exact(subtoken_len).map(|token| token.iter().fold(0.0, |sum, digit| sum - digit)).collect()
}

/// log softmax over the allowed classes.
fn log_prob(logits: &[f32], allowed: &[bool], class: u32) -> f64 {
    let kept = || logits.iter().zip(allowed).filter(|(_, allowed)| **allowed).map(|(x, _)| f64::from(*x));
    let largest = kept().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = kept().map(|x| (x - largest).exp()).sum();
    f64::from(logits[class as usize]) - largest - total.ln()
}
