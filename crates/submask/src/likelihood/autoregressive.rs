//! The exact likelihood of the autoregressive baseline: the chain rule, left to right.

use super::{Estimate, Exact, LikelihoodSettings, Sequences};
use crate::denoiser::Autoregressor;
use crate::predictive::{Predictive, next_digits};
use crate::{Error, Result};

/// −log p(x_0) = −Σ log p(digit | digits before it) over the digits that are not given; one network evaluation per sequence
/// gives all conditionals. Digits that would end in a code that no token has get no probability, as in the
/// sampler.
///
/// # Errors
/// [`Error::Invalid`] for sequences longer than the network's, and where something is given behind what is not;
/// [`Error::InvalidCode`] for tokens outside the
/// vocabulary.
pub fn exact_autoregressive(
    network: &dyn Autoregressor,
    predictive: &Predictive,
    sequences: &Sequences,
    settings: &LikelihoodSettings,
) -> Result<Estimate<Exact>> {
    settings.validate()?;
    let (codes, longest) = (predictive.codes(), network.spec().max_seq_len());
    if sequences.seq_len > longest {
        let allowed = format!("1 to {longest} tokens, the model's length");
        return Err(Error::invalid("sequence length", sequences.seq_len, allowed));
    }
    let given = sequences.beginnings(codes.subtoken_len())?;
    let mut nats = Vec::with_capacity(sequences.count());
    for part in sequences
        .x_0
        .chunks(settings.batch.saturating_mul(sequences.seq_len) / sequences.seq_len * sequences.seq_len)
    {
        let batch = part.len() / sequences.seq_len;
        let digits = codes.encode(part)?;
        let inputs = network.shifted(&digits, batch);
        let logits = network.logits(&inputs, batch)?;
        let base = network.base();
        let rows: Vec<f64> = logits
            .chunks_exact(base)
            .enumerate()
            .map(|(row, logits)| {
                let (token, j) = (row / codes.subtoken_len(), row % codes.subtoken_len());
                let start = token * codes.subtoken_len();
                let allowed = next_digits(predictive, &digits[start..start + j]);
                log_prob(logits, &allowed, digits[row])
            })
            .collect();
        let own = &given[nats.len()..nats.len() + batch];
        let rows = rows.chunks_exact(digits.len() / batch).zip(own);
        nats.extend(rows.map(|(row, given)| -row[*given..].iter().sum::<f64>()));
    }
    let count = nats.len();
    let generated = |given: &usize| (sequences.seq_len - given / codes.subtoken_len()) as u64;
    let tokens = given.iter().map(generated).collect();
    Ok(Estimate::new(nats, vec![0.0; count], tokens, count as u64))
}

/// log softmax over the allowed classes.
fn log_prob(logits: &[f32], allowed: &[bool], class: u32) -> f64 {
    let kept = || logits.iter().zip(allowed).filter(|(_, allowed)| **allowed).map(|(x, _)| f64::from(*x));
    let largest = kept().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = kept().map(|x| (x - largest).exp()).sum();
    f64::from(logits[class as usize]) - largest - total.ln()
}
