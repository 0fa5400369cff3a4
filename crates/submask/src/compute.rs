//! Where and how everything is computed: a device, the operations that run there, and their precision, chosen together.

use burn::tensor::Device;

use crate::Result;
use crate::device::{self, DeviceChoice};
use crate::ops::{Kernels, Precision};

/// A device with the operations and the precision that run on it. They are chosen together, so that they always fit.
///
/// ```
/// use submask::{Compute, DeviceChoice, Precision};
///
/// let compute = Compute::open(DeviceChoice::Cpu, Precision::Fp32)?;
/// assert_eq!(compute.device_name(), "CPU");
/// # Ok::<(), submask::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Compute {
    device: Device,
    kernels: Kernels,
}

impl Compute {
    /// The device of a choice, with the fastest operations that there are for it in a precision.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a device that is not there, and for a precision that it does not
    /// compute in.
    pub fn open(device: DeviceChoice, precision: Precision) -> Result<Self> {
        let device = device.open()?;
        let kernels = Kernels::new(&device, precision)?;
        Ok(Self { device, kernels })
    }

    /// The CPU in single precision, which is always there.
    pub fn cpu() -> Self {
        Self { device: Device::flex(), kernels: Kernels::Fused }
    }

    /// The CPU with every operation composed of tensor operations: the slow reference of the fused ones.
    pub fn reference() -> Self {
        Self { device: Device::flex(), kernels: Kernels::Plain }
    }

    /// The device's name for people: `CPU`, or as its driver calls it.
    pub fn device_name(&self) -> String {
        device::name(&self.device)
    }

    /// The precision in which linear layers and attention multiply.
    pub fn precision(&self) -> Precision {
        self.kernels.precision()
    }

    /// The tensor library's device.
    #[doc(hidden)]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Which operations run.
    #[doc(hidden)]
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }
}
