//! The tensors of a file as the weights of a network.

use std::collections::{HashMap, HashSet};

use super::foreign::{Foreign, ForeignTensor, Skipped, WeightSet};
use super::own_mask::Rows;
use super::report::Applied;
use crate::backbone::weights::Parameter;
use crate::{Error, Result};

/// Problems that are named in an error; of more, their number is given.
const MAX_NAMED: usize = 12;

/// Tensors that networks compute: no parameters, and not needed.
const BUFFERS: [&str; 1] = ["rotary_emb.inv_freq"];

/// Weights with a row per token.
const TABLES: [&str; 6] = [
    "vocab_embed.embedding",
    "vocab_embed.weight.weight",
    "transformer.wte.weight",
    "output_layer.linear.weight",
    "output_layer.linear.bias",
    "lm_head.weight",
];

/// Whether a tensor is one that networks compute.
pub(super) fn is_buffer(name: &str) -> bool {
    BUFFERS.contains(&name)
}

/// Whether a weight has a row per token.
pub(super) fn is_table(name: &str) -> bool {
    TABLES.contains(&name)
}

/// Which tensors are taken and which are not.
pub(super) struct Assembly<'a> {
    /// One tensor a parameter, in definition order.
    pub sources: Vec<&'a ForeignTensor>,
    pub weights: WeightSet,
    pub applied: Vec<Applied>,
    pub skipped: Vec<Skipped>,
    pub unused: Vec<(String, Vec<usize>)>,
}

/// Finds a tensor for every parameter, in the set of weights asked for; of files with averaged weights, those are
/// taken if nothing is asked. Tables may have more or fewer `rows` than the network's.
///
/// # Errors
/// [`Error::Invalid`] for a set of weights that is not there; [`Error::Format`] naming every weight that is missing
/// or of another shape.
pub(super) fn assemble<'a>(
    foreign: &'a Foreign,
    parameters: &[Parameter],
    asked: Option<WeightSet>,
    rows: Rows,
) -> Result<Assembly<'a>> {
    let has_average = !foreign.averaged.is_empty();
    let sets = foreign.sets();
    let weights =
        asked.unwrap_or(if sets.contains(&WeightSet::Ema) { WeightSet::Ema } else { WeightSet::Raw });
    if !sets.contains(&weights) {
        let (given, other) = match weights {
            WeightSet::Ema => ("ema", "raw"),
            WeightSet::Raw => ("raw", "ema"),
        };
        let given = format!("{given}, but {} holds one set of weights", foreign.path.display());
        return Err(Error::invalid("weights", given, format!("{other}, or nothing")));
    }
    let fits = |tensor: &ForeignTensor, parameter: &Parameter| rows.fit(&tensor.shape, parameter);
    let found = match weights {
        WeightSet::Ema if has_average => averaged(foreign, parameters, &fits),
        _ => by_name(parameters, |name| foreign.tensor(name), &fits),
    };
    let sources = found.map_err(|problems| {
        let more = problems.len().saturating_sub(MAX_NAMED);
        let mut text = problems.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join("; ");
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        foreign.error(text)
    })?;
    let applied = parameters.iter().zip(&sources).map(|(parameter, tensor)| Applied {
        path: tensor.path.clone(),
        name: parameter.name.clone(),
        shape: tensor.shape.clone(),
    });
    let mut skipped = foreign.skipped.clone();
    skipped.extend(parameters.iter().zip(&sources).filter_map(padding));
    let mut unused = Vec::new();
    let known: HashSet<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    for tensor in foreign.raw() {
        if is_buffer(&tensor.name) {
            skipped.push(Skipped { path: tensor.path.clone(), reason: "a buffer, computed here".into() });
        } else if !known.contains(tensor.name.as_str()) {
            unused.push((tensor.path.clone(), tensor.shape.clone()));
        }
    }
    let other = match weights {
        WeightSet::Ema if has_average => Some(("the raw weights", foreign.raw().len())),
        WeightSet::Raw if has_average => Some(("the averaged weights", foreign.averaged.len())),
        _ => None,
    };
    skipped.extend(other.map(|(what, count)| Skipped {
        path: format!("{count} tensors"),
        reason: format!("{what}: not the set that was asked for").into(),
    }));
    Ok(Assembly { applied: applied.collect(), sources, weights, skipped, unused })
}

type Found<'a> = std::result::Result<Vec<&'a ForeignTensor>, Vec<String>>;

/// Whether a tensor can be a parameter.
type Fits<'f> = &'f dyn Fn(&ForeignTensor, &Parameter) -> bool;

/// The rows of a table that are left out.
fn padding((parameter, tensor): (&Parameter, &&ForeignTensor)) -> Option<Skipped> {
    let (given, kept) = (tensor.shape.first()?, parameter.shape.first()?);
    (given > kept).then(|| Skipped {
        path: format!("{}, rows {kept} to {}", tensor.path, given - 1),
        reason: "padding of the vocabulary".into(),
    })
}

fn by_name<'a>(
    parameters: &[Parameter],
    find: impl Fn(&str) -> Option<&'a ForeignTensor>,
    fits: Fits<'_>,
) -> Found<'a> {
    let mut problems = Vec::new();
    let mut sources = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        match find(&parameter.name) {
            Some(tensor) if fits(tensor, parameter) => sources.push(tensor),
            Some(tensor) => problems.push(wrong_shape(tensor, parameter)),
            None => problems.push(format!("{} {:?} is missing", parameter.name, parameter.shape)),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

/// Averaged weights by their names. Without names they stand in the order of the parameters; or, if their shapes do not
/// fit it, in that of the weights in the file, with or without the buffers.
fn averaged<'a>(foreign: &'a Foreign, parameters: &[Parameter], fits: Fits<'_>) -> Found<'a> {
    let averaged = &foreign.averaged;
    if averaged.iter().any(|tensor| !tensor.name.is_empty()) {
        let names: HashMap<&str, &ForeignTensor> =
            averaged.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        return by_name(parameters, |name| names.get(name).copied(), fits);
    }
    by_place(foreign, parameters, fits).or_else(|problems| {
        let weights: Vec<&ForeignTensor> =
            foreign.raw().iter().filter(|tensor| !is_buffer(&tensor.name)).collect();
        let all: Vec<&ForeignTensor> = foreign.raw().iter().collect();
        for order in [weights, all] {
            let same = order.len() == averaged.len()
                && order.iter().zip(averaged).all(|(raw, average)| raw.shape == average.shape);
            if same {
                let names: HashMap<&str, &ForeignTensor> =
                    order.iter().map(|raw| raw.name.as_str()).zip(averaged).collect();
                return by_name(parameters, |name| names.get(name).copied(), fits);
            }
        }
        Err(problems)
    })
}

fn by_place<'a>(foreign: &'a Foreign, parameters: &[Parameter], fits: Fits<'_>) -> Found<'a> {
    let (given, needed) = (foreign.averaged.len(), parameters.len());
    if given != needed {
        return Err(vec![format!("{given} averaged weights, but the network has {needed} parameters")]);
    }
    let pairs = foreign.averaged.iter().zip(parameters);
    let problems: Vec<_> = pairs
        .filter(|(tensor, parameter)| !fits(tensor, parameter))
        .map(|(tensor, parameter)| wrong_shape(tensor, parameter))
        .collect();
    if problems.is_empty() { Ok(foreign.averaged.iter().collect()) } else { Err(problems) }
}

fn wrong_shape(tensor: &ForeignTensor, parameter: &Parameter) -> String {
    format!("{} has shape {:?}, not {:?} of {}", tensor.path, tensor.shape, parameter.shape, parameter.name)
}
