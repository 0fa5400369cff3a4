//! Keys of earlier versions: they keep working, with a note.

use submask::train::settings::RunSettings;
use toml::{Table, Value};

use super::keys;
use super::layer::Layer;

/// Keys that have another name now, and that name.
const RENAMED: [(&str, &str); 6] = [
    ("model.subtokens", "codes.subtokens"),
    ("model.carry_over", "codes.carry_over"),
    ("model.codes", "codes.assignment.kind"),
    ("model.codes_seed", "codes.assignment.seed"),
    ("model.codes_path", "codes.assignment.path"),
    ("model.super_tokens", "data.super_tokens"),
];

/// A layer in today's keys, and what has to be said about it. A whole settings file of an earlier version is read
/// without a word.
pub fn upgrade(layer: &Layer) -> (Layer, Vec<String>) {
    if let Ok(table) = RunSettings::upgraded(layer.table.clone())
        && table != layer.table
        && RunSettings::from_table(table.clone()).is_ok()
    {
        return (Layer { origin: layer.origin.clone(), table }, Vec::new());
    }
    let (mut table, mut notes) = (Table::new(), Vec::new());
    keys::visit(&layer.table, "", &mut |key, value: &Value| {
        let now = RENAMED.iter().find_map(|(before, now)| (*before == key).then_some(*now));
        if let Some(now) = now {
            notes.push(format!("`{key}` {} is called `{now}` now", layer.origin));
        }
        keys::put(&mut table, now.unwrap_or(key), value.clone());
    });
    (Layer { origin: layer.origin.clone(), table }, notes)
}
