//! The state of a run on a GPU: weights, moments and averages stay there between steps, and the program waits for the
//! device only where it looks at losses, evaluates or saves.

use burn::tensor::{Device, Tensor, TensorData};

use super::checkpoint::TrainState;
use super::optimizer::{Update, average_share};
use super::settings::TrainSettings;
use crate::backbone::weights::{Parameter, Weights};
use crate::{Error, Result};

/// What changes from step to step, on a device.
pub struct DeviceState {
    parameters: Vec<Parameter>,
    raw: Vec<Tensor<1>>,
    average: Vec<Tensor<1>>,
    first: Vec<Tensor<1>>,
    second: Vec<Tensor<1>>,
    /// Optimiser steps taken.
    steps: u64,
    /// Of the micro-batches since the last step, once there is one.
    gradients: Vec<Tensor<1>>,
    /// Σ of the losses since the last look.
    loss: Tensor<1>,
    /// Of the last step's gradients, before clipping, and Σ of those of all steps since the last look, if there are any.
    norms: Option<[Tensor<1>; 2]>,
    /// Whether memory holds a copy of all this.
    copied: bool,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Looked {
    /// Σ of the losses of the steps since the last look.
    pub loss: f64,
    /// ‖g‖₂ of the last step, before clipping.
    pub norm: f64,
    /// Σ of ‖g‖₂ of these steps: finite if all gradients were.
    pub norms: f64,
}

impl DeviceState {
    /// Copies `state` to a device.
    pub fn new(state: &TrainState, parameters: &[Parameter], device: &Device) -> Self {
        let copied = |values: &[Vec<f32>]| {
            let copy = |values: &Vec<f32>| {
                Tensor::from_data(TensorData::new(values.clone(), [values.len()]), device)
            };
            values.iter().map(copy).collect()
        };
        Self {
            parameters: parameters.to_vec(),
            raw: copied(&state.raw),
            average: copied(&state.average),
            first: copied(&state.optimizer.first),
            second: copied(&state.optimizer.second),
            steps: state.optimizer.steps,
            gradients: Vec::new(),
            loss: Tensor::zeros([1], device),
            norms: None,
            copied: true,
        }
    }

    /// The weights, with gradients.
    pub fn weights(&self) -> Weights {
        Weights::with_gradients(&self.parameters, &self.raw)
    }

    /// Adds a micro-batch: `share` of its loss \[1\] by `weights`, which are [`Self::weights`], and of its gradients.
    pub fn add(&mut self, loss: Option<Tensor<1>>, weights: &Weights, share: f32) {
        let Some(loss) = loss else { return };
        self.loss = self.loss.clone() + loss.clone().detach().inner() * share;
        let mut gradients = loss.backward();
        let part = weights.tensors().map(|tensor| match tensor.grad_remove(&mut gradients) {
            Some(gradient) => gradient * share,
            None => tensor.clone().detach().inner().zeros_like(),
        });
        self.gradients = match std::mem::take(&mut self.gradients) {
            empty if empty.is_empty() => part.collect(),
            sums => sums.into_iter().zip(part).map(|(sum, part)| sum + part).collect(),
        };
    }

    /// The optimiser's step of [`super::optimizer::AdamW::step`] with clipping by [`super::optimizer::clip_factor`],
    /// at the `step`-th of the run.
    pub fn step(&mut self, settings: &TrainSettings, step: u64) {
        self.steps += 1;
        let gradients = match std::mem::take(&mut self.gradients) {
            empty if empty.is_empty() => self.raw.iter().map(Tensor::zeros_like).collect(),
            gradients => gradients,
        };
        let squares = gradients.iter().map(|gradient| (gradient.clone() * gradient.clone()).sum());
        let norm = squares.reduce(|sum, square| sum + square).map_or(self.loss.zeros_like(), Tensor::sqrt);
        let factor = ((norm.clone() + 1e-6).recip() * settings.clip).clamp_max(1.0);
        self.norms = Some(match self.norms.take() {
            Some([_, sum]) => [norm.clone(), sum + norm],
            None => [norm.clone(), norm],
        });
        self.copied = false;
        let update = Update::new(settings.adamw, self.steps, settings.learning_rate_at(step));
        let share = average_share(settings.ema_decay, self.steps);
        for (index, gradient) in gradients.into_iter().enumerate() {
            let g = gradient * factor.clone();
            let first = self.first[index].clone() * update.beta_1 + g.clone() * (1.0 - update.beta_1);
            let second = self.second[index].clone() * update.beta_2 + g.clone() * g * (1.0 - update.beta_2);
            let root = second.clone().sqrt() / update.correction_2 + update.epsilon;
            let weight = self.raw[index].clone() * update.keep - first.clone() * update.rate / root;
            let average = self.average[index].clone();
            self.average[index] = average.clone() - (average - weight.clone()) * share;
            (self.raw[index], self.first[index], self.second[index]) = (weight, first, second);
        }
    }

    /// Waits for the device. `None` if there was no step since the last look.
    pub fn look(&mut self) -> Option<Looked> {
        let number = |tensor: Tensor<1>| f64::from(tensor.into_scalar::<f32>());
        let [norm, norms] = self.norms.take()?.map(number);
        let loss = number(self.loss.clone());
        self.loss = self.loss.zeros_like();
        Some(Looked { loss, norm, norms })
    }

    /// Copies the averages to `state`, which has had all copies so far.
    ///
    /// # Errors
    /// [`Error::Invalid`] for tensors that are no 32-bit floats.
    pub fn copy_average_to(&self, state: &mut TrainState) -> Result<()> {
        if !self.copied {
            state.average = copied(&self.average)?;
        }
        Ok(())
    }

    /// Copies everything to `state`, which has had all copies so far.
    ///
    /// # Errors
    /// As of [`Self::copy_average_to`].
    pub fn copy_to(&mut self, state: &mut TrainState) -> Result<()> {
        if self.copied {
            return Ok(());
        }
        state.raw = copied(&self.raw)?;
        state.average = copied(&self.average)?;
        state.optimizer.first = copied(&self.first)?;
        state.optimizer.second = copied(&self.second)?;
        state.optimizer.steps = self.steps;
        self.copied = true;
        Ok(())
    }
}

/// The elements of tensors, in memory.
fn copied(tensors: &[Tensor<1>]) -> Result<Vec<Vec<f32>>> {
    let copy = |tensor: &Tensor<1>| {
        let elements = tensor.clone().try_into_vec_as::<f32>();
        elements.map_err(|error| Error::invalid("training state", format!("{error:?}"), "32-bit floats"))
    };
    tensors.iter().map(copy).collect()
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::Handle;
    use crate::backbone::weights::Init;
    use crate::random::{Draws, Purpose};
    use crate::train::optimizer::{AdamW, AdamWConfig, Average, StepSize, clip_factor, global_norm};
    use crate::train::settings::Settings;

    /// Steps whose gradients are known: those in memory and on a device agree.
    #[test]
    fn steps_on_a_device_are_those_in_memory() {
        let parameters = [("a", &[3, 5][..]), ("unused", &[2])]
            .map(|(name, shape)| Parameter::new(name, shape, Init::Uniform(1.0)));
        let a = Handle::<2>::find(&parameters, "a").unwrap();
        let unused = Handle::<1>::find(&parameters, "unused").unwrap();
        let raw: Vec<Vec<f32>> = parameters.iter().map(|parameter| parameter.initial(1, 0)).collect();
        let adamw = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
        let preset = include_str!("../../../submask-cli/presets/dictionary.toml");
        let settings =
            TrainSettings { adamw, ema_decay: 0.5, ..toml::from_str::<Settings>(preset).unwrap().train };
        let optimizer = AdamW::new(adamw, &parameters);
        let mut state =
            TrainState { step: 0, average: raw.clone(), raw, optimizer, cursor: Default::default() };
        let mut on_device = DeviceState::new(&state, &parameters, &Device::flex());
        assert_eq!(on_device.look(), None);
        for step in 1..=4 {
            // Short, then long enough to be clipped, then none at all.
            let factor = [0.0, 0.01, 3.0, 3.0, 0.0][step as usize];
            let draws = Draws::new(step, Purpose::Init);
            let slope: Vec<f32> = (0..15).map(|i| (factor * draws.normal(0, i, 0)) as f32).collect();
            let weights = on_device.weights();
            for share in [0.25, 0.75] {
                let slope = Tensor::<1>::from_data(TensorData::new(slope.clone(), [15]), &Device::flex());
                let loss =
                    (weights.get(unused).sum() * 0.0).detach() + (weights.get(a).reshape([15]) * slope).sum();
                on_device.add((step < 4).then_some(loss), &weights, share);
            }
            let value: f32 = state.raw[0].iter().zip(&slope).map(|(weight, slope)| weight * slope).sum();
            on_device.step(&settings, step);

            let gradients = [slope, vec![0.0; 2]];
            let norm = global_norm(&gradients);
            let size = StepSize {
                learning_rate: settings.learning_rate_at(step),
                gradient_factor: clip_factor(norm, settings.clip),
            };
            let average = Average { values: &mut state.average, decay: settings.ema_decay };
            state.optimizer.step(&mut state.raw, &gradients, size, Some(average));

            let looked = on_device.look().unwrap();
            assert!((looked.norm - norm).abs() < 1e-5, "{looked:?}, not {norm}");
            assert_eq!(looked.norms, looked.norm, "one step");
            assert!((looked.loss - f64::from(value)).abs() < 1e-5, "{looked:?}, not {value}");
            let mut copy = TrainState { raw: vec![], average: vec![], ..state.clone() };
            on_device.copy_average_to(&mut copy).unwrap();
            assert_eq!((copy.raw.len(), copy.average.len()), (0, 2));
            on_device.copy_to(&mut copy).unwrap();
            assert_eq!(copy.optimizer.steps, step);
            let pairs = [
                (&copy.raw, &state.raw),
                (&copy.average, &state.average),
                (&copy.optimizer.first, &state.optimizer.first),
                (&copy.optimizer.second, &state.optimizer.second),
            ];
            for (ours, theirs) in pairs {
                for (ours, theirs) in ours.concat().iter().zip(theirs.concat()) {
                    assert!((ours - theirs).abs() < 1e-5, "{ours}, not {theirs}");
                }
            }
        }
    }
}
