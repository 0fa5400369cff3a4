//! Dotted keys of a table, and the one that was probably meant.

use toml::{Table, Value};

/// All keys that hold a value, dotted, in order.
pub fn leaves(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    visit(table, "", &mut |key, _| keys.push(key.to_owned()));
    keys
}

/// Calls `each` with every dotted key and its value; a table without keys counts as a value.
pub fn visit<'a>(table: &'a Table, prefix: &str, each: &mut dyn FnMut(&str, &'a Value)) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => visit(inner, &key, each),
            _ => each(&key, value),
        }
    }
}

/// The value at a dotted key.
pub fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
    }
}

/// Puts `value` at a dotted key; whatever stands in the way of its sections is replaced.
pub fn put(table: &mut Table, key: &str, value: Value) {
    let Some((section, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if !inner.is_table() {
        *inner = Value::Table(Table::new());
    }
    if let Value::Table(inner) = inner {
        put(inner, rest, value);
    }
}

/// Existing keys that `key` may have meant: those with the same last part, or the most similar one.
pub fn suggestions(key: &str, table: &Table) -> Vec<String> {
    let known = leaves(table);
    let same: Vec<String> = known.iter().filter(|known| last(known) == last(key)).cloned().collect();
    if !same.is_empty() {
        return same;
    }
    closest(key, known.iter().map(String::as_str)).map(str::to_owned).into_iter().collect()
}

/// The most similar of `known`, by the whole of it or by its last part.
pub fn closest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |known: &str| {
        let whole = strsim::normalized_damerau_levenshtein(given, known);
        whole.max(strsim::normalized_damerau_levenshtein(last(given), last(known)))
    };
    known.max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        toml::from_str("[train]\nsteps = 1\n[train.adamw]\nbeta_1 = 0.9\n[sample]\nsteps = 2\ntop_k = 0")
            .unwrap()
    }

    #[test]
    fn keys_are_dotted() {
        let mut table = table();
        assert_eq!(leaves(&table), ["sample.steps", "sample.top_k", "train.adamw.beta_1", "train.steps"]);
        put(&mut table, "train.adamw.beta_1", Value::Float(0.5));
        put(&mut table, "new.section.key", Value::Integer(3));
        assert_eq!(get(&table, "train.adamw.beta_1"), Some(&Value::Float(0.5)));
        assert_eq!(get(&table, "new.section.key"), Some(&Value::Integer(3)));
        assert_eq!((get(&table, "train.steps.more"), get(&table, "no")), (None, None));
    }

    #[test]
    fn suggestions_find_misspelt_and_misplaced_keys() {
        assert_eq!(suggestions("train.stepz", &table()), ["train.steps"]);
        assert_eq!(suggestions("steps", &table()), ["sample.steps", "train.steps"]);
        assert_eq!(suggestions("sample.topk", &table()), ["sample.top_k"]);
        assert_eq!(suggestions("beta1", &table()), ["train.adamw.beta_1"]);
    }
}
