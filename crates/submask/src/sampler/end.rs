//! Where a text ends.

/// The place of the token that ends a text, told for every token whether it is an end of text: the first one behind the
/// first `given` tokens and behind those with which the text begins, which end nothing.
pub(crate) fn first_end(is_end: impl Iterator<Item = bool>, given: usize) -> Option<usize> {
    let mut begun = false;
    for (i, is_end) in is_end.enumerate() {
        if is_end && begun && i >= given {
            return Some(i);
        }
        begun |= !is_end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_behind_what_is_given_and_behind_its_beginning() {
        let end = |tokens: &str, given| first_end(tokens.chars().map(|token| token == '.'), given);
        assert_eq!(end(".ab.c.", 1), Some(3));
        assert_eq!(end(".ab.c.", 5), Some(5));
        assert_eq!(end("...", 1), None);
        assert_eq!(end("..a.", 0), Some(3));
        assert_eq!(end(".abc", 1), None);
    }
}
