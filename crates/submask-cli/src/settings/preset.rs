//! Settings that come with the program: TOML files that name every key.

use toml::Table;

use super::keys::closest;
use crate::args::SettingsArgs;
use crate::failure::Failure;

/// A complete settings file in the program.
#[derive(Debug)]
pub struct Preset {
    /// As `--preset` takes it.
    pub name: &'static str,
    /// Whether its corpus has to be given.
    pub needs_corpus: bool,
    text: &'static str,
}

/// All of them, the default first.
pub const PRESETS: [Preset; 4] = [
    Preset { name: "dictionary", needs_corpus: false, text: include_str!("../../presets/dictionary.toml") },
    Preset { name: "text8", needs_corpus: true, text: include_str!("../../presets/text8.toml") },
    Preset { name: "owt-small", needs_corpus: true, text: include_str!("../../presets/owt-small.toml") },
    Preset { name: "owt-tiny", needs_corpus: true, text: include_str!("../../presets/owt-tiny.toml") },
];

impl Preset {
    /// The one asked for, or the default.
    pub fn of(args: &SettingsArgs) -> Result<&'static Self, Failure> {
        let Some(name) = &args.preset else { return Ok(&PRESETS[0]) };
        PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names = PRESETS.map(|preset| preset.name);
            let nearest = closest(name, names.iter().copied()).unwrap_or_default();
            Failure::usage(format!("unknown preset `{name}`: there are {}", names.join(", ")))
                .hint(format!("did you mean `{nearest}`? A settings file of your own is given by --config"))
        })
    }

    /// Its keys and values.
    pub fn table(&self) -> Result<Table, Failure> {
        self.text.parse().map_err(|error| Failure::failed(format!("preset {}: {error}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use submask::train::settings::Settings;

    use super::super::keys;
    use super::*;

    #[test]
    fn every_preset_is_valid_and_names_every_key() {
        for preset in &PRESETS {
            let table = preset.table().unwrap();
            let settings: Settings = table.clone().try_into().unwrap();
            settings.validate().unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            let all = Table::try_from(&settings).unwrap();
            assert_eq!(keys::leaves(&table), keys::leaves(&all), "{}", preset.name);
        }
    }

    #[test]
    fn the_published_presets_have_the_published_batch() {
        for preset in PRESETS.iter().filter(|preset| preset.needs_corpus) {
            let settings: Settings = preset.table().unwrap().try_into().unwrap();
            assert_eq!(settings.train.batch_size * settings.train.accumulate, 512, "{}", preset.name);
        }
    }
}
