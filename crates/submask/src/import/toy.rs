//! State dicts, and modules that were pickled whole, as the reference's toy experiment does.
//!
//! Of a module only the tensors are taken: its class is a name, and nothing of it is executed.

use super::foreign::{Found, strip_common};
use super::torch::TorchFile;
use super::torch_values::{check_count, tensor_at, tensors_of};
use crate::Result;
use crate::pickle::ValueRef;

/// How deep modules may be nested.
const MAX_DEPTH: usize = 32;
/// How many modules are looked at: a hostile file may refer to one module from many places.
const MAX_MODULES: usize = 10_000;

/// The tensors of a pickled state dict.
pub(super) fn find_in_state_dict(file: &TorchFile) -> Result<Found> {
    let mut found = Found { raw: tensors_of(file, file.root(), "")?, ..Found::default() };
    strip_common(&mut found.raw, "backbone.");
    Ok(found)
}

/// The parameters and buffers of a pickled module and of the modules in it, named as its state dict would.
pub(super) fn find_in_module(file: &TorchFile) -> Result<Found> {
    let mut found = Found::default();
    let mut modules = vec![(file.root(), String::new(), 0)];
    let mut looked_at = 0;
    while let Some((module, prefix, depth)) = modules.pop() {
        looked_at += 1;
        if depth > MAX_DEPTH || looked_at > MAX_MODULES {
            return Err(file.error("its modules are nested too deep, or in a loop"));
        }
        for kind in ["_parameters", "_buffers"] {
            for (name, value) in named(module, kind) {
                let name = format!("{prefix}{name}");
                check_count(file, found.raw.len(), "the module")?;
                found.raw.extend(tensor_at(file, value, name.clone(), name)?);
            }
        }
        let inner =
            named(module, "_modules").map(|(name, inner)| (inner, format!("{prefix}{name}."), depth + 1));
        modules.extend(inner);
    }
    Ok(found)
}

/// The entries of the dict `attribute` of an object.
fn named<'a>(
    object: ValueRef<'a>,
    attribute: &str,
) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> + use<'a> {
    let entries = object.attribute(attribute).and_then(|dict| dict.entries());
    entries.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str()?, value)))
}
