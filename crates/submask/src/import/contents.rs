//! What stands in a file or folder that was given to be imported, whether or not it can be: names, kinds and shapes.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::foreign::Place;
use super::module::is_module;
use super::safetensors::SafetensorsFile;
use super::shards::{self, Index};
use super::torch::TorchFile;
use super::{folder, torch};
use crate::durable::lfs_pointer;
use crate::pickle::{Value, ValueRef};
use crate::{Error, Result};

/// Entries that are listed; of more, their number is given.
const MAX_LISTED: usize = 200;
/// Entries of a dict in a file that are listed.
const MAX_INSIDE: usize = 40;
/// Keys that an error names.
const MAX_NAMED: usize = 12;
/// Characters of a text in a file that are shown.
const MAX_TEXT: usize = 40;
/// Bytes that tell what a file is.
const BEGINNING: usize = 1024;

/// What stands in a file or folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// What it is: a file of `torch.save`, a folder, ….
    pub what: String,
    /// Names and what stands under them: of tensors their shape.
    pub entries: Vec<(String, String)>,
    /// Entries that are not listed.
    pub more: u64,
}

impl Contents {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    fn add(&mut self, name: impl Into<String>, what: impl Into<String>) {
        match self.entries.len() < MAX_LISTED {
            true => self.entries.push((name.into(), what.into())),
            false => self.more += 1,
        }
    }
}

/// Describes what stands at a path, without reading any weight.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] for what is no checkpoint at all, or so damaged that nothing can be said of it.
pub fn contents(path: &Path) -> Result<Contents> {
    if path.is_dir() {
        return of_folder(path);
    }
    if let Some(pointer) = pointer_at(path)? {
        return Ok(Contents::new(pointer));
    }
    if shards::is_index(path) {
        return of_index(path);
    }
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return of_safetensors(path);
    }
    Ok(of_torch(&TorchFile::open(path)?))
}

/// What a pointer of Git LFS says of itself.
fn pointer_at(path: &Path) -> Result<Option<String>> {
    let size = fs::metadata(path).map_err(Error::io(path))?.len();
    if size > BEGINNING as u64 {
        return Ok(None);
    }
    Ok(lfs_pointer(&fs::read(path).map_err(Error::io(path))?))
}

/// The files of a folder with weights, or with files that may hold some.
fn of_folder(path: &Path) -> Result<Contents> {
    let mut contents = Contents::new("folder");
    let entries = fs::read_dir(path).map_err(Error::io(path))?;
    let mut files: Vec<(String, String)> = entries
        .flatten()
        .map(|entry| {
            let size = entry.metadata().map_or(0, |data| data.len());
            let what = if entry.path().is_dir() { "folder".to_owned() } else { format!("{size} bytes") };
            (entry.file_name().to_string_lossy().into_owned(), what)
        })
        .collect();
    if files.is_empty() {
        return Err(Error::format(path, "an empty folder"));
    }
    files.sort();
    files.into_iter().for_each(|(name, what)| contents.add(name, what));
    if let Some(file) = folder::weights_in(path) {
        // What is wrong with the weights is not the folder's: it is said where they are opened.
        let inner = self::contents(&path.join(&file)).unwrap_or_default();
        inner.entries.into_iter().for_each(|(name, what)| contents.add(format!("{file}: {name}"), what));
        contents.more += inner.more;
    }
    Ok(contents)
}

/// The files of an index.
fn of_index(path: &Path) -> Result<Contents> {
    let index = Index::read(path)?;
    let mut contents = Contents::new("index of a checkpoint in several files");
    for (file, weights) in index.files() {
        let there = if path.with_file_name(file).is_file() { "" } else { ", missing" };
        contents.add(file, format!("{} weights{there}", weights.len()));
    }
    Ok(contents)
}

fn of_safetensors(path: &Path) -> Result<Contents> {
    let (_, tensors) = SafetensorsFile::open(path)?;
    let mut contents = Contents::new("safetensors");
    for tensor in tensors {
        let Place::Safetensors(place) = &tensor.place else { continue };
        let what = format!("tensor {:?} {}", tensor.shape, SafetensorsFile::type_name(place));
        contents.add(tensor.name, what);
    }
    Ok(contents)
}

/// The saved object, and what stands in its dicts.
fn of_torch(file: &TorchFile) -> Contents {
    let root = file.root();
    let mut contents = Contents::new("file of torch.save");
    let Some(entries) = root.entries() else {
        contents.add("the saved object", describe(file, root));
        return contents;
    };
    // A few bytes may name one large dict many times: no more of them are looked at than are listed.
    contents.more += (entries.clone().count().saturating_sub(MAX_LISTED)) as u64;
    for (key, value) in entries.take(MAX_LISTED) {
        let key = shown(key);
        contents.add(key.clone(), describe(file, value));
        let Some(inside) = value.entries() else { continue };
        contents.more += (inside.clone().count().saturating_sub(MAX_INSIDE)) as u64;
        for (inner_key, inner) in inside.take(MAX_INSIDE) {
            contents.add(format!("{key}.{}", shown(inner_key)), describe(file, inner));
        }
    }
    contents
}

/// The keys of the saved object, as an error names them.
pub(super) fn keys_of(file: &TorchFile) -> String {
    let root = file.root();
    let Some(entries) = root.entries() else { return describe(file, root) };
    let count = entries.clone().count();
    let named =
        entries.take(MAX_NAMED).map(|(key, value)| format!("{} ({})", shown(key), describe(file, value)));
    let named = named.collect::<Vec<_>>().join(", ");
    match count.saturating_sub(MAX_NAMED) {
        _ if count == 0 => "an empty dict".to_owned(),
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// A key as it can be shown.
fn shown(key: ValueRef<'_>) -> String {
    match key.value() {
        Value::Str(text) => text.chars().take(2 * MAX_TEXT).flat_map(char::escape_debug).collect(),
        Value::Int(number) => number.to_string(),
        _ => "?".to_owned(),
    }
}

/// A value in a few words.
fn describe(file: &TorchFile, value: ValueRef<'_>) -> String {
    if torch::is_tensor(value) {
        return match file.tensor(value) {
            Some(Ok(tensor)) => format!("tensor {:?} {:?}", tensor.shape(), tensor.dtype()),
            _ => "tensor that cannot be read".to_owned(),
        };
    }
    if is_module(value) {
        return value.class().map_or("module".to_owned(), |class| format!("module {class}"));
    }
    match value.value() {
        Value::None => "nothing".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Str(text) => {
            let text: String = text.chars().take(MAX_TEXT).flat_map(char::escape_debug).collect();
            format!("text \"{text}\"")
        }
        Value::Dict => {
            let tensors = value.entries().into_iter().flatten().filter(|(_, inner)| torch::is_tensor(*inner));
            let (all, tensors) = (value.entries().into_iter().flatten().count(), tensors.count());
            format!("dict of {all}, {tensors} of them tensors")
        }
        Value::List | Value::Tuple | Value::Set => {
            format!("list of {}", value.items().map_or(0, Iterator::count))
        }
        _ => value.class().map_or("object".to_owned(), |class| format!("object {class}")),
    }
}
