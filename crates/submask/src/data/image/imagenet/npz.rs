//! `.npz` files.

use std::path::Path;

use super::Pixels;
use crate::error::{Error, Result};
use crate::npz::Array;

/// Shape of `data`, its elements, and `labels` of the file at `path`.
pub(super) fn open(path: &Path) -> Result<(Vec<usize>, Pixels, Vec<i64>)> {
    let find = |name: &str| {
        let missing =
            || Error::format(path, format!("no array {name:?}; it should hold `data` and `labels`"));
        Array::open(path, name)?.ok_or_else(missing)
    };
    let (data, mut labels) = (find("data")?, find("labels")?);
    if data.kind != "|u1" {
        return Err(data.error(format!("has elements {}, not |u1", data.kind)));
    }
    if labels.shape.len() != 1 {
        return Err(labels.error(format!("has shape {:?}, not one label for each image", labels.shape)));
    }
    Ok((data.shape.clone(), Pixels::Npz(data), labels.integers()?))
}
