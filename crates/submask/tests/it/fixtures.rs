//! Fixture cases: folders with a `case.json` and safetensors files, found by the prefix of their names.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use submask::ops::Kernels;
use submask::{Device, DeviceChoice, Precision, device};

/// Names another folder of fixtures.
const VARIABLE: &str = "SUBMASK_FIXTURES";

/// One fixture folder.
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// Its `case.json`.
    pub json: Value,
}

/// All cases whose names begin with `prefix`, in order of name; prints the name of each.
///
/// Without a fixture folder there are none, and the reason is printed. A default folder without a case of the
/// prefix is a failure; one named by the variable may lack it.
pub fn cases(prefix: &str) -> Vec<Case> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let folder = match &named {
        Some(folder) => folder.clone(),
        None => [Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"), default]
            .into_iter()
            .find(|folder| folder.is_dir())
            .unwrap_or_default(),
    };
    let Ok(entries) = std::fs::read_dir(&folder) else {
        assert!(named.is_none(), "{VARIABLE} = {} cannot be read", folder.display());
        println!(
            "no fixtures: there is no folder shared/fixtures beside or in the workspace, and {VARIABLE} is not set"
        );
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(prefix) && folder.join(name).is_dir());
    names.sort();
    if names.is_empty() {
        assert!(named.is_some(), "{} holds no case {prefix}*", folder.display());
        println!("{VARIABLE} = {} holds no case {prefix}*: nothing to compare", folder.display());
    }
    names.into_iter().map(|name| Case::open(&folder, name)).collect()
}

impl Case {
    fn open(folder: &Path, name: String) -> Self {
        println!("case {name}");
        let dir = folder.join(&name);
        let text =
            std::fs::read_to_string(dir.join("case.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}/case.json: {error}"));
        Self { name, dir, json }
    }

    /// A whole number of `case.json`.
    pub fn integer(&self, key: &str) -> usize {
        self.json[key].as_u64().unwrap_or_else(|| panic!("{}: case.json has no integer {key}", self.name))
            as usize
    }

    /// A number of `case.json`.
    pub fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap_or_else(|| panic!("{}: case.json has no number {key}", self.name))
    }

    /// Whether a flag of `case.json` is set; absent means false.
    pub fn flag(&self, key: &str) -> bool {
        self.json[key].as_bool().unwrap_or(false)
    }

    /// Whether the case has a file of tensors.
    pub fn has(&self, file: &str) -> bool {
        self.dir.join(format!("{file}.safetensors")).is_file()
    }

    /// A tensor of 32-bit floats or integers as float64: shape and values; `None`, said by name, where the case
    /// has no such tensor.
    pub fn tensor(&self, file: &str, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
        if !self.has(file) || !self.tensor_names(file).iter().any(|other| other == name) {
            println!("case {}: no {file}/{name}, skipped", self.name);
            return None;
        }
        match self.with_file(file, |tensors| tensors.tensor(name).map(|tensor| tensor.dtype()).ok()) {
            Some(Dtype::I64) => {
                let (shape, values) = self.tensor_i64(file, name);
                Some((shape, values.into_iter().map(|x| x as f64).collect()))
            }
            _ => {
                let (shape, values) = self.tensor_f32(file, name);
                Some((shape, values.into_iter().map(f64::from).collect()))
            }
        }
    }

    /// Token or digit ids.
    pub fn ids(&self, file: &str, name: &str) -> Vec<u32> {
        self.tensor_i64(file, name).1.into_iter().map(|x| x as u32).collect()
    }

    /// The names of the tensors in a file.
    pub fn tensor_names(&self, file: &str) -> Vec<String> {
        self.with_file(file, |tensors| tensors.names().into_iter().map(str::to_string).collect())
    }

    /// A tensor as float32: shape and values.
    pub fn tensor_f32(&self, file: &str, name: &str) -> (Vec<usize>, Vec<f32>) {
        let (shape, values) = self.bytes(file, name, Dtype::F32);
        (shape, values.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }

    /// A tensor as float64: shape and values.
    pub fn tensor_f64(&self, file: &str, name: &str) -> (Vec<usize>, Vec<f64>) {
        let (shape, values) = self.bytes(file, name, Dtype::F64);
        (shape, values.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect())
    }

    /// A tensor as 64-bit integers: shape and values.
    pub fn tensor_i64(&self, file: &str, name: &str) -> (Vec<usize>, Vec<i64>) {
        let (shape, values) = self.bytes(file, name, Dtype::I64);
        (shape, values.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect())
    }

    /// A tensor as float64, or `None`, said by name, where the case has no such column.
    pub fn column(&self, file: &str, name: &str) -> Option<Vec<f64>> {
        if self.tensor_names(file).iter().any(|other| other == name) {
            return Some(self.tensor_f64(file, name).1);
        }
        println!("case {}: no column {name}, skipped", self.name);
        None
    }

    fn bytes(&self, file: &str, name: &str, dtype: Dtype) -> (Vec<usize>, Vec<u8>) {
        self.with_file(file, |tensors| {
            let tensor =
                tensors.tensor(name).unwrap_or_else(|error| panic!("{}/{file}: {name}: {error}", self.name));
            assert_eq!(tensor.dtype(), dtype, "{}/{file}: {name}", self.name);
            (tensor.shape().to_vec(), tensor.data().to_vec())
        })
    }

    fn with_file<R>(&self, file: &str, read: impl FnOnce(SafeTensors<'_>) -> R) -> R {
        let path = self.dir.join(format!("{file}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        read(SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }
}

/// Names the only GPU that is tested, as `--device` does.
const DEVICE_VARIABLE: &str = "SUBMASK_TEST_DEVICE";

/// Names the precisions in which GPUs are tested, with commas between them: by default `fp32`.
const PRECISION_VARIABLE: &str = "SUBMASK_TEST_PRECISION";

/// Set to 1, it has deviations reported that would be failures.
const REPORT_VARIABLE: &str = "SUBMASK_TEST_REPORT";

/// Where networks are evaluated, and by which operations: on the CPU by all kinds, and on every GPU by its own. With
/// a device named by the variable, there alone.
pub fn places() -> Vec<(Device, Kernels)> {
    let on_gpus = gpus().into_iter().flat_map(|gpu| {
        let kernels = |precision| {
            let kernels = Kernels::new(&gpu, precision);
            (gpu.clone(), kernels.unwrap_or_else(|error| panic!("{PRECISION_VARIABLE}: {error}")))
        };
        precisions().into_iter().map(kernels).collect::<Vec<_>>()
    });
    if std::env::var_os(DEVICE_VARIABLE).is_some() {
        return on_gpus.collect();
    }
    let kinds = [Kernels::FUSED, Kernels::PLAIN, Kernels::GPU];
    kinds.map(|kernels| (Device::flex(), kernels)).into_iter().chain(on_gpus).collect()
}

/// The precisions that are named by the variable.
fn precisions() -> Vec<Precision> {
    let named = std::env::var(PRECISION_VARIABLE).unwrap_or_else(|_| "fp32".to_owned());
    let parsed = named.split(',').map(str::parse).collect::<Result<_, _>>();
    parsed.unwrap_or_else(|error| panic!("{PRECISION_VARIABLE}: {error}"))
}

/// What may deviate, relative to the largest value.
pub struct Tolerances {
    /// Logits, probabilities, losses.
    pub values: f64,
    /// Gradients of a loss, and losses and norms of the steps that follow from them.
    pub gradients: f64,
    /// Weights after ten steps: AdamW turns the sign of a tiny gradient into a step of full length.
    pub trained: f64,
}

/// Those of a precision. Factors have 10 bits behind the point in tf32, 7 in bf16.
pub fn tolerances(kernels: Kernels) -> Tolerances {
    match kernels.precision() {
        Precision::Fp32 => Tolerances { values: 1e-5, gradients: 1e-4, trained: 2e-3 },
        Precision::Tf32 => Tolerances { values: 5e-3, gradients: 1e-2, trained: 1e-1 },
        Precision::Bf16 => Tolerances { values: 3e-2, gradients: 6e-2, trained: 3e-1 },
    }
}

/// The device that is named by the variable; otherwise, where this was built with GPUs, all that are hardware, or the first
/// of those that are not.
pub fn gpus() -> Vec<Device> {
    static GPUS: OnceLock<Vec<Device>> = OnceLock::new();
    GPUS.get_or_init(find_gpus).clone()
}

fn find_gpus() -> Vec<Device> {
    if let Ok(name) = std::env::var(DEVICE_VARIABLE) {
        let choice: DeviceChoice = name.parse().unwrap_or_else(|error| panic!("{DEVICE_VARIABLE}: {error}"));
        return vec![choice.open().unwrap_or_else(|error| panic!("{DEVICE_VARIABLE}: {error}"))];
    }
    if cfg!(not(any(feature = "cuda", feature = "wgpu"))) {
        return Vec::new();
    }
    let hardware = device::gpus().iter().filter(|gpu| !gpu.software).count();
    let opened = (0..hardware.max(1)).map(|index| DeviceChoice::Gpu(index).open());
    let gpus: Vec<Device> =
        opened.filter_map(|gpu| gpu.inspect_err(|error| println!("skipped on GPUs: {error}")).ok()).collect();
    println!("GPUs that are tested: {}", gpus.len());
    gpus
}

/// The largest |ours − theirs|, relative to the largest magnitude of theirs; all are finite.
pub fn deviation(ours: &[f64], theirs: &[f64]) -> f64 {
    let scale = theirs.iter().fold(0f64, |a, x| a.max(x.abs()));
    ours.iter().zip(theirs).fold(0f64, |largest, (a, b)| largest.max((a - b).abs())) / scale
}

/// Fails with what is wrong, or says it where deviations are to be reported.
pub fn hold(claim: bool, wrong: impl FnOnce() -> String) {
    if !claim && is_reporting() {
        return println!("NOT HELD {}", wrong());
    }
    assert!(claim, "{}", wrong());
}

fn is_reporting() -> bool {
    std::env::var(REPORT_VARIABLE).is_ok_and(|value| value == "1")
}

/// Asserts |ours − theirs| ≤ tolerance · the largest finite magnitude of theirs, and −∞ at identical places.
pub fn assert_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}: number of elements");
    let scale = theirs.iter().filter(|x| x.is_finite()).fold(0f64, |a, x| a.max(x.abs())).max(1e-30);
    let off = |(a, b): (&f64, &f64)| match a.is_finite() && b.is_finite() {
        true => (a - b).abs() / scale,
        false if a == b => 0.0,
        false => f64::INFINITY,
    };
    let pairs = ours.iter().zip(theirs).map(off).enumerate();
    let (i, off) = pairs.fold((0, 0.0), |worst, next| if next.1 > worst.1 { next } else { worst });
    if is_reporting() {
        println!("DEVIATION {off:.2e} allowed {tolerance:.0e} {what}");
    }
    hold(off <= tolerance, || {
        let (a, b) = (ours[i], theirs[i]);
        format!("{what}[{i}]: {a} against {b} (off by {off:.2e} of {scale}, not {tolerance:.0e})")
    });
}
