//! A uniform mixture of networks, for instance of one network conditioned on each of K labels.

use std::ops::Range;

use rayon::prelude::*;

use crate::backbone::Denoiser;
use crate::schedule::TemperatureSchedule;
use crate::{Error, Result};

/// p̄(x_0^i | y_t) = 1/K · Σ_k p_k(x_0^i | y_t), the mean of K networks' predictions, as one network (math.md §8).
///
/// Its logits are log p̄: the logarithm of the mean of the K softmaxes, without any constraint. So a temperature of the
/// sampler divides log p̄, and carry-over is applied to p̄. With [`Self::with_temperature`] every network's own logits
/// are divided by τ before the mean, as the published sampler does; the sampler's temperature is then left at 1.
pub struct MixtureDenoiser<'a> {
    networks: Vec<&'a dyn Denoiser>,
    temperature: TemperatureSchedule,
}

impl<'a> MixtureDenoiser<'a> {
    /// The mixture of `networks`, all alike in C and ℓ.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none or they differ in C or ℓ.
    pub fn new(networks: &[&'a dyn Denoiser]) -> Result<Self> {
        let Some(first) = networks.first() else {
            return Err(Error::invalid("mixture", "0 networks", "at least 1"));
        };
        let sizes = |network: &dyn Denoiser| (network.vocab_size(), network.subtoken_len());
        if let Some(other) = networks.iter().find(|network| sizes(**network) != sizes(*first)) {
            return Err(Error::invalid(
                "mixture",
                format!("a network of {} tokens of {} sub-tokens", other.vocab_size(), other.subtoken_len()),
                format!("{} tokens of {} sub-tokens, as the first", first.vocab_size(), first.subtoken_len()),
            ));
        }
        Ok(Self { networks: networks.to_vec(), temperature: TemperatureSchedule::default() })
    }

    /// The same with every network's logits divided by τ(1 − t) before the mean.
    pub fn with_temperature(mut self, temperature: TemperatureSchedule) -> Self {
        self.temperature = temperature;
        self
    }

    /// Adds the log-probabilities of one network's `logits` to `sums` = log Σ p, both [n, C].
    fn add(&self, sums: &mut [f32], logits: &[f32], times: impl Fn(usize) -> f64 + Sync) {
        let vocab_size = self.vocab_size();
        let rows = sums.par_chunks_mut(vocab_size).zip(logits.par_chunks(vocab_size)).enumerate();
        rows.with_min_len((1 << 14) / vocab_size + 1).for_each(|(row, (sums, logits))| {
            let temperature = self.temperature.at(times(row));
            let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            let scaled = |logit: f32| (f64::from(logit) - f64::from(largest)) / temperature;
            let total = logits.iter().map(|logit| scaled(*logit).exp()).sum::<f64>().ln();
            for (sum, logit) in sums.iter_mut().zip(logits) {
                *sum = log_add(f64::from(*sum), scaled(*logit) - total) as f32;
            }
        });
    }
}

/// log(eᵃ + eᵇ).
fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

impl Denoiser for MixtureDenoiser<'_> {
    fn vocab_size(&self) -> usize {
        self.networks[0].vocab_size()
    }

    fn subtoken_len(&self) -> usize {
        self.networks[0].subtoken_len()
    }

    fn max_seq_len(&self) -> usize {
        self.networks.iter().map(|network| network.max_seq_len()).min().unwrap_or(0)
    }

    fn reads_time(&self) -> bool {
        let constant = self.temperature.scale == 0.0 || self.temperature.exponent == 0.0;
        !constant || self.networks.iter().any(|network| network.reads_time())
    }

    fn evaluate(
        &self,
        y_t: &[u32],
        t: &[f64],
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let vocab_size = self.vocab_size();
        let seq_len = y_t.len() / (t.len() * self.subtoken_len());
        let mut sums = vec![f32::NEG_INFINITY; positions.len() * vocab_size];
        for network in &self.networks {
            network.evaluate(y_t, t, positions, &mut |range, logits| {
                let first = range.start;
                let sums = &mut sums[first * vocab_size..range.end * vocab_size];
                self.add(sums, logits, |row| t[positions[first + row] / seq_len]);
                Ok(())
            })?;
        }
        let count = (self.networks.len() as f32).ln();
        sums.par_iter_mut().for_each(|sum| *sum -= count);
        rows(0..positions.len(), &sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same logits at every position, times 1 + t.
    struct Fixed(Vec<f32>);

    impl Denoiser for Fixed {
        fn vocab_size(&self) -> usize {
            self.0.len()
        }

        fn subtoken_len(&self) -> usize {
            1
        }

        fn max_seq_len(&self) -> usize {
            4
        }

        fn reads_time(&self) -> bool {
            true
        }

        fn evaluate(
            &self,
            _: &[u32],
            t: &[f64],
            positions: &[usize],
            rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
        ) -> Result<()> {
            for (k, position) in positions.iter().enumerate() {
                let scale = 1.0 + t[position / 4] as f32;
                rows(k..k + 1, &self.0.iter().map(|logit| logit * scale).collect::<Vec<_>>())?;
            }
            Ok(())
        }
    }

    fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
        let weights: Vec<f64> = logits.iter().map(|logit| (f64::from(*logit) / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    #[test]
    fn probabilities_are_the_mean_of_the_networks() {
        let networks = [Fixed(vec![0.0, 3.0, -1.0]), Fixed(vec![2.0, f32::NEG_INFINITY, 0.5])];
        let mixture = MixtureDenoiser::new(&[&networks[0], &networks[1], &networks[1]]).unwrap();
        for temperature in [None, Some(TemperatureSchedule::from([-0.5, 1.0, 1.0]))] {
            let mixture = match temperature {
                None => MixtureDenoiser::new(&[&networks[0], &networks[1], &networks[1]]).unwrap(),
                Some(schedule) => MixtureDenoiser::new(&[&networks[0], &networks[1], &networks[1]])
                    .unwrap()
                    .with_temperature(schedule),
            };
            let mut seen = Vec::new();
            mixture
                .evaluate(&[3; 8], &[0.25, 0.75], &[1, 6], &mut |_, logits| {
                    seen.extend_from_slice(logits);
                    Ok(())
                })
                .unwrap();
            for (logits, t) in seen.chunks(3).zip([0.25, 0.75]) {
                let tau = temperature.map_or(1.0, |schedule| schedule.at(t));
                let p = |k: usize| {
                    softmax(&networks[k].0.iter().map(|l| l * (1.0 + t as f32)).collect::<Vec<_>>(), tau)
                };
                for x in 0..3 {
                    let mean = (p(0)[x] + 2.0 * p(1)[x]) / 3.0;
                    assert!((f64::from(logits[x]).exp() - mean).abs() < 1e-6, "{logits:?} {x} {mean}");
                }
            }
        }
        assert_eq!((mixture.vocab_size(), mixture.subtoken_len(), mixture.max_seq_len()), (3, 1, 4));
    }

    #[test]
    fn one_network_is_itself_up_to_a_constant() {
        let network = Fixed(vec![100.0, -100.0, 3.0]);
        let mixture = MixtureDenoiser::new(&[&network]).unwrap();
        mixture
            .evaluate(&[3; 4], &[0.0], &[0], &mut |_, logits| {
                assert!(
                    (logits[0] - logits[1] - 200.0).abs() < 1e-3
                        && (logits[0] - logits[2] - 97.0).abs() < 1e-3
                );
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn mixtures_of_nothing_and_of_unlike_networks_are_refused() {
        assert!(MixtureDenoiser::new(&[]).is_err());
        let error = MixtureDenoiser::new(&[&Fixed(vec![0.0; 3]), &Fixed(vec![0.0; 4])]).err().unwrap();
        assert!(error.to_string().contains("4 tokens"), "{error}");
    }
}
