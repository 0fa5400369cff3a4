//! A uniform mixture of networks, for instance of one network conditioned on each of K labels.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::denoiser::{BlocksAt, Denoiser, DeviceRows, DrawingDevice, Spec, States};
use crate::ops::add_prediction;
use crate::schedule::TemperatureSchedule;
use crate::{Error, Result};

/// p̄(x_0^i | y_t) = 1/K · Σ_k p_k(x_0^i | y_t), the mean of K networks' predictions, as one network (math.md §8).
///
/// Its logits are log p̄: the logarithm of the mean of the K softmaxes, without any constraint. So a temperature of the
/// sampler divides log p̄, and carry-over is applied to p̄. With [`Self::with_temperature`] every network's own logits
/// are divided by τ before the mean, as the published sampler does; the sampler's temperature is then left at 1.
pub struct MixtureDenoiser<'a> {
    members: Vec<Member<'a>>,
    spec: Spec,
    temperature: TemperatureSchedule,
}

/// One of the predictions that are averaged.
struct Member<'a> {
    network: &'a dyn Denoiser,
    /// The class that the network is told of every sequence; `None`: what the sampler says.
    label: Option<usize>,
}

impl<'a> MixtureDenoiser<'a> {
    /// The mixture of `networks`, all alike in C and ℓ.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none or they differ in C or ℓ.
    pub fn new(networks: &[&'a dyn Denoiser]) -> Result<Self> {
        Self::of_members(networks.iter().map(|network| Member { network: *network, label: None }).collect())
    }

    /// The mixture of one network's predictions given each of its classes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a network that reads no labels.
    pub fn of_classes(network: &'a dyn Denoiser) -> Result<Self> {
        let Some(classes) = network.spec().classes else {
            return Err(Error::invalid("label", "mixture", "none: the network takes no labels"));
        };
        Self::of_members((0..classes).map(|label| Member { network, label: Some(label) }).collect())
    }

    fn of_members(members: Vec<Member<'a>>) -> Result<Self> {
        let Some(first) = members.first() else {
            return Err(Error::invalid("mixture", "0 networks", "at least 1"));
        };
        let mut spec = first.network.spec().clone();
        for other in members.iter().map(|member| member.network.spec()) {
            if (other.vocab_size, other.subtoken_len) != (spec.vocab_size, spec.subtoken_len) {
                let sizes =
                    |spec: &Spec| format!("{} tokens of {} sub-tokens", spec.vocab_size, spec.subtoken_len);
                let given = format!("a network of {}", sizes(other));
                return Err(Error::invalid("mixture", given, format!("{}, as the first", sizes(&spec))));
            }
            if other.block_len > 0 {
                return Err(Error::invalid("mixture", "a network with blocks", "networks without blocks"));
            }
            let (start, end) = (*spec.seq_lens.start(), *spec.seq_lens.end());
            spec.seq_lens = start.max(*other.seq_lens.start())..=end.min(*other.seq_lens.end());
            spec.reads_time |= other.reads_time;
        }
        Ok(Self { members, spec, temperature: TemperatureSchedule::default() })
    }

    /// The same with every network's logits divided by τ(1 − t) before the mean.
    pub fn with_temperature(mut self, temperature: TemperatureSchedule) -> Self {
        let constant = temperature.scale == 0.0 || temperature.exponent == 0.0;
        self.spec.reads_time |= !constant;
        self.temperature = temperature;
        self
    }

    /// Adds the log-probabilities of one network's `logits` to `sums` = log Σ p, both [n, C].
    fn add(&self, sums: &mut [f32], logits: &[f32], times: impl Fn(usize) -> f64 + Sync) {
        let vocab_size = self.spec.vocab_size;
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

/// The times of the sequences, `lengths` \[B\] tokens each, to which `positions` belong, which stand in the order of these.
fn times(states: &States, lengths: &[usize], positions: &[usize]) -> Vec<f64> {
    let (mut sequence, mut end) = (0, lengths.first().copied().unwrap_or(0));
    let time = |position: &usize| {
        while *position >= end && sequence + 1 < lengths.len() {
            sequence += 1;
            end += lengths[sequence];
        }
        states.t[sequence]
    };
    positions.iter().map(time).collect()
}

/// log(eᵃ + eᵇ).
fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

impl Denoiser for MixtureDenoiser<'_> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn evaluate(
        &self,
        states: &States,
        positions: &[usize],
        rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let Spec { vocab_size, subtoken_len, .. } = self.spec;
        let seq_len = states.seq_len(subtoken_len);
        let mut sums = vec![f32::NEG_INFINITY; positions.len() * vocab_size];
        for member in &self.members {
            let labels = member.labels(states);
            let states = States { labels: labels.as_deref().or(states.labels), ..*states };
            member.network.evaluate(&states, positions, &mut |range, logits| {
                let first = range.start;
                let sums = &mut sums[first * vocab_size..range.end * vocab_size];
                self.add(sums, logits, |row| states.t[positions[first + row] / seq_len]);
                Ok(())
            })?;
        }
        let count = (self.members.len() as f32).ln();
        sums.par_iter_mut().for_each(|sum| *sum -= count);
        rows(0..positions.len(), &sums)
    }

    fn drawing_device(&self) -> Option<&dyn DrawingDevice> {
        // One for all, on which their predictions are added up.
        let mut devices = self.members.iter().map(|member| Some(member.network.drawing_device()?.device()));
        let first = devices.next().flatten()?;
        devices.all(|other| other.as_ref() == Some(&first)).then_some(self)
    }
}

impl DrawingDevice for MixtureDenoiser<'_> {
    fn device(&self) -> Device {
        let first = self.members.iter().find_map(|member| member.network.drawing_device());
        first.map_or_else(Device::flex, DrawingDevice::device)
    }

    fn takes_lengths(&self) -> bool {
        let takes =
            |member: &Member| member.network.drawing_device().is_some_and(DrawingDevice::takes_lengths);
        self.members.iter().all(takes)
    }

    fn logits_of_each(
        &self,
        states: &States,
        lengths: &[usize],
        positions: &[usize],
        rows: DeviceRows,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let (n, device) = (positions.len(), DrawingDevice::device(self));
        let times = times(states, lengths, positions);
        let temperatures: Vec<f32> = times.into_iter().map(|t| self.temperature.at(t) as f32).collect();
        let temperatures = Tensor::<1>::from_data(TensorData::new(temperatures, [n]), &device);
        let mut sums = Tensor::<2>::full([n, self.spec.vocab_size], f32::NEG_INFINITY, &device);
        for member in &self.members {
            let labels = member.labels(states);
            let states = States { labels: labels.as_deref().or(states.labels), ..*states };
            let network = member.network.drawing_device().ok_or("another device");
            let network = network.map_err(Error::internal("a network on the mixture's device"))?;
            let mut chunks = Vec::new();
            network.logits_of_each(&states, lengths, positions, &mut |_, logits| chunks.push(logits))?;
            let logits = if chunks.len() == 1 { chunks.remove(0) } else { Tensor::cat(chunks, 0) };
            sums = add_prediction(sums, logits, temperatures.clone(), 1.0 / self.members.len() as f64);
        }
        rows(0..n, sums);
        Ok(())
    }

    fn logits_after_each(&self, _: &[BlocksAt], _: &States, _: &[usize], _: DeviceRows) -> Result<()> {
        Err(Error::invalid("mixture", "networks with blocks", "networks without blocks"))
    }
}

impl Member<'_> {
    /// The labels that the network is told of the sequences instead of theirs.
    fn labels(&self, states: &States) -> Option<Vec<usize>> {
        self.label.map(|label| vec![label; states.t.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subtoken::SubTokenizer;

    /// The same logits at every position, times 1 + t.
    struct Fixed(Vec<f32>, Spec);

    fn fixed(logits: Vec<f32>) -> Fixed {
        let codes = SubTokenizer::new(logits.len(), 1).unwrap();
        Fixed(logits, Spec { reads_time: true, ..Spec::new(&codes, 4) })
    }

    impl Denoiser for Fixed {
        fn spec(&self) -> &Spec {
            &self.1
        }

        fn evaluate(
            &self,
            states: &States,
            positions: &[usize],
            rows: &mut dyn FnMut(Range<usize>, &[f32]) -> Result<()>,
        ) -> Result<()> {
            for (k, position) in positions.iter().enumerate() {
                let scale = 1.0 + states.t[position / 4] as f32;
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
        let networks = [fixed(vec![0.0, 3.0, -1.0]), fixed(vec![2.0, f32::NEG_INFINITY, 0.5])];
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
                .evaluate(
                    &States { y_t: &[3; 8], t: &[0.25, 0.75], labels: None },
                    &[1, 6],
                    &mut |_, logits| {
                        seen.extend_from_slice(logits);
                        Ok(())
                    },
                )
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
        let spec = mixture.spec();
        assert_eq!((spec.vocab_size, spec.subtoken_len, spec.max_seq_len()), (3, 1, 4));
    }

    #[test]
    fn one_network_is_itself_up_to_a_constant() {
        let network = fixed(vec![100.0, -100.0, 3.0]);
        let mixture = MixtureDenoiser::new(&[&network]).unwrap();
        mixture
            .evaluate(&States { y_t: &[3; 4], t: &[0.0], labels: None }, &[0], &mut |_, logits| {
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
        let error = MixtureDenoiser::new(&[&fixed(vec![0.0; 3]), &fixed(vec![0.0; 4])]).err().unwrap();
        assert!(error.to_string().contains("4 tokens"), "{error}");
    }
}
