//! Which device computes: the CPU, or a GPU that is compiled in and answers.

#[cfg(feature = "cuda")]
mod cuda;

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::{Error, Result};

/// A device as a user names it: `auto`, `cpu`, `gpu:N` or `gpu:local`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that is no software device and answers, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU, in pure Rust.
    Cpu,
    /// The N-th GPU, counted from 0: hardware first, then software devices such as Mesa's lavapipe.
    Gpu(usize),
    /// The GPU whose number is that of this process among those that MPI or Slurm has started on the same machine; the only
    /// GPU, where there is one.
    Local,
}

/// Variables in which launchers say which of a machine's processes this is: Open MPI, MPICH and Intel MPI, MVAPICH, Slurm.
const LOCAL_RANK: [&str; 4] =
    ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"];

fn none_of() -> String {
    format!("none of {}", LOCAL_RANK.join(", "))
}

/// Which of the processes that a launcher has started on this machine this is, from 0.
fn local_rank() -> Option<usize> {
    LOCAL_RANK.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let index = || name.strip_prefix("gpu:")?.parse().ok();
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu:local" => Ok(Self::Local),
            _ => index().map(Self::Gpu).ok_or_else(|| {
                Error::invalid("device", name, "auto, cpu, or gpu:N with N = 0, 1, …; gpu:local under MPI")
            }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(index) => write!(f, "gpu:{index}"),
            Self::Local => f.write_str("gpu:local"),
        }
    }
}

impl DeviceChoice {
    /// The device itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a GPU that this program was not built for, that is not there, or that does not compute;
    /// it says which there are.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Auto => {
                let hardware = gpus().into_iter().find(|gpu| !gpu.software && gpu.answers());
                Ok(hardware.map_or_else(Device::flex, |gpu| gpu.device))
            }
            Self::Local => {
                let allowed = || format!("for processes that a launcher has numbered: {} is set", none_of());
                let index = local_rank().ok_or_else(|| Error::invalid("device", self, allowed()))?;
                // Where the launcher shows every process its own one only, that is the first.
                Self::Gpu(if gpus().len() == 1 { 0 } else { index }).open()
            }
            Self::Gpu(index) => {
                let gpus = gpus();
                let gpu = gpus.get(index).ok_or_else(|| Error::invalid("device", self, allowed(&gpus)))?;
                match gpu.answers() {
                    true => Ok(gpu.device.clone()),
                    false => {
                        let what = format!("{self} ({})", gpu.name);
                        Err(Error::invalid(
                            "device",
                            what,
                            "a device that computes: this one does not answer",
                        ))
                    }
                }
            }
        }
    }
}

/// A GPU, or a program that behaves like one.
pub struct Gpu {
    /// The device.
    pub device: Device,
    /// As its driver calls it.
    pub name: String,
    /// Through what it is driven: `CUDA` or `wgpu`.
    pub interface: &'static str,
    /// Whether it is a program on the CPU.
    pub software: bool,
}

impl Gpu {
    /// Whether it adds correctly. A driver that fails does so by a panic, which is its answer here.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn answers(&self) -> bool {
        probe(|| burn::tensor::Tensor::<1>::ones([4], &self.device).sum().into_scalar::<f32>() == 4.0)
            .unwrap_or(false)
    }

    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    fn answers(&self) -> bool {
        false
    }
}

/// The name of the threads in which devices are tried. A driver that fails does so by a panic, which is caught; a program
/// whose panic hook says nothing of threads of this name keeps quiet about it.
pub const PROBE_THREAD: &str = "submask device probe";

/// The result of `work` in a thread of its own; `None` if it panics.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn probe<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(PROBE_THREAD.to_owned());
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

/// All GPUs that this program can use, in the order of their numbers; none where it was built without them.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub fn gpus() -> Vec<Gpu> {
    use burn::tensor::DeviceType;

    let listed = |kind: DeviceType, interface: &'static str| {
        let devices = probe(|| Device::enumerate(kind).into_vec()).unwrap_or_default().into_iter();
        devices.map(move |device| Gpu {
            software: is_software(&device),
            name: name(&device),
            interface,
            device,
        })
    };
    let mut gpus: Vec<Gpu> = Vec::new();
    #[cfg(feature = "cuda")]
    if cuda::missing().is_none() {
        let recent =
            listed(DeviceType::Cuda, "CUDA").enumerate().filter(|(ordinal, _)| cuda::is_recent(*ordinal));
        gpus.extend(recent.map(|(_, gpu)| gpu));
    }
    #[cfg(feature = "wgpu")]
    gpus.extend(listed(DeviceType::Wgpu, "wgpu"));
    gpus.sort_by_key(|gpu| gpu.software);
    gpus
}

/// Why no CUDA device is listed, and what to install; `None` where CUDA is complete, and where this was built without it.
pub fn missing_for_cuda() -> Option<&'static str> {
    #[cfg(feature = "cuda")]
    return cuda::missing();
    #[cfg(not(feature = "cuda"))]
    None
}

#[cfg(feature = "wgpu")]
fn is_software(device: &Device) -> bool {
    *device == Device::wgpu(burn::tensor::DeviceKind::Cpu)
}

#[cfg(all(feature = "cuda", not(feature = "wgpu")))]
fn is_software(_: &Device) -> bool {
    false
}

/// All GPUs that this program can use, in the order of their numbers; none where it was built without them.
#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
pub fn gpus() -> Vec<Gpu> {
    Vec::new()
}

/// What may be asked for.
fn allowed(gpus: &[Gpu]) -> String {
    if cfg!(not(any(feature = "cuda", feature = "wgpu"))) {
        return "auto or cpu: this program was built without GPUs (cargo feature `cuda`, `vulkan` or `wgpu`)"
            .to_owned();
    }
    let missing = missing_for_cuda().map_or_else(String::new, |missing| format!("; no CUDA: {missing}"));
    if gpus.is_empty() {
        return format!("auto or cpu: no GPU was found{missing}");
    }
    format!("auto, cpu, {}{missing}", list(gpus))
}

/// GPUs by number, name and interface.
fn list(gpus: &[Gpu]) -> String {
    let name = |(i, gpu): (usize, &Gpu)| format!("gpu:{i} ({}, {})", gpu.name, gpu.interface);
    gpus.iter().enumerate().map(name).collect::<Vec<_>>().join(", ")
}

/// The GPUs that were found and what CUDA lacks, for people; `None` where this was built without GPUs.
pub fn found() -> Option<String> {
    if cfg!(not(any(feature = "cuda", feature = "wgpu"))) {
        return None;
    }
    let gpus = gpus();
    let list = if gpus.is_empty() { "none".to_owned() } else { list(&gpus) };
    Some(missing_for_cuda().map_or_else(|| list.clone(), |missing| format!("{list}; no CUDA: {missing}")))
}

/// The name of a device for people: `CPU`, or as its driver calls it.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub fn name(device: &Device) -> String {
    if *device == Device::flex() {
        return "CPU".to_owned();
    }
    probe(|| device.identity()).flatten().map_or_else(|| "GPU".to_owned(), |identity| identity.name)
}

/// The name of a device for people: `CPU`, which is all that this program has.
#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
pub fn name(_: &Device) -> String {
    "CPU".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in ["auto", "cpu", "gpu:0", "gpu:17", "gpu:local"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for name in ["", "gpu", "gpu:", "gpu:-1", "cuda", "CPU"] {
            let error = name.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("auto, cpu, or gpu:N"), "{error}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_refused_with_what_there_is() {
        assert_eq!(DeviceChoice::Cpu.open().unwrap(), Device::flex());
        let error = DeviceChoice::Gpu(99).open().unwrap_err().to_string();
        assert!(error.contains("gpu:99") && error.contains("cpu"), "{error}");
        if local_rank().is_none() {
            let error = DeviceChoice::Local.open().unwrap_err().to_string();
            assert!(error.contains("gpu:local") && error.contains("SLURM_LOCALID"), "{error}");
        }
    }
}
