//! The tokenizer in layers of settings: a path without a kind means that file, and what the kind does not read, or what
//! contradicts prepared data, is refused.

use std::fs;
use std::path::Path;

use submask::data::{DATA_FILE, DataInfo, TOKENIZER_FILE, TokenizerKind};
use toml::{Table, Value};

use super::keys;
use super::layer::{Layer, Origin};
use crate::failure::Failure;

const KIND: &str = "tokenizer.kind";
const PATH: &str = "tokenizer.path";
const SIZE: &str = "tokenizer.vocab_size";
const END_OF_TEXT: &str = "tokenizer.end_of_text";
/// The kind that reads a file.
const OF_FILE: &str = "tokenizer-json";
/// Keys that some kinds read, and these kinds.
const READ_BY: [(&str, &[&str]); 3] =
    [(SIZE, &["bpe", "numbers"]), (PATH, &[OF_FILE]), (END_OF_TEXT, &[OF_FILE])];
/// Sizes of vocabularies that are given by their kind: to say them is no contradiction.
const SIZES: [(&str, i64); 3] = [("bytes", 257), ("text8", 27), ("gpt2", 50_257)];

/// Puts the kind of a tokenizer file into the layer that gives its path, where no layer gives a kind. Gives notes on keys
/// of a file that a later choice of the kind leaves without effect.
///
/// # Errors
/// For keys that the kind does not read, and with prepared data for keys that say otherwise than they do, unless the layer
/// is one of all keys, as a run writes its settings.
pub fn settle(base: &Table, layers: &mut [Layer]) -> Result<Vec<String>, Failure> {
    if let Some(folder) = prepared_data(base, layers) {
        return check_prepared(Path::new(&folder), layers).map(|()| Vec::new());
    }
    let gives_kind = |layer: &Layer| keys::get(&layer.table, KIND).is_some();
    if !layers.iter().any(gives_kind)
        && let Some(layer) = layers.iter_mut().rev().find(|layer| given(layer, PATH).is_some())
    {
        keys::put(&mut layer.table, KIND, Value::String(OF_FILE.to_owned()));
    }
    let chosen_at = layers.iter().rposition(gives_kind);
    let table = chosen_at.map_or(base, |place| &layers[place].table);
    // A kind that is no text, or none that there is, is refused where keys are read.
    let Some(kind) = keys::get(table, KIND).and_then(Value::as_str) else { return Ok(Vec::new()) };
    let kind = kind.to_owned();
    let kind = kind.as_str();
    // What is taken from a model is its tokenizer as a whole: another kind takes the place of all of it.
    for layer in layers[..chosen_at.unwrap_or(0)].iter_mut().filter(|layer| is_whole(layer)) {
        for (key, kinds) in READ_BY {
            if key != SIZE && !kinds.contains(&kind) {
                keys::put(&mut layer.table, key, Value::String(String::new()));
            }
        }
    }
    let mut notes = Vec::new();
    for (place, layer) in layers.iter().enumerate() {
        for (key, kinds) in READ_BY {
            let Some(value) = given(layer, key).filter(|_| !kinds.contains(&kind)) else { continue };
            let is_size = SIZES.iter().any(|(own, size)| kind == *own && value.as_integer() == Some(*size));
            if is_size || is_whole(layer) {
                continue;
            }
            let message = format!("`{key}` = {value} {} has no effect: {KIND} is {kind}", layer.origin);
            let is_of_file = matches!(layer.origin, Origin::File(_));
            if is_of_file && chosen_at.is_some_and(|chosen| chosen > place) {
                notes.push(message);
                continue;
            }
            let hint = format!("leave it out; it is read by {KIND} = {}", kinds.join(" and "));
            return Err(Failure::usage(message).hint(&hint).about(key, value, hint));
        }
    }
    Ok(notes)
}

/// The value of a key that says something: not an empty text or 0, which stand for nothing.
fn given<'a>(layer: &'a Layer, key: &str) -> Option<&'a Value> {
    keys::get(&layer.table, key).filter(|value| match value {
        Value::String(text) => !text.is_empty(),
        value => value.as_integer() != Some(0),
    })
}

/// Whether a layer names all keys, read or not, as the settings of a run do, and what is taken from a model.
fn is_whole(layer: &Layer) -> bool {
    [KIND, PATH, SIZE, "model", "sample"].into_iter().all(|key| keys::get(&layer.table, key).is_some())
}

/// The folder of prepared data that the corpus is, if it is one.
fn prepared_data(base: &Table, layers: &[Layer]) -> Option<String> {
    let paths = layers.iter().rev().find_map(|layer| keys::get(&layer.table, "data.paths"));
    match paths.or_else(|| keys::get(base, "data.paths"))?.as_array()?.as_slice() {
        [Value::String(path)] if Path::new(path).join(DATA_FILE).is_file() => Some(path.clone()),
        _ => None,
    }
}

/// Prepared data have their tokenizer: a key may repeat what it is.
fn check_prepared(folder: &Path, layers: &[Layer]) -> Result<(), Failure> {
    let whole = |layer: &&Layer| !is_whole(layer);
    let says = |key: &str| layers.iter().filter(whole).any(|layer| given(layer, key).is_some());
    if ![KIND, SIZE, PATH, END_OF_TEXT].into_iter().any(says) {
        return Ok(());
    }
    let info = DataInfo::read(folder)?;
    let kinds: &[&str] = match &info.tokenizer {
        TokenizerKind::Bytes => &["bytes"],
        TokenizerKind::Characters { .. } => &["characters"],
        TokenizerKind::Text8 => &["text8"],
        TokenizerKind::Gpt2 => &["gpt2"],
        TokenizerKind::Numbers { .. } => &["numbers"],
        // A trained one is kept as a file, too.
        TokenizerKind::TokenizerJson { .. } => &[OF_FILE, "bpe"],
    };
    let end_of_text = match &info.tokenizer {
        TokenizerKind::TokenizerJson { end_of_text } => end_of_text.as_deref(),
        _ => None,
    };
    let is_same = |key: &str, value: &Value| match key {
        KIND => value.as_str().is_some_and(|kind| kinds.contains(&kind)),
        SIZE => value.as_integer().is_some_and(|size| usize::try_from(size) == Ok(info.vocab_size)),
        PATH => value.as_str().is_some_and(|path| is_file_of(Path::new(path), folder)),
        _ => value.as_str() == end_of_text,
    };
    for layer in layers.iter().filter(whole) {
        for key in [KIND, SIZE, PATH, END_OF_TEXT] {
            let Some(value) = given(layer, key).filter(|value| !is_same(key, value)) else { continue };
            let (folder, origin) = (folder.display(), &layer.origin);
            let own = format!("a tokenizer of its own ({}, {} tokens)", kinds[0], info.vocab_size);
            let message =
                format!("`{key}` = {value} {origin} has no effect: the prepared data {folder} have {own}");
            return Err(Failure::usage(message)
                .hint("leave it out, or prepare the corpus with it: `submask data prepare`")
                .about(key, value, "nothing: prepared data have their tokenizer"));
        }
    }
    Ok(())
}

/// Whether a file, or the one of a folder, is the tokenizer of prepared data.
fn is_file_of(path: &Path, prepared: &Path) -> bool {
    let file = if path.is_dir() { path.join(TOKENIZER_FILE) } else { path.to_path_buf() };
    match (fs::read(file), fs::read(prepared.join(TOKENIZER_FILE))) {
        (Ok(given), Ok(own)) => given == own,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Table {
        "tokenizer = { kind = 'bpe', vocab_size = 4096, path = '', end_of_text = '' }".parse().unwrap()
    }

    fn layer(text: &str) -> Layer {
        Layer { origin: Origin::File("my.toml".into()), table: text.parse().unwrap() }
    }

    fn settled(layers: &[&str]) -> Result<(Option<String>, Vec<String>), String> {
        let mut layers: Vec<Layer> = layers.iter().map(|text| layer(text)).collect();
        let notes = settle(&base(), &mut layers).map_err(|failure| failure.to_string())?;
        let kind = layers.iter().rev().find_map(|layer| keys::get(&layer.table, KIND)?.as_str());
        Ok((kind.map(str::to_owned), notes))
    }

    #[test]
    fn a_path_without_a_kind_means_that_file() {
        let nothing = Vec::<String>::new();
        let file = Ok((Some(OF_FILE.to_owned()), nothing.clone()));
        assert_eq!(settled(&["tokenizer.path = 'a.json'"]), file);
        assert_eq!(settled(&["tokenizer.path = 'a.json'", "tokenizer.end_of_text = '</s>'"]), file);
        assert_eq!(settled(&["tokenizer.path = ''"]), Ok((None, nothing.clone())));
        assert_eq!(settled(&["train.steps = 1"]), Ok((None, nothing)));
    }

    #[test]
    fn what_the_kind_does_not_read_is_refused() {
        for (layers, key, kind) in [
            (&["tokenizer.kind = 'gpt2'", "tokenizer.path = 'a.json'"][..], "path", "gpt2"),
            (&["tokenizer.kind = 'bytes'\ntokenizer.vocab_size = 300"], "vocab_size", "bytes"),
            (&["tokenizer.end_of_text = '</s>'"], "end_of_text", "bpe"),
            (&["tokenizer.path = 'a.json'\ntokenizer.vocab_size = 300"], "vocab_size", OF_FILE),
        ] {
            let said = settled(layers).unwrap_err();
            let wanted = format!("in my.toml has no effect: tokenizer.kind is {kind}\n");
            assert!(said.starts_with(&format!("error: `tokenizer.{key}` = ")), "{said}");
            assert!(said.contains(&wanted) && said.contains("leave it out"), "{said}");
        }
    }

    #[test]
    fn flags_contradict_each_other_in_any_order() {
        let flag = |text: &str| Layer { origin: Origin::Flag(text.to_owned()), table: text.parse().unwrap() };
        let (path, kind) = ("tokenizer.path = 'a.json'", "tokenizer.kind = 'gpt2'");
        for order in [[path, kind], [kind, path]] {
            let said = settle(&base(), &mut order.map(flag)).unwrap_err().to_string();
            assert!(
                said.contains("`tokenizer.path` = \"a.json\"") && said.contains("kind is gpt2"),
                "{said}"
            );
        }
    }

    #[test]
    fn prepared_data_have_their_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("corpus.txt");
        std::fs::write(&corpus, "one two three four\n".repeat(40)).unwrap();
        let source = submask::data::Source::files([&corpus]);
        let tokenizer = submask::data::TokenizerSpec::Bpe { vocab_size: 260 };
        let wanted = submask::data::PrepareSettings::new(source, tokenizer);
        let place = folder.path().join("prepared");
        submask::data::prepare(&wanted, &place, Default::default(), &mut |_| ()).unwrap();
        let data = format!("data.paths = [{:?}]\n", place.display().to_string());
        let file = format!("tokenizer.path = {:?}", place.join(TOKENIZER_FILE).display().to_string());
        for same in [
            "",
            "tokenizer.kind = 'bpe'\ntokenizer.vocab_size = 260",
            "tokenizer.kind = 'tokenizer-json'",
            "tokenizer.end_of_text = '<|endoftext|>'",
            &file,
        ] {
            assert_eq!(settled(&[&(data.clone() + same)]).unwrap().1, Vec::<String>::new(), "{same}");
        }
        for (key, value) in
            [("kind", "'gpt2'"), ("vocab_size", "300"), ("path", "'other.json'"), ("end_of_text", "'</s>'")]
        {
            let said = settled(&[&data, &format!("tokenizer.{key} = {value}")]).unwrap_err();
            assert!(said.starts_with(&format!("error: `tokenizer.{key}` = ")), "{said}");
            assert!(said.contains("have a tokenizer of its own (tokenizer-json, 260 tokens)"), "{said}");
        }
    }

    #[test]
    fn another_kind_takes_the_place_of_a_models_tokenizer() {
        let model = "tokenizer = { kind = 'tokenizer-json', vocab_size = 0, path = 'a.json', end_of_text = '</s>' }\n\
                     model.hidden = 8\nsample.steps = 4";
        let mut layers = [layer(model), layer("tokenizer.kind = 'bpe'")];
        assert_eq!(settle(&base(), &mut layers).unwrap(), Vec::<String>::new());
        for key in [PATH, END_OF_TEXT] {
            assert_eq!(keys::get(&layers[0].table, key), Some(&Value::from("")), "{key}");
        }
        let mut alone = [layer(model)];
        settle(&base(), &mut alone).unwrap();
        assert_eq!(keys::get(&alone[0].table, PATH), Some(&Value::from("a.json")));
    }

    #[test]
    fn settings_of_a_run_and_sizes_that_are_right_stay_as_they_are() {
        let part = "tokenizer = { kind = 'bytes', vocab_size = 4096, path = '' }";
        assert!(settled(&[part]).is_err());
        let run = format!("{part}\nmodel.hidden = 8\nsample.steps = 4");
        assert_eq!(settled(&[&run]).unwrap().1, Vec::<String>::new());
        let size = "tokenizer = { kind = 'gpt2', vocab_size = 50257 }";
        assert_eq!(settled(&[size]).unwrap().1, Vec::<String>::new());
        // A later choice of the kind leaves earlier keys behind, and says so.
        let notes = settled(&["tokenizer.vocab_size = 300", "tokenizer.kind = 'bytes'"]).unwrap().1;
        assert_eq!(notes, ["`tokenizer.vocab_size` = 300 in my.toml has no effect: tokenizer.kind is bytes"]);
    }
}
