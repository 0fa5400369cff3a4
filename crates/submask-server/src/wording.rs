//! What is wrong with a value of a body, in the words of JSON.

use serde_json::Value;

use crate::error::shortened;

/// Bodies beyond this are not read again for the value to name.
const MAX_READ_AGAIN: usize = 1 << 16;

/// What is allowed in the place of a value, from the parser's message; `None` for messages that are not of one value.
pub fn allowed(message: &str) -> Option<String> {
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (_, known) = rest.split_once("`, expected ")?;
        let known = known.strip_prefix("one of ").unwrap_or(known).replace("` or `", "`, `");
        return Some(format!("one of {}", known.replace('`', "")));
    }
    // What this crate says itself it expects.
    if ["a ", "an ", "the ", "\"", "true, "].iter().any(|start| message.starts_with(start)) {
        return Some(message.to_owned());
    }
    let of_value = ["invalid type: ", "invalid value: ", "invalid length "];
    if !of_value.iter().any(|start| message.starts_with(start)) {
        return None;
    }
    // What was given may say anything, so that the last one is the parser's.
    let (_, expected) = message.rsplit_once(", expected ")?;
    Some(in_json(expected))
}

/// What the parser expects, in the words of JSON.
fn in_json(expected: &str) -> String {
    let list = expected.strip_prefix("an array of length ");
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => match unsigned_bits(expected) {
            64 => "a whole number of at least 0, below 2^64".to_owned(),
            bits => format!("a whole number from 0 to {}", (1_u64 << bits) - 1),
        },
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        "string or map" | "variant identifier" => "a string".to_owned(),
        _ if expected.starts_with("struct ") => "an object".to_owned(),
        _ => list.map_or_else(|| expected.to_owned(), |length| format!("a list of {length}")),
    }
}

fn unsigned_bits(name: &str) -> u32 {
    match name {
        "u8" => 8,
        "u16" => 16,
        "u32" => 32,
        _ => 64,
    }
}

/// The value at a path of a body such as `parts[1].hole`, as it was sent, cut where it is long.
pub fn given(body: &[u8], path: &serde_path_to_error::Path) -> Option<String> {
    use serde_path_to_error::Segment;

    if body.len() > MAX_READ_AGAIN {
        return None;
    }
    let whole: Value = serde_json::from_slice(body).ok()?;
    let mut value = &whole;
    for segment in path {
        value = match segment {
            Segment::Seq { index } => value.get(index)?,
            Segment::Map { key } => value.get(key)?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    Some(shortened(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_said_without_names_of_types() {
        for (message, expected) in [
            ("invalid type: string \"x\", expected u32", "a whole number from 0 to 4294967295"),
            ("invalid type: map, expected usize", "a whole number of at least 0, below 2^64"),
            ("invalid type: string \", expected u8\", expected f64", "a number"),
            ("invalid type: null, expected a boolean", "true or false"),
            ("invalid type: integer `1`, expected a sequence", "a list"),
            ("invalid length 2, expected an array of length 3", "a list of 3"),
            ("invalid type: integer `1`, expected struct ScoreField", "an object"),
            ("unknown variant `x`, expected `a` or `b`", "one of a, b"),
            ("unknown variant `x`, expected one of `a`, `b`, `c`", "one of a, b, c"),
        ] {
            assert_eq!(allowed(message).as_deref(), Some(expected), "{message}");
        }
        assert_eq!(allowed("a string or a list").as_deref(), Some("a string or a list"));
        assert_eq!(allowed("missing field `n`"), None);
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(shortened("äb"), "äb");
        let cut = shortened("ä".repeat(101));
        assert!(cut.ends_with("ä…") && cut.chars().count() == 101);
    }
}
