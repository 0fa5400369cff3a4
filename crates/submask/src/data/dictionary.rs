//! The built-in corpus: an English dictionary that needs no network.

use super::document::Document;
use crate::error::Result;

/// The entries "word: definition" of an English dictionary, sorted by word, each once.
///
/// About 41,000 documents and 5.0 MB of text: the words of the crate `random_word` that the crate
/// `webster` defines (Webster's Unabridged Dictionary of 1913, in the public domain). White space in
/// a definition is collapsed to single spaces.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) when built without the feature `dictionary`.
#[cfg(feature = "dictionary")]
pub fn dictionary() -> Result<impl Iterator<Item = Document> + Send> {
    let mut words = random_word::all(random_word::Lang::En).to_vec();
    words.sort_unstable();
    words.dedup();
    Ok(words.into_iter().filter_map(|word| {
        let definition = webster::dictionary(word)?.split_whitespace().collect::<Vec<_>>().join(" ");
        (!definition.is_empty()).then(|| Document::whole(format!("{word}: {definition}")))
    }))
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

#[cfg(all(test, feature = "dictionary"))]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_sorted_and_has_no_entry_twice() {
        let entries: Vec<_> = dictionary().unwrap().map(|document| document.text).collect();
        assert!((40_000..43_000).contains(&entries.len()), "{} entries", entries.len());
        let words: Vec<_> = entries.iter().map(|entry| entry.split_once(": ").unwrap().0).collect();
        assert!(words.is_sorted_by(|a, b| a < b));
        let bytes: usize = entries.iter().map(String::len).sum();
        assert!((4_500_000..5_500_000).contains(&bytes), "{bytes} bytes");
        assert!(entries.iter().all(|entry| !entry.contains("  ") && entry.trim() == entry));
    }
}
