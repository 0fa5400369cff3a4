//! The tensors of a file as the weights of a network.

use std::collections::HashSet;

use super::foreign::{Foreign, ForeignTensor, Skipped, WeightSet};
use super::report::Applied;
use crate::backbone::weights::Parameter;
use crate::{Error, Result};

/// Problems that are named in an error; of more, their number is given.
const MAX_NAMED: usize = 12;

/// Tensors that networks compute: no parameters, and not needed.
const BUFFERS: [&str; 1] = ["rotary_emb.inv_freq"];

/// Whether a tensor is one that networks compute.
pub(super) fn is_buffer(name: &str) -> bool {
    BUFFERS.contains(&name)
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
/// taken if nothing is asked.
///
/// # Errors
/// [`Error::Invalid`] for averaged weights where there are none; [`Error::Format`] naming every weight that is missing
/// or of another shape.
pub(super) fn assemble<'a>(
    foreign: &'a Foreign,
    parameters: &[Parameter],
    asked: Option<WeightSet>,
) -> Result<Assembly<'a>> {
    let has_average = !foreign.averaged.is_empty();
    let weights = asked.unwrap_or(if has_average { WeightSet::Ema } else { WeightSet::Raw });
    if weights == WeightSet::Ema && !has_average {
        let given = format!("ema, but {} holds one set of weights", foreign.path.display());
        return Err(Error::invalid("weights", given, "raw, or nothing"));
    }
    let found = match weights {
        WeightSet::Raw => by_name(foreign, parameters),
        WeightSet::Ema => by_place(foreign, parameters),
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
        WeightSet::Ema => Some(("the raw weights", foreign.raw().len())),
        WeightSet::Raw if has_average => Some(("the averaged weights", foreign.averaged.len())),
        WeightSet::Raw => None,
    };
    skipped.extend(other.map(|(what, count)| Skipped {
        path: format!("{count} tensors"),
        reason: format!("{what}: not the set that was asked for").into(),
    }));
    Ok(Assembly { applied: applied.collect(), sources, weights, skipped, unused })
}

type Found<'a> = std::result::Result<Vec<&'a ForeignTensor>, Vec<String>>;

fn by_name<'a>(foreign: &'a Foreign, parameters: &[Parameter]) -> Found<'a> {
    let mut problems = Vec::new();
    let mut sources = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        match foreign.tensor(&parameter.name) {
            Some(tensor) if tensor.shape == parameter.shape => sources.push(tensor),
            Some(tensor) => problems.push(wrong_shape(tensor, parameter)),
            None => problems.push(format!("{} {:?} is missing", parameter.name, parameter.shape)),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

fn by_place<'a>(foreign: &'a Foreign, parameters: &[Parameter]) -> Found<'a> {
    let (given, needed) = (foreign.averaged.len(), parameters.len());
    if given != needed {
        return Err(vec![format!("{given} averaged weights, but the network has {needed} parameters")]);
    }
    let pairs = foreign.averaged.iter().zip(parameters);
    let problems: Vec<_> = pairs
        .filter(|(tensor, parameter)| tensor.shape != parameter.shape)
        .map(|(tensor, parameter)| wrong_shape(tensor, parameter))
        .collect();
    if problems.is_empty() { Ok(foreign.averaged.iter().collect()) } else { Err(problems) }
}

fn wrong_shape(tensor: &ForeignTensor, parameter: &Parameter) -> String {
    format!("{} has shape {:?}, not {:?} of {}", tensor.path, tensor.shape, parameter.shape, parameter.name)
}
