//! Steps whose state is on a GPU: weights, moments and averages stay there between steps, and the program waits for the
//! device only where it reads losses, evaluates or saves.

use burn::tensor::{Device, Tensor, TensorData};

use super::{StepReport, Stepper, finite};
use crate::backbone::weights::{Parameter, Weights};
use crate::ops::{AdamWStep, DeviceGradients, DeviceWeights, Kernels};
use crate::train::exchange::{DeviceExchange, DeviceSums};
use crate::train::optimizer::{Update, average_share};
use crate::train::settings::TrainSettings;
use crate::train::slot::{Slot, SlotLoss};
use crate::train::state::TrainState;
use crate::{Error, Result};

/// Weights, moments and averages on a device.
pub(super) struct OnDevice {
    settings: TrainSettings,
    parameters: Vec<Parameter>,
    kernels: Kernels,
    exchange: Box<dyn DeviceExchange>,
    weights: DeviceWeights,
    /// Optimiser steps taken.
    steps: u64,
    pending: Pending,
    since_report: StepReport,
    copy: Copy,
}

/// What is computed on the device and not read yet.
struct Pending {
    /// The last step.
    step: u64,
    /// Σ of the losses since the last [`Stepper::sync`].
    loss: Tensor<1>,
    /// ‖g‖₂ of the last step, before clipping, and Σ of ‖g‖₂ of all steps since the last [`Stepper::sync`], if there
    /// are any, as [`Kernels::adamw`] returns them. The sum is finite if all gradients were.
    norms: Option<Tensor<1>>,
}

/// The state in memory, and which of it is that on the device.
struct Copy {
    state: TrainState,
    has_average: bool,
    has_all: bool,
}

impl OnDevice {
    /// Copies `state` to a device, whose gradients are exchanged by `exchange`.
    pub fn new(
        settings: &TrainSettings,
        parameters: &[Parameter],
        state: TrainState,
        device: &Device,
        kernels: Kernels,
        exchange: Box<dyn DeviceExchange>,
    ) -> Self {
        let upload = |values: &[Vec<f32>]| {
            let upload = |values: &Vec<f32>| {
                Tensor::from_data(TensorData::new(values.clone(), [values.len()]), device)
            };
            values.iter().map(upload).collect()
        };
        Self {
            settings: settings.clone(),
            parameters: parameters.to_vec(),
            kernels,
            exchange,
            weights: DeviceWeights {
                raw: upload(&state.raw),
                average: upload(&state.average),
                first: upload(&state.optimizer.first),
                second: upload(&state.optimizer.second),
            },
            steps: state.optimizer.steps,
            pending: Pending { step: 0, loss: Tensor::zeros([1], device), norms: None },
            since_report: StepReport::default(),
            copy: Copy { state, has_average: true, has_all: true },
        }
    }

    /// Updates the weights by the sums of the gradients.
    fn update(&mut self, gradients: DeviceGradients, step: u64) {
        self.steps += 1;
        let update = Update::new(self.settings.adamw, self.steps, self.settings.learning_rate_at(step));
        let step = AdamWStep {
            limit: self.settings.clip as f32,
            beta_1: update.beta_1,
            beta_2: update.beta_2,
            epsilon: update.epsilon,
            correction_2: update.correction_2,
            rate: update.rate,
            keep: update.keep,
            share: average_share(self.settings.ema_decay, self.steps),
        };
        let norms = self.pending.norms.take();
        self.pending.norms = Some(self.kernels.adamw(&mut self.weights, gradients, step, norms));
        (self.copy.has_average, self.copy.has_all) = (false, false);
    }
}

/// A slot's loss and its gradients by `weights`, of the `loss` \[1\].
fn differentiated(loss: Tensor<1>, weights: &Weights) -> DeviceSums {
    let mut gradients = loss.backward();
    DeviceSums {
        loss: loss.detach().inner(),
        gradients: weights.tensors().map(|tensor| tensor.grad_remove(&mut gradients)).collect(),
    }
}

impl Stepper for OnDevice {
    fn step(&mut self, step: u64, slots: &dyn SlotLoss) -> Result<()> {
        for index in self.exchange.own_slots(self.settings.accumulate) {
            let weights = Weights::with_gradients(&self.parameters, &self.weights.raw);
            let loss = slots.loss(&weights, Slot { step, index })?;
            self.exchange.add(index, loss.map(|loss| differentiated(loss, &weights)))?;
        }
        let gradients = match self.exchange.reduce()? {
            Some(DeviceSums { loss, gradients }) => {
                self.pending.loss = self.pending.loss.clone() + loss;
                gradients
            }
            None => vec![None; self.parameters.len()],
        };
        self.update(gradients, step);
        self.pending.step = step;
        self.since_report.steps += 1;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let Some(norms) = self.pending.norms.take() else { return Ok(()) };
        let read = |tensor: &Tensor<1>| {
            let numbers = download(std::slice::from_ref(tensor));
            numbers.map_err(|error| self.exchange.failure().unwrap_or(error))
        };
        let norms = read(&norms)?;
        let [norm, norms] = [0, 1].map(|place| f64::from(norms[0][place]));
        let loss = f64::from(read(&self.pending.loss)?[0][0]);
        self.pending.loss = self.pending.loss.zeros_like();
        self.since_report.loss += finite(self.pending.step, "loss", loss)?;
        finite(self.pending.step, "sum of gradient norms", norms)?;
        self.since_report.gradient_norm = norm;
        Ok(())
    }

    fn report(&mut self) -> Result<StepReport> {
        self.sync()?;
        Ok(std::mem::take(&mut self.since_report))
    }

    fn average(&mut self) -> Result<&[Vec<f32>]> {
        self.sync()?;
        if !self.copy.has_average {
            self.copy.state.average = download(&self.weights.average)?;
            self.copy.has_average = true;
        }
        Ok(&self.copy.state.average)
    }

    fn state(&mut self) -> Result<&TrainState> {
        self.average()?;
        if !self.copy.has_all {
            let TrainState { raw, optimizer, .. } = &mut self.copy.state;
            *raw = download(&self.weights.raw)?;
            optimizer.first = download(&self.weights.first)?;
            optimizer.second = download(&self.weights.second)?;
            optimizer.steps = self.steps;
            self.copy.has_all = true;
        }
        Ok(&self.copy.state)
    }
}

/// The elements of tensors, in memory.
fn download(tensors: &[Tensor<1>]) -> Result<Vec<Vec<f32>>> {
    let copy = |tensor: &Tensor<1>| {
        let elements = tensor.clone().try_into_vec_as::<f32>();
        elements.map_err(Error::internal("training state are 32-bit floats"))
    };
    tensors.iter().map(copy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::Handle;
    use crate::backbone::weights::Init;
    use crate::random::{Draws, Purpose};
    use crate::train::exchange::{Alone, AloneOnDevice};
    use crate::train::optimizer::{AdamWConfig, global_norm};
    use crate::train::settings::RunSettings;
    use crate::train::stepper::Host;

    /// Losses whose gradients are known: Σ slope·a in every slot, and nothing in step 4.
    struct Linear(Device);

    fn slope(step: u64) -> Vec<f32> {
        // Short, then long enough to be clipped.
        let factor = [0.0, 0.01, 3.0, 3.0, 0.0][step as usize];
        let draws = Draws::new(step, Purpose::Init);
        (0..15).map(|i| (factor * draws.normal(0, i, 0)) as f32).collect()
    }

    impl SlotLoss for Linear {
        fn loss(&self, weights: &Weights, slot: Slot) -> Result<Option<Tensor<1>>> {
            let slope = Tensor::<1>::from_data(TensorData::new(slope(slot.step), [15]), &self.0);
            let parameters = parameters();
            let a = Handle::<2>::find(&parameters, "a").unwrap();
            let unused = Handle::<1>::find(&parameters, "unused").unwrap();
            let loss =
                (weights.get(unused).sum() * 0.0).detach() + (weights.get(a).reshape([15]) * slope).sum();
            Ok((slot.step < 4).then_some(loss))
        }
    }

    fn parameters() -> [Parameter; 2] {
        [("a", &[3, 5][..]), ("unused", &[2])]
            .map(|(name, shape)| Parameter::new(name, shape, Init::Uniform(1.0)))
    }

    /// Steps whose gradients are known: those in memory and on a device agree.
    #[test]
    fn steps_on_a_device_are_those_in_memory() {
        check_steps(&Device::flex(), Kernels::PLAIN);
        #[cfg(feature = "cuda")]
        if let Some(gpu) = crate::device::gpus().into_iter().find(|gpu| gpu.interface == "CUDA") {
            check_steps(&gpu.device, Kernels::CUDA);
        }
    }

    fn check_steps(device: &Device, kernels: Kernels) {
        let parameters = parameters();
        let adamw = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
        let preset = include_str!("../../../../submask-cli/presets/dictionary.toml");
        let settings = toml::from_str::<RunSettings>(preset).unwrap().train;
        let settings = TrainSettings { adamw, ema_decay: 0.5, accumulate: 2, ..settings };
        let state = TrainState::drawn(1, adamw, &parameters);
        let exchange = Box::new(Alone::new(2));
        let mut host = Host::new(&settings, &parameters, state.clone(), &Device::flex(), exchange);
        let exchange = Box::new(AloneOnDevice::new(2, kernels));
        let mut on_device = OnDevice::new(&settings, &parameters, state, device, kernels, exchange);
        assert_eq!(on_device.report().unwrap(), StepReport::default());
        for step in 1..=4 {
            let before = host.state().unwrap().raw[0].clone();
            let slope = slope(step);
            let value: f32 = before.iter().zip(&slope).map(|(weight, slope)| weight * slope).sum();
            let norm = global_norm(&[slope, vec![0.0; 2]]);
            host.step(step, &Linear(Device::flex())).unwrap();
            on_device.step(step, &Linear(device.clone())).unwrap();
            let norms = on_device.pending.norms.clone().unwrap().into_data().try_into_vec::<f32>().unwrap();
            assert_eq!(norms[0], norms[1], "one step");
            for stepper in [&mut host as &mut dyn Stepper, &mut on_device] {
                let report = stepper.report().unwrap();
                assert_eq!(report.steps, 1);
                assert!((report.gradient_norm - norm).abs() < 1e-5, "{report:?}, not {norm}");
                assert!((report.loss - f64::from(value)).abs() < 1e-5, "{report:?}, not {value}");
            }
            let copied = on_device.copy.state.raw.clone();
            on_device.average().unwrap();
            assert_eq!(on_device.copy.state.raw, copied, "averages alone are copied");
            let (ours, theirs) = (on_device.state().unwrap(), host.state().unwrap());
            assert_eq!((ours.optimizer.steps, theirs.optimizer.steps), (step, step));
            let pairs = [
                (&ours.raw, &theirs.raw),
                (&ours.average, &theirs.average),
                (&ours.optimizer.first, &theirs.optimizer.first),
                (&ours.optimizer.second, &theirs.optimizer.second),
            ];
            for (ours, theirs) in pairs {
                for (ours, theirs) in ours.concat().iter().zip(theirs.concat()) {
                    assert!((ours - theirs).abs() < 1e-5, "{ours}, not {theirs}");
                }
            }
        }
    }
}
