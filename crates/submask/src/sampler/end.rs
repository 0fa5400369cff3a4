//! Where a text ends.

/// The place of the token that ends a text, told for every token whether it is an end of text: the first one behind the
/// first `given` tokens and behind those with which the text begins, which end nothing.
pub(crate) fn first_end(mut is_end: impl Iterator<Item = bool>, given: usize) -> Option<usize> {
    let mut ending = Ending::default();
    is_end.position(|is_end| ending.ends(is_end, given))
}

/// The same for tokens that come one by one.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    seen: usize,
    begun: bool,
}

impl Ending {
    /// Tokens that have come.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Whether one of them was no end of text.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the next token, told whether it is an end of text, ends the text.
    pub fn ends(&mut self, is_end: bool, given: usize) -> bool {
        let ends = is_end && self.begun && self.seen >= given;
        self.begun |= !is_end;
        self.seen += 1;
        ends
    }
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
