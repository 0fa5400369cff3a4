//! Where a text ends that is cut before the first of some strings.

use std::sync::Arc;

/// Lets a text through piece by piece, up to the first of some strings that it contains.
///
/// Of several, the one counts whose last byte comes first; of those that end together, the longest. So what is let through
/// does not depend on how the text is cut into pieces. The end of a text that may be the beginning of a string is held
/// back until that is known.
#[derive(Clone, Debug)]
pub struct StopCutter {
    stops: Arc<Stops>,
    /// Of each, bytes with which the text so far ends.
    matched: Vec<usize>,
    held: String,
    /// Bytes of the string that has come.
    stopped_by: Option<usize>,
}

/// Some strings, worked out once for all texts that they cut.
#[derive(Clone, Debug, Default)]
pub struct Stops(Vec<Search>);

impl Stops {
    /// Of strings of which none is empty.
    pub fn new(stops: &[String]) -> Self {
        Self(stops.iter().map(|stop| Search::new(stop)).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One string, looked for byte by byte.
#[derive(Clone, Debug)]
struct Search {
    pattern: Vec<u8>,
    /// For a beginning of so many bytes, the longest shorter one with which it ends (Knuth, Morris and Pratt).
    shorter: Vec<usize>,
}

impl Search {
    /// Of a pattern of at least one byte.
    fn new(pattern: &str) -> Self {
        let pattern = pattern.as_bytes().to_vec();
        let mut search = Self { shorter: vec![0; pattern.len() + 1], pattern };
        let mut matched = 0;
        for end in 1..search.pattern.len() {
            matched = search.step(matched, search.pattern[end]);
            search.shorter[end + 1] = matched;
        }
        search
    }

    /// Bytes of the pattern with which a text ends after one more byte, where it ended with `matched` before.
    fn step(&self, mut matched: usize, byte: u8) -> usize {
        while matched > 0 && self.pattern.get(matched) != Some(&byte) {
            matched = self.shorter[matched];
        }
        matched + usize::from(self.pattern.get(matched) == Some(&byte))
    }
}

impl StopCutter {
    /// Before any of these; without any, everything is let through at once.
    pub fn new(stops: &Arc<Stops>) -> Self {
        let (stops, matched) = (Arc::clone(stops), vec![0; stops.0.len()]);
        Self { stops, matched, held: String::new(), stopped_by: None }
    }

    /// Takes the next byte, and gives the length of the longest string with which the text ends now.
    fn step(&mut self, byte: u8) -> Option<usize> {
        let mut whole = None;
        for (search, matched) in self.stops.0.iter().zip(&mut self.matched) {
            *matched = search.step(*matched, byte);
            if *matched == search.pattern.len() {
                whole = whole.max(Some(*matched));
            }
        }
        whole
    }

    /// Takes the next piece of the text, and gives what may be shown.
    pub fn push(&mut self, piece: &str) -> String {
        if self.is_stopped() {
            return String::new();
        }
        let start = self.held.len();
        self.held.push_str(piece);
        for (place, byte) in piece.bytes().enumerate() {
            if let Some(length) = self.step(byte) {
                self.stopped_by = Some(length);
                self.held.truncate(start + place + 1 - length);
                return std::mem::take(&mut self.held);
            }
        }
        let back = self.matched.iter().copied().max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - back);
        std::mem::replace(&mut self.held, rest)
    }

    /// The text is complete: gives what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether one of the strings has come.
    pub fn is_stopped(&self) -> bool {
        self.stopped_by.is_some()
    }

    /// Bytes of the one that has come.
    pub fn stop_len(&self) -> Option<usize> {
        self.stopped_by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, stops: &[&str], pieces: &[usize]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut cutter = StopCutter::new(&Arc::new(Stops::new(&stops)));
        let mut shown = String::new();
        let mut rest = text;
        for &length in pieces {
            let place = rest.char_indices().nth(length).map_or(rest.len(), |(place, _)| place);
            shown += &cutter.push(&rest[..place]);
            assert!(text.starts_with(&shown));
            rest = &rest[place..];
        }
        shown += &cutter.push(rest);
        shown += &cutter.finish();
        (shown, cutter.is_stopped())
    }

    #[test]
    fn a_text_is_cut_alike_however_it_comes() {
        for (text, stops, expected, is_stopped) in [
            ("one two three", &["two"][..], "one ", true),
            ("one two three", &["four"], "one two three", false),
            ("aab", &["ab"], "a", true),
            ("aaaab", &["aaab"], "a", true),
            ("abcabd", &["abd"], "abc", true),
            ("abc", &["abcd", "bc"], "a", true),
            ("xabc", &["bc", "abc"], "x", true),
            ("ends in st", &["stop"], "ends in st", false),
            ("", &["x"], "", false),
            ("xx", &["x"], "", true),
            ("größe\n\nmehr", &["\n\n"], "größe", true),
            ("日本語本", &["語"], "日本", true),
            ("abababac", &["ababac"], "ab", true),
            ("anything", &[], "anything", false),
        ] {
            for first in 0..=text.chars().count() {
                for second in 0..=text.chars().count() {
                    let found = cut(text, stops, &[first, second]);
                    assert_eq!(
                        found,
                        (expected.to_owned(), is_stopped),
                        "{text:?} {stops:?} {first} {second}"
                    );
                }
            }
            let singly = vec![1; text.chars().count()];
            assert_eq!(cut(text, stops, &singly).0, expected, "{text:?} {stops:?}");
        }
    }

    #[test]
    fn only_what_may_begin_a_stop_is_held_back() {
        let mut cutter = StopCutter::new(&Arc::new(Stops::new(&["###".to_owned()])));
        assert_eq!(cutter.push("text #"), "text ");
        assert_eq!(cutter.push("# more"), "## more");
        assert_eq!(cutter.push("##"), "");
        assert_eq!((cutter.push("#tail"), cutter.is_stopped()), (String::new(), true));
        assert_eq!((cutter.push("tail"), cutter.finish()), (String::new(), String::new()));
    }
}
