//! Prompts with holes: `[[n]]` is a hole of n tokens, `[[*]]` one up to the end of the sequence.

use crate::failure::Failure;

/// A piece of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that is given.
    Text(String),
    /// A hole of so many tokens, at least one.
    Hole(usize),
    /// A hole up to the end of the sequence; always the last part.
    Rest,
}

/// Reads a prompt. A prompt without holes is continued: it gets a [`Part::Rest`].
pub fn parse(text: &str) -> Result<Vec<Part>, Failure> {
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

fn hole(inside: &str) -> Result<Part, Failure> {
    match inside.trim() {
        "*" => Ok(Part::Rest),
        number => match number.parse() {
            Ok(tokens) if tokens > 0 => Ok(Part::Hole(tokens)),
            _ => Err(wrong(&format!("`[[{inside}]]` is not a hole"))),
        },
    }
}

fn after_rest() -> Failure {
    wrong("nothing can follow `[[*]]`, which reaches to the end of the sequence")
}

fn wrong(problem: &str) -> Failure {
    Failure::usage(format!("bad prompt: {problem}"))
        .hint("[[5]] is a hole of five tokens, [[*]] one to the end of the sequence, \\[[ two brackets")
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
