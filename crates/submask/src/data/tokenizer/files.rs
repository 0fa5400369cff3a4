//! Where a `tokenizer.json` stands, and what to do about tokenizers in other forms.

use std::fs;
use std::path::{Path, PathBuf};

use super::TOKENIZER_FILE;
use crate::error::{Error, Result};

/// Files of a folder that an error names.
const SHOWN: usize = 8;

/// The file that a path means: itself, or the `tokenizer.json` of a folder.
///
/// # Errors
/// [`Error::Io`], and [`Error::Format`] for a folder without it and for files of other forms, saying how to convert them.
pub(super) fn tokenizer_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return match other_form(std::slice::from_ref(&name)) {
            Some(form) if path.is_file() => Err(Error::format(path, convert(&form, folder))),
            _ => Ok(path.to_path_buf()),
        };
    }
    let file = path.join(TOKENIZER_FILE);
    if file.is_file() {
        return Ok(file);
    }
    let entries = fs::read_dir(path).map_err(Error::io(path))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let problem = match other_form(&names) {
        Some(form) => convert(&form, path),
        None if names.is_empty() => format!("an empty folder: there is no {TOKENIZER_FILE}"),
        None => {
            let shown = names[..names.len().min(SHOWN)].join(", ");
            let more = if names.len() > SHOWN { ", …" } else { "" };
            format!("a folder without {TOKENIZER_FILE}: it has {shown}{more}")
        }
    };
    Err(Error::format(path, problem))
}

/// The other form of a tokenizer that some files are.
fn other_form(names: &[String]) -> Option<String> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if let Some(model) = names.iter().find(|name| name.ends_with(".model")) {
        return Some(format!("{model} of sentencepiece"));
    }
    if has("vocab.json") || has("merges.txt") {
        return Some("the older form, vocab.json and merges.txt".to_owned());
    }
    if has("vocab.txt") {
        return Some("the older form, vocab.txt".to_owned());
    }
    let settings = ["tokenizer_config.json", "special_tokens_map.json"];
    settings.into_iter().find(|name| has(name)).map(|name| format!("only settings of a tokenizer, {name}"))
}

/// How a tokenizer in another form becomes a `tokenizer.json`.
fn convert(form: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "{form}, not {TOKENIZER_FILE}, which is what is read. Give that file or its folder, or make it in Python: \
         from transformers import AutoTokenizer; AutoTokenizer.from_pretrained(\"{folder}\").save_pretrained(\"{folder}\")"
    )
}
