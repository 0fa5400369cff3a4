//! Puts back line ends that a text has lost, as spaces.
//!
//! The source of the built-in dictionary was wrapped at 69 columns, and whoever joined its lines put nothing between them:
//! "ordinarily under water; hence, thevessel itself". Where lines ended can be found again: a line took words in as long as
//! they fitted, so that the first word of the next line is the one that did not, and a paragraph began in the first column,
//! or behind `Defn: `. Among all ways to break a text so, the one with the most probable words is taken, a word being as
//! probable as it is frequent in the texts themselves.

use std::cmp::Reverse;
use std::collections::HashMap;

/// Columns of a line.
const WIDTH: usize = 69;

/// Columns in which a text may begin: behind nothing, or behind `Defn: `.
const BEGINNINGS: [usize; 2] = [0, 6];

/// Scores are logarithms to the base 2 in sixteenths: whole numbers, which are the same on every machine.
const BIT: i64 = 16;

/// What a line that is too long costs.
const TOO_LONG: i64 = 30 * BIT;

/// Longest token, in characters, in which the end of a line is looked for.
const LONGEST: usize = 40;

/// How often words are used.
#[derive(Debug, Default)]
pub(super) struct Lexicon {
    counts: HashMap<String, u64>,
    total: u64,
}

impl Lexicon {
    /// Counts the words of a text.
    pub(super) fn add(&mut self, text: &str) {
        for word in words(text) {
            *self.counts.entry(word.to_lowercase()).or_default() += 1;
            self.total += 1;
        }
    }

    /// The text with a space at every end of a line that was found.
    pub(super) fn rejoin(&self, text: &str) -> String {
        let tokens = tokens(text);
        let mut rejoined = String::with_capacity(text.len() + text.len() / 32);
        for (token, cuts) in tokens.iter().zip(self.cuts(&tokens)) {
            let mut begin = 0;
            for end in cuts.into_iter().chain([token.text.len()]) {
                if !rejoined.is_empty() {
                    rejoined.push(' ');
                }
                rejoined.push_str(&token.text[begin..end]);
                begin = end;
            }
        }
        rejoined
    }

    /// Where each of the tokens is cut, in bytes.
    fn cuts(&self, tokens: &[Token]) -> Vec<Vec<usize>> {
        // For every column the best way so far to have the next token begin there.
        let mut paths: Vec<Option<(i64, usize)>> = vec![None; WIDTH + 2];
        let mut steps: Vec<Step> = Vec::new();
        for column in BEGINNINGS {
            paths[column] = Some((0, steps.len()));
            steps.push(Step { before: None, cuts: Vec::new() });
        }
        for token in tokens {
            let last = paths.iter().rposition(Option::is_some).unwrap_or(0);
            let readings = self.readings(token, last);
            let mut best: Vec<Option<(i64, usize, &Reading)>> = vec![None; paths.len()];
            for (column, path) in paths.iter().enumerate() {
                let Some((score, before)) = *path else { continue };
                for reading in &readings {
                    let Some((next, cost)) = reading.place(column) else { continue };
                    let (next, score) = (next.min(WIDTH + 1), score + reading.score - cost);
                    if best[next].is_none_or(|(other, _, _)| score > other) {
                        best[next] = Some((score, before, reading));
                    }
                }
            }
            let mut step = |(score, before, reading): (i64, usize, &Reading)| {
                steps.push(Step { before: Some(before), cuts: reading.cuts.clone() });
                (score, steps.len() - 1)
            };
            paths = best.into_iter().map(|path| path.map(&mut step)).collect();
        }
        let end = paths.into_iter().flatten().max_by_key(|(score, step)| (*score, Reverse(*step)));
        let mut cuts = Vec::with_capacity(tokens.len());
        let mut step = end.map(|(_, step)| &steps[step]);
        while let Some(Step { before: Some(before), cuts: own }) = step {
            cuts.push(own.clone());
            step = Some(&steps[*before]);
        }
        cuts.reverse();
        for (cuts, token) in cuts.iter_mut().zip(tokens) {
            cuts.retain(|cut| self.is_likely(token.text, *cut));
        }
        cuts
    }

    /// The ways to read a token that begins in column `last` or before it: with the paragraphs that end in it, else as it
    /// is, or with the end of a line in it.
    fn readings(&self, token: &Token, last: usize) -> Vec<Reading> {
        let text = token.text;
        let len = text.chars().count();
        let whole = self.score(text);
        let paragraphs: Vec<usize> = token.places().filter(|at| token.ends_paragraph(*at)).collect();
        if let (Some(first), Some(end)) = (paragraphs.first(), paragraphs.last()) {
            let (before, after) = (text[..*first].chars().count(), text[*end..].chars().count());
            return vec![Reading { score: whole, before, after, ends_line: false, cuts: paragraphs }];
        }
        let mut readings =
            vec![Reading { score: whole, before: len, after: len, ends_line: false, cuts: Vec::new() }];
        if len <= LONGEST && last + len >= WIDTH {
            for at in token.places().filter(|at| token.may_end_line(*at)) {
                let before = text[..at].chars().count();
                let score = self.score(&text[..at]) + self.score(&text[at..]);
                readings.push(Reading {
                    score,
                    before,
                    after: len - before,
                    ends_line: true,
                    cuts: vec![at],
                });
            }
        }
        readings
    }

    /// Whether the words speak for a cut, too, and not the columns alone.
    fn is_likely(&self, text: &str, at: usize) -> bool {
        let (left, right) = text.split_at(at);
        let a = left.rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or("");
        let b = right.split(|c: char| !c.is_alphabetic()).next().unwrap_or("");
        if a.is_empty() || b.is_empty() {
            return true;
        }
        // A capital begins a word.
        if a.ends_with(char::is_lowercase) && b.starts_with(char::is_uppercase) {
            return self.count(a) > 1;
        }
        let whole = &text[at - a.len()..at + b.len()];
        // The more often the whole is used, the less likely it is two words.
        let margin = (18 * BIT - 6 * log2(self.count(whole))).max(0);
        self.count(a) > 1 && self.count(b) > 1 && self.word(a) + self.word(b) > self.word(whole) - margin
    }

    fn count(&self, word: &str) -> u64 {
        match word.chars().nth(1).is_some() || ["a", "A", "I", "O"].contains(&word) {
            true => self.counts.get(&word.to_lowercase()).copied().unwrap_or(0),
            // Other letters alone are abbreviations.
            false => 0,
        }
    }

    /// log₂ of the probability of a word; of one that is not used, less the longer it is.
    fn word(&self, word: &str) -> i64 {
        match self.count(word) {
            0 => -log2(self.total) - BIT * (4 + word.chars().count() as i64),
            count => log2(count) - log2(self.total),
        }
    }

    /// The same of all words in a text.
    fn score(&self, text: &str) -> i64 {
        words(text).map(|word| self.word(word)).sum()
    }
}

/// Text between two spaces.
struct Token<'a> {
    text: &'a str,
    /// Whether it begins inside quotation marks.
    is_quoted: bool,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut is_quoted = false;
    text.split(' ')
        .map(|text| {
            let token = Token { text, is_quoted };
            is_quoted = token.is_quoted_at(text.len());
            token
        })
        .collect()
}

impl Token<'_> {
    /// Places between two characters, in bytes.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.text.char_indices().skip(1).map(|(at, _)| at)
    }

    /// Whether a place is inside quotation marks; the marks of stressed syllables stand between letters.
    fn is_quoted_at(&self, at: usize) -> bool {
        let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphabetic() || c == '*');
        let is_quote = |at: &usize| {
            let (before, after) = (&self.text[..*at], &self.text[at + 1..]);
            !(is_letter(before.chars().next_back()) && is_letter(after.chars().next()))
        };
        let quotes = self.text[..at].match_indices('"').map(|(at, _)| at).filter(is_quote);
        self.is_quoted ^ (quotes.count() % 2 == 1)
    }

    /// The two characters before a place, the nearest first, and the one after it.
    fn around(&self, at: usize) -> (char, char, char) {
        let mut before = self.text[..at].chars().rev();
        let (last, second) = (before.next().unwrap_or(' '), before.next().unwrap_or(' '));
        (last, second, self.text[at..].chars().next().unwrap_or(' '))
    }

    /// Whether a paragraph ends at a place: behind punctuation, a capital, a quotation or dashes follow at once.
    fn ends_paragraph(&self, at: usize) -> bool {
        let (last, second, next) = self.around(at);
        let is_quoted = self.is_quoted_at(at);
        let begins = next.is_uppercase() || (next == '"' && !is_quoted) || self.text[at..].starts_with("--");
        match last {
            // "U.S." is one word.
            '.' | '?' | '!' | ':' | ';' => {
                begins && (second.is_lowercase() || matches!(second, ')' | ']' | '"'))
            }
            ')' | ']' => begins && !second.is_uppercase(),
            '"' => next.is_uppercase() && !is_quoted,
            _ => false,
        }
    }

    /// Whether a line may end at a place: between letters, behind punctuation, before brackets, beside dashes.
    fn may_end_line(&self, at: usize) -> bool {
        let (last, second, next) = self.around(at);
        let is_quoted = self.is_quoted_at(at);
        let opens = matches!(next, '(' | '[') || next == '"' && !is_quoted;
        let closes =
            matches!(last, ',' | ';' | '.' | ':' | '?' | '!' | ')' | ']') || last == '"' && !is_quoted;
        let is_word = last.is_alphanumeric() && next.is_alphanumeric();
        let is_number = !last.is_alphabetic() && !next.is_alphabetic();
        let dashes = last == '-' && second == '-' || last != '-' && self.text[at..].starts_with("--");
        (is_word && !is_number)
            || (closes && (next.is_alphanumeric() || opens))
            || (last.is_alphanumeric() && opens)
            || dashes
    }
}

/// A way to read a token.
struct Reading {
    /// log₂ of the probability of its words.
    score: i64,
    /// Characters up to its first cut.
    before: usize,
    /// Characters behind its last cut.
    after: usize,
    /// Whether the cut is the end of a line, at which there must be no room for what follows.
    ends_line: bool,
    cuts: Vec<usize>,
}

impl Reading {
    /// The column behind it and the space after it, when it begins in `column`, and what that costs; `None` if no line ends so.
    fn place(&self, column: usize) -> Option<(usize, i64)> {
        let end = column + self.before;
        if self.ends_line {
            let is_full = end <= WIDTH && end + 1 + self.after > WIDTH;
            return is_full.then_some((self.after + 1, 0));
        }
        match (end <= WIDTH, self.cuts.is_empty()) {
            (true, true) => Some((end + 1, 0)),
            (true, false) => Some((self.after + 1, 0)),
            (false, _) => Some((self.after + 1, TOO_LONG)),
        }
    }
}

/// A reading of a token, and the one of the token before it.
struct Step {
    before: Option<usize>,
    cuts: Vec<usize>,
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty())
}

/// log₂ in sixteenths, between powers of two along the chord; of 0 as of 1.
fn log2(number: u64) -> i64 {
    let number = number.max(1);
    let whole = number.ilog2();
    BIT * i64::from(whole) + ((u128::from(number) << 4) >> whole) as i64 - BIT
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = [
        "The part of a ship which is ordinarily under water; hence, the vessel itself; a ship. My ventures are not in one \
         bottom trusted. Shak. Not to sell the teas, but to return them to London in the same bottoms in which they were \
         shipped. Bancroft.",
        "Any one of several large birds (as the goose) of the sea, which were shipped in a vessel to London to be sold; \
         -- said of ships, too. \"The same birds are not to be trusted under water.\" Shak.",
        "To sell.",
    ];

    fn lexicon() -> Lexicon {
        let mut lexicon = Lexicon::default();
        TEXTS.iter().for_each(|text| lexicon.add(text));
        // Every word is used more than once in a long text.
        TEXTS.iter().for_each(|text| lexicon.add(text));
        lexicon
    }

    /// The lines of a paragraph that begins in a column.
    fn wrapped(text: &str, column: usize) -> Vec<String> {
        let mut lines = vec![String::new()];
        let mut end = column;
        for word in text.split(' ') {
            let line = lines.last_mut().unwrap();
            let len = word.chars().count();
            if line.is_empty() {
                line.push_str(word);
                end += len;
            } else if end + 1 + len <= WIDTH {
                line.push(' ');
                line.push_str(word);
                end += 1 + len;
            } else {
                lines.push(word.to_owned());
                end = len;
            }
        }
        lines
    }

    #[test]
    fn lines_that_ran_into_each_other_are_parted() {
        let lexicon = lexicon();
        for text in TEXTS {
            for column in BEGINNINGS {
                let joined = wrapped(text, column).concat();
                assert_eq!(lexicon.rejoin(&joined), text, "{joined}");
                assert_eq!(lexicon.rejoin(text), text, "what is whole stays so");
            }
        }
        let joined = wrapped(TEXTS[0], 6).concat();
        assert!(joined.contains(" thevessel itself"), "{joined}");
    }

    #[test]
    fn paragraphs_end_behind_punctuation_and_not_in_abbreviations() {
        let lexicon = lexicon();
        let joined = "A ship of the U.S.A. [Obs.]Which trusted. Shak.\"The goose.\"Shak.-- Ship\"ping, n.";
        let parted =
            "A ship of the U.S.A. [Obs.] Which trusted. Shak. \"The goose.\" Shak. -- Ship\"ping, n.";
        assert_eq!(lexicon.rejoin(joined), parted);
        assert_eq!(lexicon.rejoin(""), "");
    }

    #[test]
    fn logarithms_are_whole_sixteenths() {
        assert_eq!([0, 1, 2, 3, 4, 1 << 20].map(log2), [0, 0, 16, 24, 32, 320]);
        assert!((0..1000).is_sorted_by_key(log2));
    }
}
