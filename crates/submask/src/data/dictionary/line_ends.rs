//! Words that ran together where the source of the dictionary broke its lines.
//!
//! The definitions were set in lines, and what made one string of them put nothing in place of the ends of lines:
//! `the` and `vessel's` became `thevessel's`. The lines were filled greedily, the first up to 63 characters and every
//! further one up to 69, so the word that crosses this column is one that ran together, as long as every end of a line
//! so far was found. Where it divides is chosen by how often the two words occur. A definition of several paragraphs
//! loses the column; there only words that no list has are divided, and only into two that are frequent.

use std::collections::{HashMap, HashSet};

/// Most characters of the first line of a definition.
const FIRST_LINE: usize = 63;
/// Most characters of any other line.
const LINE: usize = 69;

/// Words of less than three letters; a list of words has many more that are hardly ever meant.
const SHORT: [&str; 24] = [
    "a", "an", "as", "at", "be", "by", "do", "go", "he", "i", "if", "in", "is", "it", "me", "my", "no", "of",
    "on", "or", "so", "to", "up", "we",
];

/// What a word counts that is in the list and in no definition.
const LISTED: f64 = 0.5;
/// What a word counts that is neither known nor frequent.
const UNKNOWN: f64 = 2e-3;
/// How much likelier words are apart at a mark or at a capital than between two letters.
const MARKED: f64 = 3000.0;
/// An unlisted word that occurs so often is one, unless it divides into two that occur `TOGETHER` in product.
const FREQUENT: f64 = 20.0;
/// See [`FREQUENT`].
const TOGETHER: f64 = 1e5;
/// The least odds of a division away from the column.
const SURE: f64 = 3000.0;
/// The same for a chunk of less than five letters.
const SURE_IF_SHORT: f64 = 1e7;

/// How often words occur in definitions.
pub(super) struct LineEnds {
    counts: HashMap<String, f64>,
}

/// A division of a chunk of text: before which character, and how likely.
#[derive(Clone, Copy)]
struct Division {
    at: usize,
    odds: f64,
}

impl LineEnds {
    /// Counts the words of the definitions; those of `list` are known to be words.
    pub(super) fn new<'a>(list: &HashSet<&str>, definitions: impl Iterator<Item = &'a str>) -> Self {
        let mut occurring: HashMap<String, f64> = HashMap::new();
        for definition in definitions {
            for word in definition.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
                *occurring.entry(word.to_ascii_lowercase()).or_default() += 1.0;
            }
        }
        let count = |word: &str| (word.to_owned(), occurring.get(word).copied().unwrap_or(LISTED));
        let long = list.iter().filter(|word| word.len() > 2).map(|word| count(word));
        let listed = Self { counts: SHORT.iter().map(|word| count(word)).chain(long).collect() };
        let unlisted = occurring.iter().filter(|(word, count)| {
            let together = || listed.divide(&chars(word), word.len()).map_or(0.0, |division| division.odds);
            **count >= FREQUENT && word.len() > 2 && !listed.knows(word) && together() < TOGETHER
        });
        let unlisted: Vec<_> = unlisted.map(|(word, count)| (word.clone(), *count)).collect();
        Self { counts: listed.counts.into_iter().chain(unlisted).collect() }
    }

    /// The definition, with its white space made single blanks, and a blank where words ran together.
    pub(super) fn restored(&self, definition: &str) -> String {
        let mut restored = String::with_capacity(definition.len() + definition.len() / 64);
        // Where the line began, how long it may be, and whether that is known.
        let (mut line, mut limit, mut known) = (0, FIRST_LINE, true);
        let mut start = 0;
        for chunk in definition.split_whitespace().map(chars) {
            let end = start + chunk.len();
            let crosses = known && start <= line + limit && line + limit < end;
            let at =
                if crosses { self.at_column(&chunk, line + limit - start) } else { self.anywhere(&chunk) };
            known = known && (!crosses || at.is_some());
            if !restored.is_empty() {
                restored.push(' ');
            }
            restored.extend(&chunk[..at.unwrap_or(0)]);
            if let Some(at) = at {
                (line, limit, known) = (start + at, LINE, true);
                if chunk[at - 1] != '-' {
                    restored.push(' ');
                }
            }
            restored.extend(&chunk[at.unwrap_or(0)..]);
            start = end + 1;
        }
        sentences_apart(&restored)
    }

    /// Where the chunk that crosses the column divides, `most` characters before the column.
    fn at_column(&self, chunk: &[char], most: usize) -> Option<usize> {
        // Stars part syllables: `Ac*cu"mu*la*tive*ness`.
        if self.knows(&core(chunk)) || chunk.contains(&'*') {
            return None;
        }
        self.divide(chunk, most).filter(|division| division.odds > 1.0).map(|division| division.at)
    }

    /// Where a chunk divides that is no word but certainly two.
    fn anywhere(&self, chunk: &[char]) -> Option<usize> {
        let core = core(chunk);
        let letters = !core.is_empty() && core.chars().all(|c| c.is_ascii_alphabetic());
        if !letters || self.knows(&core) {
            return None;
        }
        let least = if core.len() < 5 { SURE_IF_SHORT } else { SURE };
        let division = self.divide(&chars(&core), core.len()).filter(|division| division.odds > least)?;
        let (left, right) = core.split_at(division.at);
        let capital = core.starts_with(|c: char| c.is_ascii_uppercase());
        let name = capital && self.count(left) <= 200.0;
        let short = ["by", "in", "is", "of", "or", "to"].contains(&right)
            || (right == "a" && !capital && self.count(left) > 2000.0);
        let ending = right.len() < 3 && !short;
        let article = left.len() < 2 && right.len() < 4;
        if name || ending || article || !self.knows(left) || !self.knows(right) {
            return None;
        }
        let before = chunk.iter().position(|c| c.is_ascii_alphabetic())?;
        Some(before + division.at)
    }

    /// The likeliest division after at most `most` characters.
    fn divide(&self, chunk: &[char], most: usize) -> Option<Division> {
        let last = most.min(chunk.len().saturating_sub(1));
        let divisions = (1..=last).filter_map(|at| Some(Division { at, odds: self.odds(chunk, at)? }));
        divisions.reduce(|best, other| if other.odds > best.odds { other } else { best })
    }

    /// How likely the chunk divides here; `None` where no word ends or begins.
    fn odds(&self, chunk: &[char], at: usize) -> Option<f64> {
        let (before, after) = (chunk[at - 1], chunk[at]);
        if !(after.is_ascii_alphanumeric() || "(\"[".contains(after)) {
            return None;
        }
        let right =
            chunk[at..].iter().skip_while(|c| "(\"[".contains(**c)).take_while(|c| c.is_ascii_alphabetic());
        let right: String = right.collect();
        let of_right = if right.is_empty() { 50.0 } else { self.count(&right) };
        if ",;:.)!?]".contains(before) {
            return Some(MARKED * of_right);
        }
        if before == '-' {
            return Some(150.0);
        }
        if !before.is_ascii_alphabetic() {
            return None;
        }
        let left = chunk[..at].iter().rev().take_while(|c| c.is_ascii_alphabetic()).count();
        let left: String = chunk[at - left..at].iter().collect();
        let odds = self.count(&left) * of_right;
        if before.is_ascii_lowercase() && after.is_ascii_uppercase() {
            return Some(odds.max(1.0) * MARKED);
        }
        // `an artilleryman`, not `a nartilleryman`; `also vinquish`, not `a lsovinquish`.
        let unlikely = left.eq_ignore_ascii_case("a") && !self.knows(&right);
        Some(if unlikely { odds / 50.0 } else { odds })
    }

    fn count(&self, word: &str) -> f64 {
        self.counts.get(&word.to_ascii_lowercase()).copied().unwrap_or(UNKNOWN)
    }

    fn knows(&self, word: &str) -> bool {
        self.counts.contains_key(&word.to_ascii_lowercase())
    }
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

/// The chunk without the marks around it.
fn core(chunk: &[char]) -> String {
    let chunk: String = chunk.iter().collect();
    chunk.trim_matches(|c| ".,;:()\"[]".contains(c)).to_owned()
}

/// A blank between a sentence and the next, where paragraphs ran together: `elsewhere.Hook.`
fn sentences_apart(text: &str) -> String {
    let text = chars(text);
    let mut apart = String::with_capacity(text.len() + 8);
    for (at, &c) in text.iter().enumerate() {
        let begins = (c.is_ascii_uppercase() || "\"([".contains(c))
            && text.get(at + 1).is_some_and(|c| c.is_ascii_alphabetic());
        if begins {
            let marks = text[..at].iter().rev().take_while(|c| ".;:,?!)]".contains(**c)).count();
            let word = text[..at - marks].iter().rev().take_while(|c| c.is_ascii_lowercase()).count();
            if marks > 0 && word > 1 {
                apart.push(' ');
            }
        }
        apart.push(c);
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_ends() -> LineEnds {
        let list =
            "the vessel of cloth sail anchor and ships bottom which over into water held where manual labor"
                .split(' ');
        let texts = ["the of and into a an vessel cloth sail anchor ships bottom over which in to"; 60];
        LineEnds::new(&list.collect(), texts.into_iter())
    }

    #[test]
    fn the_word_that_crosses_the_column_is_divided() {
        // The first line has 61 characters, the second 69.
        let joined = "the anchor and the cloth which over the water held the ships ofthe vessel and the bottom of the \
                      cloth and the anchor over the sailand the water";
        let lines = [
            "the anchor and the cloth which over the water held the ships of",
            "the vessel and the bottom of the cloth and the anchor over the sail",
            "and the water",
        ];
        assert!(lines[0].len() <= FIRST_LINE && lines[0].len() + " the".len() > FIRST_LINE);
        assert!(lines[1].len() <= LINE && lines[1].len() + " and".len() > LINE);
        assert_eq!(lines.concat(), joined);
        assert_eq!(line_ends().restored(joined), lines.join(" "));
    }

    #[test]
    fn words_stay_whole_and_marks_are_parted() {
        let line_ends = line_ends();
        for text in ["into the water", "the anchor; the sail", "Anchorman of the vessel", "unheard", "a"] {
            assert_eq!(line_ends.restored(text), text);
        }
        assert_eq!(line_ends.restored("held  where.The\nsail"), "held where. The sail");
        assert_eq!(line_ends.restored("the water ofthe vessel"), "the water of the vessel");
        assert_eq!(line_ends.restored(""), "");
    }

    #[test]
    fn a_hyphen_at_the_end_of_a_line_joins() {
        let text = "the anchor and the cloth which over the water held the ships the-vessel of";
        assert_eq!(line_ends().restored(text), text);
    }

    #[test]
    fn an_article_takes_no_letter_of_the_next_word() {
        let line_ends = line_ends();
        let chunk = chars("anartilleryman");
        assert_eq!(line_ends.divide(&chunk, chunk.len()).unwrap().at, 2);
    }
}
