//! The vocabulary of GPT-2, from the crate `tiktoken-rs`.

use tiktoken_rs::{CoreBPE, r50k_base_singleton};

use super::table::TokenTable;

/// The id of `<|endoftext|>`, the last one.
pub(super) const END_OF_TEXT_ID: u32 = 50_256;

/// Longest run of white space, in bytes, that the pattern is asked to match: it looks ahead and
/// gives up on much longer ones.
const LONGEST_RUN: usize = 8192;

fn bpe() -> &'static CoreBPE {
    r50k_base_singleton()
}

/// The bytes of all tokens; end of text has none.
pub(super) fn table() -> TokenTable {
    let tokens = (0..END_OF_TEXT_ID).map(|id| bpe().decode_bytes(&[id]).unwrap_or_default());
    TokenTable::new(tokens.chain([Vec::new()]))
}

/// GPT-2's tokens. Runs of white space of more than [`LONGEST_RUN`] bytes are cut, so that their
/// tokens can differ from GPT-2's.
pub(super) fn encode(text: &str) -> Vec<u32> {
    let mut tokens = Vec::with_capacity(text.len() / 3);
    let mut start = 0;
    for cut in cuts(text) {
        tokens.extend(bpe().encode_ordinary(&text[start..cut]));
        start = cut;
    }
    tokens.extend(bpe().encode_ordinary(&text[start..]));
    tokens
}

/// Where runs of white space are cut.
fn cuts(text: &str) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut run = 0;
    for (at, character) in text.char_indices() {
        if !character.is_whitespace() {
            run = 0;
            continue;
        }
        if run >= LONGEST_RUN {
            cuts.push(at);
            run = 0;
        }
        run += character.len_utf8();
    }
    cuts
}
