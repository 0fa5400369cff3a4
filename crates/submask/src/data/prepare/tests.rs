use super::*;
use crate::data::{PairCounts, PairSource, Split};
use std::collections::BTreeSet;
use std::fs;

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

    fn fingerprints(&self) -> super::reuse::Fingerprints {
        self.settings.fingerprints(&Corpora::find(&self.settings).unwrap()).unwrap()
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
        SplitInfo {
            by: HeldOutBy::Documents,
            documents: 500,
            whole_for_validation: valid.documents(),
            split_by_position: 0
        }
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
    fs::write(&file, json.replace("\"format_version\": 2", "\"format_version\": 7")).unwrap();
    let error = PreparedData::open(&data.folder).unwrap_err().to_string();
    assert!(error.contains("data.json: format version 7"), "{error}");
    assert!(matches!(PreparedData::open("no/such/folder"), Err(Error::Io { .. })));
}

/// 40 paragraphs of a line each, of about 190 bytes.
fn notes() -> String {
    (0..40).map(|i| format!("note {i}: {}\n", "the keeper wrote of wind and weather; ".repeat(5))).collect()
}

#[test]
fn a_corpus_of_few_documents_holds_out_whole_ones() {
    let notes = notes();
    let corpus = Corpus::lines(&notes, TokenizerSpec::Bytes);
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    let held_out = text(&data, &data.valid.clone().unwrap());
    let whole: BTreeSet<&str> = notes.lines().collect();
    let documents: Vec<&str> = held_out.trim_matches('|').split('|').collect();
    assert!(documents.len() == 2 && documents.iter().all(|text| whole.contains(text)), "{held_out}");
    let report = data.held_out(BlockLayout { seq_len: 8, block_ends: false }).unwrap();
    assert_eq!((report.by, report.documents, report.parts), (HeldOutBy::Documents, 2, 0));
    assert!((0.01..0.1).contains(&report.share()) && report.sequences == report.tokens / 8);
    assert!(!report.is_small() && !report.is_cut_to_pieces());
    assert!(data.held_out(BlockLayout { seq_len: 32, block_ends: false }).unwrap().is_small());
}

#[test]
fn data_that_name_no_rule_keep_the_one_there_was() {
    let mut corpus = Corpus::lines(&notes(), TokenizerSpec::Bytes);
    corpus.settings.valid_rule = ValidRule::Share;
    corpus.settings.seq_len = 0;
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    let report = data.held_out(BlockLayout { seq_len: 8, block_ends: false }).unwrap();
    assert_eq!((report.by, report.documents, report.parts), (HeldOutBy::Share, 40, 40));
    assert!(report.is_cut_to_pieces());
    // As it was written before there was a choice: it is read, and used again by settings that name none.
    let file = data.folder.join(DATA_FILE);
    let json = fs::read_to_string(&file).unwrap();
    assert!(!json.contains("valid_rule") && !json.contains("seq_len") && !json.contains("\"by\""), "{json}");
    fs::write(&file, json.replace("\"format_version\": 2", "\"format_version\": 1")).unwrap();
    let settings: PrepareSettings = serde_json::from_value(serde_json::json!({
        "source": corpus.settings.source,
        "tokenizer": {"kind": "bytes"},
        "valid_fraction": 0.02,
        "seed": 0,
        "shard_tokens": 1u64 << 28,
    }))
    .unwrap();
    assert_eq!(settings, corpus.settings);
    let again = prepare(&settings, corpus.place(), Outdated::Refuse, &mut |_| ()).unwrap();
    assert!(again.reused && again.info.split == data.info.split);
    let other = corpus.folder.path().join("again");
    let again = prepare(&settings, &other, Outdated::Refuse, &mut |_| ()).unwrap();
    assert_eq!(text(&again, &again.valid.clone().unwrap()), text(&data, &data.valid.clone().unwrap()));
    // It keeps its split when it is asked for by settings of today, until it is rebuilt.
    corpus.settings.valid_rule = ValidRule::Documents;
    let kept = corpus.prepare(Outdated::Refuse).unwrap();
    assert!(kept.reused && kept.info.split == data.info.split);
    let rebuilt = corpus.prepare(Outdated::Rebuild).unwrap();
    assert!(!rebuilt.reused && rebuilt.info.split.by == HeldOutBy::Documents);
    // Now the rule is one of the settings.
    corpus.settings.valid_rule = ValidRule::Share;
    corpus.settings.seq_len = 0;
    assert!(corpus.prepare(Outdated::Refuse).is_err());
}

#[test]
fn documents_are_cut_where_their_ends_are_long_enough() {
    let text_of = |length: usize| "the keeper wrote ".repeat(length / 17 + 1)[..length].to_owned();
    let corpus = |least| {
        let mut corpus =
            Corpus::lines(&format!("{}\n{}\n", text_of(60_000), text_of(30_000)), TokenizerSpec::Bytes);
        corpus.settings.seq_len = least;
        corpus
    };
    // Ends of 1,200 and 600 bytes, which are as many tokens: 16 sequences of 75 and of 37.
    for (seq_len, parts, whole) in [(37, 2, 0), (38, 1, 0), (75, 1, 0), (76, 0, 1)] {
        let data = corpus(seq_len).prepare(Outdated::Refuse).unwrap();
        let split = data.info.split;
        assert_eq!((split.split_by_position, split.whole_for_validation), (parts, whole), "{seq_len}");
    }
    // Of a BPE, a token has several bytes.
    let mut corpus = corpus(37);
    corpus.settings.tokenizer = TokenizerSpec::Bpe { vocab_size: 270 };
    assert_eq!(corpus.prepare(Outdated::Refuse).unwrap().info.split.split_by_position, 0);
}

#[test]
fn sequences_of_another_length_use_the_same_whole_documents() {
    let mut corpus = Corpus::lines(&many_lines(), TokenizerSpec::Bytes);
    corpus.prepare(Outdated::Refuse).unwrap();
    corpus.settings.seq_len = 1000;
    assert!(corpus.prepare(Outdated::Refuse).unwrap().reused);

    let one = "the keeper wrote ".repeat(1000);
    let mut corpus = Corpus::file(&one, TokenizerSpec::Bytes);
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    let held_out = text(&data, &data.valid.clone().unwrap());
    corpus.settings.seq_len = 1000;
    assert!(corpus.prepare(Outdated::Refuse).unwrap().reused, "a single document is cut for every length");
    let again = prepare(&corpus.settings, corpus.folder.path().join("new"), Outdated::Refuse, &mut |_| ());
    let again = again.unwrap();
    assert_eq!((text(&again, &again.valid.clone().unwrap()), again.info.split), (held_out, data.info.split));

    let mut corpus = Corpus::lines(&format!("{one}\n{one}\n"), TokenizerSpec::Bytes);
    corpus.settings.seq_len = 8;
    assert_eq!(corpus.prepare(Outdated::Refuse).unwrap().info.split.by, HeldOutBy::Position);
    corpus.settings.seq_len = 1000;
    assert!(corpus.prepare(Outdated::Refuse).is_err(), "of several documents, the length may matter");
}

#[test]
fn validation_text_may_stand_in_files_of_its_own() {
    let mut corpus = Corpus::lines(&many_lines(), TokenizerSpec::Bytes);
    let file = corpus.folder.path().join("corpus.valid.txt");
    fs::write(&file, "one for validation\nand another\n").unwrap();
    let Source::Files { split, .. } = corpus.settings.source.clone() else { panic!("files") };
    let mut valid = Source::files([&file]);
    if let Source::Files { split: of_valid, .. } = &mut valid {
        *of_valid = split;
    }
    corpus.settings.valid_source = Some(valid);
    corpus.settings.valid_fraction = 0.0;
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    assert_eq!(text(&data, &data.valid.clone().unwrap()), "|one for validation|and another|");
    assert_eq!(data.train.documents(), 500);
    let split = data.info.split;
    assert_eq!((split.by, split.documents, split.whole_for_validation), (HeldOutBy::Files, 500, 2));
    assert!(corpus.prepare(Outdated::Refuse).unwrap().reused);
    // A change of these files counts as one of the corpus.
    fs::write(&file, "one for validation\nand yet another\n").unwrap();
    assert!(corpus.prepare(Outdated::Refuse).is_err());
    fs::remove_file(&file).unwrap();
    let error = corpus.prepare(Outdated::Rebuild).unwrap_err().to_string();
    assert!(error.contains("corpus.valid.txt"), "{error}");
}

#[cfg(unix)]
#[test]
fn validation_text_may_come_through_a_pipe() {
    let mut corpus = Corpus::lines(&many_lines(), TokenizerSpec::Bytes);
    let pipe = corpus.folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    corpus.settings.valid_source = Some(Source::files([&pipe]));
    let prepared = |text: &'static str| {
        let pipe = pipe.clone();
        let writer = std::thread::spawn(move || fs::write(pipe, text).unwrap());
        let data = corpus.prepare(Outdated::Refuse);
        writer.join().unwrap();
        data
    };
    let data = prepared("one for validation").unwrap();
    assert_eq!(text(&data, &data.valid.clone().unwrap()), "|one for validation|");
    assert!(prepared("one for validation").unwrap().reused && prepared("another").is_err());
    assert!(
        fs::read_dir(corpus.place())
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with("stream") })
    );
    // A stream cannot be read twice.
    corpus.settings.source = Source::files([&pipe]);
    let error = corpus.prepare(Outdated::Rebuild).unwrap_err().to_string();
    assert!(error.contains("another stream than the corpus"), "{error}");
}

#[test]
fn what_is_not_read_of_validation_text_is_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, lines: &str| {
        let path = folder.path().join(name);
        fs::write(&path, lines).unwrap();
        path
    };
    let good: String = (0..40).map(|n| format!("{{\"text\": \"text {n}\"}}\n")).collect();
    let skipping = |path: PathBuf| {
        let mut source = Source::files([path]);
        if let Source::Files { reading, .. } = &mut source {
            reading.skip_bad = true;
        }
        source
    };
    let source = skipping(file("train.jsonl", &(good.clone() + "bad\n")));
    let valid = skipping(file("valid.jsonl", &("bad\nbad\n".to_owned() + &good)));
    let settings =
        PrepareSettings { valid_source: Some(valid), ..PrepareSettings::new(source, TokenizerSpec::Bytes) };
    let place = folder.path().join("prepared");
    let data = prepare(&settings, place, Outdated::Refuse, &mut |_| ()).unwrap();
    let skipped = data.info.corpus.skipped.unwrap();
    assert_eq!(skipped.records, 3);
    assert!(skipped.first.contains("train.jsonl: line 41: "), "{skipped:?}");
}

#[test]
fn pairs_are_prepared_whole_and_for_one_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.jsonl");
    let line = |n: usize| format!("{{\"prompt\": \"{n}:\", \"completion\": \"c{n}\"}}\n");
    fs::write(&path, (0..40).map(line).collect::<String>()).unwrap();
    let source = Source::Pairs(PairSource::new([&path]));
    let mut settings = PrepareSettings { seq_len: 16, ..PrepareSettings::new(source, TokenizerSpec::Bytes) };
    let place = folder.path().join("prepared");
    let ask = |settings: &PrepareSettings| prepare(settings, &place, Outdated::Refuse, &mut |_| ());
    let data = ask(&settings).unwrap();
    let (train, valid) = (data.training_pairs(16).unwrap(), data.validation_pairs(16).unwrap().unwrap());
    let mut all = BTreeSet::new();
    for pairs in [&train, &valid] {
        for index in 0..pairs.len() {
            let sequence = pairs.sequence(index).unwrap();
            all.insert(data.tokenizer.decode(&sequence.tokens[..sequence.given + 4], "|").unwrap());
        }
    }
    assert_eq!((all.len(), train.len() + valid.len()), (40, 40));
    assert!(all.contains("|7:c7||") && all.contains("|39:c39|"), "{all:?}");
    let layout = BlockLayout { seq_len: 16, block_ends: false };
    let report = data.held_out(layout).unwrap();
    assert_eq!((report.by, report.pairs, report.sequences), (HeldOutBy::Documents, true, valid.len()));
    assert_eq!(data.info.pairs(), Some(PairCounts { pairs: 40, ..PairCounts::default() }));
    let fits = |asked: Result<()>, message: &str| {
        let error = asked.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    fits(data.training_pairs(17).map(drop), "prepared for it");
    fits(data.training(layout).map(drop), "these are pairs");
    fits(data.validation(layout).map(drop), "these are pairs");
    assert!(ask(&settings).unwrap().reused);
    settings.seq_len = 20;
    fits(ask(&settings).map(drop), "prepared with other settings");
    let share = PrepareSettings { valid_rule: ValidRule::Share, ..settings.clone() };
    fits(ask(&share).map(drop), "pairs are held out whole");
    let text = PrepareSettings { valid_source: Some(Source::files([&path])), ..settings };
    fits(ask(&text).map(drop), "pairs for pairs");
    let cut = PrepareSettings {
        truncate: true,
        ..PrepareSettings::new(Source::files([&path]), TokenizerSpec::Bytes)
    };
    fits(ask(&cut).map(drop), "only pairs are cut");
}

#[test]
fn pairs_are_held_out_among_those_that_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.jsonl");
    // Every other one of 30 is too long; a record has no completion.
    let line = |n: usize| {
        let completion = format!("c{n}") + &"x".repeat(100 * (n % 2));
        format!("{{\"prompt\": \"{n}:\", \"completion\": \"{completion}\"}}\n")
    };
    let lines = (0..30).map(line).collect::<String>() + "{\"prompt\": \"a\", \"completion\": null}\n";
    fs::write(&path, &lines).unwrap();
    let source = Source::Pairs(PairSource::new([&path]));
    for seed in 0..20 {
        let settings = PrepareSettings {
            seq_len: 16,
            seed,
            ..PrepareSettings::new(source.clone(), TokenizerSpec::Bytes)
        };
        let place = folder.path().join(format!("prepared{seed}"));
        let data = prepare(&settings, &place, Outdated::Refuse, &mut |_| ()).unwrap();
        let (train, valid) = (data.training_pairs(16).unwrap(), data.validation_pairs(16).unwrap().unwrap());
        assert_eq!((train.len(), valid.len()), (14, 1), "{seed}");
        assert_eq!((data.info.split.documents, data.info.split.whole_for_validation), (15, 1));
        assert_eq!(data.info.pairs(), Some(PairCounts { pairs: 15, too_long: 15, cut: 0, empty: 1 }));
        // Those that are cut take part.
        let settings = PrepareSettings { truncate: true, ..settings };
        let place = folder.path().join(format!("cut{seed}"));
        let data = prepare(&settings, &place, Outdated::Refuse, &mut |_| ()).unwrap();
        assert_eq!((data.info.split.documents, data.info.pairs().unwrap().cut), (30, 15));
    }
    // Of files for validation, too, what is left out is counted.
    let valid = folder.path().join("valid.jsonl");
    fs::write(&valid, line(1) + &line(2)).unwrap();
    let settings = PrepareSettings {
        seq_len: 16,
        valid_source: Some(Source::Pairs(PairSource::new([&valid]))),
        ..PrepareSettings::new(source, TokenizerSpec::Bytes)
    };
    let data = prepare(&settings, folder.path().join("files"), Outdated::Refuse, &mut |_| ()).unwrap();
    let counts = data.info.valid.clone().unwrap().pairs.unwrap().counts;
    assert_eq!(counts, PairCounts { pairs: 1, too_long: 1, cut: 0, empty: 0 });
    fs::write(&valid, line(1)).unwrap();
    let error = prepare(&settings, folder.path().join("none"), Outdated::Refuse, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("no pair is left for validation: 1 too long"), "{error}");
}

#[test]
fn characters_are_counted_only_where_documents_decode_to_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let characters = |name: &str, lines: [&str; 2], tokenizer: TokenizerSpec| {
        let path = folder.path().join(format!("{name}.jsonl"));
        // One document in forty decides for all of a part.
        let lines = lines.map(|value| format!("{{\"a\": {value}}}\n"));
        fs::write(&path, lines[0].repeat(39) + &lines[1]).unwrap();
        let mut source = Source::files([&path]);
        if let Source::Files { field, .. } = &mut source {
            *field = "a".to_owned();
        }
        let settings =
            PrepareSettings { valid_source: Some(source.clone()), ..PrepareSettings::new(source, tokenizer) };
        let data = prepare(&settings, folder.path().join(name), Outdated::Refuse, &mut |_| ()).unwrap();
        let layout = BlockLayout { seq_len: 4, block_ends: false };
        let block = data.validation(layout).unwrap().unwrap().block(0).unwrap();
        (block.characters, data.fidelity().map(|fidelity| fidelity.changed))
    };
    let bytes = || TokenizerSpec::Bytes;
    assert_eq!(characters("ids", ["[228, 184, 173, 97]", "[98, 99]"], bytes()), (Some(1), None));
    assert_eq!(characters("no-text", ["[97, 98, 99, 100]", "[200, 201]"], bytes()), (None, Some(2)));
    let numbers = || TokenizerSpec::Numbers { vocab_size: 300 };
    assert_eq!(characters("text", ["\"7 299 0 12\"", "\"1 2\""], numbers()), (Some(11), Some(0)));
    assert_eq!(characters("spaced", ["\"7 299 0 12\"", "\"1  2\""], numbers()), (None, Some(2)));
    assert_eq!(characters("numbers", ["[7, 299, 0, 12]", "[1, 2]"], numbers()), (None, Some(80)));
}

#[test]
fn text_for_validation_that_is_too_short_is_called_so() {
    let mut corpus = Corpus::file(&"the keeper wrote ".repeat(200), TokenizerSpec::Bytes);
    let layout = BlockLayout { seq_len: 128, block_ends: false };
    let data = corpus.prepare(Outdated::Refuse).unwrap();
    let error = data.validation(layout).unwrap_err().to_string();
    // 2 % of 3,400 bytes, and the ends of text.
    let message = "model.seq_len = 128 is not allowed: sequences of at most 70 tokens: the part held out for validation \
                   has only 70; more text, a data.valid_fraction above 0.02, or files for validation";
    assert!(error.contains(message), "{error}");
    assert!(data.training(layout).is_ok());

    let file = corpus.folder.path().join("short.txt");
    fs::write(&file, "short").unwrap();
    corpus.settings.valid_source = Some(Source::files([&file]));
    let data = corpus.prepare(Outdated::Rebuild).unwrap();
    let error = data.validation(layout).unwrap_err().to_string();
    assert!(
        error.contains("the text for validation in ") && error.contains("short.txt has only 7"),
        "{error}"
    );
    assert!(!error.contains("valid_fraction"), "{error}");
}

#[cfg(feature = "dictionary")]
#[test]
fn the_dictionary_is_split_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let settings = PrepareSettings::new(Source::Dictionary, TokenizerSpec::Bytes);
    let new = prepare(&settings, folder.path().join("new"), Outdated::Refuse, &mut |_| ()).unwrap();
    let settings = PrepareSettings { valid_rule: ValidRule::Share, ..settings };
    let old = prepare(&settings, folder.path().join("old"), Outdated::Refuse, &mut |_| ()).unwrap();
    assert_eq!(new.info.valid, old.info.valid);
    assert_eq!(text(&new, &new.valid.clone().unwrap()), text(&old, &old.valid.clone().unwrap()));
}

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
    // So are those that were prepared, besides, before there was a choice of rules.
    let earlier = PrepareSettings { valid_rule: ValidRule::Share, seq_len: 0, ..corpus.settings.clone() };
    let earlier = earlier.fingerprints(&Corpora::find(&earlier).unwrap()).unwrap();
    let json = fs::read_to_string(&place).unwrap().replace("\"format_version\": 2", "\"format_version\": 1");
    fs::write(&place, json.replace(&prints.now, &earlier.before)).unwrap();
    assert!(corpus.prepare(Outdated::Refuse).unwrap().reused);
    // What has always been found changes no fingerprint.
    let bytes = Corpus::lines(&many_lines(), TokenizerSpec::Bytes).fingerprints();
    assert_eq!(bytes.now, bytes.before);
}

#[cfg(feature = "dictionary")]
#[test]
fn the_dictionary_is_prepared_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let settings = PrepareSettings::new(Source::Dictionary, TokenizerSpec::Bytes);
    let data = prepare(&settings, folder.path().join("d"), Outdated::Refuse, &mut |_| ()).unwrap();
    assert!(data.train.tokens() > 4_000_000 && data.valid.unwrap().tokens() > 50_000);
}
