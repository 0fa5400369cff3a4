//! `.npz` files.

use std::path::Path;

use super::{Pixels, Rows};
use crate::error::{Error, Result};
use crate::npz::Array;

/// The images of the file at `path`.
pub(super) fn open(path: &Path) -> Result<Rows> {
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
    let (shape, labels) = (data.shape.clone(), labels.integers()?);
    Rows::new(path, Pixels::Npz(data), &shape, &labels)
}
