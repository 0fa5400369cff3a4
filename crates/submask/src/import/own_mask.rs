//! Vocabularies that have the mask among their own tokens, as BERT's: no class is added for it.
//!
//! The network here has the mask behind the C tokens of the tokenizer. So its row is copied there, and the token that was
//! the mask is never predicted: its logit is −10⁶, as the programs have it that such files come from.

use super::assemble::is_table;
use super::block_diffusion;
use super::decide::Decisions;
use super::facts::Facts;
use super::{ImportOptions, ImportTokenizer};
use crate::backbone::weights::Parameter;

/// What excludes a class.
const NEVER: f32 = -1e6;
/// Tokens of `bert-base-uncased`, the mask among them.
const BERT_TOKENS: usize = 30_522;

/// How the rows of a file's tables become those of the network's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rows {
    /// One by one.
    #[default]
    Same,
    /// Those behind the tokens and the mask are left out.
    Padded,
    /// A row is added for the mask, which is this token.
    OwnMask(u32),
}

impl Rows {
    /// Whether a tensor of `shape` can be a parameter.
    pub fn fit(self, shape: &[usize], parameter: &Parameter) -> bool {
        let (wanted, is_table) = (parameter.shape.as_slice(), is_table(&parameter.name));
        match (shape, wanted, self) {
            ([given, row @ ..], [wanted, wanted_row @ ..], Self::Padded) if is_table => {
                given >= wanted && row == wanted_row
            }
            ([given, row @ ..], [wanted, wanted_row @ ..], Self::OwnMask(_)) if is_table => {
                given.checked_add(1) == Some(*wanted) && row == wanted_row
            }
            _ => shape == wanted,
        }
    }

    /// The values of a parameter from those of its tensor, which [fits](Self::fit).
    pub fn values(self, mut values: Vec<f32>, parameter: &Parameter) -> Vec<f32> {
        match self {
            // The rows of a padded table that are left out stand last.
            Self::Same | Self::Padded => values.truncate(parameter.len()),
            Self::OwnMask(mask) if is_table(&parameter.name) => {
                let width: usize = parameter.shape[1..].iter().product();
                let row = mask as usize * width..(mask as usize + 1) * width;
                if parameter.name.starts_with("vocab_embed.") {
                    values.extend_from_within(row);
                } else {
                    let excluded = if parameter.shape.len() == 1 { NEVER } else { 0.0 };
                    values[row].fill(excluded);
                    values.resize(parameter.len(), 0.0);
                }
            }
            Self::OwnMask(_) => {}
        }
        values
    }
}

/// The token that is the mask, of tables with a row for each of the tokenizer's tokens and no more. Notes that a tokenizer is
/// needed where the configuration names one of this kind.
pub(super) fn own_mask(
    rows: usize,
    facts: &Facts,
    options: &ImportOptions,
    decisions: &mut Decisions,
) -> Option<u32> {
    match &options.tokenizer {
        Some(ImportTokenizer::Given(given)) if given.vocab_size() == rows => given.mask_token(),
        None if options.vocab_size.is_none() => {
            if let Some(name) = named(rows, facts) {
                decisions.unknown.push("tokenizer");
                decisions.hints.push(format!(
                    "it was trained with {name}, whose mask is one of its own tokens: its tokenizer.json says which"
                ));
            }
            None
        }
        _ => None,
    }
}

/// The tokenizer that a configuration names, if it is one with a mask of its own.
fn named(rows: usize, facts: &Facts) -> Option<&str> {
    let is_bert = |name: &&str| name.to_ascii_lowercase().contains("bert");
    let is_theirs = block_diffusion::is_theirs(facts) && rows == BERT_TOKENS;
    let by_name = facts.text(&["data.tokenizer_name_or_path"]).filter(is_bert);
    by_name.or(is_theirs.then_some("bert-base-uncased"))
}
