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
pub const PRESETS: [Preset; 11] = [
    Preset::new("dictionary", Kind::Text, false, include_str!("../../presets/dictionary.toml")),
    Preset::new("text8", Kind::Text, true, include_str!("../../presets/text8.toml")),
    Preset::new("owt-small", Kind::Text, true, include_str!("../../presets/owt-small.toml")),
    Preset::new("owt-tiny", Kind::Text, true, include_str!("../../presets/owt-tiny.toml")),
    Preset::new("dictionary-block", Kind::Text, false, include_str!("../../presets/dictionary-block.toml")),
    Preset::new("text8-block", Kind::Text, true, include_str!("../../presets/text8-block.toml")),
    Preset::new("owt-block", Kind::Text, true, include_str!("../../presets/owt-block.toml")),
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
                .about("preset", name, format!("one of {}", names.join(", ")))
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
    use submask::Compute;
    use submask::data::{Batch, Tokenizer};
    use submask::model::{Architecture, NetworkConfig, Subject, TextSubject};
    use submask::train::settings::RunSettings;
    use submask::train::{LossFunction, Slot};

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

    /// One step of a small network with the preset's blocks, codes, schedule and training.
    #[test]
    fn the_presets_by_blocks_train() {
        let presets = PRESETS.iter().filter(|preset| preset.name.ends_with("-block"));
        let mut found = 0;
        for preset in presets {
            let mut settings = RunSettings::from_table(preset.table().unwrap()).unwrap();
            let NetworkConfig::Diffusion(sizes) = &mut settings.network else { panic!("{}", preset.name) };
            assert!(sizes.block_len == 16 && sizes.seq_len.is_multiple_of(16), "{}", preset.name);
            (sizes.hidden, sizes.heads, sizes.blocks, sizes.cond_dim, sizes.seq_len) = (24, 2, 1, 8, 32);
            (settings.train.batch_size, settings.train.accumulate) = (2, 1);
            let tokenizer = Tokenizer::bytes();
            let config = settings.config(Subject::Text(TextSubject::of(&tokenizer)));
            let architecture = Architecture::new(config, Some(tokenizer)).unwrap();
            let compute = Compute::reference();
            let loss = LossFunction::of(&architecture, &settings.train, &compute).unwrap();
            let parameters = architecture.parameters();
            let values: Vec<Vec<f32>> = parameters.iter().enumerate().map(|(i, p)| p.initial(0, i)).collect();
            let batch = Batch { x_0: (0..64).map(|i| i * i % 200).collect(), ..Batch::default() };
            let slot = Slot { step: 1, index: 0 };
            let (loss, gradients) =
                loss.loss_and_gradients(parameters, &values, compute.device(), &batch, slot).unwrap();
            assert!(loss.is_finite() && loss > 0.0, "{}: {loss}", preset.name);
            assert!(gradients.iter().flatten().any(|x| *x != 0.0), "{}", preset.name);
            assert!(gradients.iter().flatten().all(|x| x.is_finite()), "{}", preset.name);
            found += 1;
        }
        assert_eq!(found, 3);
    }

    #[test]
    fn the_published_presets_have_the_published_batch() {
        for name in ["text8", "owt-small", "owt-tiny", "text8-block", "owt-block", "cifar10"] {
            let preset = PRESETS.iter().find(|preset| preset.name == name).unwrap();
            let settings = RunSettings::from_table(preset.table().unwrap()).unwrap();
            let train = settings.train;
            assert_eq!(train.batch_size * train.accumulate, 512, "{name}");
        }
    }
}
