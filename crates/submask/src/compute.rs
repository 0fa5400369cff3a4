//! Where and how everything is computed: a device, the operations that run there, and their precision, chosen together.

use burn::tensor::Device;

use crate::device::{self, DeviceChoice};
use crate::ops::{Engine, Kernels, Precision, vector_instructions, vectors};
use crate::{Error, Result};

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
    /// [`Error::Invalid`] for a device that is not there, for a precision that it does not
    /// compute in, and for a variable `SUBMASK_VECTOR_BITS` of the environment that is not 128, 256 or 512.
    pub fn open(device: DeviceChoice, precision: Precision) -> Result<Self> {
        vectors::most_bits()?;
        let device = device.open()?;
        let kernels = Kernels::new(&device, precision)?;
        Ok(Self { device, kernels })
    }

    /// The CPU in single precision, which is always there.
    pub fn cpu() -> Self {
        Self { device: Device::flex(), kernels: Kernels::FUSED }
    }

    /// The CPU with every operation composed of tensor operations: the slow reference of the fused ones.
    pub fn reference() -> Self {
        Self { device: Device::flex(), kernels: Kernels::PLAIN }
    }

    /// A device with the operations that a test or a measurement asks for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for operations that do not run on the device.
    #[doc(hidden)]
    pub fn with(device: Device, kernels: Kernels) -> Result<Self> {
        check_fit(kernels, Kernels::new(&device, Precision::Fp32)?, &device::name(&device))?;
        Ok(Self { device, kernels })
    }

    /// The device's name for people: `CPU`, or as its driver calls it.
    pub fn device_name(&self) -> String {
        device::name(&self.device)
    }

    /// The precision in which linear layers and attention multiply.
    pub fn precision(&self) -> Precision {
        self.kernels.precision()
    }

    /// What the last bits of results depend on besides the version of the program: device, operations with their precision,
    /// and on CPUs their vectors.
    pub fn arithmetic(&self) -> String {
        match self.device_name().as_str() {
            "CPU" => format!("CPU with {}, {}", vector_instructions(), self.kernels),
            device => format!("{device}, {}", self.kernels),
        }
    }

    /// The tensor library's device.
    #[doc(hidden)]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Which operations run: those that a network of one's own is built with.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }
}

/// Compositions and the operations of GPUs run everywhere, others where they are a device's `own`.
fn check_fit(kernels: Kernels, own: Kernels, device: &str) -> Result<()> {
    let runs_everywhere = matches!(kernels.engine(), Engine::Plain | Engine::Gpu);
    if runs_everywhere || kernels.engine() == own.engine() {
        return Ok(());
    }
    let allowed = format!("compositions or {} on {device}", own.engine());
    Err(Error::invalid("kernels", kernels, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_and_kernels_that_do_not_fit_cannot_be_put_together() {
        let bf16 = |kernels: Kernels| kernels.with_precision(Precision::Bf16).unwrap();
        let all = [Kernels::FUSED, bf16(Kernels::FUSED), Kernels::PLAIN, Kernels::GPU, bf16(Kernels::GPU)];
        let fit = |own: Kernels| all.map(|kernels| check_fit(kernels, own, "Some GPU").is_ok());
        assert_eq!(fit(Kernels::FUSED), [true; 5]);
        assert_eq!(fit(Kernels::GPU), [false, false, true, true, true]);
        let error = check_fit(bf16(Kernels::FUSED), Kernels::GPU, "Some GPU").unwrap_err().to_string();
        assert!(
            error.contains("fused operations of the CPU in bf16")
                && error.contains("compositions or operations of GPUs on Some GPU"),
            "{error}"
        );
        assert!(Kernels::PLAIN.with_precision(Precision::Bf16).is_err());
        for kernels in all {
            let compute = Compute::with(Device::flex(), kernels).unwrap();
            assert_eq!((compute.kernels(), compute.device_name().as_str()), (kernels, "CPU"));
        }
        for gpu in device::gpus() {
            assert!(Compute::with(gpu.device.clone(), Kernels::FUSED).is_err(), "{}", gpu.name);
            assert!(Compute::with(gpu.device, Kernels::PLAIN).is_ok(), "{}", gpu.name);
        }
    }
}
