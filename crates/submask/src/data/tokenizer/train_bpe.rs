//! Training of a byte-level BPE, the same every time.
//!
//! Follows Sennrich, Haddow and Birch, *Neural machine translation of rare words with subword units*
//! (2016): the most frequent pair of neighbouring symbols becomes a symbol, until there are enough.
//! Of equally frequent pairs the one with the smaller ids is first. Counts are sums, words are
//! sorted, and nothing is decided by hash order or threads, so that the outcome follows from the
//! corpus alone. The merges are those of the trainer of the crate `tokenizers`, except where two
//! pairs spell the same token: that trainer can then list a pair twice and keep its later rank.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::END_OF_TEXT;
use crate::data::document::Document;
use crate::error::{Error, Result};

/// How much of the corpus is read for training: word counts of more text hardly change the merges.
const TRAINING_BYTES: usize = 256 << 20;
/// Bytes of text that are counted at once on all threads.
const BATCH_BYTES: usize = 8 << 20;
/// Fewest occurrences of a pair that becomes a token.
const MIN_COUNT: u64 = 2;

type Pair = (u32, u32);
type Counts = HashMap<String, u64>;

/// The `tokenizer.json` of a byte-level BPE with `vocab_size` ids: the bytes, the merges in order,
/// end of text.
pub(super) fn train<I>(vocab_size: usize, documents: impl FnOnce() -> Result<I>) -> Result<String>
where
    I: IntoIterator<Item = Result<Document>>,
{
    let invalid = |allowed: String| Error::invalid("tokenizer.vocab_size", vocab_size, allowed);
    if vocab_size < 257 || vocab_size > u32::MAX as usize {
        return Err(invalid("at least 257: the 256 bytes and end of text".to_owned()));
    }
    let counts = count_words(documents()?)?;
    let mut trainer = Trainer::new(counts);
    while trainer.tokens.len() + 1 < vocab_size {
        if !trainer.merge_next() {
            let reached = trainer.tokens.len() + 1;
            return Err(invalid(format!("at most {reached}: this corpus has no more pairs that repeat")));
        }
    }
    Ok(trainer.into_json())
}

/// How often every word (a piece of text that tokens do not cross) occurs; in byte-level characters.
fn count_words(documents: impl IntoIterator<Item = Result<Document>>) -> Result<Counts> {
    let mut counts = Counts::new();
    let mut batch = Vec::new();
    let (mut batch_bytes, mut bytes) = (0, 0);
    for document in documents {
        let document = document?;
        batch_bytes += document.text.len();
        bytes += document.text.len();
        batch.push(document.text);
        if batch_bytes >= BATCH_BYTES || bytes >= TRAINING_BYTES {
            add_counts(&mut counts, &batch)?;
            batch.clear();
            batch_bytes = 0;
        }
        if bytes >= TRAINING_BYTES {
            break;
        }
    }
    add_counts(&mut counts, &batch)?;
    Ok(counts)
}

fn add_counts(counts: &mut Counts, texts: &[String]) -> Result<()> {
    let share = texts.len().div_ceil(4 * rayon::current_num_threads()).max(1);
    let parts: Result<Vec<Counts>> = texts.par_chunks(share).map(words_of).collect();
    for (word, count) in parts?.into_iter().flatten() {
        *counts.entry(word).or_default() += count;
    }
    Ok(())
}

fn words_of(texts: &[String]) -> Result<Counts> {
    let splitter = ByteLevel::new(false, false, true);
    let mut counts = Counts::new();
    for text in texts {
        let mut words = PreTokenizedString::from(text.as_str());
        splitter
            .pre_tokenize(&mut words)
            .map_err(|error| Error::invalid("text", format!("{} bytes", text.len()), error.to_string()))?;
        for (word, ..) in words.get_splits(OffsetReferential::Original, OffsetType::None) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_owned(), 1)),
            }
        }
    }
    Ok(counts)
}

/// The state of training: every word as symbols, and where each pair of neighbours is.
struct Trainer {
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// Words that a pair is, or was, in; some more than once.
    places: HashMap<Pair, Vec<usize>>,
    /// Pairs by count; entries whose count has changed are corrected when they come up.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
    merges: Vec<Pair>,
    merged: HashSet<Pair>,
}

impl Trainer {
    fn new(counts: Counts) -> Self {
        let mut words: Vec<_> = counts.into_iter().collect();
        words.sort_unstable();
        let symbols = |word: String| word.chars().filter_map(byte_of).map(u32::from).collect();
        let tokens: Vec<String> = (0..=255u8).map(|byte| character_of(byte).to_string()).collect();
        let mut trainer = Self {
            words: words.into_iter().map(|(word, count)| (symbols(word), count)).collect(),
            counts: HashMap::new(),
            places: HashMap::new(),
            queue: BinaryHeap::new(),
            ids: tokens.iter().cloned().zip(0..).collect(),
            tokens,
            merges: Vec::new(),
            merged: HashSet::new(),
        };
        for (place, (symbols, count)) in trainer.words.iter().enumerate() {
            for pair in pairs(symbols) {
                *trainer.counts.entry(pair).or_default() += count;
                trainer.places.entry(pair).or_default().push(place);
            }
        }
        trainer.queue = trainer.counts.iter().map(|(pair, count)| (*count, Reverse(*pair))).collect();
        trainer
    }

    /// Merges the most frequent pair; false if none repeats.
    fn merge_next(&mut self) -> bool {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let current = self.counts.get(&pair).copied().unwrap_or(0);
            if current != count {
                if current > 0 {
                    self.queue.push((current, Reverse(pair)));
                }
            } else if count < MIN_COUNT {
                return false;
            } else {
                self.merge(pair);
                return true;
            }
        }
        false
    }

    fn merge(&mut self, pair: Pair) {
        let token = self.token_of(pair);
        if self.merged.insert(pair) {
            self.merges.push(pair);
        }
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut risen = HashSet::new();
        for place in places {
            let (symbols, count) = &mut self.words[place];
            for old in pairs(symbols) {
                if let Some(total) = self.counts.get_mut(&old) {
                    *total -= *count;
                }
            }
            replace(symbols, pair, token);
            for new in pairs(symbols) {
                *self.counts.entry(new).or_default() += *count;
                if new.0 == token || new.1 == token {
                    self.places.entry(new).or_default().push(place);
                    risen.insert(new);
                }
            }
        }
        self.counts.remove(&pair);
        self.queue.extend(risen.into_iter().map(|pair| (self.counts[&pair], Reverse(pair))));
    }

    /// The id of a pair's text, which another pair may have given already.
    fn token_of(&mut self, (left, right): Pair) -> u32 {
        let text = format!("{}{}", self.tokens[left as usize], self.tokens[right as usize]);
        if let Some(&id) = self.ids.get(&text) {
            return id;
        }
        let id = self.tokens.len() as u32;
        self.tokens.push(text.clone());
        self.ids.insert(text, id);
        id
    }

    fn into_json(self) -> String {
        let merges: Vec<Value> = self
            .merges
            .iter()
            .map(|(left, right)| json!([self.tokens[*left as usize], self.tokens[*right as usize]]))
            .collect();
        let mut vocabulary: Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let end_of_text = self.tokens.len();
        vocabulary.insert(END_OF_TEXT.to_owned(), json!(end_of_text));
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true
        });
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [{
                "id": end_of_text, "content": END_OF_TEXT, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            }],
            "normalizer": null,
            "pre_tokenizer": byte_level.clone(),
            "post_processor": null,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": false, "vocab": vocabulary, "merges": merges
            }
        });
        tokenizer.to_string()
    }
}

fn pairs(symbols: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    symbols.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Replaces every occurrence of a pair, from the left.
fn replace(symbols: &mut Vec<u32>, pair: Pair, token: u32) {
    let (mut read, mut write) = (0, 0);
    while read < symbols.len() {
        let found = read + 1 < symbols.len() && (symbols[read], symbols[read + 1]) == pair;
        symbols[write] = if found { token } else { symbols[read] };
        read += 1 + usize::from(found);
        write += 1;
    }
    symbols.truncate(write);
}

/// The printable character that stands for a byte in byte-level vocabularies: itself where it is
/// printable, or else one from U+0100 on, in order.
pub(super) fn character_of(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=b' ' => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character stands for in byte-level vocabularies.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let byte = match character as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::hash::mix;

    fn train_on(texts: &[&str], vocab_size: usize) -> Result<String> {
        train(vocab_size, || Ok(texts.iter().map(|text| Ok(Document::whole(*text))).collect::<Vec<_>>()))
    }

    fn tokens(json: &str) -> (Vec<(String, u64)>, Vec<String>) {
        let json: Value = serde_json::from_str(json).unwrap();
        let vocabulary = json["model"]["vocab"].as_object().unwrap();
        let mut tokens: Vec<_> = vocabulary.iter().map(|(t, id)| (t.clone(), id.as_u64().unwrap())).collect();
        tokens.sort_by_key(|(_, id)| *id);
        let merges = json["model"]["merges"].as_array().unwrap();
        let text = |merge: &Value| format!("{}+{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
        (tokens, merges.iter().map(text).collect())
    }

    #[test]
    fn byte_characters_are_those_of_the_pre_tokenizer() {
        let ours: HashSet<char> = (0..=255u8).map(character_of).collect();
        assert_eq!(ours, ByteLevel::alphabet().into_iter().collect());
        assert!((0..=255u8).all(|byte| byte_of(character_of(byte)) == Some(byte)));
        assert_eq!((character_of(b' '), character_of(b'\n')), ('Ġ', 'Ċ'));
    }

    #[test]
    fn the_most_frequent_pairs_are_merged_in_order_and_ties_by_id() {
        // "ab" is there five times.
        let (tokens, merges) = tokens(&train_on(&["abc abc abc", "ab ab", "de xy de xy"], 261).unwrap());
        assert_eq!(merges[0], "a+b");
        assert_eq!(tokens[256], ("ab".to_owned(), 256));
        assert_eq!(tokens[260], (END_OF_TEXT.to_owned(), 260));
        assert_eq!(tokens.len(), 261);
        // " ab" and "abc" tie at three, and merging the first leaves one "abc"; then four tie at two.
        assert_eq!(merges[1..], ["Ġ+ab", "Ġ+x", "d+e"]);
    }

    #[test]
    fn merges_agree_with_the_trainer_of_tokenizers() {
        use tokenizers::Trainer as _;
        use tokenizers::models::bpe::{BPE, BpeTrainer};
        // Words without spaces, whose letters have the same order in both vocabularies.
        let letter = |hash: u64| char::from(b'a' + (hash % 6) as u8);
        let word = |n: u64| (0..3 + n % 7).map(|i| letter(mix(n * 100 + i) >> 8)).collect::<String>();
        let words: Vec<String> = (0..2000).map(word).collect();
        let mut trainer = BpeTrainer::builder().show_progress(false).vocab_size(6 + 60).build();
        trainer.feed(words.iter(), |word| Ok(vec![word.to_owned()])).unwrap();
        let mut model = BPE::default();
        trainer.train(&mut model).unwrap();
        let theirs = serde_json::to_value(&model).unwrap();
        let texts: Vec<&str> = words.iter().map(String::as_str).collect();
        let ours: Value = serde_json::from_str(&train_on(&texts, 257 + 60).unwrap()).unwrap();
        assert_eq!(ours["model"]["merges"], theirs["merges"]);
    }

    #[test]
    fn training_is_the_same_every_time() {
        let text = "aaaa aaab abab baba bbbb aabb abba abcabc bcabca cab caba ".repeat(4);
        let first = train_on(&[&text, "abc"], 275).unwrap();
        for _ in 0..20 {
            assert_eq!(train_on(&["abc", &text], 275).unwrap(), first);
        }
    }

    #[test]
    fn a_vocabulary_size_out_of_reach_is_refused_with_the_limit() {
        let error = train_on(&["abc abc"], 1000).unwrap_err().to_string();
        assert!(error.contains("1000") && error.contains("at most 259"), "{error}");
        let error = train_on(&["abc abc"], 256).unwrap_err().to_string();
        assert!(error.contains("at least 257"), "{error}");
    }
}
