//! Generated text against a corpus: are its words words, and are its sentences its own?

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Shortest word that counts, in letters: shorter ones are fragments as often as words.
const MIN_LETTERS: usize = 3;

/// The words of a corpus, and its runs of n words in a row.
#[derive(Debug)]
pub struct Corpus {
    words: HashSet<String>,
    run: usize,
    runs: HashSet<u64>,
}

impl Corpus {
    /// Reads documents; `run` = n ≥ 1 words in a row are what counts as copied.
    pub fn new<T: AsRef<str>>(documents: impl IntoIterator<Item = T>, run: usize) -> Self {
        let mut corpus = Self { words: HashSet::new(), run: run.max(1), runs: HashSet::new() };
        for document in documents {
            let words = words_of(document.as_ref());
            corpus.runs.extend(words.windows(corpus.run).map(hash));
            corpus.words.extend(words);
        }
        corpus
    }

    /// (known, all): of the words of three letters and more in `text`, those that the corpus has.
    pub fn known_words(&self, text: &str) -> (usize, usize) {
        let words: Vec<String> =
            words_of(text).into_iter().filter(|word| word.chars().count() >= MIN_LETTERS).collect();
        (words.iter().filter(|word| self.words.contains(*word)).count(), words.len())
    }

    /// Whether some run of n words of `text` stands in the corpus.
    pub fn has_copied_run(&self, text: &str) -> bool {
        words_of(text).windows(self.run).any(|run| self.runs.contains(&hash(run)))
    }
}

/// Runs of letters, in lower case.
fn words_of(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn hash(words: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_from_three_letters_on() {
        let corpus = Corpus::new(["A cat: an animal that purrs.", "to sit"], 3);
        assert_eq!(corpus.known_words("The CAT sits to xyz, an animal"), (2, 5));
        assert_eq!(corpus.known_words(""), (0, 0));
    }

    #[test]
    fn a_run_is_copied_only_within_one_document() {
        let corpus = Corpus::new(["one two three four", "five six"], 3);
        assert!(corpus.has_copied_run("and Two, three; four!"));
        assert!(!corpus.has_copied_run("three four five"));
        assert!(!corpus.has_copied_run("two three"));
    }
}
