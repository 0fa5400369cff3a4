//! Plain data that stands beside the weights: numbers, flags and texts of a configuration, by dotted key.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::pickle::{Value, ValueRef};

/// How deep sections may be nested.
const MAX_DEPTH: usize = 12;
/// How many values are looked at: a hostile file may refer to one section from many places.
const MAX_VALUES: usize = 10_000;

/// One value of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A text.
    Text(String),
}

/// The values of a configuration by their dotted keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    values: BTreeMap<String, Fact>,
    looked_at: usize,
}

impl Facts {
    /// Those of a pickled configuration: dicts, omegaconf's containers, argparse's namespaces, nested.
    pub fn of_pickle(config: ValueRef<'_>) -> Self {
        let mut facts = Self::default();
        facts.collect_pickle(config, "", 0);
        facts
    }

    /// Those of a JSON object.
    pub fn of_json(config: &Json) -> Self {
        let mut facts = Self::default();
        facts.collect_json(config, "", 0);
        facts
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The whole number at the first of `keys` that has one that is not negative.
    pub fn integer(&self, keys: &[&str]) -> Option<usize> {
        keys.iter().find_map(|key| match self.values.get(*key)? {
            Fact::Integer(value) => usize::try_from(*value).ok(),
            _ => None,
        })
    }

    /// The number at the first of `keys` that has one.
    pub fn number(&self, keys: &[&str]) -> Option<f64> {
        keys.iter().find_map(|key| match self.values.get(*key)? {
            Fact::Integer(value) => Some(*value as f64),
            Fact::Number(value) => Some(*value),
            _ => None,
        })
    }

    /// The flag at the first of `keys` that has one.
    pub fn flag(&self, keys: &[&str]) -> Option<bool> {
        keys.iter().find_map(|key| match self.values.get(*key)? {
            Fact::Flag(value) => Some(*value),
            _ => None,
        })
    }

    /// The text at the first of `keys` that has one.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| match self.values.get(*key)? {
            Fact::Text(value) => Some(value.as_str()),
            _ => None,
        })
    }

    /// Whether another value may be looked at.
    fn may_look(&mut self, depth: usize) -> bool {
        self.looked_at += 1;
        depth <= MAX_DEPTH && self.looked_at <= MAX_VALUES
    }

    fn collect_pickle(&mut self, value: ValueRef<'_>, key: &str, depth: usize) {
        if !self.may_look(depth) {
            return;
        }
        let fact = match value.value() {
            Value::Bool(flag) => Fact::Flag(flag),
            Value::Int(number) => Fact::Integer(number),
            Value::Float(number) => Fact::Number(number),
            Value::Str(text) => Fact::Text(text.to_owned()),
            _ => {
                let node = value.attribute("_val").map(|inner| self.collect_pickle(inner, key, depth + 1));
                let section = value.attribute("_content").unwrap_or(value);
                if node.is_none()
                    && let Some(entries) = section.entries().or_else(|| section.state()?.entries())
                {
                    for (name, inner) in entries {
                        if let Some(name) = name.as_str() {
                            self.collect_pickle(inner, &dotted(key, name), depth + 1);
                        }
                    }
                }
                return;
            }
        };
        self.values.insert(key.to_owned(), fact);
    }

    fn collect_json(&mut self, value: &Json, key: &str, depth: usize) {
        if !self.may_look(depth) {
            return;
        }
        let fact = match value {
            Json::Bool(flag) => Fact::Flag(*flag),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Fact::Integer(whole),
                None => Fact::Number(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Fact::Text(text.clone()),
            Json::Object(section) => {
                for (name, inner) in section {
                    self.collect_json(inner, &dotted(key, name), depth + 1);
                }
                return;
            }
            Json::Null | Json::Array(_) => return,
        };
        self.values.insert(key.to_owned(), fact);
    }
}

fn dotted(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_under_dotted_keys() {
        let json = serde_json::json!({
            "model": { "n_heads": 4, "dropout": 0.1 }, "carry_over": true, "backbone": "dit", "list": [1]
        });
        let facts = Facts::of_json(&json);
        assert_eq!(facts.integer(&["n_heads", "model.n_heads"]), Some(4));
        assert_eq!(facts.number(&["model.dropout"]), Some(0.1));
        assert_eq!(facts.number(&["model.n_heads"]), Some(4.0));
        assert_eq!((facts.flag(&["carry_over"]), facts.text(&["backbone"])), (Some(true), Some("dit")));
        assert_eq!(facts.integer(&["list", "model", "none"]), None);
    }
}
