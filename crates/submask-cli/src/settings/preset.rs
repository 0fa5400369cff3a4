//! Settings that come with the program: TOML files that name every key.

use toml::Table;

use super::keys::closest;
use crate::args::SettingsArgs;
use crate::failure::Failure;
use crate::subject::Kind;

/// A complete settings file in the program.
#[derive(Debug)]
pub struct Preset {
    /// As `--preset` takes it.
    pub name: &'static str,
    /// What it learns.
    pub kind: Kind,
    /// Whether its data have to be given.
    pub needs_corpus: bool,
    text: &'static str,
}

/// All of them, the default first, and of every subject first one that has an ordinary size.
pub const PRESETS: [Preset; 8] = [
    Preset::new("dictionary", Kind::Text, false, include_str!("../../presets/dictionary.toml")),
    Preset::new("text8", Kind::Text, true, include_str!("../../presets/text8.toml")),
    Preset::new("owt-small", Kind::Text, true, include_str!("../../presets/owt-small.toml")),
    Preset::new("owt-tiny", Kind::Text, true, include_str!("../../presets/owt-tiny.toml")),
    Preset::new("emoji", Kind::Image, false, include_str!("../../presets/emoji.toml")),
    Preset::new("fashion", Kind::Image, true, include_str!("../../presets/fashion.toml")),
    Preset::new("cifar10", Kind::Image, true, include_str!("../../presets/cifar10.toml")),
    Preset::new("toy", Kind::Point, true, include_str!("../../presets/toy.toml")),
];

impl Preset {
    const fn new(name: &'static str, kind: Kind, needs_corpus: bool, text: &'static str) -> Self {
        Self { name, kind, needs_corpus, text }
    }

    /// The first of a subject.
    pub fn first_of(kind: Kind) -> &'static Self {
        PRESETS.iter().find(|preset| preset.kind == kind).unwrap_or(&PRESETS[0])
    }

    /// The one asked for; `None` where none is asked for.
    pub fn of(args: &SettingsArgs) -> Result<Option<&'static Self>, Failure> {
        let Some(name) = &args.preset else { return Ok(None) };
        let found = PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            let nearest = closest(name, names.iter().copied()).unwrap_or_default();
            Failure::usage(format!("unknown preset `{name}`: there are {}", names.join(", ")))
                .hint(format!("did you mean `{nearest}`? A settings file of your own is given by --config"))
        });
        found.map(Some)
    }

    /// Its keys and values.
    pub fn table(&self) -> Result<Table, Failure> {
        self.text.parse().map_err(|error| Failure::failed(format!("preset {}: {error}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use submask::train::settings::RunSettings;

    use super::super::keys;
    use super::*;

    #[test]
    fn every_preset_is_valid_and_names_every_key() {
        for preset in &PRESETS {
            let table = preset.table().unwrap();
            assert_eq!(Kind::in_settings(&table), Some(preset.kind));
            let settings = RunSettings::from_table(table.clone()).unwrap();
            settings.validate().unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            let all: Table = settings.to_toml().unwrap().parse().unwrap();
            assert_eq!(keys::leaves(&table), keys::leaves(&all), "{}", preset.name);
        }
    }

    #[test]
    fn the_published_presets_have_the_published_batch() {
        for name in ["text8", "owt-small", "owt-tiny", "cifar10"] {
            let preset = PRESETS.iter().find(|preset| preset.name == name).unwrap();
            let settings = RunSettings::from_table(preset.table().unwrap()).unwrap();
            let train = settings.train;
            assert_eq!(train.batch_size * train.accumulate, 512, "{name}");
        }
    }
}
