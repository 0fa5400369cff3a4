//! Where and how the verbs compute.

use submask::{DeviceChoice, Precision, Result};

/// As the user says.
#[derive(Clone, Copy, Debug)]
pub struct Compute {
    pub device: DeviceChoice,
    pub precision: Precision,
}

impl Compute {
    /// The device, and the operations that run on it.
    ///
    /// # Errors
    /// Of a device that is not there, and of a precision that it does not compute in.
    pub fn open(self) -> Result<submask::Compute> {
        submask::Compute::open(self.device, self.precision)
    }
}
