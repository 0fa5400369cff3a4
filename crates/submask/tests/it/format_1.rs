//! Folders of format 1, of every kind of model, which no present program writes: read for ever.
//!
//! `tests/format_1/KIND` holds the `config.json` and the `settings.toml` of a run of one step.

use std::fs;
use std::path::{Path, PathBuf};

use submask::backbone::Embedding;
use submask::backbone::autoregressive::AutoregressiveConfig;
use submask::backbone::dit::DitConfig;
use submask::backbone::encoder::EncoderConfig;
use submask::data::image::{Background, PictureFormat, SixteenBits};
use submask::data::{TokenizerKind, ValidRule};
use submask::model::{
    Assignment, CODES_FILE, CONFIG_FILE, CodeSettings, FORMAT_VERSION, ImageSubject, ModelConfig,
    NetworkConfig, PointSubject, Sampling, Subject, Temperature, TextSubject, ToySettings, UnetSettings,
};
use submask::objective::Objective;
use submask::sampler::Draw;
use submask::schedule::Schedule;
use submask::train::SETTINGS_FILE;
use submask::train::settings::{
    DensityData, ImageData, ImageSetChoice, RunData, RunSettings, TextData, TokenizerChoice,
    TokenizerSettings,
};

/// One kind of model: its folder, and what it holds.
struct Kind {
    name: &'static str,
    subject: Subject,
    network: NetworkConfig,
    codes: CodeSettings,
    schedule: Schedule,
    sample: Sampling,
    data: RunData,
    objective: Objective,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format_1").join(name)
}

fn kinds() -> Vec<Kind> {
    [text_kinds(), image_kinds(), vec![points()]].into_iter().flatten().collect()
}

fn text_kinds() -> Vec<Kind> {
    let kind = |name, network, codes, schedule| Kind {
        name,
        subject: Subject::Text(TextSubject {
            vocab_size: 257,
            tokenizer: TokenizerKind::Bytes,
            fidelity: None,
            pairs: false,
        }),
        network,
        codes,
        schedule,
        sample: Sampling {
            steps: 8,
            temperature: Temperature::Constant(0.6),
            top_p: 0.9,
            ..Sampling::default()
        },
        data: RunData::Text(TextData {
            paths: vec!["data/text.txt".into()],
            edition: 1,
            split: submask::data::Split::Paragraph,
            field: "text".into(),
            format: submask::data::FileFormat::Auto,
            join: "\n".into(),
            separator: String::new(),
            skip_bad: false,
            valid_fraction: 0.1,
            valid_rule: ValidRule::Share,
            valid_paths: vec![],
            prompt_field: String::new(),
            completion_field: String::new(),
            truncate: false,
            block_ends: false,
            cache: PathBuf::new(),
        }),
        objective: Objective::Joint,
    };
    let dit = |embedding, time_conditioning| {
        NetworkConfig::Diffusion(DitConfig {
            block_len: 0,
            hidden: 8,
            heads: 1,
            blocks: 1,
            cond_dim: 4,
            seq_len: 16,
            dropout: 0.0,
            embedding,
            time_conditioning,
        })
    };
    let encoder = EncoderConfig {
        block_len: 0,
        hidden: 12,
        heads: 1,
        query_groups: 1,
        blocks: 1,
        intermediate: 16,
        seq_len: 16,
        dropout: 0.0,
        embedding: Embedding::PerDigitConcatenated,
    };
    let autoregressive = AutoregressiveConfig { hidden: 8, heads: 1, blocks: 1, seq_len: 16, dropout: 0.25 };
    let codes = |assignment| CodeSettings { assignment, ..CodeSettings::plain(2, true) };
    let table = Assignment::Table { path: "data/codes.safetensors".into() };
    vec![
        kind(
            "diffusion",
            dit(Embedding::PerDigitSummed, true),
            codes(Assignment::Shuffled { seed: 3 }),
            Schedule::LogLinear { epsilon: 0.002 },
        ),
        kind(
            "table",
            dit(Embedding::Concatenated, false),
            codes(table),
            Schedule::Polynomial { exponent: 2.5 },
        ),
        kind("encoder", NetworkConfig::Encoder(encoder), CodeSettings::plain(3, false), Schedule::Cosine),
        kind(
            "autoregressive",
            NetworkConfig::Autoregressive(autoregressive),
            CodeSettings::plain(1, true),
            Schedule::Linear,
        ),
    ]
}

fn image_kinds() -> Vec<Kind> {
    let kind = |name, super_tokens, class_conditional, dropout, codes, schedule, sample| Kind {
        name,
        subject: Subject::Image(ImageSubject {
            channels: 3,
            height: 8,
            width: 8,
            levels: 256,
            super_tokens,
            class_names: ["blue", "green", "red"].map(str::to_owned).into(),
        }),
        network: NetworkConfig::Unet(UnetSettings {
            class_conditional,
            model_channels: 32,
            channel_mult: vec![3],
            res_blocks: 1,
            attention_resolutions: vec![1],
            head_channels: 32,
            dropout,
        }),
        codes,
        schedule,
        sample,
        data: RunData::Images(ImageData {
            set: ImageSetChoice::Pictures,
            paths: vec!["data/pictures".into()],
            labels: PathBuf::new(),
            height: 8,
            width: 8,
            labelled: true,
            background: Background::None,
            sixteen_bits: SixteenBits::Refuse,
            formats: vec![PictureFormat::Png, PictureFormat::Jpeg, PictureFormat::Webp, PictureFormat::Bmp],
            image_field: String::new(),
            label_field: String::new(),
            coarse_labels: false,
            official_split: false,
            super_tokens,
            flips: false,
            valid_fraction: 0.2,
            valid_paths: Vec::new(),
            valid_labels: PathBuf::new(),
        }),
        objective: Objective::CrossEntropy,
    };
    let sample = |draw, temperature: [f64; 3], corrector: Option<[f64; 3]>| Sampling {
        steps: 4,
        draw,
        temperature: Temperature::Schedule(temperature.into()),
        corrector: corrector.map(Into::into),
        ..Sampling::default()
    };
    vec![
        kind(
            "unet",
            false,
            true,
            0.125,
            CodeSettings::plain(4, true),
            Schedule::Polynomial { exponent: 3.0 },
            sample(Draw::Joint, [-0.2, 0.75, 1.0], Some([4.0, 1.0, 0.0])),
        ),
        kind(
            "super-tokens",
            true,
            false,
            0.0,
            CodeSettings::plain(2, true),
            Schedule::Cosine,
            sample(Draw::Marginal, [1.0, 0.0, 0.0], None),
        ),
    ]
}

fn points() -> Kind {
    Kind {
        name: "toy",
        subject: Subject::Point(PointSubject { cells: 16 }),
        network: NetworkConfig::Toy(ToySettings { hidden: 8, dropout: 0.0 }),
        codes: CodeSettings::plain(2, true),
        schedule: Schedule::Linear,
        sample: Sampling {
            steps: 64,
            temperature: Temperature::Schedule([1.0, 0.0, 0.0].into()),
            ..Sampling::default()
        },
        data: RunData::Density(DensityData {
            image: "data/density.png".into(),
            cells: 16,
            valid_points: 4096,
        }),
        objective: Objective::Marginal,
    }
}

/// The same codes as a model folder has them: its table stands in a file of its own.
fn codes_in(folder: &Path, codes: &CodeSettings) -> CodeSettings {
    let mut codes = codes.clone();
    if let Assignment::Table { path } = &mut codes.assignment {
        *path = folder.join(CODES_FILE);
    }
    codes
}

fn json(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(folder.join(CONFIG_FILE)).unwrap()).unwrap()
}

#[test]
fn every_folder_has_a_kind() {
    let mut folders: Vec<String> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut names: Vec<&str> = kinds().iter().map(|kind| kind.name).collect();
    folders.sort();
    names.sort_unstable();
    assert_eq!(folders, names);
}

#[test]
fn configurations_of_format_1_are_read_and_written_as_the_present_format() {
    let room = tempfile::tempdir().unwrap();
    for kind in kinds() {
        let old = folder(kind.name);
        assert_eq!(json(&old)["format_version"], 1, "{}", kind.name);
        let read = ModelConfig::read(&old).unwrap();
        let expected = ModelConfig {
            format_version: FORMAT_VERSION,
            subject: kind.subject,
            network: kind.network,
            codes: codes_in(&old, &kind.codes),
            schedule: kind.schedule,
            sample: kind.sample,
        };
        assert_eq!(read, expected, "{}", kind.name);
        read.write(room.path()).unwrap();
        assert_eq!(json(room.path())["format_version"], FORMAT_VERSION, "{}", kind.name);
        let again = ModelConfig::read(room.path()).unwrap();
        assert_eq!(again, ModelConfig { codes: codes_in(room.path(), &kind.codes), ..expected });
    }
}

#[test]
fn settings_of_format_1_are_read_and_written_as_the_present_ones() {
    let room = tempfile::tempdir().unwrap();
    for kind in kinds() {
        let read = RunSettings::read(&folder(kind.name).join(SETTINGS_FILE)).unwrap();
        let tokenizer = TokenizerSettings {
            kind: TokenizerChoice::Bytes,
            vocab_size: 4096,
            path: PathBuf::new(),
            end_of_text: String::new(),
        };
        let expected = RunSettings {
            tokenizer: kind.data.text().map(|_| tokenizer),
            data: kind.data,
            network: kind.network,
            codes: kind.codes,
            schedule: kind.schedule,
            train: read.train.clone(),
            sample: kind.sample,
        };
        assert_eq!(read, expected, "{}", kind.name);
        let train = &read.train;
        assert_eq!((train.steps, train.ema_decay, train.keep_checkpoints), (1, 0.7, 9), "{}", kind.name);
        assert_eq!(train.objective, kind.objective, "{}", kind.name);
        read.validate().unwrap();
        let path = room.path().join(SETTINGS_FILE);
        let text = read.to_toml().unwrap();
        assert!(text.contains("[codes]"), "{text}");
        fs::write(&path, text).unwrap();
        assert_eq!(RunSettings::read(&path).unwrap(), read, "{}", kind.name);
    }
}

/// What reading a changed `config.json` says.
fn refusal(mut config: serde_json::Value, change: impl Fn(&mut serde_json::Value)) -> String {
    let room = tempfile::tempdir().unwrap();
    change(&mut config);
    fs::write(room.path().join(CONFIG_FILE), config.to_string()).unwrap();
    ModelConfig::read(room.path()).expect_err(&config.to_string()).to_string()
}

/// `config.json` of a kind in format 1 and in the present one.
fn both_formats(name: &str) -> [serde_json::Value; 2] {
    let room = tempfile::tempdir().unwrap();
    ModelConfig::read(&folder(name)).unwrap().write(room.path()).unwrap();
    [json(&folder(name)), json(room.path())]
}

#[test]
fn unknown_versions_are_refused_by_number() {
    for config in both_formats("toy") {
        for version in [serde_json::json!(0), serde_json::json!(3), serde_json::json!("2")] {
            let error = refusal(config.clone(), |config| config["format_version"] = version.clone());
            let wanted = format!("{CONFIG_FILE}: format_version is {version}, this program reads 1 and 2");
            assert!(error.contains(&wanted), "{error}");
        }
    }
}

#[test]
fn unknown_keys_of_a_configuration_are_refused_by_name() {
    for kind in kinds() {
        for config in both_formats(kind.name) {
            let sections: Vec<String> = config
                .as_object()
                .unwrap()
                .iter()
                .filter(|(_, value)| value.is_object())
                .map(|(key, _)| format!("/{key}"))
                .chain(["".to_owned()])
                .collect();
            for section in sections {
                let error = refusal(config.clone(), |config| {
                    config.pointer_mut(&section).unwrap()["hiden"] = serde_json::json!(8);
                });
                assert!(
                    error.contains(CONFIG_FILE) && error.contains("hiden"),
                    "{}{section}: {error}",
                    kind.name
                );
            }
        }
    }
}

#[test]
fn keys_of_another_choice_are_refused_by_name() {
    let [_, present] = both_formats("autoregressive");
    let refused = |pointer: &str, key: &str| {
        let error = refusal(present.clone(), |config| {
            config.pointer_mut(pointer).unwrap()[key] = serde_json::json!(0.5);
        });
        assert!(error.contains(key), "{pointer}: {error}");
    };
    refused("/model", "cond_dim");
    refused("/schedule", "epsilon");
    refused("/codes/assignment", "seed");
    refused("/subject", "cells");
}

#[test]
fn unknown_choices_of_format_1_are_refused_by_name() {
    let [old, _] = both_formats("diffusion");
    let error = refusal(old.clone(), |config| config["model"]["network"] = "mlp".into());
    assert!(error.contains("model.network is \"mlp\""), "{error}");
    let error = refusal(old.clone(), |config| config["model"]["codes"] = "sorted".into());
    assert!(error.contains("model.codes is \"sorted\""), "{error}");
    let error = refusal(old, |config| drop(config["model"].as_object_mut().unwrap().remove("carry_over")));
    assert!(error.contains("carry_over"), "{error}");
}

#[test]
fn unknown_keys_of_settings_are_refused_by_name() {
    for kind in kinds() {
        let old = fs::read_to_string(folder(kind.name).join(SETTINGS_FILE)).unwrap();
        let present = RunSettings::read(&folder(kind.name).join(SETTINGS_FILE)).unwrap().to_toml().unwrap();
        for text in [old, present] {
            let sections: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
            for section in sections {
                let changed = text.replace(&format!("{section}\n"), &format!("{section}\nhiden = 8\n"));
                let error =
                    RunSettings::from_table(changed.parse().unwrap()).expect_err(&changed).to_string();
                assert!(error.contains("hiden"), "{} {section}: {error}", kind.name);
            }
        }
    }
}
