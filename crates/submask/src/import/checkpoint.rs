//! What stands where in a file of `torch.save`: which dict holds the weights, which their average, what is a
//! configuration, and what is none of these.
//!
//! A training loop saves a dict of its own making. The weights stand in it, or under one of the usual keys
//! ([`WRAPPERS`]), or some levels down; on the way there averaged weights and configurations are looked for. A key with
//! a name for averages holds named weights, a list in the order of the network's parameters (`shadow_params`), or a
//! dict with either of them inside. What else is there is reported.

use super::contents;
use super::facts::Facts;
use super::foreign::{ForeignTensor, Format, Found};
use super::module::{is_module, tensors_of_module};
use super::naming::{self, is_average};
use super::torch::{TorchFile, is_tensor};
use super::torch_values::{check_count, tensor_at, tensors_of};
use crate::Result;
use crate::pickle::ValueRef;

/// Keys under which weights stand, the first one there that holds some wins.
const WRAPPERS: [&str; 14] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "network",
    "net",
    "backbone",
    "denoiser",
    "model_weights",
    "weights",
    "params",
    "checkpoint",
    "state",
];
/// Keys of dicts that hold averaged weights, beside [`WRAPPERS`].
const SHADOWS: [&str; 3] = ["shadow", "shadow_params", "ema_model"];
/// Keys of configurations, the first one there wins.
const CONFIGURATIONS: [&str; 8] =
    ["hyper_parameters", "args", "config", "cfg", "hparams", "model_args", "model_config", "configuration"];
/// How deep weights may stand in wrappers.
const MAX_DEPTH: usize = 4;
/// How many dicts are searched for weights: a hostile file may nest one in itself.
const MAX_DICTS: usize = 64;

/// Weights, averaged weights and configuration of a file, and which kind of checkpoint that is.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) for a file without weights, naming the keys that are there.
pub(super) fn find(file: &TorchFile) -> Result<(Format, Found)> {
    let root = file.root();
    let way = Search { wrappers: &WRAPPERS, left: MAX_DICTS }.way(root, 0);
    let mut aside = Aside::default();
    let mut found = Found::default();
    let (mut here, mut path) = (root, String::new());
    for key in way.iter().flatten() {
        aside.collect(file, here, &path, Some(key), &mut found)?;
        let Some(inner) = here.get(key) else { break };
        (here, path) = (inner, dotted(&path, key));
    }
    if way.is_none() || !is_module(here) {
        aside.collect(file, here, &path, None, &mut found)?;
    }
    let tensors = match way.is_some() {
        true => tensors_at(file, here, &path)?,
        false => Vec::new(),
    };
    let format = format_of(way.as_deref(), here, &tensors);
    naming::sort(tensors, &mut found).map_err(|problem| file.error(problem))?;
    found.facts = aside.facts;
    aside
        .average
        .map_or(Ok(()), |average| average.give(&mut found))
        .map_err(|problem| file.error(problem))?;
    if found.raw.is_empty() {
        let keys = contents::keys_of(file);
        return Err(file.error(format!(
            "it holds no weights: neither a state dict nor a checkpoint of a known kind. There is {keys}"
        )));
    }
    Ok((format, found))
}

/// What kind of checkpoint it is whose weights stand at the end of a way of keys.
fn format_of(way: Option<&[&str]>, place: ValueRef<'_>, tensors: &[ForeignTensor]) -> Format {
    let begins = |prefix: &str| tensors.iter().any(|tensor| tensor.name.starts_with(prefix));
    match way {
        Some([]) if is_module(place) => Format::Module,
        Some([]) => Format::StateDict,
        Some(["state_dict", ..]) => Format::Lightning,
        Some(["model"]) if begins("shadow_params.") || begins("model.") => Format::Image,
        Some(["model"]) if tensors.iter().any(|tensor| tensor.name.contains("transformer.wte.")) => {
            Format::Encoder
        }
        _ => Format::Wrapped,
    }
}

/// The tensors of a dict or module.
fn tensors_at(file: &TorchFile, value: ValueRef<'_>, path: &str) -> Result<Vec<ForeignTensor>> {
    if is_module(value) { tensors_of_module(file, value, path) } else { tensors_of(file, value, path) }
}

/// Looks for the dict that holds weights.
struct Search<'a> {
    wrappers: &'a [&'static str],
    /// Dicts that may still be looked at.
    left: usize,
}

impl Search<'_> {
    /// The keys on the way to the weights.
    fn way(&mut self, value: ValueRef<'_>, depth: usize) -> Option<Vec<&'static str>> {
        self.left = self.left.checked_sub(1)?;
        if is_module(value) {
            return Some(Vec::new());
        }
        let mut inside: Vec<Option<ValueRef<'_>>> = vec![None; self.wrappers.len()];
        let mut has_tensors = false;
        for (key, value) in value.entries()? {
            let place = key.as_str().and_then(|key| self.wrappers.iter().position(|known| *known == key));
            match place {
                Some(place) => inside[place] = Some(value),
                None => has_tensors |= is_tensor(value),
            }
        }
        if depth < MAX_DEPTH {
            for (place, value) in inside.into_iter().enumerate() {
                let way = value.and_then(|value| self.way(value, depth + 1));
                if let Some(rest) = way {
                    return Some([&[self.wrappers[place]], &rest[..]].concat());
                }
            }
        }
        has_tensors.then(Vec::new)
    }
}

/// What stands beside the weights.
#[derive(Default)]
struct Aside {
    average: Option<Average>,
    facts: Facts,
    /// Which of [`CONFIGURATIONS`] the facts are of.
    configuration: Option<usize>,
}

/// Averaged weights.
enum Average {
    /// In the order of the network's parameters.
    List(Vec<ForeignTensor>),
    /// By name.
    Named(Vec<ForeignTensor>),
}

impl Average {
    /// Puts them into what was found.
    fn give(self, found: &mut Found) -> std::result::Result<(), String> {
        if !found.averaged.is_empty() {
            found.skip("the average beside the weights", "another average stands among them");
            return Ok(());
        }
        match self {
            Self::List(tensors) => found.averaged = tensors,
            Self::Named(tensors) => {
                let mut own = Found::default();
                naming::sort(tensors, &mut own)?;
                let tensors = if own.raw.is_empty() { own.averaged } else { own.raw };
                own.stripped.iter().for_each(|part| naming::note(&mut found.stripped, part));
                found.skipped.append(&mut own.skipped);
                match found.raw.is_empty() {
                    true => (found.raw, found.only_averaged) = (tensors, true),
                    false => found.averaged = tensors,
                }
            }
        }
        Ok(())
    }
}

impl Aside {
    /// Looks at the entries of a dict on the way to the weights; `next` is the key of the way.
    fn collect(
        &mut self,
        file: &TorchFile,
        dict: ValueRef<'_>,
        path: &str,
        next: Option<&str>,
        found: &mut Found,
    ) -> Result<()> {
        check_count(file, dict.entries().map_or(0, Iterator::count), path_or_root(path))?;
        for (key, value) in dict.entries().into_iter().flatten() {
            let Some(key) = key.as_str().filter(|key| Some(*key) != next) else { continue };
            if next.is_none() && is_tensor(value) {
                continue;
            }
            let full = dotted(path, key);
            if let Some(place) = CONFIGURATIONS.iter().position(|known| *known == key) {
                if self.configuration.is_none_or(|known| place < known) {
                    self.facts = Facts::of_pickle(value.get("config").unwrap_or(value));
                    self.configuration = Some(place);
                }
                continue;
            }
            let average = if is_average(key) { average_at(file, value, &full)? } else { None };
            match average {
                Some(average) if self.average.is_none() => self.average = Some(average),
                Some(_) => found.skip(full, "another average of the weights"),
                None => found.skip(full, "no weights"),
            }
        }
        Ok(())
    }
}

/// The averaged weights that a value holds.
fn average_at(file: &TorchFile, value: ValueRef<'_>, path: &str) -> Result<Option<Average>> {
    let list = |value: ValueRef<'_>, path: &str| {
        let items = value.items();
        check_count(file, items.clone().map_or(0, Iterator::count), path)?;
        let mut tensors = Vec::new();
        for (index, item) in items.into_iter().flatten().enumerate() {
            tensors.extend(tensor_at(file, item, format!("{path}.{index}"), String::new())?);
        }
        Ok::<_, crate::Error>((!tensors.is_empty()).then_some(Average::List(tensors)))
    };
    if value.entries().is_none() && !is_module(value) {
        return list(value, path);
    }
    let shadow = value.get("shadow_params").filter(|shadow| shadow.items().is_some());
    if let Some(shadow) = shadow {
        return list(shadow, &dotted(path, "shadow_params"));
    }
    let wrappers: Vec<&'static str> = SHADOWS.into_iter().chain(WRAPPERS).collect();
    let way = Search { wrappers: &wrappers, left: MAX_DICTS }.way(value, 0);
    let Some(way) = way else { return Ok(None) };
    let (mut here, mut path) = (value, path.to_owned());
    for key in way {
        let Some(inner) = here.get(key) else { break };
        (here, path) = (inner, dotted(&path, key));
    }
    Ok(Some(Average::Named(tensors_at(file, here, &path)?)))
}

fn dotted(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn path_or_root(path: &str) -> &str {
    if path.is_empty() { "the checkpoint" } else { path }
}
