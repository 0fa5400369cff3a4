//! Statistics files.

use std::path::Path;

use super::metric::FeatureSpace;
use super::statistics::FeatureStatistics;
use crate::npz::{self, Array, NewArray};
use crate::{Error, Result};

/// How far Σᵢⱼ and Σⱼᵢ may differ, relative to the largest element.
const TOLERANCE: f64 = 1e-6;

/// Statistics with what they are of: `.npz` as pytorch-fid writes and reads them, arrays `mu` \[d\] and `sigma` [d, d] of
/// f64, and besides, for which pytorch-fid does not look, `count` and the name of the features, `features`.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsFile {
    /// μ, Σ and N.
    pub statistics: FeatureStatistics,
    /// Of which features; files of other programs do not tell.
    pub space: Option<FeatureSpace>,
}

impl StatisticsFile {
    /// Reads a file; its arrays may be deflated.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] naming the file and the array that is missing or not what it should be.
    pub fn read(path: &Path) -> Result<Self> {
        let find = |name: &str| {
            let missing = || {
                let problem =
                    format!("no array {name:?}; feature statistics are `mu` [d] and `sigma` [d, d]");
                Error::format(path, problem)
            };
            Array::open(path, name)?.ok_or_else(missing)
        };
        let (mut mean, mut covariance) = (find("mu")?, find("sigma")?);
        let &[dimension] = mean.shape.as_slice() else {
            return Err(mean.error(format!("has shape {:?}, not [d]", mean.shape)));
        };
        if dimension == 0 || covariance.shape != [dimension, dimension] {
            let problem =
                format!("has shape {:?}, not [{dimension}, {dimension}] as `mu` asks for", covariance.shape);
            return Err(covariance.error(problem));
        }
        let statistics = FeatureStatistics {
            mean: finite(&mut mean)?,
            covariance: finite(&mut covariance)?,
            count: count(path)?,
        };
        check_symmetric(&covariance, &statistics.covariance, dimension)?;
        Ok(Self { statistics, space: space(path, dimension)? })
    }

    /// Writes a file, stored.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let FeatureStatistics { mean, covariance, count } = &self.statistics;
        let dimension = mean.len();
        let floats = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let square = [dimension, dimension];
        let mut arrays = vec![
            NewArray { name: "mu", kind: "<f8".into(), shape: &square[..1], bytes: floats(mean) },
            NewArray { name: "sigma", kind: "<f8".into(), shape: &square, bytes: floats(covariance) },
        ];
        if let Some(count) = count {
            let bytes = (*count as i64).to_le_bytes().to_vec();
            arrays.push(NewArray { name: "count", kind: "<i8".into(), shape: &[], bytes });
        }
        if let Some(space) = self.space {
            let bytes = space.name().as_bytes().to_vec();
            let kind = format!("|S{}", bytes.len());
            arrays.push(NewArray { name: "features", kind, shape: &[], bytes });
        }
        npz::write(path, &arrays)
    }
}

fn finite(array: &mut Array) -> Result<Vec<f64>> {
    let values = array.floats()?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            Err(array.error(format!("has {} at {at} (counted from 0), not a finite number", values[at])))
        }
        None => Ok(values),
    }
}

fn check_symmetric(array: &Array, covariance: &[f64], dimension: usize) -> Result<()> {
    let largest = covariance.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for i in 0..dimension {
        for j in 0..i {
            let (a, b) = (covariance[i * dimension + j], covariance[j * dimension + i]);
            if (a - b).abs() > TOLERANCE * largest {
                let problem = format!("is no covariance: {a} at [{i}, {j}], but {b} at [{j}, {i}]");
                return Err(array.error(problem));
            }
        }
    }
    Ok(())
}

fn count(path: &Path) -> Result<Option<u64>> {
    let Some(mut array) = Array::open(path, "count")? else { return Ok(None) };
    match array.integers()?[..] {
        [count] if count >= 0 => Ok(Some(count as u64)),
        ref other => Err(array.error(format!("is {other:?}, not one number of images"))),
    }
}

fn space(path: &Path, dimension: usize) -> Result<Option<FeatureSpace>> {
    let Some(mut array) = Array::open(path, "features")? else { return Ok(None) };
    let name = array.text()?;
    let names = || FeatureSpace::ALL.map(FeatureSpace::name).join(", ");
    let space = FeatureSpace::of_name(&name)
        .ok_or_else(|| array.error(format!("is {name:?}; known features are {}", names())))?;
    if space.dimension() != dimension {
        let problem = format!("is {name}, which are {} numbers, but `mu` has {dimension}", space.dimension());
        return Err(array.error(problem));
    }
    Ok(Some(space))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npz::tests::{npy, npz};
    use rawzip::CompressionMethod;

    fn floats(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn read(bytes: &[u8]) -> Result<StatisticsFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.npz");
        std::fs::write(&path, bytes).unwrap();
        StatisticsFile::read(&path)
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.npz");
        let features: Vec<f32> = (0..192 * 3).map(|i| ((i * i) % 31) as f32).collect();
        let statistics = FeatureStatistics::of(&features, 192).unwrap();
        for space in [None, Some(FeatureSpace::Pixels)] {
            let file = StatisticsFile { statistics: statistics.clone(), space };
            file.write(&path).unwrap();
            assert_eq!(StatisticsFile::read(&path).unwrap(), file);
        }
    }

    #[test]
    fn a_file_with_mean_and_covariance_alone_is_enough() {
        let (mu, sigma) = (npy("<f8", "(2,)", &floats(&[1.0, 2.0])), floats(&[3.0, 0.5, 0.5, 4.0]));
        let sigma = npy("<f8", "(2, 2)", &sigma);
        for method in [CompressionMethod::STORE, CompressionMethod::DEFLATE] {
            let file = read(&npz(&[("mu", &mu), ("sigma", &sigma)], method)).unwrap();
            assert_eq!((file.statistics.count, file.space), (None, None));
            assert_eq!(file.statistics.mean, [1.0, 2.0]);
            assert_eq!(file.statistics.covariance, [3.0, 0.5, 0.5, 4.0]);
        }
    }

    #[test]
    fn a_bad_file_is_explained() {
        let mu = npy("<f8", "(2,)", &floats(&[1.0, 2.0]));
        let matrix = |shape: &str, values: &[f64]| npy("<f8", shape, &floats(values));
        let sigma = matrix("(2, 2)", &[3.0, 0.5, 0.5, 4.0]);
        let problem = |arrays: &[(&str, &[u8])], expected: &str| {
            let error = read(&npz(arrays, CompressionMethod::STORE)).unwrap_err().to_string();
            assert!(error.contains("statistics.npz") && error.contains(expected), "{error}");
        };
        problem(&[("sigma", &sigma)], "no array \"mu\"; feature statistics are `mu` [d] and `sigma` [d, d]");
        problem(&[("mu", &mu)], "no array \"sigma\"");
        problem(&[("mu", &sigma), ("sigma", &sigma)], "array \"mu\" has shape [2, 2], not [d]");
        problem(&[("mu", &mu), ("sigma", &mu)], "array \"sigma\" has shape [2], not [2, 2]");
        problem(&[("mu", &npy("<i8", "(2,)", &[0; 16])), ("sigma", &sigma)], "elements <i8, not floats");
        let nan = matrix("(2, 2)", &[3.0, 0.5, 0.5, f64::NAN]);
        problem(&[("mu", &mu), ("sigma", &nan)], "has NaN at 3");
        let askew = matrix("(2, 2)", &[3.0, 0.5, 0.6, 4.0]);
        problem(&[("mu", &mu), ("sigma", &askew)], "is no covariance: 0.6 at [1, 0], but 0.5 at [0, 1]");
        let named = |name: &str| npy(&format!("|S{}", name.len()), "()", name.as_bytes());
        let known = "known features are pixels, inception_fid, inception_fid_tf1, inception_torchvision";
        problem(&[("mu", &mu), ("sigma", &sigma), ("features", &named("vgg"))], known);
        let pixels = "pixels, which are 192 numbers, but `mu` has 2";
        problem(&[("mu", &mu), ("sigma", &sigma), ("features", &named("pixels"))], pixels);
        let negative = npy("<i8", "()", &(-1i64).to_le_bytes());
        problem(&[("mu", &mu), ("sigma", &sigma), ("count", &negative)], "is [-1], not one number of images");
    }
}
