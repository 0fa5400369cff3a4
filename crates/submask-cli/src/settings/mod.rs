//! From what the user typed to validated settings: preset ← file ← flags ← `--set`.

mod assignment;
pub mod estimate;
mod keys;
mod layer;
mod merge;
mod preset;
mod renamed;
mod run_folder;
mod tokenizer;
mod variants;

use std::path::{Path, PathBuf};

use serde::Serialize;
use submask::model::{CONFIG_FILE, CodeSettings, ModelConfig, NetworkConfig, Sampling};
use submask::schedule::Schedule;
use submask::train::settings::{RunSettings, TokenizerSettings};
use toml::{Table, Value};

use crate::args::{SettingsArgs, TrainArgs, fits};
use crate::failure::Failure;
use crate::locate;
use crate::subject::Kind;
pub use layer::{Layer, Origin};
use merge::merge;
pub use merge::{check_file, check_run};
pub use preset::PRESETS;
use preset::Preset;

/// What `submask train` does: settings, and the run folder they are for.
#[derive(Clone, Debug)]
pub struct TrainPlan {
    /// Validated settings.
    pub settings: RunSettings,
    /// Run folder; it exists if and only if `resume`.
    pub out: PathBuf,
    /// Whether the run goes on from its newest checkpoint.
    pub resume: bool,
    /// Weights to begin with.
    pub init: Option<PathBuf>,
}

/// Settings and run folder of `submask train`; the settings `given` stand behind the flags, as `--set` does. No file is written.
pub fn for_training(args: &TrainArgs, given: Vec<Layer>) -> Result<TrainPlan, Failure> {
    let asked = Preset::of(&args.settings)?;
    let init = args.init.as_deref().map(locate::model).transpose()?;
    let model = init.as_deref().map(of_model).transpose()?;
    let config = args.settings.config.as_deref().map(Layer::read).transpose()?;
    let kind = |layer: &Option<Layer>| layer.as_ref().and_then(|layer| Kind::in_settings(&layer.table));
    let known = kind(&config).or(kind(&model));
    let preset = asked.or(known.map(Preset::first_of));
    let name = run_folder::default_name(&args.settings, preset.unwrap_or(&PRESETS[0]));
    let out = match &args.out {
        Some(out) => run_folder::given(out, args.resume)?,
        None => run_folder::default_in(Path::new("runs"), &name, args.resume)?,
    };
    let begin = match (model, &args.init) {
        (Some(model), Some(init)) => Begin::Model(model, init.clone()),
        _ if args.resume => {
            locate::check_ours(&out)?;
            Begin::Run(Layer::of_run(&out)?, out.clone())
        }
        _ => Begin::Preset,
    };
    let preset = match &begin {
        Begin::Run(run, _) => asked.or(Kind::in_settings(&run.table).map(Preset::first_of)).or(preset),
        Begin::Preset | Begin::Model(..) => preset,
    };
    let preset = preset.unwrap_or(&PRESETS[0]);
    begin.check_kind(preset, asked.is_some(), args.settings.config.as_deref())?;
    let mut flags = named_flags(args, preset.kind)?;
    flags.extend(given);
    let settings = resolve(preset, begin, config, (&args.settings, flags))?;
    if args.resume {
        check_progress(&out, settings.train.steps)?;
    }
    Ok(TrainPlan { settings, out, resume: args.resume, init })
}

/// What a run that begins with a model's weights takes over from the model.
#[derive(Serialize)]
struct Inherited {
    data: InheritedData,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<TokenizerSettings>,
    model: NetworkConfig,
    codes: CodeSettings,
    schedule: Schedule,
    sample: Sampling,
}

/// What the model is of, and what images are written as.
#[derive(Serialize)]
struct InheritedData {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    super_tokens: Option<bool>,
}

fn of_model(folder: &Path) -> Result<Layer, Failure> {
    let config = ModelConfig::read(folder)?;
    let kind = Kind::of(&config)?.data_kind();
    let ModelConfig { subject, network, codes, schedule, sample, .. } = config;
    let super_tokens = subject.image().map(|image| image.super_tokens);
    let inherited = Inherited {
        data: InheritedData { kind, super_tokens },
        tokenizer: subject.text().map(|text| TokenizerSettings::of(&text.tokenizer, folder)),
        model: network,
        codes,
        schedule,
        sample,
    };
    let table = Table::try_from(inherited)
        .map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    Ok(Layer { origin: Origin::File(folder.join(CONFIG_FILE)), table })
}

/// A run goes on from a checkpoint, and not beyond its last step.
fn check_progress(run: &Path, steps: u64) -> Result<(), Failure> {
    let shown = run.display();
    match locate::checkpoints(run)?.first() {
        None => Err(Failure::usage(format!("{shown} has no checkpoint to go on from"))
            .hint("its checkpoints were removed: remove the rest and start again, or choose another --out")),
        Some(&done) if done > steps => Err(Failure::usage(format!(
            "train.steps = {steps} is not allowed: {shown} has done {done} already"
        ))
        .hint("--steps gives the number of all steps, those done included")
        .about("train.steps", steps, format!("at least {done}, the steps done already"))),
        Some(_) => Ok(()),
    }
}

/// Settings of `submask data prepare`; the settings `given` stand behind the flags.
pub fn for_data(args: &SettingsArgs, given: Vec<Layer>) -> Result<RunSettings, Failure> {
    let preset = of_text(args, "images are read when training starts: nothing is prepared")?;
    let config = args.config.as_deref().map(Layer::read).transpose()?;
    let flags = data_flags(args)?.into_iter().chain(given).collect();
    resolve(preset, Begin::Preset, config, (args, flags))
}

/// Settings of `submask bench`, which reads no corpus.
pub fn for_bench(args: &SettingsArgs) -> Result<RunSettings, Failure> {
    let preset = of_text(args, "bench measures text networks")?;
    let config = args.config.as_deref().map(Layer::read).transpose()?;
    let layers = config.into_iter().chain(data_flags(args)?).collect();
    Ok(merged(preset, layers, args)?.1)
}

/// The preset asked for, which must be one of text, or else the first.
fn of_text(args: &SettingsArgs, why: &str) -> Result<&'static Preset, Failure> {
    let preset = Preset::of(args)?.unwrap_or(&PRESETS[0]);
    match preset.kind {
        Kind::Text => Ok(preset),
        _ => Err(Failure::usage(format!("--preset {} is not of text", preset.name)).hint(why)),
    }
}

/// What stands between the preset and what the user asked for.
enum Begin {
    /// Nothing: a run begins from the preset.
    Preset,
    /// The settings saved in a run that goes on, and its folder.
    Run(Layer, PathBuf),
    /// Those of the model that a run begins with, and its place.
    Model(Layer, PathBuf),
}

impl Begin {
    fn layers(self) -> Vec<Layer> {
        match self {
            Self::Preset => Vec::new(),
            Self::Run(layer, _) | Self::Model(layer, _) => vec![layer],
        }
    }

    /// What goes on is of the same subject as the preset.
    fn check_kind(&self, preset: &Preset, asked: bool, config: Option<&Path>) -> Result<(), Failure> {
        let (Self::Run(layer, place) | Self::Model(layer, place)) = self else { return Ok(()) };
        match Kind::in_settings(&layer.table) {
            Some(kind) if kind != preset.kind => {
                let what = match config {
                    Some(file) if !asked => format!("--config {}", file.display()),
                    _ => format!("--preset {}", preset.name),
                };
                let (given, own, place) = (preset.kind.name(), kind.name(), place.display());
                let hint = format!("leave out {}", what.split(' ').next().unwrap_or_default());
                Err(Failure::usage(format!("{what} is of {given}, and {place} is of {own}")).hint(hint))
            }
            _ => Ok(()),
        }
    }
}

fn resolve(
    preset: &Preset,
    begin: Begin,
    config: Option<Layer>,
    (args, flags): (&SettingsArgs, Vec<Layer>),
) -> Result<RunSettings, Failure> {
    let is_resumed = matches!(begin, Begin::Run(..));
    let mut layers = begin.layers();
    layers.extend(config);
    layers.extend(flags);
    let (layers, settings) = merged(preset, layers, args)?;
    let door = Kind::of_run(&settings)?.door();
    if !(is_resumed && door.keeps_its_data()) {
        let named = layers.iter().any(|layer| keys::get(&layer.table, "data.paths").is_some());
        door.check_data(&settings, named, (preset.name, preset.needs_corpus))?;
    }
    Ok(settings)
}

/// Layers with those of `--set` behind them, and what they make of the preset.
fn merged(
    preset: &Preset,
    mut layers: Vec<Layer>,
    args: &SettingsArgs,
) -> Result<(Vec<Layer>, RunSettings), Failure> {
    let base = preset.table()?;
    for text in &args.set {
        layers.push(assignment::parse(text, &base)?);
    }
    let settings = merge(&base, &layers)?;
    Ok((layers, settings))
}

fn named_flags(args: &TrainArgs, kind: Kind) -> Result<Vec<Layer>, Failure> {
    fits::train(args, kind)?;
    let mut layers = data_flags(&args.settings)?;
    if let Some(image) = &args.image {
        let path = utf8("--image", image)?;
        let origin = Origin::Flag(format!("--image {path}"));
        layers.push(Layer::one(origin, "data.image", Value::String(path)));
    }
    let numbers = [
        ("--steps", "train.steps", args.steps),
        ("--seed", "train.seed", args.seed),
        ("--subtokens", "codes.subtokens", args.subtokens),
    ];
    for (flag, key, number) in numbers {
        let Some(number) = number else { continue };
        let value = i64::try_from(number)
            .map_err(|_| Failure::usage(format!("{flag} {number} is too large: at most {}", i64::MAX)))?;
        layers.push(Layer::one(Origin::Flag(format!("{flag} {number}")), key, Value::Integer(value)));
    }
    if let Some(objective) = args.objective {
        let name = objective.as_setting();
        let value = Value::String(name.to_owned());
        layers.push(Layer::one(Origin::Flag(format!("--objective {name}")), "train.objective", value));
    }
    Ok(layers)
}

/// The flags that name data.
fn data_flags(args: &SettingsArgs) -> Result<Vec<Layer>, Failure> {
    let flags = [("--data", "data.paths", &args.data), ("--valid", "data.valid_paths", &args.valid)];
    let given = flags.into_iter().filter(|(_, _, paths)| !paths.is_empty());
    given
        .map(|(flag, key, paths)| {
            let paths = paths.iter().map(|path| utf8(flag, path).map(Value::String));
            let value = Value::Array(paths.collect::<Result<_, _>>()?);
            Ok(Layer::one(Origin::Flag(flag.to_owned()), key, value))
        })
        .collect()
}

/// A path as it can stand in a settings file.
fn utf8(flag: &str, path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("{flag} {}: the path is not valid UTF-8", path.display())))
}
