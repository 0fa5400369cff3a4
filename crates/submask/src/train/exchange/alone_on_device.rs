//! A run of one process on a GPU.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{DeviceExchange, DeviceSums};
use crate::Result;
use crate::ops::Kernels;

/// The exchange of a process that computes every slot: sums on its device, and nothing to send.
#[derive(Debug)]
pub struct AloneOnDevice {
    share: f32,
    kernels: Kernels,
    /// Of the slots so far, if one of them cost anything.
    sums: Option<DeviceSums>,
}

impl AloneOnDevice {
    /// For steps of `slots` micro-batches, at least 1, that count equally; `kernels` are the device's.
    pub fn new(slots: usize, kernels: Kernels) -> Self {
        Self { share: 1.0 / slots as f32, kernels, sums: None }
    }

    /// Of the slots so far.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn sums(&self) -> Option<DeviceSums> {
        self.sums.clone()
    }
}

impl DeviceExchange for AloneOnDevice {
    fn own_slots(&self, slots: usize) -> Range<usize> {
        0..slots
    }

    fn add(&mut self, slot: usize, own: Option<DeviceSums>) -> Result<()> {
        if slot == 0 {
            self.sums = None;
        }
        let Some(DeviceSums { loss, gradients }) = own else { return Ok(()) };
        let (before, sums) = self.sums.take().map(|sums| (sums.loss, sums.gradients)).unzip();
        let loss = add_loss(before, loss, self.share);
        let gradients = self.kernels.add_gradients(sums, gradients, self.share);
        self.sums = Some(DeviceSums { loss, gradients });
        Ok(())
    }

    fn reduce(&mut self) -> Result<Option<DeviceSums>> {
        Ok(self.sums.take())
    }
}

/// `sum` + share·`loss`.
pub(super) fn add_loss(sum: Option<Tensor<1>>, loss: Tensor<1>, share: f32) -> Tensor<1> {
    let loss = loss * share;
    match sum {
        Some(sum) => sum + loss,
        None => loss,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn slots_are_added_in_their_order_as_in_memory() {
        // (1e8/3 + 1/3) − 1e8/3 is not 1/3 in single precision.
        let slots = [[1e8f32, 3.0], [1.0, 4.0], [-1e8, 5.0]];
        let device = Device::flex();
        let slot = |[a, b]: [f32; 2]| DeviceSums {
            loss: Tensor::from_data([b], &device),
            gradients: vec![Some(Tensor::from_data([a, b], &device)), None],
        };
        let mut exchange = AloneOnDevice::new(3, Kernels::PLAIN);
        assert_eq!(exchange.own_slots(3), 0..3);
        exchange.add(0, Some(slot([7.0, 7.0]))).unwrap();
        for (index, gradient) in slots.into_iter().enumerate() {
            exchange.add(index, Some(slot(gradient))).unwrap();
        }
        let DeviceSums { loss, gradients } = exchange.reduce().unwrap().unwrap();
        let sum = |place: usize| slots.iter().fold(0.0, |sum, slot| sum + 1.0 / 3.0f32 * slot[place]);
        let numbers = |tensor: Tensor<1>| tensor.into_data().try_into_vec::<f32>().unwrap();
        assert_eq!(sum(0), 0.0);
        assert_eq!(numbers(loss), [sum(1)]);
        assert_eq!(numbers(gradients[0].clone().unwrap()), [sum(0), sum(1)]);
        assert!(gradients[1].is_none(), "nothing depends on the second weight");
    }

    #[test]
    fn a_step_whose_slots_cost_nothing_has_no_sums() {
        let mut exchange = AloneOnDevice::new(2, Kernels::PLAIN);
        exchange.add(0, None).unwrap();
        exchange.add(1, None).unwrap();
        assert!(exchange.reduce().unwrap().is_none());
    }
}
