//! What CUDA needs at run time: NVIDIA's driver, NVRTC, the headers that kernels include, and cuBLASLt. Without NVRTC or a
//! header kernels fail on a thread of the tensor library, and results are whatever memory held; so no device is listed
//! before all of it is found.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::ops::{LEAST_CAPABILITY, capability};

/// What kernels include, themselves or by what they include.
const HEADERS: [&str; 4] = ["cuda_fp16.h", "cuda_bf16.h", "mma.h", "crt/mma.h"];

/// Where a toolkit has its libraries: as NVIDIA installs it, as PyPI's wheels do, and as Debian does.
const FOLDERS: [&str; 4] = ["lib64", "lib", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu"];

const HOW: &str = "install CUDA's toolkit, or by pip nvidia-cuda-nvrtc, nvidia-cuda-runtime, nvidia-cuda-crt, \
                   nvidia-cuda-cccl and nvidia-cublas in version 13, and set CUDA_PATH to its folder \
                   (…/site-packages/nvidia/cu13)";

/// What CUDA lacks here, and what to install; `None` where it is complete. Found out once.
pub(super) fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(|| look().err()).as_deref()
}

fn look() -> Result<(), String> {
    // SAFETY: this asks the system to load libraries by name, whose initialisers have no conditions.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err("there is no NVIDIA driver (libcuda)".to_owned());
    }
    let toolkit = cubecl_cuda::install::cuda_path()
        .ok_or_else(|| format!("CUDA_PATH is not set, and there is no /usr/local/cuda: {HOW}"))?;
    check_headers(&toolkit)?;
    // The second is what the first asks for when it compiles.
    load(&toolkit, "libnvrtc.so");
    load(&toolkit, "libnvrtc-builtins.so");
    // SAFETY: as above.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        let toolkit = toolkit.display();
        return Err(format!("libnvrtc is neither in {toolkit} nor where the system finds libraries: {HOW}"));
    }
    load(&toolkit, "libcublasLt.so");
    // SAFETY: as above.
    if !unsafe { cudarc::cublaslt::sys::is_culib_present() } {
        let toolkit = toolkit.display();
        return Err(format!(
            "libcublasLt is neither in {toolkit} nor where the system finds libraries: {HOW}"
        ));
    }
    let (driver, compiler) = (driver_version()?, compiler_version()?);
    if compiler > driver {
        return Err(format!(
            "NVRTC {} is newer than the driver, which knows CUDA {}: install a newer driver, or version {} of NVRTC",
            version(compiler),
            version(driver),
            version(driver)
        ));
    }
    let capabilities = capabilities()?;
    match capabilities.iter().max() {
        None => Err("the driver knows no GPU".to_owned()),
        Some(&best) if best < LEAST_CAPABILITY => Err(format!(
            "the GPU has compute capability {}.{}, and kernels need {}.{} or later",
            best / 10,
            best % 10,
            LEAST_CAPABILITY / 10,
            LEAST_CAPABILITY % 10
        )),
        Some(_) => Ok(()),
    }
}

/// Whether a device, by its number among CUDA's, can run our kernels.
pub(super) fn is_recent(ordinal: usize) -> bool {
    i32::try_from(ordinal)
        .ok()
        .and_then(|ordinal| capability(ordinal).ok())
        .is_some_and(|x| x >= LEAST_CAPABILITY)
}

/// The compute capabilities of all devices, times ten.
fn capabilities() -> Result<Vec<i32>, String> {
    let said = |error: cudarc::driver::DriverError| format!("the driver says {error}");
    cudarc::driver::result::init().map_err(said)?;
    let count = cudarc::driver::result::device::get_count().map_err(said)?;
    (0..count).map(capability).collect()
}

fn check_headers(toolkit: &Path) -> Result<(), String> {
    let include = toolkit.join("include");
    match HEADERS.into_iter().find(|header| !include.join(header).is_file()) {
        None => Ok(()),
        Some(header) => Err(format!("{} has no {header}: {HOW}", include.display())),
    }
}

/// Loads a library of the toolkit, if it is there, so that who asks for it by name gets it although the system does not
/// look there.
fn load(toolkit: &Path, name: &str) {
    let mut found: Vec<PathBuf> = FOLDERS
        .iter()
        .filter_map(|folder| std::fs::read_dir(toolkit.join(folder)).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)))
        .collect();
    found.sort();
    // SAFETY: NVIDIA's libraries have initialisers without conditions. What is loaded stays so.
    let library = found.iter().find_map(|path| unsafe { libloading::Library::new(path) }.ok());
    std::mem::forget(library);
}

/// 1000·major + 10·minor.
fn driver_version() -> Result<i32, String> {
    let mut version = 0;
    // SAFETY: the library is there, and writes a number.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|error| format!("the driver does not say its version: {error}"))?;
    Ok(version)
}

/// As of [`driver_version`].
fn compiler_version() -> Result<i32, String> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, and writes two numbers.
    unsafe { cudarc::nvrtc::sys::nvrtcVersion(&mut major, &mut minor) }
        .result()
        .map_err(|error| format!("NVRTC does not say its version: {error}"))?;
    Ok(1000 * major + 10 * minor)
}

fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolkit_without_a_header_is_refused_by_the_headers_name() {
        let toolkit = tempfile::tempdir().unwrap();
        let include = toolkit.path().join("include");
        for header in HEADERS {
            let error = check_headers(toolkit.path()).unwrap_err();
            assert!(error.contains(&format!("has no {header}: install")), "{error}");
            let file = include.join(header);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        check_headers(toolkit.path()).unwrap();
        assert_eq!((version(13000), version(12080)), ("13.0".to_owned(), "12.8".to_owned()));
    }
}
