use super::*;
use crate::data::Split;
use std::collections::BTreeSet;

struct Corpus {
    folder: tempfile::TempDir,
    settings: PrepareSettings,
}

impl Corpus {
    /// One document a line.
    fn lines(text: &str, tokenizer: TokenizerSpec) -> Self {
        let mut corpus = Self::file(text, tokenizer);
        if let Source::Files { split, .. } = &mut corpus.settings.source {
            *split = Split::Line;
        }
        corpus
    }

    fn file(text: &str, tokenizer: TokenizerSpec) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corpus.txt");
        fs::write(&path, text).unwrap();
        let settings = PrepareSettings::new(Source::files([path]), tokenizer);
        Self { folder, settings }
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("prepared")
    }

    fn prepare(&self, outdated: Outdated) -> Result<PreparedData> {
        prepare(&self.settings, self.place(), outdated, &mut |_| ())
    }

    fn fingerprints(&self) -> Fingerprints {
        self.settings.fingerprints(&self.settings.source.corpus().unwrap()).unwrap()
    }

    /// Names beside and including the prepared folder, without the corpus.
    fn leftovers(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "corpus.txt" && name != "prepared").collect()
    }
}

fn text(data: &PreparedData, store: &TokenStore) -> String {
    let mut tokens = vec![0; store.tokens() as usize];
    store.read(0..store.tokens(), &mut tokens).unwrap();
    data.tokenizer.decode(&tokens, "|").unwrap()
}

fn many_lines() -> String {
    (0..500).map(|i| format!("document number {i}\n")).collect()
}

#[test]
fn documents_are_joined_by_end_of_text_and_none_is_lost() {
    let corpus = Corpus::lines(&many_lines(), TokenizerSpec::Bytes);
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    let valid = data.valid.clone().unwrap();
    let (train_text, valid_text) = (text(&data, &data.train), text(&data, &valid));
    for text in [&train_text, &valid_text] {
        assert!(text.starts_with("|document") && text.ends_with('|') && !text.contains("||"));
    }
    let both: BTreeSet<String> =
        train_text.split('|').chain(valid_text.split('|')).map(str::to_owned).collect();
    let all = many_lines().lines().map(str::to_owned).chain([String::new()]).collect();
    assert_eq!(both, all);
    assert_eq!(data.train.documents() + valid.documents(), 500);
    assert_eq!(
        data.info.split,
        SplitInfo { documents: 500, whole_for_validation: valid.documents(), split_by_position: 0 }
    );
    assert_eq!(data.train.characters() as usize, train_text.replace('|', "").len());
    data.train.verify().unwrap();
    assert!(corpus.leftovers().is_empty());
}

#[test]
fn a_single_document_is_split_by_position() {
    let mut corpus = Corpus::file("the quick brown fox ", TokenizerSpec::Text8);
    corpus.settings.valid_fraction = 0.25;
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    assert_eq!(text(&data, &data.train), "the quick brown");
    assert_eq!(text(&data, &data.valid.clone().unwrap()), " fox ");
}

#[test]
fn documents_without_end_of_text_are_joined_by_a_space() {
    let mut corpus = Corpus::lines("one\ntwo\nthree\n", TokenizerSpec::Text8);
    corpus.settings.valid_fraction = 0.0;
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    assert_eq!(text(&data, &data.train), "one two three");
    assert!(data.valid.is_none());
}

#[test]
fn huge_documents_in_pieces_give_the_same_text() {
    let line: String = (0..700_000).map(|i| format!("{} ", i % 977)).collect();
    let mut corpus = Corpus::file(&line, TokenizerSpec::Bpe { vocab_size: 300 });
    corpus.settings.valid_fraction = 0.1;
    corpus.settings.shard_tokens = 100_000;
    let mut phases = Vec::new();
    let mut watch = |progress: Progress| {
        if phases.last() != Some(&progress.phase) {
            phases.push(progress.phase);
        }
    };
    let data = prepare(&corpus.settings, corpus.place(), Outdated::Refuse, &mut watch).unwrap();
    assert_eq!(phases, [Phase::Survey, Phase::Train, Phase::Tokenize]);
    assert!(data.info.train.shards.len() > 3);
    let valid = data.valid.clone().unwrap();
    let joined = text(&data, &data.train) + &text(&data, &valid);
    assert_eq!(joined.replace("||", "").trim_matches('|'), line);
    assert_eq!(data.train.characters() + valid.characters(), line.len() as u64);
}

#[test]
fn a_prepared_folder_is_reused_and_an_outdated_one_refused_or_rebuilt() {
    let mut corpus = Corpus::lines(&many_lines(), TokenizerSpec::Bpe { vocab_size: 280 });
    let first = corpus.prepare(Outdated::Refuse).unwrap();
    assert!(!first.reused);
    let mut calls = 0;
    let again = prepare(&corpus.settings, corpus.place(), Outdated::Refuse, &mut |_| calls += 1).unwrap();
    assert!(again.reused && calls == 0);
    assert_eq!((again.info, again.tokenizer.fingerprint()), (first.info, first.tokenizer.fingerprint()));

    corpus.settings.seed = 5;
    let error = corpus.prepare(Outdated::Refuse).unwrap_err().to_string();
    assert!(error.contains("prepared with other settings"), "{error}");
    let rebuilt = corpus.prepare(Outdated::Rebuild).unwrap();
    assert!(!rebuilt.reused && rebuilt.info.settings.seed == 5);

    fs::write(corpus.folder.path().join("corpus.txt"), many_lines() + "one more").unwrap();
    assert!(corpus.prepare(Outdated::Refuse).is_err());
    assert!(corpus.leftovers().is_empty());
}

#[test]
fn the_same_settings_give_the_same_files() {
    let corpus = Corpus::lines(&many_lines(), TokenizerSpec::Bpe { vocab_size: 280 });
    let other = corpus.folder.path().join("other");
    let first = corpus.prepare(Outdated::Refuse).unwrap();
    prepare(&corpus.settings, &other, Outdated::Refuse, &mut |_| ()).unwrap();
    for file in ["data.json", "tokenizer.json", "train-00000.tokens", "valid-00000.tokens"] {
        assert_eq!(fs::read(first.folder.join(file)).unwrap(), fs::read(other.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn a_failed_preparation_leaves_nothing_behind() {
    let mut corpus = Corpus::lines("fine\nNot in text8\n", TokenizerSpec::Text8);
    assert!(corpus.prepare(Outdated::Refuse).unwrap_err().to_string().contains("'N'"));
    assert!(corpus.leftovers().is_empty() && !corpus.place().exists());
    fs::write(corpus.folder.path().join("corpus.txt"), b"\xff").unwrap();
    assert!(corpus.prepare(Outdated::Refuse).is_err());
    corpus.settings.valid_fraction = 1.0;
    assert!(corpus.prepare(Outdated::Refuse).unwrap_err().to_string().contains("below 1"));
    assert!(corpus.leftovers().is_empty() && !corpus.place().exists());
}

#[test]
fn a_fraction_that_leaves_no_text_is_refused() {
    let mut corpus = Corpus::file("ab", TokenizerSpec::Bytes);
    corpus.settings.valid_fraction = 0.02;
    let error = corpus.prepare(Outdated::Refuse).unwrap_err().to_string();
    assert!(error.contains("no text for validation"), "{error}");
    corpus.settings.valid_fraction = 0.99;
    let error = corpus.prepare(Outdated::Refuse).unwrap_err().to_string();
    assert!(error.contains("no text for training"), "{error}");
}

#[test]
fn a_folder_with_other_files_is_never_replaced() {
    let corpus = Corpus::lines(&many_lines(), TokenizerSpec::Bytes);
    fs::create_dir(corpus.place()).unwrap();
    fs::write(corpus.place().join("thesis.txt"), "precious").unwrap();
    let error = corpus.prepare(Outdated::Rebuild).unwrap_err().to_string();
    assert!(error.contains("other files in it"), "{error}");
    fs::remove_file(corpus.place().join("thesis.txt")).unwrap();
    corpus.prepare(Outdated::Refuse).unwrap();
}

#[test]
fn a_changed_tokenizer_or_data_file_is_refused_by_name() {
    let corpus = Corpus::lines(&many_lines(), TokenizerSpec::Bpe { vocab_size: 280 });
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    let file = data.folder.join("tokenizer.json");
    let json = fs::read_to_string(&file).unwrap();
    fs::write(&file, json + "\n").unwrap();
    let error = PreparedData::open(&data.folder).unwrap_err().to_string();
    assert!(error.contains("the tokenizer was changed"), "{error}");

    let file = data.folder.join(DATA_FILE);
    let json = fs::read_to_string(&file).unwrap();
    fs::write(&file, json.replace("\"format_version\": 1", "\"format_version\": 7")).unwrap();
    let error = PreparedData::open(&data.folder).unwrap_err().to_string();
    assert!(error.contains("data.json: format version 7"), "{error}");
    assert!(matches!(PreparedData::open("no/such/folder"), Err(Error::Io { .. })));
}

#[cfg(feature = "dictionary")]
#[test]
fn data_prepared_without_an_end_of_text_that_is_found_now_are_kept() {
    let file = r#"{"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
        "post_processor": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "added_tokens": [{"id": 2, "content": "<|eot_id|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "document": 1}}}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, file).unwrap();
    let corpus = Corpus::lines(&many_lines(), TokenizerSpec::TokenizerJson { path, end_of_text: None });
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    assert_eq!((data.tokenizer.end_of_text(), data.reused), (Some(2), false));
    let prints = corpus.fingerprints();
    assert_eq!(data.info.settings_fingerprint, prints.now);
    assert_ne!(prints.now, prints.before);
    let place = corpus.place().join(DATA_FILE);
    let json = fs::read_to_string(&place).unwrap();
    fs::write(&place, json.replace(&prints.now, &prints.before)).unwrap();
    assert!(corpus.prepare(Outdated::Refuse).unwrap().reused);
    assert!(!corpus.prepare(Outdated::Rebuild).unwrap().reused);
    assert_eq!(DataInfo::read(corpus.place()).unwrap().settings_fingerprint, prints.now);
    // What has always been found changes no fingerprint.
    let bytes = Corpus::lines(&many_lines(), TokenizerSpec::Bytes).fingerprints();
    assert_eq!(bytes.now, bytes.before);
}

#[test]
fn the_dictionary_is_prepared_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let settings = PrepareSettings::new(Source::Dictionary, TokenizerSpec::Bytes);
    let data = prepare(&settings, folder.path().join("d"), Outdated::Refuse, &mut |_| ()).unwrap();
    assert!(data.train.tokens() > 4_000_000 && data.valid.unwrap().tokens() > 50_000);
}
