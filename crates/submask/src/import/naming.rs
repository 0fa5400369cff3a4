//! Names of weights, without what wrappers put before them and between their parts.
//!
//! `torch.compile`, data parallelism, Lightning and a user's own classes lengthen names: `backbone._orig_mod.blocks.0…`,
//! `module.model.blocks.0…`. Parts that only wrappers have are removed wherever they stand. What is left before the
//! network's own names is found by one weight that every network of a kind has. Averaged weights in the same dict stand
//! under a prefix of their own, such as `ema_model.`.

use std::collections::{BTreeMap, BTreeSet};

use super::block_diffusion;
use super::foreign::{ForeignTensor, Found};

/// The weight that tells where the names of a network begin, for every kind of network.
const ANCHORS: [&str; 5] = [
    "vocab_embed.embedding",
    "vocab_embed.weight.weight",
    "transformer.wte.weight",
    "pixel_embedding.embedding_table.weight",
    "token_embedding.weight",
];

/// Parts of names that only wrappers add.
const WRAPPERS: [&str; 5] =
    ["_orig_mod", "module", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// Prefixes of the network that is meant where a file holds several, the first one there wins.
const PREFIXES: [&str; 8] =
    ["", "backbone.", "model.", "net.", "network.", "denoiser.", "model.backbone.", "model.model."];

/// Names for averages of weights, as parts of a key.
const AVERAGES: [&str; 9] =
    ["ema", "averaged", "average", "avg", "swa", "polyak", "shadow", "emamodel", "modelema"];

/// Names for what is no weight though it may be averaged, as parts of a key: gradients, losses, and what an optimiser keeps.
const STATISTICS: [&str; 9] =
    ["grad", "grads", "gradient", "gradients", "loss", "losses", "optim", "optimizer", "optimiser"];

/// What Adam calls the averages of gradients and of their squares begins so.
const MOMENTS: &str = "exp_avg";

/// How the names of averaged weights in a list begin, which have a number each.
const SHADOW: &str = "shadow_params";

/// Numbers that classes for averaging keep beside the weights.
const COUNTERS: [&str; 5] = ["decay", "num_updates", "n_averaged", "initted", "step"];

/// Prefixes of networks that an error names; of more, their number is given.
const SHOWN: usize = 4;

/// Whether a key stands for averaged weights: `ema`, `model_ema`, `averaged_state_dict`, `ema_0.9999`, ….
pub(super) fn is_average(key: &str) -> bool {
    let is_one = |part: String| {
        let rest = part.strip_prefix("ema").unwrap_or("none");
        AVERAGES.contains(&part.as_str()) || rest.bytes().all(|byte| byte.is_ascii_digit())
    };
    !is_statistic(key) && words(key).any(is_one)
}

/// Whether a key stands for something of training that is no weight: `exp_avg`, `ema_grad`, `loss_avg`, ….
fn is_statistic(key: &str) -> bool {
    key.to_ascii_lowercase().contains(MOMENTS) || words(key).any(|part| STATISTICS.contains(&part.as_str()))
}

/// The parts of a key, in small letters.
fn words(key: &str) -> impl Iterator<Item = String> + '_ {
    key.split(['.', '_', '-', ' ']).map(str::to_ascii_lowercase)
}

/// Sorts the weights of one dict into sets, under the network's own names.
///
/// # Errors
/// What is wrong: averaged weights that are not numbered from 0 on, several networks, or several weights of one name.
pub(super) fn sort(mut tensors: Vec<ForeignTensor>, found: &mut Found) -> Result<(), String> {
    tensors.iter_mut().for_each(|tensor| remove_wrappers(&mut tensor.name, &mut found.stripped));
    let tensors = without_numbers_of_training(tensors, found);
    let (listed, tensors) = take_list(tensors)?;
    let (statistics, networks): (Vec<_>, Vec<_>) =
        prefixes(&tensors).into_iter().partition(|prefix| is_statistic(prefix));
    let (networks, tensors) = match networks.is_empty() {
        true => (statistics, tensors),
        false => (networks, without(&statistics, tensors, found)),
    };
    let (averages, plain): (Vec<_>, Vec<_>) = networks.into_iter().partition(|prefix| is_average(prefix));
    let (plain, average) = (choose(plain)?, choose(averages)?);
    let (dotless, tensors) = match average {
        Some(_) => (Vec::new(), tensors),
        None => take_dotless(tensors, plain.as_deref().unwrap_or_default()),
    };
    let (mut raw, mut averaged) = split(tensors, plain, average, found);
    if averaged.is_empty() {
        averaged = dotless;
    }
    if averaged.is_empty() {
        averaged = listed;
    } else if !listed.is_empty() {
        found.skip(SHADOW, "another average of the weights");
    }
    if raw.is_empty() && averaged.iter().all(|tensor| !tensor.name.is_empty()) {
        (raw, averaged) = (averaged, raw);
        found.only_averaged = !raw.is_empty();
    }
    [&raw, &averaged].into_iter().try_for_each(|tensors| check_names(tensors))?;
    found.raw = raw;
    found.averaged = averaged;
    Ok(())
}

/// The tensors that are no numbers of training beside the weights.
fn without_numbers_of_training(tensors: Vec<ForeignTensor>, found: &mut Found) -> Vec<ForeignTensor> {
    let (skipped, kept): (Vec<_>, Vec<_>) =
        tensors.into_iter().partition(|tensor| block_diffusion::is_of_training(&tensor.name));
    for tensor in skipped {
        found.skip(tensor.path, "a bound of the noise levels of a training, no weight");
    }
    kept
}

/// The tensors that do not stand under the prefixes of `statistics`.
fn without(statistics: &[String], tensors: Vec<ForeignTensor>, found: &mut Found) -> Vec<ForeignTensor> {
    let is_one = |tensor: &ForeignTensor| statistics.iter().any(|prefix| tensor.name.starts_with(prefix));
    let (skipped, kept): (Vec<_>, Vec<_>) = tensors.into_iter().partition(is_one);
    skipped.into_iter().for_each(|tensor| found.skip(tensor.path, "a statistic of training, no weight"));
    kept
}

/// Refuses weights that have one name only without what wrappers add. Of one path in a file that stands there twice the
/// last counts, as in Python.
fn check_names(tensors: &[ForeignTensor]) -> Result<(), String> {
    let mut paths: BTreeMap<&str, &str> = BTreeMap::new();
    for tensor in tensors.iter().filter(|tensor| !tensor.name.is_empty()) {
        let (name, path) = (tensor.name.as_str(), tensor.path.as_str());
        if let Some(other) = paths.insert(name, path).filter(|other| *other != path) {
            return Err(format!(
                "{other} and {path} are both {name} without what wrappers add: save one network alone"
            ));
        }
    }
    Ok(())
}

/// Removes the parts of wrappers from a name, and notes them.
fn remove_wrappers(name: &mut String, stripped: &mut Vec<String>) {
    if !name.split('.').any(|part| WRAPPERS.contains(&part)) {
        return;
    }
    let (wrappers, parts): (Vec<&str>, Vec<&str>) = name.split('.').partition(|part| WRAPPERS.contains(part));
    wrappers.into_iter().for_each(|part| note(stripped, &format!("{part}.")));
    *name = parts.join(".");
}

/// Notes, once, something that was removed from names.
pub(super) fn note(stripped: &mut Vec<String>, part: &str) {
    if !part.is_empty() && !stripped.iter().any(|known| known == part) {
        stripped.push(part.to_owned());
    }
}

/// Takes the averaged weights out that are numbered, `shadow_params.0` and so on, in their order.
fn take_list(tensors: Vec<ForeignTensor>) -> Result<(Vec<ForeignTensor>, Vec<ForeignTensor>), String> {
    let number = |tensor: &ForeignTensor| {
        let (before, number) = tensor.name.rsplit_once('.')?;
        let is_list = before == SHADOW || before.strip_suffix(SHADOW).is_some_and(|rest| rest.ends_with('.'));
        is_list.then(|| number.parse::<usize>().ok()).flatten()
    };
    let (mut listed, mut others) = (Vec::new(), Vec::new());
    for tensor in tensors {
        match number(&tensor) {
            Some(number) => listed.push((number, tensor)),
            None => others.push(tensor),
        }
    }
    listed.sort_by_key(|(number, _)| *number);
    if let Some(place) = listed.iter().enumerate().position(|(place, (number, _))| place != *number) {
        return Err(format!("{SHADOW}.{place} is missing, or another one is there twice"));
    }
    let nameless = listed.into_iter().map(|(_, mut tensor)| {
        tensor.name.clear();
        tensor
    });
    Ok((nameless.collect(), others))
}

/// What stands before the names of networks.
fn prefixes(tensors: &[ForeignTensor]) -> BTreeSet<String> {
    let before = |name: &str| {
        let mut found = ANCHORS.iter().filter_map(|anchor| name.strip_suffix(anchor));
        found.find(|before| before.is_empty() || before.ends_with('.')).map(str::to_owned)
    };
    tensors.iter().filter_map(|tensor| before(&tensor.name)).collect()
}

/// The prefix of the network that is meant.
fn choose(prefixes: Vec<String>) -> Result<Option<String>, String> {
    if prefixes.len() < 2 {
        return Ok(prefixes.into_iter().next());
    }
    let usual = PREFIXES.iter().find(|usual| prefixes.iter().any(|prefix| prefix == *usual));
    match usual {
        Some(usual) => Ok(Some((*usual).to_owned())),
        None => {
            let shown: Vec<String> =
                prefixes.iter().take(SHOWN).map(|prefix| format!("`{prefix}`")).collect();
            Err(format!("it holds {} networks, under {}: save one alone", prefixes.len(), shown.join(", ")))
        }
    }
}

/// The weights under both prefixes without them. Without any network's weight, prefixes that all names share go.
fn split(
    mut tensors: Vec<ForeignTensor>,
    plain: Option<String>,
    average: Option<String>,
    found: &mut Found,
) -> (Vec<ForeignTensor>, Vec<ForeignTensor>) {
    if plain.is_none() && average.is_none() {
        strip_common(&mut tensors, &mut found.stripped);
        return (tensors, Vec::new());
    }
    let (mut raw, mut averaged) = (Vec::new(), Vec::new());
    for mut tensor in tensors {
        let begins = |prefix: &Option<String>| {
            prefix.as_ref().filter(|prefix| tensor.name.starts_with(prefix.as_str())).map(String::len)
        };
        match (begins(&average), begins(&plain)) {
            (Some(len), _) => {
                tensor.name.drain(..len);
                averaged.push(tensor);
            }
            (None, Some(len)) => {
                tensor.name.drain(..len);
                raw.push(tensor);
            }
            (None, None) if COUNTERS.contains(&tensor.name.as_str()) => {
                found.skip(tensor.path, "a counter of the averaging");
            }
            (None, None) => {
                let prefix = plain.as_ref().or(average.as_ref()).map_or("", String::as_str);
                found.skip(tensor.path, format!("not the network's: it stands outside `{prefix}`"));
            }
        }
    }
    [plain, average].into_iter().flatten().for_each(|prefix| note(&mut found.stripped, &prefix));
    (raw, averaged)
}

/// Removes usual prefixes that all names have.
fn strip_common(tensors: &mut [ForeignTensor], stripped: &mut Vec<String>) {
    for prefix in ["model.", "backbone.", "model.", "net.", "network.", "denoiser."] {
        if !tensors.is_empty() && tensors.iter().all(|tensor| tensor.name.starts_with(prefix)) {
            tensors.iter_mut().for_each(|tensor| drop(tensor.name.drain(..prefix.len())));
            note(stripped, prefix);
        }
    }
}

/// Takes out the averaged weights of classes that leave the dots out of names, `model_ema.blocks0norm1weight`, and names
/// them as the network does. Such names may begin with parts of the prefix `plain` of the others.
fn take_dotless(tensors: Vec<ForeignTensor>, plain: &str) -> (Vec<ForeignTensor>, Vec<ForeignTensor>) {
    let dotless = |tensor: &ForeignTensor| {
        let (first, rest) = tensor.name.split_once('.')?;
        (is_average(first) && !rest.contains('.')).then(|| rest.to_owned())
    };
    if !tensors.iter().any(|tensor| dotless(tensor).is_some()) {
        return (Vec::new(), tensors);
    }
    let own = |tensor: &ForeignTensor| tensor.name.strip_prefix(plain).map(str::to_owned);
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for start in std::iter::once(0).chain(plain.match_indices('.').map(|(place, _)| place + 1)) {
        let known = tensors.iter().filter_map(own);
        names.extend(known.map(|own| (format!("{}{own}", &plain[start..]).replace('.', ""), own)));
    }
    let (mut averaged, mut others) = (Vec::new(), Vec::new());
    for mut tensor in tensors {
        match dotless(&tensor).and_then(|name| names.get(&name).cloned()) {
            Some(name) => {
                tensor.name = name;
                averaged.push(tensor);
            }
            None => others.push(tensor),
        }
    }
    (averaged, others)
}
