//! Values of Python as settings.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyString, PyTuple};
use submask::train::settings::{RunSettings, TextData};
use submask_cli::settings::{Layer, Origin};
use toml::Value;

use crate::errors::invalid;

/// How many lists may stand in each other. No setting needs as much, and a list that holds itself has no end.
const DEEPEST: usize = 16;

/// A setting: the argument that gives it, its key, its value.
pub type Given<'py> = (String, String, Bound<'py, PyAny>);

/// The settings as the program's code takes them.
///
/// # Errors
/// `InvalidError` for a value that no setting has.
pub fn layers(given: &[Given<'_>]) -> PyResult<Vec<Layer>> {
    given
        .iter()
        .map(|(argument, key, value)| {
            Ok(Layer::one(Origin::Flag(argument.clone()), key, of_python(key, value, DEEPEST)?))
        })
        .collect()
}

fn of_python(key: &str, value: &Bound<'_, PyAny>, deeper: usize) -> PyResult<Value> {
    if value.is_instance_of::<PyBool>() {
        return Ok(Value::Boolean(value.extract()?));
    }
    if value.is_instance_of::<PyInt>() {
        let whole = value.extract::<i64>();
        return whole.map(Value::Integer).map_err(|_| {
            let allowed = format!("a whole number from {} to {}", i64::MIN, i64::MAX);
            invalid(value.py(), key, value, allowed)
        });
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(Value::Float(value.extract()?));
    }
    if value.is_instance_of::<PyString>() {
        return value.extract().map(Value::String).map_err(|_| {
            let shown = value.repr().map_or_else(|_| String::new(), |shown| shown.to_string());
            invalid(value.py(), key, shown, "text that is valid Unicode")
        });
    }
    let is_list = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    match (is_list, deeper.checked_sub(1)) {
        (true, Some(deeper)) => {
            let items = value.try_iter()?.map(|item| of_python(key, &item?, deeper));
            items.collect::<PyResult<Vec<_>>>().map(Value::Array)
        }
        (true, None) => {
            let given = format!("lists in each other, more than {DEEPEST} deep");
            Err(invalid(value.py(), key, given, "a list that does not hold itself"))
        }
        (false, _) => {
            let given = value.get_type().name()?;
            Err(invalid(value.py(), key, given, "text, a number, True or False, or a list of these"))
        }
    }
}

/// What settings say of texts: the paths of the corpus and of its part for validation, the file of the tokenizer, the fields of text,
/// prompts and completions, whether what cannot be read is skipped, and the format of files.
pub type Texts = (Vec<String>, Vec<String>, String, (String, String, String), bool, String);

/// What settings say of texts; nothing where they are not of text.
pub fn texts(settings: &RunSettings) -> Option<Texts> {
    let text: &TextData = settings.data.text()?;
    let shown = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    let tokenizer = settings.tokenizer.as_ref().map(|tokenizer| shown(&tokenizer.path)).unwrap_or_default();
    let fields = (text.field.clone(), text.prompt_field.clone(), text.completion_field.clone());
    let paths = |paths: &[std::path::PathBuf]| paths.iter().map(shown).collect();
    let format = serde_json::to_value(text.format).ok();
    let format = format.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Some((paths(&text.paths), paths(&text.valid_paths), tokenizer, fields, text.skip_bad, format))
}
