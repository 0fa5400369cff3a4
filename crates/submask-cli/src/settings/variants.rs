//! Sections whose keys depend on a choice: the network, the schedule, and which codes tokens get.

use submask::train::settings::RunSettings;
use toml::{Table, Value};

use super::keys;
use super::layer::Layer;

/// Keys that choose which keys their section has.
pub const CHOICES: [&str; 3] = ["model.network", "schedule.kind", "codes.assignment.kind"];

/// `base` with the sections that the choices of `layers` ask for: keys that both forms of a section have keep their
/// values, others get their defaults.
pub fn choose(base: &Table, layers: &[Layer]) -> Table {
    let mut base = base.clone();
    for choice in CHOICES {
        let chosen = layers.iter().rev().find_map(|layer| keys::get(&layer.table, choice)?.as_str());
        let Some(name) = chosen else { continue };
        if keys::get(&base, choice).and_then(Value::as_str) == Some(name) {
            continue;
        }
        let Some(mut section) = RunSettings::section_with(choice, name) else { continue };
        let at = section_of(choice);
        if let Some(before) = keys::get(&base, at).and_then(Value::as_table) {
            for (key, value) in &mut section {
                match before.get(key) {
                    Some(kept) if !choice.ends_with(key.as_str()) => *value = kept.clone(),
                    _ => {}
                }
            }
        }
        keys::put(&mut base, at, Value::Table(section));
    }
    base
}

/// The choice whose section has the key `key` for another value, if there is one.
pub fn other_choice(key: &str) -> Option<(&'static str, &'static str)> {
    let (at, name) = key.rsplit_once('.')?;
    let choice = CHOICES.into_iter().find(|choice| section_of(choice) == at)?;
    let value = RunSettings::choices(choice).iter().find(|value| {
        RunSettings::section_with(choice, value).is_some_and(|section| section.contains_key(name))
    })?;
    Some((choice, value))
}

fn section_of(choice: &str) -> &str {
    choice.rsplit_once('.').map_or(choice, |(section, _)| section)
}
