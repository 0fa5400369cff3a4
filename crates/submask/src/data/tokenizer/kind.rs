//! What a configuration file says of a tokenizer.

use serde::{Deserialize, Serialize};

/// A finished tokenizer as it stands in `config.json` and `data.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerKind {
    /// [`Tokenizer::bytes`](super::Tokenizer::bytes).
    Bytes,
    /// [`Tokenizer::characters`](super::Tokenizer::characters).
    Characters {
        /// The characters in the order of their ids.
        alphabet: String,
    },
    /// [`Tokenizer::text8`](super::Tokenizer::text8).
    Text8,
    /// [`Tokenizer::gpt2`](super::Tokenizer::gpt2).
    Gpt2,
    /// [`Tokenizer::numbers`](super::Tokenizer::numbers).
    Numbers {
        /// How many tokens there are.
        vocab_size: usize,
    },
    /// A trained or foreign tokenizer: the file `tokenizer.json` beside the configuration.
    TokenizerJson {
        /// Name of its end-of-text token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_of_text: Option<String>,
    },
}
