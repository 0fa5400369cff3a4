//! Ranks with one NVIDIA GPU each, whose gradients go from one to the next by NCCL.

use burn::tensor::{Device, Tensor};

use super::ranks_on_device::{DeviceLink, RanksOnDevice};
use super::{DeviceExchange, Ranks};
use crate::ops::{Communicator, Kernels, UniqueId, unique_id, unique_name};
use crate::shard::Peers;
use crate::{Error, Result};

/// The exchange of a rank whose gradients of weights of `lens` elements are on `device`, in steps of `slots` micro-batches.
/// Waits for the other ranks.
///
/// # Errors
/// [`Error::Invalid`] naming `device` where two ranks have the same one; [`Error::Conflict`] where NCCL is missing, with what to
/// install, or does not connect them, with what it says.
pub fn exchange(
    ranks: &Ranks,
    device: &Device,
    kernels: Kernels,
    lens: &[usize],
    slots: usize,
) -> Result<Box<dyn DeviceExchange>> {
    let name = unique_name(device).map_err(missing)?;
    check_devices(&ranks.all(name)?)?;
    // Where rank 0 has none, its error ends the others, which wait here.
    let own = match ranks.is_first() {
        true => unique_id().map_err(missing)?.0.to_vec(),
        false => Vec::new(),
    };
    let first = ranks.all(own)?.swap_remove(0);
    let id = <[u8; 128]>::try_from(first).map_err(|_| missing("fails: rank 0 gave no name".to_owned()))?;
    let communicator =
        Communicator::join(device, UniqueId(id), ranks.rank(), ranks.count()).map_err(missing)?;
    Ok(Box::new(RanksOnDevice::new(ranks.clone(), Nccl(communicator), kernels, lens, slots)))
}

/// What several ranks on GPUs need.
fn missing(problem: String) -> Error {
    Error::Conflict { field: "NCCL, by which several ranks on GPUs exchange gradients,".to_owned(), problem }
}

/// What went wrong later.
fn failed(problem: &str) -> Error {
    Error::Internal { what: "NCCL carries gradients from one GPU to the next", found: problem.to_owned() }
}

/// Refuses a device that two ranks have, given what distinguishes them.
fn check_devices(names: &[Vec<u8>]) -> Result<()> {
    for (rank, name) in names.iter().enumerate() {
        if let Some(other) = names[..rank].iter().position(|other| other == name) {
            let given = format!("one GPU on ranks {other} and {rank}");
            return Err(Error::invalid("device", given, "one GPU per rank: --device gpu:local"));
        }
    }
    Ok(())
}

struct Nccl(Communicator);

impl DeviceLink for Nccl {
    fn send(&mut self, to: usize, values: &[Tensor<1>]) -> Result<()> {
        self.0.send(to, values).map_err(|problem| failed(&problem))
    }

    fn receive(&mut self, from: usize, lens: &[usize]) -> Result<Vec<Tensor<1>>> {
        self.0.receive(from, lens).map_err(|problem| failed(&problem))
    }

    fn failure(&self) -> Option<Error> {
        self.0.failure().map(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::AloneOnDevice;
    use super::super::ranks::tests::on_threads;
    use super::super::ranks_on_device::tests::{LENS, SLOTS, steps};
    use super::*;

    #[test]
    fn a_device_of_two_ranks_is_refused() {
        let names = [[1, 2], [1, 3], [0, 2], [1, 3]].map(Vec::from);
        check_devices(&names[..3]).unwrap();
        let error = check_devices(&names).unwrap_err().to_string();
        assert!(error.contains("on ranks 1 and 3") && error.contains("gpu:local"), "{error}");
    }

    /// With two CUDA devices or more, real or pretended (`PRETENDED_CUDA_DEVICES`).
    #[test]
    fn sums_of_several_devices_are_those_of_one() {
        let devices: Vec<Device> = crate::device::gpus()
            .into_iter()
            .filter(|gpu| gpu.interface == "CUDA")
            .map(|gpu| gpu.device)
            .collect();
        if devices.len() < 2 {
            println!("skipped: there are {} CUDA devices", devices.len());
            return;
        }
        let alone = steps(&mut AloneOnDevice::new(SLOTS, Kernels::CUDA), &devices[0]);
        for count in 2..=devices.len().min(SLOTS) {
            let made = on_threads(count, |ranks| {
                let device = &devices[ranks.rank()];
                let mut exchange = exchange(&ranks, device, Kernels::CUDA, &LENS, SLOTS).unwrap();
                steps(&mut *exchange, device)
            });
            for (rank, made) in made.iter().enumerate() {
                assert!(*made == alone, "rank {rank} of {count}");
            }
        }
        println!("compared {} CUDA devices", devices.len());
    }
}
