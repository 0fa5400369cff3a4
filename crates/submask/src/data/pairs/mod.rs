//! Prompts and completions: one pair per sequence, the prompt given and the completion learnt.

mod parquet;
mod records;
mod stored;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(super) use parquet::in_parquet;
pub(super) use records::{in_json, in_table};
pub use stored::Pairs;
pub(super) use stored::{PairWriter, WrittenPairs};

use super::corpus::Corpus;
use super::documents::Documents;
use super::fidelity::{Fidelity, FidelityCount};
use super::prepare::CorpusInfo;
use super::reader::Given;
use super::source::{Reading, Source};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// A text that is given, and the text that is to be written after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// What is given; it may be empty.
    pub prompt: String,
    /// What is written. A record without it is no pair.
    pub completion: String,
}

/// Pairs of one file.
pub(super) type FilePairs = Box<dyn Iterator<Item = Given<Pair>> + Send>;

/// Files of pairs, one per record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairSource {
    /// Files, folders and streams of JSON, tables and parquet, as those of [`Source::Files`].
    pub paths: Vec<PathBuf>,
    /// The field or column of prompts: a text, or a list of texts or of chat messages, whose `content` is read. A name, `a.b`
    /// for a field in another, `a[]` for the elements of a list, `a[].b` for a field of each.
    pub prompt_field: String,
    /// The field or column of completions. Where it is that of prompts, it holds chat messages: the last of them is the
    /// completion, and those before it are the prompt.
    pub completion_field: String,
    /// How files are read. What joins the texts of a list stands behind every turn of a prompt, and between those of a
    /// completion; nothing separates pairs.
    #[serde(default, skip_serializing_if = "Reading::is_default")]
    pub reading: Reading,
}

/// How a pair becomes a sequence of L tokens: one end of text, the prompt, the completion, and ends of text up to L.
///
/// The end of text at the beginning and the prompt are given. The completion, its end of text and the ends that fill the
/// sequence are masked and charged, so that a model learns where a completion ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairLayout {
    /// Tokens per sequence L.
    pub seq_len: usize,
    /// Whether completions are cut where a pair with both ends of text is too long; otherwise such a pair is left out. A
    /// completion that was cut has no end. A pair whose prompt leaves no room for a token is left out all the same.
    pub truncate: bool,
}

/// What became of the records of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairCounts {
    /// Pairs that are there.
    pub pairs: u64,
    /// Pairs left out since they are too long.
    pub too_long: u64,
    /// Pairs that are there with a part of their completion.
    pub cut: u64,
    /// Records left out since they have no completion.
    pub empty: u64,
}

/// A pair as a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSequence {
    /// The tokens, \[L\].
    pub tokens: Vec<u32>,
    /// How many of them are given, the end of text at the beginning included.
    pub given: usize,
    /// Tokens of the completion up to the first end of text, that one included: the denominator of figures.
    pub counted: u64,
    /// Characters that they stand for; `None` where pairs do not survive their tokenizer.
    pub characters: Option<u64>,
}

/// The pairs of a source as sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct PairSequences {
    /// One per pair that is there, in order.
    pub sequences: Vec<PairSequence>,
    /// What became of the records.
    pub counts: PairCounts,
    /// What the tokenizer did to the texts.
    pub fidelity: Fidelity,
    /// Which files and records were not read.
    pub corpus: CorpusInfo,
}

/// A pair as tokens that fit into a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PairTokens {
    pub(super) prompt: Vec<u32>,
    pub(super) completion: Vec<u32>,
}

/// A pair that was encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EncodedPair {
    /// `None`: the pair is too long.
    pub(super) tokens: Option<PairTokens>,
    pub(super) is_cut: bool,
    pub(super) fidelity: Fidelity,
}

impl PairSource {
    /// Pairs in the fields `prompt` and `completion` of files.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            prompt_field: "prompt".to_owned(),
            completion_field: "completion".to_owned(),
            reading: Reading::default(),
        }
    }

    /// The files, found.
    ///
    /// # Errors
    /// As [`Source::corpus`], and [`Error::Invalid`] for a format without fields, and for a separator.
    pub fn corpus(&self) -> Result<Corpus> {
        Source::Pairs(self.clone()).corpus()
    }

    /// The pairs of all files, in order, those without a completion included; it ends after an error.
    ///
    /// # Errors
    /// As [`Self::corpus`]. The iterator gives an error for a file that cannot be read, with the line or row.
    pub fn pairs(&self) -> Result<Documents<Pair>> {
        self.corpus()?.pairs()
    }

    /// All pairs as sequences, in order.
    ///
    /// # Errors
    /// As [`Self::pairs`]; [`Error::Invalid`] for a tokenizer without end of text; those of encoding; [`Error::Format`]
    /// where no pair is left.
    pub fn sequences(&self, tokenizer: &Tokenizer, layout: PairLayout) -> Result<PairSequences> {
        let end = layout.end_of_text(tokenizer)?;
        let (mut counts, mut fidelity) = (PairCounts::default(), FidelityCount::default());
        let mut kept = Vec::new();
        let corpus = self.corpus()?;
        let mut pairs = corpus.pairs()?;
        for pair in pairs.by_ref() {
            let encoded = layout.encode(tokenizer, &pair?)?;
            counts.count(encoded.as_ref());
            if let Some(EncodedPair { tokens: Some(tokens), fidelity: own, .. }) = encoded {
                fidelity.add(own, true);
                kept.push(tokens);
            }
        }
        if kept.is_empty() {
            let origin = self.paths.first().cloned().unwrap_or_default();
            return Err(Error::format(origin, format!("no pair is left: {}", counts.reasons(layout))));
        }
        let fidelity = fidelity.total();
        let sequence = |tokens: &PairTokens| layout.sequence(tokenizer, end, tokens, fidelity.is_lossless());
        let sequences = kept.iter().map(sequence).collect::<Result<_>>()?;
        let corpus = CorpusInfo::new(corpus.left_out().cloned(), pairs.skipped().cloned(), None);
        Ok(PairSequences { sequences, counts, fidelity, corpus })
    }
}

impl PairCounts {
    /// Counts a record, `None` being one without a completion.
    pub(super) fn count(&mut self, encoded: Option<&EncodedPair>) {
        match encoded {
            None => self.empty += 1,
            Some(EncodedPair { tokens: None, .. }) => self.too_long += 1,
            Some(EncodedPair { is_cut, .. }) => {
                self.pairs += 1;
                self.cut += u64::from(*is_cut);
            }
        }
    }

    /// Why records were left out.
    pub(super) fn reasons(&self, layout: PairLayout) -> String {
        let (too_long, empty, seq_len) = (self.too_long, self.empty, layout.seq_len);
        format!("{too_long} too long for {seq_len} tokens, {empty} without a completion")
    }
}

impl std::ops::Add for PairCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pairs: self.pairs + other.pairs,
            too_long: self.too_long + other.too_long,
            cut: self.cut + other.cut,
            empty: self.empty + other.empty,
        }
    }
}

impl PairLayout {
    /// The token that begins a sequence and fills it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tokenizer without one, and for sequences of fewer than 3 tokens.
    pub(super) fn end_of_text(self, tokenizer: &Tokenizer) -> Result<u32> {
        if self.seq_len < 3 {
            return Err(Error::invalid("model.seq_len", self.seq_len, "at least 3 for pairs"));
        }
        tokenizer.end_of_text().ok_or_else(|| {
            let allowed = "one with an end-of-text token: pairs begin with it and are filled with it";
            Error::invalid("tokenizer", "without end of text", allowed)
        })
    }

    /// Both texts, encoded apart; `None` where there is no completion.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub(super) fn encode(self, tokenizer: &Tokenizer, pair: &Pair) -> Result<Option<EncodedPair>> {
        if pair.completion.is_empty() {
            return Ok(None);
        }
        let (prompt, mut completion) = (tokenizer.encode(&pair.prompt)?, tokenizer.encode(&pair.completion)?);
        let both = Fidelity::of(tokenizer, &pair.prompt, &prompt)?
            + Fidelity::of(tokenizer, &pair.completion, &completion)?;
        let fidelity = Fidelity { documents: 1, changed: both.changed.min(1), ..both };
        // Beside the end of text before the prompt; one more must fit behind the completion.
        let room = self.seq_len.saturating_sub(1 + prompt.len());
        let is_cut = completion.len() >= room;
        let fits = !is_cut || (self.truncate && room > 0);
        completion.truncate(room);
        let tokens = fits.then_some(PairTokens { prompt, completion });
        Ok(Some(EncodedPair { tokens, is_cut, fidelity }))
    }

    /// The sequence of a pair that fits.
    ///
    /// # Errors
    /// As [`Tokenizer::count_characters`].
    pub(super) fn sequence(
        self,
        tokenizer: &Tokenizer,
        end: u32,
        pair: &PairTokens,
        is_lossless: bool,
    ) -> Result<PairSequence> {
        let mut tokens = Vec::with_capacity(self.seq_len);
        tokens.push(end);
        tokens.extend_from_slice(&pair.prompt);
        let given = tokens.len();
        tokens.extend_from_slice(&pair.completion);
        tokens.resize(self.seq_len, end);
        let written = &tokens[given..];
        let text = written.iter().position(|token| *token == end).unwrap_or(written.len());
        let characters = is_lossless.then(|| tokenizer.count_characters(&written[..text])).transpose()?;
        let counted = (text + 1).min(written.len()) as u64;
        Ok(PairSequence { tokens, given, counted, characters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(seq_len: usize, truncate: bool, prompt: &str, completion: &str) -> Option<PairSequence> {
        let (layout, tokenizer) = (PairLayout { seq_len, truncate }, Tokenizer::bytes());
        let pair = Pair { prompt: prompt.to_owned(), completion: completion.to_owned() };
        let encoded = layout.encode(&tokenizer, &pair).unwrap().unwrap();
        encoded.tokens.map(|tokens| layout.sequence(&tokenizer, 256, &tokens, true).unwrap())
    }

    #[test]
    fn a_sequence_is_end_of_text_prompt_completion_and_ends_of_text() {
        let sequence = fitted(8, false, "ab", "cé").unwrap();
        assert_eq!(sequence.tokens, [256, 97, 98, 99, 0xc3, 0xa9, 256, 256]);
        // The completion has three tokens and two characters; its end counts, what fills the sequence does not.
        assert_eq!((sequence.given, sequence.counted, sequence.characters), (3, 4, Some(2)));
        let unprompted = fitted(8, false, "", "c").unwrap();
        assert_eq!((unprompted.given, unprompted.counted), (1, 2));
    }

    #[test]
    fn pairs_that_are_too_long_are_left_out_or_cut() {
        // The end of text before the prompt and the one behind the completion must fit, too.
        assert!(fitted(6, false, "ab", "cd").is_some());
        assert!(fitted(5, false, "ab", "cd").is_none());
        let cut = fitted(5, true, "ab", "cd").unwrap();
        assert_eq!((cut.tokens.as_slice(), cut.counted), (&[256, 97, 98, 99, 100][..], 2));
        let cut = fitted(4, true, "ab", "cd").unwrap();
        assert_eq!(
            (cut.tokens.as_slice(), cut.counted, cut.characters),
            (&[256, 97, 98, 99][..], 1, Some(1))
        );
        assert!(fitted(3, true, "ab", "cd").is_none(), "no room for a token");
    }

    #[test]
    fn what_becomes_of_pairs_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        let lines = concat!(
            "{\"prompt\": \"a\", \"completion\": \"bc\"}\n",
            "{\"prompt\": \"a\", \"completion\": null}\n",
            "{\"prompt\": \"a\", \"completion\": \"much too long\"}\n",
            "{\"prompt\": \"a prompt alone\", \"completion\": \"b\"}\n"
        );
        std::fs::write(&path, lines).unwrap();
        let source = PairSource::new([&path]);
        let read =
            |truncate| source.sequences(&Tokenizer::bytes(), PairLayout { seq_len: 8, truncate }).unwrap();
        let PairSequences { sequences, counts, fidelity, corpus } = read(false);
        assert!(corpus.is_empty());
        assert_eq!(counts, PairCounts { pairs: 1, too_long: 2, cut: 0, empty: 1 });
        assert_eq!((sequences.len(), fidelity.documents), (1, 1));
        let PairSequences { sequences, counts, .. } = read(true);
        assert_eq!(counts, PairCounts { pairs: 2, too_long: 1, cut: 1, empty: 1 });
        assert_eq!(sequences[1].counted, 6);
        let short = PairLayout { seq_len: 3, truncate: false };
        let error = source.sequences(&Tokenizer::bytes(), short).unwrap_err().to_string();
        assert!(
            error.contains("no pair is left: 3 too long for 3 tokens, 1 without a completion"),
            "{error}"
        );
        let error = source.sequences(&Tokenizer::text8(), short).unwrap_err().to_string();
        assert!(error.contains("end-of-text token"), "{error}");
    }

    #[test]
    fn pairs_of_a_folder_are_read_whatever_their_format() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let chat = |n: usize| {
            format!("{{\"q\": [{{\"content\": \"u{n}\"}}, {{\"content\": \"v\"}}], \"a\": \"c{n}\"}}")
        };
        write("a.json", &format!("[{},\n{}]", chat(0), chat(1)));
        write("b.csv", "a,q\nc2,u2\nc3\n,u4\n");
        write("c.ndjson", "{\"q\": \"u5\", \"a\": [\"c\", \"5\"]}\noops\n");
        write("about.json", "{\"q\": \"a description without the other field\"}");
        let mut source = PairSource::new([folder.path()]);
        (source.prompt_field, source.completion_field) = ("q[].content".to_owned(), "a".to_owned());
        source.paths = vec![folder.path().join("a.json")];
        let shown = |source: &PairSource| -> Vec<String> {
            let pairs = source.pairs().unwrap().map(|pair| pair.unwrap());
            pairs.map(|pair| format!("{}>{}", pair.prompt, pair.completion)).collect()
        };
        assert_eq!(shown(&source), ["u0\nv\n>c0", "u1\nv\n>c1"]);
        source.paths = vec![folder.path().to_path_buf()];
        source.prompt_field = "q".to_owned();
        source.reading.join = " ".to_owned();
        let error = source.pairs().unwrap().find_map(Result::err).unwrap().to_string();
        assert!(error.contains("b.csv: line 3: 1 columns, 2 are named"), "{error}");
        source.reading.skip_bad = true;
        assert_eq!(shown(&source), ["u0 v >c0", "u1 v >c1", "u2>c2", "u4>", "u5>c 5"]);
        let layout = PairLayout { seq_len: 16, truncate: false };
        let PairSequences { counts, corpus, .. } = source.sequences(&Tokenizer::bytes(), layout).unwrap();
        assert_eq!(counts, PairCounts { pairs: 4, too_long: 0, cut: 0, empty: 1 });
        let (skipped, left_out) = (corpus.skipped.unwrap(), corpus.left_out.unwrap());
        assert_eq!((skipped.records, left_out.files), (2, 1));
        assert!(left_out.first.contains("about.json"), "{left_out:?}");
        source.reading.separator = "x".to_owned();
        assert!(source.pairs().is_err());
    }
}
