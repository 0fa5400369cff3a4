//! Log-probabilities of the tokens of a completion, told as far as its text is.

use std::collections::BTreeMap;

use submask::Result;
use submask::model::Architecture;
use submask::sampler::TokenLogProb;

use super::answer::Logprobs;

/// What stands for bytes that are no whole character.
const INCOMPLETE: char = char::REPLACEMENT_CHARACTER;
/// Tokens before a piece of text that are decoded with it, so that it reads as it does in the whole.
const CONTEXT: usize = 16;

/// The log-probabilities of one completion.
pub struct TokenLog<'s> {
    architecture: &'s Architecture,
    /// How many most probable tokens are told beside.
    top: usize,
    terms: BTreeMap<usize, Term>,
    /// The next token to be told.
    next: usize,
    /// A place before it up to which the text is whole characters, and how many.
    anchor: usize,
    characters: usize,
}

#[derive(Default)]
struct Term {
    nats: f64,
    top: Vec<(u32, f64)>,
}

impl<'s> TokenLog<'s> {
    /// Of tokens from `start` on.
    pub fn new(architecture: &'s Architecture, top: usize, start: usize) -> Self {
        Self { architecture, top, terms: BTreeMap::new(), next: start, anchor: start, characters: 0 }
    }

    /// Takes note of sub-tokens that were revealed: the terms of a token add up.
    pub fn note(&mut self, log_probs: &[TokenLogProb]) {
        for one in log_probs {
            let term = self.terms.entry(one.token).or_default();
            term.nats += one.nats;
            term.top.clone_from(&one.top);
        }
    }

    /// The next of `tokens` that begin before so many characters of the text, or all of them.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn take(&mut self, tokens: &[u32], before: Option<usize>) -> Result<Logprobs> {
        let mut told = Logprobs { top_logprobs: (self.top > 0).then(Vec::new), ..Logprobs::default() };
        while let Some(token) = tokens.get(self.next) {
            let offset = self.offset(tokens)?;
            if before.is_some_and(|before| offset >= before) {
                break;
            }
            let term = self.terms.remove(&self.next).unwrap_or_default();
            let text = self.text(*token)?;
            if let Some(top) = &mut told.top_logprobs {
                let mut likeliest = BTreeMap::from([(text.clone(), -term.nats)]);
                for (token, log_prob) in &term.top {
                    likeliest.entry(self.text(*token)?).or_insert(*log_prob);
                }
                top.push(likeliest);
            }
            told.tokens.push(text);
            told.token_logprobs.push(-term.nats);
            told.text_offset.push(offset);
            self.next += 1;
        }
        Ok(told)
    }

    /// Characters of the text before the next token.
    fn offset(&mut self, tokens: &[u32]) -> Result<usize> {
        let from = self.anchor.saturating_sub(CONTEXT);
        let (text, _) =
            self.architecture.text_between(&tokens[from..], self.anchor - from..self.next - from)?;
        let whole = text.trim_end_matches(INCOMPLETE);
        let offset = self.characters + whole.chars().count();
        if whole.len() == text.len() {
            (self.anchor, self.characters) = (self.next, offset);
        }
        Ok(offset)
    }

    fn text(&self, token: u32) -> Result<String> {
        self.architecture
            .tokenizer()
            .map_or_else(|| Ok(String::new()), |tokenizer| tokenizer.token_text(token))
    }
}
