//! What a configuration of the programs of block diffusion (BD3-LM) says: whether the network has blocks, and which of their
//! networks this program does not have.

use super::decide::{Decisions, Sources};
use super::facts::Facts;
use super::foreign::Foreign;
use super::{Family, ImportOptions};
use crate::{Error, Result};

/// What `config.json` of such a model names as its kind.
pub(super) const MODEL_TYPE: &str = "bd3lm";

/// Numbers beside the weights that say which noise levels a run was trained on, no weights.
const TRAINING: [&str; 2] = ["sampling_eps_min", "sampling_eps_max"];

/// Sizes that the shapes of the weights say.
pub(super) struct Sizes {
    /// Model width d.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads, where the shapes say them.
    pub heads: Option<usize>,
    /// Width of the conditioning.
    pub cond_dim: usize,
    /// Classes of the output layer, the mask included.
    pub classes: usize,
}

/// Whether a configuration is one of these programs: `config.json` beside weights, or inside a Lightning checkpoint. The
/// latter also train ordinary masked diffusion and autoregressive networks.
pub(super) fn is_theirs(facts: &Facts) -> bool {
    is_published(facts) || facts.text(&["algo.name"]).is_some()
}

/// Whether a tensor is a number of training that stands beside the weights.
pub(super) fn is_of_training(name: &str) -> bool {
    TRAINING.contains(&name.rsplit('.').next().unwrap_or_default())
}

/// Whether a file has such a number.
fn has_training_numbers(foreign: &Foreign) -> bool {
    foreign.skipped.iter().any(|skipped| is_of_training(&skipped.path))
}

fn is_published(facts: &Facts) -> bool {
    facts.text(&["model_type"]) == Some(MODEL_TYPE)
}

/// Tokens per block of a transformer; 0: none. Refuses the networks of these programs that this one does not have.
///
/// # Errors
/// [`Error::Format`] for a network of another objective, without modulation or with causal attention, and for blocks of no tokens;
/// [`Error::Invalid`] for blocks that the caller asks for of another network.
pub(super) fn block_len(
    foreign: &Foreign,
    family: Family,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<usize> {
    let is_theirs = is_theirs(&foreign.facts);
    if is_theirs {
        refuse_others(foreign, family)?;
    }
    if let Some(given) = options.block_len.filter(|_| family != Family::Diffusion) {
        let allowed = "nothing: only the diffusion transformer is imported with blocks";
        return Err(Error::invalid("model.block_len", given, allowed));
    }
    let config = match is_theirs && family == Family::Diffusion {
        true if has_blocks(&foreign.facts) => foreign.facts.integer(&["block_size"]),
        true => Some(0),
        // Numbers that these programs alone put beside the weights.
        false if options.block_len.is_some() || has_training_numbers(foreign) => None,
        false => return Ok(0),
    };
    if config == Some(0) && has_blocks(&foreign.facts) {
        return Err(
            foreign.error("its configuration says block_size = 0: at least 1 where cross_attn is true")
        );
    }
    decisions.decide("model.block_len", Sources { flag: options.block_len, config, ..Sources::default() }, 0)
}

/// Whether the layers read the tokens before a block: with `cross_attn`, which holds where a model of blocks does not say it.
fn has_blocks(facts: &Facts) -> bool {
    let is_named = is_published(facts) || facts.text(&["algo.name"]) == Some(MODEL_TYPE);
    facts.flag(&["cross_attn", "algo.cross_attn"]).unwrap_or(is_named)
}

/// What networks of these programs are trained for that can be imported.
const OBJECTIVES: [&str; 3] = [MODEL_TYPE, "mdlm", "ar"];

/// Refuses networks that have other layers than the diffusion transformer, or are no masked diffusion.
fn refuse_others(foreign: &Foreign, family: Family) -> Result<()> {
    let facts = &foreign.facts;
    if let Some(name) = facts.text(&["algo.name"]).filter(|name| !OBJECTIVES.contains(name)) {
        let known = OBJECTIVES.join(", ");
        let problem =
            format!("its configuration says algo.name = {name:?}: of such files {known} can be imported");
        return Err(foreign.error(&problem));
    }
    if let Some(form) = facts.text(&["parameterization", "algo.parameterization"])
        && !["subs", "ar"].contains(&form)
    {
        let problem = format!(
            "its configuration says parameterization = {form:?}: subs, that of masked diffusion, can be imported"
        );
        return Err(foreign.error(&problem));
    }
    if family == Family::Autoregressive && !is_published(facts) && facts.text(&["algo.name"]) == Some("ar") {
        return Ok(());
    }
    let refuse = |problem: &str| Err(foreign.error(problem));
    if facts.flag(&["causal", "algo.causal_attention"]) == Some(true) {
        return refuse(
            "its configuration says causal = true, an autoregressive network: of such a model only diffusion networks can be \
             imported, with causal = false",
        );
    }
    // In Lightning's checkpoints `model.adaln` is of autoregressive networks alone: the others are modulated in any case.
    if facts.flag(&["adaln"]) == Some(false) {
        return refuse(
            "its configuration says adaln = false, a network without modulation: only those with adaln = true can be imported",
        );
    }
    match family {
        Family::Diffusion => Ok(()),
        Family::Autoregressive => refuse(
            "weights of the modulation are missing (sigma_map.…, blocks.….adaLN_modulation.…), which its configuration asks \
             for",
        ),
        _ => refuse("its weights are of another network than that of its configuration"),
    }
}

/// Refuses a configuration that contradicts the shapes of the weights.
///
/// # Errors
/// [`Error::Format`] naming the size and both values.
pub(super) fn check_sizes(foreign: &Foreign, sizes: &Sizes) -> Result<()> {
    let facts = &foreign.facts;
    if !is_theirs(facts) {
        return Ok(());
    }
    let named = [
        (["hidden_dim", "model.hidden_size"], Some(sizes.hidden)),
        (["n_blocks", "model.n_blocks"], Some(sizes.layers)),
        (["n_heads", "model.n_heads"], sizes.heads),
        (["cond_dim", "model.cond_dim"], Some(sizes.cond_dim)),
    ];
    for (keys, by_shapes) in named {
        let said = keys.iter().find_map(|key| Some((key, facts.integer(&[key])?)));
        if let (Some((key, said)), Some(by_shapes)) = (said, by_shapes)
            && said != by_shapes
        {
            return Err(foreign.error(format!(
                "its configuration says {key} = {said}, the shapes of the weights say {by_shapes}"
            )));
        }
    }
    match facts.integer(&["vocab_size"]).filter(|said| *said > sizes.classes) {
        Some(said) => Err(foreign.error(format!(
            "its configuration says vocab_size = {said}, with the mask, but the output layer has {} classes",
            sizes.classes
        ))),
        None => Ok(()),
    }
}
