//! Which text network a file's weights belong to: sizes, digits and everything else that a model's settings say.

use super::block_diffusion::{self, Sizes};
use super::decide::{Decisions, Sources};
use super::facts::Facts;
use super::foreign::Foreign;
use super::own_mask::{self, Rows};
use super::shapes::{length, matrix};
use super::{Family, ImportOptions};
use crate::Result;
use crate::backbone::Embedding;
use crate::backbone::autoregressive::AutoregressiveConfig;
use crate::backbone::dit::DitConfig;
use crate::backbone::encoder::EncoderConfig;
use crate::model::{Assignment, CodeSettings, NetworkConfig};
use crate::schedule::Schedule;
use crate::subtoken::SubTokenizer;

/// Most sub-tokens per token.
const MAX_SUBTOKENS: usize = 64;
/// Rows of a padded table are a multiple of it.
const PADDING: usize = 8;
/// Weights of a block, at least.
const MIN_WEIGHTS_A_BLOCK: usize = 7;

/// A text network and its schedule.
#[derive(Clone, Debug)]
pub struct TextArchitecture {
    /// Number of token classes C.
    pub vocab_size: usize,
    /// The network.
    pub network: NetworkConfig,
    /// How tokens become sub-tokens.
    pub codes: CodeSettings,
    /// The noise schedule.
    pub schedule: Schedule,
    /// How the rows of the vocabulary's tables become the network's.
    pub(super) rows: Rows,
}

/// Number of token classes C, sub-tokens ℓ, and how the rows of tables become the network's.
struct Digits {
    vocab_size: usize,
    subtokens: usize,
    rows: Rows,
}

impl Digits {
    fn new(vocab_size: usize, subtokens: usize, is_padded: bool) -> Self {
        Self { vocab_size, subtokens, rows: if is_padded { Rows::Padded } else { Rows::Same } }
    }
}

/// Shapes of a text network's first and last layer.
struct Ends {
    /// Rows and width of the embedding table.
    table: [usize; 2],
    /// Model width d.
    hidden: usize,
    /// Rows of the output layer.
    outputs: usize,
    /// Whether every digit has rows of its own in the table.
    per_digit: bool,
    /// Whether the output layer has a row for the mask where ℓ = 1.
    predicts_mask: bool,
}

impl Ends {
    /// C, if there are ℓ digits.
    fn vocab_size(&self, subtokens: usize) -> usize {
        self.outputs.saturating_sub(usize::from(self.predicts_mask && subtokens == 1))
    }

    /// Whether the shapes go together with ℓ digits.
    fn fit(&self, subtokens: usize) -> bool {
        let Ok(codes) = SubTokenizer::base_for(self.vocab_size(subtokens), subtokens) else { return false };
        let [rows, width] = self.table;
        let copies = if self.per_digit { subtokens } else { 1 };
        let is_summed = self.per_digit && width == self.hidden;
        rows == copies.saturating_mul(codes as usize + 1) && (is_summed || width == self.hidden / subtokens)
    }

    /// Whether C tokens of ℓ digits, and the mask behind them, are the first rows of padded tables. Tables are padded to
    /// a multiple of 8 at least; to other sizes only if the configuration says how many tokens there are, with the mask
    /// or without it.
    fn fit_padded(&self, vocab_size: usize, subtokens: usize, facts: &Facts) -> bool {
        let Ok(base) = SubTokenizer::base_for(vocab_size, subtokens) else { return false };
        let [rows, width] = self.table;
        let copies = if self.per_digit { subtokens } else { 1 };
        let needed = copies.saturating_mul(base as usize + 1);
        let outputs = vocab_size + usize::from(self.predicts_mask && subtokens == 1);
        let is_summed = self.per_digit && width == self.hidden;
        let named = configured(facts).filter(|size| (3..self.outputs).contains(size));
        let may_be_padded = |rows: usize| match named {
            Some(size) if size == vocab_size || size == vocab_size + 1 => {
                rows.is_multiple_of(PADDING) || rows > size + 1
            }
            Some(_) => false,
            None => rows.is_multiple_of(PADDING),
        };
        let is_padded = |rows: usize, needed: usize| rows == needed || rows > needed && may_be_padded(rows);
        // Of several digits' tables no rows can be left over: they would stand between the digits'.
        let rows_fit = if subtokens == 1 { is_padded(rows, needed) } else { rows == needed };
        rows_fit && is_padded(self.outputs, outputs) && (is_summed || width == self.hidden / subtokens)
    }
}

/// The number of tokens that a configuration of the Hub gives, with the mask or without it.
fn configured(facts: &Facts) -> Option<usize> {
    facts.integer(&["vocab_size", "model.vocab_size"])
}

/// Decides everything about a text network.
///
/// # Errors
/// [`crate::Error::Format`] for shapes of no such network, [`crate::Error::Invalid`] for flags that contradict them.
pub(super) fn describe(
    foreign: &Foreign,
    family: Family,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<TextArchitecture> {
    let block_len = block_diffusion::block_len(foreign, family, options, decisions)?;
    let ends = ends(foreign, family)?;
    let Digits { vocab_size, subtokens, rows } = match family {
        Family::Autoregressive => digits_of_autoregressive(foreign, &ends, options, decisions)?,
        _ => digits(foreign, &ends, options, decisions)?,
    };
    let facts = &foreign.facts;
    let is_diffusion = family != Family::Autoregressive;
    let (embedding, form) = match (ends.per_digit, ends.table[1] == ends.hidden) {
        (false, _) => (Embedding::Concatenated, "concatenated"),
        (true, true) => (Embedding::PerDigitSummed, "per-digit-summed"),
        (true, false) => (Embedding::PerDigitConcatenated, "per-digit-concatenated"),
    };
    let by_shapes = |value| Sources { shapes: Some(value), ..Sources::default() };
    let form = Sources { shapes: Some(form), ..Sources::default() };
    decisions.decide("model.embedding", form, "")?;
    let prefix = if family == Family::Encoder { "transformer.h" } else { "blocks" };
    let blocks = decisions.decide("model.blocks", by_shapes(layers(foreign, prefix)?), 1)?;
    let hidden = decisions.decide("model.hidden", by_shapes(ends.hidden), 1)?;
    let heads_by_shapes = heads(foreign, hidden)?;
    let heads = Sources {
        shapes: heads_by_shapes,
        flag: options.heads,
        config: facts.integer(&["model.n_heads", "n_heads", "n_head", "config.n_head"]),
        default: None,
    };
    let heads = decisions.decide("model.heads", heads, 1)?;
    let lengths = ["model.length", "model_length", "prime.seq_length", "block_size"];
    // What others call the size of a block is the length of sequences; for block diffusion it is not.
    let lengths = if block_diffusion::is_theirs(facts) { &lengths[..2] } else { &lengths };
    let seq_len = Sources { flag: options.seq_len, config: facts.integer(lengths), ..Sources::default() };
    let seq_len = decisions.decide("model.seq_len", seq_len, 1)?;
    let carry_over = Sources {
        flag: options.carry_over,
        config: facts.flag(&["prime.carry_over", "carry_over"]),
        default: (subtokens == 1 || !is_diffusion).then_some(true),
        ..Sources::default()
    };
    let carry_over = decisions.decide("codes.carry_over", carry_over, true)?;
    let time_conditioning = Sources {
        flag: options.time_conditioning,
        config: facts.flag(&["time_conditioning", "algo.time_conditioning"]),
        default: Some(false),
        ..Sources::default()
    };
    let time_conditioning = match family {
        Family::Diffusion => decisions.decide("model.time_conditioning", time_conditioning, false)?,
        _ => false,
    };
    let assignment = match options.permutation {
        Some(_) => Assignment::Table { path: Default::default() },
        None => Assignment::Plain,
    };
    let dropout = facts.number(&["model.dropout", "dropout"]).unwrap_or(0.0);
    let network = match family {
        Family::Autoregressive => {
            NetworkConfig::Autoregressive(AutoregressiveConfig { hidden, heads, blocks, seq_len, dropout })
        }
        Family::Encoder => {
            let (query_groups, intermediate) = encoder_sizes(foreign, hidden, heads, decisions)?;
            NetworkConfig::Encoder(EncoderConfig {
                block_len: 0,
                hidden,
                heads,
                query_groups,
                blocks,
                intermediate,
                seq_len,
                dropout,
                embedding,
            })
        }
        _ => {
            let width = length(foreign, "sigma_map.mlp.2.bias")?;
            let cond_dim = decisions.decide("model.cond_dim", by_shapes(width), 1)?;
            let sizes =
                Sizes { hidden, layers: blocks, heads: heads_by_shapes, cond_dim, classes: ends.outputs };
            block_diffusion::check_sizes(foreign, &sizes)?;
            NetworkConfig::Diffusion(DitConfig {
                block_len,
                hidden,
                heads,
                blocks,
                cond_dim,
                seq_len,
                dropout,
                embedding,
                time_conditioning,
            })
        }
    };
    let codes = CodeSettings { subtokens, carry_over, assignment };
    Ok(TextArchitecture { vocab_size, network, codes, schedule: schedule(foreign, decisions)?, rows })
}

/// Number of blocks, of which each has several weights.
fn layers(foreign: &Foreign, prefix: &str) -> Result<usize> {
    let blocks = foreign.layers(prefix);
    let weights = foreign.raw().len();
    if blocks.saturating_mul(MIN_WEIGHTS_A_BLOCK) > weights {
        return Err(foreign.error(format!("{blocks} blocks {prefix}.N, but {weights} weights in all")));
    }
    Ok(blocks)
}

/// Heads by the number of rotation frequencies, of which there is one for two numbers of a head.
fn heads(foreign: &Foreign, hidden: usize) -> Result<Option<usize>> {
    if foreign.shape("rotary_emb.inv_freq").is_none() {
        return Ok(None);
    }
    let frequencies = length(foreign, "rotary_emb.inv_freq")?;
    match frequencies.checked_mul(2).filter(|width| hidden.is_multiple_of(*width)) {
        Some(width) => Ok(Some(hidden / width)),
        None => {
            Err(foreign
                .error(format!("{frequencies} rotation frequencies do not divide a width of {hidden}")))
        }
    }
}

/// Shapes of the first and last layer.
fn ends(foreign: &Foreign, family: Family) -> Result<Ends> {
    if family == Family::Encoder {
        let hidden = length(foreign, "transformer.ln_f.weight")?;
        let [outputs, _] = matrix(foreign, "lm_head.weight")?;
        let table = matrix(foreign, "transformer.wte.weight")?;
        return Ok(Ends { table, hidden, outputs, per_digit: true, predicts_mask: false });
    }
    let hidden = length(foreign, "output_layer.norm_final.weight")?;
    let outputs = length(foreign, "output_layer.linear.bias")?;
    let per_digit = foreign.shape("vocab_embed.embedding").is_none();
    let name = if per_digit { "vocab_embed.weight.weight" } else { "vocab_embed.embedding" };
    Ok(Ends { table: matrix(foreign, name)?, hidden, outputs, per_digit, predicts_mask: true })
}

/// The token that is the mask, where the tables have no row of its own for it.
fn own_mask(
    foreign: &Foreign,
    ends: &Ends,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Option<u32> {
    let may_have = ends.predicts_mask && !ends.per_digit && ends.table == [ends.outputs, ends.hidden];
    may_have.then(|| own_mask::own_mask(ends.outputs, &foreign.facts, options, decisions)).flatten()
}

/// C and ℓ of a diffusion network.
fn digits(
    foreign: &Foreign,
    ends: &Ends,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<Digits> {
    if let Some(mask) = own_mask(foreign, ends, options, decisions) {
        let by_shapes = |shapes, flag| Sources { shapes: Some(shapes), flag, ..Sources::default() };
        let subtokens = decisions.decide("codes.subtokens", by_shapes(1, options.subtokens), 1)?;
        let vocab_size = by_shapes(ends.outputs, options.vocab_size);
        let vocab_size = decisions.decide("vocab_size", vocab_size, ends.outputs)?;
        return Ok(Digits { vocab_size, subtokens, rows: Rows::OwnMask(mask) });
    }
    let cut = |subtokens: usize| {
        options.vocab_size.filter(|given| {
            *given < ends.vocab_size(subtokens) && ends.fit_padded(*given, subtokens, &foreign.facts)
        })
    };
    let fits = |subtokens: &usize| ends.fit(*subtokens) || cut(*subtokens).is_some();
    let possible: Vec<usize> = (1..=MAX_SUBTOKENS).filter(fits).collect();
    let [rows, width] = ends.table;
    let Some(&first) = possible.first() else {
        return Err(foreign.error(format!(
            "an embedding table [{rows}, {width}], a width {} and {} outputs belong to no number of sub-tokens",
            ends.hidden, ends.outputs
        )));
    };
    let asked = Sources {
        shapes: (possible.len() == 1).then_some(first),
        flag: options.subtokens,
        config: foreign.facts.integer(&["prime.target_length", "target_length"]),
        default: None,
    };
    let subtokens = decisions.decide("codes.subtokens", asked, first)?;
    if !possible.contains(&subtokens) {
        let allowed = format!("one of {possible:?}, with which the shapes of the weights go together");
        return Err(crate::Error::invalid("codes.subtokens", subtokens, allowed));
    }
    let by_shapes = ends.vocab_size(subtokens);
    let cut = cut(subtokens);
    let named = configured(&foreign.facts).filter(|size| {
        subtokens == 1 && ends.outputs.is_multiple_of(PADDING) && (3..by_shapes).contains(size)
    });
    if let Some(size) = named.filter(|_| cut.is_none()) {
        hint_at_padding(size, [ends.outputs, by_shapes], options.vocab_size, decisions)?;
    }
    let seems_padded = named.is_some() && options.vocab_size.is_none();
    let shapes = (cut.is_none() && !seems_padded).then_some(by_shapes);
    let vocab_size = Sources { shapes, flag: options.vocab_size, ..Sources::default() };
    let vocab_size = decisions.decide("vocab_size", vocab_size, by_shapes)?;
    Ok(Digits::new(vocab_size, subtokens, cut.is_some()))
}

/// Notes that tables seem to be padded beyond the `size` tokens of the configuration, and what that may mean. The tables
/// have `all` rows, and `but_one` without the mask's.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for a number that is `given` and means none of it.
fn hint_at_padding(
    size: usize,
    [all, but_one]: [usize; 2],
    given: Option<usize>,
    decisions: &mut Decisions,
) -> Result<()> {
    let without = size - 1;
    match given {
        None => decisions.hints.push(format!(
            "its tables have {all} rows and its configuration names {size} tokens: {without} without the mask, if that is \
             one of them"
        )),
        Some(given) if given != but_one => {
            let allowed = format!(
                "{without} or {size}, as the configuration names {size} tokens with the mask or without it, or {but_one}, \
                 all of the {all} rows but the mask's"
            );
            return Err(crate::Error::invalid("vocab_size", given, allowed));
        }
        Some(_) => {}
    }
    Ok(())
}

/// C and ℓ of the autoregressive network, which runs over digits: its shapes say b + 1 only.
fn digits_of_autoregressive(
    foreign: &Foreign,
    ends: &Ends,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Result<Digits> {
    let base = ends.outputs.saturating_sub(1);
    let subtokens = Sources {
        flag: options.subtokens,
        config: foreign.facts.integer(&["prime.target_length", "target_length"]),
        default: Some(1),
        ..Sources::default()
    };
    let subtokens = decisions.decide("codes.subtokens", subtokens, 1)?;
    if !(1..=MAX_SUBTOKENS).contains(&subtokens) {
        return Err(crate::Error::invalid("codes.subtokens", subtokens, format!("1 to {MAX_SUBTOKENS}")));
    }
    let padded = subtokens == 1
        && options.vocab_size.is_some_and(|given| given < base && ends.fit_padded(given, 1, &foreign.facts));
    let vocab_size = Sources {
        shapes: (subtokens == 1 && !padded).then_some(base),
        flag: options.vocab_size,
        config: foreign.facts.integer(&["prime.vocab_size", "vocab_size"]),
        default: None,
    };
    let vocab_size = decisions.decide("vocab_size", vocab_size, base.max(2))?;
    let expected = SubTokenizer::base_for(vocab_size, subtokens)?;
    if decisions.unknown.is_empty() && expected as usize != base && !padded {
        return Err(foreign.error(format!(
            "{vocab_size} tokens of {subtokens} digits have base {expected}, but the weights are for base {base}"
        )));
    }
    Ok(Digits::new(vocab_size, subtokens, padded))
}

/// Groups of queries, and the width inside SwiGLU.
fn encoder_sizes(
    foreign: &Foreign,
    hidden: usize,
    heads: usize,
    decisions: &mut Decisions,
) -> Result<(usize, usize)> {
    let [packed, _] = matrix(foreign, "transformer.h.0.attn.attn.weight")?;
    let [inner, _] = matrix(foreign, "transformer.h.0.mlp.swiglu.w1.weight")?;
    let head_width = (hidden / heads.max(1)).max(1);
    let groups = packed.saturating_sub(hidden) / 2 / head_width;
    let by_shapes = |value| Sources { shapes: Some(value), ..Sources::default() };
    if !decisions.unknown.contains(&"model.heads") {
        decisions.decide("model.query_groups", by_shapes(groups), 1)?;
    }
    Ok((groups, decisions.decide("model.intermediate", by_shapes(inner), 1)?))
}

/// The schedule that the configuration names, or else the linear one.
fn schedule(foreign: &Foreign, decisions: &mut Decisions) -> Result<Schedule> {
    // What the programs of block diffusion call log-linear masks with probability t, without an ε.
    let is_linear = block_diffusion::is_theirs(&foreign.facts);
    let named =
        foreign.facts.text(&["noise.type", "noise"]).filter(|_| !is_linear).and_then(|name| match name {
            "loglinear" => Some("log-linear"),
            "linear" => Some("linear"),
            "cosine" => Some("cosine"),
            _ => None,
        });
    let sources = Sources { config: named, default: Some("linear"), ..Sources::default() };
    Ok(match decisions.decide("schedule.kind", sources, "linear")? {
        "log-linear" => Schedule::LogLinear { epsilon: 1e-3 },
        "cosine" => Schedule::Cosine,
        _ => Schedule::Linear,
    })
}
