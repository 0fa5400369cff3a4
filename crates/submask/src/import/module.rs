//! Modules that were pickled whole, as the reference's toy experiment does.
//!
//! Only the tensors are taken: a module's class is a name, and nothing of it is executed.

use super::foreign::ForeignTensor;
use super::torch::TorchFile;
use super::torch_values::{check_count, tensor_at};
use crate::Result;
use crate::pickle::ValueRef;

/// How deep modules may be nested.
const MAX_DEPTH: usize = 32;
/// How many modules are looked at: a hostile file may refer to one module from many places.
const MAX_MODULES: usize = 10_000;

/// Whether a value is a module.
pub(super) fn is_module(value: ValueRef<'_>) -> bool {
    value.attribute("_modules").is_some()
}

/// The parameters and buffers of a module and of the modules in it, named as its state dict would. `path` is where it
/// stands in the file.
pub(super) fn tensors_of_module(
    file: &TorchFile,
    module: ValueRef<'_>,
    path: &str,
) -> Result<Vec<ForeignTensor>> {
    let mut tensors = Vec::new();
    let mut modules = vec![(module, String::new(), 0)];
    let mut looked_at = 0;
    while let Some((module, prefix, depth)) = modules.pop() {
        looked_at += 1;
        if depth > MAX_DEPTH || looked_at > MAX_MODULES {
            return Err(file.error("its modules are nested too deep, or in a loop"));
        }
        for kind in ["_parameters", "_buffers"] {
            for (name, value) in named(module, kind) {
                let name = format!("{prefix}{name}");
                let place = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                check_count(file, tensors.len(), "the module")?;
                tensors.extend(tensor_at(file, value, place, name)?);
            }
        }
        let inner =
            named(module, "_modules").map(|(name, inner)| (inner, format!("{prefix}{name}."), depth + 1));
        modules.extend(inner);
    }
    Ok(tensors)
}

/// The entries of the dict `attribute` of an object.
fn named<'a>(
    object: ValueRef<'a>,
    attribute: &str,
) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> + use<'a> {
    let entries = object.attribute(attribute).and_then(|dict| dict.entries());
    entries.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str()?, value)))
}
