//! The built-in corpus: an English dictionary that needs no network.

use super::document::Document;
use crate::error::Result;

/// The entries "word: definition" of an English dictionary, sorted by word, each once.
///
/// About 41,000 documents and 5.0 MB of text: the words of the crate `random_word` that the crate
/// `webster` defines (Webster's Unabridged Dictionary of 1913, in the public domain). White space in
/// a definition is collapsed to single spaces, and put back where the crate's text lost it with the ends of its source's
/// lines. That is done once, when the entries are first asked for.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) when built without the feature `dictionary`.
#[cfg(feature = "dictionary")]
pub fn dictionary() -> Result<impl Iterator<Item = Document> + Send> {
    Ok(ENTRIES.iter().map(|entry| Document::whole(entry.as_str())))
}

#[cfg(feature = "dictionary")]
static ENTRIES: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(rejoined_entries);

/// Entries per page of [`dictionary_pages`].
#[cfg(feature = "dictionary")]
const ENTRIES_PER_PAGE: usize = 100;

/// The same entries a hundred to a document, with a blank line between two of them: about 410 documents of several thousand tokens
/// each, for models that write long texts.
///
/// # Errors
/// As [`dictionary`].
#[cfg(feature = "dictionary")]
pub fn dictionary_pages() -> Result<impl Iterator<Item = Document> + Send> {
    Ok(ENTRIES.chunks(ENTRIES_PER_PAGE).map(|entries| Document::whole(entries.join("\n\n"))))
}

/// The same entries as earlier versions had them: words run together where lines of the source ended.
///
/// # Errors
/// As [`dictionary`].
#[cfg(feature = "dictionary")]
pub fn first_dictionary() -> Result<impl Iterator<Item = Document> + Send> {
    Ok(definitions().map(|(word, definition)| Document::whole(entry(word, &definition))))
}

#[cfg(feature = "dictionary")]
fn entry(word: &str, definition: &str) -> String {
    format!("{word}: {definition}")
}

/// Words and their definitions.
#[cfg(feature = "dictionary")]
fn definitions() -> impl Iterator<Item = (&'static str, String)> + Send {
    let mut words = random_word::all(random_word::Lang::En).to_vec();
    words.sort_unstable();
    words.dedup();
    words.into_iter().filter_map(|word| {
        let definition = webster::dictionary(word)?.split_whitespace().collect::<Vec<_>>().join(" ");
        (!definition.is_empty()).then_some((word, definition))
    })
}

/// The entries with a space where lines of the source ended.
#[cfg(feature = "dictionary")]
fn rejoined_entries() -> Vec<String> {
    use rayon::prelude::*;

    let definitions: Vec<(&str, String)> = definitions().collect();
    let mut lexicon = super::line_breaks::Lexicon::default();
    for (word, definition) in &definitions {
        lexicon.add(word);
        lexicon.add(definition);
    }
    definitions.par_iter().map(|(word, definition)| entry(word, &lexicon.rejoin(definition))).collect()
}

/// The entries of an English dictionary: this build lacks them.
///
/// # Errors
/// Always [`Error::Invalid`](crate::Error::Invalid), naming the feature `dictionary`.
#[cfg(not(feature = "dictionary"))]
pub fn dictionary() -> Result<impl Iterator<Item = Document> + Send> {
    let nothing: Result<std::iter::Empty<Document>> = Err(crate::error::Error::invalid(
        "corpus",
        "dictionary",
        "this build lacks the built-in corpus; build with the feature `dictionary`, or give paths",
    ));
    nothing
}

/// The same of its pages.
///
/// # Errors
/// As [`dictionary`].
#[cfg(not(feature = "dictionary"))]
pub fn dictionary_pages() -> Result<impl Iterator<Item = Document> + Send> {
    dictionary()
}

/// The same of its first edition.
///
/// # Errors
/// As [`dictionary`].
#[cfg(not(feature = "dictionary"))]
pub fn first_dictionary() -> Result<impl Iterator<Item = Document> + Send> {
    dictionary()
}

#[cfg(all(test, feature = "dictionary"))]
mod tests {
    use super::*;

    fn texts(documents: impl Iterator<Item = Document>) -> Vec<String> {
        documents.map(|document| document.text).collect()
    }

    #[test]
    fn the_dictionary_is_sorted_and_has_no_entry_twice() {
        let entries = texts(dictionary().unwrap());
        assert!((40_000..43_000).contains(&entries.len()), "{} entries", entries.len());
        let words: Vec<_> = entries.iter().map(|entry| entry.split_once(": ").unwrap().0).collect();
        assert!(words.is_sorted_by(|a, b| a < b));
        let bytes: usize = entries.iter().map(String::len).sum();
        assert!((4_500_000..5_500_000).contains(&bytes), "{bytes} bytes");
        assert!(entries.iter().all(|entry| !entry.contains("  ") && entry.trim() == entry));
    }

    #[test]
    fn pages_hold_all_entries_in_order() {
        let (pages, entries) = (texts(dictionary_pages().unwrap()), texts(dictionary().unwrap()));
        assert_eq!(pages.len(), entries.len().div_ceil(100));
        assert_eq!(pages.join("\n\n"), entries.join("\n\n"));
        assert!(pages.iter().all(|page| page.len() > 1000), "the last one, too");
    }

    #[test]
    fn words_of_different_lines_are_parted_and_nothing_else_is_changed() {
        let (first, entries) = (texts(first_dictionary().unwrap()), texts(dictionary().unwrap()));
        assert_eq!(first.len(), entries.len());
        for (before, after) in first.iter().zip(&entries) {
            assert!(before.chars().filter(|c| *c != ' ').eq(after.chars().filter(|c| *c != ' ')), "{before}");
        }
        let of = |texts: &[String], part: &str| texts.iter().filter(|text| text.contains(part)).count();
        for joined in [" thevessel", " ofthe ", " andthe ", " inthe ", " theship", "Shak.Not", "ofwhich"] {
            assert!(of(&first, joined) > 0, "{joined}");
            assert!(of(&entries, joined) * 20 <= of(&first, joined), "{joined}: {}", of(&entries, joined));
        }
        let added: usize =
            entries.iter().map(String::len).sum::<usize>() - first.iter().map(String::len).sum::<usize>();
        // The source has a line end in about every third entry, and several in long ones.
        assert!((25_000..60_000).contains(&added), "{added}");
    }
}
