//! Prompts with holes: `[[n]]` is a hole of n tokens, `[[*]]` one up to the end of the sequence.

use std::str::FromStr;

use super::architecture::Architecture;
use super::session::Session;
use crate::data::Tokenizer;
use crate::sampler::{check_holes, given_tokens};
use crate::{Error, Result};

/// A piece of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Text that is given.
    Text(String),
    /// Tokens that are given.
    Tokens(Vec<u32>),
    /// Tokens of which some sub-tokens are given, each \[ℓ\].
    Digits(Vec<Vec<Option<u32>>>),
    /// A hole of so many tokens, at least one.
    Hole(usize),
    /// A hole up to the end of the sequence; always the last part.
    Rest,
}

/// A text with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPrompt {
    parts: Vec<Part>,
}

impl TextPrompt {
    /// A prompt without parts, to which parts are added; left without any hole it is one of given text.
    pub fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// The same with a text that is given, whatever it says: brackets in it are no holes.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.part(Part::Text(text.into()))
    }

    /// The same with tokens that are given.
    #[must_use]
    pub fn tokens(self, tokens: Vec<u32>) -> Self {
        self.part(Part::Tokens(tokens))
    }

    /// The same with tokens of which some sub-tokens are given, each \[ℓ\].
    #[must_use]
    pub fn digits(self, digits: Vec<Vec<Option<u32>>>) -> Self {
        self.part(Part::Digits(digits))
    }

    /// The same with a hole of so many tokens.
    #[must_use]
    pub fn hole(self, tokens: usize) -> Self {
        self.part(Part::Hole(tokens))
    }

    /// The same with a hole up to the end of the sequence, behind which nothing can follow.
    #[must_use]
    pub fn rest(self) -> Self {
        self.part(Part::Rest)
    }

    fn part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }
}

impl Default for TextPrompt {
    /// Nothing is given: one hole up to the end of the sequence.
    fn default() -> Self {
        Self { parts: vec![Part::Rest] }
    }
}

impl FromStr for TextPrompt {
    type Err = Error;

    /// Reads a text with holes: `[[5]]` is a hole of five tokens, `[[*]]` one up to the end of the sequence, `\\[[`
    /// stands for two brackets. A text without holes is continued.
    ///
    /// # Errors
    /// [`Error::Conflict`] saying what cannot be read.
    fn from_str(text: &str) -> Result<Self> {
        parse(text).map(|parts| Self { parts })
    }
}

/// Reads a prompt. A prompt without holes is continued: it gets a [`Part::Rest`].
fn parse(text: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("[[") {
        let before = &rest[..at];
        let after = &rest[at + 2..];
        if let Some(before) = before.strip_suffix('\\') {
            literal.push_str(before);
            literal.push_str("[[");
            rest = after;
            continue;
        }
        literal.push_str(before);
        let end = after.find("]]").ok_or_else(|| wrong("`[[` is not closed by `]]`"))?;
        let hole = hole(&after[..end])?;
        push_text(&mut parts, &mut literal);
        if parts.last() == Some(&Part::Rest) {
            return Err(after_rest());
        }
        parts.push(hole);
        rest = &after[end + 2..];
    }
    literal.push_str(rest);
    push_text(&mut parts, &mut literal);
    if parts.iter().rev().skip(1).any(|part| *part == Part::Rest) {
        return Err(after_rest());
    }
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        parts.push(Part::Rest);
    }
    Ok(parts)
}

fn push_text(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal)));
    }
}

fn hole(inside: &str) -> Result<Part> {
    match inside.trim() {
        "*" => Ok(Part::Rest),
        number => match number.parse() {
            Ok(tokens) if tokens > 0 => Ok(Part::Hole(tokens)),
            _ => Err(wrong(&format!("`[[{inside}]]` is not a hole"))),
        },
    }
}

fn after_rest() -> Error {
    wrong("nothing can follow `[[*]]`, which reaches to the end of the sequence")
}

fn wrong(problem: &str) -> Error {
    Error::Conflict { field: "prompt".to_owned(), problem: problem.to_owned() }
}

impl Architecture {
    /// The sub-tokens of whole tokens, given or not: [L·ℓ].
    pub(crate) fn digits_of(&self, tokens: &[Option<u32>]) -> Vec<Option<u32>> {
        let codes = self.predictive().codes();
        let digits = |token: &Option<u32>| match token {
            Some(token) => codes.digits(*token).iter().copied().map(Some).collect(),
            None => vec![None; codes.subtoken_len()],
        };
        tokens.iter().flat_map(digits).collect()
    }

    /// The sub-tokens [L·ℓ] of a prompt, holes being none; it begins where a text begins, after the end of another where the
    /// tokenizer has one. `length`: tokens of the whole sequence, its beginning included; `None`: as many as the prompt
    /// asks for, up to the model's length. A model that writes block by block writes longer texts where `length` says so.
    fn prompt_digits(
        &self,
        tokenizer: &Tokenizer,
        parts: &[Part],
        length: Option<usize>,
    ) -> Result<Vec<Option<u32>>> {
        let longest = self.config().longest_text();
        let wanted = length.unwrap_or(self.config().seq_len());
        if wanted > longest {
            return Err(Error::invalid("length", wanted, format!("at most {longest} tokens for this model")));
        }
        let len = self.predictive().codes().subtoken_len();
        // Of long holes, what is not held here.
        let mut taken = 0_usize;
        let begin: Vec<Option<u32>> = tokenizer.end_of_text().map(Some).into_iter().collect();
        let mut digits = self.digits_of(&begin);
        for part in parts {
            match part {
                Part::Text(text) => digits.extend(self.given(&tokenizer.encode(text)?)?),
                Part::Tokens(tokens) => digits.extend(self.given(tokens)?),
                Part::Digits(tokens) => digits.extend(self.partly_given(tokens)?),
                // One more than fits is enough to see that it does not.
                Part::Hole(size) => {
                    let held = (*size).min(wanted + 1);
                    taken = taken.saturating_add(size - held);
                    digits.extend(vec![None; held * len]);
                }
                Part::Rest => digits.extend(vec![None; (wanted * len).saturating_sub(digits.len())]),
            }
        }
        let tokens = digits.len() / len;
        let taken = taken.saturating_add(tokens);
        let refused = |problem: String| {
            let problem = format!("takes {taken} tokens, its beginning included: {problem}");
            Err(Error::Conflict { field: "prompt".to_owned(), problem })
        };
        if tokens > wanted {
            return refused(format!("at most {wanted} are allowed"));
        }
        if length.is_some_and(|length| length != tokens) {
            return refused(format!(
                "length is {wanted}, and [[*]] at the end of the prompt would fill the rest"
            ));
        }
        if digits.iter().all(Option::is_some) {
            return refused("nothing is left to write".to_owned());
        }
        Ok(digits)
    }

    /// The sub-tokens of given tokens.
    fn given(&self, tokens: &[u32]) -> Result<Vec<Option<u32>>> {
        let vocab_size = self.predictive().codes().vocab_size();
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab_size) {
            return Err(Error::invalid("prompt token", token, format!("0 to {}", vocab_size - 1)));
        }
        Ok(self.digits_of(&tokens.iter().copied().map(Some).collect::<Vec<_>>()))
    }

    /// The sub-tokens of tokens that are given in part.
    fn partly_given(&self, tokens: &[Vec<Option<u32>>]) -> Result<Vec<Option<u32>>> {
        let len = self.predictive().codes().subtoken_len();
        match tokens.iter().find(|token| token.len() != len) {
            Some(token) => {
                Err(Error::invalid("digits of a token", token.len(), format!("{len}, some of them none")))
            }
            None => Ok(tokens.concat()),
        }
    }
}

impl Session {
    /// The sub-tokens [L·ℓ] of a text with holes, for [`Request::prompt`](super::Request::prompt). `length`: tokens of
    /// the whole sequence, its beginning included; `None`: the model's. A model that writes block by block writes longer texts
    /// than its own length, too, and stops at the end of a text.
    ///
    /// ```no_run
    /// # fn of(session: &submask::Session) -> submask::Result<submask::Request> {
    /// let prompt = session.prompt(&"lantern: [[12]] light.".parse()?, None)?;
    /// Ok(submask::Request { prompt, num: 4, ..session.request() })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Conflict`] for a prompt that does not fit, or whose holes a model with blocks cannot fill, [`Error::Invalid`] for a length beyond the model's, text that
    /// the tokenizer does not know, and models of anything but text.
    pub fn prompt(&self, prompt: &TextPrompt, length: Option<usize>) -> Result<Vec<Option<u32>>> {
        let architecture = self.architecture();
        let tokenizer = architecture
            .tokenizer()
            .ok_or_else(|| Error::invalid("prompt", "given", "none: this is no model of text"))?;
        let digits = architecture.prompt_digits(tokenizer, &prompt.parts, length)?;
        if self.is_autoregressive() {
            // The first sub-tokens: all or none of those of a token, or it is refused when it is sampled.
            given_tokens(&digits)?;
        }
        let block_len = architecture.config().network.block_len();
        if block_len > 0 {
            let tokens = digits.chunks_exact(architecture.predictive().codes().subtoken_len());
            let of = |token: &[Option<u32>]| {
                (token.iter().any(Option::is_none), token.iter().any(Option::is_some))
            };
            check_holes(tokens.map(of), block_len)?;
        }
        Ok(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::Part::{Hole, Rest};
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn holes_stand_between_texts() {
        assert_eq!(
            parse("a [[3]] b[[12]]c").unwrap(),
            [text("a "), Hole(3), text(" b"), Hole(12), text("c")]
        );
        assert_eq!(parse("[[2]][[ * ]]").unwrap(), [Hole(2), Rest]);
        assert_eq!(parse("a[[*]]").unwrap(), [text("a"), Rest]);
    }

    #[test]
    fn prompts_without_holes_are_continued() {
        assert_eq!(parse("once").unwrap(), [text("once"), Rest]);
        assert_eq!(parse("").unwrap(), [Rest]);
        assert_eq!(parse("a ] b [c]").unwrap(), [text("a ] b [c]"), Rest]);
    }

    #[test]
    fn brackets_can_be_escaped() {
        assert_eq!(parse(r"x \[[1]] [[2]]").unwrap(), [text("x [[1]] "), Hole(2)]);
    }

    #[test]
    fn bad_holes_are_refused() {
        for bad in
            ["a [[", "[[0]]", "[[-1]]", "[[x]]", "[[]]", "[[*]] b", "[[*]][[2]]", "[[99999999999999999999]]"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
