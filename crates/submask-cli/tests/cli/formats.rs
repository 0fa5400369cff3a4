//! Files as users have them: which are read and how, what is left out, and what is said of it.

use std::fs;

use serde_json::{Value, json};

use super::Room;
use super::rounds::{json as parsed, stdout, tiny};

/// Documents, lines of JSON and rows of tables are made of these.
fn story(n: usize) -> String {
    format!("story {n}: the sea is wide and the ship is small")
}

fn stories(of: impl Fn(String) -> String) -> String {
    (0..60).map(|n| of(story(n))).collect()
}

/// Prepares `data` and gives what was said, and what `info` says of the folder.
fn prepared(room: &Room, data: &[&str], settings: &[&str]) -> (String, Value) {
    let _ = fs::remove_dir_all(room.path().join("prepared"));
    let call =
        [&["data", "prepare", "--out", "prepared", "--data"], data, &["--set", "tokenizer.kind=bytes"]];
    let said = room.call(&[&call.concat(), settings].concat());
    stdout(&said);
    (said, parsed(&room.call(&["info", "prepared", "--json"])))
}

fn documents(info: &Value) -> u64 {
    ["train", "valid"].iter().map(|part| info[part]["documents"].as_u64().unwrap()).sum()
}

/// The gzip format around bytes as they are.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let update = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    };
    let crc = !bytes.iter().fold(!0, update);
    let length = bytes.len() as u16;
    let stored = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), bytes].concat();
    let end = [crc.to_le_bytes(), u32::from(length).to_le_bytes()].concat();
    [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &stored, &end].concat()
}

#[test]
fn a_folder_is_read_whatever_its_formats_and_what_is_left_out_is_named() {
    let room = Room::new();
    let lines = stories(|text| json!({ "text": text }).to_string() + "\n");
    let records: Vec<Value> = (0..60).map(|n| json!({ "text": story(n), "id": n })).collect();
    room.write("corpus/a.txt", &story(0));
    room.write("corpus/b.json", &lines);
    room.write("corpus/c.json", &json!(records).to_string());
    room.write("corpus/d.csv", &("id,text\n".to_owned() + &stories(|text| format!("7,\"{text}\"\n"))));
    room.write("corpus/e.tsv", &("id\ttext\n".to_owned() + &stories(|text| format!("7\t{text}\n"))));
    fs::write(
        room.path().join("corpus/f.jsonl.gz"),
        [gzip(lines.as_bytes()), gzip(lines.as_bytes())].concat(),
    )
    .unwrap();
    room.write("corpus/g.png", "no picture");
    room.write("corpus/info.json", "{\"description\": \"of the corpus\"}");
    let (said, info) = prepared(&room, &["corpus"], &[]);
    assert_eq!(documents(&info), 1 + 6 * 60, "{said}");
    assert!(said.contains("data  2 files are not read, the first is corpus/g.png"), "{said}");
    assert_eq!(info["files_not_read"], 2, "{info}");
    // Each of them by name is the same text.
    for name in ["corpus/b.json", "corpus/c.json", "corpus/d.csv", "corpus/e.tsv"] {
        let (_, info) = prepared(&room, &[name], &[]);
        assert_eq!(documents(&info), 60, "{name}: {info}");
    }
    // A run says it, too.
    let train = ["train", "--data", "corpus", "--out", "run", "--steps", "1", "--set"];
    let said = room.call(&[&train[..], &tiny(&[])].concat());
    stdout(&said);
    assert!(said.contains("data  2 files are not read, the first is corpus/g.png"), "{said}");
    let said = room.call(&["eval", "run", "--data", "corpus", "--sequences", "4"]);
    assert!(said.contains("data  2 files are not read, the first is corpus/g.png"), "{said}");
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason() {
    let room = Room::new();
    room.write("table.csv", "id,body\n1,a\n");
    room.write("broken.txt.gz", "not compressed");
    let gz = gzip(story(0).as_bytes());
    fs::write(room.path().join("cut.txt.gz"), &gz[..gz.len() - 6]).unwrap();
    let utf_16: Vec<u8> = "text".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(room.path().join("utf16.jsonl"), [&[0xff, 0xfe][..], &utf_16].concat()).unwrap();
    for (name, problem) in [
        ("table.csv", "table.csv: line 1: no column \"text\"; present: \"id\", \"body\""),
        ("broken.txt.gz", "broken.txt.gz: not compressed by gzip, as its name says"),
        ("cut.txt.gz", "cut.txt.gz: broken gzip data"),
        ("utf16.jsonl", "utf16.jsonl: UTF-16 (little-endian) text: convert it to UTF-8"),
    ] {
        let said = room.call(&["data", "prepare", "--data", name, "--out", "prepared"]);
        assert!(said.starts_with("exit code: 1\n") && said.contains(problem), "{said}");
        assert!(!room.path().join("prepared").exists(), "{said}");
    }
}

#[test]
fn a_separator_divides_text_and_end_of_text_that_is_spelt_is_warned_of() {
    let room = Room::new();
    let text = stories(|text| format!("{text}\n\nand so on\n<|endoftext|>\n"));
    room.write("stories.txt", &text);
    let (said, info) = prepared(&room, &["stories.txt"], &["data.split=file"]);
    assert!(said.contains("warning: 1 document spells <|endoftext|>, the tokenizer's end of text"), "{said}");
    assert_eq!(info["documents_that_spell_end_of_text"], 1, "{info}");
    // What a paragraph is does not matter then.
    let (said, info) = prepared(&room, &["stories.txt"], &["data.separator=<|endoftext|>"]);
    assert!(!said.contains("spell"), "{said}");
    assert_eq!(documents(&info), 60, "{info}");
    let characters =
        info["train"]["characters"].as_u64().unwrap() + info["valid"]["characters"].as_u64().unwrap();
    assert_eq!(characters as usize, text.len() - 60 * "\n<|endoftext|>\n".len());
}

#[test]
fn bad_records_stop_reading_or_are_skipped_and_counted() {
    let room = Room::new();
    let mut lines: Vec<String> = (0..60).map(|n| json!({ "text": story(n) }).to_string()).collect();
    lines[4] = "{\"text\": \"half a pair \\ud83d\"}".to_owned();
    lines[9] = "{broken".to_owned();
    lines[11] = "{\"text\": null}".to_owned();
    lines[12] = "{\"text\": \"more\", \"score\": NaN, \"x\": \"\\ud83d\"}".to_owned();
    room.write("lines.jsonl", &("\u{feff}".to_owned() + &lines.join("\n")));
    let said = room.call(&["data", "prepare", "--data", "lines.jsonl", "--out", "prepared"]);
    assert!(said.starts_with("exit code: 1\n"), "{said}");
    assert!(said.contains("lines.jsonl: line 5: field \"text\" is no text"), "{said}");
    let (said, info) = prepared(&room, &["lines.jsonl"], &["data.skip_bad=true"]);
    let note = "data  2 records were skipped, the first is lines.jsonl: line 5: field \"text\" is no text";
    assert!(said.contains(note), "{said}");
    assert_eq!((documents(&info), &info["records_skipped"]), (57, &json!(2)), "{info}");

    let train = ["train", "--data", "lines.jsonl", "--out", "run", "--steps", "1", "--set"];
    let said = room.call(&[&train[..], &tiny(&["data.skip_bad=true"])].concat());
    assert!(said.contains(note), "{said}");
    // As the run read its own text; or not.
    let said = room.call(&["eval", "run", "--data", "lines.jsonl", "--sequences", "4"]);
    assert!(stdout(&said).contains("bits per character") && said.contains(note), "{said}");
    let said = room.call(&["eval", "run", "--data", "lines.jsonl", "--skip-bad", "false"]);
    assert!(said.starts_with("exit code: 1\n") && said.contains("lines.jsonl: line 5"), "{said}");
}

#[test]
fn fields_lead_into_objects_and_lists() {
    let room = Room::new();
    let chat =
        |n: usize| json!({"meta": {"text": story(n)}, "messages": [{"content": "a"}, {"content": "bc"}]});
    let lines: String = (0..60).map(|n| chat(n).to_string() + "\n").collect();
    room.write("chat.jsonl", &lines);
    let characters = |info: &Value| -> u64 {
        ["train", "valid"].iter().map(|part| info[part]["characters"].as_u64().unwrap()).sum()
    };
    let (_, info) = prepared(&room, &["chat.jsonl"], &["data.field=messages[].content"]);
    assert_eq!((documents(&info), characters(&info)), (60, 60 * 4));
    let join = ["data.field=messages[].content", "data.join= / "];
    let (_, info) = prepared(&room, &["chat.jsonl"], &join);
    assert_eq!(
        (documents(&info), characters(&info)),
        (60, 60 * 4),
        "spaces around a value are not part of it"
    );
    let (_, info) = prepared(&room, &["chat.jsonl"], &["data.field=messages[].content", "data.join=' / '"]);
    assert_eq!((documents(&info), characters(&info)), (60, 60 * 6));
    let (_, info) = prepared(&room, &["chat.jsonl"], &["data.field=meta.text"]);
    assert_eq!(characters(&info) as usize, (0..60).map(|n| story(n).len()).sum::<usize>());
}

#[test]
fn standard_input_is_read_once_and_the_run_goes_on_without_it() {
    let room = Room::new();
    let train = ["train", "--data", "-", "--out", "run", "--steps", "2", "--set"];
    let text = gzip(stories(|text| text + "\n\n").as_bytes());
    let said = room.call_with(&[&train[..], &tiny(&[])].concat(), &text);
    stdout(&said);
    // Only the run's own tokens are left of it.
    let mut files: Vec<_> =
        fs::read_dir(room.path().join("run/data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["data.json", "train-00000.tokens", "valid-00000.tokens"]);
    let said = room.call(&["train", "--out", "run", "--resume", "--steps", "4"]);
    assert!(stdout(&said).starts_with("run/checkpoints/step-4\n"), "{said}");
    room.write("text.txt", &stories(|text| text + "\n\n"));
    let named = room.call(&["eval", "run", "--data", "text.txt", "--json"]);
    let piped = room.call_with(&["eval", "run", "--data", "-", "--json"], &text);
    assert_eq!(parsed(&piped)["figures"], parsed(&named)["figures"]);
    let said = room.call(&["data", "prepare", "--data", "-", "--out", "prepared"]);
    assert!(said.starts_with("exit code: 1\n") && said.contains("standard input: an empty corpus"), "{said}");
    let said = room.call(&["data", "prepare", "--data", "-", "-", "--out", "prepared"]);
    assert!(said.starts_with("exit code: 2\n") && said.contains("a stream once"), "{said}");
    assert!(!room.path().join("prepared").exists(), "{said}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_as_a_file_is() {
    let room = Room::new();
    let pipe = room.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let lines = stories(|text| json!({ "text": text }).to_string() + "\n");
    let writer = std::thread::spawn(move || fs::write(pipe, lines).unwrap());
    let (_, info) = prepared(&room, &["pipe"], &[]);
    writer.join().unwrap();
    assert_eq!(documents(&info), 60, "{info}");
}

#[test]
fn token_numbers_of_others_are_trained_on() {
    let room = Room::new();
    let numbers: Vec<u16> = (0..2000u32).map(|i| (i * i % 300) as u16).collect();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    fs::write(room.path().join("train.bin"), &bytes).unwrap();
    let lines: String = numbers.chunks(100).map(|part| json!({ "ids": part }).to_string() + "\n").collect();
    room.write("ids.jsonl", &lines);
    let of_numbers = ["tokenizer.kind=numbers", "tokenizer.vocab_size=300"];
    let train = ["train", "--data", "train.bin", "--out", "run", "--steps", "1", "--set"];
    let said = room.call(&[&train[..], &tiny(&of_numbers)].concat());
    // Numbers have no characters.
    assert!(stdout(&said).contains("per token of the tokenised text"), "{said}");
    let said = room.call(&["eval", "run", "--data", "ids.jsonl", "--field", "ids", "--json"]);
    let figures = parsed(&said)["figures"].clone();
    let units: Vec<_> = figures.as_array().unwrap().iter().map(|figure| figure["unit"].clone()).collect();
    assert_eq!(units[0], "nats per token of the tokenised text", "{said}");
    assert!(units.iter().all(|unit| unit.as_str().unwrap().contains("of the tokenised text")), "{said}");

    let refused = |data: &str, settings: &[&str], problem: &str| {
        let call = ["data", "prepare", "--data", data, "--out", "prepared", "--set"];
        let said = room.call(&[&call[..], settings].concat());
        assert!(!said.starts_with("exit code: 0") && said.contains(problem), "{said}");
        assert!(!room.path().join("prepared").exists(), "{said}");
    };
    let small = ["tokenizer.kind=numbers", "tokenizer.vocab_size=256", "data.field=ids"];
    refused(
        "train.bin",
        &small,
        "train.bin: token 16: token 256 is not a valid code: the vocabulary has the ids 0 to 255",
    );
    refused("ids.jsonl", &small, "ids.jsonl: line 1: token 256 is not a valid code");
    refused("train.bin", &["tokenizer.kind=bpe"], "tokenizer.kind");
}

#[test]
fn a_run_on_prepared_data_reads_text_as_they_were_prepared() {
    let room = Room::new();
    // Paragraphs and documents are not the same.
    room.write("sep.txt", &stories(|text| format!("{text}\n\nand so on\n<e>\n")));
    prepared(&room, &["sep.txt"], &["data.separator=<e>", "data.split=file"]);
    let train = ["train", "--data", "prepared", "--out", "run", "--steps", "1", "--set"];
    stdout(&room.call(&[&train[..], &tiny(&[])].concat()));
    let said = room.call(&["eval", "run", "--data", "sep.txt", "--by-document"]);
    assert!(said.contains("field = text (as prepared/data.json), separator = \"<e>\""), "{said}");
    assert!(stdout(&said).contains("60 documents"), "{said}");
    let said = room.call(&["eval", "run", "--data", "sep.txt", "--by-document", "--split", "paragraph"]);
    assert!(said.contains("split = paragraph (--split)"), "{said}");
    assert!(!stdout(&said).contains("60 documents"), "{said}");
}

#[test]
fn how_files_are_read_is_refused_where_none_are_read() {
    let room = Room::new();
    room.write("sep.txt", &stories(|text| format!("{text}<e>")));
    prepared(&room, &["sep.txt"], &["data.separator=<e>"]);
    let call = |verb: &[&str], set: &str| room.call(&[verb, &["--set"], &tiny(&[])[..], &[set]].concat());
    let train = ["train", "--data", "prepared", "--out", "run", "--steps", "1"];
    for (set, message) in [
        (
            "data.separator=<f>",
            "data.separator = \"<f>\" is not allowed: \"\" or \"<e>\" with the prepared data in prepared",
        ),
        ("data.format=csv", "data.format = csv is not allowed: auto with the prepared data"),
        ("data.skip_bad=true", "data.skip_bad = true is not allowed: false with the prepared data"),
        ("data.join=x", "data.join = \"x\" is not allowed"),
        ("data.truncate=true", "data.truncate = true is not allowed: false with the prepared data"),
    ] {
        let said = call(&train, set);
        assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{said}");
        assert!(!room.path().join("run").exists(), "nothing half-written: {said}");
    }
    stdout(&call(&train, "data.separator=<e>"));
    stdout(&room.call(&["train", "--out", "run", "--resume", "--steps", "2"]));
    for verb in [&["train", "--out", "other", "--steps", "1"][..], &["data", "prepare", "--out", "other"]] {
        let said = call(verb, "data.separator=<e>");
        let message = "data.separator = \"<e>\" is not allowed: \"\" with the built-in dictionary";
        assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{said}");
    }
    // The text that is held out is read from files.
    stdout(&call(&["data", "prepare", "--out", "other", "--valid", "sep.txt"], "data.separator=<e>"));
}

#[test]
fn token_numbers_in_lists_are_divided_by_a_number_and_texts_of_numbers_are_not() {
    let room = Room::new();
    room.write("ids.jsonl", &stories(|_| "{\"ids\": [10, 2, 1, 3, 1, 1, 4]}\n".to_owned()));
    room.write("ids.txt", &"10 2 1 3 11 4\n".repeat(60));
    let numbers = ["data.field=ids", "tokenizer.kind=numbers", "tokenizer.vocab_size=300"];
    let prepare = |data: &str, separator: &str| {
        let _ = fs::remove_dir_all(room.path().join("out"));
        let separator = format!("data.separator={separator}");
        let call = ["data", "prepare", "--out", "out", "--data", data, "--set", &separator];
        room.call(&[&call[..], &numbers].concat())
    };
    stdout(&prepare("ids.jsonl", "1"));
    let info = parsed(&room.call(&["info", "out", "--json"]));
    assert_eq!(documents(&info), 3 * 60, "{info}");
    let tokens: u64 = ["train", "valid"].iter().map(|part| info[part]["tokens"].as_u64().unwrap()).sum();
    assert_eq!(tokens, 4 * 60, "{info}");
    let said = prepare("ids.jsonl", "<e>");
    let message = "data.separator = \"<e>\" is not allowed: the number of a token";
    assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{said}");
    let said = prepare("ids.txt", "1");
    let message = "data.separator = \"1\" is not allowed: \"\" with texts of numbers";
    assert!(said.starts_with("exit code: 2\n") && said.contains(message), "{said}");
    assert!(!room.path().join("out").exists(), "{said}");
    stdout(&prepare("ids.txt", ""));
}

#[test]
fn what_describes_a_corpus_of_pairs_is_left_out_and_counted() {
    let room = Room::new();
    room.write("pairs/README.md", "# Of the pairs\n");
    room.write("pairs/a.jsonl", &stories(|text| json!({ "q": text, "a": "b" }).to_string() + "\n"));
    room.write("pairs/labels.json", "[\"cat\", \"dog\"]");
    room.write("pairs/none.json", "null\n");
    room.write("pairs/x.csv", "");
    let pairs = ["data.prompt_field=q", "data.completion_field=a", "model.seq_len=64"];
    let (said, info) = prepared(&room, &["pairs"], &pairs);
    assert!(said.contains("data  4 files are not read, the first is pairs/README.md"), "{said}");
    assert_eq!((documents(&info), &info["files_not_read"]), (60, &json!(4)), "{info}");
    fs::remove_file(room.path().join("pairs/a.jsonl")).unwrap();
    let call = ["data", "prepare", "--out", "other", "--data", "pairs", "--set"];
    let said = room.call(&[&call[..], &pairs].concat());
    assert!(said.contains("pairs: no files of pairs in this folder; looked for .jsonl, "), "{said}");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_in_a_folder_is_counted() {
    use std::os::unix::fs::symlink;
    let room = Room::new();
    room.write("elsewhere/b.txt", "not read");
    room.write("corpus/a.txt", &stories(|text| text + "\n\n"));
    symlink(room.path().join("elsewhere"), room.path().join("corpus/b")).unwrap();
    symlink(room.path().join("gone"), room.path().join("corpus/c.txt")).unwrap();
    let (said, info) = prepared(&room, &["corpus"], &[]);
    assert!(said.contains("2 files are not read, the first is corpus/b: a link to a folder"), "{said}");
    assert_eq!(info["files_not_read"], 2, "{info}");
}

#[test]
fn token_numbers_are_counted_as_tokens() {
    let room = Room::new();
    let numbers: Vec<u8> = [300u16, 2, 1].iter().flat_map(|number| number.to_le_bytes()).collect();
    fs::write(room.path().join("a.bin"), numbers).unwrap();
    let info = parsed(&room.call(&["data", "info", "a.bin", "--json"]))[0].clone();
    let expected = json!({ "kind": "token numbers", "path": "a.bin", "documents": 1, "tokens": 3 });
    assert_eq!(info, expected);
    room.write("a.txt", "two \u{e9}\n");
    let info = parsed(&room.call(&["data", "info", "a.txt", "--json"]))[0].clone();
    assert_eq!((&info["bytes"], &info["characters"]), (&json!(7), &json!(6)), "{info}");
    assert!(info.get("tokens").is_none(), "{info}");
}

#[test]
fn notes_and_hints_give_only_what_helps() {
    let room = Room::new();
    let pair = |text: String| json!({ "q": text, "a": "<|endoftext|>" }).to_string() + "\n";
    room.write("pairs.jsonl", &stories(pair));
    let pairs = ["data.prompt_field=q", "data.completion_field=a", "model.seq_len=128"];
    let (said, _) = prepared(&room, &["pairs.jsonl"], &pairs);
    assert!(said.contains("spell <|endoftext|>") && !said.contains("data.separator"), "{said}");
    // Other settings make the folder outdated; a bad file does not.
    let prepare = |data: &str| room.call(&["data", "prepare", "--out", "prepared", "--data", data]);
    assert!(prepare("pairs.jsonl").contains("hint: --rebuild replaces a prepared folder"));
    room.write("bad.jsonl", "{broken\n");
    let said = room.call(&["data", "prepare", "--rebuild", "--out", "prepared", "--data", "bad.jsonl"]);
    assert!(said.contains("bad.jsonl: line 1: not a JSON object") && !said.contains("--rebuild"), "{said}");
}
