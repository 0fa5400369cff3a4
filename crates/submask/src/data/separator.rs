//! Texts and token numbers divided into documents wherever a separator stands.

use std::collections::VecDeque;

use super::document::{Content, Document};
use super::reader::{FileDocuments, Given, Rules, piece_of_numbers};
use crate::error::{Error, Result};

/// Documents divided by a separator. A line end directly before or behind it belongs to it, so that a separator on a line
/// of its own leaves nothing behind; what is blank between two separators is no document. Of token numbers the separator is
/// one.
pub(super) struct Separated {
    inner: FileDocuments,
    rules: Rules,
    separator: String,
    ready: VecDeque<Document>,
    /// The end of a piece that may be the beginning of a separator.
    held: String,
    /// The present document has given a piece.
    open: bool,
    /// A separator was the last that was read.
    behind: bool,
}

impl Separated {
    /// `inner`, divided by the separator of the rules, which is not empty.
    pub(super) fn new(inner: FileDocuments, rules: &Rules) -> Self {
        let (rules, separator) = (rules.clone(), rules.reading.separator.clone());
        let (ready, held) = (VecDeque::new(), String::new());
        Self { inner, rules, separator, ready, held, open: false, behind: false }
    }

    /// Divides token numbers.
    ///
    /// # Errors
    /// As [`Rules::separating_token`].
    fn divide_numbers(&mut self, piece: &Document) -> Result<()> {
        let separator = self.rules.separating_token()?;
        let mut numbers = Vec::new();
        for number in piece.text.split_ascii_whitespace().map(str::parse::<u32>) {
            // Readers write nothing else.
            let Ok(number) = number else { continue };
            if Some(number) == separator {
                self.give_numbers(&mut numbers, false);
            } else {
                numbers.push(number);
            }
        }
        if !piece.continues || !numbers.is_empty() {
            self.give_numbers(&mut numbers, piece.continues);
        }
        Ok(())
    }

    fn give_numbers(&mut self, numbers: &mut Vec<u32>, continues: bool) {
        let follows = std::mem::replace(&mut self.open, continues);
        if follows || continues || !numbers.is_empty() {
            self.ready.push_back(piece_of_numbers(&std::mem::take(numbers), follows, continues));
        }
    }

    fn divide(&mut self, piece: &Document) {
        let text = std::mem::take(&mut self.held) + &piece.text;
        let mut rest = text.as_str();
        while let Some(at) = rest.find(&self.separator) {
            let before = self.behind_separator(&rest[..at]);
            self.give(
                before.strip_suffix('\n').map_or(before, |line| line.strip_suffix('\r').unwrap_or(line)),
                false,
            );
            rest = &rest[at + self.separator.len()..];
            self.behind = true;
        }
        if piece.continues {
            let held = self.begun(rest);
            let given = self.behind_separator(&rest[..rest.len() - held]);
            self.held = rest[rest.len() - held..].to_owned();
            if !given.is_empty() {
                self.give(given, true);
            }
        } else {
            let rest = self.behind_separator(rest);
            self.give(rest, false);
            self.behind = false;
        }
    }

    /// A text without the line end that belongs to the separator before it.
    fn behind_separator<'t>(&mut self, text: &'t str) -> &'t str {
        if text.is_empty() || !std::mem::take(&mut self.behind) {
            return text;
        }
        text.strip_prefix('\n').or_else(|| text.strip_prefix("\r\n")).unwrap_or(text)
    }

    /// How many of the last bytes may be the beginning of a separator, with a line end before it.
    fn begun(&self, text: &str) -> usize {
        let starts =
            (1..self.separator.len()).rev().filter(|length| self.separator.is_char_boundary(*length));
        let begun = starts.map(|length| &self.separator[..length]).find(|start| text.ends_with(start));
        let length = begun.map_or(0, str::len);
        let before = &text[..text.len() - length];
        let line_end = if before.ends_with("\r\n") { 2 } else { usize::from(before.ends_with('\n')) };
        length + line_end
    }

    fn give(&mut self, text: &str, continues: bool) {
        let was_open = std::mem::replace(&mut self.open, continues);
        if was_open || continues || !text.trim().is_empty() {
            self.ready.push_back(Document::piece(text, continues));
        }
    }
}

impl Iterator for Separated {
    type Item = Given<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(document) = self.ready.pop_front() {
                return Some(Ok(document));
            }
            match self.inner.next()? {
                Ok(piece) if piece.content == Content::TokenNumbers => {
                    if let Err(error) = self.divide_numbers(&piece) {
                        return Some(Err(error.into()));
                    }
                }
                Ok(_) if self.rules.of_numbers => {
                    let allowed = "\"\" with texts of numbers, which it would cut apart; data.split divides them, and \
                                   lists of numbers in JSON and parquet and binary files may have a separator";
                    let given = format!("{:?}", self.separator);
                    return Some(Err(Error::invalid("data.separator", given, allowed).into()));
                }
                Ok(piece) => self.divide(&piece),
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn divided(pieces: Vec<Document>, separator: &str) -> Vec<String> {
        let (mut documents, mut open) = (Vec::new(), String::new());
        for piece in Separated::new(Box::new(pieces.into_iter().map(Ok)), &rules(separator)) {
            let piece = piece.unwrap();
            open.push_str(&piece.text);
            if !piece.continues {
                documents.push(std::mem::take(&mut open));
            }
        }
        assert!(open.is_empty());
        documents
    }

    fn rules(separator: &str) -> Rules {
        let mut rules = Rules::of_field("text");
        rules.reading.separator = separator.to_owned();
        rules
    }

    #[test]
    fn a_separator_on_a_line_or_in_one_divides() {
        let text = "a\nb\n<end>\nc\r\n<end>\r\n<end>\n\n<end>d<end>\ne\n\n<end>\n";
        assert_eq!(divided(vec![Document::whole(text)], "<end>"), ["a\nb", "c", "d", "e\n"]);
        assert_eq!(divided(vec![Document::whole("a b"), Document::whole("c")], "<end>"), ["a b", "c"]);
        assert!(divided(vec![Document::whole("<end>")], "<end>").is_empty());
    }

    #[test]
    fn token_numbers_are_divided_by_one_of_them() {
        let all = Document::numbers(&[1, 7, 10, 1, 1, 11, 1]);
        assert_eq!(divided(vec![all.clone(), Document::numbers(&[1])], "1"), ["7 10", "11"]);
        // Whatever pieces they come in.
        let pieces = vec![
            piece_of_numbers(&[3, 1], false, true),
            piece_of_numbers(&[1, 4], true, true),
            piece_of_numbers(&[5], true, false),
            Document::numbers(&[6]),
        ];
        assert_eq!(divided(pieces, "1"), ["3", "4 5", "6"]);
        let mut all = Separated::new(Box::new(std::iter::once(Ok(all))), &rules("<e>"));
        let error = all.next().unwrap().map_err(super::super::reader::Fault::error).unwrap_err();
        assert!(error.to_string().contains("data.separator = \"<e>\""), "{error}");
    }

    #[test]
    fn texts_of_numbers_are_not_cut_apart() {
        let rules = Rules { of_numbers: true, ..rules("1") };
        let mut all = Separated::new(Box::new(std::iter::once(Ok(Document::whole("10 1 7")))), &rules);
        let error = all.next().unwrap().map_err(super::super::reader::Fault::error).unwrap_err();
        assert!(error.to_string().contains("\"\" with texts of numbers"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn where_pieces_end_does_not_matter(
            parts in proptest::collection::vec("(<e>|<|e|\n|\r\n|a|\u{e9}){0,6}", 1..6),
        ) {
            let whole = divided(vec![Document::whole(parts.concat())], "<e>");
            // A piece never ends inside of a line end: readers see to it.
            prop_assume!(parts.iter().all(|part| !part.ends_with('\r')));
            let last = parts.len() - 1;
            let pieces = parts.iter().enumerate().map(|(n, part)| Document::piece(part.as_str(), n < last));
            let apart = divided(pieces.collect(), "<e>");
            // A document that has given a piece ends even where nothing but white space was in it.
            let filled = |all: Vec<String>| all.into_iter().filter(|text| !text.trim().is_empty()).collect::<Vec<_>>();
            prop_assert_eq!(filled(apart), filled(whole));
        }
    }
}
