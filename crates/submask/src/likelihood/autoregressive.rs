//! The exact likelihood of the autoregressive baseline: the chain rule, left to right.

use super::charge::{Term, keep_top};
use super::sequences::Target;
use super::{Estimate, Exact, LikelihoodSettings, Sequences, TopTokens};
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
    exact_autoregressive_with_top(network, predictive, sequences, 0, settings)
}

/// The same with the `top` most probable tokens in the place of every token, given those before it: [`Estimate::top_tokens`].
///
/// # Errors
/// As [`exact_autoregressive`], and [`Error::Invalid`] for more than 0 where a token has several sub-tokens: the network says
/// them one after the other, and no token as a whole.
pub fn exact_autoregressive_with_top(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    sequences: &Sequences,
    top: usize,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Exact>> {
    settings.validate()?;
    let codes = predictive.codes();
    if top > 0 && codes.subtoken_len() > 1 {
        let allowed =
            "0 for an autoregressive model of several sub-tokens per token, which says one after the other";
        return Err(Error::invalid("top", top, allowed));
    }
    sequences.by_length(network.spec(), codes, |group| {
        let encoded = group.encode(codes)?;
        let count = group.count();
        let firsts = (0..count).map(|s| first_open(&encoded.target(s))).collect::<Result<Vec<_>>>()?;
        let (mut nats, mut token_nats) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut top_tokens = Vec::new();
        for start in (0..count).step_by(settings.batch) {
            let end = start.saturating_add(settings.batch).min(count);
            let terms = terms(network, predictive, encoded.digits(start..end), end - start, top)?;
            for (own, &first) in terms.into_iter().zip(&firsts[start..end]) {
                nats.push(own[first..].iter().fold(0.0, |sum, term| sum + term.nats));
                token_nats.push(by_token(&own, first, codes.subtoken_len()));
                if top > 0 {
                    let charged = own.into_iter().enumerate();
                    let beside =
                        |(digit, term): (usize, Term)| if digit < first { Vec::new() } else { term.top };
                    top_tokens.push(charged.map(beside).collect());
                }
            }
        }
        let tokens = (0..count).map(|s| encoded.target(s).units(RevealUnit::Tokens).len() as u64).collect();
        let estimate = Estimate::new(nats, vec![0.0; count], tokens, count as u64);
        Ok(estimate.with_token_nats(token_nats).with_top_tokens(top_tokens))
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

/// −log p of each of `digits` [B, L·ℓ] given those before it, sequence by sequence, and the `top` most probable tokens beside.
fn terms(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    digits: &[u32],
    batch: usize,
    top: usize,
) -> Result<Vec<Vec<Term>>> {
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
        let terms = rows.map(|(row, (logits, &digit))| {
            let start = row - row % len;
            let allowed = next_digits(predictive, &digits[start..row]);
            let top = top_tokens(predictive, logits, &allowed, top)?;
            Ok(Term { nats: -log_prob(logits, &allowed, digit), top })
        });
        terms.collect()
    };
    logits.chunks_exact(run * base).zip(digits.chunks_exact(width)).map(of_sequence).collect()
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
fn by_token(terms: &[Term], first: usize, subtoken_len: usize) -> Vec<f64> {
    let charged = |(digit, term): (usize, &Term)| if digit < first { 0.0 } else { term.nats };
    let digits: Vec<f64> = terms.iter().enumerate().map(charged).collect();
    digits.chunks_exact(subtoken_len).map(|token| token.iter().fold(0.0, |sum, digit| sum + digit)).collect()
}

/// The `top` most probable of the tokens of one digit.
fn top_tokens(predictive: &Predictive, logits: &[f32], allowed: &[bool], top: usize) -> Result<TopTokens> {
    if top == 0 {
        return Ok(Vec::new());
    }
    let token = |digit: u32| predictive.codes().decode_token(&[digit]);
    let possible = (0..logits.len() as u32).filter(|digit| allowed[*digit as usize]);
    let mut tokens: TopTokens = possible
        .map(|digit| Ok((token(digit)?, f64::from(logits[digit as usize]))))
        .collect::<Result<_>>()?;
    keep_top(&mut tokens, top);
    for (token, value) in &mut tokens {
        *value = log_prob(logits, allowed, predictive.codes().digits(*token)[0]);
    }
    Ok(tokens)
}

/// log softmax over the allowed classes.
fn log_prob(logits: &[f32], allowed: &[bool], class: u32) -> f64 {
    let kept = || logits.iter().zip(allowed).filter(|(_, allowed)| **allowed).map(|(x, _)| f64::from(*x));
    let largest = kept().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = kept().map(|x| (x - largest).exp()).sum();
    f64::from(logits[class as usize]) - largest - total.ln()
}
