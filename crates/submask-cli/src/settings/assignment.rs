//! `--set key=value`.

use toml::{Table, Value};

use super::keys;
use super::layer::{Layer, Origin};
use crate::failure::Failure;

/// Reads one assignment. The value is TOML; where the setting is text, quotes may be left out.
pub fn parse(text: &str, known: &Table) -> Result<Layer, Failure> {
    let wrong = |problem: &str| {
        Failure::usage(format!("--set {text}: {problem}"))
            .hint("write --set KEY=VALUE, such as --set train.steps=100")
    };
    let (key, value) = text.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
    let (key, value) = (key.trim(), value.trim());
    if key.split('.').any(str::is_empty) {
        return Err(wrong("the key is not complete"));
    }
    let is_text = matches!(keys::get(known, key), Some(Value::String(_)));
    let parsed = toml_value(value).filter(|value| !is_text || value.is_str());
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    Ok(Layer::one(Origin::Flag(format!("--set {text}")), key, value))
}

fn toml_value(text: &str) -> Option<Value> {
    let mut table: Table = format!("value = {text}").parse().ok()?;
    let value = table.remove("value")?;
    table.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        let known = toml::from_str("[data]\nfield = 'text'\npaths = []\n[train]\nsteps = 1").unwrap();
        let layer = parse(text, &known).unwrap();
        let key = text.split('=').next().unwrap().trim();
        keys::get(&layer.table, key).unwrap().clone()
    }

    #[test]
    fn values_are_toml_and_text_needs_no_quotes() {
        assert_eq!(value("train.steps=100"), Value::Integer(100));
        assert_eq!(value("train.steps = 1e3"), Value::Float(1000.0));
        assert_eq!(value("data.field=body"), Value::String("body".into()));
        assert_eq!(value("data.field=7"), Value::String("7".into()));
        assert_eq!(value("data.field=\"a=b\""), Value::String("a=b".into()));
        assert_eq!(value("data.field=a=b"), Value::String("a=b".into()));
        assert_eq!(value("data.field="), Value::String(String::new()));
        assert_eq!(value("data.paths=['a', 'b']").as_array().unwrap().len(), 2);
        assert_eq!(value("train.steps=1\nx = 2"), Value::String("1\nx = 2".into()));
    }

    #[test]
    fn assignments_without_key_or_sign_are_refused() {
        for text in ["train.steps", "=1", ".steps=1", "train.=1"] {
            assert!(parse(text, &Table::new()).is_err(), "{text}");
        }
    }
}
