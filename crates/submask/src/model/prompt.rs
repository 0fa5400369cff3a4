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

    /// The tokens of a prompt, holes being none; it begins where a text begins, after the end of another where the
    /// tokenizer has one. `length`: tokens of the whole sequence, its beginning included; `None`: as many as the prompt
    /// asks for, up to the model's length. A model that writes block by block writes longer texts where `length` says so.
    fn prompt_tokens(
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
        // Of long holes, what is not held here.
        let mut taken = 0_usize;
        let mut tokens: Vec<Option<u32>> = tokenizer.end_of_text().map(Some).into_iter().collect();
        for part in parts {
            match part {
                Part::Text(text) => tokens.extend(tokenizer.encode(text)?.into_iter().map(Some)),
                // One more than fits is enough to see that it does not.
                Part::Hole(size) => {
                    let held = (*size).min(wanted + 1);
                    taken = taken.saturating_add(size - held);
                    tokens.extend(vec![None; held]);
                }
                Part::Rest => tokens.extend(vec![None; wanted.saturating_sub(tokens.len())]),
            }
        }
        let taken = taken.saturating_add(tokens.len());
        let refused = |problem: String| {
            let problem = format!("takes {taken} tokens, its beginning included: {problem}");
            Err(Error::Conflict { field: "prompt".to_owned(), problem })
        };
        if tokens.len() > wanted {
            return refused(format!("at most {wanted} are allowed"));
        }
        if length.is_some_and(|length| length != tokens.len()) {
            return refused(format!(
                "length is {wanted}, and [[*]] at the end of the prompt would fill the rest"
            ));
        }
        if tokens.iter().all(Option::is_some) {
            return refused("nothing is left to write".to_owned());
        }
        Ok(tokens)
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
        let tokens = architecture.prompt_tokens(tokenizer, &prompt.parts, length)?;
        if self.is_autoregressive() {
            given_tokens(&tokens)?;
        }
        let block_len = architecture.config().network.block_len();
        if block_len > 0 {
            check_holes(tokens.iter().map(|token| (token.is_none(), token.is_some())), block_len)?;
        }
        Ok(architecture.digits_of(&tokens))
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
