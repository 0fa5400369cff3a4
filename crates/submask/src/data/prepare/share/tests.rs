use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::data::document::PIECE_BYTES;
use crate::data::{PairSource, Reading, Split as Documents, TokenizerSpec, prepare};
use crate::parts::PartFile;

/// A corpus in a folder, and how it is prepared.
struct Corpus {
    folder: tempfile::TempDir,
    settings: PrepareSettings,
}

impl Corpus {
    fn of(name: &str, text: &str, tokenizer: TokenizerSpec) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let mut settings = PrepareSettings::new(Source::files([path]), tokenizer);
        // Shards end inside of documents, and inside of characters.
        settings.shard_tokens = 37;
        settings.seq_len = 4;
        Self { folder, settings }
    }

    fn lines(text: &str, tokenizer: TokenizerSpec) -> Self {
        let mut corpus = Self::of("corpus.txt", text, tokenizer);
        if let Source::Files { split, .. } = &mut corpus.settings.source {
            *split = Documents::Line;
        }
        corpus
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn part(&self, index: u64, count: u64) -> Result<PathBuf> {
        let path = self.path(&format!("{index}-of-{count}.part"));
        let shard = Shard::new(index, count).unwrap();
        let place = (&*self.path("merged"), Outdated::Refuse);
        prepare_share(&self.settings, shard, &path, place, Value::Null, &mut |_| ()).map(|()| path)
    }

    fn merged(&self, count: u64) -> Result<PreparedData> {
        let parts: Vec<PathBuf> = (0..count).map(|index| self.part(index, count)).collect::<Result<_>>()?;
        merge_prepared(&PartSet::open(parts)?, &self.path("merged"), Outdated::Refuse)
    }

    /// That every number of shares gives the folder of one process.
    fn check(&self, counts: &[u64]) -> PreparedData {
        let data = prepare(&self.settings, self.path("whole"), Outdated::Refuse, &mut |_| ()).unwrap();
        let whole = files(&self.path("whole"));
        for count in counts {
            let merged = self.merged(*count).unwrap();
            assert!(!merged.reused);
            let found = files(&self.path("merged"));
            assert_eq!(found.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>(), "{count} shares");
            for (name, bytes) in &whole {
                assert!(found[name] == *bytes, "{name} of {count} shares");
            }
            fs::remove_dir_all(self.path("merged")).unwrap();
        }
        data
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

fn lines(count: usize) -> String {
    (0..count).map(|i| format!("document nümber {i}, of some\n")).collect()
}

#[test]
fn whole_documents_held_out_by_hash_are_the_same() {
    let data = Corpus::lines(&lines(200), TokenizerSpec::Bytes).check(&[1, 2, 3, 7, 300]);
    assert_eq!(data.info.split.by, HeldOutBy::Documents);
    assert!(data.info.train.shards.len() > 10);
    let mut corpus = Corpus::lines(&lines(40), TokenizerSpec::Bytes);
    corpus.settings.valid_fraction = 0.0;
    assert!(corpus.check(&[3]).valid.is_none());
}

#[test]
fn text_without_end_of_text_has_its_separators() {
    let text: String = (0..30).map(|i| format!("text {}\n", "ab".repeat(i))).collect();
    let data = Corpus::lines(&text, TokenizerSpec::Text8).check(&[2, 5]);
    assert!(data.tokenizer.end_of_text().is_none());
}

#[test]
fn long_documents_come_in_pieces_that_are_shared() {
    // One document of five pieces, whose end is held out, and a character across every MiB.
    let mut text = "é".repeat(5 * PIECE_BYTES / 2 - 7);
    text.insert(0, 'x');
    let mut corpus = Corpus::of("corpus.txt", &text, TokenizerSpec::Bytes);
    corpus.settings.shard_tokens = 1 << 19;
    let data = corpus.check(&[2, 3]);
    assert_eq!((data.info.split.by, data.info.split.documents), (HeldOutBy::Position, 1));
    let records = |index: u64| PartFile::open(corpus.path(&format!("{index}-of-3.part"))).unwrap().records();
    let records: Vec<u64> = (0..3).map(records).collect();
    assert!(records.iter().all(|count| *count >= 1), "every process has a share: {records:?}");
}

#[test]
fn validation_files_token_numbers_and_spelt_ends_are_the_same() {
    let mut corpus = Corpus::lines(&(lines(20) + "it says <|endoftext|> here\n"), TokenizerSpec::Bytes);
    let path = corpus.path("valid.txt");
    fs::write(&path, lines(9)).unwrap();
    let (split, reading) = (Documents::Line, Reading::default());
    corpus.settings.valid_source =
        Some(Source::Files { paths: vec![path], split, field: "text".to_owned(), reading });
    let data = corpus.check(&[2, 4, 40]);
    assert_eq!((data.info.split.by, data.info.split.whole_for_validation), (HeldOutBy::Files, 9));
    let numbers: String = (0..60).map(|i| format!("{{\"text\": [{}, 2, 3, {i}]}}\n", i % 7)).collect();
    Corpus::of("numbers.jsonl", &numbers, TokenizerSpec::Numbers { vocab_size: 64 }).check(&[3]);
}

#[test]
fn records_that_are_skipped_are_counted_once() {
    let mut text: String = (0..40).map(|i| format!("{{\"text\": \"number {i} of some\"}}\n")).collect();
    // A record that becomes two that are none.
    text.insert(text.len() / 2, '\n');
    text = text.replace("\"number 3 of some\"", "3");
    let mut corpus = Corpus::of("corpus.jsonl", &text, TokenizerSpec::Bytes);
    if let Source::Files { reading, .. } = &mut corpus.settings.source {
        reading.skip_bad = true;
    }
    let data = corpus.check(&[2, 3]);
    assert_eq!(data.info.corpus.skipped.unwrap().records, 3);
}

#[test]
fn pairs_are_held_out_among_those_that_fit() {
    let pair = |i: usize| {
        let completion = if i % 9 == 4 { String::new() } else { "an answer ".repeat(i % 5) };
        format!("{{\"prompt\": \"question {i}\", \"completion\": \"{completion}.\"}}\n")
    };
    let text: String = (0..80).map(pair).collect();
    for (truncate, with_files) in [(false, false), (true, false), (false, true)] {
        let mut corpus = Corpus::of("pairs.jsonl", &text, TokenizerSpec::Bytes);
        corpus.settings.source = Source::Pairs(PairSource::new([corpus.path("pairs.jsonl")]));
        corpus.settings.valid_fraction = 0.1;
        (corpus.settings.seq_len, corpus.settings.truncate) = (32, truncate);
        if with_files {
            fs::write(corpus.path("valid.jsonl"), (200..230).map(pair).collect::<String>()).unwrap();
            corpus.settings.valid_source = Some(Source::Pairs(PairSource::new([corpus.path("valid.jsonl")])));
        }
        let data = corpus.check(&[1, 3, 100]);
        let counts = data.info.pairs().unwrap();
        assert!(counts.pairs > 20 && (counts.too_long > 0) != truncate, "{counts:?}");
    }
}

#[test]
fn a_tokenizer_that_is_made_of_the_corpus_is_refused() {
    for (tokenizer, name) in
        [(TokenizerSpec::Characters, "characters"), (TokenizerSpec::Bpe { vocab_size: 300 }, "bpe")]
    {
        let corpus = Corpus::lines(&lines(20), tokenizer);
        let error = corpus.part(0, 2).unwrap_err().to_string();
        assert!(
            error.contains(&format!("tokenizer.kind = {name}")) && error.contains("exists already"),
            "{error}"
        );
        assert!(!corpus.path("0-of-2.part").exists());
    }
}

#[test]
fn parts_of_other_settings_or_files_are_refused() {
    let mut corpus = Corpus::lines(&lines(50), TokenizerSpec::Bytes);
    let first = corpus.part(0, 2).unwrap();
    corpus.settings.seed = 9;
    let refused = |second: PathBuf| PartSet::open([&first, &second]).unwrap_err().to_string();
    let error = refused(corpus.part(1, 2).unwrap());
    assert!(
        error.contains("1-of-2.part") && error.contains("its settings.seed is 9, and there 0"),
        "{error}"
    );
    corpus.settings.seed = 0;
    fs::write(corpus.path("corpus.txt"), lines(51)).unwrap();
    let error = refused(corpus.part(1, 2).unwrap());
    assert!(error.contains("number of items is 51, and there 50"), "{error}");
    fs::write(corpus.path("corpus.txt"), lines(51).replace("some", "none")).unwrap();
    let again = corpus.part(0, 2).unwrap();
    let error = PartSet::open([corpus.path("1-of-2.part"), again]).unwrap_err().to_string();
    assert!(error.contains("its settings_fingerprint is "), "{error}");
}

#[test]
fn a_folder_that_is_there_is_kept_or_refused_as_by_one_process() {
    let corpus = Corpus::lines(&lines(50), TokenizerSpec::Bytes);
    assert!(!corpus.merged(2).unwrap().reused);
    let set = PartSet::open([corpus.path("0-of-2.part"), corpus.path("1-of-2.part")]).unwrap();
    assert!(merge_prepared(&set, &corpus.path("merged"), Outdated::Refuse).unwrap().reused);
    let other = corpus.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a.txt"), "mine").unwrap();
    let error = merge_prepared(&set, &other, Outdated::Rebuild).unwrap_err().to_string();
    assert!(error.contains("a folder with other files in it"), "{error}");
    let old = Corpus::lines(&lines(30), TokenizerSpec::Bytes);
    prepare(&old.settings, corpus.path("old"), Outdated::Refuse, &mut |_| ()).unwrap();
    let refused = merge_prepared(&set, &corpus.path("old"), Outdated::Refuse).unwrap_err().to_string();
    assert!(refused.contains("prepared with other settings or from other files"), "{refused}");
    let replaced = merge_prepared(&set, &corpus.path("old"), Outdated::Rebuild).unwrap();
    assert_eq!((replaced.reused, replaced.info.split.documents), (false, 50));
}
